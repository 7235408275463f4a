//! Checks a directory without opening it: `CURRENT`, the manifest, every block of every SST, the order of levels, the log.
//!
//! Nothing is changed, so this works on a directory that cannot be written to. It goes on behind damage, and each problem
//! names file and offset. A directory that an engine has open is looked at as far as that is safe: its SSTs never change,
//! but they may leave, and its log moves all the time and is not looked at.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::ids::{FileNumber, Lsn};
use crate::db::open::LOCK;
use crate::env::{Env, default_env};
use crate::error::{Error, Result};
use crate::format::version_edit::FileMeta;
use crate::lsm::check;
use crate::lsm::version::Version;
use crate::lsm::version::builder::load;
use crate::lsm::view::{parse_sst_name, sst_name};
use crate::manifest::manifest_name;
use crate::options::Options;
use crate::sst::SstReader;
use crate::wal::check::{CheckLine, check as check_log};
use crate::wal::{LogOptions, LogPlace};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// Where in the file.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
}

impl Problem {
    /// The problem that an error is about; `elsewhere` is the file when the error names none.
    #[must_use]
    pub fn of(error: &Error, elsewhere: &Path) -> Self {
        match error {
            Error::Corruption { path, offset, what } => {
                Self { path: path.clone(), offset: *offset, what: what.clone() }
            }
            Error::Io { path, offset, attempt, source } => {
                let what = format!("could not {attempt}: {source}");
                Self { path: path.clone(), offset: offset.unwrap_or(0), what }
            }
            other => Self { path: elsewhere.to_owned(), offset: 0, what: other.to_string() },
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}: {}", self.path.display(), self.offset, self.what)
    }
}

/// What [`verify`] tells while it works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerifyEvent<'a> {
    /// So many bytes of SSTs will be read.
    Start {
        /// Their sum.
        bytes: u64,
    },
    /// So many more have been checked.
    Checked {
        /// Since the last such event.
        bytes: u64,
    },
    /// Something is wrong.
    Problem(&'a Problem),
    /// Something is worth knowing and not wrong.
    Note(&'a str),
}

/// What was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// SSTs.
    pub files: usize,
    /// Bytes of SSTs.
    pub bytes: u64,
    /// Records of the log that check out.
    pub log_records: u64,
    /// Problems told.
    pub problems: usize,
    /// Who has the directory open; then the log was not looked at.
    pub in_use_by: Option<String>,
}

/// Checks the engine in directory `path` and tells what it finds; see the module's documentation.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let options = ssd_engine::Options::default();
/// # ssd_engine::Engine::open(dir.path(), options.clone())?.close()?;
/// let report = ssd_engine::verify(dir.path(), &options, &mut |event| println!("{event:?}"))?;
/// assert_eq!(report.problems, 0);
/// # Ok::<(), ssd_engine::Error>(())
/// ```
///
/// # Errors
/// Usage when the directory holds no engine, or one of a later version; I/O when it cannot be listed. What is wrong with
/// its files is told, not returned.
pub fn verify(
    path: impl AsRef<Path>,
    options: &Options,
    tell: &mut dyn FnMut(VerifyEvent<'_>),
) -> Result<VerifyReport> {
    let env = options.env.clone().unwrap_or_else(default_env);
    let dir = path.as_ref();
    let names = env.list(dir)?;
    let in_use_by = env.lock_holder(&dir.join(LOCK))?;
    let report = VerifyReport { in_use_by, ..VerifyReport::default() };
    let mut run = Run { env: &env, dir, direct: options.direct_io, names, tell, report };
    run.directory()?;
    Ok(run.report)
}

struct Run<'r> {
    env: &'r Arc<dyn Env>,
    dir: &'r Path,
    direct: bool,
    names: Vec<String>,
    tell: &'r mut dyn FnMut(VerifyEvent<'_>),
    report: VerifyReport,
}

