//! Reading registers that may not be there.
//!
//! Firmware's tables have been seen to name register blocks at which a read ends in an external abort. Where the block is
//! looked at for the first time, the read is one of these, and the abort is an answer. An abort that the machine reports
//! late, as an SError, is not caught.

use core::arch::global_asm;

global_asm!(
    ".section .text.probe, \"ax\"",
    // (address: x0) -> x0: the word, or -1.
    ".global hal_probe_read",
    "hal_probe_read:",
    "1: ldr w0, [x0]",
    "2: ret",
    "3: mov x0, #-1",
    "ret",
    ".pushsection .fixups, \"a\"",
    ".balign 8",
    ".quad 1b, 2b, 3b",
    ".popsection",
);

unsafe extern "C" {
    fn hal_probe_read(address: *const u32) -> u64;
}

/// Reads a device's register; `None` where nothing answers.
///
/// # Safety
/// The address is mapped as device memory, aligned to four bytes, and reading there changes nothing that matters.
pub(super) unsafe fn read(address: *const u32) -> Option<u32> {
    // SAFETY: the caller's promise; an abort goes on at the fix-up.
    u32::try_from(unsafe { hal_probe_read(address) }).ok()
}
