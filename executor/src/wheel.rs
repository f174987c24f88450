//! The timer wheel of one CPU: O(1) to insert and to cancel, exact, and silent until something is due.
//!
//! Six levels of 64 slots. A slot of level 0 spans 2^16 ns, one of level n 2^(16+6n). An entry goes to the level of the
//! highest bit in which its deadline differs from the wheel's own time, so that everything on a level comes before
//! everything on the next, and every slot of a level before those to its right. A bitmap per level finds the first
//! occupied slot, and each slot remembers the least deadline put into it: that is the next event, exactly. (After a cancel
//! it may be too small: one needless look, never a late one.)
//!
//! No interrupt is ever spent on moving entries down. When the wheel is advanced, for an event or for none, whatever
//! stands in a slot that has begun is either due or finds its place again relative to the new time.
//!
//! The wheel belongs to its CPU, which works on it in task context, without a lock. That is possible because entries stand
//! in a type-stable slab and not in the futures that wait: a future that is dropped on another CPU says so in the entry's
//! state word, leaves the entry in the wheel's mailbox and is gone. The word decides between firing and cancelling.
//!
//! | bits of the word | meaning |
//! |---|---|
//! | 63..32 | generation: a future whose generation has passed has fired |
//! | `ARMED` | the entry is in a wheel and a future waits for it |
//! | `CANCELLED` | it is in a wheel or was, and in its mailbox or on the way there |
//! | `FOREIGN` | what is to be woken is a waker of another kind |

use core::task::Waker;

use crate::{
    prim::{
        AtomicU32, AtomicU64, ExclusiveCell,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
        OwnedU32, OwnedU64,
    },
    slab::{Slab, Slot},
    task::NONE,
};

const LEVELS: usize = if cfg!(loom) { 2 } else { 6 };
const BITS: u32 = 6;
const GRAIN: u32 = 16;
/// Beyond this many nanoseconds from now (52 days) entries wait in the last slot and are looked at again.
const SPAN: u64 = 1 << (GRAIN + BITS * LEVELS as u32);

const ARMED: u64 = 1 << 0;
const CANCELLED: u64 = 1 << 1;
const FOREIGN: u64 = 1 << 2;

/// Places of an entry: a slot of a level is `level << 8 | index`.
const NOWHERE: u32 = u32::MAX;
const DUE: u32 = u32::MAX - 1;

/// An entry.
#[repr(align(64))]
pub struct Entry {
    state: AtomicU64,
    deadline: OwnedU64,
    /// The number of the waker.
    number: OwnedU64,
    slot: u32,
    place: OwnedU32,
    next: OwnedU32,
    previous: OwnedU32,
    /// The mailbox's link.
    pub mail: AtomicU32,
    foreign: ExclusiveCell<Option<Waker>>,
}

/// Who is to be woken.
pub enum Sleeper {
    /// A waker of this executor, by number.
    Number(u64),
    /// Another.
    Foreign(Waker),
}

/// What a future finds of its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// It waits.
    Waiting,
    /// It has fired.
    Fired,
}

impl Slot for Entry {
    type Rest = ();
    type Ref<'a> = &'a Self;

    fn new(slot: u32) -> (Self, ()) {
        let entry = Self {
            state: AtomicU64::new(0),
            deadline: OwnedU64::new(0),
            number: OwnedU64::new(0),
            slot,
            place: OwnedU32::new(NOWHERE),
            next: OwnedU32::new(NONE),
            previous: OwnedU32::new(NONE),
            mail: AtomicU32::new(NONE),
            foreign: ExclusiveCell::new(None),
        };
        (entry, ())
    }

    #[inline]
    #[expect(unsafe_code, reason = "as the slab demands")]
    unsafe fn at<'a>(_: u32, slot: core::ptr::NonNull<Self>) -> &'a Self
    where
        Self: 'a,
    {
        // SAFETY: by this function's contract; shared by reference only.
        unsafe { slot.as_ref() }
    }

