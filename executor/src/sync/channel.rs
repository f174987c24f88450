//! The bounded channel: many senders, one receiver.

use alloc::{
    collections::{TryReserveError, VecDeque},
    sync::Arc,
};

use lock_api::RawMutex;

use super::{Semaphore, WaitQueue};
use crate::prim::{
    AtomicU32, Lock,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

struct Shared<R, T> {
    /// Free places.
    places: Semaphore<R>,
    queue: Lock<R, VecDeque<T>>,
    arrived: WaitQueue<R>,
    senders: AtomicU32,
    closed: AtomicU32,
}

/// The other end is gone; the value comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed<T>(pub T);

/// Why nothing was sent; the value comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// No place is free, or others wait for one.
    Full(T),
    /// The receiver is gone.
    Closed(T),
}

/// Why nothing was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryReceiveError {
    /// Nothing is there now.
    Empty,
    /// Nothing is there, and every sender is gone.
    Closed,
}

/// The two ends of a channel.
pub type Channel<R, T> = (Sender<R, T>, Receiver<R, T>);

/// A channel with room for `capacity` values, which are allocated here; sending and receiving allocate nothing.
///
/// # Errors
/// If there is no memory for the values.
pub fn channel<R: RawMutex, T>(capacity: usize) -> Result<Channel<R, T>, TryReserveError> {
    let mut queue = VecDeque::new();
    queue.try_reserve_exact(capacity)?;
    let shared = Arc::new(Shared {
        places: Semaphore::new(u32::try_from(capacity).unwrap_or(u32::MAX)),
        queue: Lock::new(queue),
        arrived: WaitQueue::new(),
        senders: AtomicU32::new(1),
        closed: AtomicU32::new(0),
    });
    Ok((Sender { shared: shared.clone() }, Receiver { shared }))
}

/// The sending end; clone it for more. When the last is dropped the receiver is told, after everything sent.
pub struct Sender<R: RawMutex, T> {
    shared: Arc<Shared<R, T>>,
}

impl<R: RawMutex, T> Sender<R, T> {
    /// Sends, waiting for a place.
    ///
    /// Cancelling drops the value unsent and gives the place on.
    ///
    /// # Errors
    /// [`Closed`] with the value, if the receiver is gone.
    pub async fn send(&self, value: T) -> Result<(), Closed<T>> {
        match self.shared.places.acquire(1).await {
            Ok(place) => {
                place.forget();
                self.shared.deliver(value);
                Ok(())
            }
            Err(_) => Err(Closed(value)),
        }
    }

    /// Sends if a place is free. Task context, as everything here.
    ///
    /// # Errors
    /// See [`TrySendError`].
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        if self.shared.closed.load(Acquire) != 0 {
            return Err(TrySendError::Closed(value));
        }
        match self.shared.places.try_acquire(1) {
            Some(place) => {
                place.forget();
                self.shared.deliver(value);
                Ok(())
            }
            None => Err(TrySendError::Full(value)),
        }
    }
}

impl<R: RawMutex, T> Shared<R, T> {
    /// Into a place that has been taken.
    fn deliver(&self, value: T) {
        // Within the reserved capacity: no allocation under the lock.
        self.queue.with(|queue| queue.push_back(value));
        self.arrived.wake_one();
    }
}

impl<R: RawMutex, T> Clone for Sender<R, T> {
    fn clone(&self) -> Self {
        self.shared.senders.fetch_add(1, Relaxed);
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<R: RawMutex, T> Drop for Sender<R, T> {
    fn drop(&mut self) {
        if self.shared.senders.fetch_sub(1, AcqRel) == 1 {
            self.shared.arrived.wake_all();
        }
    }
}

/// The receiving end. When it is dropped, senders are told, and what was sent and not received is dropped.
pub struct Receiver<R: RawMutex, T> {
    shared: Arc<Shared<R, T>>,
}

impl<R: RawMutex, T> Receiver<R, T> {
    /// The next value; `None` when every sender is gone and everything has been received. Cancelling loses nothing.
    pub async fn receive(&mut self) -> Option<T> {
        let shared = &self.shared;
        shared
            .arrived
            .wait_until(|| match shared.try_receive() {
                Ok(value) => Some(Some(value)),
                Err(TryReceiveError::Closed) => Some(None),
                Err(TryReceiveError::Empty) => None,
            })
            .await
    }

    /// The next value, if there is one.
    ///
    /// # Errors
    /// See [`TryReceiveError`].
    pub fn try_receive(&mut self) -> Result<T, TryReceiveError> {
        self.shared.try_receive()
    }
}

impl<R: RawMutex, T> Shared<R, T> {
    fn try_receive(&self) -> Result<T, TryReceiveError> {
        // Looked at first: what the last sender sent is in the queue by then.
        let closed = self.senders.load(Acquire) == 0;
        match self.queue.with(VecDeque::pop_front) {
            Some(value) => {
                self.places.release(1);
                Ok(value)
            }
            None if closed => Err(TryReceiveError::Closed),
            None => Err(TryReceiveError::Empty),
        }
    }
}

impl<R: RawMutex, T> Drop for Receiver<R, T> {
    fn drop(&mut self) {
        self.shared.closed.store(1, Release);
        self.shared.places.close();
        while let Some(value) = self.shared.queue.with(VecDeque::pop_front) {
            drop(value);
        }
    }
}
