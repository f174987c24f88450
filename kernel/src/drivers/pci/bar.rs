//! Base address registers (PCI Local Bus 3.0, 6.2.5).

use super::{Address, Config, function::register};

/// Command: answers to I/O, answers to memory.
const DECODE: u32 = 1 << 0 | 1 << 1;
/// Of a register in memory: 64 bits wide; may be read ahead.
const TYPE: u32 = 3 << 1;
const TYPE_64: u32 = 2 << 1;
const PREFETCHABLE: u32 = 1 << 3;
const IO: u32 = 1 << 0;
/// Where the expansion ROM's is, by type of header.
const ROM: u16 = 0x30;
const BRIDGE_ROM: u16 = 0x38;

/// What a register's block of addresses is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarKind {
    /// I/O ports.
    Io,
    /// Memory below 4 GiB.
    Memory32,
    /// Memory.
    Memory64,
    /// An expansion ROM: memory below 4 GiB.
    Rom,
}

/// A block of addresses that a function answers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// What it is in.
    pub kind: BarKind,
    /// Reading has no effects, and writes may be merged.
    pub prefetchable: bool,
    /// The first address, by the bus's count; 0 where nobody has given it one.
    pub address: u64,
    /// Bytes: a power of two.
    pub size: u64,
}

impl Bar {
    /// The low bits of the register, which say what kind it is.
    pub const fn flags(&self) -> u32 {
        let kind = match self.kind {
            BarKind::Io => IO,
            BarKind::Memory64 => TYPE_64,
            BarKind::Memory32 | BarKind::Rom => 0,
        };
        if self.prefetchable { kind | PREFETCHABLE } else { kind }
    }
}

/// Reads a function's registers: six of an endpoint, two of a bridge, and the expansion ROM's. To learn their sizes they are
/// written to, while the function answers to none.
pub(super) fn read_all(address: Address, is_bridge: bool, config: &impl Config) -> [Option<Bar>; 7] {
    let function = Registers { address, config };
    let command = function.read(register::COMMAND) & 0xffff;
    // The upper half is status bits, which ones would clear.
    function.write(register::COMMAND, command & !DECODE);
    let mut bars = [None; 7];
    let slots = if is_bridge { 2 } else { 6 };
    let mut slot = 0;
    while slot < slots {
        let bar = function.bar(register::BAR + 4 * slot, slot + 1 < slots);
        bars[usize::from(slot)] = bar;
        slot += if bar.is_some_and(|bar| bar.kind == BarKind::Memory64) {
            2
        } else {
            1
        };
    }
    bars[6] = function.rom(if is_bridge { BRIDGE_ROM } else { ROM });
    function.write(register::COMMAND, command);
    bars
}

struct Registers<'a, C> {
    address: Address,
    config: &'a C,
}

impl<C: Config> Registers<'_, C> {
    fn read(&self, offset: u16) -> u32 {
        self.config.read(self.address.device, self.address.function, offset)
    }

    fn write(&self, offset: u16, value: u32) {
        self.config
            .write(self.address.device, self.address.function, offset, value);
    }

    /// What of a register can be written, which is what of an address it compares.
    fn writable(&self, offset: u16, ones: u32) -> u32 {
        let value = self.read(offset);
        self.write(offset, ones);
        let writable = self.read(offset);
        self.write(offset, value);
        writable
    }

    /// One register; `None` where there is none, or none that can be.
    fn bar(&self, offset: u16, has_next: bool) -> Option<Bar> {
        let value = self.read(offset);
        let low = self.writable(offset, u32::MAX);
        if value & IO != 0 {
            // The upper half may be missing.
            let mask = low & !3 | 0xffff_0000;
            return sized(BarKind::Io, false, (value & !3).into(), u64::from(mask) | !0xffff_ffff);
        }
        let prefetchable = value & PREFETCHABLE != 0;
        let (address, mask) = (u64::from(value & !0xf), u64::from(low & !0xf));
        match value & TYPE {
            TYPE_64 if has_next => {
                let high = u64::from(self.read(offset + 4)) << 32;
                let mask = mask | u64::from(self.writable(offset + 4, u32::MAX)) << 32;
                sized(BarKind::Memory64, prefetchable, address | high, mask)
            }
            0 => sized(BarKind::Memory32, prefetchable, address, mask | !0xffff_ffff),
            _ => None,
        }
        .filter(|_| low & !0xf != 0 || value & TYPE == TYPE_64)
    }

    fn rom(&self, offset: u16) -> Option<Bar> {
        const ENABLE: u32 = 1;
        let address = self.read(offset) & !0x7ff;
        let mask = self.writable(offset, !ENABLE) & !0x7ff;
        let bar = sized(BarKind::Rom, false, address.into(), u64::from(mask) | !0xffff_ffff)?;
        (mask != 0).then_some(bar)
    }
}

/// A register whose writable bits are `mask`; `None` where they are not all those from one on.
fn sized(kind: BarKind, prefetchable: bool, address: u64, mask: u64) -> Option<Bar> {
    let size = mask.wrapping_neg();
    size.is_power_of_two().then_some(Bar {
        kind,
        prefetchable,
        address: address & mask,
        size,
    })
}
