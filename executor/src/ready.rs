//! A CPU's ready word, its drivers' bitmaps and its inbox: what others may touch of a CPU.
//!
//! One 64-bit word says everything a waker has to know:
//!
//! | bits | meaning |
//! |---|---|
//! | 0..51 | driver n is ready; lower bits go first |
//! | 51..59 | a driver of group n is ready: see [`Group`] |
//! | `TIMER` | the timer fired: look at the wheel |
//! | `INBOX` | tasks were pushed to the inbox |
//! | `POKE` | look for work elsewhere |
//! | `ASLEEP` | the CPU idles, or is about to |
//! | `IN_USER` | the CPU is in user mode, or is about to be; with `ASLEEP`: it has left, see [`crate::retire`] |
//!
//! Beside it each CPU keeps a word of its own, of first-level drivers that were woken on the CPU itself in task context:
//! a wake that costs no atomic operation. A driver that stands in both is polled once.
//!
//! To make something ready is one `fetch_or`. What it returns decides about the interrupt: needed if the CPU was asleep or
//! in user mode *and* no other ready bit was set, because then whoever set the first one sends it. Falling asleep and going
//! to user mode are a compare-exchange from "nothing ready". With sleep in a word of its own a wake could fall between the
//! look and the sleep; in one word it cannot (I6, I8).
//!
//! Drivers beyond the first 51 stand in a second level, eight groups of 512: their bit in the group first, then the group's
//! bit in the word. Every waker does both, also when it finds others' bits set: whoever set those may have been interrupted
//! before it got to the word, and must not hold this one up.
//!
//! The inbox is a transfer stack: producers push with a compare-exchange, the owner takes the whole stack and turns it
//! round, so a producer that is interrupted half-way delays nobody, and there is no re-use problem (ABA).

use crate::{
    prim::{
        AtomicU32, AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
        array, const_fn,
    },
    slab::Slab,
    task::{Head, NONE, Task},
};

/// Drivers whose bits stand in the word itself.
pub const DIRECT: u32 = if cfg!(loom) { 2 } else { 51 };
/// Groups of drivers in the second level.
pub const GROUPS: usize = if cfg!(loom) { 1 } else { 8 };
/// Words of a group.
pub const GROUP_WORDS: usize = if cfg!(loom) { 1 } else { 8 };
/// Drivers of a group.
pub const GROUP_DRIVERS: u32 = if cfg!(loom) { 2 } else { 64 * GROUP_WORDS as u32 };
/// Driver tasks a CPU can have: the first 51 are woken by one atomic operation, the others by two.
pub const DRIVERS_PER_CPU: u32 = DIRECT + GROUPS as u32 * GROUP_DRIVERS;

const FIRST_GROUP: u32 = 51;
/// The bits of the drivers of the first level.
pub const DRIVERS: u64 = (1 << FIRST_GROUP) - 1;
/// The bits of the groups.
pub const GROUP_BITS: u64 = 0xff << FIRST_GROUP;
/// See the module's table.
pub const TIMER: u64 = 1 << 59;
/// See the module's table.
pub const INBOX: u64 = 1 << 60;
/// See the module's table.
pub const POKE: u64 = 1 << 61;
const ASLEEP: u64 = 1 << 62;
const IN_USER: u64 = 1 << 63;
/// Everything that can be ready.
pub const READY: u64 = DRIVERS | GROUP_BITS | TIMER | INBOX | POKE;

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
    /// The CPU has left for good: its heir is to be called.
    Gone,
    /// The CPU is here.
    NotNeeded,
}

/// The bit of a group in the word.
pub const fn group_bit(group: usize) -> u64 {
    1 << (FIRST_GROUP + group as u32)
}

/// The number of a driver of a group.
pub const fn group_driver(group: usize, index: usize) -> u32 {
    DIRECT + group as u32 * GROUP_DRIVERS + index as u32
}

/// 512 drivers of the second level: who is ready, which numbers are in use, and their slots.
pub struct Group {
    pub ready: [AtomicU64; GROUP_WORDS],
    pub used: [AtomicU64; GROUP_WORDS],
    pub slots: [AtomicU32; GROUP_DRIVERS as usize],
}

impl Group {
    pub fn new() -> Self {
        Self {
            ready: array!(AtomicU64::new(0)),
            used: array!(AtomicU64::new(0)),
            slots: array!(AtomicU32::new(NONE)),
        }
    }
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
        } else if before & (ASLEEP | IN_USER) == ASLEEP | IN_USER {
            Interrupt::Gone
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

    /// Whether the CPU is away, or has said that it goes.
    pub fn is_away(&self) -> bool {
        self.word.load(Relaxed) & (ASLEEP | IN_USER) != 0
    }

    /// Goes away if nothing is ready. Interrupts are masked.
    pub fn leave(&self, to: Away) -> bool {
        self.word.compare_exchange(0, to.bit(), AcqRel, Acquire).is_ok()
    }

    /// Goes away whatever is ready: what is ready already interrupts nobody, what becomes so neither.
    pub fn leave_regardless(&self, to: Away) {
        self.word.fetch_or(to.bit(), AcqRel);
    }

    /// Goes away and does not come back: [`Ready::mark`] then says [`Interrupt::Gone`].
    pub fn leave_for_good(&self) {
        self.word.fetch_or(ASLEEP | IN_USER, AcqRel);
    }

    /// Whether it has gone away for good. If so, all that the CPU did before is visible.
    pub fn has_left(&self) -> bool {
        self.word.load(Acquire) & (ASLEEP | IN_USER) == ASLEEP | IN_USER
    }

    /// Is here again.
    pub fn back(&self, from: Away) {
        self.word.fetch_and(!from.bit(), AcqRel);
    }

    /// Pushes a task whose link is the caller's. [`INBOX`] is to be marked next.
    pub fn push(&self, task: Task<'_>) {
        let mut head = self.inbox.load(Relaxed);
        loop {
            task.inbox_next.store(head, Relaxed);
            match self.inbox.compare_exchange_weak(head, task.slot, Release, Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Takes the inbox whole; the first of the returned list, linked by `inbox_next`, was pushed first. By the owner.
    pub fn take_inbox(&self, slab: &Slab<Head>) -> u32 {
        let mut stack = self.inbox.swap(NONE, Acquire);
        let mut list = NONE;
        while let Some(task) = slab.get(stack) {
            stack = task.inbox_next.load(Relaxed);
            task.inbox_next.store(list, Relaxed);
            list = task.slot;
        }
        list
    }
}
