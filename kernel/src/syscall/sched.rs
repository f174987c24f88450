//! Yielding, affinity, nice values, resource limits and usage.

use alloc::{sync::Arc, vec::Vec};
use core::sync::atomic::Ordering;

use linux_raw_sys::general::{PRIO_PGRP, PRIO_PROCESS, PRIO_USER, RUSAGE_CHILDREN, RUSAGE_SELF, RUSAGE_THREAD};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::types::Timeval;
use crate::{
    cpu,
    errno::{Errno, Result},
    mm::fallible::TryRoom,
    rt,
    task::{self, Capability, Credentials, Process, Thread, limits::Limit},
};

/// A fair user thread's time slice, in nanoseconds.
pub(super) const SLICE: u64 = <rt::Machine as executor::Platform>::USER_SLICE;

/// `sched_yield(2)`.
///
/// # Errors
/// None.
pub async fn sched_yield(_t: &Thread) -> Result<u64> {
    rt::executor().note_yield();
    rt::yield_now().await;
    Ok(0)
}

/// The thread of a call's first argument; 0 is the caller.
pub(super) fn target(t: &Arc<Thread>, tid: i32) -> Result<Arc<Thread>> {
    match tid {
        0 => Ok(Arc::clone(t)),
        1.. => task::thread(tid).ok_or(Errno::ESRCH),
        _ => Err(Errno::EINVAL),
    }
}

/// Whether the caller has the right to change another thread's scheduling, its own always.
pub(super) fn may_change(t: &Thread, other: &Thread) -> bool {
    let (own, theirs) = (t.credentials(), other.credentials());
    own.euid == theirs.uid || own.euid == theirs.euid || own.can(Capability::SysNice)
}

/// `sched_setaffinity(2)`.
///
/// # Errors
/// `ESRCH`, `EPERM`, `EFAULT`, `EINVAL` if no CPU of the mask runs.
pub async fn sched_setaffinity(t: &Arc<Thread>, tid: i32, length: usize, mask: u64) -> Result<u64> {
    let other = target(t, tid)?;
    if !may_change(t, &other) {
        return Err(Errno::EPERM);
    }
    let mut bytes = [0; 8];
    let used = length.min(bytes.len());
    t.mm().read_bytes(mask, &mut bytes[..used]).await?;
    let wanted = u64::from_le_bytes(bytes) & cpu::online();
    if wanted == 0 {
        return Err(Errno::EINVAL);
    }
    other.affinity.store(wanted, Ordering::Relaxed);
    task::schedule::apply(&other);
    if tid == 0 || other.tid() == t.tid() {
        // The caller moves before it goes on.
        rt::yield_now().await;
    }
    Ok(0)
}

/// `sched_getaffinity(2)`: returns how many bytes of the mask were stored.
///
/// # Errors
/// `ESRCH`, `EFAULT`, `EINVAL` if the mask is too short or no multiple of a word.
pub async fn sched_getaffinity(t: &Arc<Thread>, tid: i32, length: u32, mask: u64) -> Result<u64> {
    if length < 8 || !length.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    let set = target(t, tid)?.affinity.load(Ordering::Relaxed) & cpu::online();
    t.mm().write(mask, &set).await?;
    Ok(8)
}

/// The threads of all those processes.
fn threads_of(processes: impl Iterator<Item = Arc<Process>>) -> Result<Vec<Arc<Thread>>> {
    let mut all = Vec::new();
    for process in processes {
        let mut threads = process.threads()?;
        all.try_room(threads.len())?;
        all.append(&mut threads);
    }
    Ok(all)
}

/// The threads that `which` and `who` name.
pub(super) fn priority_targets(t: &Arc<Thread>, which: u32, who: i32) -> Result<Vec<Arc<Thread>>> {
    let threads: Vec<Arc<Thread>> = match which {
        PRIO_PROCESS => target(t, who).into_iter().collect(),
        PRIO_PGRP => threads_of(task::table::group_members(if who == 0 {
            t.process().group()
        } else {
            who
        }))?,
        PRIO_USER => {
            let uid = if who == 0 { t.credentials().uid } else { who as u32 };
            let mut threads = threads_of(task::processes())?;
            threads.retain(|thread| thread.credentials().uid == uid);
            threads
        }
        _ => return Err(Errno::EINVAL),
    };
    if threads.is_empty() {
        Err(Errno::ESRCH)
    } else {
        Ok(threads)
    }
}

/// `getpriority(2)`: 20 minus the lowest nice value, so that it is never negative.
///
/// # Errors
/// `EINVAL`, `ESRCH`.
pub fn getpriority(t: &Arc<Thread>, which: u32, who: i32) -> Result<u64> {
    let threads = priority_targets(t, which, who)?;
    let lowest = threads.iter().map(|thread| thread.nice()).min().unwrap_or(0);
    Ok((20 - lowest) as u64)
}

