//! Events on their way to a program.

use alloc::sync::Arc;
use core::{
    mem,
    sync::atomic::{Ordering::SeqCst, fence},
};

use arrayvec::ArrayVec;
use linux_raw_sys::general as linux;

use super::{
    Core,
    entry::{Chain, Entries},
};
use crate::{
    fs::{OpenFile, Readiness},
    mm::user::UserFault,
    sync::SpinLockGuard,
};

/// The events of one call on their way to the program. Dropped, it leaves the epoll as if it had ended in good order.
pub struct Delivery<'a> {
    core: &'a Core,
    /// How many may follow.
    room: usize,
    /// How many were delivered.
    found: usize,
    /// Entries that are still to be looked at: what was in the list as the call came.
    looks: usize,
    /// Level-triggered entries that were delivered.
    delivered: Chain,
}

/// What writing an event comes to.
pub type Put = core::result::Result<(), UserFault>;

/// Entries that are delivered at once.
const AT_ONCE: usize = 16;
/// Bytes of a `struct epoll_event`, which is packed on x86_64 alone.
pub const EVENT: usize = size_of::<linux::epoll_event>();
/// Where its data stands.
pub const DATA: usize = mem::offset_of!(linux::epoll_event, data);

struct Taken {
    slot: u32,
    wanted: Readiness,
    data: u64,
    ready: Readiness,
}

impl<'a> Delivery<'a> {
    /// Begins to deliver at most `room` events.
    pub fn new(core: &'a Core, room: usize) -> Self {
        Self {
            core,
            room,
            found: 0,
            looks: core.listed(),
            delivered: Chain::EMPTY,
        }
    }

    /// How many entries are to be looked at.
    pub const fn looks_left(&self) -> usize {
        self.looks
    }

    /// How many events were delivered.
    pub const fn found(&self) -> usize {
        self.found
    }

    /// Goes on, with so many looks; whether that was all. `put` writes events, as they stand in memory, behind those that are
    /// there: to the offset that it is told.
    ///
    /// # Errors
    /// What `put` says: the page that is missing, for another try.
    pub fn go_on(
        &mut self,
        mut looks: usize,
        put: &mut impl FnMut(u64, &[u8]) -> Put,
    ) -> core::result::Result<bool, UserFault> {
        while self.looks > 0 && self.room > 0 {
            if looks == 0 {
                return Ok(false);
            }
            let count = AT_ONCE.min(self.looks).min(self.room).min(looks);
            looks -= count;
            self.looks -= count;
            if !self.deliver(count, put)? {
                break;
            }
        }
        Ok(true)
    }

    /// Takes `count` entries at most, and delivers those that are ready; false if the list was empty.
    fn deliver(
        &mut self,
        count: usize,
        put: &mut impl FnMut(u64, &[u8]) -> Put,
    ) -> core::result::Result<bool, UserFault> {
        let mut taken: ArrayVec<Taken, AT_ONCE> = ArrayVec::new();
        let mut files: ArrayVec<Option<Arc<OpenFile>>, AT_ONCE> = ArrayVec::new();
        {
            let mut entries = self.core.entries.lock();
            while taken.len() < count
                && let Some((slot, entry)) = entries.take()
            {
                files.push(entry.file.upgrade());
                taken.push(Taken {
                    slot,
                    wanted: entry.wanted(),
                    data: entry.data,
                    ready: Readiness::empty(),
                });
            }
        }
        if taken.is_empty() {
            return Ok(false);
        }
        // What is written without a lock is seen, or the writer's wake finds the entry taken.
        fence(SeqCst);
        let mut bytes = [0; EVENT * AT_ONCE];
        let mut length = 0;
        for (taken, file) in taken.iter_mut().zip(&files) {
            if let Some(file) = file {
                taken.ready = file.file().readiness() & taken.wanted;
            }
            if !taken.ready.is_empty() {
                let event = &mut bytes[length..length + EVENT];
                event[..4].copy_from_slice(&taken.ready.bits().to_ne_bytes());
                event[DATA..DATA + 8].copy_from_slice(&taken.data.to_ne_bytes());
                length += EVENT;
            }
        }
        let copied = put((self.found * EVENT) as u64, &bytes[..length]);
        let delivered = match copied {
            Ok(()) => length / EVENT,
            Err(fault) => fault.copied / EVENT,
        };
        self.settle(&taken, delivered);
        copied.map(|()| true)
    }

    /// Gives back what was taken, of which the first `delivered` that were ready have been delivered.
    fn settle(&mut self, taken: &[Taken], delivered: usize) {
        let is_ready = |taken: &&Taken| !taken.ready.is_empty();
        let all = taken.iter().filter(is_ready).count() == delivered;
        self.room -= delivered;
        self.found += delivered;
        let over = all && self.delivered.is_empty() && (self.room == 0 || self.looks == 0);
        let mut entries = self.core.entries.lock();
        let mut number = 0;
        let mut first_left = taken.len();
        for (index, taken) in taken.iter().enumerate() {
            if taken.ready.is_empty() {
                entries.was_not_ready(taken.slot);
            } else if number < delivered {
                number += 1;
                entries.was_delivered(taken.slot, (!over).then_some(&mut self.delivered));
            } else {
                first_left = first_left.min(index);
            }
        }
        // The first in front.
        for taken in taken[first_left..].iter().rev().filter(is_ready) {
            entries.was_not_delivered(taken.slot);
            self.looks += 1;
        }
        self.end_of_turn(entries);
    }

    fn end_of_turn(&self, mut entries: SpinLockGuard<'_, Entries>) {
        let listed = entries.listed();
        let missed = listed > 0 && mem::take(&mut entries.missed);
        drop(entries);
        self.core.go_on(listed, missed);
    }
}

impl Drop for Delivery<'_> {
    fn drop(&mut self) {
        while !self.delivered.is_empty() {
            let mut entries = self.core.entries.lock();
            for _ in 0..AT_ONCE {
                if !entries.put_back(&mut self.delivered) {
                    break;
                }
            }
            self.end_of_turn(entries);
        }
    }
}
