//! The timers of `timer_create(2)`.
//!
//! A timer sends one signal at a time. Once it has expired it stands still until its signal is taken, and only then goes on from
//! the next expiry that is still to come; those it has passed over are its overruns. So a fast timer whose signal nobody takes
//! costs nothing. Signals are sent under the lock of the process's timers, so that none comes from a timer that has been deleted
//! or set anew.

mod cpu;

use alloc::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Weak},
};

use super::{Setting, Timers};
use crate::{
    clock::{Base, Moment, forward, keeper::News},
    errno::{Errno, Result},
    rt,
    task::{
        cpu_clock::CpuClock,
        limits::Resource,
        process::Process,
        signal::{
            SigInfo, Signo,
            pending::Expiry,
            send::{Sent, send_of_timer},
        },
        thread::Thread,
    },
};

/// The shortest interval at which a timer whose signal is ignored is looked after.
const IGNORED_INTERVAL: u64 = 4_000_000;

/// The clock that a timer goes by.
#[derive(Clone, Debug)]
pub enum TimerClock {
    /// One that always goes: what it counts from, and Linux's number of it.
    Time(Base, u32),
    /// One that counts CPU time.
    Cpu(CpuClock),
}

/// Who hears of a timer.
#[derive(Clone, Debug)]
pub enum Receiver {
    /// Nobody (`SIGEV_NONE`).
    Nobody,
    /// The process.
    Process,
    /// One of its threads (`SIGEV_THREAD_ID`).
    Thread(Weak<Thread>),
}

/// What a timer does when it expires.
#[derive(Clone, Debug)]
pub struct Notice {
    /// Who hears of it.
    pub receiver: Receiver,
    /// The signal; of no meaning if nobody does.
    pub signo: Signo,
    /// `sigev_value`; the timer's number if there is none.
    pub value: Option<u64>,
}

/// When a timer is to expire first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// So many nanoseconds from now; 0 is never.
    In(u64),
    /// When its clock shows this; 0 is never.
    At(u64),
}

/// One timer.
struct Timer {
    clock: TimerClock,
    notice: Notice,
    /// What `expires` is counted from. A timer of the wall clock that is set relatively does not follow it.
    base: Base,
    /// The next expiry, or the last.
    expires: u64,
    interval: u64,
    state: State,
    /// The number of the expiry whose signal is on its way; no other has it.
    expiry: u32,
    /// Expiries beyond the first since a signal was taken, less one.
    overruns: i64,
    /// What `timer_getoverrun` tells.
    last_overruns: i64,
    /// Waits for CPU time.
    task: Option<rt::Join<()>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing will happen.
    Idle,
    /// It goes on, and `expires` is in the list of deadlines (or its task waits for it).
    Armed,
    /// Its signal has been sent, and it goes on when that is taken.
    Sent,
}

impl Timer {
    /// The time that `expires` is compared with; `None` if its clock is gone.
    fn now(&self) -> Option<u64> {
        match &self.clock {
            TimerClock::Time(..) => Some(self.base.now()),
            TimerClock::Cpu(clock) => clock.time(),
        }
    }

    fn is_silent(&self) -> bool {
        matches!(self.notice.receiver, Receiver::Nobody)
    }

    fn is_of_cpu(&self) -> bool {
        matches!(self.clock, TimerClock::Cpu(_))
    }

    /// How it is set. One that is to go on has been moved over what has passed.
    fn setting(&mut self) -> Setting {
        let interval = self.interval;
        let mut setting = Setting { remaining: 0, interval };
        // A silent timer is never armed: what it would do is computed when it is asked.
        let goes_on = self.state != State::Idle || self.is_silent() && self.expires != 0;
        let Some(now) = self.now().filter(|_| goes_on) else {
            return setting;
        };
        if interval != 0 && self.state != State::Armed {
            self.overruns += forward(&mut self.expires, interval, now) as i64;
        }
        setting.remaining = match self.expires.saturating_sub(now) {
            // About to expire, unless there is nothing to come.
            0 => u64::from(!self.is_silent()),
            left => left,
        };
        setting
    }
}

