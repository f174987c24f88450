//! Memory that a device and its driver share: rings, tables, buffers of the device's own.
//!
//! Whatever a device writes there may change at any time, so it is read and written by copies, in accesses that happen as
//! they stand here, and nobody holds a reference into it. What comes in which order is said by [`hal::dma`].

#![expect(unsafe_code, reason = "reaches memory that devices write")]

use core::ptr;

pub use hal::dma::{after_device, before_device, both_ways};

use hal::{PAGE_SIZE, arch::Cpu, traits::CpuOps};

use super::frame::{self, FrameBlock, MAX_ORDER, Purpose};
use crate::errno::{Errno, Result};

/// Whole pages, one after the other for the device too, zero at first. Freed when dropped: the device must have been told to
/// leave it alone.
#[derive(Debug)]
pub struct DmaMemory {
    block: FrameBlock,
}

macro_rules! accesses {
    ($($read:ident $write:ident $type:ty),*) => {
        $(
            /// Reads a little-endian word, `offset` bytes from the start.
            ///
            /// # Panics
            /// When it is not in the memory or not aligned to its size.
            pub fn $read(&self, offset: usize) -> $type {
                let place = self.aligned(offset, size_of::<$type>());
                // SAFETY: in the block, aligned, and any bytes are a value.
                <$type>::from_le(unsafe { place.cast::<$type>().read_volatile() })
            }

            /// Writes one.
            ///
            /// # Panics
            /// As for reading.
            pub fn $write(&self, offset: usize, value: $type) {
                let place = self.aligned(offset, size_of::<$type>());
                // SAFETY: in the block, aligned; nobody has a reference to it.
                unsafe { place.cast::<$type>().write_volatile(value.to_le()) };
            }
        )*
    };
}

impl DmaMemory {
    /// At least `bytes`, rounded up to a power of two of pages; aligned to as much.
    ///
    /// # Errors
    /// `ENOMEM`, also for more than the largest block there is.
    pub fn new(bytes: usize) -> Result<Self> {
        let pages = bytes.div_ceil(PAGE_SIZE).max(1);
        let order = pages.checked_next_power_of_two().ok_or(Errno::ENOMEM)?.ilog2() as u8;
        if order > MAX_ORDER {
            return Err(Errno::ENOMEM);
        }
        let memory = Self {
            block: frame::allocate_order(order, Purpose::Kernel)?,
        };
        // SAFETY: the whole block, which is nobody else's.
        unsafe { memory.place(0, memory.len()).write_bytes(0, memory.len()) };
        Ok(memory)
    }

    /// The first byte, as devices count.
    pub const fn address(&self) -> u64 {
        self.block.address().0
    }

    /// Bytes.
    pub const fn len(&self) -> usize {
        self.block.len()
    }

    /// Never true; here because there is a [`DmaMemory::len`].
    pub const fn is_empty(&self) -> bool {
        false
    }

    accesses!(read_u8 write_u8 u8, read_u16 write_u16 u16, read_u32 write_u32 u32, read_u64 write_u64 u64);

    /// Copies bytes out, `offset` from the start on.
    ///
    /// # Panics
    /// When they are not all in the memory.
    pub fn read_bytes(&self, offset: usize, to: &mut [u8]) {
        let from = self.place(offset, to.len());
        // SAFETY: in the block; `to` is the kernel's own. What the device writes meanwhile may come as any mixture.
        unsafe { ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len()) };
    }

    /// Copies bytes in.
    ///
    /// # Panics
    /// As [`DmaMemory::read_bytes`].
    pub fn write_bytes(&self, offset: usize, from: &[u8]) {
        let to = self.place(offset, from.len());
        // SAFETY: as in `read_bytes`.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) };
    }

    /// For a device that does not look into caches: what was stored in these bytes is in memory, and what it has written there
    /// is read next. See [`hal::dma::clean_and_invalidate`].
    ///
    /// # Panics
    /// As [`DmaMemory::read_bytes`].
    pub fn clean_and_invalidate(&self, offset: usize, length: usize) {
        hal::dma::clean_and_invalidate(self.place(offset, length), length);
    }

    fn aligned(&self, offset: usize, size: usize) -> *mut u8 {
        assert!(offset.is_multiple_of(size), "a word of {size} bytes at {offset:#x}");
        self.place(offset, size)
    }

    fn place(&self, offset: usize, length: usize) -> *mut u8 {
        assert!(
            offset <= self.len() && length <= self.len() - offset,
            "{length} bytes at {offset:#x} of {:#x} for a device",
            self.len()
        );
        // SAFETY: within the block, as just checked.
        unsafe { Cpu::phys_to_virt(self.block.address()).add(offset) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_bytes_are_the_same_memory() {
        let memory = DmaMemory::new(5000).unwrap();
        assert_eq!(memory.len(), 8192);
        assert_eq!(memory.address() % 8192, 0);
        assert_eq!(memory.read_u64(8184), 0);
        memory.write_u32(4, 0x0403_0201);
        let mut bytes = [0; 6];
        memory.read_bytes(3, &mut bytes);
        assert_eq!(bytes, [0, 1, 2, 3, 4, 0]);
        memory.write_bytes(8191, &[9]);
        assert_eq!(memory.read_u16(8190), 0x0900);
    }

    #[test]
    #[should_panic(expected = "for a device")]
    fn nothing_behind_the_end_is_reached() {
        DmaMemory::new(4096).unwrap().read_bytes(4090, &mut [0; 7]);
    }

    #[test]
    fn what_is_larger_than_any_block_is_refused() {
        assert_eq!(DmaMemory::new(usize::MAX).err(), Some(Errno::ENOMEM));
    }
}
