//! The hint that memory is read soon.

#![expect(unsafe_code, reason = "an instruction without a safe name")]

use core::arch::asm;

/// Asks for the cache line at `at` to be brought near. Changes nothing, faults never, and does not wait.
///
/// `PREFETCHT0` (Intel SDM vol. 2, PREFETCHh), `PRFM PLDL1KEEP` (Arm ARM C6.2, PRFM).
#[inline]
pub fn prefetch<T>(at: &T) {
    let at = core::ptr::from_ref(at);
    // SAFETY: a hint; it accesses nothing that the program can see.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!("prefetcht0 [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!("prfm pldl1keep, [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
}
