//! x87, SSE and AVX registers.
//!
//! Saved in the standard (not compacted) XSAVE format (SDM volume 1, 13.4), which is also what signal frames hold, so
//! that a frame is a copy. `XCR0` is limited to x87, SSE and AVX; a CPU without XSAVE uses FXSAVE, the first 512 bytes
//! of the same layout.

use core::{arch::asm, sync::atomic::Ordering::Relaxed};

use super::{
    cpuid::FEATURES,
    registers::{read_cr0, read_cr4, write_cr0, write_cr4},
};
use crate::traits::FpOps;

/// Bytes of the legacy region, the FXSAVE image.
pub const LEGACY_SIZE: usize = 512;
/// Bytes of the XSAVE header behind it.
pub const HEADER_SIZE: usize = 64;
/// Bytes of the whole area with AVX.
pub const AREA_SIZE: usize = LEGACY_SIZE + HEADER_SIZE + 256;
/// State components that are used at most: x87, SSE, AVX.
pub const COMPONENTS: u64 = 0b111;

/// `FCW` after `FNINIT`.
const INITIAL_FCW: u16 = 0x37f;
/// `MXCSR` at reset.
const INITIAL_MXCSR: u32 = 0x1f80;

/// A thread's FP/SIMD registers.
#[derive(Clone)]
#[repr(C, align(64))]
pub struct FpState {
    area: [u8; AREA_SIZE],
}

impl Default for FpState {
    fn default() -> Self {
        let mut state = Self { area: [0; AREA_SIZE] };
        state.put(0, &INITIAL_FCW.to_le_bytes());
        state.put(24, &INITIAL_MXCSR.to_le_bytes());
        state
    }
}

impl core::fmt::Debug for FpState {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("FpState")
    }
}

impl FpState {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.area[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// How many bytes of the area this CPU uses: 832, 576 or 512.
    pub fn used_size() -> usize {
        match FEATURES.xcr0.load(Relaxed) {
            0 => LEGACY_SIZE,
            mask if mask & 0b100 != 0 => AREA_SIZE,
            _ => LEGACY_SIZE + HEADER_SIZE,
        }
    }

    /// The used bytes, as a signal frame holds them.
    pub fn bytes(&self) -> &[u8] {
        &self.area[..Self::used_size()]
    }

    /// Takes the registers over from a signal frame: `bytes` is an FXSAVE image, or an XSAVE area where `components`
    /// says which state components its software part claims. Whatever the bytes, the result can be loaded: `MXCSR`
    /// keeps the bits that exist, the XSAVE header names only components that are enabled and is otherwise zero.
    /// Components that the frame does not hold become initial.
    pub fn set_from_frame(&mut self, bytes: &[u8], components: Option<u64>) {
        let mut fresh = Self::default();
        let size = Self::used_size().min(bytes.len());
        // Bytes 464.. of the legacy region are software's.
        let legacy = size.min(464);
        fresh.area[..legacy].copy_from_slice(&bytes[..legacy]);
        let mxcsr = u32::from_le_bytes([fresh.area[24], fresh.area[25], fresh.area[26], fresh.area[27]]);
        fresh.put(24, &(mxcsr & FEATURES.mxcsr_mask.load(Relaxed)).to_le_bytes());

        let enabled = FEATURES.xcr0.load(Relaxed);
        if enabled != 0 {
            let mut present = 0b11;
            if let (Some(components), Some(header)) = (components, bytes.get(LEGACY_SIZE..LEGACY_SIZE + 8)) {
                present = components & enabled & u64::from_le_bytes(header.try_into().unwrap_or([0; 8]));
            }
            match bytes.get(LEGACY_SIZE + HEADER_SIZE..AREA_SIZE) {
                Some(high_halves) if present & 0b100 != 0 => fresh.put(LEGACY_SIZE + HEADER_SIZE, high_halves),
                _ => present &= 0b11,
            }
            fresh.put(LEGACY_SIZE, &present.to_le_bytes());
        }
        *self = fresh;
    }
}

impl FpOps for FpState {
    fn save(&mut self) {
        let mask = FEATURES.xcr0.load(Relaxed);
        let area = self.area.as_mut_ptr();
        // SAFETY: the area is 64-byte aligned and as large as the enabled components need; the kernel is soft-float, so
        // the registers are the thread's and the compiler has nothing in them.
        unsafe {
            if mask != 0 {
                asm!("xsave64 [{}]", in(reg) area, in("eax") mask as u32, in("edx") 0, options(nostack, preserves_flags));
            } else {
                asm!("fxsave64 [{}]", in(reg) area, options(nostack, preserves_flags));
            }
        }
    }

