//! The executor on a simulated machine: what it promises, over many seeds.

#![cfg(not(loom))]

mod abort;
mod accounts;
mod fairness;
mod retire;
mod storm;
mod user;
mod wakes;

use std::{
    future::Future,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

use executor::{
    Class, Executor, SpawnOptions, TaskInfo,
    simulation::{Machine, Sim, executor, spin, stop},
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
    let run = |seed| {
        Machine::new(seed, 3, 100 * MS).run(
            || (0..5).for_each(|_| spawn(options(Class::User), spin())),
            || {
                executor()
                    .tasks()
                    .map(|task| (task.polls, task.run_ns))
                    .collect::<Vec<_>>()
            },
        )
    };
    assert_eq!(run(9), run(9));
    assert_ne!(run(9), run(10));
}
