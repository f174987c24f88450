//! The kernel's own symbols, for backtraces.
//!
//! The host tool writes them as `boot/kernel.sym` into the initramfs, sorted by address and demangled, so that a look-up
//! needs neither memory nor a parser and works in the middle of a panic. Layout (little-endian):
//! `"BRXSYM1\0"`, `u32` count, count × { `u64` address, `u32` name offset, `u32` name length }, names.

use spin::Once;

use crate::{fs::initramfs, mm::frame::Loaded};

const MAGIC: &[u8; 8] = b"BRXSYM1\0";
const HEADER: usize = 12;
const ENTRY: usize = 16;

static TABLE: Once<Table> = Once::new();

/// A symbol table over borrowed bytes.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    entries: &'static [u8],
    names: &'static [u8],
}

impl Table {
    /// Checks the header; `None` if the bytes are no symbol table.
    pub fn parse(bytes: &'static [u8]) -> Option<Self> {
        let count = u32::from_le_bytes(bytes.strip_prefix(MAGIC)?.get(..4)?.try_into().ok()?) as usize;
        let (entries, names) = bytes.get(HEADER..)?.split_at_checked(count.checked_mul(ENTRY)?)?;
        Some(Self { entries, names })
    }

    fn entry(&self, index: usize) -> Option<(u64, &'static str)> {
        let entry = self.entries.get(index * ENTRY..(index + 1) * ENTRY)?;
        let address = u64::from_le_bytes(entry[..8].try_into().ok()?);
        let offset = u32::from_le_bytes(entry[8..12].try_into().ok()?) as usize;
        let length = u32::from_le_bytes(entry[12..].try_into().ok()?) as usize;
        let name = self.names.get(offset..offset.checked_add(length)?)?;
        Some((address, core::str::from_utf8(name).ok()?))
    }

    /// The symbol at or before `address`, and the bytes from its start.
    pub fn look_up(&self, address: u64) -> Option<(&'static str, u64)> {
        let (mut low, mut high) = (0, self.entries.len() / ENTRY);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.entry(middle)?.0 <= address {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let (start, name) = self.entry(low.checked_sub(1)?)?;
        Some((name, address - start))
    }
}

/// Finds the table in the initramfs and keeps it; false if it has none.
pub fn init(initramfs: &mut Loaded) -> bool {
    let place = initramfs::find(initramfs.bytes(), b"boot/kernel.sym");
    let bytes = place.and_then(|place| initramfs.keep(place));
    match bytes.and_then(Table::parse) {
        Some(table) => {
            TABLE.call_once(|| table);
            true
        }
        None => false,
    }
}

/// The symbol at or before `address`, and the bytes from its start; `None` before [`init`] found a table.
pub fn look_up(address: u64) -> Option<(&'static str, u64)> {
    TABLE.get()?.look_up(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(symbols: &[(u64, &str)]) -> &'static [u8] {
        let mut bytes = MAGIC.to_vec();
        bytes.extend((symbols.len() as u32).to_le_bytes());
        let mut offset = 0;
        for (address, name) in symbols {
            bytes.extend(address.to_le_bytes());
            bytes.extend((offset as u32).to_le_bytes());
            bytes.extend((name.len() as u32).to_le_bytes());
            offset += name.len();
        }
        bytes.extend(symbols.iter().flat_map(|(_, name)| name.bytes()));
        bytes.leak()
    }

    #[test]
    fn finds_the_symbol_that_covers_an_address() {
        let table = Table::parse(table(&[(0x1000, "first"), (0x1800, "second"), (0x2000, "third")])).unwrap();
        assert_eq!(table.look_up(0xfff), None);
        assert_eq!(table.look_up(0x1000), Some(("first", 0)));
        assert_eq!(table.look_up(0x1fff), Some(("second", 0x7ff)));
        assert_eq!(table.look_up(u64::MAX), Some(("third", u64::MAX - 0x2000)));
    }

    #[test]
    fn truncated_tables_are_refused_or_yield_nothing() {
        let whole = table(&[(0x1000, "first"), (0x1800, "second")]);
        for length in 0..whole.len() {
            if let Some(table) = Table::parse(&whole[..length]) {
                table.look_up(0x1900);
            }
        }
        assert!(Table::parse(b"BRXSYM1\0\xff\xff\xff\xff").is_none());
    }
}
