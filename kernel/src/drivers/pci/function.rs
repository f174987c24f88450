//! One function: its header (PCI Local Bus 3.0, 6.1; PCI-to-PCI Bridge 1.2, 3.2) and its capabilities.

use core::fmt;

use arrayvec::ArrayVec;

use super::{Bar, Config, bar};

/// Offsets in configuration space.
pub(super) mod register {
    pub const ID: u16 = 0x00;
    pub const COMMAND: u16 = 0x04;
    pub const CLASS: u16 = 0x08;
    pub const HEADER: u16 = 0x0c;
    pub const BAR: u16 = 0x10;
    pub const BUSES: u16 = 0x18;
    pub const CAPABILITIES: u16 = 0x34;
    pub const INTERRUPT: u16 = 0x3c;
}

/// Status: there is a list of capabilities.
const HAS_CAPABILITIES: u32 = 1 << (16 + 4);
/// The type of header in its byte, and whether the device has more functions.
const HEADER_TYPE: u8 = 0x7f;
const MULTIPLE: u8 = 0x80;
const BRIDGE: u8 = 1;
/// Capabilities that 256 bytes have room for: the list is not longer unless it runs in circles.
const MOST_CAPABILITIES: usize = 48;

/// Where a function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The host's segment.
    pub segment: u16,
    /// The bus.
    pub bus: u8,
    /// The device on it, below 32.
    pub device: u8,
    /// The device's function, below 8.
    pub function: u8,
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            segment,
            bus,
            device,
            function,
        } = self;
        write!(out, "{segment:04x}:{bus:02x}:{device:02x}.{function:x}")
    }
}

/// A capability: its identifier and where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// What it is (PCI Code and ID Assignment 1.11, chapter 2).
    pub id: u8,
    /// Its offset in configuration space.
    pub offset: u8,
}

/// A function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Where it is.
    pub address: Address,
    /// Who made it.
    pub vendor: u16,
    /// What the maker calls it.
    pub device: u16,
    /// Class, subclass and programming interface, in three bytes from above.
    pub class: u32,
    /// The maker's count of changes.
    pub revision: u8,
    /// Its registers, by slot; a 64-bit one stands in the first of its two. The seventh is the expansion ROM.
    pub bars: [Option<Bar>; 7],
    /// In the order of its list.
    pub capabilities: ArrayVec<Capability, MOST_CAPABILITIES>,
    /// The number of an interrupt line, as firmware wrote it down.
    pub interrupt_line: u8,
    /// For a bridge, the bus behind it; 0 where firmware has given it none.
    pub secondary_bus: Option<u8>,
    /// The device has more functions than its first.
    pub has_siblings: bool,
}

impl Function {
    /// Reads a function's header; `None` where there is none, or none of a type known here.
    pub fn read(address: Address, config: &impl Config) -> Option<Self> {
        let read = |offset| config.read(address.device, address.function, offset);
        let id = read(register::ID);
        let vendor = id as u16;
        if matches!(vendor, 0 | 0xffff) {
            return None;
        }
        let class = read(register::CLASS);
        let header = (read(register::HEADER) >> 16) as u8;
        let is_bridge = match header & HEADER_TYPE {
            0 => false,
            BRIDGE => true,
            _ => return None,
        };
        Some(Self {
            address,
            vendor,
            device: (id >> 16) as u16,
            class: class >> 8,
            revision: class as u8,
            bars: bar::read_all(address, is_bridge, config),
            capabilities: capabilities(read),
            interrupt_line: read(register::INTERRUPT) as u8,
            secondary_bus: is_bridge.then(|| (read(register::BUSES) >> 8) as u8),
            has_siblings: header & MULTIPLE != 0,
        })
    }

    /// The first capability of a kind.
    pub fn capability(&self, id: u8) -> Option<Capability> {
        self.capabilities.iter().copied().find(|capability| capability.id == id)
    }
}

/// The list of capabilities, as far as it goes on forward and back within its part of configuration space.
fn capabilities(read: impl Fn(u16) -> u32) -> ArrayVec<Capability, MOST_CAPABILITIES> {
    let mut found = ArrayVec::new();
    if read(register::COMMAND) & HAS_CAPABILITIES == 0 {
        return found;
    }
    let mut offset = read(register::CAPABILITIES) as u8 & !3;
    while offset >= 0x40 {
        let word = read(offset.into());
        let capability = Capability { id: word as u8, offset };
        let seen = found.iter().any(|other: &Capability| other.offset == offset);
        if seen || capability.id == 0xff || found.try_push(capability).is_err() {
            break;
        }
        offset = (word >> 8) as u8 & !3;
    }
    found
}

impl fmt::Display for Function {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (class, subclass, interface) = (self.class >> 16, self.class >> 8 & 0xff, self.class & 0xff);
        write!(
            out,
            "PCI {}: {:04x}:{:04x} class {class:02x}.{subclass:02x}.{interface:02x}",
            self.address, self.vendor, self.device
        )
    }
}
