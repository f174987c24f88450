//! Where things are, and calls of cargo.

use crate::arch::Arch;
use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The two build profiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// Assertions on: locks and the allocator check that they are not in interrupt context.
    Debug,
    /// Optimised.
    Release,
}

/// The workspace's root.
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).unwrap_or(manifest).to_owned()
}

/// Where builds go: `CARGO_TARGET_DIR`, or `target` in the root.
pub fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// What `scripts/setup` keeps between runs: `$XDG_CACHE_HOME/breenix`, or `~/.cache/breenix`.
pub fn cache_dir() -> PathBuf {
    let home = || env::home_dir().unwrap_or_default().join(".cache");
    env::var_os("XDG_CACHE_HOME")
        .map_or_else(home, PathBuf::from)
        .join("breenix")
}

/// The cargo of the compiler in use, in the workspace's root, with no flags of the caller's environment: they would replace the
/// configured ones.
pub fn cargo() -> Command {
    let mut command = Command::new(root().join("scripts/cargo"));
    command
        .current_dir(root())
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .stdin(Stdio::null());
    command
}

/// A program that cargo built.
#[derive(Debug, PartialEq, Eq)]
pub struct Program {
    /// The package it belongs to.
    pub package: String,
    /// Its own name.
    pub name: String,
    /// The file.
    pub path: PathBuf,
}

/// Runs a cargo build and returns the programs it made.
///
/// # Errors
/// The build failed; cargo's diagnostics are on standard error.
pub fn build(command: &mut Command) -> Result<Vec<Program>> {
    programs(command.arg("--message-format=json-render-diagnostics"))
}

/// The same where the command says already that its messages be JSON, as one with arguments of the compiler's must.
///
/// # Errors
/// The build failed; cargo's diagnostics are on standard error.
pub fn programs(command: &mut Command) -> Result<Vec<Program>> {
    command.stdout(Stdio::piped());
    let child = command.spawn().context("cannot start cargo")?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "the build failed: {command:?}");
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(program)
        .collect())
}

fn program(message: &str) -> Option<Program> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let path = message.get("executable")?.as_str()?.into();
    let name = message["target"]["name"].as_str()?.to_owned();
    let manifest = Path::new(message["manifest_path"].as_str()?);
    let text = std::fs::read_to_string(manifest).ok()?;
    let package = text
        .lines()
        .find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))?
        .to_owned();
    Some(Program { package, name, path })
}

/// Builds the kernel and returns its ELF file.
///
/// # Errors
/// The build failed.
pub fn build_kernel(arch: Arch, profile: Profile) -> Result<PathBuf> {
    kernel_of(build_kernels(&[arch], profile)?)
}

/// Builds the kernel for several architectures at once, which is quicker than one after the other: each is one large crate.
///
/// # Errors
/// A build failed.
pub fn build_kernels(archs: &[Arch], profile: Profile) -> Result<Vec<Program>> {
    let mut command = cargo();
    command.args(["build", "--package", "kernel", "--bin", "kernel"]);
    for arch in archs {
        command.args(["--target", arch.kernel_target()]);
    }
    if profile == Profile::Release {
        command.arg("--release");
    }
    build(&mut command)
}

/// Builds the UEFI loader for the kernel with this build id, optimised whatever the kernel is, and returns its file.
///
/// # Errors
/// The build failed.
pub fn build_loader(arch: Arch, build_id: &str) -> Result<PathBuf> {
    let mut command = cargo();
    command.args([
        "build",
        "--package",
        "loader",
        "--release",
        "--target",
        arch.uefi_target(),
    ]);
    command.env("BREENIX_BUILD_ID", build_id);
    let loader = build(&mut command)?
        .into_iter()
        .find(|program| program.package == "loader");
    Ok(loader.context("cargo named no loader")?.path)
}

/// The kernel's ELF file among what a build made.
///
/// # Errors
/// It is not there.
pub fn kernel_of(programs: Vec<Program>) -> Result<PathBuf> {
    let kernel = programs.into_iter().find(|program| program.name == "kernel");
    Ok(kernel.context("cargo named no kernel")?.path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_the_workspace_s() {
        assert!(root().join("Cargo.lock").exists());
        assert!(root().join("scripts/xtask").exists());
    }

    #[test]
    fn messages_without_a_program_are_skipped() {
        assert_eq!(program("no json"), None);
        assert_eq!(program(r#"{"reason":"compiler-artifact","executable":null}"#), None);
        let manifest = root().join("scripts/xtask/Cargo.toml");
        let message = format!(r#"{{"executable":"/x/y","manifest_path":{manifest:?},"target":{{"name":"y"}}}}"#);
        let expected = Program {
            package: "xtask".into(),
            name: "y".into(),
            path: "/x/y".into(),
        };
        assert_eq!(program(&message), Some(expected));
    }
}
