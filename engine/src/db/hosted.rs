//! Opening an engine inside a host that keeps the log, and joining it from the host's other processes.
//!
//! The host says when: the first process opens, the others attach. What was logged since the last flush comes afterwards,
//! record by record, through [`Lsm::replay_hosted`]; the host decides from where on, and records that files have already are
//! skipped there. No thread is started: jobs run where the host calls them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::base::ids::Lsn;
use crate::db::open::{check_files, check_identity, load_or_create, remove_orphans, start_control};
use crate::env::{Env, default_env};
use crate::error::{Error, Result};
use crate::lsm::control::{MemtableList, state};
use crate::lsm::hosted::Host;
use crate::lsm::row_host::RowHost;
use crate::lsm::version::builder::load;
use crate::lsm::view::Views;
use crate::lsm::{Lsm, layout};
use crate::mem::region::Region;
use crate::options::Options;
use crate::wal::Log;

/// What an engine needs of its host.
pub struct HostParts {
    /// The host's log: positions, and making them stable. Nothing is appended through it.
    pub log: Arc<dyn Log>,
    /// Writing and waiting.
    pub host: Arc<dyn Host>,
    /// The transactions.
    pub rows: Arc<dyn RowHost>,
    /// For an open: where the host replays its log from, when the directory is a copy that was taken while it changed.
    pub copied: Option<Lsn>,
}

impl HostParts {
    fn give_to(self, lsm: &Lsm) {
        let given =
            lsm.log.set(self.log).is_ok() & lsm.host.set(self.host).is_ok() & lsm.row_host.set(self.rows).is_ok();
        assert!(given, "the parts of a host are given once");
    }
}

fn env_of(options: &Options) -> Arc<dyn Env> {
    options.env.clone().unwrap_or_else(default_env)
}

/// Opens the engine in directory `path`, in a fresh `region`, creating it when options allow. Nobody else may do so at the
/// same time: the host's own lock on its data is what makes sure of that.
///
/// # Errors
/// As [`Engine::open`](crate::Engine::open).
pub fn open_hosted(path: &Path, options: Options, region: Region, parts: HostParts) -> Result<Arc<Lsm>> {
    options.validate()?;
    let env = env_of(&options);
    let (_, places) = layout(&options);
    let found = parts.copied.map(|from| copied::find(&env, path, options.direct_io, from)).transpose()?.flatten();
    let (version, number, end_offset) = match found {
        // A new manifest follows at once, so nobody reads this one again.
        Some(found) => {
            if found.undone > 0 {
                let manifest = crate::manifest::manifest_name(found.number);
                tracing::warn!(undone = found.undone, manifest, "edits behind the start of the copy are undone");
            }
            (found.version, found.number, 0)
        }
        None => {
            let (version, loaded) = load_or_create(&env, path, &options)?;
            (version, loaded.number, loaded.end_offset)
        }
    };
    check_identity(&version, path, number)?;
    let lsm = Lsm::new(env, path.to_owned(), options, region, places, Views::new(version));
    parts.give_to(&lsm);
    start_control(&lsm, number, end_offset);
    check_files(&lsm)?;
    lsm.rewrite_manifest()?;
    lsm.set_replay_position(lsm.local_view().version.durable);
    lsm.activate(0, MemtableList(0))?;
    remove_orphans(&lsm)?;
    lsm.control().state.store(state::READY, Ordering::SeqCst);
    Ok(Arc::new(lsm))
}

/// Joins an engine that another process of the host has opened in `region` with the same options.
///
/// # Errors
/// Usage when the region holds no open engine; I/O, corruption.
pub fn attach_hosted(path: &Path, options: Options, region: Region, parts: HostParts) -> Result<Arc<Lsm>> {
    options.validate()?;
    let env = env_of(&options);
    let (_, places) = layout(&options);
    let (version, _) = load(&env, path)?;
    let lsm = Lsm::new(env, path.to_owned(), options, region, places, Views::new(version));
    if !is_open(&lsm) {
        return Err(Error::usage("the shared region holds no open engine", "Open it before other processes attach."));
    }
    parts.give_to(&lsm);
    Ok(Arc::new(lsm))
}

/// Whether `region` holds an engine that somebody has opened.
#[must_use]
pub fn region_is_open(options: &Options, region: &Region) -> bool {
    let (_, places) = layout(options);
    places.control_in(region).state.load(Ordering::SeqCst) != state::FRESH
}

fn is_open(lsm: &Lsm) -> bool {
    lsm.control().state.load(Ordering::SeqCst) != state::FRESH
}

mod copied;
#[cfg(test)]
mod tests;
