//! Builds the Rust standard library's own tests of processes, threads, synchronisation and time, static, from the sources that come
//! with the compiler in use (rustup's component `rust-src`, or the distribution's `rust-web-src`).
//!
//! They are built against the finished library of the target, outside of the workspace, in `target/conform/std`: files of tests are
//! crates as they stand, tests that stand inside of modules are put together by `inner.rs`. All of them use what is not stable,
//! so the compiler is told to take it.

use super::build::{self, Program};
use crate::arch::Arch;
use crate::initramfs;
use crate::project;
use anyhow::{Context, Result, ensure};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The directory that these make up beside kselftest's.
pub const STD: &str = "std";

/// Each program's name, and its file below `library/std/tests`.
const OUTER: [(&str, &str); 10] = [
    ("create_dir_all_bare", "create_dir_all_bare"),
    ("env", "env"),
    ("env_modify", "env_modify"),
    ("panic", "panic"),
    ("pipe_subprocess", "pipe_subprocess"),
    ("process_spawning", "process_spawning"),
    ("sync", "sync/lib"),
    ("thread", "thread"),
    ("thread_local", "thread_local/lib"),
    ("time", "time"),
];
/// The one without libtest's `main`.
const OWN_MAIN: &str = "pipe_subprocess";
/// The program of the tests that stand inside of modules.
const INNER: &str = "inner";

/// Builds them for an architecture, and lays them beside Linux's.
///
/// # Errors
/// The sources are not there, or something does not build.
pub fn build(arch: Arch) -> Result<Vec<Program>> {
    let directory = project::target_dir().join("conform/std");
    write_package(&directory, &sources()?)?;
    let target = initramfs::user_target(arch);
    println!("building the standard library's tests for {}", arch.name());
    let into = build::place(arch).join("built").join(STD);
    fs::create_dir_all(&into)?;
    let mut programs = Vec::new();
    for name in OUTER.iter().map(|(name, _)| *name).chain([INNER]) {
        let path = program(&directory, &target, name)?;
        fs::copy(&path, into.join(name)).with_context(|| format!("cannot copy {}", path.display()))?;
        programs.push(Program {
            directory: STD.to_owned(),
            name: name.to_owned(),
        });
    }
    Ok(programs)
}

/// `library/std` of the compiler in use.
fn sources() -> Result<PathBuf> {
    let mut rustc = Command::new(project::root().join("scripts/compiler"));
    rustc.args(["rustc", "--print", "sysroot"]).current_dir(project::root());
    let output = rustc.output().context("cannot start scripts/compiler")?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let path = sysroot.join("lib/rustlib/src/rust/library/std");
    ensure!(
        path.join("tests").exists(),
        "no sources of the standard library in {} (rustup component add rust-src)",
        sysroot.display()
    );
    Ok(path)
}

/// A package whose tests are std's, and which is written anew only where it differs, for cargo's sake.
fn write_package(directory: &Path, std: &Path) -> Result<()> {
    fs::create_dir_all(directory.join("src"))?;
    write(&directory.join("Cargo.toml"), &manifest(std))?;
    write(&directory.join("src/lib.rs"), "")?;
    let inner = include_str!("inner.rs").replace("{std}", &std.display().to_string());
    write(&directory.join("src/inner.rs"), &inner)
}

fn write(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).ok().as_deref() == Some(text) {
        return Ok(());
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The manifest. The versions of the crates are those that std's own names.
fn manifest(std: &Path) -> String {
    let mut text = "[package]\nname = \"std-tests\"\nversion = \"0.0.0\"\nedition = \"2024\"\nautotests = false\n\
        [workspace]\n[profile.dev]\nopt-level = 1\ndebug = false\nstrip = true\n\
        [dependencies]\nlibc = \"0.2\"\n\
        rand = { version = \"0.9\", default-features = false, features = [\"alloc\"] }\nrand_xorshift = \"0.4\"\n"
        .to_owned();
    let inner = (INNER, "src/inner.rs".to_owned());
    let outer = OUTER.map(|(name, file)| (name, format!("{}/tests/{file}.rs", std.display())));
    for (name, path) in outer.into_iter().chain([inner]) {
        let harness = name != OWN_MAIN;
        // Writing to a string does not fail.
        _ = writeln!(
            text,
            "[[test]]\nname = \"{name}\"\npath = \"{path}\"\nharness = {harness}"
        );
    }
    text
}

/// Builds one program and returns its file.
fn program(directory: &Path, target: &str, name: &str) -> Result<PathBuf> {
    let mut cargo = project::cargo();
    cargo.current_dir(directory).env("RUSTC_BOOTSTRAP", "1");
    cargo.env("CARGO_TARGET_DIR", directory.join("target"));
    initramfs::configure_linker(&mut cargo, target);
    cargo.args(["rustc", "--quiet", "--test", name, "--target", target]);
    // Part of them is warned of, which is not ours to mend.
    cargo.args(["--message-format=json-render-diagnostics", "--", "-Awarnings"]);
    if name == "sync" {
        cargo.arg("-Zcrate-attr=feature(sync_poison_mod)");
    }
    let built = project::programs(&mut cargo)?;
    let program = built.into_iter().find(|program| program.name == name);
    Ok(program.with_context(|| format!("cargo named no program {name}"))?.path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_names_every_program() {
        let text = manifest(Path::new("/std"));
        assert!(text.contains("name = \"sync\"\npath = \"/std/tests/sync/lib.rs\"\nharness = true"));
        assert!(text.contains("name = \"pipe_subprocess\"\npath = \"/std/tests/pipe_subprocess.rs\"\nharness = false"));
        assert_eq!(text.matches("[[test]]").count(), OUTER.len() + 1);
    }

    #[test]
    fn the_tests_inside_of_modules_are_found_in_the_sources() {
        let Ok(std) = sources() else { return };
        let inner = include_str!("inner.rs");
        let paths = inner.split("{std}/").skip(1).filter_map(|rest| rest.split('"').next());
        let missing: Vec<&str> = paths.filter(|path| !std.join(path).exists()).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
