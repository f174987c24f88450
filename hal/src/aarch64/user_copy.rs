//! Touching user memory from the kernel: every access here may fault, and says so instead.
//!
//! Copies use `LDTR` and `STTR`, which carry EL0's permissions whatever PAN says. There are no unprivileged exclusives,
//! so the compare-and-exchange lifts PAN around its few instructions; EL1's rights on a user page are EL0's, because a
//! page that user mode may not touch at all is not valid.
//!
//! A fault inside one of the ranges listed in the section `.fixups` goes on at the range's fix-up (`exceptions.rs`).

use core::arch::global_asm;
use core::sync::atomic::{AtomicBool, Ordering};

use super::sysreg::read_sysreg;
use crate::traits::CopyFault;

global_asm!(
    ".macro FIXUP start, end, target",
    ".pushsection .fixups, \"a\"",
    ".balign 8",
    ".quad \\start, \\end, \\target",
    ".popsection",
    ".endm",
    ".section .text.user_copy, \"ax\"",
    // (to: x0, from: x1, length: x2) -> x0: bytes not copied. By 64 bytes, by 8, one by one; a fault is narrowed down byte by byte.
    ".global hal_copy_from_user",
    "hal_copy_from_user: subs x2, x2, #64",
    "b.lo 3f",
    "1: ldtr x3, [x1]",
    "ldtr x4, [x1, #8]",
    "ldtr x5, [x1, #16]",
    "ldtr x6, [x1, #24]",
    "ldtr x7, [x1, #32]",
    "ldtr x8, [x1, #40]",
    "ldtr x9, [x1, #48]",
    "ldtr x10, [x1, #56]",
    "2: stp x3, x4, [x0]",
    "stp x5, x6, [x0, #16]",
    "stp x7, x8, [x0, #32]",
    "stp x9, x10, [x0, #48]",
    "add x0, x0, #64",
    "add x1, x1, #64",
    "subs x2, x2, #64",
    "b.hs 1b",
    "3: adds x2, x2, #56",
    "b.mi 6f",
    "4: ldtr x3, [x1]",
    "5: str x3, [x0], #8",
    "add x1, x1, #8",
    "subs x2, x2, #8",
    "b.pl 4b",
    "6: adds x2, x2, #8",
    "b.eq 9f",
    "7: ldtrb w3, [x1]",
    "8: strb w3, [x0], #1",
    "add x1, x1, #1",
    "subs x2, x2, #1",
    "b.ne 7b",
    "9: mov x0, x2",
    "ret",
    "10: add x2, x2, #56",
    "b 6b",
    "FIXUP 1b, 2b, 10b",
    "FIXUP 4b, 5b, 6b",
    "FIXUP 7b, 8b, 9b",
    // (to: x0, from: x1, length: x2) -> x0: bytes not copied. As above.
    ".global hal_copy_to_user",
    "hal_copy_to_user: subs x2, x2, #64",
    "b.lo 3f",
    "1: ldp x3, x4, [x1]",
    "ldp x5, x6, [x1, #16]",
    "ldp x7, x8, [x1, #32]",
    "ldp x9, x10, [x1, #48]",
    "11: sttr x3, [x0]",
    "sttr x4, [x0, #8]",
    "sttr x5, [x0, #16]",
    "sttr x6, [x0, #24]",
    "sttr x7, [x0, #32]",
    "sttr x8, [x0, #40]",
    "sttr x9, [x0, #48]",
    "sttr x10, [x0, #56]",
    "2: add x0, x0, #64",
    "add x1, x1, #64",
    "subs x2, x2, #64",
    "b.hs 1b",
    "3: adds x2, x2, #56",
    "b.mi 6f",
    "12: ldr x3, [x1]",
    "4: sttr x3, [x0]",
    "5: add x0, x0, #8",
    "add x1, x1, #8",
    "subs x2, x2, #8",
    "b.pl 12b",
    "6: adds x2, x2, #8",
    "b.eq 9f",
    "13: ldrb w3, [x1]",
    "7: sttrb w3, [x0]",
    "8: add x0, x0, #1",
    "add x1, x1, #1",
    "subs x2, x2, #1",
    "b.ne 13b",
    "9: mov x0, x2",
    "ret",
    "10: add x2, x2, #56",
    "b 6b",
    "FIXUP 11b, 2b, 10b",
    "FIXUP 4b, 5b, 6b",
    "FIXUP 7b, 8b, 9b",
    // (address: x0) -> x0: the word, or -1.
    ".global hal_user_load",
    "hal_user_load:",
    "1: ldtr w0, [x0]",
    "2: dmb ish",
    "ret",
    "3: mov x0, #-1",
    "ret",
    "FIXUP 1b, 2b, 3b",
    // (address: x0, expected: w1, new: w2, has PAN: w3) -> x0: what was there, or -1.
    ".global hal_user_compare_exchange",
    "hal_user_compare_exchange:",
    "cbz w3, 1f",
    ".inst 0xd500409f", // msr pan, #0
    "1: ldaxr w4, [x0]",
    "cmp w4, w1",
    "b.ne 2f",
    "stlxr w5, w2, [x0]",
    "cbnz w5, 1b",
    "2: clrex",
    "dmb ish",
    "mov w0, w4",
    "3: cbz w3, 4f",
    ".inst 0xd500419f", // msr pan, #1
    "4: ret",
    "5: mov x0, #-1",
    "b 3b",
    "FIXUP 1b, 2b, 5b",
);

