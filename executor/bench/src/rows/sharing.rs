//! Rows about what tasks share: channels and locks.

use super::allocations_of;
use crate::{
    measure::Watch,
    peers::{
        Channel, Kind, Lock, Peer, async_task::AsyncTask, embassy::Embassy, embassy::Masked, local_pool, ours::Ours,
        smol::Smol, tokio::CurrentThread,
    },
    run::{Bar, Case, Cell, Plan, Row, Scale},
    work::Gate,
};
use anyhow::ensure;
use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Tasks that contend for a lock.
const CONTENDERS: u64 = 8;

pub fn plans() -> Vec<Plan> {
    vec![
        Plan::new("channel", channels),
        Plan::new("channel-alone", channels_alone),
        Plan::new("lock", locks),
        Plan::new("lock-allocations", lock_allocations),
    ]
}

fn cell(peer: &'static str, case: Case) -> Cell {
    Cell { peer, case: Ok(case) }
}

fn channels(scale: &Scale) -> Row {
    let trips = scale.operations / 2;
    Row {
        id: "channel",
        name: "bounded channel, round trip, each on its own executor".into(),
        unit: "ns",
        wall: false,
        bar: Bar::Ratio(0.7),
        share: 1,
        cells: vec![
            cell("ours", channel_case::<Ours, Ours, _>(trips, echo::<Ours>)),
            cell(
                "embassy (one thread)",
                channel_case::<Embassy, Embassy, _>(trips, echo::<Embassy>),
            ),
            cell(
                "embassy (critical section)",
                channel_case::<Embassy, Masked, _>(trips, echo::<Masked>),
            ),
            cell(
                "tokio",
                channel_case::<CurrentThread, CurrentThread, _>(trips, echo::<CurrentThread>),
            ),
            cell("async-channel", channel_case::<Smol, Smol, _>(trips, echo::<Smol>)),
            cell(
                "futures",
                channel_case::<local_pool::Pool, local_pool::Pool, _>(trips, echo::<local_pool::Pool>),
            ),
        ],
    }
}

fn channels_alone(scale: &Scale) -> Row {
    let trips = scale.operations / 2;
    Row {
        id: "channel-alone",
        name: "bounded channel, round trip, all on async-task".into(),
        unit: "ns",
        wall: false,
        bar: Bar::None,
        share: 1,
        cells: vec![
            cell("ours", channel_case::<AsyncTask, Ours, _>(trips, echo::<Ours>)),
            cell(
                "embassy (one thread)",
                channel_case::<AsyncTask, Embassy, _>(trips, echo::<Embassy>),
            ),
            cell(
                "embassy (critical section)",
                channel_case::<AsyncTask, Masked, _>(trips, echo::<Masked>),
            ),
            cell(
                "tokio",
                channel_case::<AsyncTask, CurrentThread, _>(trips, echo::<CurrentThread>),
            ),
            cell("async-channel", channel_case::<AsyncTask, Smol, _>(trips, echo::<Smol>)),
            cell(
                "futures",
                channel_case::<AsyncTask, local_pool::Pool, _>(trips, echo::<local_pool::Pool>),
            ),
        ],
    }
}

/// Answers every number with the next.
async fn echo<C: Channel>(mut receiver: C::Receiver, mut sender: C::Sender, trips: u64, gate: &'static Gate) {
    for _ in 0..trips {
        let number = C::receive(&mut receiver).await;
        C::send(&mut sender, number + 1).await;
    }
    gate.arrive();
}

fn channel_case<P: Peer, C: Channel, F: Future<Output = ()> + Send + 'static>(
    trips: u64,
    echo: fn(C::Receiver, C::Sender, u64, &'static Gate) -> F,
) -> Case {
    let pool: &'static P::Pool<F> = Box::leak(Box::new(P::pool(Kind::Driver, 1)));
    Box::new(move || {
        let gate = Gate::new();
        let (sample, sum) = P::run(Kind::Driver, async move {
            let (mut to, from) = C::channel();
            let (to_us, mut answers) = C::channel();
            gate.expect(1);
            P::spawn(pool, echo(from, to_us, trips, gate));
            let mut sum = 0;
            let watch = Watch::cpu();
            for number in 0..trips {
                C::send(&mut to, number).await;
                sum += C::receive(&mut answers).await;
            }
            let sample = watch.stop(trips);
            gate.wait().await;
            (sample, sum)
        });
        ensure!(sum == trips * (trips + 1) / 2, "the answers add up to {sum}");
        Ok(sample)
    })
}

fn lock_cells(scale: &Scale) -> Vec<Cell> {
    let times = scale.operations / CONTENDERS / 2;
    vec![
        cell("ours", lock_case::<Ours, Ours, _>(times, contend::<Ours>)),
        cell(
            "embassy (one thread)",
            lock_case::<Embassy, Embassy, _>(times, contend::<Embassy>),
        ),
        cell(
            "tokio",
            lock_case::<CurrentThread, CurrentThread, _>(times, contend::<CurrentThread>),
        ),
        cell(
            "futures",
            lock_case::<local_pool::Pool, local_pool::Pool, _>(times, contend::<local_pool::Pool>),
        ),
    ]
}

fn locks(scale: &Scale) -> Row {
    Row {
        id: "lock",
        name: format!("contended lock, {CONTENDERS} tasks"),
        unit: "ns",
        wall: false,
        bar: Bar::None,
        share: 1,
        cells: lock_cells(scale),
    }
}

fn lock_allocations(scale: &Scale) -> Row {
    let mut cells = lock_cells(scale);
    cells.iter_mut().for_each(allocations_of);
    Row {
        id: "lock-allocations",
        name: "allocations for a contended lock".into(),
        unit: "calls",
        wall: false,
        bar: Bar::Most(0.0),
        share: 8,
        cells,
    }
}

/// Takes the lock a number of times, and adds up what it sees there.
async fn contend<L: Lock>(mutex: Arc<L::Mutex>, times: u64, sum: &'static AtomicU64, gate: &'static Gate) {
    for _ in 0..times {
        let number = L::add_one(&mutex).await;
        sum.store(sum.load(Relaxed) + number, Relaxed);
    }
    gate.arrive();
}

fn lock_case<P: Peer, L: Lock, F: Future<Output = ()> + Send + 'static>(
    times: u64,
    contend: fn(Arc<L::Mutex>, u64, &'static AtomicU64, &'static Gate) -> F,
) -> Case {
    let pool: &'static P::Pool<F> = Box::leak(Box::new(P::pool(Kind::Driver, CONTENDERS as usize)));
    Box::new(move || {
        let gate = Gate::new();
        let sum: &'static AtomicU64 = Box::leak(Box::default());
        let count = CONTENDERS * times;
        let sample = P::run(Kind::Service, async move {
            let mutex = Arc::new(L::mutex());
            gate.expect(CONTENDERS);
            for _ in 0..CONTENDERS {
                P::spawn(pool, contend(mutex.clone(), times, sum, gate));
            }
            let watch = Watch::cpu();
            gate.wait().await;
            watch.stop(count)
        });
        // Every number was seen once.
        let seen = sum.load(Relaxed);
        ensure!(seen == count * (count + 1) / 2, "the numbers seen add up to {seen}");
        Ok(sample)
    })
}
