//! Every message to everybody.

use alloc::{
    collections::{TryReserveError, VecDeque},
    sync::Arc,
};

use lock_api::RawMutex;

use super::feed::{self, Feed, Source};

struct State<T> {
    /// The last messages, at most `capacity`.
    kept: VecDeque<T>,
    capacity: usize,
    /// Messages ever sent.
    sent: u64,
    /// Every sender is gone.
    ended: bool,
}

impl<T> feed::State for State<T> {
    fn end(&mut self) {
        self.ended = true;
    }
}

/// Why there is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BroadcastError {
    /// The receiver was too slow: so many messages are gone. The next one is the oldest that is kept.
    Lagged(u64),
    /// Every sender is gone, and every message has been received.
    Ended,
}

/// The two ends of a broadcast.
pub type Broadcast<R, T> = (BroadcastSender<R, T>, BroadcastReceiver<R, T>);

/// A broadcast that keeps the last `capacity` messages (at least one), for which there is room from here on: sending and
/// receiving allocate nothing. Each receiver gets every message in order, or is told how many it missed: a sender waits for
/// nobody, since one receiver that is stuck must not stop the others. Messages are copied under the lock, so they are small
/// and plain. Task context.
///
/// # Errors
/// If there is no memory for the messages.
pub fn broadcast<R: RawMutex, T: Copy>(capacity: usize) -> Result<Broadcast<R, T>, TryReserveError> {
    let mut kept = VecDeque::new();
    kept.try_reserve_exact(capacity.max(1))?;
    let source = Source::new(State {
        kept,
        capacity: capacity.max(1),
        sent: 0,
        ended: false,
    });
    let feed = source.feed().clone();
    Ok((BroadcastSender { source }, BroadcastReceiver { feed, next: 0 }))
}

/// The sending end; clone it for more.
pub struct BroadcastSender<R: RawMutex, T> {
    source: Source<R, State<T>>,
}

impl<R: RawMutex, T: Copy> BroadcastSender<R, T> {
    /// Sends to all receivers there are. Never waits.
    pub fn send(&self, message: T) {
        self.source.change(|state| {
            if state.kept.len() == state.capacity {
                state.kept.pop_front();
            }
            state.kept.push_back(message);
            state.sent += 1;
        });
    }

    /// One more receiver, of what is sent from now on.
    pub fn subscribe(&self) -> BroadcastReceiver<R, T> {
        let feed = self.source.feed().clone();
        let next = feed.look(|state| state.sent);
        BroadcastReceiver { feed, next }
    }
}

impl<R: RawMutex, T> Clone for BroadcastSender<R, T> {
    fn clone(&self) -> Self {
        let source = self.source.clone();
        Self { source }
    }
}

/// A receiving end; a clone goes on from where it was cloned.
pub struct BroadcastReceiver<R: RawMutex, T> {
    feed: Arc<Feed<R, State<T>>>,
    /// The number of the next message.
    next: u64,
}

impl<R: RawMutex, T: Copy> BroadcastReceiver<R, T> {
    /// The next message. Cancelling loses none.
    ///
    /// # Errors
    /// See [`BroadcastError`].
    pub async fn receive(&mut self) -> Result<T, BroadcastError> {
        let next = self.next;
        let (received, next) = self.feed.wait(|state| state.message(next)).await;
        self.next = next;
        received
    }

    /// The next message, if there is one.
    ///
    /// # Errors
    /// See [`BroadcastError`].
    pub fn try_receive(&mut self) -> Option<Result<T, BroadcastError>> {
        let (received, next) = self.feed.look(|state| state.message(self.next))?;
        self.next = next;
        Some(received)
    }
}

impl<T: Copy> State<T> {
    /// The message of this number or what is to be said of it, and the number of the one after.
    fn message(&self, next: u64) -> Option<(Result<T, BroadcastError>, u64)> {
        let oldest = self.sent - self.kept.len() as u64;
        if next < oldest {
            return Some((Err(BroadcastError::Lagged(oldest - next)), oldest));
        }
        match self.kept.get((next - oldest) as usize) {
            Some(message) => Some((Ok(*message), next + 1)),
            None if self.ended => Some((Err(BroadcastError::Ended), next)),
            None => None,
        }
    }
}

impl<R: RawMutex, T> Clone for BroadcastReceiver<R, T> {
    fn clone(&self) -> Self {
        Self {
            feed: self.feed.clone(),
            next: self.next,
        }
    }
}
