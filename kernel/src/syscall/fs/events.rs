//! Descriptors that tell of events: timers and signals.

use alloc::sync::Arc;

use linux_raw_sys::general as linux;

use super::open::{descriptor_limit, on_exec};
use crate::{
    clock::is_alarm,
    errno::{Errno, Result},
    fs::{
        OpenFile,
        file::Attempt,
        nameless::Anonymous,
        signalfd::SignalFile,
        timerfd::{OnClockSet, TimerFile, clock_base},
    },
    mm::user,
    namespace::time::meant_by,
    syscall::{timers::itimerspec, types::Timespec},
    task::{Capability, Thread, signal::SignalSet, timers::posix::Start},
};

/// Whether the caller may wait for what would wake the machine.
fn check_alarm(t: &Thread, clock: u32) -> Result<()> {
    if is_alarm(clock) && !t.credentials().can(Capability::WakeAlarm) {
        return Err(Errno::EPERM);
    }
    Ok(())
}

/// `timerfd_create(2)`.
///
/// # Errors
/// `EINVAL`, `EPERM`, `EMFILE`, `ENOMEM`.
pub fn timerfd_create(t: &Thread, clock: u32, flags: u32) -> Result<u64> {
    if flags & !(linux::TFD_CLOEXEC | linux::TFD_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let base = clock_base(clock)?;
    check_alarm(t, clock)?;
    let timer = Arc::new(TimerFile::new(clock, base));
    let file = OpenFile::anonymous(timer, Anonymous::TimerFd, linux::O_RDWR | flags & linux::TFD_NONBLOCK);
    Ok(t.files().insert(Arc::new(file), on_exec(flags), descriptor_limit(t))? as u64)
}

/// Lends the timer behind a descriptor.
fn with_timer<T>(t: &Thread, fd: i32, look: impl FnOnce(&TimerFile) -> Attempt<T>) -> Attempt<T> {
    let file = t.files().get_usable(fd)?;
    let timer = file.file().as_any().and_then(|file| file.downcast_ref());
    look(timer.ok_or(Errno::EINVAL)?)
}

/// `timerfd_settime(2)`.
///
/// # Errors
/// `EFAULT`, `EINVAL`, `EBADF`, `EPERM`; `ECANCELED` if the clock has been set, and the timer nevertheless.
pub fn timerfd_settime(t: &Thread, fd: i32, flags: u32, new: u64, old: u64) -> Attempt<u64> {
    let [interval, value]: [Timespec; 2] = user::read(new)?;
    if flags & !(linux::TFD_TIMER_ABSTIME | linux::TFD_TIMER_CANCEL_ON_SET) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let (interval, value) = (interval.to_nanoseconds()?, value.to_nanoseconds()?);
    let absolute = flags & linux::TFD_TIMER_ABSTIME != 0;
    with_timer(t, fd, |timer| {
        let clock = timer.clock();
        check_alarm(t, clock)?;
        let start = match absolute {
            true => Start::At(meant_by(t, clock, value)),
            false => Start::In(value),
        };
        let real = matches!(clock, linux::CLOCK_REALTIME | linux::CLOCK_REALTIME_ALARM);
        let on_clock_set = if real && absolute && flags & linux::TFD_TIMER_CANCEL_ON_SET != 0 {
            OnClockSet::Cancel
        } else {
            OnClockSet::Follow
        };
        if old != 0 {
            // Before anything is set, so that a page that is missing can still be waited for.
            user::write(old, &itimerspec(timer.setting()))?;
        }
        let before = timer.set(start, interval, on_clock_set)?;
        if old != 0 {
            user::write(old, &itimerspec(before)).map_err(Errno::from)?;
        }
        Ok(0)
    })
}

/// `timerfd_gettime(2)`.
///
/// # Errors
/// `EBADF`, `EINVAL`, `EFAULT`.
pub fn timerfd_gettime(t: &Thread, fd: i32, setting: u64) -> Attempt<u64> {
    with_timer(t, fd, |timer| {
        user::write(setting, &itimerspec(timer.setting()))?;
        Ok(0)
    })
}

/// `signalfd4(2)`: `SFD_CLOEXEC` and `SFD_NONBLOCK` are the flags of `open`.
///
/// # Errors
/// `EINVAL`, `EFAULT`, `EBADF`, `EMFILE`, `ENOMEM`.
pub fn signalfd4(t: &Thread, fd: i32, mask: u64, size: u64, flags: u32) -> Attempt<u64> {
    if size != size_of::<SignalSet>() as u64 {
        return Err(Errno::EINVAL.into());
    }
    let mask: SignalSet = user::read(mask)?;
    if flags & !(linux::O_CLOEXEC | linux::O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL.into());
    }
    if fd != -1 {
        let file = t.files().get_usable(fd)?;
        let signals = file.file().as_any().and_then(|file| file.downcast_ref::<SignalFile>());
        signals.ok_or(Errno::EINVAL)?.set_mask(t, mask);
        return Ok(fd as u64);
    }
    let file = OpenFile::anonymous(
        Arc::new(SignalFile::new(mask)),
        Anonymous::SignalFd,
        linux::O_RDWR | flags & linux::O_NONBLOCK,
    );
    Ok(t.files().insert(Arc::new(file), on_exec(flags), descriptor_limit(t))? as u64)
}

/// `signalfd(2)`.
///
/// # Errors
/// As [`signalfd4`].
pub fn signalfd(t: &Thread, fd: i32, mask: u64, size: u64) -> Attempt<u64> {
    signalfd4(t, fd, mask, size, 0)
}
