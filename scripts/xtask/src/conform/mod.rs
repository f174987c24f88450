//! `scripts/conform`: the tests that Linux brings along for its own interface, from the distribution's package of its source, and those of
//! Rust's standard library, on our kernel and on the distribution's, in the same emulated machine. What passes there has to pass here.

mod build;
mod compare;
mod guest;
mod library;
mod read;

use self::build::{Built, NOLIBC, Program};
use self::compare::Row;
use self::guest::Guests;
use self::library::STD;
use self::read::Ran;
use crate::arch::{Arch, Archs};
use crate::machine::Boot;
use crate::project::Profile;
use crate::session::Outcome;
use crate::verdict;
use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use std::fs;
use std::process::ExitCode;

/// Options.
#[derive(Args, Debug)]
pub struct Conform {
    /// What is run; all if none is named
    suites: Vec<Suite>,
    /// Guests of this architecture only
    #[arg(long, default_value = "both")]
    arch: Archs,
    /// Only programs whose directory and name contain one of these words
    #[arg(long)]
    only: Option<String>,
    /// Compare with what Linux said the last time, instead of booting it again
    #[arg(long)]
    ours: bool,
    /// How our kernel is built
    #[arg(long, default_value = "release")]
    profile: Profile,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// nolibc-test, as the first process and as a child
    Nolibc,
    /// Kselftest's programs
    Kselftest,
    /// The Rust standard library's tests of processes, threads, synchronisation and time
    Std,
}

/// The name that nolibc-test has as the first process.
const FIRST: &str = "nolibc/nolibc-test as process 1";

impl Conform {
    /// Runs it, prints the tables, and whether all that passes on Linux passes on ours or is known not to.
    ///
    /// # Errors
    /// Something cannot be built or booted.
    pub fn main(self) -> Result<ExitCode> {
        let mut good = true;
        for arch in self.arch.all() {
            good &= self.on(arch)?;
        }
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn has(&self, suite: Suite) -> bool {
        self.suites.is_empty() || self.suites.contains(&suite)
    }

    fn chosen(&self, program: &Program) -> bool {
        let suite = match program.directory.as_str() {
            NOLIBC => Suite::Nolibc,
            STD => Suite::Std,
            _ => Suite::Kselftest,
        };
        let path = program.path();
        self.has(suite)
            && self
                .only
                .as_ref()
                .is_none_or(|only| only.split_whitespace().any(|word| path.contains(word)))
    }

    fn on(&self, arch: Arch) -> Result<bool> {
        let mut built = if self.has(Suite::Nolibc) || self.has(Suite::Kselftest) {
            build::build(arch)?
        } else {
            Built::none(arch)
        };
        if self.has(Suite::Std) {
            built.programs.extend(library::build(arch)?);
        }
        let mut programs = built.programs.clone();
        programs.retain(|program| self.chosen(program));
        ensure!(!programs.is_empty(), "no program of that name was built");
        let guests = Guests::new(arch, &built, &programs, self.profile)?;
        let first = programs.iter().any(|program| program.directory == NOLIBC);
        let name = |kernel: &str| format!("{}, {kernel}", arch.name());
        let linux = self.linux(&guests, &programs, first, &name("Linux"))?;
        let (ours, whole) = run(&guests.ours, first, &name("ours"), true)?;
        let rows = compare::rows(&linux, &ours, &compare::known()?, arch);
        let kept = build::place(arch).join("cases");
        fs::write(&kept, compare::cases(&rows))?;
        println!("== {}\n{}", arch.name(), compare::table(&rows));
        Ok(summary(&rows, &ours) && whole)
    }

    /// What Linux says, or said.
    fn linux(&self, guests: &Guests, programs: &[Program], first: bool, name: &str) -> Result<Vec<Ran>> {
        let kept = build::place(guests.linux.arch).join("linux.log");
        if self.ours {
            let text = fs::read_to_string(&kept).context("Linux never ran them: leave out --ours")?;
            let (mut ran, _) = read::programs(&text);
            ran.retain(|ran| ran.path == FIRST && first || programs.iter().any(|program| program.path() == ran.path));
            return Ok(ran);
        }
        let (ran, whole) = run(&guests.linux, first, name, false)?;
        ensure!(
            whole,
            "Linux did not come to the end of the list: see what it said above"
        );
        Ok(ran)
    }
}

/// Boots one kernel for everything that is to be run, and whether it came to the end.
fn run(boot: &Boot, first: bool, name: &str, ours: bool) -> Result<(Vec<Ran>, bool)> {
    let kept = build::place(boot.arch).join(if ours { "ours.log" } else { "linux.log" });
    let mut text = String::new();
    if first {
        let outcome = guest::first_process(boot)?;
        if ours {
            verdict::check_build(&outcome.text(), &boot.build_id)?;
        }
        text += &as_of_runner(&outcome);
    }
    let outcome = guest::programs(boot, name)?;
    text += &outcome.text();
    fs::write(&kept, &text)?;
    if ours {
        verdict::check_build(&text, &boot.build_id)?;
    }
    let (ran, over) = read::programs(&text);
    let panicked = ours && verdict::panic_line(&text).is_some();
    let whole = over && outcome.exit.is_some() && !panicked;
    if !whole {
        let last = text.lines().rev().take(60).collect::<Vec<_>>().into_iter().rev();
        last.for_each(|line| println!("{line}"));
        println!("{}", outcome.diagnosis.as_deref().unwrap_or_default());
        println!(
            "{name}: did not come to its end ({:?}); all that it said: {}",
            outcome.exit,
            kept.display()
        );
    }
    Ok((ran, whole))
}

/// What nolibc-test said as the first process, in the form of `runner.sh`. Its status is in its last line.
fn as_of_runner(outcome: &Outcome) -> String {
    const STATUS: &str = "Leaving init with final status: ";
    let text = outcome.text();
    let status = text
        .lines()
        .find_map(|line| line.strip_prefix(STATUS))
        .unwrap_or("none");
    let lines: String = text.lines().map(|line| format!("| {line}\n")).collect();
    format!(
        "CONFORM begin {FIRST}\n{lines}CONFORM end - {status} {}\n",
        outcome.elapsed.as_secs()
    )
}

/// Prints what fails, with the last lines of who says so, and whether none does that is not known to.
fn summary(rows: &[Row], ours: &[Ran]) -> bool {
    let (passing, failing): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.passes());
    let mut before = "";
    for row in failing.iter().filter(|row| row.known.is_none()) {
        if row.path != before {
            let ran = ours.iter().find(|ran| ran.path == row.path);
            let status = ran.and_then(|ran| ran.status);
            let status = status.map_or("never ended".to_owned(), |status| format!("status {status}"));
            println!("{} ({status}):", row.path);
            before = &row.path;
        }
        println!("    {}", row.case);
    }
    for (path, reason) in compare::needless(rows) {
        println!("passes now, strike it from the list: {path} ({reason})");
    }
    let known = failing.iter().filter(|row| row.known.is_some()).count();
    let new = failing.len() - known;
    println!(
        "{} pass on Linux; of these on ours {} passed, {new} failed, {known} are known to fail",
        rows.len(),
        passing.len()
    );
    new == 0 && !rows.is_empty()
}
