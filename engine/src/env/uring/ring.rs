//! One io_uring with the operations it is working on.
//!
//! Rules this module relies on:
//! 1. An operation stays in its slot, untouched, from the moment its entry is written until its completion is read. The slot
//!    owns the buffer and the file, so the memory and the descriptor named in the entry stay valid that long.
//! 2. The slot's index is the entry's `user_data`; each entry is answered once.
//! 3. The ring has an entry for every slot, so writing an entry always finds room.
//! 4. Neither ring nor slots are freed while the kernel may use them: `Drop` waits, and leaks both when waiting fails.
//! 5. The ring's memory does not exist in a forked child, so a child only closes the descriptor and leaks the rest.
#![expect(unsafe_code, reason = "submission entries point into buffers")]

use std::io::{self, ErrorKind};
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use io_uring::{IoUring, Probe, cqueue, opcode, squeue, types};

use crate::base::limits::IO_ALIGN;
use crate::env::File;
use crate::env::pool::PoolFile;
use crate::mem::aligned::AlignedBuf;

/// Longest transfer of one entry. The kernel stops a little below 2 GiB anyway; the rest is a continuation.
const TRANSFER_MAX: usize = 1 << 30;

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
    Sync,
}

/// An operation and how far it got.
pub(super) struct Op {
    pub(super) kind: Kind,
    pub(super) tag: u64,
    pub(super) file: Arc<dyn File>,
    pub(super) offset: u64,
    /// `None` for a sync.
    pub(super) buf: Option<AlignedBuf>,
    /// The number that the queue's order gave to a write.
    pub(super) number: u64,
    /// Bytes transferred so far.
    pub(super) done: usize,
}

/// What a completion means for its operation.
enum Step {
    Finished(io::Result<usize>),
    /// The rest of a short transfer, or the same again after an interruption.
    Again,
}

fn pool_file(file: &Arc<dyn File>) -> &PoolFile {
    file.as_any().downcast_ref().expect("the queue checks the file's type when the operation is pushed")
}

impl Op {
    /// The entry that transfers what is missing.
    fn entry(&mut self) -> squeue::Entry {
        let fd = types::Fd(pool_file(&self.file).inner().as_raw_fd());
        let offset = self.offset + self.done as u64;
        let rest = self.buf.as_mut().map(|buf| &mut buf[self.done..]).unwrap_or_default();
        let len = u32::try_from(rest.len().min(TRANSFER_MAX)).expect("TRANSFER_MAX fits");
        match self.kind {
            Kind::Read => opcode::Read::new(fd, rest.as_mut_ptr(), len).offset(offset).build(),
            Kind::Write => opcode::Write::new(fd, rest.as_ptr(), len).offset(offset).build(),
            Kind::Sync => opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build(),
        }
    }

    /// Takes in the kernel's answer.
    fn advance(&mut self, answer: i32) -> Step {
        let Ok(count) = usize::try_from(answer) else {
            let error = io::Error::from_raw_os_error(-answer);
            let again = matches!(-answer, libc::EINTR | libc::EAGAIN | libc::ECANCELED)
                || pool_file(&self.file).give_up_direct(&error);
            return if again { Step::Again } else { Step::Finished(Err(error)) };
        };
        let len = self.buf.as_ref().map_or(0, |buf| buf.len());
        self.done += count;
        if self.done == len {
            return Step::Finished(Ok(len));
        }
        match self.kind {
            Kind::Write if count == 0 => Step::Finished(Err(ErrorKind::WriteZero.into())),
            // Only the end of the file ends a direct read off the grid, and going on from there would be refused.
            Kind::Read if count == 0 || (!self.done.is_multiple_of(IO_ALIGN) && self.file.is_direct()) => {
                Step::Finished(Ok(self.done))
            }
            _ => Step::Again,
        }
    }
}

/// A ring and its slots.
pub(super) struct Ring {
    ring: ManuallyDrop<IoUring>,
    slots: ManuallyDrop<Vec<Option<Op>>>,
    free: Vec<u32>,
    /// Entries written and not yet handed to the kernel.
    queued: usize,
    /// Entries the kernel works on.
    running: usize,
    process: u32,
}