/// The timers of a process that has any.
#[derive(Default)]
pub struct PosixTimers {
    next_number: i32,
    timers: BTreeMap<i32, Timer>,
    /// The deadlines of timers that are armed, by what they are counted from. Those of CPU time are not among them.
    due: BTreeSet<(u64, i32)>,
    due_on_wall: BTreeSet<(u64, i32)>,
    last_expiry: u32,
}

/// A timer's overruns as `timer_getoverrun(2)` and `si_overrun` have them.
fn capped(overruns: i64) -> i32 {
    overruns.clamp(0, i32::MAX.into()) as i32
}

impl PosixTimers {
    pub(super) fn next_deadline(&self) -> Option<u64> {
        let on_wall = self.due_on_wall.first().map(|&(time, _)| {
            let base = Base::Wall;
            Moment { base, time }.deadline()
        });
        self.due.first().map(|&(time, _)| time).into_iter().chain(on_wall).min()
    }

    pub(super) fn follows_wall(&self) -> bool {
        !self.due_on_wall.is_empty()
    }

    fn deadlines(&mut self, base: Base) -> &mut BTreeSet<(u64, i32)> {
        match base {
            Base::Boot => &mut self.due,
            Base::Wall => &mut self.due_on_wall,
        }
    }

    /// Lets a timer wait for its expiry.
    fn arm(&mut self, number: i32) {
        if let Some(timer) = self.timers.get_mut(&number) {
            timer.state = State::Armed;
            let (base, entry) = (timer.base, (timer.expires, number));
            if !timer.is_of_cpu() {
                self.deadlines(base).insert(entry);
            }
        }
    }

    /// Takes back what [`PosixTimers::arm`] did.
    fn disarm(&mut self, number: i32) {
        if let Some(timer) = self.timers.get_mut(&number) {
            let was = core::mem::replace(&mut timer.state, State::Idle);
            let (base, entry) = (timer.base, (timer.expires, number));
            if was == State::Armed && !timer.is_of_cpu() {
                self.deadlines(base).remove(&entry);
            }
        }
    }

    /// A number that no timer has; they are not used again before long.
    fn number(&mut self) -> Option<i32> {
        for _ in 0..=self.timers.len() {
            let number = self.next_number;
            self.next_number = number.checked_add(1).unwrap_or(0);
            if !self.timers.contains_key(&number) {
                return Some(number);
            }
        }
        None
    }

    /// Sends the signal of the timer that has expired longest ago; false if there is none.
    pub(super) fn expire_first(&mut self, process: &Arc<Process>) -> bool {
        let found = [Base::Boot, Base::Wall].into_iter().find_map(|base| {
            let &(time, number) = self.deadlines(base).first()?;
            (time <= base.now()).then_some(number)
        });
        let Some(number) = found else { return false };
        self.disarm(number);
        self.send(process, number);
        true
    }

    /// Sends the signal of a timer that has just expired.
    fn send(&mut self, process: &Arc<Process>, number: i32) {
        self.last_expiry = self.last_expiry.checked_add(1).unwrap_or(1);
        let Some(timer) = self.timers.get_mut(&number) else {
            return;
        };
        let goes_on = timer.interval != 0;
        let expiry = Expiry {
            timer: number,
            number: if goes_on { self.last_expiry } else { 0 },
        };
        let value = timer.notice.value.unwrap_or(number as u64);
        let info = SigInfo::timer(timer.notice.signo, number, 0, value);
        let sent = match &timer.notice.receiver {
            Receiver::Nobody => Sent::Taken,
            Receiver::Process => send_of_timer(process, None, info, expiry),
            Receiver::Thread(thread) => match thread.upgrade() {
                Some(thread) if !thread.is_over() => send_of_timer(process, Some(&thread), info, expiry),
                // Nobody will ever take it.
                _ => Sent::Taken,
            },
        };
        if !goes_on {
            return;
        }
        timer.expiry = expiry.number;
        timer.state = State::Sent;
        if sent == Sent::Ignored {
            // It goes on as if the signal had been taken, but not too often.
            let pause = IGNORED_INTERVAL.saturating_sub(timer.interval);
            if let Some(now) = timer.now() {
                let late = now.saturating_add(pause);
                timer.overruns += forward(&mut timer.expires, timer.interval, late) as i64;
                self.arm(number);
            }
        }
    }

