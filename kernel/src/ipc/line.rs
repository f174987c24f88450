//! Who waits at an object: by rank, where that counts, and in order of arrival.
//!
//! A waiter that is done with is taken out of the line with its outcome, under the object's lock, and woken without it. A wait that ends
//! otherwise (signal, time-out, drop) leaves under the same lock: it finds the outcome if there is one, which then counts, so that
//! nothing that was done for a waiter is lost.

use alloc::{collections::BTreeMap, sync::Arc};
use core::{future::poll_fn, ops::Bound, pin::pin, task::Poll};

use smallvec::SmallVec;

use crate::{
    clock::Moment,
    task::{Thread, deadline::by},
};

/// What a waiter wants, and who it is.
pub struct Waiter<W> {
    thread: Arc<Thread>,
    /// What it wants.
    pub want: W,
}

/// A waiter's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u8, u64);

/// See the module. `W` is what waiters want, `O` what they get.
pub struct Line<W, O> {
    waiting: BTreeMap<Ticket, Waiter<W>>,
    /// What came of waits that are over, until the waiter has run: mostly there is one at a time, and it stands here.
    one_over: Option<(Ticket, O)>,
    over: BTreeMap<Ticket, O>,
    next: u64,
}

/// Those to wake once the object's lock is released.
#[derive(Default)]
#[must_use = "somebody waits for it"]
pub struct Woken(SmallVec<[Arc<Thread>; 4]>);

impl Woken {
    /// Wakes them.
    pub fn wake(self) {
        for thread in self.0 {
            thread.wake();
        }
    }
}

impl<W, O> Line<W, O> {
    /// Nobody.
    pub const fn new() -> Self {
        Self {
            waiting: BTreeMap::new(),
            one_over: None,
            over: BTreeMap::new(),
            next: 0,
        }
    }

    /// Stands behind all others.
    pub fn join(&mut self, thread: &Arc<Thread>, want: W) -> Ticket {
        self.join_at(0, thread, want)
    }

    /// Stands behind those whose rank is as low or lower.
    pub fn join_at(&mut self, rank: u8, thread: &Arc<Thread>, want: W) -> Ticket {
        let ticket = Ticket(rank, self.next);
        self.next += 1;
        let thread = thread.clone();
        self.waiting.insert(ticket, Waiter { thread, want });
        ticket
    }

    /// The first waiter behind a place, or of all.
    pub fn after(&mut self, place: Option<Ticket>) -> Option<(Ticket, &mut Waiter<W>)> {
        let from = place.map_or(Bound::Unbounded, Bound::Excluded);
        let (ticket, waiter) = self.waiting.range_mut((from, Bound::Unbounded)).next()?;
        Some((*ticket, waiter))
    }

    /// What all that wait want.
    pub fn wants(&self) -> impl Iterator<Item = &W> {
        self.waiting.values().map(|waiter| &waiter.want)
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Ends a wait; what the waiter wanted.
    pub fn finish(&mut self, ticket: Ticket, outcome: O, woken: &mut Woken) -> Option<W> {
        let waiter = self.waiting.remove(&ticket)?;
        if self.one_over.is_none() {
            self.one_over = Some((ticket, outcome));
        } else {
            self.over.insert(ticket, outcome);
        }
        woken.0.push(waiter.thread);
        Some(waiter.want)
    }

    /// Ends all waits.
    pub fn finish_all(&mut self, outcome: impl Fn() -> O, woken: &mut Woken) {
        while let Some((ticket, _)) = self.after(None) {
            drop(self.finish(ticket, outcome(), woken));
        }
    }

    /// Takes what came of a wait, if it is over.
    pub fn outcome(&mut self, ticket: Ticket) -> Option<O> {
        match &self.one_over {
            Some((whose, _)) if *whose == ticket => self.one_over.take().map(|(_, outcome)| outcome),
            _ if self.over.is_empty() => None,
            _ => self.over.remove(&ticket),
        }
    }

    /// Ends one's own wait: what came of it, or what was wanted.
    fn leave(&mut self, ticket: Ticket) -> (Option<O>, Option<W>) {
        let want = self.waiting.remove(&ticket).map(|waiter| waiter.want);
        (self.outcome(ticket), want)
    }
}

impl<W, O> Default for Line<W, O> {
    fn default() -> Self {
        Self::new()
    }
}

/// Where a line stands: an object that can be locked.
pub trait HasLine {
    /// What waiters want.
    type Want;
    /// What they get.
    type Outcome;

    /// Does something with the line, under the object's lock.
    fn with_line<T>(&self, look: impl FnOnce(&mut Line<Self::Want, Self::Outcome>) -> T) -> T;
}

/// Why a wait brought nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// A signal, stop or exit.
    Interrupted,
    /// The time was up.
    TimedOut,
}

/// One's own place, which is left when this goes, unless the wait has been ended.
struct Place<'a, L: HasLine> {
    object: &'a L,
    ticket: Ticket,
    is_left: bool,
}

impl<L: HasLine> Drop for Place<'_, L> {
    fn drop(&mut self) {
        if !self.is_left {
            let left = self.object.with_line(|line| line.leave(self.ticket));
            drop(left);
        }
    }
}

/// Waits at a place until the wait is ended, at most to `at`. Dropping it leaves the line; an outcome that
/// was there is lost then.
///
/// # Errors
/// A signal, or the deadline.
pub async fn wait<L: HasLine>(
    thread: &Thread,
    object: &L,
    ticket: Ticket,
    at: Option<Moment>,
) -> Result<L::Outcome, Over> {
    let mut place = Place {
        object,
        ticket,
        is_left: false,
    };
    let outcome = pin!(poll_fn(|context| {
        // Whoever ends the wait from here on wakes.
        thread.store_waker(context.waker());
        let outcome = object.with_line(|line| line.outcome(ticket));
        outcome.map_or(Poll::Pending, Poll::Ready)
    }));
    let over = match thread.interruptible(by(at, outcome)).await {
        Ok(Some(outcome)) => {
            place.is_left = true;
            return Ok(outcome);
        }
        Ok(None) => Over::TimedOut,
        Err(_) => Over::Interrupted,
    };
    place.is_left = true;
    let (outcome, want) = place.object.with_line(|line| line.leave(ticket));
    drop(want);
    outcome.ok_or(over)
}
