//! Where those wait who want to know of a file's readiness.
//!
//! There are two kinds. A *poller* (`poll`, `select`) is a future; it registers for one wake. A *watcher* is an entry of an
//! epoll; it stays registered and is told of each wake, which is how epoll finds what is ready without looking at all it
//! watches. Both register first and then look at the readiness.
//!
//! A wake says what the [`Readiness`] has gained. Telling a watcher puts its entry on a list that is threaded through the
//! entries: no wake takes memory. Watchers are told outside the queue's lock, a few at a time.

use alloc::{boxed::Box, sync::Arc};
use core::sync::atomic::{
    AtomicU32,
    Ordering::{Relaxed, SeqCst},
    fence,
};

use arrayvec::ArrayVec;

use super::{
    epoll::{Core, Slots},
    file::Readiness,
};
use crate::{
    errno::Result,
    sync::{Rank, RawWaitLock, SpinLock, WaitQueue},
};

/// An entry of an epoll that is to be told.
#[derive(Clone)]
pub struct Watcher {
    /// The epoll.
    pub epoll: Arc<Core>,
    /// The entry's place in it.
    pub slot: u32,
    /// Tells the entry from others that had the place.
    pub stamp: u32,
    /// Whether it is enough to tell one of its kind (`EPOLLEXCLUSIVE`).
    pub exclusive: bool,
}

impl Watcher {
    fn is(&self, epoll: &Arc<Core>, slot: u32, stamp: u32) -> bool {
        Arc::ptr_eq(&self.epoll, epoll) && (self.slot, self.stamp) == (slot, stamp)
    }
}

/// Watchers that are told under one hold of the lock.
const AT_ONCE: usize = 8;

/// Mostly there is none, or one.
enum Watchers {
    None,
    /// In place 0.
    One(Watcher),
    Many(Box<Slots<Watcher>>),
}

impl Watchers {
    fn get(&self, place: u32) -> Option<&Watcher> {
        match self {
            Self::One(watcher) if place == 0 => Some(watcher),
            Self::Many(slots) => slots.get(place),
            _ => None,
        }
    }

    /// The first at `place` or behind, and where it is.
    fn next(&self, place: u32) -> Option<(u32, &Watcher)> {
        match self {
            Self::Many(slots) => {
                let place = slots.next(place)?;
                Some((place, slots.get(place)?))
            }
            _ => Some((0, self.get(place)?)),
        }
    }

    fn insert(&mut self, watcher: Watcher) -> Result<u32> {
        match self {
            Self::None => {
                *self = Self::One(watcher);
                Ok(0)
            }
            Self::One(first) => {
                let mut slots = Box::new(Slots::new());
                slots.insert(first.clone())?;
                let place = slots.insert(watcher)?;
                *self = Self::Many(slots);
                Ok(place)
            }
            Self::Many(slots) => slots.insert(watcher),
        }
    }

    fn remove(&mut self, place: u32) -> Option<Watcher> {
        self.get(place)?;
        match self {
            Self::Many(slots) => {
                let removed = slots.remove(place);
                if slots.used() == 0 {
                    *self = Self::None;
                }
                removed
            }
            _ => match core::mem::replace(self, Self::None) {
                Self::One(watcher) => Some(watcher),
                _ => None,
            },
        }
    }
}

/// See the module.
pub struct PollQueue {
    pollers: WaitQueue,
    /// How many watchers there are; written under their lock.
    watched: AtomicU32,
    watchers: SpinLock<Watchers>,
}

impl Default for PollQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl PollQueue {
    /// Nobody waits.
    pub const fn new() -> Self {
        Self {
            pollers: WaitQueue::new(),
            watched: AtomicU32::new(0),
            watchers: SpinLock::new(Rank::PollWatchers, Watchers::None),
        }
    }

    /// Where pollers wait, for files whose readers wait there as well.
    pub const fn pollers(&self) -> &WaitQueue {
        &self.pollers
    }

    /// The wait of a poller.
    pub const fn wait(&self) -> executor::sync::Wait<'_, RawWaitLock> {
        self.pollers.wait()
    }

    /// Whether a wake would find anybody, by a look without a lock: see
    /// [`has_waiters`](executor::sync::WaitQueue::has_waiters).
    #[inline]
    pub fn has_waiters(&self) -> bool {
        self.pollers.has_waiters() || self.is_watched()
    }

    /// As [`PollQueue::has_waiters`], of watchers alone.
    #[inline]
    pub fn is_watched(&self) -> bool {
        self.watched.load(Relaxed) != 0
    }

    /// The readiness has gained `news`: all pollers look again, all watchers are told, and of those that are exclusive as many
    /// as it takes to wake somebody.
    pub fn wake(&self, news: Readiness) {
        self.pollers.wake_all();
        self.tell(news);
    }

    /// As [`PollQueue::wake`], for watchers alone: for what is an event to them though the readiness has not changed.
    #[inline]
    pub fn tell(&self, news: Readiness) {
        if self.is_watched() {
            self.tell_watchers(news, false);
        }
    }

    /// The readiness may have changed in any way, for good: everybody looks again.
    pub fn wake_everybody(&self) {
        self.pollers.wake_all();
        // Who has looked in vain is seen.
        fence(SeqCst);
        if self.is_watched() {
            self.tell_watchers(Readiness::empty(), true);
        }
    }

    fn tell_watchers(&self, news: Readiness, everybody: bool) {
        let mut exclusive = false;
        self.for_each(|_, watcher| {
            exclusive |= watcher.exclusive;
            if everybody || !watcher.exclusive {
                watcher.epoll.tell(watcher.slot, watcher.stamp, news);
            }
            true
        });
        if exclusive && !everybody {
            self.for_each(|_, watcher| !(watcher.exclusive && watcher.epoll.tell(watcher.slot, watcher.stamp, news)));
        }
    }

    /// Calls `each` for every watcher there is, with the place it has, until it says no. No lock is held meanwhile.
    pub(super) fn for_each(&self, mut each: impl FnMut(u32, &Watcher) -> bool) {
        let mut next = 0;
        let mut end = u32::MAX;
        loop {
            let mut some: ArrayVec<(u32, Watcher), AT_ONCE> = ArrayVec::new();
            {
                let watchers = self.watchers.lock();
                if let Watchers::Many(slots) = &*watchers {
                    // Who comes while this goes on is not meant.
                    end = end.min(slots.end());
                }
                while let Some((place, watcher)) = watchers.next(next).filter(|(place, _)| *place < end) {
                    some.push((place, watcher.clone()));
                    next = place + 1;
                    if some.is_full() {
                        break;
                    }
                }
            }
            let more = some.is_full();
            if !some.iter().all(|(place, watcher)| each(*place, watcher)) || !more {
                return;
            }
        }
    }

    /// From here on `watcher` is told. Where it stands, for [`PollQueue::unwatch`].
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn watch(&self, watcher: Watcher) -> Result<u32> {
        let mut watchers = self.watchers.lock();
        let place = watchers.insert(watcher)?;
        self.watched.fetch_add(1, Relaxed);
        Ok(place)
    }

    /// Takes back a watcher, if it is at this place.
    pub(super) fn unwatch(&self, place: u32, epoll: &Arc<Core>, slot: u32, stamp: u32) -> bool {
        let mut watchers = self.watchers.lock();
        if !watchers
            .get(place)
            .is_some_and(|watcher| watcher.is(epoll, slot, stamp))
        {
            return false;
        }
        let removed = watchers.remove(place);
        self.watched.fetch_sub(1, Relaxed);
        drop(watchers);
        drop(removed);
        true
    }
}
