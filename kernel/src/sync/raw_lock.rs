//! The interrupt-masking lock in the shape that libraries take: `lock_api`'s raw mutex.

#![expect(unsafe_code, reason = "implements lock_api's unsafe trait")]

use core::{
    cell::Cell,
    sync::atomic::{AtomicBool, Ordering},
};

use hal::{arch::Cpu, traits::CpuOps};

use super::rank::{self, Rank};
use crate::tally;

/// A raw spin lock that masks interrupts on its holder's CPU. `RANK` is a [`Rank`] as a number.
pub struct RawIrqLock<const RANK: u8> {
    locked: AtomicBool,
    /// How interrupts were before; the holder's alone.
    interrupts: Cell<Option<<Cpu as CpuOps>::InterruptState>>,
}

// SAFETY: `interrupts` is touched only by who holds the lock.
unsafe impl<const RANK: u8> Sync for RawIrqLock<RANK> {}
// SAFETY: nothing in it belongs to a CPU while it is unlocked.
unsafe impl<const RANK: u8> Send for RawIrqLock<RANK> {}

impl<const RANK: u8> RawIrqLock<RANK> {
    const RANK: Rank = Rank::from_number(RANK);

    fn acquired(&self, state: <Cpu as CpuOps>::InterruptState) {
        rank::acquire(Self::RANK);
        self.interrupts.set(Some(state));
    }
}

// SAFETY: `locked` goes from false to true by compare-exchange only, so there is one holder; the ordering is
// acquire/release.
unsafe impl<const RANK: u8> lock_api::RawMutex for RawIrqLock<RANK> {
    const INIT: Self = Self {
        locked: AtomicBool::new(false),
        interrupts: Cell::new(None),
    };

    type GuardMarker = lock_api::GuardNoSend;

    fn lock(&self) {
        let state = Cpu::mask_interrupts();
        tally::locking();
        while self
            .locked
            .compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            while self.locked.load(Ordering::Relaxed) {
                Cpu::relax();
            }
        }
        self.acquired(state);
    }

    fn try_lock(&self) -> bool {
        let state = Cpu::mask_interrupts();
        tally::locking();
        let got = self
            .locked
            .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_ok();
        if got {
            self.acquired(state);
        } else {
            Cpu::restore_interrupts(state);
        }
        got
    }

    unsafe fn unlock(&self) {
        let state = self.interrupts.take();
        rank::release(Self::RANK);
        self.locked.store(false, Ordering::Release);
        if let Some(state) = state {
            Cpu::restore_interrupts(state);
        }
    }

    fn is_locked(&self) -> bool {
        self.locked.load(Ordering::Relaxed)
    }
}
