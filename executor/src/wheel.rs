//! The timer wheel of one CPU: O(1) to insert and to cancel, exact, and silent until something is due.
//!
//! Six levels of 64 slots. A slot of level 0 spans 2^16 ns, one of level n 2^(16+6n). A deadline goes to the level of the
//! highest bit in which it differs from the wheel's own time, so that everything on a level comes before everything on the
//! next, and every slot of a level before those to its right. A bitmap per level finds the first occupied slot, and each slot
//! remembers the least deadline put into it: that is the next event, exactly. (After a cancel it may be too small: one
//! needless look, never a late one.)
//!
//! No interrupt is ever spent on moving sleepers down. When the wheel is advanced, for an event or for none, a slot that has
//! passed is due as a whole; what stands in one that has only begun is either due or finds its place again relative to the
//! new time.
//!
//! A slot is a bag of [`Record`](crate::block::Record)s, in blocks: what is due is read from one end of a block to the other, with the entries
//! prefetched, instead of from one entry to the next. Only the first block of a bag has room; the hole that a cancel leaves is
//! filled with the bag's last record, whose [`Entry`] is told. Which one a bag gives first, of those in one slot, is not said.
//!
//! The wheel belongs to its CPU, which works on it in task context, without a lock; see [`crate::entry`] for how others cancel.

use crate::{
    block::{Bag, Block, BlockRef, DUE, RECORDS},
    entry::{Entry, EntryRef},
    platform::Platform,
    prim::{OwnedTime, OwnedU64},
    slab::{Cache, Slab},
    task::NONE,
};

const LEVELS: usize = if cfg!(loom) { 2 } else { 6 };
const BITS: u32 = 6;
const GRAIN: u32 = 16;
/// Bits of an entry's place that are the index in the block.
const INDEX_BITS: u32 = 4;
struct Bucket {
    bag: Bag,
    least: OwnedTime,
}

/// Where the wheel's memory is: shared by all CPUs, but for the caller's cache.
#[derive(Clone, Copy)]
pub struct Memory<'a> {
    pub entries: &'a Slab<Entry>,
    pub blocks: &'a Slab<Block>,
    pub cache: Option<&'a Cache>,
}

