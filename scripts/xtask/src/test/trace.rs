//! A command traced from end to end.

use super::Tally;
use crate::arch::Arch;
use crate::machine::{Boot, Machine};
use crate::project::Profile;
use crate::trace::timeline::{Kind, Timeline};
use crate::trace::{self, chrome};
use anyhow::{Result, ensure};
use std::collections::BTreeSet;
use std::time::Duration;

/// Processes on several CPUs, pipes, sleeps that a timer ends.
const COMMAND: &str = "for i in 1 2 3 4; do true | cat & done; wait; sleep 0.02; echo traced";

/// The trace of a small command has everything that a trace can have, on several CPUs, with names.
pub fn small_command(arch: Arch) -> Result<Tally> {
    let boot = Boot::build(arch, Profile::Debug)?;
    let command = ["/bin/sh", "-c", COMMAND].map(str::to_owned);
    let traced = trace::run(&boot, Machine::default(), &command, 16384, Duration::from_secs(120))?;
    let checks: [(&str, Result<()>); 4] = [
        ("the command", command_ran(&traced)),
        ("slices", slices(&traced.timeline)),
        ("wakes", wakes(&traced.timeline)),
        ("format", chrome::check(&chrome::json(&traced.timeline, COMMAND))),
    ];
    let mut tally = Tally::default();
    for (name, result) in checks {
        if let Err(error) = &result {
            println!("{name}: {error:#}");
        }
        tally.add(&Tally::of(result.is_ok()));
    }
    Ok(tally)
}

fn command_ran(traced: &trace::Traced) -> Result<()> {
    ensure!(traced.output == "traced\n", "it printed {:?}", traced.output);
    ensure!(traced.status == 0, "its status is {}", traced.status);
    ensure!(traced.timeline.lost == 0, "{} records were lost", traced.timeline.lost);
    Ok(())
}

fn slices(timeline: &Timeline) -> Result<()> {
    for kind in Kind::ALL {
        let found = timeline
            .slices
            .iter()
            .any(|slice| slice.kind == kind && slice.begin < slice.end);
        // The executor's own work is seen only where it wakes.
        ensure!(found || kind == Kind::Executor, "no slice of kind {}", kind.word());
    }
    ensure!(
        timeline
            .slices
            .iter()
            .all(|slice| slice.begin <= slice.end && slice.end <= timeline.length),
        "a slice ends before it begins, or after the trace"
    );
    let names: BTreeSet<_> = timeline.slices.iter().map(|slice| slice.name.as_str()).collect();
    for name in ["sh", "sleep", "wait4", "execve", "timer", "other CPU", "idle", "user"] {
        ensure!(names.contains(name), "nothing is called {name}: {names:?}");
    }
    let polling = timeline
        .slices
        .iter()
        .filter(|slice| slice.kind == Kind::Poll)
        .map(|slice| slice.cpu);
    let polling: BTreeSet<_> = polling.collect();
    ensure!(polling.len() >= 2, "only CPUs {polling:?} poll");
    Ok(())
}

fn wakes(timeline: &Timeline) -> Result<()> {
    let landed = || {
        timeline
            .wakes
            .iter()
            .filter_map(|wake| wake.poll.map(|(cpu, at)| (wake, cpu, at)))
    };
    ensure!(
        landed().any(|(wake, cpu, _)| wake.cpu != cpu),
        "no wake reaches another CPU"
    );
    ensure!(
        landed().all(|(wake, _, at)| wake.at <= at),
        "a poll comes before its wake"
    );
    let by: BTreeSet<_> = timeline.wakes.iter().map(|wake| wake.by.as_str()).collect();
    ensure!(
        by.contains("cat") || by.contains("true") || by.contains("sh"),
        "nobody wakes but {by:?}"
    );
    Ok(())
}
