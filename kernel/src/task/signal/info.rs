//! `siginfo_t` (`asm-generic/siginfo.h`, 64-bit layout): `si_signo` at 0, `si_errno` at 4, `si_code` at 8, the union at 16.

use super::set::{SIGBUS, SIGCHLD, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP, Signo};
use crate::task::pid::Pid;

/// `si_code`s that no fault reports.
pub mod code {
    /// By `kill`, `raise`.
    pub const SI_USER: i32 = 0;
    /// By the kernel, for no better-known reason.
    pub const SI_KERNEL: i32 = 0x80;
    /// By `sigqueue`.
    pub const SI_QUEUE: i32 = -1;
    /// By the arrival of a message in a queue.
    pub const SI_MESGQ: i32 = -3;
    /// By a POSIX timer.
    pub const SI_TIMER: i32 = -2;
    /// By `tkill`, `tgkill`.
    pub const SI_TKILL: i32 = -6;
    /// The child called `_exit`.
    pub const CLD_EXITED: i32 = 1;
    /// The child died of a signal.
    pub const CLD_KILLED: i32 = 2;
    /// The child died of a signal and left a core.
    pub const CLD_DUMPED: i32 = 3;
    /// A traced child stopped.
    pub const CLD_TRAPPED: i32 = 4;
    /// The child stopped.
    pub const CLD_STOPPED: i32 = 5;
    /// The child continued.
    pub const CLD_CONTINUED: i32 = 6;
    /// Illegal opcode.
    pub const ILL_ILLOPC: i32 = 1;
    /// Integer division by zero.
    pub const FPE_INTDIV: i32 = 1;
    /// Nothing is mapped at the address.
    pub const SEGV_MAPERR: i32 = 1;
    /// The mapping does not permit the access.
    pub const SEGV_ACCERR: i32 = 2;
    /// Invalid address alignment.
    pub const BUS_ADRALN: i32 = 1;
    /// Nonexistent physical address: past the end of the mapped file.
    pub const BUS_ADRERR: i32 = 2;
    /// Hardware error.
    pub const BUS_OBJERR: i32 = 3;
    /// Breakpoint.
    pub const TRAP_BRKPT: i32 = 1;
    /// Single step.
    pub const TRAP_TRACE: i32 = 2;
    /// Hardware breakpoint or watchpoint.
    pub const TRAP_HWBKPT: i32 = 4;
}

/// What the union of a `siginfo_t` holds (`siginfo_layout` of Linux).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Sender and user.
    Kill,
    /// Sender, user and a value.
    Queued,
    /// A timer's number, overruns and a value.
    Timer,
    /// A child, its user, status and times.
    Child,
    /// A band and a descriptor.
    Poll,
    /// An address.
    Fault {
        /// And how many of its low bits are unknown (`si_addr_lsb`).
        counts_bits: bool,
    },
    /// A call's address, number and architecture.
    Call,
}

/// One `siginfo_t`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SigInfo {
    words: [u64; 16],
}

impl SigInfo {
    /// The bytes of a `siginfo_t`.
    pub const SIZE: usize = 128;

    /// A signal with nothing in the union.
    pub const fn new(signo: Signo, code: i32) -> Self {
        let mut words = [0; 16];
        words[0] = signo as u32 as u64;
        words[1] = code as u32 as u64;
        Self { words }
    }

    /// A signal from the kernel itself.
    pub const fn kernel(signo: Signo) -> Self {
        Self::new(signo, code::SI_KERNEL)
    }

    /// A signal from a process.
    pub const fn from_process(signo: Signo, code: i32, pid: Pid, uid: u32) -> Self {
        let mut info = Self::new(signo, code);
        info.words[2] = pid as u32 as u64 | (uid as u64) << 32;
        info
    }

    /// The same info with what came with it (`si_value`).
    pub const fn with_value(mut self, value: u64) -> Self {
        self.words[3] = value;
        self
    }

    /// A fault at an address.
    pub const fn fault(signo: Signo, code: i32, address: u64) -> Self {
        let mut info = Self::new(signo, code);
        info.words[2] = address;
        info
    }

