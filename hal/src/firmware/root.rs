//! The way to a table: RSDP, XSDT or RSDT, header (ACPI 6.5, 5.2.5 to 5.2.8).

use super::{Description, Error, PhysMemory, Reason, bytes::Bytes};

/// Bytes of a table's header: signature, length, revision, checksum, OEM's names.
pub(super) const HEADER: usize = 36;
/// Most tables that are looked at; machines have about twenty.
const MAX_TABLES: usize = 256;
/// Most tables of one signature that are tried, where the first ones are broken.
const MAX_TRIES: usize = 4;
/// Bytes that no table of numbers exceeds.
const MAX_LENGTH: usize = 1 << 20;

/// The list of tables.
pub(super) struct Root<'a, M> {
    memory: &'a M,
    entries: &'a [u8],
    /// Bytes of an entry: 8 in the XSDT, 4 in the RSDT.
    width: usize,
}

impl<'a, M: PhysMemory> Root<'a, M> {
    /// Follows the root pointer at `rsdp`. Names the machine by the list's own header.
    pub(super) fn find(memory: &'a M, rsdp: u64, found: &mut Description) -> Result<Self, Error> {
        let pointer = memory.bytes(rsdp, 20).map(Bytes).ok_or(Error::Unreadable)?;
        if !pointer.0.starts_with(b"RSD PTR ") {
            return Err(Error::Signature);
        }
        if !pointer.sums_to_zero() {
            return Err(Error::Checksum);
        }
        let rsdt = pointer.u32(16).unwrap_or(0).into();
        if pointer.u8(15).is_ok_and(|revision| revision >= 2) {
            match extension(memory, rsdp) {
                Ok(0) => {}
                Ok(xsdt) => match table_at(memory, xsdt, *b"XSDT", MAX_LENGTH) {
                    Ok(table) => return Ok(Self::new(memory, table, 8, found)),
                    Err(reason) => found.note(*b"XSDT", reason),
                },
                Err(reason) => found.note(*b"RSDP", reason),
            }
        }
        if rsdt == 0 {
            return Err(Error::List);
        }
        match table_at(memory, rsdt, *b"RSDT", MAX_LENGTH) {
            Ok(table) => Ok(Self::new(memory, table, 4, found)),
            Err(_) => Err(Error::List),
        }
    }

    fn new(memory: &'a M, table: Bytes<'a>, width: usize, found: &mut Description) -> Self {
        for (field, gap) in [(10..16, ""), (16..24, " ")] {
            let bytes = table.0.get(field).unwrap_or(&[]);
            // Both fields and the gap are 15 bytes.
            let _ = found.name.try_push_str(gap);
            for byte in bytes.iter().filter(|byte| byte.is_ascii_graphic()) {
                let _ = found.name.try_push((*byte).into());
            }
        }
        Self {
            memory,
            entries: table.0.get(HEADER..).unwrap_or(&[]),
            width,
        }
    }

    /// The first table of that signature that is whole. Those before it are noted.
    pub(super) fn table(&self, signature: [u8; 4], found: &mut Description) -> Option<Bytes<'a>> {
        let of_signature = self
            .entries
            .chunks_exact(self.width)
            .take(MAX_TABLES)
            .map(|entry| entry.iter().rev().fold(0, |all, &byte| all << 8 | u64::from(byte)))
            .filter(|&address| self.memory.bytes(address, 4).is_some_and(|at| at == signature));
        for address in of_signature.take(MAX_TRIES) {
            match table_at(self.memory, address, signature, MAX_LENGTH) {
                Ok(table) => return Some(table),
                Err(reason) => found.note(signature, reason),
            }
        }
        None
    }
}

/// The XSDT's address from the part of the root pointer that came with revision 2.
fn extension(memory: &impl PhysMemory, rsdp: u64) -> Result<u64, Reason> {
    let pointer = memory.bytes(rsdp, HEADER).map(Bytes).ok_or(Reason::Unreadable)?;
    let length = pointer.u32(20)? as usize;
    if !(HEADER..=4096).contains(&length) {
        return Err(Reason::Length);
    }
    let whole = memory.bytes(rsdp, length).map(Bytes).ok_or(Reason::Unreadable)?;
    if !whole.sums_to_zero() {
        return Err(Reason::Checksum);
    }
    pointer.u64(24)
}

/// The table at an address, header and all, if it is what it is said to be, whole, and at most `longest` bytes.
pub(super) fn table_at<'a>(
    memory: &'a impl PhysMemory,
    address: u64,
    signature: [u8; 4],
    longest: usize,
) -> Result<Bytes<'a>, Reason> {
    let header = memory.bytes(address, HEADER).map(Bytes).ok_or(Reason::Unreadable)?;
    if header.array(0)? != signature {
        return Err(Reason::Signature);
    }
    let length = header.u32(4)? as usize;
    if !(HEADER..=longest).contains(&length) {
        return Err(Reason::Length);
    }
    let table = memory.bytes(address, length).map(Bytes).ok_or(Reason::Unreadable)?;
    if table.sums_to_zero() {
        Ok(table)
    } else {
        Err(Reason::Checksum)
    }
}
