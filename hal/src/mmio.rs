//! Device registers: mapped, never cached, every access within bounds.

#![expect(unsafe_code, reason = "device registers are reached through raw pointers")]

use core::ptr::NonNull;

use crate::{arch, boot_info::PhysRange};

/// A block of a device's registers. Copies name the same block; who may touch what, and when, is their driver's business.
///
/// Registers are little-endian, as those of all devices on the buses of both architectures are.
#[derive(Clone, Copy, Debug)]
pub struct Registers {
    base: NonNull<u8>,
    length: usize,
}

// SAFETY: device registers may be touched from any CPU, and the block stays mapped.
unsafe impl Send for Registers {}
// SAFETY: as above; each access is one volatile load or store.
unsafe impl Sync for Registers {}

macro_rules! accesses {
    ($($read:ident $write:ident $type:ty),*) => {
        $(
            /// Reads a register, `offset` bytes from the start.
            ///
            /// # Panics
            /// When the register is not in the block or not aligned to its size.
            pub fn $read(&self, offset: usize) -> $type {
                let place = self.place(offset, size_of::<$type>());
                // SAFETY: in the block, which is mapped for good, and aligned.
                <$type>::from_le(unsafe { place.cast::<$type>().read_volatile() })
            }

            /// Writes a register, `offset` bytes from the start.
            ///
            /// # Panics
            /// When the register is not in the block or not aligned to its size.
            pub fn $write(&self, offset: usize, value: $type) {
                let place = self.place(offset, size_of::<$type>());
                // SAFETY: as for reading. The block is no RAM, so no object of the kernel's is there.
                unsafe { place.cast::<$type>().write_volatile(value.to_le()) };
            }
        )*
    };
}

impl Registers {
    /// Maps the block at `range`, for good. `None` where there is nothing to map, or RAM, or no room left for mappings. Not for
    /// interrupt context.
    pub fn map(range: PhysRange) -> Option<Self> {
        if range.is_empty() || arch::is_ram(range) {
            return None;
        }
        Some(Self {
            base: NonNull::new(arch::map_device(range.start, range.len())?)?,
            length: usize::try_from(range.len()).ok()?,
        })
    }

    /// Bytes in the block.
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether there is nothing in it, which there always is.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// A part of the block; `None` where it is not all in it.
    pub fn part(&self, offset: usize, length: usize) -> Option<Self> {
        (offset.checked_add(length)? <= self.length).then(|| Self {
            // SAFETY: within the block.
            base: unsafe { self.base.add(offset) },
            length,
        })
    }

    accesses!(read_u8 write_u8 u8, read_u16 write_u16 u16, read_u32 write_u32 u32, read_u64 write_u64 u64);

    fn place(&self, offset: usize, size: usize) -> *mut u8 {
        assert!(
            offset.is_multiple_of(size) && offset < self.length && self.length - offset >= size,
            "a register of {size} bytes at {offset:#x} of a block of {:#x}",
            self.length
        );
        // SAFETY: within the block, see above.
        unsafe { self.base.as_ptr().add(offset) }
    }
}
