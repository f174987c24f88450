//! The serial port: "Serial Port Console Redirection Table (SPCR)" and "Microsoft Debug Port Table 2 (DBG2)", both by
//! Microsoft. Both count the kinds of ports alike.

use super::{
    Description, Reason, Registers, Serial, SerialKind,
    bytes::{Address, Bytes},
    range::range,
};

/// Bytes of a PL011's registers, and the most that a debug port is believed to have.
const PAGE: u64 = 0x1000;
const MAX_LENGTH: u64 = 0x1_0000;

/// Takes the port out of the table of that signature.
pub(super) fn read(signature: [u8; 4], table: Bytes<'_>, found: &mut Description) -> Result<(), Reason> {
    found.serial = match &signature {
        b"SPCR" => spcr(table)?,
        _ => dbg2(table)?,
    };
    Ok(())
}

/// What SPCR says; `None` where the console is not redirected.
fn spcr(table: Bytes<'_>) -> Result<Option<Serial>, Reason> {
    const IRQ_OF_8259: u8 = 1 << 0;
    let kind = SerialKind::from(u16::from(table.u8(36)?));
    let address = table.address(40)?;
    if address.address == 0 {
        return Ok(None);
    }
    // The interrupt's types are bits: bit 0 gives the 8259s' number in one field, every other the global one.
    let line = match table.u8(52)? {
        0 => 0,
        IRQ_OF_8259 => table.u8(53)?.into(),
        _ => table.u32(54)?,
    };
    Ok(Some(Serial {
        kind,
        registers: registers(kind, address, 0)?,
        line: (line != 0).then_some(line),
    }))
}

/// What DBG2 says: the first serial port of a known kind, else of any.
fn dbg2(table: Bytes<'_>) -> Result<Option<Serial>, Reason> {
    let (mut at, count) = (table.u32(36)? as usize, table.u32(40)?);
    let mut best = Ok(None);
    for _ in 0..count {
        let length = table.0.get(at..).and_then(|rest| Bytes(rest).u16(1).ok()).unwrap_or(0);
        // The least that a device's fields take, so that every step goes on.
        let Some(device) = table.part(at, length.into()).filter(|device| device.0.len() >= 22) else {
            return best.and_then(|best| best.map(Some).ok_or(Reason::Entry));
        };
        at = at.saturating_add(device.0.len());
        match (port(device), best) {
            (Ok(Some(port)), _) if !matches!(port.kind, SerialKind::Other(_)) => return Ok(Some(port)),
            (Ok(Some(port)), Ok(None) | Err(_)) => best = Ok(Some(port)),
            (Err(reason), Ok(None)) => best = Err(reason),
            _ => {}
        }
    }
    best
}

/// One debug device; `None` where it is no serial port.
fn port(device: Bytes<'_>) -> Result<Option<Serial>, Reason> {
    const SERIAL: u16 = 0x8000;
    if device.u16(12)? != SERIAL || device.u8(3)? == 0 {
        return Ok(None);
    }
    let kind = SerialKind::from(device.u16(14)?);
    let address = device.address(device.u16(18)?.into())?;
    let length = device.u32(device.u16(20)?.into()).unwrap_or(0);
    Ok(Some(Serial {
        kind,
        registers: registers(kind, address, length.into())?,
        line: None,
    }))
}

/// Where the registers are and how they are to be accessed; `length` as firmware gives it, or 0.
fn registers(kind: SerialKind, address: Address, length: u64) -> Result<Registers, Reason> {
    match address.space {
        Address::PORTS => Ok(Registers::Ports {
            first: address.address.try_into().map_err(|_| Reason::Value)?,
        }),
        Address::MEMORY => {
            // A PL011 takes no bytes, whatever firmware says; other widths that make no sense stand for the least that
            // the port takes.
            let width = match (kind, address.width()) {
                (SerialKind::Sbsa32, _) => 4,
                (SerialKind::Pl011 | SerialKind::Sbsa, Some(width @ (2 | 4))) => width,
                (SerialKind::Pl011 | SerialKind::Sbsa, _) => 4,
                (_, Some(width @ (1 | 2 | 4))) => width,
                _ => 1,
            };
            let least = match kind {
                SerialKind::Ns16550 => 8 * u64::from(width),
                _ => PAGE,
            };
            let length = if length > MAX_LENGTH { least } else { length.max(least) };
            let range = range(address.address, length).ok_or(Reason::Value)?;
            Ok(Registers::Memory { range, width })
        }
        _ => Err(Reason::Value),
    }
}

impl From<u16> for SerialKind {
    fn from(subtype: u16) -> Self {
        match subtype {
            // 0x12: with the accesses that the address structure states.
            0x00 | 0x01 | 0x05 | 0x12 => Self::Ns16550,
            0x03 => Self::Pl011,
            0x0d => Self::Sbsa32,
            0x0e => Self::Sbsa,
            other => Self::Other(other),
        }
    }
}
