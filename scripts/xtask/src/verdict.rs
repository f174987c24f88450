//! Whether a boot was a success. Silence is never one: the guest must have handed out a status, and must have said that it
//! is the build that was meant.

use crate::arch::GuestExit;
use crate::session::Outcome;
use anyhow::{Context, Result, bail, ensure};

/// How the last line of a test run begins.
pub const END: &str = "KERNEL_POST_TESTS_COMPLETE";
/// The kernel's exit status after a panic.
pub const PANIC: i32 = 101;

/// What the guest's tests came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tests that succeeded.
    pub passed: u64,
    /// Tests that failed.
    pub failed: u64,
    /// Tests that were not tried, each with the reason.
    pub skipped: u64,
}

/// The guest's status.
///
/// # Errors
/// There is none, with the reason.
pub fn status(outcome: &Outcome) -> Result<i32> {
    match outcome.exit {
        Some(GuestExit::Status(status)) => Ok(status),
        Some(GuestExit::WithoutStatus) => bail!("the guest was reset or powered off without a status"),
        Some(GuestExit::Emulator(code)) => bail!("QEMU failed with {code}"),
        None => bail!("timed out after {} s", outcome.elapsed.as_secs()),
    }
}

/// Checks that the guest printed `Breenix <version> build <id> …` and that it is this build.
///
/// # Errors
/// There is no such line, or it names another build.
pub fn check_build(log: &str, expected: &str) -> Result<()> {
    let words = |line: &str| -> Option<String> {
        let (_, rest) = line.split_once("Breenix ")?;
        let mut words = rest.split_whitespace().skip(1);
        (words.next()? == "build").then(|| words.next().unwrap_or_default().to_owned())
    };
    let found = log
        .lines()
        .find_map(words)
        .context("the guest never printed its build line")?;
    ensure!(found == expected, "the guest is build {found}, not {expected}");
    Ok(())
}

/// The line with which the kernel begins to report its end, if there is one.
pub fn panic_line(log: &str) -> Option<&str> {
    log.lines()
        .find(|line| line.starts_with("kernel panic") || line.starts_with("kernel fault:"))
}

/// Checks a boot that ran a shell script: status 0 and the right build.
///
/// # Errors
/// What was wrong.
pub fn check_success(outcome: &Outcome, build_id: &str) -> Result<()> {
    check_build(&outcome.text(), build_id)?;
    let status = status(outcome)?;
    ensure!(status != PANIC, "the kernel panicked");
    ensure!(status == 0, "the guest ended with status {status}");
    Ok(())
}

/// Reads the result of a boot that ran the guest's tests: [`check_test_log`], and the status that must agree with it.
///
/// # Errors
/// No status, no end line, another build, or counts, lines and status that contradict each other.
pub fn check_tests(outcome: &Outcome, build_id: &str) -> Result<Counts> {
    let log = outcome.text();
    check_build(&log, build_id)?;
    let status = status(outcome)?;
    ensure!(status != PANIC, "the kernel panicked");
    let counts = check_test_log(&log, build_id)?;
    ensure!(
        (status == 0) == (counts.failed == 0),
        "status {status} contradicts {} failed tests",
        counts.failed
    );
    Ok(counts)
}

/// Reads the result of the guest's tests from its console: `TEST <name> ok (…)`, `TEST <name> FAILED: why` or
/// `TEST <name> skipped: why` a test, then `KERNEL_POST_TESTS_COMPLETE build=<id> passed=N failed=M skipped=K`. Ours skips none.
///
/// # Errors
/// No end line, another build, a skipped test, or counts and lines that contradict each other.
pub fn check_test_log(log: &str, build_id: &str) -> Result<Counts> {
    check_build(log, build_id)?;
    let counts = counts(log, build_id)?;
    ensure!(counts.skipped == 0, "{} tests were skipped", counts.skipped);
    Ok(counts)
}

/// The build that the end line of tests on Linux names.
const ON_LINUX: &str = "linux";

/// The same for a boot of Linux, which gives no status but names its first process's when it panics at its end.
///
/// # Errors
/// No end line, one of ours, or counts, lines and status that contradict each other.
pub fn check_tests_on_linux(outcome: &Outcome) -> Result<Counts> {
    const STATUS: &str = "Attempted to kill init! exitcode=0x";
    ensure!(
        outcome.exit.is_some(),
        "timed out after {} s",
        outcome.elapsed.as_secs()
    );
    let log = outcome.text();
    let counts = counts(&log, ON_LINUX)?;
    let status = log
        .lines()
        .find_map(|line| line.split_once(STATUS))
        .context("Linux did not panic at the end of its first process")?;
    let status = u32::from_str_radix(status.1.split_whitespace().next().unwrap_or_default(), 16)?;
    ensure!(
        (status == 0) == (counts.failed == 0),
        "wait status {status:#x} contradicts {} failed tests",
        counts.failed
    );
    Ok(counts)
}

fn counts(log: &str, build_id: &str) -> Result<Counts> {
    let end = log
        .lines()
        .rev()
        .find_map(|line| line.trim().strip_prefix(END))
        .context("the tests did not complete")?;
    let value = |key: &str| {
        let word = end
            .split_whitespace()
            .find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        word.with_context(|| format!("{END} has no {key}"))
    };
    ensure!(
        value("build")? == build_id,
        "the end line is of build {}",
        value("build")?
    );
    let counts = Counts {
        passed: value("passed")?.parse()?,
        failed: value("failed")?.parse()?,
        skipped: value("skipped")?.parse()?,
    };
    let seen = seen(log);
    ensure!(seen == counts, "the end line counts {counts:?}, the log shows {seen:?}");
    ensure!(counts.passed + counts.failed > 0, "no test ran");
    Ok(counts)
}