    /// Lets a timer go on whose signal has been taken; what its receiver is told.
    fn signal_taken(&mut self, info: SigInfo, expiry: Expiry) -> SigInfo {
        let Some(timer) = self.timers.get_mut(&expiry.timer) else {
            return info;
        };
        if expiry.number == 0 || timer.expiry != expiry.number || timer.state != State::Sent {
            return info;
        }
        if let Some(now) = timer.now() {
            timer.overruns += forward(&mut timer.expires, timer.interval, now) as i64;
        }
        timer.last_overruns = timer.overruns;
        timer.overruns = -1;
        let overruns = timer.last_overruns.saturating_add(info.overrun().into());
        self.arm(expiry.timer);
        info.with_overrun(capped(overruns))
    }
}

impl Notice {
    /// Keeps room for the timer's signal.
    fn reserve(&self, process: &Process) -> Result<()> {
        match &self.receiver {
            Receiver::Nobody => Ok(()),
            Receiver::Process => process.shared.lock().pending.add_timer(),
            Receiver::Thread(thread) => match thread.upgrade() {
                Some(thread) => thread.signals.lock().pending.add_timer(),
                None => Ok(()),
            },
        }
    }

    fn release(&self, process: &Process) {
        match &self.receiver {
            Receiver::Nobody => {}
            Receiver::Process => process.shared.lock().pending.remove_timer(),
            Receiver::Thread(thread) => {
                if let Some(thread) = thread.upgrade() {
                    thread.signals.lock().pending.remove_timer();
                }
            }
        }
    }
}

fn posix(timers: &mut Timers) -> Result<&mut PosixTimers> {
    timers.posix.as_deref_mut().ok_or(Errno::EINVAL)
}

