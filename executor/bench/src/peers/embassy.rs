//! embassy-executor: a raw executor that is polled until the main task has ended, its tasks in storage made beforehand.
//!
//! It has no join handle; what stands for one is the signal of embassy-sync, in the form for a single thread, as are its
//! channel and its mutex. [`Masked`] is the channel in the form for interrupts, over the global critical section.

#![expect(
    unsafe_code,
    reason = "a raw executor is polled by unsafe call; its pender is found by symbol"
)]

use super::{Channel, Joining, Kind, Lock, Named, PLACES, Peer, Spinning};
use crate::{measure::Until, work::yield_once};
use embassy_executor::{SendSpawner, raw::Executor, raw::TaskStorage};
use embassy_sync::{
    blocking_mutex::raw::{CriticalSectionRawMutex, NoopRawMutex},
    channel,
    mutex::Mutex,
    signal::Signal,
};
use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    task::{Context, Poll},
};

/// Executors here are polled until there is an end, so nobody has to be told.
#[unsafe(no_mangle)]
fn __pender(_: *mut ()) {}

thread_local!(static EXECUTOR: Cell<Option<&'static Executor>> = const { Cell::new(None) });

fn executor() -> &'static Executor {
    EXECUTOR.get().unwrap_or_else(|| {
        let executor: &'static Executor = Box::leak(Box::new(Executor::new(std::ptr::null_mut())));
        EXECUTOR.set(Some(executor));
        executor
    })
}

/// embassy-executor.
pub struct Embassy;

/// Static storage for tasks of one type, handed out in turn.
pub struct Pool<F: Future + 'static> {
    storage: &'static [TaskStorage<F>],
    next: AtomicUsize,
    spawner: SendSpawner,
}

impl<F: Future<Output = ()> + Send + 'static> Pool<F> {
    fn new(capacity: usize) -> Self {
        let storage: Vec<_> = (0..capacity).map(|_| TaskStorage::new()).collect();
        Self {
            storage: storage.leak(),
            next: AtomicUsize::new(0),
            spawner: executor().spawner().make_send(),
        }
    }

    fn spawn(&self, future: F) {
        let index = self.next.load(Relaxed);
        let next = index + 1;
        self.next
            .store(if next == self.storage.len() { 0 } else { next }, Relaxed);
        let token = self.storage[index].spawn(|| future);
        self.spawner.spawn(token.expect("the task before has ended"));
    }
}

impl Named for Embassy {
    const NAME: &'static str = "embassy";
}

impl Peer for Embassy {
    type Pool<F: Future<Output = ()> + Send + 'static> = Pool<F>;

    fn pool<F: Future<Output = ()> + Send + 'static>(_: Kind, capacity: usize) -> &'static Pool<F> {
        Box::leak(Box::new(Pool::new(capacity)))
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(pool: &'static Pool<F>, future: F) {
        pool.spawn(future);
    }

    fn run<M: Future<Output: Send> + Send + 'static>(_: Kind, main: M) -> M::Output {
        let (slot, main) = super::into_slot(main);
        Pool::new(1).spawn(main);
        loop {
            // SAFETY: the executor is this thread's own, and is not polled from within a task.
            unsafe { executor().poll() };
            if std::sync::Arc::strong_count(&slot) == 1 {
                return super::take(&slot).expect("the main task leaves its output");
            }
        }
    }
}

/// Storage for one task whose output goes by signal. The signal is never freed, and stays on this thread.
pub struct JoinPool<F: Future + 'static> {
    storage: TaskStorage<Signalling<F>>,
    signal: SameThread<Signal<NoopRawMutex, F::Output>>,
    spawner: SendSpawner,
}

/// What is for one thread, and stays on one: on the one whose executor runs the row.
pub struct SameThread<T>(T);

