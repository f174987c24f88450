//! Waiting for each other: a wait queue, and what is built on it.
//!
//! Everything here is generic over a raw lock `R` (`lock_api::RawMutex`), held for a few dozen instructions and never
//! while a waker runs, and made at compile time. No wait allocates: a waiter is a list node inside the waiting future,
//! which is pinned while it is queued and takes itself out when dropped.
//!
//! Two rules hold everywhere. *Register, then look* (I6): a wait that is registered misses no later wake. *A wake given is
//! never lost* (I7): a future dropped after it was given a wake (or a permit, or the lock), and before it could use it,
//! passes it on to the next waiter.
//!
//! All of it is for task context, except [`IrqCell`] and [`ByteRing`], which bring interrupts to tasks and take no lock.

mod channel;
mod event;
mod irq;
mod list;
mod mutex;
mod rw_lock;
mod semaphore;
mod wait_queue;

pub use channel::{Channel, Closed, Receiver, Send, Sender, TryReceiveError, TrySendError, channel};
pub use event::{Event, Notify};
pub use irq::{ByteRing, IrqCell};
pub use mutex::{Mutex, MutexGuard};
pub use rw_lock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{Acquire, AcquireError, Permit, Semaphore};
pub use wait_queue::{Wait, WaitQueue};
