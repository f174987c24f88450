//! Per-CPU data behind GS.
//!
//! One page per CPU, taken at boot and never given back, so a pointer to it is good for ever. Assembly reaches the
//! first fields by their offsets; the task-state segment and the descriptor table stand in the same page because they
//! too are one per CPU and as long-lived.

use core::{
    arch::asm,
    mem::offset_of,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering::Relaxed},
};

use super::{
    constants::{MSR_GS_BASE, MSR_KERNEL_GS_BASE},
    registers::write_msr,
    segments::{DescriptorTable, TaskState},
};
use crate::{MAX_CPUS, traits::PerCpuOps};

/// What one CPU keeps for itself. Atomics, because the page is shared by type; each field is written by its own CPU
/// alone once the CPU runs.
#[repr(C, align(4096))]
pub struct CpuData {
    /// This page's own address, so that one load makes a reference of GS.
    pub this: AtomicU64,
    /// The [`UserContext`](super::UserContext) that runs in user mode, for the entry code.
    pub context: AtomicU64,
    /// The kernel's stack pointer inside `enter_user`.
    pub kernel_stack: AtomicU64,
    /// Where the entry code puts a register it needs.
    pub scratch: AtomicU64,
    /// The error code of the last trap from user mode.
    pub error: AtomicU64,
    /// The CPU's number.
    pub id: AtomicU32,
    /// The local APIC's identifier.
    pub apic_id: AtomicU32,
    /// Inside interrupt dispatch.
    pub in_interrupt: AtomicBool,
    /// Set by the CPU when it can run kernel code.
    pub started: AtomicBool,
    /// The armed deadline in nanoseconds, `u64::MAX` when none is.
    pub deadline: AtomicU64,
    /// NMIs taken, which nothing sends on purpose.
    pub nmis: AtomicU64,
    /// The task-state segment.
    pub task_state: TaskState,
    /// The descriptor table.
    pub descriptors: DescriptorTable,
}

static CPUS: [AtomicPtr<CpuData>; MAX_CPUS] = [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_CPUS];

impl CpuData {
    /// The calling CPU's data.
    #[inline]
    pub fn current() -> &'static Self {
        let this: *const Self;
        // SAFETY: GS_BASE is this CPU's page from before the first call (module doc); the asm reads its first word, which does
        // not change as long as the CPU runs.
        unsafe { asm!("mov {}, gs:[0]", out(reg) this, options(pure, nomem, nostack, preserves_flags)) };
        // SAFETY: the page lives for ever and is shared by its atomics alone.
        unsafe { &*this }
    }

    /// The data of a CPU that boot has given some.
    pub fn of(cpu: u32) -> Option<&'static Self> {
        let data = CPUS.get(cpu as usize)?.load(Relaxed);
        // SAFETY: a non-null entry is a page published once by `publish`.
        unsafe { data.as_ref() }
    }

    /// Fills a zeroed page in as `cpu`'s data and makes it findable. Called at boot, once per CPU, before it runs.
    ///
    /// # Safety
    /// `page` is a zeroed page that belongs to the caller, is mapped for ever, and is given away by this call.
    pub unsafe fn publish(page: *mut Self, cpu: u32, apic_id: u32) -> &'static Self {
        // SAFETY: the caller's promise; all-zero is valid for every field.
        let data = unsafe { &*page };
        data.this.store(page as u64, Relaxed);
        data.id.store(cpu, Relaxed);
        data.apic_id.store(apic_id, Relaxed);
        data.deadline.store(u64::MAX, Relaxed);
        CPUS[cpu as usize].store(page, Relaxed);
        data
    }

    /// Makes this the calling CPU's data. The compiler may move reads of it (`CpuData::current`, `cpu_id`) within a function: they
    /// belong into others than the one that calls this.
    pub fn install(&'static self) {
        // SAFETY: the page lives for ever; KERNEL_GS_BASE is the user's and is set again before user mode runs.
        unsafe {
            write_msr(MSR_GS_BASE, core::ptr::from_ref(self) as u64);
            write_msr(MSR_KERNEL_GS_BASE, 0);
        }
    }
}

/// Per-CPU data, as the kernel sees it.
pub struct PerCpu;

impl PerCpuOps for PerCpu {
    #[inline]
    fn cpu_id() -> u32 {
        let id;
        // SAFETY: as in `CpuData::current`; so does the number stay.
        unsafe {
            asm!(
                "mov {:e}, gs:[{}]",
                out(reg) id,
                const offset_of!(CpuData, id),
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        id
    }

    #[inline]
    fn in_interrupt() -> bool {
        let on: u32;
        // SAFETY: as in `CpuData::current`; a byte, which this CPU alone writes.
        unsafe {
            asm!(
                "movzx {:e}, byte ptr gs:[{}]",
                out(reg) on,
                const offset_of!(CpuData, in_interrupt),
                options(nostack, preserves_flags, readonly)
            );
        }
        on != 0
    }

    #[inline]
    fn set_in_interrupt(on: bool) {
        CpuData::current().in_interrupt.store(on, Relaxed);
    }
}
