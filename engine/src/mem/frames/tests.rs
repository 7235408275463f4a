//! The guards on real frames, across processes too, and every interleaving of the word's changes on a model frame.

use std::collections::HashSet;

use super::*;

const NO_PROCESS: u32 = 0x3FFF_FFFF;

fn frames(count: usize) -> (Region, FrameParts) {
    let mut layout = Layout::new();
    let parts = Frames::reserve(&mut layout, "test", count, 4096);
    (Region::inherited(&layout).unwrap(), parts)
}

fn load(frames: &Frames, frame: u32, byte: u8, uses: u32) -> Pin<'_> {
    let mut owned = frames.claim(frame).unwrap();
    owned.set_name([u64::from(byte), 0], u32::from(byte));
    owned.bytes_mut().fill(byte);
    owned.publish(100, uses)
}

#[test]
fn a_frame_goes_through_its_states() {
    let (region, parts) = frames(2);
    let frames = Frames::new(&region, parts);
    assert_eq!(frames.pin(1).err(), Some(State::Empty));

    let owned = frames.claim(1).unwrap();
    assert_eq!(owned.before(), State::Empty);
    assert_eq!(frames.pin(1).err(), Some(State::Loading));
    assert!(frames.claim(1).is_none() && frames.claim_dead(1).is_none());
    drop(owned);
    assert_eq!(frames.state(1), State::Empty, "given up");

    let first = load(&frames, 1, 7, 1);
    let second = frames.pin(1).unwrap();
    assert_eq!((&*second, second.name()), (&[7u8; 100][..], [7, 0]));
    assert!(frames.claim(1).is_none());
    first.hide();
    assert_eq!(frames.pin(1).err(), Some(State::Invisible));
    drop(first);
    assert!(frames.claim(1).is_none(), "one pin is left");
    assert_eq!(&*second, &[7u8; 100]);
    second.unpin_unused();

    let owned = frames.claim(1).unwrap();
    assert_eq!((owned.before(), owned.name(), owned.note()), (State::Invisible, [7, 0], 7));
}

#[test]
fn the_clock_counts_uses_down_from_the_cap() {
    let (region, parts) = frames(1);
    let frames = Frames::new(&region, parts);
    let visits_until_claimed = || (0..).find(|_| matches!(frames.visit(0, |_| 3), Visit::Claimed(_))).unwrap();

    drop(load(&frames, 0, 1, 1));
    assert_eq!(visits_until_claimed(), 0, "loaded, never used again");
    drop(load(&frames, 0, 1, 2));
    assert_eq!(visits_until_claimed(), 1, "a use in advance");
    drop(load(&frames, 0, 1, 1));
    (0..50).for_each(|_| drop(frames.pin(0).unwrap()));
    assert_eq!(visits_until_claimed(), 2, "many uses, cut to the cap");
    let pin = load(&frames, 0, 1, 1);
    assert!(matches!(frames.visit(0, |_| 3), Visit::Busy));
    pin.hide();
    drop(pin);
    assert_eq!(visits_until_claimed(), 0, "hidden");
}

#[test]
fn counters_never_run_over() {
    let (region, parts) = frames(1);
    let frames = Frames::new(&region, parts);
    let kept = load(&frames, 0, 9, 1);
    let word = &frames.metas[0].word;
    // As if the frame had been used half a billion times: both counters close to the upper half.
    let many = (1 << 29) - 10;
    word.fetch_add(many * (ACQUIRE_ONE + RELEASE_ONE), Ordering::Relaxed);
    for _ in 0..30 {
        drop(frames.pin(0).unwrap());
    }
    let now = Word(word.load(Ordering::Relaxed));
    assert!(!now.is_claimable() && now.rebased().is_none());
    assert_eq!(now.0 & !(u64::MAX << 30), 21, "bit 29 went; one pin and 20 uses are left");
    drop(kept);
    assert!(frames.claim(0).is_some());
}

