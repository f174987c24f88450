//! Clocks and sleeping.

use linux_raw_sys::general::{
    CLOCK_BOOTTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_COARSE, CLOCK_MONOTONIC_RAW, CLOCK_PROCESS_CPUTIME_ID,
    CLOCK_REALTIME, CLOCK_REALTIME_COARSE, CLOCK_TAI, CLOCK_THREAD_CPUTIME_ID, TIMER_ABSTIME,
};

use super::types::{Timespec, Timeval};
use crate::{
    errno::{Errno, Result},
    fs::file::Attempt,
    mm::user,
    rt,
    task::{self, Restart, Thread},
};

/// Clock ticks per second towards user mode (`USER_HZ`).
const USER_HZ: u64 = 100;
const NANOS_PER_TICK: u64 = 1_000_000_000 / USER_HZ;

fn realtime() -> u64 {
    rt::wall_clock().max(0) as u64
}

/// What a clock shows, in nanoseconds.
fn read_clock(t: &Thread, clock: u32) -> Result<u64> {
    match clock {
        CLOCK_REALTIME | CLOCK_REALTIME_COARSE | CLOCK_TAI => Ok(realtime()),
        CLOCK_MONOTONIC | CLOCK_MONOTONIC_RAW | CLOCK_MONOTONIC_COARSE | CLOCK_BOOTTIME => Ok(rt::now()),
        CLOCK_PROCESS_CPUTIME_ID => {
            let (user, system) = t.process().times();
            Ok(user + system)
        }
        CLOCK_THREAD_CPUTIME_ID => {
            let (user, system) = t.times();
            Ok(user + system)
        }
        _ => read_clock_of(t, clock as i32),
    }
}

/// The CPU-time clock of another process or thread (`clock_getcpuclockid(3)`): the complement of its number in the upper 29
/// bits, then a bit for one thread alone, and two bits for which time.
fn read_clock_of(t: &Thread, clock: i32) -> Result<u64> {
    const ONE_THREAD: i32 = 4;
    const PROFILE: i32 = 0;
    const VIRTUAL: i32 = 1;
    const SCHEDULED: i32 = 2;
    if clock >= 0 {
        return Err(Errno::EINVAL);
    }
    let number = !(clock >> 3);
    let (user, system) = match (number, clock & ONE_THREAD) {
        (0, 0) => t.process().times(),
        (0, _) => t.times(),
        (pid, 0) => task::process(pid).ok_or(Errno::EINVAL)?.times(),
        (tid, _) => task::thread(tid).ok_or(Errno::EINVAL)?.times(),
    };
    match clock & 3 {
        VIRTUAL => Ok(user),
        PROFILE | SCHEDULED => Ok(user + system),
        _ => Err(Errno::EINVAL),
    }
}

/// `clock_gettime(2)`.
///
/// # Errors
/// `EINVAL` for a clock that does not exist, `EFAULT`.
pub fn clock_gettime(t: &Thread, clock: u32, time: u64) -> Attempt<u64> {
    let now = read_clock(t, clock)?;
    user::write(time, &Timespec::from_nanoseconds(now))?;
    Ok(0)
}

/// `clock_getres(2)`: every clock counts nanoseconds.
///
/// # Errors
/// `EINVAL` for a clock that does not exist, `EFAULT`.
pub fn clock_getres(t: &Thread, clock: u32, resolution: u64) -> Attempt<u64> {
    read_clock(t, clock)?;
    if resolution != 0 {
        user::write(resolution, &Timespec::from_nanoseconds(1))?;
    }
    Ok(0)
}

/// `clock_settime(2)`, for the wall clock.
///
/// # Errors
/// `EPERM` unless root, `EINVAL` for another clock or a time before 1970, `EFAULT`.
pub async fn clock_settime(t: &Thread, clock: u32, time: u64) -> Result<u64> {
    let time = t.mm().read::<Timespec>(time).await?.to_nanoseconds()?;
    if clock != CLOCK_REALTIME {
        return Err(Errno::EINVAL);
    }
    set_wall_clock(t, time)
}

fn set_wall_clock(t: &Thread, nanoseconds: u64) -> Result<u64> {
    if t.credentials().euid != 0 {
        return Err(Errno::EPERM);
    }
    rt::set_wall_clock(i64::try_from(nanoseconds).map_err(|_| Errno::EINVAL)?);
    task::exec::vdso::clock_was_set();
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
/// As [`nanosleep`]; `EOPNOTSUPP` for CPU-time clocks.
pub async fn clock_nanosleep(t: &Thread, clock: u32, flags: u32, request: u64, remaining: u64) -> Result<u64> {
    match clock {
        CLOCK_REALTIME | CLOCK_TAI | CLOCK_MONOTONIC | CLOCK_BOOTTIME => {}
        CLOCK_PROCESS_CPUTIME_ID => return Err(Errno::EOPNOTSUPP),
        _ => return Err(Errno::EINVAL),
    }
    let time = t.mm().read::<Timespec>(request).await?.to_nanoseconds()?;
    if flags & TIMER_ABSTIME == 0 {
        return sleep(t, rt::now().saturating_add(time), remaining).await;
    }
    let deadline = match clock {
        CLOCK_REALTIME | CLOCK_TAI => rt::now().saturating_add(time.saturating_sub(realtime())),
        _ => time,
    };
    // An absolute sleep is simply made again.
    t.interruptible(rt::sleep_until(deadline))
        .await
        .map_err(|_| Errno::ERESTARTNOHAND)?;
    Ok(0)
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
