//! Locks of the kernel: short, interrupt-masking, ranked. What waits longer than a few hundred instructions waits as a
//! future, by the primitives of `executor::sync`.

mod rank;
mod raw_lock;
mod spin_lock;

pub use rank::Rank;
pub use raw_lock::RawIrqLock;
pub use spin_lock::{SpinLock, SpinLockGuard};

/// The raw lock of the wait queues and of what else of the executor's primitives the kernel uses.
pub type RawWaitLock = RawIrqLock<{ Rank::WaitQueue as u8 }>;

/// Tasks that wait for something, woken in order of arrival.
pub type WaitQueue<K = ()> = executor::sync::WaitQueue<RawWaitLock, K>;
