//! The ends of transactions, in order, and what is left of them after each prefix.

use std::collections::BTreeMap;

use crate::isolation::oracle::{Entry, Number, Oracle, Rows};

/// An end that leaves something behind.
#[derive(Clone, Debug)]
pub enum Event {
    /// It committed these writes.
    Commit(Vec<Entry>),
    /// It was prepared, with these writes and locks.
    Prepare(Number, Vec<Entry>),
    /// The prepared one committed.
    CommitPrepared(Number),
    /// The prepared one rolled back.
    RollbackPrepared(Number),
}

/// What is there after some events.
#[derive(Clone, Default)]
pub struct State {
    /// The rows; no transaction is open but the prepared ones.
    pub oracle: Oracle,
    /// The prepared ones.
    pub prepared: BTreeMap<Number, Vec<Entry>>,
}

impl State {
    /// One more event has come to pass.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Commit(log) => self.oracle.install(log),
            Event::Prepare(number, log) => {
                self.oracle.restore(*number, log.clone());
                self.prepared.insert(*number, log.clone());
            }
            Event::CommitPrepared(number) => {
                self.oracle.commit(*number);
                self.prepared.remove(number);
            }
            Event::RollbackPrepared(number) => {
                self.oracle.abort(*number);
                self.prepared.remove(number);
            }
        }
    }
}

/// The events since the last crash.
#[derive(Default)]
pub struct Events {
    /// What the last crash left.
    base: State,
    since: Vec<Event>,
    kept_by_process: usize,
    kept_by_machine: usize,
}

impl Events {
    /// An event is about to happen; whether it will may stay unknown.
    pub fn send(&mut self, event: Event) {
        self.since.push(event);
    }

    /// The last event was refused and has not happened.
    pub fn take_back(&mut self) {
        self.since.pop();
    }

    /// The last event was acknowledged.
    pub const fn acknowledge(&mut self, durable: bool) {
        self.kept_by_process = self.since.len();
        if durable {
            self.kept_by_machine = self.since.len();
        }
    }

    /// Everything acknowledged so far was made durable.
    pub const fn synced(&mut self) {
        self.kept_by_machine = self.kept_by_process;
    }

    /// Finds the prefix that left these rows and these prepared transactions, and begins anew from there.
    ///
    /// # Errors
    /// There is none that the crash allows.
    pub fn recover(&mut self, rows: &Rows, prepared: &[Number], machine_died: bool) -> Result<State, String> {
        let least = if machine_died { self.kept_by_machine } else { self.kept_by_process };
        let mut state = self.base.clone();
        let fits = |state: &State| state.prepared.keys().eq(prepared) && state.oracle.committed() == *rows;
        let mut early = None;
        for count in 0..=self.since.len() {
            if fits(&state) {
                if count >= least {
                    *self = Self { base: state.clone(), ..Self::default() };
                    return Ok(state);
                }
                early = Some(count);
            }
            if let Some(event) = self.since.get(count) {
                state.apply(event);
            }
        }
        let what = early.map_or_else(|| "no prefix".to_owned(), |count| format!("only the first {count}"));
        let diff = difference(rows, &state.oracle.committed());
        Err(format!(
            "recovered {what} of {} events, at least {least} expected (machine died: {machine_died}); prepared {prepared:?}, \
             expected {:?}; {diff}; the last events: {:?}",
            self.since.len(),
            state.prepared.keys(),
            &self.since[least.saturating_sub(1)..]
        ))
    }
}

/// Rows that differ, as a short text.
#[must_use]
pub fn difference(found: &Rows, want: &Rows) -> String {
    let keys = found.keys().chain(want.keys()).filter(|key| found.get(*key) != want.get(*key));
    let texts: Vec<_> = keys
        .take(5)
        .map(|key| {
            format!(
                "{} ({:?}, expected {:?})",
                key.escape_ascii(),
                found.get(key).map(Vec::len),
                want.get(key).map(Vec::len)
            )
        })
        .collect();
    format!("rows that differ: {}", texts.join(", "))
}
