//! Measures calls, throughput, wake-ups and memory, as an ordinary Linux program: the same file on every kernel.
//!
//! `bench <suite> [row]…` prints, for each round of each figure, a line `BENCH <row>[.<part>] <operations> <amount> <unit>`: so much
//! for so many. `BENCH <row> failed <why>` where the kernel refuses; and at last `BENCH end`. The clock is the kernel's own,
//! `CLOCK_MONOTONIC`. `bench forever <suite> <row> [row]...` goes on with a row, after others, for a profiler, and says `BENCH forever` once it
//! is warm. For the suite `boot` see there.

mod boot;
mod calls;
mod cyclictest;
mod disk;
mod flood;
mod latency;
mod lmbench;
mod load;
mod memory;
mod programs;
mod row;
mod throughput;
mod wakeup;

use std::{env, process::ExitCode};

use row::{Group, Suite};

const SUITES: [Suite; 5] = [
    Suite {
        name: "latency",
        groups: &[
            Group {
                rows: latency::ROWS,
                warm_up: 1,
                rounds: 3,
            },
            // They warm up by themselves.
            Group {
                rows: lmbench::ROWS,
                warm_up: 0,
                rounds: 1,
            },
        ],
    },
    Suite {
        name: "disk",
        groups: &[Group {
            rows: disk::ROWS,
            warm_up: 1,
            rounds: 3,
        }],
    },
    Suite {
        name: "memory",
        groups: &[Group {
            rows: memory::ROWS,
            warm_up: 0,
            rounds: 3,
        }],
    },
    Suite {
        name: "throughput",
        groups: &[Group {
            rows: throughput::ROWS,
            warm_up: 1,
            rounds: 3,
        }],
    },
    Suite {
        name: "wakeup",
        groups: &[
            Group {
                rows: wakeup::ROWS,
                warm_up: 0,
                rounds: 1,
            },
            Group {
                rows: cyclictest::ROWS,
                warm_up: 0,
                rounds: 1,
            },
        ],
    },
];

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        // What `exec` rows start.
        ["nothing", ..] => ExitCode::SUCCESS,
        [boot::FIRST] => boot::first(),
        ["boot"] => boot::at_prompt(),
        ["forever", suite, row, ref after @ ..] => with(suite, |suite| {
            // What they leave behind in the kernel may be what makes the row what it is.
            if !after.is_empty() {
                suite.run(after);
            }
            suite.go_on(row)
        }),
        [suite, ref rows @ ..] => with(suite, |suite| suite.run(rows)),
        [] => usage(),
    }
}

fn with(name: &str, run: impl FnOnce(&Suite) -> ExitCode) -> ExitCode {
    SUITES.iter().find(|suite| suite.name == name).map_or_else(usage, run)
}

fn usage() -> ExitCode {
    let names = SUITES.map(|suite| suite.name).join("|");
    eprintln!("usage: bench {names} [row]... | bench forever {names} <row> [row before]... | bench boot");
    ExitCode::from(2)
}
