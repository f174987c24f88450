//! A function in the hands of its driver: registers, and interrupts by message (PCI Local Bus 3.0, 6.8).

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hal::{
    addr::PhysAddr,
    arch::PerCpu,
    boot_info::{PciHost, PhysRange},
    mmio::Registers,
    pci::BusConfig,
    traits::{MAX_EVENTS, PerCpuOps},
};

use super::{Address, Bar, BarKind, Function, function::register, hosts};
use crate::{
    errno::{Errno, Result},
    irq::Line,
    mm::fallible::TryRoom,
};

/// Capabilities.
const MSI: u8 = 0x05;
const MSI_X: u8 = 0x11;
/// Command: answers to memory, may be master of the bus, keeps its line low.
const MEMORY: u32 = 1 << 1;
const MASTER: u32 = 1 << 2;
const NO_LINE: u32 = 1 << 10;
/// MSI's control (6.8.1.3), in the upper half of its first word.
const MSI_ENABLE: u32 = 1 << 16;
const MSI_SEVERAL: u32 = 7 << 20;
const MSI_WIDE: u32 = 1 << 23;
/// MSI-X's (6.8.2.3).
const MSI_X_ENABLE: u32 = 1 << 31;
const MSI_X_MASK_ALL: u32 = 1 << 30;
const MSI_X_SIZE: u32 = 0x7ff;
/// An entry of MSI-X's table (6.8.2.6 on): address in two words, data, control.
const ENTRY: usize = 16;
const ENTRY_MASKED: u32 = 1 << 0;

/// Functions that have a driver, by their place in the list.
static OPEN: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];

/// A function that has a driver. There is one for each at most.
#[derive(Debug)]
pub struct Device {
    function: &'static Function,
    host: &'static PciHost,
    config: BusConfig,
    index: usize,
}

impl Device {
    /// Takes a function for the calling driver.
    ///
    /// # Errors
    /// `EBUSY` if a driver has it; `ENXIO` where its configuration space cannot be reached, or for the 513th function and those
    /// beyond.
    pub fn open(function: &'static Function) -> Result<Self> {
        let place = super::functions()
            .iter()
            .position(|other| core::ptr::eq(other, function));
        let index = place.filter(|index| *index < OPEN.len() * 64).ok_or(Errno::ENXIO)?;
        let host = hosts()
            .iter()
            .find(|host| has(host, function.address))
            .ok_or(Errno::ENXIO)?;
        let config = super::config(host, function.address.bus).ok_or(Errno::ENXIO)?;
        let (word, bit) = (&OPEN[index / 64], 1 << (index % 64));
        if word.fetch_or(bit, Relaxed) & bit != 0 {
            return Err(Errno::EBUSY);
        }
        Ok(Self {
            function,
            host,
            config,
            index,
        })
    }

