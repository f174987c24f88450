//! The machine as ACPI describes it, in this architecture's words.

use super::constants::DIRECT_MAP;
use super::kernel_map::map_device;
use super::platform::{Description, Device, GicDescription, affinity};
use super::probe;
use crate::addr::PhysAddr;
use crate::boot_info::{PhysRange, assigned_hosts};
use crate::firmware::{self, Gic, PhysMemory, Registers, SerialKind};
use crate::memory_layout::MemoryLayout;

/// Bytes of a GICv2's register blocks (Arm IHI 0048B.b, 4.1.2 and 4.1.3), and of a GICv3's distributor (IHI 0069H, 12.8).
const V2_DISTRIBUTOR: u64 = 0x1000;
const V2_CPU_INTERFACE: u64 = 0x2000;
const V3_DISTRIBUTOR: u64 = 0x1_0000;
/// Where a distributor says of which version it is (`GICD_PIDR2`), by version (IHI 0048B.b, 4.2; IHI 0069H, 12.9.25).
const V2_IDENTITY: u64 = 0xfe8;
const V3_IDENTITY: u64 = 0xffe8;

/// Tables of firmware's, through the direct map.
struct DirectMap<'a>(&'a MemoryLayout);

impl PhysMemory for DirectMap<'_> {
    fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
        let range = PhysRange {
            start: PhysAddr(address),
            end: PhysAddr(address.checked_add(length as u64)?),
        };
        // SAFETY: RAM that the direct map shows; while the machine is being described nobody writes to what firmware left.
        self.0
            .shows(range)
            .then(|| unsafe { core::slice::from_raw_parts((DIRECT_MAP + address) as *const u8, length) })
    }
}

/// Reads the tables that `rsdp` leads to.
///
/// # Panics
/// When there are none: nothing says then where the interrupt controller is.
pub(super) fn describe(rsdp: u64, layout: &MemoryLayout) -> Description {
    let tables = match firmware::read(&DirectMap(layout), rsdp) {
        Ok(tables) => tables,
        Err(error) => panic!("neither a device tree nor usable ACPI tables: {error}"),
    };
    let mut found = Description {
        name: tables.name,
        timer_line: tables.timer.map(|timer| timer.virtual_line),
        psci: tables.psci,
        faults: tables.faults,
        pci: assigned_hosts(&tables.ecam),
        ahci: tables.ahci,
        ..Description::default()
    };
    if let Some(serial) = tables.serial
        && serial.kind == SerialKind::Pl011
        && let Registers::Memory { range, .. } = serial.registers
    {
        found.uart = Some(Device {
            registers: range,
            line: serial.line,
        });
    }
    if let Some(gic) = &tables.gic {
        found.cpus = gic.cpus.iter().map(|cpu| affinity(cpu.mpidr)).collect();
        found.gic = controller(gic);
        found.msi_frames = gic.msi_frames.clone();
        found.its = gic.its.iter().map(|its| its.registers).collect();
    }
    found
}

/// The interrupt controller, by what its registers say where the tables do not.
fn controller(gic: &Gic) -> Option<GicDescription> {
    let block = |start: u64, length| PhysRange {
        start: PhysAddr(start),
        end: PhysAddr(start.saturating_add(length)),
    };
    let version = match gic.version {
        0 => version(gic),
        stated => Some(stated),
    };
    match version? {
        1 | 2 => Some(GicDescription::V2 {
            distributor: block(gic.distributor, V2_DISTRIBUTOR),
            cpu_interface: block(gic.cpu_interface?, V2_CPU_INTERFACE),
        }),
        3 | 4 => Some(GicDescription::V3 {
            distributor: block(gic.distributor, V3_DISTRIBUTOR),
            redistributors: gic.redistributors.clone(),
        }),
        _ => None,
    }
}

/// What a distributor says of itself. Only one with redistributors is large enough to be looked at where version 3 has it.
fn version(gic: &Gic) -> Option<u8> {
    let offset = if gic.redistributors.is_empty() {
        V2_IDENTITY
    } else {
        V3_IDENTITY
    };
    let register = map_device(PhysAddr(gic.distributor.checked_add(offset)?), 4)?;
    // SAFETY: just mapped; an identification register.
    let identity = unsafe { probe::read(register.cast()) }?;
    Some((identity >> 4 & 0xf) as u8)
}
