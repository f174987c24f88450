//! x87, SSE and AVX registers.
//!
//! Saved in the standard (not compacted) XSAVE format (SDM volume 1, 13.4), which is also what signal frames hold, so
//! that a frame is one copy, with what it says to software already in place. `XCR0` is limited to x87, SSE and AVX; a CPU without XSAVE uses FXSAVE, the first 512 bytes
//! of the same layout.

use core::{arch::asm, array, mem::size_of, sync::atomic::Ordering::Relaxed};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

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
/// Where `MXCSR` and its mask stand in the legacy region, then the x87 registers, the SSE registers, and software's bytes.
const MXCSR_OFFSET: usize = 24;
const ST_OFFSET: usize = 32;
const XMM_OFFSET: usize = 160;
const XMM_END: usize = 416;
const SOFTWARE_OFFSET: usize = 464;
/// State components that are used at most: x87, SSE, AVX.
pub const COMPONENTS: u64 = 0b111;

/// `FCW` after `FNINIT`.
const INITIAL_FCW: u16 = 0x37f;
/// `MXCSR` at reset.
const INITIAL_MXCSR: u32 = 0x1f80;

/// `FP_XSTATE_MAGIC1`, in the legacy region's software bytes.
const MAGIC1: u32 = 0x4650_5853;
/// `FP_XSTATE_MAGIC2`, behind the area in a signal frame.
pub const MAGIC2: u32 = 0x4650_5845;

/// `struct _fpx_sw_bytes` (`arch/x86/include/uapi/asm/sigcontext.h`).
#[derive(Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct SoftwareBytes {
    magic1: u32,
    extended_size: u32,
    xfeatures: u64,
    xstate_size: u32,
    padding: [u32; 7],
}

const _: () = assert!(size_of::<SoftwareBytes>() == LEGACY_SIZE - SOFTWARE_OFFSET);

/// How many bytes of the area state components take, 0 being the legacy region alone, as `FXSAVE` stores it.
pub const fn size_with(components: u64) -> usize {
    match components {
        0 => LEGACY_SIZE,
        _ if components & 0b100 != 0 => AREA_SIZE,
        _ => LEGACY_SIZE + HEADER_SIZE,
    }
}

/// A thread's FP/SIMD registers.
#[derive(Clone)]
#[repr(C, align(64))]
pub struct FpState {
    area: [u8; AREA_SIZE],
}

impl Default for FpState {
    fn default() -> Self {
        let mut state = Self { area: [0; AREA_SIZE] };
        state.put_initial_x87();
        state.put(MXCSR_OFFSET, &INITIAL_MXCSR.to_le_bytes());
        state.put_software_bytes();
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
    #[inline]
    pub fn used_size() -> usize {
        FEATURES.fp_size.load(Relaxed)
    }

    /// The used bytes, as a signal frame holds them.
    pub fn bytes(&self) -> &[u8] {
        &self.area[..Self::used_size()]
    }

    /// The used bytes, to be overwritten by a signal frame's: [`FpState::sanitise`] or [`FpState::reset`] must follow.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.area[..Self::used_size()]
    }

    fn put_initial_x87(&mut self) {
        self.area[..MXCSR_OFFSET].fill(0);
        self.put(0, &INITIAL_FCW.to_le_bytes());
        self.area[ST_OFFSET..XMM_OFFSET].fill(0);
    }

    /// What the CPU leaves to software, it neither reads nor writes: it says what a signal frame has to.
    fn put_software_bytes(&mut self) {
        let components = FEATURES.xcr0.load(Relaxed);
        let size = Self::used_size() as u32;
        let bytes = if components == 0 {
            SoftwareBytes::default()
        } else {
            SoftwareBytes {
                magic1: MAGIC1,
                extended_size: size + size_of::<u32>() as u32,
                xfeatures: components,
                xstate_size: size,
                padding: [0; 7],
            }
        };
        self.put(SOFTWARE_OFFSET, bytes.as_bytes());
    }

    /// Which components the XSAVE header says are not in their initial state. Of the others the area holds the initial values
    /// after [`FpOps::save`] and [`FpState::sanitise`], and anything after [`FpState::reset`].
    fn present(&self) -> u64 {
        let header = &self.area[LEGACY_SIZE..];
        u64::from_le_bytes(array::from_fn(|at| header[at]))
    }

    /// Makes the registers initial.
    pub fn reset(&mut self) {
        if FEATURES.xcr0.load(Relaxed) == 0 {
            *self = Self::default();
            return;
        }
        // What no component is said to be in need not be cleared.
        self.area[LEGACY_SIZE..LEGACY_SIZE + HEADER_SIZE].fill(0);
        self.put(MXCSR_OFFSET, &INITIAL_MXCSR.to_le_bytes());
        // It may have been a frame's.
        self.put_software_bytes();
    }

