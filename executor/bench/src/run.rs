//! Rows, and the order in which their cells take turns.

use crate::measure::Sample;
use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::{thread, time::Duration};

/// How much of everything.
pub struct Scale {
    /// Operations of a short round.
    pub operations: u64,
    /// Tasks or timers of the rows with a million.
    pub million: usize,
    /// Of [`Options::runs`](crate::Options) rounds, every how many one is made of the rows with a million.
    pub million_share: usize,
}

impl Scale {
    pub const FULL: Self = Self {
        operations: 20_000,
        million: 1_000_000,
        million_share: 4,
    };
    pub const QUICK: Self = Self {
        operations: 500,
        million: 10_000,
        million_share: 1,
    };
    /// For a test, on a machine that does other things as well.
    #[cfg(test)]
    pub const TEST: Self = Self {
        operations: 128,
        million: 500,
        million_share: 1,
    };
}

/// One peer's measurement.
pub type Case = Box<dyn FnMut() -> Result<Sample>>;

/// One peer in one row.
pub struct Cell {
    pub peer: &'static str,
    /// What to call each round, or why there is nothing to call.
    pub case: Result<Case, &'static str>,
}

/// What is asked of a row's figures.
#[derive(Clone, Copy, Debug)]
pub enum Bar {
    /// Ours divided by the best peer's is at most this.
    Ratio(f64),
    /// Ours is at most this.
    Most(f64),
    /// Nothing.
    None,
}

/// One operation. The default is one of no name, in nanoseconds, in every round.
pub struct Row {
    pub name: String,
    pub unit: &'static str,
    /// Whether it is timed by the wall clock.
    pub wall: bool,
    pub bar: Bar,
    /// Every how many rounds it takes part.
    pub share: usize,
    pub cells: Vec<Cell>,
}

impl Default for Row {
    fn default() -> Self {
        Self {
            name: String::new(),
            unit: "ns",
            wall: false,
            bar: Bar::None,
            share: 1,
            cells: Vec::new(),
        }
    }
}

/// A row that has not been set up.
pub struct Plan {
    /// A short name, to choose it by.
    pub id: &'static str,
    pub build: fn(&Scale) -> Row,
}

impl Plan {
    pub const fn new(id: &'static str, build: fn(&Scale) -> Row) -> Self {
        Self { id, build }
    }
}

/// Whether a name is among those that the filter asks for: the one that is so called, or if there is none all in whose name it
/// occurs.
pub fn chosen(name: &str, filter: Option<&str>, all: &[&str]) -> bool {
    filter.is_none_or(|filter| name == filter || (name.contains(filter) && !all.contains(&filter)))
}

/// What came of a run.
pub struct Report {
    pub json: Value,
    pub failures: Vec<String>,
}

/// Runs the rows, one after the other, each in rounds; of each the contenders that `peer` [chooses](chosen).
pub fn run(plans: Vec<Plan>, scale: &Scale, runs: usize, peer: Option<&str>) -> Report {
    let bar = ProgressBar::new(plans.len() as u64 * 1000);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent:>3} % {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    let mut failures = Vec::new();
    let mut rows = Vec::new();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for (number, plan) in plans.into_iter().enumerate() {
        bar.set_message(plan.id);
        let mut row = (plan.build)(scale);
        let peers: Vec<_> = row.cells.iter().map(|cell| cell.peer).collect();
        row.cells.retain(|cell| chosen(cell.peer, peer, &peers));
        let rounds = runs.div_ceil(row.share);
        let report = |done: usize| bar.set_position((number * 1000 + done * 1000 / (rounds + 1)) as u64);
        rows.push(run_row(plan.id, row, rounds, &mut dice, &mut failures, report));
    }
    bar.finish_and_clear();
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    Report {
        json: json!({ "suite": "executor", "cpus": cpus, "rounds": runs, "rows": rows }),
        failures,
    }
}

