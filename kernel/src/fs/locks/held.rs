//! What is held of one file, and who waits for it.

use core::task::Waker;

use smallvec::SmallVec;

use super::{Key, Lock, Owner};
use crate::{
    errno::{Errno, Result},
    mm::fallible::TryRoom,
};

/// One who waits.
struct Waiter {
    number: u64,
    wanted: Lock,
    waker: Waker,
    /// Whether it was woken and has not tried again since.
    woken: bool,
}

/// What became of [`FileLocks::take`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// Whether the lock is held now.
    pub taken: bool,
    /// Whether others may go on, because something that the owner held is no longer held, or not as it was.
    pub freed: bool,
}

/// The locks of one file. Ranges of one owner do not overlap, and do not touch where they are of one kind.
pub(super) struct FileLocks {
    /// The file; `None` for a record of none.
    pub key: Option<Key>,
    /// Room for one and for what [`FileLocks::cut`] may need beside it, without allocation.
    held: SmallVec<[Lock; 3]>,
    /// In order of arrival.
    waiters: SmallVec<[Waiter; 1]>,
}

impl FileLocks {
    pub fn new() -> Self {
        Self {
            key: None,
            held: SmallVec::new(),
            waiters: SmallVec::new(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.held.is_empty() && self.waiters.is_empty()
    }

    /// Makes it a record of no file, without memory of its own.
    pub fn clear(&mut self) {
        self.key = None;
        if self.held.spilled() || self.waiters.spilled() {
            *self = Self::new();
        }
    }

    /// What stands in the way of `wanted`.
    pub fn conflicts<'a>(&'a self, wanted: &'a Lock) -> impl Iterator<Item = &'a Lock> {
        self.held.iter().filter(|held| held.conflicts(wanted))
    }

    /// Takes `wanted` in place of what its owner held there, if nothing stands in the way.
    ///
    /// # Errors
    /// `ENOLCK` without memory.
    pub fn take(&mut self, wanted: &Lock) -> Result<Taken> {
        let mut freed = false;
        if wanted.owner.is_flock() {
            // Changing its kind is letting go and taking anew: two who share it and both want it alone do not wait for each
            // other.
            if self.held.contains(wanted) {
                return Ok(Taken { taken: true, freed });
            }
            freed = self.cut(wanted)?;
        }
        if self.conflicts(wanted).next().is_some() {
            return Ok(Taken { taken: false, freed });
        }
        freed |= self.cut(wanted)?;
        self.insert(*wanted);
        Ok(Taken { taken: true, freed })
    }

    /// Adds what nothing of its owner's overlaps, joined with what it touches. There is room.
    fn insert(&mut self, mut new: Lock) {
        self.held.retain(|held| {
            let joins =
                held.owner == new.owner && held.kind == new.kind && (held.end == new.start || new.end == held.start);
            if joins {
                new.start = new.start.min(held.start);
                new.end = new.end.max(held.end);
            }
            !joins
        });
        self.held.push(new);
    }

    /// Takes `range` out of what its owner holds, and makes room for one more; whether there was anything.
    ///
    /// # Errors
    /// `ENOLCK` without memory; nothing has changed.
    pub fn cut(&mut self, range: &Lock) -> Result<bool> {
        // One end of what is cut in the middle, and the lock in its place.
        self.held.try_room(2).map_err(|_| Errno::ENOLCK)?;
        let mut changed = false;
        let mut rest = None;
        self.held.retain(|held| {
            if held.owner != range.owner || !held.overlaps(range) {
                return true;
            }
            changed = true;
            let before = held.start < range.start;
            if range.end < held.end {
                let after = Lock {
                    start: range.end,
                    ..*held
                };
                if !before {
                    *held = after;
                    return true;
                }
                rest = Some(after);
            }
            held.end = range.start;
            before
        });
        self.held.extend(rest);
        Ok(changed)
    }

    /// Takes away all that the owners hold for whom `goes`; whether there was anything.
    pub fn remove(&mut self, goes: impl Fn(Owner) -> bool) -> bool {
        let before = self.held.len();
        self.held.retain(|held| !goes(held.owner));
        self.held.len() != before
    }

    /// Enters a waiter, under a number of its own.
    ///
    /// # Errors
    /// `ENOLCK` without memory.
    pub fn wait(&mut self, number: u64, wanted: Lock, waker: Waker) -> Result<()> {
        self.waiters.try_room(1).map_err(|_| Errno::ENOLCK)?;
        self.waiters.push(Waiter {
            number,
            wanted,
            waker,
            woken: false,
        });
        Ok(())
    }

    /// A waiter looks again: if it was woken, it tries. The first: what became of it, once it is no longer one. The second:
    /// whether others are to be looked at ([`FileLocks::wake_one`]).
    pub fn retry(&mut self, number: u64, waker: &Waker) -> (Option<Result<()>>, bool) {
        let Some(at) = self.position(number) else {
            debug_assert!(false, "a waiter that is in no line");
            return (Some(Err(Errno::ENOLCK)), false);
        };
        let waiter = &mut self.waiters[at];
        if !waiter.waker.will_wake(waker) {
            waiter.waker = waker.clone();
        }
        if !core::mem::take(&mut waiter.woken) {
            return (None, false);
        }
        let wanted = waiter.wanted;
        let (result, others) = match self.take(&wanted) {
            // Somebody was faster. Whoever was not woken for this waiter's sake may not stand in that one's way.
            Ok(Taken { taken: false, .. }) => return (None, true),
            Ok(Taken { freed, .. }) => (Ok(()), freed),
            Err(errno) => (Err(errno), true),
        };
        self.waiters.remove(at);
        (Some(result), others)
    }

    /// Takes a waiter out; whether others are to be looked at.
    pub fn leave(&mut self, number: u64) -> bool {
        self.position(number).is_some_and(|at| self.waiters.remove(at).woken)
    }

    fn position(&self, number: u64) -> Option<usize> {
        self.waiters.iter().position(|waiter| waiter.number == number)
    }

    /// The first who waits for what is free and was not woken yet, nor anybody whom it would exclude: the waker to wake, and
    /// whether there are others to be looked at.
    pub fn wake_one(&mut self) -> Option<(Waker, bool)> {
        let at = (0..self.waiters.len()).find(|&at| {
            let waiter = &self.waiters[at];
            !waiter.woken
                && self.conflicts(&waiter.wanted).next().is_none()
                && !self
                    .waiters
                    .iter()
                    .any(|other| other.woken && other.wanted.conflicts(&waiter.wanted))
        })?;
        let waiter = &mut self.waiters[at];
        waiter.woken = true;
        let waker = waiter.waker.clone();
        Some((waker, self.waiters.iter().any(|waiter| !waiter.woken)))
    }
}
