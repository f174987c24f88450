//! Clocks, sleeps and interval timers.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    errno::{Errno, Result},
    rt,
    task::{Restart, Thread, timers::Setting},
};

const SECOND: u64 = 1_000_000_000;

/// `struct timespec` (`linux/time_types.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Timespec {
    /// Seconds.
    pub seconds: i64,
    /// Nanoseconds, below a second.
    pub nanoseconds: i64,
}

/// `struct timeval`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Timeval {
    /// Seconds.
    pub seconds: i64,
    /// Microseconds, below a second.
    pub microseconds: i64,
}

impl Timespec {
    /// From nanoseconds.
    pub const fn from_ns(ns: u64) -> Self {
        Self { seconds: (ns / SECOND) as i64, nanoseconds: (ns % SECOND) as i64 }
    }

    /// To nanoseconds, at most `u64::MAX`.
    ///
    /// # Errors
    /// `EINVAL` if it is negative or not normalised.
    pub fn to_ns(self) -> Result<u64> {
        if self.seconds < 0 || !(0..SECOND as i64).contains(&self.nanoseconds) {
            return Err(Errno::EINVAL);
        }
        Ok((self.seconds as u64).saturating_mul(SECOND).saturating_add(self.nanoseconds as u64))
    }
}

impl Timeval {
    const fn from_ns(ns: u64) -> Self {
        Self { seconds: (ns / SECOND) as i64, microseconds: (ns % SECOND / 1000) as i64 }
    }

    fn to_ns(self) -> Result<u64> {
        if !(0..1_000_000).contains(&self.microseconds) {
            return Err(Errno::EINVAL);
        }
        Timespec { seconds: self.seconds, nanoseconds: self.microseconds * 1000 }.to_ns()
    }
}

/// The time since boot at which a relative timeout ends.
///
/// # Errors
/// `EINVAL` if it is negative or not normalised.
pub fn deadline_after(timeout: Timespec) -> Result<u64> {
    Ok(rt::now().saturating_add(timeout.to_ns()?))
}

/// The time since boot at which a wall-clock time comes, as the clock is set now.
pub fn deadline_at_wall(ns: u64) -> u64 {
    let boot = rt::wall_clock().saturating_sub_unsigned(rt::now());
    (ns as i128 - i128::from(boot)).clamp(0, i128::from(u64::MAX)) as u64
}

/// What a clock shows.
fn read_clock(t: &Thread, clock: i32) -> Result<u64> {
    Ok(match clock {
        // CLOCK_REALTIME, _COARSE, TAI
        0 | 5 | 11 => rt::wall_clock().max(0) as u64,
        // CLOCK_MONOTONIC, _RAW, _COARSE, BOOTTIME
        1 | 4 | 6 | 7 => rt::now(),
        2 => {
            let (user, system) = t.process().times();
            user + system
        }
        3 => {
            let (user, system) = t.times();
            user + system
        }
        // A process's or thread's CPU clock: the number inverted above three bits (`linux/posix-timers.h`).
        ..0 => {
            let id = !(clock >> 3);
            let per_thread = clock & 4 != 0;
            let (user, system) = match (per_thread, id) {
                (true, 0) => t.times(),
                (false, 0) => t.process().times(),
                (true, _) => crate::task::thread(id).ok_or(Errno::EINVAL)?.times(),
                (false, _) => crate::task::process(id).ok_or(Errno::EINVAL)?.times(),
            };
            user + system
        }
        _ => return Err(Errno::EINVAL),
    })
}

/// `clock_gettime(2)`.
pub async fn clock_gettime(t: &Thread, clock: i32, address: u64) -> Result<u64> {
    let now = read_clock(t, clock)?;
    t.mm().write(address, &Timespec::from_ns(now)).await?;
    Ok(0)
}

/// `clock_getres(2)`.
pub async fn clock_getres(t: &Thread, clock: i32, address: u64) -> Result<u64> {
    read_clock(t, clock)?;
    if address != 0 {
        let resolution = if matches!(clock, 5 | 6) { 4_000_000 } else { 1 };
        t.mm().write(address, &Timespec::from_ns(resolution)).await?;
    }
    Ok(0)
}

/// `clock_settime(2)`.
pub async fn clock_settime(t: &Thread, clock: i32, address: u64) -> Result<u64> {
    if clock != 0 {
        return Err(Errno::EINVAL);
    }
    let time = t.mm().read::<Timespec>(address).await?.to_ns()?;
    if !t.credentials().is_privileged() {
        return Err(Errno::EPERM);
    }
    rt::set_wall_clock(time.min(i64::MAX as u64) as i64);
    Ok(0)
}

