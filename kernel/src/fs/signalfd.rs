//! `signalfd(2)`: pending signals that are read.
//!
//! A reader sees its own signals and its process's, whoever made the file: the file holds a mask and nothing else. Those who wait
//! do so where their process's signals are told of ([`watch`]).

use alloc::string::String;
use core::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{
    file::{Attempt, Direction, File, Readiness, Stop, Transfer},
    io::Sink,
    poll_queue::PollQueue,
};
use crate::{
    errno::{Errno, Result},
    sync::WaitQueue,
    task::{
        self, Thread,
        signal::{SigInfo, SignalSet, info::Layout, send, watch},
    },
};

/// The bytes of a `struct signalfd_siginfo` (`linux/signalfd.h`).
const SIZE: usize = 128;

/// See the module.
pub struct SignalFile {
    mask: AtomicU64,
    /// The queues, by their numbers, at which it has been waited for.
    queues: AtomicU64,
}

impl SignalFile {
    /// A file that shows the signals of `mask`.
    pub const fn new(mask: SignalSet) -> Self {
        Self {
            mask: AtomicU64::new(mask.without(SignalSet::UNBLOCKABLE).0),
            queues: AtomicU64::new(0),
        }
    }

    fn mask(&self) -> SignalSet {
        SignalSet(self.mask.load(Ordering::SeqCst))
    }

    /// Changes what it shows; those of the caller's process who wait look again.
    pub fn set_mask(&self, caller: &Thread, mask: SignalSet) {
        self.mask
            .store(mask.without(SignalSet::UNBLOCKABLE).0, Ordering::SeqCst);
        watch::queue(caller.process().pid()).wake(Readiness::empty());
    }

    fn shows_any(&self, thread: &Thread) -> bool {
        !thread.pending_signals().intersection(self.mask()).is_empty()
    }
}

/// The thread that looks.
fn looker() -> Option<alloc::sync::Arc<Thread>> {
    task::current::tid().and_then(task::thread)
}

impl File for SignalFile {
    fn read(&self, transfer: &mut Transfer<'_>, sink: &mut Sink<'_>) -> Attempt<()> {
        let caller = transfer.caller.ok_or(Errno::EINVAL)?;
        let begin = sink.done();
        if sink.remaining() < SIZE {
            return Err(Errno::EINVAL.into());
        }
        while sink.remaining() >= SIZE && self.shows_any(caller) {
            let start = sink.done();
            // A signal cannot be put back: whether there is room is found out before it is taken.
            let room = sink.put(&[0; SIZE]);
            sink.rewind(start);
            room?;
            let Some(info) = send::take_awaited(caller, self.mask()) else {
                break;
            };
            if sink.put(&describe(&info)).is_err() {
                // Unmapped since: as on Linux the signal is lost.
                sink.rewind(start);
                return Err(Errno::EFAULT.into());
            }
        }
        if sink.done() == begin {
            return Err(Stop::WouldBlock);
        }
        Ok(())
    }

    fn readiness(&self) -> Readiness {
        match looker() {
            Some(thread) if self.shows_any(&thread) => Readiness::IN,
            _ => Readiness::empty(),
        }
    }

    fn wait_queue(&self, direction: Direction) -> Option<&WaitQueue> {
        (direction == Direction::Read).then(|| watched().pollers())
    }

    fn poll_queue(&self) -> Option<&PollQueue> {
        let number = lookers_number();
        self.queues.fetch_or(1 << number, Ordering::Relaxed);
        Some(watch::numbered(number))
    }

    fn poll_queues(&self, each: &mut dyn FnMut(&PollQueue)) {
        for number in executor::bits(self.queues.load(Ordering::Relaxed)) {
            each(watch::numbered(number as usize));
        }
    }

    fn details(&self, _: u64, out: &mut String) -> Result<Option<u64>> {
        // Written into memory: cannot fail.
        let _ = writeln!(out, "sigmask:\t{:016x}", self.mask().0);
        Ok(None)
    }

