//! UEFI firmware for QEMU's machines: Debian's packages `ovmf` and `qemu-efi-aarch64`, or what QEMU itself brings along
//! (Homebrew's does).

use crate::arch::Arch;
use crate::initramfs::write_atomically;
use crate::project;
use anyhow::{Context, Result};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Bytes of each flash chip of QEMU's `virt`; files for it must be as long.
const ARM_FLASH: u64 = 64 << 20;

/// Code, and variables to begin with, by architecture: the names in the directories of [`places`], those to take first first. The
/// two belong together: sizes and layout are fixed in the code.
const AARCH64: [(&str, Option<&str>); 3] = [
    ("AAVMF_CODE.fd", Some("AAVMF_VARS.fd")),
    ("edk2-aarch64-code.fd", Some("edk2-arm-vars.fd")),
    ("QEMU_EFI.fd", None),
];
const X86_64: [(&str, Option<&str>); 3] = [
    ("OVMF_CODE_4M.fd", Some("OVMF_VARS_4M.fd")),
    ("OVMF_CODE.fd", Some("OVMF_VARS.fd")),
    ("edk2-x86_64-code.fd", Some("edk2-i386-vars.fd")),
];

/// What QEMU's flash chips get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firmware {
    /// The program.
    pub code: PathBuf,
    /// Its variables, as they are before the first start.
    pub variables: Option<PathBuf>,
}

impl Firmware {
    /// This computer's.
    ///
    /// # Errors
    /// There is none, with what to install; or a file that is too short for the flash cannot be copied.
    pub fn find(arch: Arch) -> Result<Self> {
        let found = Self::find_in(arch, &places(arch)).with_context(|| {
            format!(
                "no UEFI firmware for {}: install the package {}, or with Homebrew qemu, which brings it along",
                arch.name(),
                match arch {
                    Arch::Aarch64 => "qemu-efi-aarch64",
                    Arch::X86_64 => "ovmf",
                }
            )
        })?;
        match arch {
            Arch::X86_64 => Ok(found),
            Arch::Aarch64 => Ok(Self {
                code: padded(&found.code, ARM_FLASH)?,
                variables: found.variables.map(|file| padded(&file, ARM_FLASH)).transpose()?,
            }),
        }
    }

    fn find_in(arch: Arch, places: &[PathBuf]) -> Option<Self> {
        let names = match arch {
            Arch::Aarch64 => AARCH64,
            Arch::X86_64 => X86_64,
        };
        let pairs = names
            .iter()
            .flat_map(|names| places.iter().map(move |place| (place, names)));
        for (place, (code, variables)) in pairs {
            let code = place.join(code);
            let variables = variables.map(|name| place.join(name));
            if code.is_file() && variables.as_ref().is_none_or(|file| file.is_file()) {
                return Some(Self { code, variables });
            }
        }
        None
    }
}

/// Where firmware may lie.
fn places(arch: Arch) -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = ["OVMF", "AAVMF", "qemu-efi-aarch64", "qemu"]
        .map(|name| Path::new("/usr/share").join(name))
        .into();
    // QEMU's own share directory is beside the directory of its programs.
    let path = env::var_os("PATH").unwrap_or_default();
    let qemu = env::split_paths(&path).map(|directory| directory.join(arch.qemu()));
    places.extend(
        qemu.filter(|program| program.is_file())
            .filter_map(|program| Some(program.parent()?.parent()?.join("share/qemu"))),
    );
    places.extend(["/opt/homebrew/share/qemu", "/usr/local/share/qemu"].map(PathBuf::from));
    places
}

/// A file of this length: the file itself, or a copy with zeros at its end.
fn padded(file: &Path, length: u64) -> Result<PathBuf> {
    let read = || format!("cannot read {}", file.display());
    if fs::metadata(file).with_context(read)?.len() >= length {
        return Ok(file.to_owned());
    }
    let mut bytes = fs::read(file).with_context(read)?;
    bytes.resize(length as usize, 0);
    let directory = project::target_dir().join("firmware");
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let copy = directory.join(file.file_name().context("firmware without a name")?);
    write_atomically(&copy, &bytes)?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::tests::Directory;

    #[test]
    fn code_is_taken_with_its_own_variables() {
        let directory = Directory::new("firmware");
        let places = [directory.path().join("none"), directory.path().to_owned()];
        let put = |name: &str| fs::write(directory.path().join(name), name).unwrap();
        let find = |arch| Firmware::find_in(arch, &places);
        put("OVMF_CODE_4M.fd");
        put("OVMF_CODE.fd");
        put("OVMF_VARS.fd");
        let found = find(Arch::X86_64).unwrap();
        assert_eq!(found.code, directory.path().join("OVMF_CODE.fd"));
        assert_eq!(found.variables, Some(directory.path().join("OVMF_VARS.fd")));
        put("OVMF_VARS_4M.fd");
        assert_eq!(
            find(Arch::X86_64).unwrap().code,
            directory.path().join("OVMF_CODE_4M.fd")
        );
        assert_eq!(find(Arch::Aarch64), None);
        put("QEMU_EFI.fd");
        assert_eq!(find(Arch::Aarch64).unwrap().variables, None);
    }

    #[test]
    fn what_is_long_enough_is_taken_as_it_is() {
        let directory = Directory::new("firmware-length");
        let file = directory.path().join("code.fd");
        fs::write(&file, "four").unwrap();
        assert_eq!(padded(&file, 4).unwrap(), file);
        assert!(padded(&directory.path().join("none"), 4).is_err());
    }
}
