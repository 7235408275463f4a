//! A transaction's own record: how far it has come, its commands, its savepoints and their ids. Values only.
//!
//! ```text
//!              ┌────────────── commit ──────────────► COMMITTED
//!   ACTIVE ────┼── prepare ──► PREPARED    (goes on under its name, without this record)
//!              ├── rollback, failed commit ─────────► ABORTED
//!              └── a commit whose outcome is unknown ► IN DOUBT
//! ```
//! | state | its ids | facts |
//! |---|---|---|
//! | active | run | savepoints may be set, released and rolled back |
//! | committed | committed | nothing follows |
//! | prepared | run | its locks are the prepared transaction's now |
//! | aborted | aborted | nothing follows |
//! | in doubt | run, until the engine is opened again | the log failed between writing the commit and syncing it |
//!
//! Savepoints are a stack. `parts` has the ids of all savepoints that are alive, in the order in which they were handed out;
//! a savepoint notes how many there were when it was set, so everything from there on is its own or belongs to one inside
//! it. Releasing forgets the note, whereby the ids pass to the savepoint around it; rolling back cuts the list there.
//!
//! 1. `id` is below every part, and is there when there is a part.
//! 2. `parts` ascends. The notes of the savepoints ascend and are at most its length.
//! 3. The last savepoint's `id`, when it has one, is in `parts` at or after its note.

use crate::base::ids::{CommandId, TxnId};
use crate::error::{Error, Result};

/// What a transaction sees of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Isolation {
    /// Each command sees what was committed before it.
    #[default]
    ReadCommitted,
    /// All commands see what was committed before the first.
    RepeatableRead,
    /// The same, and those that commit might have run one after the other.
    Serializable,
}

/// How far a transaction has come, to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// It may read and write.
    Active,
    /// It has committed.
    Committed,
    /// It waits for the second phase of its commit.
    Prepared,
    /// It has rolled back.
    Aborted,
    /// Whether it has committed will be known when the engine is opened again.
    InDoubt,
}

/// Names a savepoint by its depth: 1 is the outermost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Savepoint(pub usize);

#[derive(Clone, Copy, Debug)]
struct Level {
    id: Option<TxnId>,
    /// Parts there were when it was set.
    first_part: usize,
    /// Locks there were.
    first_lock: usize,
}

/// The record of one transaction.
#[derive(Debug)]
pub struct Record {
    isolation: Isolation,
    read_only: bool,
    phase: Phase,
    command: CommandId,
    id: Option<TxnId>,
    parts: Vec<TxnId>,
    levels: Vec<Level>,
    /// Table locks in the order in which they were taken: object, and the mode's bit.
    locks: Vec<(u64, u8)>,
}

/// What a rollback to a savepoint takes back.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Undone {
    /// Ids that are aborted now.
    pub ids: Vec<TxnId>,
    /// Locks to release.
    pub locks: Vec<(u64, u8)>,
}

/// Which id a write needs that is not there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// None.
    Nothing,
    /// The transaction's own.
    Top,
    /// The innermost savepoint's.
    Part,
}

impl Record {
    /// A transaction that has done nothing.
    #[must_use]
    pub const fn new(isolation: Isolation, read_only: bool) -> Self {
        Self {
            isolation,
            read_only,
            phase: Phase::Active,
            command: CommandId(0),
            id: None,
            parts: Vec::new(),
            levels: Vec::new(),
            locks: Vec::new(),
        }
    }

    /// What it sees of others.
    #[must_use]
    pub const fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// Whether it may not write.
    #[must_use]
    pub const fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// How far it has come.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Its present command.
    #[must_use]
    pub const fn command(&self) -> CommandId {
        self.command
    }

    /// Its id, when it has written.
    #[must_use]
    pub const fn id(&self) -> Option<TxnId> {
        self.id
    }

    /// Table locks in the order in which they were taken: object, and the mode's bit.
    #[must_use]
    pub fn locks(&self) -> &[(u64, u8)] {
        &self.locks
    }

    /// All its ids that are not aborted, ascending.
    #[must_use]
    pub fn ids(&self) -> Vec<TxnId> {
        self.id.iter().chain(&self.parts).copied().collect()
    }

