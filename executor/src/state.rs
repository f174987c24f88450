//! A task's state: one atomic word (invariant I4), and, of a task that stays on its CPU, one mark of that CPU's own.
//!
//! | bits | meaning |
//! |---|---|
//! | 63..32 | generation of the slot: a word of another generation belongs to another task |
//! | `READY` | a wake from elsewhere that no poll has answered |
//! | `LINKED` | the task stands in its CPU's inbox, or is on its way there; of a user task: in its run queue as well |
//! | `COMPLETE` | the future is gone; the output, if any, is in its place |
//! | `ABORT` | the next CPU to take the task drops the future instead of polling it |
//! | `HANDLE` | a join handle exists |
//! | `JOINER` | the handle has left the number of a waker of this executor |
//! | `FOREIGN` | the handle has left a waker of another kind; from `COMPLETE` on it is the completer's |
//! | `RELEASED` | no queue holds the task, and the completer will not touch it again |
//! | `LIVE` | the slot holds a task |
//!
//! A wake from elsewhere (another CPU, an interrupt) sets `READY` and `LINKED`; whoever makes `LINKED` appear puts the task
//! into the inbox of its home CPU. From there on its two kinds differ.
//!
//! - A *user task* may be taken by another CPU whenever it stands in a queue and is not being polled. It keeps both bits
//!   until it is taken to be polled ([`State::start`]): one queue, one poller. Woken during its poll it stays where that
//!   poll can see it.
//! - A task of the timer or service class stays on its CPU. A wake in task context on that CPU needs no atomic operation
//!   at all: it marks the task ([`Head`](crate::task::Head)) and puts the task into the CPU's list. The inbox
//!   has a link of its own, so that neither side waits for the other. Emptying the inbox takes `LINKED` away and puts the
//!   task into the list unless it is marked already; polling takes the mark away, and `READY` if it is there. A wake from
//!   elsewhere that a poll has answered before its link was taken from the inbox has no further effect. So it is polled
//!   once for all the wakes that came before.
//!
//! Drivers stand in their CPU's bitmap instead of a queue. Neither bit is ever set for them, and a poll changes nothing
//! here.
//!
//! A task that ends while it is linked or marked is released by who takes it from there. The slot is freed by whoever makes
//! the later of "`RELEASED` set" and "`HANDLE` cleared" happen.

use crate::prim::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
    const_fn,
};

const READY: u64 = 1 << 0;
const LINKED: u64 = 1 << 1;
const COMPLETE: u64 = 1 << 2;
const ABORT: u64 = 1 << 3;
const HANDLE: u64 = 1 << 4;
const JOINER: u64 = 1 << 5;
const FOREIGN: u64 = 1 << 6;
const RELEASED: u64 = 1 << 7;
const LIVE: u64 = 1 << 8;

const fn generation_of(word: u64) -> u32 {
    (word >> 32) as u32
}

/// The word of a free slot, after that of its last task.
const fn retired(word: u64) -> u64 {
    ((word >> 32) + 1) << 32
}

/// The word.
pub struct State(AtomicU64);

/// What a wake has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Put the task into the inbox: its link is the waker's.
    Link,
    /// Nothing: that is done or not needed, or the task is gone.
    Nothing,
}

/// What a poller may do with a task it took from a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Poll it.
    Poll,
    /// It is to be aborted: drop its future, unless it holds the abort off.
    Abort,
    /// It ended while it was queued. `linked`: it stands in the inbox too, and is released from there.
    Ended {
        /// See above.
        linked: bool,
    },
}

/// What to do with a task from the inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlinked {
    /// Queue it, if it is not queued.
    Queue,
    /// Nothing: a poll has answered the wake.
    Answered,
    /// It has ended; release it, if it is not queued.
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

const fn start(word: u64) -> Start {
    if word & (COMPLETE | ABORT) == 0 {
        Start::Poll
    } else if word & COMPLETE == 0 {
        Start::Abort
    } else {
        Start::Ended {
            linked: word & LINKED != 0,
        }
    }
}

impl State {
    const_fn! {
        pub fn new() -> Self {
            Self(AtomicU64::new(0))
        }
    }

    /// Makes the free slot a task. With `linked` it is woken and the caller puts it into the inbox.
    #[inline]
    pub fn init(&self, linked: bool, handle: bool) {
        let generation = self.0.load(Relaxed) & !u64::from(u32::MAX);
        let ready = if linked { READY | LINKED } else { 0 };
        let handle = if handle { HANDLE } else { 0 };
        self.0.store(generation | LIVE | ready | handle, Release);
    }

