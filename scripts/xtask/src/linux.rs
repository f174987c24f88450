//! The distribution's Linux, booted where ours is: to measure and to test programs on both.

use crate::arch::Arch;
use crate::project;
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::process::Command;

/// What `scripts/setup --linux` keeps for an architecture, fetched if it is not there; where that fails, nothing if it is `optional`.
///
/// # Errors
/// It cannot be had and is not optional.
pub fn cached(arch: Arch, name: &str, optional: bool) -> Result<Option<PathBuf>> {
    cached_by("--linux", arch, name, optional)
}

/// The same of what `scripts/setup` fetches by another option.
///
/// # Errors
/// It cannot be had and is not optional.
pub fn cached_by(option: &str, arch: Arch, name: &str, optional: bool) -> Result<Option<PathBuf>> {
    let path = project::cache_dir().join("linux").join(arch.name()).join(name);
    if !path.exists() {
        let mut setup = Command::new(project::root().join("scripts/setup"));
        let status = setup.arg(option).status().context("cannot start scripts/setup")?;
        ensure!(
            status.success() || optional,
            "no Linux to compare with: see what scripts/setup {option} says"
        );
    }
    Ok(path.exists().then_some(path))
}

/// The kernel image for QEMU's `-kernel`.
///
/// # Errors
/// It cannot be had.
pub fn kernel(arch: Arch) -> Result<PathBuf> {
    cached(arch, "vmlinuz", false)?.context("scripts/setup --linux brought no kernel")
}

/// What its command line has to say: the console, and that QEMU ends when the first process does. Ours takes no notice of it.
pub fn words(arch: Arch) -> Vec<String> {
    let console = match arch {
        Arch::Aarch64 => "console=ttyAMA0",
        Arch::X86_64 => "console=ttyS0",
    };
    // Linux panics when its first process ends, and restarts then, which ends QEMU.
    [console, "quiet", "panic=-1"].map(str::to_owned).into()
}
