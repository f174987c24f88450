//! Tables built as firmware builds them, and read; then the same ones broken in every way that was thought of, and in
//! some thousands that were not.

mod broken;
mod machines;
mod mutations;
mod odd;
mod structures;

use std::{cell::Cell, vec, vec::Vec};

use super::{Description, Fault, PhysMemory, Reason};

/// Where the simulated memory begins.
const BASE: u64 = 0xbf00_0000;
/// The root pointer's address.
const RSDP: u64 = BASE;
/// Most requests for memory that reading may take, whatever is in the tables.
const MAX_STEPS: usize = 3_000;

/// Memory with tables in it.
#[derive(Clone)]
struct Machine {
    ram: Vec<u8>,
    /// Signatures and addresses.
    tables: Vec<([u8; 4], u64)>,
    steps: Cell<usize>,
}

impl PhysMemory for Machine {
    fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
        self.steps.set(self.steps.get() + 1);
        let start = usize::try_from(address.checked_sub(BASE)?).ok()?;
        self.ram.get(start..start.checked_add(length)?)
    }
}

/// Which list of tables the root pointer leads to.
#[derive(Clone, Copy, PartialEq)]
enum List {
    Rsdt,
    Xsdt,
    Both,
}

impl Machine {
    fn new() -> Self {
        Self {
            // Room for the root pointer.
            ram: vec![0; 64],
            tables: Vec::new(),
            steps: Cell::new(0),
        }
    }

    /// Adds a table, which the list of tables will name.
    fn with(mut self, signature: &[u8; 4], revision: u8, body: &[u8]) -> Self {
        self.table(signature, revision, body);
        self
    }

    /// A FADT whose `DSDT` and `X_DSDT` lead to a DSDT of that code.
    fn with_fadt(mut self, mut fadt: Vec<u8>, code: &[u8]) -> Self {
        let dsdt = self.table(b"DSDT", 2, code);
        self.tables.pop();
        fadt[40 - 36..44 - 36].copy_from_slice(&(dsdt as u32).to_le_bytes());
        if let Some(field) = fadt.get_mut(140 - 36..148 - 36) {
            field.copy_from_slice(&dsdt.to_le_bytes());
        }
        self.with(b"FACP", 6, &fadt)
    }

    fn table(&mut self, signature: &[u8; 4], revision: u8, body: &[u8]) -> u64 {
        let at = self.ram.len().next_multiple_of(16);
        self.ram.resize(at, 0);
        self.ram.extend(signature);
        self.ram.extend((36 + body.len() as u32).to_le_bytes());
        self.ram.extend([revision, 0]);
        self.ram.extend(b"BOCHS BXPC    ");
        self.ram.extend([0; 12]);
        self.ram.extend(body);
        let address = BASE + at as u64;
        self.fix(address);
        self.tables.push((*signature, address));
        address
    }

    /// Writes the list or the lists, and the root pointer.
    fn finish(mut self, list: List) -> Self {
        let tables = self.tables.clone();
        let mut addresses = [0, 0];
        if list != List::Xsdt {
            let body = fields(tables.iter().map(|&(_, address)| (address, 4)));
            addresses[0] = self.table(b"RSDT", 1, &body);
        }
        if list != List::Rsdt {
            let body = fields(tables.iter().map(|&(_, address)| (address, 8)));
            addresses[1] = self.table(b"XSDT", 1, &body);
        }
        let revision = if list == List::Rsdt { 0 } else { 2 };
        self.ram[..8].copy_from_slice(b"RSD PTR ");
        self.ram[9..16].copy_from_slice(&[b'B', b'O', b'C', b'H', b'S', b' ', revision]);
        self.ram[16..20].copy_from_slice(&(addresses[0] as u32).to_le_bytes());
        if revision == 2 {
            self.ram[20..24].copy_from_slice(&36_u32.to_le_bytes());
            self.ram[24..32].copy_from_slice(&addresses[1].to_le_bytes());
        }
        self.fix_root();
        self
    }

    /// The address of the first table of that signature.
    fn address(&self, signature: &[u8; 4]) -> u64 {
        let mut tables = self.tables.iter();
        tables
            .find(|(of, _)| of == signature)
            .map_or(0, |&(_, address)| address)
    }

    /// Overwrites bytes at an address.
    fn write(&mut self, address: u64, bytes: &[u8]) {
        let at = (address - BASE) as usize;
        self.ram[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Overwrites bytes of a table and makes its checksum right again.
    fn patch(mut self, signature: &[u8; 4], offset: u64, bytes: &[u8]) -> Self {
        let address = self.address(signature);
        self.write(address + offset, bytes);
        self.fix(address);
        self
    }

    /// Makes a table's checksum right, if its length is possible.
    fn fix(&mut self, address: u64) {
        let at = (address - BASE) as usize;
        let length = u32::from_le_bytes([4, 5, 6, 7].map(|place| self.ram[at + place])) as usize;
        if let Some(table) = self.ram[at..].get_mut(..length)
            && length >= 36
        {
            set_checksum(table, 9);
        }
    }

    fn fix_root(&mut self) {
        set_checksum(&mut self.ram[..20], 8);
        set_checksum(&mut self.ram[..36], 32);
    }

    fn read(&self) -> Description {
        read(self).expect("a description")
    }

    fn faults(&self) -> Vec<Fault> {
        self.read().faults.to_vec()
    }
}

/// Reads, and checks that it did not take long.
fn read(machine: &Machine) -> Result<Description, super::Error> {
    machine.steps.set(0);
    let outcome = super::read(machine, RSDP);
    assert!(machine.steps.get() <= MAX_STEPS, "{} steps", machine.steps.get());
    outcome
}

fn set_checksum(bytes: &mut [u8], at: usize) {
    bytes[at] = 0;
    bytes[at] = bytes.iter().fold(0, |sum: u8, &byte| sum.wrapping_sub(byte));
}

/// Numbers in so many bytes each.
fn fields(fields: impl IntoIterator<Item = (u64, usize)>) -> Vec<u8> {
    let bytes = fields
        .into_iter()
        .flat_map(|(value, width)| value.to_le_bytes().into_iter().chain([0; 56]).take(width));
    bytes.collect()
}

fn fault(signature: &[u8; 4], reason: Reason) -> Fault {
    Fault {
        signature: *signature,
        reason,
    }
}
