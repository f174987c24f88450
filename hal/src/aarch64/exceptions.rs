//! The vector table and what stands behind it, and the way to user mode.
//!
//! | taken from | stack on arrival | what happens |
//! |---|---|---|
//! | EL1 on `SP_EL0`: the kernel | `SP_EL1`: this CPU's exception stack | interrupts: dispatch; data aborts: fix-up; else a report |
//! | EL1 on `SP_EL1`: dispatch or report | the same | a report from the middle of the exception stack |
//! | EL0 | `SP_EL1`: the running `UserContext` | registers go there, and `hal_enter_user` returns to its caller |
//!
//! `TPIDR_EL0` and `TPIDRRO_EL0` are free as scratch on the path that never returns.

use core::arch::global_asm;
use core::mem::offset_of;

use super::exception_frame::UserContext;
use super::percpu::{self, Block};
use super::sysreg::read_sysreg;
use super::{kernel_map, user_copy};
use crate::serial::SerialPort;
use crate::traits::{CpuOps, Shutdown};
use crate::trap::{InterruptToken, KernelFault};
use crate::upcall;

/// What arrived, as the vectors number it.
pub(super) const SYNCHRONOUS: u64 = 0;
pub(super) const IRQ: u64 = 1;
const FIQ: u64 = 2;
pub(super) const SERROR: u64 = 3;
/// Added for an exception on the exception stack.
const NESTED: u64 = 8;

/// The kernel's registers at a synchronous exception or SError.
#[repr(C)]
struct KernelFrame {
    /// A frame record: the interrupted frame pointer and instruction.
    record: [u64; 2],
    x: [u64; 31],
    sp: u64,
    pc: u64,
    pstate: u64,
}

const _: () = assert!(size_of::<KernelFrame>() == 288);
const _: () = assert!(offset_of!(UserContext, x) == 0 && offset_of!(UserContext, sp) == 248);
const _: () = assert!(offset_of!(UserContext, pc) == 256 && offset_of!(UserContext, pstate) == 264);
const _: () = assert!(offset_of!(Block, kernel_sp) == 0 && offset_of!(Block, exception_top) == 8);

