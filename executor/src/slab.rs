//! Type-stable slabs: of task headers and of timer entries. Grown by chunks, never shrunk.
//!
//! A slot number is all that a waker or a sleeping future carries. Chunks are published once and stay for the life of the
//! machine, so that looking a slot up is two loads and is safe in an interrupt with any number, stale or not.
//!
//! Free slots stand on a list of the CPU that freed them last ([`Cache`]), which costs no atomic operation, and beyond
//! [`CACHED`] on one common stack, whose head carries a tag against re-use (ABA). Neither is touched by a wake.

#![expect(unsafe_code, reason = "chunks are published by pointer and live for ever")]

use alloc::{boxed::Box, vec::Vec};

use crate::{
    prim::{
        AtomicPtr, AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed},
        OwnedU32, array, const_fn,
    },
    task::NONE,
};

/// Slots in a chunk.
const CHUNK: usize = if cfg!(loom) { 4 } else { 256 };
/// Most chunks: two million slots.
const CHUNKS: usize = if cfg!(loom) { 2 } else { 8192 };
/// Free slots that a CPU keeps to itself.
const CACHED: u32 = 64;

/// What a slab holds.
pub trait Slot {
    /// A free slot of this number.
    fn new(slot: u32) -> Self;
    /// Its number.
    fn slot(&self) -> u32;
    /// The link of the lists of free slots; the slot's owner's otherwise.
    fn next(&self) -> &OwnedU32;
}

/// The slab.
pub struct Slab<T> {
    chunks: [AtomicPtr<T>; CHUNKS],
    /// Tag in the high half, slot in the low half.
    free: AtomicU64,
}

/// Free slots of one CPU; used by that CPU in task context only.
pub struct Cache {
    head: OwnedU32,
    length: OwnedU32,
}

impl Cache {
    pub const fn new() -> Self {
        Self {
            head: OwnedU32::new(NONE),
            length: OwnedU32::new(0),
        }
    }
}

impl<T: Slot> Slab<T> {
    const_fn! {
        pub fn new() -> Self {
            Self { chunks: array!(AtomicPtr::new(core::ptr::null_mut())), free: AtomicU64::new(NONE as u64) }
        }
    }

    /// The slot of a number, if its chunk exists.
    #[inline]
    pub fn get(&self, slot: u32) -> Option<&T> {
        let chunk = self.chunks.get(slot as usize / CHUNK)?.load(Acquire);
        if chunk.is_null() {
            return None;
        }
        // SAFETY: a chunk holds CHUNK slots, is published whole, and is freed with the slab only.
        Some(unsafe { &*chunk.add(slot as usize % CHUNK) })
    }

    /// Takes a free slot, growing the slab if there is none; `None` if there is no memory. `cache` is the calling CPU's.
    #[inline]
    pub fn allocate(&self, cache: Option<&Cache>) -> Option<&T> {
        if let Some(cache) = cache
            && let Some(slot) = self.get(cache.head.get())
        {
            cache.head.set(slot.next().get());
            cache.length.set(cache.length.get().wrapping_sub(1));
            return Some(slot);
        }
        self.allocate_common()
    }

    #[cold]
    fn allocate_common(&self) -> Option<&T> {
        loop {
            let head = self.free.load(Acquire);
            let Some(slot) = self.get(head as u32) else {
                self.grow()?;
                continue;
            };
            let new = (head >> 32).wrapping_add(1) << 32 | u64::from(slot.next().get());
            if self.free.compare_exchange(head, new, AcqRel, Relaxed).is_ok() {
                return Some(slot);
            }
        }
    }

    /// Gives a slot back that [`Slab::allocate`] gave and whose generation has been ended. `cache` is the calling CPU's.
    #[inline]
    pub fn free(&self, slot: &T, cache: Option<&Cache>) {
        if let Some(cache) = cache
            && cache.length.get() < CACHED
        {
            slot.next().set(cache.head.get());
            cache.head.set(slot.slot());
            cache.length.set(cache.length.get() + 1);
            return;
        }
        self.free_common(slot);
    }

    fn free_common(&self, slot: &T) {
        let mut head = self.free.load(Relaxed);
        loop {
            slot.next().set(head as u32);
            let new = (head >> 32).wrapping_add(1) << 32 | u64::from(slot.slot());
            match self.free.compare_exchange(head, new, AcqRel, Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    fn grow(&self) -> Option<()> {
        let index = self.chunks.iter().position(|chunk| chunk.load(Acquire).is_null())?;
        let mut slots = Vec::new();
        slots.try_reserve_exact(CHUNK).ok()?;
        slots.extend((0..CHUNK).map(|n| T::new((index * CHUNK + n) as u32)));
        let chunk: *mut [T] = Box::into_raw(slots.into_boxed_slice());
        let published = self.chunks[index]
            .compare_exchange(core::ptr::null_mut(), chunk.cast(), AcqRel, Acquire)
            .is_ok();
        if published {
            // SAFETY: just published; slots are shared by reference only from here on.
            let slots = unsafe { &*chunk };
            slots.iter().rev().for_each(|slot| self.free_common(slot));
        } else {
            // SAFETY: nobody else has seen the chunk.
            drop(unsafe { Box::from_raw(chunk) });
        }
        Some(())
    }

    /// Every slot that exists.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        (0..(CHUNKS * CHUNK) as u32).map_while(|slot| self.get(slot))
    }
}

impl<T> Drop for Slab<T> {
    fn drop(&mut self) {
        for chunk in &self.chunks {
            let chunk = chunk.load(Acquire);
            if !chunk.is_null() {
                // SAFETY: made from a boxed slice of CHUNK slots; `&mut self` says nobody looks any more.
                drop(unsafe { Box::from_raw(core::ptr::slice_from_raw_parts_mut(chunk, CHUNK)) });
            }
        }
    }
}