impl Run<'_> {
    fn problem(&mut self, problem: &Problem) {
        self.report.problems += 1;
        (self.tell)(VerifyEvent::Problem(problem));
    }

    fn note(&mut self, text: &str) {
        (self.tell)(VerifyEvent::Note(text));
    }

    fn directory(&mut self) -> Result<()> {
        if let Some(holder) = &self.report.in_use_by {
            let text = format!("the directory is in use by {holder}: the log is not checked");
            self.note(&text);
        }
        match load(self.env, self.dir) {
            Ok((version, loaded)) => {
                let manifest = self.dir.join(manifest_name(loaded.number));
                if let Some(offset) = loaded.torn {
                    let text = format!("{}, {offset}: the last edit was torn by a crash", manifest.display());
                    self.note(&text);
                }
                for what in check::check(&version) {
                    self.problem(&Problem { path: manifest.clone(), offset: loaded.end_offset, what });
                }
                self.files_of(&version);
                if self.report.in_use_by.is_none() {
                    let uuid = version.identity.map(|identity| identity.uuid);
                    self.log(uuid, Some(version.durable))?;
                }
            }
            Err(error @ Error::Usage { .. }) => return Err(error),
            Err(error) => {
                self.problem(&Problem::of(&error, self.dir));
                self.note("without a manifest every SST and the log are checked by themselves");
                self.files_there();
                if self.report.in_use_by.is_none() {
                    self.log(None, None)?;
                }
            }
        }
        Ok(())
    }

    /// Checks the files that the version names, and mentions those that it does not.
    fn files_of(&mut self, version: &Version) {
        (self.tell)(VerifyEvent::Start { bytes: version.total_bytes() });
        let mut named = BTreeSet::new();
        for (_, meta) in version.files() {
            named.insert(meta.number);
            self.sst(meta.number, Some(meta));
        }
        let mut others: Vec<_> = self.names.iter().filter_map(|name| parse_sst_name(name)).collect();
        others.retain(|number| !named.contains(number));
        others.sort_unstable();
        for number in others {
            let path = self.dir.join(sst_name(number));
            self.note(&format!("{}: no level has it; the next open removes it", path.display()));
        }
    }

    /// Checks every SST in the directory.
    fn files_there(&mut self) {
        let mut numbers: Vec<_> = self.names.iter().filter_map(|name| parse_sst_name(name)).collect();
        numbers.sort_unstable();
        for number in numbers {
            self.sst(number, None);
        }
    }

    fn sst(&mut self, number: FileNumber, meta: Option<&Arc<FileMeta>>) {
        let path = self.dir.join(sst_name(number));
        let reader = match SstReader::open(self.env, &path, number, self.direct) {
            Ok(reader) => reader,
            Err(error) => {
                if self.report.in_use_by.is_some() && self.has_left(number) {
                    return self.note(&format!("{}: left while it was looked for", path.display()));
                }
                let problem = Problem::of(&error, &path);
                return self.problem(&problem);
            }
        };
        self.report.files += 1;
        self.report.bytes += reader.file_len();
        if let Some(what) = meta.and_then(|meta| contradiction(&reader, meta)) {
            self.problem(&Problem { path: path.clone(), offset: reader.properties().index_end, what });
        }
        let mut before = 0;
        let mut problems = 0;
        // The two ways to hear from the file share the one that tells.
        let tell = RefCell::new(&mut self.tell);
        let mut progress = |checked: u64| {
            tell.borrow_mut()(VerifyEvent::Checked { bytes: checked.saturating_sub(before) });
            before = checked;
        };
        let mut damage = |error: Error| {
            problems += 1;
            tell.borrow_mut()(VerifyEvent::Problem(&Problem::of(&error, &path)));
        };
        let outcome = reader.verify_all(&mut progress, &mut damage);
        self.report.problems += problems;
        if let Err(error) = outcome {
            let problem = Problem::of(&error, &path);
            self.problem(&problem);
        }
    }

    /// Whether a file has gone from the version since it was loaded.
    fn has_left(&self, number: FileNumber) -> bool {
        load(self.env, self.dir).is_ok_and(|(version, _)| version.files().all(|(_, file)| file.number != number))
    }

    /// Checks the log from `durable` on, or from its first record.
    fn log(&mut self, uuid: Option<[u8; 16]>, durable: Option<Lsn>) -> Result<()> {
        let found = LogPlace::discover(self.env, self.dir, self.direct)?;
        let fallback = || LogPlace {
            env: Arc::clone(self.env),
            dir: self.dir.to_owned(),
            uuid: uuid.unwrap_or_default(),
            options: LogOptions { direct: self.direct, ..LogOptions::default() },
        };
        let mut place = found.unwrap_or_else(fallback);
        place.uuid = uuid.unwrap_or(place.uuid);
        let mut lines = Vec::new();
        let mut records = 0;
        let outcome = check_log(&place, durable, &mut |line| match line {
            CheckLine::Segment { .. } => {}
            CheckLine::Record { .. } => records += 1,
            other => lines.push(other.clone()),
        });
        self.report.log_records += records;
        for line in lines {
            match line {
                CheckLine::Problem { path, offset, what } => self.problem(&Problem { path, offset, what }),
                CheckLine::End { lsn, torn: true, .. } => {
                    self.note(&format!("the log ends at {lsn} with a record that was never synced and is torn"));
                }
                _ => {}
            }
        }
        if let Err(error) = outcome {
            let problem = Problem::of(&error, self.dir);
            self.problem(&problem);
        }
        Ok(())
    }
}

/// How a file is not what the manifest says of it.
pub(super) fn contradiction(reader: &SstReader, meta: &FileMeta) -> Option<String> {
    let found = reader.properties();
    let numbers = [
        ("bytes", reader.file_len(), meta.size),
        ("entries", found.entries, meta.entries),
        ("deletes", found.deletes, meta.deletes),
        ("range tombstones", found.range_deletes, meta.range_deletes),
        ("as its smallest sequence number", found.smallest_seqno.0, meta.smallest_seqno.0),
    ];
    if let Some((name, found, said)) = numbers.into_iter().find(|(_, found, said)| found != said) {
        return Some(format!("the file has {found} {name}, the manifest says {said}"));
    }
    // Repair may raise the largest sequence number above what the file holds.
    let same = found.smallest == meta.smallest
        && found.largest == meta.largest
        && found.largest_exclusive == meta.largest_exclusive
        && found.largest_seqno <= meta.largest_seqno;
    (!same).then(|| "the file has other bounds than the manifest says".to_owned())
}
