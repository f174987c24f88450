//! The timers of a process: the real-time interval timer (`setitimer(ITIMER_REAL)`, `alarm`), those of its CPU time ([`interval`]), and
//! those of `timer_create(2)` ([`posix`]).
//!
//! A process that has ever armed one has a task for all ([`keeper`](crate::clock::keeper)) but those that count CPU time, which
//! have a task each.

mod cpu;
pub mod interval;
pub mod posix;
#[cfg(test)]
mod tests;

use alloc::{boxed::Box, sync::Arc};

use self::{interval::CpuIntervals, posix::PosixTimers};
use super::{
    process::Process,
    signal::{self, SigInfo, set::SIGALRM},
};
use crate::{
    clock::keeper::{Deadlines, Keeper, News, Wanted},
    errno::Result,
    rt,
};

/// Timers whose signals are sent in one turn, at most.
const AT_ONCE: usize = 32;

/// The timers of one process.
#[derive(Default)]
pub struct Timers {
    keeper: Keeper,
    real: RealTimer,
    cpu: Option<Box<CpuIntervals>>,
    posix: Option<Box<PosixTimers>>,
}

/// The real-time interval timer.
#[derive(Default)]
struct RealTimer {
    deadline: Option<u64>,
    interval: u64,
}

/// A timer's setting, in nanoseconds; `remaining` 0 is disarmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    /// Until the next expiry.
    pub remaining: u64,
    /// Between later expiries; 0 for a single one.
    pub interval: u64,
}

impl RealTimer {
    fn setting(&self) -> Setting {
        let remaining = self
            .deadline
            .map_or(0, |deadline| deadline.saturating_sub(rt::now()).max(1));
        Setting {
            remaining,
            interval: if self.deadline.is_some() { self.interval } else { 0 },
        }
    }

    fn set(&mut self, setting: Setting) {
        self.interval = setting.interval;
        self.deadline = (setting.remaining != 0).then(|| rt::now().saturating_add(setting.remaining));
    }

    /// Whether it has expired at `now`.
    fn expire(&mut self, now: u64) -> bool {
        let expired = self.deadline.filter(|deadline| *deadline <= now);
        if let Some(deadline) = expired {
            let interval = self.interval;
            self.deadline = (interval != 0).then(|| deadline.saturating_add(interval).max(now));
        }
        expired.is_some()
    }
}

impl Timers {
    fn wanted(&self) -> Wanted {
        let posix = self.posix.as_ref();
        let deadlines = self.real.deadline.into_iter();
        Wanted {
            deadline: deadlines
                .chain(posix.and_then(|posix| posix.next_deadline()))
                .min()
                .unwrap_or(u64::MAX),
            follows_wall: posix.is_some_and(|posix| posix.follows_wall()),
        }
    }

    fn news(&self) -> News {
        self.keeper.news(self.wanted())
    }
}

impl Process {
    /// How the real-time timer is set.
    pub fn real_timer(&self) -> Setting {
        self.timers.lock().real.setting()
    }

    /// Sets the real-time timer and returns how it was set.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn set_real_timer(self: &Arc<Self>, setting: Setting) -> Result<Setting> {
        let (old, news) = {
            let mut timers = self.timers.lock();
            let old = timers.real.setting();
            timers.real.set(setting);
            (old, timers.news())
        };
        news.follow(self)
            .inspect_err(|_| self.timers.lock().real.deadline = None)?;
        Ok(old)
    }

    /// Ends all timers, with the process.
    pub(super) fn cancel_timers(&self) {
        let (task, cpu, posix) = {
            let mut timers = self.timers.lock();
            timers.real.deadline = None;
            (timers.keeper.take(), timers.cpu.take(), timers.posix.take())
        };
        if let Some(task) = task {
            task.abort();
        }
        drop((cpu, posix));
    }
}

impl Deadlines for Process {
    const NAME: &'static str = "timers";

    fn with_keeper<T>(&self, look: impl FnOnce(&mut Keeper, Wanted) -> T) -> T {
        let mut timers = self.timers.lock();
        let wanted = timers.wanted();
        look(&mut timers.keeper, wanted)
    }

    fn expire(self: &Arc<Self>) -> bool {
        if self.timers.lock().real.expire(rt::now()) {
            // A standard signal: sending cannot fail.
            let _ = signal::send_to_process(self, SigInfo::kernel(SIGALRM));
        }
        // One at a time: each has a signal sent, under the lock.
        (0..AT_ONCE).all(|_| {
            let mut timers = self.timers.lock();
            timers.posix.as_mut().is_some_and(|posix| posix.expire_first(self))
        })
    }
}
