//! The latest value, for many to follow.

use alloc::sync::Arc;

use lock_api::RawMutex;

use super::feed::{self, Feed, Source};

#[derive(Clone, Copy)]
struct State<T> {
    value: T,
    /// Counts the values.
    version: u64,
    /// Every sender is gone.
    ended: bool,
}

impl<T> feed::State for State<T> {
    fn end(&mut self) {
        self.ended = true;
    }
}

/// Every sender is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended;

/// A value and two ends: who sends replaces it, who receives sees the latest, and may miss those between. The value is copied
/// under the lock, so it is small and plain; what is not goes in an `Arc` within an own lock, or through a channel. Task
/// context.
pub fn watch<R: RawMutex, T: Copy>(value: T) -> (WatchSender<R, T>, WatchReceiver<R, T>) {
    let source = Source::new(State {
        value,
        version: 0,
        ended: false,
    });
    let feed = source.feed().clone();
    (WatchSender { source }, WatchReceiver { feed, seen: 0 })
}

/// The end that sets the value; clone it for more.
pub struct WatchSender<R: RawMutex, T> {
    source: Source<R, State<T>>,
}

impl<R: RawMutex, T: Copy> WatchSender<R, T> {
    /// Sets the value and wakes all who wait for another one. Never waits.
    pub fn send(&self, value: T) {
        self.source.change(|state| {
            state.value = value;
            state.version += 1;
        });
    }

    /// One more receiver, which has seen the value there is.
    pub fn subscribe(&self) -> WatchReceiver<R, T> {
        let feed = self.source.feed().clone();
        let seen = feed.look(|state| state.version);
        WatchReceiver { feed, seen }
    }
}

impl<R: RawMutex, T> Clone for WatchSender<R, T> {
    fn clone(&self) -> Self {
        let source = self.source.clone();
        Self { source }
    }
}

/// The end that follows the value; a clone follows from where it was cloned.
pub struct WatchReceiver<R: RawMutex, T> {
    feed: Arc<Feed<R, State<T>>>,
    seen: u64,
}

impl<R: RawMutex, T: Copy> WatchReceiver<R, T> {
    /// The value of now, which is seen by that.
    pub fn get(&mut self) -> T {
        let state = self.feed.look(|state| *state);
        self.seen = state.version;
        state.value
    }

    /// Waits for a value that was not seen yet; the latest. Cancelling sees nothing.
    ///
    /// # Errors
    /// [`Ended`] if every sender is gone and the last value has been seen.
    pub async fn changed(&mut self) -> Result<T, Ended> {
        let seen = self.seen;
        let new = |state: &State<T>| (state.version != seen || state.ended).then_some(*state);
        let state = self.feed.wait(new).await;
        if state.version == seen {
            return Err(Ended);
        }
        self.seen = state.version;
        Ok(state.value)
    }
}

impl<R: RawMutex, T> Clone for WatchReceiver<R, T> {
    fn clone(&self) -> Self {
        Self {
            feed: self.feed.clone(),
            seen: self.seen,
        }
    }
}
