//! Moments to wait for, by the clocks that user mode knows.
//!
//! The kernel itself counts nanoseconds since boot. The wall clock is that and an offset, which root may change: who waits for
//! a moment of the wall clock has to hear of it ([`settings`]).

pub mod keeper;

use core::{
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
};

use linux_raw_sys::general as linux;

use crate::{
    rt,
    sync::WaitQueue,
    task::{deadline::until, exec::vdso},
};

/// What a clock counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Base {
    /// Boot. The machine never sleeps, so that `CLOCK_MONOTONIC` and `CLOCK_BOOTTIME` are one.
    Boot,
    /// 1970. `CLOCK_TAI` is the same: nobody has said how many leap seconds there were.
    Wall,
}

impl Base {
    /// What a clock that one can wait for counts from, by Linux's number. `None` for the others.
    pub const fn of(clock: u32) -> Option<Self> {
        match clock {
            linux::CLOCK_REALTIME | linux::CLOCK_TAI | linux::CLOCK_REALTIME_ALARM => Some(Self::Wall),
            linux::CLOCK_MONOTONIC | linux::CLOCK_BOOTTIME | linux::CLOCK_BOOTTIME_ALARM => Some(Self::Boot),
            _ => None,
        }
    }

    /// Now, in nanoseconds. A wall clock before 1970 shows 0.
    pub fn now(self) -> u64 {
        match self {
            Self::Boot => rt::now(),
            Self::Wall => rt::wall_clock().max(0) as u64,
        }
    }
}

/// Whether a clock is one that would wake a machine that sleeps: waiting for it takes a privilege.
pub const fn is_alarm(clock: u32) -> bool {
    matches!(clock, linux::CLOCK_REALTIME_ALARM | linux::CLOCK_BOOTTIME_ALARM)
}

/// A time that a clock will show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// What it is counted from.
    pub base: Base,
    /// Nanoseconds.
    pub time: u64,
}

impl Moment {
    /// When that is, in nanoseconds since boot, as the clocks stand now.
    pub fn deadline(self) -> u64 {
        match self.base {
            Base::Boot => self.time,
            Base::Wall => {
                // A sum of both kinds of the same moment, so that the two are apart by the offset alone.
                let offset = i128::from(rt::boot_wall_clock());
                (i128::from(self.time) - offset).clamp(0, u64::MAX.into()) as u64
            }
        }
    }

    /// Waits for it, wherever the wall clock is set meanwhile. Dropping it cancels.
    pub async fn reached(self) {
        if self.base == Base::Boot {
            return rt::sleep_until(self.time).await;
        }
        loop {
            let mut set = pin!(settings().wait());
            set.as_mut().enable();
            // What the clock showed may have been read before it was set: looked at once more after the sleep.
            let passed = until(Some(self.deadline()), set).await.is_none();
            if passed && self.base.now() >= self.time {
                return;
            }
        }
    }
}

/// Moves `expires` on by whole intervals until it is later than `now`; how many. 0 if it is already.
///
/// # Panics
/// If `interval` is 0.
pub fn forward(expires: &mut u64, interval: u64, now: u64) -> u64 {
    let Some(late) = now.checked_sub(*expires) else {
        return 0;
    };
    let steps = late / interval + 1;
    *expires = expires.saturating_add(interval.saturating_mul(steps));
    steps
}

static SETTINGS: WaitQueue = WaitQueue::new();
static TIMES_SET: AtomicU64 = AtomicU64::new(0);

/// Woken whenever the wall clock has been set.
pub fn settings() -> &'static WaitQueue {
    &SETTINGS
}

/// How often the wall clock has been set.
pub fn times_set() -> u64 {
    TIMES_SET.load(Ordering::SeqCst)
}

/// Sets the wall clock: nanoseconds since 1970, now.
pub fn set(nanoseconds: i64) {
    rt::set_wall_clock(nanoseconds);
    // Whoever is woken by it may look at once.
    vdso::clock_was_set();
    TIMES_SET.fetch_add(1, Ordering::SeqCst);
    SETTINGS.wake_all();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_pass_as_a_whole() {
        let mut expires = 100;
        assert_eq!((forward(&mut expires, 10, 99), expires), (0, 100), "not due");
        assert_eq!((forward(&mut expires, 10, 100), expires), (1, 110));
        assert_eq!((forward(&mut expires, 10, 139), expires), (3, 140));
        assert_eq!((forward(&mut expires, 10, 150), expires), (2, 160));
        assert_eq!(
            (forward(&mut expires, u64::MAX, 160), expires),
            (1, u64::MAX),
            "never again"
        );
    }
}
