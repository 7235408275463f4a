//! Rotation, reduced to what orders it: pins, `writers_blocked`, the list, the version, and what is visible.
//!
//! The steps are those of `write.rs` (pin, look at `writers_blocked`, take the active table, log, insert, publish),
//! `rotate.rs` (block, drain, switch), `flush.rs` (install, then take off the list) and `lookup.rs` (list, then version). The
//! order of steps is what can be wrong, so each mistake that would matter can be made, and is noticed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::base::ids::SeqNo;
use crate::lsm::control::MemtableList;
use crate::lsm::publish::PublishQueue;
use crate::mem::pins::{PinParts, PinTable};
use crate::mem::region::{Layout, Part, Region};
use crate::mem::sync::model::check;
use crate::mem::sync::{AtomicU32, AtomicU64, yield_now};

/// What is done in the wrong order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    None,
    /// A writer looks at `writers_blocked` before it pins.
    PinLate,
    /// A rotation switches first and drains then.
    SwitchEarly,
    /// A writer gives its pin back before it inserts.
    UnpinEarly,
    /// A reader takes the version before the list.
    VersionFirst,
    /// A flush takes the table off the list before it installs the version.
    DropEarly,
    /// A table is emptied for its next life without a look at the pins.
    ReuseEarly,
}

const TABLES: usize = 2;

struct World {
    pins: PinTable,
    generation: AtomicU64,
    blocked: AtomicU32,
    list: AtomicU64,
    /// Sequence numbers in files, as bits.
    version: AtomicU64,
    /// Sequence numbers in each memtable, as bits.
    tables: [AtomicU64; TABLES],
    next: AtomicU64,
    visible: AtomicU64,
    region: Region,
    publish: Part<PublishQueue>,
}

impl World {
    fn new() -> Self {
        let mut layout = Layout::new();
        let pins: PinParts = PinTable::reserve(&mut layout, 4);
        let publish = layout.part::<PublishQueue>("publish", 1);
        let region = Region::anonymous(&layout).unwrap();
        Self {
            pins: PinTable::new(&region, pins),
            generation: AtomicU64::new(1),
            blocked: AtomicU32::new(0),
            list: AtomicU64::new(MemtableList(0).with_active(0).0),
            version: AtomicU64::new(0),
            tables: [const { AtomicU64::new(0) }; TABLES],
            next: AtomicU64::new(1),
            visible: AtomicU64::new(0),
            region,
            publish,
        }
    }

    fn list(&self) -> MemtableList {
        MemtableList(self.list.load(Ordering::SeqCst))
    }

    fn write(&self, mistake: Mistake) {
        let mut pin = loop {
            if mistake == Mistake::PinLate {
                while self.blocked.load(Ordering::SeqCst) != 0 {
                    yield_now();
                }
                break Some(self.pins.pin(&self.generation, true));
            }
            let pin = self.pins.pin(&self.generation, true);
            if self.blocked.load(Ordering::SeqCst) == 0 {
                break Some(pin);
            }
            drop(pin);
            yield_now();
        };
        let table = &self.tables[self.list().active()];
        let seqno = self.next.fetch_add(1, Ordering::SeqCst);
        if mistake == Mistake::UnpinEarly {
            pin = None;
        }
        table.fetch_or(1 << seqno, Ordering::SeqCst);
        self.region.part(self.publish)[0].finish(seqno - 1, SeqNo(seqno + 1), &self.visible);
        drop(pin);
    }

    fn drain(&self) {
        while self.pins.oldest_writer().is_some() {
            yield_now();
        }
    }

    fn rotate(&self, mistake: Mistake) {
        self.blocked.store(1, Ordering::SeqCst);
        if mistake != Mistake::SwitchEarly {
            self.drain();
        }
        self.list.store(self.list().with_active(1).0, Ordering::SeqCst);
        self.generation.fetch_add(1, Ordering::SeqCst);
        if mistake == Mistake::SwitchEarly {
            self.drain();
        }
        self.blocked.store(0, Ordering::SeqCst);
    }

