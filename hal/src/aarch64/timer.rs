//! The generic timer: the virtual counter as clock, the virtual timer as one-shot.
//!
//! Ticks become nanoseconds by a multiplication with a 10.54 fixed-point factor in 128 bits, which neither overflows
//! nor drifts by a nanosecond in a century.

use core::sync::atomic::{AtomicU64, Ordering};

use vdso::{Counter, SHIFT};

use super::sysreg::{instruction, read_sysreg, write_sysreg};
use crate::traits::TimerOps;

const NANOSECONDS: u64 = 1_000_000_000;

static FREQUENCY: AtomicU64 = AtomicU64::new(0);
/// The counter at boot: the zero of [`TimerOps::now`].
static ORIGIN: AtomicU64 = AtomicU64::new(0);
/// Nanoseconds per tick, shifted.
static TO_NANOSECONDS: AtomicU64 = AtomicU64::new(0);
/// Ticks per nanosecond, shifted and rounded up.
static TO_TICKS: AtomicU64 = AtomicU64::new(0);

/// Learns the counter's frequency. Once, on the boot CPU.
pub(super) fn init(frequency_override: Option<u32>) {
    let frequency = frequency_override.map_or_else(|| read_sysreg!("cntfrq_el0"), u64::from);
    assert!(
        frequency >= 1_000_000,
        "the generic timer must tick at 1 MHz at least, but says {frequency} Hz"
    );
    FREQUENCY.store(frequency, Ordering::Relaxed);
    TO_NANOSECONDS.store(
        ((u128::from(NANOSECONDS) << SHIFT) / u128::from(frequency)) as u64,
        Ordering::Relaxed,
    );
    TO_TICKS.store(
        ((u128::from(frequency) << SHIFT).div_ceil(u128::from(NANOSECONDS))) as u64,
        Ordering::Relaxed,
    );
    ORIGIN.store(counter(), Ordering::Relaxed);
}

/// Lets EL0 read the virtual counter (`CNTKCTL_EL1.EL0VCTEN`) and nothing else, and disarms the timer. On each CPU.
pub(super) fn init_cpu() {
    write_sysreg!("cntkctl_el1", 1 << 1);
    Timer::disarm();
}

/// The counter, not read ahead of earlier instructions.
#[inline]
fn counter() -> u64 {
    instruction!("isb");
    read_sysreg!("cntvct_el0")
}

#[inline]
const fn scale(value: u64, factor: u64) -> u64 {
    ((value as u128 * factor as u128) >> SHIFT) as u64
}

/// The clock and timer of this machine.
pub struct Timer;

impl TimerOps for Timer {
    #[inline]
    fn now() -> u64 {
        scale(
            counter().wrapping_sub(ORIGIN.load(Ordering::Relaxed)),
            TO_NANOSECONDS.load(Ordering::Relaxed),
        )
    }

    #[inline]
    fn ticks() -> u64 {
        // No `isb`: exceptions and their returns are synchronising enough for whom this is for.
        read_sysreg!("cntvct_el0")
    }

    #[inline]
    fn nanoseconds(ticks: u64) -> u64 {
        scale(ticks, TO_NANOSECONDS.load(Ordering::Relaxed))
    }

    fn frequency_hz() -> u64 {
        FREQUENCY.load(Ordering::Relaxed)
    }

    fn user_counter() -> Option<Counter> {
        Some(Counter {
            origin: ORIGIN.load(Ordering::Relaxed),
            factor: TO_NANOSECONDS.load(Ordering::Relaxed),
        })
    }

    fn arm(deadline: u64) {
        // One more tick makes up for both roundings: the timer is never early.
        let ticks = scale(deadline, TO_TICKS.load(Ordering::Relaxed)).saturating_add(1);
        write_sysreg!("cntv_cval_el0", ORIGIN.load(Ordering::Relaxed).saturating_add(ticks));
        write_sysreg!("cntv_ctl_el0", 1);
        instruction!("isb");
    }

    fn disarm() {
        write_sysreg!("cntv_ctl_el0", 0);
        instruction!("isb");
    }
}