/// Counts the `TEST` lines of a log.
pub fn seen(log: &str) -> Counts {
    let mut counts = Counts::default();
    for line in log.lines().filter(|line| line.starts_with("TEST ")) {
        match line.split_whitespace().nth(2).map(|word| word.trim_end_matches(':')) {
            Some("ok") => counts.passed += 1,
            Some("FAILED") => counts.failed += 1,
            Some("skipped") => counts.skipped += 1,
            _ => {}
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Input;
    use crate::session::tests::fake;
    use std::time::Duration;

    fn boot(script: &str) -> Outcome {
        fake(script, Input::None, Duration::from_secs(20))
    }

    const GOOD: &str =
        "echo '[    0.000000] Breenix 0.1.0 build abcd on q35: 4 CPUs'; echo TEST one ok 12 ms; echo TEST two ok;";

    fn tests(script: &str) -> Result<Counts> {
        check_tests(&boot(&format!("{GOOD} {script}")), "abcd")
    }

    #[test]
    fn a_good_run_counts() {
        let counts = tests("echo KERNEL_POST_TESTS_COMPLETE build=abcd passed=2 failed=0 skipped=0; exit 1").unwrap();
        assert_eq!(
            counts,
            Counts {
                passed: 2,
                failed: 0,
                skipped: 0
            }
        );
    }

    #[test]
    fn a_failed_test_needs_a_failing_status() {
        let failing =
            "echo TEST three FAILED: why; echo KERNEL_POST_TESTS_COMPLETE build=abcd passed=2 failed=1 skipped=0;";
        assert_eq!(
            tests(&format!("{failing} exit 3")).unwrap(),
            Counts {
                passed: 2,
                failed: 1,
                skipped: 0
            }
        );
        assert!(
            tests(&format!("{failing} exit 1"))
                .unwrap_err()
                .to_string()
                .contains("contradicts")
        );
    }

    #[test]
    fn silence_is_no_success() {
        assert!(tests("exit 1").unwrap_err().to_string().contains("did not complete"));
        assert!(
            check_success(&boot("exit 1"), "abcd")
                .unwrap_err()
                .to_string()
                .contains("build line")
        );
        let reset = format!("{GOOD} exit 0");
        assert!(
            check_success(&boot(&reset), "abcd")
                .unwrap_err()
                .to_string()
                .contains("without a status")
        );
    }

    #[test]
    fn another_build_is_no_success() {
        let end = "echo KERNEL_POST_TESTS_COMPLETE build=beef passed=2 failed=0 skipped=0; exit 1";
        assert!(tests(end).unwrap_err().to_string().contains("beef"));
        assert!(
            check_success(&boot(&format!("{GOOD} exit 1")), "beef")
                .unwrap_err()
                .to_string()
                .contains("abcd")
        );
        assert!(check_success(&boot(&format!("{GOOD} exit 1")), "abcd").is_ok());
    }

    #[test]
    fn counts_must_agree_with_the_lines() {
        let end = "echo KERNEL_POST_TESTS_COMPLETE build=abcd passed=9 failed=0 skipped=0; exit 1";
        assert!(tests(end).unwrap_err().to_string().contains("the log shows"));
    }

    #[test]
    fn ours_skips_nothing() {
        let end = "echo TEST three skipped: why; echo KERNEL_POST_TESTS_COMPLETE build=abcd passed=2 failed=0 skipped=1; exit 1";
        assert!(tests(end).unwrap_err().to_string().contains("1 tests were skipped"));
    }

    #[test]
    fn linux_names_the_status_in_its_panic() {
        let of = |failed: u32, status: &str| {
            let lines = "echo TEST one ok; echo TEST two skipped: why;".to_owned();
            let failures = "echo TEST three FAILED: why;".repeat(failed as usize);
            let end = format!("echo KERNEL_POST_TESTS_COMPLETE build=linux passed=1 failed={failed} skipped=1;");
            let panic = format!("echo '[ 1.0] Kernel panic - not syncing: {status}'; exit 0");
            check_tests_on_linux(&boot(&[lines, failures, end, panic].concat()))
        };
        let counts = |failed| Counts {
            passed: 1,
            failed,
            skipped: 1,
        };
        assert_eq!(of(0, "Attempted to kill init! exitcode=0x00000000").unwrap(), counts(0));
        assert_eq!(of(2, "Attempted to kill init! exitcode=0x00000100").unwrap(), counts(2));
        let wrong = of(1, "Attempted to kill init! exitcode=0x00000000");
        assert!(wrong.unwrap_err().to_string().contains("contradicts"));
        assert!(of(0, "VFS: no root").is_err());
        let ours =
            boot("echo TEST one ok; echo KERNEL_POST_TESTS_COMPLETE build=abcd passed=1 failed=0 skipped=0; exit 1");
        assert!(check_tests_on_linux(&ours).unwrap_err().to_string().contains("abcd"));
    }

    #[test]
    fn a_panic_s_line_is_found() {
        let log =
            "[    0.1] Breenix\nTEST kernel panic ok\n\nkernel panic at a.rs:1: why\nbuild abcd, CPU 0; backtrace:\n";
        assert_eq!(panic_line(log), Some("kernel panic at a.rs:1: why"));
        assert_eq!(panic_line("kernel fault: data abort at 0x1\n").map(str::len), Some(31));
        assert_eq!(panic_line("no kernel panic\n"), None);
    }

    #[test]
    fn panics_and_hangs_are_named() {
        assert!(tests("exit 203").unwrap_err().to_string().contains("panicked"));
        let hang = fake(
            &format!("{GOOD} exec sleep 60"),
            Input::None,
            Duration::from_millis(500),
        );
        assert!(
            check_success(&hang, "abcd")
                .unwrap_err()
                .to_string()
                .contains("timed out")
        );
    }
}
