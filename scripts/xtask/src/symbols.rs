//! The symbol table that the kernel reads from its initramfs (`/boot/kernel.sym`) to put names on a backtrace.
//!
//! It is made for a look-up that allocates nothing: a binary search over fixed-size records. Layout, little-endian:
//!
//! | offset | content |
//! |---|---|
//! | 0 | magic `BRXSYM1\0` |
//! | 8 | u32 count |
//! | 12 | count × { u64 address, u32 name offset, u32 name length }, ascending by address, each address once |
//! | 12 + 16·count | the names, demangled UTF-8; name offsets count from here |
//!
//! An address belongs to the last symbol that is not above it.

use anyhow::{Context, Result};
use object::{Object, ObjectSymbol, SymbolKind};
use std::collections::BTreeMap;

/// What a table starts with.
pub const MAGIC: &[u8; 8] = b"BRXSYM1\0";

/// The functions (and code labels of assembly) of an ELF file, demangled, by address.
///
/// # Errors
/// The file is no object file.
pub fn functions(elf: &[u8]) -> Result<BTreeMap<u64, String>> {
    let file = object::File::parse(elf).context("the kernel is no object file")?;
    let mut by_address = BTreeMap::new();
    for symbol in file.symbols() {
        let code = symbol.kind() == SymbolKind::Text
            || symbol.kind() == SymbolKind::Label
            || (symbol.kind() == SymbolKind::Unknown && in_code(&file, &symbol));
        let Ok(name) = symbol.name() else { continue };
        // `$x`, `$d`: the Arm ELF mapping symbols; `.L`: an assembler's own labels.
        if !code || symbol.address() == 0 || name.is_empty() || name.starts_with('$') || name.starts_with(".L") {
            continue;
        }
        let demangled = format!("{:#}", rustc_demangle::demangle(name));
        // Of several names for one address a function's wins over a label's.
        if symbol.kind() == SymbolKind::Text {
            by_address.insert(symbol.address(), demangled);
        } else {
            by_address.entry(symbol.address()).or_insert(demangled);
        }
    }
    Ok(by_address)
}

fn in_code(file: &object::File<'_>, symbol: &object::Symbol<'_, '_>) -> bool {
    use object::ObjectSection;
    let section = symbol
        .section_index()
        .and_then(|index| file.section_by_index(index).ok());
    section.is_some_and(|section| section.kind() == object::SectionKind::Text)
}

/// The table's bytes.
pub fn table(functions: &BTreeMap<u64, String>) -> Vec<u8> {
    let mut records = Vec::new();
    let mut names = Vec::new();
    for (address, name) in functions {
        records.extend_from_slice(&address.to_le_bytes());
        records.extend_from_slice(&(names.len() as u32).to_le_bytes());
        records.extend_from_slice(&(name.len() as u32).to_le_bytes());
        names.extend_from_slice(name.as_bytes());
    }
    let count = functions.len() as u32;
    [MAGIC.as_slice(), &count.to_le_bytes(), &records, &names].concat()
}

/// `name+0x10` for an address inside the kernel, by the functions of its ELF file.
pub fn describe(functions: &BTreeMap<u64, String>, address: u64) -> Option<String> {
    let (start, name) = function(functions, address)?;
    Some(format!("{name}+{:#x}", address - start))
}

/// Where the function begins that an address is in, and its name; `None` outside the kernel.
pub fn function(functions: &BTreeMap<u64, String>, address: u64) -> Option<(u64, &str)> {
    let (start, name) = functions.range(..=address).next_back()?;
    // Beyond any function's length the address is not the kernel's.
    (address - start < 1 << 20).then_some((*start, name))
}

/// The address of the static called `name`, unmangled.
pub fn static_address(elf: &[u8], name: &str) -> Option<u64> {
    let file = object::File::parse(elf).ok()?;
    file.symbols()
        .find(|symbol| symbol.name() == Ok(name))
        .map(|symbol| symbol.address())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> BTreeMap<u64, String> {
        BTreeMap::from([
            (0xffff_0000_0000_2000, "b::two".to_owned()),
            (0xffff_0000_0000_1000, "a::eins".to_owned()),
        ])
    }

    #[test]
    fn layout_is_the_documented_one() {
        let bytes = table(&sample());
        assert_eq!(&bytes[..8], MAGIC);
        assert_eq!(&bytes[8..12], &2u32.to_le_bytes());
        assert_eq!(&bytes[12..20], &0xffff_0000_0000_1000u64.to_le_bytes());
        assert_eq!(&bytes[20..28], &[0, 0, 0, 0, 7, 0, 0, 0]);
        assert_eq!(&bytes[36..44], &[7, 0, 0, 0, 6, 0, 0, 0]);
        assert_eq!(&bytes[44..], b"a::einsb::two");
    }

    #[test]
    fn an_address_belongs_to_the_symbol_below() {
        assert_eq!(
            describe(&sample(), 0xffff_0000_0000_1010).as_deref(),
            Some("a::eins+0x10")
        );
        assert_eq!(describe(&sample(), 0xffff_0000_0000_0fff), None);
        assert_eq!(describe(&sample(), u64::MAX), None);
    }

    #[test]
    fn this_program_s_own_symbols_are_found() {
        let Ok(elf) = std::fs::read(std::env::current_exe().unwrap()) else {
            return;
        };
        let found = functions(&elf).unwrap();
        assert!(found.values().any(|name| name.ends_with("symbols::functions")));
    }
}
