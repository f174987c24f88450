//! What counts, per thread: an allocator, its calls and the bytes that live; and a waker, its wakes.

#![expect(
    unsafe_code,
    reason = "implements the allocator's unsafe trait over the system's, and a waker"
)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    task::{RawWaker, RawWakerVTable, Waker},
};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static LIVE: Cell<i64> = const { Cell::new(0) };
    static WAKES: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counted.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(calls: u64, bytes: i64) {
    ALLOCATIONS.set(ALLOCATIONS.get() + calls);
    LIVE.set(LIVE.get() + bytes);
}

// SAFETY: every call is the system allocator's; the counters are plain thread-local cells without destructor or allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        // SAFETY: the caller's contract is this one.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, -(layout.size() as i64));
        // SAFETY: the caller's contract is this one.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        // SAFETY: the caller's contract is this one.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size as i64 - layout.size() as i64);
        // SAFETY: the caller's contract is this one.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Calls that gave the calling thread memory, so far.
pub fn allocations() -> u64 {
    ALLOCATIONS.get()
}

/// Bytes that the calling thread has been given and has not given back.
pub fn live_bytes() -> i64 {
    LIVE.get()
}

const WAKER: RawWaker = {
    const fn same(_: *const ()) -> RawWaker {
        WAKER
    }
    fn wake(_: *const ()) {
        WAKES.set(WAKES.get() + 1);
    }
    const fn drop(_: *const ()) {}
    RawWaker::new(std::ptr::null(), &RawWakerVTable::new(same, wake, wake, drop))
};

/// A waker that costs nothing and counts.
pub const fn waker() -> Waker {
    // SAFETY: the functions use no data, and the counter is the waking thread's own.
    unsafe { Waker::from_raw(WAKER) }
}

/// Wakes of [`waker`] by the calling thread so far.
pub fn wakes() -> u64 {
    WAKES.get()
}
