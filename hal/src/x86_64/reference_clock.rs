//! Clocks of known rate, by which those of unknown rate are measured: HPET, ACPI's power-management timer, the PIT.

use super::{
    constants::DIRECT_MAP,
    platform::Platform,
    registers::{in_u8, in_u32, out_u8},
};

/// A counter of known rate.
#[derive(Clone, Copy, Debug)]
pub enum ReferenceClock {
    /// The HPET's main counter (IA-PC HPET specification 1.0a, 2.3).
    Hpet {
        /// Its registers in the direct map.
        base: u64,
        /// Ticks per second.
        hz: u64,
        /// Bits that count.
        mask: u64,
    },
    /// The 24-bit power-management timer (ACPI 6.5, 4.8.2.1).
    PmTimer {
        /// Its port.
        port: u16,
    },
    /// Channel 2 of the 8254, counting down from 65535.
    Pit,
}

/// Ticks per second of ACPI's timer.
const PM_TIMER_HZ: u64 = 3_579_545;
/// Ticks per second of the 8254.
const PIT_HZ: u64 = 1_193_182;

const HPET_CAPABILITIES: u64 = 0;
const HPET_CONFIGURATION: u64 = 0x10;
const HPET_COUNTER: u64 = 0xf0;

fn hpet_read(base: u64, offset: u64) -> u64 {
    // SAFETY: boot maps the HPET's page, uncached.
    unsafe { ((base + offset) as *const u64).read_volatile() }
}

impl ReferenceClock {
    /// The best that the platform has, started.
    pub fn start(platform: &Platform) -> Self {
        if let Some(address) = platform.hpet {
            let base = DIRECT_MAP + address;
            let capabilities = hpet_read(base, HPET_CAPABILITIES);
            // Femtoseconds per tick; the specification's limit is 100 ns.
            let period = capabilities >> 32;
            if (1..=100_000_000).contains(&period) {
                let mask = if capabilities & 1 << 13 != 0 {
                    u64::MAX
                } else {
                    u64::from(u32::MAX)
                };
                let configuration = hpet_read(base, HPET_CONFIGURATION);
                // SAFETY: sets ENABLE_CNF and leaves the rest.
                unsafe { ((base + HPET_CONFIGURATION) as *mut u64).write_volatile(configuration | 1) };
                return Self::Hpet {
                    base,
                    hz: 1_000_000_000_000_000 / period,
                    mask,
                };
            }
        }
        if let Some(port) = platform.pm_timer {
            return Self::PmTimer { port };
        }
        // SAFETY: gate on and speaker off, then channel 2 in mode 0 from 65535.
        unsafe {
            out_u8(0x61, in_u8(0x61) & !2 | 1);
            out_u8(0x43, 0xb0);
            out_u8(0x42, 0xff);
            out_u8(0x42, 0xff);
        }
        Self::Pit
    }

    /// Ticks per second.
    pub fn hz(&self) -> u64 {
        match self {
            Self::Hpet { hz, .. } => *hz,
            Self::PmTimer { .. } => PM_TIMER_HZ,
            Self::Pit => PIT_HZ,
        }
    }

    /// The counter, upward.
    pub fn ticks(&self) -> u64 {
        match *self {
            Self::Hpet { base, mask, .. } => hpet_read(base, HPET_COUNTER) & mask,
            // SAFETY: the timer's port, read only.
            Self::PmTimer { port } => unsafe { in_u32(port) & 0xff_ffff }.into(),
            // SAFETY: latches and reads channel 2.
            Self::Pit => unsafe {
                out_u8(0x43, 0x80);
                let low = in_u8(0x42);
                0xffff - u64::from(u16::from_le_bytes([low, in_u8(0x42)]))
            },
        }
    }

    /// Ticks from `earlier` to `later`, over at most one wrap.
    pub fn elapsed(&self, earlier: u64, later: u64) -> u64 {
        let mask = match self {
            Self::Hpet { mask, .. } => *mask,
            Self::PmTimer { .. } => 0xff_ffff,
            Self::Pit => 0xffff,
        };
        later.wrapping_sub(earlier) & mask
    }
}
