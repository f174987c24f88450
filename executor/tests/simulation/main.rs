//! The executor on a simulated machine: what it promises, over many seeds.

#![cfg(not(loom))]

mod abort;
mod accounts;
mod fairness;
mod real_time;
mod retire;
mod storm;
mod user;
mod wakes;

use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use executor::{
    Class, Executor, Platform, SpawnOptions, TaskInfo,
    simulation::{Machine, Sim, clock, executor, random, spin, stop},
    sleep_until,
};

const MS: u64 = 1_000_000;

fn options(class: Class) -> SpawnOptions {
    SpawnOptions::new(class, "simulated")
}

/// Spawns a task that nobody joins.
fn spawn(options: SpawnOptions, future: impl Future<Output = ()> + Send + 'static) {
    executor().spawn(options, future).unwrap().detach();
}

fn users(executor: &Executor<Sim>) -> Vec<TaskInfo> {
    executor.tasks().filter(|task| task.class == Class::User).collect()
}

/// One task has done its work; the last of `tasks` ends the run.
fn arrive(done: &AtomicUsize, tasks: usize) {
    if done.fetch_add(1, SeqCst) + 1 == tasks {
        stop();
    }
}

/// The same seed gives the same run.
#[test]
fn a_seed_replays() {
    // Every poll of a sleeper and every interrupt: which, where and when, to the very end.
    let run = |seed| {
        let trace: Arc<Mutex<Vec<(usize, u32, u64)>>> = Arc::default();
        let (interrupts, polls) = (trace.clone(), trace.clone());
        let note = |trace: &Mutex<Vec<_>>, what| trace.lock().unwrap().push((what, Sim::cpu(), clock()));
        let machine = Machine::new(seed, 3, 20 * MS).device(50, move || note(&interrupts, usize::MAX));
        let ends = machine.run(
            move || {
                (0..3).for_each(|_| spawn(options(Class::User), spin()));
                for n in 0..6 {
                    let trace = polls.clone();
                    spawn(options(Class::Service).cpu(n as u32 % 3), async move {
                        loop {
                            sleep_until::<Sim>(clock() + random(MS)).await;
                            note(&trace, n);
                        }
                    });
                }
            },
            || {
                let ends = executor().tasks().map(|task| (task.polls, task.run_ns));
                ends.collect::<Vec<_>>()
            },
        );
        let trace = trace.lock().unwrap().clone();
        (trace, ends)
    };
    for seed in 0..5 {
        assert!(run(seed) == run(seed), "seed {seed}");
        assert!(run(seed).0 != run(seed + 1).0, "seed {seed}");
    }
}
