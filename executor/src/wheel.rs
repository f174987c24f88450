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
//! Entries are intrusive in the futures that wait. A future may be dropped on another CPU than the one whose wheel holds
//! its entry, and its memory is gone when the drop returns; so the wheel stands under its CPU's lock, which only such a
//! stray drop ever contends for. Nobody's waker runs under that lock.

#![expect(unsafe_code, reason = "intrusive entries in pinned futures")]

use core::{cell::UnsafeCell, marker::PhantomPinned, ptr::NonNull, task::Waker};

const LEVELS: usize = if cfg!(loom) { 2 } else { 6 };
const BITS: u32 = 6;
const GRAIN: u32 = 16;
/// Beyond this many nanoseconds from now (52 days) entries wait in the last slot and are looked at again.
const SPAN: u64 = 1 << (GRAIN + BITS * LEVELS as u32);

/// Where an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Nowhere,
    Slot(u8, u8),
    Due,
}

/// An entry: part of a pinned future, touched under its wheel's lock only while it stands in one.
pub struct Entry {
    inner: UnsafeCell<Inner>,
    _pinned: PhantomPinned,
}

struct Inner {
    deadline: u64,
    place: Place,
    waker: Option<Waker>,
    next: Link,
    previous: Link,
}

type Link = Option<NonNull<Entry>>;

// SAFETY: the contents are reached under the wheel's lock, or by the future that owns the entry while it is in no wheel.
unsafe impl Send for Entry {}
// SAFETY: as above.
unsafe impl Sync for Entry {}

impl Entry {
    pub const fn new() -> Self {
        let inner = Inner {
            deadline: 0,
            place: Place::Nowhere,
            waker: None,
            next: None,
            previous: None,
        };
        Self {
            inner: UnsafeCell::new(inner),
            _pinned: PhantomPinned,
        }
    }
}

#[derive(Clone, Copy)]
struct Slot {
    head: Link,
    least: u64,
}

/// The wheel.
pub struct Wheel {
    /// Everything in the slots was placed relative to this time.
    now: u64,
    occupied: [u64; LEVELS],
    slots: [[Slot; 64]; LEVELS],
    due: Link,
    length: usize,
}

// SAFETY: entries stay valid while they are in the wheel (see `insert`), whichever thread works on it.
unsafe impl Send for Wheel {}

fn inner<'a>(entry: NonNull<Entry>) -> &'a mut Inner {
    // SAFETY: called by the wheel's methods only, on entries that are in the wheel or being put there: alive, pinned, and
    // reached under the wheel's lock alone. No two such references are held at once to one entry.
    unsafe { &mut *entry.as_ref().inner.get() }
}

impl Wheel {
    pub const fn new() -> Self {
        const EMPTY: Slot = Slot {
            head: None,
            least: u64::MAX,
        };
        Self {
            now: 0,
            occupied: [0; LEVELS],
            slots: [[EMPTY; 64]; LEVELS],
            due: None,
            length: 0,
        }
    }

    /// Entries in the wheel, the due ones that were not taken yet included.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Inserts an entry that is in no wheel.
    ///
    /// # Safety
    /// The entry is pinned and is not dropped before it was cancelled here or [`Wheel::take_due`] gave out its waker; until
    /// then it is touched by this wheel's methods only.
    pub unsafe fn insert(&mut self, entry: NonNull<Entry>, deadline: u64, waker: Waker) {
        let inner = inner(entry);
        debug_assert_eq!(inner.place, Place::Nowhere);
        inner.deadline = deadline;
        inner.waker = Some(waker);
        self.length += 1;
        self.place(entry);
    }

    /// Whether the entry still waits, and if so lets `waker` be woken; an old waker comes back, to be dropped outside the
    /// lock.
    ///
    /// # Safety
    /// The entry was inserted here, and not in another wheel since.
    pub unsafe fn update(&mut self, entry: NonNull<Entry>, waker: &Waker) -> (bool, Option<Waker>) {
        let inner = inner(entry);
        if inner.place == Place::Nowhere {
            return (false, None);
        }
        match &inner.waker {
            Some(old) if old.will_wake(waker) => (true, None),
            _ => (true, inner.waker.replace(waker.clone())),
        }
    }

    /// Takes the entry out, if it still waits. Its waker is returned to be dropped outside the lock.
    ///
    /// # Safety
    /// As for [`Wheel::update`].
    pub unsafe fn cancel(&mut self, entry: NonNull<Entry>) -> Option<Waker> {
        if inner(entry).place == Place::Nowhere {
            return None;
        }
        self.unlink(entry);
        self.length -= 1;
        inner(entry).waker.take()
    }

    /// No later than the next deadline, and exactly that unless entries were cancelled.
    pub fn next_event(&self) -> Option<u64> {
        if self.due.is_some() {
            return Some(self.now);
        }
        let level = self.occupied.iter().position(|bits| *bits != 0)?;
        Some(self.slots[level][self.occupied[level].trailing_zeros() as usize].least)
    }

    /// Brings the wheel to `now`: what is due can then be taken.
    pub fn advance(&mut self, now: u64) {
        if now <= self.now {
            return;
        }
        let mut moving: Link = None;
        for level in 0..LEVELS {
            let shift = GRAIN + BITS * level as u32;
            // The slots of this level that have begun by `now`: all of them, once the block above has changed.
            let begun = if self.now >> (shift + BITS) != now >> (shift + BITS) {
                u64::MAX
            } else {
                u64::MAX >> (63 - (now >> shift & 63))
            };
            let mut take = self.occupied[level] & begun;
            while take != 0 {
                let index = take.trailing_zeros() as usize;
                take &= take - 1;
                while let Some(entry) = self.slots[level][index].head {
                    self.unlink(entry);
                    inner(entry).next = moving;
                    moving = Some(entry);
                }
            }
        }
        self.now = now;
        while let Some(entry) = moving {
            moving = inner(entry).next.take();
            self.place(entry);
        }
    }