    fn as_any(&self) -> Option<&dyn core::any::Any> {
        Some(self)
    }
}

/// Where the signals of the looker's process are told of.
fn watched() -> &'static PollQueue {
    watch::numbered(lookers_number())
}

fn lookers_number() -> usize {
    watch::number(looker().map_or(0, |thread| thread.process().pid()))
}

const _: () = assert!(watch::QUEUES <= u64::BITS as usize);

/// A `struct signalfd_siginfo`: the fields that a signal of its kind has.
fn describe(info: &SigInfo) -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    let word = |index: usize| info.word(index);
    let low = |index: usize| word(index) as u32;
    let high = |index: usize| (word(index) >> 32) as u32;
    put(0, &low(0).to_ne_bytes());
    put(4, &high(0).to_ne_bytes());
    put(8, &low(1).to_ne_bytes());
    let layout = info.layout();
    // ssi_pid, ssi_uid.
    if matches!(layout, Layout::Kill | Layout::Queued | Layout::Child) {
        put(12, &low(2).to_ne_bytes());
        put(16, &high(2).to_ne_bytes());
    }
    // ssi_int, ssi_ptr.
    if matches!(layout, Layout::Queued | Layout::Timer) {
        put(44, &low(3).to_ne_bytes());
        put(48, &word(3).to_ne_bytes());
    }
    match layout {
        Layout::Kill | Layout::Queued => {}
        Layout::Timer => {
            put(24, &low(2).to_ne_bytes());
            put(32, &high(2).to_ne_bytes());
        }
        Layout::Child => {
            put(40, &low(3).to_ne_bytes());
            put(56, &word(4).to_ne_bytes());
            put(64, &word(5).to_ne_bytes());
        }
        Layout::Poll => {
            put(28, &low(2).to_ne_bytes());
            put(20, &low(3).to_ne_bytes());
        }
        Layout::Fault { counts_bits } => {
            put(72, &word(2).to_ne_bytes());
            if counts_bits {
                put(80, &(word(3) as u16).to_ne_bytes());
            }
        }
        Layout::Call => {
            put(88, &word(2).to_ne_bytes());
            put(84, &low(3).to_ne_bytes());
            put(96, &high(3).to_ne_bytes());
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::signal::{info::code, set::*};

    fn field(bytes: &[u8; SIZE], at: usize) -> u32 {
        u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    #[test]
    fn each_kind_has_its_fields() {
        let killed = describe(&SigInfo::from_process(SIGUSR1, code::SI_USER, 7, 8));
        assert_eq!([0, 8, 12, 16].map(|at| field(&killed, at)), [10, 0, 7, 8]);
        assert_eq!(field(&killed, 44), 0);
        let timer = describe(&SigInfo::timer(40, 3, 9, 5 << 32 | 6));
        assert_eq!([24, 32, 44].map(|at| field(&timer, at)), [3, 9, 6]);
        assert_eq!([12, 16].map(|at| field(&timer, at)), [0, 0], "nobody sent it");
        assert_eq!(timer[48..56], (5_u64 << 32 | 6).to_ne_bytes());
        let child = describe(&SigInfo::child(code::CLD_EXITED, 7, 8, 9, 10, 11));
        assert_eq!([12, 16, 40, 56, 64].map(|at| field(&child, at)), [7, 8, 9, 10, 11]);
        let fault = describe(&SigInfo::fault(SIGSEGV, code::SEGV_MAPERR, 0x1234));
        assert_eq!([12, 72].map(|at| field(&fault, at)), [0, 0x1234]);
        // The same signals by kill and sigqueue are no faults and no children.
        let sent = describe(&SigInfo::from_process(SIGSEGV, code::SI_USER, 7, 8));
        assert_eq!([12, 72].map(|at| field(&sent, at)), [7, 0]);
        let queued = describe(&SigInfo::from_process(SIGCHLD, code::SI_QUEUE, 7, 8));
        assert_eq!([12, 40].map(|at| field(&queued, at)), [7, 0]);
    }
}
