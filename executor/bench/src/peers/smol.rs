//! smol's executor, in the form it recommends for speed: leaked, so that it keeps no list of its tasks.

use super::{Allocating, Named, PLACES, Spinning};
use crate::measure::Until;
use async_channel::{Receiver, Sender};
use async_executor::{Executor, StaticExecutor};
use std::{future::Future, sync::LazyLock};

static EXECUTOR: LazyLock<&'static StaticExecutor> = LazyLock::new(|| Executor::new().leak());

/// async-executor.
pub struct Smol;

impl Named for Smol {
    const NAME: &'static str = "async-executor";
}

impl Allocating for Smol {
    fn spawn<F: Future<Output = ()> + Send + 'static>(future: F) {
        EXECUTOR.spawn(future).detach();
    }

    fn spawn_joined<F: Future<Output: Send> + Send + 'static>(future: F) -> impl Future<Output = F::Output> + Send {
        EXECUTOR.spawn(future)
    }

    fn run<M: Future<Output: Send> + Send + 'static>(main: M) -> M::Output {
        let main = EXECUTOR.spawn(main);
        futures::executor::block_on(EXECUTOR.run(main))
    }
}

impl Spinning for Smol {
    /// By an executor for each CPU.
    fn spin<F: Future<Output = ()> + Send + 'static>(_: u32, task: F, mut until: Until) {
        let executor = Executor::new();
        executor.spawn(task).detach();
        while until.goes_on() {
            executor.try_tick();
        }
    }
}

channel!(Smol, Sender<u64>, Receiver<u64>, async_channel::bounded(PLACES), recv);
