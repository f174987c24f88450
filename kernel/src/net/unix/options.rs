//! What can be set of a socket (`socket(7)`), without what it means to others, which stands in its core.

use ::core::sync::atomic::{
    AtomicBool, AtomicI32, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};

use super::core::Core;

bitflags::bitflags! {
    /// What a socket's receiver is told, and options that mean nothing to sockets of this family but are kept.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Passes: u32 {
        /// `SO_PASSCRED`.
        const CREDENTIALS = 1;
        /// `SO_PASSPIDFD`.
        const PIDFD = 2;
        /// `SO_PASSSEC`.
        const SECURITY = 4;
        /// `SO_DEBUG`.
        const DEBUG = 1 << 8;
        /// `SO_REUSEADDR`.
        const REUSE_ADDRESS = 1 << 9;
        /// `SO_DONTROUTE`.
        const DO_NOT_ROUTE = 1 << 10;
        /// `SO_BROADCAST`.
        const BROADCAST = 1 << 11;
        /// `SO_KEEPALIVE`.
        const KEEP_ALIVE = 1 << 12;
        /// `SO_OOBINLINE`.
        const INLINE = 1 << 13;
        /// `SO_LINGER`'s `l_onoff`.
        const LINGER = 1 << 14;
    }
}

impl Passes {
    /// Those for which a sender has to be known.
    pub const WHO: Self = Self::CREDENTIALS.union(Self::PIDFD);
    /// Those that a connection has from the socket that it came to.
    pub const INHERITED: Self = Self::CREDENTIALS.union(Self::PIDFD).union(Self::SECURITY);
}

impl Core {
    /// Whether one of these is set.
    pub fn passes(&self, any: Passes) -> bool {
        self.passes.load(Relaxed) & any.bits() != 0
    }

    /// Sets or clears.
    pub fn set_passes(&self, which: Passes, on: bool) {
        if on {
            self.passes.fetch_or(which.bits(), SeqCst);
        } else {
            self.passes.fetch_and(!which.bits(), SeqCst);
        }
    }

    /// Those of a set that are set.
    pub(super) fn passes_of(&self, which: Passes) -> Passes {
        Passes::from_bits_truncate(self.passes.load(Relaxed)) & which
    }

    /// Sets the most memory that may be on its way (`sk_sndbuf`), in bytes; a larger one wakes who waits.
    pub fn set_send_limit(&self, bytes: usize) {
        self.send_limit.store(bytes, SeqCst);
        self.writable.wake_all();
        self.pollers.wake_everybody();
    }
}

/// See the module.
pub struct Options {
    /// `SO_RCVBUF`, in bytes; nothing is limited by it.
    pub receive_limit: AtomicUsize,
    /// `SO_RCVTIMEO`, in nanoseconds; `u64::MAX` for ever.
    pub receive_timeout: AtomicU64,
    /// `SO_SNDTIMEO`.
    pub send_timeout: AtomicU64,
    /// `SO_RCVLOWAT`, in bytes.
    least: AtomicUsize,
    /// `SO_PEEK_OFF`; negative for none.
    peek_offset: AtomicI32,
    /// Whether it is not negative.
    peeks_at_offset: AtomicBool,
    /// `SO_LINGER`'s `l_linger`, in seconds.
    pub linger: AtomicI32,
    /// `SO_PRIORITY`.
    pub priority: AtomicI32,
}

/// Bytes (`net.core.rmem_default`).
pub const DEFAULT_RECEIVE_LIMIT: usize = 212_992;

impl Default for Options {
    fn default() -> Self {
        Self {
            receive_limit: AtomicUsize::new(DEFAULT_RECEIVE_LIMIT),
            receive_timeout: AtomicU64::new(u64::MAX),
            send_timeout: AtomicU64::new(u64::MAX),
            least: AtomicUsize::new(1),
            peek_offset: AtomicI32::new(-1),
            peeks_at_offset: AtomicBool::new(false),
            linger: AtomicI32::new(0),
            priority: AtomicI32::new(0),
        }
    }
}

impl Options {
    /// Bytes that a receiver waits for.
    pub fn receive_least(&self) -> usize {
        self.least.load(Relaxed)
    }

    /// Sets [`Options::receive_least`].
    pub fn set_receive_least(&self, bytes: usize) {
        self.least.store(bytes, Relaxed);
    }

    /// Where looks begin, if that is kept.
    pub fn peek_offset(&self) -> Option<usize> {
        if !self.peeks_at_offset.load(Relaxed) {
            return None;
        }
        usize::try_from(self.peek_offset.load(Relaxed)).ok()
    }

    /// As `SO_PEEK_OFF` reports it.
    pub fn peek_offset_value(&self) -> i32 {
        self.peek_offset.load(Relaxed)
    }

    /// Sets where looks begin; negative: at the beginning, always.
    pub fn set_peek_offset(&self, offset: i32) {
        self.peek_offset.store(offset, Relaxed);
        self.peeks_at_offset.store(offset >= 0, Relaxed);
    }

    /// So many bytes have been looked at.
    pub(super) fn peeked(&self, bytes: usize) {
        if self.peek_offset().is_some() {
            self.peek_offset
                .fetch_add(i32::try_from(bytes).unwrap_or(i32::MAX), Relaxed);
        }
    }

    /// So many bytes have been taken.
    pub(super) fn taken(&self, bytes: usize) {
        let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
        let back = |offset: i32| (offset >= 0).then(|| offset.saturating_sub(bytes).max(0));
        let _ = self.peek_offset.fetch_update(Relaxed, Relaxed, back);
    }
}
