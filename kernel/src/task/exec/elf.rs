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
    mm::Prot,
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
                program.segments.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
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
