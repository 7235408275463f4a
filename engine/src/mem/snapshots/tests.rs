use super::*;

fn table(cells: usize) -> Snapshots {
    let mut layout = Layout::new();
    let parts = Snapshots::reserve(&mut layout, cells);
    Snapshots::new(&Region::anonymous(&layout).unwrap(), parts)
}

fn listed(snapshots: &Snapshots) -> Vec<u64> {
    let mut out = vec![SeqNo(99)];
    snapshots.list(&mut out);
    out.into_iter().map(|s| s.0).collect()
}

#[test]
fn snapshots_are_listed_until_released() {
    let snapshots = table(3);
    let visible = AtomicU64::new(0);
    assert!(listed(&snapshots).is_empty());
    let zero = snapshots.register(&visible).unwrap();
    visible.store(7, Ordering::SeqCst);
    let (seven, again) = (snapshots.register(&visible).unwrap(), snapshots.register(&visible).unwrap());
    assert_eq!((zero.seqno(), seven.seqno()), (SeqNo(0), SeqNo(7)));
    assert_eq!(listed(&snapshots), [0, 7]);
    assert_eq!(snapshots.register(&visible), None, "full");
    snapshots.release(zero);
    snapshots.release(seven);
    assert_eq!(listed(&snapshots), [7]);
    snapshots.release(again);
    assert!(listed(&snapshots).is_empty());
}

#[test]
#[expect(unsafe_code, reason = "a child process that dies with its snapshot")]
fn snapshots_of_dead_processes_are_reaped() {
    let mut layout = Layout::new();
    let parts = Snapshots::reserve(&mut layout, 4);
    let snapshots = Snapshots::new(&Region::inherited(&layout).unwrap(), parts);
    let visible = AtomicU64::new(4);
    let mine = snapshots.register(&visible).unwrap();
    visible.store(5, Ordering::SeqCst);
    // SAFETY: the child registers a snapshot (atomic operations only) and exits without running anything else.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let refused = snapshots.register(&visible).is_none();
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(i32::from(refused)) };
    }
    // SAFETY: reaps our own child.
    assert_eq!(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) }, child);
    assert_eq!(listed(&snapshots), [4, 5]);
    assert_eq!((snapshots.reap_dead(), snapshots.reap_dead()), (1, 0));
    assert_eq!(listed(&snapshots), [4]);
    snapshots.release(mine);
}

#[cfg(feature = "shuttle")]
mod models {
    use std::sync::Arc;

    use super::*;
    use crate::mem::sync::model::check;

    /// The collector spares what is listed and what is visible; every snapshot must find its own version spared.
    #[test]
    fn the_collector_misses_no_snapshot() {
        check(5000, || {
            let shared = Arc::new((table(2), AtomicU64::new(0), [const { AtomicU64::new(1) }; 4]));
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    let shared = shared.clone();
                    shuttle::thread::spawn(move || {
                        let (snapshots, visible, alive) = &*shared;
                        let snapshot = snapshots.register(visible).unwrap();
                        assert_eq!(alive[snapshot.seqno().0 as usize].load(Ordering::Relaxed), 1, "collected");
                        snapshots.release(snapshot);
                    })
                })
                .collect();
            let collector = {
                let shared = shared.clone();
                shuttle::thread::spawn(move || {
                    let (snapshots, visible, alive) = &*shared;
                    let mut spared = Vec::new();
                    for _ in 0..2 {
                        let newest = visible.load(Ordering::Acquire);
                        snapshots.list(&mut spared);
                        for old in (0..newest).filter(|&old| !spared.contains(&SeqNo(old))) {
                            alive[old as usize].store(0, Ordering::Relaxed);
                        }
                    }
                })
            };
            for next in 1..4 {
                shared.1.store(next, Ordering::SeqCst);
            }
            readers.into_iter().for_each(|t| t.join().unwrap());
            collector.join().unwrap();
            assert!(listed(&shared.0).is_empty());
        });
    }
}
