//! The bounded channel: many senders, one receiver.
//!
//! Everything stands under one lock: the values, the senders that wait for a place, and the receiver's waker. A place that
//! comes free is given to the sender that has waited longest (*promised* until it has used it), so that later ones cannot
//! overtake it.

#![expect(unsafe_code, reason = "owns list nodes in pinned futures")]

use alloc::{
    collections::{TryReserveError, VecDeque},
    sync::Arc,
};
use core::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, Waker},
};

use lock_api::RawMutex;

use super::list::{List, Node, Progress};
use crate::prim::{
    AtomicU32, Lock,
    Ordering::{AcqRel, Relaxed},
};

/// Senders that are told at a time that the receiver is gone.
const TAKE: usize = 16;

struct Shared<R, T> {
    state: Lock<R, State<T>>,
    senders: AtomicU32,
}

struct State<T> {
    values: VecDeque<T>,
    capacity: usize,
    /// Places given to senders that have not used them yet.
    promised: usize,
    waiting: List<()>,
    receiver: Option<Waker>,
    /// Every sender is gone.
    ended: bool,
    /// The receiver is gone.
    closed: bool,
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

/// A channel with room for `capacity` values, which are allocated here; sending and receiving allocate nothing. With no
/// room at all nothing can ever be sent.
///
/// # Errors
/// If there is no memory for the values.
pub fn channel<R: RawMutex, T>(capacity: usize) -> Result<Channel<R, T>, TryReserveError> {
    let mut values = VecDeque::new();
    values.try_reserve_exact(capacity)?;
    let shared = Arc::new(Shared {
        state: Lock::new(State {
            values,
            capacity,
            promised: 0,
            waiting: List::new(),
            receiver: None,
            ended: false,
            closed: false,
        }),
        senders: AtomicU32::new(1),
    });
    Ok((Sender { shared: shared.clone() }, Receiver { shared }))
}

impl<T> State<T> {
    /// Puts a value into a place that the caller has; the receiver to wake.
    fn push(&mut self, value: T) -> Option<Waker> {
        // Within the reserved capacity: no allocation under the lock.
        self.values.push_back(value);
        self.receiver.take()
    }

    fn has_place(&self) -> bool {
        self.waiting.is_empty() && self.values.len() + self.promised < self.capacity
    }

    /// Promises a free place to the sender that has waited longest; whom to wake.
    fn promise(&mut self) -> Option<Waker> {
        if self.waiting.is_empty() || self.values.len() + self.promised >= self.capacity {
            return None;
        }
        let chosen = self.waiting.give(Progress::Given, |(), _| Some(true))?;
        self.promised += 1;
        chosen
    }
}

/// The sending end; clone it for more. When the last is dropped the receiver is told, after everything sent.
pub struct Sender<R: RawMutex, T> {
    shared: Arc<Shared<R, T>>,
}

impl<R: RawMutex, T> Sender<R, T> {
    /// Sends, waiting for a place: [`Closed`] with the value, if the receiver is gone.
    ///
    /// Cancelling drops the value unsent and gives the place on.
    pub fn send(&self, value: T) -> Send<'_, R, T> {
        Send {
            shared: &self.shared,
            value: Some(value),
            node: Node::new(()),
            started: false,
        }
    }

    /// Sends if a place is free. Task context, as everything here.
    ///
    /// # Errors
    /// See [`TrySendError`].
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let waker = self.shared.state.with(|state| {
            if state.closed {
                Err(TrySendError::Closed(value))
            } else if state.has_place() {
                Ok(state.push(value))
            } else {
                Err(TrySendError::Full(value))
            }
        })?;
        waker.into_iter().for_each(Waker::wake);
        Ok(())
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
            let waker = self.shared.state.with(|state| {
                state.ended = true;
                state.receiver.take()
            });
            waker.into_iter().for_each(Waker::wake);
        }
    }
}

/// A value on its way; see [`Sender::send`].
#[must_use = "a future does nothing unless awaited"]
pub struct Send<'a, R: RawMutex, T> {
    shared: &'a Shared<R, T>,
    value: Option<T>,
    node: Node<()>,
    /// Whether the node may be in the list, or have been promised a place.
    started: bool,
}

