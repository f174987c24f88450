//! What a synchronous exception from EL0 means: the syndrome register put into the words both architectures share.

use super::cpu::Cpu;
use super::exception_frame::UserContext;
use super::features;
use super::sysreg::read_sysreg;
use crate::traits::CpuOps;
use crate::trap::{Access, ExceptionKind, Fault, Trap};

/// `siginfo` codes of SIGFPE (`asm-generic/siginfo.h`).
mod fpe {
    pub(super) const DIVIDE: i32 = 3;
    pub(super) const OVERFLOW: i32 = 4;
    pub(super) const UNDERFLOW: i32 = 5;
    pub(super) const INEXACT: i32 = 6;
    pub(super) const INVALID: i32 = 7;
    pub(super) const UNKNOWN: i32 = 14;
}

/// The CPU does not say which.
const HARDWARE_BREAKPOINT: ExceptionKind = ExceptionKind::HardwareBreakpoint(0);

/// Decodes a synchronous exception from EL0 (Arm ARM D19.2.37, `ESR_EL1`). `None`: it has been dealt with.
#[inline]
pub(super) fn synchronous(context: &mut UserContext) -> Option<Trap> {
    const SVC: u64 = 0x15;
    let esr = read_sysreg!("esr_el1");
    if esr >> 26 == SVC {
        context.orig_x0 = context.x[0];
        return Some(Trap::Syscall);
    }
    context.fault = other(context, esr)?;
    Some(Trap::Fault)
}

/// One that is no system call.
#[inline(never)]
fn other(context: &mut UserContext, esr: u64) -> Option<Fault> {
    let far = read_sysreg!("far_el1");
    let class = esr >> 26 & 0x3f;
    let pc = context.pc;
    let at_pc = |kind| Some(Fault::Exception { kind, address: pc });
    match class {
        0x20 | 0x24 => {
            context.esr = esr;
            Some(memory_abort(
                esr,
                far,
                if class == 0x20 { Some(Access::Execute) } else { None },
            ))
        }
        0x00 if emulate_undefined(context) => None,
        0x18 if emulate_trapped(context, esr) => None,
        // WFI and WFE are hints.
        0x01 => {
            context.pc += 4;
            None
        }
        0x22 => Some(Fault::Exception {
            kind: ExceptionKind::Alignment,
            address: far,
        }),
        0x26 => Some(Fault::Exception {
            kind: ExceptionKind::Alignment,
            address: context.sp,
        }),
        0x2c => at_pc(ExceptionKind::FloatingPoint(floating_point_code(esr))),
        0x30 => at_pc(HARDWARE_BREAKPOINT),
        0x34 => Some(Fault::Exception {
            kind: HARDWARE_BREAKPOINT,
            address: far,
        }),
        0x3c => at_pc(ExceptionKind::Breakpoint),
        0x32 => at_pc(ExceptionKind::SingleStep),
        // Undefined, privileged, SVE, SME, illegal state, and whatever the future brings.
        _ => at_pc(ExceptionKind::IllegalInstruction),
    }
}

/// Which fault a fetch (`access` given) or a load or store met.
fn memory_abort(esr: u64, far: u64, access: Option<Access>) -> Fault {
    // Cache maintenance counts as a write in the syndrome but needs no more than reading.
    const WRITE: u64 = 1 << 6;
    const CACHE_MAINTENANCE: u64 = 1 << 8;
    let access = access.unwrap_or(match esr & (WRITE | CACHE_MAINTENANCE) {
        WRITE => Access::Write,
        _ => Access::Read,
    });
    match esr & 0x3f {
        // Address size, translation, access flag, permission; level -1 forms are not possible with 48 bits.
        0x00..=0x0f => Fault::Page { address: far, access },
        0x21 => Fault::Exception {
            kind: ExceptionKind::Alignment,
            address: far,
        },
        _ => Fault::Exception {
            kind: ExceptionKind::BusError,
            address: far,
        },
    }
}

/// The `si_code` of a trapped floating-point exception, in Linux's order of preference.
fn floating_point_code(esr: u64) -> i32 {
    const VALID: u64 = 1 << 23;
    if esr & VALID == 0 {
        return fpe::UNKNOWN;
    }
    [fpe::INVALID, fpe::DIVIDE, fpe::OVERFLOW, fpe::UNDERFLOW, fpe::INEXACT]
        .into_iter()
        .enumerate()
        .find_map(|(bit, code)| (esr & 1 << bit != 0).then_some(code))
        .unwrap_or(fpe::UNKNOWN)
}

/// A trapped system-register access (syndrome in Arm ARM D19.2.37, "MSR, MRS, or System instruction").
fn emulate_trapped(context: &mut UserContext, esr: u64) -> bool {
    let field = |shift: u32, bits: u32| esr >> shift & ((1 << bits) - 1);
    let read = esr & 1 != 0;
    let identification = field(20, 2) == 3 && field(14, 3) == 0 && field(10, 4) == 0;
    read && identification && emulate_read(context, field(1, 4), field(17, 3), field(5, 5))
}

/// CPUs without FEAT_IDST call a read of an identification register undefined: look at the instruction itself.
fn emulate_undefined(context: &mut UserContext) -> bool {
    let mut bytes = [0; 4];
    if !context.pc.is_multiple_of(4) || context.pc >= 1 << 48 || Cpu::copy_from_user(&mut bytes, context.pc).is_err() {
        return false;
    }
    let instruction = u64::from(u32::from_le_bytes(bytes));
    // MRS Xt, S3_0_C0_Cm_op2.
    instruction & 0xffff_f000 == 0xd538_0000
        && emulate_read(
            context,
            instruction >> 8 & 0xf,
            instruction >> 5 & 7,
            instruction & 0x1f,
        )
}

fn emulate_read(context: &mut UserContext, crm: u64, op2: u64, register: u64) -> bool {
    let Some(value) = features::emulated_register(crm, op2) else {
        return false;
    };
    if let Some(register) = context.x.get_mut(register as usize) {
        *register = value;
    }
    context.pc += 4;
    true
}
