//! x86_64: the time-stamp counter, `syscall`, and the CPU's number from the limit of a segment.

use core::{arch::asm, sync::atomic::AtomicU64};

use crate::page::WORDS;

/// Numbers of calls (`arch/x86/entry/syscalls/syscall_64.tbl`).
pub const GETTIMEOFDAY: usize = 96;
pub const TIME: usize = 201;
pub const CLOCK_GETTIME: usize = 228;
pub const CLOCK_GETRES: usize = 229;

/// The selector of the segment whose limit is the CPU's number, as on Linux (`__CPUNODE_SEG`, `asm/segment.h`).
const CPU_SEGMENT: u32 = 15 << 3 | 3;

/// The page's words, where the linker script says.
#[inline(always)]
pub fn words() -> &'static [AtomicU64; WORDS] {
    let words: *const [AtomicU64; WORDS];
    // SAFETY: makes an address of the linker's, relative to the instruction.
    unsafe { asm!("lea {}, [rip + vvar]", out(reg) words, options(pure, nomem, nostack, preserves_flags)) };
    // SAFETY: the kernel maps the page before this object, for as long.
    unsafe { &*words }
}

/// The counter, not read ahead of earlier instructions.
#[inline(always)]
pub fn count() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reads a counter that the kernel lets programs read.
    unsafe { asm!("lfence", "rdtsc", out("eax") low, out("edx") high, options(nostack, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}

/// Calls the kernel with two arguments.
#[inline(never)]
pub fn call(number: usize, first: usize, second: usize) -> i32 {
    let result: i64;
    // SAFETY: a call that the program might have made itself.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as i64 => result,
            in("rdi") first,
            in("rsi") second,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result as i32
}

/// Ends the program.
pub fn trap() -> ! {
    // SAFETY: raises an exception.
    unsafe { asm!("ud2", options(noreturn)) }
}

/// `getcpu(2)`. There is one node.
#[unsafe(export_name = "__vdso_getcpu")]
extern "C" fn getcpu(cpu: *mut u32, node: *mut u32, _unused: *mut u8) -> i64 {
    let limit: u32;
    // SAFETY: asks for the limit of a segment that the kernel has.
    unsafe {
        asm!("lsl {0:e}, {1:e}", out(reg) limit, in(reg) CPU_SEGMENT, options(nomem, nostack));
    }
    if !cpu.is_null() {
        // SAFETY: the program's promise.
        unsafe { cpu.write(limit) };
    }
    if !node.is_null() {
        // SAFETY: as above.
        unsafe { node.write(0) };
    }
    0
}
