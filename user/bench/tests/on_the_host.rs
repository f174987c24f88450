//! The program runs on the Linux at hand as well: one short row of each suite.

#![cfg(target_os = "linux")]

use std::process::Command;

/// What `bench` says of a row, less the last line.
fn said(suite: &str, row: &str) -> Vec<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args([suite, row])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    assert_eq!(lines.pop().as_deref(), Some("BENCH end"), "{text}");
    lines
}

#[test]
fn rounds_have_a_line_each() {
    for (suite, row, unit) in [
        ("latency", "null-call", "ns"),
        ("memory", "open-file", "bytes"),
        ("throughput", "pipe-64k", "ns/KiB"),
    ] {
        let lines = said(suite, row);
        assert_eq!(lines.len(), 3, "{lines:?}");
        for line in &lines {
            let words: Vec<_> = line.split(' ').collect();
            assert_eq!((words.len(), words[1], words[4]), (5, row, unit), "{line}");
            assert!(words[2].parse::<u64>().is_ok_and(|count| count > 0), "{line}");
        }
    }
}

#[test]
fn a_row_of_several_figures_has_a_line_for_each() {
    let lines = said("wakeup", "idle");
    let names: Vec<_> = lines.iter().filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(names, ["idle.median", "idle.p99", "idle.p99.9", "idle.max"]);
}

#[test]
fn what_cannot_be_done_is_said() {
    let program = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["throughput", "hackbench"])
        .env("PATH", "/nonexistent")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&program.stdout).into_owned();
    assert!(text.starts_with("BENCH hackbench failed hackbench: "), "{text}");
    assert!(
        !Command::new(env!("CARGO_BIN_EXE_bench"))
            .arg("nonsense")
            .status()
            .unwrap()
            .success()
    );
}
