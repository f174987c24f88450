//! Epolls that watch epolls.
//!
//! A wake goes up from a file to the epolls that watch it and on to those that watch them, by as many calls within each other.
//! So there are no circles, a chain has [`DEPTH`] epolls at most, and the ways that lead up from an epoll, and from a file that
//! is added to one, are as many as Linux allows (`fs/eventpoll.c`, `path_limits`).

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Core;
use crate::{
    errno::{Errno, Result},
    fs::poll_queue::PollQueue,
    sync::{Rank, SpinLock, SpinLockGuard},
};

/// Epolls above each other.
const DEPTH: usize = 5;

/// Ways up of one, two and more epolls; those of the first kind are not counted.
const WAYS: [usize; DEPTH] = [usize::MAX, 500, 100, 50, 10];

/// Epolls that a search visits: it is made with a lock held.
const VISITS: usize = 4096;

/// Held while the graph of epolls is looked at and grows.
pub type Nesting = SpinLockGuard<'static, Searches>;

/// How many searches there were.
pub struct Searches(u64);

static NESTING: SpinLock<Searches> = SpinLock::new(Rank::EpollNesting, Searches(0));

/// Whether `core` may watch a file with this poll queue.
///
/// # Errors
/// `EINVAL` if too many ways would lead up from it.
pub fn may_watch(core: &Arc<Core>, queue: &PollQueue) -> Result<Option<Nesting>> {
    if !core.pollers.is_watched() {
        return Ok(None);
    }
    let nesting = NESTING.lock();
    let mut ways = Ways::default();
    let found = ways.from(core, 0).and_then(|_| ways.above(queue, 0));
    found.map_err(|_| Errno::EINVAL)?;
    Ok(Some(nesting))
}

/// Whether `core` may watch the epoll `other`.
///
/// # Errors
/// `ELOOP` if `other` leads to `core`, or the chain would get too long; `EINVAL` if too many ways would lead up.
pub fn may_watch_epoll(core: &Arc<Core>, other: &Arc<Core>) -> Result<Nesting> {
    let mut nesting = NESTING.lock();
    nesting.0 += 1;
    let mut search = Search {
        target: core,
        number: nesting.0,
        visits: VISITS,
    };
    let below = search.height(other, 1)?;
    let mut ways = Ways::default();
    // Files that `other` watches are one epoll further away.
    let above = ways.from(core, 1)?;
    if below + above > DEPTH {
        return Err(Errno::ELOOP);
    }
    ways.above(&other.pollers, 1)?;
    Ok(nesting)
}

/// A search downwards.
struct Search<'a> {
    target: &'a Arc<Core>,
    number: u64,
    visits: usize,
}

impl Search<'_> {
    /// How many epolls stand above each other from `core` downwards, itself included; `depth` are above it.
    fn height(&mut self, core: &Arc<Core>, depth: usize) -> Result<usize> {
        if Arc::ptr_eq(core, self.target) || depth >= DEPTH {
            return Err(Errno::ELOOP);
        }
        self.visits = self.visits.checked_sub(1).ok_or(Errno::EINVAL)?;
        let seen = SearchMark {
            number: self.number,
            height: 0,
        };
        if let Some(height) = seen.of(&core.searched) {
            return if depth + height > DEPTH {
                Err(Errno::ELOOP)
            } else {
                Ok(height)
            };
        }
        let mut most = 0;
        let mut next = 0;
        loop {
            let nested = {
                let entries = core.entries.lock();
                let mut from = entries.nested.range(next..);
                from.next().map(|(slot, nested)| (*slot, nested.clone()))
            };
            let Some((slot, nested)) = nested else { break };
            most = most.max(self.height(&nested, depth + 1)?);
            next = slot + 1;
        }
        SearchMark {
            number: self.number,
            height: most + 1,
        }
        .leave(&core.searched);
        Ok(most + 1)
    }
}

/// What a search leaves with an epoll.
struct SearchMark {
    number: u64,
    height: usize,
}

impl SearchMark {
    fn of(&self, word: &AtomicU64) -> Option<usize> {
        let word = word.load(Relaxed);
        (word >> 3 == self.number).then_some((word & 7) as usize)
    }

    fn leave(&self, word: &AtomicU64) {
        word.store(self.number << 3 | self.height as u64, Relaxed);
    }
}

/// Ways upwards, by how many epolls stand on them, less one.
#[derive(Default)]
struct Ways([usize; DEPTH]);

impl Ways {
    /// Counts those from `core` upwards, behind `length` others; the number of epolls on the longest.
    fn from(&mut self, core: &Arc<Core>, length: usize) -> Result<usize> {
        let ways = self.0.get_mut(length).ok_or(Errno::ELOOP)?;
        if !core.pollers.is_watched() {
            *ways += 1;
            return if *ways > WAYS[length] {
                Err(Errno::EINVAL)
            } else {
                Ok(1)
            };
        }
        Ok(self.above(&core.pollers, length + 1)? + 1)
    }

    /// As [`Ways::from`], for all that watch by a queue.
    fn above(&mut self, queue: &PollQueue, length: usize) -> Result<usize> {
        let mut longest = Ok(0);
        queue.for_each(|_, watcher| {
            // Most watch nothing but files.
            if length == 0 && !watcher.epoll.pollers.is_watched() {
                longest = longest.map(|longest: usize| longest.max(1));
                return true;
            }
            let found = self.from(&watcher.epoll, length);
            longest = longest.and_then(|longest| Ok(longest.max(found?)));
            longest.is_ok()
        });
        longest
    }
}
