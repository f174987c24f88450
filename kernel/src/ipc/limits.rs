//! How much there may be, as `/proc/sys/kernel` shows and sets it.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::registry::MAX_OBJECTS;

/// One limit.
#[derive(Debug)]
pub struct Limit(AtomicU64);

impl Limit {
    const fn new(value: u64) -> Self {
        Self(AtomicU64::new(value))
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Changes it for what is made from now on.
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }
}

/// Semaphores of one set.
pub static SEMMSL: Limit = Limit::new(32_000);
/// Semaphores of all sets.
pub static SEMMNS: Limit = Limit::new(1_024_000_000);
/// Operations of one call.
pub static SEMOPM: Limit = Limit::new(500);
/// Sets.
pub static SEMMNI: Limit = Limit::new(32_000);
/// Bytes of one segment.
pub static SHMMAX: Limit = Limit::new(u64::MAX - (1 << 24));
/// Pages of all segments.
pub static SHMALL: Limit = Limit::new(u64::MAX - (1 << 24));
/// Segments.
pub static SHMMNI: Limit = Limit::new(4096);
/// Bytes of one message.
pub static MSGMAX: Limit = Limit::new(8192);
/// Bytes in a new queue.
pub static MSGMNB: Limit = Limit::new(16_384);
/// Queues.
pub static MSGMNI: Limit = Limit::new(32_000);

/// POSIX message queues.
pub static MQ_QUEUES: Limit = Limit::new(256);
/// Messages of such a queue.
pub static MQ_MESSAGES: Limit = Limit::new(10);
/// Bytes of a message in one.
pub static MQ_SIZE: Limit = Limit::new(8192);
/// Messages of one that is made without saying.
pub static MQ_DEFAULT_MESSAGES: Limit = Limit::new(10);
/// Bytes of a message in such.
pub static MQ_DEFAULT_SIZE: Limit = Limit::new(8192);

/// The most that a limit of objects can be set to.
pub const MAX_LIMIT_OF_OBJECTS: u64 = MAX_OBJECTS as u64;
