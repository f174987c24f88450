//! What the executors have in common, and each of them.

pub mod async_task;
pub mod embassy;
pub mod local_pool;
pub mod ours;
pub mod smol;
pub mod tokio;

use std::future::Future;

/// Which of our classes tasks belong to. The peers have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Serves a device; few.
    Driver,
    /// Anything else; many.
    Service,
}

/// An executor on the calling thread.
pub trait Peer: 'static {
    /// As the table calls it.
    const NAME: &'static str;

    /// Where tasks of one future type come from: for most nothing, for embassy their static storage.
    type Pool<F: Future<Output = ()> + Send + 'static>: Send + Sync + 'static;

    /// Room for `capacity` tasks at a time.
    fn pool<F: Future<Output = ()> + Send + 'static>(kind: Kind, capacity: usize) -> Self::Pool<F>;

    /// Spawns a task that nobody joins. From within [`Peer::run`].
    fn spawn<F: Future<Output = ()> + Send + 'static>(pool: &'static Self::Pool<F>, future: F);

    /// Runs `main` as a task until it ends.
    fn run<M: Future<Output: Send> + Send + 'static>(kind: Kind, main: M) -> M::Output;
}

/// An executor whose tasks can be joined.
pub trait Joining: Peer {
    /// As [`Peer::Pool`].
    type JoinPool<F: Future<Output: Send> + Send + 'static>: Send + Sync + 'static;

    /// Room for one task at a time.
    fn join_pool<F: Future<Output: Send> + Send + 'static>() -> Self::JoinPool<F>;

    /// Spawns a task; the future returned is ready with its output.
    fn spawn_joined<F: Future<Output: Send> + Send + 'static>(
        pool: &'static Self::JoinPool<F>,
        future: F,
    ) -> impl Future<Output = F::Output> + Send;
}

/// Where `main`'s output is left when it is a task whose output the executor cannot give.
pub type Slot<T> = std::sync::Arc<std::sync::Mutex<Option<T>>>;

/// `main` as a task without output.
pub fn into_slot<M: Future<Output: Send> + Send>(
    main: M,
) -> (Slot<M::Output>, impl Future<Output = ()> + Send + use<M>) {
    let slot = Slot::default();
    let inner = slot.clone();
    let task = async move {
        let output = main.await;
        if let Ok(mut slot) = inner.lock() {
            *slot = Some(output);
        }
    };
    (slot, task)
}

/// What stands in the slot, if `main` has ended.
pub fn take<T>(slot: &Slot<T>) -> Option<T> {
    slot.lock().ok()?.take()
}
