//! `epoll(7)`: waiting for files of which many are watched and few are ready.
//!
//! An epoll keeps an [`Entry`] for each file and registers it, as a [`Watcher`], once, in the file's
//! [`PollQueue`](super::poll_queue::PollQueue). A wake of that puts the entry into the epoll's list and wakes one of those
//! who wait for the epoll. Whoever collects events looks at the entries of the list alone, each anew, and so pays for what
//! is ready, not for what is watched.
//!
//! - Level-triggered entries that were delivered go to the list's end and are looked at again by the next call; so all have
//!   their turn, however few events a call takes. Edge-triggered ones stay out until the next wake: each wake is an edge,
//!   whether it changed the readiness or not.
//! - An entry that is being delivered is *taken*: it is nobody else's, and what happens to it meanwhile is noted and done
//!   afterwards. So no event is delivered to two threads, and none is lost.
//! - An entry holds no reference to its open file. The last descriptor that goes finds its entries through the poll queue
//!   ([`release`]).
//! - An epoll is a file with a poll queue itself, so epolls watch epolls ([`nest`]).
//!
//! No lock is held where a file is looked at, and none where a queue is woken.

mod delivery;
mod details;
mod entry;
mod limit;
mod nest;
mod slots;
#[cfg(test)]
mod tests;

use alloc::{string::String, sync::Arc};
use core::sync::atomic::{AtomicU64, Ordering::SeqCst, fence};

pub use delivery::{DATA, Delivery, EVENT, lone};
use entry::{Entries, HOW};
use executor::{Class, SpawnOptions};
use linux_raw_sys::general as linux;
pub use slots::Slots;

use super::{
    file::{File, Readiness, Whence},
    open_file::OpenFile,
    poll_queue::{PollQueue, Watcher},
};
use crate::{
    errno::{Errno, Result},
    rt,
    sync::{Rank, SpinLock, WaitQueue},
};
pub use limit::MAX_USER_WATCHES;

/// An epoll, as its entries' files know it.
pub struct Core {
    entries: SpinLock<Entries>,
    /// Threads in `epoll_wait`: an event wakes one.
    waiters: WaitQueue,
    /// Those who have this epoll among their files.
    pollers: PollQueue,
    user: Arc<limit::User>,
    /// The last search for loops that came here.
    searched: AtomicU64,
}

/// What a call asks an epoll to watch for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest {
    /// `EPOLLIN` and so on, and how to tell of them.
    pub events: u32,
    /// Returned with them.
    pub data: u64,
}

/// What is always told.
const ALWAYS: u32 = linux::EPOLLERR | linux::EPOLLHUP;

impl Core {
    fn new(uid: u32) -> Self {
        Self {
            entries: SpinLock::new(Rank::Epoll, Entries::new()),
            waiters: WaitQueue::new(),
            pollers: PollQueue::new(),
            user: limit::user(uid),
            searched: AtomicU64::new(0),
        }
    }

    /// Where to wait for events: register, then [collect](Delivery).
    pub const fn waiters(&self) -> &WaitQueue {
        &self.waiters
    }

    /// How many files may be ready.
    pub fn listed(&self) -> usize {
        self.entries.lock().listed()
    }

    /// The readiness of an entry's file has gained `news`, or something unknown if that is empty. Whether somebody was woken to
    /// see to it.
    pub fn tell(&self, slot: u32, stamp: u32, news: Readiness) -> bool {
        let told = self.entries.lock().tell(slot, stamp, news);
        self.announce(told)
    }

    /// After an entry was told.
    fn announce(&self, told: Option<bool>) -> bool {
        let Some(listed) = told else { return false };
        // One that is taken: who has it wakes others.
        let woken = listed && self.waiters.has_waiters() && self.waiters.wake_one() > 0;
        if self.pollers.has_waiters() {
            self.pollers.wake(Readiness::READABLE);
        }
        woken
    }

    /// After entries were given back.
    fn go_on(&self, listed: usize, missed: bool) {
        if listed > 0 && self.waiters.has_waiters() {
            self.waiters.wake_one();
        }
        if listed > 0 && missed {
            self.pollers.wake(Readiness::READABLE);
        }
    }