global_asm!(
    ".macro VECTOR target",
    ".balign 128",
    "b \\target",
    ".endm",
    // An exception that is handled or reported with all registers at hand.
    ".macro REPORT name, kind",
    "\\name: sub sp, sp, #288",
    "stp x0, x1, [sp, #16]",
    "mov x0, #\\kind",
    "mrs x1, sp_el0",
    "b 2f",
    ".endm",
    // The same from the exception stack itself, which may be what is broken: start again in the middle of it.
    ".macro NESTED_REPORT name, kind",
    "\\name: msr tpidr_el0, x0",
    "mov x0, sp",
    "msr tpidrro_el0, x0",
    "mrs x0, tpidr_el1",
    "ldr x0, [x0, #8]",
    "sub x0, x0, #16384",
    "mov sp, x0",
    "mrs x0, tpidr_el0",
    "sub sp, sp, #288",
    "stp x0, x1, [sp, #16]",
    "mov x0, #(\\kind + 8)",
    "mrs x1, tpidrro_el0",
    "b 2f",
    ".endm",
    ".macro FROM_USER kind",
    ".balign 128",
    "stp x0, x1, [sp]",
    "mov x0, #\\kind",
    "b 3f",
    ".endm",
    ".section .text.vectors, \"ax\"",
    ".balign 2048",
    ".global hal_vectors",
    "hal_vectors:",
    "VECTOR hal_kernel_sync",
    "VECTOR hal_kernel_irq",
    "VECTOR hal_kernel_fiq",
    "VECTOR hal_kernel_serror",
    "VECTOR hal_nested_sync",
    "VECTOR hal_nested_irq",
    "VECTOR hal_nested_fiq",
    "VECTOR hal_nested_serror",
    "FROM_USER 0",
    "FROM_USER 1",
    "FROM_USER 2",
    "FROM_USER 3",
    "FROM_USER 4",
    "FROM_USER 5",
    "FROM_USER 6",
    "FROM_USER 7",
    ".balign 128",
    "REPORT hal_kernel_sync, 0",
    "REPORT hal_kernel_fiq, 2",
    "REPORT hal_kernel_serror, 3",
    "NESTED_REPORT hal_nested_sync, 0",
    "NESTED_REPORT hal_nested_irq, 1",
    "NESTED_REPORT hal_nested_fiq, 2",
    "NESTED_REPORT hal_nested_serror, 3",
    "2: stp x2, x3, [sp, #32]",
    "stp x4, x5, [sp, #48]",
    "stp x6, x7, [sp, #64]",
    "stp x8, x9, [sp, #80]",
    "stp x10, x11, [sp, #96]",
    "stp x12, x13, [sp, #112]",
    "stp x14, x15, [sp, #128]",
    "stp x16, x17, [sp, #144]",
    "stp x18, x19, [sp, #160]",
    "stp x20, x21, [sp, #176]",
    "stp x22, x23, [sp, #192]",
    "stp x24, x25, [sp, #208]",
    "stp x26, x27, [sp, #224]",
    "stp x28, x29, [sp, #240]",
    "stp x30, x1, [sp, #256]",
    "mrs x2, elr_el1",
    "mrs x3, spsr_el1",
    "stp x2, x3, [sp, #272]",
    "stp x29, x2, [sp]",
    "mov x29, sp",
    "mov x1, x0",
    "mov x0, sp",
    "bl hal_kernel_exception",
    "ldp x2, x3, [sp, #272]",
    "msr elr_el1, x2",
    "msr spsr_el1, x3",
    "ldp x0, x1, [sp, #16]",
    "ldp x2, x3, [sp, #32]",
    "ldp x4, x5, [sp, #48]",
    "ldp x6, x7, [sp, #64]",
    "ldp x8, x9, [sp, #80]",
    "ldp x10, x11, [sp, #96]",
    "ldp x12, x13, [sp, #112]",
    "ldp x14, x15, [sp, #128]",
    "ldp x16, x17, [sp, #144]",
    "ldr x18, [sp, #160]", // x19 to x28 are as the handler's caller left them
    "ldr x29, [sp, #248]",
    "ldr x30, [sp, #256]",
    "add sp, sp, #288",
    "eret",
    // An interrupt of the kernel: what a function may change is saved, with a frame record for backtraces.
    "hal_kernel_irq: sub sp, sp, #208",
    "stp x0, x1, [sp, #16]",
    "stp x2, x3, [sp, #32]",
    "stp x4, x5, [sp, #48]",
    "stp x6, x7, [sp, #64]",
    "stp x8, x9, [sp, #80]",
    "stp x10, x11, [sp, #96]",
    "stp x12, x13, [sp, #112]",
    "stp x14, x15, [sp, #128]",
    "stp x16, x17, [sp, #144]",
    "stp x18, x30, [sp, #160]",
    "mrs x0, elr_el1",
    "mrs x1, spsr_el1",
    "stp x0, x1, [sp, #176]",
    "stp x29, x0, [sp]",
    "mov x29, sp",
    "bl hal_kernel_interrupt",
    "ldp x0, x1, [sp, #176]",
    "msr elr_el1, x0",
    "msr spsr_el1, x1",
    "ldr x29, [sp]",
    "ldp x0, x1, [sp, #16]",
    "ldp x2, x3, [sp, #32]",
    "ldp x4, x5, [sp, #48]",
    "ldp x6, x7, [sp, #64]",
    "ldp x8, x9, [sp, #80]",
    "ldp x10, x11, [sp, #96]",
    "ldp x12, x13, [sp, #112]",
    "ldp x14, x15, [sp, #128]",
    "ldp x16, x17, [sp, #144]",
    "ldp x18, x30, [sp, #160]",
    "add sp, sp, #208",
    "eret",
    // (context: x0) -> x0: what ended user mode. Returns through the code at 3 below.
    ".global hal_enter_user",
    "hal_enter_user: stp x29, x30, [sp, #-96]!",
    "stp x19, x20, [sp, #16]",
    "stp x21, x22, [sp, #32]",
    "stp x23, x24, [sp, #48]",
    "stp x25, x26, [sp, #64]",
    "stp x27, x28, [sp, #80]",
    "mrs x1, tpidr_el1",
    "mov x2, sp",
    "str x2, [x1]",
    "msr daifset, #0xf",
    "msr spsel, #1",
    "mov sp, x0",
    "ldr x1, [sp, #248]",
    "ldp x2, x3, [sp, #256]",
    "msr sp_el0, x1",
    "msr elr_el1, x2",
    "msr spsr_el1, x3",
    "ldp x2, x3, [sp, #16]",
    "ldp x4, x5, [sp, #32]",
    "ldp x6, x7, [sp, #48]",
    "ldp x8, x9, [sp, #64]",
    "ldp x10, x11, [sp, #80]",
    "ldp x12, x13, [sp, #96]",
    "ldp x14, x15, [sp, #112]",
    "ldp x16, x17, [sp, #128]",
    "ldp x18, x19, [sp, #144]",
    "ldp x20, x21, [sp, #160]",
    "ldp x22, x23, [sp, #176]",
    "ldp x24, x25, [sp, #192]",
    "ldp x26, x27, [sp, #208]",
    "ldp x28, x29, [sp, #224]",
    "ldr x30, [sp, #240]",
    "ldp x0, x1, [sp]",
    "eret",
    "3: stp x2, x3, [sp, #16]",
    "stp x4, x5, [sp, #32]",
    "stp x6, x7, [sp, #48]",
    "stp x8, x9, [sp, #64]",
    "stp x10, x11, [sp, #80]",
    "stp x12, x13, [sp, #96]",
    "stp x14, x15, [sp, #112]",
    "stp x16, x17, [sp, #128]",
    "stp x18, x19, [sp, #144]",
    "stp x20, x21, [sp, #160]",
    "stp x22, x23, [sp, #176]",
    "stp x24, x25, [sp, #192]",
    "stp x26, x27, [sp, #208]",
    "stp x28, x29, [sp, #224]",
    "mrs x1, sp_el0",
    "mrs x2, elr_el1",
    "mrs x3, spsr_el1",
    "stp x30, x1, [sp, #240]",
    "stp x2, x3, [sp, #256]",
    "mrs x1, tpidr_el1",
    "ldp x2, x3, [x1]",
    "mov sp, x3",
    "msr spsel, #0",
    "mov sp, x2",
    "ldp x19, x20, [sp, #16]",
    "ldp x21, x22, [sp, #32]",
    "ldp x23, x24, [sp, #48]",
    "ldp x25, x26, [sp, #64]",
    "ldp x27, x28, [sp, #80]",
    "ldp x29, x30, [sp], #96",
    "ret",
);

