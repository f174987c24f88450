//! The FP/SIMD registers: 32 of 128 bits, FPCR and FPSR. EL0 may always use them; the kernel is built soft-float.
//!
//! SVE and SME stay off (`CPACR_EL1`), are not in `AT_HWCAP`, and their instructions are illegal.

use core::arch::asm;

use crate::traits::FpOps;

/// One thread's FP/SIMD registers, laid out as in Linux's `struct user_fpsimd_state` (`asm/ptrace.h`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct FpState {
    /// `v0`..`v31`.
    pub vregs: [u128; 32],
    /// `FPSR`.
    pub fpsr: u32,
    /// `FPCR`.
    pub fpcr: u32,
}

impl FpState {
    /// All registers zero: what a new program starts with.
    pub const INITIAL: Self = Self {
        vregs: [0; 32],
        fpsr: 0,
        fpcr: 0,
    };
}

impl Default for FpState {
    fn default() -> Self {
        Self::INITIAL
    }
}

impl FpOps for FpState {
    fn save(&mut self) {
        let (fpsr, fpcr): (u64, u64);
        // SAFETY: writes exactly the 512 bytes of `vregs`; FP is enabled at EL1 (`CPACR_EL1`), and the registers are
        // only read.
        unsafe {
            asm!(
                ".arch_extension fp",
                ".arch_extension simd",
                "stp q0, q1, [{p}, #0]",
                "stp q2, q3, [{p}, #32]",
                "stp q4, q5, [{p}, #64]",
                "stp q6, q7, [{p}, #96]",
                "stp q8, q9, [{p}, #128]",
                "stp q10, q11, [{p}, #160]",
                "stp q12, q13, [{p}, #192]",
                "stp q14, q15, [{p}, #224]",
                "stp q16, q17, [{p}, #256]",
                "stp q18, q19, [{p}, #288]",
                "stp q20, q21, [{p}, #320]",
                "stp q22, q23, [{p}, #352]",
                "stp q24, q25, [{p}, #384]",
                "stp q26, q27, [{p}, #416]",
                "stp q28, q29, [{p}, #448]",
                "stp q30, q31, [{p}, #480]",
                "mrs {fpsr}, fpsr",
                "mrs {fpcr}, fpcr",
                ".arch_extension nosimd",
                ".arch_extension nofp",
                p = in(reg) self.vregs.as_mut_ptr(),
                fpsr = out(reg) fpsr,
                fpcr = out(reg) fpcr,
                options(nostack, preserves_flags),
            );
        }
        self.fpsr = fpsr as u32;
        self.fpcr = fpcr as u32;
    }

    fn restore(&self) {
        // SAFETY: reads exactly the 512 bytes of `vregs`. The kernel is built soft-float, so no compiled code has
        // anything in these registers.
        unsafe {
            asm!(
                ".arch_extension fp",
                ".arch_extension simd",
                "ldp q0, q1, [{p}, #0]",
                "ldp q2, q3, [{p}, #32]",
                "ldp q4, q5, [{p}, #64]",
                "ldp q6, q7, [{p}, #96]",
                "ldp q8, q9, [{p}, #128]",
                "ldp q10, q11, [{p}, #160]",
                "ldp q12, q13, [{p}, #192]",
                "ldp q14, q15, [{p}, #224]",
                "ldp q16, q17, [{p}, #256]",
                "ldp q18, q19, [{p}, #288]",
                "ldp q20, q21, [{p}, #320]",
                "ldp q22, q23, [{p}, #352]",
                "ldp q24, q25, [{p}, #384]",
                "ldp q26, q27, [{p}, #416]",
                "ldp q28, q29, [{p}, #448]",
                "ldp q30, q31, [{p}, #480]",
                "msr fpsr, {fpsr}",
                "msr fpcr, {fpcr}",
                ".arch_extension nosimd",
                ".arch_extension nofp",
                p = in(reg) self.vregs.as_ptr(),
                fpsr = in(reg) u64::from(self.fpsr),
                fpcr = in(reg) u64::from(self.fpcr),
                options(nostack, preserves_flags),
            );
        }
    }
}
