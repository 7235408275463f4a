//! What each isolation level answers: a list of committed versions, and for each open transaction what it has done.
//!
//! Two functions for each step: [`Oracle::expect`] says what the engine has to answer, [`Oracle::apply`] takes note of what it
//! did answer. The rules:
//!
//! 1. *Reads.* A transaction sees its own writes that it has not taken back, and under them what was committed: by now in read
//!    committed, by its first statement above it.
//! 2. *Writes and locks* are [`Refusal::Blocked`] by a write or lock of somebody else who has not ended or taken it back. From
//!    repeatable read on they fail when the row was changed by a commit after the snapshot: the first updater wins.
//! 3. *Serializable* transactions may be refused at any step because of dependencies; that what commits can be put in an order
//!    is for [`crate::isolation::serial`] to find.
//! 4. Locks of the tree are in the way of other such locks alone. They go with the savepoint they were taken in.
//! 5. A transaction that may only read is refused each write and row lock, and goes on.
//! 6. A transaction that was refused otherwise does nothing more before it rolls back, as a whole or to a savepoint.

use std::collections::{BTreeMap, BTreeSet};

use ssd_engine::{Isolation, LockMode, RowLockMode};

/// A key.
pub type Key = Vec<u8>;
/// A value.
pub type Value = Vec<u8>;
/// Names a transaction in its run.
pub type Number = u64;
/// Rows, as somebody sees them.
pub type Rows = BTreeMap<Key, Value>;

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Read one row.
    Get(Key),
    /// Read the rows from a key to before another, perhaps from the end.
    Scan(Key, Key, bool),
    /// Set a row.
    Put(Key, Value),
    /// Set a row that is not there.
    Insert(Key, Value),
    /// Remove a row.
    Delete(Key),
    /// Lock a row.
    Lock(Key, RowLockMode),
    /// Lock the tree as a whole.
    LockTree(LockMode),
    /// Set a savepoint.
    Savepoint,
    /// Forget the savepoint of this depth, from 1.
    Release(usize),
    /// Roll back to the savepoint of this depth.
    RollbackTo(usize),
}

/// Why a statement was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It would have to wait.
    Blocked,
    /// Somebody has changed the row since the snapshot.
    ConcurrentUpdate,
    /// It could not be serialized.
    Dependencies,
    /// The transaction has failed before.
    Failed,
    /// The transaction may not write. It goes on.
    ReadOnly,
}

/// What a statement answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The value of a row.
    Row(Option<Value>),
    /// Rows, in the order of the scan.
    Rows(Vec<(Key, Value)>),
    /// Whether something was there to do.
    Done(bool),
    /// It was not done.
    Refused(Refusal),
}

/// What stands in the way of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A row was written, or removed.
    Write(Key, Option<Value>),
    /// A row was locked.
    Lock(Key, RowLockMode),
    /// The tree was locked.
    LockTree(LockMode),
}

/// An open transaction.
#[derive(Clone, Debug)]
pub struct Open {
    isolation: Isolation,
    read_only: bool,
    /// Commits that it sees, once it has begun to look.
    snapshot: Option<u64>,
    /// What it has done and not taken back.
    log: Vec<Entry>,
    /// Length of the log when each savepoint was set.
    savepoints: Vec<usize>,
    failed: bool,
    /// It was refused because of dependencies: it can commit no more.
    doomed: bool,
    /// All its statements, with their answers.
    history: Vec<(Command, Answer)>,
}

impl Open {
    /// What it has done and not taken back.
    #[must_use]
    pub fn log(&self) -> &[Entry] {
        &self.log
    }

    /// Its statements so far.
    #[must_use]
    pub fn history(&self) -> &[(Command, Answer)] {
        &self.history
    }

    /// Savepoints that are set.
    #[must_use]
    pub const fn depth(&self) -> usize {
        self.savepoints.len()
    }

    /// Whether it can do nothing but roll back.
    #[must_use]
    pub const fn is_failed(&self) -> bool {
        self.failed
    }

    /// Whether it was refused because of dependencies: it can commit no more, and a write that was refused may stand in the
    /// way until it is taken back.
    #[must_use]
    pub const fn is_doomed(&self) -> bool {
        self.doomed
    }

    /// What it sees of others.
    #[must_use]
    pub const fn isolation(&self) -> Isolation {
        self.isolation
    }

    fn own(&self, key: &[u8]) -> Option<Option<&Value>> {
        self.log.iter().rev().find_map(|entry| match entry {
            Entry::Write(written, value) if written == key => Some(value.as_ref()),
            _ => None,
        })
    }
}

/// The oracle.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    commits: u64,
    /// The versions of each row, with the number of the commit that wrote them, ascending.
    versions: BTreeMap<Key, Vec<(u64, Option<Value>)>>,
    open: BTreeMap<Number, Open>,
}

/// Whether a command takes a transaction's id.
const fn writes(command: &Command) -> bool {
    matches!(command, Command::Put(..) | Command::Insert(..) | Command::Delete(_) | Command::Lock(..))
}

