//! futures' LocalPool.

use super::{Joining, Kind, Peer};
use futures::{
    executor::{LocalPool, LocalSpawner},
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