    #[inline]
    fn number(slot: &Self) -> u32 {
        slot.slot
    }

    #[inline]
    fn link<'a>(slot: &'a Self) -> &'a OwnedU32
    where
        Self: 'a,
    {
        &slot.next
    }
}

// SAFETY: everything shared is an atomic, except `foreign`, whose accessors the state word appoints.
#[expect(unsafe_code, reason = "a cell that the state word appoints the users of")]
unsafe impl Sync for Entry {}

const fn armed(generation: u32) -> u64 {
    (generation as u64) << 32 | ARMED
}

impl Entry {
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// Makes the free entry one that waits for `deadline`; its generation. By the entry's owner, who inserts it next.
    #[inline]
    pub fn arm(&self, deadline: u64, sleeper: Sleeper) -> u32 {
        let generation = (self.state.load(Relaxed) >> 32) as u32;
        self.deadline.set(deadline);
        let kind = match sleeper {
            Sleeper::Number(number) => {
                self.number.set(number);
                0
            }
            Sleeper::Foreign(waker) => {
                self.replace_foreign(Some(waker));
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
    pub fn look(&self, generation: u32) -> Look {
        if (self.state.load(Acquire) >> 32) as u32 == generation {
            Look::Waiting
        } else {
            Look::Fired
        }
    }

    /// Whether what is woken is the waker of this number. By the future, while the entry waits.
    #[inline]
    pub fn wakes(&self, number: u64) -> bool {
        self.state.load(Relaxed) & FOREIGN == 0 && self.number.get() == number
    }

    /// Whether what is woken is a waker of another kind. By the future, while the entry waits.
    pub fn is_foreign(&self) -> bool {
        self.state.load(Relaxed) & FOREIGN != 0
    }

    /// Has another waker woken, by number. [`Look::Fired`] if it is too late.
    pub fn rearm(&self, generation: u32, number: u64) -> Look {
        self.number.set(number);
        // A read-modify-write, so that either who fires sees the number, or this sees that it has fired.
        match self
            .state
            .compare_exchange(armed(generation), armed(generation), AcqRel, Acquire)
        {
            Ok(_) => Look::Waiting,
            Err(_) => Look::Fired,
        }
    }

    /// Ends the wait in favour of firing; what to wake. `None` if it was cancelled: the mailbox has it. The entry is out of
    /// the wheel; with `Some` it is the caller's.
    #[inline]
    pub fn fire(&self) -> Option<Sleeper> {
        let word = self.state.load(Relaxed);
        if word & ARMED == 0 {
            return None;
        }
        let next = (word >> 32).wrapping_add(1) << 32;
        self.state.compare_exchange(word, next, AcqRel, Relaxed).ok()?;
        if word & FOREIGN == 0 {
            // Read after the exchange: see `rearm`.
            return Some(Sleeper::Number(self.number.get()));
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

struct Bucket {
    head: OwnedU32,
    least: OwnedU64,
}

/// The wheel.
pub struct Wheel {
    /// Everything in the slots was placed relative to this time.
    now: OwnedU64,
    occupied: [OwnedU64; LEVELS],
    buckets: [[Bucket; 64]; LEVELS],
    due: OwnedU32,
    length: OwnedU64,
}

impl Wheel {
    pub const fn new() -> Self {
        Self {
            now: OwnedU64::new(0),
            occupied: [const { OwnedU64::new(0) }; LEVELS],
            buckets: [const {
                [const {
                    Bucket {
                        head: OwnedU32::new(NONE),
                        least: OwnedU64::new(u64::MAX),
                    }
                }; 64]
            }; LEVELS],
            due: OwnedU32::new(NONE),
            length: OwnedU64::new(0),
        }
    }

    /// Entries in the wheel, the due ones that were not taken yet included.
    pub fn len(&self) -> usize {
        self.length.get() as usize
    }

    /// Inserts an entry that is in no wheel.
    #[inline]
    pub fn insert(&self, slab: &Slab<Entry>, entry: &Entry) {
        self.length.add(1);
        self.put(slab, entry);
    }

    /// Takes an entry out, if it is in; it stays the caller's to free.
    #[inline]
    pub fn remove(&self, slab: &Slab<Entry>, entry: &Entry) {
        if entry.place.get() != NOWHERE {
            self.unlink(slab, entry);
            self.length.set(self.length.get().wrapping_sub(1));
        }
    }

    /// No later than the next deadline, and exactly that unless entries were cancelled.
    pub fn next_event(&self) -> Option<u64> {
        if self.due.get() != NONE {
            return Some(self.now.get());
        }
        let level = self.occupied.iter().position(|bits| bits.get() != 0)?;
        let first = self.occupied[level].get().trailing_zeros() as usize;
        Some(self.buckets[level][first].least.get())
    }

    /// Brings the wheel to `now`: what is due can then be taken.
    pub fn advance(&self, slab: &Slab<Entry>, now: u64) {
        let before = self.now.get();
        if now <= before {
            return;
        }
        self.now.set(now);
        for level in 0..LEVELS {
            let shift = GRAIN + BITS * level as u32;
            let whole = before >> (shift + BITS) != now >> (shift + BITS);
            // The slots of this level that have begun by `now`: all of them, once the block above has changed.
            let begun = if whole {
                u64::MAX
            } else {
                u64::MAX >> (63 - (now >> shift & 63))
            };
            let mut take = self.occupied[level].get() & begun;
            while take != 0 {
                let index = take.trailing_zeros() as usize;
                take &= take - 1;
                self.empty(slab, level, index);
            }
            if !whole {
                // Nothing above has begun anew.
                break;
            }
        }
    }

    /// Places a slot's entries anew.
    fn empty(&self, slab: &Slab<Entry>, level: usize, index: usize) {
        let bucket = &self.buckets[level][index];
        let mut next = bucket.head.get();
        bucket.head.set(NONE);
        bucket.least.set(u64::MAX);
        let occupied = &self.occupied[level];
        occupied.set(occupied.get() & !(1 << index));
        while let Some(entry) = slab.get(next) {
            next = entry.next.get();
            self.put(slab, entry);
        }
    }

    /// One entry whose time has come; it is no longer in the wheel.
    #[inline]
    pub fn take_due<'a>(&self, slab: &'a Slab<Entry>) -> Option<&'a Entry> {
        let entry = slab.get(self.due.get())?;
        self.remove(slab, entry);
        Some(entry)
    }

    #[inline]
    fn put(&self, slab: &Slab<Entry>, entry: &Entry) {
        let (deadline, now) = (entry.deadline.get(), self.now.get());
        if deadline <= now {
            Self::link(slab, entry, &self.due, DUE);
            return;
        }
        // What lies beyond the last level's block waits at that block's end.
        let key = deadline.min(now | (SPAN - 1));
        let differing = (key ^ now) >> GRAIN;
        let level = (63 - (differing | 1).leading_zeros()) / BITS;
        let index = (key >> (GRAIN + BITS * level) & 63) as usize;
        let bucket = &self.buckets[level as usize][index];
        bucket.least.set(bucket.least.get().min(deadline));
        let occupied = &self.occupied[level as usize];
        occupied.set(occupied.get() | 1 << index);
        Self::link(slab, entry, &bucket.head, level << 8 | index as u32);
    }

    #[inline]
    fn link(slab: &Slab<Entry>, entry: &Entry, head: &OwnedU32, place: u32) {
        let first = head.get();
        if let Some(first) = slab.get(first) {
            first.previous.set(entry.slot);
        }
        entry.next.set(first);
        entry.previous.set(NONE);
        entry.place.set(place);
        head.set(entry.slot);
    }

    #[inline]
    fn unlink(&self, slab: &Slab<Entry>, entry: &Entry) {
        let (next, previous, place) = (entry.next.get(), entry.previous.get(), entry.place.get());
        entry.place.set(NOWHERE);
        if let Some(next) = slab.get(next) {
            next.previous.set(previous);
        }
        if let Some(previous) = slab.get(previous) {
            previous.next.set(next);
            return;
        }
        if place == DUE {
            self.due.set(next);
            return;
        }
        let (level, index) = ((place >> 8) as usize, (place & 63) as usize);
        let Some(bucket) = self.buckets.get(level).map(|level| &level[index]) else {
            return;
        };
        bucket.head.set(next);
        if next == NONE {
            bucket.least.set(u64::MAX);
            let occupied = &self.occupied[level];
            occupied.set(occupied.get() & !(1 << index));
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::{collections::BTreeSet, vec::Vec};

    fn delays() -> impl Strategy<Value = u64> {
        (0u32..60).prop_flat_map(|bits| 0..=1u64 << bits)
    }

    proptest! {
        /// Against an ordered set: fires exactly what is due, when asked; the next event is never late, and is exact as
        /// long as nothing was cancelled.
        #[test]
        fn wheel_matches_model(operations in prop::collection::vec((0u8..5, delays()), 1..120)) {
            let (slab, wheel) = (Slab::<Entry>::new(), Wheel::new());
            let mut model: BTreeSet<(u64, u32)> = BTreeSet::new();
            let mut generations: Vec<(u32, u32)> = Vec::new();
            let (mut now, mut cancelled) = (0u64, false);
            for (operation, amount) in operations {
                match operation {
                    0 | 1 => {
                        let entry = slab.allocate(None).unwrap();
                        let deadline = now.saturating_add(amount);
                        generations.push((entry.slot, entry.arm(deadline, Sleeper::Number(u64::from(entry.slot)))));
                        wheel.insert(&slab, entry);
                        model.insert((deadline, entry.slot));
                    }
                    2 | 3 => {
                        let nth = amount as usize % model.len().max(1);
                        if let Some(&(deadline, slot)) = model.iter().nth(nth) {
                            let entry = slab.get(slot).unwrap();
                            let generation = generations.iter().rev().find(|(of, _)| *of == slot).unwrap().1;
                            prop_assert_eq!(entry.look(generation), Look::Waiting);
                            if operation == 2 {
                                prop_assert!(entry.cancel_here(generation));
                                wheel.remove(&slab, entry);
                            } else {
                                prop_assert!(entry.cancel_elsewhere(generation));
                                prop_assert!(entry.fire().is_none());
                                wheel.remove(&slab, entry);
                                entry.retire();
                            }
                            slab.free(entry, None);
                            prop_assert_eq!(entry.look(generation), Look::Fired);
                            model.remove(&(deadline, slot));
                            cancelled = true;
                        }
                    }
                    _ => {
                        now = now.saturating_add(amount);
                        wheel.advance(&slab, now);
                        let mut got = Vec::new();
                        while let Some(entry) = wheel.take_due(&slab) {
                            prop_assert!(matches!(entry.fire(), Some(Sleeper::Number(n)) if n == u64::from(entry.slot)));
                            got.push(entry.slot);
                        }
                        let mut expected = Vec::new();
                        while let Some(&(deadline, slot)) = model.first() && deadline <= now {
                            expected.push(slot);
                            model.pop_first();
                        }
                        got.sort_unstable();
                        expected.sort_unstable();
                        prop_assert_eq!(&got, &expected);
                        got.iter().for_each(|slot| slab.free(slab.get(*slot).unwrap(), None));
                    }
                }
                prop_assert_eq!(wheel.len(), model.len());
                let next = model.first().map(|(deadline, _)| *deadline);
                let event = wheel.next_event();
                prop_assert_eq!(event.is_some(), next.is_some());
                if let (Some(event), Some(next)) = (event, next) {
                    prop_assert!(event <= next.max(now));
                    prop_assert!(cancelled || event == next.max(now) || next <= now, "{} {}", event, next);
                }
            }
        }
    }
}
