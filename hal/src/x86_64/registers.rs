//! Control registers, MSRs, ports and the few instructions that have no better home, each as one function.

use core::arch::asm;

/// Reads a model-specific register that the caller knows to exist.
pub fn read_msr(msr: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading an existing MSR has no effect on memory.
    unsafe { asm!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}

/// Writes a model-specific register.
///
/// # Safety
/// The register exists and the value leaves the kernel's assumptions standing.
pub unsafe fn write_msr(msr: u32, value: u64) {
    // SAFETY: the caller's promise. No `nomem`: the write may make the CPU look at memory (APIC, descriptor registers).
    unsafe {
        asm!("wrmsr", in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32,
            options(nostack, preserves_flags));
    }
}

macro_rules! port {
    ($read:ident, $write:ident, $type:ty, $register:tt) => {
        /// Reads an I/O port.
        ///
        /// # Safety
        /// The port's device tolerates the read.
        pub unsafe fn $read(port: u16) -> $type {
            let value: $type;
            // SAFETY: the caller's promise.
            unsafe { asm!(concat!("in ", $register, ", dx"), in("dx") port, out($register) value,
                options(nostack, preserves_flags)) };
            value
        }

        /// Writes an I/O port.
        ///
        /// # Safety
        /// The port's device tolerates the write.
        pub unsafe fn $write(port: u16, value: $type) {
            // SAFETY: the caller's promise.
            unsafe { asm!(concat!("out dx, ", $register), in("dx") port, in($register) value,
                options(nostack, preserves_flags)) };
        }
    };
}

port!(in_u8, out_u8, u8, "al");
port!(in_u16, out_u16, u16, "ax");
port!(in_u32, out_u32, u32, "eax");

macro_rules! control_register {
    ($read:ident, $write:ident, $register:literal) => {
        #[doc = concat!("Reads ", $register, ".")]
        pub fn $read() -> u64 {
            let value: u64;
            // SAFETY: reading a control register has no effect.
            unsafe { asm!(concat!("mov {}, ", $register), out(reg) value, options(nomem, nostack, preserves_flags)) };
            value
        }

        #[doc = concat!("Writes ", $register, ".")]
        ///
        /// # Safety
        /// The value leaves the kernel's assumptions standing.
        pub unsafe fn $write(value: u64) {
            // SAFETY: the caller's promise. No `nomem`: the write orders memory and changes what it means.
            unsafe { asm!(concat!("mov ", $register, ", {}"), in(reg) value, options(nostack, preserves_flags)) };
        }
    };
}

control_register!(read_cr0, write_cr0, "cr0");
control_register!(read_cr2, write_cr2, "cr2");
control_register!(read_cr3, write_cr3, "cr3");
control_register!(read_cr4, write_cr4, "cr4");

/// Drops the calling CPU's translation of one page.
pub fn invalidate_page(address: u64) {
    // SAFETY: forgetting a translation is always sound; no `nomem`, so earlier table writes stay before it.
    unsafe { asm!("invlpg [{}]", in(reg) address, options(nostack, preserves_flags)) };
}

/// The time-stamp counter, read after every earlier load.
pub fn read_tsc() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reads a counter.
    unsafe { asm!("lfence", "rdtsc", out("eax") low, out("edx") high, options(nostack, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}

/// The time-stamp counter, not ordered against what surrounds it.
#[inline]
pub fn read_tsc_unordered() -> u64 {
    // SAFETY: reads a counter, which every CPU with long mode has.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// RFLAGS.
pub fn read_rflags() -> u64 {
    let value: u64;
    // SAFETY: pushes and pops one word.
    unsafe { asm!("pushfq", "pop {}", out(reg) value, options(preserves_flags)) };
    value
}

/// Stops the calling CPU for good.
pub fn halt_for_ever() -> ! {
    loop {
        // SAFETY: with interrupts masked nothing but an NMI ends the halt, and then the loop goes on.
        unsafe { asm!("cli", "hlt", options(nostack)) };
    }
}
