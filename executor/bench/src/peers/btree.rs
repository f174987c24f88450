//! Timers as many programs keep them: a sorted map from deadline to waker, here unlocked and the thread's own, its clock a
//! number, as ours is.

use super::{Named, Timers};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

thread_local! {
    static TIMERS: RefCell<BTreeMap<(u64, u64), Waker>> = const { RefCell::new(BTreeMap::new()) };
    static NOW: Cell<u64> = const { Cell::new(0) };
    static NEXT: Cell<u64> = const { Cell::new(0) };
}

/// The map.
pub struct SortedMap;

/// A sleep: its key, once it stands in the map.
pub struct Entry {
    at: u64,
    number: Option<u64>,
}

impl Future for Entry {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if NOW.get() >= self.at {
            return Poll::Ready(());
        }
        let number = self.number.unwrap_or_else(|| {
            NEXT.set(NEXT.get() + 1);
            NEXT.get()
        });
        self.number = Some(number);
        let old = TIMERS.with_borrow_mut(|timers| timers.insert((self.at, number), context.waker().clone()));
        drop(old);
        Poll::Pending
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let waker = TIMERS.with_borrow_mut(|timers| timers.remove(&(self.at, number)));
            drop(waker);
        }
    }
}

impl Named for SortedMap {
    const NAME: &'static str = "BTreeMap";
}

impl Timers for SortedMap {
    type Sleep = Entry;

    fn enter() -> impl Sized {}

    fn now() -> u64 {
        NOW.get()
    }

    fn sleep_until(at: u64) -> Entry {
        Entry { at, number: None }
    }

    fn wait_until(at: u64) {
        NOW.set(NOW.get().max(at));
    }

    fn fire() {
        let due = |timers: &mut BTreeMap<(u64, u64), Waker>| {
            let first = timers.first_entry()?;
            (first.key().0 <= NOW.get()).then(|| first.remove())
        };
        while let Some(waker) = TIMERS.with_borrow_mut(due) {
            waker.wake();
        }
    }
}