/// `gettimeofday(2)`.
pub async fn gettimeofday(t: &Thread, time: u64, zone: u64) -> Result<u64> {
    let mm = t.mm();
    if time != 0 {
        mm.write(time, &Timeval::from_ns(rt::wall_clock().max(0) as u64)).await?;
    }
    if zone != 0 {
        mm.write(zone, &[0i32; 2]).await?;
    }
    Ok(0)
}

/// `settimeofday(2)`.
pub async fn settimeofday(t: &Thread, time: u64, _zone: u64) -> Result<u64> {
    if time == 0 {
        return Ok(0);
    }
    let time = t.mm().read::<Timeval>(time).await?.to_ns()?;
    if !t.credentials().is_privileged() {
        return Err(Errno::EPERM);
    }
    rt::set_wall_clock(time.min(i64::MAX as u64) as i64);
    Ok(0)
}

/// `time(2)`.
pub async fn time(t: &Thread, address: u64) -> Result<u64> {
    let seconds = rt::wall_clock().max(0) as u64 / SECOND;
    if address != 0 {
        t.mm().write(address, &seconds).await?;
    }
    Ok(seconds)
}

/// Sleeps to a deadline; reports the rest at `remaining` if interrupted.
async fn sleep(t: &Thread, deadline: u64, remaining: u64) -> Result<u64> {
    if t.interruptible(rt::sleep_until(deadline)).await.is_ok() {
        return Ok(0);
    }
    if remaining != 0 {
        let rest = deadline.saturating_sub(rt::now());
        t.mm().write(remaining, &Timespec::from_ns(rest)).await?;
    }
    t.set_restart(Restart::Sleep { deadline, remaining });
    Err(Errno::ERESTART_RESTARTBLOCK)
}

/// `nanosleep(2)`.
pub async fn nanosleep(t: &Thread, request: u64, remaining: u64) -> Result<u64> {
    clock_nanosleep(t, 1, 0, request, remaining).await
}

/// `clock_nanosleep(2)`.
///
/// # Errors
/// `EINVAL`, `EFAULT`, a restart code.
pub async fn clock_nanosleep(t: &Thread, clock: i32, flags: u32, request: u64, remaining: u64) -> Result<u64> {
    const TIMER_ABSTIME: u32 = 1;
    if let Restart::Sleep { deadline, remaining } = t.take_restart() {
        return sleep(t, deadline, remaining).await;
    }
    let request = t.mm().read::<Timespec>(request).await?.to_ns()?;
    if !matches!(clock, 0 | 1 | 7 | 11) {
        return Err(if matches!(clock, 2 | 3) { Errno::EOPNOTSUPP } else { Errno::EINVAL });
    }
    if flags & TIMER_ABSTIME == 0 {
        return sleep(t, rt::now().saturating_add(request), remaining).await;
    }
    let deadline = if matches!(clock, 0 | 11) { deadline_at_wall(request) } else { request };
    // An absolute sleep is simply made again.
    match t.interruptible(rt::sleep_until(deadline)).await {
        Ok(()) => Ok(0),
        Err(_) => Err(Errno::ERESTARTNOHAND),
    }
}

fn itimer(setting: Setting) -> [Timeval; 2] {
    [Timeval::from_ns(setting.interval), Timeval::from_ns(setting.remaining)]
}

/// `getitimer(2)`.
pub async fn getitimer(t: &Thread, which: u32, address: u64) -> Result<u64> {
    if which != 0 {
        return Err(Errno::EINVAL);
    }
    t.mm().write(address, &itimer(t.process().real_timer())).await?;
    Ok(0)
}

/// `setitimer(2)`, for `ITIMER_REAL`.
pub async fn setitimer(t: &Thread, which: u32, new: u64, old: u64) -> Result<u64> {
    if which != 0 {
        return Err(Errno::EINVAL);
    }
    let mm = t.mm();
    let setting = match new {
        0 => Setting::default(),
        _ => {
            let [interval, value]: [Timeval; 2] = mm.read(new).await?;
            Setting { remaining: value.to_ns()?, interval: interval.to_ns()? }
        }
    };
    let before = t.process().set_real_timer(setting)?;
    if old != 0 {
        mm.write(old, &itimer(before)).await?;
    }
    Ok(0)
}

/// `alarm(2)`.
pub async fn alarm(t: &Thread, seconds: u32) -> Result<u64> {
    let setting = Setting { remaining: u64::from(seconds) * SECOND, interval: 0 };
    Ok(t.process().set_real_timer(setting)?.remaining.div_ceil(SECOND))
}
