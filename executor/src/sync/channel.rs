//! The bounded channel: many senders, one receiver.
//!
//! The senders share one lock, under which stand the *queue* of values, the senders that wait for a place, and the
//! receiver's waker. A place that comes free is given to the sender that has waited longest (*promised* until it has used
//! it), so that later ones cannot overtake it.
//!
//! The receiver mostly needs no lock. When it finds nothing it says that it is *hungry*, and the next value is put into its
//! *hand* instead of the queue: it takes it, and finds nothing again, by plain loads and stores. That it takes no atomic
//! exchange to wait is because its waker stays where it is: who makes something appear wakes, whether or not the receiver
//! seems to wait, and that a wake given after a value was published leads to a poll that sees it is the executor's promise.
//! The price is that a receiver that waits for something else is now and then polled for nothing.
//!
//! What is in the hand is older than what is in the queue: the hand is filled only while the queue is empty.

#![expect(
    unsafe_code,
    reason = "owns list nodes in pinned futures; a cell that is passed to and fro"
)]

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

use super::{
    list::{List, Node, Progress},
    wakers::Wakers,
};
use crate::prim::{
    AtomicU32, ExclusiveCell, Lock,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// The hand is empty, and nothing is to be put there: the receiver's to change.
const BUSY: u32 = 0;
/// The hand is empty, and belongs to the senders (to whom of them has the lock).
const HUNGRY: u32 = 1;
/// A value is in the hand, which belongs to the receiver.
const FULL: u32 = 2;

struct Shared<R, T> {
    hand_state: AtomicU32,
    /// Not zero if the receiver has to look under the lock: the queue is not empty, or every sender is gone. Written under
    /// the lock.
    look: AtomicU32,
    hand: ExclusiveCell<Option<T>>,
    state: Lock<R, State<T>>,
    senders: AtomicU32,
}

// SAFETY: the hand is used by one party at a time (`hand_state`), to pass a value from one to another; the lock guards the
// rest.
unsafe impl<R: Sync, T: core::marker::Send> Sync for Shared<R, T> where Lock<R, State<T>>: Sync {}

struct State<T> {
    queue: VecDeque<T>,
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

/// A channel with room for `capacity` values (at least one), which are allocated here; sending and receiving allocate
/// nothing. A receiver that has found nothing is one place more: the next value goes to it and not into a place.
///
/// # Errors
/// If there is no memory for the values.
pub fn channel<R: RawMutex, T>(capacity: usize) -> Result<Channel<R, T>, TryReserveError> {
    let capacity = capacity.max(1);
    let mut queue = VecDeque::new();
    queue.try_reserve_exact(capacity)?;
    let shared = Arc::new(Shared {
        hand_state: AtomicU32::new(BUSY),
        look: AtomicU32::new(0),
        hand: ExclusiveCell::new(None),
        state: Lock::new(State {
            queue,
            capacity,
            promised: 0,
            waiting: List::new(),
            receiver: None,
            ended: false,
            closed: false,
        }),
        senders: AtomicU32::new(1),
    });
    let receiver = Receiver {
        shared: shared.clone(),
        registered: None,
    };
    Ok((Sender { shared }, receiver))
}

impl<T> State<T> {
    fn has_place(&self) -> bool {
        self.waiting.is_empty() && self.queue.len() + self.promised < self.capacity
    }

    /// Promises a free place to the sender that has waited longest; whom to wake.
    fn promise(&mut self) -> Option<Waker> {
        if self.waiting.is_empty() || self.queue.len() + self.promised >= self.capacity {
            return None;
        }
        let chosen = self.waiting.give(Progress::Given, |(), _| Some(true))?;
        self.promised += 1;
        chosen
    }
}

impl<R, T> Shared<R, T> {
    /// Puts a value into the hand, or into a place that the caller has; the receiver to wake.
    #[inline]
    fn push(&self, state: &mut State<T>, value: T) -> Option<Waker> {
        if state.queue.is_empty() && self.hand_state.load(Acquire) == HUNGRY {
            // SAFETY: a hungry receiver's hand is the senders', of whom this one has the lock.
            unsafe { self.hand.with(|hand| *hand = Some(value)) };
            self.hand_state.store(FULL, Release);
            return state.receiver.clone();
        }
        self.push_back(state, value)
    }

    /// Puts a value into a place that the caller has; the receiver to wake. Apart, as all that a receiver which keeps up needs
    /// not: what it does need is then short.
    #[inline(never)]
    fn push_back(&self, state: &mut State<T>, value: T) -> Option<Waker> {
        // Within the reserved capacity: no allocation under the lock.
        state.queue.push_back(value);
        if state.queue.len() > 1 {
            // Who put the first one there has woken the receiver, which will look under the lock.
            return None;
        }
        self.look.store(1, Release);
        state.receiver.clone()
    }

    /// What is in the hand. Called by the receiver.
    #[inline]
    fn take_hand(&self) -> Option<T> {
        if self.hand_state.load(Acquire) != FULL {
            return None;
        }
        // SAFETY: a full hand is the receiver's, of which there is one.
        let value = unsafe { self.hand.with(Option::take) };
        self.hand_state.store(BUSY, Relaxed);
        value
    }
}

/// The sending end; clone it for more. When the last is dropped the receiver is told, after everything sent.
pub struct Sender<R: RawMutex, T> {
    shared: Arc<Shared<R, T>>,
}

impl<R: RawMutex, T> Sender<R, T> {
    /// Sends, waiting for a place: [`Closed`] with the value, if the receiver is gone.
    ///
    /// Cancelling drops the value unsent and gives the place on. Task context, as everything here.
    #[inline]
    pub async fn send(&self, value: T) -> Result<(), Closed<T>> {
        // Mostly there is room; only else is there a node to make, which is large, and a future to pin.
        match self.try_send(value) {
            Ok(()) => Ok(()),
            Err(TrySendError::Closed(value)) => Err(Closed(value)),
            Err(TrySendError::Full(value)) => {
                let shared = &*self.shared;
                let (value, node) = (Some(value), Node::new(()));
                Send {
                    shared,
                    value,
                    node,
                    started: false,
                }
                .await
            }
        }
    }

    /// Sends if a place is free.
    ///
    /// # Errors
    /// See [`TrySendError`].
    #[inline]
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let shared = &*self.shared;
        let waker = shared.state.with(|state| {
            if state.closed {
                Err(TrySendError::Closed(value))
            } else if state.has_place() {
                Ok(shared.push(state, value))
            } else {
                Err(TrySendError::Full(value))
            }
        })?;
        wake(waker);
        Ok(())
    }
}

#[inline]
fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
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
                self.shared.look.store(1, Release);
                state.receiver.clone()
            });
            wake(waker);
        }
    }
}

