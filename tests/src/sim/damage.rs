//! Bytes that rot while the engine is closed: noticed, or harmless; never a wrong row.

use std::path::{Path, PathBuf};

use ssd_engine::env::Env;
use ssd_engine::env::memory::MemoryEnv;
use ssd_engine::{Class, Error};

use crate::sim::check::describe;
use crate::sim::store::{DIR, Store};
use crate::simulator::Failure;

/// The files of a directory.
pub type Image = Vec<(PathBuf, Vec<u8>)>;

/// What is in `dir`.
#[must_use]
pub fn image(env: &MemoryEnv, dir: &Path) -> Image {
    let files = env.files().into_iter().filter(|path| path.parent() == Some(dir));
    files.filter_map(|path| env.read_file(&path).map(|bytes| (path, bytes))).collect()
}

/// Makes `dir` hold the files of `image` and no other.
pub fn restore(env: &MemoryEnv, dir: &Path, image: &Image) {
    for path in env.files().into_iter().filter(|path| path.parent() == Some(dir)) {
        if !image.iter().any(|(kept, _)| *kept == path) {
            let _ = env.remove(&path);
        }
    }
    for (path, bytes) in image {
        env.write_file(path, bytes);
    }
    let _ = env.sync_dir(dir);
}

/// Flips a random bit of a random file of a closed engine and opens it. Damage that is noticed is repaired; the store is
/// open at the end either way.
///
/// # Errors
/// When a wrong row is shown, rows are missing without an error, or the error is of the wrong class.
pub fn flip_and_open(store: &mut Store) -> Result<(), Failure> {
    let before = image(&store.env, Path::new(DIR));
    let files: Vec<_> = before.iter().filter(|(_, bytes)| !bytes.is_empty()).collect();
    let (path, bytes) = files[store.rng.below(files.len() as u64) as usize];
    let bit = store.rng.below(bytes.len() as u64 * 8);
    store.env.flip_bit(path, bit);
    let context = |what: &str| format!("bit {} of byte {} of {}: {what}", bit % 8, bit / 8, path.display());
    match open_and_look(store) {
        Ok(()) => Ok(()),
        Err(Look::Noticed) => {
            store.open = None;
            restore(&store.env, Path::new(DIR), &before);
            store.open().map_err(|error| context(&format!("repaired: {}", describe(&error))))?;
            store.check_recovered(false).map_err(|what| context(&what))
        }
        Err(Look::Wrong(what)) => Err(context(&what)),
    }
}

enum Look {
    Noticed,
    Wrong(String),
}

/// Opens the engine, reads everything, and verifies it.
fn open_and_look(store: &mut Store) -> Result<(), Look> {
    let noticed = |error: Error| match error.class() {
        Class::Corruption => Look::Noticed,
        _ => Look::Wrong(describe(&error)),
    };
    store.open().map_err(noticed)?;
    store.check_all().map_err(noticed)?;
    store.engine().verify().map_err(noticed)
}
