//! tokio: the current-thread runtime, and the multi-thread one with a single worker.

use super::{Allocating, Named, PLACES, Spinning, Timers};
use crate::measure::Until;
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
        impl Named for $peer {
            const NAME: &'static str = $name;
        }

        impl Allocating for $peer {
            fn spawn<F: Future<Output = ()> + Send + 'static>(future: F) {
                drop(tokio::spawn(future));
            }

            fn spawn_joined<F: Future<Output: Send> + Send + 'static>(
                future: F,
            ) -> impl Future<Output = F::Output> + Send {
                let handle = tokio::spawn(future);
                async { handle.await.expect("the task ends") }
            }

            fn run<M: Future<Output: Send> + Send + 'static>(main: M) -> M::Output {
                $runtime
                    .with(|runtime| runtime.block_on(runtime.spawn(main)))
                    .expect("the main task ends")
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

channel!(CurrentThread, Sender<u64>, Receiver<u64>, mpsc::channel(PLACES), recv);

lock!(CurrentThread, Mutex<u64>);

/// The runtime that keeps time, and when its clock began.
static TIMED: LazyLock<(Runtime, Instant)> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_time().build();
    (runtime.expect("a runtime can be made"), Instant::now())
});

impl Timers for CurrentThread {
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

    /// The clock is the real one, in milliseconds: a little later, to be past them. The clock that the feature `test-util`
    /// lets one move would measure something else: it is behind a lock, the driver is another, and `advance` itself fires
    /// what is due.
    fn wait_until(at: u64) {
        thread::sleep(Duration::from_nanos(at.saturating_sub(Self::now())) + Duration::from_millis(3));
    }

    fn fire() {
        TIMED.0.block_on(tokio::task::yield_now());
    }
}
