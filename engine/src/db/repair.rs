//! Makes a directory whose manifest is lost, or names files that are, one that can be opened again.
//!
//! [`survey`] looks at everything and decides, [`carry_out`] does it. The new manifest has every SST whose footer can be
//! read (see `manifest::repair` for how they are placed and for what this cannot know), the trees whose names some manifest
//! still tells, and the position from which the log can be replayed.
//!
//! 1. No data is deleted: what cannot be used is renamed into the directory `lost`, and so is every older manifest.
//! 2. Until the new manifest is in force, a directory that `open` refused is refused still; repair can be started again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::ids::{FileNumber, Level, Lsn, TreeId};
use crate::base::key::{Trailer, full_key, prefix_successor, split_full_key};
use crate::cache::{BlockCache, CacheOptions, Policy};
use crate::db::open::{FORMAT, LOCK};
use crate::db::verify::Problem;
use crate::env::{Env, default_env};
use crate::error::{Error, Result};
use crate::format::version_edit::{FileMeta, Identity, TreeEdit, VersionEdit};
use crate::lsm::view::{parse_sst_name, sst_name};
use crate::manifest::current::{self, CURRENT};
use crate::manifest::repair::{Known, Repaired, Summary, rebuild};
use crate::manifest::{Manifest, manifest_name, parse_manifest_name};
use crate::options::Options;
use crate::sst::{ReadAhead, SstIter, SstReader};
use crate::wal::check::first_record;
use crate::wal::{BUFFER_NAME, FileLog, LogPlace};

use memory::remember;

mod memory;

/// Where files go that cannot be used.
pub const LOST: &str = "lost";

/// A file that was (or, in a plan, would be) renamed into [`LOST`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostFile {
    /// Its name in the directory.
    pub name: String,
    /// Why it cannot be used.
    pub why: String,
}

/// What becomes of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOutcome {
    /// There is none; what only the log had is gone.
    Missing,
    /// The next open replays it.
    Kept {
        /// From here.
        from: Lsn,
        /// So many records.
        records: u64,
    },
    /// It is damaged before its end and moved aside; what only the log had is in its files.
    Aside,
}

/// What repair did, or, from [`plan_repair`], would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairReport {
    /// Name of the new manifest.
    pub manifest: String,
    /// The manifest in force can be read and every file that it names can be opened: there was nothing to repair.
    pub was_sound: bool,
    /// The SSTs of the new manifest: level, number, bytes.
    pub files: Vec<(Level, FileNumber, u64)>,
    /// Damage inside these SSTs. They are kept: reads of damaged blocks fail, the others work.
    pub damaged: Vec<Problem>,
    /// Files that cannot be used, and older manifests.
    pub lost: Vec<LostFile>,
    /// The trees, by id.
    pub trees: Vec<(TreeId, Vec<u8>)>,
    /// Those of the trees whose names were lost; they are called `recovered-ID` now.
    pub nameless: Vec<TreeId>,
    /// What becomes of the log.
    pub log: LogOutcome,
}

/// Rebuilds the manifest of the engine in directory `path` from its SSTs. See the module's documentation; `verify` tells
/// whether it is needed.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let options = ssd_engine::Options::default();
/// let engine = ssd_engine::Engine::open(dir.path(), options.clone())?;
/// engine.tree("fruit")?.put(b"apple", b"red")?;
/// engine.close()?;
/// std::fs::write(dir.path().join("CURRENT"), "garbage").unwrap();
/// assert!(ssd_engine::Engine::open(dir.path(), options.clone()).is_err());
///
/// let report = ssd_engine::repair(dir.path(), &options)?;
/// assert_eq!(report.files.len(), 1);
/// let engine = ssd_engine::Engine::open(dir.path(), options)?;
/// assert_eq!(engine.tree("fruit")?.get(b"apple")?.as_deref(), Some(&b"red"[..]));
/// # Ok::<(), ssd_engine::Error>(())
/// ```
///
/// # Errors
/// Usage: the directory is in use, holds no engine, or one of a later version; nothing is changed. I/O.
pub fn repair(path: impl AsRef<Path>, options: &Options) -> Result<RepairReport> {
    let env = options.env.clone().unwrap_or_else(default_env);
    let dir = path.as_ref();
    refuse_strangers(&*env, dir)?;
    let _lock = env.lock(&dir.join(LOCK))?;
    let survey = survey(&env, dir, options.direct_io)?;
    carry_out(&env, dir, &survey)?;
    Ok(survey.report)
}

/// What [`repair`] would do. Changes nothing, and can be asked of a directory that is in use, where the answer may be
/// outdated at once.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let options = ssd_engine::Options::default();
/// # ssd_engine::Engine::open(dir.path(), options.clone())?.close()?;
/// let plan = ssd_engine::plan_repair(dir.path(), &options)?;
/// assert!(plan.was_sound, "there is nothing to repair");
/// # Ok::<(), ssd_engine::Error>(())
/// ```
///
/// # Errors
/// As [`repair`].
pub fn plan_repair(path: impl AsRef<Path>, options: &Options) -> Result<RepairReport> {
    let env = options.env.clone().unwrap_or_else(default_env);
    refuse_strangers(&*env, path.as_ref())?;
    Ok(survey(&env, path.as_ref(), options.direct_io)?.report)
}

