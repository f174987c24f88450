//! What senders leave for many receivers to look at: under [`watch`](super::watch()) and [`broadcast`](super::broadcast()).

use alloc::sync::Arc;

use lock_api::RawMutex;

use super::WaitQueue;
use crate::prim::{
    AtomicU32, Lock,
    Ordering::{AcqRel, Relaxed},
};

/// What is under the lock.
pub trait State {
    /// Every sender is gone.
    fn end(&mut self);
}

/// The state, and who waits for it to change.
pub struct Feed<R, S> {
    state: Lock<R, S>,
    queue: WaitQueue<R>,
    senders: AtomicU32,
}

impl<R: RawMutex, S> Feed<R, S> {
    /// Looks at the state.
    pub fn look<T>(&self, look: impl FnOnce(&S) -> T) -> T {
        self.state.with(|state| look(state))
    }

    /// Waits until `look` gives something.
    pub async fn wait<T>(&self, mut look: impl FnMut(&S) -> Option<T>) -> T {
        self.queue.wait_until(|| self.look(&mut look)).await
    }
}

/// The senders' end; a clone is one more.
pub struct Source<R: RawMutex, S: State>(Arc<Feed<R, S>>);

impl<R: RawMutex, S: State> Source<R, S> {
    /// The first sender.
    pub fn new(state: S) -> Self {
        Self(Arc::new(Feed {
            state: Lock::new(state),
            queue: WaitQueue::new(),
            senders: AtomicU32::new(1),
        }))
    }

    /// The receivers' end.
    pub fn feed(&self) -> &Arc<Feed<R, S>> {
        &self.0
    }

    /// Changes the state, and wakes all who wait.
    pub fn change(&self, change: impl FnOnce(&mut S)) {
        self.0.state.with(change);
        self.0.queue.wake_all();
    }
}

impl<R: RawMutex, S: State> Clone for Source<R, S> {
    fn clone(&self) -> Self {
        self.0.senders.fetch_add(1, Relaxed);
        Self(self.0.clone())
    }
}

impl<R: RawMutex, S: State> Drop for Source<R, S> {
    fn drop(&mut self) {
        if self.0.senders.fetch_sub(1, AcqRel) == 1 {
            self.change(S::end);
        }
    }
}
