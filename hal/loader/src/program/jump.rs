//! The way into the kernel, once firmware has gone.

#![expect(unsafe_code, reason = "leaves this program for the kernel")]

use core::arch::asm;

use boot_info::{BootInfo, Range};
use loader::kernel_file::Machine;

/// What a kernel must be made for.
pub const MACHINE: Machine = if cfg!(target_arch = "aarch64") {
    Machine::Aarch64
} else {
    Machine::X86_64
};

/// Enters the kernel with the address of its block in the first argument's register, interrupts masked.
///
/// The kernel is entered with firmware's page tables, which map all memory where it is, and turns translation off itself;
/// so its image and the block are written back to memory, all the way, and no line of them stays in a cache.
#[cfg(target_arch = "aarch64")]
pub fn enter(entry: u64, image: Range, info: &BootInfo) -> ! {
    write_back(image);
    write_back(Range::new(
        core::ptr::from_ref(info) as u64,
        size_of::<BootInfo>() as u64,
    ));
    // SAFETY: the entry of the kernel loaded there, as it expects to be entered (hal's boot code for this architecture).
    unsafe {
        asm!(
            "msr daifset, #0xf",
            "ic iallu",
            "dsb sy",
            "isb",
            "mov x1, xzr",
            "mov x2, xzr",
            "mov x3, xzr",
            "br {entry}",
            entry = in(reg) entry,
            in("x0") info,
            options(noreturn),
        );
    }
}

/// Cleans and invalidates to the point of coherency (Arm ARM, D7.5).
#[cfg(target_arch = "aarch64")]
fn write_back(range: Range) {
    let cache_type: u64;
    // SAFETY: CTR_EL0 may be read.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) cache_type, options(nomem, nostack)) };
    let line = 4 << (cache_type >> 16 & 0xf);
    for address in (range.start & !(line - 1)..range.end).step_by(line as usize) {
        // SAFETY: this program's own memory; its content stays.
        unsafe { asm!("dc civac, {}", in(reg) address, options(nostack)) };
    }
    // SAFETY: a barrier.
    unsafe { asm!("dsb sy", options(nostack)) };
}

/// Enters the kernel with the address of its block in the first argument's register, interrupts masked.
///
/// The kernel is entered in long mode with firmware's page tables, which map all memory where it is, and goes down to
/// protected mode itself.
#[cfg(target_arch = "x86_64")]
pub fn enter(entry: u64, _image: Range, info: &BootInfo) -> ! {
    // SAFETY: the entry of the kernel loaded there, as it expects to be entered (hal's boot code for this architecture).
    unsafe {
        asm!(
            "cli",
            "cld",
            "jmp {entry}",
            entry = in(reg) entry,
            in("rdi") info,
            options(noreturn),
        );
    }
}
