//! Rows about tasks on one thread: spawning, joining, yielding, waking.

use crate::{
    count,
    measure::{Sample, Watch},
    peers::{
        Joining, Kind, Peer, async_task::AsyncTask, embassy::Embassy, local_pool, ours, ours::Ours, smol::Smol,
        tokio::CurrentThread, tokio::MultiThread,
    },
    run::{Bar, Case, Dice, Plan, Row, Scale},
    work::{Answer, Gate, Once, Parked, Population, Yielder},
};
use anyhow::ensure;
use std::task::Waker;

/// Tasks spawned before the first of them runs.
const BURST: usize = 64;

pub fn plans() -> Vec<Plan> {
    vec![
        // First, because memory that our executor's slab has got stays with it.
        Plan::new("bytes", bytes),
        Plan::new("spawn", spawn),
        Plan::new("join", join),
        Plan::new("yield", yielding),
        Plan::new("wake-1", wake_one),
        Plan::new("wake-64", wake_drivers),
        Plan::new("wake-million", wake_million),
        Plan::new("wake-allocations", allocations),
    ]
}

/// A cell for every executor.
macro_rules! every {
    ($function:ident $arguments:tt) => {
        cells!($function $arguments: Ours, Embassy, CurrentThread, MultiThread, Smol, AsyncTask, local_pool::Pool)
    };
}

fn spawn(scale: &Scale) -> Row {
    Row {
        name: "spawn and run to completion".into(),
        bar: Bar::Ratio(0.5),
        cells: every!(spawn_case(scale.operations / BURST as u64)),
        ..Row::default()
    }
}

fn spawn_case<P: Peer>(bursts: u64) -> Case {
    let pool = P::pool::<Once>(Kind::Service, BURST);
    Box::new(move || {
        let gate = Gate::new();
        let operations = bursts * BURST as u64;
        let sample = P::run(Kind::Service, async move {
            let watch = Watch::cpu();
            for _ in 0..bursts {
                gate.expect(BURST as u64);
                for _ in 0..BURST {
                    P::spawn(pool, Once::new(gate));
                }
                gate.wait().await;
            }
            watch.stop(operations)
        });
        ensure!(
            gate.polls() == operations,
            "{} polls for {operations} tasks",
            gate.polls()
        );
        Ok(sample)
    })
}

fn join(scale: &Scale) -> Row {
    Row {
        name: "spawn and await the join handle".into(),
        bar: Bar::Ratio(0.4),
        cells: every!(join_case(scale.operations)),
        ..Row::default()
    }
}

fn join_case<P: Joining>(operations: u64) -> Case {
    let pool = P::join_pool::<Answer>();
    Box::new(move || {
        let gate = Gate::new();
        let (sample, sum) = P::run(Kind::Service, async move {
            let mut sum = 0;
            let watch = Watch::cpu();
            for number in 0..operations {
                sum += P::spawn_joined(pool, Answer::new(gate, number)).await;
            }
            (watch.stop(operations), sum)
        });
        ensure!(
            gate.polls() == operations,
            "{} polls for {operations} tasks",
            gate.polls()
        );
        ensure!(
            sum == operations * (operations - 1) / 2,
            "the outputs are not those of the tasks"
        );
        Ok(sample)
    })
}

fn yielding(scale: &Scale) -> Row {
    let tasks = ours::DRIVERS.min(64);
    Row {
        name: format!("yield, {tasks} ready driver tasks"),
        bar: Bar::Ratio(0.5),
        cells: every!(yield_case(tasks as u64, scale.operations * 4 / tasks as u64)),
        ..Row::default()
    }
}

fn yield_case<P: Peer>(tasks: u64, times: u64) -> Case {
    let pool = P::pool::<Yielder>(Kind::Driver, tasks as usize);
    Box::new(move || {
        let gate = Gate::new();
        let polls = tasks * (times + 1);
        let sample = P::run(Kind::Service, async move {
            gate.expect(tasks);
            for _ in 0..tasks {
                P::spawn(pool, Yielder::new(gate, times));
            }
            let watch = Watch::cpu();
            gate.wait().await;
            watch.stop(polls)
        });
        ensure!(gate.polls() == polls, "{} polls, not {polls}", gate.polls());
        Ok(sample)
    })
}

