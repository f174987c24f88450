//! What a tracer sees and changes of a stopped thread: `ptrace(2)` as far as it differs between the machines.
//!
//! `arch::traced` implements [`TraceOps`] for `arch::UserContext`. Register sets have the numbers and layouts of Linux's core
//! files (`include/uapi/linux/elf.h`, `arch/*/kernel/ptrace.c`).

use crate::{traits::SyscallFrame, trap::Trap};

/// Register sets (`include/uapi/linux/elf.h`).
pub mod set {
    /// The general registers.
    pub const PRSTATUS: u32 = 1;
    /// The FP/SIMD registers.
    pub const PRFPREG: u32 = 2;
    /// x86's XSAVE area.
    pub const X86_XSTATE: u32 = 0x202;
    /// aarch64's thread pointers.
    pub const ARM_TLS: u32 = 0x401;
    /// aarch64's hardware breakpoints.
    pub const ARM_HW_BREAK: u32 = 0x402;
    /// aarch64's watchpoints.
    pub const ARM_HW_WATCH: u32 = 0x403;
    /// The number of the call that aarch64 is about to make.
    pub const ARM_SYSTEM_CALL: u32 = 0x404;
}

/// The bytes of the largest register set.
pub const LARGEST_SET: usize = 832;

/// How large a register set is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetSize {
    /// Bytes in all.
    pub bytes: usize,
    /// What a part's length must be a multiple of.
    pub unit: usize,
}

/// Why registers were not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// `EINVAL`.
    Invalid,
    /// `EIO`.
    Io,
    /// `EFAULT`: only a whole set can be set.
    Partial,
    /// `ENOSPC`: more breakpoints than the CPU has.
    Full,
}

/// What belongs to a traced thread's registers besides its context.
#[derive(Clone, Debug)]
pub struct Extra<D> {
    /// Its hardware breakpoints and watchpoints.
    pub debug: D,
    /// The number of the call that it stands at, -1 for none. Where the context holds the number (x86_64) only that counts.
    pub call: i32,
}

impl<D: Default> Default for Extra<D> {
    fn default() -> Self {
        Self {
            debug: D::default(),
            call: -1,
        }
    }
}

/// Which end of a call a thread stops at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallStop {
    /// Before it.
    Entry,
    /// After it.
    Exit,
    /// Before it, because a filter says so.
    Filter,
}

/// The hardware's breakpoints of one thread.
pub trait DebugOps: Clone + Default + Send + Sync + 'static {
    /// Whether any is set, so that user mode has to be entered by [`TraceOps::enter_user_traced`].
    fn is_armed(&self) -> bool;
}

/// A context that can be inspected.
pub trait TraceOps: SyscallFrame {
    /// The thread's hardware breakpoints.
    type Debug: DebugOps;
    /// `AUDIT_ARCH_*` of the system-call ABI (`include/uapi/linux/audit.h`).
    const AUDIT_ARCH: u32;

    /// The size of a register set; `None` where there is no such.
    fn register_set(number: u32) -> Option<SetSize>;
    /// Fills `out` from the beginning of a set that [`TraceOps::register_set`] knows; it is no longer than that.
    fn read_set(&self, number: u32, extra: &Extra<Self::Debug>, out: &mut [u8]);
    /// Changes the beginning of a set. No value can do harm: privileged bits stay what they are.
    ///
    /// # Errors
    /// [`Refused`]; part of the set may have been changed.
    fn write_set(&mut self, number: u32, extra: &mut Extra<Self::Debug>, bytes: &[u8]) -> Result<(), Refused>;
    /// The set that an older request is about, and whether the request sets it (`PTRACE_GETREGS` and its kin).
    fn legacy_request(_request: u32) -> Option<(u32, bool)> {
        None
    }
    /// A word of `struct user`; `None` where there is none at the offset, or no such structure.
    fn peek_user(&self, _extra: &Extra<Self::Debug>, _offset: u64) -> Option<u64> {
        None
    }
    /// Changes a word of `struct user`.
    ///
    /// # Errors
    /// [`Refused`].
    fn poke_user(&mut self, _extra: &mut Extra<Self::Debug>, _offset: u64, _value: u64) -> Result<(), Refused> {
        Err(Refused::Io)
    }

    /// Makes the registers look as they do at a stop for a call; the result undoes that in [`TraceOps::end_call_stop`].
    fn begin_call_stop(&mut self, stop: CallStop) -> u64;
    /// A new program's context keeps what `old` says of the call by which it came, as far as registers show it.
    fn keep_call(&mut self, _old: &Self) {}
    /// After a stop for a call.
    fn end_call_stop(&mut self, stop: CallStop, before: u64);
    /// The number of the call to make after the stop at its entry; -1 for none.
    fn call_to_make(&self, extra: &Extra<Self::Debug>) -> i32;
    /// The arguments of that call.
    fn call_arguments(&self) -> [u64; 6] {
        self.syscall_arguments()
    }
    /// Has [`SyscallFrame::syscall_number`] and [`SyscallFrame::syscall_arguments`] say what the tracer wants; the result is for
    /// [`TraceOps::call_made`].
    fn prepare_call(&mut self, number: i32) -> [u64; 2];
    /// Undoes [`TraceOps::prepare_call`] where the registers are still those of the call.
    fn call_made(&mut self, before: [u64; 2]);
    /// Makes the registers look as they do at a stop for a signal after a call that is to be made again; `code` is its restart
    /// code, negative.
    fn show_interrupted(&mut self, code: i64);
    /// Undoes [`TraceOps::show_interrupted`] after the stop: the restart code, negative, if the call is still to be made again. `pc` is what
    /// the instruction pointer was during the stop before the tracer could change it.
    fn still_interrupted(&mut self, code: i64, pc: u64) -> Option<i64>;

    /// As [`CpuOps::enter_user`](crate::traits::CpuOps::enter_user), with the thread's hardware breakpoints, for one instruction only if
    /// `step`.
    fn enter_user_traced(&mut self, debug: &mut Self::Debug, step: bool) -> Trap;
}
