//! Power, reset and how PSCI is called: the Fixed ACPI Description Table (ACPI 6.5, 5.2.9) and one name of the DSDT.
//!
//! The table has grown with every revision of ACPI; what a field's absence means is decided by the table's length and
//! not by its revision, which firmware gets wrong.

use super::{Conduit, Description, PhysMemory, Reason, Register, SoftOff, bytes::Bytes, root::table_at};

const DSDT: [u8; 4] = *b"DSDT";
/// Bytes that no DSDT exceeds; the largest known are about one mebibyte.
const MAX_DSDT: usize = 16 << 20;

pub(super) fn read(memory: &impl PhysMemory, table: Bytes<'_>, found: &mut Description) -> Result<(), Reason> {
    const RESET_SUPPORTED: u32 = 1 << 10;
    const HARDWARE_REDUCED: u32 = 1 << 20;
    /// Of the PC's boot architecture (5.2.9.3).
    const KEYBOARD_CONTROLLER: u16 = 1 << 1;
    /// Bytes of ACPI 2.0's table.
    const LENGTH_2: usize = 244;
    const PSCI_COMPLIANT: u16 = 1 << 0;
    const PSCI_BY_HVC: u16 = 1 << 1;

    let flags = table.u32(112)?;
    found.hardware_reduced = flags & HARDWARE_REDUCED != 0;
    found.century_register = table.u8(108)?;
    // Tables of before ACPI 2.0 say nothing of it, and are PCs'.
    let says = table.u8(LENGTH_2 - 1).is_ok();
    found.has_keyboard_controller = !says || table.u16(109)? & KEYBOARD_CONTROLLER != 0;
    let arm = table.u16(129).unwrap_or(0);
    if arm & PSCI_COMPLIANT != 0 {
        let by_hvc = arm & PSCI_BY_HVC != 0;
        found.psci = Some(if by_hvc { Conduit::Hvc } else { Conduit::Smc });
    }
    if flags & RESET_SUPPORTED != 0 {
        // The reset register is one byte (4.8.3.6).
        let register = table.address(116).ok().and_then(|address| address.register(1));
        found.reset = register.zip(table.u8(128).ok());
    }
    if found.hardware_reduced {
        // There is nothing behind the other fields then.
        let control = table.address(244).ok().and_then(|address| address.register(1));
        found.soft_off = control.map(|control| SoftOff::SleepControl {
            control,
            sleep_type: sleep_types(memory, table, found).0,
        });
    } else {
        found.pm_timer = block(table, 208, 76, 4);
        found.soft_off = block(table, 172, 64, 2).map(|a| {
            let (type_a, type_b) = sleep_types(memory, table, found);
            SoftOff::PowerManagement {
                a: (a, type_a),
                b: block(table, 184, 68, 2).map(|b| (b, type_b)),
            }
        });
    }
    Ok(())
}

/// A register block by its extended field, or by the older one that holds a port's number.
fn block(table: Bytes<'_>, extended: usize, port: usize, width: u8) -> Option<Register> {
    let extended = table.address(extended).ok().filter(|address| address.address != 0);
    match extended {
        Some(address) => address.register(width),
        None => match table.u32(port) {
            Ok(0) | Err(_) => None,
            Ok(port) => Some(Register::Port {
                port: port.try_into().ok()?,
                width,
            }),
        },
    }
}

/// `SLP_TYPa` and `SLP_TYPb` for soft off. Without them 0, which is noted: it is the right one on many machines, and
/// the others stay on as they would anyway.
fn sleep_types(memory: &impl PhysMemory, fadt: Bytes<'_>, found: &mut Description) -> (u8, u8) {
    for table in dsdts(memory, fadt) {
        match table.and_then(|dsdt| soft_off(dsdt.0).ok_or(Reason::Missing)) {
            Ok(types) => return types,
            Err(reason) => found.note(DSDT, reason),
        }
    }
    found.note(DSDT, Reason::Missing);
    (0, 0)
}

/// The DSDT, by the extended field, then by the older one.
pub(super) fn dsdts<'a>(
    memory: &'a impl PhysMemory,
    fadt: Bytes<'_>,
) -> impl Iterator<Item = Result<Bytes<'a>, Reason>> {
    let addresses = [fadt.u64(140).ok(), fadt.u32(40).ok().map(u64::from)];
    let stated = addresses.into_iter().flatten().filter(|&address| address != 0);
    stated.map(|address| table_at(memory, address, DSDT, MAX_DSDT))
}

/// The first two numbers of `Name (\_S5, Package () { a, b, … })` (7.4.2). The package is always literal, so the byte
/// code is searched for the name and the small constants behind it, without an interpreter.
fn soft_off(code: &[u8]) -> Option<(u8, u8)> {
    const NAME_AND_PACKAGE: &[u8] = b"_S5_\x12";
    let places = code.windows(NAME_AND_PACKAGE.len()).enumerate();
    places
        .filter(|(_, bytes)| *bytes == NAME_AND_PACKAGE)
        .find_map(|(at, _)| package(code.get(at + NAME_AND_PACKAGE.len()..)?))
}

fn package(rest: &[u8]) -> Option<(u8, u8)> {
    // PkgLength (20.2.4): the top two bits of the lead byte count the bytes that follow. The length counts itself.
    let lead = *rest.first()?;
    let more = usize::from(lead >> 6);
    let length = match more {
        0 => usize::from(lead & 0x3f),
        _ => {
            rest.get(1..=more)?
                .iter()
                .rev()
                .fold(0, |all, &byte| all << 8 | usize::from(byte))
                << 4
                | usize::from(lead & 0xf)
        }
    };
    // Then the count of elements, then the elements.
    let mut rest = rest.get(..length)?.get(more + 2..)?;
    let mut constant = || {
        let (value, used) = match *rest.first()? {
            small @ (0 | 1) => (small, 1),
            // Byte, word and doubleword constants; a sleep type is three bits.
            0x0a => (*rest.get(1)?, 2),
            0x0b => (*rest.get(1)?, 3),
            0x0c => (*rest.get(1)?, 5),
            _ => return None,
        };
        rest = rest.get(used..)?;
        Some(value & 7)
    };
    let a = constant()?;
    Some((a, constant().unwrap_or(a)))
}
