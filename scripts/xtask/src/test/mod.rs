//! `scripts/test`: everything there is to show that the tree is good, in one command.
//!
//! Each suite counts; a suite that could not run counts as one failure, so that nothing is green for having been skipped.
//! The last line is `N passed, N failed`.

mod crash;
mod guest;
mod host;
mod terminal;

use crate::arch::Arch;
use crate::check;
use anyhow::Result;
use clap::Args;
use std::process::ExitCode;
use std::time::Instant;

/// Options.
#[derive(Args, Debug)]
pub struct Test {
    /// Only what needs no guest
    #[arg(long)]
    quick: bool,
    /// Guests of this architecture only
    #[arg(long)]
    arch: Option<Arch>,
    /// Only suites whose name contains this
    #[arg(long)]
    only: Option<String>,
}

/// What a suite came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    passed: u64,
    failed: u64,
}

impl Tally {
    fn of(passed: bool) -> Self {
        Self {
            passed: passed.into(),
            failed: (!passed).into(),
        }
    }

    fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

type Suite = (String, Box<dyn Fn() -> Result<Tally>>);

impl Test {
    /// Runs the suites and prints the summary.
    ///
    /// # Errors
    /// None of its own: what goes wrong in a suite is its failure.
    pub fn main(self) -> Result<ExitCode> {
        let mut lines = Vec::new();
        let mut total = Tally::default();
        for (name, suite) in self.suites() {
            println!("== {name}");
            let start = Instant::now();
            let tally = suite().unwrap_or_else(|error| {
                println!("{error:#}");
                Tally::of(false)
            });
            total.add(&tally);
            let line = format!(
                "{name:<28} {:>5} passed {:>4} failed {:>5} s",
                tally.passed,
                tally.failed,
                start.elapsed().as_secs()
            );
            println!("{line}");
            lines.push(line);
        }
        println!("\n== summary");
        lines.iter().for_each(|line| println!("{line}"));
        println!("{} passed, {} failed", total.passed, total.failed);
        let good = total.failed == 0 && total.passed > 0;
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn suites(&self) -> Vec<Suite> {
        let mut suites: Vec<Suite> = vec![
            ("structure".into(), Box::new(structure)),
            ("format".into(), Box::new(host::format)),
            ("lints".into(), Box::new(host::lints)),
            ("workflows".into(), Box::new(host::workflows)),
            ("host tests".into(), Box::new(host::tests)),
            ("loom models".into(), Box::new(host::models)),
        ];
        if !self.quick {
            for arch in self.arch.map_or(Arch::ALL.to_vec(), |arch| vec![arch]) {
                suites.push((
                    format!("{}: test programs", arch.name()),
                    Box::new(move || guest::programs(arch)),
                ));
                suites.push((
                    format!("{}: shell scripts", arch.name()),
                    Box::new(move || guest::scripts(arch)),
                ));
                suites.push((
                    format!("{}: terminal", arch.name()),
                    Box::new(move || terminal::all(arch)),
                ));
                suites.push((
                    format!("{}: crashes", arch.name()),
                    Box::new(move || crash::crashes(arch)),
                ));
                suites.push((
                    format!("{}: release boot", arch.name()),
                    Box::new(move || guest::release(arch)),
                ));
            }
        }
        suites.retain(|(name, _)| self.only.as_ref().is_none_or(|only| name.contains(only.as_str())));
        suites
    }
}

fn structure() -> Result<Tally> {
    let mut tally = Tally::default();
    for finding in check::run()? {
        finding
            .problems
            .iter()
            .for_each(|problem| println!("{}: {problem}", finding.name));
        tally.add(&Tally::of(finding.problems.is_empty()));
    }
    let long = check::long_files()?;
    if !long.is_empty() {
        println!(
            "files of more than 500 lines (a report, no failure):\n  {}",
            long.join("\n  ")
        );
    }
    Ok(tally)
}
