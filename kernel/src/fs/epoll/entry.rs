//! What an epoll keeps of each file it watches, and the order in which entries became ready.

use alloc::{
    collections::{BTreeMap, btree_map},
    sync::{Arc, Weak},
};

use linux_raw_sys::general as linux;

use super::{
    Core,
    slots::{NOWHERE, Slots},
};
use crate::{
    errno::{Errno, Result},
    fs::{OpenFile, Readiness},
};

/// Events that say how to tell, not of what.
pub const HOW: u32 = linux::EPOLLET | linux::EPOLLONESHOT | linux::EPOLLEXCLUSIVE | linux::EPOLLWAKEUP;

bitflags::bitflags! {
    /// Where an entry stands.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Standing: u8 {
        /// In the list of what may be ready.
        const LISTED = 1;
        /// Somebody is about to deliver it: nobody else touches it.
        const TAKEN = 2;
        /// Meanwhile there was a wake.
        const AGAIN = 4;
        /// Meanwhile it was changed (`EPOLL_CTL_MOD`).
        const CHANGED = 8;
        /// Meanwhile it was removed: its place is free once it has been delivered.
        const GONE = 16;
    }
}

/// A file that is watched by a descriptor.
pub struct Entry {
    /// Closing it does away with the entry.
    pub file: Weak<OpenFile>,
    /// The program's.
    pub data: u64,
    /// What the program asked for.
    pub events: u32,
    pub fd: i32,
    /// Neighbours in the list; of one that is taken, the next to be put back.
    next: u32,
    previous: u32,
    /// Tells it from others that had its place.
    pub stamp: u32,
    /// Its place in the file's poll queue.
    pub watcher: u32,
    /// Wakes that it was told of.
    wakes: u32,
    /// The events that concern it; none while it is off (`EPOLLONESHOT`).
    heeds: u16,
    pub standing: Standing,
}

const _: () = assert!(size_of::<Option<Entry>>() == 48, "thousands of these are to be cheap");

impl Entry {
    fn set_events(&mut self, file: &OpenFile, events: u32) {
        self.events = events;
        self.heeds = (events & file.file().heeds().bits()) as u16;
    }

    /// The events to look for.
    pub const fn wanted(&self) -> Readiness {
        Readiness::from_bits_truncate(self.events & !HOW)
    }

    const fn is_level(&self) -> bool {
        self.events & (linux::EPOLLET | linux::EPOLLONESHOT) == 0
    }
}

/// How it is searched: the descriptor, and the file behind it by its address, of which the 44 bits that differ are kept.
/// Descriptors are below 2^20. An address is not used anew while an entry refers to it.
fn key(fd: i32, file: *const OpenFile) -> u64 {
    const _: () = assert!(crate::fs::fd_table::MAX_DESCRIPTORS <= 1 << 20);
    (fd as u64) << 44 | file.addr() as u64 >> 4 & ((1 << 44) - 1)
}

/// Entries in a row, by their numbers.
#[derive(Clone, Copy)]
pub struct Chain {
    first: u32,
    last: u32,
}

impl Chain {
    pub const EMPTY: Self = Self {
        first: NOWHERE,
        last: NOWHERE,
    };

    pub const fn is_empty(&self) -> bool {
        self.first == NOWHERE
    }
}

/// All entries of an epoll.
pub struct Entries {
    slots: Slots<Entry>,
    by_key: BTreeMap<u64, u32>,
    /// What may be ready, the longest first.
    ready: Chain,
    /// How many those are.
    listed: usize,
    /// Entries that are taken.
    pub taken: usize,
    /// Whether somebody found nothing ready while entries were taken.
    pub missed: bool,
    stamps: u32,
    /// The epolls among the files, by the entry's place.
    pub nested: BTreeMap<u32, Arc<Core>>,
}

impl Entries {
    pub const fn new() -> Self {
        Self {
            slots: Slots::new(),
            by_key: BTreeMap::new(),
            ready: Chain::EMPTY,
            listed: 0,
            taken: 0,
            missed: false,
            stamps: 0,
            nested: BTreeMap::new(),
        }
    }

    pub const fn listed(&self) -> usize {
        self.listed
    }

    /// The one entry in the list, if there is one and no more, and it is level-triggered.
    #[inline]
    pub fn lone(&self) -> Option<&Entry> {
        if self.listed != 1 {
            return None;
        }
        self.slots.get(self.ready.first).filter(|entry| entry.is_level())
    }

    pub const fn len(&self) -> usize {
        self.slots.used()
    }

    pub fn find(&self, fd: i32, file: &OpenFile) -> Option<u32> {
        self.by_key.get(&key(fd, file)).copied()
    }

