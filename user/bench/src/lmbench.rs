//! The `lat_*` programs of the distribution's package lmbench, unmodified, and the figures that they print.
//!
//! Each finds out by itself how often it must do a thing for the time that `ENOUGH` names, in microseconds. What the clock and an
//! empty loop take, which they would else measure first, for seconds, is given as nothing: it is a few thousandths of that time.

use std::fs;

use crate::{
    programs::{last_line, run_with},
    row::{Sample, rows},
};

rows! {
    "lmbench-syscall-null": run("lat_syscall", &["null"]);
    "lmbench-syscall-read": run("lat_syscall", &["read"]);
    "lmbench-syscall-write": run("lat_syscall", &["write"]);
    "lmbench-syscall-stat": run("lat_syscall", &["stat", "/bin/sh"]);
    "lmbench-syscall-fstat": run("lat_syscall", &["fstat", "/bin/sh"]);
    "lmbench-syscall-open": run("lat_syscall", &["open", "/bin/sh"]);
    "lmbench-proc-fork": run("lat_proc", &["fork"]);
    "lmbench-proc-exec": run("lat_proc", &["exec"]);
    "lmbench-proc-shell": run("lat_proc", &["shell"]);
    "lmbench-sig-install": run("lat_sig", &["install"]);
    "lmbench-sig-catch": run("lat_sig", &["catch"]);
    "lmbench-sig-prot": run("lat_sig", &["prot", FILE]);
    "lmbench-pipe": run("lat_pipe", &[]);
    "lmbench-unix": run("lat_unix", &[]);
    "lmbench-ctx-2": run("lat_ctx", &["2"]);
    "lmbench-ctx-8": run("lat_ctx", &["8"]);
    "lmbench-ctx-16": run("lat_ctx", &["16"]);
    "lmbench-ctx-96": run("lat_ctx", &["96"]);
    "lmbench-pagefault": run("lat_pagefault", &[FILE]);
    "lmbench-mmap": run("lat_mmap", &["1m", FILE]);
    "lmbench-select-10": run("lat_select", &["-n", "10", "file"]);
    "lmbench-select-200": run("lat_select", &["-n", "200", "file"]);
    "lmbench-fcntl": run("lat_fcntl", &[]);
    "lmbench-semaphore": run("lat_sem", &[]);
}

/// Where the programs are.
const PROGRAMS: &str = "/lib/lmbench";
/// Where they look for `hello` and make files.
const DIRECTORY: &str = "/var/tmp/lmbench";
/// A file to map.
const FILE: &str = "/var/tmp/lmbench/file";
const FILE_BYTES: usize = 2 << 20;

/// Runs one: its figure.
fn run(name: &str, words: &[&str]) -> Result<Sample, String> {
    let said = |error: std::io::Error| error.to_string();
    fs::create_dir_all(DIRECTORY).map_err(said)?;
    let prepared = fs::write(FILE, vec![1; FILE_BYTES])
        .and_then(|()| fs::copy(format!("{PROGRAMS}/hello"), format!("{DIRECTORY}/hello")))
        .map_err(said);
    // One measurement of each, none to warm up: where instructions are time, each is like the other.
    let words: Vec<&str> = ["-W", "0", "-N", "1"].iter().chain(words).copied().collect();
    let environment = [("ENOUGH", "10000"), ("TIMING_O", "0"), ("LOOP_O", "0")];
    let text = prepared.and_then(|_| run_with(&format!("{PROGRAMS}/{name}"), &words, &environment));
    fs::remove_dir_all(DIRECTORY).map_err(said)?;
    let text = text?;
    let microseconds = figure(&text).ok_or_else(|| format!("no figure: {}", last_line(&text)))?;
    Ok(Sample {
        operations: 1_000,
        amount: (microseconds * 1e6).round() as u64,
        unit: "ns",
    })
}

/// Microseconds, from `<what>: <figure> microseconds`, or the second column of a table's last line.
fn figure(text: &str) -> Option<f64> {
    let words: Vec<&str> = last_line(text).split_whitespace().collect();
    let figure: f64 = match words[..] {
        [.., figure, "microseconds"] => figure.parse().ok()?,
        [size, figure] => size.parse::<f64>().and(figure.parse()).ok()?,
        _ => return None,
    };
    (figure > 0.0).then_some(figure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_as_the_programs_print_them() {
        assert_eq!(figure("Simple syscall: 0.1222 microseconds\n"), Some(0.1222));
        assert_eq!(figure("Process fork+/bin/sh -c: 2068.6 microseconds\n"), Some(2068.6));
        assert_eq!(figure("\n\"size=0k ovr=0.47\n96 125.89\n"), Some(125.89));
        assert_eq!(figure("1.048576 9\n"), Some(9.0));
    }

    #[test]
    fn what_is_no_figure_is_none() {
        for text in [
            "",
            "mknod: No such file",
            "\"size=0k ovr=0.47",
            "Pipe latency: 0.0 microseconds",
        ] {
            assert_eq!(figure(text), None, "{text}");
        }
    }
}
