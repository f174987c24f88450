//! Type-stable slabs: of tasks and of timer entries. Grown by chunks, never shrunk.
//!
//! A slot number is all that a waker or a sleeping future carries. Chunks are published once and stay for the life of the
//! machine, so that looking a slot up is two loads and is safe in an interrupt with any number, stale or not.
//!
//! A slot has two parts, which stand in two arrays of its chunk: what every wake touches, packed densely, so that the wakes
//! of many tasks find it in a cache; and the rest. A number is the chunk's, from 1 on, in the high bits, and below it the index,
//! which does not reach the next power of two: a chunk fills its block of memory, whose size is one.
//!
//! Free slots stand on a list of the CPU that freed them last ([`Cache`]), which costs no atomic operation, and beyond
//! [`CACHED`] on one common stack, whose head carries a tag against re-use (ABA). They go there and come back in batches, an
//! atomic operation each. Neither is touched by a wake.

#![expect(unsafe_code, reason = "chunks are published by pointer and live for ever")]

use alloc::alloc::{alloc, dealloc};
use core::{
    alloc::Layout,
    ops::Deref,
    ptr::{self, NonNull},
};

use crate::{
    prim::{
        AtomicPtr, AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed},
        OwnedU32, array, const_fn,
    },
    task::NONE,
};

/// Bytes of a chunk, at most.
const CHUNK_BYTES: usize = 128 << 10;
/// Most chunks.
const CHUNKS: usize = if cfg!(loom) { 2 } else { 4096 };
/// Free slots that a CPU keeps to itself.
const CACHED: u32 = 128;
/// Free slots that move between a CPU and the common stack at once.
const BATCH: u32 = CACHED / 4;

/// What a slab holds.
pub trait Slot: Sized {
    /// The part that is not packed.
    type Rest;
    /// A slot, found by its number.
    type Ref<'a>: Copy
    where
        Self: 'a;

    /// A free slot of this number.
    fn new(number: u32) -> (Self, Self::Rest);
    /// The slot of this number.
    ///
    /// # Safety
    /// `slot` was found under `number` in a slab that outlives `'a`.
    unsafe fn at<'a>(number: u32, slot: NonNull<Self>) -> Self::Ref<'a>
    where
        Self: 'a;
    /// Its number.
    fn number(slot: Self::Ref<'_>) -> u32;
    /// The link of the lists of free slots; the slot's owner's otherwise.
    fn link<'a>(slot: Self::Ref<'a>) -> &'a OwnedU32
    where
        Self: 'a;
}

/// What a slab holds that has no other part.
pub trait Whole: Sized {
    /// A free slot.
    fn new() -> Self;
    /// As [`Slot::link`].
    fn link(&self) -> &OwnedU32;
}

/// A slot without another part, found by its number; it derefs to what it is.
pub struct Found<'a, T> {
    /// Its number.
    pub number: u32,
    slot: &'a T,
}

impl<T> Clone for Found<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Found<'_, T> {}

impl<T> Deref for Found<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.slot
    }
}

impl<T: Whole> Slot for T {
    type Rest = ();
    type Ref<'a>
        = Found<'a, T>
    where
        T: 'a;

    fn new(_: u32) -> (Self, ()) {
        (Whole::new(), ())
    }

    #[inline]
    unsafe fn at<'a>(number: u32, slot: NonNull<Self>) -> Found<'a, T>
    where
        Self: 'a,
    {
        // SAFETY: by this function's contract; shared by reference only.
        let slot = unsafe { slot.as_ref() };
        Found { number, slot }
    }

    #[inline]
    fn number(slot: Found<'_, T>) -> u32 {
        slot.number
    }

    #[inline]
    fn link<'a>(slot: Found<'a, T>) -> &'a OwnedU32
    where
        Self: 'a,
    {
        Whole::link(slot.slot)
    }
}

/// Slots in a chunk of `T`.
const fn capacity<T: Slot>() -> usize {
    if cfg!(loom) {
        4
    } else {
        CHUNK_BYTES / (size_of::<T>() + size_of::<T::Rest>())
    }
}

/// By how many bits the chunk's number is shifted.
const fn shift<T: Slot>() -> u32 {
    capacity::<T>().next_power_of_two().trailing_zeros()
}