/// A value that found no place.
struct Send<'a, R: RawMutex, T> {
    shared: &'a Shared<R, T>,
    value: Option<T>,
    node: Node<()>,
    /// Whether the node may be in the list, or have been promised a place.
    started: bool,
}

/// What became of an attempt to send.
enum Sent {
    /// Done; whom to wake: the receiver, and who may send next.
    Done(Option<Waker>, Option<Waker>),
    /// In line; a waker to drop.
    Waits(Option<Waker>),
    Closed,
}

const AGAIN: &str = "a send is polled again after it was ready";

impl<R: RawMutex, T> Send<'_, R, T> {
    /// Gets in line, unless there is room by now, or uses the place that was promised. The future is pinned.
    fn attempt(&mut self, state: &mut State<T>, waker: &Waker) -> Sent {
        // SAFETY: pinned with the future, says the caller.
        let node = unsafe { Pin::new_unchecked(&self.node) };
        let progress = if self.started {
            state.waiting.progress(node)
        } else {
            Progress::Idle
        };
        match progress {
            Progress::Waiting => return Sent::Waits(state.waiting.set_waker(node, waker)),
            Progress::Given | Progress::GivenToAll => {
                // Its waker was taken when it was given the place.
                state.waiting.remove(node);
                self.started = false;
                if progress == Progress::Given {
                    state.promised -= 1;
                }
            }
            Progress::Idle if state.closed || state.has_place() => {}
            Progress::Idle => {
                self.started = true;
                // SAFETY: used with this list only, and taken out by `drop` at the latest.
                unsafe { state.waiting.push_back(node, Some(waker.clone())) };
                return Sent::Waits(None);
            }
        }
        if state.closed {
            return Sent::Closed;
        }
        let receiver = self.shared.push(state, self.value.take().expect(AGAIN));
        // If the value went into the hand, the place is free.
        Sent::Done(receiver, state.promise())
    }
}

