//! The wait queue.

#![expect(unsafe_code, reason = "owns list nodes in pinned futures")]

use core::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use lock_api::RawMutex;

use super::{
    list::{List, Node, Progress},
    wakers::{AT_ONCE, Wakers},
};
use crate::prim::{AtomicU32, Lock, Ordering::Relaxed, const_fn};

/// Waiters in order of arrival, each with a key (`()` if there is nothing to choose by).
///
/// The queue remembers nothing: a wake with nobody waiting is nothing. What is waited *for* stands elsewhere, under the
/// caller's own lock or atomic, and the pattern is: register ([`Wait::enable`]), look, await; or [`WaitQueue::wait_until`].
pub struct WaitQueue<R, K = ()> {
    list: Lock<R, List<K>>,
    /// 1 while somebody waits; written under the lock. See [`WaitQueue::has_waiters`].
    waited_for: AtomicU32,
}

impl<R: RawMutex, K: Clone + PartialEq> WaitQueue<R, K> {
    const_fn! {
        /// An empty queue.
        pub fn new() -> Self {
            Self { list: Lock::new(List::new()), waited_for: AtomicU32::new(0) }
        }
    }

    /// Wakes the longest waiter; how many (0 or 1).
    pub fn wake_one(&self) -> usize {
        self.wake_matching(1, |_| true)
    }

    /// Wakes all that wait now; how many.
    pub fn wake_all(&self) -> usize {
        self.wake_up_to(usize::MAX, Progress::GivenToAll, |_| true)
    }

    /// Wakes the longest waiters whose key matches, at most `limit`; how many. `matches` runs under the queue's lock, may
    /// be asked about the same waiter more than once, and does not use the queue.
    pub fn wake_matching(&self, limit: usize, matches: impl FnMut(&K) -> bool) -> usize {
        match limit {
            1 => self.wake_first(matches),
            _ => self.wake_up_to(limit, Progress::Given, matches),
        }
    }

    /// Whether anybody waits, by a look without the lock: for who would wake somebody, and mostly finds nobody.
    ///
    /// It sees who has registered before, in the sense of the memory model: those whom the caller's own order with waiters
    /// shows to have looked before what was waited for came true. If waiters look under a lock under which it was made true, that
    /// is all of them; with atomics it takes a fence between registering and looking, and one before this.
    #[inline]
    pub fn has_waiters(&self) -> bool {
        self.waited_for.load(Relaxed) != 0
    }

    /// All that is done to the list.
    #[inline]
    fn with_list<T>(&self, f: impl FnOnce(&mut List<K>) -> T) -> T {
        self.list.with(|list| {
            let result = f(list);
            self.waited_for.store((!list.is_empty()).into(), Relaxed);
            result
        })
    }

    fn wake_first(&self, mut matches: impl FnMut(&K) -> bool) -> usize {
        match self.with_list(|list| list.give(Progress::Given, |key, _| Some(matches(key)))) {
            None => 0,
            Some(waker) => {
                if let Some(waker) = waker {
                    waker.wake();
                }
                1
            }
        }
    }

    fn wake_up_to(&self, limit: usize, how: Progress, mut matches: impl FnMut(&K) -> bool) -> usize {
        let mut woken = 0;
        // Who comes while this goes on is not meant.
        let mut before = None;
        loop {
            let mut wakers = Wakers::new();
            let more = self.with_list(|list| {
                let before = *before.get_or_insert(list.tickets());
                wakers.fill(limit - woken, || {
                    list.give(how, |key, ticket| (ticket < before).then(|| matches(key)))
                })
            });
            woken += wakers.wake();
            if !more || woken == limit {
                return woken;
            }
        }
    }

    /// If `check` holds: wakes the longest `wake` waiters with the key `from`, and gives the next `limit` of them the key
    /// `to`, behind all who wait now; how many were woken and moved. `check` runs under the queue's lock, under which all is
    /// done but for waking more than a few; it does not use the queue. What `FUTEX_CMP_REQUEUE` needs.
    pub fn requeue(
        &self,
        wake: usize,
        limit: usize,
        from: &K,
        to: &K,
        check: impl FnOnce() -> bool,
    ) -> Option<(usize, usize)> {
        let mut wakers = Wakers::new();
        let mut moved = 0;
        let more = self.with_list(|list| {
            check().then(|| {
                let more = wakers.fill(wake, || list.give(Progress::Given, |key, _| Some(key == from)));
                // Who is still to be woken stays.
                if wake <= AT_ONCE {
                    moved = list.rekey(limit, from, to);
                }
                more
            })
        })?;
        let mut woken = wakers.wake();
        if more && woken < wake {
            woken += self.wake_matching(wake - woken, |key| key == from);
        }
        if wake > AT_ONCE {
            moved = self.with_list(|list| list.rekey(limit, from, to));
        }
        Some((woken, moved))
    }

    /// Whether anybody waits.
    pub fn is_empty(&self) -> bool {
        self.list.with(|list| list.is_empty())
    }

    const_fn! {
        /// A wait under a key.
        pub fn wait_with(&self, key: K) -> Wait<'_, R, K> {
            Wait {
                queue: self,
                node: Node::new(key),
                started: false,
            }
        }
    }
}

