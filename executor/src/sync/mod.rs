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
//! All of it is for task context, except [`IrqCell`] and [`Ring`], which bring interrupts to tasks and take no lock.
//!
//! What others offer, and why it is not used:
//!
//! | here | elsewhere | why not that |
//! |---|---|---|
//! | [`IrqCell`] | futures-util's `AtomicWaker` | it is that, with a count |
//! | [`OnceCell`] | `spin::Once` | it is that, filled by whoever holds a permit, so that nobody spins |
//! | [`Mutex`], [`RwLock`] | embassy-sync's | each keeps one waker: several that wait wake each other to no end, and none has a place in the order |
//! | [`Semaphore`] | embassy-sync's `FairSemaphore` | room for a fixed number of waiters |
//! | [`channel()`] | embassy-sync's `Channel` | one waker a side: senders that wait have no place in the order |
//! | [`watch()`], [`broadcast()`] | embassy-sync's `Watch`, `PubSubChannel` | a fixed number of receivers, as a parameter of the type |
//! | [`Event`], [`Notify`], [`WaitQueue`] | embassy-sync's `Signal`, `MultiWakerRegistration` | one waiter, or a fixed number |
//! | [`Ring`] | crossbeam-queue's `ArrayQueue` | spins for an interrupted peer; allocates |
//!
//! [`Generations`] has no counterpart there: epochs as crossbeam-epoch's are for memory alone, and spin.
//!
//! Combinators (`join`, `select`, streams) are futures-util's, which work on any of these.

mod broadcast;
mod channel;
mod event;
mod feed;
mod generations;
mod irq;
mod list;
mod mutex;
mod once;
mod rw_lock;
mod semaphore;
mod wait_queue;
mod wakers;
mod watch;

pub use broadcast::{Broadcast, BroadcastError, BroadcastReceiver, BroadcastSender, broadcast};
pub use channel::{Channel, Closed, Receiver, Sender, TryReceiveError, TrySendError, channel};
pub use event::{Event, Notify};
pub use generations::Generations;
pub use irq::{ByteRing, IrqCell, Ring, Word};
pub use mutex::{Mutex, MutexGuard};
pub use once::OnceCell;
pub use rw_lock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{Acquire, AcquireError, Permit, Semaphore};
pub use wait_queue::{Wait, WaitQueue};
pub use watch::{Ended, WatchReceiver, WatchSender, watch};
