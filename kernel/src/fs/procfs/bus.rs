//! `/proc/bus`.

use alloc::string::String;
use core::fmt::{Result, Write};

use crate::drivers::pci::{self, Function};

/// `/proc/bus/pci/devices`: for each function bus and place, maker and device, interrupt, the seven registers with their kind in
/// the lowest bits, their sizes, and a driver if one has it (Linux's `drivers/pci/proc.c`).
pub(super) fn pci_devices(out: &mut String) -> Result {
    pci::functions().iter().try_for_each(|function| line(function, out))
}

fn line(function: &Function, out: &mut String) -> Result {
    let address = function.address;
    let place = address.device << 3 | address.function;
    let interrupt = match function.interrupt_line {
        0xff => 0,
        line => line,
    };
    write!(
        out,
        "{:02x}{place:02x}\t{:04x}{:04x}\t{interrupt:x}",
        address.bus, function.vendor, function.device
    )?;
    for bar in &function.bars {
        let value = bar.map_or(0, |bar| bar.address | u64::from(bar.flags()));
        write!(out, "\t{value:16x}")?;
    }
    for bar in &function.bars {
        write!(out, "\t{:16x}", bar.map_or(0, |bar| bar.size))?;
    }
    writeln!(out, "\t")
}
