//! Slabs: blocks of frames cut into objects of one size.
//!
//! A slab is 2^order frames, aligned to its size, so that an object's slab is found by masking its address. Its header stands
//! at its start; free objects are chained through their own first word.

#![expect(unsafe_code, reason = "threads lists through free memory")]

use core::{
    ptr::{self, NonNull},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use hal::{PAGE_SIZE, arch::Cpu, traits::CpuOps};

use crate::mm::{
    fallible,
    frame::{self, FrameBlock, Purpose},
};

/// The sizes of objects. Powers of two are aligned to their size, the others to the power of two that divides them, at most
/// to [`HEADER`]. The one above 2048 is for the futures of user threads, which hold their registers.
pub const SIZES: [usize; 15] = [
    16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 2368, 3072,
];

/// How many sizes there are.
pub const CLASSES: usize = SIZES.len();

const HEADER: usize = 64;

/// Frames in slabs.
static FRAMES: AtomicUsize = AtomicUsize::new(0);

/// How many frames stand in slabs, whether their objects are in use or not.
pub fn slab_frames() -> usize {
    FRAMES.load(Relaxed)
}

/// The class for an allocation, or `None` where it is too large for slabs.
pub fn class_of(size: usize, align: usize) -> Option<usize> {
    let fits = |class: usize| {
        SIZES[class] >= size && SIZES[class].is_multiple_of(align) && first_object(class).is_multiple_of(align)
    };
    (0..CLASSES).find(|class| fits(*class))
}

const fn order_of(class: usize) -> u8 {
    match SIZES[class] {
        ..=128 => 0,
        129..=512 => 1,
        513..=1024 => 2,
        1025..=2048 => 3,
        _ => 4,
    }
}

const fn slab_bytes(class: usize) -> usize {
    PAGE_SIZE << order_of(class)
}

const fn first_object(class: usize) -> usize {
    let size = SIZES[class];
    if size.is_power_of_two() && size > HEADER {
        size
    } else {
        HEADER
    }
}

/// Objects in one slab of a class.
pub const fn capacity(class: usize) -> usize {
    (slab_bytes(class) - first_object(class)) / SIZES[class]
}

#[repr(C)]
struct Header {
    next: *mut Header,
    previous: *mut Header,
    free: *mut Object,
    used: usize,
}

const _: () = assert!(size_of::<Header>() <= HEADER);

struct Object {
    next: *mut Object,
}

/// The slabs of one class that have a free object. Full slabs stand in no list; they come back with their first free.
///
/// At most one wholly free slab is kept; others go back to the frame allocator.
pub struct Slabs {
    class: usize,
    partial: *mut Header,
    spare: *mut Header,
    /// A wholly free slab for allocations that cannot fail, when there are no frames, or none that are contiguous.
    kept: *mut Header,
}

// SAFETY: the pointers lead to slabs that belong to this list alone; whoever has the list has them.
unsafe impl Send for Slabs {}

impl Slabs {
    /// No slabs of a class.
    pub const fn new(class: usize) -> Self {
        Self {
            class,
            partial: ptr::null_mut(),
            spare: ptr::null_mut(),
            kept: ptr::null_mut(),
        }
    }

    /// Takes an object; `None` when memory is exhausted. For [`Purpose::Kernel`] the slab that is kept may be used.
    pub fn allocate(&mut self, purpose: Purpose) -> Option<NonNull<u8>> {
        if self.partial.is_null() {
            let slab = match self.spare.is_null() {
                false => core::mem::replace(&mut self.spare, ptr::null_mut()),
                true => self.make(purpose).or_else(|| self.take_kept(purpose))?,
            };
            // SAFETY: a slab of this class that stands in no list.
            unsafe { self.link(slab) };
        }
        let slab = self.partial;
        // SAFETY: slabs in `partial` are alive and have a free object.
        unsafe {
            let object = (*slab).free;
            (*slab).free = (*object).next;
            (*slab).used += 1;
            if (*slab).free.is_null() {
                self.unlink(slab);
            }
            NonNull::new(object.cast())
        }
    }

    /// Gives an object back.
    ///
    /// # Safety
    /// `object` came from [`Slabs::allocate`] of this class and is not used any more.
    pub unsafe fn free(&mut self, object: NonNull<u8>) {
        let object = object.as_ptr().cast::<Object>();
        let slab = object
            .map_addr(|address| address & !(slab_bytes(self.class) - 1))
            .cast::<Header>();
        // SAFETY: the object's slab is alive, as it still holds the object.
        unsafe {
            let was_full = (*slab).free.is_null();
            (*object).next = (*slab).free;
            (*slab).free = object;
            (*slab).used -= 1;
            if was_full {
                self.link(slab);
            }
            if (*slab).used == 0 {
                self.unlink(slab);
                self.retire(slab);
            }
        }
    }

    /// Gives the spare slab back.
    pub fn trim(&mut self) {
        let spare = core::mem::replace(&mut self.spare, ptr::null_mut());
        if !spare.is_null() {
            // SAFETY: nobody else knows the spare slab.
            unsafe { release(spare, order_of(self.class)) };
        }
    }

    fn take_kept(&mut self, purpose: Purpose) -> Option<*mut Header> {
        let kept = (purpose == Purpose::Kernel).then_some(&mut self.kept)?;
        let slab = core::mem::replace(kept, ptr::null_mut());
        if slab.is_null() {
            return None;
        }
        fallible::taken_from();
        Some(slab)
    }

    /// Sees to it that a slab is kept; false if there is no memory for it.
    pub fn keep(&mut self) -> bool {
        if self.kept.is_null() {
            self.kept = match self.spare.is_null() {
                false => core::mem::replace(&mut self.spare, ptr::null_mut()),
                true => self.make(Purpose::KernelMay).unwrap_or(ptr::null_mut()),
            };
        }
        !self.kept.is_null()
    }

    fn make(&self, purpose: Purpose) -> Option<*mut Header> {
        let block = frame::allocate_order(order_of(self.class), purpose).ok()?;
        FRAMES.fetch_add(block.len() / PAGE_SIZE, Relaxed);
        let start = Cpu::phys_to_virt(block.into_raw());
        let size = SIZES[self.class];
        let mut free = ptr::null_mut();
        for index in (0..capacity(self.class)).rev() {
            // SAFETY: within the block just taken; objects are aligned for a pointer.
            unsafe {
                let object = start.add(first_object(self.class) + index * size).cast::<Object>();
                object.write(Object { next: free });
                free = object;
            }
        }
        let slab = start.cast::<Header>();
        // SAFETY: the block is page-aligned and larger than a header, which the objects leave alone.
        unsafe {
            slab.write(Header {
                next: ptr::null_mut(),
                previous: ptr::null_mut(),
                free,
                used: 0,
            })
        };
        Some(slab)
    }

    // Keeps one spare, gives others back. Safety: `slab` is wholly free and in no list.
    unsafe fn retire(&mut self, slab: *mut Header) {
        if self.spare.is_null() {
            self.spare = slab;
        } else {
            // SAFETY: as promised.
            unsafe { release(slab, order_of(self.class)) };
        }
    }

    // Safety: `slab` is alive and in no list.
    unsafe fn link(&mut self, slab: *mut Header) {
        // SAFETY: as promised; the list's head is alive.
        unsafe {
            (*slab).previous = ptr::null_mut();
            (*slab).next = self.partial;
            if !self.partial.is_null() {
                (*self.partial).previous = slab;
            }
        }
        self.partial = slab;
    }

    // Safety: `slab` is in the list.
    unsafe fn unlink(&mut self, slab: *mut Header) {
        // SAFETY: neighbours in the list are alive.
        unsafe {
            let (next, previous) = ((*slab).next, (*slab).previous);
            match previous.is_null() {
                true => self.partial = next,
                false => (*previous).next = next,
            }
            if !next.is_null() {
                (*next).previous = previous;
            }
        }
    }
}

// Safety: `slab` is a block of this order that nobody uses any more.
unsafe fn release(slab: *mut Header, order: u8) {
    let physical = super::to_physical(slab.cast());
    FRAMES.fetch_sub(1 << order, Relaxed);
    // SAFETY: the block was given up by `into_raw` in `make`.
    drop(unsafe { FrameBlock::from_raw(physical, order) });
}
