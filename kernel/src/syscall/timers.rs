//! Calls on the timers of `timer_create(2)`.

use alloc::sync::Arc;

use linux_raw_sys::general::{CLOCK_MONOTONIC_COARSE, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE, TIMER_ABSTIME};

use super::types::Timespec;
use crate::{
    clock::{Base, is_alarm},
    errno::{Errno, Result},
    fs::file::Attempt,
    mm::user,
    namespace::time::meant_by,
    task::{
        self, Capability, Thread,
        cpu_clock::{CpuClock, Kind, kind},
        signal::set::{SIGALRM, SIGNALS},
        timers::{
            Setting,
            posix::{Notice, Receiver, Start, TimerClock},
        },
    },
};

/// The clock of a new timer.
///
/// # Errors
/// `EINVAL` if there is no such clock, `EOPNOTSUPP` if it has no timers, `EPERM` if it would wake the machine and the caller may
/// not.
fn timer_clock(t: &Arc<Thread>, clock: u32) -> Result<TimerClock> {
    match clock {
        CLOCK_MONOTONIC_RAW | CLOCK_REALTIME_COARSE | CLOCK_MONOTONIC_COARSE => return Err(Errno::EOPNOTSUPP),
        _ if is_alarm(clock) && !t.credentials().can(Capability::WakeAlarm) => return Err(Errno::EPERM),
        _ if kind(clock) == Kind::Descriptor => return Err(Errno::EOPNOTSUPP),
        _ => {}
    }
    match Base::of(clock) {
        Some(base) => Ok(TimerClock::Time(base, clock)),
        None => CpuClock::find(t, clock).map(TimerClock::Cpu),
    }
}

/// What a `struct sigevent` asks for: the value in the first word, the signal and how to tell it in the second, a thread's number
/// in the third.
fn notice(t: &Thread, [value, how, thread]: [u64; 3]) -> Result<Notice> {
    const SIGEV_SIGNAL: u32 = 0;
    const SIGEV_NONE: u32 = 1;
    const SIGEV_THREAD: u32 = 2;
    const SIGEV_THREAD_ID: u32 = 4;
    let signo = how as i32;
    let receiver = match (how >> 32) as u32 {
        SIGEV_NONE => Receiver::Nobody,
        // Of SIGEV_THREAD the C library makes SIGEV_THREAD_ID; the kernel knows no other threads to start.
        SIGEV_SIGNAL | SIGEV_THREAD => Receiver::Process,
        SIGEV_THREAD_ID => {
            let thread = task::thread(thread as i32).filter(|thread| Arc::ptr_eq(thread.process(), t.process()));
            Receiver::Thread(Arc::downgrade(&thread.ok_or(Errno::EINVAL)?))
        }
        _ => return Err(Errno::EINVAL),
    };
    if !matches!(receiver, Receiver::Nobody) && !(1..=SIGNALS).contains(&signo) {
        return Err(Errno::EINVAL);
    }
    Ok(Notice {
        receiver,
        signo,
        value: Some(value),
    })
}

/// `timer_create(2)`.
///
/// # Errors
/// `EINVAL`, `EOPNOTSUPP`, `EPERM`, `EAGAIN`, `EFAULT`.
pub async fn timer_create(t: &Arc<Thread>, clock: u32, event: u64, number: u64) -> Result<u64> {
    let mm = t.mm();
    let words = match event {
        0 => None,
        _ => {
            // All of the structure's 64 bytes are read, as by Linux.
            let words: [u64; 8] = mm.read(event).await?;
            Some([words[0], words[1], words[2]])
        }
    };
    let clock = timer_clock(t, clock)?;
    let notice = match words {
        Some(words) => notice(t, words)?,
        None => Notice {
            receiver: Receiver::Process,
            signo: SIGALRM,
            value: None,
        },
    };
    let made = t.process().create_timer(clock, notice)?;
    if let Err(errno) = mm.write(number, &made).await {
        t.process().delete_timer(made)?;
        return Err(errno);
    }
    Ok(0)
}

/// `struct itimerspec`: the interval, then the value.
pub(super) fn itimerspec(setting: Setting) -> [Timespec; 2] {
    [setting.interval, setting.remaining].map(Timespec::from_nanoseconds)
}

/// `timer_settime(2)`.
///
/// # Errors
/// `EINVAL`, `EFAULT`, `ESRCH` if the timer counts the time of something that is gone.
pub fn timer_settime(t: &Arc<Thread>, number: i32, flags: u32, new: u64, old: u64) -> Attempt<u64> {
    if new == 0 {
        return Err(Errno::EINVAL.into());
    }
    let [interval, value]: [Timespec; 2] = user::read(new)?;
    let (interval, value) = (interval.to_nanoseconds()?, value.to_nanoseconds()?);
    let start = if flags & TIMER_ABSTIME == 0 {
        Start::In(value)
    } else {
        Start::At(match t.process().timer_clock_number(number)? {
            Some(clock) => meant_by(t, clock, value),
            None => value,
        })
    };
    if old != 0 {
        // Before anything is set, so that a page that is missing can still be waited for.
        user::write(old, &itimerspec(t.process().timer_setting(number)?))?;
    }
    let before = t.process().set_timer(number, start, interval)?;
    if old != 0 {
        user::write(old, &itimerspec(before)).map_err(Errno::from)?;
    }
    Ok(0)
}

/// `timer_gettime(2)`.
///
/// # Errors
/// `EINVAL`, `EFAULT`.
pub fn timer_gettime(t: &Thread, number: i32, setting: u64) -> Attempt<u64> {
    user::write(setting, &itimerspec(t.process().timer_setting(number)?))?;
    Ok(0)
}

/// `timer_getoverrun(2)`.
///
/// # Errors
/// `EINVAL`.
pub fn timer_getoverrun(t: &Thread, number: i32) -> Result<u64> {
    Ok(t.process().timer_overruns(number)? as u64)
}

/// `timer_delete(2)`.
///
/// # Errors
/// `EINVAL`.
pub fn timer_delete(t: &Thread, number: i32) -> Result<u64> {
    t.process().delete_timer(number).map(|()| 0)
}
