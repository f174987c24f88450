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
use std::panic;
use std::process::ExitCode;
use std::thread;
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

type Suite = (String, Box<dyn Fn() -> Result<Tally> + Send>);

/// What is run: first the suites that have the machine for themselves, then the lanes beside each other. A guest leaves much of two
/// CPUs idle, since one thing is tried at a time.
#[derive(Default)]
struct Plan {
    alone: Vec<Suite>,
    lanes: Vec<Vec<Suite>>,
}

impl Test {
    /// Runs the suites and prints the summary.
    ///
    /// # Errors
    /// None of its own: what goes wrong in a suite is its failure.
    pub fn main(self) -> Result<ExitCode> {
        let plan = self.plan();
        let mut results = run_in_turn(plan.alone);
        thread::scope(|scope| {
            let lanes: Vec<_> = plan
                .lanes
                .into_iter()
                .map(|lane| scope.spawn(|| run_in_turn(lane)))
                .collect();
            for lane in lanes {
                match lane.join() {
                    Ok(more) => results.extend(more),
                    Err(panic) => panic::resume_unwind(panic),
                }
            }
        });
        let mut total = Tally::default();
        println!("\n== summary");
        for (line, tally) in results {
            println!("{line}");
            total.add(&tally);
        }
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
    fn on_linux(&self) -> Vec<Suite> {
        let of = |arch: Arch| {
            let only = self.only.clone();
            suite(format!("{}: programs on Linux", arch.name()), move || {
                linux::programs(arch, only.as_deref())
            })
        };
        self.archs().into_iter().map(of).collect()
    }

    fn plan(&self) -> Plan {
        if self.on_linux {
            return Plan {
                alone: self.on_linux(),
                ..Plan::default()
            };
        }
        let mut plan = Plan {
            alone: vec![
                suite("structure", structure),
                suite("format", host::format),
                suite("lints", host::lints),
                suite("shell lints", host::shell),
                suite("workflows", host::workflows),
                suite("host tests", host::tests),
                suite("loom models", host::models),
            ],
            ..Plan::default()
        };
        if !self.quick {
            let archs = self.archs();
            plan.alone.push(suite("kernels", move || kernels(&archs)));
            plan.lanes = self.archs().into_iter().map(|arch| self.of_guests(arch)).collect();
        }
        let wanted = |(name, _): &Suite| self.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
        plan.alone.retain(wanted);
        plan.lanes.iter_mut().for_each(|lane| lane.retain(wanted));
        plan
    }

    fn of_guests(&self, arch: Arch) -> Vec<Suite> {
        let full = self.full;
        let named = |name: &str| format!("{}: {name}", arch.name());
        let mut suites: Vec<Suite> = vec![
            suite(named("test programs"), move || guest::programs(arch)),
            suite(named("shell scripts"), move || guest::scripts(arch)),
            suite(named("distribution"), move || distribution::all(arch)),
            suite(named("terminal"), move || terminal::all(arch)),
            suite(named("crashes"), move || crash::crashes(arch)),
            suite(named("trace"), move || trace::small_command(arch)),
            suite(named("release boot"), move || guest::release(arch)),
            suite(named("screen"), move || screen::all(arch)),
            suite(named("platforms"), move || platforms::all(arch, full)),
            suite(named("disks"), move || disks::all(arch)),
            suite(named("loader"), move || loader::all(arch)),
        ];
        // Compiles half of everything once more, and breaks when the compiler changes.
        if full || self.only.as_deref() == Some(TARGET_FILE) {
            suites.push(suite(named(TARGET_FILE), move || guest::target_file(arch)));
        }
        suites
    }
}

fn suite(name: impl Into<String>, run: impl Fn() -> Result<Tally> + Send + 'static) -> Suite {
    (name.into(), Box::new(run))
}

/// Runs suites one after the other: a line for each, and what it came to.
fn run_in_turn(suites: Vec<Suite>) -> Vec<(String, Tally)> {
    let run = |(name, suite): Suite| {
        println!("== {name}");
        let start = Instant::now();
        let tally = suite().unwrap_or_else(|error| {
            println!("{name}: {error:#}");
            Tally::of(false)
        });
        let line = format!(
            "{name:<28} {:>5} passed {:>4} failed {:>2} skipped {:>5} s",
            tally.passed,
            tally.failed,
            tally.skipped,
            start.elapsed().as_secs()
        );
        println!("{line}");
        (line, tally)
    };
    suites.into_iter().map(run).collect()
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
