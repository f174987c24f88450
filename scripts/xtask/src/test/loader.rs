//! Disks that the UEFI loader cannot start a kernel from: it says why, and firmware goes on.

use super::Tally;
use crate::arch::Arch;
use crate::console::Console;
use crate::disk::{EspFile, config, entry};
use crate::machine::{Boot, Machine, Root};
use crate::project::{self, Profile};
use crate::uefi::{Controller, UefiDisk};
use anyhow::{Context, Result};
use object::elf::{FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, Object};

/// What is done to a good disk, and what the loader must say of it.
struct Fault {
    name: &'static str,
    damage: fn(&mut Vec<EspFile>) -> Result<()>,
    says: &'static str,
}

const FAULTS: [Fault; 6] = [
    Fault {
        name: "no configuration",
        damage: |files| {
            files.retain(|file| file.path != config::PATH);
            Ok(())
        },
        says: "cannot read breenix/breenix.cfg: NOT_FOUND",
    },
    Fault {
        name: "bad configuration",
        damage: |files| {
            content(files, config::PATH)?.splice(0..0, *b"kernal = breenix/kernel\n");
            Ok(())
        },
        says: "bad configuration breenix/breenix.cfg: line 1: unknown key \"kernal\"",
    },
    Fault {
        name: "no kernel",
        damage: |files| {
            files.retain(|file| file.path != config::KERNEL);
            Ok(())
        },
        says: "cannot read breenix\\kernel: NOT_FOUND",
    },
    Fault {
        name: "half a kernel",
        damage: |files| {
            let kernel = content(files, config::KERNEL)?;
            kernel.truncate(kernel.len() / 2);
            Ok(())
        },
        says: "the kernel is corrupt: it is cut off",
    },
    Fault {
        name: "another build",
        damage: |files| {
            let kernel = content(files, config::KERNEL)?;
            let id = object::File::parse(&**kernel)?
                .build_id()?
                .context("the kernel has no build id")?
                .to_vec();
            let at = kernel.windows(id.len()).position(|bytes| bytes == id);
            kernel[at.context("the build id is not in the kernel")?] ^= 0xff;
            Ok(())
        },
        says: ": copy loader and kernel together",
    },
    Fault {
        name: "too little memory",
        damage: |files| claim_memory(content(files, config::KERNEL)?, 240 << 20),
        says: "too little memory: no free ",
    },
];

/// A file's content.
fn content<'a>(files: &'a mut [EspFile], path: &str) -> Result<&'a mut Vec<u8>> {
    let file = files.iter_mut().find(|file| file.path == path);
    Ok(&mut file.with_context(|| format!("no {path} on the disk"))?.data)
}

/// Makes a kernel ask for `bytes` of memory in its last segment.
fn claim_memory(kernel: &mut [u8], bytes: u64) -> Result<()> {
    /// Of a program header: its length, and where `p_memsz` is in it (ELF-64 object file format, figure 6).
    const LENGTH: usize = 56;
    const MEMORY_SIZE: usize = 40;
    let header = FileHeader64::<Endianness>::parse(&*kernel)?;
    let endian = header.endian()?;
    let headers = header.program_headers(endian, &*kernel)?;
    let last = headers.iter().rposition(|segment| segment.p_type(endian) == PT_LOAD);
    let at = header.e_phoff(endian) as usize + LENGTH * last.context("no LOAD segment")? + MEMORY_SIZE;
    kernel[at..at + 8].copy_from_slice(&bytes.to_le_bytes());
    Ok(())
}

/// Each fault, one boot each.
///
/// # Errors
/// A build failed.
pub fn all(arch: Arch) -> Result<Tally> {
    let boot = Boot::build(arch, Profile::Release)?;
    let loader = project::build_loader(arch, &boot.build_id)?;
    let mut tally = Tally::default();
    for fault in &FAULTS {
        let (mut files, _) = entry::files(&boot, &loader, "quiet", Root::Initramfs)?;
        (fault.damage)(&mut files)?;
        let image = project::target_dir()
            .join("test")
            .join(format!("{}-loader.img", arch.name()));
        let controller = Controller::Virtio;
        let machine = Machine {
            cpus: 1,
            memory: "256M".to_owned(),
            uefi: Some(UefiDisk::holding(arch, files, None, controller, image)?),
            ..Machine::default()
        };
        let result = watch(&machine, &boot, fault);
        if let Err(error) = &result {
            println!("{}: a disk with {}: {error:#}", arch.name(), fault.name);
        }
        tally.add(&Tally::of(result.is_ok()));
    }
    Ok(tally)
}

/// Waits for what the loader says, and for firmware to notice.
fn watch(machine: &Machine, boot: &Boot, fault: &Fault) -> Result<()> {
    let mut console = Console::boot(machine, boot)?;
    let seen = console
        .expect("Breenix loader: ")
        .and_then(|_| console.expect(fault.says))
        .and_then(|_| console.expect("Breenix loader: back to the firmware"))
        .and_then(|_| console.expect("Load Error"));
    seen.map(|_| ()).map_err(|error| error.context(console.autopsy()))
}