fn wake_one(scale: &Scale) -> Row {
    Row {
        name: "wake to poll, one task".into(),
        bar: Bar::Ratio(0.7),
        cells: every!(wake_case(Kind::Driver, 1, scale.operations)),
        ..Row::default()
    }
}

fn wake_drivers(scale: &Scale) -> Row {
    // The main task is a driver too.
    let tasks = (ours::DRIVERS - 1).min(64);
    Row {
        name: format!("wake to poll, {tasks} driver tasks"),
        bar: Bar::Ratio(0.5),
        cells: every!(wake_case(Kind::Driver, tasks, scale.operations * 4 / tasks as u64)),
        ..Row::default()
    }
}

fn wake_million(scale: &Scale) -> Row {
    let tasks = ours::room(scale.million);
    Row {
        name: format!("wake to poll, {tasks} tasks, random order"),
        bar: Bar::Ratio(0.8),
        share: scale.million_share,
        cells: every!(wake_case(Kind::Service, tasks, 2)),
        ..Row::default()
    }
}

fn allocations(scale: &Scale) -> Row {
    let cells = every!(wake_case(Kind::Driver, 16, scale.operations / 16));
    super::allocations("allocations for a wake and a poll".into(), cells)
}

/// The main task wakes all tasks, in an order that has nothing to do with that of their memory, and is woken by the last
/// that is polled.
fn wake_case<P: Peer>(kind: Kind, tasks: usize, passes: u64) -> Case {
    let pool = P::pool::<Parked>(kind, tasks);
    Box::new(move || {
        let population = Population::new(tasks);
        let gate = population.gate;
        let count = tasks as u64;
        let sample: Sample = P::run(kind, async move {
            gate.expect(count);
            for _ in 0..tasks {
                P::spawn(pool, Parked::new(population));
            }
            gate.wait().await;
            let mut wakers = population.take_wakers();
            Dice(1).shuffle(&mut wakers);
            let watch = Watch::cpu();
            for _ in 0..passes {
                gate.expect(count);
                for waker in &wakers {
                    waker.wake_by_ref();
                }
                gate.wait().await;
            }
            let sample = watch.stop(passes * (count + 1));
            population.stop();
            gate.expect(count);
            for waker in wakers {
                waker.wake();
            }
            gate.wait().await;
            sample
        });
        let polls = count * (passes + 2);
        ensure!(gate.polls() == polls, "{} polls, not {polls}", gate.polls());
        Ok(sample)
    })
}

/// Tasks of which the memory is counted.
const MEASURED: usize = 10_000;

fn bytes(_: &Scale) -> Row {
    Row {
        name: format!("memory of a task, {} of them its future", size_of::<Parked>()),
        unit: "bytes",
        share: 8,
        cells: every!(bytes_case()),
        ..Row::default()
    }
}

/// What an executor gets from the allocator for tasks that wait. Counted once: the next time it may have it already.
fn bytes_case<P: Peer>() -> Case {
    let mut counted = None;
    Box::new(move || {
        let spent = *counted.get_or_insert_with(bytes_of::<P>);
        ensure!(spent > 0, "tasks that take no memory");
        Ok(Sample {
            value: spent as f64 / MEASURED as f64,
            allocations: None,
            operations: MEASURED as u64,
        })
    })
}

fn bytes_of<P: Peer>() -> i64 {
    let population = Population::new(MEASURED);
    let gate = population.gate;
    let before = count::live_bytes();
    let pool = P::pool::<Parked>(Kind::Service, MEASURED);
    let storage = count::live_bytes() - before;
    let spent = P::run(Kind::Service, async move {
        let before = count::live_bytes();
        gate.expect(MEASURED as u64);
        for _ in 0..MEASURED {
            P::spawn(pool, Parked::new(population));
        }
        gate.wait().await;
        let spent = count::live_bytes() - before;
        population.stop();
        gate.expect(MEASURED as u64);
        population.take_wakers().into_iter().for_each(Waker::wake);
        gate.wait().await;
        spent
    });
    storage + spent
}