    /// Whether all is as [`FpState::reset`] makes it, so that the area need not hold the values.
    pub fn is_reset(&self) -> bool {
        let mxcsr = &self.area[MXCSR_OFFSET..MXCSR_OFFSET + 4];
        FEATURES.xcr0.load(Relaxed) != 0 && self.present() == 0 && mxcsr == INITIAL_MXCSR.to_le_bytes()
    }

    /// After [`FpState::bytes_mut`] has been filled from a signal frame: whatever the bytes, the result can be loaded. It is an
    /// XSAVE area where both magic numbers are right, `magic2` being what stood behind it, else an FXSAVE image alone. `MXCSR`
    /// keeps the bits that exist, the XSAVE header names only components that are enabled and is otherwise zero. Components that
    /// the frame does not hold become initial.
    pub fn sanitise(&mut self, magic2: u32) {
        let mxcsr = u32::from_le_bytes(array::from_fn(|at| self.area[MXCSR_OFFSET + at]));
        self.put(MXCSR_OFFSET, &(mxcsr & FEATURES.mxcsr_mask.load(Relaxed)).to_le_bytes());
        let enabled = FEATURES.xcr0.load(Relaxed);
        if enabled != 0 {
            let software = SoftwareBytes::read_from_bytes(&self.area[SOFTWARE_OFFSET..LEGACY_SIZE]);
            let present = match software {
                Ok(software)
                    if software.magic1 == MAGIC1
                        && software.xstate_size as usize == Self::used_size()
                        && magic2 == MAGIC2 =>
                {
                    software.xfeatures & enabled & self.present()
                }
                _ => 0b11,
            };
            let mut header = [0; HEADER_SIZE];
            header[..8].copy_from_slice(&present.to_le_bytes());
            self.put(LEGACY_SIZE, &header);
            if present & enabled != enabled {
                self.clear_but(present);
            }
        }
        self.put_software_bytes();
    }

    /// Makes the values of all components but those of `present` initial.
    #[cold]
    fn clear_but(&mut self, present: u64) {
        if present & 0b001 == 0 {
            self.put_initial_x87();
        }
        if present & 0b010 == 0 {
            self.area[XMM_OFFSET..XMM_END].fill(0);
        }
        if present & 0b100 == 0 {
            self.area[LEGACY_SIZE + HEADER_SIZE..].fill(0);
        }
    }
}

/// As a tracer has them.
impl FpState {
    /// Fills `out` with the XSAVE area, or with the FXSAVE image alone, every component's values in place.
    pub fn describe(&self, whole: bool, out: &mut [u8]) {
        let mut shown = self.clone();
        let enabled = FEATURES.xcr0.load(Relaxed);
        if enabled != 0 {
            shown.clear_but(self.present());
        }
        // Software's bytes begin with what components there are (`xstate_fx_sw_bytes`).
        shown.area[SOFTWARE_OFFSET..LEGACY_SIZE].fill(0);
        if whole {
            shown.put(SOFTWARE_OFFSET, &enabled.to_le_bytes());
        }
        out.copy_from_slice(&shown.area[..out.len()]);
    }

    fn has_valid_mxcsr(bytes: &[u8]) -> bool {
        let mxcsr = u32::from_le_bytes(array::from_fn(|at| bytes[MXCSR_OFFSET + at]));
        mxcsr & !FEATURES.mxcsr_mask.load(Relaxed) == 0
    }

    /// Replaces x87 and SSE registers by an FXSAVE image; false, and nothing is changed, if it cannot be loaded.
    ///
    /// # Panics
    /// If there are not [`LEGACY_SIZE`] bytes.
    pub fn set_legacy(&mut self, bytes: &[u8]) -> bool {
        if !Self::has_valid_mxcsr(bytes) {
            return false;
        }
        let present = self.present();
        if FEATURES.xcr0.load(Relaxed) != 0 {
            self.clear_but(present);
            self.put(LEGACY_SIZE, &(present | 0b011).to_le_bytes());
        }
        self.put(0, bytes);
        self.put_software_bytes();
        true
    }

    /// Replaces all registers by an XSAVE area; false, and nothing is changed, if it cannot be loaded.
    ///
    /// # Panics
    /// If there are not [`FpState::used_size`] bytes, or the CPU has no XSAVE.
    pub fn set_all(&mut self, bytes: &[u8]) -> bool {
        let (present, rest) = bytes[LEGACY_SIZE..LEGACY_SIZE + HEADER_SIZE].split_at(8);
        let present = u64::from_le_bytes(array::from_fn(|at| present[at]));
        let enabled = FEATURES.xcr0.load(Relaxed);
        if present & !enabled != 0 || rest.iter().any(|byte| *byte != 0) || !Self::has_valid_mxcsr(bytes) {
            return false;
        }
        self.put(0, bytes);
        self.clear_but(present);
        self.put_software_bytes();
        true
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
