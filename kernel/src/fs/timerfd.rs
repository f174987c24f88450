//! `timerfd_create(2)`: a timer whose expiries are read.
//!
//! Like a timer that sends signals, one with an interval stands still once it has expired, until somebody reads it or asks for
//! its setting: only then are the expiries that it passed over counted. What has become due is found by whoever looks first, a
//! reader or the timer's task, which is there to wake those who wait.

use alloc::{string::String, sync::Arc};
use core::fmt::Write;

use linux_raw_sys::general as linux;

use super::{
    file::{Attempt, Direction, File, Readiness, Stop, Transfer},
    io::{Sink, copy_in},
    poll_queue::PollQueue,
};
use crate::{
    clock::{
        self, Base, Moment, forward,
        keeper::{Deadlines, Keeper, News, Wanted},
    },
    errno::{Errno, Result},
    sync::{Rank, SpinLock, WaitQueue},
    task::{
        Thread,
        timers::{Setting, posix::Start},
    },
};

/// `TFD_IOC_SET_TICKS` (`linux/timerfd.h`): `_IOW('T', 0, __u64)`.
const SET_TICKS: u32 = 0x4008_5400;

/// Whether a read fails once the wall clock has been set (`TFD_TIMER_CANCEL_ON_SET`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnClockSet {
    /// It fails with `ECANCELED`, once.
    Cancel,
    /// The timer goes on by the new time.
    Follow,
}

/// See the module.
pub struct TimerFile {
    clock: u32,
    timer: Arc<Timer>,
}

/// What the task knows of it.
struct Timer {
    state: SpinLock<State>,
    waiters: PollQueue,
}

struct State {
    /// What the clock counts from.
    clock: Base,
    /// What `expires` counts from: a time of the wall clock that was set relatively does not follow it.
    base: Base,
    expires: u64,
    interval: u64,
    /// Whether `expires` is to come.
    armed: bool,
    /// Whether it has come, and nobody has looked at the interval since.
    expired: bool,
    /// Expiries nobody has read.
    ticks: u64,
    on_clock_set: OnClockSet,
    /// The flags it was last set with (`TFD_TIMER_ABSTIME`, `TFD_TIMER_CANCEL_ON_SET`).
    flags: u32,
    /// How often the clock had been set when that was last of interest.
    times_set: u64,
    cancelled: bool,
    keeper: Keeper,
}

impl State {
    /// Finds out what has become due; whether there is something new to read.
    fn notice(&mut self) -> bool {
        let mut news = false;
        if self.armed && self.base.now() >= self.expires {
            self.armed = false;
            self.expired = true;
            self.ticks += 1;
            news = true;
        }
        if self.on_clock_set == OnClockSet::Cancel && clock::times_set() != self.times_set {
            self.times_set = clock::times_set();
            if !self.cancelled {
                self.cancelled = true;
                self.ticks += 1;
                news = true;
            }
        }
        news
    }

    /// Whether it was cancelled; it is so once.
    fn take_cancelled(&mut self) -> bool {
        self.on_clock_set == OnClockSet::Cancel && core::mem::take(&mut self.cancelled)
    }

    /// Goes on from the next expiry to come, if it has stood still.
    fn go_on(&mut self) {
        if self.expired && self.interval != 0 {
            self.expired = false;
            self.armed = true;
            self.ticks += forward(&mut self.expires, self.interval, self.base.now()).saturating_sub(1);
        }
    }

    fn read(&mut self, sink: &mut Sink<'_>) -> Attempt<()> {
        if self.ticks == 0 {
            return Err(Stop::WouldBlock);
        }
        if self.take_cancelled() {
            (self.ticks, self.expired) = (0, false);
            return Err(Errno::ECANCELED.into());
        }
        self.go_on();
        let start = sink.done();
        if let Err(fault) = sink.put(&self.ticks.to_ne_bytes()) {
            sink.rewind(start);
            return Err(fault.into());
        }
        (self.ticks, self.expired) = (0, false);
        Ok(())
    }

    fn setting(&self) -> Setting {
        Setting {
            remaining: self.expires.saturating_sub(self.base.now()),
            interval: self.interval,
        }
    }

    fn set(&mut self, start: Start, interval: u64, on_clock_set: OnClockSet) -> Result<()> {
        if on_clock_set == OnClockSet::Cancel && self.on_clock_set == OnClockSet::Follow {
            self.times_set = clock::times_set();
        }
        self.on_clock_set = on_clock_set;
        self.flags = match start {
            Start::At(_) => linux::TFD_TIMER_ABSTIME,
            Start::In(_) => 0,
        };
        if on_clock_set == OnClockSet::Cancel {
            self.flags |= linux::TFD_TIMER_CANCEL_ON_SET;
        }
        (self.expired, self.ticks, self.interval) = (false, 0, interval);
        (self.base, self.expires) = match start {
            Start::At(time) => (self.clock, time),
            Start::In(0) => (Base::Boot, 0),
            Start::In(time) => (Base::Boot, Base::Boot.now().saturating_add(time)),
        };
        self.armed = self.expires != 0;
        // It is armed nevertheless.
        if self.armed && self.take_cancelled() {
            return Err(Errno::ECANCELED);
        }
        Ok(())
    }

    fn wanted(&self) -> Wanted {
        let moment = Moment {
            base: self.base,
            time: self.expires,
        };
        Wanted {
            deadline: if self.armed { moment.deadline() } else { u64::MAX },
            follows_wall: self.armed && self.base == Base::Wall || self.on_clock_set == OnClockSet::Cancel,
        }
    }

