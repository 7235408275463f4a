use std::cell::UnsafeCell;
use std::sync::Arc;

use super::*;
use crate::mem::region::{Layout, Region};

#[test]
fn guards_exclude_each_other() {
    let lock = FutexLock::new();
    let guard = lock.lock().unwrap();
    assert!(lock.try_lock().is_none());
    drop(guard);
    assert!(lock.try_lock().is_some());
    assert_eq!(lock.word.load(Ordering::Relaxed), FREE);
}

#[test]
fn threads_take_turns() {
    let total: lock_api::Mutex<FutexLock, u64> = lock_api::Mutex::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    *total.lock() += 1;
                }
            });
        }
    });
    assert_eq!(*total.lock(), 80_000);
    assert_eq!(total.try_lock().map(|n| *n), Some(80_000));
}

#[test]
fn a_panicking_owner_leaves_the_lock_dead() {
    let lock = FutexLock::new();
    let panicked = std::panic::catch_unwind(|| {
        let _guard = lock.lock().unwrap();
        panic!("half way");
    });
    assert!(panicked.is_err());
    assert_eq!(lock.lock().err(), Some(OwnerDied));
    assert!(lock.try_lock().is_none() && lock.owner_died());
    assert_eq!(Error::from(OwnerDied).class(), crate::error::Class::Closed);
}

#[test]
#[expect(unsafe_code, reason = "a child process that dies with the lock")]
fn a_dead_owner_is_noticed_by_every_waiter() {
    let mut layout = Layout::new();
    let part = layout.part::<FutexLock>("lock", 1);
    let region = Region::inherited(&layout).unwrap();
    let lock = &region.part(part)[0];
    // SAFETY: the child takes the free lock (one atomic operation) and exits without running anything else.
    let child = unsafe { libc::fork() };
    if child == 0 {
        std::mem::forget(lock.try_lock());
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(0) };
    }
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    // On Linux the child stays a zombie here, and still counts as dead.
    let keep = if cfg!(target_os = "linux") { libc::WNOWAIT } else { 0 };
    // SAFETY: waits for our own child.
    assert_eq!(unsafe { libc::waitid(libc::P_PID, child.cast_unsigned(), info.as_mut_ptr(), libc::WEXITED | keep) }, 0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| assert_eq!(lock.lock().err(), Some(OwnerDied)));
        }
    });
    assert_eq!(lock.lock().err(), Some(OwnerDied));
    // SAFETY: reaps our own child; on other systems there is none left and the call only fails.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
}

#[test]
fn events_wake_and_count() {
    let event = Event::new();
    assert_eq!(event.current(), 0);
    event.notify();
    assert_eq!(event.current(), 1);
    event.wait(0, Duration::from_secs(3600));
    let flag = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let seen = event.current();
                    if flag.load(Ordering::Acquire) == 1 {
                        break;
                    }
                    event.wait(seen, Duration::from_secs(3600));
                }
            });
        }
        flag.store(1, Ordering::Release);
        event.notify();
    });
    event.wait(event.current(), Duration::from_millis(1));
}

/// A cell whose only protection is the lock beside it.
struct Guarded(FutexLock, UnsafeCell<u64>);

#[expect(unsafe_code, reason = "the lock under test is what makes it so")]
// SAFETY: the tests touch the cell only under the lock.
unsafe impl Sync for Guarded {}

#[test]
#[expect(unsafe_code, reason = "the lock under test is what makes it so")]
fn the_lock_orders_plain_memory() {
    let shared = Arc::new(Guarded(FutexLock::new(), UnsafeCell::new(0)));
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let shared = shared.clone();
            std::thread::spawn(move || {
                for _ in 0..5000 {
                    let _guard = shared.0.lock().unwrap();
                    // SAFETY: under the lock.
                    unsafe { *shared.1.get() += 1 };
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    let _guard = shared.0.lock().unwrap();
    // SAFETY: under the lock.
    assert_eq!(unsafe { *shared.1.get() }, 15_000);
}

#[cfg(feature = "shuttle")]
mod models {
    use super::*;
    use crate::mem::sync::model::check;

    #[test]
    fn no_two_owners_and_no_lost_wake() {
        check(3000, || {
            let shared = Arc::new((FutexLock::new(), AtomicU32::new(0)));
            let threads: Vec<_> = (0..3)
                .map(|_| {
                    let shared = shared.clone();
                    shuttle::thread::spawn(move || {
                        for _ in 0..2 {
                            let guard = shared.0.lock().unwrap();
                            assert_eq!(shared.1.swap(1, Ordering::Relaxed), 0, "two owners");
                            assert_eq!(shared.1.swap(0, Ordering::Relaxed), 1, "two owners");
                            drop(guard);
                        }
                    })
                })
                .collect();
            threads.into_iter().for_each(|t| t.join().unwrap());
            assert_eq!(shared.0.word.load(Ordering::Relaxed), FREE);
        });
    }

    #[test]
    fn an_event_is_never_missed() {
        check(3000, || {
            let shared = Arc::new((Event::new(), AtomicU32::new(0)));
            let waiters: Vec<_> = (1..=2)
                .map(|goal| {
                    let shared = shared.clone();
                    shuttle::thread::spawn(move || {
                        loop {
                            let seen = shared.0.current();
                            if shared.1.load(Ordering::Acquire) >= goal {
                                break;
                            }
                            shared.0.wait(seen, Duration::from_secs(1));
                        }
                    })
                })
                .collect();
            for _ in 0..2 {
                shared.1.fetch_add(1, Ordering::Release);
                shared.0.notify();
            }
            waiters.into_iter().for_each(|t| t.join().unwrap());
        });
    }
}
