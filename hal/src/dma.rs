//! Memory that devices reach by themselves: the order of accesses, and caches that a device may not see.

#![cfg_attr(
    target_arch = "aarch64",
    expect(unsafe_code, reason = "instructions without a safe name")
)]

#[cfg(target_arch = "x86_64")]
use core::sync::atomic::compiler_fence;
#[cfg(not(target_arch = "aarch64"))]
use core::sync::atomic::{Ordering, fence};

/// Stores made before are seen by a device that is told of them after: goes before the write to its doorbell.
///
/// x86's stores stay in order (Intel SDM vol. 3, 10.2.2); Arm's need `DMB OSHST` (Arm ARM B2.3.12).
#[inline]
pub fn before_device() {
    #[cfg(target_arch = "x86_64")]
    compiler_fence(Ordering::SeqCst);
    // SAFETY: a barrier.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        core::arch::asm!("dmb oshst", options(nostack, preserves_flags));
    }
}

/// What a device stored before it said that it is done is seen by loads made after: goes behind the load that found it done.
#[inline]
pub fn after_device() {
    #[cfg(target_arch = "x86_64")]
    compiler_fence(Ordering::SeqCst);
    // SAFETY: a barrier.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        core::arch::asm!("dmb oshld", options(nostack, preserves_flags));
    }
}

/// Stores made before come before loads made after: for whoever publishes something and then looks whether the device sleeps.
#[inline]
pub fn both_ways() {
    // Arm's fence is for the CPUs alone.
    #[cfg(not(target_arch = "aarch64"))]
    fence(Ordering::SeqCst);
    // SAFETY: a barrier.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        core::arch::asm!("dmb osh", options(nostack, preserves_flags));
    }
}

/// Writes what caches hold of these bytes back to memory and forgets it, so that a device that does not look into caches sees
/// it, and the CPU what such a device writes (Arm ARM, `DC CIVAC`). Nothing on x86, whose devices look into caches.
///
/// The bytes next to a range, in the same cache line, are treated like it.
#[inline]
pub fn clean_and_invalidate(bytes: *const u8, length: usize) {
    #[cfg(target_arch = "aarch64")]
    {
        let (start, end) = (bytes as usize, bytes as usize + length);
        let kind: u64;
        // SAFETY: CTR_EL0 says how long lines are; reading it changes nothing.
        unsafe { core::arch::asm!("mrs {}, ctr_el0", out(reg) kind, options(nomem, nostack, preserves_flags)) };
        // DminLine: the logarithm of the number of words.
        let line = 4_usize << (kind >> 16 & 0xf);
        let mut at = start & !(line - 1);
        while at < end {
            // SAFETY: cleaning loses nothing that was stored; the address is one of the range's lines.
            unsafe { core::arch::asm!("dc civac, {}", in(reg) at, options(nostack, preserves_flags)) };
            at += line;
        }
        // SAFETY: a barrier.
        unsafe { core::arch::asm!("dsb sy", options(nostack, preserves_flags)) };
    }
    #[cfg(not(target_arch = "aarch64"))]
    {
        _ = (bytes, length);
    }
}
