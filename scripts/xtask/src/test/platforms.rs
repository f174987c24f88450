//! The same kernel on the machines it is meant for: firmware, interrupt controllers, numbers of CPUs, memory, CPU models.
//!
//! Every run takes most of the machines to their shell; `--full` takes each of
//! them through all.

use super::Tally;
use super::guest::{programs_on, report};
use crate::arch::Arch;
use crate::machine::{Boot, Machine, Root};
use crate::project::{self, Profile};
use crate::session::{self, Input};
use crate::uefi::{Controller, UefiDisk};
use crate::verdict;
use anyhow::Result;
use std::time::Duration;

/// Firmware, loader and a shell's few commands, on an emulator that may share its CPUs.
const SHELL_LIMIT: Duration = Duration::from_secs(240);

/// How far a run without `--full` goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Everyday {
    /// Through all test programs.
    Programs,
    /// To the shell, which counts the CPUs, and back.
    Shell,
    /// Nowhere.
    No,
}

/// One machine.
struct Platform {
    name: &'static str,
    everyday: Everyday,
    machine: Machine,
    /// Booted by firmware from a disk at this; else by QEMU itself.
    disk: Option<Controller>,
    /// Where its root is.
    root: Root,
}

impl Platform {
    fn new(name: &'static str, everyday: Everyday, change: impl FnOnce(&mut Machine)) -> Self {
        let mut machine = Machine::default();
        change(&mut machine);
        Self {
            name,
            everyday,
            machine,
            disk: None,
            root: Root::Initramfs,
        }
    }

    fn uefi(mut self, controller: Controller) -> Self {
        self.disk = Some(controller);
        self
    }

    fn disk_root(mut self) -> Self {
        self.root = Root::Partition;
        self
    }
}

fn plain(_: &mut Machine) {}

fn gic3(machine: &mut Machine) {
    machine.gic = 3;
}

/// The machines of an architecture.
fn platforms(arch: Arch) -> Vec<Platform> {
    use Controller::{Ahci, Nvme, Virtio};
    use Everyday::{No, Shell};
    let mut all = match arch {
        Arch::Aarch64 => vec![
            Platform::new("device tree, GICv3", Shell, gic3),
            Platform::new("UEFI, GICv2", Shell, plain).uefi(Virtio),
            Platform::new("UEFI, GICv3", No, gic3).uefi(Virtio),
            Platform::new("UEFI, GICv3, disk on NVMe", No, gic3).uefi(Nvme),
            Platform::new("UEFI, GICv3, root on virtio", Shell, gic3)
                .uefi(Virtio)
                .disk_root(),
            Platform::new("UEFI, GICv3, root on NVMe", Shell, gic3)
                .uefi(Nvme)
                .disk_root(),
            Platform::new("cortex-a57", Shell, |machine| machine.processor = Some("cortex-a57")),
            Platform::new("cortex-a72", No, |machine| machine.processor = Some("cortex-a72")),
        ],
        Arch::X86_64 => vec![
            Platform::new("UEFI, disk on NVMe", No, plain).uefi(Nvme),
            Platform::new("UEFI, disk on AHCI", Shell, plain).uefi(Ahci),
            Platform::new("UEFI, root on virtio", No, plain)
                .uefi(Virtio)
                .disk_root(),
            Platform::new("UEFI, root on NVMe", Shell, plain).uefi(Nvme).disk_root(),
            Platform::new("UEFI, root on AHCI", Shell, plain).uefi(Ahci).disk_root(),
            Platform::new("qemu64", Shell, |machine| machine.processor = Some("qemu64")),
            Platform::new("Skylake-Client", No, |machine| {
                machine.processor = Some("Skylake-Client")
            }),
        ],
    };
    let disk = if arch == Arch::Aarch64 { Virtio } else { Nvme };
    all.extend([
        Platform::new("1 CPU", Shell, |machine| machine.cpus = 1),
        Platform::new("a console without an interrupt", Shell, |machine| {
            machine.words.push("console=poll".to_owned());
        }),
        Platform::new("2 CPUs", No, |machine| machine.cpus = 2),
        Platform::new("8 CPUs", No, |machine| machine.cpus = 8),
        Platform::new("UEFI, 8 CPUs", Shell, |machine| {
            machine.cpus = 8;
            machine.gic = 3;
        })
        .uefi(disk),
        Platform::new("256 MiB", No, |machine| machine.memory = "256M".into()),
        Platform::new("UEFI, 256 MiB", Shell, |machine| machine.memory = "256M".into()).uefi(disk),
        Platform::new("8 GiB", No, |machine| machine.memory = "8G".into()),
        Platform::new("UEFI, 8 GiB", Shell, |machine| machine.memory = "8G".into()).uefi(disk),
    ]);
    all
}

/// Boots an architecture's machines.
///
/// # Errors
/// A build failed.
pub fn all(arch: Arch, full: bool) -> Result<Tally> {
    let boot = Boot::build(arch, Profile::Debug)?;
    let mut tally = Tally::default();
    for platform in platforms(arch) {
        let how_far = if full { Everyday::Programs } else { platform.everyday };
        if how_far != Everyday::No {
            println!("{}: {}", arch.name(), platform.name);
            let one = try_one(&boot, &platform, how_far).unwrap_or_else(|error| {
                println!("{error:#}");
                Tally::of(false)
            });
            tally.add(&one);
        }
    }
    Ok(tally)
}

fn try_one(boot: &Boot, platform: &Platform, how_far: Everyday) -> Result<Tally> {
    let mut machine = platform.machine.clone();
    let words: &[&str] = match how_far {
        Everyday::Programs => &["run=tests"],
        _ => &["script", "quiet"],
    };
    machine.words.extend(words.iter().map(|word| (*word).to_owned()));
    let slug: String = platform.name.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    let name = format!("{}-{slug}", boot.arch.name());
    if let Some(controller) = platform.disk {
        let image = project::target_dir().join("test").join(format!("{name}.img"));
        let line = machine.command_line(boot.arch);
        machine.uefi = Some(UefiDisk::make(boot, &line, platform.root, controller, image)?);
    }
    if how_far == Everyday::Programs {
        return programs_on(&machine, boot, &name);
    }
    let cpus = "grep -c processor /proc/cpuinfo";
    let (script, expected) = match platform.root {
        Root::Initramfs => (format!("{cpus}; echo booted\n"), format!("{}\nbooted\n", machine.cpus)),
        // The root is what it says, and all of the shell is read by its way, in memory or not.
        Root::Partition => (
            format!(
                "{cpus}; grep -c '^/dev/.* / cpio ro' /proc/mounts; echo 3 >/proc/sys/vm/drop_caches\n\
                 d=$(sed -n 's,^\\(/dev/[^ ]*\\) / .*,\\1,p' /proc/mounts)\n\
                 dd if=$d bs=64k count=16 iflag=direct 2>/dev/null | cmp -n 1048576 - $d && echo the same\n\
                 cmp /bin/busybox /proc/self/exe && touch /new 2>&1 | grep -o 'Read-only file system'; echo booted\n"
            ),
            format!("{}\n1\nthe same\nRead-only file system\nbooted\n", machine.cpus),
        ),
    };
    let outcome = session::run(&machine, boot, Input::Bytes(script.into_bytes()), SHELL_LIMIT, |_| {})?;
    let result =
        verdict::check_success(&outcome, &boot.build_id).and_then(|()| super::guest::compare(&outcome, &expected));
    if let Err(error) = &result {
        report(&name, &outcome, error)?;
    }
    Ok(Tally::of(result.is_ok()))
}