/// The wheel.
pub struct Wheel {
    /// Everything in the slots was placed relative to this time.
    now: OwnedU64,
    occupied: [OwnedU64; LEVELS],
    buckets: [[Bucket; 64]; LEVELS],
    /// What has passed, the earliest slot first.
    due: Bag,
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
                        bag: Bag::new(),
                        least: OwnedTime::never(),
                    }
                }; 64]
            }; LEVELS],
            due: Bag::new(),
            length: OwnedU64::new(0),
        }
    }

    /// Sleepers in the wheel, the due ones that were not taken yet included.
    pub fn len(&self) -> usize {
        self.length.get() as usize
    }

    /// Inserts a sleeper: its entry, which is in no wheel, and whom to wake. False if there is no memory.
    #[inline]
    pub fn insert(&self, memory: Memory<'_>, entry: EntryRef<'_>, deadline: u64, number: u64) -> bool {
        let inserted = self.put(memory, entry, deadline, number);
        if inserted {
            self.length.add(1);
        }
        inserted
    }

    /// Has the sleeper whose entry this is wake another waker of this executor. It is in the wheel.
    pub fn renumber(&self, memory: Memory<'_>, entry: &Entry, number: u64) {
        if let Some((block, index)) = find(memory, entry) {
            block.records[index].number.set(number);
        }
    }

    /// Takes a sleeper out by its entry, if it is in; the entry stays the caller's to free.
    #[inline]
    pub fn remove(&self, memory: Memory<'_>, entry: &Entry) {
        let Some((block, index)) = find(memory, entry) else {
            return;
        };
        entry.place.set(NONE);
        // Blocks of a slot that has passed keep its number; and what has passed is nowhere but in what is due.
        let passed = block.records[index].deadline.get() <= self.now.get();
        let number = if passed { DUE } else { block.bag.get() };
        let head = self.bag(number).head.get();
        let first = if head == block.number {
            block
        } else {
            let Some(first) = memory.blocks.get(head) else { return };
            first
        };
        let last = first.count.get().wrapping_sub(1);
        let Some(moved) = first.records.get(last as usize) else {
            return;
        };
        if (block.number, index) != (first.number, last as usize) {
            block.records[index].copy(moved);
            if number == DUE {
                // What is moved may be there for want of memory, and not have passed.
                block.bag.set(DUE);
            }
            if let Some(other) = memory.entries.get(moved.entry.get()) {
                other.place.set(block.number << INDEX_BITS | index as u32);
            }
        }
        first.count.set(last);
        if last == 0 {
            self.drop_block(memory, number, first);
        }
        self.length.set(self.length.get().wrapping_sub(1));
    }

    /// The first block of the bag of this number is empty.
    fn drop_block(&self, memory: Memory<'_>, number: u32, first: BlockRef<'_>) {
        let next = first.next.get();
        self.bag(number).head.set(next);
        memory.blocks.free(first, memory.cache);
        if next == NONE && number != DUE {
            let (level, index) = ((number >> BITS) as usize, number & 63);
            if let Some(bucket) = self.buckets.get(level).map(|level| &level[index as usize]) {
                bucket.least.set(u64::MAX);
                let occupied = &self.occupied[level];
                occupied.set(occupied.get() & !(1 << index));
            }
        }
    }

    /// The bag of a number.
    #[inline]
    fn bag(&self, number: u32) -> &Bag {
        self.buckets
            .get((number >> BITS) as usize)
            .map_or(&self.due, |level| &level[(number & 63) as usize].bag)
    }

    /// No later than the next deadline, and exactly that unless some were cancelled.
    pub fn next_event(&self) -> Option<u64> {
        if self.due.head.get() != NONE {
            return Some(self.now.get());
        }
        let level = self.occupied.iter().position(|bits| bits.get() != 0)?;
        let first = self.occupied[level].get().trailing_zeros() as usize;
        Some(self.buckets[level][first].least.get())
    }

    /// Brings the wheel to `now`: what is due can then be taken. If memory is short for what only moves within the wheel, some
    /// of that can be taken too, although it is not due: who sleeps looks at the clock.
    pub fn advance(&self, memory: Memory<'_>, now: u64) {
        let before = self.now.get();
        if now <= before {
            return;
        }
        self.now.set(now);
        for level in 0..LEVELS {
            let shift = GRAIN + BITS * level as u32;
            let whole = before >> (shift + BITS) != now >> (shift + BITS);
            // The slots of this level that have begun by `now`: all of them, once the block above has changed.
            let current = now >> shift & 63;
            let begun = if whole { u64::MAX } else { u64::MAX >> (63 - current) };
            let mut take = self.occupied[level].get() & begun;
            while take != 0 {
                let index = take.trailing_zeros() as usize;
                take &= take - 1;
                // In the last slot of the last level stands what lies beyond it, too.
                let passed = (whole || (index as u64) < current) && level < LEVELS - 1;
                self.empty(memory, level, index, passed);
            }
            if !whole {
                // Nothing above has begun anew.
                break;
            }
        }
    }

    /// Takes everything out of a slot: what has passed is due, the rest finds its place anew.
    fn empty(&self, memory: Memory<'_>, level: usize, index: usize, passed: bool) {
        let bucket = &self.buckets[level][index];
        let (first, last) = (bucket.bag.head.get(), bucket.bag.tail.get());
        bucket.bag.head.set(NONE);
        bucket.least.set(u64::MAX);
        let occupied = &self.occupied[level];
        occupied.set(occupied.get() & !(1 << index));
        if passed {
            match memory.blocks.get(self.due.tail.get()) {
                Some(tail) if self.due.head.get() != NONE => tail.next.set(first),
                _ => self.due.head.set(first),
            }
            self.due.tail.set(last);
            return;
        }
        let mut number = first;
        while let Some(block) = memory.blocks.get(number) {
            number = block.next.get();
            // All due, as the one sleeper of a slot is: the block goes as it is.
            let now = self.now.get();
            let mut records = block.records.iter().take(block.count.get() as usize);
            if records.all(|record| record.deadline.get() <= now) || !self.spread(memory, block) {
                block.bag.set(DUE);
                self.due.prepend(block);
            }
        }
    }

    /// Places the records of a block that is in no bag anew. False if memory is short: those that are left are in the block.
    fn spread(&self, memory: Memory<'_>, block: BlockRef<'_>) -> bool {
        while let Some(record) = block.records.get(block.count.get().wrapping_sub(1) as usize) {
            if let Some(entry) = memory.entries.get(record.entry.get())
                && !self.put(memory, entry, record.deadline.get(), record.number.get())
            {
                return false;
            }
            block.count.set(block.count.get() - 1);
        }
        memory.blocks.free(block, memory.cache);
        true
    }

    /// One sleeper whose time has come: its entry, and its waker's number. It is no longer in the wheel.
    #[inline]
    pub fn take_due<P: Platform>(&self, memory: Memory<'_>) -> Option<(u32, u64)> {
        let first = memory.blocks.get(self.due.head.get())?;
        let left = first.count.get().wrapping_sub(1);
        let record = first.records.get(left as usize)?;
        let taken = (record.entry.get(), record.number.get());
        if let Some(entry) = memory.entries.get(taken.0) {
            entry.place.set(NONE);
        }
        first.count.set(left);
        if left == 0 {
            self.look_ahead::<P>(memory, first);
            self.drop_block(memory, DUE, first);
        }
        self.length.set(self.length.get().wrapping_sub(1));
        Some(taken)
    }

    /// Prefetches the entries of the block after the next, and the block after that.
    fn look_ahead<P: Platform>(&self, memory: Memory<'_>, first: BlockRef<'_>) {
        let next = memory.blocks.get(first.next.get());
        let Some(ahead) = next.and_then(|next| memory.blocks.get(next.next.get())) else {
            return;
        };
        for record in &ahead.records {
            if let Some(entry) = memory.entries.get(record.entry.get()) {
                P::prefetch::<Entry>(&entry);
            }
        }
        if let Some(block) = memory.blocks.get(ahead.next.get()) {
            P::prefetch::<Block>(&block);
            P::prefetch(&block.records[3]);
            P::prefetch(&block.records[6]);
            P::prefetch(&block.records[9]);
        }
    }

    #[inline(always)]
    fn put(&self, memory: Memory<'_>, entry: EntryRef<'_>, deadline: u64, number: u64) -> bool {
        let now = self.now.get();
        if deadline <= now {
            return Self::push(memory, &self.due, DUE, entry, deadline, number);
        }
        let differing = (deadline ^ now) >> GRAIN;
        let level = (63 - (differing | 1).leading_zeros()) / BITS;
        let (level, index) = if level < LEVELS as u32 {
            (level, (deadline >> (GRAIN + BITS * level) & 63) as u32)
        } else {
            // Beyond the last level's block: until that ends.
            (LEVELS as u32 - 1, 63)
        };
        let bucket = &self.buckets[level as usize][index as usize];
        if !Self::push(memory, &bucket.bag, level << BITS | index, entry, deadline, number) {
            return false;
        }
        bucket.least.set(bucket.least.get().min(deadline));
        let occupied = &self.occupied[level as usize];
        occupied.set(occupied.get() | 1 << index);
        true
    }

    #[inline(always)]
    fn push(memory: Memory<'_>, bag: &Bag, of: u32, entry: EntryRef<'_>, deadline: u64, number: u64) -> bool {
        let block = match memory.blocks.get(bag.head.get()) {
            Some(first) if first.count.get() < RECORDS => first,
            _ => {
                let Some(block) = memory.blocks.allocate(memory.cache) else {
                    return false;
                };
                block.bag.set(of);
                block.count.set(0);
                bag.prepend(block);
                block
            }
        };
        let index = block.count.get();
        let Some(record) = block.records.get(index as usize) else {
            return false;
        };
        record.deadline.set(deadline);
        record.number.set(number);
        record.entry.set(entry.number);
        block.count.set(index + 1);
        entry.place.set(block.number << INDEX_BITS | index);
        true
    }
}

