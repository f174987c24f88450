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

/// Those of the System V objects of one IPC namespace.
#[derive(Debug)]
#[expect(missing_docs, reason = "what each counts stands where they are made")]
pub struct Limits {
    pub semmsl: Limit,
    pub semmns: Limit,
    pub semopm: Limit,
    pub semmni: Limit,
    pub shmmax: Limit,
    pub shmall: Limit,
    pub shmmni: Limit,
    pub msgmax: Limit,
    pub msgmnb: Limit,
    pub msgmni: Limit,
}

impl Limits {
    /// As they are until somebody sets them.
    pub const fn initial() -> Self {
        Self {
            // Semaphores of one set.
            semmsl: Limit::new(32_000),
            // Semaphores of all sets.
            semmns: Limit::new(1_024_000_000),
            // Operations of one call.
            semopm: Limit::new(500),
            // Sets.
            semmni: Limit::new(32_000),
            // Bytes of one segment.
            shmmax: Limit::new(u64::MAX - (1 << 24)),
            // Pages of all segments.
            shmall: Limit::new(u64::MAX - (1 << 24)),
            // Segments.
            shmmni: Limit::new(4096),
            // Bytes of one message.
            msgmax: Limit::new(8192),
            // Bytes in a new queue.
            msgmnb: Limit::new(16_384),
            // Queues.
            msgmni: Limit::new(32_000),
        }
    }
}

/// Those of the POSIX message queues of one IPC namespace.
#[derive(Debug)]
pub struct QueueLimits {
    /// Queues.
    pub queues: Limit,
    /// Messages of one.
    pub messages: Limit,
    /// Bytes of a message.
    pub size: Limit,
    /// Messages of one that is made without saying.
    pub default_messages: Limit,
    /// Bytes of a message in such.
    pub default_size: Limit,
}

impl QueueLimits {
    /// As they are until somebody sets them.
    pub const fn initial() -> Self {
        Self {
            queues: Limit::new(256),
            messages: Limit::new(10),
            size: Limit::new(8192),
            default_messages: Limit::new(10),
            default_size: Limit::new(8192),
        }
    }
}

/// The most that a limit of objects can be set to.
pub const MAX_LIMIT_OF_OBJECTS: u64 = MAX_OBJECTS as u64;
