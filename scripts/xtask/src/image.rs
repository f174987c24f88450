//! The kernel's ELF file: its build id, and the flat image that a boot protocol wants.
//!
//! x86_64 boots the ELF itself (PVH finds its entry in a note). aarch64 boots Linux's `Image`, which is the content of the
//! LOAD segments laid out by physical address; the header at its start is part of the kernel's own boot code.

use anyhow::{Context, Result, bail, ensure};
use object::elf::{FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, Object};

/// The most a flat image may take: a segment that is linked far off would make the file huge.
const MAX_IMAGE: u64 = 256 << 20;

/// The build id (`.note.gnu.build-id`) in lower-case hexadecimal.
///
/// # Errors
/// The file is no ELF, or was linked without `--build-id`.
pub fn build_id(elf: &[u8]) -> Result<String> {
    let file = object::File::parse(elf).context("the kernel is no object file")?;
    let id = file
        .build_id()?
        .context("the kernel has no build id: link with --build-id=sha1")?;
    Ok(id.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The LOAD segments of `elf` as they lie in physical memory, from the lowest address on; zero-filled tails are left out.
///
/// # Errors
/// The file is no 64-bit ELF or its segments lie too far apart.
pub fn flatten(elf: &[u8]) -> Result<Vec<u8>> {
    let header = FileHeader64::<Endianness>::parse(elf).context("the kernel is no 64-bit ELF")?;
    let endian = header.endian()?;
    let mut segments = Vec::new();
    for segment in header.program_headers(endian, elf)? {
        if segment.p_type(endian) == PT_LOAD && segment.p_filesz(endian) > 0 {
            let Ok(data) = segment.data(endian, elf) else {
                bail!("a LOAD segment lies outside the file")
            };
            segments.push((segment.p_paddr(endian), data));
        }
    }
    let base = segments
        .iter()
        .map(|(address, _)| *address)
        .min()
        .context("the kernel has no LOAD segment")?;
    let mut image = Vec::new();
    for (address, data) in segments {
        let start = address - base;
        let end = start + data.len() as u64;
        ensure!(
            end <= MAX_IMAGE,
            "a LOAD segment at {address:#x} makes the image larger than {MAX_IMAGE} bytes"
        );
        if image.len() < end as usize {
            image.resize(end as usize, 0);
        }
        image[start as usize..end as usize].copy_from_slice(data);
    }
    Ok(image)
}

/// The ELF file without sections, which is without symbols and what debuggers read: what a loader needs of it.
///
/// # Errors
/// The file is no 64-bit ELF.
pub fn strip(elf: &[u8]) -> Result<Vec<u8>> {
    let header = FileHeader64::<Endianness>::parse(elf).context("the kernel is no 64-bit ELF")?;
    let endian = header.endian()?;
    let headers = header.e_phoff(endian) + u64::from(header.e_phnum(endian)) * u64::from(header.e_phentsize(endian));
    let end = header
        .program_headers(endian, elf)?
        .iter()
        .map(|segment| segment.p_offset(endian) + segment.p_filesz(endian))
        .fold(headers, u64::max);
    let mut stripped = elf
        .get(..end as usize)
        .context("a segment of the kernel lies outside its file")?
        .to_vec();
    // The header's e_shoff, and e_shentsize, e_shnum and e_shstrndx (ELF-64 object file format, figure 2).
    stripped[0x28..0x30].fill(0);
    stripped[0x3a..0x40].fill(0);
    Ok(stripped)
}

/// Checks that `image` starts with the header of Linux's arm64 `Image` (Documentation/arch/arm64/booting.rst, section 4).
///
/// # Errors
/// The magic at offset 56 is missing.
pub fn check_arm64_header(image: &[u8]) -> Result<()> {
    ensure!(
        image.get(56..60) == Some(b"ARM\x64"),
        "the kernel does not start with an arm64 Image header"
    );
    Ok(())
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A little ELF with the given (physical address, content) LOAD segments (ELF-64 object file format, figures 2 and 6).
    pub fn elf(segments: &[(u64, &[u8])]) -> Vec<u8> {
        const HEADER: u64 = 64;
        const ENTRY: u64 = 56;
        let mut out = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        out.extend([2, 0, 183, 0, 1, 0, 0, 0]); // ET_EXEC, EM_AARCH64, version 1
        for word in [0, HEADER, 0] {
            out.extend(u64::to_le_bytes(word)); // entry, program headers, section headers
        }
        out.extend([0; 4]);
        for half in [HEADER as u16, ENTRY as u16, segments.len() as u16, 64, 0, 0] {
            out.extend(half.to_le_bytes());
        }
        let mut offset = HEADER + ENTRY * segments.len() as u64;
        for (address, data) in segments {
            let size = data.len() as u64;
            out.extend([1, 0, 0, 0, 5, 0, 0, 0]); // PT_LOAD, readable and executable
            for word in [offset, 0xffff_0000_0000_0000 + address, *address, size, size + 4096, 8] {
                out.extend(word.to_le_bytes());
            }
            offset += size;
        }
        segments.iter().for_each(|(_, data)| out.extend(*data));
        out
    }

    #[test]
    fn segments_land_at_their_physical_distance() {
        let image = flatten(&elf(&[(0x1010, b"tail"), (0x1000, b"head")])).unwrap();
        assert_eq!(image, b"head\0\0\0\0\0\0\0\0\0\0\0\0tail");
    }

    #[test]
    fn a_stripped_file_has_its_segments_and_no_more() {
        let mut file = elf(&[(0x1000, b"head"), (0x1010, b"tail")]);
        let length = file.len();
        file.extend(b"symbols");
        file[0x28] = length as u8;
        let stripped = strip(&file).unwrap();
        assert_eq!(stripped.len(), length);
        assert_eq!(flatten(&stripped).unwrap(), flatten(&file).unwrap());
        assert!(object::File::parse(&*stripped).unwrap().sections().next().is_none());
        assert!(strip(&file[..length - 1]).is_err());
    }

    #[test]
    fn far_segments_are_refused() {
        assert!(flatten(&elf(&[(0, b"a"), (1 << 40, b"b")])).is_err());
    }

    #[test]
    fn rubbish_is_refused() {
        assert!(flatten(b"not an ELF").is_err());
        assert!(build_id(b"not an ELF").is_err());
        assert!(check_arm64_header(b"short").is_err());
        let mut header = [0; 64];
        header[56..60].copy_from_slice(b"ARM\x64");
        assert!(check_arm64_header(&header).is_ok());
    }
}
