//! smol's executor, in the form it recommends for speed: leaked, so that it keeps no list of its tasks.

use super::{Channel, Joining, Kind, PLACES, Peer, Spinning};
use crate::measure::Until;
use async_channel::{Receiver, Sender};
use async_executor::{Executor, StaticExecutor};
use std::{future::Future, sync::LazyLock};

static EXECUTOR: LazyLock<&'static StaticExecutor> = LazyLock::new(|| Executor::new().leak());

/// async-executor.
pub struct Smol;

impl Peer for Smol {
    const NAME: &'static str = "async-executor";

    type Pool<F: Future<Output = ()> + Send + 'static> = ();

    fn pool<F: Future<Output = ()> + Send + 'static>(_: Kind, _: usize) {}

    fn spawn<F: Future<Output = ()> + Send + 'static>((): &'static (), future: F) {
        EXECUTOR.spawn(future).detach();
    }

    fn run<M: Future<Output: Send> + Send + 'static>(_: Kind, main: M) -> M::Output {
        let main = EXECUTOR.spawn(main);
        futures::executor::block_on(EXECUTOR.run(main))
    }
}

impl Joining for Smol {
    type JoinPool<F: Future<Output: Send> + Send + 'static> = ();

    fn join_pool<F: Future<Output: Send> + Send + 'static>() {}

    fn spawn_joined<F: Future<Output: Send> + Send + 'static>(
        (): &'static (),
        future: F,
    ) -> impl Future<Output = F::Output> + Send {
        EXECUTOR.spawn(future)
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

impl Channel for Smol {
    type Sender = Sender<u64>;
    type Receiver = Receiver<u64>;

    fn channel() -> (Self::Sender, Self::Receiver) {
        async_channel::bounded(PLACES)
    }

    async fn send(sender: &mut Self::Sender, number: u64) {
        sender.send(number).await.expect("the receiver lives");
    }

    async fn receive(receiver: &mut Self::Receiver) -> u64 {
        receiver.recv().await.expect("the sender lives")
    }
}
