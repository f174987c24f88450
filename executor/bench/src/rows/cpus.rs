//! Rows about several CPUs, by the wall clock, every thread pinned to a CPU of its own.

use crate::{
    measure::{Sample, Until, cpus, pin},
    peers::{
        Kind, Named, Peer, Spinning, async_task::AsyncTask, embassy::Embassy, local_pool, ours::Ours, smol::Smol,
        tokio::CurrentThread, tokio::MultiThread, tokio::workers,
    },
    run::{Bar, Case, Cell, Plan, Row, Scale},
    work::{Gate, Player, Table, Wanderer},
};
use anyhow::{Result, anyhow, ensure};
use std::{
    sync::{Barrier, atomic::Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

/// Tasks on each CPU.
const TASKS: u64 = 32;

pub fn plans() -> Vec<Plan> {
    let scaling: [fn(&Scale) -> Row; 4] = [scale_to::<1>, scale_to::<2>, scale_to::<4>, scale_to::<8>];
    let host = cpus().map_or(1, |cpus| cpus.len());
    let mut plans = vec![Plan::new("cross", cross)];
    let steps = scaling.into_iter().zip([1, 2, 4, 8]).filter(|(_, cpus)| *cpus <= host);
    plans.extend(steps.map(|(build, _)| Plan::new("scaling", build)));
    plans
}

fn cross(scale: &Scale) -> Row {
    // Short rounds: on a busy machine both threads have to be given their CPUs at the same time.
    let hits = (scale.operations / 20).max(50);
    let mut cells = if cpus().is_ok_and(|cpus| cpus.len() > 1) {
        cells!(cross_case(hits): Ours, Embassy, CurrentThread, Smol, AsyncTask, local_pool::Pool)
    } else {
        vec![Cell {
            peer: Ours::NAME,
            case: Err("the host has one CPU"),
        }]
    };
    cells.push(Cell {
        peer: MultiThread::NAME,
        case: Err("a task cannot be held on a CPU: its workers steal, and the two would meet on one"),
    });
    Row {
        name: "wake to poll on another CPU that spins".into(),
        wall: true,
        bar: Bar::Ratio(0.65),
        cells,
        ..Row::default()
    }
}

/// Runs `work` on so many threads, each pinned to a CPU of its own, and gives what they returned, or the first error.
fn on_cpus<T: Send>(count: usize, work: impl Fn(u32) -> Result<T> + Sync) -> Result<Vec<T>> {
    let numbers = cpus()?;
    ensure!(numbers.len() >= count, "the host has {} CPUs", numbers.len());
    // A thread that cannot be pinned does its work all the same, because the others wait for it.
    let run = &|index: usize| {
        let pinned = pin(numbers[index]);
        let result = work(index as u32)?;
        pinned.map(|()| result)
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|index| scope.spawn(move || run(index))).collect();
        let results = threads.into_iter().map(|thread| thread.join());
        results
            .map(|result| result.map_err(|_| anyhow!("a thread panicked"))?)
            .collect()
    })
}

/// Two tasks wake each other in turn; what one hit takes is a wake to poll.
fn cross_case<P: Spinning>(hits: u64) -> Case {
    Box::new(move || {
        let table = Table::new();
        let ready = Barrier::new(2);
        on_cpus(2, |cpu| {
            let me = cpu as usize;
            P::be_cpu(cpu);
            ready.wait();
            P::spin(cpu, Player::new(table, me, hits), Until::new(&table.ended[me]));
            Until::check(&table.ended[me])
        })?;
        let polls: u64 = table.polls.iter().map(|polls| polls.load(Relaxed)).sum();
        ensure!(polls >= hits, "{polls} polls for {hits} wakes");
        Ok(Sample {
            value: table.spent.load(Relaxed) as f64 / hits as f64,
            allocations: None,
            operations: hits,
        })
    })
}

fn scale_to<const CPUS: usize>(scale: &Scale) -> Row {
    let times = scale.operations * 4 / TASKS;
    let mut cells = cells!(
        scaling_case(CPUS, times): Ours, Embassy, CurrentThread, Smol, AsyncTask, local_pool::Pool
    );
    cells.push(super::cell::<MultiThread>(multi_case(CPUS, times)));
    Row {
        name: format!("yield, {TASKS} tasks on each of {CPUS} CPUs, one poll of all"),
        wall: true,
        cells,
        ..Row::default()
    }
}

/// One executor's share: its main task and the tasks that yield.
async fn share<P: Peer>(pool: &'static P::Pool<Wanderer>, gate: &'static Gate, times: u64) {
    gate.expect(TASKS);
    gate.register().await;
    for _ in 0..TASKS {
        P::spawn(pool, Wanderer::new(gate, times));
    }
    gate.wait().await;
}

/// An executor on each CPU; those that share one over all CPUs take part in that one from each thread.
fn scaling_case<P: Peer>(cpus: usize, times: u64) -> Case {
    Box::new(move || {
        let gates: Vec<_> = (0..cpus).map(|_| Gate::new()).collect();
        let ready = Barrier::new(cpus);
        let spans = on_cpus(cpus, |cpu| {
            P::be_cpu(cpu);
            let pool = P::pool::<Wanderer>(Kind::Service, TASKS as usize);
            ready.wait();
            let start = Instant::now();
            P::run(Kind::Service, share::<P>(pool, gates[cpu as usize], times));
            Ok((start, Instant::now()))
        })?;
        let start = spans.iter().map(|(start, _)| *start).min();
        let end = spans.iter().map(|(_, end)| *end).max();
        let spent = end.zip(start).map_or(Duration::ZERO, |(end, start)| end - start);
        sample(&gates, times, spent)
    })
}

/// tokio brings its own threads: one runtime with a worker for each CPU, which spread the tasks.
fn multi_case(cpus: usize, times: u64) -> Case {
    let runtime = workers(cpus);
    Box::new(move || {
        let gates: Vec<_> = (0..cpus).map(|_| Gate::new()).collect();
        let start = Instant::now();
        runtime.block_on(async {
            let mains = gates
                .iter()
                .map(|gate| tokio::spawn(share::<MultiThread>(&(), gate, times)));
            for main in mains.collect::<Vec<_>>() {
                main.await?;
            }
            anyhow::Ok(())
        })?;
        sample(&gates, times, start.elapsed())
    })
}

fn sample(gates: &[&Gate], times: u64, spent: Duration) -> Result<Sample> {
    let polls: u64 = gates.iter().map(|gate| gate.polls()).sum();
    let expected = gates.len() as u64 * TASKS * (times + 1);
    ensure!(polls == expected, "{polls} polls, not {expected}");
    Ok(Sample {
        value: spent.as_nanos() as f64 / polls as f64,
        allocations: None,
        operations: polls,
    })
}
