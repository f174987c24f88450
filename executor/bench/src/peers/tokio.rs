//! tokio: the current-thread runtime, and the multi-thread one with a single worker.

use super::{Joining, Kind, Peer};
use std::{future::Future, sync::LazyLock};
use tokio::runtime::{Builder, Runtime};

static CURRENT: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().build().expect("a runtime can be made"));
static MULTI: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).build().expect("a runtime can be made")
});

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
                    .block_on($runtime.spawn(main))
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
