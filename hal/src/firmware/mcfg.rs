//! Memory-mapped configuration space ("PCI Firmware Specification" 3.3, 4.1.2).

use super::{
    Description, Ecam, Reason, add,
    bytes::Bytes,
    range::{overlap, range},
};

const SIGNATURE: [u8; 4] = *b"MCFG";
/// Where the allocations begin, and how long each is.
const ALLOCATIONS: usize = 44;
const ALLOCATION: usize = 16;
/// Configuration space of one bus is 1 MiB.
const BUS_SHIFT: u32 = 20;

pub(super) fn read(table: Bytes<'_>, found: &mut Description) {
    let allocations = table.0.get(ALLOCATIONS..).unwrap_or(&[]).chunks(ALLOCATION);
    for allocation in allocations {
        let outcome = ecam(Bytes(allocation)).and_then(|ecam| {
            add(&mut found.ecam, ecam, |one, other| {
                let same_bus =
                    one.segment == other.segment && one.first_bus <= other.last_bus && other.first_bus <= one.last_bus;
                same_bus || overlap(&one.registers, &other.registers)
            })
        });
        if let Err(reason) = outcome {
            found.note(SIGNATURE, reason);
            if reason == Reason::Full {
                break;
            }
        }
    }
}

fn ecam(allocation: Bytes<'_>) -> Result<Ecam, Reason> {
    let (base, segment) = (allocation.u64(0)?, allocation.u16(8)?);
    let (first_bus, last_bus) = (allocation.u8(10)?, allocation.u8(11)?);
    let buses = last_bus.checked_sub(first_bus).ok_or(Reason::Value)?;
    // The base is bus 0's even where that is not among them.
    let start = base.checked_add(u64::from(first_bus) << BUS_SHIFT);
    let registers = start.and_then(|start| range(start, (u64::from(buses) + 1) << BUS_SHIFT));
    Ok(Ecam {
        registers: registers.filter(|_| base != 0).ok_or(Reason::Value)?,
        segment,
        first_bus,
        last_bus,
    })
}