impl<R: RawMutex, T> Future for Send<'_, R, T> {
    type Output = Result<(), Closed<T>>;

    #[inline(never)]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: the node is pinned with the future and not moved; the value is moved out, and never pinned.
        let this = unsafe { self.get_unchecked_mut() };
        let shared = this.shared;
        match shared.state.with(|state| this.attempt(state, context.waker())) {
            Sent::Done(receiver, next) => {
                wake(receiver);
                wake(next);
                Poll::Ready(Ok(()))
            }
            Sent::Waits(old) => {
                drop(old);
                Poll::Pending
            }
            Sent::Closed => Poll::Ready(Err(Closed(this.value.take().expect(AGAIN)))),
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
        wake(next);
    }
}

/// The receiving end. When it is dropped, senders are told, and what was sent and not received is dropped.
pub struct Receiver<R: RawMutex, T> {
    shared: Arc<Shared<R, T>>,
    /// A copy of the waker that the senders have.
    registered: Option<Waker>,
}

impl<R: RawMutex, T> Receiver<R, T> {
    /// The next value; `None` when every sender is gone and everything has been received. Cancelling loses nothing.
    #[inline]
    pub async fn receive(&mut self) -> Option<T> {
        poll_fn(|context| self.poll_receive(context)).await
    }

    /// As [`Receiver::receive`], for futures written by hand: if there is nothing the context's waker is woken when there
    /// is.
    #[inline]
    pub fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(value) = self.shared.take_hand() {
            return Poll::Ready(Some(value));
        }
        let known = self
            .registered
            .as_ref()
            .is_some_and(|waker| waker.will_wake(context.waker()));
        if !known || self.shared.look.load(Acquire) != 0 {
            return self.receive_locked(context.waker());
        }
        // If it is hungry already, it may be fed at any moment.
        if self.shared.hand_state.load(Relaxed) == BUSY {
            self.shared.hand_state.store(HUNGRY, Release);
        }
        Poll::Pending
    }

    /// Looks into the queue; registers if there is nothing.
    #[inline(never)]
    fn receive_locked(&mut self, waker: &Waker) -> Poll<Option<T>> {
        match self.try_receive() {
            Ok(value) => return Poll::Ready(Some(value)),
            Err(TryReceiveError::Closed) => return Poll::Ready(None),
            Err(TryReceiveError::Empty) => {}
        }
        let mut news = Some(waker.clone());
        let old = self.registered.replace(waker.clone());
        self.shared
            .state
            .with(|state| core::mem::swap(&mut state.receiver, &mut news));
        drop((old, news));
        // Registered; now look again.
        match self.try_receive() {
            Ok(value) => Poll::Ready(Some(value)),
            Err(TryReceiveError::Closed) => Poll::Ready(None),
            Err(TryReceiveError::Empty) => {
                if self.shared.hand_state.load(Relaxed) == BUSY {
                    self.shared.hand_state.store(HUNGRY, Release);
                }
                Poll::Pending
            }
        }
    }

    /// The next value, if there is one.
    ///
    /// # Errors
    /// See [`TryReceiveError`].
    pub fn try_receive(&mut self) -> Result<T, TryReceiveError> {
        let shared = &*self.shared;
        let (received, sender) = shared.state.with(|state| {
            // What came into the hand after the caller had looked there.
            if let Some(value) = shared.take_hand() {
                return (Ok(value), None);
            }
            let Some(value) = state.queue.pop_front() else {
                let why = if state.ended {
                    TryReceiveError::Closed
                } else {
                    TryReceiveError::Empty
                };
                return (Err(why), None);
            };
            if state.queue.is_empty() && !state.ended {
                shared.look.store(0, Relaxed);
            }
            // No longer hungry. Not full either, as seen, and the senders are locked out.
            shared.hand_state.store(BUSY, Relaxed);
            (Ok(value), state.promise())
        });
        wake(sender);
        received
    }
}

impl<R: RawMutex, T> Drop for Receiver<R, T> {
    fn drop(&mut self) {
        let (queue, receiver) = self.shared.state.with(|state| {
            state.closed = true;
            (core::mem::take(&mut state.queue), state.receiver.take())
        });
        // Nothing is put into the hand of a closed channel.
        drop((queue, receiver, self.shared.take_hand()));
        loop {
            let mut wakers = Wakers::new();
            let more = self.shared.state.with(|state| {
                wakers.fill(usize::MAX, || {
                    state.waiting.give(Progress::GivenToAll, |(), _| Some(true))
                })
            });
            wakers.wake();
            if !more {
                return;
            }
        }
    }
}
