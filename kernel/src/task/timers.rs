//! The real-time interval timer of a process (`setitimer(ITIMER_REAL)`, `alarm`).
//!
//! An armed timer is a task that sleeps; disarming aborts it. The generation tells a task that is already awake that its
//! timer has been replaced meanwhile.

use alloc::sync::Arc;

use executor::{Class, SpawnOptions};

use super::{
    process::Process,
    signal::{self, SigInfo, set::SIGALRM},
};
use crate::{errno::Result, rt};

/// The timers of one process.
#[derive(Default)]
pub struct Timers {
    generation: u64,
    task: Option<rt::Join<()>>,
    deadline: Option<u64>,
    interval: u64,
}

/// An interval timer's setting, in nanoseconds; `remaining` 0 is disarmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    /// Until the next expiry.
    pub remaining: u64,
    /// Between later expiries; 0 for a single one.
    pub interval: u64,
}

impl Timers {
    fn setting(&self) -> Setting {
        let remaining = self
            .deadline
            .map_or(0, |deadline| deadline.saturating_sub(rt::now()).max(1));
        Setting {
            remaining,
            interval: self.interval,
        }
    }

    /// Forgets the timer; the task to abort once the lock is released.
    fn disarm(&mut self) -> Option<rt::Join<()>> {
        self.generation += 1;
        self.deadline = None;
        self.interval = 0;
        self.task.take()
    }
}

impl Process {
    /// How the real-time timer is set.
    pub fn real_timer(&self) -> Setting {
        self.timers.lock().setting()
    }

    /// Sets the real-time timer and returns how it was set.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn set_real_timer(self: &Arc<Self>, setting: Setting) -> Result<Setting> {
        let (old, stale, generation) = {
            let mut timers = self.timers.lock();
            let old = timers.setting();
            let stale = timers.disarm();
            if setting.remaining != 0 {
                timers.deadline = Some(rt::now().saturating_add(setting.remaining));
                timers.interval = setting.interval;
            }
            (old, stale, timers.generation)
        };
        if let Some(task) = stale {
            task.abort();
        }
        if setting.remaining != 0 {
            let options = SpawnOptions::new(Class::Service, "itimer");
            let task = rt::executor().spawn(options, expire(self.clone(), generation))?;
            let mut timers = self.timers.lock();
            if timers.generation == generation {
                timers.task = Some(task);
            }
        }
        Ok(old)
    }

    pub(super) fn cancel_timers(&self) {
        let stale = self.timers.lock().disarm();
        if let Some(task) = stale {
            task.abort();
        }
    }
}

async fn expire(process: Arc<Process>, generation: u64) {
    loop {
        let deadline = {
            let timers = process.timers.lock();
            match timers.deadline {
                Some(deadline) if timers.generation == generation => deadline,
                _ => return,
            }
        };
        rt::sleep_until(deadline).await;
        let again = {
            let mut timers = process.timers.lock();
            if timers.generation != generation {
                return;
            }
            let interval = timers.interval;
            timers.deadline = (interval != 0).then(|| deadline.saturating_add(interval).max(rt::now()));
            interval != 0
        };
        // A standard signal: sending cannot fail.
        let _ = signal::send_to_process(&process, SigInfo::kernel(SIGALRM));
        if !again {
            return;
        }
    }
}