/// Refuses a directory without any file of an engine.
fn refuse_strangers(env: &dyn Env, dir: &Path) -> Result<()> {
    let ours = |name: &String| {
        name == CURRENT
            || name.ends_with(".wal")
            || parse_sst_name(name).is_some()
            || parse_manifest_name(name).is_some()
    };
    if env.list(dir)?.iter().any(ours) {
        return Ok(());
    }
    Err(Error::usage(
        format!("directory \"{}\" holds no engine", dir.display()),
        "Name a directory with SSTs, a log or a manifest.",
    ))
}

/// Everything that was found out and decided.
struct Survey {
    number: FileNumber,
    snapshot: VersionEdit,
    report: RepairReport,
}

/// Looks at everything and decides. Changes nothing.
fn survey(env: &Arc<dyn Env>, dir: &Path, direct: bool) -> Result<Survey> {
    let mut names = env.list(dir)?;
    names.sort_unstable();
    let manifests: Vec<_> = names.iter().filter_map(|name| parse_manifest_name(name)).collect();
    let numbers: Vec<_> = names.iter().filter_map(|name| parse_sst_name(name)).collect();
    let (memory, is_readable) = remember(env, dir, &manifests)?;
    let place = LogPlace::discover(env, dir, direct)?;
    let identity = memory.identity.unwrap_or_else(|| Identity {
        uuid: place.as_ref().map_or_else(|| random_uuid(&**env), |place| place.uuid),
        format: FORMAT,
        created_unix: env.unix_time(),
    });
    let past = |numbers: &[FileNumber]| numbers.iter().map(|n| n.0.saturating_add(1)).max().unwrap_or(1);
    let known = Known {
        identity,
        version: memory.version.saturating_add(2),
        durable: Lsn(0),
        next_file: memory.next_file.max(past(&manifests)),
        trees: memory.trees.clone(),
    };
    let cache = BlockCache::private(&CacheOptions { bytes: 0, frame_bytes: 64 << 10, policy: Policy::Clock })?;
    let mut damaged = Vec::new();
    let mut summary = |number| {
        let path = dir.join(sst_name(number));
        let reader = Arc::new(SstReader::open(env, &path, number, direct)?);
        reader.verify_all(&mut |_| {}, &mut |error| damaged.push(Problem::of(&error, &path)))?;
        Ok(summary_of(&reader, &cache))
    };
    let Repaired { mut snapshot, skipped, nameless } = rebuild(&numbers, known, &mut summary);
    // The manifest takes the first free number.
    let number = FileNumber(snapshot.next_file.unwrap_or(1));
    snapshot.next_file = Some(number.0.saturating_add(1));
    snapshot.next_tree = snapshot.next_tree.max(Some(memory.next_tree));
    snapshot.last_seqno = snapshot.last_seqno.max(Some(memory.last_seqno));
    let files: Vec<_> = snapshot.added.iter().map(|(level, file)| (*level, file.number, file.size)).collect();
    let has_all = memory.files.keys().all(|number| files.iter().any(|(_, kept, _)| kept == number));
    let mut lost = Vec::new();
    // What was in a file that is gone may still be in the log, before the position from which a whole directory replays.
    let durable = memory.durable.filter(|_| has_all);
    let (durable, log) = judge_log(place, identity.uuid, (durable, memory.durable), &names, &mut lost)?;
    snapshot.durable = Some(durable);
    let was_sound = is_readable && has_all && !matches!(log, LogOutcome::Aside);
    lost.extend(skipped.into_iter().map(|(number, error)| LostFile { name: sst_name(number), why: why_of(&error) }));
    lost.extend(
        manifests.iter().map(|&number| LostFile { name: manifest_name(number), why: "it is replaced".to_owned() }),
    );
    let trees = snapshot.trees.iter().filter_map(|tree| match tree {
        TreeEdit::Created { id, name, .. } => Some((*id, name.clone())),
        TreeEdit::Dropped { .. } => None,
    });
    let report = RepairReport {
        manifest: manifest_name(number),
        was_sound,
        files,
        damaged,
        lost,
        trees: trees.collect(),
        nameless,
        log,
    };
    Ok(Survey { number, snapshot, report })
}

fn random_uuid(env: &dyn Env) -> [u8; 16] {
    let mut uuid = [0; 16];
    uuid[..8].copy_from_slice(&env.random().to_le_bytes());
    uuid[8..].copy_from_slice(&env.random().to_le_bytes());
    uuid
}

fn why_of(error: &Error) -> String {
    Problem::of(error, Path::new("")).what
}

