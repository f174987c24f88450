//! `eventfd(2)`: a counter to wait for.

use alloc::string::String;
use core::fmt::Write;

use super::{
    file::{Attempt, Direction, File, Readiness, Stop, Transfer},
    io::{Sink, Source},
    poll_queue::PollQueue,
};
use crate::{
    errno::{Errno, Result},
    sync::{Rank, SpinLock, WaitQueue},
};

/// What a read takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    /// The whole count.
    All,
    /// One (`EFD_SEMAPHORE`).
    One,
}

/// See the module.
pub struct EventCounter {
    count: SpinLock<u64>,
    counting: Counting,
    readable: WaitQueue,
    writable: WaitQueue,
    pollers: PollQueue,
}

const MAX: u64 = u64::MAX - 1;

impl EventCounter {
    /// A counter that stands at `count`.
    pub const fn new(count: u64, counting: Counting) -> Self {
        Self {
            count: SpinLock::new(Rank::Pipe, count),
            counting,
            readable: WaitQueue::new(),
            writable: WaitQueue::new(),
            pollers: PollQueue::new(),
        }
    }

    /// They look under the lock under which the count was changed.
    fn wake_pollers(&self, news: Readiness) {
        if self.pollers.has_waiters() {
            self.pollers.wake(news);
        }
    }
}

impl File for EventCounter {
    fn read(&self, _: &mut Transfer<'_>, sink: &mut Sink<'_>) -> Attempt<()> {
        if sink.remaining() < 8 {
            return Err(Errno::EINVAL.into());
        }
        let mut count = self.count.lock();
        if *count == 0 {
            return Err(Stop::WouldBlock);
        }
        let taken = if self.counting == Counting::One { 1 } else { *count };
        let start = sink.done();
        if let Err(fault) = sink.put(&taken.to_ne_bytes()) {
            sink.rewind(start);
            return Err(fault.into());
        }
        *count -= taken;
        let more = *count > 0;
        drop(count);
        if more {
            self.readable.wake_one();
        }
        self.writable.wake_all();
        self.wake_pollers(Readiness::OUT);
        Ok(())
    }

    fn write(&self, _: &mut Transfer<'_>, source: &mut Source<'_>) -> Attempt<()> {
        if source.remaining() < 8 {
            return Err(Errno::EINVAL.into());
        }
        let start = source.done();
        let mut bytes = [0; 8];
        if let Err(fault) = source.take(&mut bytes) {
            source.rewind(start);
            return Err(fault.into());
        }
        let added = u64::from_ne_bytes(bytes);
        let mut count = self.count.lock();
        let sum = count.checked_add(added).filter(|&sum| sum <= MAX);
        let Some(sum) = sum.filter(|_| added != u64::MAX) else {
            source.rewind(start);
            return Err(if added == u64::MAX {
                Errno::EINVAL.into()
            } else {
                Stop::WouldBlock
            });
        };
        *count = sum;
        drop(count);
        if added > 0 {
            self.readable.wake_one();
        }
        // Nothing added is an event as well.
        self.wake_pollers(Readiness::IN);
        Ok(())
    }

    fn readiness(&self) -> Readiness {
        let count = *self.count.lock();
        let mut ready = Readiness::empty();
        if count > 0 {
            ready |= Readiness::IN;
        }
        if count < MAX {
            ready |= Readiness::OUT;
        }
        ready
    }

    fn wait_queue(&self, direction: Direction) -> Option<&WaitQueue> {
        Some(if direction == Direction::Read {
            &self.readable
        } else {
            &self.writable
        })
    }

    fn whole_write(&self) -> usize {
        usize::MAX
    }

    fn poll_queue(&self) -> Option<&PollQueue> {
        Some(&self.pollers)
    }

    fn details(&self, _: u64, out: &mut String) -> Result<Option<u64>> {
        // Written into memory: cannot fail.
        let _ = writeln!(out, "eventfd-count: {:16x}", *self.count.lock());
        Ok(None)
    }
}
