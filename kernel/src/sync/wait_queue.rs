//! A simple wait queue, until the executor's is there.

use alloc::collections::VecDeque;
use core::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use super::{Rank, SpinLock};

struct Waiter {
    id: u64,
    waker: Option<Waker>,
    notified: Option<Notified>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Notified {
    One,
    All,
}

struct State {
    next: u64,
    waiters: VecDeque<Waiter>,
}

/// Tasks that wait for a change.
pub struct WaitQueue(SpinLock<State>);

impl Default for WaitQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl WaitQueue {
    /// An empty queue.
    pub const fn new() -> Self {
        Self(SpinLock::new(Rank::WaitQueue, State { next: 0, waiters: VecDeque::new() }))
    }

    /// Wakes the longest waiter; how many.
    pub fn wake_one(&self) -> usize {
        let waker = {
            let mut state = self.0.lock();
            let Some(waiter) = state.waiters.iter_mut().find(|waiter| waiter.notified.is_none()) else { return 0 };
            waiter.notified = Some(Notified::One);
            waiter.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        1
    }

    /// Wakes all that wait now; how many.
    pub fn wake_all(&self) -> usize {
        let mut woken = 0;
        loop {
            let waker = {
                let mut state = self.0.lock();
                let Some(waiter) = state.waiters.iter_mut().find(|waiter| waiter.notified.is_none()) else {
                    return woken;
                };
                waiter.notified = Some(Notified::All);
                waiter.waker.take()
            };
            woken += 1;
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// A wait, registered when first polled or by [`Wait::enable`].
    pub fn wait(&self) -> Wait<'_> {
        Wait { queue: self, id: None }
    }
}

/// See [`WaitQueue::wait`].
pub struct Wait<'a> {
    queue: &'a WaitQueue,
    id: Option<u64>,
}

impl Wait<'_> {
    /// Registers now.
    pub fn enable(mut self: Pin<&mut Self>) {
        if self.id.is_none() {
            let mut state = self.queue.0.lock();
            let id = state.next;
            state.next += 1;
            state.waiters.push_back(Waiter { id, waker: None, notified: None });
            drop(state);
            self.id = Some(id);
        }
    }
}

impl Future for Wait<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.as_mut().enable();
        let mut state = self.queue.0.lock();
        let Some(at) = state.waiters.iter().position(|waiter| Some(waiter.id) == self.id) else {
            return Poll::Ready(());
        };
        if state.waiters[at].notified.is_some() {
            state.waiters.remove(at);
            drop(state);
            return Poll::Ready(());
        }
        state.waiters[at].waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        let mut state = self.queue.0.lock();
        let Some(at) = state.waiters.iter().position(|waiter| waiter.id == id) else { return };
        let waiter = state.waiters.remove(at);
        drop(state);
        if waiter.is_some_and(|waiter| waiter.notified == Some(Notified::One)) {
            self.queue.wake_one();
        }
    }
}
