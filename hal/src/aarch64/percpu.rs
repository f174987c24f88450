//! Per-CPU data: one static block each, found through `TPIDR_EL1`.

use core::cell::Cell;
use core::sync::atomic::{AtomicU32, Ordering};

use super::constants::{
    EXCEPTION_STACK, EXCEPTION_STACK_OFFSET, KERNEL_STACK, KERNEL_STACK_OFFSET, STACK_SLOT, STACKS,
};
use super::sysreg::write_sysreg;
use crate::{MAX_CPUS, traits::PerCpuOps};

/// One CPU's block. The assembly in `exceptions.rs` knows the first two fields by offset.
#[repr(C, align(128))]
pub(super) struct Block {
    /// The kernel's stack pointer while a program runs.
    pub(super) kernel_sp: Cell<u64>,
    /// The top of the exception stack, which `SP_EL1` goes back to.
    pub(super) exception_top: Cell<u64>,
    /// The CPU's number.
    cpu: Cell<u32>,
    /// Whether interrupt dispatch is under way.
    in_interrupt: Cell<bool>,
    /// Faults of the kernel that this CPU has reported: a second one ends the machine.
    pub(super) faults: Cell<u32>,
    /// The root table in TTBR0 with its ASID; see `paging.rs`.
    pub(super) active: Cell<u64>,
    /// `MIDR_EL1`, for `/proc/cpuinfo`; read by other CPUs.
    pub(super) midr: AtomicU32,
}

// SAFETY: every `Cell` is touched only by the CPU that owns the block, and only by code that cannot be interrupted by
// other users of the same field (single loads and stores).
unsafe impl Sync for Block {}

impl Block {
    const fn new() -> Self {
        Self {
            kernel_sp: Cell::new(0),
            exception_top: Cell::new(0),
            cpu: Cell::new(0),
            in_interrupt: Cell::new(false),
            faults: Cell::new(0),
            active: Cell::new(0),
            midr: AtomicU32::new(0),
        }
    }
}

static BLOCKS: [Block; MAX_CPUS] = [const { Block::new() }; MAX_CPUS];

/// The calling CPU's block.
#[inline]
pub(super) fn current() -> &'static Block {
    let block: *const Block;
    // SAFETY: TPIDR_EL1 was set by `install` before any Rust code could come here, and points into a static.
    unsafe {
        core::arch::asm!("mrs {}, tpidr_el1", out(reg) block, options(pure, nomem, nostack, preserves_flags));
        &*block
    }
}

/// A CPU's identification register, or 0 where the CPU has not run.
pub(super) fn midr(cpu: u32) -> u32 {
    BLOCKS
        .get(cpu as usize)
        .map_or(0, |block| block.midr.load(Ordering::Relaxed))
}

/// Points `TPIDR_EL1` at the block of `cpu`, the calling CPU.
pub(super) fn install(cpu: u32, exception_top: u64) {
    let block = &BLOCKS[cpu as usize];
    block.cpu.set(cpu);
    block.exception_top.set(exception_top);
    write_sysreg!("tpidr_el1", (&raw const *block) as u64);
}

/// The address range of a CPU's kernel stack.
pub(super) const fn kernel_stack(cpu: u32) -> (u64, u64) {
    let bottom = STACKS + cpu as u64 * STACK_SLOT + KERNEL_STACK_OFFSET;
    (bottom, bottom + KERNEL_STACK)
}

/// The address range of a CPU's exception stack.
pub(super) const fn exception_stack(cpu: u32) -> (u64, u64) {
    let bottom = STACKS + cpu as u64 * STACK_SLOT + EXCEPTION_STACK_OFFSET;
    (bottom, bottom + EXCEPTION_STACK)
}

/// Per-CPU data of this machine.
pub struct PerCpu;

impl PerCpuOps for PerCpu {
    #[inline]
    fn cpu_id() -> u32 {
        current().cpu.get()
    }

    #[inline]
    fn in_interrupt() -> bool {
        current().in_interrupt.get()
    }

    #[inline]
    fn set_in_interrupt(on: bool) {
        current().in_interrupt.set(on);
    }
}
