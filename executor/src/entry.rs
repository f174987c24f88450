//! A sleep's entry: what a timer wheel and the future that sleeps have in common.
//!
//! Entries stand in a type-stable slab and not in the futures that wait: a future that is dropped on another CPU than the
//! wheel's says so in the entry's state word, leaves the entry in the wheel's mailbox and is gone. The word decides between
//! firing and cancelling.
//!
//! | bits of the word | meaning |
//! |---|---|
//! | 63..32 | generation: a future whose generation has passed has fired |
//! | `ARMED` | the entry is in a wheel and a future waits for it |
//! | `CANCELLED` | it is in a wheel or was, and in its mailbox or on the way there |
//! | `FOREIGN` | what is to be woken is a waker of another kind, which the entry holds |

use core::task::Waker;

use crate::{
    prim::{
        AtomicU32, AtomicU64, ExclusiveCell,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
        OwnedU32,
    },
    slab::{Found, Whole},
    task::NONE,
};

const ARMED: u64 = 1 << 0;
const CANCELLED: u64 = 1 << 1;
const FOREIGN: u64 = 1 << 2;

/// An entry: two to a cache line.
#[repr(align(32))]
pub struct Entry {
    state: AtomicU64,
    /// Where its record stands in the wheel, or [`NONE`]; while it is free, the link of the free entries. The wheel's CPU's.
    pub place: OwnedU32,
    /// The mailbox's link.
    pub mail: AtomicU32,
    foreign: ExclusiveCell<Option<Waker>>,
}

// SAFETY: everything shared is an atomic, except `foreign`, whose accessors the state word appoints.
#[expect(unsafe_code, reason = "a cell that the state word appoints the users of")]
unsafe impl Sync for Entry {}

/// An entry, found by its number.
pub type EntryRef<'a> = Found<'a, Entry>;

impl Whole for Entry {
    fn new() -> Self {
        Self {
            state: AtomicU64::new(0),
            place: OwnedU32::new(NONE),
            mail: AtomicU32::new(NONE),
            foreign: ExclusiveCell::new(None),
        }
    }

    #[inline]
    fn link(&self) -> &OwnedU32 {
        &self.place
    }
}

/// Who is to be woken.
pub enum Sleeper {
    /// A waker of this executor, by number.
    Number(u64),
    /// Another.
    Foreign(Waker),
}

const fn armed(generation: u32) -> u64 {
    (generation as u64) << 32 | ARMED
}

impl Entry {
    /// Makes the free entry one that waits; its generation. By the entry's owner, who inserts it into a wheel next, or has.
    /// `foreign`: the waker to wake, if it is of another kind.
    #[inline]
    pub fn arm(&self, foreign: Option<Waker>) -> u32 {
        let generation = (self.state.load(Relaxed) >> 32) as u32;
        let kind = match foreign {
            None => 0,
            waker => {
                self.replace_foreign(waker);
                FOREIGN
            }
        };
        self.state.store(armed(generation) | kind, Release);
        generation
    }

    #[expect(unsafe_code, reason = "a cell that the state word appoints the users of")]
    fn replace_foreign(&self, waker: Option<Waker>) -> Option<Waker> {
        // SAFETY: called by the owner of a free entry, by who ended its armed state, and by nobody else.
        unsafe { self.foreign.with(|place| core::mem::replace(place, waker)) }
    }

    /// Whether it still waits. By the future.
    #[inline]
    pub fn is_waiting(&self, generation: u32) -> bool {
        (self.state.load(Acquire) >> 32) as u32 == generation
    }

    /// Ends the wait in favour of firing; what to wake, by `number` if it is a waker of this executor. `None` if it was
    /// cancelled: the mailbox has it. The entry is out of the wheel; with `Some` it is the caller's.
    #[inline]
    pub fn fire(&self, number: u64) -> Option<Sleeper> {
        let word = self.state.load(Relaxed);
        if word & ARMED == 0 {
            return None;
        }
        let next = (word >> 32).wrapping_add(1) << 32;
        self.state.compare_exchange(word, next, AcqRel, Relaxed).ok()?;
        if word & FOREIGN == 0 {
            return Some(Sleeper::Number(number));
        }
        self.replace_foreign(None).map(Sleeper::Foreign)
    }

    /// Ends the wait in favour of cancelling, by the future, on the wheel's own CPU: no firing can come between. True if
    /// the entry is to be taken out of the wheel, and is then the caller's.
    #[inline]
    pub fn cancel_here(&self, generation: u32) -> bool {
        let word = self.state.load(Relaxed);
        if (word >> 32) as u32 != generation {
            return false;
        }
        self.state.store((word >> 32).wrapping_add(1) << 32, Release);
        if word & FOREIGN != 0 {
            drop(self.replace_foreign(None));
        }
        true
    }

    /// As [`Entry::cancel_here`], on another CPU or in another context. True if the entry is to be put into the mailbox.
    pub fn cancel_elsewhere(&self, generation: u32) -> bool {
        let mut word = self.state.load(Relaxed);
        loop {
            if (word >> 32) as u32 != generation {
                return false;
            }
            let cancelled = word & !(ARMED | FOREIGN) | CANCELLED;
            match self.state.compare_exchange_weak(word, cancelled, AcqRel, Relaxed) {
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        if word & FOREIGN != 0 {
            drop(self.replace_foreign(None));
        }
        true
    }

    /// Ends the generation of a cancelled entry that is out of wheel and mailbox.
    pub fn retire(&self) {
        let generation = (self.state.load(Relaxed) >> 32).wrapping_add(1);
        self.state.store(generation << 32, Release);
    }
}
