//! futures: its LocalPool, channel and mutex.

use super::{Channel, Joining, Kind, Lock, PLACES, Peer, Spinning};
use crate::{measure::Until, work::yield_once};
use futures::{
    SinkExt, StreamExt,
    channel::mpsc::{self, Receiver, Sender},
    executor::{LocalPool, LocalSpawner},
    lock::Mutex,
    task::{LocalSpawnExt, SpawnExt},
};
use std::{cell::RefCell, future::Future};

thread_local!(static SPAWNER: RefCell<Option<LocalSpawner>> = const { RefCell::new(None) });

fn with_spawner<T>(f: impl FnOnce(&LocalSpawner) -> T) -> T {
    SPAWNER.with_borrow(|spawner| f(spawner.as_ref().expect("a pool runs on this thread")))
}

/// futures' LocalPool.
pub struct Pool;

impl Peer for Pool {
    const NAME: &'static str = "LocalPool";

    type Pool<F: Future<Output = ()> + Send + 'static> = ();

    fn pool<F: Future<Output = ()> + Send + 'static>(_: Kind, _: usize) {}

    fn spawn<F: Future<Output = ()> + Send + 'static>((): &'static (), future: F) {
        with_spawner(|spawner| spawner.spawn_local(future)).expect("the pool lives");
    }

    fn run<M: Future<Output: Send> + Send + 'static>(_: Kind, main: M) -> M::Output {
        let mut pool = LocalPool::new();
        SPAWNER.set(Some(pool.spawner()));
        let (slot, main) = super::into_slot(main);
        Self::spawn(&(), main);
        pool.run();
        super::take(&slot).expect("idle before the main task has ended")
    }
}

impl Joining for Pool {
    type JoinPool<F: Future<Output: Send> + Send + 'static> = ();

    fn join_pool<F: Future<Output: Send> + Send + 'static>() {}

    fn spawn_joined<F: Future<Output: Send> + Send + 'static>(
        (): &'static (),
        future: F,
    ) -> impl Future<Output = F::Output> + Send {
        with_spawner(|spawner| spawner.spawn_with_handle(future)).expect("the pool lives")
    }
}

impl Spinning for Pool {
    fn spin<F: Future<Output = ()> + Send + 'static>(_: u32, task: F, mut until: Until) {
        let mut pool = LocalPool::new();
        pool.spawner().spawn_local(task).expect("the pool lives");
        while until.goes_on() {
            pool.run_until_stalled();
        }
    }
}

impl Channel for Pool {
    type Sender = Sender<u64>;
    type Receiver = Receiver<u64>;

    /// Each sender has a place of its own besides.
    fn channel() -> (Self::Sender, Self::Receiver) {
        mpsc::channel(PLACES - 1)
    }

    async fn send(sender: &mut Self::Sender, number: u64) {
        sender.send(number).await.expect("the receiver lives");
    }

    async fn receive(receiver: &mut Self::Receiver) -> u64 {
        receiver.next().await.expect("the sender lives")
    }
}

impl Lock for Pool {
    type Mutex = Mutex<u64>;

    fn mutex() -> Self::Mutex {
        Mutex::new(0)
    }

    async fn add_one(mutex: &Self::Mutex) -> u64 {
        let mut number = mutex.lock().await;
        yield_once().await;
        *number += 1;
        *number
    }
}
