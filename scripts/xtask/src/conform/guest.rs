//! The two guests: the same initramfs, the same machine, our kernel and the distribution's.

use super::build::{Built, NOLIBC, Program};
use crate::arch::Arch;
use crate::follow;
use crate::initramfs;
use crate::linux;
use crate::machine::{Boot, Machine};
use crate::project::Profile;
use crate::session::{self, Input, Outcome};
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Of a guest with all programs.
const LIMIT: Duration = Duration::from_secs(3600);
/// Of a program, in seconds of the guest's.
const PROGRAM_LIMIT: u64 = 45;
/// Programs that need longer on an emulated machine.
const SLOW: [(&str, u64); 7] = [
    ("std/inner", 240),
    ("std/sync", 240),
    ("std/time", 240),
    ("timers/posix_timers", 120),
    ("timers/nsleep-lat", 120),
    ("seccomp/seccomp_bpf", 240),
    ("proc/proc-pid-vm", 90),
];

/// What is booted on an architecture.
pub struct Guests {
    /// Ours.
    pub ours: Boot,
    /// The distribution's.
    pub linux: Boot,
}

impl Guests {
    /// Puts the programs into an initramfs with our own, and builds our kernel.
    ///
    /// # Errors
    /// A build failed, or there is no Linux.
    pub fn new(arch: Arch, built: &Built, programs: &[Program], profile: Profile) -> Result<Self> {
        let tree = super::build::place(arch).join("tree");
        lay_out(&tree, built, programs)?;
        let mut ours = Boot::build(arch, profile)?;
        ours.initramfs = initramfs::build_with(arch, &ours.elf, &tree)?;
        let linux = Boot {
            image: linux::kernel(arch)?,
            ..ours.clone()
        };
        Ok(Self { ours, linux })
    }
}

/// The directories of the programs, whole, and what `runner.sh` is to run.
fn lay_out(tree: &Path, built: &Built, programs: &[Program]) -> Result<()> {
    if tree.exists() {
        fs::remove_dir_all(tree).with_context(|| format!("cannot remove {}", tree.display()))?;
    }
    let root = tree.join("conform");
    let mut directories: Vec<&str> = programs.iter().map(|program| program.directory.as_str()).collect();
    directories.sort_unstable();
    directories.dedup();
    for directory in directories {
        copy(&built.root.join(directory), &root.join(directory))?;
    }
    let limit = |path: &str| {
        SLOW.iter()
            .find(|(slow, _)| *slow == path)
            .map_or(PROGRAM_LIMIT, |slow| slow.1)
    };
    let lines: String = programs
        .iter()
        .map(|program| format!("{} {} {}\n", limit(&program.path()), program.directory, program.name))
        .collect();
    fs::write(root.join("list"), lines)?;
    fs::write(root.join("run"), include_str!("runner.sh"))?;
    Ok(())
}

/// The files of one directory, but for what only the build needed.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        let needless = path
            .extension()
            .is_some_and(|end| ["o", "a"].iter().any(|needless| end == *needless));
        if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&path)?, &target)?;
        } else if kind.is_file() && !needless {
            fs::copy(&path, &target).with_context(|| format!("cannot copy {}", path.display()))?;
        }
    }
    Ok(())
}

/// How both are booted. Addresses that are signed cost an emulator least by an algorithm of its own.
fn machine(arch: Arch) -> Machine {
    let mut words = linux::words(arch);
    if arch == Arch::X86_64 {
        // A host that is busy lets the timer come too late to count as connected.
        words.push("no_timer_check".to_owned());
    }
    Machine {
        memory: "2G".to_owned(),
        processor: (arch == Arch::Aarch64).then_some("max,pauth-impdef=on"),
        words,
        ..Machine::default()
    }
}

/// Boots one and has it run the list.
///
/// # Errors
/// QEMU cannot be started.
pub fn programs(boot: &Boot, what: &str) -> Result<Outcome> {
    let mut machine = machine(boot.arch);
    machine.words.push("run=\"/bin/sh /conform/run\"".to_owned());
    let (bar, listener) = follow::bar(what, "CONFORM", "programs", 20);
    let outcome = session::run(&machine, boot, Input::None, LIMIT, listener)?;
    bar.finish_and_clear();
    Ok(outcome)
}

/// Boots one with nolibc-test as its first process.
///
/// # Errors
/// QEMU cannot be started.
pub fn first_process(boot: &Boot) -> Result<Outcome> {
    let mut machine = machine(boot.arch);
    // The one word is for us, the other for Linux.
    let path = format!("/conform/{NOLIBC}/nolibc-test");
    machine.words.extend([format!("init={path}"), format!("rdinit={path}")]);
    session::run(&machine, boot, Input::None, Duration::from_secs(300), |_| {})
}
