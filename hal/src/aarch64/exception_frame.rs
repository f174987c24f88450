//! The one saved form of a program's registers.

use super::{
    fp::FpState,
    privilege::Privilege,
    sysreg::{read_sysreg, write_sysreg},
};
use crate::{
    traits::{FpOps, InterruptFrame, SyscallFrame},
    trap::Fault,
};

/// A thread's registers while it is not in user mode. `exceptions.rs` reads and writes it by offset.
#[derive(Clone, Debug)]
#[repr(C, align(16))]
pub struct UserContext {
    /// `x0`..`x30`.
    pub x: [u64; 31],
    /// `SP_EL0`.
    pub sp: u64,
    /// `ELR_EL1`: the next instruction.
    pub pc: u64,
    /// `SPSR_EL1`: flags and mode. Only bits in [`USER_PSTATE`] are ever set.
    pub pstate: u64,
    /// `TPIDR_EL0`: the thread pointer, as last saved.
    pub tpidr: u64,
    /// `x0` at the last system call, which its return value overwrites.
    pub orig_x0: u64,
    /// `ESR_EL1` of the last fault, for signal frames.
    pub(super) esr: u64,
    /// Why the last instruction could not be carried out.
    pub(super) fault: Fault,
    /// The FP/SIMD registers as last saved.
    pub fp: FpState,
}

/// The `PSTATE` bits a program may choose: N Z C V, DIT, SSBS, BTYPE (Arm ARM C5.2.19). The rest is EL0t with nothing
/// masked.
pub(super) const USER_PSTATE: u64 = 0xf << 28 | 1 << 24 | 1 << 12 | 3 << 10;

impl InterruptFrame for UserContext {
    type Privilege = Privilege;
    type Fp = FpState;

    fn new_user(entry: u64, stack: u64) -> Self {
        Self {
            x: [0; 31],
            sp: stack,
            pc: entry,
            pstate: 0,
            tpidr: 0,
            orig_x0: 0,
            esr: 0,
            fault: Fault::default(),
            fp: FpState::INITIAL,
        }
    }

    fn instruction_pointer(&self) -> u64 {
        self.pc
    }

    fn set_instruction_pointer(&mut self, address: u64) {
        self.pc = address;
    }

    fn stack_pointer(&self) -> u64 {
        self.sp
    }

    fn set_stack_pointer(&mut self, address: u64) {
        self.sp = address;
    }

    fn frame_pointer(&self) -> u64 {
        self.x[29]
    }

    fn thread_pointer(&self) -> u64 {
        self.tpidr
    }

    fn set_thread_pointer(&mut self, address: u64) {
        self.tpidr = address;
    }

    fn privilege(&self) -> Privilege {
        Privilege::of_pstate(self.pstate)
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
        write_sysreg!("tpidr_el0", self.tpidr);
    }

    fn save_kept(&mut self) {
        self.fp.save();
        self.tpidr = read_sysreg!("tpidr_el0");
    }
}

impl SyscallFrame for UserContext {
    fn syscall_number(&self) -> u64 {
        self.x[8] & 0xffff_ffff
    }

    fn syscall_arguments(&self) -> [u64; 6] {
        [self.orig_x0, self.x[1], self.x[2], self.x[3], self.x[4], self.x[5]]
    }

    fn set_return_value(&mut self, value: i64) {
        self.x[0] = value.cast_unsigned();
    }

    fn return_value(&self) -> i64 {
        self.x[0].cast_signed()
    }

    fn rewind_syscall(&mut self) {
        self.x[0] = self.orig_x0;
        self.pc = self.pc.wrapping_sub(4);
    }

    fn rewind_syscall_to(&mut self, number: u64) {
        self.rewind_syscall();
        self.x[8] = number;
    }
}
