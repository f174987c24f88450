//! Room for what a program makes large: growing that can be refused, with `ENOMEM` to follow.
//!
//! The rule of the heap has two halves. What a program can make as large as it likes grows by these methods, or asks
//! [`afford`] first, and fails long before the kernel's own reserve is touched. Everything else (an `Arc`, a node of a
//! tree, a short list) cannot fail, and is small: one call, and one poll of a call that waits, takes at most [`POLL_BOUND`]
//! bytes of it, which debug builds assert; a call begins only while that much is there for every CPU ([`has_room`]).

use alloc::{
    collections::{BinaryHeap, VecDeque},
    string::String,
    vec::Vec,
};
use core::{
    hash::{BuildHasher, Hash},
    sync::atomic::{
        AtomicU32,
        Ordering::{Relaxed, SeqCst},
    },
};

use hal::PAGE_SIZE;

use super::{frame, heap};
use crate::errno::{Errno, Result};

/// Bytes that one call, up to its first wait and from each to the next, may take without a way to fail. The longest lists
/// are those of all processes or threads: eight bytes for each of 32,768.
pub const POLL_BOUND: usize = 512 << 10;

/// Growing that fails rather than use what is kept for allocations which cannot.
pub trait TryRoom {
    /// Room for `additional` more elements.
    ///
    /// # Errors
    /// `ENOMEM`.
    fn try_room(&mut self, additional: usize) -> Result<()>;
}

/// As [`TryRoom`], without room to spare.
pub trait TryRoomExact {
    /// Room for exactly `additional` more elements.
    ///
    /// # Errors
    /// `ENOMEM`.
    fn try_room_exact(&mut self, additional: usize) -> Result<()>;
}

macro_rules! grows {
    ($([$($generics:tt)*] $type:ty;)*) => {$(
        impl<$($generics)*> TryRoom for $type {
            fn try_room(&mut self, additional: usize) -> Result<()> {
                #[expect(clippy::disallowed_methods, reason = "this is the place that it is allowed in")]
                heap::may_fail(|| self.try_reserve(additional)).map_err(|_| Errno::ENOMEM)
            }
        }
    )*};
}

grows! {
    [T] Vec<T>;
    [T] VecDeque<T>;
    [T: Ord] BinaryHeap<T>;
    [] String;
    [A: smallvec::Array] smallvec::SmallVec<A>;
    [K: Eq + Hash, V, S: BuildHasher] hashbrown::HashMap<K, V, S>;
}

impl<T> TryRoomExact for Vec<T> {
    fn try_room_exact(&mut self, additional: usize) -> Result<()> {
        #[expect(clippy::disallowed_methods, reason = "this is the place that it is allowed in")]
        heap::may_fail(|| self.try_reserve_exact(additional)).map_err(|_| Errno::ENOMEM)
    }
}

/// A copy of something a program can make large.
///
/// # Errors
/// `ENOMEM`.
pub fn copy<T: Clone>(from: &[T]) -> Result<Vec<T>> {
    let mut to = Vec::new();
    to.try_room_exact(from.len())?;
    to.extend_from_slice(from);
    Ok(to)
}

/// Asks for `bytes` to be taken, by what has no way to fail, in the rest of this poll.
///
/// # Errors
/// `ENOMEM` if less than that is free beyond the reserve.
pub fn afford(bytes: usize) -> Result<()> {
    let stats = frame::stats();
    if stats.free < stats.reserve.saturating_add(bytes.div_ceil(PAGE_SIZE)) {
        return Err(Errno::ENOMEM);
    }
    heap::credit(bytes);
    Ok(())
}

/// How often some of what is kept for allocations that cannot fail has been taken.
static TAKEN: AtomicU32 = AtomicU32::new(1);
/// How often that was when it was last seen to be whole.
static WHOLE_AT: AtomicU32 = AtomicU32::new(0);

/// Whether what is kept for allocations that cannot fail is whole, so that a call may begin. Restores what it can.
#[inline]
pub fn has_room() -> bool {
    WHOLE_AT.load(Relaxed) == TAKEN.load(Relaxed) || restore()
}

#[cold]
fn restore() -> bool {
    // Whoever takes of it does so first and counts then: what is not seen below is counted later.
    let taken = TAKEN.load(SeqCst);
    let whole = !frame::is_low() && heap::prepare();
    if whole {
        WHOLE_AT.store(taken, SeqCst);
    }
    whole
}

/// Some of what is kept has been taken.
pub(super) fn taken_from() {
    TAKEN.fetch_add(1, SeqCst);
}
