//! The machine as ACPI's tables describe it, whatever its architecture.
//!
//! [`read`] goes from the root pointer to the tables that say where CPUs, interrupt controllers, timers, the serial port
//! and PCI's configuration space are, and how the machine is left. It allocates nothing and believes nothing: every
//! address is asked of [`PhysMemory`], every table is taken only if its checksum says that it is whole, every field may be
//! absent, and every loop ends with the bytes it goes over. A table that is broken is left out and noted in
//! [`Description::faults`]; so is a structure that is, and what had been read before it is kept.
//!
//! Sections are those of the ACPI specification 6.5 where no other document is named.

mod bytes;
mod console;
mod description;
mod fadt;
mod gtdt;
mod hpet;
mod madt;
mod mcfg;
mod range;
mod resources;
mod root;
#[cfg(test)]
mod tests;

use arrayvec::ArrayVec;
use core::fmt;

pub use description::{
    Conduit, Description, Ecam, GenericTimer, Gic, GicCpu, IoApic, Its, MsiFrame, Override, Register, Registers,
    Serial, SerialKind, SoftOff,
};

use crate::boot_info::{MAX_PLATFORM_DEVICES, PlatformDevice};

/// Physical memory as firmware left it.
pub trait PhysMemory {
    /// The bytes; `None` where there are none to be read: not RAM, over the end, or around it.
    fn bytes(&self, address: u64, length: usize) -> Option<&[u8]>;
}

/// Why there is no description at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The root pointer is not in memory.
    Unreadable,
    /// There is no root pointer where it should be.
    Signature,
    /// The root pointer is damaged.
    Checksum,
    /// Neither of the lists of tables, XSDT and RSDT, is there and whole.
    List,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "ACPI's root pointer is not in memory",
            Self::Signature => "ACPI's root pointer is not where it should be",
            Self::Checksum => "ACPI's root pointer has a wrong checksum",
            Self::List => "ACPI's list of tables is missing or broken",
        })
    }
}

impl core::error::Error for Error {}

/// Something that firmware got wrong, and that was left out therefore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The table's signature.
    pub signature: [u8; 4],
    /// What is wrong with it.
    pub reason: Reason,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.signature.escape_ascii(), self.reason)
    }
}

/// What can be wrong with a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is not in memory, or not all of it.
    Unreadable,
    /// Another table is where it should be.
    Signature,
    /// It is shorter than a header or longer than any table.
    Length,
    /// Its bytes do not add up.
    Checksum,
    /// It, or a structure in it, ends before a field that it must have.
    Short,
    /// A structure has no length, or runs over the table's end: it and those behind it are left out.
    Entry,
    /// A structure describes what another one has described, or overlaps it: the first one counts.
    Duplicate,
    /// There are more structures than there is room for.
    Full,
    /// A field's value makes no sense.
    Value,
    /// Something is missing that belongs to what is there.
    Missing,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "not in memory",
            Self::Signature => "another table is in its place",
            Self::Length => "impossible length",
            Self::Checksum => "wrong checksum",
            Self::Short => "ends before a field",
            Self::Entry => "a structure without an end",
            Self::Duplicate => "a structure that repeats or overlaps another",
            Self::Full => "more structures than there is room for",
            Self::Value => "a value that makes no sense",
            Self::Missing => "something missing",
        })
    }
}

/// Reads what the tables behind the root pointer at the physical address `rsdp` say.
pub fn read(memory: &impl PhysMemory, rsdp: u64) -> Result<Description, Error> {
    let mut found = Description::default();
    let root = root::Root::find(memory, rsdp, &mut found)?;
    if let Some(table) = root.table(*b"APIC", &mut found) {
        madt::read(table, &mut found);
    }
    if let Some(table) = root.table(*b"GTDT", &mut found) {
        let outcome = gtdt::read(table, &mut found);
        found.note_failure(*b"GTDT", outcome);
    }
    if let Some(table) = root.table(*b"FACP", &mut found) {
        let outcome = fadt::read(memory, table, &mut found);
        found.note_failure(*b"FACP", outcome);
    }
    if let Some(table) = root.table(*b"MCFG", &mut found) {
        mcfg::read(table, &mut found);
    }
    if let Some(table) = root.table(*b"HPET", &mut found) {
        let outcome = hpet::read(table, &mut found);
        found.note_failure(*b"HPET", outcome);
    }
    for signature in [*b"SPCR", *b"DBG2"] {
        if found.serial.is_none()
            && let Some(table) = root.table(signature, &mut found)
        {
            let outcome = console::read(signature, table, &mut found);
            found.note_failure(signature, outcome);
        }
    }
    name_serial_line(memory, &root, &mut found);
    find_devices(memory, &root, &mut found);
    Ok(found)
}

/// Looks for the console's interrupt where only its registers are stated, which is all that DBG2 can.
fn name_serial_line<M: PhysMemory>(memory: &M, root: &root::Root<'_, M>, found: &mut Description) {
    let Some(Serial {
        registers: Registers::Memory { range, .. },
        line: None,
        ..
    }) = found.serial
    else {
        return;
    };
    let Some(fadt) = root.table(*b"FACP", found) else {
        return;
    };
    let line = fadt::dsdts(memory, fadt)
        .flatten()
        .find_map(|dsdt| resources::line_of(dsdt.0, range.start.0));
    if let Some(serial) = &mut found.serial {
        serial.line = line;
    }
}

/// Looks for devices that no table and no bus names.
fn find_devices<M: PhysMemory>(memory: &M, root: &root::Root<'_, M>, found: &mut Description) {
    /// AHCI controllers: Parallels', and any that says so by its class.
    const AHCI: [resources::Identity; 2] = [
        resources::Identity::Hardware(*b"PRL4010"),
        resources::Identity::Class([0x01, 0x06, 0x01]),
    ];
    let Some(fadt) = root.table(*b"FACP", found) else {
        return;
    };
    for dsdt in fadt::dsdts(memory, fadt).flatten() {
        for identity in AHCI {
            for nth in 0..MAX_PLATFORM_DEVICES {
                let Some((registers, line)) = resources::device(dsdt.0, identity, nth) else {
                    break;
                };
                let device = PlatformDevice { registers, line };
                // One that says both is found twice.
                let _ = add(&mut found.ahci, device, PartialEq::eq);
            }
        }
    }
}

impl Description {
    /// Notes a fault, once; those for which there is no room are not noted.
    fn note(&mut self, signature: [u8; 4], reason: Reason) {
        let _ = add(&mut self.faults, Fault { signature, reason }, PartialEq::eq);
    }

    fn note_failure(&mut self, signature: [u8; 4], outcome: Result<(), Reason>) {
        if let Err(reason) = outcome {
            self.note(signature, reason);
        }
    }
}

/// Adds an item to a list, unless one of the list is the same or there is no room.
fn add<T, const N: usize>(list: &mut ArrayVec<T, N>, item: T, same: impl Fn(&T, &T) -> bool) -> Result<(), Reason> {
    if list.iter().any(|other| same(other, &item)) {
        return Err(Reason::Duplicate);
    }
    list.try_push(item).map_err(|_| Reason::Full)
}
