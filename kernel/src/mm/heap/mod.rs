//! The kernel's heap: the global allocator of the bare-metal image.
//!
//! Up to 2 KiB an allocation is an object of a [`slab`]; above, it is a block of frames of the next order. In front of the
//! slabs each CPU keeps a few objects of each size, so that most calls touch nothing that other CPUs touch.
//!
//! What is cached is bounded: [`CACHED`] objects a size and CPU, one spare slab a size. [`trim`] gives all of it back, and is
//! called before a user allocation is refused.
//!
//! **Failure.** Rust panics where a small allocation fails, so such allocations must not: they may take the frames that
//! all others leave alone ([`Purpose::Kernel`]), and when those are gone or in pieces, a slab of each size that is kept for
//! them ([`prepare`]). Where a program decides how large an allocation gets, the code says so ([`may_fail`], by way of
//! [`fallible`](super::fallible)) and answers `ENOMEM`.
//!
//! Neither allocating nor freeing is possible in interrupt context (invariant I1; see [`tally`]).

#![expect(unsafe_code, reason = "implements GlobalAlloc")]

mod slab;

use core::{
    alloc::{GlobalAlloc, Layout},
    ptr::{self, NonNull},
};

use arrayvec::ArrayVec;
use hal::{
    MAX_CPUS, PAGE_SIZE,
    addr::PhysAddr,
    arch::{Cpu, PerCpu},
    traits::{CpuOps, PerCpuOps},
};
pub use slab::slab_frames;
use slab::{CLASSES, SIZES, Slabs, class_of};

use super::frame::{self, FrameBlock, MAX_ORDER, Purpose};
use crate::{
    sync::{Rank, SpinLock},
    tally,
};

/// Objects of one size that one CPU keeps at most.
pub const CACHED: usize = 16;

struct Object(NonNull<u8>);

// SAFETY: a free object belongs to whoever has the pointer.
unsafe impl Send for Object {}

type Cache = [ArrayVec<Object, CACHED>; CLASSES];

static CACHES: [SpinLock<Cache>; MAX_CPUS] =
    [const { SpinLock::new(Rank::Heap, [const { ArrayVec::new_const() }; CLASSES]) }; MAX_CPUS];

static SLABS: [SpinLock<Slabs>; CLASSES] = {
    let mut slabs = [const { SpinLock::new(Rank::HeapBacking, Slabs::new(0)) }; CLASSES];
    let mut class = 1;
    while class < CLASSES {
        slabs[class] = SpinLock::new(Rank::HeapBacking, Slabs::new(class));
        class += 1;
    }
    slabs
};

/// The allocator, for `#[global_allocator]`. It has no state of its own; all of them are the same heap.
pub struct KernelHeap;

// SAFETY: objects and blocks are handed out to one caller at a time, as large and as aligned as asked for, and stay until they
// are given back.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        tally::allocating();
        account::taken(layout.size());
        let class = class_of(layout.size(), layout.align());
        let pointer = match class {
            Some(class) => allocate_small(class),
            None => allocate_large(layout),
        };
        if !pointer.is_null() {
            tally::heap_allocated(room(class, layout));
        }
        pointer
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        tally::freeing();
        account::given(layout.size());
        let Some(object) = NonNull::new(pointer) else { return };
        let class = class_of(layout.size(), layout.align());
        tally::heap_freed(room(class, layout));
        match class {
            Some(class) => free_small(class, object),
            None => {
                let Some(order) = order_of(layout) else { return };
                // SAFETY: `allocate_large` gave this block up for the same layout.
                drop(unsafe { FrameBlock::from_raw(to_physical(pointer), order) });
            }
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let Ok(new_layout) = Layout::from_size_align(new_size, layout.align()) else {
            return ptr::null_mut();
        };
        let stays = match (
            class_of(layout.size(), layout.align()),
            class_of(new_size, layout.align()),
        ) {
            (Some(old), Some(new)) => old == new,
            (None, None) => order_of(layout) == order_of(new_layout),
            _ => false,
        };
        if stays {
            return pointer;
        }
        // SAFETY: the layout is valid and not empty, as the caller promises for `new_size`.
        let new = unsafe { self.alloc(new_layout) };
        if !new.is_null() {
            // SAFETY: both are at least that long, and different allocations; the old one is given up.
            unsafe {
                ptr::copy_nonoverlapping(pointer, new, layout.size().min(new_size));
                self.dealloc(pointer, layout);
            }
        }
        new
    }
}

fn allocate_small(class: usize) -> *mut u8 {
    let purpose = account::purpose();
    let mut cache = CACHES[PerCpu::cpu_id() as usize].lock();
    let cache = &mut cache[class];
    if cache.is_empty() {
        let mut slabs = SLABS[class].lock();
        while cache.len() < CACHED / 2 {
            // Not more than one of those that are kept for the worst case.
            let purpose = if cache.is_empty() { purpose } else { Purpose::KernelMay };
            let Some(object) = slabs.allocate(purpose) else {
                break;
            };
            cache.push(Object(object));
        }
    }
    cache.pop().map_or(ptr::null_mut(), |object| object.0.as_ptr())
}

