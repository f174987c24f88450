//! The same program on our kernel and on the distribution's Linux, in the same machine, in turns.

use super::report::{Cell, OURS, Row, Suite};
use crate::arch::Arch;
use crate::machine::{Boot, Machine};
use crate::project::{self, Profile};
use crate::session::{self, Input, Outcome};
use anyhow::{Context, Result, ensure};
use std::process::Command;
use std::time::Duration;

/// The lines of `user/bench`.
const MARK: &str = "BENCH ";
/// The last of them.
const END: &str = "BENCH end";
const LINUX: &str = "linux";
const LIMIT: Duration = Duration::from_secs(600);

/// How guests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// On one CPU, on which a nanosecond passes for every instruction: figures repeat.
    Counted,
    /// On four CPUs, as fast as they can: figures are the host's as well.
    Free,
}

/// Runs a suite of `user/bench` on one architecture, `runs` times on each kernel; `only` is a row's name.
///
/// # Errors
/// A build failed, or a guest did not come to the suite's end.
pub fn run(suite: &str, arch: Arch, mode: Mode, runs: usize, only: Option<&str>) -> Result<Suite> {
    let ours = Boot::build(arch, Profile::Release)?;
    let linux = Boot {
        image: kernel(arch)?,
        ..ours.clone()
    };
    let machine = machine(suite, arch, mode, only);
    let bar = super::progress(2 * runs);
    let mut rows = Vec::new();
    for _ in 0..runs {
        for (peer, boot) in [(OURS, &ours), (LINUX, &linux)] {
            bar.set_message(format!("{suite}, {}, {peer}", arch.name()));
            let outcome = session::run(&machine, boot, Input::None, LIMIT, |_| {})?;
            add(&mut rows, peer, &outcome).with_context(|| format!("{} on {}", peer, arch.name()))?;
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let mode = match mode {
        Mode::Counted => "icount",
        Mode::Free => "free",
    };
    Ok(Suite {
        suite: format!("{suite}-{}-{mode}", arch.name()),
        cpus: machine.cpus as usize,
        rounds: runs,
        rows,
    })
}

fn machine(suite: &str, arch: Arch, mode: Mode, only: Option<&str>) -> Machine {
    let console = match arch {
        Arch::Aarch64 => "console=ttyAMA0",
        Arch::X86_64 => "console=ttyS0",
    };
    // Linux panics when its first process ends, and restarts then, which ends QEMU.
    let mut words: Vec<String> = [console, "quiet", "panic=-1"].map(str::to_owned).into();
    words.push(format!("run=\"/bin/bench {suite} {}\"", only.unwrap_or_default()));
    Machine {
        cpus: if mode == Mode::Counted { 1 } else { 4 },
        counted: mode == Mode::Counted,
        words,
        ..Machine::default()
    }
}

/// The distribution's kernel, fetched if it is not there.
fn kernel(arch: Arch) -> Result<std::path::PathBuf> {
    let path = project::cache_dir().join("linux").join(arch.name()).join("vmlinuz");
    if !path.exists() {
        let status = Command::new(project::root().join("scripts/setup"))
            .arg("--linux")
            .status();
        let status = status.context("cannot start scripts/setup")?;
        ensure!(
            status.success(),
            "no Linux to compare with: see what scripts/setup --linux says"
        );
    }
    Ok(path)
}

/// Adds what one boot said to the rows.
fn add(rows: &mut Vec<Row>, peer: &str, outcome: &Outcome) -> Result<()> {
    let text = outcome.text();
    if !text.lines().any(|line| line.trim_end().ends_with(END)) {
        eprintln!("{text}");
        anyhow::bail!("the suite has no end; what the guest said is above");
    }
    for line in text.lines() {
        let Some((_, said)) = line.split_once(MARK) else {
            continue;
        };
        let Some((name, figures)) = said.trim_end().split_once(' ') else {
            continue;
        };
        let cell = cell(rows, name, peer);
        match figures.strip_prefix("failed ") {
            Some(why) => cell.failed = Some(why.to_owned()),
            None => cell
                .samples
                .push(figure(figures).with_context(|| format!("what is {line:?}?"))?),
        }
    }
    Ok(())
}

/// Nanoseconds for one operation, of `<operations> <nanoseconds>`.
fn figure(figures: &str) -> Option<f64> {
    let (operations, nanoseconds) = figures.split_once(' ')?;
    let operations: f64 = operations.parse().ok().filter(|count| *count > 0.0)?;
    Some(nanoseconds.parse::<f64>().ok()? / operations)
}

/// The cell of a row and a kernel, made if it is not there: a row has one for each.
fn cell<'a>(rows: &'a mut Vec<Row>, name: &str, peer: &str) -> &'a mut Cell {
    let index = rows.iter().position(|row| row.id == name).unwrap_or_else(|| {
        let cell = |peer: &str| Cell {
            peer: peer.to_owned(),
            ..Cell::default()
        };
        rows.push(Row {
            id: name.to_owned(),
            name: name.to_owned(),
            unit: "ns".to_owned(),
            wall: false,
            bar: None,
            cells: [OURS, LINUX].map(cell).into(),
        });
        rows.len() - 1
    });
    let cells = &mut rows[index].cells;
    let index = cells.iter().position(|cell| cell.peer == peer).unwrap_or(0);
    &mut cells[index]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(text: &str) -> Outcome {
        Outcome {
            exit: None,
            log: text.into(),
            diagnosis: None,
            ready: None,
            elapsed: Duration::ZERO,
        }
    }

    #[test]
    fn what_both_kernels_say_stands_side_by_side() {
        let mut rows = Vec::new();
        let said = "[1.0] noise\r\nBENCH pipe 10 200\r\nBENCH pipe 10 300\r\nBENCH epoll failed Function not implemented\r\nBENCH end\r\n";
        add(&mut rows, OURS, &outcome(said)).unwrap();
        add(
            &mut rows,
            LINUX,
            &outcome("BENCH pipe 4 100\nBENCH epoll 1 7\nBENCH end\n"),
        )
        .unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].cells[0].samples, [20.0, 30.0]);
        assert_eq!(rows[0].cells[1].samples, [25.0]);
        assert_eq!(rows[1].cells[0].failed.as_deref(), Some("Function not implemented"));
        assert_eq!(rows[1].cells[1].samples, [7.0]);
    }

    #[test]
    fn a_suite_without_an_end_or_with_nonsense_is_an_error() {
        assert!(add(&mut Vec::new(), OURS, &outcome("BENCH pipe 10 200\n")).is_err());
        assert!(add(&mut Vec::new(), OURS, &outcome("BENCH pipe 0 200\nBENCH end\n")).is_err());
        assert!(add(&mut Vec::new(), OURS, &outcome("BENCH pipe ten 200\nBENCH end\n")).is_err());
    }
}
