//! What an ELF file asks to be mapped (System V ABI, chapters 4 and 5), checked before anything is done about it.
//!
//! Everything comes from a file that anybody may have written: each number is checked against the file and the address
//! space here, so that mapping can only fail for want of memory.

use alloc::vec::Vec;

use elf::{
    abi::{EM_AARCH64, EM_X86_64, ET_DYN, ET_EXEC, PF_R, PF_W, PF_X, PT_GNU_STACK, PT_INTERP, PT_LOAD, PT_PHDR},
    endian::LittleEndian,
    file::{Class, FileHeader, parse_ident},
    segment::SegmentTable,
};
use hal::{
    PAGE_SIZE,
    abi::Abi,
    arch::{ABI, PageTable},
    traits::PageTableOps,
};

use crate::{
    errno::{Errno, Result},
    mm::{Prot, fallible::TryRoom},
};

const PAGE: u64 = PAGE_SIZE as u64;
/// The file header's size.
pub const HEADER_SIZE: usize = 64;
/// One program header's size.
const ENTRY_SIZE: usize = 56;
/// As Linux: the table fits in 64 KiB.
const MAX_ENTRIES: usize = 65536 / ENTRY_SIZE;

/// A checked file header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whether it can be put anywhere (`ET_DYN`).
    pub relocatable: bool,
    /// Where it starts, before relocation.
    pub entry: u64,
    /// Where its program headers are in the file, and their size.
    pub table: (u64, usize),
}

/// A part of the file to map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its first address, before relocation.
    pub address: u64,
    /// Its first byte in the file: congruent to `address` modulo the page size.
    pub offset: u64,
    /// Bytes from the file.
    pub file_size: u64,
    /// Bytes in memory; what the file does not fill is zero.
    pub memory_size: u64,
    /// Its permissions.
    pub prot: Prot,
}

/// A checked program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The header.
    pub header: Header,
    /// What to map, ascending and disjoint by page.
    pub segments: Vec<Segment>,
    /// Where the program headers are in memory, before relocation; 0 if nowhere.
    pub headers_address: u64,
    /// How many there are.
    pub header_count: usize,
    /// The interpreter's path in the file: offset and length with its zero.
    pub interpreter: Option<(u64, usize)>,
    /// Whether the stack is to be executable.
    pub executable_stack: bool,
}

/// Checks the first bytes of a file.
///
/// # Errors
/// `ENOEXEC` if it is no program for this machine.
pub fn header(bytes: &[u8]) -> Result<Header> {
    let bytes = bytes.get(..HEADER_SIZE).ok_or(Errno::ENOEXEC)?;
    let ident = parse_ident::<LittleEndian>(bytes).map_err(|_| Errno::ENOEXEC)?;
    if ident.1 != Class::ELF64 {
        return Err(Errno::ENOEXEC);
    }
    let header = FileHeader::parse_tail(ident, &bytes[16..]).map_err(|_| Errno::ENOEXEC)?;
    let machine = match ABI {
        Abi::X86_64 => EM_X86_64,
        Abi::Aarch64 => EM_AARCH64,
    };
    let relocatable = match header.e_type {
        ET_EXEC => false,
        ET_DYN => true,
        _ => return Err(Errno::ENOEXEC),
    };
    let count = usize::from(header.e_phnum);
    if header.e_machine != machine
        || usize::from(header.e_phentsize) != ENTRY_SIZE
        || !(1..=MAX_ENTRIES).contains(&count)
    {
        return Err(Errno::ENOEXEC);
    }
    Ok(Header {
        relocatable,
        entry: header.e_entry,
        table: (header.e_phoff, count * ENTRY_SIZE),
    })
}

/// Checks the program headers of a file of `file_size` bytes.
///
/// # Errors
/// `ENOEXEC` if they contradict themselves or the file, `EINVAL` if they leave the address space.
pub fn program(header: Header, table: &[u8], file_size: u64) -> Result<Program> {
    if table.len() != header.table.1 {
        return Err(Errno::ENOEXEC);
    }
    let mut program = Program {
        header,
        segments: Vec::new(),
        headers_address: 0,
        header_count: table.len() / ENTRY_SIZE,
        interpreter: None,
        executable_stack: false,
    };
    for entry in SegmentTable::new(LittleEndian, Class::ELF64, table).iter() {
        match entry.p_type {
            PT_LOAD if entry.p_memsz != 0 => {
                let segment = Segment {
                    address: entry.p_vaddr,
                    offset: entry.p_offset,
                    file_size: entry.p_filesz,
                    memory_size: entry.p_memsz,
                    prot: prot(entry.p_flags),
                };
                check(&segment, program.segments.last(), file_size)?;
                program.segments.try_room(1)?;
                program.segments.push(segment);
            }
            PT_PHDR => program.headers_address = entry.p_vaddr,
            PT_INTERP if program.interpreter.is_none() => {
                let length = entry.p_filesz as usize;
                let end = entry.p_offset.checked_add(entry.p_filesz);
                if !(2..=4096).contains(&length) || end.is_none_or(|end| end > file_size) {
                    return Err(Errno::ENOEXEC);
                }
                program.interpreter = Some((entry.p_offset, length));
            }
            PT_GNU_STACK => program.executable_stack = entry.p_flags & PF_X != 0,
            _ => {}
        }
    }
    if program.segments.is_empty() {
        return Err(Errno::ENOEXEC);
    }
    if program.headers_address == 0 {
        let covering = program.segments.iter().find(|segment| {
            let (at, length) = (header.table.0, header.table.1 as u64);
            segment.offset <= at && at.saturating_add(length) <= segment.offset + segment.file_size
        });
        program.headers_address = covering.map_or(0, |segment| {
            segment.address.wrapping_add(header.table.0 - segment.offset)
        });
    }
    Ok(program)
}