    /// Looks at an entry that is new or was changed.
    fn look_at(&self, slot: u32, stamp: u32, file: &OpenFile, events: u32) {
        // It is registered, or was; see `File::poll_queue`.
        fence(SeqCst);
        let wanted = Readiness::from_bits_truncate((events | ALWAYS) & !HOW);
        if file.file().readiness().intersects(wanted) {
            let told = self.entries.lock().tell(slot, stamp, Readiness::empty());
            self.announce(told);
        }
    }

    /// Watches a file (`EPOLL_CTL_ADD`).
    ///
    /// # Errors
    /// `EEXIST`; `EPERM` for a file that is always ready; `ENOSPC` past the user's limit; `ELOOP` and `EINVAL` as [`nest`]
    /// says; `ENOMEM`.
    pub fn add(self: &Arc<Self>, fd: i32, file: &Arc<OpenFile>, interest: Interest) -> Result<()> {
        let queue = file.file().poll_queue().ok_or(Errno::EPERM)?;
        let (slot, stamp) = match of(file) {
            Some(other) => {
                let _nesting = nest::may_watch_epoll(self, other)?;
                self.register(fd, file, queue, interest, Some(other.clone()))?
            }
            None => {
                let _nesting = nest::may_watch(self, queue)?;
                self.register(fd, file, queue, interest, None)?
            }
        };
        self.look_at(slot, stamp, file, interest.events);
        Ok(())
    }

    fn register(
        self: &Arc<Self>,
        fd: i32,
        file: &Arc<OpenFile>,
        queue: &PollQueue,
        interest: Interest,
        nested: Option<Arc<Self>>,
    ) -> Result<(u32, u32)> {
        let (slot, stamp) = {
            let mut entries = self.entries.lock();
            if entries.find(fd, file).is_some() {
                return Err(Errno::EEXIST);
            }
            self.user.take()?;
            let made = entries.insert(fd, file, interest.events | ALWAYS, interest.data);
            let (slot, stamp) = made.inspect_err(|_| self.user.give(1))?;
            if let Some(nested) = nested {
                entries.nested.insert(slot, nested);
            }
            (slot, stamp)
        };
        file.watch_began();
        let watcher = Watcher {
            epoll: self.clone(),
            slot,
            stamp,
            exclusive: interest.events & linux::EPOLLEXCLUSIVE != 0,
        };
        match queue.watch(watcher) {
            Ok(place) => {
                let known = match self.entries.lock().get(slot, stamp) {
                    Some(entry) => {
                        entry.watcher = place;
                        true
                    }
                    None => false,
                };
                if !known {
                    // Removed by another thread already.
                    queue.unwatch(place, self, slot, stamp);
                }
                Ok((slot, stamp))
            }
            Err(errno) => {
                self.take_out(slot, stamp, file);
                Err(errno)
            }
        }
    }

    /// Removes an entry, whoever is first; its place in the poll queue.
    fn take_out(&self, slot: u32, stamp: u32, file: &OpenFile) -> Option<u32> {
        let (_, watcher) = {
            let mut entries = self.entries.lock();
            entries
                .get(slot, stamp)
                .filter(|entry| core::ptr::eq(entry.file.as_ptr(), file))?;
            entries.remove(slot)?
        };
        file.watch_ended();
        self.user.give(1);
        Some(watcher)
    }

    /// Removes an entry and takes its watcher back.
    fn forget(self: &Arc<Self>, slot: u32, stamp: u32, file: &OpenFile) {
        if let Some(place) = self.take_out(slot, stamp, file) {
            file.file().poll_queues(&mut |queue| {
                queue.unwatch(place, self, slot, stamp);
            });
        }
    }

    /// Changes what is watched for (`EPOLL_CTL_MOD`).
    ///
    /// # Errors
    /// `ENOENT`; `EINVAL` for an exclusive entry.
    pub fn change(&self, fd: i32, file: &OpenFile, interest: Interest) -> Result<()> {
        let (slot, stamp) = {
            let mut entries = self.entries.lock();
            let slot = entries.find(fd, file).ok_or(Errno::ENOENT)?;
            if entries
                .at(slot)
                .is_some_and(|entry| entry.events & linux::EPOLLEXCLUSIVE != 0)
            {
                return Err(Errno::EINVAL);
            }
            let stamp = entries.change(slot, file, interest.events | ALWAYS, interest.data);
            (slot, stamp.ok_or(Errno::ENOENT)?)
        };
        self.look_at(slot, stamp, file, interest.events);
        Ok(())
    }

