//! Clocks and sleeping.

use alloc::{boxed::Box, sync::Arc};

use linux_raw_sys::general::{
    CLOCK_MONOTONIC_COARSE, CLOCK_MONOTONIC_RAW, CLOCK_PROCESS_CPUTIME_ID, CLOCK_REALTIME, CLOCK_REALTIME_COARSE,
    CLOCK_THREAD_CPUTIME_ID, TIMER_ABSTIME,
};

use super::types::{Timespec, Timeval};
use crate::{
    clock::{self, Base, Moment, is_alarm},
    errno::{Errno, Result},
    fs::file::Attempt,
    mm::user,
    namespace::time::{meant_by, shown_to},
    rt,
    task::{
        Capability, Restart, Thread,
        cpu_clock::{self, CpuClock, Kind},
    },
};

/// Clock ticks per second towards user mode (`USER_HZ`).
const USER_HZ: u64 = 100;
const NANOS_PER_TICK: u64 = 1_000_000_000 / USER_HZ;

fn realtime() -> u64 {
    Base::Wall.now()
}

/// What a clock shows, in nanoseconds.
fn read_clock(t: &Arc<Thread>, clock: u32) -> Result<u64> {
    match clock {
        CLOCK_REALTIME_COARSE => Ok(realtime()),
        CLOCK_MONOTONIC_RAW | CLOCK_MONOTONIC_COARSE => Ok(shown_to(t, clock, rt::now())),
        _ => match Base::of(clock) {
            Some(base) => Ok(shown_to(t, clock, base.now())),
            None => cpu_clock::read(t, clock),
        },
    }
}

/// `clock_gettime(2)`.
///
/// # Errors
/// `EINVAL` for a clock that does not exist, `EFAULT`.
pub fn clock_gettime(t: &Arc<Thread>, clock: u32, time: u64) -> Attempt<u64> {
    let now = read_clock(t, clock)?;
    user::write(time, &Timespec::from_nanoseconds(now))?;
    Ok(0)
}

/// `clock_getres(2)`: every clock counts nanoseconds.
///
/// # Errors
/// `EINVAL` for a clock that does not exist, `EFAULT`.
pub fn clock_getres(t: &Arc<Thread>, clock: u32, resolution: u64) -> Attempt<u64> {
    if (clock as i32) < 0 {
        // That a process may be named by its thread's number is for reading alone.
        CpuClock::find(t, clock)?;
    } else {
        read_clock(t, clock)?;
    }
    if resolution != 0 {
        user::write(resolution, &Timespec::from_nanoseconds(1))?;
    }
    Ok(0)
}

