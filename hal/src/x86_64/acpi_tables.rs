//! How the `acpi` crate reaches memory and ports.
//!
//! Tables are read once at boot, on tables that map the first 4 GiB at the direct map's place; firmware for machines of
//! this kind keeps ACPI below that. Of the crate's many hooks only the mapping is used by what we ask of it; the others
//! do what their names say.

use core::ptr::NonNull;

use acpi::{Handler, PciAddress, RawPhysicalMapping};

use super::{
    constants::DIRECT_MAP,
    registers::{in_u8, in_u16, in_u32, out_u8, out_u16, out_u32},
    timer::{self, Timer},
};
use crate::traits::TimerOps;

/// Memory through the direct map, ports by instruction.
#[derive(Clone, Copy)]
pub struct DirectMapHandler;

macro_rules! memory {
    ($($read:ident $write:ident $type:ty),*) => {
        $(
            fn $read(&self, address: usize) -> $type {
                // SAFETY: the crate asks for addresses that firmware's tables name.
                unsafe { ((DIRECT_MAP + address as u64) as *const $type).read_volatile() }
            }

            fn $write(&self, address: usize, value: $type) {
                // SAFETY: as for the read.
                unsafe { ((DIRECT_MAP + address as u64) as *mut $type).write_volatile(value) };
            }
        )*
    };
}

macro_rules! ports {
    ($($read:ident $write:ident $in:ident $out:ident $type:ty),*) => {
        $(
            fn $read(&self, port: u16) -> $type {
                // SAFETY: the crate asks for ports that firmware's tables name.
                unsafe { $in(port) }
            }

            fn $write(&self, port: u16, value: $type) {
                // SAFETY: as for the read.
                unsafe { $out(port, value) };
            }
        )*
    };
}

/// Configuration mechanism 1 (PCI 3.0, 3.2.2.3.2): selects a doubleword and returns its data port.
fn select_pci(address: PciAddress, offset: u16) -> u16 {
    let word = 1 << 31
        | u32::from(address.bus()) << 16
        | u32::from(address.device()) << 11
        | u32::from(address.function()) << 8
        | u32::from(offset & 0xfc);
    // SAFETY: CONFIG_ADDRESS.
    unsafe { out_u32(0xcf8, word) };
    0xcfc + (offset & 3)
}

macro_rules! pci {
    ($($read:ident $write:ident $in:ident $out:ident $type:ty),*) => {
        $(
            fn $read(&self, address: PciAddress, offset: u16) -> $type {
                // SAFETY: CONFIG_DATA.
                unsafe { $in(select_pci(address, offset)) }
            }

            fn $write(&self, address: PciAddress, offset: u16, value: $type) {
                // SAFETY: CONFIG_DATA.
                unsafe { $out(select_pci(address, offset), value) };
            }
        )*
    };
}

impl Handler for DirectMapHandler {
    unsafe fn map_physical_region<T>(&self, physical_address: usize, size: usize) -> RawPhysicalMapping<T> {
        let pointer = NonNull::new((DIRECT_MAP + physical_address as u64) as *mut T).unwrap_or(NonNull::dangling());
        // SAFETY: nothing is mapped or unmapped; the crate only reads.
        unsafe { RawPhysicalMapping::new(physical_address, pointer, size, size) }
    }

    unsafe fn unmap_physical_region<T>(&self, _region: RawPhysicalMapping<T>) {}

    memory!(read_u8 write_u8 u8, read_u16 write_u16 u16, read_u32 write_u32 u32, read_u64 write_u64 u64);
    ports!(read_io_u8 write_io_u8 in_u8 out_u8 u8, read_io_u16 write_io_u16 in_u16 out_u16 u16,
        read_io_u32 write_io_u32 in_u32 out_u32 u32);
    pci!(read_pci_u8 write_pci_u8 in_u8 out_u8 u8, read_pci_u16 write_pci_u16 in_u16 out_u16 u16,
        read_pci_u32 write_pci_u32 in_u32 out_u32 u32);

    fn nanos_since_boot(&self) -> u64 {
        Timer::now()
    }

    fn stall(&self, microseconds: u64) {
        timer::spin(microseconds * 1_000);
    }

    fn sleep(&self, milliseconds: u64) {
        timer::spin(milliseconds * 1_000_000);
    }
}