    /// The entry in a place.
    pub fn at(&self, slot: u32) -> Option<&Entry> {
        self.slots.get(slot)
    }

    /// The entry in a place, if it is still that which was given this stamp.
    pub fn get(&mut self, slot: u32, stamp: u32) -> Option<&mut Entry> {
        self.slots
            .get_mut(slot)
            .filter(|entry| entry.stamp == stamp && !entry.standing.contains(Standing::GONE))
    }

    /// The first entry in `slot` or behind that is not gone.
    pub fn next(&self, mut slot: u32) -> Option<(u32, &Entry)> {
        loop {
            slot = self.slots.next(slot)?;
            match self.slots.get(slot) {
                Some(entry) if !entry.standing.contains(Standing::GONE) => return Some((slot, entry)),
                _ => slot += 1,
            }
        }
    }

    pub fn insert(&mut self, fd: i32, file: &Arc<OpenFile>, events: u32, data: u64) -> Result<(u32, u32)> {
        let btree_map::Entry::Vacant(place) = self.by_key.entry(key(fd, Arc::as_ptr(file))) else {
            return Err(Errno::EEXIST);
        };
        // 0 is none's.
        self.stamps = self.stamps.wrapping_add(1).max(1);
        let mut entry = Entry {
            file: Arc::downgrade(file),
            data,
            events,
            fd,
            next: NOWHERE,
            previous: NOWHERE,
            stamp: self.stamps,
            watcher: NOWHERE,
            wakes: 0,
            heeds: 0,
            standing: Standing::empty(),
        };
        entry.set_events(file, events);
        let slot = self.slots.insert(entry)?;
        place.insert(slot);
        Ok((slot, self.stamps))
    }

    /// Changes what an entry asks for.
    pub fn change(&mut self, slot: u32, file: &OpenFile, events: u32, data: u64) -> Option<u32> {
        let entry = self.slots.get_mut(slot)?;
        entry.set_events(file, events);
        entry.data = data;
        if entry.standing.contains(Standing::TAKEN) {
            entry.standing |= Standing::CHANGED;
        }
        Some(entry.stamp)
    }

    /// Removes an entry that is not gone; its stamp and its place in the poll queue.
    pub fn remove(&mut self, slot: u32) -> Option<(u32, u32)> {
        let entry = self.slots.get_mut(slot)?;
        let found = (entry.stamp, entry.watcher);
        let standing = entry.standing;
        if standing.contains(Standing::TAKEN) {
            entry.standing |= Standing::GONE;
        }
        let key = key(entry.fd, entry.file.as_ptr());
        self.by_key.remove(&key);
        self.nested.remove(&slot);
        if standing.contains(Standing::LISTED) {
            self.unlist(slot);
        }
        if !standing.contains(Standing::TAKEN) {
            self.slots.remove(slot);
        }
        Some(found)
    }

    /// An entry is told of `news` (of nothing in particular where that is empty); whether it was put into the list, or had been
    /// there. `None` if it does not concern it.
    pub fn tell(&mut self, slot: u32, stamp: u32, news: Readiness) -> Option<bool> {
        let entry = self.get(slot, stamp)?;
        let concerns = entry.heeds != 0 && (news.is_empty() || u32::from(entry.heeds) & news.bits() != 0);
        concerns.then(|| self.list(slot))
    }

    /// An entry may be ready. False if it is taken, and will be listed when that is over.
    pub fn list(&mut self, slot: u32) -> bool {
        let Some(entry) = self.slots.get_mut(slot) else {
            return false;
        };
        entry.wakes = entry.wakes.wrapping_add(1);
        if entry.standing.contains(Standing::TAKEN) {
            entry.standing |= Standing::AGAIN;
            return false;
        }
        if !entry.standing.contains(Standing::LISTED) {
            self.push_back(slot);
        }
        true
    }

    /// Puts an entry to the list's end that is neither in the list nor, from now on, taken.
    fn push_back(&mut self, slot: u32) {
        let last = self.ready.last;
        let Some(entry) = self.slots.get_mut(slot) else { return };
        (entry.standing, entry.previous, entry.next) = (Standing::LISTED, last, NOWHERE);
        match self.slots.get_mut(last) {
            Some(before) => before.next = slot,
            None => self.ready.first = slot,
        }
        self.ready.last = slot;
        self.listed += 1;
    }

    fn push_front(&mut self, slot: u32) {
        let first = self.ready.first;
        let Some(entry) = self.slots.get_mut(slot) else { return };
        entry.standing |= Standing::LISTED;
        (entry.previous, entry.next) = (NOWHERE, first);
        match self.slots.get_mut(first) {
            Some(behind) => behind.previous = slot,
            None => self.ready.last = slot,
        }
        self.ready.first = slot;
        self.listed += 1;
    }