#[test]
fn lengths_are_checked() {
    let (region, parts) = frames(1);
    let frames = Frames::new(&region, parts);
    let owned = frames.claim(0).unwrap();
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(owned.publish(4097, 1))));
    assert!(refused.is_err());
    assert_eq!(frames.state(0), State::Empty);
    let mut owned = frames.claim(0).unwrap();
    assert_eq!(owned.bytes_mut().len(), 4096);
    assert_eq!(owned.publish(4096, 1).len(), 4096);
}

#[test]
fn waiting_ends_with_the_load() {
    let (region, parts) = frames(1);
    let frames = Frames::new(&region, parts);
    assert!(frames.wait(0, [1, 1]), "nothing is loading");
    let mut owned = frames.claim(0).unwrap();
    owned.set_name([1, 1], 0);
    assert!(frames.wait(0, [1, 2]), "something else is loading");
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| while !frames.wait(0, [1, 1]) {});
        drop(owned.publish(1, 1));
        waiter.join().unwrap();
    });
}

#[test]
fn a_dead_owner_is_succeeded_by_one() {
    let (region, parts) = frames(1);
    let frames = Frames::new(&region, parts);
    frames.claim(0).unwrap().abandon_as(NO_PROCESS);
    let heirs: Vec<_> = (0..2).filter_map(|_| frames.claim_dead(0)).collect();
    assert_eq!(heirs.len(), 1);
    assert_eq!(heirs[0].before(), State::Loading);
}