unsafe extern "C" {
    fn hal_copy_from_user(to: *mut u8, from: u64, length: usize) -> usize;
    fn hal_copy_to_user(to: u64, from: *const u8, length: usize) -> usize;
    fn hal_user_load(address: u64) -> u64;
    fn hal_user_compare_exchange(address: u64, expected: u32, new: u32, has_pan: u32) -> u64;

    static __fixups_start: [u64; 3];
    static __fixups_end: [u64; 3];
}

static HAS_PAN: AtomicBool = AtomicBool::new(false);

/// Sets PAN for the kernel where the CPU has it. On each CPU.
pub(super) fn init_cpu() {
    let has_pan = read_sysreg!("id_aa64mmfr1_el1") >> 20 & 0xf != 0;
    if has_pan {
        HAS_PAN.store(true, Ordering::Relaxed);
        super::sysreg::instruction!(".inst 0xd500419f"); // msr pan, #1
    }
}

/// Where execution goes on after a data abort at `pc`; `None` if such a fault is a bug.
pub(super) fn fixup(pc: u64) -> Option<u64> {
    let (start, end) = (&raw const __fixups_start, &raw const __fixups_end);
    // SAFETY: the linker script puts the two symbols around the section, which holds nothing but such triples.
    let table = unsafe { core::slice::from_raw_parts(start, end.offset_from_unsigned(start)) };
    table
        .iter()
        .find(|[first, past, _]| (*first..*past).contains(&pc))
        .map(|&[_, _, target]| target)
}

fn outcome(length: usize, left: usize) -> Result<(), CopyFault> {
    if left == 0 {
        Ok(())
    } else {
        Err(CopyFault { copied: length - left })
    }
}

/// See [`CpuOps::copy_from_user_to`](crate::traits::CpuOps::copy_from_user_to).
///
/// # Safety
/// `to` is valid for writes of `length` bytes.
pub(super) unsafe fn copy_from_user(to: *mut u8, from: u64, length: usize) -> Result<(), CopyFault> {
    // SAFETY: writes those bytes alone; user addresses are read with EL0's rights, and a fault is fixed up.
    let left = unsafe { hal_copy_from_user(to, from, length) };
    outcome(length, left)
}

/// See [`CpuOps::copy_to_user_from`](crate::traits::CpuOps::copy_to_user_from).
///
/// # Safety
/// `from` is valid for reads of `length` bytes.
pub(super) unsafe fn copy_to_user(to: u64, from: *const u8, length: usize) -> Result<(), CopyFault> {
    // SAFETY: writes with EL0's rights, so no kernel memory; a fault is fixed up.
    let left = unsafe { hal_copy_to_user(to, from, length) };
    outcome(length, left)
}

/// A word in the low half, or a fault.
fn word(value: u64) -> Result<u32, CopyFault> {
    u32::try_from(value).map_err(|_| CopyFault { copied: 0 })
}

/// See [`CpuOps::user_load`](crate::traits::CpuOps::user_load).
pub(super) fn load(address: u64) -> Result<u32, CopyFault> {
    // SAFETY: reads with EL0's rights; a fault is fixed up.
    word(unsafe { hal_user_load(address) })
}

/// See [`CpuOps::user_compare_exchange`](crate::traits::CpuOps::user_compare_exchange).
pub(super) fn compare_exchange(address: u64, expected: u32, new: u32) -> Result<u32, CopyFault> {
    let has_pan = u32::from(HAS_PAN.load(Ordering::Relaxed));
    // A privileged access: the bounds that the caller promises are what keeps it out of kernel memory.
    debug_assert!(address < 1 << 48 && address.is_multiple_of(4));
    // SAFETY: the address is in the user half, so no kernel object is there; a fault is fixed up.
    word(unsafe { hal_user_compare_exchange(address, expected, new, has_pan) })
}
