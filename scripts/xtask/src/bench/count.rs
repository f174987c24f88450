//! The executor's benchmark in instructions: each cell once more, under valgrind, which counts what lies between the two
//! functions of the benchmark's watch. No clock takes part, so the figures repeat themselves exactly. The profiles stay in
//! `target/bench/count`, for `callgrind_annotate`.

use super::report::{Cell, Row, Suite};
use crate::project;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};

/// Where counting begins, and where what was counted is written down: see `executor/bench/src/measure.rs`.
const BEGIN: &str = "executor_bench::measure::Watch::cpu";
const END: &str = "executor_bench::measure::Watch::stop";

/// Counts for every cell of `measured`, a quick run of the same program, that is timed by one thread.
///
/// # Errors
/// There is no valgrind, or a count is missing.
pub fn executor(program: &Path, measured: &Suite) -> Result<Suite> {
    // Emptied first: a profile of another run must not be taken for this one's.
    let directory = project::target_dir().join("bench/count");
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    fs::create_dir_all(&directory)?;
    let rows: Vec<&Row> = measured
        .rows
        .iter()
        .filter(|row| !row.wall && row.unit == "ns")
        .collect();
    let cells = rows.iter().flat_map(|row| &row.cells).filter(|cell| counts(cell));
    let bar = super::progress(cells.count());
    let mut counted = Vec::new();
    for row in rows {
        let mut cells = Vec::new();
        for cell in &row.cells {
            let mut cell = cell.clone();
            if counts(&cell) {
                bar.set_message(format!("{}, {}", row.id, cell.peer));
                cell.samples = vec![count(program, &directory, &row.id, &cell.peer)?];
                bar.inc(1);
            }
            cells.push(cell);
        }
        counted.push(Row {
            unit: "instructions".into(),
            bar: None,
            cells,
            ..row.clone()
        });
    }
    bar.finish_and_clear();
    Ok(Suite {
        suite: "executor-count".into(),
        rounds: 1,
        rows: counted,
        ..measured.clone()
    })
}

fn counts(cell: &Cell) -> bool {
    !cell.samples.is_empty()
}

/// Instructions for one operation.
fn count(program: &Path, directory: &Path, row: &str, peer: &str) -> Result<f64> {
    let profile = directory.join(format!(
        "{row}-{}",
        peer.replace(|letter: char| !letter.is_alphanumeric(), "-")
    ));
    let samples = profile.with_extension("json");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", &format!("--zero-before={BEGIN}")])
        .arg(format!("--dump-before={END}"))
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(program)
        .args(["--quick", "--runs=1", "--only", row, "--peer", peer, "--out"])
        .arg(&samples)
        .stdin(Stdio::null())
        .output();
    let output = match output {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("valgrind is missing: install the package valgrind")
        }
        output => output.context("cannot start valgrind")?,
    };
    ensure!(
        output.status.success(),
        "{row}, {peer}: valgrind failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let suite: Suite = serde_json::from_slice(&fs::read(&samples)?).context("the samples make no sense")?;
    let cells = suite.rows.iter().flat_map(|row| &row.cells);
    let operations = cells.filter_map(|cell| cell.operations).next();
    let operations = operations.with_context(|| format!("{row}, {peer}: the benchmark does not say of what"))?;
    // The first round warms up.
    let text = fs::read_to_string(profile.with_extension("2"))
        .with_context(|| format!("{row}, {peer}: nothing was counted"))?;
    Ok(total(&text).context("the profile has no total")? / operations as f64)
}

/// The instructions of a profile of callgrind's.
fn total(profile: &str) -> Option<f64> {
    let line = profile.lines().find_map(|line| line.strip_prefix("totals:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::total;

    #[test]
    fn a_total_is_the_one_of_the_last_part() {
        assert_eq!(total("events: Ir\nsummary: 7\n\ntotals: 34\n"), Some(34.0));
        assert_eq!(total("events: Ir\nsummary: 7\n"), None);
        assert_eq!(total("totals: many\n"), None);
    }
}
