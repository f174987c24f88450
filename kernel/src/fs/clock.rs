//! The wall clock as files see it: time since boot plus an offset that `settimeofday` may move.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hal::{arch::Timer, traits::TimerOps};

static OFFSET: AtomicU64 = AtomicU64::new(0);

/// Sets the wall clock's time at boot, in nanoseconds since 1970.
pub fn set_boot_time(nanoseconds: u64) {
    OFFSET.store(nanoseconds, Relaxed);
}

/// Nanoseconds since 1970.
pub fn realtime() -> u64 {
    OFFSET.load(Relaxed).wrapping_add(Timer::now())
}

/// The wall clock's time at boot, in nanoseconds since 1970.
pub fn boot_time() -> u64 {
    OFFSET.load(Relaxed)
}