fn free_small(class: usize, object: NonNull<u8>) {
    let mut cache = CACHES[PerCpu::cpu_id() as usize].lock();
    let cache = &mut cache[class];
    if cache.is_full() {
        give_back(class, cache.drain(..CACHED / 2));
    }
    cache.push(Object(object));
}

fn give_back(class: usize, objects: impl Iterator<Item = Object>) {
    let mut slabs = SLABS[class].lock();
    for object in objects {
        // SAFETY: the cache held it, so it is free and of this class.
        unsafe { slabs.free(object.0) };
    }
}

fn order_of(layout: Layout) -> Option<u8> {
    let bytes = layout.size().max(layout.align()).checked_next_power_of_two()?;
    let order = (bytes / PAGE_SIZE).max(1).ilog2() as u8;
    (order <= MAX_ORDER).then_some(order)
}

fn allocate_large(layout: Layout) -> *mut u8 {
    let block = order_of(layout).and_then(|order| frame::allocate_order(order, account::purpose()).ok());
    block.map_or(ptr::null_mut(), |block| Cpu::phys_to_virt(block.into_raw()))
}

/// The physical address of something in the direct map.
fn to_physical(pointer: *mut u8) -> PhysAddr {
    let anchor = frame::base();
    PhysAddr(anchor.0 + (pointer.addr() - Cpu::phys_to_virt(anchor).addr()) as u64)
}

/// The bytes that an allocation takes up, by its class.
fn room(class: Option<usize>, layout: Layout) -> usize {
    match class {
        Some(class) => SIZES[class],
        None => order_of(layout).map_or(0, |order| PAGE_SIZE << order),
    }
}

/// Gives memory that the heap holds but does not use back to the frame allocator.
pub fn trim() {
    for caches in &CACHES {
        let mut caches = caches.lock();
        for (class, cache) in caches.iter_mut().enumerate() {
            if !cache.is_empty() {
                give_back(class, cache.drain(..));
            }
        }
    }
    for slabs in &SLABS {
        slabs.lock().trim();
    }
}

/// Runs `allocate`, whose allocations can be refused: they leave alone what is kept for those that cannot.
pub fn may_fail<T>(allocate: impl FnOnce() -> T) -> T {
    let before = account::set_fallible(true);
    let result = allocate();
    account::set_fallible(before);
    result
}

/// Whether an allocation made at this point can be refused: whether it is made within [`may_fail`].
pub fn can_be_refused() -> bool {
    account::purpose() == Purpose::KernelMay
}

/// Sees to it that a slab of each size is kept for allocations that cannot fail; false if there is no memory for that.
pub fn prepare() -> bool {
    SLABS.iter().all(|slabs| slabs.lock().keep())
}

/// A user thread's poll begins, or a call within one: what it takes without a way to fail is counted from here.
pub fn begin_poll() {
    account::begin();
}

/// Its end.
///
/// # Panics
/// In debug builds, if the poll held more than [`POLL_BOUND`](super::fallible::POLL_BOUND) at once.
pub fn end_poll() {
    account::end();
}

/// Leaves `bytes` of what this poll takes from here on out of the count: they were asked for beforehand.
pub(super) fn credit(bytes: usize) {
    account::credit(bytes);
}

/// What each CPU is about, and, in debug builds, what its poll has taken. On the host it is each thread.
///
/// Every allocation asks, so there is no lock: only its own CPU touches an account, which neither preempts nor allocates in
/// interrupts.
mod account {
    use core::sync::atomic::{AtomicBool, AtomicIsize, Ordering::Relaxed};

    use super::Purpose;

    #[repr(align(64))]
    struct Account {
        fallible: AtomicBool,
        counts: AtomicBool,
        held: AtomicIsize,
        most: AtomicIsize,
    }

    impl Account {
        const fn new() -> Self {
            Self {
                fallible: AtomicBool::new(false),
                counts: AtomicBool::new(false),
                held: AtomicIsize::new(0),
                most: AtomicIsize::new(0),
            }
        }

        fn hold(&self, change: isize) {
            let held = self.held.load(Relaxed) + change;
            self.held.store(held, Relaxed);
            self.most.store(self.most.load(Relaxed).max(held), Relaxed);
        }
    }

    #[cfg(target_os = "none")]
    fn with<T>(look: impl FnOnce(&Account) -> T) -> T {
        use hal::{MAX_CPUS, arch::PerCpu, traits::PerCpuOps};

        static ACCOUNTS: [Account; MAX_CPUS] = [const { Account::new() }; MAX_CPUS];
        look(&ACCOUNTS[PerCpu::cpu_id() as usize])
    }

    #[cfg(not(target_os = "none"))]
    fn with<T>(look: impl FnOnce(&Account) -> T) -> T {
        std::thread_local!(static ACCOUNT: Account = const { Account::new() });
        ACCOUNT.with(look)
    }

