//! The saved registers of a user thread.
//!
//! The order of the fields is the entry code's, which writes them by offset. Selectors are not saved: a program in
//! 64-bit mode has one code and one stack segment, and the other selectors mean nothing but their bases, which are
//! here.

use super::{
    constants::{USER_END, rflags},
    entry,
    fp::FpState,
    privilege::Privilege,
};
use crate::{
    traits::{FpOps, InterruptFrame, SyscallFrame},
    trap::Fault,
};

/// A user thread's registers, as left at its last trap.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "registers by their names")]
#[repr(C)]
pub struct UserContext {
    /// General registers, in the order of Linux's `pt_regs`.
    pub r15: u64,
    /// See [`UserContext::r15`], as all up to `rdi`.
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// The system call's number, or -1 where the last trap was none.
    pub orig_rax: u64,
    /// The next instruction.
    pub rip: u64,
    /// The flags; only [`rflags::USER`] bits are ever taken from a program's memory.
    pub rflags: u64,
    /// The stack pointer.
    pub rsp: u64,
    /// The thread pointer.
    pub fs_base: u64,
    /// The other base, for `arch_prctl`.
    pub gs_base: u64,
    /// The last trap's vector (not set by `syscall`), for the signal frame.
    pub trap_number: u64,
    /// The last trap's error code, for the signal frame.
    pub error_code: u64,
    /// The last page fault's address, for the signal frame.
    pub cr2: u64,
    /// Why the last instruction could not be carried out.
    pub(super) fault: Fault,
    /// x87, SSE and AVX registers.
    pub fp: FpState,
}

impl InterruptFrame for UserContext {
    type Privilege = Privilege;
    type Fp = FpState;

    fn new_user(entry: u64, stack: u64) -> Self {
        Self {
            rip: entry,
            rsp: stack,
            rflags: rflags::FIXED | rflags::IF,
            orig_rax: u64::MAX,
            ..Self::default()
        }
    }

    fn instruction_pointer(&self) -> u64 {
        self.rip
    }

    fn set_instruction_pointer(&mut self, address: u64) {
        self.rip = address;
    }

    fn stack_pointer(&self) -> u64 {
        self.rsp
    }

    fn set_stack_pointer(&mut self, address: u64) {
        self.rsp = address;
    }

    fn frame_pointer(&self) -> u64 {
        self.rbp
    }

    fn thread_pointer(&self) -> u64 {
        self.fs_base
    }

    fn set_thread_pointer(&mut self, address: u64) {
        self.fs_base = address;
    }

    fn gs_base(&self) -> Option<u64> {
        Some(self.gs_base)
    }

    fn set_gs_base(&mut self, address: u64) -> bool {
        let valid = address < USER_END;
        if valid {
            self.gs_base = address;
        }
        valid
    }

    fn privilege(&self) -> Privilege {
        Privilege::Ring3
    }

    fn fp(&self) -> &FpState {
        &self.fp
    }

    fn fp_mut(&mut self) -> &mut FpState {
        &mut self.fp
    }

    fn fault(&self) -> Fault {
        self.fault
    }

    fn load_kept(&self) {
        self.fp.restore();
        entry::load_bases(self);
    }

    fn save_kept(&mut self) {
        self.fp.save();
        entry::save_bases(self);
    }
}

impl SyscallFrame for UserContext {
    fn syscall_number(&self) -> u64 {
        self.orig_rax
    }

    fn syscall_arguments(&self) -> [u64; 6] {
        [self.rdi, self.rsi, self.rdx, self.r10, self.r8, self.r9]
    }

    fn set_return_value(&mut self, value: i64) {
        self.rax = value.cast_unsigned();
    }

    fn return_value(&self) -> i64 {
        self.rax.cast_signed()
    }

    /// `syscall` is two bytes long; no argument register has changed since.
    fn rewind_syscall(&mut self) {
        self.rax = self.orig_rax;
        self.rip = self.rip.wrapping_sub(2);
    }

    fn rewind_syscall_to(&mut self, number: u64) {
        self.rewind_syscall();
        self.rax = number;
    }
}