    fn unlist(&mut self, slot: u32) {
        let Some(entry) = self.slots.get_mut(slot) else { return };
        entry.standing -= Standing::LISTED;
        let (previous, next) = (entry.previous, entry.next);
        match self.slots.get_mut(previous) {
            Some(before) => before.next = next,
            None => self.ready.first = next,
        }
        match self.slots.get_mut(next) {
            Some(behind) => behind.previous = previous,
            None => self.ready.last = previous,
        }
        self.listed -= 1;
    }

    /// The entry that has been in the list for longest, and its number.
    pub fn first(&self) -> Option<(u32, &Entry)> {
        Some((self.ready.first, self.slots.get(self.ready.first)?))
    }

    /// How many wakes an entry was told of, for [`Entries::unlist_if_quiet`].
    pub fn wakes(&self, slot: u32) -> u32 {
        self.slots.get(slot).map_or(0, |entry| entry.wakes)
    }

    /// Takes an entry that was found not to be ready out of the list, unless there has been a wake.
    pub fn unlist_if_quiet(&mut self, slot: u32, stamp: u32, wakes: u32) {
        let quiet = |entry: &mut Entry| entry.wakes == wakes && entry.standing.contains(Standing::LISTED);
        if self.get(slot, stamp).is_some_and(quiet) {
            self.unlist(slot);
        }
    }

    /// Takes the first of the list, to deliver it; what `look` says of it.
    #[inline]
    pub fn take<T>(&mut self, look: impl FnOnce(u32, &Entry) -> T) -> Option<T> {
        let slot = self.ready.first;
        let entry = self.slots.get_mut(slot)?;
        entry.standing = (entry.standing - Standing::LISTED) | Standing::TAKEN;
        self.ready.first = entry.next;
        let seen = look(slot, entry);
        match self.slots.get_mut(self.ready.first) {
            Some(behind) => behind.previous = NOWHERE,
            None => self.ready.last = NOWHERE,
        }
        self.listed -= 1;
        self.taken += 1;
        Some(seen)
    }

    /// One that was taken is not any more: frees it if it is gone. What has happened to it meanwhile.
    fn give_back(&mut self, slot: u32) -> Standing {
        let Some(entry) = self.slots.get_mut(slot) else {
            return Standing::GONE;
        };
        let standing = entry.standing;
        entry.standing = Standing::empty();
        self.taken -= 1;
        if standing.contains(Standing::GONE) {
            self.slots.remove(slot);
        }
        standing
    }

    /// One that was taken was not ready after all.
    pub fn was_not_ready(&mut self, slot: u32) {
        let standing = self.give_back(slot);
        if !standing.contains(Standing::GONE) && standing.contains(Standing::AGAIN) {
            self.push_back(slot);
        }
    }

    /// One that was taken could not be delivered: it is the next.
    pub fn was_not_delivered(&mut self, slot: u32) {
        if !self.give_back(slot).contains(Standing::GONE) {
            self.push_front(slot);
        }
    }

    /// One that was taken has been delivered. A level-triggered one stays taken and goes to the end of `delivered`, so that no
    /// call delivers it twice; or, if that is `None`, to the end of the list.
    pub fn was_delivered(&mut self, slot: u32, delivered: Option<&mut Chain>) {
        let Some(entry) = self.slots.get_mut(slot) else { return };
        if !entry.standing.intersects(Standing::GONE | Standing::CHANGED) {
            if entry.is_level() {
                let Some(chain) = delivered else {
                    self.taken -= 1;
                    return self.push_back(slot);
                };
                entry.next = NOWHERE;
                match self.slots.get_mut(chain.last) {
                    Some(last) => last.next = slot,
                    None => chain.first = slot,
                }
                chain.last = slot;
                return;
            }
            if entry.events & linux::EPOLLONESHOT != 0 {
                entry.events &= HOW;
                (entry.heeds, entry.standing) = (0, entry.standing - Standing::AGAIN);
            }
        }
        // One that was changed has been looked at since, and is to be told of again if it was ready.
        let standing = self.give_back(slot);
        if !standing.contains(Standing::GONE) && standing.contains(Standing::AGAIN) {
            self.push_back(slot);
        }
    }

    /// Puts the first of those that were delivered back into the list; false if there is none.
    pub fn put_back(&mut self, delivered: &mut Chain) -> bool {
        let slot = delivered.first;
        let Some(entry) = self.slots.get_mut(slot) else {
            *delivered = Chain::EMPTY;
            return false;
        };
        delivered.first = entry.next;
        if !self.give_back(slot).contains(Standing::GONE) {
            self.push_back(slot);
        }
        true
    }
}
