//! Opening: lock, manifest, log replay, clean-up, background threads; and joining an engine that is open already.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::base::ids::FileNumber;
use crate::db::background::Background;
use crate::db::core::Core;
use crate::db::engine::not_empty;
use crate::db::replay::replay;
use crate::db::transactions::Transactions;
use crate::env::{Env, default_env};
use crate::error::{Error, Result};
use crate::format::version_edit::{Identity, VersionEdit};
use crate::lsm::control::{MemtableList, state};
use crate::lsm::version::Version;
use crate::lsm::version::builder::load;
use crate::lsm::view::{Views, parse_sst_name};
use crate::lsm::{Lsm, LsmParts, layout};
use crate::manifest::current::{CURRENT, CURRENT_TEMPORARY};
use crate::manifest::{Loaded, Manifest, manifest_name, parse_manifest_name};
use crate::mem::region::Region;
use crate::options::Options;
use crate::wal::{BUFFER_NAME, FileLog, LogOptions, LogPlace, parse_segment_name};

/// The version of the directory's format that this code writes.
pub(crate) const FORMAT: u32 = 1;
/// The lock file.
pub const LOCK: &str = "LOCK";

/// See [`Engine::open`](crate::Engine::open).
pub(crate) fn open(path: &Path, options: Options, region: Option<Region>) -> Result<Core> {
    options.validate()?;
    if options.log_archive.as_deref() == Some(path) {
        return Err(Error::usage(
            format!("option log_archive is the engine's own directory \"{}\"", path.display()),
            "Set it to another directory.",
        ));
    }
    let env = options.env.clone().unwrap_or_else(default_env);
    let (layout, parts) = layout(&options);
    let exists = prepare_directory(&env, path, &options)?;
    let lock = env.lock(&path.join(LOCK))?;
    if !exists {
        create(&env, path)?;
    }
    let (version, loaded) = load(&env, path)?;
    let region = match region {
        Some(region) => region,
        None => Region::anonymous(&layout)?,
    };
    let lsm = Arc::new(recover(&env, path, options, region, parts, (version, loaded))?);
    // Before anything is flushed or compacted: what versions of rows may go is theirs to say.
    let transactions = if Transactions::exist(&lsm)? { Some(Transactions::open(&lsm)?) } else { None };
    let background = Background::start(&lsm)?;
    Ok(Core::new(lsm, background, Some(lock), transactions))
}

/// What the directory's manifest says, for hosts that make sure by themselves that nobody else has it open.
pub(super) fn load_or_create(env: &Arc<dyn Env>, path: &Path, options: &Options) -> Result<(Version, Loaded)> {
    if !prepare_directory(env, path, options)? {
        create(env, path)?;
    }
    load(env, path)
}

/// Names in a directory; `None` when there is no such directory.
///
/// # Errors
/// Usage when a file is in its place; I/O.
pub(crate) fn list_if_there(env: &dyn Env, path: &Path) -> Result<Option<Vec<String>>> {
    match env.list(path) {
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotADirectory => Err(Error::usage(
            format!("\"{}\" is a file or lies below one, not a directory", path.display()),
            "Name a directory, or a place where one can be created.",
        )),
        listed => listed.map(Some),
    }
}

/// Whether the directory holds an engine. Creates it when it is missing and may be created.
fn prepare_directory(env: &Arc<dyn Env>, path: &Path, options: &Options) -> Result<bool> {
    let missing = |source: std::io::Error| Error::io(path, "open directory", source);
    let names = match list_if_there(&**env, path)? {
        Some(names) => names,
        None if !options.create_if_missing => return Err(missing(std::io::ErrorKind::NotFound.into())),
        None => {
            env.create_dir(path)?;
            Vec::new()
        }
    };
    let exists = names.iter().any(|name| name == CURRENT);
    if exists && options.error_if_exists {
        return Err(Error::usage(
            format!("directory \"{}\" holds an engine", path.display()),
            "Option error_if_exists is set; open another directory or unset it.",
        ));
    }
    if !exists {
        // A manifest without CURRENT is a creation that was cut short, unless it has content or data files are there.
        let is_data = |name: &String| parse_sst_name(name).is_some() || parse_segment_name(name).is_some();
        if names.iter().any(|name| is_data(name) || parse_manifest_name(name).is_some()) {
            Manifest::exists(env, path)?;
        }
        let ours = |name: &String| {
            name == LOCK || name == BUFFER_NAME || name == CURRENT_TEMPORARY || parse_manifest_name(name).is_some()
        };
        if !names.iter().all(ours) {
            return Err(not_empty(path));
        }
        if !options.create_if_missing {
            return Err(missing(std::io::ErrorKind::NotFound.into()));
        }
    }
    Ok(exists)
}

fn create(env: &Arc<dyn Env>, path: &Path) -> Result<()> {
    for name in env.list(path)? {
        if parse_manifest_name(&name).is_some() || name == CURRENT_TEMPORARY {
            env.remove(&path.join(&name))?;
        }
    }
    let mut uuid = [0; 16];
    uuid[..8].copy_from_slice(&env.random().to_le_bytes());
    uuid[8..].copy_from_slice(&env.random().to_le_bytes());
    let edit = VersionEdit {
        identity: Some(Identity { uuid, format: FORMAT, created_unix: env.unix_time() }),
        next_file: Some(2),
        ..VersionEdit::default()
    };
    Manifest::create(env, path, FileNumber(1), &edit)?;
    Ok(())
}

