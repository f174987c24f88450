//! aarch64: the virtual counter, `svc`, and the return from signal handlers.

use core::{
    arch::{asm, global_asm},
    sync::atomic::AtomicU64,
};

use crate::page::WORDS;

/// Numbers of calls (`asm-generic/unistd.h`).
pub const CLOCK_GETTIME: usize = 113;
pub const CLOCK_GETRES: usize = 114;
pub const GETTIMEOFDAY: usize = 169;

// Where the kernel has signal handlers return to. Unwinders know a signal's frame by these two instructions, which is why nothing
// describes it besides. The one before is for those that look up the address before a return address.
global_asm!(
    ".pushsection .text.sigreturn, \"ax\"",
    ".balign 16",
    "nop",
    ".global __kernel_rt_sigreturn",
    ".type __kernel_rt_sigreturn, %function",
    "__kernel_rt_sigreturn:",
    "mov x8, #139",
    "svc #0",
    ".size __kernel_rt_sigreturn, . - __kernel_rt_sigreturn",
    ".popsection",
);

/// The page's words, where the linker script says.
#[inline(always)]
pub fn words() -> &'static [AtomicU64; WORDS] {
    let words: *const [AtomicU64; WORDS];
    // SAFETY: makes an address of the linker's, relative to the instruction.
    unsafe { asm!("adr {}, vvar", out(reg) words, options(pure, nomem, nostack, preserves_flags)) };
    // SAFETY: the kernel maps the page before this object, for as long.
    unsafe { &*words }
}

/// The counter, not read ahead of earlier instructions.
#[inline(always)]
pub fn count() -> u64 {
    let count;
    // SAFETY: reads a counter that the kernel lets programs read.
    unsafe { asm!("isb", "mrs {}, cntvct_el0", out(reg) count, options(nostack, preserves_flags)) };
    count
}

/// Calls the kernel with two arguments.
#[inline(never)]
pub fn call(number: usize, first: usize, second: usize) -> i32 {
    let result: i64;
    // SAFETY: a call that the program might have made itself.
    unsafe {
        asm!(
            "svc #0",
            in("x8") number,
            inlateout("x0") first => result,
            in("x1") second,
            options(nostack),
        );
    }
    result as i32
}

/// Ends the program.
pub fn trap() -> ! {
    // SAFETY: raises an exception.
    unsafe { asm!("brk #1", options(noreturn)) }
}