    fn news(&self) -> News {
        self.keeper.news(self.wanted())
    }
}

impl Timer {
    /// Lends the state as it is by now.
    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let news = state.notice();
        let result = look(&mut state);
        drop(state);
        if news {
            self.waiters.wake(Readiness::IN);
        }
        result
    }
}

impl Deadlines for Timer {
    const NAME: &'static str = "timerfd";

    fn with_keeper<T>(&self, look: impl FnOnce(&mut Keeper, Wanted) -> T) -> T {
        let mut state = self.state.lock();
        let wanted = state.wanted();
        look(&mut state.keeper, wanted)
    }

    fn expire(self: &Arc<Self>) -> bool {
        self.with(|_| ());
        false
    }
}

impl TimerFile {
    /// A timer by the clock of this number, which counts from `base`; it is not armed.
    pub fn new(clock: u32, base: Base) -> Self {
        let state = State {
            clock: base,
            base: Base::Boot,
            expires: 0,
            interval: 0,
            armed: false,
            expired: false,
            ticks: 0,
            on_clock_set: OnClockSet::Follow,
            flags: 0,
            times_set: 0,
            cancelled: false,
            keeper: Keeper::default(),
        };
        Self {
            clock,
            timer: Arc::new(Timer {
                state: SpinLock::new(Rank::Pipe, state),
                waiters: PollQueue::new(),
            }),
        }
    }

    /// The clock's number.
    pub const fn clock(&self) -> u32 {
        self.clock
    }

    /// How it is set. One that has stood still goes on.
    pub fn setting(&self) -> Setting {
        let (setting, news) = self.timer.with(|state| {
            state.go_on();
            (state.setting(), state.news())
        });
        self.follow(news);
        setting
    }

    /// Sets it; how it was set. What could be read is forgotten.
    ///
    /// # Errors
    /// `ECANCELED` if the wall clock has been set since the last time that mattered: it is set nevertheless. `ENOMEM`.
    pub fn set(&self, start: Start, interval: u64, on_clock_set: OnClockSet) -> Result<Setting> {
        let (old, set, news) = self.timer.with(|state| {
            state.go_on();
            let old = state.setting();
            let set = state.set(start, interval, on_clock_set);
            (old, set, state.news())
        });
        news.follow(&self.timer).inspect_err(|_| {
            let mut state = self.timer.state.lock();
            (state.armed, state.on_clock_set) = (false, OnClockSet::Follow);
        })?;
        set.map(|()| old)
    }

    /// Wakes the task, which is there: it has been armed before.
    fn follow(&self, news: News) {
        let _ = news.follow(&self.timer);
    }
}

impl Drop for TimerFile {
    fn drop(&mut self) {
        let task = self.timer.state.lock().keeper.take();
        if let Some(task) = task {
            task.abort();
        }
    }
}

impl File for TimerFile {
    fn read(&self, _: &mut Transfer<'_>, sink: &mut Sink<'_>) -> Attempt<()> {
        if sink.remaining() < 8 {
            return Err(Errno::EINVAL.into());
        }
        let (result, news) = self.timer.with(|state| {
            let result = state.read(sink);
            (result, state.news())
        });
        self.follow(news);
        result
    }

    fn control(&self, _: &Thread, request: u32, argument: u64) -> Attempt<u64> {
        if request != SET_TICKS {
            return Err(Errno::ENOTTY.into());
        }
        let mut ticks = [0; 8];
        copy_in(&mut ticks, argument)?;
        let ticks = u64::from_ne_bytes(ticks);
        if ticks == 0 {
            return Err(Errno::EINVAL.into());
        }
        self.timer.with(|state| {
            if state.take_cancelled() {
                return Err(Errno::ECANCELED);
            }
            state.ticks = ticks;
            Ok(())
        })?;
        self.timer.waiters.wake(Readiness::IN);
        Ok(0)
    }

    fn readiness(&self) -> Readiness {
        match self.timer.with(|state| state.ticks) {
            0 => Readiness::empty(),
            _ => Readiness::IN,
        }
    }

    fn wait_queue(&self, direction: Direction) -> Option<&WaitQueue> {
        (direction == Direction::Read).then_some(self.timer.waiters.pollers())
    }

    fn poll_queue(&self) -> Option<&PollQueue> {
        Some(&self.timer.waiters)
    }

    fn details(&self, _: u64, out: &mut String) -> Result<Option<u64>> {
        let (ticks, flags, setting) = self.timer.with(|state| (state.ticks, state.flags, state.setting()));
        let pair = |time: u64| (time / 1_000_000_000, time % 1_000_000_000);
        // Written into memory: cannot fail.
        let _ = writeln!(
            out,
            "clockid: {}\nticks: {ticks}\nsettime flags: 0{flags:o}\nit_value: {:?}\nit_interval: {:?}",
            self.clock,
            pair(setting.remaining),
            pair(setting.interval),
        );
        Ok(None)
    }

    fn as_any(&self) -> Option<&dyn core::any::Any> {
        Some(self)
    }
}

/// The clock that a timer to be read goes by, by Linux's number.
///
/// # Errors
/// `EINVAL`.
pub fn clock_base(clock: u32) -> Result<Base> {
    Base::of(clock)
        .filter(|_| clock != linux::CLOCK_TAI)
        .ok_or(Errno::EINVAL)
}
