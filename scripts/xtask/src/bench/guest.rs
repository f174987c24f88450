//! What the kernel measures of itself, in an emulator in which a nanosecond passes for every instruction.

use super::report::{Cell, Row, Suite};
use crate::arch::{Arch, GuestExit};
use crate::machine::{Boot, Machine};
use crate::project::Profile;
use crate::session::{self, Input, Outcome};
use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use std::time::Duration;

/// The lines that the kernel prints begin so; see `kernel/src/wakeups.rs`.
const MARK: &str = "WAKEUPS ";
const LIMIT: Duration = Duration::from_secs(120);

/// The names that the kernel gives, and what they mean.
const ROWS: [(&str, &str); 6] = [
    ("interrupt", "interrupt to its driver's poll"),
    ("timer", "timer due, CPU asleep, to the sleeper's poll"),
    ("other-cpu", "wake to poll on another CPU, asleep"),
    ("interrupt-timed", "interrupt to its driver's poll, polls timed"),
    ("timer-timed", "timer due to the sleeper's poll, polls timed"),
    ("other-cpu-timed", "wake to poll on another CPU, polls timed"),
];

/// From interrupts and wakes to polls, on both architectures.
///
/// # Errors
/// A build failed, or a guest did not measure everything.
pub fn executor() -> Result<Suite> {
    let mut rows = ROWS.map(|(id, name)| Row {
        id: id.to_owned(),
        name: name.to_owned(),
        unit: "instructions".to_owned(),
        wall: false,
        bar: None,
        cells: Vec::new(),
    });
    let mut rounds = 0;
    for arch in Arch::value_variants() {
        let outcome = boot(*arch)?;
        let text = outcome.text();
        for row in &mut rows {
            let samples =
                samples(&text, &row.id).with_context(|| format!("{}: no figures for {}", arch.name(), row.id))?;
            rounds = samples.len();
            row.cells.push(Cell {
                peer: arch.name().to_owned(),
                samples,
                ..Cell::default()
            });
        }
    }
    Ok(Suite {
        suite: "executor-guest".to_owned(),
        mode: "icount".to_owned(),
        cpus: 2,
        rounds,
        rows: rows.into(),
    })
}

fn boot(arch: Arch) -> Result<Outcome> {
    let machine = Machine {
        cpus: 2,
        counted: true,
        words: vec!["measure=wakeups".to_owned()],
        ..Machine::default()
    };
    let boot = Boot::build(arch, Profile::Release)?;
    let outcome = session::run(&machine, &boot, Input::None, LIMIT, |_| {})?;
    match outcome.exit {
        Some(GuestExit::Status(0)) => Ok(outcome),
        exit => {
            eprintln!("{}", outcome.text());
            bail!("{}: the guest ended with {exit:?}; what it said is above", arch.name());
        }
    }
}

/// The figures of a line of the kernel's.
fn samples(text: &str, name: &str) -> Result<Vec<f64>> {
    let line = text.lines().find_map(|line| {
        let (_, figures) = line.split_once(MARK)?;
        let (named, figures) = figures.split_once(' ')?;
        (named == name).then_some(figures)
    });
    let figures = line.context("the line is missing")?;
    let samples = figures.split_whitespace().map(str::parse::<f64>);
    let samples = samples.collect::<Result<Vec<_>, _>>()?;
    ensure!(!samples.is_empty(), "the line is empty");
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::samples;

    #[test]
    fn figures_are_those_of_the_line_with_the_name() {
        let text = "[    0.1] WAKEUPS timer-timed 9\n[    0.2] WAKEUPS timer 7 8 7\n[    0.3] WAKEUPS other-cpu";
        assert_eq!(samples(text, "timer").unwrap(), [7.0, 8.0, 7.0]);
        assert!(samples(text, "other-cpu").is_err() && samples(text, "interrupt").is_err());
        assert!(samples("WAKEUPS timer 1 x", "timer").is_err());
    }
}
