//! Runs a script of steps by named sessions and writes down what each step answered.
//!
//! ```text
//! prose, up to the first section
//!
//! == title of a section, which begins with a new engine
//! rows 1=10 2=20
//! T1: put 1 11
//!     ok                        what was answered: indented, written by the run
//! T2: put 1 12
//!     waits
//! T1: commit
//!     ok
//!     T2 goes on: ok
//! ```
//! After a step the run waits until each session has answered or waits for another transaction, which it asks the engine: as
//! many transactions wait as sessions have not answered. Nobody moves any more then, so the record is the same every time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use ssd_engine::env::memory::MemoryEnv;
use ssd_engine::{Durability, Engine, Isolation, Options, RowTree};

use crate::isolation::session::{Answer, Session};

/// How often, and how long each time, the run looks whether everybody has answered or waits.
const LOOKS_MAX: u32 = 60_000;
const LOOK: Duration = Duration::from_millis(1);

struct Player {
    commands: Sender<String>,
    thread: JoinHandle<()>,
    busy: bool,
}

/// One section as it runs.
struct Stage {
    engine: Engine,
    tree: RowTree,
    players: BTreeMap<String, Player>,
    answers: Receiver<Answer>,
    answer: Sender<Answer>,
}

/// Runs `script`; returns it with the answers as they are now.
///
/// # Panics
/// When the script makes no sense, or a session neither answers nor waits.
#[must_use]
pub fn record(script: &str) -> String {
    let mut out = String::new();
    let mut stage: Option<Stage> = None;
    for line in script.lines() {
        let begins = line.starts_with("== ");
        if begins || line.is_empty() || stage.is_none() {
            if begins {
                stage.take().into_iter().for_each(Stage::end);
                stage = Some(Stage::new());
            }
            out += line;
            out.push('\n');
            continue;
        }
        let running = stage.as_mut().expect("a section has begun");
        if line.starts_with(' ') {
            continue;
        }
        out += line;
        out.push('\n');
        if let Some(rows) = line.strip_prefix("rows ") {
            running.fill(rows);
        } else {
            let (name, command) = line.split_once(": ").expect("a step is a session and a command");
            running.step(name, command, &mut out);
        }
    }
    stage.into_iter().for_each(Stage::end);
    out
}

impl Stage {
    fn new() -> Self {
        let options = Options {
            env: Some(MemoryEnv::new(1)),
            memtable_bytes: 64 << 10,
            cache_bytes: 64 << 10,
            log_segment_bytes: 64 << 10,
            log_ring_bytes: 64 << 10,
            background_threads: 0,
            deadlock_timeout: Duration::ZERO,
            ..Options::default()
        };
        let engine = Engine::open(Path::new("/db"), options).expect("opens");
        let tree = engine.row_tree("t").expect("opens");
        let (answer, answers) = channel();
        Self { engine, tree, players: BTreeMap::new(), answers, answer }
    }

    fn fill(&self, rows: &str) {
        let mut txn = self.engine.begin(Isolation::ReadCommitted).expect("begins");
        for row in rows.split_whitespace() {
            let (key, value) = row.split_once('=').expect("a row is a key and a value");
            txn.put(&self.tree, key.as_bytes(), value.as_bytes()).expect("nobody is in the way");
        }
        txn.commit(Durability::Process).expect("nobody is in the way");
    }

    fn step(&mut self, name: &str, command: &str, out: &mut String) {
        if !self.players.contains_key(name) {
            let (commands, receiver) = channel();
            let session = Session::new(self.engine.clone(), self.tree.clone());
            let (own_name, answer) = (name.to_owned(), self.answer.clone());
            let thread = std::thread::spawn(move || session.serve(&own_name, &receiver, &answer));
            self.players.insert(name.to_owned(), Player { commands, thread, busy: false });
        }
        let player = self.players.get_mut(name).expect("it was just added");
        assert!(!player.busy, "{name} waits and cannot {command}");
        player.busy = true;
        player.commands.send(command.to_owned()).expect("sessions listen");
        let mut answers = self.settle();
        let own = answers.remove(name).unwrap_or_else(|| "waits".into());
        writeln!(out, "    {own}").expect("strings take all");
        for (other, text) in answers {
            writeln!(out, "    {other} goes on: {text}").expect("strings take all");
        }
    }

    /// Waits until nobody moves; returns what was answered.
    fn settle(&mut self) -> BTreeMap<String, String> {
        let mut answers = BTreeMap::new();
        for _ in 0..LOOKS_MAX {
            let busy = self.players.values().filter(|player| player.busy).count();
            // Whoever waits is busy, so as many as are busy are all of them.
            if busy == 0 || self.engine.waiting_transactions().expect("the engine is open") == busy {
                return answers;
            }
            match self.answers.recv_timeout(LOOK) {
                Ok((name, text)) => {
                    self.players.get_mut(&name).expect("only players answer").busy = false;
                    answers.insert(name, text);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => unreachable!("this end holds a sender"),
            }
        }
        panic!("a session neither answers nor waits");
    }

    /// Ends all sessions: each rolls back what it has open, whereby those that wait go on and end, too.
    fn end(self) {
        for (name, Player { commands, thread, busy }) in self.players {
            assert!(!busy, "{name} still waits at the end of the section");
            drop(commands);
            thread.join().expect("sessions do not panic");
        }
    }
}
