//! Interrupt controllers and CPUs: the Multiple APIC Description Table (ACPI 6.5, 5.2.12).

use arrayvec::ArrayVec;

use super::{
    Description, Gic, GicCpu, IoApic, Its, MsiFrame, Override, Reason, add,
    bytes::Bytes,
    range::{overlap, range},
};
use crate::{MAX_CPUS, boot_info::PhysRange};

const SIGNATURE: [u8; 4] = *b"APIC";
/// Where the structures begin.
const STRUCTURES: usize = 44;
/// `Enabled` of every structure that describes a CPU.
const ENABLED: u32 = 1 << 0;
/// Bytes of a redistributor's two frames.
const REDISTRIBUTOR: u64 = 0x2_0000;
/// The affinity fields of a value of `MPIDR_EL1`; firmware may leave its other bits in.
const AFFINITY: u64 = 0xff_00ff_ffff;

/// What the structures say of a GIC, in whatever order they stand.
#[derive(Default)]
struct Parts {
    distributor: Option<(u64, u8)>,
    cpu_interface: Option<u64>,
    /// From GICR structures.
    regions: ArrayVec<PhysRange, MAX_CPUS>,
    cpus: ArrayVec<GicCpu, MAX_CPUS>,
    msi_frames: ArrayVec<MsiFrame, 4>,
    its: ArrayVec<Its, 4>,
}

pub(super) fn read(table: Bytes<'_>, found: &mut Description) {
    let mut parts = Parts::default();
    match table.u32(36) {
        Ok(0) => {}
        Ok(address) => found.local_apic = Some(address.into()),
        Err(reason) => found.note(SIGNATURE, reason),
    }
    for structure in table.structures(STRUCTURES) {
        let outcome = structure.and_then(|(kind, bytes)| match kind {
            0x0..=0x9 => pc(kind, bytes, found),
            _ => parts.add(kind, bytes),
        });
        if let Err(reason) = outcome {
            found.note(SIGNATURE, reason);
        }
    }
    found.gic = parts.gic(&mut |reason| found.note(SIGNATURE, reason));
}

/// An address of registers, which are never at 0.
fn nonzero(address: u64) -> Result<u64, Reason> {
    (address != 0).then_some(address).ok_or(Reason::Value)
}

/// The structures of PCs.
fn pc(kind: u8, entry: Bytes<'_>, found: &mut Description) -> Result<(), Reason> {
    match kind {
        // Local APIC (5.2.12.2). 255 is everybody's identifier, thus nobody's.
        0x0 if entry.u32(4)? & ENABLED != 0 && entry.u8(3)? != u8::MAX => {
            let id = entry.u8(3)?.into();
            add(&mut found.apic_ids, id, |one, other| one == other)
        }
        // I/O APIC (5.2.12.3).
        0x1 => {
            let apic = IoApic {
                address: nonzero(entry.u32(4)?.into())?,
                first_line: entry.u32(8)?,
            };
            add(&mut found.io_apics, apic, |one, other| one.address == other.address)
        }
        // Interrupt source override (5.2.12.5), with MPS INTI flags (table 5.26): active high, or low, or as the bus
        // has it. ISA is the only bus.
        0x2 => {
            let entry = Override {
                irq: entry.u8(3)?,
                line: entry.u32(4)?,
                active_low: match entry.u16(8)? & 3 {
                    1 => Some(false),
                    3 => Some(true),
                    _ => None,
                },
            };
            add(&mut found.overrides, entry, |one, other| one.irq == other.irq)
        }
        // Local APIC address override (5.2.12.8).
        0x5 => {
            found.local_apic = Some(nonzero(entry.u64(4)?)?);
            Ok(())
        }
        // Local x2APIC (5.2.12.12).
        0x9 if entry.u32(8)? & ENABLED != 0 && entry.u32(4)? != u32::MAX => {
            let id = entry.u32(4)?;
            add(&mut found.apic_ids, id, |one, other| one == other)
        }
        _ => Ok(()),
    }
}

impl Parts {
    /// The structures of Arm's machines.
    fn add(&mut self, kind: u8, entry: Bytes<'_>) -> Result<(), Reason> {
        match kind {
            // GIC CPU interface (5.2.12.14): 76 bytes in ACPI 5.1, 80 from 6.0, 82 from 6.5. Nothing of what came
            // later is used.
            0xb if entry.u32(12)? & ENABLED != 0 => {
                let address = |at| entry.u64(at).map(|address| (address != 0).then_some(address));
                let cpu = GicCpu {
                    mpidr: entry.u64(68)? & AFFINITY,
                    redistributor: address(60)?.filter(|&start| range(start, REDISTRIBUTOR).is_some()),
                };
                let cpu_interface = address(32)?;
                add(&mut self.cpus, cpu, |one, other| one.mpidr == other.mpidr)?;
                self.cpu_interface = self.cpu_interface.or(cpu_interface);
                Ok(())
            }
            // GIC distributor (5.2.12.15).
            0xc if self.distributor.is_some() => Err(Reason::Duplicate),
            0xc => {
                let (address, version) = (nonzero(entry.u64(8)?)?, entry.u8(20)?);
                self.distributor = Some((address, version));
                Ok(())
            }
            // GIC MSI frame (5.2.12.16).
            0xd => {
                const COUNTED_HERE: u32 = 1 << 0;
                let frame = MsiFrame {
                    id: entry.u32(4)?,
                    registers: nonzero(entry.u64(8)?)?,
                    first_line: entry.u16(22)?.into(),
                    lines: entry.u16(20)?.into(),
                    from_register: entry.u32(16)? & COUNTED_HERE == 0,
                };
                add(&mut self.msi_frames, frame, |one, other| {
                    one.registers == other.registers
                })
            }
            // GIC redistributor (5.2.12.17).
            0xe => {
                let region = range(entry.u64(4)?, entry.u32(12)?.into()).ok_or(Reason::Value)?;
                add(&mut self.regions, region, overlap)
            }
            // GIC interrupt translation service (5.2.12.18).
            0xf => {
                let its = Its {
                    id: entry.u32(4)?,
                    registers: nonzero(entry.u64(8)?)?,
                };
                add(&mut self.its, its, |one, other| one.registers == other.registers)
            }
            _ => Ok(()),
        }
    }

    /// Puts the parts together, if there is a distributor.
    fn gic(mut self, mut note: impl FnMut(Reason)) -> Option<Gic> {
        let Some((distributor, version)) = self.distributor else {
            if !self.cpus.is_empty() {
                note(Reason::Missing);
            }
            return None;
        };
        if self.regions.is_empty() {
            for cpu in &mut self.cpus {
                let Some(region) = cpu.redistributor.and_then(|start| range(start, REDISTRIBUTOR)) else {
                    continue;
                };
                if let Err(reason) = add(&mut self.regions, region, overlap) {
                    // Somebody else's.
                    cpu.redistributor = None;
                    note(reason);
                }
            }
        }
        Some(Gic {
            distributor,
            version,
            cpu_interface: self.cpu_interface,
            redistributors: self.regions,
            cpus: self.cpus,
            msi_frames: self.msi_frames,
            its: self.its,
        })
    }
}
