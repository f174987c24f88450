//! The interrupt descriptor table, and what becomes of exceptions in kernel mode.
//!
//! One table serves every CPU. A fault of the kernel is either a user copy that ran into a bad page, which has a
//! fix-up, or the end: it is reported to the panic handler by `breenix_kernel_fault`. A kernel stack that overflows
//! into its guard page cannot take the page fault, which is why the double fault has a stack of its own.

use core::{arch::asm, cell::UnsafeCell, mem::size_of, sync::atomic::Ordering::Relaxed};

use super::{
    constants::{IST_DEBUG, IST_DOUBLE_FAULT, IST_MACHINE_CHECK, IST_NMI, KERNEL_CS, rflags},
    cpu,
    entry::{self, KernelFrame},
    percpu::CpuData,
    registers::read_cr2,
    segments::TablePointer,
    user_copy,
};
use crate::{
    trap::{InterruptToken, KernelFault},
    upcall::{breenix_interrupt, breenix_kernel_fault},
};

/// Vectors that this module and [`trap_decode`](super::trap_decode) know (SDM volume 3, table 6-1).
pub mod vector {
    /// Divide error.
    pub const DIVIDE: u64 = 0;
    /// Debug.
    pub const DEBUG: u64 = 1;
    /// Non-maskable interrupt.
    pub const NMI: u64 = 2;
    /// `int3`.
    pub const BREAKPOINT: u64 = 3;
    /// `into`, not in 64-bit mode.
    pub const OVERFLOW: u64 = 4;
    /// `bound`, not in 64-bit mode.
    pub const BOUND: u64 = 5;
    /// Invalid opcode.
    pub const INVALID_OPCODE: u64 = 6;
    /// Double fault.
    pub const DOUBLE_FAULT: u64 = 8;
    /// General protection.
    pub const PROTECTION: u64 = 13;
    /// Page fault.
    pub const PAGE_FAULT: u64 = 14;
    /// x87 error.
    pub const X87: u64 = 16;
    /// Alignment check.
    pub const ALIGNMENT: u64 = 17;
    /// Machine check.
    pub const MACHINE_CHECK: u64 = 18;
    /// SIMD floating-point exception.
    pub const SIMD: u64 = 19;
    /// The first vector that is an interrupt.
    pub const FIRST_INTERRUPT: u64 = 32;
}

/// One gate: two words (SDM volume 3, 6.14.1).
#[repr(C, align(4096))]
struct Table(UnsafeCell<[[u64; 2]; 256]>);

// SAFETY: written once by the boot CPU before any other runs.
unsafe impl Sync for Table {}

static TABLE: Table = Table(UnsafeCell::new([[0; 2]; 256]));

fn gate(handler: u64, ist: u8, ring: u64) -> [u64; 2] {
    const INTERRUPT_GATE: u64 = 0xe << 40 | 1 << 47;
    let low = handler & 0xffff
        | u64::from(KERNEL_CS) << 16
        | u64::from(ist) << 32
        | INTERRUPT_GATE
        | ring << 45
        | (handler >> 16 & 0xffff) << 48;
    [low, handler >> 32]
}

/// Fills the table in.
///
/// # Safety
/// Called once, by the boot CPU, before the table is loaded anywhere.
pub unsafe fn fill() {
    // SAFETY: the caller's promise.
    let table = unsafe { &mut *TABLE.0.get() };
    for (number, entry) in (0..=u8::MAX).zip(table.iter_mut()) {
        let ist = match u64::from(number) {
            vector::DOUBLE_FAULT => IST_DOUBLE_FAULT,
            vector::NMI => IST_NMI,
            vector::MACHINE_CHECK => IST_MACHINE_CHECK,
            vector::DEBUG => IST_DEBUG,
            _ => 0,
        };
        // Programs may raise the breakpoint and the overflow trap by instruction, and nothing else.
        let ring = if matches!(u64::from(number), vector::BREAKPOINT | vector::OVERFLOW) {
            3
        } else {
            0
        };
        *entry = gate(entry::stub(number), ist, ring);
    }
}

/// Loads the table on the calling CPU.
pub fn load() {
    let pointer = TablePointer {
        limit: size_of::<Table>() as u16 - 1,
        base: TABLE.0.get() as u64,
    };
    // SAFETY: the table is complete and lives for ever.
    unsafe { asm!("lidt [{}]", in(reg) &pointer, options(nostack, preserves_flags, readonly)) };
}

/// An interrupt in kernel mode.
pub(super) extern "C" fn kernel_interrupt(vector: u32) {
    breenix_interrupt(InterruptToken(vector));
}

/// An exception in kernel mode, on the interrupted stack.
pub(super) extern "C" fn kernel_exception(frame: &mut KernelFrame) {
    if frame.vector == vector::PAGE_FAULT
        && let Some(fix_up) = user_copy::fix_up(frame.rip, read_cr2())
    {
        frame.rip = fix_up;
        return;
    }
    report(frame);
}

/// A trap on a stack of the interrupt stack table: from anywhere, even from user mode.
pub(super) extern "C" fn paranoid_exception(frame: &mut KernelFrame) {
    if frame.vector == vector::NMI {
        // Nothing here sends one. Firmware's or the hypervisor's is counted and let go.
        CpuData::current().nmis.fetch_add(1, Relaxed);
        return;
    }
    if frame.vector == vector::DEBUG && taken_by_entry(frame) {
        return;
    }
    report(frame);
}

/// A program can have a debug exception of its own be held back until the first instruction of the kernel (`mov ss` on a watched
/// word, then `syscall`; SDM volume 3, 6.8.3). Nothing here raises one on purpose.
fn taken_by_entry(frame: &mut KernelFrame) -> bool {
    let (hit, stepped) = super::debug::take_status();
    frame.rflags = frame.rflags & !rflags::TF | rflags::RF;
    hit != 0 || stepped
}

fn report(frame: &KernelFrame) -> ! {
    let has_address = matches!(frame.vector, vector::PAGE_FAULT | vector::DOUBLE_FAULT);
    let address = has_address.then(read_cr2);
    let overflow = address.is_some_and(cpu::is_guard_page) || cpu::is_guard_page(frame.rsp.wrapping_sub(1));
    let what = match frame.vector {
        vector::DOUBLE_FAULT if overflow => "kernel stack overflow",
        vector::DIVIDE => "divide error",
        vector::DEBUG => "debug exception",
        vector::BREAKPOINT => "breakpoint",
        vector::INVALID_OPCODE => "invalid opcode",
        vector::DOUBLE_FAULT => "double fault",
        11 => "segment not present",
        12 => "stack-segment fault",
        vector::PROTECTION => "general protection fault",
        vector::PAGE_FAULT => page_fault_in_words(frame.error),
        vector::X87 => "x87 floating-point exception",
        vector::ALIGNMENT => "alignment check",
        vector::MACHINE_CHECK => "machine check",
        vector::SIMD => "SIMD floating-point exception",
        _ => "unexpected exception",
    };
    breenix_kernel_fault(&KernelFault {
        what,
        instruction: frame.rip,
        address,
        code: frame.error,
        frame_pointer: frame.rbp,
        stack_pointer: frame.rsp,
    })
}

fn page_fault_in_words(code: u64) -> &'static str {
    match (code & 1 != 0, code & 1 << 4 != 0, code & 1 << 1 != 0) {
        (_, true, _) => "page fault: instruction fetch not permitted",
        (false, _, true) => "page fault: write to an unmapped page",
        (false, _, false) => "page fault: read of an unmapped page",
        (true, _, true) => "page fault: write not permitted",
        (true, _, false) => "page fault: read not permitted",
    }
}
