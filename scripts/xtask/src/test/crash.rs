//! Kernels that die on purpose: what they say, and that no script can take it for success.

use super::Tally;
use super::guest::{report, script_boot};
use crate::arch::Arch;
use crate::machine::{Boot, Machine};
use crate::project::{self, Profile};
use crate::session::Outcome;
use crate::verdict;
use anyhow::{Context, Result, ensure};
use std::io::Write;
use std::process::{Command, Stdio};

/// A way to die.
struct Crash {
    name: &'static str,
    profile: Profile,
    /// What the shell is told.
    command: &'static str,
    /// How the kernel's report begins.
    what: &'static str,
    /// Functions that must stand in the report in this order, the innermost first.
    names: &'static [&'static str],
}

/// From a file's write out to the executor's loop.
const CRASHES: [Crash; 4] = [
    Crash {
        name: "panic",
        profile: Profile::Debug,
        command: PANIC,
        what: "kernel panic at kernel/src/crash.rs:",
        names: &[
            "core::panicking::panic_fmt",
            "kernel::crash::panic",
            "kernel::fs::procfs::global::sysrq",
            "kernel::fs::open_file::OpenFile::",
            "kernel::syscall::fs::transfer::write_at_once",
            "<kernel::task::current::Scope<F> as core::future::future::Future>::poll",
            "executor::cell::Of<F>::poll",
            "executor::run::",
            "kernel::rt::run",
            "kernel::boot::",
        ],
    },
    Crash {
        name: "panic-release",
        profile: Profile::Release,
        command: PANIC,
        what: "kernel panic at kernel/src/crash.rs:",
        names: &[
            "kernel::crash::panic",
            "kernel::fs::open_file::OpenFile::",
            "executor::cell::Of<F>::poll",
            "kernel::rt::run",
        ],
    },
    Crash {
        name: "null-pointer",
        profile: Profile::Debug,
        command: "echo null-pointer >/proc/breenix/crash\n",
        what: "kernel fault: ",
        names: &[
            "kernel::crash::null_pointer",
            "kernel::fs::procfs::global::crash",
            "kernel::fs::open_file::OpenFile::",
            "kernel::rt::run",
        ],
    },
    Crash {
        name: "stack-overflow",
        profile: Profile::Debug,
        command: "echo stack-overflow >/proc/breenix/crash\n",
        what: "kernel fault: ",
        names: &[
            "stack overflow",
            "kernel::crash::stack_overflow",
            "times more",
            "kernel::fs::procfs::global::crash",
            "kernel::rt::run",
        ],
    },
];

const PANIC: &str = "echo c >/proc/sysrq-trigger\n";

/// Boots a kernel for each way to die, and one by `scripts/run`.
pub fn crashes(arch: Arch) -> Result<Tally> {
    let mut tally = Tally::default();
    for crash in &CRASHES {
        let boot = Boot::build(arch, crash.profile)?;
        let outcome = script_boot(&boot, crash.command.into())?;
        let result = check(crash, &outcome, &boot.build_id, Machine::default().cpus);
        if let Err(error) = &result {
            report(&format!("{}-{}", arch.name(), crash.name), &outcome, error)?;
        }
        tally.add(&Tally::of(result.is_ok()));
    }
    let code = by_script(arch)?;
    if code != verdict::PANIC {
        println!("scripts/run exits with {code} after a panic");
    }
    tally.add(&Tally::of(code == verdict::PANIC));
    Ok(tally)
}

/// What `scripts/run` exits with when the guest's kernel panics.
fn by_script(arch: Arch) -> Result<i32> {
    let mut script = Command::new(project::root().join("scripts/run"))
        .args([arch.name(), "--debug", "--emulate", "--timeout", "120"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start scripts/run")?;
    script
        .stdin
        .take()
        .context("no pipe to scripts/run")?
        .write_all(PANIC.as_bytes())?;
    script.wait()?.code().context("scripts/run was killed")
}

fn check(crash: &Crash, outcome: &Outcome, build_id: &str, cpus: u32) -> Result<()> {
    let text = outcome.text();
    verdict::check_build(&text, build_id)?;
    let status = verdict::status(outcome)?;
    ensure!(status == verdict::PANIC, "the guest ended with status {status}");
    let start = text
        .find(&format!("\n{}", crash.what))
        .with_context(|| format!("no line begins with `{}`", crash.what))?;
    let report = &text[start + 1..];
    let mut rest = report;
    for name in crash.names {
        let (_, after) = rest
            .split_once(name)
            .with_context(|| format!("no `{name}` where it should stand"))?;
        rest = after;
    }
    let head = report
        .lines()
        .find_map(|line| line.strip_prefix(&format!("build {build_id}, CPU ")))
        .context("the report does not name the build")?;
    let failed: u32 = head.split_once(';').context("no CPU is named")?.0.parse()?;
    for cpu in 0..cpus {
        let task = report
            .lines()
            .find_map(|line| line.strip_prefix(&format!("CPU {cpu}: ")))
            .with_context(|| format!("no word of CPU {cpu}"))?;
        ensure!(!task.is_empty(), "CPU {cpu} runs nothing");
        ensure!(cpu != failed || task == "sh", "CPU {cpu} failed in {task}, not in sh");
    }
    Ok(())
}

#[cfg(test)]
mod unit {
    use super::*;
    use crate::session::{Input, tests::fake};
    use std::time::Duration;

    const CRASH: Crash = Crash {
        name: "x",
        profile: Profile::Debug,
        command: "",
        what: "kernel fault: ",
        names: &["inner", "outer"],
    };
    const GOOD: &str = "Breenix 0.1.0 build abcd on x
kernel fault: y
build abcd, CPU 1; backtrace:
   0: 0x1 inner+0x1
   1: 0x2 outer+0x1
CPU 0: idle
CPU 1: sh
";

    fn verdict_of(log: &str, code: i32) -> String {
        let outcome = fake(
            &format!("printf '{log}'; exit {code}"),
            Input::None,
            Duration::from_secs(20),
        );
        check(&CRASH, &outcome, "abcd", 2).map_or_else(|error| error.to_string(), |()| "good".to_owned())
    }

    #[test]
    fn a_report_is_read_to_its_end() {
        assert_eq!(verdict_of(GOOD, 203), "good");
        for (from, to, verdict) in [
            ("inner", "0x3", "no `inner`"),
            ("0: 0x1 inner", "0: 0x1 outer", "no `inner`"),
            ("build abcd, CPU", "build beef, CPU", "does not name the build"),
            ("CPU 0: idle\n", "", "no word of CPU 0"),
            ("CPU 1: sh", "CPU 1: idle", "not in sh"),
            ("kernel fault", "fault", "no line begins"),
        ] {
            let said = verdict_of(&GOOD.replace(from, to), 203);
            assert!(said.contains(verdict), "{from} -> {to}: {said}");
        }
        assert!(verdict_of(GOOD, 1).contains("status 0"));
    }
}
