//! The kernel for the project's own target files, `<arch>-breenix.json`.
//!
//! Such a target has no ready-made core and alloc: cargo builds them too, which needs their sources and unstable options. The
//! compiler in use does it where its sources are installed, told by `RUSTC_BOOTSTRAP` to take such options; else a nightly one
//! with sources. Only here is that variable set, so that elsewhere no unstable feature can slip in.

use crate::arch::Arch;
use crate::project;
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What must be installed for [`cargo`] to find a way.
pub const NEEDS: &str = "no compiler here has the sources of core (rustup component add rust-src)";

/// A cargo that can build core and alloc, if there is one.
pub fn cargo() -> Option<Command> {
    let compiler = project::root().join("scripts/compiler");
    if has_sources(Command::new(&compiler).arg("rustc")) {
        let mut cargo = project::cargo();
        cargo.env("RUSTC_BOOTSTRAP", "1");
        return Some(cargo);
    }
    if has_sources(Command::new(&compiler).args(["rustup", "run", "nightly", "rustc"])) {
        let mut cargo = project::cargo();
        cargo.arg("+nightly");
        return Some(cargo);
    }
    None
}

fn has_sources(rustc: &mut Command) -> bool {
    let output = rustc.args(["--print", "sysroot"]).current_dir(project::root()).output();
    output.is_ok_and(|output| {
        let sysroot = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success() && Path::new(&sysroot).join("lib/rustlib/src/rust/library/core").exists()
    })
}

/// Builds the kernel, optimised, for `arch`'s target file; returns its ELF file.
///
/// # Errors
/// The build failed.
pub fn build_kernel(mut cargo: Command, arch: Arch) -> Result<PathBuf> {
    let target = project::root().join(format!("{}-breenix.json", arch.name()));
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
        .arg(target)
        .args(["-Z", "build-std=core,alloc"]);
    project::kernel_of(project::build(&mut cargo)?)
}
