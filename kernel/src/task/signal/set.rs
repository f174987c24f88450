//! Signal numbers and sets of them.

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A signal number, 1 to 64.
pub type Signo = i32;

/// The largest signal number.
pub const SIGNALS: Signo = 64;
/// The first realtime signal as the kernel counts.
pub const SIGRTMIN: Signo = 32;

macro_rules! signals {
    ($($name:ident = $number:literal;)*) => {
        $(#[doc = concat!("`", stringify!($name), "`.")] pub const $name: Signo = $number;)*

        /// The symbolic name of a standard signal.
        pub const fn name(signo: Signo) -> &'static str {
            match signo { $($number => stringify!($name),)* _ => "SIGRT" }
        }
    };
}

signals! {
    SIGHUP = 1; SIGINT = 2; SIGQUIT = 3; SIGILL = 4; SIGTRAP = 5; SIGABRT = 6; SIGBUS = 7; SIGFPE = 8;
    SIGKILL = 9; SIGUSR1 = 10; SIGSEGV = 11; SIGUSR2 = 12; SIGPIPE = 13; SIGALRM = 14; SIGTERM = 15; SIGSTKFLT = 16;
    SIGCHLD = 17; SIGCONT = 18; SIGSTOP = 19; SIGTSTP = 20; SIGTTIN = 21; SIGTTOU = 22; SIGURG = 23; SIGXCPU = 24;
    SIGXFSZ = 25; SIGVTALRM = 26; SIGPROF = 27; SIGWINCH = 28; SIGIO = 29; SIGPWR = 30; SIGSYS = 31;
}

/// A set of signals; bit `n - 1` is signal `n`, as in `sigset_t`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(transparent)]
pub struct SignalSet(pub u64);

impl SignalSet {
    /// No signal.
    pub const EMPTY: Self = Self(0);
    /// The two that cannot be blocked, caught or ignored.
    pub const UNBLOCKABLE: Self = Self::of(&[SIGKILL, SIGSTOP]);
    /// Those whose default action stops the process.
    pub const STOPPING: Self = Self::of(&[SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU]);
    /// Those that a fault of the thread itself raises, delivered before all others.
    pub const SYNCHRONOUS: Self = Self::of(&[SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGSYS]);

    /// The set of the listed signals.
    pub const fn of(signals: &[Signo]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < signals.len() {
            bits |= 1 << (signals[i] - 1);
            i += 1;
        }
        Self(bits)
    }

    /// Whether `signo` is in the set.
    pub const fn contains(self, signo: Signo) -> bool {
        self.0 >> (signo - 1) & 1 == 1
    }

    /// Adds `signo`.
    pub const fn insert(&mut self, signo: Signo) {
        self.0 |= 1 << (signo - 1);
    }

    /// Takes `signo` out.
    pub const fn remove(&mut self, signo: Signo) {
        self.0 &= !(1 << (signo - 1));
    }

    /// Those in either.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those in both.
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those not in `other`.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The one to deliver first: faults, then the lowest number.
    pub const fn first(self) -> Option<Signo> {
        let urgent = self.intersection(Self::SYNCHRONOUS);
        let from = if urgent.is_empty() { self } else { urgent };
        if from.is_empty() {
            None
        } else {
            Some(from.0.trailing_zeros() as Signo + 1)
        }
    }
}
