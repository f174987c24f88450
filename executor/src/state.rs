//! A task's state: one atomic word (invariant I4).
//!
//! | bits | meaning |
//! |---|---|
//! | 63..32 | generation of the slot: a word of another generation belongs to another task |
//! | `READY` | a wake that no poll has answered: the task stands in exactly one queue, or is on its way there |
//! | `COMPLETE` | the future is gone; the output, if any, is in its place |
//! | `ABORT` | the next CPU to take the task drops the future instead of polling it |
//! | `HANDLE` | a join handle exists |
//! | `JOINER` | the handle has left the number of a waker of this executor |
//! | `FOREIGN` | the handle has left a waker of another kind; from `COMPLETE` on it is the completer's |
//! | `RELEASED` | no queue holds the task, and the completer will not touch it again |
//! | `LIVE` | the slot holds a task |
//!
//! ```text
//!            wake: the waker queues it                 start: by its CPU
//!  WAITING ───────────────────────────▶ READY ──────────────────────────▶ being polled ──▶ WAITING
//!     ▲                                   ▲                                 │       │
//!     └──────────── Pending ──────────────┼──── wake: queued at once ───────┘       │ complete
//!                                         │                                         ▼
//!                                         └── queued when it ended: ◀── READY? ── COMPLETE ──▶ RELEASED ──▶ free
//!                                             its next start releases it
//! ```
//!
//! Whoever makes `READY` appear owns the task's queue link and must queue it; whoever takes the task from its queue clears
//! `READY` ([`State::start`]), and only then polls. A wake that comes during the poll queues the task again, behind its
//! poller, so that the end of a poll costs no atomic operation. Only its home CPU takes a task from its queues, and not
//! while it polls that very task; so no second poller can appear.
//!
//! Drivers stand in their CPU's bitmap instead of a queue. `READY` is never set for them, and a poll changes nothing here.
//!
//! The slot is freed by whoever makes the later of "`RELEASED` set" and "`HANDLE` cleared" happen.

use crate::prim::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
    const_fn,
};

const READY: u64 = 1 << 0;
const COMPLETE: u64 = 1 << 1;
const ABORT: u64 = 1 << 2;
const HANDLE: u64 = 1 << 3;
const JOINER: u64 = 1 << 4;
const FOREIGN: u64 = 1 << 5;
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
    /// Nothing: it is queued already, or it is gone.
    Nothing,
}

/// What a poller may do with a task it took from a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Poll it.
    Poll,
    /// It is to be aborted: drop its future, unless it holds the abort off.
    Abort,
    /// It ended while it was queued: [`State::release`] it.
    Ended,
}

/// What is left to the completer, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completed {
    /// Wake the joiner by its number.
    pub wake_joiner: bool,
    /// Take the foreign joiner's waker, wake it, then [`State::release`] unless the task is queued.
    pub wake_foreign: bool,
    /// The task stands in a queue; who takes it from there releases it.
    pub queued: bool,
    /// Free the slot.
    pub free: bool,
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

/// What a join handle finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The task has not ended.
    No,
    /// It has ended; the output is visible, the slot still in use by others.
    Yes,
    /// It has ended, and the handle is the last to use the slot.
    Alone,
}

const fn ended(word: u64) -> Ended {
    if word & COMPLETE == 0 {
        Ended::No
    } else if word & RELEASED == 0 {
        Ended::Yes
    } else {
        Ended::Alone
    }
}

impl State {
    const_fn! {
        pub fn new() -> Self {
            Self(AtomicU64::new(0))
        }
    }

    /// Makes the free slot a task. With `ready` the caller queues it: its link is the caller's.
    pub fn init(&self, ready: bool, handle: bool) {
        let generation = self.0.load(Relaxed) & !u64::from(u32::MAX);
        let ready = if ready { READY } else { 0 };
        let handle = if handle { HANDLE } else { 0 };
        self.0.store(generation | LIVE | ready | handle, Release);
    }

    /// Ends the slot's generation. The caller owns the slot.
    pub fn retire(&self) {
        let generation = generation_of(self.0.load(Relaxed)).wrapping_add(1);
        self.0.store((generation as u64) << 32, Release);
    }

    /// Sets `bits` in a live task of this generation that has not ended; the word before.
    fn set(&self, generation: u32, bits: u64) -> Option<u64> {
        let mut word = self.0.load(Relaxed);
        loop {
            if generation_of(word) != generation || word & (LIVE | COMPLETE) != LIVE {
                return None;
            }
            // Stored even where nothing changes: the store is what orders the waker's writes before the next poll.
            match self.0.compare_exchange_weak(word, word | bits, AcqRel, Relaxed) {
                Ok(_) => return Some(word),
                Err(now) => word = now,
            }
        }
    }

