//! System registers by name, for those that the register crate lacks or that older assemblers know only by encoding.

/// Reads a system register. Ordered against other system-register accesses only.
macro_rules! read_sysreg {
    ($name:literal) => {{
        let value: u64;
        // SAFETY: reading the named register has no effect on memory; callers name registers that EL1 may read.
        unsafe { core::arch::asm!(concat!("mrs {}, ", $name), out(reg) value, options(nomem, nostack, preserves_flags)) };
        value
    }};
}

/// Writes a system register. A compiler barrier for memory as well.
macro_rules! write_sysreg {
    ($name:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: each caller writes a value that keeps the kernel's own mappings and state valid.
        unsafe { core::arch::asm!(concat!("msr ", $name, ", {}"), in(reg) value, options(nostack, preserves_flags)) };
    }};
}

/// Runs one instruction without operands: a barrier, a hint, a TLB or cache operation.
macro_rules! instruction {
    ($($text:literal),+) => {
        // SAFETY: barriers, hints and invalidations change no state that the compiler knows of.
        unsafe { core::arch::asm!($($text),+, options(nostack, preserves_flags)) }
    };
}

pub(super) use {instruction, read_sysreg, write_sysreg};