    /// Whether `id` is one of its own that is not aborted.
    #[inline]
    #[must_use]
    pub fn is_own(&self, id: TxnId) -> bool {
        self.id == Some(id) || (!self.parts.is_empty() && self.parts.binary_search(&id).is_ok())
    }

    /// Fails when the transaction has ended.
    ///
    /// # Errors
    /// Usage.
    pub fn check_active(&self) -> Result<()> {
        let what = match self.phase {
            Phase::Active => return Ok(()),
            Phase::Committed => "transaction has committed",
            Phase::Prepared => "transaction is prepared",
            Phase::Aborted => "transaction is aborted",
            Phase::InDoubt => "outcome of the transaction is unknown until the engine is opened again",
        };
        Err(Error::usage(what, "Begin another transaction."))
    }

    /// Ends the transaction, or its part that this record is for.
    ///
    /// # Panics
    /// When it has ended already.
    pub fn end(&mut self, phase: Phase) {
        assert!(self.phase == Phase::Active && phase != Phase::Active, "a transaction ends once");
        self.phase = phase;
    }

    /// The next command begins: from now on the writes of the present one are seen.
    ///
    /// # Errors
    /// Usage: the transaction has ended, or has had 2³² − 1 commands.
    pub fn next_command(&mut self) -> Result<CommandId> {
        self.check_active()?;
        let next = self.command.0.checked_add(1).ok_or_else(|| {
            Error::usage("cannot have more than 4294967295 commands in a transaction", "Split it into several.")
        })?;
        self.command = CommandId(next);
        Ok(self.command)
    }

    /// The id that a write has to carry now, when it is there.
    #[must_use]
    pub fn write_id(&self) -> Option<TxnId> {
        self.levels.last().map_or(self.id, |level| level.id)
    }

    /// Which id a write needs first.
    #[must_use]
    pub fn missing_id(&self) -> Missing {
        match (self.id, self.write_id()) {
            (None, _) => Missing::Top,
            (Some(_), None) => Missing::Part,
            (Some(_), Some(_)) => Missing::Nothing,
        }
    }

    /// Takes the id that [`missing_id`](Self::missing_id) asked for.
    ///
    /// # Panics
    /// When none is missing.
    pub fn give_id(&mut self, id: TxnId) {
        match self.missing_id() {
            Missing::Top => self.id = Some(id),
            Missing::Part => {
                self.levels.last_mut().expect("a part belongs to a savepoint").id = Some(id);
                self.parts.push(id);
            }
            Missing::Nothing => panic!("no id is missing"),
        }
        self.check();
    }

    /// Notes a table lock.
    pub fn note_lock(&mut self, object: u64, bit: u8) {
        self.locks.push((object, bit));
    }

    /// Forgets a table lock; whether it was there.
    pub fn forget_lock(&mut self, object: u64, bit: u8) -> bool {
        let Some(at) = self.locks.iter().rposition(|&lock| lock == (object, bit)) else { return false };
        self.locks.remove(at);
        for level in &mut self.levels {
            level.first_lock -= usize::from(level.first_lock > at);
        }
        true
    }

    /// Sets a savepoint.
    ///
    /// # Errors
    /// Usage: the transaction has ended.
    pub fn set_savepoint(&mut self) -> Result<Savepoint> {
        self.check_active()?;
        self.levels.push(Level { id: None, first_part: self.parts.len(), first_lock: self.locks.len() });
        Ok(Savepoint(self.levels.len()))
    }

    fn check_savepoint(&self, savepoint: Savepoint) -> Result<()> {
        self.check_active()?;
        if (1..=self.levels.len()).contains(&savepoint.0) {
            return Ok(());
        }
        Err(Error::usage("savepoint does not exist", "It was released, or rolled back with one around it."))
    }

    /// Forgets `savepoint` and those inside it; what they have done belongs to what is around.
    ///
    /// # Errors
    /// Usage: there is no such savepoint; the transaction has ended.
    pub fn release(&mut self, savepoint: Savepoint) -> Result<()> {
        self.check_savepoint(savepoint)?;
        self.levels.truncate(savepoint.0 - 1);
        Ok(())
    }

