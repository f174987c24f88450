//! The interrupt-masking spin lock.

use core::{
    marker::PhantomData,
    ops::{Deref, DerefMut},
};

use hal::{arch::Cpu, traits::CpuOps};
use spin::mutex::{SpinMutex, SpinMutexGuard};

use super::rank::{self, Rank};
use crate::tally;

/// A spin lock that masks interrupts on its holder's CPU and knows its [`Rank`].
///
/// Taking it in interrupt context panics in debug builds (invariant I1). The guard is `!Send`, so that no spawned future
/// can hold it across an await (invariant I5).
pub struct SpinLock<T: ?Sized> {
    rank: Rank,
    inner: SpinMutex<T>,
}

impl<T> SpinLock<T> {
    /// An unlocked lock.
    pub const fn new(rank: Rank, value: T) -> Self {
        Self {
            rank,
            inner: SpinMutex::new(value),
        }
    }

    /// The value, when nobody else can hold the lock any more.
    pub fn into_inner(self) -> T {
        self.inner.into_inner()
    }
}

impl<T: ?Sized> SpinLock<T> {
    /// Takes the lock, spinning while another CPU holds it.
    ///
    /// # Panics
    /// In debug builds: in interrupt context, and where a lock of the same or a later rank is held by this CPU.
    pub fn lock(&self) -> SpinLockGuard<'_, T> {
        let interrupts = Cpu::mask_interrupts();
        tally::locking();
        rank::acquire(self.rank);
        SpinLockGuard {
            guard: Some(self.inner.lock()),
            release: Release {
                rank: self.rank,
                interrupts,
            },
            not_send: PhantomData,
        }
    }

    /// The value, by exclusive access to the lock itself.
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }
}

/// Access to what a [`SpinLock`] guards, until dropped.
pub struct SpinLockGuard<'a, T: ?Sized> {
    // Dropped before `release` puts interrupts back.
    guard: Option<SpinMutexGuard<'a, T>>,
    release: Release,
    not_send: PhantomData<*const ()>,
}

struct Release {
    rank: Rank,
    interrupts: <Cpu as CpuOps>::InterruptState,
}

impl<T: ?Sized> Drop for SpinLockGuard<'_, T> {
    fn drop(&mut self) {
        self.guard = None;
        rank::release(self.release.rank);
        Cpu::restore_interrupts(self.release.interrupts);
    }
}

impl<T: ?Sized> Deref for SpinLockGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.guard {
            Some(guard) => guard,
            None => unreachable!("the guard is taken only by drop"),
        }
    }
}

impl<T: ?Sized> DerefMut for SpinLockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.guard {
            Some(guard) => guard,
            None => unreachable!("the guard is taken only by drop"),
        }
    }
}
