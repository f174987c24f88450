//! The simulated user context: a few registers and, in place of code, a closure.

use std::sync::{Arc, Mutex};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{
    machine::{self, lock},
    privilege::Privilege,
};
use crate::{
    traits::{FpOps, InterruptFrame, SyscallFrame},
    trap::{ExceptionKind, Fault, Trap},
};

pub(super) const FP_WORDS: usize = 8;

/// The general registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Registers {
    /// The next instruction. A program finds a signal handler's address here when it is to run the handler.
    pub pc: u64,
    /// The stack pointer.
    pub sp: u64,
    /// The frame pointer.
    pub fp: u64,
    /// The thread pointer.
    pub tp: u64,
    /// The system-call number, set by the program before it returns `Ok`.
    pub number: u64,
    /// The system-call arguments; a signal handler's three arguments.
    pub arguments: [u64; 6],
    /// What the last call returned.
    pub result: i64,
    /// Not zero where the next entry to user mode makes the last call again, without the program's doing.
    pub again: u64,
}

/// A user program: runs until its next system call, or fault.
pub type Program = Arc<Mutex<dyn FnMut(&mut Registers) -> Result<(), Fault> + Send>>;

/// A closure as a [`Program`].
pub fn program(run: impl FnMut(&mut Registers) -> Result<(), Fault> + Send + 'static) -> Program {
    Arc::new(Mutex::new(run))
}

/// The FP/SIMD registers' saved copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FpState(pub [u64; FP_WORDS]);

impl FpOps for FpState {
    fn save(&mut self) {
        self.0 = machine::with_cpu(|cpu| cpu.fp);
    }

    fn restore(&self) {
        machine::with_cpu(|cpu| cpu.fp = self.0);
    }
}

/// A thread's registers and its program. A clone shares the program, which tells the two apart by their registers.
#[derive(Clone)]
pub struct UserContext {
    /// The general registers.
    pub registers: Registers,
    /// The FP/SIMD registers' saved copy.
    pub fp: FpState,
    /// Why the program could not go on.
    pub fault: Fault,
    /// What runs in user mode. Without one, entering user mode raises an illegal-instruction exception.
    pub program: Option<Program>,
}

impl UserContext {
    /// A context that runs `program`.
    pub fn with_program(program: Program) -> Self {
        Self {
            program: Some(program),
            ..Self::new_user(0, 0)
        }
    }

    pub(super) fn run(&mut self) -> Trap {
        if std::mem::take(&mut self.registers.again) != 0 {
            return Trap::Syscall;
        }
        let ended = match &self.program {
            Some(program) => lock(program.as_ref())(&mut self.registers),
            None => Err(Fault::Exception {
                kind: ExceptionKind::IllegalInstruction,
                address: self.registers.pc,
            }),
        };
        match ended {
            Ok(()) => Trap::Syscall,
            Err(fault) => {
                self.fault = fault;
                Trap::Fault
            }
        }
    }
}

impl InterruptFrame for UserContext {
    type Privilege = Privilege;
    type Fp = FpState;

    fn new_user(entry: u64, stack: u64) -> Self {
        let program = machine::with_machine(|machine| lock(&machine.programs).get(&entry).cloned());
        let registers = Registers {
            pc: entry,
            sp: stack,
            ..Registers::default()
        };
        Self {
            registers,
            fp: FpState::default(),
            fault: Fault::default(),
            program,
        }
    }

    fn instruction_pointer(&self) -> u64 {
        self.registers.pc
    }

    fn set_instruction_pointer(&mut self, address: u64) {
        self.registers.pc = address;
    }

    fn stack_pointer(&self) -> u64 {
        self.registers.sp
    }

    fn set_stack_pointer(&mut self, address: u64) {
        self.registers.sp = address;
    }

    fn frame_pointer(&self) -> u64 {
        self.registers.fp
    }

    fn thread_pointer(&self) -> u64 {
        self.registers.tp
    }

    fn set_thread_pointer(&mut self, address: u64) {
        self.registers.tp = address;
    }

    fn privilege(&self) -> Privilege {
        Privilege::User
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
}

impl SyscallFrame for UserContext {
    fn syscall_number(&self) -> u64 {
        self.registers.number
    }

    fn syscall_arguments(&self) -> [u64; 6] {
        self.registers.arguments
    }

    fn set_return_value(&mut self, value: i64) {
        self.registers.result = value;
    }

    fn return_value(&self) -> i64 {
        self.registers.result
    }

    fn rewind_syscall(&mut self) {
        self.registers.again = 1;
    }

    fn rewind_syscall_to(&mut self, number: u64) {
        self.rewind_syscall();
        self.registers.number = number;
    }
}
