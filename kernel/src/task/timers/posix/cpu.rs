//! Timers that count CPU time: each that was ever armed has a task, which waits for its clock.

use alloc::sync::Arc;
use executor::{Class, SpawnOptions};

use super::{PosixTimers, State, TimerClock, posix};
use crate::{
    errno::Result,
    rt,
    task::{process::Process, timers::cpu::follow},
};

impl PosixTimers {
    /// When a timer that counts CPU time is to expire, if it waits for that.
    fn cpu_expiry(&self, number: i32) -> Option<u64> {
        let timer = self.timers.get(&number)?;
        (timer.state == State::Armed).then_some(timer.expires)
    }

    /// Sends the signal of a timer that counts CPU time, if it has expired.
    fn expire_cpu(&mut self, process: &Arc<Process>, number: i32) {
        let Some(timer) = self.timers.get(&number) else {
            return;
        };
        if timer.state == State::Armed && timer.now().is_some_and(|now| now >= timer.expires) {
            self.disarm(number);
            self.send(process, number);
        }
    }
}

impl Process {
    /// Has a timer's task wait for CPU time; makes the task, if it is the first time.
    pub(super) fn wait_for_cpu(self: &Arc<Self>, number: i32) -> Result<()> {
        let clock = {
            let mut timers = self.timers.lock();
            let Some(timer) = posix(&mut timers)?.timers.get(&number) else {
                return Ok(());
            };
            if let Some(task) = &timer.task {
                let task = task.id();
                drop(timers);
                rt::executor().wake_task(task);
                return Ok(());
            }
            match &timer.clock {
                TimerClock::Cpu(clock) => clock.clone(),
                TimerClock::Time(..) => return Ok(()),
            }
        };
        let options = SpawnOptions::new(Class::Service, "cpu timer");
        let process = self.clone();
        let task = rt::executor().spawn(options, async move {
            follow(clock, || process.cpu_expiry(number), || process.expire_cpu(number)).await;
        })?;
        let surplus = {
            let mut timers = self.timers.lock();
            match posix(&mut timers).ok().and_then(|posix| posix.timers.get_mut(&number)) {
                Some(timer) if timer.task.is_none() => timer.task.replace(task),
                // Deleted meanwhile, or another thread was faster.
                _ => Some(task),
            }
        };
        if let Some(task) = surplus {
            task.abort();
        }
        Ok(())
    }

    fn cpu_expiry(&self, number: i32) -> Option<u64> {
        self.timers.lock().posix.as_ref()?.cpu_expiry(number)
    }

    fn expire_cpu(self: &Arc<Self>, number: i32) {
        if let Some(posix) = &mut self.timers.lock().posix {
            posix.expire_cpu(self, number);
        }
    }
}
