//! A task's state: one atomic word (invariant I4).
//!
//! | bits | meaning |
//! |---|---|
//! | 63..32 | generation of the slot: a word of another generation belongs to another task |
//! | `READY` | a wake that no poll has answered. Not running as well: the task stands in exactly one queue |
//! | `RUNNING` | one CPU polls the future, or drops it |
//! | `COMPLETE` | the future is gone; the output, if any, is in its place |
//! | `ABORT` | the next CPU to take the task drops the future instead of polling it |
//! | `HANDLE` | a join handle exists |
//! | `JOINER` | the handle has left a waker; from `COMPLETE` on it is the completer's |
//! | `RELEASED` | the completer will not touch the task again |
//! | `LIVE` | the slot holds a task |
//!
//! Whoever makes `READY` appear on a task that is not running owns its queue link and must queue it; a wake of a running
//! task only leaves `READY` behind, and the poller queues it. The slot is freed by whoever makes the later of "`RELEASED`
//! set" and "`HANDLE` cleared" happen.

use crate::prim::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
    const_fn,
};

const READY: u64 = 1 << 0;
const RUNNING: u64 = 1 << 1;
const COMPLETE: u64 = 1 << 2;
const ABORT: u64 = 1 << 3;
const HANDLE: u64 = 1 << 4;
const JOINER: u64 = 1 << 5;
const RELEASED: u64 = 1 << 6;
const LIVE: u64 = 1 << 7;

const fn generation_of(word: u64) -> u32 {
    (word >> 32) as u32
}

/// The word.
pub struct State(AtomicU64);

/// What a wake has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Queue the task: its link is the waker's.
    Enqueue,
    /// Its poller will queue it; if that is in user mode on the task's behalf, it is to be called back.
    Recall,
    /// Nothing: it is queued or recalled already, or it is gone.
    Nothing,
}

/// What a poller may do with a task it took from a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Poll it.
    Poll,
    /// Drop its future.
    Abort,
    /// Leave it: it is gone, or another CPU has it.
    Skip,
}

/// What is left to the completer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completed {
    /// Free the slot.
    Free,
    /// Wake the joiner, then [`State::release`].
    WakeJoiner,
    /// Nothing: the handle frees the slot.
    LeaveToHandle,
}

/// What a snapshot says of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Waiting for a wake.
    Waiting,
    /// Woken, not polled yet.
    Ready,
    /// Being polled.
    Running,
    /// Ended, its output not joined yet.
    Finished,
}

impl State {
    const_fn! {
        pub fn new() -> Self {
            Self(AtomicU64::new(0))
        }
    }

    /// Makes the free slot a task that stands in no queue and has been woken: the caller queues it.
    pub fn init(&self) -> u32 {
        let generation = generation_of(self.0.load(Relaxed));
        self.0.store((generation as u64) << 32 | LIVE | READY | HANDLE, Release);
        generation
    }

    /// Ends the slot's generation. The caller owns the slot.
    pub fn retire(&self) {
        let generation = generation_of(self.0.load(Relaxed)).wrapping_add(1);
        self.0.store((generation as u64) << 32, Release);
    }

    fn wake_with(&self, generation: u32, bits: u64) -> Wake {
        let mut word = self.0.load(Relaxed);
        loop {
            if generation_of(word) != generation || word & LIVE == 0 || word & COMPLETE != 0 {
                return Wake::Nothing;
            }
            // Stored even where nothing changes: the store is what orders the waker's writes before the next poll.
            match self.0.compare_exchange_weak(word, word | bits, AcqRel, Relaxed) {
                Ok(_) if word & READY != 0 => return Wake::Nothing,
                Ok(_) if word & RUNNING != 0 => return Wake::Recall,
                Ok(_) => return Wake::Enqueue,
                Err(now) => word = now,
            }
        }
    }

    /// A wake by a waker of this generation.
    pub fn wake(&self, generation: u32) -> Wake {
        self.wake_with(generation, READY)
    }

    /// Asks for the future to be dropped by its CPU.
    pub fn abort(&self, generation: u32) -> Wake {
        self.wake_with(generation, READY | ABORT)
    }

