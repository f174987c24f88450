//! Every message to everybody.

use alloc::{
    collections::{TryReserveError, VecDeque},
    sync::Arc,
};

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

struct State<T> {
    /// The last messages, at most `capacity`.
    kept: VecDeque<T>,
    capacity: usize,
    /// Messages ever sent.
    sent: u64,
    /// Every sender is gone.
    ended: bool,
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
    let shared = Arc::new(Shared {
        state: Lock::new(State {
            kept,
            capacity: capacity.max(1),
            sent: 0,
            ended: false,
        }),
        queue: WaitQueue::new(),
        senders: AtomicU32::new(1),
    });
    let sender = BroadcastSender { shared: shared.clone() };
    Ok((sender, BroadcastReceiver { shared, next: 0 }))
}

/// The sending end; clone it for more.
pub struct BroadcastSender<R: RawMutex, T: Copy> {
    shared: Arc<Shared<R, T>>,
}

impl<R: RawMutex, T: Copy> BroadcastSender<R, T> {
    /// Sends to all receivers there are. Never waits.
    pub fn send(&self, message: T) {
        self.shared.state.with(|state| {
            if state.kept.len() == state.capacity {
                state.kept.pop_front();
            }
            state.kept.push_back(message);
            state.sent += 1;
        });
        self.shared.queue.wake_all();
    }

    /// One more receiver, of what is sent from now on.
    pub fn subscribe(&self) -> BroadcastReceiver<R, T> {
        BroadcastReceiver {
            shared: self.shared.clone(),
            next: self.shared.state.with(|state| state.sent),
        }
    }
}

impl<R: RawMutex, T: Copy> Clone for BroadcastSender<R, T> {
    fn clone(&self) -> Self {
        self.shared.senders.fetch_add(1, Relaxed);
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<R: RawMutex, T: Copy> Drop for BroadcastSender<R, T> {
    fn drop(&mut self) {
        if self.shared.senders.fetch_sub(1, AcqRel) == 1 {
            self.shared.state.with(|state| state.ended = true);
            self.shared.queue.wake_all();
        }
    }
}

/// A receiving end; a clone goes on from where it was cloned.
pub struct BroadcastReceiver<R: RawMutex, T: Copy> {
    shared: Arc<Shared<R, T>>,
    /// The number of the next message.
    next: u64,
}

impl<R: RawMutex, T: Copy> BroadcastReceiver<R, T> {
    /// The next message. Cancelling loses none.
    ///
    /// # Errors
    /// See [`BroadcastError`].
    pub async fn receive(&mut self) -> Result<T, BroadcastError> {
        let (shared, next) = (&self.shared, self.next);
        let taken = shared.queue.wait_until(|| take(shared, next));
        let (received, next) = taken.await;
        self.next = next;
        received
    }

    /// The next message, if there is one.
    ///
    /// # Errors
    /// See [`BroadcastError`].
    pub fn try_receive(&mut self) -> Option<Result<T, BroadcastError>> {
        let (received, next) = take(&self.shared, self.next)?;
        self.next = next;
        Some(received)
    }
}

/// The message of this number or what is to be said of it, and the number of the one after.
fn take<R: RawMutex, T: Copy>(shared: &Shared<R, T>, next: u64) -> Option<(Result<T, BroadcastError>, u64)> {
    shared.state.with(|state| {
        let oldest = state.sent - state.kept.len() as u64;
        if next < oldest {
            return Some((Err(BroadcastError::Lagged(oldest - next)), oldest));
        }
        match state.kept.get((next - oldest) as usize) {
            Some(message) => Some((Ok(*message), next + 1)),
            None if state.ended => Some((Err(BroadcastError::Ended), next)),
            None => None,
        }
    })
}

impl<R: RawMutex, T: Copy> Clone for BroadcastReceiver<R, T> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            next: self.next,
        }
    }
}
