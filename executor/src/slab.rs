//! The slab of task headers: type-stable, grown by chunks, never shrunk.
//!
//! A slot number is all a waker carries. Chunks are published once and stay for the life of the machine, so that looking a
//! slot up is two loads and is safe in an interrupt with any number, stale or not. Free slots form a stack whose head
//! carries a tag against re-use (ABA); it is touched by spawning and by the end of tasks only, never by a wake.

#![expect(unsafe_code, reason = "chunks are published by pointer and live for ever")]

use alloc::{boxed::Box, vec::Vec};
use core::panic::Location;

use crate::{
    options::SpawnOptions,
    prim::{
        AtomicPtr, AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed},
        array, const_fn,
    },
    task::{Cell, Header, NONE},
};

/// Slots in a chunk: just under 32 KiB, which is what an allocator by powers of two gives for it.
const CHUNK: usize = if cfg!(loom) { 4 } else { 170 };
/// Most chunks: a quarter of a million tasks.
const CHUNKS: usize = if cfg!(loom) { 1 } else { 2048 };

/// The slab.
pub struct Slab {
    chunks: [AtomicPtr<Header>; CHUNKS],
    /// Tag in the high half, slot in the low half.
    free: AtomicU64,
}

impl Slab {
    const_fn! {
        pub fn new() -> Self {
            Self { chunks: array!(AtomicPtr::new(core::ptr::null_mut())), free: AtomicU64::new(NONE as u64) }
        }
    }

    /// The header of a slot, if its chunk exists.
    pub fn get(&self, slot: u32) -> Option<&Header> {
        let chunk = self.chunks.get(slot as usize / CHUNK)?.load(Acquire);
        if chunk.is_null() {
            return None;
        }
        // SAFETY: a chunk holds CHUNK headers, is published whole, and is freed with the slab only.
        Some(unsafe { &*chunk.add(slot as usize % CHUNK) })
    }

    /// Takes a free slot, growing the slab if there is none; `None` if there is no memory.
    pub fn allocate(&self) -> Option<&Header> {
        loop {
            let head = self.free.load(Acquire);
            let Some(header) = self.get(head as u32) else {
                self.grow()?;
                continue;
            };
            let new = (head >> 32).wrapping_add(1) << 32 | u64::from(header.next.get());
            if self.free.compare_exchange(head, new, AcqRel, Relaxed).is_ok() {
                return Some(header);
            }
        }
    }

    /// Makes a free slot a task, woken and not queued yet; its header and generation. `None`, the future dropped, if there
    /// is no memory.
    pub fn allocate_task(
        &self,
        options: &SpawnOptions<'_>,
        home: u32,
        cell: Cell,
        location: &'static Location<'static>,
    ) -> Option<(&Header, u32)> {
        let task = self.allocate()?;
        // SAFETY: just allocated for this call.
        let generation = unsafe { task.init(options, home, cell, location) };
        Some((task, generation))
    }

    /// Gives a slot back that [`Slab::allocate`] gave and whose generation has been ended.
    pub fn free(&self, header: &Header) {
        let mut head = self.free.load(Relaxed);
        loop {
            header.next.set(head as u32);
            let new = (head >> 32).wrapping_add(1) << 32 | u64::from(header.slot);
            match self.free.compare_exchange(head, new, AcqRel, Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    fn grow(&self) -> Option<()> {
        let index = self.chunks.iter().position(|chunk| chunk.load(Acquire).is_null())?;
        let mut headers = Vec::new();
        headers.try_reserve_exact(CHUNK).ok()?;
        headers.extend((0..CHUNK).map(|n| Header::new((index * CHUNK + n) as u32)));
        let chunk: *mut [Header] = Box::into_raw(headers.into_boxed_slice());
        let published = self.chunks[index]
            .compare_exchange(core::ptr::null_mut(), chunk.cast(), AcqRel, Acquire)
            .is_ok();
        if published {
            // SAFETY: just published; headers are shared by reference only from here on.
            let headers = unsafe { &*chunk };
            headers.iter().rev().for_each(|header| self.free(header));
        } else {
            // SAFETY: nobody else has seen the chunk.
            drop(unsafe { Box::from_raw(chunk) });
        }
        Some(())
    }

    /// Every slot that exists.
    pub fn iter(&self) -> impl Iterator<Item = &Header> {
        (0..(CHUNKS * CHUNK) as u32).map_while(|slot| self.get(slot))
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        for chunk in &self.chunks {
            let chunk = chunk.load(Acquire);
            if !chunk.is_null() {
                // SAFETY: made from a boxed slice of CHUNK headers; `&mut self` says nobody looks any more.
                drop(unsafe { Box::from_raw(core::ptr::slice_from_raw_parts_mut(chunk, CHUNK)) });
            }
        }
    }
}