    /// Watches a file no more (`EPOLL_CTL_DEL`).
    ///
    /// # Errors
    /// `ENOENT`.
    pub fn remove(self: &Arc<Self>, fd: i32, file: &OpenFile) -> Result<()> {
        let (slot, stamp) = {
            let entries = self.entries.lock();
            let slot = entries.find(fd, file).ok_or(Errno::ENOENT)?;
            (slot, entries.at(slot).ok_or(Errno::ENOENT)?.stamp)
        };
        self.forget(slot, stamp, file);
        Ok(())
    }

    /// Whether a file that it watches is ready. Those in the list that are not leave it.
    fn is_ready(&self) -> bool {
        loop {
            let (slot, stamp, wakes, wanted, file) = {
                let mut entries = self.entries.lock();
                let Some((slot, entry)) = entries.first() else {
                    entries.missed |= entries.taken > 0;
                    return false;
                };
                (
                    slot,
                    entry.stamp,
                    entries.wakes(slot),
                    entry.wanted(),
                    entry.file.upgrade(),
                )
            };
            if file.is_some_and(|file| file.file().readiness().intersects(wanted)) {
                return true;
            }
            self.entries.lock().unlist_if_quiet(slot, stamp, wakes);
        }
    }

    /// Removes some entries of an epoll that is closed; false if none is left to be removed. Entries whose file is being closed
    /// are left to that.
    fn dismantle(self: &Arc<Self>, next: &mut u32) -> bool {
        for _ in 0..IN_A_TURN {
            let (slot, stamp, file) = {
                let entries = self.entries.lock();
                let Some((slot, entry)) = entries.next(*next) else {
                    return false;
                };
                (slot, entry.stamp, entry.file.upgrade())
            };
            *next = slot + 1;
            if let Some(file) = file {
                self.forget(slot, stamp, &file);
            }
        }
        true
    }
}

/// Entries that one turn of a long job is about, before others have theirs.
pub const IN_A_TURN: usize = 512;

/// The epoll's file.
pub struct EpollFile {
    core: Arc<Core>,
}

impl EpollFile {
    /// An epoll that watches nothing, on account of a user.
    pub fn new(uid: u32) -> Self {
        Self {
            core: Arc::new(Core::new(uid)),
        }
    }

    /// What is behind it.
    pub const fn core(&self) -> &Arc<Core> {
        &self.core
    }
}

/// The epoll behind an open file, if it is one.
pub fn of(file: &OpenFile) -> Option<&Arc<Core>> {
    file.file().as_epoll().map(EpollFile::core)
}

impl Drop for EpollFile {
    fn drop(&mut self) {
        let core = self.core.clone();
        let mut next = 0;
        if core.entries.lock().len() > IN_A_TURN {
            let rest = self.core.clone();
            let begun = rt::spawn(SpawnOptions::new(Class::Service, "epoll-close"), async move {
                let mut next = 0;
                while rest.dismantle(&mut next) {
                    rt::yield_now().await;
                }
            });
            if begun.is_ok() {
                return;
            }
        }
        while core.dismantle(&mut next) {}
    }
}

impl File for EpollFile {
    fn seek(&self, position: u64, _: i64, _: Whence) -> Result<u64> {
        Ok(position)
    }

    fn readiness(&self) -> Readiness {
        if self.core.is_ready() {
            Readiness::READABLE
        } else {
            Readiness::empty()
        }
    }

    fn poll_queue(&self) -> Option<&PollQueue> {
        Some(&self.core.pollers)
    }

    fn details(&self, from: u64, out: &mut String) -> Result<Option<u64>> {
        details::write(&self.core, from, out)
    }

    fn as_epoll(&self) -> Option<&EpollFile> {
        Some(self)
    }
}

/// An open file description goes, and with it all entries of it.
pub fn release(file: &OpenFile) {
    file.file().poll_queues(&mut |queue| {
        queue.for_each(|place, watcher| {
            let Watcher { epoll, slot, stamp, .. } = watcher;
            if epoll.take_out(*slot, *stamp, file).is_some() {
                queue.unwatch(place, epoll, *slot, *stamp);
            }
            file.is_watched()
        });
    });
}
