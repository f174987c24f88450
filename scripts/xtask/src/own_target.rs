//! The kernel for the project's own target files, `<arch>-breenix.json`.
//!
//! Such a target has no ready-made core and alloc: cargo builds them too, which needs their sources and unstable options. The
//! compiler in use does it where its sources are installed, told by `RUSTC_BOOTSTRAP` to take such options; else a nightly one
//! with sources. Only here is that variable set, so that elsewhere no unstable feature can slip in. The form of target files is
//! not stable either: rustc 1.95 refuses the softfloat ABI for aarch64 that 1.96 demands. So a compiler is asked first.

use crate::arch::Arch;
use crate::project;
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What must be installed for [`cargo`] to find a way.
pub const NEEDS: &str = "no compiler here both has the sources of core and takes this target file \
    (rustup toolchain install nightly --component rust-src)";

/// A cargo that can build core and alloc for `arch`'s target file, if there is one.
pub fn cargo(arch: Arch) -> Option<Command> {
    if serves(&["rustc"], arch) {
        let mut cargo = project::cargo();
        cargo.env("RUSTC_BOOTSTRAP", "1");
        return Some(cargo);
    }
    if serves(&["rustup", "run", "nightly", "rustc"], arch) {
        let mut cargo = project::cargo();
        cargo.arg("+nightly");
        // The vDSO is built for a target of rustc's own, which the nightly compiler need not have.
        if let Some(sysroot) = says(&["rustc", "--print", "sysroot"]) {
            cargo.env("VDSO_RUSTC", Path::new(&sysroot).join("bin/rustc"));
        }
        return Some(cargo);
    }
    None
}

/// Whether the compiler called by `rustc` has the sources of core and takes the target file.
fn serves(rustc: &[&str], arch: Arch) -> bool {
    let says = |arguments: &[&str]| says(&[rustc, arguments].concat());
    let has_sources = |sysroot: String| Path::new(&sysroot).join("lib/rustlib/src/rust/library/core").exists();
    let target = target(arch).to_string_lossy().into_owned();
    says(&["--print", "sysroot"]).is_some_and(has_sources)
        && says(&["-Z", "unstable-options", "--print", "cfg", "--target", &target]).is_some()
}

/// What a command prints, run with the compiler of this checkout first in the path; `None` if it fails.
fn says(command: &[&str]) -> Option<String> {
    let mut run = Command::new(project::root().join("scripts/compiler"));
    run.args(command)
        .current_dir(project::root())
        .env("RUSTC_BOOTSTRAP", "1");
    let output = run.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn target(arch: Arch) -> PathBuf {
    project::root().join(format!("{}-breenix.json", arch.name()))
}

/// Builds the kernel, optimised, for `arch`'s target file; returns its ELF file.
///
/// # Errors
/// The build failed.
pub fn build_kernel(mut cargo: Command, arch: Arch) -> Result<PathBuf> {
    cargo
        .args([
            "build",
            "--package",
            "kernel",
            "--bin",
            "kernel",
            "--release",
            "--target",
        ])
        .arg(target(arch))
        .args(["-Z", "build-std=core,alloc"]);
    project::kernel_of(project::build(&mut cargo)?)
}