impl Process {
    /// Linux's number of the clock that a timer goes by, unless that is CPU time.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn timer_clock_number(&self, number: i32) -> Result<Option<u32>> {
        let mut timers = self.timers.lock();
        let timer = posix(&mut timers)?.timers.get(&number).ok_or(Errno::EINVAL)?;
        let TimerClock::Time(_, number) = timer.clock else {
            return Ok(None);
        };
        Ok(Some(number))
    }

    /// Makes a timer, which is not armed; its number.
    ///
    /// # Errors
    /// `EAGAIN` if there are as many as `RLIMIT_SIGPENDING` allows signals, or for want of memory.
    pub fn create_timer(&self, clock: TimerClock, notice: Notice) -> Result<i32> {
        let limit = self.limit(Resource::PendingSignals);
        notice.reserve(self).map_err(|_| Errno::EAGAIN)?;
        let made = {
            let mut timers = self.timers.lock();
            let posix = timers.posix.get_or_insert_default();
            let queued = self.shared.lock().pending.queued() as u64;
            let fits = posix.timers.len() as u64 + queued < limit;
            posix.number().filter(|_| fits).inspect(|&number| {
                let timer = Timer {
                    clock,
                    notice: notice.clone(),
                    base: Base::Boot,
                    expires: 0,
                    interval: 0,
                    state: State::Idle,
                    expiry: 0,
                    overruns: -1,
                    last_overruns: 0,
                    task: None,
                };
                posix.timers.insert(number, timer);
            })
        };
        made.ok_or_else(|| {
            notice.release(self);
            Errno::EAGAIN
        })
    }

    /// How a timer is set.
    ///
    /// # Errors
    /// `EINVAL` if there is no such timer.
    pub fn timer_setting(&self, number: i32) -> Result<Setting> {
        let mut timers = self.timers.lock();
        let timer = posix(&mut timers)?.timers.get_mut(&number).ok_or(Errno::EINVAL)?;
        Ok(timer.setting())
    }

    /// Sets a timer; how it was set.
    ///
    /// # Errors
    /// `EINVAL` if there is no such timer; `ESRCH` if it counts the time of something that is gone; `ENOMEM`.
    pub fn set_timer(self: &Arc<Self>, number: i32, start: Start, interval: u64) -> Result<Setting> {
        let (old, news, waits_for_cpu) = {
            let mut timers = self.timers.lock();
            let posix = posix(&mut timers)?;
            let timer = posix.timers.get_mut(&number).ok_or(Errno::EINVAL)?;
            timer.now().ok_or(Errno::ESRCH)?;
            let old = timer.setting();
            let waits_for_cpu = posix.set(self, number, start, interval);
            (old, timers.news(), waits_for_cpu)
        };
        let followed = match waits_for_cpu {
            true => self.wait_for_cpu(number),
            false => news.follow(self),
        };
        if let Err(errno) = followed {
            if let Ok(posix) = posix(&mut self.timers.lock()) {
                posix.disarm(number);
            }
            return Err(errno);
        }
        Ok(old)
    }

    /// What was passed over before the last signal of a timer was taken.
    ///
    /// # Errors
    /// `EINVAL` if there is no such timer.
    pub fn timer_overruns(&self, number: i32) -> Result<i32> {
        let mut timers = self.timers.lock();
        let timer = posix(&mut timers)?.timers.get(&number).ok_or(Errno::EINVAL)?;
        Ok(capped(timer.last_overruns))
    }

    /// Ends a timer. A signal that it has sent stays.
    ///
    /// # Errors
    /// `EINVAL` if there is no such timer.
    pub fn delete_timer(&self, number: i32) -> Result<()> {
        let timer = {
            let mut timers = self.timers.lock();
            let posix = posix(&mut timers)?;
            posix.disarm(number);
            posix.timers.remove(&number).ok_or(Errno::EINVAL)?
        };
        timer.notice.release(self);
        if let Some(task) = timer.task {
            task.abort();
        }
        Ok(())
    }

    /// Ends all timers, as execve does; the real-time timer stays.
    pub(in crate::task) fn delete_timers(&self) {
        let posix = self.timers.lock().posix.take();
        for timer in posix.iter().flat_map(|posix| posix.timers.values()) {
            timer.notice.release(self);
        }
        drop(posix);
    }

    /// Lets a timer go on whose signal a thread takes; what that is told.
    #[cold]
    pub(in crate::task) fn timer_signal_taken(self: &Arc<Self>, info: SigInfo, expiry: Expiry) -> SigInfo {
        let (info, news) = {
            let mut timers = self.timers.lock();
            let Ok(posix) = posix(&mut timers) else { return info };
            let info = posix.signal_taken(info, expiry);
            let task = posix.timers.get(&expiry.timer).and_then(|timer| timer.task.as_ref());
            match task {
                Some(task) => (info, News::Wake(task.id())),
                None => (info, timers.news()),
            }
        };
        // The task is there: it sent the signal.
        let _ = news.follow(self);
        info
    }
}

impl PosixTimers {
    /// Sets a timer; whether its task is to wait for CPU time.
    pub(super) fn set(&mut self, process: &Arc<Process>, number: i32, start: Start, interval: u64) -> bool {
        self.disarm(number);
        let Some(timer) = self.timers.get_mut(&number) else {
            return false;
        };
        timer.overruns = -1;
        timer.last_overruns = 0;
        timer.expiry = 0;
        timer.interval = 0;
        timer.expires = 0;
        timer.base = match (&timer.clock, start) {
            (TimerClock::Time(base, _), Start::At(_)) => *base,
            _ => Base::Boot,
        };
        let expires = match start {
            Start::In(0) | Start::At(0) => return false,
            Start::At(time) => time,
            Start::In(time) => timer.now().unwrap_or(0).saturating_add(time),
        };
        timer.expires = expires;
        timer.interval = interval;
        if timer.is_silent() {
            return false;
        }
        if timer.is_of_cpu() && timer.now().is_some_and(|now| now >= expires) {
            // Its clock may stand: nobody else would see that it is over.
            self.send(process, number);
            // Once that is taken.
            return interval != 0;
        }
        let waits = timer.is_of_cpu();
        self.arm(number);
        waits
    }
}

impl Drop for PosixTimers {
    fn drop(&mut self) {
        for timer in self.timers.values() {
            if let Some(task) = &timer.task {
                task.abort();
            }
        }
    }
}
