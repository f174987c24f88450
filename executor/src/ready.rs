//! A CPU's ready word and its inbox: what others may touch of a CPU.
//!
//! One 64-bit word says everything a waker has to know:
//!
//! | bits | meaning |
//! |---|---|
//! | 0..56 | driver n is ready; lower bits go first |
//! | `TIMER` | the timer fired: look at the wheel |
//! | `INBOX` | tasks were pushed to the inbox |
//! | `POKE` | look for work elsewhere |
//! | `ASLEEP` | the CPU idles, or is about to |
//! | `IN_USER` | the CPU is in user mode, or is about to be |
//!
//! To make something ready is one `fetch_or`. What it returns decides about the interrupt: needed if the CPU was asleep or
//! in user mode *and* no other ready bit was set, because then whoever set the first one sends it. Falling asleep and going
//! to user mode are a compare-exchange from "nothing ready". With sleep in a word of its own a wake could fall between the
//! look and the sleep; in one word it cannot (I6, I8).
//!
//! The inbox is a transfer stack: producers push with a compare-exchange, the owner takes the whole stack and turns it
//! round, so a producer that is interrupted half-way delays nobody, and there is no re-use problem (ABA).

use crate::{
    prim::{
        AtomicU32, AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
        const_fn,
    },
    slab::Slab,
    task::{Header, NONE},
};

/// Driver tasks a CPU can have.
pub const DRIVERS_PER_CPU: u32 = 56;
/// The drivers' bits.
pub const DRIVERS: u64 = (1 << DRIVERS_PER_CPU) - 1;
/// See the module's table.
pub const TIMER: u64 = 1 << 56;
/// See the module's table.
pub const INBOX: u64 = 1 << 57;
/// See the module's table.
pub const POKE: u64 = 1 << 58;
const ASLEEP: u64 = 1 << 62;
const IN_USER: u64 = 1 << 63;
const READY: u64 = DRIVERS | TIMER | INBOX | POKE;

/// What a CPU may go away to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Away {
    /// Idle, until an interrupt.
    Asleep,
    /// User mode, until a trap.
    InUser,
}

impl Away {
    const fn bit(self) -> u64 {
        match self {
            Self::Asleep => ASLEEP,
            Self::InUser => IN_USER,
        }
    }
}

/// Whether the maker of a ready bit has to interrupt the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// The CPU is away and nobody else is calling it.
    Needed,
    /// The CPU is away, and whoever made the first bit calls it.
    Underway,
    /// The CPU is here.
    NotNeeded,
}

/// The word and the inbox.
pub struct Ready {
    word: AtomicU64,
    inbox: AtomicU32,
}

impl Ready {
    const_fn! {
        pub fn new() -> Self {
            Self { word: AtomicU64::new(0), inbox: AtomicU32::new(NONE) }
        }
    }

    /// Makes `bits` ready. Lock-free, in any context.
    pub fn mark(&self, bits: u64) -> Interrupt {
        let before = self.word.fetch_or(bits, AcqRel);
        if before & (ASLEEP | IN_USER) == 0 {
            Interrupt::NotNeeded
        } else if before & READY == 0 {
            Interrupt::Needed
        } else {
            Interrupt::Underway
        }
    }

    /// Which of `bits` are ready.
    pub fn peek(&self, bits: u64) -> u64 {
        self.word.load(Acquire) & bits
    }

    /// Takes those of `bits` that are ready. What was written before they were made ready is visible.
    pub fn take(&self, bits: u64) -> u64 {
        if self.word.load(Relaxed) & bits == 0 {
            0
        } else {
            self.word.fetch_and(!bits, AcqRel) & bits
        }
    }

    /// Goes away if nothing is ready. Interrupts are masked.
    pub fn leave(&self, to: Away) -> bool {
        self.word.compare_exchange(0, to.bit(), AcqRel, Acquire).is_ok()
    }

    /// Goes away whatever is ready: what is ready already interrupts nobody, what becomes so neither.
    pub fn leave_regardless(&self, to: Away) {
        self.word.fetch_or(to.bit(), AcqRel);
    }

    /// Is here again.
    pub fn back(&self, from: Away) {
        self.word.fetch_and(!from.bit(), AcqRel);
    }

    /// Pushes a task whose link is the caller's. [`INBOX`] is to be marked next.
    pub fn push(&self, task: &Header) {
        let mut head = self.inbox.load(Relaxed);
        loop {
            task.next.set(head);
            match self.inbox.compare_exchange_weak(head, task.slot, Release, Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Takes the inbox whole; the first of the returned list, linked by `next`, was pushed first. By the owner.
    pub fn take_inbox(&self, slab: &Slab) -> u32 {
        let mut stack = self.inbox.swap(NONE, Acquire);
        let mut list = NONE;
        while let Some(task) = slab.get(stack) {
            stack = task.next.get();
            task.next.set(list);
            list = task.slot;
        }
        list
    }
}
