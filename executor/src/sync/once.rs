//! A value that is made once, by whoever comes first.

use core::convert::Infallible;

use lock_api::RawMutex;

use super::{Semaphore, WaitQueue};
use crate::prim::const_fn;

/// A cell that is empty until a future has filled it.
///
/// Many may come with a future to fill it; one of those runs, the others wait in order of arrival. If the one that runs fails,
/// or is dropped, the next runs its own.
pub struct OnceCell<R, T> {
    /// Filled by who holds the permit, so that nobody ever spins for it.
    value: spin::once::Once<T>,
    permit: Semaphore<R>,
    filled: WaitQueue<R>,
}

impl<R: RawMutex, T> OnceCell<R, T> {
    const_fn! {
        /// Empty.
        pub fn new() -> Self {
            Self { value: spin::once::Once::new(), permit: Semaphore::new(1), filled: WaitQueue::new() }
        }
    }

    /// The value, if the cell is filled. Any context.
    pub fn get(&self) -> Option<&T> {
        self.value.get()
    }

    /// Fills the cell. Task context.
    ///
    /// # Errors
    /// The value comes back if the cell is filled, or is being filled.
    pub fn set(&self, value: T) -> Result<&T, T> {
        match self.permit.try_acquire(1) {
            Some(_permit) if self.get().is_none() => Ok(self.fill(value)),
            _ => Err(value),
        }
    }

    /// Waits until the cell is filled, by somebody else. Cancelling is free. Task context.
    pub async fn wait(&self) -> &T {
        self.filled.wait_until(|| self.get()).await
    }

    /// The value, made by `future` if nobody else makes it. Cancelling lets the next who waits make it. Task context.
    pub async fn get_or_init(&self, future: impl Future<Output = T>) -> &T {
        match self.get_or_try_init(async { Ok::<_, Infallible>(future.await) }).await {
            Ok(value) => value,
        }
    }

    /// As [`OnceCell::get_or_init`], with a future that may fail.
    ///
    /// # Errors
    /// What `future` fails with; the cell is then left to the next.
    pub async fn get_or_try_init<E>(&self, future: impl Future<Output = Result<T, E>>) -> Result<&T, E> {
        if let Some(value) = self.get() {
            return Ok(value);
        }
        // Nobody closes it.
        let _permit = self.permit.acquire(1).await;
        match self.get() {
            Some(value) => Ok(value),
            None => Ok(self.fill(future.await?)),
        }
    }

    /// The caller holds the permit, and the cell is empty.
    fn fill(&self, value: T) -> &T {
        let value = self.value.call_once(|| value);
        self.filled.wake_all();
        value
    }
}

impl<R: RawMutex, T> Default for OnceCell<R, T> {
    fn default() -> Self {
        Self::new()
    }
}