/// `setpriority(2)`.
///
/// # Errors
/// `EINVAL`, `ESRCH`, `EPERM` for another user's process, `EACCES` for a lower value without the right.
pub fn setpriority(t: &Arc<Thread>, which: u32, who: i32, nice: i32) -> Result<u64> {
    let nice = nice.clamp(-20, 19);
    let mut result = Ok(0);
    for thread in priority_targets(t, which, who)? {
        // One that may not be changed does not spare the others.
        if !may_change(t, &thread) {
            result = Err(Errno::EPERM);
        } else if nice < thread.nice()
            && !t.credentials().can(Capability::SysNice)
            && !task::schedule::allows_nice(&thread, nice)
        {
            result = Err(Errno::EACCES);
        } else {
            thread.set_nice(nice);
            task::schedule::apply(&thread);
        }
    }
    result
}

/// `struct rusage` (`linux/resource.h`).
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Rusage {
    /// Time in user mode.
    pub user: Timeval,
    /// Time in the kernel.
    pub system: Timeval,
    /// The largest resident set, in KiB.
    pub max_rss: i64,
    /// Not kept: shared, data and stack sizes.
    pub sizes: [i64; 3],
    /// Not kept: faults, swaps, blocks, messages, signals.
    pub counts: [i64; 8],
    /// Switches: voluntary and involuntary, not told apart.
    pub switches: [i64; 2],
}

impl Rusage {
    /// Usage made of times in nanoseconds.
    pub fn of_times((user, system): (u64, u64)) -> Self {
        Self {
            user: Timeval::from_nanoseconds(user),
            system: Timeval::from_nanoseconds(system),
            ..Self::default()
        }
    }
}

/// `getrusage(2)`.
///
/// # Errors
/// `EINVAL`, `EFAULT`.
pub async fn getrusage(t: &Thread, who: i32, usage: u64) -> Result<u64> {
    let times = match who {
        _ if who == RUSAGE_SELF as i32 => t.process().times(),
        _ if who == RUSAGE_CHILDREN => t.process().children_times(),
        _ if who == RUSAGE_THREAD as i32 => t.times(),
        _ => return Err(Errno::EINVAL),
    };
    t.mm().write(usage, &Rusage::of_times(times)).await?;
    Ok(0)
}

/// Whether `own` may see and change the limits of who acts as `theirs`.
fn may_limit(own: &Credentials, theirs: &Credentials) -> bool {
    let is_same = [theirs.uid, theirs.euid, theirs.suid].iter().all(|uid| *uid == own.uid)
        && [theirs.gid, theirs.egid, theirs.sgid].iter().all(|gid| *gid == own.gid);
    is_same || own.can(Capability::SysResource)
}

/// `prlimit64(2)`.
///
/// # Errors
/// `ESRCH`, `EPERM`, `EINVAL`, `EFAULT`.
pub async fn prlimit64(t: &Arc<Thread>, pid: i32, resource: u32, new: u64, old: u64) -> Result<u64> {
    let mm = t.mm();
    let wanted = match new {
        0 => None,
        _ => Some(mm.read::<[u64; 2]>(new).await?),
    };
    let other = match pid {
        0 => Arc::clone(t),
        _ => task::thread(pid).ok_or(Errno::ESRCH)?,
    };
    let process = other.process();
    let own = t.credentials();
    if other.tid() != t.tid() && !may_limit(&own, &other.credentials()) {
        return Err(Errno::EPERM);
    }
    let before = process.limits().by_number(resource)?;
    if let Some([soft, hard]) = wanted {
        process.with_limits(|limits| {
            limits.set_by_number(resource, Limit { soft, hard }, own.can(Capability::SysResource))
        })?;
    }
    if old != 0 {
        mm.write(old, &[before.soft, before.hard]).await?;
    }
    Ok(0)
}

/// `getrlimit(2)`.
///
/// # Errors
/// `EINVAL`, `EFAULT`.
pub async fn getrlimit(t: &Arc<Thread>, resource: u32, limit: u64) -> Result<u64> {
    if limit == 0 {
        return Err(Errno::EFAULT);
    }
    prlimit64(t, 0, resource, 0, limit).await
}

/// `setrlimit(2)`.
///
/// # Errors
/// `EINVAL`, `EPERM`, `EFAULT`.
pub async fn setrlimit(t: &Arc<Thread>, resource: u32, limit: u64) -> Result<u64> {
    if limit == 0 {
        return Err(Errno::EFAULT);
    }
    prlimit64(t, 0, resource, limit, 0).await
}
