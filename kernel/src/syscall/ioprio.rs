//! Priorities of input and output (`ioprio_set(2)`): kept and told. Disks serve requests in order, as under Linux's scheduler `none`.

use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;

use linux_raw_sys::general::{PRIO_PGRP, PRIO_PROCESS, PRIO_USER, SCHED_IDLE};

use super::sched::priority_targets;
use crate::{
    errno::{Errno, Result},
    task::{Capability, Thread, capabilities::CapabilitySet},
};

/// Where the class stands in the word (`IOPRIO_CLASS_SHIFT`).
const CLASS: u32 = 13;

/// `IOPRIO_CLASS_*`.
mod class {
    pub const NONE: u32 = 0;
    pub const REAL_TIME: u32 = 1;
    pub const BEST_EFFORT: u32 = 2;
    pub const IDLE: u32 = 3;
}

const LEVELS: u32 = 8;

fn targets(t: &Arc<Thread>, which: u32, who: i32) -> Result<alloc::vec::Vec<Arc<Thread>>> {
    let which = match which {
        1 => PRIO_PROCESS,
        2 => PRIO_PGRP,
        3 => PRIO_USER,
        _ => return Err(Errno::EINVAL),
    };
    // Numbers below 0 are nobody's.
    priority_targets(t, which, who).map_err(|_| Errno::ESRCH)
}

/// Checks a priority that `t` asks for.
fn check(t: &Thread, priority: u32) -> Result<u16> {
    const MAY_BE_FIRST: CapabilitySet = CapabilitySet::of(&[Capability::SysAdmin, Capability::SysNice]);
    let level = priority & ((1 << CLASS) - 1);
    let fits = match priority >> CLASS {
        class::REAL_TIME if !t.credentials().can_any(MAY_BE_FIRST) => return Err(Errno::EPERM),
        class::REAL_TIME | class::BEST_EFFORT => level < LEVELS,
        class::IDLE => true,
        class::NONE => level == 0,
        _ => false,
    };
    u16::try_from(priority).ok().filter(|_| fits).ok_or(Errno::EINVAL)
}

/// What a thread's priority comes to: where none was set it goes by how the thread is scheduled.
fn effective(thread: &Thread) -> u32 {
    let set = u32::from(thread.io_priority.load(Relaxed));
    if set >> CLASS != class::NONE {
        return set;
    }
    let policy = thread.policy.get();
    let class = match policy.number {
        SCHED_IDLE => class::IDLE,
        _ if policy.is_real_time() => class::REAL_TIME,
        _ => class::BEST_EFFORT,
    };
    (class << CLASS) | ((thread.nice() + 20) as u32 / 5)
}

/// `ioprio_set(2)`.
///
/// # Errors
/// `EINVAL`, `EPERM`, `ESRCH`.
pub fn ioprio_set(t: &Arc<Thread>, which: u32, who: i32, priority: u32) -> Result<u64> {
    let priority = check(t, priority)?;
    let own = t.credentials();
    for thread in targets(t, which, who)? {
        let theirs = thread.credentials().uid;
        if theirs != own.euid && theirs != own.uid && !own.can(Capability::SysNice) {
            return Err(Errno::EPERM);
        }
        thread.io_priority.store(priority, Relaxed);
    }
    Ok(0)
}

/// `ioprio_get(2)`: of a process what was set, of several the first of what it comes to.
///
/// # Errors
/// `EINVAL`, `ESRCH`.
pub fn ioprio_get(t: &Arc<Thread>, which: u32, who: i32) -> Result<u64> {
    let threads = targets(t, which, who)?;
    let told = match which {
        1 => threads
            .first()
            .map(|thread| u32::from(thread.io_priority.load(Relaxed))),
        _ => threads.iter().map(|thread| effective(thread)).min(),
    };
    told.map(u64::from).ok_or(Errno::ESRCH)
}