    /// What it is.
    pub const fn function(&self) -> &'static Function {
        self.function
    }

    /// Reads a word of its configuration space.
    ///
    /// # Panics
    /// When the offset is beyond 4096 bytes, or not a multiple of 4.
    pub fn read(&self, offset: u16) -> u32 {
        let Address { device, function, .. } = self.function.address;
        self.config.read(device, function, offset)
    }

    /// Writes one.
    ///
    /// # Panics
    /// As [`Device::read`].
    pub fn write(&self, offset: u16, value: u32) {
        let Address { device, function, .. } = self.function.address;
        self.config.write(device, function, offset, value);
    }

    /// Maps the registers behind one of its base address registers, all of them.
    ///
    /// # Errors
    /// `ENXIO` where there are none, none in memory, none that have an address, or one that is the kernel's memory.
    pub fn registers(&self, bar: usize) -> Result<Registers> {
        let bar = self.function.bars.get(bar).copied().flatten().ok_or(Errno::ENXIO)?;
        let range = self.range(&bar).ok_or(Errno::ENXIO)?;
        Registers::map(range).ok_or(Errno::ENXIO)
    }

    /// Where a CPU finds a block of registers.
    fn range(&self, bar: &Bar) -> Option<PhysRange> {
        if bar.address == 0 || !matches!(bar.kind, BarKind::Memory32 | BarKind::Memory64) {
            return None;
        }
        let windows = self.host.windows.iter();
        // Without windows firmware has given out addresses, which are then the CPU's.
        let moved = windows
            .filter(|window| window.bus <= bar.address && bar.address - window.bus < window.cpu.len())
            .map(|window| window.cpu.start.0 + (bar.address - window.bus))
            .next();
        let start = moved.unwrap_or(bar.address);
        Some(PhysRange {
            start: PhysAddr(start),
            end: PhysAddr(start.checked_add(bar.size)?),
        })
    }

    /// Lets it answer to memory and reach memory itself; its line stays silent.
    pub fn enable(&self) {
        let command = self.read(register::COMMAND) & 0xffff;
        self.write(register::COMMAND, command | MEMORY | MASTER | NO_LINE);
    }

    /// How drivers of message controllers name it: bus, device and function.
    fn requester(&self) -> u32 {
        let Address {
            bus, device, function, ..
        } = self.function.address;
        u32::from(bus) << 8 | u32::from(device) << 3 | u32::from(function)
    }

    /// How many messages it has; 0 where it knows none.
    pub fn most_messages(&self) -> usize {
        if let Some(capability) = self.function.capability(MSI_X) {
            let size = (self.read(capability.offset.into()) >> 16 & MSI_X_SIZE) as usize + 1;
            return size.min(MAX_EVENTS as usize);
        }
        usize::from(self.function.capability(MSI).is_some())
    }

    /// Has it interrupt by messages: 1 to `most` lines to the calling CPU. Line `i` is the device's vector `i`. With MSI alone there
    /// is one.
    ///
    /// # Errors
    /// `ENXIO` where the device or the machine knows no messages; `ENOMEM`.
    pub fn messages(&self, most: usize) -> Result<Vec<Line>> {
        let here = PerCpu::cpu_id();
        self.messages_to(most, |_| here)
    }

    /// As [`Device::messages`], with line `i` to the CPU that `cpu` says for it.
    ///
    /// # Errors
    /// As [`Device::messages`].
    pub fn messages_to(&self, most: usize, cpu: impl Fn(usize) -> u32) -> Result<Vec<Line>> {
        if let Some(capability) = self.function.capability(MSI_X) {
            return self.messages_from_table(capability.offset.into(), most, cpu);
        }
        let capability = self.function.capability(MSI).ok_or(Errno::ENXIO)?;
        let mut lines = Vec::new();
        lines.try_room(1)?;
        lines.push(self.one_message(capability.offset.into(), cpu(0))?);
        Ok(lines)
    }

    fn one_message(&self, at: u16, cpu: u32) -> Result<Line> {
        let (line, message) = Line::claim_message(self.requester(), 0, cpu)?;
        let control = self.read(at);
        let wide = control & MSI_WIDE != 0;
        let (high, data) = ((message.address >> 32) as u32, if wide { at + 12 } else { at + 8 });
        if !wide && high != 0 {
            return Err(Errno::ENXIO);
        }
        self.write(at + 4, message.address as u32);
        if wide {
            self.write(at + 8, high);
        }
        self.write(data, message.data);
        self.write(at, control & !MSI_SEVERAL | MSI_ENABLE);
        Ok(line)
    }

    fn messages_from_table(&self, at: u16, most: usize, cpu: impl Fn(usize) -> u32) -> Result<Vec<Line>> {
        let control = self.read(at);
        let place = self.read(at + 4);
        let wanted = self.most_messages().min(most);
        let registers = self.registers((place & 7) as usize)?;
        let table = registers
            .part((place & !7) as usize, wanted * ENTRY)
            .ok_or(Errno::ENXIO)?;
        // On, with all masked, while the table is written (6.8.2.3).
        self.write(at, control | MSI_X_ENABLE | MSI_X_MASK_ALL);
        let mut lines = Vec::new();
        lines.try_room(wanted)?;
        for index in 0..wanted {
            let (line, message) = match Line::claim_message(self.requester(), index as u32, cpu(index)) {
                Ok(claimed) => claimed,
                // Fewer will do.
                Err(_) if index > 0 => break,
                Err(error) => {
                    self.write(at, control & !MSI_X_ENABLE);
                    return Err(error);
                }
            };
            let entry = index * ENTRY;
            table.write_u32(entry, message.address as u32);
            table.write_u32(entry + 4, (message.address >> 32) as u32);
            table.write_u32(entry + 8, message.data);
            table.write_u32(entry + 12, table.read_u32(entry + 12) & !ENTRY_MASKED);
            lines.push(line);
        }
        self.write(at, control & !MSI_X_MASK_ALL | MSI_X_ENABLE);
        Ok(lines)
    }
}

fn has(host: &PciHost, address: Address) -> bool {
    let buses = host.ecam.first_bus..=host.ecam.last_bus;
    host.ecam.segment == address.segment && buses.contains(&address.bus)
}

impl Drop for Device {
    /// Nobody is its driver any more: it reaches no memory and sends no messages.
    fn drop(&mut self) {
        let command = self.read(register::COMMAND) & 0xffff;
        self.write(register::COMMAND, command & !MASTER | NO_LINE);
        OPEN[self.index / 64].fetch_and(!(1 << (self.index % 64)), Relaxed);
    }
}