    /// Takes the task out of "ready" into "running".
    pub fn start(&self) -> Start {
        self.start_with(|word| word & (READY | RUNNING | COMPLETE | LIVE) == READY | LIVE)
    }

    /// As [`State::start`] for a driver, whose wakes stand in its CPU's ready word.
    pub fn start_driver(&self) -> Start {
        self.start_with(|word| word & (RUNNING | COMPLETE | LIVE) == LIVE)
    }

    fn start_with(&self, may: impl Fn(u64) -> bool) -> Start {
        let mut word = self.0.load(Relaxed);
        loop {
            if !may(word) {
                return Start::Skip;
            }
            match self
                .0
                .compare_exchange_weak(word, word & !READY | RUNNING, AcqRel, Relaxed)
            {
                Ok(_) if word & ABORT != 0 => return Start::Abort,
                Ok(_) => return Start::Poll,
                Err(now) => word = now,
            }
        }
    }

    /// The poll returned `Pending`. [`Wake::Enqueue`] if a wake came meanwhile; otherwise the task is nobody's now.
    pub fn park(&self) -> Wake {
        if self.0.fetch_and(!RUNNING, AcqRel) & READY != 0 {
            Wake::Enqueue
        } else {
            Wake::Nothing
        }
    }

    /// Whether a wake has come since the poll began. By the poller.
    pub fn is_woken(&self) -> bool {
        self.0.load(Acquire) & READY != 0
    }

    /// The slot's generation.
    pub fn generation(&self) -> u32 {
        generation_of(self.0.load(Relaxed))
    }

    /// The future is gone.
    pub fn complete(&self) -> Completed {
        let mut word = self.0.load(Relaxed);
        loop {
            let (new, then) = match (word & HANDLE != 0, word & JOINER != 0) {
                (false, _) => (COMPLETE | RELEASED, Completed::Free),
                (true, false) => (COMPLETE | RELEASED, Completed::LeaveToHandle),
                (true, true) => (COMPLETE, Completed::WakeJoiner),
            };
            match self
                .0
                .compare_exchange_weak(word, word & !(RUNNING | READY) | new, AcqRel, Relaxed)
            {
                Ok(_) => return then,
                Err(now) => word = now,
            }
        }
    }

    /// After [`Completed::WakeJoiner`]: the completer is done. True if the handle went meanwhile and the slot is to be
    /// freed.
    pub fn release(&self) -> bool {
        self.0.fetch_or(RELEASED, AcqRel) & HANDLE == 0
    }

    /// Takes the joiner's waker slot back for the handle. False if the task has completed.
    pub fn withdraw_joiner(&self) -> bool {
        self.joiner(|word| word & !JOINER)
    }

    /// Leaves the waker in the joiner's slot to the completer. False if the task has completed.
    pub fn leave_joiner(&self) -> bool {
        self.joiner(|word| word | JOINER)
    }

    fn joiner(&self, change: impl Fn(u64) -> u64) -> bool {
        let mut word = self.0.load(Acquire);
        loop {
            if word & COMPLETE != 0 {
                return false;
            }
            match self.0.compare_exchange_weak(word, change(word), AcqRel, Acquire) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
    }

    /// The handle goes away. True if the slot is to be freed by the caller.
    pub fn drop_handle(&self) -> bool {
        self.0.fetch_and(!HANDLE, AcqRel) & RELEASED != 0
    }

    /// Whether the task has ended; if so its output is visible.
    pub fn is_complete(&self) -> bool {
        self.0.load(Acquire) & COMPLETE != 0
    }

    /// Generation and activity, if the slot holds a task.
    pub fn snapshot(&self) -> Option<(u32, Activity)> {
        let word = self.0.load(Acquire);
        if word & LIVE == 0 {
            return None;
        }
        let activity = if word & COMPLETE != 0 {
            Activity::Finished
        } else if word & RUNNING != 0 {
            Activity::Running
        } else if word & READY != 0 {
            Activity::Ready
        } else {
            Activity::Waiting
        };
        Some((generation_of(word), activity))
    }

    /// Whether the slot holds the task of this generation, ended or not.
    pub fn is(&self, generation: u32) -> bool {
        let word = self.0.load(Relaxed);
        word & LIVE != 0 && generation_of(word) == generation
    }
}
