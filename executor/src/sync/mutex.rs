//! The mutex whose guard may live across an await.

#![expect(unsafe_code, reason = "hands out the value that its semaphore guards")]

use core::{
    cell::UnsafeCell,
    ops::{Deref, DerefMut},
};

use lock_api::RawMutex;

use super::semaphore::{Permit, Semaphore};
use crate::prim::const_fn;

/// A value for one task at a time, first come, first served. Waiting tasks sleep.
pub struct Mutex<R, T: ?Sized> {
    semaphore: Semaphore<R>,
    value: UnsafeCell<T>,
}

// SAFETY: the semaphore's one permit admits one user at a time.
unsafe impl<R: Sync, T: ?Sized + Send> Sync for Mutex<R, T> where Semaphore<R>: Sync {}
// SAFETY: owning the mutex is owning the value.
unsafe impl<R: Send, T: ?Sized + Send> Send for Mutex<R, T> where Semaphore<R>: Send {}

impl<R: RawMutex, T> Mutex<R, T> {
    const_fn! {
        /// An unlocked mutex.
        pub fn new(value: T) -> Self {
            Self { semaphore: Semaphore::new(1), value: UnsafeCell::new(value) }
        }
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<R: RawMutex, T: ?Sized> Mutex<R, T> {
    /// Waits for its turn. Cancelling gives it up, and passes the lock on if it had been handed over.
    pub async fn lock(&self) -> MutexGuard<'_, R, T> {
        match self.semaphore.acquire(1).await {
            Ok(permit) => MutexGuard {
                mutex: self,
                _permit: permit,
            },
            Err(_) => unreachable!("a mutex's semaphore is never closed"),
        }
    }

    /// Takes the lock if it is free and nobody waits for it.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, R, T>> {
        self.semaphore.try_acquire(1).map(|permit| MutexGuard {
            mutex: self,
            _permit: permit,
        })
    }

    /// The value, by exclusive access to the mutex.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

/// Access to what a [`Mutex`] guards, until dropped. May live across an await.
pub struct MutexGuard<'a, R: RawMutex, T: ?Sized> {
    mutex: &'a Mutex<R, T>,
    _permit: Permit<'a, R>,
}

// SAFETY: sharing the guard shares `&T`.
unsafe impl<R: RawMutex, T: ?Sized + Sync> Sync for MutexGuard<'_, R, T> where Mutex<R, T>: Sync {}

impl<R: RawMutex, T: ?Sized> Deref for MutexGuard<'_, R, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the one permit is held.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<R: RawMutex, T: ?Sized> DerefMut for MutexGuard<'_, R, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the one permit is held, and the guard is borrowed exclusively.
        unsafe { &mut *self.mutex.value.get() }
    }
}