/// What writing amounts to as a lock.
const fn mode_of(value: Option<&Value>) -> RowLockMode {
    if value.is_some() { RowLockMode::NoKeyUpdate } else { RowLockMode::Update }
}

/// Which modes, by their bits from the weakest on, a tree's lock in each mode excludes.
const TREE_CONFLICTS: [u8; 8] =
    [0b1000_0000, 0b1100_0000, 0b1111_0000, 0b1111_1000, 0b1110_1100, 0b1111_1100, 0b1111_1110, 0b1111_1111];

impl Oracle {
    /// A transaction begins.
    pub fn begin(&mut self, number: Number, isolation: Isolation, read_only: bool) {
        let open = Open {
            isolation,
            read_only,
            snapshot: None,
            log: Vec::new(),
            savepoints: Vec::new(),
            failed: false,
            doomed: false,
            history: Vec::new(),
        };
        assert!(self.open.insert(number, open).is_none(), "numbers are given once");
    }

    /// An open transaction.
    ///
    /// # Panics
    /// When it has ended.
    #[must_use]
    pub fn txn(&self, number: Number) -> &Open {
        &self.open[&number]
    }

    /// Takes the snapshot that a statement of `number` reads, if it has to.
    pub fn look(&mut self, number: Number, command: &Command) {
        let commits = self.commits;
        let open = self.open.get_mut(&number).expect("it has not ended");
        let is_aside =
            matches!(command, Command::LockTree(_) | Command::Savepoint | Command::Release(_) | Command::RollbackTo(_));
        let is_refused = open.failed || (open.read_only && writes(command));
        if !is_aside && !is_refused && open.isolation != Isolation::ReadCommitted {
            open.snapshot.get_or_insert(commits);
        }
    }

    /// What the engine has to answer; for a serializable transaction, unless it refuses because of dependencies.
    #[must_use]
    pub fn expect(&self, number: Number, command: &Command) -> Answer {
        let open = self.txn(number);
        if open.failed && !matches!(command, Command::RollbackTo(_)) {
            return Answer::Refused(Refusal::Failed);
        }
        if open.read_only && writes(command) {
            return Answer::Refused(Refusal::ReadOnly);
        }
        match command {
            Command::Get(key) => Answer::Row(self.visible(open, key).cloned()),
            Command::Scan(from, to, backward) => {
                let mut rows: Vec<_> = self.rows_of(open).into_iter().filter(|(k, _)| k >= from && k < to).collect();
                if *backward {
                    rows.reverse();
                }
                Answer::Rows(rows)
            }
            Command::Put(key, value) => self.expect_write(number, key, Some(value), true),
            Command::Delete(key) => self.expect_write(number, key, None, self.newest(open, key).is_some()),
            Command::Insert(key, value) => self.expect_insert(number, key, value),
            Command::Lock(key, mode) => self.expect_lock(number, key, *mode),
            Command::LockTree(mode) if self.is_tree_locked_by_others(number, *mode) => {
                Answer::Refused(Refusal::Blocked)
            }
            Command::LockTree(_) | Command::Savepoint | Command::Release(_) | Command::RollbackTo(_) => {
                Answer::Done(true)
            }
        }
    }

    fn expect_write(&self, number: Number, key: &Key, value: Option<&Value>, there: bool) -> Answer {
        let open = self.txn(number);
        if self.is_written_by_others(number, key, RowLockMode::Update) {
            return Answer::Refused(Refusal::Blocked);
        }
        if self.has_changed(open, key) {
            return Answer::Refused(Refusal::ConcurrentUpdate);
        }
        if there && self.is_locked_by_others(number, key, mode_of(value)) {
            return Answer::Refused(Refusal::Blocked);
        }
        Answer::Done(there)
    }

    /// Above read committed, whether the row is there is a question to the snapshot.
    fn expect_insert(&self, number: Number, key: &Key, value: &Value) -> Answer {
        let open = self.txn(number);
        if open.isolation == Isolation::ReadCommitted {
            if self.is_written_by_others(number, key, RowLockMode::Update) {
                return Answer::Refused(Refusal::Blocked);
            }
            return Answer::Done(self.newest(open, key).is_none());
        }
        if self.visible(open, key).is_some() {
            return Answer::Done(false);
        }
        self.expect_write(number, key, Some(value), true)
    }

    fn expect_lock(&self, number: Number, key: &Key, mode: RowLockMode) -> Answer {
        let open = self.txn(number);
        if self.is_written_by_others(number, key, mode) {
            return Answer::Refused(Refusal::Blocked);
        }
        if self.has_changed(open, key) {
            return Answer::Refused(Refusal::ConcurrentUpdate);
        }
        let there = self.newest(open, key).is_some();
        if there && self.is_locked_by_others(number, key, mode) {
            return Answer::Refused(Refusal::Blocked);
        }
        Answer::Done(there)
    }

    fn others(&self, number: Number) -> impl Iterator<Item = &Entry> {
        self.open.iter().filter(move |&(&other, _)| other != number).flat_map(|(_, open)| &open.log)
    }

