//! tokio: the current-thread runtime, and the multi-thread one with a single worker.

use super::{Channel, Joining, Kind, Lock, PLACES, Peer, Spinning, Timers};
use crate::{measure::Until, work::yield_once};
use std::{
    future::{Future, poll_fn},
    sync::LazyLock,
    task::Poll,
    thread,
    time::{Duration, Instant},
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::{
        Mutex,
        mpsc::{self, Receiver, Sender},
    },
    time::Sleep,
};

thread_local!(static CURRENT: Runtime = Builder::new_current_thread().build().expect("a runtime can be made"));
thread_local!(static MULTI: Runtime = workers(1));

/// The current-thread runtime.
pub struct CurrentThread;
/// The multi-thread runtime.
pub struct MultiThread;

macro_rules! tokio {
    ($peer:ty, $name:literal, $runtime:ident) => {
        impl Peer for $peer {
            const NAME: &'static str = $name;

            type Pool<F: Future<Output = ()> + Send + 'static> = ();

            fn pool<F: Future<Output = ()> + Send + 'static>(_: Kind, _: usize) {}

            fn spawn<F: Future<Output = ()> + Send + 'static>((): &'static (), future: F) {
                drop(tokio::spawn(future));
            }

            fn run<M: Future<Output: Send> + Send + 'static>(_: Kind, main: M) -> M::Output {
                $runtime
                    .with(|runtime| runtime.block_on(runtime.spawn(main)))
                    .expect("the main task ends")
            }
        }

        impl Joining for $peer {
            type JoinPool<F: Future<Output: Send> + Send + 'static> = ();

            fn join_pool<F: Future<Output: Send> + Send + 'static>() {}

            fn spawn_joined<F: Future<Output: Send> + Send + 'static>(
                (): &'static (),
                future: F,
            ) -> impl Future<Output = F::Output> + Send {
                let handle = tokio::spawn(future);
                async { handle.await.expect("the task ends") }
            }
        }
    };
}

tokio!(CurrentThread, "tokio", CURRENT);
tokio!(MultiThread, "tokio (multi)", MULTI);

/// A multi-thread runtime with a worker for each of so many CPUs.
pub fn workers(cpus: usize) -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(cpus).build().expect("a runtime can be made")
}

impl Spinning for CurrentThread {
    /// A runtime for each CPU, whose root future keeps it from parking.
    fn spin<F: Future<Output = ()> + Send + 'static>(_: u32, task: F, mut until: Until) {
        let runtime = Builder::new_current_thread().build().expect("a runtime can be made");
        runtime.block_on(async {
            drop(tokio::spawn(task));
            poll_fn(|context| {
                if !until.goes_on() {
                    return Poll::Ready(());
                }
                context.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
        });
    }
}

impl Channel for CurrentThread {
    type Sender = Sender<u64>;
    type Receiver = Receiver<u64>;

    fn channel() -> (Self::Sender, Self::Receiver) {
        mpsc::channel(PLACES)
    }

    async fn send(sender: &mut Self::Sender, number: u64) {
        sender.send(number).await.expect("the receiver lives");
    }

    async fn receive(receiver: &mut Self::Receiver) -> u64 {
        receiver.recv().await.expect("the sender lives")
    }
}

impl Lock for CurrentThread {
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

/// The runtime that keeps time, and when its clock began.
static TIMED: LazyLock<(Runtime, Instant)> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_time().build();
    (runtime.expect("a runtime can be made"), Instant::now())
});

impl Timers for CurrentThread {
    const NAME: &'static str = "tokio";

    type Sleep = Sleep;

    fn enter() -> impl Sized {
        TIMED.0.enter()
    }

    fn now() -> u64 {
        TIMED.1.elapsed().as_nanos() as u64
    }

    fn sleep_until(at: u64) -> Sleep {
        tokio::time::sleep_until((TIMED.1 + Duration::from_nanos(at)).into())
    }

    /// The clock is the real one, in milliseconds: a little later, to be past them.
    fn wait_until(at: u64) {
        thread::sleep(Duration::from_nanos(at.saturating_sub(Self::now())) + Duration::from_millis(3));
    }

    fn fire() {
        TIMED.0.block_on(tokio::task::yield_now());
    }
}
