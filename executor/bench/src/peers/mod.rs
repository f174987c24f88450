//! What the executors have in common, and each of them.

/// Implements [`Channel`] by two ends whose methods are async and fail once the other end is gone.
macro_rules! channel {
    ($peer:ty, $sender:ty, $receiver:ty, $channel:expr, $receive:ident) => {
        impl super::Channel for $peer {
            type Sender = $sender;
            type Receiver = $receiver;

            fn channel() -> (Self::Sender, Self::Receiver) {
                $channel
            }

            async fn send(sender: &mut Self::Sender, number: u64) {
                sender.send(number).await.expect("the receiver lives");
            }

            async fn receive(receiver: &mut Self::Receiver) -> u64 {
                receiver.$receive().await.expect("the sender lives")
            }
        }
    };
}

/// Implements [`Lock`] by an async mutex whose guards may go to other threads.
macro_rules! lock {
    ($peer:ty, $mutex:ty) => {
        impl super::Lock for $peer {
            type Mutex = $mutex;

            fn mutex() -> Self::Mutex {
                <$mutex>::new(0)
            }

            async fn add_one(mutex: &Self::Mutex) -> u64 {
                let mut number = mutex.lock().await;
                crate::work::yield_once().await;
                *number += 1;
                *number
            }
        }
    };
}

pub mod async_task;
pub mod btree;
pub mod embassy;
pub mod local_pool;
#[cfg(maitake)]
pub mod maitake;
pub mod ours;
pub mod smol;
pub mod tokio;

use crate::measure::Until;
use std::future::Future;

/// Which of our classes tasks belong to. The peers have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Serves a device; few.
    Driver,
    /// Anything else; many.
    Service,
}

/// Has a name.
pub trait Named: 'static {
    /// As the table calls it.
    const NAME: &'static str;
}

/// An executor on the calling thread.
pub trait Peer: Named {
    /// Where tasks of one future type come from: for most nothing, for embassy their static storage.
    type Pool<F: Future<Output = ()> + Send + 'static>: Send + Sync + 'static;

    /// Room for `capacity` tasks at a time, for ever.
    fn pool<F: Future<Output = ()> + Send + 'static>(kind: Kind, capacity: usize) -> &'static Self::Pool<F>;

    /// Spawns a task that nobody joins. From within [`Peer::run`].
    fn spawn<F: Future<Output = ()> + Send + 'static>(pool: &'static Self::Pool<F>, future: F);

    /// Makes the calling thread this CPU, before it does anything else, where more than one thread runs tasks.
    fn be_cpu(_: u32) {}

    /// Runs `main` as a task until it ends.
    fn run<M: Future<Output: Send> + Send + 'static>(kind: Kind, main: M) -> M::Output;
}

/// An executor whose tasks can be joined.
pub trait Joining: Peer {
    /// As [`Peer::Pool`].
    type JoinPool<F: Future<Output: Send> + Send + 'static>: Send + Sync + 'static;

    /// Room for one task at a time, for ever.
    fn join_pool<F: Future<Output: Send> + Send + 'static>() -> &'static Self::JoinPool<F>;

    /// Spawns a task; the future returned is ready with its output.
    fn spawn_joined<F: Future<Output: Send> + Send + 'static>(
        pool: &'static Self::JoinPool<F>,
        future: F,
    ) -> impl Future<Output = F::Output> + Send;
}

/// An executor that has one class of tasks and allocates for each: a [`Peer`] whose tasks can be joined, with no pools.
pub trait Allocating: Named {
    /// As [`Peer::spawn`].
    fn spawn<F: Future<Output = ()> + Send + 'static>(future: F);

    /// As [`Joining::spawn_joined`].
    fn spawn_joined<F: Future<Output: Send> + Send + 'static>(future: F) -> impl Future<Output = F::Output> + Send;

    /// As [`Peer::run`].
    fn run<M: Future<Output: Send> + Send + 'static>(main: M) -> M::Output;
}

impl<P: Allocating> Peer for P {
    type Pool<F: Future<Output = ()> + Send + 'static> = ();

    fn pool<F: Future<Output = ()> + Send + 'static>(_: Kind, _: usize) -> &'static () {
        &()
    }

    #[inline]
    fn spawn<F: Future<Output = ()> + Send + 'static>((): &'static (), future: F) {
        P::spawn(future);
    }

    fn run<M: Future<Output: Send> + Send + 'static>(_: Kind, main: M) -> M::Output {
        P::run(main)
    }
}

impl<P: Allocating> Joining for P {
    type JoinPool<F: Future<Output: Send> + Send + 'static> = ();

    fn join_pool<F: Future<Output: Send> + Send + 'static>() -> &'static () {
        &()
    }

    #[inline]
    fn spawn_joined<F: Future<Output: Send> + Send + 'static>(
        (): &'static (),
        future: F,
    ) -> impl Future<Output = F::Output> + Send {
        P::spawn_joined(future)
    }
}

/// Runs `main` as a task of an executor that is told to run until nothing is ready.
fn run_until_idle<P: Allocating, M: Future<Output: Send> + Send + 'static>(main: M, run: impl FnOnce()) -> M::Output {
    let (slot, main) = into_slot(main);
    P::spawn(main);
    run();
    take(&slot).expect("idle before the main task has ended")
}

/// An executor that can spin on a CPU until a task from elsewhere is to be polled.
pub trait Spinning: Peer {
    /// Runs `task` on the calling thread, which is pinned to `cpu`, without ever sleeping, until there is an end.
    fn spin<F: Future<Output = ()> + Send + 'static>(cpu: u32, task: F, until: Until);
}

/// A bounded channel of numbers.
pub trait Channel: 'static {
    /// The sending end.
    type Sender: Send + 'static;
    /// The receiving end.
    type Receiver: Send + 'static;

    /// A channel for [`PLACES`] numbers.
    fn channel() -> (Self::Sender, Self::Receiver);

    /// Sends, waiting for a place.
    fn send(sender: &mut Self::Sender, number: u64) -> impl Future<Output = ()> + Send;

    /// Receives, waiting for a number.
    fn receive(receiver: &mut Self::Receiver) -> impl Future<Output = u64> + Send;
}

/// Places in a channel.
pub const PLACES: usize = 16;

/// An async mutex over a number.
pub trait Lock: 'static {
    /// The mutex.
    type Mutex: Send + Sync + 'static;

    /// Zero.
    fn mutex() -> Self::Mutex;

    /// Takes the lock, lets others try to while it is held, adds one. The new number.
    fn add_one(mutex: &Self::Mutex) -> impl Future<Output = u64> + Send;
}

/// Timers of the calling thread. Times are nanoseconds of a clock that the peer chooses.
pub trait Timers: Named {
    /// Bytes that an armed sleep takes from a pool, which earlier rows have filled and which never shrinks.
    const POOLED: usize = 0;

    /// Ready when its time has come.
    type Sleep: Future<Output = ()> + 'static;

    /// Within what sleeps are made and polled.
    fn enter() -> impl Sized;

    /// The clock.
    fn now() -> u64;

    /// A sleep, armed at its first poll.
    fn sleep_until(at: u64) -> Self::Sleep;

    /// Has the clock come to `at`, nothing else.
    fn wait_until(at: u64);

    /// Does what is to be done when the clock has come to where it is: wakes who is due, some at least.
    fn fire();
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