/// `clock_settime(2)`, for the wall clock.
///
/// # Errors
/// `EPERM` unless root, and for CPU-time clocks; `EINVAL` for another clock or a time before 1970; `EFAULT`.
pub async fn clock_settime(t: &Arc<Thread>, clock: u32, time: u64) -> Result<u64> {
    let of_cpu = Base::of(clock).is_none() && CpuClock::find(t, clock).is_ok();
    if clock != CLOCK_REALTIME && !of_cpu && (clock as i32) >= 0 {
        return Err(Errno::EINVAL);
    }
    let time = t.mm().read::<Timespec>(time).await?;
    match clock {
        CLOCK_REALTIME => set_wall_clock(t, time.to_nanoseconds()?),
        _ if of_cpu => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}

fn set_wall_clock(t: &Thread, nanoseconds: u64) -> Result<u64> {
    if !t.credentials().can(Capability::SysTime) {
        return Err(Errno::EPERM);
    }
    clock::set(i64::try_from(nanoseconds).map_err(|_| Errno::EINVAL)?);
    Ok(0)
}

/// `gettimeofday(2)`. The time zone is UTC.
///
/// # Errors
/// `EFAULT`.
pub fn gettimeofday(_: &Thread, time: u64, zone: u64) -> Attempt<u64> {
    if time != 0 {
        user::write(time, &Timeval::from_nanoseconds(realtime()))?;
    }
    if zone != 0 {
        user::write(zone, &[0_i32; 2])?;
    }
    Ok(0)
}

/// `settimeofday(2)`. A time zone is accepted and has no effect.
///
/// # Errors
/// `EPERM` unless root, `EINVAL`, `EFAULT`.
pub async fn settimeofday(t: &Thread, time: u64, _zone: u64) -> Result<u64> {
    if time == 0 {
        return Ok(0);
    }
    let time = t.mm().read::<Timeval>(time).await?.to_nanoseconds()?;
    set_wall_clock(t, time)
}

/// `time(2)`.
///
/// # Errors
/// `EFAULT`.
pub fn time(_: &Thread, seconds: u64) -> Attempt<u64> {
    let now = realtime() / 1_000_000_000;
    if seconds != 0 {
        user::write(seconds, &now)?;
    }
    Ok(now)
}

/// `times(2)`: clock ticks of the process and its reaped children; returns ticks since boot.
///
/// # Errors
/// `EFAULT`.
pub fn times(t: &Thread, buffer: u64) -> Attempt<u64> {
    if buffer != 0 {
        let (user, system) = t.process().times();
        let (children_user, children_system) = t.process().children_times();
        // struct tms (linux/times.h).
        let ticks = [user, system, children_user, children_system].map(|time| time / NANOS_PER_TICK);
        user::write(buffer, &ticks)?;
    }
    Ok(rt::now() / NANOS_PER_TICK)
}

/// `nanosleep(2)`.
///
/// # Errors
/// `EINVAL`, `EFAULT`; interrupted, it goes on after a handler-less signal and is `EINTR` after a handler.
pub async fn nanosleep(t: &Thread, request: u64, remaining: u64) -> Result<u64> {
    let length = t.mm().read::<Timespec>(request).await?.to_nanoseconds()?;
    sleep(t, rt::now().saturating_add(length), remaining).await
}

/// `clock_nanosleep(2)`.
///
/// # Errors
/// As [`nanosleep`]; `EOPNOTSUPP` for clocks that cannot be slept by, `EPERM` for those that would wake the machine.
pub async fn clock_nanosleep(t: &Arc<Thread>, clock: u32, flags: u32, request: u64, remaining: u64) -> Result<u64> {
    match clock {
        CLOCK_MONOTONIC_RAW | CLOCK_REALTIME_COARSE | CLOCK_MONOTONIC_COARSE | CLOCK_THREAD_CPUTIME_ID => {
            return Err(Errno::EOPNOTSUPP);
        }
        _ => {}
    }
    let base = Base::of(clock);
    // Whether there is such a clock of CPU time comes after the time that is asked for.
    if base.is_none() && clock != CLOCK_PROCESS_CPUTIME_ID {
        match cpu_clock::kind(clock) {
            Kind::None => return Err(Errno::EINVAL),
            Kind::Descriptor => return Err(Errno::EOPNOTSUPP),
            Kind::Cpu => {}
        }
    }
    let time = t.mm().read::<Timespec>(request).await?.to_nanoseconds()?;
    let absolute = flags & TIMER_ABSTIME != 0;
    let Some(base) = base else {
        return Box::pin(begin_sleep_by_cpu(t, clock, time, absolute, remaining)).await;
    };
    if is_alarm(clock) {
        if flags & !TIMER_ABSTIME != 0 {
            return Err(Errno::EINVAL);
        }
        if !t.credentials().can(Capability::WakeAlarm) {
            return Err(Errno::EPERM);
        }
    }
    if !absolute {
        return sleep(t, rt::now().saturating_add(time), remaining).await;
    }
    let time = meant_by(t, clock, time);
    // An absolute sleep is simply made again.
    t.interruptible(Moment { base, time }.reached())
        .await
        .map_err(|_| Errno::ERESTARTNOHAND)?;
    Ok(0)
}

async fn begin_sleep_by_cpu(t: &Arc<Thread>, clock: u32, time: u64, absolute: bool, remaining: u64) -> Result<u64> {
    let by = CpuClock::find(t, clock)?;
    if by.is_of(t) {
        return Err(Errno::EINVAL);
    }
    if absolute {
        t.interruptible(by.reached(time))
            .await
            .map_err(|_| Errno::ERESTARTNOHAND)?;
        return Ok(0);
    }
    let begin = by.time().ok_or(Errno::EINVAL)?;
    sleep_until_cpu(t, &by, clock, begin.saturating_add(time), remaining).await
}

/// How an interrupted sleep by a CPU-time clock goes on (`restart_syscall`).
///
/// # Errors
/// As [`sleep`]; `EINVAL` if the clock is gone.
pub async fn sleep_by_cpu(t: &Arc<Thread>, clock: u32, time: u64, remaining: u64) -> Result<u64> {
    sleep_until_cpu(t, &CpuClock::find(t, clock)?, clock, time, remaining).await
}

async fn sleep_until_cpu(t: &Arc<Thread>, by: &CpuClock, clock: u32, time: u64, remaining: u64) -> Result<u64> {
    if t.interruptible(by.reached(time)).await.is_ok() {
        return Ok(0);
    }
    let rest = time.saturating_sub(by.time().unwrap_or(time));
    if rest == 0 {
        return Ok(0);
    }
    if remaining != 0 {
        t.mm().write(remaining, &Timespec::from_nanoseconds(rest)).await?;
    }
    t.set_restart(Restart::CpuSleep { clock, time, remaining });
    Err(Errno::ERESTART_RESTARTBLOCK)
}

/// Sleeps until a fixed monotonic time; the rest is reported to `remaining` if that is an address. Also how an
/// interrupted sleep goes on (`restart_syscall`).
///
/// # Errors
/// `ERESTART_RESTARTBLOCK` if interrupted, `EFAULT`.
pub async fn sleep(t: &Thread, deadline: u64, remaining: u64) -> Result<u64> {
    if t.interruptible(rt::sleep_until(deadline)).await.is_ok() {
        return Ok(0);
    }
    if remaining != 0 {
        let rest = Timespec::from_nanoseconds(deadline.saturating_sub(rt::now()));
        t.mm().write(remaining, &rest).await?;
    }
    t.set_restart(Restart::Sleep { deadline, remaining });
    Err(Errno::ERESTART_RESTARTBLOCK)
}
