//! Many readers or one writer.

#![expect(unsafe_code, reason = "hands out the value that its semaphore guards")]

use core::{
    cell::UnsafeCell,
    ops::{Deref, DerefMut},
};

use lock_api::RawMutex;

use super::semaphore::{Permit, Semaphore};
use crate::prim::const_fn;

/// All permits: what a writer takes.
const ALL: u32 = 1 << 30;

/// A value for many readers or one writer, first come, first served: a waiting writer is not overtaken by later readers.
/// A task that reads twice at once may therefore deadlock with a writer between.
pub struct RwLock<R, T: ?Sized> {
    semaphore: Semaphore<R>,
    value: UnsafeCell<T>,
}

// SAFETY: a reader holds one permit, a writer all of them.
unsafe impl<R: Sync, T: ?Sized + Send + Sync> Sync for RwLock<R, T> where Semaphore<R>: Sync {}
// SAFETY: owning the lock is owning the value.
unsafe impl<R: Send, T: ?Sized + Send> Send for RwLock<R, T> where Semaphore<R>: Send {}

impl<R: RawMutex, T> RwLock<R, T> {
    const_fn! {
        /// An unlocked lock.
        pub fn new(value: T) -> Self {
            Self { semaphore: Semaphore::new(ALL), value: UnsafeCell::new(value) }
        }
    }
}

impl<R: RawMutex, T: ?Sized> RwLock<R, T> {
    /// Waits to read. Cancelling gives the turn up, or passes it on.
    pub async fn read(&self) -> RwLockReadGuard<'_, R, T> {
        match self.semaphore.acquire(1).await {
            Ok(permit) => RwLockReadGuard {
                lock: self,
                _permit: permit,
            },
            Err(_) => unreachable!("a lock's semaphore is never closed"),
        }
    }

    /// Waits to write. Cancelling gives the turn up, or passes it on.
    pub async fn write(&self) -> RwLockWriteGuard<'_, R, T> {
        match self.semaphore.acquire(ALL).await {
            Ok(permit) => RwLockWriteGuard {
                lock: self,
                _permit: permit,
            },
            Err(_) => unreachable!("a lock's semaphore is never closed"),
        }
    }

    /// Reads, if no writer has it or waits for it.
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, R, T>> {
        self.semaphore.try_acquire(1).map(|permit| RwLockReadGuard {
            lock: self,
            _permit: permit,
        })
    }

    /// Writes, if nobody has it or waits for it.
    pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, R, T>> {
        self.semaphore.try_acquire(ALL).map(|permit| RwLockWriteGuard {
            lock: self,
            _permit: permit,
        })
    }
}

/// Shared access to what a [`RwLock`] guards, until dropped.
pub struct RwLockReadGuard<'a, R: RawMutex, T: ?Sized> {
    lock: &'a RwLock<R, T>,
    _permit: Permit<'a, R>,
}

impl<R: RawMutex, T: ?Sized> Deref for RwLockReadGuard<'_, R, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: a permit is held, so no writer has them all.
        unsafe { &*self.lock.value.get() }
    }
}

/// Exclusive access to what a [`RwLock`] guards, until dropped.
pub struct RwLockWriteGuard<'a, R: RawMutex, T: ?Sized> {
    lock: &'a RwLock<R, T>,
    _permit: Permit<'a, R>,
}

impl<R: RawMutex, T: ?Sized> Deref for RwLockWriteGuard<'_, R, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: all permits are held.
        unsafe { &*self.lock.value.get() }
    }
}

impl<R: RawMutex, T: ?Sized> DerefMut for RwLockWriteGuard<'_, R, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: all permits are held, and the guard is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}