// SAFETY: reached by tasks of the executor that runs on the thread that made it, and by no others.
unsafe impl<T> Sync for SameThread<T> {}
// SAFETY: as above.
unsafe impl<T> Send for SameThread<T> {}

impl<F: Future> Future for SameThread<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: the field is pinned with the whole: never moved, and dropped in place.
        unsafe { self.map_unchecked_mut(|this| &mut this.0) }.poll(context)
    }
}

/// A future whose output goes to a signal.
struct Signalling<F: Future + 'static> {
    future: F,
    signal: &'static SameThread<Signal<NoopRawMutex, F::Output>>,
}

impl<F: Future> Future for Signalling<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let signal = self.signal;
        // SAFETY: the field is pinned with the whole: never moved, and dropped in place.
        let future = unsafe { self.map_unchecked_mut(|this| &mut this.future) };
        future.poll(context).map(|output| signal.0.signal(output))
    }
}

impl Joining for Embassy {
    type JoinPool<F: Future<Output: Send> + Send + 'static> = JoinPool<F>;

    fn join_pool<F: Future<Output: Send> + Send + 'static>() -> &'static JoinPool<F> {
        Box::leak(Box::new(JoinPool {
            storage: TaskStorage::new(),
            signal: SameThread(Signal::new()),
            spawner: executor().spawner().make_send(),
        }))
    }

    fn spawn_joined<F: Future<Output: Send> + Send + 'static>(
        pool: &'static JoinPool<F>,
        future: F,
    ) -> impl Future<Output = F::Output> + Send {
        let signal = &pool.signal;
        let token = pool.storage.spawn(|| Signalling { future, signal });
        pool.spawner.spawn(token.expect("the task before has ended"));
        poll_fn(|context| pin!(signal.0.wait()).poll(context))
    }
}

impl Spinning for Embassy {
    fn spin<F: Future<Output = ()> + Send + 'static>(_: u32, task: F, mut until: Until) {
        Pool::new(1).spawn(task);
        while until.goes_on() {
            // SAFETY: as in `run`.
            unsafe { executor().poll() };
        }
    }
}

type Numbers<M> = channel::Channel<M, u64, PLACES>;

impl Channel for Embassy {
    type Sender = &'static SameThread<Numbers<NoopRawMutex>>;
    type Receiver = &'static SameThread<Numbers<NoopRawMutex>>;

    fn channel() -> (Self::Sender, Self::Receiver) {
        let channel: &'static _ = Box::leak(Box::new(SameThread(Numbers::new())));
        (channel, channel)
    }

    fn send(sender: &mut Self::Sender, number: u64) -> impl Future<Output = ()> + Send {
        SameThread(sender.0.send(number))
    }

    fn receive(receiver: &mut Self::Receiver) -> impl Future<Output = u64> + Send {
        SameThread(receiver.0.receive())
    }
}

/// embassy-sync's channel over the global critical section.
pub struct Masked;

impl Channel for Masked {
    type Sender = &'static Numbers<CriticalSectionRawMutex>;
    type Receiver = &'static Numbers<CriticalSectionRawMutex>;

    fn channel() -> (Self::Sender, Self::Receiver) {
        let channel: &'static _ = Box::leak(Box::new(Numbers::new()));
        (channel, channel)
    }

    fn send(sender: &mut Self::Sender, number: u64) -> impl Future<Output = ()> + Send {
        sender.send(number)
    }

    fn receive(receiver: &mut Self::Receiver) -> impl Future<Output = u64> + Send {
        receiver.receive()
    }
}

impl Lock for Embassy {
    type Mutex = SameThread<Mutex<NoopRawMutex, u64>>;

    fn mutex() -> Self::Mutex {
        SameThread(Mutex::new(0))
    }

    fn add_one(mutex: &Self::Mutex) -> impl Future<Output = u64> + Send {
        SameThread(async {
            let mut number = mutex.0.lock().await;
            yield_once().await;
            *number += 1;
            *number
        })
    }
}
