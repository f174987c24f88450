//! Calls on signals.

use alloc::sync::Arc;

use hal::signal::AltStack;
use zerocopy::IntoBytes;

use super::types::{Timespec, Timeval};
use crate::{
    errno::{Errno, Result},
    fs::file::Attempt,
    mm::user,
    rt,
    task::{
        self, Thread,
        deadline::until,
        signal::{
            self, SigInfo, SignalSet,
            action::SigAction,
            deliver::{SS_AUTODISARM, SS_DISABLE, SS_ONSTACK, asked_alt_stack, on_alt_stack},
            info::code::{SI_TKILL, SI_USER},
            send,
            set::*,
        },
        timers::{Setting, interval::Interval},
    },
};

/// Bytes in the kernel's `sigset_t`.
const SET_SIZE: u64 = 8;

fn check_size(size: u64) -> Result<()> {
    if size == SET_SIZE { Ok(()) } else { Err(Errno::EINVAL) }
}

/// `rt_sigaction(2)`.
///
/// # Errors
/// `EINVAL`, `EFAULT`.
pub fn rt_sigaction(t: &Thread, signo: i32, new: u64, old: u64, size: u64) -> Attempt<u64> {
    check_size(size)?;
    if !(1..=SIGNALS).contains(&signo) || new != 0 && SignalSet::UNBLOCKABLE.contains(signo) {
        return Err(Errno::EINVAL.into());
    }
    let tell = |before: &SigAction| match old {
        0 => Ok(()),
        _ => user::write(old, before),
    };
    if new == 0 {
        t.process().with_actions(|actions| tell(actions.get(signo)))?;
        return Ok(0);
    }
    // In place: a value that comes with a fault's place is copied once more.
    let mut action = SigAction::default();
    user::copy_in(action.as_mut_bytes(), new)?;
    action.mask = action.mask.without(SignalSet::UNBLOCKABLE);
    send::set_action(t.process(), signo, action, tell)?;
    Ok(0)
}

/// `rt_sigprocmask(2)`.
///
/// # Errors
/// `EINVAL`, `EFAULT`.
pub fn rt_sigprocmask(t: &Thread, how: u32, new: u64, old: u64, size: u64) -> Attempt<u64> {
    check_size(size)?;
    let before = t.signal_mask();
    let mask = if new == 0 {
        None
    } else {
        let set = SignalSet(user::read(new)?);
        Some(match how {
            0 => before.union(set),
            1 => before.without(set),
            2 => set,
            _ => return Err(Errno::EINVAL.into()),
        })
    };
    if old != 0 {
        user::write(old, &before.0)?;
    }
    if let Some(mask) = mask {
        t.set_signal_mask(mask);
    }
    Ok(0)
}

/// `rt_sigpending(2)`.
pub fn rt_sigpending(t: &Thread, address: u64, size: u64) -> Attempt<u64> {
    if size > SET_SIZE {
        return Err(Errno::EINVAL.into());
    }
    let pending = t.pending_signals().intersection(t.signal_mask());
    user::copy_out(address, &pending.0.as_bytes()[..size as usize])?;
    Ok(0)
}

/// `rt_sigsuspend(2)`.
///
/// # Errors
/// `EINTR` always, once a handler has run.
pub async fn rt_sigsuspend(t: &Thread, address: u64, size: u64) -> Result<u64> {
    check_size(size)?;
    let mask = SignalSet(t.mm().read(address).await?);
    t.set_temporary_mask(mask);
    wait_for_signal(t).await
}

/// `pause(2)`.
///
/// # Errors
/// `EINTR` always, once a handler has run.
pub async fn pause(t: &Thread) -> Result<u64> {
    wait_for_signal(t).await
}

async fn wait_for_signal(t: &Thread) -> Result<u64> {
    match t.interruptible(core::future::pending::<()>()).await {
        Ok(()) => Ok(0),
        Err(_) => Err(Errno::ERESTARTNOHAND),
    }
}