impl<R: RawMutex> WaitQueue<R> {
    const_fn! {
        /// A wait: registered by [`Wait::enable`] or by the first poll, over with the first wake after that.
        pub fn wait(&self) -> Wait<'_, R> {
            self.wait_with(())
        }
    }

    const_fn! {
        /// Waits until `attempt` gives a value. `attempt` is made at once and after each wake; where it gives none, once more after
        /// registering.
        ///
        /// Cancelling passes a wake on that was given and not used; so does an attempt that succeeds without its wake.
        pub fn wait_until<T, F: FnMut() -> Option<T>>(&self, attempt: F) -> WaitUntil<'_, R, F> {
            WaitUntil {
                wait: self.wait(),
                attempt,
                attempted: false,
            }
        }
    }

    const_fn! {
        /// As [`WaitQueue::wait_until`], for who has just attempted it: the first attempt is the one after registering.
        pub fn wait_again_until<T, F: FnMut() -> Option<T>>(&self, attempt: F) -> WaitUntil<'_, R, F> {
            WaitUntil {
                wait: self.wait(),
                attempt,
                attempted: true,
            }
        }
    }
}

/// See [`WaitQueue::wait_until`].
#[must_use = "a future does nothing unless awaited"]
pub struct WaitUntil<'a, R: RawMutex, F> {
    wait: Wait<'a, R>,
    attempt: F,
    /// Whether an attempt has failed since the last wake.
    attempted: bool,
}

impl<T, R: RawMutex, F: FnMut() -> Option<T>> Future for WaitUntil<'_, R, F> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        // SAFETY: nothing is moved out of the pinned value; of its fields only `wait` is pinned.
        let this = unsafe { self.get_unchecked_mut() };
        // SAFETY: pinned with the whole.
        let mut wait = unsafe { Pin::new_unchecked(&mut this.wait) };
        if wait.started {
            if wait.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            this.attempted = false;
        }
        if !core::mem::replace(&mut this.attempted, true)
            && let Some(value) = (this.attempt)()
        {
            return Poll::Ready(value);
        }
        // Whatever comes true from here on wakes this task, so nothing is missed.
        let _registered = wait.as_mut().poll(context);
        match (this.attempt)() {
            Some(value) => {
                wait.cancel();
                Poll::Ready(value)
            }
            None => Poll::Pending,
        }
    }
}

impl<R: RawMutex, K: Clone + PartialEq> Default for WaitQueue<R, K> {
    fn default() -> Self {
        Self::new()
    }
}

/// A wait on a [`WaitQueue`]; ready once it was woken. It can be waited on again after that.
///
/// Dropping it leaves the queue. If it had been given a wake of its own ([`WaitQueue::wake_one`],
/// [`WaitQueue::wake_matching`]) and never got to see it, the wake goes to the next waiter with an equal key.
#[must_use = "a future does nothing unless awaited"]
pub struct Wait<'a, R: RawMutex, K: Clone + PartialEq = ()> {
    queue: &'a WaitQueue<R, K>,
    node: Node<K>,
    /// Whether the node may be in the list, or have been given something.
    started: bool,
}

impl<R: RawMutex, K: Clone + PartialEq> Wait<'_, R, K> {
    /// Registers, if that was not done: from here on no wake is missed. True if a wake has come already.
    pub fn enable(self: Pin<&mut Self>) -> bool {
        self.look(None, false)
    }

    /// Takes the wait back: leaves the queue as dropping does, keeps the future for another time.
    pub fn cancel(self: Pin<&mut Self>) {
        // SAFETY: nothing is moved out of the pinned value.
        unsafe { self.get_unchecked_mut() }.leave();
    }

    /// Registers or looks; true if a wake has come, which is then `taken` out of the queue or stays for the next look.
    fn look(self: Pin<&mut Self>, waker: Option<&Waker>, taken: bool) -> bool {
        // SAFETY: nothing is moved out of the pinned value; the node is pinned with it.
        let this = unsafe { self.get_unchecked_mut() };
        // SAFETY: as above.
        let node = unsafe { Pin::new_unchecked(&this.node) };
        let first = !core::mem::replace(&mut this.started, true);
        if taken && !first && node.take_given() {
            this.started = false;
            return true;
        }
        let (given, old) = this.queue.with_list(|list| {
            if first {
                // SAFETY: a node is used with its own queue's list only, and `leave` takes it out before it is dropped.
                unsafe { list.push_back(node, waker.cloned()) };
                return (false, None);
            }
            match list.progress(node) {
                Progress::Given | Progress::GivenToAll if taken => (true, list.remove(node).1),
                Progress::Given | Progress::GivenToAll => (true, None),
                _ => (false, waker.and_then(|waker| list.set_waker(node, waker))),
            }
        });
        drop(old);
        if given && taken {
            this.started = false;
        }
        given
    }

    fn leave(&mut self) {
        if !core::mem::take(&mut self.started) {
            return;
        }
        // SAFETY: the node was pinned when it was started, and the future is not moved before it is dropped.
        let node = unsafe { Pin::new_unchecked(&self.node) };
        let (progress, waker) = self.queue.with_list(|list| list.remove(node));
        drop(waker);
        if progress == Progress::Given {
            let key = self.node.key();
            self.queue.wake_matching(1, |other| *other == key);
        }
    }
}

impl<R: RawMutex, K: Clone + PartialEq> Future for Wait<'_, R, K> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.look(Some(context.waker()), true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl<R: RawMutex, K: Clone + PartialEq> Drop for Wait<'_, R, K> {
    fn drop(&mut self) {
        self.leave();
    }
}
