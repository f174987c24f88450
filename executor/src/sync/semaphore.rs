//! The counting semaphore: first come, first served, and permits are handed over, not fought for.

#![expect(unsafe_code, reason = "owns list nodes in pinned futures")]

use core::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use lock_api::RawMutex;

use super::{
    list::{List, Node, Progress},
    wakers::Wakers,
};
use crate::prim::{Lock, const_fn};

/// Permits, and who waits for how many. A waiter for many is not overtaken by waiters for few.
pub struct Semaphore<R> {
    state: Lock<R, State>,
}

struct State {
    permits: u32,
    /// Permits that are kept while nobody waits for them; more are lost.
    most: u32,
    closed: bool,
    waiters: List<u32>,
}

/// The semaphore was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcquireError;

impl<R: RawMutex> Semaphore<R> {
    const_fn! {
        /// A semaphore with this many permits.
        pub fn new(permits: u32) -> Self {
            Self::keeping(permits, u32::MAX)
        }
    }

    const_fn! {
        /// A semaphore that keeps at most so many permits.
        pub(super) fn keeping(permits: u32, most: u32) -> Self {
            Self { state: Lock::new(State { permits, most, closed: false, waiters: List::new() }) }
        }
    }

    /// Permits that nobody has or waits for.
    pub fn available(&self) -> u32 {
        self.state.with(|state| state.permits)
    }

    /// Takes `count` permits if they are there and nobody waits before.
    pub fn try_acquire(&self, count: u32) -> Option<Permit<'_, R>> {
        let taken = self.state.with(|state| state.take(count));
        // Made only if taken: a permit that is dropped gives back.
        taken.then(|| Permit { semaphore: self, count })
    }

    const_fn! {
        /// Takes `count` permits, waiting for its turn. [`AcquireError`] if the semaphore is closed.
        ///
        /// Cancelling gives up the place in the queue, and gives back what had been handed over.
        pub fn acquire(&self, count: u32) -> Acquire<'_, R> {
            Acquire {
                semaphore: self,
                node: Node::new(count),
                started: false,
            }
        }
    }

    /// Adds permits, or gives them back. More than `u32::MAX` that nobody waits for are `u32::MAX`.
    pub fn release(&self, count: u32) {
        self.hand_over(|state| state.permits = state.permits.saturating_add(count));
    }

    /// Nobody gets a permit any more; who waits is told so.
    pub fn close(&self) {
        self.hand_over(|state| state.closed = true);
    }

    /// Changes the state, then wakes who is served by it.
    fn hand_over(&self, change: impl FnOnce(&mut State)) {
        let mut change = Some(change);
        loop {
            let mut wakers = Wakers::new();
            let more = self.state.with(|state| {
                if let Some(change) = change.take() {
                    change(state);
                }
                let more = wakers.fill(usize::MAX, || state.serve());
                if !more {
                    state.permits = state.permits.min(state.most);
                }
                more
            });
            wakers.wake();
            if !more {
                return;
            }
        }
    }
}

impl State {
    fn take(&mut self, count: u32) -> bool {
        let may = !self.closed && self.waiters.is_empty() && self.permits >= count;
        if may {
            self.permits -= count;
        }
        may
    }

    /// Serves the first waiter, if it can be.
    fn serve(&mut self) -> Option<Option<Waker>> {
        let mut first = None;
        let (permits, closed) = (self.permits, self.closed);
        let waker = self.waiters.give(
            if closed { Progress::GivenToAll } else { Progress::Given },
            |count, _| {
                first = Some(*count);
                (closed || *count <= permits).then_some(true)
            },
        )?;
        if !closed {
            self.permits -= first.unwrap_or(0);
        }
        Some(waker)
    }
}

/// A wait for permits; see [`Semaphore::acquire`].
#[must_use = "a future does nothing unless awaited"]
pub struct Acquire<'a, R: RawMutex> {
    semaphore: &'a Semaphore<R>,
    node: Node<u32>,
    started: bool,
}

impl<'a, R: RawMutex> Future for Acquire<'a, R> {
    type Output = Result<Permit<'a, R>, AcquireError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: nothing is moved out of the pinned value; the node is pinned with it.
        let this = unsafe { self.get_unchecked_mut() };
        // SAFETY: as above.
        let node = unsafe { Pin::new_unchecked(&this.node) };
        let (semaphore, count) = (this.semaphore, this.node.key());
        let first = !core::mem::replace(&mut this.started, true);
        let (result, old) = semaphore.state.with(|state| match state.waiters.progress(node) {
            Progress::Given => (Poll::Ready(Ok(())), state.waiters.remove(node).1),
            Progress::GivenToAll => (Poll::Ready(Err(AcquireError)), state.waiters.remove(node).1),
            _ if state.closed => (Poll::Ready(Err(AcquireError)), state.waiters.remove(node).1),
            Progress::Idle if state.take(count) => (Poll::Ready(Ok(())), None),
            Progress::Idle => {
                debug_assert!(first, "an acquire is polled again after it was ready");
                // SAFETY: used with this list only, and taken out by `drop` at the latest.
                unsafe { state.waiters.push_back(node, Some(context.waker().clone())) };
                (Poll::Pending, None)
            }
            Progress::Waiting => (Poll::Pending, state.waiters.set_waker(node, context.waker())),
        });
        drop(old);
        if result.is_ready() {
            this.started = false;
        }
        result.map_ok(|()| Permit { semaphore, count })
    }
}

impl<R: RawMutex> Drop for Acquire<'_, R> {
    fn drop(&mut self) {
        if !self.started {
            return;
        }
        // SAFETY: pinned since it was started.
        let node = unsafe { Pin::new_unchecked(&self.node) };
        let count = self.node.key();
        let mut waker = None;
        // Who stood behind may be served now, even if nothing is given back.
        self.semaphore.hand_over(|state| {
            let (progress, old) = state.waiters.remove(node);
            waker = old;
            if progress == Progress::Given {
                state.permits = state.permits.saturating_add(count);
            }
        });
    }
}

/// Permits, given back when dropped.
#[must_use = "dropping it gives the permits back"]
pub struct Permit<'a, R: RawMutex> {
    semaphore: &'a Semaphore<R>,
    count: u32,
}

impl<R: RawMutex> Permit<'_, R> {
    /// Keeps the permits for good.
    pub fn forget(mut self) {
        self.count = 0;
    }
}

impl<R: RawMutex> Drop for Permit<'_, R> {
    fn drop(&mut self) {
        if self.count != 0 {
            self.semaphore.release(self.count);
        }
    }
}