/// `rt_sigtimedwait(2)`.
///
/// # Errors
/// `EAGAIN` if none came in time, `EINTR`, `EINVAL`, `EFAULT`.
pub async fn rt_sigtimedwait(t: &Thread, set: u64, info: u64, timeout: u64, size: u64) -> Result<u64> {
    check_size(size)?;
    let mm = t.mm();
    let set = SignalSet(mm.read(set).await?).without(SignalSet::UNBLOCKABLE);
    let deadline = match timeout {
        0 => None,
        _ => Some(rt::now().saturating_add(mm.read::<Timespec>(timeout).await?.to_nanoseconds()?)),
    };
    let taken = match send::take_awaited(t, set) {
        Some(taken) => taken,
        None => {
            let _awaiting = send::Awaiting::new(t, set);
            let arrival = send::awaited_signal(t, set);
            match t.interruptible(until(deadline, arrival)).await {
                Ok(Some(taken)) => taken,
                Ok(None) => return Err(Errno::EAGAIN),
                Err(_) => return Err(Errno::EINTR),
            }
        }
    };
    if info != 0 {
        mm.write_bytes(info, &taken.to_bytes()).await?;
    }
    Ok(taken.signo() as u64)
}

/// `kill(2)`.
pub fn kill(t: &Thread, pid: i32, signo: i32) -> Result<u64> {
    signal::kill(t, pid, signo).map(|()| 0)
}

fn thread_of(process: i32, tid: i32) -> Result<Arc<Thread>> {
    let thread = task::thread(tid).ok_or(Errno::ESRCH)?;
    if process > 0 && thread.process().pid() != process {
        Err(Errno::ESRCH)
    } else {
        Ok(thread)
    }
}

fn send_one(t: &Thread, process: i32, tid: i32, signo: i32, info: SigInfo) -> Result<u64> {
    if !(0..=SIGNALS).contains(&signo) {
        return Err(Errno::EINVAL);
    }
    let target = thread_of(process, tid)?;
    if !send::may_signal_thread(t, &target, signo) {
        return Err(Errno::EPERM);
    }
    if signo != 0 {
        signal::send_to_thread(&target, info)?;
    }
    Ok(0)
}

/// `tkill(2)`.
pub fn tkill(t: &Thread, tid: i32, signo: i32) -> Result<u64> {
    if tid <= 0 {
        return Err(Errno::EINVAL);
    }
    let info = SigInfo::from_process(signo, SI_TKILL, t.process().pid(), t.credentials().uid);
    send_one(t, -1, tid, signo, info)
}

/// `tgkill(2)`.
pub fn tgkill(t: &Thread, process: i32, tid: i32, signo: i32) -> Result<u64> {
    if tid <= 0 || process <= 0 {
        return Err(Errno::EINVAL);
    }
    let info = SigInfo::from_process(signo, SI_TKILL, t.process().pid(), t.credentials().uid);
    send_one(t, process, tid, signo, info)
}

/// A `siginfo_t` of the caller's.
///
/// # Errors
/// `EFAULT`.
pub(super) async fn read_info_of(t: &Thread, address: u64) -> Result<SigInfo> {
    let mut bytes = [0; SigInfo::SIZE];
    t.mm().read_bytes(address, &mut bytes).await?;
    Ok(SigInfo::from_user(&bytes))
}

async fn read_info(t: &Thread, address: u64, signo: i32, to_self: bool) -> Result<SigInfo> {
    if !(0..=SIGNALS).contains(&signo) {
        return Err(Errno::EINVAL);
    }
    let info = read_info_of(t, address).await?.with_signo(signo);
    // Nobody may pretend to be the kernel or kill towards others.
    if (info.code() >= SI_USER || info.code() == SI_TKILL) && !to_self {
        return Err(Errno::EPERM);
    }
    Ok(info)
}

