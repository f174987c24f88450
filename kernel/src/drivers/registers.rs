//! A block of a device's registers as drivers see it, so that they run over simulated ones on the host.

use hal::mmio;

/// Registers, little-endian, by offset in bytes. An implementation may panic where a register is not in the block or not
/// aligned to its size: drivers check lengths that a device names before.
pub trait RegisterBlock: Send + Sync {
    /// Reads a byte.
    fn read_u8(&self, offset: usize) -> u8;
    /// Writes one.
    fn write_u8(&self, offset: usize, value: u8);
    /// Reads two bytes.
    fn read_u16(&self, offset: usize) -> u16;
    /// Writes two.
    fn write_u16(&self, offset: usize, value: u16);
    /// Reads four bytes.
    fn read_u32(&self, offset: usize) -> u32;
    /// Writes four.
    fn write_u32(&self, offset: usize, value: u32);

    /// Reads eight bytes as two words, the lower first.
    fn read_pair(&self, offset: usize) -> u64 {
        u64::from(self.read_u32(offset)) | u64::from(self.read_u32(offset + 4)) << 32
    }

    /// Writes eight bytes as two words, the lower first.
    fn write_pair(&self, offset: usize, value: u64) {
        self.write_u32(offset, value as u32);
        self.write_u32(offset + 4, (value >> 32) as u32);
    }
}

macro_rules! forward {
    ($($read:ident $write:ident $type:ty),*) => {
        impl RegisterBlock for mmio::Registers {$(
            fn $read(&self, offset: usize) -> $type {
                Self::$read(self, offset)
            }

            fn $write(&self, offset: usize, value: $type) {
                Self::$write(self, offset, value);
            }
        )*}
    };
}

forward!(read_u8 write_u8 u8, read_u16 write_u16 u16, read_u32 write_u32 u32);
