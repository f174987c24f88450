//! `scripts/test`: everything there is to show that the tree is good, in one command.
//!
//! Each suite counts; a suite that could not run counts as one failure. Only what needs a tool that `scripts/setup` may find no way
//! to install is skipped without it: it says so in one line and is counted. The last line is `N passed, N failed`, with
//! `, N skipped` if anything was.

mod crash;
mod disks;
mod distribution;
mod guest;
mod host;
mod linux;
mod loader;
mod platforms;
mod screen;
mod terminal;
mod trace;

use crate::arch::Arch;
use crate::check;
use crate::project::{self, Profile};
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
    /// All machines through all test programs, and the kernel built for targets of its own: an hour and more
    #[arg(long)]
    full: bool,
    /// Guests of this architecture only
    #[arg(long)]
    arch: Option<Arch>,
    /// Only suites whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// Instead: the test programs on the distribution's Linux, in the same machine; with `--only`, those whose names contain one of
    /// its words
    #[arg(long, conflicts_with_all = ["quick", "full"])]
    on_linux: bool,
}

/// What a suite came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Tally {
    fn of(passed: bool) -> Self {
        Self {
            passed: passed.into(),
            failed: (!passed).into(),
            skipped: 0,
        }
    }

    /// Says what is not tried, and why.
    fn skip(why: &str) -> Self {
        println!("skipped: {why}");
        Self {
            skipped: 1,
            ..Self::default()
        }
    }

    fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// What is only run in full, or by this name.
const TARGET_FILE: &str = "target file";

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
                "{name:<28} {:>5} passed {:>4} failed {:>2} skipped {:>5} s",
                tally.passed,
                tally.failed,
                tally.skipped,
                start.elapsed().as_secs()
            );
            println!("{line}");
            lines.push(line);
        }
        println!("\n== summary");
        lines.iter().for_each(|line| println!("{line}"));
        let skipped = match total.skipped {
            0 => String::new(),
            count => format!(", {count} skipped"),
        };
        println!("{} passed, {} failed{skipped}", total.passed, total.failed);
        let good = total.failed == 0 && total.passed > 0;
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn archs(&self) -> Vec<Arch> {
        self.arch.map_or(Arch::ALL.to_vec(), |arch| vec![arch])
    }

    /// The test programs, where others run them.
    fn suites_on_linux(&self) -> Vec<Suite> {
        let of = |arch: Arch| -> Suite {
            let only = self.only.clone();
            (
                format!("{}: programs on Linux", arch.name()),
                Box::new(move || linux::programs(arch, only.as_deref())),
            )
        };
        self.archs().into_iter().map(of).collect()
    }

    fn suites(&self) -> Vec<Suite> {
        if self.on_linux {
            return self.suites_on_linux();
        }
        let mut suites: Vec<Suite> = vec![
            ("structure".into(), Box::new(structure)),
            ("format".into(), Box::new(host::format)),
            ("lints".into(), Box::new(host::lints)),
            ("shell lints".into(), Box::new(host::shell)),
            ("workflows".into(), Box::new(host::workflows)),
            ("host tests".into(), Box::new(host::tests)),
            ("loom models".into(), Box::new(host::models)),
        ];
        if !self.quick {
            let archs = self.archs();
            suites.push(("kernels".into(), Box::new(move || kernels(&archs))));
            let full = self.full;
            for arch in self.archs() {
                suites.push((
                    format!("{}: test programs", arch.name()),
                    Box::new(move || guest::programs(arch)),
                ));
                suites.push((
                    format!("{}: shell scripts", arch.name()),
                    Box::new(move || guest::scripts(arch)),
                ));
                suites.push((
                    format!("{}: distribution", arch.name()),
                    Box::new(move || distribution::all(arch)),
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
                    format!("{}: trace", arch.name()),
                    Box::new(move || trace::small_command(arch)),
                ));
                suites.push((
                    format!("{}: release boot", arch.name()),
                    Box::new(move || guest::release(arch)),
                ));
                suites.push((format!("{}: screen", arch.name()), Box::new(move || screen::all(arch))));
                suites.push((
                    format!("{}: platforms", arch.name()),
                    Box::new(move || platforms::all(arch, full)),
                ));
                suites.push((format!("{}: disks", arch.name()), Box::new(move || disks::all(arch))));
                suites.push((format!("{}: loader", arch.name()), Box::new(move || loader::all(arch))));
                // Compiles half of everything once more, and breaks when the compiler changes.
                if full || self.only.as_deref() == Some(TARGET_FILE) {
                    suites.push((
                        format!("{}: {TARGET_FILE}", arch.name()),
                        Box::new(move || guest::target_file(arch)),
                    ));
                }
            }
        }
        suites.retain(|(name, _)| self.only.as_ref().is_none_or(|only| name.contains(only.as_str())));
        suites
    }
}

/// Builds what the guests boot, for all architectures at once: the suites of each then find it.
fn kernels(archs: &[Arch]) -> Result<Tally> {
    let mut tally = Tally::default();
    for profile in [Profile::Debug, Profile::Release] {
        tally.add(&Tally::of(project::build_kernels(archs, profile).is_ok()));
    }
    Ok(tally)
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
