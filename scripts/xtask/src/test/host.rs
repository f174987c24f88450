//! Suites that need no guest: formatting, lints, unit tests, models.

use super::Tally;
use crate::arch::Arch;
use crate::project;
use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Lines of a failed command's output that are shown.
const SHOWN: usize = 80;

/// A command's success and output; the output is shown if it failed, and kept in `target/test/`.
fn logged(name: &str, command: &mut Command) -> Result<(bool, String)> {
    let directory = project::target_dir().join("test");
    fs::create_dir_all(&directory)?;
    let path = directory.join(format!("{name}.log"));
    let log = File::create(&path)?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
    if !status.success() {
        let lines: Vec<_> = text.lines().collect();
        println!("{}", lines[lines.len().saturating_sub(SHOWN)..].join("\n"));
        println!("whole log: {}", path.display());
    }
    Ok((status.success(), text))
}

/// rustfmt agrees.
pub fn format() -> Result<Tally> {
    Ok(Tally::of(
        logged("format", project::cargo().args(["fmt", "--all", "--check"]))?.0,
    ))
}

/// clippy has nothing to say about any crate on the host, nor about the kernel's crates and the loader on their targets.
pub fn lints() -> Result<Tally> {
    let mut host = project::cargo();
    host.args([
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]);
    let mut tally = Tally::of(logged("lints-host", &mut host)?.0);
    // Both architectures at once: the kernel is one crate, which would leave a CPU idle.
    let on_targets = |name: &str, target: fn(Arch) -> &'static str, packages: &[&str]| -> Result<Tally> {
        let mut command = project::cargo();
        command.args(["clippy", "--quiet"]);
        for arch in Arch::ALL {
            command.args(["--target", target(arch)]);
        }
        for package in packages {
            command.args(["--package", package]);
        }
        command.args(["--", "-D", "warnings"]);
        Ok(Tally::of(logged(name, &mut command)?.0))
    };
    tally.add(&on_targets(
        "lints-kernel",
        Arch::kernel_target,
        &["executor", "hal", "kernel", "vdso"],
    )?);
    tally.add(&on_targets("lints-loader", Arch::uefi_target, &["loader"])?);
    Ok(tally)
}

/// The workflows agree with the public schema; check-jsonschema (from PyPI) brings it along.
pub fn workflows() -> Result<Tally> {
    let Some(checker) = tool("check-jsonschema") else {
        return Ok(Tally::skip(
            "check-jsonschema is not installed (pip install check-jsonschema)",
        ));
    };
    let mut command = Command::new(checker);
    command.args(["--builtin-schema", "vendor.github-workflows"]);
    for entry in fs::read_dir(project::root().join(".github/workflows"))? {
        command.arg(entry?.path());
    }
    Ok(Tally::of(logged("workflows", &mut command)?.0))
}

/// shellcheck has nothing to say about the scripts.
pub fn shell() -> Result<Tally> {
    let Some(checker) = tool("shellcheck") else {
        return Ok(Tally::skip("shellcheck is not installed"));
    };
    let scripts = shell_scripts()?;
    ensure!(!scripts.is_empty(), "there are no scripts");
    let mut command = Command::new(checker);
    command.arg("--external-sources").args(scripts);
    Ok(Tally::of(logged("shell", &mut command)?.0))
}

/// The files in `scripts/` and `.ci/` that a shell reads.
fn shell_scripts() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for directory in ["scripts", ".ci"] {
        for entry in fs::read_dir(project::root().join(directory))? {
            let path = entry?.path();
            if path.is_file() && fs::read(&path)?.starts_with(b"#!") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// A program on the search path, or where `scripts/setup` puts those of PyPI.
fn tool(name: &str) -> Option<PathBuf> {
    let places = [PathBuf::from(name), project::cache_dir().join("python/bin").join(name)];
    let starts = |program: &PathBuf| {
        let version = Command::new(program).arg("--version").stdin(Stdio::null()).output();
        version.is_ok_and(|output| output.status.success())
    };
    places.into_iter().find(starts)
}

/// Unit, property and integration tests of the crates.
pub fn tests() -> Result<Tally> {
    let mut command = project::cargo();
    command.args(["test", "--no-fail-fast"]);
    for package in ["executor", "executor-bench", "hal", "kernel", "xtask"] {
        command.args(["--package", package]);
    }
    if cfg!(target_os = "linux") {
        command.args(["--package", "user-bench"]);
    }
    counted("host-tests", &mut command)
}

/// The executor under loom, which runs every interleaving of its models.
pub fn models() -> Result<Tally> {
    let mut command = project::cargo();
    let target: PathBuf = project::target_dir().join("loom");
    command
        .args(["test", "--package", "executor", "--release", "--test", "loom"])
        .env("CARGO_TARGET_DIR", target);
    // The models are many small programs over one library: optimising them as a whole costs more than it saves.
    command
        .env("RUSTFLAGS", "--cfg loom")
        .env("CARGO_PROFILE_RELEASE_LTO", "off");
    counted("loom", &mut command)
}

fn counted(name: &str, command: &mut Command) -> Result<Tally> {
    let (succeeded, text) = logged(name, command)?;
    let mut tally = count(&text);
    if !succeeded && tally.failed == 0 {
        // It did not get as far as a count.
        tally.failed = 1;
    }
    ensure!(tally != Tally::default(), "no test ran: {command:?}");
    Ok(tally)
}

/// Adds up the lines `test result: ok. N passed; N failed; …`.
fn count(text: &str) -> Tally {
    let mut tally = Tally::default();
    for line in text.lines().filter_map(|line| line.strip_prefix("test result: ")) {
        let words: Vec<_> = line.split_whitespace().collect();
        let before = |word: &str| {
            let at = words.iter().position(|candidate| *candidate == word)?;
            words.get(at.checked_sub(1)?)?.parse::<u64>().ok()
        };
        tally.add(&Tally {
            passed: before("passed;").unwrap_or(0),
            failed: before("failed;").unwrap_or(0),
            skipped: 0,
        });
    }
    tally
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn shell_scripts_are_found_by_their_first_line() {
        let scripts = shell_scripts().unwrap();
        assert!(scripts.contains(&project::root().join("scripts/setup")));
        assert!(scripts.contains(&project::root().join(".ci/run")));
        assert!(!scripts.contains(&project::root().join("scripts/unsafe-modules")));
    }

    #[test]
    fn results_are_added_up() {
        let text =
            "test result: ok. 3 passed; 0 failed; 0 ignored\nx\ntest result: FAILED. 2 passed; 1 failed; 0 ignored\n";
        let expected = Tally {
            passed: 5,
            failed: 1,
            skipped: 0,
        };
        assert_eq!(count(text), expected);
        assert_eq!(count("error: could not compile"), Tally::default());
    }
}