    fn is_written_by_others(&self, number: Number, key: &Key, mode: RowLockMode) -> bool {
        self.others(number).any(|entry| match entry {
            Entry::Write(written, value) => written == key && mode.conflicts(mode_of(value.as_ref())),
            Entry::Lock(..) | Entry::LockTree(_) => false,
        })
    }

    fn is_tree_locked_by_others(&self, number: Number, mode: LockMode) -> bool {
        self.others(number).any(|entry| match entry {
            Entry::LockTree(held) => TREE_CONFLICTS[*held as usize] & 1 << mode as u8 != 0,
            Entry::Write(..) | Entry::Lock(..) => false,
        })
    }

    fn is_locked_by_others(&self, number: Number, key: &Key, mode: RowLockMode) -> bool {
        self.others(number).any(|entry| match entry {
            Entry::Write(..) | Entry::LockTree(_) => false,
            Entry::Lock(locked, held) => locked == key && held.conflicts(mode),
        })
    }

    fn has_changed(&self, open: &Open, key: &Key) -> bool {
        let newest = self.versions.get(key).and_then(|versions| versions.last()).map_or(0, |&(number, _)| number);
        open.own(key).is_none() && open.snapshot.is_some_and(|snapshot| newest > snapshot)
    }

    fn visible<'o>(&'o self, open: &'o Open, key: &[u8]) -> Option<&'o Value> {
        if let Some(own) = open.own(key) {
            return own;
        }
        let until = open.snapshot.unwrap_or(u64::MAX);
        let mut versions = self.versions.get(key)?.iter().rev();
        versions.find(|&&(number, _)| number <= until).and_then(|(_, value)| value.as_ref())
    }

    /// The row as the next writer finds it.
    fn newest<'o>(&'o self, open: &'o Open, key: &[u8]) -> Option<&'o Value> {
        match open.own(key) {
            Some(own) => own,
            None => self.versions.get(key).and_then(|versions| versions.last()).and_then(|(_, value)| value.as_ref()),
        }
    }

    fn rows_of(&self, open: &Open) -> Rows {
        let written = open.log.iter().filter_map(|entry| match entry {
            Entry::Write(key, _) => Some(key),
            Entry::Lock(..) | Entry::LockTree(_) => None,
        });
        let keys: BTreeSet<_> = self.versions.keys().chain(written).collect();
        keys.into_iter().filter_map(|key| Some((key.clone(), self.visible(open, key)?.clone()))).collect()
    }

    /// What is committed.
    #[must_use]
    pub fn committed(&self) -> Rows {
        let newest = self.versions.iter().filter_map(|(key, versions)| Some((key, versions.last()?.1.as_ref()?)));
        newest.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Takes note of an answer.
    pub fn apply(&mut self, number: Number, command: &Command, answer: &Answer) {
        let open = self.open.get_mut(&number).expect("it has not ended");
        open.history.push((command.clone(), answer.clone()));
        let refused = match answer {
            Answer::Refused(Refusal::ReadOnly) => true,
            Answer::Refused(why) => {
                open.failed = true;
                open.doomed |= *why == Refusal::Dependencies;
                true
            }
            Answer::Done(done) => !done,
            Answer::Row(_) | Answer::Rows(_) => true,
        };
        match command {
            Command::Savepoint if !refused => open.savepoints.push(open.log.len()),
            Command::Release(depth) if !refused => open.savepoints.truncate(depth - 1),
            Command::RollbackTo(depth) if !refused => {
                open.savepoints.truncate(*depth);
                open.log.truncate(open.savepoints[depth - 1]);
                open.failed = false;
            }
            Command::Put(key, value) | Command::Insert(key, value) if !refused => {
                open.log.push(Entry::Write(key.clone(), Some(value.clone())));
            }
            Command::Delete(key) if !refused => open.log.push(Entry::Write(key.clone(), None)),
            Command::Lock(key, mode) if !refused => {
                open.log.push(Entry::Lock(key.clone(), *mode));
            }
            Command::LockTree(mode) if !refused => open.log.push(Entry::LockTree(*mode)),
            _ => {}
        }
    }

    /// It has committed; returns it.
    ///
    /// # Panics
    /// When it has ended.
    pub fn commit(&mut self, number: Number) -> Open {
        let open = self.open.remove(&number).expect("it has not ended");
        self.install(&open.log);
        open
    }

    /// These writes are committed together.
    pub fn install(&mut self, log: &[Entry]) {
        self.commits += 1;
        for entry in log {
            let Entry::Write(key, value) = entry else { continue };
            let versions = self.versions.entry(key.clone()).or_default();
            if versions.last().is_some_and(|&(number, _)| number == self.commits) {
                versions.pop();
            }
            versions.push((self.commits, value.clone()));
        }
    }

    /// It has rolled back.
    pub fn abort(&mut self, number: Number) {
        self.open.remove(&number);
    }

    /// A transaction that was prepared stands in the way with what it has done.
    pub fn restore(&mut self, number: Number, log: Vec<Entry>) {
        self.begin(number, Isolation::ReadCommitted, false);
        self.open.get_mut(&number).expect("it was just begun").log = log;
    }
}
