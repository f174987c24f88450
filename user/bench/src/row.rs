//! What all suites share: rows, what comes of them, and how that is said.

use std::process::ExitCode;

use user_sys as sys;

/// Rows that belong together.
pub struct Suite {
    /// What it is called on the command line.
    pub name: &'static str,
    /// Its rows, in the order in which they run.
    pub groups: &'static [Group],
}

/// Rows that run equally often.
pub struct Group {
    /// The rows.
    pub rows: &'static [Row],
    /// How often each row runs before it counts.
    pub warm_up: usize,
    /// How often it counts.
    pub rounds: usize,
}

/// One thing that is measured.
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// The names of its figures; none where it has but one.
    pub parts: &'static [&'static str],
    /// Sets up and measures once: a sample for each figure.
    pub run: fn() -> Result<Vec<Sample>, String>,
}

/// What came of a row, or of a part of it: so much for so many. Less is better, whatever the unit.
#[derive(Clone, Copy)]
pub struct Sample {
    /// How often it was done.
    pub operations: u64,
    /// How much that came to.
    pub amount: u64,
    /// Of what, for one operation.
    pub unit: &'static str,
}

/// A table of rows: each a name, the names of its figures if there are several, and what it runs.
macro_rules! rows {
    ($($name:literal $([$($part:literal),*])?: $run:expr;)*) => {
        /// The rows, in order.
        pub const ROWS: &[$crate::row::Row] = &[$($crate::row::Row {
            name: $name,
            parts: &[$($($part),*)?],
            run: || $run.map(Into::into),
        },)*];
    };
}
pub(crate) use rows;

impl From<Sample> for Vec<Sample> {
    fn from(sample: Sample) -> Self {
        vec![sample]
    }
}

impl Sample {
    /// Nanoseconds for so many operations.
    pub const fn time(operations: u64, nanoseconds: u64) -> Self {
        Self {
            operations,
            amount: nanoseconds,
            unit: "ns",
        }
    }
}

impl Row {
    /// The names of its figures.
    fn names(&self) -> Vec<String> {
        if self.parts.is_empty() {
            return vec![self.name.to_owned()];
        }
        self.parts.iter().map(|part| format!("{}.{part}", self.name)).collect()
    }

    /// Runs once; the lines to print unless it only warmed up.
    fn lines(&self) -> Result<Vec<String>, Vec<String>> {
        let names = self.names();
        match (self.run)() {
            Ok(samples) => Ok(names
                .iter()
                .zip(samples)
                .map(|(name, sample)| line(name, sample))
                .collect()),
            Err(why) => Err(names.iter().map(|name| failure(name, &why)).collect()),
        }
    }
}

/// The line of a figure.
pub fn line(name: &str, sample: Sample) -> String {
    format!("BENCH {name} {} {} {}", sample.operations, sample.amount, sample.unit)
}

/// The line of a figure that there is none of.
fn failure(name: &str, why: &str) -> String {
    format!("BENCH {name} failed {why}")
}

/// Says that there is no more to come.
pub fn end() {
    println!("BENCH end");
}

impl Suite {
    /// Runs the rows that are wanted, all of them if none is named.
    pub fn run(&self, wanted: &[&str]) -> ExitCode {
        let wanted = |row: &&Row| wanted.is_empty() || wanted.contains(&row.name);
        for group in self.groups {
            group.rows.iter().filter(wanted).for_each(|row| group.run(row));
        }
        end();
        ExitCode::SUCCESS
    }

    /// Runs a row for ever, or until it fails; says so once it is warm.
    pub fn go_on(&self, name: &str) -> ExitCode {
        let mut rows = self.groups.iter().flat_map(|group| group.rows);
        let Some(row) = rows.find(|row| row.name == name) else {
            eprintln!("bench: no row is called {name}");
            return ExitCode::from(2);
        };
        for round in 0_u64.. {
            if round == 1 {
                println!("BENCH forever");
            }
            if let Err(why) = (row.run)() {
                eprintln!("bench: {name}: {why}");
                return ExitCode::FAILURE;
            }
        }
        ExitCode::SUCCESS
    }
}

impl Group {
    /// Runs a row, until it fails.
    fn run(&self, row: &Row) {
        for round in 0..self.warm_up + self.rounds {
            match row.lines() {
                Ok(_) if round < self.warm_up => {}
                Ok(lines) => lines.iter().for_each(|line| println!("{line}")),
                Err(lines) => {
                    lines.iter().for_each(|line| println!("{line}"));
                    break;
                }
            }
        }
    }
}

/// Does it so often, and times that.
pub fn repeat(operations: u64, mut once: impl FnMut() -> Result<(), String>) -> Result<Sample, String> {
    let start = sys::now();
    for _ in 0..operations {
        once()?;
    }
    Ok(Sample::time(operations, sys::now() - start))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Row = Row {
        name: "sleep",
        parts: &["median", "max"],
        run: || Ok(vec![Sample::time(1, 7), Sample::time(2, 9)]),
    };

    #[test]
    fn each_figure_has_a_line() {
        assert_eq!(
            GOOD.lines().unwrap(),
            ["BENCH sleep.median 1 7 ns", "BENCH sleep.max 2 9 ns"]
        );
        let alone = Row {
            parts: &[],
            run: || Ok(Sample::time(3, 4).into()),
            ..GOOD
        };
        assert_eq!(alone.lines().unwrap(), ["BENCH sleep 3 4 ns"]);
    }

    #[test]
    fn a_failure_is_said_of_each_figure() {
        let bad = Row {
            run: || Err("not today".into()),
            ..GOOD
        };
        assert_eq!(
            bad.lines().unwrap_err(),
            [
                "BENCH sleep.median failed not today",
                "BENCH sleep.max failed not today"
            ]
        );
    }
}
