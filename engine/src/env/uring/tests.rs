//! What a fork leaves of queues and locks, and the retreat from direct I/O.
#![expect(unsafe_code, reason = "fork")]

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::env::pool::{PoolEnv, PoolFile};
use crate::env::uring::UringEnv;
use crate::env::{Env, File, IoOp, IoQueue, OpenMode};
use crate::mem::aligned::AlignedBuf;

fn environments() -> Vec<Arc<dyn Env>> {
    let mut all: Vec<Arc<dyn Env>> = vec![PoolEnv::new(2)];
    all.extend(UringEnv::new().ok().map(|env| env as Arc<dyn Env>));
    all
}

/// Runs `child` in a forked process; whether it ended without a panic.
fn in_child(child: impl FnOnce()) -> bool {
    // SAFETY: the child only touches what is its own after a fork, and ends without returning.
    let process = unsafe { libc::fork() };
    assert!(process >= 0, "{}", io::Error::last_os_error());
    if process == 0 {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
        // SAFETY: ends the process at once, without the harness's exit handlers.
        unsafe { libc::_exit(i32::from(outcome.is_err())) };
    }
    let mut status = -1;
    // SAFETY: `status` outlives the call.
    unsafe { libc::waitpid(process, &raw mut status, 0) };
    status == 0
}

fn read(queue: &mut dyn IoQueue, file: &Arc<dyn File>) -> usize {
    let buf = AlignedBuf::zeroed(4096);
    queue.push(1, IoOp::Read { file: Arc::clone(file), offset: 0, buf }).unwrap();
    let mut out = Vec::new();
    queue.wait(1, &mut out).unwrap();
    out.remove(0).result.unwrap()
}

#[test]
fn an_idle_queue_works_on_both_sides_of_a_fork() {
    for env in environments() {
        let dir = tempfile::tempdir().unwrap();
        let file = env.open(&dir.path().join("f"), OpenMode::CREATE).unwrap();
        file.write_at(&[1; 4096], 0).unwrap();
        let mut queue = env.queue(4).unwrap();
        assert_eq!(read(&mut *queue, &file), 4096);
        assert!(in_child(|| {
            assert_eq!(read(&mut *queue, &file), 4096);
            assert_eq!(read(&mut *env.queue(4).unwrap(), &file), 4096);
        }));
        assert_eq!(read(&mut *queue, &file), 4096);
    }
}

#[test]
fn a_busy_queue_is_refused_in_the_child() {
    for env in environments() {
        let dir = tempfile::tempdir().unwrap();
        let file = env.open(&dir.path().join("f"), OpenMode::CREATE).unwrap();
        let mut queue = env.queue(4).unwrap();
        let write = || IoOp::Write { file: Arc::clone(&file), offset: 0, buf: AlignedBuf::zeroed(4096) };
        queue.push(1, write()).unwrap();
        let (in_child_ok, queue) = {
            let mut inherited = Some(queue);
            let ok = in_child(|| {
                let mut queue = inherited.take().unwrap();
                assert!(queue.push(2, write()).is_err());
                assert!(queue.wait(1, &mut Vec::new()).is_err());
            });
            (ok, inherited)
        };
        assert!(in_child_ok);
        let mut out = Vec::new();
        queue.unwrap().wait(1, &mut out).unwrap();
        assert_eq!(out[0].result.as_ref().unwrap(), &4096);
    }
}

#[test]
fn a_child_does_not_release_its_parents_lock() {
    for env in environments() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let mut lock = Some(env.lock(&path).unwrap());
        assert!(in_child(|| {
            assert!(env.lock(&path).is_err());
            drop(lock.take());
        }));
        assert!(std::fs::File::open(&path).unwrap().try_lock().is_err());
        assert!(in_child(|| assert!(env.lock(&path).is_err())));
    }
}

#[test]
fn direct_io_gives_way_to_the_page_cache() {
    for env in environments() {
        let refused = env.open(Path::new("/proc/version"), OpenMode::READ_DIRECT).unwrap();
        assert!(!refused.is_direct());
        assert!(refused.read_at(&mut [0; 10], 1).unwrap() > 0);

        let dir = tempfile::tempdir().unwrap();
        let file = env.open(&dir.path().join("f"), OpenMode::CREATE_DIRECT).unwrap();
        if file.is_direct() {
            let file = file.as_any().downcast_ref::<PoolFile>().unwrap();
            assert!(!file.give_up_direct(&io::Error::from_raw_os_error(libc::EIO)));
            assert!(file.give_up_direct(&io::Error::from_raw_os_error(libc::EINVAL)));
            assert!(!file.give_up_direct(&io::Error::from_raw_os_error(libc::EINVAL)), "once");
            assert!(!file.is_direct());
            file.write_at(b"not aligned", 3).unwrap();
        }
    }
}

#[test]
fn files_of_another_world_are_refused() {
    let Ok(env) = UringEnv::new() else { return };
    let memory = crate::env::memory::MemoryEnv::new(1);
    let file = memory.open(Path::new("/f"), OpenMode::CREATE).unwrap();
    let mut queue = env.queue(1).unwrap();
    queue.push(1, IoOp::Sync { file: Arc::clone(&file) }).unwrap();
    queue.push(2, IoOp::Read { file, offset: 0, buf: AlignedBuf::zeroed(1) }).unwrap();
    let mut out = Vec::new();
    queue.wait(2, &mut out).unwrap();
    assert!(out.iter().all(|done| done.result.is_err() && done.buf.is_some() == (done.tag == 2)));
}