impl<R: RawMutex, T> Future for Send<'_, R, T> {
    type Output = Result<(), Closed<T>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: the node is pinned with the future and not moved; the value is moved out, and never pinned.
        let this = unsafe { self.get_unchecked_mut() };
        // SAFETY: as above.
        let node = unsafe { Pin::new_unchecked(&this.node) };
        let (value, started) = (&mut this.value, &mut this.started);
        let mut old = None;
        let sent = this.shared.state.with(|state| {
            let progress = if *started {
                state.waiting.progress(node)
            } else {
                Progress::Idle
            };
            let may = match progress {
                Progress::Given => {
                    state.promised -= 1;
                    !state.closed
                }
                Progress::GivenToAll => false,
                Progress::Idle if state.closed => false,
                Progress::Idle if state.has_place() => true,
                Progress::Idle => {
                    *started = true;
                    // SAFETY: used with this list only, and taken out by `drop` at the latest.
                    unsafe { state.waiting.push_back(node, Some(context.waker().clone())) };
                    return Poll::Pending;
                }
                Progress::Waiting => {
                    old = state.waiting.set_waker(node, context.waker());
                    return Poll::Pending;
                }
            };
            if core::mem::take(started) {
                old = state.waiting.remove(node).1;
            }
            if !may {
                return Poll::Ready(Err(()));
            }
            let value = value.take().expect("a send is polled again after it was ready");
            Poll::Ready(Ok(state.push(value)))
        });
        drop(old);
        match sent {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(receiver)) => {
                receiver.into_iter().for_each(Waker::wake);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(())) => Poll::Ready(Err(Closed(
                this.value.take().expect("a send is polled again after it was ready"),
            ))),
        }
    }
}

impl<R: RawMutex, T> Drop for Send<'_, R, T> {
    fn drop(&mut self) {
        if !self.started {
            return;
        }
        // SAFETY: pinned since it was started.
        let node = unsafe { Pin::new_unchecked(&self.node) };
        let (old, next) = self.shared.state.with(|state| {
            let (progress, old) = state.waiting.remove(node);
            if progress == Progress::Given {
                state.promised -= 1;
            }
            (old, state.promise())
        });
        drop(old);
        next.into_iter().for_each(Waker::wake);
    }
}

/// The receiving end. When it is dropped, senders are told, and what was sent and not received is dropped.
pub struct Receiver<R: RawMutex, T> {
    shared: Arc<Shared<R, T>>,
}

impl<R: RawMutex, T> Receiver<R, T> {
    /// The next value; `None` when every sender is gone and everything has been received. Cancelling loses nothing.
    pub async fn receive(&mut self) -> Option<T> {
        poll_fn(|context| self.poll_receive(context)).await
    }

    /// As [`Receiver::receive`], for futures written by hand: if there is nothing the context's waker is woken when there
    /// is.
    pub fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut old = None;
        let (received, sender) = self.shared.state.with(|state| match state.values.pop_front() {
            Some(value) => (Poll::Ready(Some(value)), state.promise()),
            None if state.ended => (Poll::Ready(None), None),
            None => {
                if !matches!(&state.receiver, Some(waker) if waker.will_wake(context.waker())) {
                    old = state.receiver.replace(context.waker().clone());
                }
                (Poll::Pending, None)
            }
        });
        drop(old);
        sender.into_iter().for_each(Waker::wake);
        received
    }

    /// The next value, if there is one.
    ///
    /// # Errors
    /// See [`TryReceiveError`].
    pub fn try_receive(&mut self) -> Result<T, TryReceiveError> {
        let (received, sender) = self.shared.state.with(|state| match state.values.pop_front() {
            Some(value) => (Ok(value), state.promise()),
            None if state.ended => (Err(TryReceiveError::Closed), None),
            None => (Err(TryReceiveError::Empty), None),
        });
        sender.into_iter().for_each(Waker::wake);
        received
    }
}

impl<R: RawMutex, T> Drop for Receiver<R, T> {
    fn drop(&mut self) {
        let (values, receiver) = self.shared.state.with(|state| {
            state.closed = true;
            (core::mem::take(&mut state.values), state.receiver.take())
        });
        drop((values, receiver));
        loop {
            let mut wakers: [Option<Waker>; TAKE] = [const { None }; TAKE];
            let mut told = 0;
            self.shared.state.with(|state| {
                while told < TAKE
                    && let Some(waker) = state.waiting.give(Progress::GivenToAll, |(), _| Some(true))
                {
                    wakers[told] = waker;
                    told += 1;
                }
            });
            wakers.into_iter().flatten().for_each(Waker::wake);
            if told < TAKE {
                return;
            }
        }
    }
}
