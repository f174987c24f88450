//! Suites that boot a guest with four CPUs.

use super::Tally;
use crate::arch::Arch;
use crate::machine::{Boot, Machine};
use crate::own_target;
use crate::project::{self, Profile};
use crate::session::{self, Input, Outcome, READY};
use crate::verdict;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const PROGRAMS_LIMIT: Duration = Duration::from_secs(600);
const SCRIPT_LIMIT: Duration = Duration::from_secs(180);

fn machine(words: &[&str]) -> Machine {
    Machine {
        words: words.iter().map(|word| (*word).to_owned()).collect(),
        ..Machine::default()
    }
}

/// Shows what a failed boot left behind, and keeps it.
pub(super) fn report(name: &str, outcome: &Outcome, error: &anyhow::Error) -> Result<()> {
    let directory = project::target_dir().join("test");
    fs::create_dir_all(&directory)?;
    let path = directory.join(format!("{name}.log"));
    let text = format!("{}{}", outcome.text(), outcome.diagnosis.as_deref().unwrap_or_default());
    fs::write(&path, &text)?;
    println!(
        "---- {name}: serial log\n{text}---- {name}: {error:#} (log: {})",
        path.display()
    );
    Ok(())
}

/// The test programs of `user/`, with the kernel's assertions on.
pub fn programs(arch: Arch) -> Result<Tally> {
    let boot = Boot::build(arch, Profile::Debug)?;
    programs_on(&machine(&["run=tests"]), &boot, &format!("{}-programs", arch.name()))
}

/// The test programs on a machine whose command line says so.
pub(super) fn programs_on(machine: &Machine, boot: &Boot, name: &str) -> Result<Tally> {
    let outcome = session::run(machine, boot, Input::None, PROGRAMS_LIMIT, |_| {})?;
    match verdict::check_tests(&outcome, &boot.build_id) {
        Ok(counts) => {
            let text = outcome.text();
            // What failed, and what was measured: `TEST <name> ok (<time>; <note>; …)`.
            text.lines()
                .filter(|line| line.contains(" FAILED") || line.starts_with("TEST ") && line.contains(" ms; "))
                .for_each(|line| println!("{line}"));
            Ok(Tally {
                passed: counts.passed,
                failed: counts.failed,
                skipped: 0,
            })
        }
        Err(error) => {
            report(name, &outcome, &error)?;
            Ok(Tally {
                passed: verdict::seen(&outcome.text()).passed,
                failed: 1,
                skipped: 0,
            })
        }
    }
}

/// The scripts of `scripts/tests/`, fed to an unmodified busybox, one boot each.
pub fn scripts(arch: Arch) -> Result<Tally> {
    let boot = Boot::build(arch, Profile::Debug)?;
    let mut tally = Tally::default();
    for script in list()? {
        tally.add(&script_test(&boot, &script, "")?);
    }
    ensure!(tally != Tally::default(), "there are no scripts");
    Ok(tally)
}

fn script_test(boot: &Boot, script: &Path, kind: &str) -> Result<Tally> {
    let name = script.file_stem().unwrap_or_default().to_string_lossy();
    let outcome = script_boot(boot, fs::read(script)?)?;
    let expected = fs::read_to_string(script.with_extension("expected"))?;
    let result = verdict::check_success(&outcome, &boot.build_id).and_then(|()| compare(&outcome, &expected));
    if let Err(error) = &result {
        report(&format!("{}-{kind}{name}", boot.arch.name()), &outcome, error)?;
    }
    Ok(Tally::of(result.is_ok()))
}

/// The release build for the project's own target file reaches its shell and comes back.
pub fn target_file(arch: Arch) -> Result<Tally> {
    let Some(cargo) = own_target::cargo(arch) else {
        return Ok(Tally::skip(own_target::NEEDS));
    };
    let elf = own_target::build_kernel(cargo, arch)?;
    let boot = Boot::from_elf(arch, &elf)?;
    let outcome = script_boot(&boot, b"grep -c processor /proc/cpuinfo\n".to_vec())?;
    let result = verdict::check_success(&outcome, &boot.build_id).and_then(|()| compare(&outcome, "4\n"));
    if let Err(error) = &result {
        report(&format!("{}-target-file", boot.arch.name()), &outcome, error)?;
    }
    Ok(Tally::of(result.is_ok()))
}

/// Scripts that the release build has to pass too: interrupt context is counted in every build, but only a debug build ends
/// where something is wrong there.
const OF_RELEASE: [&str; 2] = ["machine", "interrupts"];

/// The release build reaches its shell, does some of what the debug build does, and comes back.
pub fn release(arch: Arch) -> Result<Tally> {
    let boot = Boot::build(arch, Profile::Release)?;
    let directory = project::root().join("scripts/tests");
    let mut tally = Tally::default();
    for name in OF_RELEASE {
        tally.add(&script_test(
            &boot,
            &directory.join(name).with_extension("sh"),
            "release-",
        )?);
    }
    Ok(tally)
}

pub(super) fn script_boot(boot: &Boot, script: Vec<u8>) -> Result<Outcome> {
    session::run(
        &machine(&["script", "quiet"]),
        boot,
        Input::Bytes(script),
        SCRIPT_LIMIT,
        |_| {},
    )
}

fn list() -> Result<Vec<PathBuf>> {
    let directory: &Path = &project::root().join("scripts/tests");
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).context("no scripts/tests")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "sh") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Compares what the shell's programs printed, which is what comes after the line with [`READY`].
pub(super) fn compare(outcome: &Outcome, expected: &str) -> Result<()> {
    let text = outcome.text();
    let (_, printed) = text.split_once(READY).context("the shell never started")?;
    let printed = printed.strip_prefix('\n').unwrap_or(printed);
    let mut printed_lines = printed.lines();
    for (number, wanted) in expected.lines().enumerate() {
        let got = printed_lines.next().unwrap_or("(end)");
        ensure!(got == wanted, "line {}: expected `{wanted}`, got `{got}`", number + 1);
    }
    if let Some(more) = printed_lines.next() {
        anyhow::bail!("unexpected: `{more}`");
    }
    Ok(())
}

#[cfg(test)]
mod unit {
    use super::*;
    use crate::session::tests::fake;

    fn printed(text: &str) -> Outcome {
        fake(
            &format!("printf 'booting\\n{READY}\\n{text}'; exit 1"),
            Input::None,
            Duration::from_secs(20),
        )
    }

    #[test]
    fn output_is_compared_to_the_end() {
        assert!(compare(&printed("a\\nb\\n"), "a\nb\n").is_ok());
        assert!(
            compare(&printed("a\\n"), "a\nb\n")
                .unwrap_err()
                .to_string()
                .contains("line 2")
        );
        assert!(
            compare(&printed("a\\nb\\nc\\n"), "a\nb\n")
                .unwrap_err()
                .to_string()
                .contains("unexpected")
        );
    }

    #[test]
    fn every_script_says_what_it_expects() {
        for script in list().unwrap() {
            assert!(script.with_extension("expected").exists(), "{}", script.display());
        }
    }
}