#[expect(improper_ctypes, reason = "of the context only the registers are looked at there")]
unsafe extern "C" {
    /// Goes to user mode and returns at the next exception from there, with its number. Interrupts are masked before
    /// and after, as are debug exceptions and SErrors after.
    pub(super) fn hal_enter_user(context: *mut UserContext) -> u64;
    /// The vector table, for `VBAR_EL1`.
    pub(super) static hal_vectors: u8;
}

#[unsafe(no_mangle)]
extern "C" fn hal_kernel_interrupt() {
    upcall::breenix_interrupt(InterruptToken(0));
}

/// What an exception class says of a kernel that took it (Arm ARM D19.2.37, `ESR_EL1.EC`).
fn describe(kind: u64, esr: u64, far: u64) -> (&'static str, Option<u64>) {
    let class = esr >> 26 & 0x3f;
    match kind & !NESTED {
        IRQ => return ("interrupt while interrupts are masked", None),
        FIQ => return ("unexpected FIQ", None),
        SERROR => return ("SError", None),
        _ => {}
    }
    match class {
        0x00 => ("undefined instruction", None),
        0x0e => ("illegal execution state", None),
        0x21 => ("instruction abort", Some(far)),
        0x22 => ("misaligned program counter", Some(far)),
        0x25 if kernel_map::is_guard_page(far) => ("stack overflow", Some(far)),
        0x25 if esr & 1 << 6 != 0 => ("data abort on a write", Some(far)),
        0x25 => ("data abort on a read", Some(far)),
        0x26 => ("misaligned stack pointer", None),
        0x3c => ("breakpoint instruction", None),
        _ => ("unexpected exception", None),
    }
}

#[unsafe(no_mangle)]
extern "C" fn hal_kernel_exception(frame: &mut KernelFrame, kind: u64) {
    let (esr, far) = (read_sysreg!("esr_el1"), read_sysreg!("far_el1"));
    if kind == SYNCHRONOUS
        && esr >> 26 & 0x3f == 0x25
        && let Some(target) = user_copy::fixup(frame.pc)
    {
        frame.pc = target;
        return;
    }
    let (what, address) = describe(kind, esr, far);
    let faults = &percpu::current().faults;
    faults.set(faults.get() + 1);
    if faults.get() > 1 {
        // The report itself faulted. Nothing that could fault again is safe now.
        for &byte in b"\r\nfault while a fault was being reported: " {
            super::serial::port().write_byte(byte);
        }
        for &byte in what.as_bytes() {
            super::serial::port().write_byte(byte);
        }
        super::Cpu::shutdown(Shutdown::PowerOff(101));
    }
    upcall::breenix_kernel_fault(&KernelFault {
        what,
        instruction: frame.pc,
        address,
        code: esr,
        frame_pointer: frame.x[29],
        stack_pointer: frame.sp,
    })
}