    pub fn set_fallible(fallible: bool) -> bool {
        with(|account| {
            let before = account.fallible.load(Relaxed);
            account.fallible.store(fallible, Relaxed);
            before
        })
    }

    pub fn purpose() -> Purpose {
        if with(|account| account.fallible.load(Relaxed)) {
            Purpose::KernelMay
        } else {
            Purpose::Kernel
        }
    }

    pub fn begin() {
        if cfg!(debug_assertions) {
            with(|account| {
                account.counts.store(true, Relaxed);
                account.held.store(0, Relaxed);
                account.most.store(0, Relaxed);
            });
        }
    }

    pub fn end() {
        if cfg!(debug_assertions) {
            let most = with(|account| {
                account.counts.store(false, Relaxed);
                account.most.load(Relaxed)
            });
            assert!(
                most <= crate::mm::fallible::POLL_BOUND as isize,
                "a poll held {most} bytes that could not be refused"
            );
        }
    }

    pub fn credit(bytes: usize) {
        if cfg!(debug_assertions) {
            with(|account| account.hold(-(bytes as isize)));
        }
    }

    pub fn taken(bytes: usize) {
        if cfg!(debug_assertions) {
            with(|account| {
                if account.counts.load(Relaxed) && !account.fallible.load(Relaxed) {
                    account.hold(bytes as isize);
                }
            });
        }
    }

    pub fn given(bytes: usize) {
        if cfg!(debug_assertions) {
            with(|account| {
                if account.counts.load(Relaxed) {
                    account.hold(-(bytes as isize));
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fill(pointer: *mut u8, size: usize, byte: u8) {
        // SAFETY: the test just allocated that much.
        unsafe { pointer.write_bytes(byte, size) };
    }

    fn holds(pointer: *mut u8, size: usize, byte: u8) -> bool {
        // SAFETY: as above, and filled.
        unsafe { core::slice::from_raw_parts(pointer, size) }
            .iter()
            .all(|&found| found == byte)
    }

    proptest! {
        #[test]
        fn objects_keep_their_bytes(steps in proptest::collection::vec((any::<bool>(), 1usize..9000, 0u32..8, any::<usize>()), 1..400)) {
            let mut held: Vec<(*mut u8, Layout, u8)> = Vec::new();
            for (index, (allocate, size, align, pick)) in steps.into_iter().enumerate() {
                if allocate || held.is_empty() {
                    let layout = Layout::from_size_align(size, 1 << align).unwrap();
                    // SAFETY: not empty.
                    let pointer = unsafe { KernelHeap.alloc(layout) };
                    prop_assert!(!pointer.is_null());
                    prop_assert_eq!(pointer.addr() % layout.align(), 0);
                    fill(pointer, size, index as u8);
                    held.push((pointer, layout, index as u8));
                } else if pick % 3 == 0 {
                    let at = pick % held.len();
                    let (pointer, layout, byte) = held[at];
                    // SAFETY: allocated above with this layout.
                    let pointer = unsafe { KernelHeap.realloc(pointer, layout, size) };
                    prop_assert!(holds(pointer, size.min(layout.size()), byte));
                    fill(pointer, size, byte);
                    held[at] = (pointer, Layout::from_size_align(size, layout.align()).unwrap(), byte);
                } else {
                    let (pointer, layout, byte) = held.swap_remove(pick % held.len());
                    prop_assert!(holds(pointer, layout.size(), byte));
                    // SAFETY: allocated above with this layout.
                    unsafe { KernelHeap.dealloc(pointer, layout) };
                }
            }
            for (pointer, layout, byte) in held {
                prop_assert!(holds(pointer, layout.size(), byte));
                // SAFETY: allocated above with this layout.
                unsafe { KernelHeap.dealloc(pointer, layout) };
            }
        }
    }

    #[test]
    fn what_cannot_be_is_null() {
        for size in [64 << 20, 1 << 40, isize::MAX as usize & !4095] {
            let layout = Layout::from_size_align(size, 8).unwrap();
            // SAFETY: not empty.
            assert!(unsafe { KernelHeap.alloc(layout) }.is_null());
        }
    }

    #[test]
    fn threads_share_the_heap() {
        let machine = hal::host::machine();
        std::thread::scope(|scope| {
            for cpu in 1..5 {
                let machine = machine.clone();
                scope.spawn(move || {
                    machine.attach(cpu);
                    let layout = Layout::from_size_align(100, 8).unwrap();
                    for round in 0..200u8 {
                        // SAFETY: not empty; freed below with the same layout.
                        let pointers: Vec<_> = (0..50).map(|_| unsafe { KernelHeap.alloc(layout) }).collect();
                        pointers.iter().for_each(|&pointer| fill(pointer, 100, round));
                        assert!(pointers.iter().all(|&pointer| holds(pointer, 100, round)));
                        // SAFETY: allocated above.
                        pointers
                            .into_iter()
                            .for_each(|pointer| unsafe { KernelHeap.dealloc(pointer, layout) });
                    }
                });
            }
        });
    }
}
