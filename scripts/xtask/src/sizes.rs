//! `cargo xtask sizes`: how large what is booted has become.

use crate::arch::Arch;
use crate::machine::Boot;
use crate::project::Profile;
use anyhow::{Context, Result};
use object::{Object, ObjectSection, SectionFlags, SectionKind, elf};
use std::fs;

/// What the loaded sections of an ELF file take, by what they hold.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sections {
    text: u64,
    rodata: u64,
    data: u64,
    bss: u64,
}

impl Sections {
    fn of(bytes: &[u8]) -> Result<Self> {
        let file = object::File::parse(bytes).context("the kernel is no object file")?;
        let mut sizes = Self::default();
        for section in file.sections() {
            let SectionFlags::Elf { sh_flags, .. } = section.flags() else {
                continue;
            };
            let has = |flag: elf::SectionFlags| (sh_flags & flag) == flag;
            if !has(elf::SHF_ALLOC) {
                continue;
            }
            let kind = match section.kind() {
                SectionKind::UninitializedData | SectionKind::UninitializedTls => &mut sizes.bss,
                _ if has(elf::SHF_EXECINSTR) => &mut sizes.text,
                // Constants that are addresses make the linker call the whole section writable; the kernel maps it read-only.
                _ if section.name()?.starts_with(".rodata") => &mut sizes.rodata,
                _ if has(elf::SHF_WRITE) => &mut sizes.data,
                _ => &mut sizes.rodata,
            };
            *kind += section.size();
        }
        Ok(sizes)
    }
}

/// Builds for `arch` and says, in bytes, how large everything is.
///
/// # Errors
/// The build failed.
pub fn of(arch: Arch, profile: Profile) -> Result<String> {
    let boot = Boot::build(arch, profile)?;
    let sections = Sections::of(&fs::read(&boot.elf)?)?;
    let file = |path: &std::path::Path| fs::metadata(path).map(|metadata| metadata.len());
    Ok(format!(
        "{} build {}: text {}, rodata {}, data {}, bss {}; ELF file with symbols {}, what QEMU loads {} ({}), initramfs {}",
        arch.name(),
        boot.build_id,
        sections.text,
        sections.rodata,
        sections.data,
        sections.bss,
        file(&boot.elf)?,
        file(&boot.image)?,
        boot.image.file_name().unwrap_or_default().display(),
        file(&boot.initramfs)?
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::ObjectSegment;

    #[test]
    fn sections_add_up_to_what_is_loaded() {
        let bytes = fs::read(std::env::current_exe().unwrap()).unwrap();
        let sizes = Sections::of(&bytes).unwrap();
        assert!(
            sizes.text > 0 && sizes.rodata > 0 && sizes.data > 0 && sizes.bss > 0,
            "{sizes:?}"
        );
        let file = object::File::parse(bytes.as_slice()).unwrap();
        let loaded: u64 = file.segments().map(|segment| segment.size()).sum();
        let sum = sizes.text + sizes.rodata + sizes.data + sizes.bss;
        // Between sections there is room for alignment.
        assert!(
            sum.abs_diff(loaded) < 64 << 10,
            "{sum} in sections, {loaded} in segments"
        );
    }
}
