//! The latest value, for many to follow.

use alloc::sync::Arc;

use lock_api::RawMutex;

use super::WaitQueue;
use crate::prim::{
    AtomicU32, Lock,
    Ordering::{AcqRel, Relaxed},
};

struct Shared<R, T> {
    state: Lock<R, State<T>>,
    queue: WaitQueue<R>,
    senders: AtomicU32,
}

#[derive(Clone, Copy)]
struct State<T> {
    value: T,
    /// Counts the values.
    version: u64,
    /// Every sender is gone.
    ended: bool,
}

/// Every sender is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended;

/// A value and two ends: who sends replaces it, who receives sees the latest, and may miss those between. The value is copied
/// under the lock, so it is small and plain; what is not goes in an `Arc` within an own lock, or through a channel. Task
/// context.
pub fn watch<R: RawMutex, T: Copy>(value: T) -> (WatchSender<R, T>, WatchReceiver<R, T>) {
    let shared = Arc::new(Shared {
        state: Lock::new(State {
            value,
            version: 0,
            ended: false,
        }),
        queue: WaitQueue::new(),
        senders: AtomicU32::new(1),
    });
    let sender = WatchSender { shared: shared.clone() };
    (sender, WatchReceiver { shared, seen: 0 })
}

/// The end that sets the value; clone it for more.
pub struct WatchSender<R: RawMutex, T: Copy> {
    shared: Arc<Shared<R, T>>,
}

impl<R: RawMutex, T: Copy> WatchSender<R, T> {
    /// Sets the value and wakes all who wait for another one. Never waits.
    pub fn send(&self, value: T) {
        self.shared.state.with(|state| {
            state.value = value;
            state.version += 1;
        });
        self.shared.queue.wake_all();
    }

    /// One more receiver, which has seen the value there is.
    pub fn subscribe(&self) -> WatchReceiver<R, T> {
        WatchReceiver {
            shared: self.shared.clone(),
            seen: self.shared.state.with(|state| state.version),
        }
    }
}

impl<R: RawMutex, T: Copy> Clone for WatchSender<R, T> {
    fn clone(&self) -> Self {
        self.shared.senders.fetch_add(1, Relaxed);
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<R: RawMutex, T: Copy> Drop for WatchSender<R, T> {
    fn drop(&mut self) {
        if self.shared.senders.fetch_sub(1, AcqRel) == 1 {
            self.shared.state.with(|state| state.ended = true);
            self.shared.queue.wake_all();
        }
    }
}

/// The end that follows the value; a clone follows from where it was cloned.
pub struct WatchReceiver<R: RawMutex, T: Copy> {
    shared: Arc<Shared<R, T>>,
    seen: u64,
}

impl<R: RawMutex, T: Copy> WatchReceiver<R, T> {
    /// The value of now, which is seen by that.
    pub fn get(&mut self) -> T {
        let state = self.shared.state.with(|state| *state);
        self.seen = state.version;
        state.value
    }

    /// Waits for a value that was not seen yet; the latest. Cancelling sees nothing.
    ///
    /// # Errors
    /// [`Ended`] if every sender is gone and the last value has been seen.
    pub async fn changed(&mut self) -> Result<T, Ended> {
        let (shared, seen) = (&self.shared, self.seen);
        let state = shared.queue.wait_until(|| {
            let state = shared.state.with(|state| *state);
            (state.version != seen || state.ended).then_some(state)
        });
        let state = state.await;
        if state.version == seen {
            return Err(Ended);
        }
        self.seen = state.version;
        Ok(state.value)
    }
}

impl<R: RawMutex, T: Copy> Clone for WatchReceiver<R, T> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            seen: self.seen,
        }
    }
}
