//! From the machine's start to the first user instruction and to the shell's prompt.
//!
//! The kernel starts this program as the first process, `bench first-process`. It looks at the clocks, leaves what it saw in the
//! environment and becomes `/init`, which goes on as always. The login shell that `/init` starts reads the file that the variable
//! `ENV` names, as its last act before the first prompt; there stands `exec /bin/bench boot`, which looks again, says what it saw and
//! ends the machine.

use std::{
    env,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use user_sys::{self as sys, libc, syscall};

use crate::{
    memory::free,
    row::{self, Sample},
};

/// The word for the first process.
pub const FIRST: &str = "first-process";
/// What the first process saw: the machine's counter and the kernel's clock.
const SEEN: &str = "BENCH_FIRST";
/// The machine's memory in KiB, from the command line.
const MEMORY: &str = "BENCH_MEMORY";

/// The machine's counter, which was 0 when the machine started, and `CLOCK_MONOTONIC`, whose 0 the kernel chose.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Clocks {
    counter: u64,
    monotonic: u64,
}

impl Clocks {
    fn now() -> Self {
        Self {
            counter: sys::counter(),
            monotonic: sys::now(),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (counter, monotonic) = text.split_once(' ')?;
        Some(Self {
            counter: counter.parse().ok()?,
            monotonic: monotonic.parse().ok()?,
        })
    }

    /// Nanoseconds from the machine's start; the counter's pace is what it was between `from` and `to`.
    fn since_start(self, from: Self, to: Self) -> u64 {
        let pace = (to.monotonic - from.monotonic) as f64 / (to.counter - from.counter).max(1) as f64;
        (self.counter as f64 * pace).round() as u64
    }
}

/// The first process: becomes `/init`. Returns only if that fails.
pub fn first() -> ExitCode {
    let Clocks { counter, monotonic } = Clocks::now();
    let error = Command::new("/init").env(SEEN, format!("{counter} {monotonic}")).exec();
    eprintln!("bench: /init: {error}");
    ExitCode::FAILURE
}

/// Where the first prompt would be: says what was measured, and restarts the machine.
pub fn at_prompt() -> ExitCode {
    let prompt = Clocks::now();
    match free().and_then(|free| report(prompt, free)) {
        Ok(lines) => lines.iter().for_each(|line| println!("{line}")),
        Err(why) => {
            eprintln!("bench: {why}");
            return ExitCode::FAILURE;
        }
    }
    row::end();
    // The terminal may still be at it.
    sys::sleep_ms(500);
    let failed = syscall!(
        SYS_reboot,
        libc::LINUX_REBOOT_MAGIC1,
        libc::LINUX_REBOOT_MAGIC2,
        libc::LINUX_REBOOT_CMD_RESTART,
        0
    );
    eprintln!("bench: reboot: {failed:?}");
    ExitCode::FAILURE
}

fn report(prompt: Clocks, free: u64) -> Result<Vec<String>, String> {
    let variable = |name| env::var(name).map_err(|_| format!("{name} is not set"));
    let first = Clocks::parse(&variable(SEEN)?).ok_or("the first process saw nothing")?;
    let memory: u64 = variable(MEMORY)?.parse().map_err(|_| "no size of memory")?;
    // Long enough for the pace to be exact.
    let from = Clocks::now();
    sys::sleep_ms(50);
    let to = Clocks::now();
    let used = (memory * 1024).saturating_sub(free);
    let microseconds = |nanoseconds| Sample {
        operations: 1_000,
        amount: nanoseconds,
        unit: "us",
    };
    Ok(vec![
        row::line("first-instruction", microseconds(first.since_start(from, to))),
        row::line("prompt", microseconds(prompt.since_start(from, to))),
        row::line(
            "first-instruction-to-prompt",
            microseconds(prompt.monotonic - first.monotonic),
        ),
        row::line("first-instruction-by-own-clock", microseconds(first.monotonic)),
        row::line(
            "memory-used",
            Sample {
                operations: 1,
                amount: used / 1024,
                unit: "KiB",
            },
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn clocks(counter: u64, monotonic: u64) -> Clocks {
        Clocks { counter, monotonic }
    }

    #[test]
    fn what_the_first_process_saw_is_read_back() {
        assert_eq!(Clocks::parse("5 17"), Some(clocks(5, 17)));
        assert_eq!(Clocks::parse("5"), None);
        assert_eq!(Clocks::parse("5 x"), None);
    }

    #[test]
    fn a_counter_is_turned_into_time_by_its_pace() {
        // 16 ns a step; the kernel's clock began when the counter was at 100.
        let (from, to) = (clocks(200, 1_600), clocks(1_200, 17_600));
        assert_eq!(clocks(150, 800).since_start(from, to), 2_400);
    }
}
