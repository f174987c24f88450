//! System V IPC (`sysvipc(7)`): semaphore sets, message queues, shared memory segments.
//!
//! Objects of each kind stand in a [`registry`] by identifier and key, and each has one lock, under which everything about it is done at
//! once. Who has to wait joins the object's [`line`] under that lock and leaves what it wants there; whoever changes the object looks
//! through the line in order of arrival, does for each what can be done now, and wakes it with the outcome. So no waiter runs only to
//! find that another was faster, and the order is Linux's.
//!
//! Constants and layouts: `include/uapi/linux/{ipc,sem,msg,shm}.h`, `asm-generic/{ipc,sem,msg,shm}buf.h`, `asm/sembuf.h` of x86.

pub mod limits;
pub mod line;
pub mod message;
pub mod mqueue;
pub mod permission;
pub mod registry;
pub mod semaphore;
pub mod shared_memory;

use limits::Limits;
use registry::Registry;

use crate::rt;

/// The objects of one IPC namespace, and how much there may be of them.
pub struct Objects {
    /// Semaphore sets.
    pub sets: Registry<semaphore::Set>,
    /// Message queues.
    pub queues: Registry<message::Queue>,
    /// Shared memory.
    pub segments: Registry<shared_memory::Segment>,
    /// How much there may be.
    pub limits: Limits,
}

impl Objects {
    /// None so far.
    pub const fn none() -> Self {
        Self {
            sets: Registry::new(),
            queues: Registry::new(),
            segments: Registry::new(),
            limits: Limits::initial(),
        }
    }
}

/// Those of the first namespace.
pub static FIRST: Objects = Objects::none();

/// `IPC_PRIVATE`: the key that never names anything.
pub const IPC_PRIVATE: i32 = 0;
/// `IPC_CREAT`.
pub const IPC_CREAT: i32 = 0o1000;
/// `IPC_EXCL`.
pub const IPC_EXCL: i32 = 0o2000;
/// `IPC_NOWAIT`.
pub const IPC_NOWAIT: i32 = 0o4000;

/// Seconds since 1970.
pub(crate) fn seconds() -> i64 {
    rt::wall_clock().div_euclid(1_000_000_000)
}