    /// A call that was not made: why, the address behind it, its number, and the architecture (`AUDIT_ARCH_*`).
    pub const fn call(code: i32, errno: i32, address: u64, number: i32, architecture: u32) -> Self {
        let mut info = Self::new(SIGSYS, code);
        info.words[0] |= (errno as u32 as u64) << 32;
        info.words[2] = address;
        info.words[3] = number as u32 as u64 | (architecture as u64) << 32;
        info
    }

    /// A child's change of state; times in clock ticks.
    pub const fn child(code: i32, pid: Pid, uid: u32, status: i32, user: u64, system: u64) -> Self {
        let mut info = Self::from_process(super::set::SIGCHLD, code, pid, uid);
        info.words[3] = status as u32 as u64;
        info.words[4] = user;
        info.words[5] = system;
        info
    }

    /// The same info for another signal number.
    pub const fn with_signo(mut self, signo: Signo) -> Self {
        self.words[0] = self.words[0] & !0xffff_ffff | signo as u32 as u64;
        self
    }

    /// A POSIX timer's expiry.
    pub const fn timer(signo: Signo, id: i32, overrun: i32, value: u64) -> Self {
        let mut info = Self::new(signo, code::SI_TIMER);
        info.words[2] = id as u32 as u64 | (overrun as u32 as u64) << 32;
        info.words[3] = value;
        info
    }

    /// `si_overrun` of a timer's expiry.
    pub const fn overrun(&self) -> i32 {
        (self.words[2] >> 32) as i32
    }

    /// The same info with another `si_overrun`.
    pub const fn with_overrun(mut self, overrun: i32) -> Self {
        self.words[2] = self.words[2] & 0xffff_ffff | (overrun as u32 as u64) << 32;
        self
    }

    /// What a program handed in.
    pub fn from_user(bytes: &[u8; Self::SIZE]) -> Self {
        let mut words = [0; 16];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            let mut eight = [0; 8];
            eight.copy_from_slice(chunk);
            *word = u64::from_ne_bytes(eight);
        }
        Self { words }
    }

    /// The bytes as the user sees them.
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(self.words) {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    /// `si_signo`.
    pub const fn signo(&self) -> Signo {
        self.words[0] as i32
    }

    /// `si_code`.
    pub const fn code(&self) -> i32 {
        self.words[1] as i32
    }

    /// A 64-bit word of the structure; the union begins at the third.
    pub const fn word(&self, index: usize) -> u64 {
        self.words[index]
    }

    /// What the union holds, by signal and code.
    pub const fn layout(&self) -> Layout {
        /// Codes of SIGIO, which every signal may have.
        const POLL_CODES: i32 = 6;
        const SI_SIGIO: i32 = -5;
        // The codes that the kernel gives to each signal, beginning with 1.
        let (codes, layout) = match self.signo() {
            SIGILL => (11, Layout::Fault { counts_bits: false }),
            SIGFPE => (15, Layout::Fault { counts_bits: false }),
            SIGSEGV => (9, Layout::Fault { counts_bits: false }),
            // BUS_MCEERR_AR, BUS_MCEERR_AO.
            SIGBUS => (
                5,
                Layout::Fault {
                    counts_bits: matches!(self.code(), 4 | 5),
                },
            ),
            SIGTRAP => (6, Layout::Fault { counts_bits: false }),
            SIGCHLD => (6, Layout::Child),
            SIGSYS => (2, Layout::Call),
            _ => (POLL_CODES, Layout::Poll),
        };
        match self.code() {
            code if code > code::SI_USER && code < code::SI_KERNEL => {
                if code <= codes {
                    layout
                } else if code <= POLL_CODES {
                    Layout::Poll
                } else {
                    Layout::Kill
                }
            }
            code::SI_TIMER => Layout::Timer,
            SI_SIGIO => Layout::Poll,
            ..0 => Layout::Queued,
            _ => Layout::Kill,
        }
    }

    /// `si_addr` of a fault.
    pub const fn address(&self) -> u64 {
        self.words[2]
    }
}

impl core::fmt::Debug for SigInfo {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "SigInfo({}, code {})", self.signo(), self.code())
    }
}