/// A ring of at least `entries`, with the kernel's cheaper way of finishing where it is known.
fn build(entries: u32) -> io::Result<IoUring> {
    // Since 5.19: completions are posted when the owner next enters the kernel, without interrupting it. The stricter
    // SINGLE_ISSUER and DEFER_TASKRUN tie a ring to one thread for life, but a queue may move between threads; nor do they
    // save anything that can be measured here (4.1 to 5.2 µs of processor time per 4 KiB read with any of the flags).
    match IoUring::builder().dontfork().setup_coop_taskrun().build(entries) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => IoUring::builder().dontfork().build(entries),
        outcome => outcome,
    }
}

impl Ring {
    /// Whether the kernel allows rings and knows the operations we use.
    pub(super) fn probe() -> io::Result<()> {
        let ring = build(4)?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        let needed = [opcode::Read::CODE, opcode::Write::CODE, opcode::Fsync::CODE];
        if needed.iter().all(|&code| probe.is_supported(code)) {
            return Ok(());
        }
        Err(io::Error::new(ErrorKind::Unsupported, "the kernel's io_uring lacks plain reads and writes"))
    }

    /// A ring for up to `depth` operations.
    pub(super) fn new(depth: u32) -> io::Result<Self> {
        let ring = build(depth.next_power_of_two())?;
        let mut slots = Vec::new();
        slots.resize_with(depth as usize, || None);
        Ok(Self {
            ring: ManuallyDrop::new(ring),
            slots: ManuallyDrop::new(slots),
            free: (0..depth).rev().collect(),
            queued: 0,
            running: 0,
            process: std::process::id(),
        })
    }

    pub(super) fn is_of_this_process(&self) -> bool {
        self.process == std::process::id()
    }

    /// Entries not yet handed to the kernel.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// Operations in slots.
    pub(super) fn len(&self) -> usize {
        self.queued + self.running
    }

    /// Puts an operation into a free slot (the caller keeps within the depth) and writes its entry.
    pub(super) fn push(&mut self, op: Op) {
        let slot = self.free.pop().expect("callers keep within the depth");
        self.slots[slot as usize] = Some(op);
        self.write_entry(slot);
    }

    fn write_entry(&mut self, slot: u32) {
        let op = self.slots[slot as usize].as_mut().expect("the slot is taken");
        let entry = op.entry().user_data(slot.into());
        // SAFETY: rule 1 keeps the buffer and the descriptor valid until the completion.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.expect("rule 3: an entry for every slot");
        self.queued += 1;
    }

    /// Hands all entries to the kernel and waits until `min` completions can be read (fewer when fewer run, or when the
    /// kernel first wants completions to be read; callers loop).
    pub(super) fn enter(&mut self, min: usize) -> io::Result<()> {
        loop {
            match self.ring.submit_and_wait(min.min(self.len())) {
                Ok(submitted) => {
                    self.queued -= submitted;
                    self.running += submitted;
                    if self.queued == 0 || submitted == 0 {
                        return Ok(());
                    }
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    Some(libc::EAGAIN | libc::EBUSY) => {
                        std::thread::yield_now();
                        return Ok(());
                    }
                    _ => return Err(error),
                },
            }
        }
    }

    fn next_completion(&mut self) -> Option<cqueue::Entry> {
        self.ring.completion().next()
    }

    /// Reads all completions; hands out what finished and writes entries for what must go on.
    pub(super) fn reap(&mut self, mut finished: impl FnMut(Op, io::Result<usize>)) {
        while let Some(completion) = self.next_completion() {
            self.running -= 1;
            let slot = u32::try_from(completion.user_data()).expect("rule 2: a slot's index");
            let op = self.slots[slot as usize].as_mut().expect("rule 2: answered once");
            match op.advance(completion.result()) {
                Step::Again => self.write_entry(slot),
                Step::Finished(result) => {
                    let op = self.slots[slot as usize].take().expect("taken above");
                    self.free.push(slot);
                    finished(op, result);
                }
            }
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if !self.is_of_this_process() {
            // SAFETY: the descriptor is ours alone in this process, and by rule 5 the ring is leaked, so nothing closes it again.
            unsafe { libc::close(self.ring.as_raw_fd()) };
            return;
        }
        while self.len() > 0 {
            if let Err(error) = self.enter(1) {
                tracing::error!(%error, "could not wait for an io_uring; leaking its buffers");
                return;
            }
            self.reap(|_, _| {});
        }
        // SAFETY: dropped once, here; nothing runs (rule 4).
        unsafe { ManuallyDrop::drop(&mut self.ring) };
        // SAFETY: dropped once, here; nothing runs (rule 4).
        unsafe { ManuallyDrop::drop(&mut self.slots) };
    }
}
