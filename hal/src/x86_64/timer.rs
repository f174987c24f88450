//! The clock and the one-shot timer.
//!
//! The clock is the TSC where it is steady and alike on every CPU, else the HPET. The TSC's rate is measured against a
//! clock of known rate at boot. The timer is the local APIC's, in TSC-deadline mode where the CPU has it, else counting
//! down at a rate measured in the same stretch. A timer that fires before its deadline by the clock of [`Timer::now`]
//! is armed again in [`fired`], so no measuring error makes a deadline early.

use core::{
    arch::asm,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use vdso::{Counter, SHIFT};

use super::{
    apic::{self, register},
    constants::{MSR_TSC_DEADLINE, TIMER_VECTOR},
    cpu::Cpu,
    cpuid::FEATURES,
    percpu::CpuData,
    platform,
    reference_clock::ReferenceClock,
    registers::{read_tsc, read_tsc_unordered, write_msr},
};
use crate::traits::{CpuOps, TimerOps};

const NANOS: u64 = 1_000_000_000;
/// How long the rates are measured for.
const MEASURE_MS: u64 = 25;

/// Local-vector-table timer modes (SDM volume 3, figure 11-8).
const MODE_ONE_SHOT: u32 = 0;
const MODE_TSC_DEADLINE: u32 = 2 << 17;
/// Divide configuration: by 16, so that 32 bits last for more than a minute.
const DIVIDE_BY_16: u32 = 3;

/// A fixed-point rate: nanoseconds per tick, with [`SHIFT`] binary digits behind the point.
struct Rate {
    hz: AtomicU64,
    nanos_per_tick: AtomicU64,
}

impl Rate {
    const fn new() -> Self {
        Self {
            hz: AtomicU64::new(1),
            nanos_per_tick: AtomicU64::new(0),
        }
    }

    fn set(&self, hz: u64) {
        self.hz.store(hz.max(1), Relaxed);
        self.nanos_per_tick
            .store(((u128::from(NANOS) << SHIFT) / u128::from(hz.max(1))) as u64, Relaxed);
    }

    #[inline]
    fn nanos(&self, ticks: u64) -> u64 {
        ((u128::from(ticks) * u128::from(self.nanos_per_tick.load(Relaxed))) >> SHIFT) as u64
    }

    /// Ticks in that many nanoseconds, rounded up.
    fn ticks(&self, nanos: u64) -> u64 {
        let ticks = (u128::from(nanos) * u128::from(self.hz.load(Relaxed))).div_ceil(u128::from(NANOS));
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }
}

static TSC: Rate = Rate::new();
static APIC: Rate = Rate::new();
static HPET: Rate = Rate::new();
/// Another CPU's TSC may be behind the boot CPU's by less than the check at its start can see, which is less than so many ticks by far:
/// no CPU comes before nanosecond zero.
const MARGIN: u64 = 1 << 16;
/// The TSC at nanosecond zero: [`MARGIN`] before it was read at boot.
static TSC_START: AtomicU64 = AtomicU64::new(0);
/// Whether the clock is the HPET; then [`HPET_START`] is its counter at nanosecond zero.
static BY_HPET: AtomicBool = AtomicBool::new(false);
static HPET_START: AtomicU64 = AtomicU64::new(0);
static REFERENCE: spin::Once<ReferenceClock> = spin::Once::new();

/// One moment on three counters.
struct Moment {
    reference: u64,
    tsc: u64,
    apic: u32,
}

impl Moment {
    /// Reads all three; of several tries the one that took least, since the host may take the CPU away in between.
    fn take(clock: &ReferenceClock) -> Self {
        let mut best = (
            u64::MAX,
            Self {
                reference: 0,
                tsc: 0,
                apic: 0,
            },
        );
        for _ in 0..16 {
            let before = read_tsc();
            let reference = clock.ticks();
            let apic = apic::read(register::TIMER_CURRENT);
            let after = read_tsc();
            if after.wrapping_sub(before) < best.0 {
                best = (
                    after.wrapping_sub(before),
                    Self {
                        reference,
                        tsc: before,
                        apic,
                    },
                );
            }
        }
        best.1
    }
}

/// Starts and measures the clocks. Called once, on the boot CPU, after the local APIC is enabled.
pub(super) fn init() {
    let clock = *REFERENCE.call_once(|| ReferenceClock::start(platform::get()));
    apic::write(register::TIMER_DIVIDE, DIVIDE_BY_16);
    apic::write(register::LVT_TIMER, apic::LVT_MASKED | MODE_ONE_SHOT | TIMER_VECTOR);
    apic::write(register::TIMER_INITIAL, u32::MAX);

    let first = Moment::take(&clock);
    let wanted = clock.hz() * MEASURE_MS / 1000;
    while clock.elapsed(first.reference, clock.ticks()) < wanted {
        core::hint::spin_loop();
    }
    let last = Moment::take(&clock);
    apic::write(register::TIMER_INITIAL, 0);

    let ticks = clock.elapsed(first.reference, last.reference).max(1);
    let hz = |count: u64| (u128::from(count) * u128::from(clock.hz()) / u128::from(ticks)) as u64;
    TSC.set(hz(last.tsc.wrapping_sub(first.tsc)));
    APIC.set(hz(u64::from(first.apic.wrapping_sub(last.apic))));
    TSC_START.store(read_tsc().wrapping_sub(MARGIN), Relaxed);
    if let ReferenceClock::Hpet { hz, .. } = clock {
        HPET.set(hz);
        if !FEATURES.steady_tsc.load(Relaxed) {
            distrust_tsc();
        }
    }
    init_this_cpu();
}

/// Makes the HPET the clock, going on from where the TSC stands. Nothing changes where there is no 64-bit HPET: then
/// the TSC is all there is.
pub(super) fn distrust_tsc() {
    if let Some(&clock @ ReferenceClock::Hpet { mask: u64::MAX, .. }) = REFERENCE.get()
        && !BY_HPET.load(Relaxed)
    {
        let start = clock.ticks().wrapping_sub(HPET.ticks(Timer::now()));
        HPET_START.store(start, Relaxed);
        BY_HPET.store(true, Relaxed);
    }
}

/// Sets the calling CPU's timer up, disarmed.
pub(super) fn init_this_cpu() {
    let mode = if FEATURES.tsc_deadline.load(Relaxed) {
        MODE_TSC_DEADLINE
    } else {
        MODE_ONE_SHOT
    };
    apic::write(register::TIMER_DIVIDE, DIVIDE_BY_16);
    apic::write(register::LVT_TIMER, mode | TIMER_VECTOR);
    // SAFETY: orders the memory-mapped write before later MSR writes (SDM volume 3, 11.5.4.1).
    unsafe { asm!("mfence", options(nostack, preserves_flags)) };
    Timer::disarm();
}

/// The TSC's measured rate, for `/proc/cpuinfo`.
pub(super) fn tsc_hz() -> u64 {
    TSC.hz.load(Relaxed)
}

/// The timer's vector came. Whether the deadline has really passed; if not, the timer is armed again.
pub(super) fn fired() -> bool {
    let deadline = CpuData::current().deadline.load(Relaxed);
    if deadline == u64::MAX {
        return false;
    }
    if Timer::now() < deadline {
        Timer::arm(deadline);
        return false;
    }
    CpuData::current().deadline.store(u64::MAX, Relaxed);
    true
}

/// Waits by the clock.
pub(super) fn spin(nanos: u64) {
    let end = Timer::now() + nanos;
    while Timer::now() < end {
        Cpu::relax();
    }
}

/// The clock and the calling CPU's timer.
pub struct Timer;

/// The HPET, which is the clock.
#[cold]
fn read_hpet() -> u64 {
    REFERENCE.get().map_or(0, ReferenceClock::ticks)
}

/// The rate of [`TimerOps::ticks`].
#[inline]
fn rate() -> &'static Rate {
    if BY_HPET.load(Relaxed) { &HPET } else { &TSC }
}

