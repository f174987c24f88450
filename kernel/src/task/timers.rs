//! The real-time interval timer of a process (`setitimer(ITIMER_REAL)`, `alarm`).
//!
//! A process that has ever armed it has a task for it. The task sleeps until the deadline it has seen; only an earlier one wakes
//! it. One that was put off or disarmed is found so when the task has slept: arming and disarming, which many programs do around
//! every call of theirs, are a lock and a few stores.

use alloc::sync::Arc;
use core::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use executor::{Class, SpawnOptions};

use super::{
    process::Process,
    signal::{self, SigInfo, set::SIGALRM},
};
use crate::{errno::Result, rt};

/// The timers of one process.
#[derive(Default)]
pub struct Timers {
    task: Option<rt::Join<()>>,
    deadline: Option<u64>,
    interval: u64,
    /// When the task looks next; 0 if it is about to begin.
    sleeps_until: u64,
}

/// An interval timer's setting, in nanoseconds; `remaining` 0 is disarmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    /// Until the next expiry.
    pub remaining: u64,
    /// Between later expiries; 0 for a single one.
    pub interval: u64,
}

/// What is to be done about a new setting, once the lock is released.
enum Next {
    Nothing,
    Wake(executor::TaskId),
    Start,
}

impl Timers {
    fn setting(&self) -> Setting {
        let remaining = self
            .deadline
            .map_or(0, |deadline| deadline.saturating_sub(rt::now()).max(1));
        Setting {
            remaining,
            interval: if self.deadline.is_some() { self.interval } else { 0 },
        }
    }

    fn set(&mut self, setting: Setting) -> Next {
        self.interval = setting.interval;
        self.deadline = (setting.remaining != 0).then(|| rt::now().saturating_add(setting.remaining));
        match (self.deadline, &self.task) {
            (Some(_), None) => Next::Start,
            (Some(deadline), Some(task)) if deadline < self.sleeps_until => Next::Wake(task.id()),
            _ => Next::Nothing,
        }
    }

    /// Whether it has expired at `now`; the deadline after that.
    fn expire(&mut self, now: u64) -> (bool, u64) {
        let expired = self.deadline.filter(|deadline| *deadline <= now);
        if let Some(deadline) = expired {
            let interval = self.interval;
            self.deadline = (interval != 0).then(|| deadline.saturating_add(interval).max(now));
        }
        (expired.is_some(), self.deadline.unwrap_or(u64::MAX))
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
        let (old, next) = {
            let mut timers = self.timers.lock();
            let old = timers.setting();
            (old, timers.set(setting))
        };
        match next {
            Next::Nothing => {}
            Next::Wake(task) => rt::executor().wake_task(task),
            Next::Start => self.start_timer().inspect_err(|_| self.timers.lock().deadline = None)?,
        }
        Ok(old)
    }

    fn start_timer(self: &Arc<Self>) -> Result<()> {
        let options = SpawnOptions::new(Class::Service, "itimer");
        let task = rt::executor().spawn(options, run(self.clone()))?;
        let surplus = {
            let mut timers = self.timers.lock();
            match timers.task {
                None => timers.task.replace(task),
                // Another thread was faster.
                Some(_) => Some(task),
            }
        };
        if let Some(task) = surplus {
            task.abort();
        }
        Ok(())
    }

    pub(super) fn cancel_timers(&self) {
        let task = {
            let mut timers = self.timers.lock();
            timers.deadline = None;
            timers.task.take()
        };
        if let Some(task) = task {
            task.abort();
        }
    }
}

/// The timer's task.
async fn run(process: Arc<Process>) {
    loop {
        let (expired, next) = {
            let mut timers = process.timers.lock();
            let (expired, next) = timers.expire(rt::now());
            timers.sleeps_until = next;
            (expired, next)
        };
        if expired {
            // A standard signal: sending cannot fail.
            let _ = signal::send_to_process(&process, SigInfo::kernel(SIGALRM));
            continue;
        }
        let mut sleep = pin!((next != u64::MAX).then(|| rt::sleep_until(next)));
        poll_fn(|cx| {
            // Woken for an earlier deadline, or because it is time.
            if process.timers.lock().deadline.is_some_and(|deadline| deadline < next) {
                return Poll::Ready(());
            }
            sleep
                .as_mut()
                .as_pin_mut()
                .map_or(Poll::Pending, |sleep| sleep.poll(cx))
        })
        .await;
    }
}
