//! Locks of the kernel: short, interrupt-masking, ranked. What waits longer than a few hundred instructions waits as a
//! future, by the primitives of `executor::sync`.

mod rank;
mod spin_lock;
mod wait_queue;

pub use rank::Rank;
pub use spin_lock::{SpinLock, SpinLockGuard};
pub use wait_queue::{Wait, WaitQueue};
