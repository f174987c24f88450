//! Dying on purpose, so that what the kernel says when it dies can be tested.
//!
//! A panic is to be had in every build, under Linux's name for it (`/proc/sysrq-trigger`, letter `c`); what else can go
//! wrong only in debug builds (`/proc/breenix/crash`).

#![expect(unsafe_code, reason = "faults on purpose")]

use core::hint::black_box;

/// Panics.
#[inline(never)]
pub fn panic() -> ! {
    panic!("a crash was asked for");
}

/// Writes through a pointer that is null but for a field's offset.
#[inline(never)]
pub fn null_pointer() {
    let field = core::ptr::without_provenance_mut::<u32>(black_box(16));
    // SAFETY: it is not: nothing is mapped there, and the fault that ends the kernel is what is wanted.
    unsafe { field.write_volatile(1) };
}

/// Calls itself until the stack's guard page ends it.
#[expect(unconditional_recursion, reason = "the guard page ends it")]
#[inline(never)]
pub fn stack_overflow(depth: u64) -> u64 {
    let mut frame = [depth; 256];
    black_box(&mut frame);
    stack_overflow(depth + 1) + frame[(depth % 256) as usize]
}
