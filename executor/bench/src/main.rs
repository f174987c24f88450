//! Measures the executor against its published peers, all in one process, in turns.
//!
//! A *row* is one operation, a *cell* one peer's measurement of it. All cells of a row run the same futures ([`work`]) by
//! the same program ([`rows`]), written once over what the executors have in common ([`peers::Peer`]). Their rounds
//! alternate in an order shuffled anew for every round, so that what else goes on on the machine hits all alike.
//!
//! Every round checks its own work: futures count their polls, and a round whose count is not what it must be fails the
//! run. The samples go to a file; judging and showing them is `xtask bench`'s business.

mod count;
mod measure;
mod peers;
mod rows;
mod run;
mod work;

use anyhow::{Context, Result};
use clap::Parser;
use std::{fs, path::PathBuf, process::ExitCode};

#[derive(Parser)]
#[command(about = "Measures the executor against its peers", version)]
struct Options {
    /// Rounds of every cell
    #[arg(long, default_value_t = 31)]
    runs: usize,
    /// Small populations and short rounds: whether it works, not how fast it is
    #[arg(long)]
    quick: bool,
    /// Only the row of this name, or those whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// Only the contender of this name, or those whose name contains this: for a profiler
    #[arg(long)]
    peer: Option<String>,
    /// Where the samples go, as JSON; standard output if left out
    #[arg(long)]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    match measure(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the rows; whether every cell that could be measured was.
fn measure(options: &Options) -> Result<bool> {
    let scale = if options.quick {
        run::Scale::QUICK
    } else {
        run::Scale::FULL
    };
    let mut rows = rows::all();
    let names: Vec<_> = rows.iter().map(|row| row.id).collect();
    rows.retain(|row| run::chosen(row.id, options.only.as_deref(), &names));
    let report = run::run(rows, &scale, options.runs.max(1), options.peer.as_deref());
    let text = serde_json::to_string_pretty(&report.json)?;
    match &options.out {
        Some(path) => fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?,
        None => println!("{text}"),
    }
    report
        .failures
        .iter()
        .for_each(|failure| eprintln!("failed: {failure}"));
    Ok(report.failures.is_empty())
}