#[test]
fn a_process_that_dies_while_loading_frees_its_frame() {
    let (region, parts) = frames(1);
    let frames = Frames::new(&region, parts);
    let parent = current_pid();
    // SAFETY: the child calls only what is allowed after a fork of a threaded process: atomics, getpid and _exit.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let ok = current_pid() != parent
            && frames.claim(0).is_some_and(|owned| {
                std::mem::forget(owned);
                true
            });
        // SAFETY: ends the child without running what belongs to the parent.
        unsafe { libc::_exit(if ok { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: waits for our own child; `status` outlives the call.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0);
    assert_eq!(frames.state(0), State::Loading);
    assert!(frames.claim(0).is_none());
    assert!(frames.claim_dead(0).is_some());
}

/// A frame and the threads that use it, as values: `step` makes one atomic access of one thread.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Model {
    word: u64,
    turn: u32,
    /// What the frame's bytes are; odd while half written.
    content: u32,
    actors: Vec<Actor>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Actor {
    /// Pins, reads, unpins.
    Reader(Reader),
    /// Claims, writes in two steps, publishes, unpins.
    Loader(Loader),
    /// Pins, hides, unpins.
    Hider(Reader),
    /// Ages the frame once.
    Clock,
    /// Waits for a load to end.
    Waiter(Waiter),
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Reader {
    Start,
    Pinned(u32),
    Read(u32),
    Undo,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Loader {
    Start { fails: bool },
    Saw { word: u64, fails: bool },
    Owns { fails: bool },
    HalfWritten { fails: bool },
    Written { fails: bool },
    MustWake { pinned: bool },
    Pinned,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Waiter {
    Start,
    Turn(u32),
    Asleep(u32),
}

impl Model {
    fn owners(&self) -> usize {
        let owns = |actor: &&Actor| {
            use Loader::{HalfWritten, Owns, Written};
            matches!(actor, Actor::Loader(Owns { .. } | HalfWritten { .. } | Written { .. }))
        };
        self.actors.iter().filter(owns).count()
    }

    fn pins(&self) -> usize {
        let pins = |actor: &&Actor| {
            matches!(
                actor,
                Actor::Reader(Reader::Pinned(_) | Reader::Read(_))
                    | Actor::Hider(Reader::Pinned(_) | Reader::Read(_))
                    | Actor::Loader(Loader::MustWake { pinned: true } | Loader::Pinned)
            )
        };
        self.actors.iter().filter(pins).count()
    }

    fn check(&self) {
        let word = Word(self.word);
        assert!(self.owners() <= 1, "two owners");
        assert!(self.owners() == 0 || self.pins() == 0, "an owner and a pin");
        assert_eq!(self.owners() == 1, word.state() == State::Loading);
        if matches!(word.state(), State::Visible | State::Invisible) {
            assert!(self.content.is_multiple_of(2), "half a block is visible");
            assert!(self.pins() == 0 || !word.is_claimable(), "a pinned frame can be claimed");
        }
    }

    /// The model after one access by `at`; `None` when it has nothing to do.
    fn step(&self, at: usize) -> Option<Self> {
        let mut next = self.clone();
        next.actors[at] = match self.actors[at] {
            Actor::Done => return None,
            Actor::Reader(reader) => next.read(reader).map_or(Actor::Done, Actor::Reader),
            Actor::Hider(Reader::Read(_)) => {
                next.word = self.word | Word::HIDE;
                Actor::Hider(Reader::Undo)
            }
            Actor::Hider(reader) => next.read(reader).map_or(Actor::Done, Actor::Hider),
            Actor::Loader(loader) => next.load(loader).map_or(Actor::Done, Actor::Loader),
            Actor::Clock => {
                let seen = Word(self.word);
                if seen.is_claimable() && seen.is_in_use() {
                    next.word = seen.aged(2).0;
                }
                Actor::Done
            }
            Actor::Waiter(Waiter::Asleep(turn)) if turn == self.turn => return None,
            Actor::Waiter(waiter) => next.wait(waiter).map_or(Actor::Done, Actor::Waiter),
        };
        Some(next)
    }

    fn read(&mut self, reader: Reader) -> Option<Reader> {
        match reader {
            Reader::Start => {
                let seen = Word(self.word);
                self.word += ACQUIRE_ONE;
                match seen.state() {
                    State::Visible => Some(Reader::Pinned(self.content)),
                    State::Invisible => Some(Reader::Undo),
                    State::Empty | State::Loading => None,
                }
            }
            Reader::Pinned(content) => Some(Reader::Read(content)),
            Reader::Read(content) => {
                assert_eq!(content, self.content, "the bytes changed under a pin");
                self.word += RELEASE_ONE;
                None
            }
            Reader::Undo => {
                self.word -= ACQUIRE_ONE;
                None
            }
        }
    }

    fn load(&mut self, loader: Loader) -> Option<Loader> {
        match loader {
            Loader::Start { fails } => Word(self.word).is_claimable().then_some(Loader::Saw { word: self.word, fails }),
            Loader::Saw { word, fails } if word == self.word => {
                self.word = Word::loading(5).0;
                Some(Loader::Owns { fails })
            }
            Loader::Saw { fails, .. } => Some(Loader::Start { fails }),
            Loader::Owns { fails } => {
                self.content |= 1;
                Some(Loader::HalfWritten { fails })
            }
            Loader::HalfWritten { fails } => {
                self.content += 1;
                Some(Loader::Written { fails })
            }
            Loader::Written { fails } => {
                self.word = if fails { Word::EMPTY.0 } else { Word::published(1).0 };
                Some(Loader::MustWake { pinned: !fails })
            }
            Loader::MustWake { pinned } => {
                self.turn += 1;
                pinned.then_some(Loader::Pinned)
            }
            Loader::Pinned => {
                self.word += RELEASE_ONE;
                None
            }
        }
    }

    fn wait(&mut self, waiter: Waiter) -> Option<Waiter> {
        match waiter {
            Waiter::Start => Some(Waiter::Turn(self.turn)),
            Waiter::Turn(turn) => (Word(self.word).state() == State::Loading).then_some(Waiter::Asleep(turn)),
            Waiter::Asleep(_) => None,
        }
    }
}

/// Walks through every order in which the actors can make their accesses; returns how many situations there are.
fn explore(start: Model) -> usize {
    let mut seen = HashSet::new();
    let mut open = vec![start];
    while let Some(model) = open.pop() {
        if !seen.insert(model.clone()) {
            continue;
        }
        model.check();
        let after: Vec<_> = (0..model.actors.len()).filter_map(|at| model.step(at)).collect();
        if after.is_empty() {
            assert!(model.actors.iter().all(|&actor| actor == Actor::Done), "somebody sleeps for ever");
            let word = Word(model.word);
            assert!(word.is_claimable(), "a pin or an owner leaked");
        }
        open.extend(after);
    }
    seen.len()
}

fn model(word: Word, actors: &[Actor]) -> Model {
    Model { word: word.0, turn: 0, content: 0, actors: actors.to_vec() }
}

#[test]
fn every_interleaving_keeps_the_rules() {
    let reader = Actor::Reader(Reader::Start);
    let hider = Actor::Hider(Reader::Start);
    let loader = |fails| Actor::Loader(Loader::Start { fails });
    let waiter = Actor::Waiter(Waiter::Start);
    // Visible without pins and one use.
    let idle = Word(Word::published(1).0 + RELEASE_ONE);
    let mut situations = 0;
    for start in [Word::EMPTY, idle, Word(idle.0 | Word::HIDE)] {
        situations += explore(model(start, &[reader, reader, loader(false), loader(true), Actor::Clock]));
        situations += explore(model(start, &[reader, hider, loader(false), loader(false)]));
        situations += explore(model(start, &[loader(false), loader(true), waiter, waiter, reader]));
        situations += explore(model(start, &[reader, hider, loader(false), waiter, Actor::Clock]));
    }
    assert!(situations > 10_000, "only {situations} situations");
}

#[cfg(feature = "shuttle")]
mod models {
    use std::sync::Arc;

    use super::*;
    use crate::mem::sync::model::check;

    /// Pins while another thread claims, writes and publishes: the bytes of a pin are whole and do not change.
    #[test]
    fn pins_and_claims_exclude_each_other() {
        check(3000, || {
            let (region, parts) = frames(1);
            let frames = Arc::new(Frames::new(&region, parts));
            let loaders = [1_u8, 2].map(|byte| {
                let frames = frames.clone();
                shuttle::thread::spawn(move || {
                    for _ in 0..2 {
                        let Some(mut owned) = frames.claim(0) else { continue };
                        owned.bytes_mut()[0] = byte;
                        owned.set_name([u64::from(byte), 0], 0);
                        owned.bytes_mut()[1] = byte;
                        if byte == 1 {
                            drop(owned.publish(2, 1));
                        }
                    }
                })
            });
            let readers = [false, true].map(|hides| {
                let frames = frames.clone();
                shuttle::thread::spawn(move || {
                    for _ in 0..2 {
                        let Ok(pin) = frames.pin(0) else { continue };
                        assert_eq!((&*pin, pin.name()), (&[1, 1][..], [1, 0]));
                        if hides {
                            pin.hide();
                        }
                        assert!(frames.claim(0).is_none());
                        assert_eq!(&*pin, [1, 1]);
                    }
                })
            });
            loaders.into_iter().chain(readers).for_each(|thread| thread.join().unwrap());
            assert!(frames.claim(0).is_some());
        });
    }

    /// Whoever waits for a load is woken by its end, good or bad.
    #[test]
    fn the_end_of_a_load_is_never_missed() {
        check(3000, || {
            let (region, parts) = frames(1);
            let frames = Arc::new(Frames::new(&region, parts));
            let mut owned = frames.claim(0).unwrap();
            owned.set_name([5, 5], 0);
            drop(owned.publish(0, 1));
            let threads = [true, false].map(|waits| {
                let frames = frames.clone();
                shuttle::thread::spawn(move || match waits {
                    true => while !frames.wait(0, [5, 5]) {},
                    false => drop(frames.claim(0)),
                })
            });
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }
}
