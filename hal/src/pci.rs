//! PCI's configuration space, through the window in memory that a host offers for it (PCI Express Base 6.0, 7.2.2).

use crate::{addr::PhysAddr, boot_info::PciHost, boot_info::PhysRange, mmio::Registers};

/// Bytes of configuration space of a bus and of a function.
const BUS: u64 = 1 << 20;
const FUNCTION: usize = 4096;

/// Configuration space of one bus.
#[derive(Clone, Copy, Debug)]
pub struct BusConfig {
    registers: Registers,
}

impl BusConfig {
    /// Maps that of one of a host's buses; `None` where the host has no such bus, or nothing can be mapped. Asked for bus by
    /// bus, because what lies past the buses that there are may be nothing, or somebody else's.
    pub fn map(host: &PciHost, bus: u8) -> Option<Self> {
        let number = bus.checked_sub(host.ecam.first_bus)?;
        if bus > host.ecam.last_bus {
            return None;
        }
        let start = host.ecam.registers.start.0.checked_add(u64::from(number) * BUS)?;
        let range = PhysRange {
            start: PhysAddr(start),
            end: PhysAddr(start.checked_add(BUS)?),
        };
        if range.end > host.ecam.registers.end {
            return None;
        }
        Registers::map(range).map(|registers| Self { registers })
    }

    /// Reads a word of a function's, `offset` bytes from the start of its space.
    ///
    /// # Panics
    /// When the offset is not in the function's 4096 bytes, or not a multiple of 4, or there is no such device or function.
    pub fn read(&self, device: u8, function: u8, offset: u16) -> u32 {
        self.registers.read_u32(place(device, function, offset))
    }

    /// Writes one.
    ///
    /// # Panics
    /// As [`BusConfig::read`].
    pub fn write(&self, device: u8, function: u8, offset: u16, value: u32) {
        self.registers.write_u32(place(device, function, offset), value);
    }
}

fn place(device: u8, function: u8, offset: u16) -> usize {
    assert!(device < 32 && function < 8 && usize::from(offset) < FUNCTION);
    (usize::from(device) << 3 | usize::from(function)) * FUNCTION + usize::from(offset)
}
