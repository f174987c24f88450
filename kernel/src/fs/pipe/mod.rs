//! Pipes and fifos: a bounded run of bytes between writers and readers.
//!
//! Bytes stand in pages. A pipe that was never written to has none; one that has been emptied keeps one (as Linux's does), so
//! that a byte now and then allocates nothing. A write of at most [`PIPE_BUF`] bytes goes in whole or not at all.
//!
//! **Who is woken.** Blocked readers wait for one byte, blocked writers for room of `PIPE_BUF` bytes (so that whoever is woken
//! can go on, whatever the length of its write). Each is woken alone: by the operation that makes the condition true, and
//! then by the one woken before, if the condition still holds as it leaves. So while the condition holds and somebody waits, one
//! wake is on its way. Pollers are woken all together, whenever the condition becomes true. Watchers (epoll) are told of
//! every write, as on Linux, whether or not bytes were there before. An end that goes away wakes everybody.
//!
//! **What pollers look at** is one word, which each operation brings up to date before it lets the lock go. So a look at
//! thousands of pipes takes none of their locks. A poller registers, looks after a fence, and waits; whoever wakes pollers
//! changes the word first and, after a fence, looks for them: one of the two sees the other.

pub(crate) mod bytes;
mod end;

use alloc::sync::{Arc, Weak};
use core::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Release, SeqCst},
    fence,
};

use bytes::{Bytes, PAGE};
pub use end::{End, PipeEnd};

use super::{
    file::{Attempt, Readiness, Stop},
    io::{Sink, Source},
    poll_queue::PollQueue,
};
use crate::{
    errno::{Errno, Result},
    sync::{Rank, SpinLock, SpinLockGuard, WaitQueue},
};

/// The longest write that is never split (`limits.h`).
pub const PIPE_BUF: usize = 4096;
/// Bytes that a new pipe holds.
pub const DEFAULT_CAPACITY: usize = 64 << 10;
/// Bytes that a pipe may be made to hold without privilege (`fs.pipe-max-size`).
pub const MAX_CAPACITY: usize = 1 << 20;

struct State {
    bytes: Bytes,
    capacity: usize,
    readers: usize,
    writers: usize,
    /// How often an end was opened, for openers of a fifo that wait for the other side.
    reader_opens: u64,
    writer_opens: u64,
}

impl State {
    const fn room(&self) -> usize {
        self.capacity - self.bytes.len()
    }

    /// What both ends are ready for: they have no bit in common.
    fn readiness(&self) -> Readiness {
        let mut ready = Readiness::empty();
        if self.bytes.len() > 0 {
            ready |= Readiness::READABLE;
        }
        // A fifo that nobody has ever written to has not been hung up.
        if self.writers == 0 && self.writer_opens > 0 {
            ready |= Readiness::HUP;
        }
        if self.room() >= PIPE_BUF {
            ready |= Readiness::WRITABLE;
        }
        if self.readers == 0 {
            ready |= Readiness::ERR;
        }
        ready
    }

    /// How often the other side of `end` has been opened, and whether it is open now.
    const fn peer(&self, end: End) -> (u64, bool) {
        match end {
            End::Read => (self.writer_opens, self.writers > 0),
            End::Write => (self.reader_opens, self.readers > 0),
            End::Both => (0, true),
        }
    }
}

// Waiters look at the state under its lock, under which it was changed before: who has looked in vain is seen.

fn wake_one(queue: &WaitQueue) {
    if queue.has_waiters() {
        queue.wake_one();
    }
}

/// As said of the module: for pollers.
fn wake_pollers(queue: &PollQueue, news: Readiness) {
    fence(SeqCst);
    if queue.has_waiters() {
        queue.wake(news);
    }
}

/// See the module.
pub struct Pipe {
    state: SpinLock<State>,
    /// [`State::readiness`]. Written under the lock.
    ready: AtomicU32,
    readable: WaitQueue,
    writable: WaitQueue,
    pollers: PollQueue,
    opened: WaitQueue,
}

impl Default for Pipe {
    fn default() -> Self {
        Self::new()
    }
}

impl Pipe {
    /// The pipe that all who have a fifo open share: the one that `known` leads to, or a new one from now on.
    pub fn shared(known: &mut Weak<Self>) -> Arc<Self> {
        known.upgrade().unwrap_or_else(|| {
            let fresh = Arc::new(Self::new());
            *known = Arc::downgrade(&fresh);
            fresh
        })
    }

    /// A pipe that nobody has open.
    pub fn new() -> Self {
        Self {
            state: SpinLock::new(
                Rank::Pipe,
                State {
                    bytes: Bytes::new(),
                    capacity: DEFAULT_CAPACITY,
                    readers: 0,
                    writers: 0,
                    reader_opens: 0,
                    writer_opens: 0,
                },
            ),
            // Of no meaning until an end is opened.
            ready: AtomicU32::new(0),
            readable: WaitQueue::new(),
            writable: WaitQueue::new(),
            pollers: PollQueue::new(),
            opened: WaitQueue::new(),
        }
    }

    /// A pipe's two ends: to read, to write.
    pub fn ends() -> (Arc<PipeEnd>, Arc<PipeEnd>) {
        let pipe = Arc::new(Self::new());
        (pipe.open(End::Read).0, pipe.open(End::Write).0)
    }

