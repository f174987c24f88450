//! The interval timers that count a process's CPU time: `ITIMER_VIRTUAL`, `ITIMER_PROF`.

use alloc::{boxed::Box, sync::Arc};

use executor::{Class, SpawnOptions};

use super::{Setting, Timers, cpu::follow};
use crate::{
    clock::forward,
    errno::Result,
    rt,
    task::{
        cpu_clock::{Counts, CpuClock},
        process::Process,
        signal::{
            self, SigInfo, Signo,
            set::{SIGPROF, SIGVTALRM},
        },
    },
};

/// Which interval timer (`ITIMER_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interval {
    /// Time itself: `SIGALRM`.
    Real,
    /// CPU time.
    Cpu(CpuInterval),
}

/// One that counts CPU time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuInterval {
    /// That in user mode: `SIGVTALRM`.
    Virtual,
    /// All: `SIGPROF`.
    Profiling,
}

impl Interval {
    /// The one with Linux's number.
    pub const fn by_number(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Real),
            1 => Some(Self::Cpu(CpuInterval::Virtual)),
            2 => Some(Self::Cpu(CpuInterval::Profiling)),
            _ => None,
        }
    }
}

impl CpuInterval {
    const fn signo(self) -> Signo {
        match self {
            Self::Virtual => SIGVTALRM,
            Self::Profiling => SIGPROF,
        }
    }

    fn clock(self, process: &Arc<Process>) -> CpuClock {
        let counts = match self {
            Self::Virtual => Counts::User,
            Self::Profiling => Counts::All,
        };
        CpuClock::of_process(process, counts)
    }

    /// What its clock shows.
    fn now(self, process: &Process) -> u64 {
        let (user, system) = process.times();
        match self {
            Self::Virtual => user,
            Self::Profiling => user + system,
        }
    }
}

/// One timer. Its times are its clock's.
#[derive(Default)]
struct Slot {
    expires: Option<u64>,
    interval: u64,
    /// Waits for the clock; from the first arming on.
    task: Option<rt::Join<()>>,
}

impl Slot {
    fn setting(&self, now: u64) -> Setting {
        Setting {
            remaining: self.expires.map_or(0, |expires| expires.saturating_sub(now).max(1)),
            interval: self.interval,
        }
    }
}

/// Both timers, of a process that ever set one.
#[derive(Default)]
pub(super) struct CpuIntervals([Slot; 2]);

impl CpuIntervals {
    fn slot(&mut self, which: CpuInterval) -> &mut Slot {
        &mut self.0[which as usize]
    }
}

impl Drop for CpuIntervals {
    fn drop(&mut self) {
        for task in self.0.iter().filter_map(|slot| slot.task.as_ref()) {
            task.abort();
        }
    }
}

fn slot(timers: &mut Timers, which: CpuInterval) -> Option<&mut Slot> {
    Some(timers.cpu.as_deref_mut()?.slot(which))
}

impl Process {
    /// How an interval timer is set.
    pub fn interval_timer(&self, which: Interval) -> Setting {
        match which {
            Interval::Real => self.real_timer(),
            Interval::Cpu(which) => {
                let mut timers = self.timers.lock();
                let now = which.now(self);
                slot(&mut timers, which).map_or_else(Setting::default, |slot| slot.setting(now))
            }
        }
    }

    /// Sets an interval timer and returns how it was set.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn set_interval_timer(self: &Arc<Self>, which: Interval, setting: Setting) -> Result<Setting> {
        match which {
            Interval::Real => self.set_real_timer(setting),
            Interval::Cpu(which) => self.set_cpu_interval(which, setting),
        }
    }

    fn set_cpu_interval(self: &Arc<Self>, which: CpuInterval, setting: Setting) -> Result<Setting> {
        let old = {
            let mut timers = self.timers.lock();
            if timers.cpu.is_none() && setting == Setting::default() {
                return Ok(setting);
            }
            let now = which.now(self);
            let slot = timers.cpu.get_or_insert_with(Box::default).slot(which);
            let old = slot.setting(now);
            slot.interval = setting.interval;
            slot.expires = (setting.remaining != 0).then(|| now.saturating_add(setting.remaining));
            if let Some(task) = &slot.task {
                let task = task.id();
                drop(timers);
                rt::executor().wake_task(task);
                return Ok(old);
            }
            old
        };
        if setting.remaining != 0 {
            self.follow_cpu_interval(which).inspect_err(|_| {
                if let Some(slot) = slot(&mut self.timers.lock(), which) {
                    slot.expires = None;
                }
            })?;
        }
        Ok(old)
    }

    /// Makes the task that waits for a timer's clock.
    fn follow_cpu_interval(self: &Arc<Self>, which: CpuInterval) -> Result<()> {
        let options = SpawnOptions::new(Class::Service, "cpu timer");
        let process = self.clone();
        let clock = which.clock(self);
        let task = rt::executor().spawn(options, async move {
            let expiry = || slot(&mut process.timers.lock(), which)?.expires;
            follow(clock, expiry, || process.expire_cpu_interval(which)).await;
        })?;
        let surplus = match slot(&mut self.timers.lock(), which) {
            Some(slot) if slot.task.is_none() => slot.task.replace(task),
            // The process has ended meanwhile, or another thread was faster.
            _ => Some(task),
        };
        if let Some(task) = surplus {
            task.abort();
        }
        Ok(())
    }

    /// Sends a timer's signal if it has expired, and sets it to the next expiry that is still to come.
    fn expire_cpu_interval(self: &Arc<Self>, which: CpuInterval) {
        let expired = {
            let mut timers = self.timers.lock();
            let now = which.now(self);
            let Some(slot) = slot(&mut timers, which) else { return };
            let expired = slot.expires.filter(|expires| *expires <= now);
            if let Some(mut expires) = expired {
                let interval = slot.interval;
                slot.expires = (interval != 0).then(|| {
                    forward(&mut expires, interval, now);
                    expires
                });
            }
            expired.is_some()
        };
        if expired {
            // A standard signal: sending cannot fail.
            let _ = signal::send_to_process(self, SigInfo::kernel(which.signo()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_what_is_left_and_never_nothing_while_it_goes() {
        let slot = Slot {
            expires: Some(100),
            interval: 7,
            task: None,
        };
        assert_eq!(slot.setting(40).remaining, 60);
        assert_eq!(slot.setting(100).remaining, 1, "it is about to expire");
        assert_eq!(
            slot.setting(200),
            Setting {
                remaining: 1,
                interval: 7
            }
        );
        assert_eq!(Slot::default().setting(5), Setting::default());
    }
}
