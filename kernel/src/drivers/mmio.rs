//! Registers of a device as drivers see them, so that on the host a simulated device can stand behind them.

use hal::mmio::Registers;

/// Accesses to a block of registers, by their offsets.
pub trait Mmio: Send + Sync {
    /// Reads a register of 32 bits.
    fn read(&self, offset: usize) -> u32;
    /// Writes one.
    fn write(&self, offset: usize, value: u32);
    /// Reads a register of 64 bits.
    fn read_wide(&self, offset: usize) -> u64;
    /// Writes one.
    fn write_wide(&self, offset: usize, value: u64);
}

impl Mmio for Registers {
    fn read(&self, offset: usize) -> u32 {
        self.read_u32(offset)
    }

    fn write(&self, offset: usize, value: u32) {
        self.write_u32(offset, value);
    }

    fn read_wide(&self, offset: usize) -> u64 {
        self.read_u64(offset)
    }

    fn write_wide(&self, offset: usize, value: u64) {
        self.write_u64(offset, value);
    }
}
