//! futures: its LocalPool, channel and mutex.

use super::{Allocating, Named, PLACES, Spinning};
use crate::measure::Until;
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

impl Named for Pool {
    const NAME: &'static str = "LocalPool";
}

impl Allocating for Pool {
    fn spawn<F: Future<Output = ()> + Send + 'static>(future: F) {
        with_spawner(|spawner| spawner.spawn_local(future)).expect("the pool lives");
    }

    fn spawn_joined<F: Future<Output: Send> + Send + 'static>(future: F) -> impl Future<Output = F::Output> + Send {
        with_spawner(|spawner| spawner.spawn_with_handle(future)).expect("the pool lives")
    }

    fn run<M: Future<Output: Send> + Send + 'static>(main: M) -> M::Output {
        let mut pool = LocalPool::new();
        SPAWNER.set(Some(pool.spawner()));
        super::run_until_idle::<Self, M>(main, || pool.run())
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

// Each sender has a place of its own besides.
channel!(Pool, Sender<u64>, Receiver<u64>, mpsc::channel(PLACES - 1), next);

lock!(Pool, Mutex<u64>);
