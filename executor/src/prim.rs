//! The primitives everything else stands on, in one place so that the loom models run on the code that ships.
//!
//! Three kinds of shared state, and only three:
//! - *Contended* atomics (`AtomicU64`, …): words that CPUs race on. Under loom these are loom's.
//! - *Owned* cells ([`OwnedU64`] and its smaller kin): written by one party at a time, which some contended word appoints, and
//!   read by others as a statistic at most. They are relaxed atomics, so that a platform that lies about its CPU number
//!   breaks the logic and not the memory. Loom has no business with them.
//! - *Locked* state ([`Lock`]): what one CPU must be able to take from another. Held for a few dozen instructions, never
//!   while foreign code (a waker, a future, a destructor) runs.

#![expect(unsafe_code, reason = "a cell whose accesses loom checks")]

pub use core::sync::atomic::Ordering;
#[cfg(not(loom))]
pub use core::sync::atomic::{AtomicPtr, AtomicU16, AtomicU32, AtomicU64, fence};
#[cfg(loom)]
pub use loom::sync::atomic::{AtomicPtr, AtomicU16, AtomicU32, AtomicU64, fence};

/// Declares a function `const`, except under loom, whose primitives cannot be made at compile time.
macro_rules! const_fn {
    ($(#[$meta:meta])* $vis:vis fn $($rest:tt)*) => {
        #[cfg(not(loom))]
        $(#[$meta])* $vis const fn $($rest)*
        #[cfg(loom)]
        $(#[$meta])* $vis fn $($rest)*
    };
}

/// An array of one expression, evaluated for each element.
macro_rules! array {
    ($value:expr) => {{
        #[cfg(not(loom))]
        let array = [const { $value }; _];
        #[cfg(loom)]
        let array = core::array::from_fn(|_| $value);
        array
    }};
}

pub(crate) use {array, const_fn};

macro_rules! owned {
    ($name:ident, $integer:ty, $atomic:ident) => {
        /// A cell that one party writes at a time.
        #[derive(Debug)]
        pub struct $name(core::sync::atomic::$atomic);

        impl $name {
            pub const fn new(value: $integer) -> Self {
                Self(core::sync::atomic::$atomic::new(value))
            }

            #[inline]
            pub fn get(&self) -> $integer {
                self.0.load(Ordering::Relaxed)
            }

            #[inline]
            pub fn set(&self, value: $integer) {
                self.0.store(value, Ordering::Relaxed);
            }
        }
    };
}

owned!(OwnedU8, u8, AtomicU8);
owned!(OwnedU16, u16, AtomicU16);
owned!(OwnedU32, u32, AtomicU32);
owned!(OwnedU64, u64, AtomicU64);

/// A time that one party writes at a time, `u64::MAX` (never) at first: which is kept as zero, see [`crate::task::NONE`].
#[derive(Debug)]
pub struct OwnedTime(OwnedU64);

impl OwnedTime {
    pub const fn never() -> Self {
        Self(OwnedU64::new(0))
    }

    #[inline]
    pub fn get(&self) -> u64 {
        !self.0.get()
    }

    #[inline]
    pub fn set(&self, time: u64) {
        self.0.set(!time);
    }
}

impl OwnedU8 {
    /// Sets it to `to` if it is `from`, in one step: for who is not its writer.
    pub fn replace(&self, from: u8, to: u8) {
        let _ = self.0.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl OwnedU32 {
    /// Sets or clears bits in one step: for several writers.
    pub fn set_bits(&self, bits: u32, on: bool) {
        if on {
            self.0.fetch_or(bits, Ordering::Relaxed);
        } else {
            self.0.fetch_and(!bits, Ordering::Relaxed);
        }
    }
}

impl OwnedU64 {
    /// Adds, by the one writer: not an atomic addition.
    pub fn add(&self, value: u64) {
        self.set(self.get().wrapping_add(value));
    }
}

/// A counter that several CPUs add to, for statistics only.
#[derive(Debug)]
pub struct Counter(core::sync::atomic::AtomicU64);

impl Counter {
    pub const fn new() -> Self {
        Self(core::sync::atomic::AtomicU64::new(0))
    }

    pub fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A value behind the platform's short lock, reached by closures so that no guard can be kept.
pub struct Lock<R, T> {
    #[cfg(not(loom))]
    inner: lock_api::Mutex<R, T>,
    #[cfg(loom)]
    inner: loom::sync::Mutex<T>,
    #[cfg(loom)]
    raw: core::marker::PhantomData<fn() -> R>,
}

impl<R: lock_api::RawMutex, T> Lock<R, T> {
    const_fn! {
        pub fn new(value: T) -> Self {
            Self {
                #[cfg(not(loom))]
                inner: lock_api::Mutex::new(value),
                #[cfg(loom)]
                inner: loom::sync::Mutex::new(value),
                #[cfg(loom)]
                raw: core::marker::PhantomData,
            }
        }
    }

    /// Runs `f` under the lock. `f` calls no foreign code.
    pub fn with<U>(&self, f: impl FnOnce(&mut T) -> U) -> U {
        #[cfg(not(loom))]
        let mut guard = self.inner.lock();
        #[cfg(loom)]
        let mut guard = self.inner.lock().unwrap();
        f(&mut guard)
    }
}

/// A cell whose exclusive accesses loom checks; elsewhere the plain cell.
pub struct ExclusiveCell<T> {
    #[cfg(not(loom))]
    inner: core::cell::UnsafeCell<T>,
    #[cfg(loom)]
    inner: loom::cell::UnsafeCell<T>,
}

impl<T> ExclusiveCell<T> {
    const_fn! {
        pub fn new(value: T) -> Self {
            Self {
                #[cfg(not(loom))]
                inner: core::cell::UnsafeCell::new(value),
                #[cfg(loom)]
                inner: loom::cell::UnsafeCell::new(value),
            }
        }
    }

    /// Exclusive access.
    ///
    /// # Safety
    /// Nobody else accesses the cell until `f` returns, and what was written before is visible to the caller.
    pub unsafe fn with<U>(&self, f: impl FnOnce(&mut T) -> U) -> U {
        #[cfg(not(loom))]
        // SAFETY: exclusive by this function's contract.
        return f(unsafe { &mut *self.inner.get() });
        #[cfg(loom)]
        // SAFETY: exclusive by this function's contract; loom checks it.
        return self.inner.with_mut(|value| f(unsafe { &mut *value }));
    }
}
