//! Measures what calls cost, as an ordinary Linux program: the same file on every kernel.
//!
//! `bench latency [row]…` prints, for each round of each row, a line `BENCH <row> <operations> <nanoseconds>`; `BENCH <row> failed
//! <why>` where the kernel refuses; and at last `BENCH end`. The clock is the kernel's own, `CLOCK_MONOTONIC`. `bench forever latency
//! <row>` goes on with a row, for a profiler, and says `BENCH forever` once it is warm.

mod latency;

use std::{env, process::ExitCode};

use user_sys as sys;

/// One thing that is measured.
struct Row {
    name: &'static str,
    /// Sets up and measures once; how often it was done, and the nanoseconds for all.
    run: fn() -> Result<Sample, String>,
}

struct Sample {
    operations: u64,
    nanoseconds: u64,
}

/// Rounds of each row. The first warms up.
const ROUNDS: usize = 4;

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    match words.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        Some(("latency", rows)) => run(latency::ROWS, rows),
        Some(("forever", [suite, row])) if suite == "latency" => go_on(latency::ROWS, row),
        // What `exec` rows start.
        Some(("nothing", _)) => ExitCode::SUCCESS,
        _ => {
            eprintln!("usage: bench latency [row]... | bench forever latency <row>");
            ExitCode::from(2)
        }
    }
}

fn run(rows: &[Row], wanted: &[String]) -> ExitCode {
    let rows = rows
        .iter()
        .filter(|row| wanted.is_empty() || wanted.iter().any(|word| row.name == word));
    for row in rows {
        for round in 0..ROUNDS {
            match (row.run)() {
                Ok(_) if round == 0 => {}
                Ok(sample) => println!("BENCH {} {} {}", row.name, sample.operations, sample.nanoseconds),
                Err(why) => {
                    println!("BENCH {} failed {why}", row.name);
                    break;
                }
            }
        }
    }
    println!("BENCH end");
    ExitCode::SUCCESS
}

/// Runs a row for ever, or until it fails.
fn go_on(rows: &[Row], name: &str) -> ExitCode {
    let Some(row) = rows.iter().find(|row| row.name == name) else {
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

/// Does it so often.
fn repeat(operations: u64, mut once: impl FnMut() -> Result<(), String>) -> Result<Sample, String> {
    let start = sys::now();
    for _ in 0..operations {
        once()?;
    }
    Ok(Sample {
        operations,
        nanoseconds: sys::now() - start,
    })
}
