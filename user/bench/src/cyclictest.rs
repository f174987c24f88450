//! cyclictest, of the distribution's package rt-tests, unmodified: the figures of its histogram, which it keeps to the nanosecond.

use std::fs;

use crate::{
    load::{Load, fork_for_ever, no_slack, spin, talk_for_ever, tick_for_ever},
    programs,
    row::{Sample, rows},
};

rows! {
    "cyclictest-idle" ["median", "p99", "p99.9", "max"]: beside(ORDINARY, 0, spin);
    "cyclictest-spin" ["median", "p99", "p99.9", "max"]: beside(ORDINARY, 1, spin);
    "cyclictest-forks" ["median", "p99", "p99.9", "max"]: beside(ORDINARY, 1, fork_for_ever);
    "cyclictest-pipes" ["median", "p99", "p99.9", "max"]: beside(ORDINARY, 1, talk_for_ever);
    "cyclictest-timers" ["median", "p99", "p99.9", "max"]: beside(ORDINARY, 4, tick_for_ever);
    "cyclictest-fifo-idle" ["median", "p99", "p99.9", "max"]: beside(FIFO, 0, spin);
    "cyclictest-fifo-spin" ["median", "p99", "p99.9", "max"]: beside(FIFO, 1, spin);
    "cyclictest-fifo-forks" ["median", "p99", "p99.9", "max"]: beside(FIFO, 1, fork_for_ever);
    "cyclictest-fifo-pipes" ["median", "p99", "p99.9", "max"]: beside(FIFO, 1, talk_for_ever);
    "cyclictest-fifo-timers" ["median", "p99", "p99.9", "max"]: beside(FIFO, 4, tick_for_ever);
}

const ORDINARY: &[&str] = &["--policy=other"];
const FIFO: &[&str] = &["--policy=fifo", "--priority=80"];

/// Where it writes what it measured.
const RESULT: &str = "/tmp/bench-cyclictest";
/// A thousand wakes, a millisecond apart; a bar of the histogram for each nanosecond up to 200 us.
const WORDS: [&str; 6] = [
    "--nsecs",
    "--quiet",
    "--interval=1000",
    "--loops=1000",
    "--histogram=200000",
    "--json=/tmp/bench-cyclictest",
];

/// How late its wakes are beside a load.
fn beside(class: &[&str], each: usize, body: fn(usize) -> i32) -> Result<Vec<Sample>, String> {
    let _load = Load::start(each, body)?;
    // Which it inherits; it does not ask by itself.
    no_slack();
    let words: Vec<&str> = class.iter().chain(&WORDS).copied().collect();
    programs::run("cyclictest", &words)?;
    let text = fs::read_to_string(RESULT).map_err(|error| format!("{RESULT}: {error}"))?;
    fs::remove_file(RESULT).map_err(|error| error.to_string())?;
    let wakes = Wakes::parse(&text).ok_or("cyclictest's figures make no sense")?;
    let shares = [0.5, 0.99, 0.999, 1.0];
    Ok(shares.map(|share| Sample::time(1, wakes.quantile(share))).into())
}

/// What one thread measured.
#[derive(Debug, PartialEq)]
struct Wakes {
    /// Nanoseconds, ascending, and how often.
    histogram: Vec<(u64, u64)>,
    /// All of them, those beyond the histogram too.
    cycles: u64,
    max: u64,
}

impl Wakes {
    /// From the lines of the JSON file, which has a key a line.
    fn parse(text: &str) -> Option<Self> {
        let value = |line: &str| -> Option<(String, u64)> {
            let (key, value) = line.trim().trim_end_matches(',').split_once("\": ")?;
            Some((key.trim_start_matches('"').to_owned(), value.parse().ok()?))
        };
        let lines = text.lines().skip_while(|line| !line.contains("\"histogram\""));
        let values: Vec<(String, u64)> = lines.filter_map(value).collect();
        let bars = values
            .iter()
            .map_while(|(key, count)| Some((key.parse().ok()?, *count)));
        let named = |name: &str| values.iter().find_map(|(key, value)| (key == name).then_some(*value));
        let mut wakes = Self {
            histogram: bars.collect(),
            cycles: named("cycles").filter(|cycles| *cycles > 0)?,
            max: named("max")?,
        };
        wakes.histogram.sort_unstable();
        Some(wakes)
    }

    /// The least figure that `share` of all do not exceed; the greatest of all if that one is beyond the histogram.
    fn quantile(&self, share: f64) -> u64 {
        let mut left = ((self.cycles as f64 * share).ceil() as u64).max(1);
        for (nanoseconds, count) in &self.histogram {
            if left <= *count {
                return *nanoseconds;
            }
            left -= count;
        }
        self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{
  "return_code": 0,
  "thread": {
    "0": {
      "histogram": {
        "300": 2,
        "500": 7
      },
      "cycles": 10,
      "min": 300,
      "max": 270000,
      "avg": 9.26,
      "cpu": 0
"#;

    #[test]
    fn a_histogram_and_what_is_beyond_it_give_the_quantiles() {
        let wakes = Wakes::parse(TEXT).unwrap();
        assert_eq!(wakes.histogram, [(300, 2), (500, 7)]);
        assert_eq!(
            [0.1, 0.2, 0.5, 0.9, 1.0].map(|share| wakes.quantile(share)),
            [300, 300, 500, 500, 270_000]
        );
        assert_eq!(Wakes::parse("{}"), None);
    }
}