    /// Takes back what was done since `savepoint`, which stays, and forgets those inside it.
    ///
    /// # Errors
    /// As [`release`](Self::release).
    pub fn rollback_to(&mut self, savepoint: Savepoint) -> Result<Undone> {
        self.check_savepoint(savepoint)?;
        self.levels.truncate(savepoint.0);
        let level = self.levels.last_mut().expect("the savepoint is the last now");
        level.id = None;
        let undone =
            Undone { ids: self.parts.split_off(level.first_part), locks: self.locks.split_off(level.first_lock) };
        self.check();
        Ok(undone)
    }

    /// Savepoints that are set.
    #[must_use]
    pub const fn depth(&self) -> usize {
        self.levels.len()
    }

    /// The invariants.
    fn check(&self) {
        debug_assert!(self.parts.is_sorted() && self.parts.first().is_none_or(|&first| Some(first) > self.id));
        debug_assert!(self.levels.is_sorted_by_key(|level| level.first_part));
        debug_assert!(self.levels.last().is_none_or(|level| level.first_part <= self.parts.len()));
        debug_assert!(
            self.levels.last().is_none_or(|l| l.id.is_none_or(|id| self.parts[l.first_part..].contains(&id)))
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Class;

    /// Writes: hands out the ids that are missing.
    fn write(record: &mut Record, next: &mut u64) -> TxnId {
        while record.missing_id() != Missing::Nothing {
            record.give_id(TxnId(*next));
            *next += 1;
        }
        record.write_id().unwrap()
    }

    fn own(record: &Record) -> Vec<u64> {
        (0..20).filter(|&id| record.is_own(TxnId(id))).collect()
    }

    #[test]
    fn released_ids_belong_to_what_is_around() {
        let (mut record, mut next) = (Record::new(Isolation::ReadCommitted, false), 5);
        let outer = record.set_savepoint().unwrap();
        assert_eq!(write(&mut record, &mut next), TxnId(6), "the transaction itself has 5");
        let inner = record.set_savepoint().unwrap();
        assert_eq!(write(&mut record, &mut next), TxnId(7));
        record.release(inner).unwrap();
        assert_eq!(own(&record), [5, 6, 7]);
        assert_eq!(write(&mut record, &mut next), TxnId(6), "back in the outer savepoint");
        assert_eq!(record.rollback_to(outer).unwrap().ids, [TxnId(6), TxnId(7)]);
        assert_eq!(own(&record), [5]);
        assert_eq!(write(&mut record, &mut next), TxnId(8), "a rolled-back savepoint goes on with another id");
        record.release(outer).unwrap();
        assert_eq!(write(&mut record, &mut next), TxnId(5));
        assert_eq!(record.ids(), [5, 8].map(TxnId));
    }

    #[test]
    fn rolling_back_forgets_the_savepoints_inside_and_their_locks() {
        let mut record = Record::new(Isolation::ReadCommitted, false);
        record.note_lock(1, 1);
        let outer = record.set_savepoint().unwrap();
        record.note_lock(2, 1);
        let inner = record.set_savepoint().unwrap();
        record.note_lock(3, 2);
        assert!(record.forget_lock(1, 1) && !record.forget_lock(9, 1));
        assert_eq!(record.rollback_to(outer).unwrap().locks, [(2, 1), (3, 2)]);
        assert_eq!(record.release(inner).unwrap_err().class(), Class::Usage);
        assert_eq!(record.depth(), 1);
        assert!(record.locks().is_empty());
    }

    #[test]
    fn a_transaction_ends_once() {
        for phase in [Phase::Committed, Phase::Prepared, Phase::Aborted, Phase::InDoubt] {
            let mut record = Record::new(Isolation::Serializable, true);
            assert_eq!(record.next_command().unwrap(), CommandId(1));
            record.end(phase);
            assert_eq!(record.check_active().unwrap_err().class(), Class::Usage);
            assert_eq!(record.next_command().unwrap_err().class(), Class::Usage);
            assert_eq!(record.set_savepoint().unwrap_err().class(), Class::Usage);
        }
    }
}