    /// One waker whose time has come; its entry is no longer in the wheel.
    pub fn take_due(&mut self) -> Option<Waker> {
        loop {
            let entry = self.due?;
            self.unlink(entry);
            self.length -= 1;
            if let Some(waker) = inner(entry).waker.take() {
                return Some(waker);
            }
        }
    }

    fn place(&mut self, entry: NonNull<Entry>) {
        let deadline = inner(entry).deadline;
        if deadline <= self.now {
            let head = self.due.replace(entry);
            link(entry, head, Place::Due);
            return;
        }
        // What lies beyond the last level's block waits at that block's end.
        let key = deadline.min(self.now | (SPAN - 1));
        let differing = (key ^ self.now) >> GRAIN;
        let level = (63 - (differing | 1).leading_zeros()) / BITS;
        let index = (key >> (GRAIN + BITS * level) & 63) as usize;
        let level = level as usize;
        let slot = &mut self.slots[level][index];
        slot.least = slot.least.min(deadline);
        self.occupied[level] |= 1 << index;
        let head = slot.head.replace(entry);
        link(entry, head, Place::Slot(level as u8, index as u8));
    }

    fn unlink(&mut self, entry: NonNull<Entry>) {
        let (place, next, previous) = {
            let inner = inner(entry);
            let place = core::mem::replace(&mut inner.place, Place::Nowhere);
            (place, inner.next.take(), inner.previous.take())
        };
        if let Some(next) = next {
            inner(next).previous = previous;
        }
        match (previous, place) {
            (Some(previous), _) => inner(previous).next = next,
            (None, Place::Due) => self.due = next,
            (None, Place::Slot(level, index)) => {
                let slot = &mut self.slots[level as usize][index as usize];
                slot.head = next;
                if next.is_none() {
                    slot.least = u64::MAX;
                    self.occupied[level as usize] &= !(1 << index);
                }
            }
            (None, Place::Nowhere) => {}
        }
    }
}

fn link(entry: NonNull<Entry>, head: Link, place: Place) {
    if let Some(head) = head {
        inner(head).previous = Some(entry);
    }
    let inner = inner(entry);
    inner.next = head;
    inner.previous = None;
    inner.place = place;
}

#[cfg(all(test, not(loom)))]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::{boxed::Box, collections::BTreeMap, pin::Pin, sync::Arc, sync::Mutex, task::Wake, vec::Vec};

    struct Fired(usize, Arc<Mutex<Vec<usize>>>);

    impl Wake for Fired {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0);
        }
    }

    fn delays() -> impl Strategy<Value = u64> {
        (0u32..60).prop_flat_map(|bits| 0..=1u64 << bits)
    }

    proptest! {
        /// Against an ordered map: fires exactly what is due, when asked; the next event is never late, and is exact as
        /// long as nothing was cancelled.
        #[test]
        fn wheel_matches_model(operations in prop::collection::vec((0u8..4, delays()), 1..120)) {
            let mut wheel = Wheel::new();
            let fired = Arc::new(Mutex::new(Vec::new()));
            let mut entries: Vec<Pin<Box<Entry>>> = Vec::new();
            let mut model: BTreeMap<(u64, usize), ()> = BTreeMap::new();
            let (mut now, mut cancelled) = (0u64, false);
            for (operation, amount) in operations {
                match operation {
                    0 | 1 => {
                        let id = entries.len();
                        entries.push(Box::pin(Entry::new()));
                        let waker = Arc::new(Fired(id, fired.clone())).into();
                        let deadline = now.saturating_add(amount);
                        // SAFETY: boxed, and cancelled or fired below before the box goes.
                        unsafe { wheel.insert(NonNull::from(&*entries[id]), deadline, waker) };
                        model.insert((deadline, id), ());
                    }
                    2 => {
                        let nth = amount as usize % model.len().max(1);
                        if let Some(&(deadline, id)) = model.keys().nth(nth) {
                            // SAFETY: inserted above.
                            let waker = unsafe { wheel.cancel(NonNull::from(&*entries[id])) };
                            prop_assert!(waker.is_some());
                            model.remove(&(deadline, id));
                            cancelled = true;
                        }
                    }
                    _ => {
                        now = now.saturating_add(amount);
                        wheel.advance(now);
                        while let Some(waker) = wheel.take_due() {
                            waker.wake();
                        }
                        let mut expected = Vec::new();
                        while let Some((&(deadline, id), ())) = model.first_key_value() && deadline <= now {
                            expected.push(id);
                            model.pop_first();
                        }
                        let mut got = core::mem::take(&mut *fired.lock().unwrap());
                        got.sort_unstable();
                        expected.sort_unstable();
                        prop_assert_eq!(got, expected);
                    }
                }
                prop_assert_eq!(wheel.len(), model.len());
                let next = model.keys().next().map(|(deadline, _)| *deadline);
                let event = wheel.next_event();
                prop_assert_eq!(event.is_some(), next.is_some());
                if let (Some(event), Some(next)) = (event, next) {
                    prop_assert!(event <= next.max(now));
                    prop_assert!(cancelled || event == next.max(now) || next <= now, "{} {}", event, next);
                }
            }
            for entry in &entries {
                // SAFETY: inserted above.
                drop(unsafe { wheel.cancel(NonNull::from(&**entry)) });
            }
        }
    }
}
