//! The test programs on the distribution's Linux: what shows that they test Linux's interface and not ours.

use super::Tally;
use super::guest;
use crate::arch::Arch;
use crate::initramfs;
use crate::linux;
use crate::machine::{Boot, Machine};
use crate::session::{self, Input};
use crate::verdict;
use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(1500);

/// Runs the test programs, or those whose names contain one of the words of `only`.
///
/// # Errors
/// A build failed, there is no Linux, or QEMU cannot be started.
pub fn programs(arch: Arch, only: Option<&str>) -> Result<Tally> {
    let kernel = linux::kernel(arch)?;
    let boot = Boot {
        arch,
        elf: kernel.clone(),
        image: kernel,
        initramfs: initramfs::build_without_kernel(arch)?,
        tree: None,
        build_id: String::new(),
    };
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(500));
    let outcome = session::run(&machine(arch, only), &boot, Input::None, LIMIT, follow(bar.clone()))?;
    bar.finish_and_clear();
    match verdict::check_tests_on_linux(&outcome) {
        Ok(counts) => {
            print!("{}", unlike_passed(&outcome.text()));
            Ok(Tally {
                passed: counts.passed,
                failed: counts.failed,
                skipped: counts.skipped,
            })
        }
        Err(error) => {
            guest::report(&format!("{}-on-linux", arch.name()), &outcome, &error)?;
            let seen = verdict::seen(&outcome.text());
            Ok(Tally {
                passed: seen.passed,
                failed: 1.max(seen.failed),
                skipped: seen.skipped,
            })
        }
    }
}

fn machine(arch: Arch, only: Option<&str>) -> Machine {
    let mut words = linux::words(arch);
    words.push(
        match arch {
            // To sign each return address costs an emulator more than all else.
            Arch::Aarch64 => "arm64.nopauth",
            // A host that is busy lets the timer come too late to count as connected.
            Arch::X86_64 => "no_timer_check",
        }
        .to_owned(),
    );
    words.push(only.map_or("run=tests".to_owned(), |only| format!("run=\"/bin/tests run {only}\"")));
    Machine {
        words,
        ..Machine::default()
    }
}

/// What is said of tests that failed or were skipped, to its last line.
fn unlike_passed(text: &str) -> String {
    let mut shown = String::new();
    let mut within = false;
    for line in text.lines() {
        if line.starts_with("TEST ") {
            within = line.contains(" FAILED") || line.contains(" skipped");
        } else if line.starts_with(verdict::END) {
            break;
        }
        if within {
            shown += line;
            shown.push('\n');
        }
    }
    shown
}

/// Shows which test the guest has come to. Where nobody looks, so much of it goes into the output as shows that it goes on.
fn follow(bar: ProgressBar) -> impl FnMut(&[u8]) + Send + 'static {
    let mut line = Vec::new();
    move |bytes| {
        for byte in bytes {
            if *byte != b'\n' {
                line.push(*byte);
                continue;
            }
            heard(&bar, &String::from_utf8_lossy(&line));
            line.clear();
        }
    }
}

fn heard(bar: &ProgressBar, line: &str) {
    if let Some(count) = line.strip_prefix("TESTS ").and_then(|count| count.trim().parse().ok()) {
        bar.set_length(count);
    }
    let Some((name, _)) = line.strip_prefix("TEST ").and_then(|rest| rest.split_once(' ')) else {
        return;
    };
    bar.inc(1);
    bar.set_message(format!("after {name}"));
    if bar.is_hidden() && bar.position().is_multiple_of(20) {
        println!(
            "{} of {}, {} s, after {name}",
            bar.position(),
            bar.length().unwrap_or_default(),
            bar.elapsed().as_secs()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_stand_on_the_command_line() {
        let words = |only| machine(Arch::Aarch64, only).words.join(" ");
        assert_eq!(words(None), "console=ttyAMA0 quiet panic=-1 arm64.nopauth run=tests");
        assert!(words(Some("shm::")).ends_with("run=\"/bin/tests run shm::\""));
    }

    #[test]
    fn a_failure_is_shown_to_its_end() {
        let log = "x\nTEST a ok (1 ms)\nTEST b FAILED: this\nand that\nTEST c ok\nTEST d skipped: why\nKERNEL_POST_TESTS_COMPLETE\n";
        assert_eq!(
            unlike_passed(log),
            "TEST b FAILED: this\nand that\nTEST d skipped: why\n"
        );
    }

    #[test]
    fn progress_counts_the_tests() {
        let bar = ProgressBar::hidden();
        let mut follow = follow(bar.clone());
        follow(b"[ 0.1] booting\r\nTESTS 3\r\nTEST a::b ok (1 ms)\r\nTEST a::c FAI");
        assert_eq!((bar.position(), bar.length()), (1, Some(3)));
        follow(b"LED: why\r\n");
        assert_eq!((bar.position(), bar.message()), (2, "after a::c".to_owned()));
    }
}
