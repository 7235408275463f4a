use super::*;

fn table(cells: usize) -> PinTable {
    let mut layout = Layout::new();
    let parts = PinTable::reserve(&mut layout, cells);
    PinTable::new(&Region::anonymous(&layout).unwrap(), parts)
}

#[test]
fn the_oldest_pin_counts_and_writers_apart() {
    let pins = table(4);
    let generation = AtomicU64::new(5);
    assert_eq!((pins.oldest(), pins.oldest_writer()), (None, None));
    let reader = pins.pin(&generation, false);
    generation.store(6, Ordering::SeqCst);
    let mut writer = pins.pin(&generation, true);
    assert_eq!((reader.generation(), writer.generation()), (5, 6));
    assert_eq!((pins.oldest(), pins.oldest_writer()), (Some(5), Some(6)));
    assert_eq!(pins.owners(), [(current_pid(), 5)]);
    drop(reader);
    assert_eq!(pins.oldest(), Some(6));
    generation.store(GENERATION_MAX, Ordering::SeqCst);
    writer.refresh(&generation);
    assert_eq!((pins.oldest_writer(), writer.generation()), (Some(GENERATION_MAX), GENERATION_MAX));
    drop(writer);
    assert_eq!(pins.oldest(), None);
}

#[test]
fn a_full_table_makes_pinners_wait() {
    let pins = table(2);
    let generation = AtomicU64::new(1);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..2000 {
                    let one = pins.pin(&generation, false);
                    assert_eq!(one.generation(), 1);
                }
            });
        }
    });
    assert_eq!(pins.oldest(), None);
}

#[test]
#[expect(unsafe_code, reason = "a child process that dies with its pins")]
fn pins_of_dead_processes_are_reaped() {
    let mut layout = Layout::new();
    let parts = PinTable::reserve(&mut layout, 8);
    let pins = PinTable::new(&Region::inherited(&layout).unwrap(), parts);
    let generation = AtomicU64::new(3);
    let mine = pins.pin(&generation, false);
    // SAFETY: the child takes three pins (atomic operations only) and exits without running anything else.
    let child = unsafe { libc::fork() };
    if child == 0 {
        for writer in [true, false, false] {
            std::mem::forget(pins.pin(&generation, writer));
        }
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(0) };
    }
    // SAFETY: reaps our own child.
    assert_eq!(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) }, child);
    assert_eq!(pins.oldest_writer(), Some(3));
    assert_eq!(pins.reap_dead(), Reaped { readers: 2, writers: 1 });
    assert_eq!(pins.reap_dead(), Reaped::default());
    assert_eq!(pins.oldest(), Some(3));
    drop(mine);
    assert_eq!(pins.oldest(), None);
}

#[test]
fn nothing_pinned_is_reclaimed() {
    // `state` is what a generation stands for; a reclaimer poisons the state of a generation nobody holds any more.
    const DEAD: u64 = u64::MAX;
    let pins = table(8);
    let generation = AtomicU64::new(0);
    let states: Vec<AtomicU64> = (0..2001).map(AtomicU64::new).collect();
    std::thread::scope(|scope| {
        for reader in 0..2 {
            let (pins, generation, states) = (&pins, &generation, &states);
            scope.spawn(move || {
                loop {
                    let pin = pins.pin(generation, reader == 1);
                    let at = pin.generation();
                    assert_eq!(states[at as usize].load(Ordering::Relaxed), at);
                    if at == 2000 {
                        break;
                    }
                }
            });
        }
        for next in 1..=2000u64 {
            generation.store(next, Ordering::SeqCst);
            while pins.oldest().is_some_and(|oldest| oldest < next) {
                std::thread::yield_now();
            }
            states[next as usize - 1].store(DEAD, Ordering::Relaxed);
        }
    });
}

#[cfg(feature = "shuttle")]
mod models {
    use std::sync::Arc;

    use super::*;
    use crate::mem::sync::model::check;

    #[test]
    fn nothing_pinned_is_reclaimed() {
        check(5000, || {
            HINT.set(0);
            let shared = Arc::new((table(2), AtomicU64::new(0), [const { AtomicU64::new(1) }; 3]));
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    let shared = shared.clone();
                    shuttle::thread::spawn(move || {
                        let (pins, generation, alive) = &*shared;
                        let mut pin = pins.pin(generation, false);
                        for _ in 0..2 {
                            assert_eq!(alive[pin.generation() as usize].load(Ordering::Relaxed), 1, "reclaimed");
                            pin.refresh(generation);
                        }
                        assert_eq!(alive[pin.generation() as usize].load(Ordering::Relaxed), 1, "reclaimed");
                    })
                })
                .collect();
            let (pins, generation, alive) = &*shared;
            for next in 1..=2u64 {
                generation.store(next, Ordering::SeqCst);
                if pins.oldest().is_none_or(|oldest| oldest >= next) {
                    alive[..next as usize].iter().for_each(|a| a.store(0, Ordering::Relaxed));
                }
            }
            readers.into_iter().for_each(|t| t.join().unwrap());
            assert_eq!(pins.oldest(), None);
        });
    }
}