/// From where the log can be replayed: `durable` if that is known and whole, or else as far back as there are records, or
/// else the position `known` from a manifest. When it cannot, its files join the lost ones and the log begins anew behind them.
fn judge_log(
    place: Option<LogPlace>,
    uuid: [u8; 16],
    (durable, known): (Option<Lsn>, Option<Lsn>),
    names: &[String],
    lost: &mut Vec<LostFile>,
) -> Result<(Lsn, LogOutcome)> {
    let known_or_start = known.unwrap_or_default();
    let is_log = |name: &&String| name.ends_with(".wal") || *name == BUFFER_NAME;
    let mut lose = |why: &str| {
        let files = names.iter().filter(is_log).map(|name| LostFile { name: name.clone(), why: why.to_owned() });
        lost.extend(files);
        LogOutcome::Aside
    };
    let Some(place) = place else {
        let any = names.iter().any(|name| name.ends_with(".wal"));
        let outcome = if any { lose("no segment of the log has a sound header") } else { LogOutcome::Missing };
        return Ok((known_or_start, outcome));
    };
    let place = LogPlace { uuid, ..place };
    let (first, behind) = place.data_range()?;
    // The position that a manifest tells comes first: replay from further back is right, too, as what is replayed reaches to
    // the end of the log, but longer. Segments without any record replay to nothing from where they begin.
    let found = first_record(&place).unwrap_or_default().unwrap_or(first);
    let mut why = String::new();
    for from in durable.into_iter().chain([found]).chain(known) {
        match FileLog::recover(&place, from, &mut |_| Ok(())) {
            Ok(recovered) => return Ok((from, LogOutcome::Kept { from, records: recovered.records })),
            Err(error) => why = why_of(&error),
        }
    }
    let outcome = lose(&format!("the log is damaged: {why}"));
    Ok((known_or_start.max(behind), outcome))
}

/// What an SST says about itself.
fn summary_of(reader: &Arc<SstReader>, cache: &BlockCache) -> Summary {
    let found = reader.properties();
    let meta = FileMeta {
        number: reader.number(),
        size: reader.file_len(),
        smallest: found.smallest.clone(),
        largest: found.largest.clone(),
        largest_exclusive: found.largest_exclusive,
        smallest_seqno: found.smallest_seqno,
        largest_seqno: found.largest_seqno,
        entries: found.entries,
        deletes: found.deletes,
        range_deletes: found.range_deletes,
        raw_bytes: found.raw_key_bytes.saturating_add(found.raw_value_bytes),
        min_txn: found.unfrozen_min,
        max_txn: found.unfrozen_max,
        created_unix: found.created,
    };
    Summary { meta, trees: trees_of(reader, cache) }
}

/// The trees that have entries in the file, with a seek for each. Where a damaged block ends the search, the tree of the
/// largest key stands for what follows.
fn trees_of(reader: &Arc<SstReader>, cache: &BlockCache) -> Vec<TreeId> {
    let mut iter = SstIter::new(Arc::clone(reader), ReadAhead::Auto);
    let mut trees = Vec::new();
    let mut outcome = iter.first(cache);
    while outcome.is_ok() && iter.valid() {
        let Some((tree, _)) = split_full_key(iter.key()) else { break };
        trees.push(tree);
        let Some(next) = prefix_successor(&full_key(tree, &[])) else { break };
        outcome = iter.seek(cache, &next, Trailer::MAX);
    }
    if outcome.is_err() {
        let found = reader.properties();
        trees.extend([&found.smallest, &found.largest].into_iter().filter_map(|key| Some(split_full_key(key)?.0)));
    }
    trees
}

/// Does what was decided. The caller holds the lock.
fn carry_out(env: &Arc<dyn Env>, dir: &Path, survey: &Survey) -> Result<()> {
    let aside = Aside { env, dir, lost: dir.join(LOST) };
    env.create_dir(&aside.lost)?;
    let (manifests, others): (Vec<_>, Vec<_>) =
        survey.report.lost.iter().partition(|file| parse_manifest_name(&file.name).is_some());
    for file in others {
        aside.put(&file.name)?;
    }
    if current::read(env, dir).is_err() {
        aside.put(CURRENT)?;
    }
    aside.sync()?;
    let mut manifest = Manifest::write_new(env, dir, survey.number, &survey.snapshot)?;
    manifest.switch(env, dir)?;
    // Only now: as long as no other is in force, they are what a second attempt would learn from.
    for file in manifests {
        aside.put(&file.name)?;
    }
    aside.sync()
}

/// Renames files into the directory of lost ones.
struct Aside<'a> {
    env: &'a Arc<dyn Env>,
    dir: &'a Path,
    lost: PathBuf,
}

impl Aside<'_> {
    /// Moves a file, under a name that is free there.
    fn put(&self, name: &str) -> Result<()> {
        let taken = self.env.list(&self.lost)?;
        let free = (0u64..).map(|n| if n == 0 { name.to_owned() } else { format!("{name}.{n}") });
        let free = free.into_iter().find(|name| !taken.contains(name)).expect("some number is free");
        self.env.rename(&self.dir.join(name), &self.lost.join(free))
    }

    fn sync(&self) -> Result<()> {
        self.env.sync_dir(&self.lost)?;
        self.env.sync_dir(self.dir)
    }
}