impl Program {
    /// The pages from the first segment's to the last one's: start and length.
    pub fn span(&self) -> (u64, u64) {
        let start = self.segments.first().map_or(0, |segment| segment.address & !(PAGE - 1));
        let end = self.segments.last().map_or(0, Segment::page_end);
        (start, end - start)
    }

    /// The end of the last segment's bytes: where the heap may begin.
    pub fn end(&self) -> u64 {
        self.segments
            .last()
            .map_or(0, |segment| segment.address + segment.memory_size)
    }
}

impl Segment {
    /// The end of its last page. Checked not to overflow.
    fn page_end(&self) -> u64 {
        (self.address + self.memory_size).next_multiple_of(PAGE)
    }
}

fn prot(flags: u32) -> Prot {
    let mut prot = Prot::empty();
    prot.set(Prot::READ, flags & PF_R != 0);
    prot.set(Prot::WRITE, flags & PF_W != 0);
    prot.set(Prot::EXEC, flags & PF_X != 0);
    prot
}

fn check(segment: &Segment, before: Option<&Segment>, file_size: u64) -> Result<()> {
    if segment.file_size > segment.memory_size
        || segment.address % PAGE != segment.offset % PAGE
        || segment
            .offset
            .checked_add(segment.file_size)
            .is_none_or(|end| end > file_size)
    {
        return Err(Errno::ENOEXEC);
    }
    let end = segment.address.checked_add(segment.memory_size);
    if end.is_none_or(|end| end > PageTable::USER_END - PAGE) {
        return Err(Errno::EINVAL);
    }
    if before.is_some_and(|before| before.page_end() > segment.address & !(PAGE - 1)) {
        return Err(Errno::ENOEXEC);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A well-formed program with two segments.
    fn valid() -> Vec<u8> {
        let mut file = alloc::vec![0u8; 8192];
        let machine = match ABI {
            Abi::X86_64 => EM_X86_64,
            Abi::Aarch64 => EM_AARCH64,
        };
        file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        file[16..18].copy_from_slice(&ET_EXEC.to_le_bytes());
        file[18..20].copy_from_slice(&machine.to_le_bytes());
        file[20..24].copy_from_slice(&1u32.to_le_bytes());
        file[24..32].copy_from_slice(&0x40_0100u64.to_le_bytes());
        file[32..40].copy_from_slice(&64u64.to_le_bytes());
        file[52..54].copy_from_slice(&64u16.to_le_bytes());
        file[54..56].copy_from_slice(&56u16.to_le_bytes());
        file[56..58].copy_from_slice(&2u16.to_le_bytes());
        for (i, (flags, offset, address, size)) in [
            (PF_R | PF_X, 0u64, 0x40_0000u64, 4096u64),
            (PF_R | PF_W, 4096, 0x40_2000, 4096),
        ]
        .into_iter()
        .enumerate()
        {
            let at = 64 + i * ENTRY_SIZE;
            file[at..at + 4].copy_from_slice(&PT_LOAD.to_le_bytes());
            file[at + 4..at + 8].copy_from_slice(&flags.to_le_bytes());
            for (j, word) in [offset, address, address, size, size * 2 - 4096 * (1 - i as u64), 4096]
                .iter()
                .enumerate()
            {
                file[at + 8 + j * 8..at + 16 + j * 8].copy_from_slice(&word.to_le_bytes());
            }
        }
        file
    }

    fn read(file: &[u8]) -> Result<Program> {
        let header = header(file)?;
        let start = usize::try_from(header.table.0).map_err(|_| Errno::ENOEXEC)?;
        let end = start.checked_add(header.table.1).ok_or(Errno::ENOEXEC)?;
        program(header, file.get(start..end).ok_or(Errno::ENOEXEC)?, file.len() as u64)
    }

    #[test]
    fn a_program_is_understood() {
        let program = read(&valid()).unwrap();
        assert_eq!(program.segments.len(), 2);
        assert_eq!(program.header.entry, 0x40_0100);
        assert_eq!(program.headers_address, 0x40_0040);
        assert_eq!(program.span(), (0x40_0000, 0x4000));
        assert_eq!(program.end(), 0x40_4000);
    }

    #[test]
    fn truncated_programs_are_refused() {
        let file = valid();
        for length in 0..file.len() {
            assert!(read(&file[..length]).is_err(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn mutated_programs_never_panic_or_leave_the_address_space(
            changes in prop::collection::vec((0usize..192, any::<u8>()), 1..12)
        ) {
            let mut file = valid();
            for (at, byte) in changes {
                file[at] = byte;
            }
            if let Ok(program) = read(&file) {
                for segment in &program.segments {
                    prop_assert!(segment.address + segment.memory_size < PageTable::USER_END);
                    prop_assert!(segment.offset + segment.file_size <= file.len() as u64);
                }
                let (start, length) = program.span();
                prop_assert!(start + length <= PageTable::USER_END);
            }
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            let _ = read(&bytes);
        }
    }
}
