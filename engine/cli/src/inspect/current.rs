//! Shows `CURRENT`.

use std::sync::Arc;

use ssd_engine::Error;
use ssd_engine::env::{Env, File, OpenMode};
use ssd_engine::manifest::current::decode;
use ssd_engine::manifest::manifest_name;

use crate::cells::Cell;
use crate::report::{Report, Section};

use super::read_all;

/// Adds what the file says.
pub(super) fn show(env: &Arc<dyn Env>, file: &Arc<dyn File>, report: &mut Report) -> Result<(), Error> {
    let text = read_all(&**file)?;
    let number = decode(&text).map_err(|(offset, what)| Error::corruption(file.path(), offset, what))?;
    let name = manifest_name(number);
    let there = env.open(&file.path().with_file_name(&name), OpenMode::READ).is_ok();
    let mut section = Section::new("current");
    section.field("manifest", name.as_str());
    section.field("exists", Cell::Flag(there));
    report.add(section);
    if there {
        Ok(())
    } else {
        Err(Error::corruption(file.path(), 0, format!("it names {name}, which cannot be opened")))
    }
}
