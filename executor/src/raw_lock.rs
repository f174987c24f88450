//! The plainest raw lock: for hosts, and for machines whose platform has nothing better to offer.

#![expect(unsafe_code, reason = "implements the raw lock's unsafe trait")]

use core::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Relaxed, Release},
};

/// A spin lock that knows nothing of interrupts. The kernel uses its own interrupt-masking one instead: a holder that is
/// interrupted keeps the others spinning.
pub struct RawSpinLock(AtomicBool);

// SAFETY: the exchange admits one holder at a time, with acquire and release.
unsafe impl lock_api::RawMutex for RawSpinLock {
    const INIT: Self = Self(AtomicBool::new(false));
    type GuardMarker = lock_api::GuardNoSend;

    fn lock(&self) {
        while !self.try_lock() {
            while self.0.load(Relaxed) {
                core::hint::spin_loop();
            }
        }
    }

    fn try_lock(&self) -> bool {
        self.0.compare_exchange(false, true, Acquire, Relaxed).is_ok()
    }

    unsafe fn unlock(&self) {
        self.0.store(false, Release);
    }
}