    /// Opens an end. If the other side is not open: how often it has been opened so far, for [`Pipe::has_met`]. That is found out in one step with the opening, which wakes whoever
    /// waits on the other side: by the next look they may have written, closed and gone.
    pub fn open(self: &Arc<Self>, end: End) -> (Arc<PipeEnd>, Option<u64>) {
        let mut state = self.state.lock();
        let (opens, present) = state.peer(end);
        if end.reads() {
            state.readers += 1;
            state.reader_opens += 1;
        }
        if end.writes() {
            state.writers += 1;
            state.writer_opens += 1;
        }
        self.unlock(state);
        self.opened.wake_all();
        self.pollers.wake_everybody();
        let opened = Arc::new(PipeEnd {
            pipe: self.clone(),
            end,
        });
        (opened, (!present).then_some(opens))
    }

    /// Whether the other side of `end` is open.
    pub fn has_peer(&self, end: End) -> bool {
        self.state.lock().peer(end).1
    }

    /// Whether the other side of `end` has been opened since [`Pipe::open`] gave `seen`.
    pub fn has_met(&self, end: End, seen: u64) -> bool {
        self.state.lock().peer(end).0 != seen
    }

    /// Woken whenever an end is opened.
    pub const fn opened(&self) -> &WaitQueue {
        &self.opened
    }

    /// Bytes waiting.
    pub fn len(&self) -> usize {
        self.state.lock().bytes.len()
    }

    /// Whether no byte waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes it holds at most.
    pub fn capacity(&self) -> usize {
        self.state.lock().capacity
    }

    /// Changes the capacity to `bytes`, rounded up to a power of two of at least a page.
    ///
    /// # Errors
    /// `EBUSY` if it holds more than that, `EPERM` above [`MAX_CAPACITY`], `EINVAL` above 2 GiB.
    pub fn set_capacity(&self, bytes: usize) -> Result<usize> {
        if bytes > 1 << 31 {
            return Err(Errno::EINVAL);
        }
        let capacity = bytes.max(PAGE).next_power_of_two();
        if capacity > MAX_CAPACITY {
            return Err(Errno::EPERM);
        }
        let mut state = self.state.lock();
        if state.bytes.len() > capacity {
            return Err(Errno::EBUSY);
        }
        let had_room = state.room() >= PIPE_BUF;
        state.capacity = capacity;
        let has_room = state.room() >= PIPE_BUF;
        self.unlock(state);
        if has_room && !had_room {
            self.writable.wake_one();
            wake_pollers(&self.pollers, Readiness::WRITABLE);
        }
        Ok(capacity)
    }

    fn read(&self, sink: &mut Sink<'_>) -> Attempt<()> {
        if sink.remaining() == 0 {
            return Ok(());
        }
        let mut state = self.state.lock();
        if state.bytes.len() == 0 {
            return if state.writers == 0 {
                Ok(())
            } else {
                Err(Stop::WouldBlock)
            };
        }
        let had_room = state.room() >= PIPE_BUF;
        let result = state.bytes.drain(sink, usize::MAX);
        let more = state.bytes.len() > 0;
        let has_room = state.room() >= PIPE_BUF;
        self.unlock(state);
        if more {
            wake_one(&self.readable);
        }
        if has_room && !had_room {
            wake_one(&self.writable);
            wake_pollers(&self.pollers, Readiness::WRITABLE);
        }
        Ok(result?)
    }

    fn write(&self, source: &mut Source<'_>) -> Attempt<()> {
        if source.total() == 0 {
            return Ok(());
        }
        let mut state = self.state.lock();
        if state.readers == 0 {
            return Err(Errno::EPIPE.into());
        }
        let before = state.bytes.len();
        let result = if source.total() <= PIPE_BUF {
            if state.room() < source.total() {
                return Err(Stop::WouldBlock);
            }
            let start = source.done();
            let wanted = source.remaining();
            state.bytes.fill(source, wanted).inspect_err(|_| {
                state.bytes.shorten(before);
                source.rewind(start);
            })
        } else {
            let limit = state.room().min(source.remaining());
            state.bytes.fill(source, limit)
        };
        let full = state.room() == 0 || result.is_ok() && state.bytes.len() == before;
        let wrote = state.bytes.len() > before;
        let became_readable = before == 0 && wrote;
        let has_room = state.room() >= PIPE_BUF;
        self.unlock(state);
        if became_readable {
            wake_one(&self.readable);
            wake_pollers(&self.pollers, Readiness::READABLE);
        } else if wrote {
            self.pollers.tell(Readiness::READABLE);
        }
        if has_room {
            wake_one(&self.writable);
        }
        result?;
        if !source.is_complete() && full {
            Err(Stop::WouldBlock)
        } else {
            Ok(())
        }
    }

    /// Lets go of a state that was changed.
    fn unlock(&self, state: SpinLockGuard<'_, State>) {
        self.ready.store(state.readiness().bits(), Release);
        drop(state);
    }

    fn readiness(&self, end: End) -> Readiness {
        let mut seen = Readiness::empty();
        if end.reads() {
            seen |= Readiness::READABLE | Readiness::HUP;
        }
        if end.writes() {
            seen |= Readiness::WRITABLE | Readiness::ERR;
        }
        Readiness::from_bits_truncate(self.ready.load(Acquire)) & seen
    }

    fn close(&self, end: End) {
        let mut state = self.state.lock();
        if end.reads() {
            state.readers -= 1;
        }
        if end.writes() {
            state.writers -= 1;
        }
        let alone = state.readers == 0 || state.writers == 0;
        let unread = if state.readers == 0 && state.writers == 0 {
            core::mem::take(&mut state.bytes)
        } else {
            Bytes::new()
        };
        self.unlock(state);
        drop(unread);
        if alone {
            self.readable.wake_all();
            self.writable.wake_all();
            self.pollers.wake_everybody();
        }
    }
}
