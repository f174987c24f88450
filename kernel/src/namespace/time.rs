//! Time namespaces (`time_namespaces(7)`): by how much `CLOCK_MONOTONIC` and `CLOCK_BOOTTIME` are ahead of the machine's.
//!
//! The kernel itself goes by the machine's clocks throughout. Calls add what a thread's namespace is ahead to what they show, and take
//! it off absolute times that they are given; relative ones mean the same everywhere.

use alloc::{format, string::String, sync::Arc};
use core::sync::atomic::{AtomicBool, Ordering::SeqCst};

use linux_raw_sys::general as linux;
use spin::Once;

use super::{Head, Kind, UserNamespace};
use crate::{
    errno::{Errno, Result},
    rt,
    sync::{Rank, SpinLock},
    task::{Capability, Credentials, Thread},
};

const NANOS: i64 = 1_000_000_000;
/// The latest second that a clock may show (`KTIME_SEC_MAX`).
const LATEST: i64 = i64::MAX / NANOS;

/// Nanoseconds that clocks are ahead of the machine's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Offsets {
    monotonic: i64,
    boot: i64,
}

/// See the module.
pub struct TimeNamespace {
    head: Head,
    offsets: SpinLock<Offsets>,
    /// Whether somebody is in it, or was: its clocks are not set any more.
    is_entered: AtomicBool,
}

impl TimeNamespace {
    /// The one that was there from the beginning.
    pub(super) fn first() -> &'static Arc<Self> {
        static FIRST: Once<Arc<TimeNamespace>> = Once::new();
        FIRST.call_once(|| {
            Arc::new(Self {
                head: Head::first(Kind::Time),
                offsets: SpinLock::new(Rank::Random, Offsets::default()),
                is_entered: AtomicBool::new(true),
            })
        })
    }

    /// Another whose clocks show the same, which is `owner`'s.
    pub(super) fn copy(&self, owner: Arc<UserNamespace>) -> Arc<Self> {
        Arc::new(Self {
            head: Head::new(owner),
            offsets: SpinLock::new(Rank::Random, *self.offsets.lock()),
            is_entered: AtomicBool::new(false),
        })
    }

    /// Its number and owner.
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// Whether its clocks are the machine's for ever.
    pub const fn is_first(&self) -> bool {
        self.head.number() == Kind::Time.first()
    }

    /// Says that somebody is in it from now on.
    pub(super) fn entered(&self) {
        // Under the lock: who sets clocks has done so before, or does not.
        let _offsets = self.offsets.lock();
        self.is_entered.store(true, SeqCst);
    }

    /// By how many nanoseconds the clock of this number is ahead of the machine's.
    pub fn offset(&self, clock: u32) -> i64 {
        let offsets = *self.offsets.lock();
        match clock {
            linux::CLOCK_MONOTONIC | linux::CLOCK_MONOTONIC_RAW | linux::CLOCK_MONOTONIC_COARSE => offsets.monotonic,
            linux::CLOCK_BOOTTIME | linux::CLOCK_BOOTTIME_ALARM => offsets.boot,
            _ => 0,
        }
    }

    /// What such a clock shows when the machine's shows `time`.
    pub fn shown(&self, clock: u32, time: u64) -> u64 {
        time.saturating_add_signed(self.offset(clock))
    }

    /// As `/proc/<pid>/timens_offsets` shows them.
    pub fn text(&self) -> String {
        let Offsets { monotonic, boot } = *self.offsets.lock();
        let line = |name: &str, offset: i64| {
            let (seconds, rest) = (offset.div_euclid(NANOS), offset.rem_euclid(NANOS));
            format!("{name:<10} {seconds:10} {rest:9}\n")
        };
        line("monotonic", monotonic) + &line("boottime", boot)
    }

    /// Sets them by one or two lines: a clock by name or number, seconds, nanoseconds.
    ///
    /// # Errors
    /// `EINVAL`; `EPERM` without `CAP_SYS_TIME`; `ERANGE` for a clock that would be before 0 or close to its end; `EACCES` once
    /// somebody is in it.
    pub fn set(&self, credentials: &Credentials, text: &[u8]) -> Result<()> {
        let text = core::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
        let mut lines = text.split_terminator('\n');
        let wanted = [lines.next().ok_or(Errno::EINVAL)?, lines.next().unwrap_or("")];
        if lines.next().is_some() {
            return Err(Errno::EINVAL);
        }
        let mut new: Offsets = *self.offsets.lock();
        let mut too_far = false;
        for line in wanted.into_iter().filter(|line| !line.is_empty()) {
            let mut words = line.split_ascii_whitespace();
            let mut word = || words.next().ok_or(Errno::EINVAL);
            let offset = match word()? {
                "monotonic" | "1" => &mut new.monotonic,
                "boottime" | "7" => &mut new.boot,
                _ => return Err(Errno::EINVAL),
            };
            let seconds: i64 = word()?.parse().map_err(|_| Errno::EINVAL)?;
            let rest: i64 = word()?.parse().map_err(|_| Errno::EINVAL)?;
            if !(0..NANOS).contains(&rest) {
                return Err(Errno::EINVAL);
            }
            let sum = i128::from(seconds) * i128::from(NANOS) + i128::from(rest);
            let shown = sum + i128::from(rt::now());
            // Half of all time is left for timers.
            if shown < 0 || shown > i128::from(LATEST / 2) * i128::from(NANOS) {
                too_far = true;
            } else {
                *offset = sum as i64;
            }
        }
        if !credentials.can_in(Capability::SysTime, self.head.owner()) {
            return Err(Errno::EPERM);
        }
        if too_far {
            return Err(Errno::ERANGE);
        }
        let mut offsets = self.offsets.lock();
        if self.is_entered.load(SeqCst) {
            return Err(Errno::EACCES);
        }
        *offsets = new;
        Ok(())
    }
}

/// What a thread sees the clock of this number show when the machine's shows `time`.
#[inline]
pub fn shown_to(thread: &Thread, clock: u32, time: u64) -> u64 {
    if thread.is_apart() {
        thread.namespaces().time.shown(clock, time)
    } else {
        time
    }
}

/// When the machine's clock shows what a thread calls `time` by the clock of this number. 0, which often means never, stays; what
/// was before boot becomes the first moment after it.
#[inline]
pub fn meant_by(thread: &Thread, clock: u32, time: u64) -> u64 {
    if time == 0 || !thread.is_apart() {
        return time;
    }
    let ahead = thread.namespaces().time.offset(clock);
    time.saturating_add_signed(ahead.saturating_neg()).max(1)
}
