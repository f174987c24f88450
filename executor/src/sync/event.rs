//! Two small things to wait for: a state that lasts, and a nudge.

use lock_api::RawMutex;

use super::{Semaphore, WaitQueue};
use crate::prim::{
    AtomicU32,
    Ordering::{AcqRel, Acquire, Release},
    const_fn,
};

/// A flag that can be waited for. Once set it lets everybody through until it is reset.
pub struct Event<R> {
    set: AtomicU32,
    queue: WaitQueue<R>,
}

impl<R: RawMutex> Event<R> {
    const_fn! {
        /// An event that has not happened.
        pub fn new() -> Self {
            Self { set: AtomicU32::new(0), queue: WaitQueue::new() }
        }
    }

    /// It has happened: wakes all that wait; how many.
    pub fn set(&self) -> usize {
        self.set.store(1, Release);
        self.queue.wake_all()
    }

    /// It has not happened (any more); whether it had.
    pub fn reset(&self) -> bool {
        self.set.swap(0, AcqRel) != 0
    }

    /// Whether it has happened.
    pub fn is_set(&self) -> bool {
        self.set.load(Acquire) != 0
    }

    /// Waits until it has happened. Cancelling is free.
    pub async fn wait(&self) {
        self.queue.wait_until(|| self.is_set().then_some(())).await;
    }
}

impl<R: RawMutex> Default for Event<R> {
    fn default() -> Self {
        Self::new()
    }
}

/// A nudge for one waiter, kept for the next one if nobody waits. Several kept nudges are one.
pub struct Notify<R> {
    permits: Semaphore<R>,
}

impl<R: RawMutex> Notify<R> {
    const_fn! {
        /// Nobody nudged.
        pub fn new() -> Self {
            Self { permits: Semaphore::keeping(0, 1) }
        }
    }

    /// Nudges the longest waiter, or the next to come.
    pub fn notify_one(&self) {
        self.permits.release(1);
    }

    /// Waits for a nudge. Cancelling passes one on that was given.
    pub async fn notified(&self) {
        if let Ok(permit) = self.permits.acquire(1).await {
            permit.forget();
        }
    }
}

impl<R: RawMutex> Default for Notify<R> {
    fn default() -> Self {
        Self::new()
    }
}
