//! Guests that UEFI firmware boots from a disk.

use crate::arch::Arch;
use crate::disk::{EspFile, entry};
use crate::firmware::Firmware;
use crate::machine::{Boot, Root};
use crate::project;
use anyhow::{Result, ensure};
use clap::ValueEnum;
use std::path::{Path, PathBuf};

/// A disk that UEFI boots from. The guest's writes are lost with it.
#[derive(Clone, Debug)]
pub struct UefiDisk {
    /// What boots it.
    pub firmware: Firmware,
    /// The image, with the guest's command line in it.
    pub image: PathBuf,
    /// How it is connected.
    pub controller: Controller,
}

/// What a disk is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Controller {
    /// virtio, over PCI.
    Virtio,
    /// NVMe.
    Nvme,
    /// AHCI, over PCI.
    Ahci,
}

impl UefiDisk {
    /// Makes the disk for `boot` with this command line of the kernel's, its image at `image`.
    ///
    /// # Errors
    /// There is no firmware, the loader does not build, or the image cannot be written.
    pub fn make(boot: &Boot, command_line: &str, root: Root, controller: Controller, image: PathBuf) -> Result<Self> {
        let loader = project::build_loader(boot.arch, &boot.build_id)?;
        let (files, root) = entry::files(boot, &loader, command_line, root)?;
        Self::holding(boot.arch, files, root.as_deref(), controller, image)
    }

    /// Makes a disk with these files, and this root file system.
    ///
    /// # Errors
    /// There is no firmware, none that knows the controller, or the image cannot be written.
    pub fn holding(
        arch: Arch,
        files: Vec<EspFile>,
        root: Option<&Path>,
        controller: Controller,
        image: PathBuf,
    ) -> Result<Self> {
        ensure!(
            (arch, controller) != (Arch::Aarch64, Controller::Ahci),
            "aarch64's firmware for QEMU knows no AHCI: take --disk virtio or nvme"
        );
        let firmware = Firmware::find(arch)?;
        entry::write(files, root, &image)?;
        Ok(Self {
            firmware,
            image,
            controller,
        })
    }

    /// What QEMU is told of it.
    pub fn arguments(&self) -> Vec<String> {
        // A comma ends a file's name unless it stands twice.
        let file = |path: &Path| path.display().to_string().replace(',', ",,");
        let flash = |unit: u32, path: &Path, how: &str| {
            format!("if=pflash,format=raw,unit={unit},{how}=on,file={}", file(path))
        };
        let mut arguments = vec!["-drive".to_owned(), flash(0, &self.firmware.code, "readonly")];
        if let Some(variables) = &self.firmware.variables {
            arguments.extend(["-drive".to_owned(), flash(1, variables, "snapshot")]);
        }
        let disk = format!("if=none,id=disk,format=raw,snapshot=on,file={}", file(&self.image));
        arguments.extend(["-drive".to_owned(), disk]);
        let devices: &[&str] = match self.controller {
            Controller::Virtio => &["virtio-blk-pci,drive=disk,bootindex=1"],
            Controller::Nvme => &["nvme,drive=disk,serial=breenix,bootindex=1"],
            Controller::Ahci => &["ahci,id=ahci", "ide-hd,bus=ahci.0,drive=disk,bootindex=1"],
        };
        for device in devices {
            arguments.extend(["-device".to_owned(), (*device).to_owned()]);
        }
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;
    use crate::machine::tests::arguments;

    #[test]
    fn firmware_boots_the_disk_and_nothing_else() {
        let disk = |controller| UefiDisk {
            firmware: Firmware {
                code: "code.fd".into(),
                variables: Some("vars.fd".into()),
            },
            image: "a,b.img".into(),
            controller,
        };
        for (controller, device) in [
            (Controller::Virtio, "-device virtio-blk-pci,drive=disk,"),
            (Controller::Nvme, "-device nvme,drive=disk,"),
            (
                Controller::Ahci,
                "-device ahci,id=ahci -device ide-hd,bus=ahci.0,drive=disk,",
            ),
        ] {
            let machine = Machine {
                uefi: Some(disk(controller)),
                ..Machine::default()
            };
            let all = arguments(Arch::Aarch64, &machine);
            assert!(all.contains("unit=0,readonly=on,file=code.fd -drive"), "{all}");
            assert!(all.contains("unit=1,snapshot=on,file=vars.fd"), "{all}");
            assert!(
                all.contains("snapshot=on,file=a,,b.img") && all.contains(device),
                "{all}"
            );
            assert!(!all.contains("-kernel") && !all.contains("-append"), "{all}");
        }
    }
}