    fn restore(&self) {
        let mask = FEATURES.xcr0.load(Relaxed);
        let area = self.area.as_ptr();
        // SAFETY: as in `save`. The content is what the CPU saved, the initial state or a sanitised frame, all of which
        // load without a fault.
        unsafe {
            if mask != 0 {
                asm!("xrstor64 [{}]", in(reg) area, in("eax") mask as u32, in("edx") 0,
                    options(nostack, preserves_flags, readonly));
            } else {
                asm!("fxrstor64 [{}]", in(reg) area, options(nostack, preserves_flags, readonly));
            }
        }
    }
}

/// Enables what [`FEATURES`] found on the calling CPU.
///
/// # Safety
/// Called at a CPU's start, once `FEATURES` is filled in.
pub unsafe fn enable() {
    const CR0_MP: u64 = 1 << 1;
    const CR0_EM: u64 = 1 << 2;
    const CR0_TS: u64 = 1 << 3;
    const CR0_NE: u64 = 1 << 5;
    const CR4_OSFXSR: u64 = 1 << 9;
    const CR4_OSXMMEXCPT: u64 = 1 << 10;
    const CR4_OSXSAVE: u64 = 1 << 18;
    let mask = FEATURES.xcr0.load(Relaxed);
    // SAFETY: each bit is set only where CPUID has the feature; FXSAVE and SSE belong to x86_64.
    unsafe {
        write_cr0(read_cr0() & !(CR0_EM | CR0_TS) | CR0_MP | CR0_NE);
        write_cr4(read_cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT);
        if mask != 0 {
            write_cr4(read_cr4() | CR4_OSXSAVE);
            asm!("xsetbv", in("ecx") 0, in("eax") mask as u32, in("edx") 0, options(nostack, preserves_flags));
        }
        asm!("fninit", options(nostack));
    }
    FpState::default().restore();
}

/// The `MXCSR` bits that exist, as `FXSAVE` reports them (SDM volume 1, 11.6.6). Called after [`enable`].
pub fn mxcsr_mask() -> u32 {
    let mut state = FpState::default();
    // SAFETY: as in `FpState::save`; an FXSAVE image fits.
    unsafe { asm!("fxsave64 [{}]", in(reg) state.area.as_mut_ptr(), options(nostack, preserves_flags)) };
    match u32::from_le_bytes([state.area[28], state.area[29], state.area[30], state.area[31]]) {
        0 => 0xffbf,
        mask => mask,
    }
}

/// The x87 status word's unmasked exceptions, for `#MF`.
pub fn x87_exceptions() -> u32 {
    let (mut control, mut status) = (0u16, 0u16);
    // SAFETY: stores two words; neither instruction waits for pending exceptions.
    unsafe {
        asm!("fnstcw [{}]", "fnstsw [{}]", in(reg) &raw mut control, in(reg) &raw mut status,
            options(nostack, preserves_flags));
    }
    u32::from(status & !control & 0x3f)
}

/// The `MXCSR`'s unmasked exceptions, for `#XM`.
pub fn simd_exceptions() -> u32 {
    let mut value = 0u32;
    // SAFETY: stores one word.
    unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut value, options(nostack, preserves_flags)) };
    value & !(value >> 7) & 0x3f
}
