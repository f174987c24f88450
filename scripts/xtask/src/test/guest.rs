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
fn report(name: &str, outcome: &Outcome, error: &anyhow::Error) -> Result<()> {
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
    let outcome = session::run(&machine(&["run=tests"]), &boot, Input::None, PROGRAMS_LIMIT, |_| {})?;
    match verdict::check_tests(&outcome, &boot.build_id) {
        Ok(counts) => {
            let text = outcome.text();
            text.lines()
                .filter(|line| line.contains(" FAILED"))
                .for_each(|line| println!("{line}"));
            Ok(Tally {
                passed: counts.passed,
                failed: counts.failed,
                skipped: 0,
            })
        }
        Err(error) => {
            report(&format!("{}-programs", arch.name()), &outcome, &error)?;
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
        let name = script.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let outcome = script_boot(&boot, fs::read(&script)?)?;
        let expected = fs::read_to_string(script.with_extension("expected"))?;
        let result = verdict::check_success(&outcome, &boot.build_id).and_then(|()| compare(&outcome, &expected));
        if let Err(error) = &result {
            report(&format!("{}-{name}", arch.name()), &outcome, error)?;
        }
        tally.add(&Tally::of(result.is_ok()));
    }
    ensure!(tally != Tally::default(), "there are no scripts");
    Ok(tally)
}

/// The release build reaches its shell and comes back.
pub fn release(arch: Arch) -> Result<Tally> {
    reaches_its_shell("release", &Boot::build(arch, Profile::Release)?)
}

/// So does the release build for the project's own target file.
pub fn target_file(arch: Arch) -> Result<Tally> {
    let Some(cargo) = own_target::cargo() else {
        return Ok(Tally::skip(own_target::NEEDS));
    };
    let elf = own_target::build_kernel(cargo, arch)?;
    reaches_its_shell("target-file", &Boot::from_elf(arch, &elf)?)
}

fn reaches_its_shell(name: &str, boot: &Boot) -> Result<Tally> {
    let outcome = script_boot(boot, b"grep -c processor /proc/cpuinfo\n".to_vec())?;
    let result = verdict::check_success(&outcome, &boot.build_id).and_then(|()| compare(&outcome, "4\n"));
    if let Err(error) = &result {
        report(&format!("{}-{name}", boot.arch.name()), &outcome, error)?;
    }
    Ok(Tally::of(result.is_ok()))
}

fn script_boot(boot: &Boot, script: Vec<u8>) -> Result<Outcome> {
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
fn compare(outcome: &Outcome, expected: &str) -> Result<()> {
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