fn run_row(
    id: &str,
    mut row: Row,
    rounds: usize,
    dice: &mut Dice,
    failures: &mut Vec<String>,
    report: impl Fn(usize),
) -> Value {
    let mut samples: Vec<Vec<Sample>> = row.cells.iter().map(|_| Vec::new()).collect();
    let mut broken: Vec<Option<String>> = row.cells.iter().map(|_| None).collect();
    // The first round warms up and is not kept.
    for round in 0..=rounds {
        for index in dice.order(row.cells.len()) {
            let cell = &mut row.cells[index];
            let (Ok(case), None) = (&mut cell.case, &broken[index]) else {
                continue;
            };
            match case() {
                Ok(sample) if round > 0 => samples[index].push(sample),
                Ok(_) => {}
                Err(error) => {
                    failures.push(format!("{id}, {}: {error:#}", cell.peer));
                    broken[index] = Some(format!("{error:#}"));
                }
            }
        }
        report(round + 1);
    }
    let cells = row
        .cells
        .iter()
        .zip(samples)
        .zip(broken)
        .map(|((cell, samples), broken)| {
            let values: Vec<f64> = samples.iter().map(|sample| sample.value).collect();
            let allocations = samples.last().and_then(|sample| sample.allocations);
            let operations = samples.last().map(|sample| sample.operations);
            match (&cell.case, broken) {
                (Err(why), _) => json!({ "peer": cell.peer, "absent": why }),
                (Ok(_), Some(error)) => json!({ "peer": cell.peer, "failed": error }),
                (Ok(_), None) => json!({
                    "peer": cell.peer, "samples": values, "allocations": allocations, "operations": operations
                }),
            }
        });
    let cells: Vec<Value> = cells.collect();
    let bar = match row.bar {
        Bar::Ratio(most) => json!({ "ratio": most }),
        Bar::Most(most) => json!({ "most": most }),
        Bar::None => Value::Null,
    };
    json!({ "id": id, "name": row.name, "unit": row.unit, "wall": row.wall, "bar": bar, "cells": cells })
}

/// Numbers for shuffling: a linear congruence, its high bits used. The same every run.
pub struct Dice(pub u64);

impl Dice {
    /// Less than `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((u128::from(self.0) * bound as u128) >> 64) as usize
    }

    /// Puts a slice into another order.
    pub fn shuffle<T>(&mut self, slice: &mut [T]) {
        for end in (1..slice.len()).rev() {
            let other = self.below(end + 1);
            slice.swap(end, other);
        }
    }

    fn order(&mut self, length: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..length).collect();
        self.shuffle(&mut order);
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;

    /// Every row of every peer, with all its checks of itself.
    #[test]
    fn every_cell_measures_or_says_why_not() {
        let report = run(crate::rows::all(), &Scale::TEST, 1, None);
        assert_eq!(report.failures, Vec::<String>::new());
        let rows = report.json["rows"].as_array().expect("rows");
        assert_eq!(rows.len(), crate::rows::all().len());
        for row in rows {
            for cell in row["cells"].as_array().expect("cells") {
                let measured = cell["samples"].as_array().is_some_and(|samples| samples.len() == 1);
                assert!(measured != cell["absent"].is_string(), "{}: {cell}", row["id"]);
            }
        }
    }

    fn sample(value: f64) -> Sample {
        Sample {
            value,
            allocations: None,
            operations: 1,
        }
    }

    #[test]
    fn a_cell_that_fails_is_reported_and_not_called_again() {
        let mut calls = 0;
        let broken = move || {
            calls += 1;
            if calls > 1 {
                bail!("call {calls}");
            }
            Ok(sample(1.0))
        };
        let cell = |peer, case| Cell { peer, case };
        let row = Row {
            name: "a row".into(),
            bar: Bar::Ratio(0.5),
            cells: vec![
                cell("good", Ok(Box::new(|| Ok(sample(2.0))) as Case)),
                cell("broken", Ok(Box::new(broken) as Case)),
                cell("absent", Err("cannot")),
            ],
            ..Row::default()
        };
        let mut failures = Vec::new();
        let json = run_row("row", row, 3, &mut Dice(5), &mut failures, |_| {});
        assert_eq!(failures, ["row, broken: call 2"]);
        assert_eq!(json["cells"][0]["samples"], json!([2.0, 2.0, 2.0]));
        assert_eq!(json["cells"][1], json!({ "peer": "broken", "failed": "call 2" }));
        assert_eq!(json["cells"][2], json!({ "peer": "absent", "absent": "cannot" }));
        assert_eq!(json["bar"], json!({ "ratio": 0.5 }));
    }

    #[test]
    fn a_name_chooses_itself_or_those_it_occurs_in() {
        let names = ["channel", "channel-alone", "spawn"];
        let of = |filter| {
            let all = names.iter().filter(|name| chosen(name, filter, &names));
            all.count()
        };
        assert_eq!([None, Some("channel"), Some("chan"), Some("no")].map(of), [3, 1, 2, 0]);
    }

    #[test]
    fn an_order_has_everyone_once_and_changes() {
        let mut dice = Dice(7);
        let orders: Vec<Vec<usize>> = (0..10).map(|_| dice.order(6)).collect();
        for order in &orders {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3, 4, 5]);
        }
        assert!(orders.iter().any(|order| *order != orders[0]));
    }
}
