//! The descriptor table and the task-state segment (SDM volume 3, 3.4 and 8.7).
//!
//! In 64-bit mode segments say little more than the privilege level. The order of the selectors is Linux's, which
//! signal frames show to programs and which `syscall` and `sysretq` prescribe in part.

use core::{arch::asm, cell::UnsafeCell, mem::size_of, sync::atomic::Ordering::Relaxed};

use super::{
    constants::{IST_COUNT, KERNEL_CS, KERNEL_DS, TSS_SELECTOR},
    percpu::CpuData,
};

/// `TSS64`. `iomap_base` past the limit means no port is open to programs.
#[repr(C, packed(4))]
struct TaskStateFields {
    reserved0: u32,
    rsp: [u64; 3],
    reserved1: u64,
    ist: [u64; 7],
    reserved2: u64,
    reserved3: u16,
    iomap_base: u16,
}

/// A task-state segment; the CPU reads it at every entry from user mode.
#[repr(C, align(16))]
pub struct TaskState(UnsafeCell<TaskStateFields>);

/// The byte offset of `RSP0`, the stack for entries from user mode, for the entry code.
pub const TASK_STATE_RSP0: usize = 4;

/// A CPU's own GDT. `ltr` writes its busy bit, so it is not shared.
#[repr(C, align(16))]
pub struct DescriptorTable(UnsafeCell<[u64; 16]>);

/// Base and limit as `lgdt` and `lidt` take them.
#[repr(C, packed)]
pub struct TablePointer {
    /// Bytes less one.
    pub limit: u16,
    /// The linear address.
    pub base: u64,
}

/// Flat descriptors by ring. The 32-bit code segment is not present: its place is `sysretq`'s, and programs are not to
/// enter compatibility mode, of which a saved context would know nothing.
const KERNEL_CODE: u64 = 0x00af_9b00_0000_ffff;
const KERNEL_DATA: u64 = 0x00cf_9300_0000_ffff;
const USER_CODE_32: u64 = 0x00cf_7b00_0000_ffff;
const USER_DATA: u64 = 0x00cf_f300_0000_ffff;
const USER_CODE: u64 = 0x00af_fb00_0000_ffff;
/// Data that programs may read and nobody uses: its limit, bits 15:0, is the CPU's number, for `lsl` (`getcpu` in the vDSO). As on Linux
/// the last of sixteen.
const USER_CPU_NUMBER: u64 = 0x0000_f100_0000_0000;

/// Fills in and loads the calling CPU's descriptor table and task state.
///
/// # Safety
/// Called once per CPU, on that CPU, with `cpu` being its data and `ist` the tops of its interrupt stacks.
pub unsafe fn load(cpu: &'static CpuData, ist: [u64; IST_COUNT as usize]) {
    let state = cpu.task_state.0.get();
    let table = cpu.descriptors.0.get();
    // SAFETY: no other code runs on this CPU's tables yet, and the pages live for ever.
    unsafe {
        (*state).iomap_base = size_of::<TaskStateFields>() as u16;
        let mut all = [0; 7];
        all[..ist.len()].copy_from_slice(&ist);
        (*state).ist = all;

        let base = state as u64;
        let limit = size_of::<TaskStateFields>() as u64 - 1;
        let system = limit | (base & 0xff_ffff) << 16 | 0x89 << 40 | (base >> 24 & 0xff) << 56;
        *table = [
            0,
            0,
            KERNEL_CODE,
            KERNEL_DATA,
            USER_CODE_32,
            USER_DATA,
            USER_CODE,
            0,
            system,
            base >> 32,
            0,
            0,
            0,
            0,
            0,
            USER_CPU_NUMBER | u64::from(cpu.id.load(Relaxed)),
        ];
        let pointer = TablePointer {
            limit: size_of::<DescriptorTable>() as u16 - 1,
            base: table as u64,
        };
        asm!(
            "lgdt [{pointer}]",
            "push {cs}",
            "lea {scratch}, [rip + 2f]",
            "push {scratch}",
            "retfq",
            "2:",
            "mov ss, {ss:e}",
            "mov ds, {zero:e}",
            "mov es, {zero:e}",
            "mov fs, {zero:e}",
            "mov gs, {zero:e}",
            "ltr {tss:x}",
            pointer = in(reg) &pointer,
            cs = in(reg) u64::from(KERNEL_CS),
            ss = in(reg) u32::from(KERNEL_DS),
            zero = in(reg) 0u32,
            tss = in(reg) TSS_SELECTOR,
            scratch = out(reg) _,
        );
    }
}