/// `rt_sigqueueinfo(2)`.
pub async fn rt_sigqueueinfo(t: &Thread, pid: i32, signo: i32, address: u64) -> Result<u64> {
    let info = read_info(t, address, signo, pid == t.process().pid()).await?;
    let target = task::process(pid).ok_or(Errno::ESRCH)?;
    if !send::may_signal(t, &target, signo) {
        return Err(Errno::EPERM);
    }
    if signo != 0 {
        signal::send_to_process(&target, info)?;
    }
    Ok(0)
}

/// `rt_tgsigqueueinfo(2)`.
pub async fn rt_tgsigqueueinfo(t: &Thread, pid: i32, tid: i32, signo: i32, address: u64) -> Result<u64> {
    if pid <= 0 || tid <= 0 {
        return Err(Errno::EINVAL);
    }
    let info = read_info(t, address, signo, pid == t.process().pid()).await?;
    send_one(t, pid, tid, signo, info)
}

const SECOND: u64 = 1_000_000_000;

fn itimer(setting: Setting) -> [Timeval; 2] {
    [
        Timeval::from_nanoseconds(setting.interval),
        Timeval::from_nanoseconds(setting.remaining),
    ]
}

/// `getitimer(2)`.
///
/// # Errors
/// `EINVAL`, `EFAULT`.
pub fn getitimer(t: &Thread, which: u32, address: u64) -> Attempt<u64> {
    let which = Interval::by_number(which).ok_or(Errno::EINVAL)?;
    user::write(address, &itimer(t.process().interval_timer(which)))?;
    Ok(0)
}

/// `setitimer(2)`.
///
/// # Errors
/// `EINVAL`, `EFAULT`, `ENOMEM`.
pub fn setitimer(t: &Thread, which: u32, new: u64, old: u64) -> Attempt<u64> {
    let setting = match new {
        0 => Setting::default(),
        _ => {
            let [interval, value]: [Timeval; 2] = user::read(new)?;
            Setting {
                remaining: value.to_nanoseconds()?,
                interval: interval.to_nanoseconds()?,
            }
        }
    };
    let which = Interval::by_number(which).ok_or(Errno::EINVAL)?;
    if old != 0 {
        // Before anything is set, so that a page that is missing can still be waited for.
        user::write(old, &itimer(t.process().interval_timer(which)))?;
    }
    let before = t.process().set_interval_timer(which, setting)?;
    if old != 0 {
        user::write(old, &itimer(before)).map_err(Errno::from)?;
    }
    Ok(0)
}

/// `alarm(2)`.
///
/// # Errors
/// `ENOMEM`.
pub fn alarm(t: &Thread, seconds: u32) -> Result<u64> {
    let setting = Setting {
        remaining: u64::from(seconds) * SECOND,
        interval: 0,
    };
    Ok(t.process().set_real_timer(setting)?.remaining.div_ceil(SECOND))
}

/// `sigaltstack(2)`.
///
/// # Errors
/// `EPERM` while on the alternate stack, `EINVAL`, `ENOMEM` if it is too small, `EFAULT`.
pub async fn sigaltstack(t: &Thread, stack_pointer: u64, new: u64, old: u64) -> Result<u64> {
    let mm = t.mm();
    let before = t.alt_stack();
    let on_stack = on_alt_stack(&before, stack_pointer);
    if new != 0 {
        // stack_t: ss_sp, ss_flags and padding, ss_size.
        let [sp, flags, size]: [u64; 3] = mm.read(new).await?;
        let flags = flags as i32;
        if on_stack {
            return Err(Errno::EPERM);
        }
        t.set_alt_stack(asked_alt_stack(AltStack { sp, flags, size })?);
    }
    if old != 0 {
        let state = match (before.size == 0, on_stack) {
            (true, _) => SS_DISABLE,
            (false, true) => SS_ONSTACK,
            (false, false) => 0,
        };
        mm.write(
            old,
            &[
                before.sp,
                u64::from((before.flags & SS_AUTODISARM | state) as u32),
                before.size,
            ],
        )
        .await?;
    }
    Ok(0)
}