fn log_place(env: &Arc<dyn Env>, dir: &Path, uuid: [u8; 16], options: &Options) -> LogPlace {
    let options = LogOptions {
        segment_bytes: options.log_segment_bytes,
        ring_bytes: options.log_ring_bytes,
        compress: options.log_compress,
        recycle: options.log_recycle,
        archive_dir: options.log_archive.clone(),
        direct: options.direct_io,
    };
    LogPlace { env: Arc::clone(env), dir: dir.to_owned(), uuid, options }
}

/// The engine's identity, in a format that this code knows.
pub(super) fn check_identity(version: &Version, path: &Path, number: FileNumber) -> Result<Identity> {
    let identity = version.identity.ok_or_else(|| {
        Error::corruption(&path.join(manifest_name(number)), 0, "the manifest does not say which engine it belongs to")
    })?;
    if identity.format > FORMAT {
        return Err(Error::usage(
            format!(
                "directory \"{}\" has format {}, this engine knows up to {FORMAT}",
                path.display(),
                identity.format
            ),
            "Open it with the version of the engine that wrote it, or a newer one.",
        ));
    }
    Ok(identity)
}

/// Fills the control words of a fresh region from the version that was loaded.
pub(super) fn start_control(lsm: &Lsm, number: FileNumber, end_offset: u64) {
    let (control, view) = (lsm.control(), lsm.local_view());
    let version = &view.version;
    control.disk_free.store(u64::MAX, Ordering::SeqCst);
    control.next_file.store(version.next_file.max(number.0 + 1), Ordering::SeqCst);
    control.visible.store(version.last_seqno.0, Ordering::SeqCst);
    control.version.store(version.number, Ordering::SeqCst);
    control.manifest_number.store(number.0, Ordering::SeqCst);
    control.manifest_bytes.store(end_offset, Ordering::SeqCst);
}

fn recover(
    env: &Arc<dyn Env>,
    path: &Path,
    options: Options,
    region: Region,
    parts: LsmParts,
    (version, loaded): (Version, Loaded),
) -> Result<Lsm> {
    let Loaded { number, end_offset, .. } = loaded;
    let identity = check_identity(&version, path, number)?;
    let log_part = parts.log;
    let durable = version.durable;
    let lsm = Lsm::new(Arc::clone(env), path.to_owned(), options, region, parts, Views::new(version));
    start_control(&lsm, number, end_offset);
    let control = lsm.control();
    check_files(&lsm)?;
    // Its end may be torn, or the last edits may be there without being stable, after a sync that failed.
    lsm.rewrite_manifest()?;
    lsm.set_replay_position(durable);
    lsm.activate(0, MemtableList(0))?;
    let place = log_place(&lsm.env, &lsm.dir, identity.uuid, &lsm.options);
    let next_seqno = replay(&lsm, place, log_part, (number, end_offset))?;
    control.visible.fetch_max(next_seqno.0 - 1, Ordering::SeqCst);
    remove_orphans(&lsm)?;
    control.state.store(state::READY, Ordering::SeqCst);
    Ok(lsm)
}

/// Every file of the version is there and has its size. Damage inside is found when a block is read, or by `verify`.
pub(super) fn check_files(lsm: &Lsm) -> Result<()> {
    for (_, file) in lsm.local_view().files() {
        match file.reader(&lsm.opener) {
            Err(Error::Io { path, source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                let what = "the file is missing, although the manifest names it";
                return Err(Error::corruption(&path, 0, what));
            }
            other => other?,
        };
    }
    Ok(())
}

/// Removes files that no version names: outputs of jobs that did not finish, and old manifests. While somebody copies the
/// directory all stay, for the next open to find.
pub(super) fn remove_orphans(lsm: &Lsm) -> Result<()> {
    if lsm.keeps_files() {
        return Ok(());
    }
    let view = lsm.local_view();
    let live: BTreeSet<_> = view.files().map(|(_, file)| crate::lsm::view::sst_name(file.meta.number)).collect();
    let manifest = manifest_name(FileNumber(lsm.control().manifest_number.load(Ordering::SeqCst)));
    for name in lsm.env.list(&lsm.dir)? {
        // Only names that an engine gives: what somebody else put here is not ours to remove.
        let orphan = (parse_sst_name(&name).is_some() && !live.contains(&name))
            || (parse_manifest_name(&name).is_some() && name != manifest)
            || name == CURRENT_TEMPORARY;
        if orphan {
            lsm.env.remove(&lsm.dir.join(&name))?;
        }
    }
    Ok(())
}

/// See [`Engine::attach`](crate::Engine::attach).
pub(crate) fn attach(path: &Path, options: Options, region: Region) -> Result<Core> {
    options.validate()?;
    let env = options.env.clone().unwrap_or_else(default_env);
    let (_, parts) = layout(&options);
    let log_part = parts.log;
    let (version, _) = load(&env, path)?;
    let uuid = version.identity.map(|identity| identity.uuid).unwrap_or_default();
    let place = log_place(&env, path, uuid, &options);
    let lsm = Lsm::new(env, path.to_owned(), options, region, parts, Views::new(version));
    // One that was shut is told from one that was never opened: who attaches to it should open it again.
    lsm.check_open()?;
    if lsm.control().state.load(Ordering::SeqCst) != state::READY {
        return Err(Error::usage(
            "the shared region holds no open engine",
            "Open the engine in the region with open_shared before other processes attach.",
        ));
    }
    let log = FileLog::attach(place, &lsm.region, log_part)?;
    assert!(lsm.log.set(Arc::new(log)).is_ok(), "the log is attached once");
    let lsm = Arc::new(lsm);
    let background = Background::start(&lsm)?;
    Ok(Core::new(lsm, background, None, None))
}
