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
    entry::{Chain, Entries, Entry},
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
    /// Entries that are still to be looked at: what was in the list as the call came, or [`UNKNOWN`].
    looks: usize,
    /// Whether not to begin with more than can be looked at without a pause.
    whole: bool,
    /// Level-triggered entries that were delivered.
    delivered: Chain,
}

/// What writing an event comes to.
pub type Put = core::result::Result<(), UserFault>;

/// Bytes of an event, as it stands in memory.
fn event(ready: Readiness, data: u64) -> [u8; EVENT] {
    let mut event = [0; EVENT];
    event[..4].copy_from_slice(&ready.bits().to_ne_bytes());
    event[DATA..DATA + 8].copy_from_slice(&data.to_ne_bytes());
    event
}

/// Delivers the one entry that is listed where it stands, if it is level-triggered and ready: it would only go from the list's front to
/// its end. `None` if it is not so. Somebody else may deliver it at the same time, as he might right after.
///
/// # Errors
/// As [`Delivery::go_on`].
pub fn lone(core: &Core, put: impl FnOnce(&[u8]) -> Put) -> Option<Put> {
    let (file, wanted, data) = {
        let entries = core.entries.lock();
        let entry = entries.lone()?;
        (entry.file.upgrade()?, entry.wanted(), entry.data)
    };
    // As below.
    fence(SeqCst);
    let ready = file.file().readiness() & wanted;
    if ready.is_empty() {
        return None;
    }
    let put = put(&event(ready, data));
    core.go_on(1, false);
    Some(put)
}

/// The list has not been seen yet.
const UNKNOWN: usize = usize::MAX;
/// Entries that are delivered at once.
const AT_ONCE: usize = 16;
/// Bytes of a `struct epoll_event`, which is packed on x86_64 alone.
pub const EVENT: usize = size_of::<linux::epoll_event>();
/// Where its data stands.
pub const DATA: usize = mem::offset_of!(linux::epoll_event, data);

struct Taken {
    file: Option<Arc<OpenFile>>,
    slot: u32,
    wanted: Readiness,
    data: u64,
    ready: Readiness,
}

impl Taken {
    fn of(slot: u32, entry: &Entry) -> Self {
        Self {
            file: entry.file.upgrade(),
            slot,
            wanted: entry.wanted(),
            data: entry.data,
            ready: Readiness::empty(),
        }
    }
}

impl<'a> Delivery<'a> {
    /// Begins to deliver at most `room` events.
    pub const fn new(core: &'a Core, room: usize) -> Self {
        Self::begin(core, room, false)
    }

    /// As [`Delivery::new`], of which the first [`Delivery::go_on`] does all or nothing.
    pub const fn whole(core: &'a Core, room: usize) -> Self {
        Self::begin(core, room, true)
    }

    const fn begin(core: &'a Core, room: usize, whole: bool) -> Self {
        Self {
            core,
            room,
            found: 0,
            looks: UNKNOWN,
            whole,
            delivered: Chain::EMPTY,
        }
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
            match self.deliver(looks, put)? {
                Some(looked_at) => looks -= looked_at,
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Takes some entries, `most` at most, and delivers those that are ready; how many it has looked at. `None` if
    /// that would leave some where all are wanted, or none.
    fn deliver(
        &mut self,
        most: usize,
        put: &mut impl FnMut(u64, &[u8]) -> Put,
    ) -> core::result::Result<Option<usize>, UserFault> {
        let mut taken: ArrayVec<Taken, AT_ONCE> = ArrayVec::new();
        {
            let mut entries = self.core.entries.lock();
            if self.looks == UNKNOWN {
                self.looks = entries.listed();
                if self.whole && self.looks > most {
                    return Ok(None);
                }
            }
            let count = AT_ONCE.min(self.looks).min(self.room).min(most);
            while taken.len() < count
                && let Some(first) = entries.take(Taken::of)
            {
                taken.push(first);
            }
            // Fewer are there if others have taken them.
            self.looks = if taken.len() < count { 0 } else { self.looks - count };
        }
        if taken.is_empty() {
            return Ok(Some(0));
        }
        // What is written without a lock is seen, or the writer's wake finds the entry taken.
        fence(SeqCst);
        let mut bytes: ArrayVec<u8, { EVENT * AT_ONCE }> = ArrayVec::new();
        for taken in &mut taken {
            if let Some(file) = &taken.file {
                taken.ready = file.file().readiness() & taken.wanted;
            }
            if !taken.ready.is_empty() {
                // There is room for as many as are taken.
                let _ = bytes.try_extend_from_slice(&event(taken.ready, taken.data));
            }
        }
        let copied = put((self.found * EVENT) as u64, &bytes);
        let ready = bytes.len() / EVENT;
        let delivered = match copied {
            Ok(()) => ready,
            Err(fault) => fault.copied / EVENT,
        };
        self.settle(&taken, ready, delivered);
        copied.map(|()| Some(taken.len()))
    }

    /// Gives back what was taken. Of the `ready` ones the first `delivered` have been delivered.
    fn settle(&mut self, taken: &[Taken], ready: usize, delivered: usize) {
        self.room -= delivered;
        self.found += delivered;
        let over = ready == delivered && self.delivered.is_empty() && (self.room == 0 || self.looks == 0);
        let mut entries = self.core.entries.lock();
        let mut left = delivered;
        for taken in taken {
            if taken.ready.is_empty() {
                entries.was_not_ready(taken.slot);
            } else if left > 0 {
                left -= 1;
                entries.was_delivered(taken.slot, (!over).then_some(&mut self.delivered));
            }
        }
        // The first in front.
        let others = taken.iter().rev().filter(|taken| !taken.ready.is_empty());
        for taken in others.take(ready - delivered) {
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
