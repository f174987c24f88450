//! The kernel's ELF file: where its parts go, where it is entered, which build it is.
//!
//! The image is loaded as one piece, its segments at the distances that their physical addresses have; the piece itself
//! may stand anywhere on a [`ALIGNMENT`] boundary.

use alloc::vec::Vec;
use core::fmt;

use elf::{
    ElfBytes,
    abi::{ELFOSABI_SYSV, EM_AARCH64, EM_X86_64, ET_DYN, ET_EXEC, PT_LOAD, PT_NOTE},
    endian::LittleEndian,
    file::Class,
    note::Note,
    segment::ProgramHeader,
};

/// Where an image may start.
pub const ALIGNMENT: u64 = 2 << 20;

/// Bytes of an image in memory, at most.
pub const MOST: u64 = 256 << 20;

/// What the file must be made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// 64-bit Arm.
    Aarch64,
    /// x86-64.
    X86_64,
}

/// A part of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where in the file, in bytes.
    pub file: core::ops::Range<usize>,
    /// Where in the image, in bytes from its start.
    pub at: usize,
}

/// What to do with a kernel file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Bytes of the image in memory; what no part fills is zero.
    pub size: usize,
    /// The parts.
    pub parts: Vec<Part>,
    /// The entry, in bytes from the image's start.
    pub entry: usize,
    /// The GNU build id.
    pub build_id: [u8; 20],
}

/// Why a file is no kernel for this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No 64-bit little-endian ELF program, or a broken one.
    NoElf,
    /// A program for another machine.
    WrongMachine,
    /// A segment lies outside the file.
    Truncated,
    /// Segments overlap, or lie too far apart, or there are none.
    BadSegments,
    /// The entry is in no segment's bytes.
    BadEntry,
    /// No build id.
    NoBuildId,
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::NoElf => "it is no 64-bit ELF program",
            Self::WrongMachine => "it is a program for another machine",
            Self::Truncated => "it is cut off",
            Self::BadSegments => "its segments make no image",
            Self::BadEntry => "its entry is not in it",
            Self::NoBuildId => "it has no build id",
        })
    }
}

impl Plan {
    /// Reads a file.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn of(file: &[u8], machine: Machine) -> Result<Self, Error> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(file).map_err(|_| Error::NoElf)?;
        let header = &elf.ehdr;
        let sound = header.class == Class::ELF64 && header.osabi == ELFOSABI_SYSV;
        if !sound || !matches!(header.e_type, ET_EXEC | ET_DYN) {
            return Err(Error::NoElf);
        }
        let expected = match machine {
            Machine::Aarch64 => EM_AARCH64,
            Machine::X86_64 => EM_X86_64,
        };
        if header.e_machine != expected {
            return Err(Error::WrongMachine);
        }
        let segments = elf.segments().ok_or(Error::BadSegments)?;
        let loads = || segments.iter().filter(|segment| segment.p_type == PT_LOAD);
        let base = loads().map(|load| load.p_paddr).min().ok_or(Error::BadSegments)?;
        if !base.is_multiple_of(ALIGNMENT) {
            return Err(Error::BadSegments);
        }
        let mut size = 0;
        let mut parts: Vec<Part> = Vec::new();
        for load in loads() {
            let part = part(&load, base, file.len())?;
            let end = part.at as u64 + load.p_memsz;
            // In ascending order, so that none lies over another.
            if (part.at as u64) < size || end > MOST {
                return Err(Error::BadSegments);
            }
            size = end;
            parts.push(part);
        }
        let entry = loads()
            .find_map(|load| {
                let within = header.e_entry.checked_sub(load.p_vaddr)?;
                (within < load.p_filesz).then(|| load.p_paddr - base + within)
            })
            .ok_or(Error::BadEntry)?;
        let build_id = segments
            .iter()
            .filter(|segment| segment.p_type == PT_NOTE)
            .filter_map(|notes| elf.segment_data_as_notes(&notes).ok())
            .flatten()
            .find_map(|note| match note {
                Note::GnuBuildId(id) => id.0.try_into().ok(),
                _ => None,
            })
            .ok_or(Error::NoBuildId)?;
        Ok(Self {
            size: size as usize,
            parts,
            entry: entry as usize,
            build_id,
        })
    }
}

fn part(load: &ProgramHeader, base: u64, file: usize) -> Result<Part, Error> {
    let end = load.p_offset.checked_add(load.p_filesz).ok_or(Error::Truncated)?;
    if end > file as u64 {
        return Err(Error::Truncated);
    }
    let at = load.p_paddr - base;
    if load.p_filesz > load.p_memsz || at > MOST || load.p_memsz > MOST {
        return Err(Error::BadSegments);
    }
    Ok(Part {
        file: load.p_offset as usize..end as usize,
        at: at as usize,
    })
}

#[cfg(test)]
mod tests;
