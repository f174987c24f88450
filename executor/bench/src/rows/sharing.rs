//! Rows about what tasks share: channels and locks.

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

/// On which executor the tasks run.
#[derive(Clone, Copy)]
enum On {
    /// The one that what they share comes with.
    ItsOwn,
    /// The same for all.
    AsyncTask,
}

fn channels(scale: &Scale) -> Row {
    Row {
        name: "bounded channel, round trip, each on its own executor".into(),
        bar: Bar::Ratio(0.7),
        cells: channel_cells(scale, On::ItsOwn),
        ..Row::default()
    }
}

fn channels_alone(scale: &Scale) -> Row {
    Row {
        name: "bounded channel, round trip, all on async-task".into(),
        cells: channel_cells(scale, On::AsyncTask),
        ..Row::default()
    }
}

fn channel_cells(scale: &Scale, on: On) -> Vec<Cell> {
    let trips = scale.operations / 2;
    vec![
        channel_cell::<Ours, Ours>("ours", on, trips),
        channel_cell::<Embassy, Embassy>("embassy (one thread)", on, trips),
        channel_cell::<Embassy, Masked>("embassy (critical section)", on, trips),
        channel_cell::<CurrentThread, CurrentThread>("tokio", on, trips),
        channel_cell::<Smol, Smol>("async-channel", on, trips),
        channel_cell::<local_pool::Pool, local_pool::Pool>("futures", on, trips),
    ]
}

fn channel_cell<P: Peer, C: Channel>(peer: &'static str, on: On, trips: u64) -> Cell {
    let case = match on {
        On::ItsOwn => channel_case::<P, C, _>(trips, echo::<C>),
        On::AsyncTask => channel_case::<AsyncTask, C, _>(trips, echo::<C>),
    };
    Cell { peer, case: Ok(case) }
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
    let pool = P::pool::<F>(Kind::Driver, 1);
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
        lock_cell::<Ours>("ours", times),
        lock_cell::<Embassy>("embassy (one thread)", times),
        lock_cell::<CurrentThread>("tokio", times),
        lock_cell::<local_pool::Pool>("futures", times),
    ]
}

fn lock_cell<P: Peer + Lock>(peer: &'static str, times: u64) -> Cell {
    let case = lock_case::<P, P, _>(times, contend::<P>);
    Cell { peer, case: Ok(case) }
}

fn locks(scale: &Scale) -> Row {
    Row {
        name: format!("contended lock, {CONTENDERS} tasks"),
        cells: lock_cells(scale),
        ..Row::default()
    }
}

fn lock_allocations(scale: &Scale) -> Row {
    super::allocations("allocations for a contended lock".into(), lock_cells(scale))
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
    let pool = P::pool::<F>(Kind::Driver, CONTENDERS as usize);
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
