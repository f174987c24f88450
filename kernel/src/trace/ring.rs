//! One CPU's ring of records.
//!
//! Written by its own CPU alone, in task context and in interrupts that come in the middle of it: a slot is reserved by one
//! atomic addition, so each writer has its own. No lock, no allocation, no waiting. The oldest record is overwritten.
//! Whoever reads sees a record whole or not at all: its stamp is taken away first and written last.

use alloc::{boxed::Box, vec::Vec};
use core::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};

use crate::{errno::Result, mm::fallible::TryRoomExact};

/// What a record holds: its stamp, which is not 0, and three words.
pub type Words = [u64; 4];

#[derive(Default)]
struct Slot([AtomicU64; 4]);

impl Slot {
    fn clear(&self) {
        self.0[0].store(0, Relaxed);
    }

    fn write(&self, words: Words) {
        let [stamp, values @ ..] = &self.0;
        stamp.store(0, Relaxed);
        // Whoever sees a new value sees that the stamp is gone.
        fence(Release);
        for (to, from) in values.iter().zip(&words[1..]) {
            to.store(*from, Relaxed);
        }
        stamp.store(words[0], Release);
    }

    fn read(&self) -> Option<Words> {
        let stamp = self.0[0].load(Acquire);
        let [_, a, b, c] = &self.0;
        let words = [stamp, a.load(Relaxed), b.load(Relaxed), c.load(Relaxed)];
        fence(Acquire);
        (stamp != 0 && self.0[0].load(Relaxed) == stamp).then_some(words)
    }
}

/// The ring.
pub struct Ring {
    slots: Box<[Slot]>,
    /// Records ever begun.
    begun: AtomicU64,
}

impl Ring {
    /// An empty ring of `records` slots, a power of two.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(records: usize) -> Result<Self> {
        debug_assert!(records.is_power_of_two());
        let mut slots = Vec::new();
        slots.try_room_exact(records)?;
        slots.resize_with(records, Slot::default);
        Ok(Self {
            slots: slots.into_boxed_slice(),
            begun: AtomicU64::new(0),
        })
    }

    /// How many records it keeps.
    pub fn capacity(&self) -> u64 {
        self.slots.len() as u64
    }

    fn slot(&self, number: u64) -> &Slot {
        &self.slots[number as usize & (self.slots.len() - 1)]
    }

    /// Takes a slot that is the caller's alone.
    fn reserve(&self) -> &Slot {
        self.slot(self.begun.fetch_add(1, Relaxed))
    }

    /// Adds a record. By the ring's own CPU; any context.
    pub fn push(&self, words: Words) {
        debug_assert!(words[0] != 0, "0 stands for a record that is being written");
        self.reserve().write(words);
    }

    /// Forgets every record. While nobody pushes; one that is pushed nevertheless may stay.
    pub fn clear(&self) {
        self.slots.iter().for_each(Slot::clear);
        self.begun.store(0, Relaxed);
    }

    /// How many records were ever begun.
    pub fn begun(&self) -> u64 {
        self.begun.load(Relaxed)
    }

    /// Record `number`, counted from the first one ever. `None` if it is being written. Of one that has been overwritten, a
    /// later one.
    pub fn get(&self, number: u64) -> Option<Words> {
        self.slot(number).read()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(ring: &Ring) -> Vec<Option<u64>> {
        let (begun, capacity) = (ring.begun(), ring.capacity());
        (begun.saturating_sub(capacity)..begun)
            .map(|number| ring.get(number).map(|words| words[1]))
            .collect()
    }

    #[test]
    fn the_oldest_records_are_overwritten() {
        let ring = Ring::new(4).unwrap();
        assert_eq!(numbers(&ring), []);
        for number in 0..3 {
            ring.push([1, number, 0, 0]);
        }
        assert_eq!(numbers(&ring), [Some(0), Some(1), Some(2)]);
        for number in 3..10 {
            ring.push([1, number, 0, 0]);
        }
        assert_eq!(numbers(&ring), [6, 7, 8, 9].map(Some));
        assert_eq!(ring.begun(), 10);
        ring.clear();
        assert_eq!((numbers(&ring).len(), ring.get(0)), (0, None));
    }

    /// An interrupt between any two steps of a writer finds a slot of its own, and whoever looks meanwhile sees what is
    /// there whole or not at all.
    #[test]
    fn a_writer_may_be_interrupted() {
        let ring = Ring::new(4).unwrap();
        (0..4).for_each(|number| ring.push([7, number, number, number]));
        let outer = ring.reserve();
        ring.push([8, 5, 5, 5]);
        // The slot of the outer one still holds the oldest record; the interrupt's is whole.
        assert_eq!(numbers(&ring), [2, 3, 0, 5].map(Some));
        outer.0[0].store(0, Relaxed);
        outer.0[1].store(4, Relaxed);
        assert_eq!(numbers(&ring), [Some(2), Some(3), None, Some(5)]);
        outer.write([8, 4, 4, 4]);
        assert_eq!(numbers(&ring), [2, 3, 4, 5].map(Some));
        assert!((2..6).all(|number| ring.get(number).is_some_and(|words| words[1] == words[3])));
    }

    #[test]
    fn a_reader_never_sees_a_record_that_is_half_another() {
        let ring = Ring::new(2).unwrap();
        let rounds = if cfg!(miri) { 100 } else { 100_000 };
        std::thread::scope(|scope| {
            scope.spawn(|| (1..rounds).for_each(|number| ring.push([number, number, number, number])));
            for _ in 0..rounds {
                if let Some([stamp, values @ ..]) = ring.get(0) {
                    assert_eq!(values, [stamp; 3]);
                }
            }
        });
    }
}