/// Where the record of an entry stands.
#[inline]
fn find<'a>(memory: Memory<'a>, entry: &Entry) -> Option<(BlockRef<'a>, usize)> {
    let place = entry.place.get();
    let index = (place & ((1 << INDEX_BITS) - 1)) as usize;
    let block = memory.blocks.get(place >> INDEX_BITS)?;
    (index < RECORDS as usize && place != NONE).then_some((block, index))
}

#[cfg(all(test, not(loom)))]
mod tests {
    extern crate std;
    use super::*;
    use crate::{entry::Sleeper, host::Host};
    use proptest::prelude::*;
    use std::{collections::BTreeSet, vec::Vec};

    fn delays() -> impl Strategy<Value = u64> {
        (0u32..60).prop_flat_map(|bits| 0..=1u64 << bits)
    }

    proptest! {
        /// Against an ordered set: fires exactly what is due, when asked; the next event is never late, and is exact as
        /// long as nothing was cancelled. Sleepers come alone or many at once, to fill blocks.
        #[test]
        fn wheel_matches_model(operations in prop::collection::vec((0u8..5, delays()), 1..120)) {
            let (entries, blocks, wheel) = (Slab::<Entry>::new(), Slab::<Block>::new(), Wheel::new());
            let memory = Memory { entries: &entries, blocks: &blocks, cache: None };
            let mut model: BTreeSet<(u64, u32, u32)> = BTreeSet::new();
            let (mut now, mut cancelled) = (0u64, false);
            for (operation, amount) in operations {
                match operation {
                    0 | 1 => {
                        for n in 0..if operation == 0 { 1 } else { amount % 32 } {
                            let entry = entries.allocate(None).unwrap();
                            let deadline = now.saturating_add(amount).saturating_add(n << (amount % 20));
                            prop_assert!(wheel.insert(memory, entry, deadline, 1));
                            wheel.renumber(memory, &entry, u64::from(entry.number));
                            model.insert((deadline, entry.number, entry.arm(None)));
                        }
                    }
                    2 | 3 => {
                        let nth = amount as usize % model.len().max(1);
                        let Some(&(deadline, number, generation)) = model.iter().nth(nth) else { continue };
                        let entry = entries.get(number).unwrap();
                        prop_assert!(entry.is_waiting(generation));
                        if operation == 2 {
                            prop_assert!(entry.cancel_here(generation));
                            wheel.remove(memory, &entry);
                        } else {
                            prop_assert!(entry.cancel_elsewhere(generation));
                            prop_assert!(entry.fire(0).is_none());
                            wheel.remove(memory, &entry);
                            entry.retire();
                        }
                        entries.free(entry, None);
                        prop_assert!(!entry.is_waiting(generation));
                        model.remove(&(deadline, number, generation));
                        cancelled = true;
                    }
                    _ => {
                        now = now.saturating_add(amount);
                        wheel.advance(memory, now);
                        let mut got = Vec::new();
                        while let Some((number, waker)) = wheel.take_due::<Host>(memory) {
                            let entry = entries.get(number).unwrap();
                            prop_assert!(matches!(entry.fire(waker), Some(Sleeper::Number(n)) if n == u64::from(number)));
                            got.push(number);
                        }
                        let mut expected = Vec::new();
                        while let Some(&(deadline, number, _)) = model.first() && deadline <= now {
                            expected.push(number);
                            model.pop_first();
                        }
                        got.sort_unstable();
                        expected.sort_unstable();
                        prop_assert_eq!(&got, &expected);
                        got.iter().for_each(|number| entries.free(entries.get(*number).unwrap(), None));
                    }
                }
                prop_assert_eq!(wheel.len(), model.len());
                let next = model.first().map(|(deadline, ..)| *deadline);
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