    /// A wake by a waker of this generation.
    pub fn wake(&self, generation: u32) -> Wake {
        match self.set(generation, READY) {
            Some(word) if word & READY == 0 => Wake::Enqueue,
            _ => Wake::Nothing,
        }
    }

    /// Asks for the future to be dropped by its CPU, which the wake calls.
    pub fn abort(&self, generation: u32) -> Wake {
        match self.set(generation, READY | ABORT) {
            Some(word) if word & READY == 0 => Wake::Enqueue,
            _ => Wake::Nothing,
        }
    }

    /// As [`State::abort`] for a driver. True if its bit is to be marked.
    pub fn abort_driver(&self, generation: u32) -> bool {
        self.set(generation, ABORT).is_some()
    }

    /// The caller has taken the task from its queue: takes it out of "ready". What was written before a wake is visible.
    pub fn start(&self) -> Start {
        let word = self.0.fetch_and(!READY, AcqRel);
        if word & (COMPLETE | ABORT) == 0 {
            Start::Poll
        } else if word & COMPLETE == 0 {
            Start::Abort
        } else {
            Start::Ended
        }
    }

    /// As [`State::start`] for a driver, whose wakes stand in its CPU's bitmap. `None`: the bit was another's, who is gone.
    pub fn start_driver(&self) -> Option<Start> {
        match self.0.load(Acquire) & (LIVE | COMPLETE | ABORT) {
            LIVE => Some(Start::Poll),
            word if word == LIVE | ABORT => Some(Start::Abort),
            _ => None,
        }
    }

    /// Whether a wake has come since the poll began. By the poller.
    pub fn is_woken(&self) -> bool {
        self.0.load(Acquire) & READY != 0
    }

    /// Whether the task is to be aborted.
    pub fn is_aborted(&self) -> bool {
        self.0.load(Acquire) & ABORT != 0
    }

    /// The slot's generation.
    pub fn generation(&self) -> u32 {
        generation_of(self.0.load(Relaxed))
    }

    /// The future is gone.
    pub fn complete(&self) -> Completed {
        let mut word = self.0.load(Relaxed);
        loop {
            let queued = word & READY != 0;
            let wake_foreign = word & FOREIGN != 0;
            let released = !queued && !wake_foreign;
            let new = word | COMPLETE | if released { RELEASED } else { 0 };
            match self.0.compare_exchange_weak(word, new, AcqRel, Relaxed) {
                Ok(_) => {
                    return Completed {
                        wake_joiner: word & JOINER != 0,
                        wake_foreign,
                        queued,
                        free: released && word & HANDLE == 0,
                    };
                }
                Err(now) => word = now,
            }
        }
    }

    /// No queue holds the ended task and its completer is done. True if the handle went meanwhile and the slot is to be
    /// freed.
    pub fn release(&self) -> bool {
        self.0.fetch_or(RELEASED, AcqRel) & HANDLE == 0
    }

    /// The joiner's number has been stored: from here on the completer wakes it, unless the task has ended.
    pub fn leave_joiner(&self) -> Ended {
        ended(self.0.fetch_or(JOINER, AcqRel))
    }

    /// Takes the foreign joiner's place back for the handle, unless the task has ended.
    pub fn withdraw_foreign(&self) -> Ended {
        self.foreign(|word| word & !FOREIGN)
    }

    /// Leaves the waker in the foreign joiner's place to the completer, unless the task has ended.
    pub fn leave_foreign(&self) -> Ended {
        self.foreign(|word| word | FOREIGN)
    }

    fn foreign(&self, change: impl Fn(u64) -> u64) -> Ended {
        let mut word = self.0.load(Acquire);
        loop {
            let (new, state) = (change(word), ended(word));
            if state != Ended::No || new == word {
                return state;
            }
            match self.0.compare_exchange_weak(word, new, AcqRel, Acquire) {
                Ok(_) => return Ended::No,
                Err(now) => word = now,
            }
        }
    }

    /// The handle goes away. True if the slot is to be freed by the caller.
    pub fn drop_handle(&self) -> bool {
        self.0.fetch_and(!HANDLE, AcqRel) & RELEASED != 0
    }

    /// Whether the task has ended; if so its output is visible.
    pub fn ended(&self) -> Ended {
        ended(self.0.load(Acquire))
    }

    /// Generation and activity, if the slot holds a task. That it is being polled is known elsewhere.
    pub fn snapshot(&self) -> Option<(u32, Activity)> {
        let word = self.0.load(Acquire);
        if word & LIVE == 0 {
            return None;
        }
        let activity = if word & COMPLETE != 0 {
            Activity::Finished
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