/// The slab.
pub struct Slab<T: Slot> {
    chunks: [AtomicPtr<T>; CHUNKS],
    /// Tag in the high half, slot in the low half.
    free: AtomicU64,
}

/// Free slots of one CPU; used by that CPU in task context only. The last one's link means nothing.
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
    const CAPACITY: usize = capacity::<T>();
    const SHIFT: u32 = shift::<T>();
    /// Where in a chunk the other array begins, and the chunk's layout.
    const PARTS: (usize, Layout) = {
        let (Ok(slots), Ok(rest)) = (
            Layout::array::<T>(Self::CAPACITY),
            Layout::array::<T::Rest>(Self::CAPACITY),
        ) else {
            panic!("a chunk is small");
        };
        match slots.extend(rest) {
            Ok((layout, offset)) => (offset, layout),
            Err(_) => panic!("a chunk is small"),
        }
    };

    const_fn! {
        pub fn new() -> Self {
            Self { chunks: array!(AtomicPtr::new(core::ptr::null_mut())), free: AtomicU64::new(NONE as u64) }
        }
    }

    /// The slot of a number, if there is one.
    #[inline]
    pub fn get(&self, number: u32) -> Option<T::Ref<'_>> {
        let index = number as usize & ((1 << Self::SHIFT) - 1);
        let chunk = (number as usize >> Self::SHIFT).wrapping_sub(1);
        let chunk = self.chunks.get(chunk)?.load(Acquire);
        if chunk.is_null() || index >= Self::CAPACITY {
            return None;
        }
        // SAFETY: a chunk holds CAPACITY slots, is published whole, and is freed with the slab only.
        Some(unsafe { T::at(number, NonNull::new_unchecked(chunk.add(index))) })
    }

    /// The other part of a slot.
    ///
    /// # Safety
    /// `slot` was found under `number` in a slab, or is that of a chunk in the making.
    #[inline]
    pub const unsafe fn rest(number: u32, slot: NonNull<T>) -> NonNull<T::Rest> {
        let index = number as usize & ((1 << Self::SHIFT) - 1);
        let difference = size_of::<T::Rest>() as isize - size_of::<T>() as isize;
        let offset = Self::PARTS.0 as isize + index as isize * difference;
        // SAFETY: from the slot back to its chunk, and on to the other array, by the chunk's layout.
        unsafe { slot.byte_offset(offset).cast() }
    }

    /// Takes a free slot, growing the slab if there is none; `None` if there is no memory. `cache` is the calling CPU's.
    #[inline]
    pub fn allocate(&self, cache: Option<&Cache>) -> Option<T::Ref<'_>> {
        let Some(cache) = cache else {
            return self.allocate_common(1).map(|(slot, _)| slot);
        };
        let length = cache.length.get();
        if length == 0 {
            return self.refill(cache);
        }
        let slot = self.get(cache.head.get())?;
        cache.head.set(T::link(slot).get());
        cache.length.set(length - 1);
        Some(slot)
    }

    #[cold]
    fn refill(&self, cache: &Cache) -> Option<T::Ref<'_>> {
        let (first, count) = self.allocate_common(BATCH)?;
        cache.head.set(T::link(first).get());
        cache.length.set(count - 1);
        Some(first)
    }

    /// Takes up to `most` slots from the common stack, linked: the first, and how many. The last one's link is to be ignored.
    #[cold]
    fn allocate_common(&self, most: u32) -> Option<(T::Ref<'_>, u32)> {
        loop {
            let head = self.free.load(Acquire);
            let Some(first) = self.get(head as u32) else {
                self.grow()?;
                continue;
            };
            // If anybody changes the stack meanwhile, what is read here is nonsense, and the tag has changed.
            let (mut next, mut count) = (T::link(first).get(), 1);
            while count < most
                && let Some(slot) = self.get(next)
            {
                next = T::link(slot).get();
                count += 1;
            }
            let new = (head >> 32).wrapping_add(1) << 32 | u64::from(next);
            if self.free.compare_exchange(head, new, AcqRel, Relaxed).is_ok() {
                return Some((first, count));
            }
        }
    }

    /// Gives a slot back that [`Slab::allocate`] gave and whose generation has been ended. `cache` is the calling CPU's.
    #[inline]
    pub fn free(&self, slot: T::Ref<'_>, cache: Option<&Cache>) {
        let Some(cache) = cache else {
            return self.free_common(slot, slot);
        };
        if cache.length.get() == CACHED {
            self.spill(cache, BATCH);
        }
        T::link(slot).set(cache.head.get());
        cache.head.set(T::number(slot));
        cache.length.set(cache.length.get() + 1);
    }

    /// Gives back what a CPU keeps to itself, by that CPU.
    pub fn empty(&self, cache: &Cache) {
        self.spill(cache, cache.length.get());
    }

    /// Moves so many of a CPU's slots to the common stack.
    #[cold]
    fn spill(&self, cache: &Cache, count: u32) {
        let Some(first) = self.get(cache.head.get()).filter(|_| count > 0) else {
            return;
        };
        let mut last = first;
        for _ in 1..count {
            let Some(next) = self.get(T::link(last).get()) else {
                break;
            };
            last = next;
        }
        cache.head.set(T::link(last).get());
        cache.length.set(cache.length.get() - count);
        self.free_common(first, last);
    }

    /// Puts slots, linked from the first to the last, on the common stack.
    fn free_common(&self, first: T::Ref<'_>, last: T::Ref<'_>) {
        let mut head = self.free.load(Relaxed);
        loop {
            T::link(last).set(head as u32);
            let new = (head >> 32).wrapping_add(1) << 32 | u64::from(T::number(first));
            match self.free.compare_exchange(head, new, AcqRel, Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    fn grow(&self) -> Option<()> {
        let number = self.chunks.iter().position(|chunk| chunk.load(Acquire).is_null())?;
        let slots = (0..Self::CAPACITY).map(|index| ((number + 1) << Self::SHIFT | index) as u32);
        // SAFETY: a chunk is larger than nothing.
        let chunk = NonNull::new(unsafe { alloc(Self::PARTS.1) })?.cast::<T>();
        for (index, number) in slots.clone().enumerate() {
            let (slot, rest) = T::new(number);
            // SAFETY: within the chunk, by its layout; nobody else has seen it.
            unsafe {
                let place = chunk.add(index);
                place.write(slot);
                Self::rest(number, place).write(rest);
            }
        }
        let published = self.chunks[number]
            .compare_exchange(ptr::null_mut(), chunk.as_ptr(), AcqRel, Acquire)
            .is_ok();
        if published {
            let ends = (slots.clone().next(), slots.clone().next_back());
            let linked = slots.clone().zip(slots.skip(1));
            for (slot, next) in linked {
                if let Some(slot) = self.get(slot) {
                    T::link(slot).set(next);
                }
            }
            if let (Some(first), Some(last)) = ends
                && let (Some(first), Some(last)) = (self.get(first), self.get(last))
            {
                self.free_common(first, last);
            }
        } else {
            // SAFETY: made just now, and nobody else has seen it.
            unsafe { Self::drop_chunk(chunk) };
        }
        Some(())
    }

    /// # Safety
    /// The chunk was made by [`Slab::grow`], and nobody looks at it any more.
    unsafe fn drop_chunk(chunk: NonNull<T>) {
        // SAFETY: by this function's contract; both arrays are whole.
        unsafe {
            let rest = Self::rest(0, chunk);
            NonNull::slice_from_raw_parts(chunk, Self::CAPACITY).drop_in_place();
            NonNull::slice_from_raw_parts(rest, Self::CAPACITY).drop_in_place();
            dealloc(chunk.as_ptr().cast(), Self::PARTS.1);
        }
    }

    /// Every slot that exists.
    pub fn iter(&self) -> impl Iterator<Item = T::Ref<'_>> {
        (0..CHUNKS)
            .take_while(|chunk| !self.chunks[*chunk].load(Acquire).is_null())
            .flat_map(|chunk| (0..Self::CAPACITY).map(move |index| ((chunk + 1) << Self::SHIFT | index) as u32))
            .filter_map(|number| self.get(number))
    }
}

impl<T: Slot> Drop for Slab<T> {
    fn drop(&mut self) {
        for chunk in &self.chunks {
            if let Some(chunk) = NonNull::new(chunk.load(Acquire)) {
                // SAFETY: made by `grow`; `&mut self` says nobody looks any more.
                unsafe { Self::drop_chunk(chunk) };
            }
        }
    }
}
