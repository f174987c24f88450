//! From a vector and its error code to [`Trap`].

use core::sync::atomic::Ordering::Relaxed;

use super::{
    debug,
    entry::{NOT_CANONICAL, SYSCALL},
    fp,
    idt::vector,
    interrupt_frame::UserContext,
    percpu::CpuData,
    registers::read_cr2,
};
use crate::trap::{Access, ExceptionKind, Fault, InterruptToken, Trap};

/// Page-fault error code (SDM volume 3, 4.7): the access was a write.
const FAULT_WRITE: u64 = 1 << 1;
/// The access was an instruction fetch.
const FAULT_FETCH: u64 = 1 << 4;

/// Says why user mode came back. Called right after the trap, with interrupts still masked and nothing in between that
/// could fault, so that `CR2` and the FP status are the trap's.
#[inline]
pub fn decode(context: &mut UserContext, number: u64) -> Trap {
    match number {
        SYSCALL => Trap::Syscall,
        vector::FIRST_INTERRUPT..SYSCALL => Trap::Interrupt(InterruptToken(number as u32)),
        _ => {
            context.fault = fault(context, number);
            Trap::Fault
        }
    }
}

#[inline(never)]
fn fault(context: &mut UserContext, number: u64) -> Fault {
    if number == NOT_CANONICAL {
        // What the CPU would say at the first fetch, were there a way to get there.
        return Fault::Exception {
            kind: ExceptionKind::Protection,
            address: context.rip,
        };
    }
    context.trap_number = number;
    context.error_code = CpuData::current().error.load(Relaxed);
    let kind = match number {
        vector::PAGE_FAULT => {
            let address = read_cr2();
            context.cr2 = address;
            let access = match context.error_code {
                code if code & FAULT_FETCH != 0 => Access::Execute,
                code if code & FAULT_WRITE != 0 => Access::Write,
                _ => Access::Read,
            };
            return Fault::Page { address, access };
        }
        vector::DIVIDE => ExceptionKind::DivideError,
        vector::DEBUG => match debug::take_status() {
            (0, _) => ExceptionKind::SingleStep,
            (hit, false) => ExceptionKind::HardwareBreakpoint(hit),
            (hit, true) => ExceptionKind::SteppedOntoBreakpoint(hit),
        },
        vector::BREAKPOINT => ExceptionKind::Breakpoint,
        vector::INVALID_OPCODE => ExceptionKind::IllegalInstruction,
        vector::X87 => ExceptionKind::FloatingPoint(si_code(fp::x87_exceptions())),
        vector::SIMD => ExceptionKind::FloatingPoint(si_code(fp::simd_exceptions())),
        vector::ALIGNMENT => ExceptionKind::Alignment,
        // Overflow and bound do not exist in 64-bit mode; segment, stack and general-protection faults all mean an
        // access or an instruction that is not allowed.
        _ => ExceptionKind::Protection,
    };
    Fault::Exception {
        kind,
        address: context.rip,
    }
}

/// The `FPE_*` code of the first pending unmasked exception, in Linux's order (`fpu__exception_code`).
fn si_code(pending: u32) -> i32 {
    const INVALID: u32 = 1 << 0;
    const DENORMAL: u32 = 1 << 1;
    const ZERO_DIVIDE: u32 = 1 << 2;
    const OVERFLOW: u32 = 1 << 3;
    const UNDERFLOW: u32 = 1 << 4;
    const PRECISION: u32 = 1 << 5;
    // Values from include/uapi/asm-generic/siginfo.h.
    match pending {
        p if p & INVALID != 0 => 7,
        p if p & ZERO_DIVIDE != 0 => 3,
        p if p & OVERFLOW != 0 => 4,
        p if p & (DENORMAL | UNDERFLOW) != 0 => 5,
        p if p & PRECISION != 0 => 6,
        _ => 0,
    }
}