    fn flush(&self, mistake: Mistake) {
        let table = &self.tables[self.list().oldest_immutable().unwrap()];
        let install = || {
            self.version.fetch_or(table.load(Ordering::SeqCst), Ordering::SeqCst);
        };
        if mistake != Mistake::DropEarly {
            install();
        }
        self.list.store(self.list().without_oldest().0, Ordering::SeqCst);
        let dropped = self.generation.fetch_add(1, Ordering::SeqCst) + 1;
        if mistake == Mistake::DropEarly {
            install();
        }
        // The table's next life.
        while mistake != Mistake::ReuseEarly && self.pins.oldest().is_some_and(|pin| pin < dropped) {
            yield_now();
        }
        table.store(0, Ordering::SeqCst);
    }

    /// Everything that was visible before the call is found.
    fn read(&self, mistake: Mistake) {
        let visible = self.visible.load(Ordering::SeqCst);
        let _pin = self.pins.pin(&self.generation, false);
        let early = (mistake == Mistake::VersionFirst).then(|| self.version.load(Ordering::SeqCst));
        let list = self.list();
        let version = early.unwrap_or_else(|| self.version.load(Ordering::SeqCst));
        let found = list.indices().fold(version, |found, at| found | self.tables[at].load(Ordering::SeqCst));
        let missing = (1..=visible).find(|seqno| found & (1 << seqno) == 0);
        assert_eq!(missing, None, "of what was visible up to {visible}");
    }
}

/// Whether all numbers of `new` are larger than all of `old`.
fn rises(old: u64, new: u64) -> bool {
    old == 0 || new == 0 || new.trailing_zeros() > old.ilog2()
}

fn run(iterations: usize, mistake: Mistake) {
    check(iterations, move || {
        let world = Arc::new(World::new());
        let spawn = |body: fn(&World, Mistake)| {
            let world = world.clone();
            shuttle::thread::spawn(move || body(&world, mistake))
        };
        let write_twice = |world: &World, mistake| {
            world.write(mistake);
            world.write(mistake);
        };
        let threads = [
            spawn(write_twice),
            spawn(write_twice),
            spawn(|world, mistake| {
                world.rotate(mistake);
                // Invariant 1 of the memtables, as far as the new one has come.
                let (old, new) = (world.tables[0].load(Ordering::SeqCst), world.tables[1].load(Ordering::SeqCst));
                assert!(rises(old, new), "{old:b} is older than {new:b}");
                world.flush(mistake);
            }),
        ];
        for _ in 0..3 {
            world.read(mistake);
        }
        threads.into_iter().for_each(|t| t.join().unwrap());
        world.read(mistake);
        let new = world.tables[1].load(Ordering::SeqCst);
        let old = world.version.load(Ordering::SeqCst);
        assert_eq!(old | new, 0b11110, "all four are there");
        assert!(rises(old, new), "{old:b} is older than {new:b}");
    });
}

#[test]
fn nothing_visible_is_missed_and_tables_are_in_order() {
    run(4000, Mistake::None);
}

#[test]
fn each_mistake_is_noticed() {
    use Mistake::{DropEarly, PinLate, ReuseEarly, SwitchEarly, UnpinEarly, VersionFirst};
    for mistake in [PinLate, SwitchEarly, UnpinEarly, VersionFirst, DropEarly, ReuseEarly] {
        // Schedules are random: some mistakes need more of them than others.
        let noticed = (0..50).find_map(|_| std::panic::catch_unwind(|| run(4000, mistake)).err());
        // By one of the model's own assertions, not by an accident of it.
        let panic = noticed.expect("a mistake goes unnoticed");
        let text = panic.downcast_ref::<String>().map_or("", String::as_str);
        assert!(
            ["visible up to", "is older than", "are there"].iter().any(|own| text.contains(own)),
            "{mistake:?}: {text}"
        );
    }
}
