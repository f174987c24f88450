//! Copies between the kernel and the active user half, which may fault and then say how far they came.
//!
//! Each instruction that touches user memory is listed with the address where it continues after a page fault. `stac`
//! opens user pages to the kernel for exactly that stretch where the CPU has SMAP.

use core::{arch::naked_asm, mem::size_of};

use super::constants::USER_END;
use crate::traits::CopyFault;

/// An instruction that may fault on a user address, and where it goes on then. `kernel.ld` collects them.
#[repr(C)]
struct FixUp {
    instruction: u64,
    continuation: u64,
}

unsafe extern "C" {
    static x86_fix_ups_start: FixUp;
    static x86_fix_ups_end: FixUp;
}

/// Where a page fault at `instruction` on `address` continues, if that is a user copy.
pub(super) fn fix_up(instruction: u64, address: u64) -> Option<u64> {
    if address >= USER_END {
        return None;
    }
    let start = &raw const x86_fix_ups_start;
    let count = (&raw const x86_fix_ups_end as usize - start as usize) / size_of::<FixUp>();
    // SAFETY: the linker script puts both symbols round the table.
    let table = unsafe { core::slice::from_raw_parts(start, count) };
    table
        .iter()
        .find(|entry| entry.instruction == instruction)
        .map(|entry| entry.continuation)
}

/// Copies `len` bytes and returns how many were not. Words first; a fault in a word is gone over again by bytes, so
/// that the count is exact.
///
/// # Safety
/// The kernel side is valid; the user side is below `USER_END`.
#[unsafe(naked)]
unsafe extern "C" fn copy(to: *mut u8, from: *const u8, len: usize) -> usize {
    naked_asm!(
        "cmp byte ptr [rip + X86_SMAP], 0",
        "je 2f",
        "stac",
        "2:",
        "mov rcx, rdx",
        "shr rcx, 3",
        "3:",
        "rep movsq",
        "mov ecx, edx",
        "and ecx, 7",
        "4:",
        "rep movsb",
        "5:",
        "mov rax, rcx",
        "cmp byte ptr [rip + X86_SMAP], 0",
        "je 6f",
        "clac",
        "6:",
        "ret",
        // A word at the page's end: rcx words and the odd bytes are left.
        "7:",
        "lea rcx, [rcx * 8]",
        "and edx, 7",
        "add rcx, rdx",
        "jmp 4b",
        ".pushsection .fix_ups, \"a\", @progbits",
        ".quad 3b, 7b",
        ".quad 4b, 5b",
        ".popsection",
    );
}

/// Compare-exchange; the old value, or bit 32 set after a fault.
#[unsafe(naked)]
unsafe extern "C" fn compare_exchange(address: u64, expected: u32, new: u32) -> u64 {
    naked_asm!(
        "cmp byte ptr [rip + X86_SMAP], 0",
        "je 2f",
        "stac",
        "2:",
        "mov eax, esi",
        "3:",
        "lock cmpxchg dword ptr [rdi], edx",
        "mov eax, eax",
        "4:",
        "cmp byte ptr [rip + X86_SMAP], 0",
        "je 5f",
        "clac",
        "5:",
        "ret",
        "6:",
        "mov eax, 1",
        "shl rax, 32",
        "jmp 4b",
        ".pushsection .fix_ups, \"a\", @progbits",
        ".quad 3b, 6b",
        ".popsection",
    );
}

/// Load; the value, or bit 32 set after a fault.
#[unsafe(naked)]
unsafe extern "C" fn load(address: u64) -> u64 {
    naked_asm!(
        "cmp byte ptr [rip + X86_SMAP], 0",
        "je 2f",
        "stac",
        "2:",
        "3:",
        "mov eax, dword ptr [rdi]",
        "4:",
        "cmp byte ptr [rip + X86_SMAP], 0",
        "je 5f",
        "clac",
        "5:",
        "ret",
        "6:",
        "mov eax, 1",
        "shl rax, 32",
        "jmp 4b",
        ".pushsection .fix_ups, \"a\", @progbits",
        ".quad 3b, 6b",
        ".popsection",
    );
}

#[inline]
fn check(address: u64, len: usize) -> Result<(), CopyFault> {
    match address.checked_add(len as u64) {
        Some(end) if end <= USER_END => Ok(()),
        _ => Err(CopyFault { copied: 0 }),
    }
}

#[inline]
fn outcome(length: usize, left: usize) -> Result<(), CopyFault> {
    match left {
        0 => Ok(()),
        left => Err(CopyFault { copied: length - left }),
    }
}

/// See [`CpuOps::copy_from_user_to`](crate::traits::CpuOps::copy_from_user_to).
///
/// # Safety
/// `to` is valid for writes of `length` bytes.
#[inline]
pub unsafe fn copy_from_user(to: *mut u8, from: u64, length: usize) -> Result<(), CopyFault> {
    check(from, length)?;
    // SAFETY: the caller's promise, and the user side has been checked.
    outcome(length, unsafe { copy(to, from as *const u8, length) })
}

/// See [`CpuOps::copy_to_user_from`](crate::traits::CpuOps::copy_to_user_from).
///
/// # Safety
/// `from` is valid for reads of `length` bytes.
#[inline]
pub unsafe fn copy_to_user(to: u64, from: *const u8, length: usize) -> Result<(), CopyFault> {
    check(to, length)?;
    // SAFETY: the caller's promise, and the user side has been checked.
    outcome(length, unsafe { copy(to as *mut u8, from, length) })
}

fn word(result: u64) -> Result<u32, CopyFault> {
    if result >> 32 == 0 {
        Ok(result as u32)
    } else {
        Err(CopyFault { copied: 0 })
    }
}

/// See [`CpuOps::user_compare_exchange`](crate::traits::CpuOps::user_compare_exchange).
pub fn user_compare_exchange(address: u64, expected: u32, new: u32) -> Result<u32, CopyFault> {
    check(address, size_of::<u32>())?;
    // SAFETY: the address has been checked.
    word(unsafe { compare_exchange(address, expected, new) })
}

/// See [`CpuOps::user_load`](crate::traits::CpuOps::user_load).
pub fn user_load(address: u64) -> Result<u32, CopyFault> {
    check(address, size_of::<u32>())?;
    // SAFETY: the address has been checked.
    word(unsafe { load(address) })
}