impl TimerOps for Timer {
    #[inline]
    fn now() -> u64 {
        if BY_HPET.load(Relaxed) {
            return HPET.nanos(read_hpet().wrapping_sub(HPET_START.load(Relaxed)));
        }
        TSC.nanos(read_tsc().wrapping_sub(TSC_START.load(Relaxed)))
    }

    #[inline]
    fn ticks() -> u64 {
        if BY_HPET.load(Relaxed) {
            read_hpet()
        } else {
            read_tsc_unordered()
        }
    }

    #[inline]
    fn nanoseconds(ticks: u64) -> u64 {
        rate().nanos(ticks)
    }

    fn frequency_hz() -> u64 {
        rate().hz.load(Relaxed)
    }

    fn user_counter() -> Option<Counter> {
        (!BY_HPET.load(Relaxed)).then(|| Counter {
            origin: TSC_START.load(Relaxed),
            factor: TSC.nanos_per_tick.load(Relaxed),
        })
    }

    fn arm(deadline: u64) {
        let state = Cpu::mask_interrupts();
        CpuData::current().deadline.store(deadline, Relaxed);
        let left = deadline.saturating_sub(Self::now());
        if FEATURES.tsc_deadline.load(Relaxed) {
            let target = read_tsc().saturating_add(TSC.ticks(left));
            // SAFETY: arms the timer; zero would disarm it and never comes from a running TSC.
            unsafe { write_msr(MSR_TSC_DEADLINE, target) };
        } else {
            // A count of zero would stop the timer. One that does not fit fires early and is armed again.
            let count = u32::try_from(APIC.ticks(left)).unwrap_or(u32::MAX).max(1);
            apic::write(register::TIMER_INITIAL, count);
        }
        Cpu::restore_interrupts(state);
    }

    fn disarm() {
        let state = Cpu::mask_interrupts();
        CpuData::current().deadline.store(u64::MAX, Relaxed);
        if FEATURES.tsc_deadline.load(Relaxed) {
            // SAFETY: zero disarms.
            unsafe { write_msr(MSR_TSC_DEADLINE, 0) };
        } else {
            apic::write(register::TIMER_INITIAL, 0);
        }
        Cpu::restore_interrupts(state);
    }
}
