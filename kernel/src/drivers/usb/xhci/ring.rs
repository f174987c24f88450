//! Rings of blocks in memory that the controller reads or writes (xHCI 1.2, 4.9). Whose a block is, its cycle bit says: one
//! with the cycle of the round is there.

use alloc::sync::Arc;

use super::trb::{BYTES, CYCLE, Trb};
use crate::mm::dma::{self, DmaMemory};

/// Bytes of a ring: one segment.
pub const SIZE: usize = 4096;
/// Blocks in it.
pub const BLOCKS: usize = SIZE / BYTES;
/// Blocks that may be the controller's at a time, in a ring that the driver writes: the last of all is the link back.
pub const MOST: usize = BLOCKS - 2;

fn write(memory: &DmaMemory, index: usize, trb: Trb, cycle: bool) {
    let at = index * BYTES;
    for word in 0..3 {
        memory.write_u32(at + 4 * word, trb.0[word]);
    }
    // The cycle bit gives the block away.
    dma::before_device();
    memory.write_u32(at + 12, trb.0[3] & !CYCLE | u32::from(cycle));
}

/// A ring that the driver writes: commands, or transfers of an endpoint. Its user sees to it that no more than [`MOST`] blocks are
/// the controller's.
pub struct Producer {
    memory: Arc<DmaMemory>,
    next: usize,
    cycle: bool,
}

impl Producer {
    /// A ring in this memory, which is zeroed and [`SIZE`] bytes at least.
    pub const fn new(memory: Arc<DmaMemory>) -> Self {
        Self {
            memory,
            next: 0,
            cycle: true,
        }
    }

    /// Where the next block goes, with the cycle that it gets in the lowest bit.
    pub fn dequeue(&self) -> u64 {
        self.address(self.next) | u64::from(self.cycle)
    }

    fn address(&self, index: usize) -> u64 {
        self.memory.address() + (index * BYTES) as u64
    }

    /// Gives the controller a block; its address.
    pub fn push(&mut self, trb: Trb) -> u64 {
        let address = self.address(self.next);
        write(&self.memory, self.next, trb, self.cycle);
        self.next += 1;
        if self.next == BLOCKS - 1 {
            write(&self.memory, self.next, Trb::link(self.address(0)), self.cycle);
            self.next = 0;
            self.cycle = !self.cycle;
        }
        address
    }
}

/// The ring that the controller writes: events.
pub struct Consumer {
    memory: Arc<DmaMemory>,
    next: usize,
    cycle: bool,
}

impl Consumer {
    /// A ring in this memory, which is zeroed and [`SIZE`] bytes at least.
    pub const fn new(memory: Arc<DmaMemory>) -> Self {
        Self {
            memory,
            next: 0,
            cycle: true,
        }
    }

    /// The next block, if there is one.
    pub fn pop(&mut self) -> Option<Trb> {
        let at = self.next * BYTES;
        let flags = self.memory.read_u32(at + 12);
        if (flags & CYCLE != 0) != self.cycle {
            return None;
        }
        // The cycle bit before what it gives away.
        dma::after_device();
        let words = [0, 4, 8].map(|offset| self.memory.read_u32(at + offset));
        self.next += 1;
        if self.next == BLOCKS {
            self.next = 0;
            self.cycle = !self.cycle;
        }
        Some(Trb([words[0], words[1], words[2], flags]))
    }

    /// The address of the block that is looked at next.
    pub fn dequeue(&self) -> u64 {
        self.memory.address() + (self.next * BYTES) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Arc<DmaMemory> {
        Arc::new(DmaMemory::new(SIZE).unwrap())
    }

    /// The controller's side of a producer's ring.
    fn read(memory: &DmaMemory, index: &mut usize, cycle: &mut bool) -> Option<(u64, [u32; 4])> {
        let words = core::array::from_fn(|word| memory.read_u32(*index * 16 + 4 * word));
        if (words[3] & 1 != 0) != *cycle {
            return None;
        }
        if words[3] >> 10 & 63 == 6 {
            assert_eq!(words[0], memory.address() as u32);
            *index = 0;
            *cycle ^= words[3] & 2 != 0;
            return read(memory, index, cycle);
        }
        *index += 1;
        Some((memory.address() + (*index as u64 - 1) * 16, words))
    }

    #[test]
    fn a_ring_goes_round_and_round() {
        let memory = memory();
        let mut ring = Producer::new(Arc::clone(&memory));
        let (mut index, mut cycle) = (0, true);
        assert_eq!(read(&memory, &mut index, &mut cycle), None);
        for number in 0..2000_u32 {
            let count = 1 + number as usize % MOST;
            let expected: Vec<_> = (0..count)
                .map(|part| {
                    (
                        ring.dequeue() & !1,
                        ring.push(Trb::normal((number + part as u32).into(), 8)),
                    )
                })
                .collect();
            for (part, (dequeue, address)) in expected.into_iter().enumerate() {
                let (found, words) = read(&memory, &mut index, &mut cycle).unwrap();
                assert_eq!((found, dequeue), (address, address));
                assert_eq!((words[0], words[2]), (number + part as u32, 8));
            }
            assert_eq!(read(&memory, &mut index, &mut cycle), None);
        }
    }

    #[test]
    fn events_are_taken_once_and_in_order() {
        let memory = memory();
        let mut ring = Consumer::new(Arc::clone(&memory));
        assert_eq!(ring.pop(), None);
        for number in 0..1000_u32 {
            let index = number as usize % BLOCKS;
            let cycle = u32::from((number / BLOCKS as u32).is_multiple_of(2));
            assert_eq!(ring.dequeue(), memory.address() + 16 * index as u64);
            for (word, value) in [number, 0, 0, 34 << 10 | cycle].into_iter().enumerate() {
                memory.write_u32(index * 16 + word * 4, value);
            }
            assert_eq!(ring.pop(), Some(Trb([number, 0, 0, 34 << 10 | cycle])));
            assert_eq!(ring.pop(), None);
        }
    }
}