    /// Ends the slot's generation; whether the task had ended. The caller owns the slot.
    #[inline]
    pub fn retire(&self) -> bool {
        let word = self.0.load(Relaxed);
        self.0.store(retired(word), Release);
        word & COMPLETE != 0
    }

    /// Sets `bits` in a live task of this generation that has not ended; the word before.
    #[inline]
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

    /// A wake by a waker of this generation, from elsewhere.
    #[inline]
    pub fn wake(&self, generation: u32) -> Wake {
        self.wake_with(generation, READY | LINKED)
    }

    /// Asks for the future to be dropped by its CPU, which the wake calls.
    pub fn abort(&self, generation: u32) -> Wake {
        self.wake_with(generation, READY | LINKED | ABORT)
    }

    #[inline]
    fn wake_with(&self, generation: u32, bits: u64) -> Wake {
        match self.set(generation, bits) {
            Some(word) if word & LINKED == 0 => Wake::Link,
            _ => Wake::Nothing,
        }
    }

    /// As [`State::abort`] for a driver. True if its bit is to be marked.
    pub fn abort_driver(&self, generation: u32) -> bool {
        self.set(generation, ABORT).is_some()
    }

    /// Whether the task of this generation can be woken. By its home CPU, where alone it could end.
    #[inline]
    pub fn is_wakeable(&self, generation: u32) -> bool {
        let word = self.0.load(Relaxed);
        generation_of(word) == generation && word & (LIVE | COMPLETE) == LIVE
    }

    /// A task of the timer or service class comes out of the inbox: its inbox link is free again.
    pub fn unlink(&self) -> Unlinked {
        let word = self.0.fetch_and(!LINKED, AcqRel);
        if word & COMPLETE != 0 {
            Unlinked::Ended
        } else if word & READY == 0 {
            Unlinked::Answered
        } else {
            Unlinked::Queue
        }
    }

    /// The caller has taken a task of the timer or service class from its list, to poll it; its generation. What was
    /// written before a wake is visible.
    #[inline]
    pub fn start(&self) -> (Start, u32) {
        let mut word = self.0.load(Acquire);
        if word & READY != 0 {
            word = self.0.fetch_and(!READY, AcqRel);
        }
        (start(word), generation_of(word))
    }

    /// As [`State::start`] for a user task, which is then in no queue.
    pub fn start_user(&self) -> (Start, u32) {
        let word = self.0.fetch_and(!(READY | LINKED), AcqRel) & !LINKED;
        (start(word), generation_of(word))
    }

    /// As [`State::start`] for a driver, whose wakes stand in its CPU's bitmap. `None`: the bit was another's, who is gone.
    #[inline]
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

    /// As [`State::is_aborted`], with what was written before visible to the poll that an abort asks for later.
    pub fn has_been_aborted(&self) -> bool {
        // Writes nothing, but takes its place among the word's changes: the abort comes before it, or after it and sees it.
        self.0.fetch_or(0, AcqRel) & ABORT != 0
    }

    /// The slot's generation.
    pub fn generation(&self) -> u32 {
        generation_of(self.0.load(Relaxed))
    }

    /// The future is gone, of a task that does not stand in its CPU's list. True if nobody refers to it: then its generation
    /// has ended, and the caller frees the slot. Else nothing has changed.
    #[inline]
    pub fn complete_alone(&self) -> bool {
        let word = self.0.load(Relaxed);
        let alone = word & (LINKED | HANDLE | FOREIGN) == 0;
        alone && self.0.compare_exchange(word, retired(word), AcqRel, Relaxed).is_ok()
    }

    /// The future is gone. `marked` says that the task stands in its CPU's list.
    #[inline]
    pub fn complete(&self, marked: bool) -> Completed {
        let mut word = self.0.load(Relaxed);
        loop {
            let queued = marked || word & LINKED != 0;
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

    /// Whether the handle has left the number of a waker. By the handle.
    pub fn has_joiner(&self) -> bool {
        self.0.load(Relaxed) & JOINER != 0
    }

    /// Whether the handle has left a waker of another kind. By the handle.
    pub fn has_foreign(&self) -> bool {
        self.0.load(Relaxed) & FOREIGN != 0
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
