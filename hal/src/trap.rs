//! Why user mode came back: one vocabulary for both architectures.

/// What the CPU reported of an interrupt at entry, before the controller is asked. On aarch64 it carries nothing (the
/// GIC is asked for the number), on x86_64 the vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterruptToken(pub u32);

/// How memory was touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A load.
    Read,
    /// A store, or an atomic read-modify-write.
    Write,
    /// An instruction fetch.
    Execute,
}

/// Why [`CpuOps::enter_user`](crate::traits::CpuOps::enter_user) returned. Small enough for registers, since every system call brings
/// one; what there is to know of a fault waits in the context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// The thread made a system call; number and arguments stand in its context.
    Syscall,
    /// An interrupt arrived. It has not been acknowledged: the caller dispatches it, still with interrupts masked.
    Interrupt(InterruptToken),
    /// An instruction could not be carried out, for the reason that [`InterruptFrame::fault`](crate::traits::InterruptFrame::fault) gives.
    Fault,
}

/// Why an instruction could not be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A memory access failed to translate or was not permitted.
    Page {
        /// The user address touched (not aligned).
        address: u64,
        /// How it was touched.
        access: Access,
    },
    /// The instruction itself is at fault.
    Exception {
        /// What kind of fault.
        kind: ExceptionKind,
        /// The address siginfo reports: of the instruction, or of the data for alignment and bus errors.
        address: u64,
    },
}

impl Default for Fault {
    /// What a context that has never run says.
    fn default() -> Self {
        Self::Exception {
            kind: ExceptionKind::IllegalInstruction,
            address: 0,
        }
    }
}

/// Faults of user instructions, as far as Linux tells them apart by signal and `si_code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExceptionKind {
    /// Undefined or privileged instruction: SIGILL, `ILL_ILLOPC`.
    IllegalInstruction,
    /// `brk` / `int3`: SIGTRAP, `TRAP_BRKPT`.
    Breakpoint,
    /// A completed single step: SIGTRAP, `TRAP_TRACE`.
    SingleStep,
    /// A hardware breakpoint or watchpoint: SIGTRAP, `TRAP_HWBKPT`. Which ones, as a set of their numbers, where the CPU says it.
    HardwareBreakpoint(u32),
    /// The same where a single step has ended, too.
    SteppedOntoBreakpoint(u32),
    /// Integer division by zero (x86_64): SIGFPE, `FPE_INTDIV`.
    DivideError,
    /// A floating-point or SIMD exception, with the `si_code` (`FPE_FLTDIV` and so on): SIGFPE.
    FloatingPoint(i32),
    /// A misaligned access where alignment is demanded: SIGBUS, `BUS_ADRALN`.
    Alignment,
    /// A general-protection or stack fault (x86_64), or a non-canonical address: SIGSEGV, `SI_KERNEL`.
    Protection,
    /// Memory answered with an error (external abort, machine check): SIGBUS, `BUS_OBJERR`.
    BusError,
}

/// A fault of the kernel itself, on its way to the panic handler.
#[derive(Clone, Copy, Debug)]
pub struct KernelFault {
    /// What happened, in words.
    pub what: &'static str,
    /// The faulting instruction.
    pub instruction: u64,
    /// The address touched, where the fault has one.
    pub address: Option<u64>,
    /// The architecture's syndrome or error code.
    pub code: u64,
    /// The frame pointer, to start a backtrace from.
    pub frame_pointer: u64,
    /// The stack pointer at the fault.
    pub stack_pointer: u64,
}
