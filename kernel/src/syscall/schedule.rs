//! Scheduling: affinity, nice values, and the one policy there is.

use alloc::{sync::Arc, vec::Vec};
use core::sync::atomic::Ordering;

use hal::{arch::PerCpu, traits::PerCpuOps};

use crate::{
    cpu,
    errno::{Errno, Result},
    rt,
    task::{self, Process, Thread},
};

/// `sched_yield(2)`.
pub async fn sched_yield(_: &Thread) -> Result<u64> {
    rt::yield_now().await;
    Ok(0)
}

enum Target<'a> {
    Own(&'a Thread),
    Other(Arc<Thread>),
}

impl core::ops::Deref for Target<'_> {
    type Target = Thread;

    fn deref(&self) -> &Thread {
        match self {
            Self::Own(thread) => thread,
            Self::Other(thread) => thread,
        }
    }
}

fn target(t: &Thread, tid: i32) -> Result<Target<'_>> {
    match tid {
        0 => Ok(Target::Own(t)),
        ..0 => Err(Errno::EINVAL),
        _ => task::thread(tid).map(Target::Other).ok_or(Errno::ESRCH),
    }
}

fn may_change(t: &Thread, target: &Thread) -> Result<()> {
    let (own, other) = (t.credentials(), target.credentials());
    if own.is_privileged() || own.euid == other.uid || own.euid == other.euid { Ok(()) } else { Err(Errno::EPERM) }
}

/// `sched_getaffinity(2)`: returns the bytes written.
pub async fn sched_getaffinity(t: &Thread, tid: i32, size: u64, address: u64) -> Result<u64> {
    if size < 8 || !size.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    let mask = target(t, tid)?.affinity.load(Ordering::Relaxed) & cpu::online();
    t.mm().write(address, &mask).await?;
    Ok(8)
}

/// `sched_setaffinity(2)`: takes effect when the thread next yields its CPU.
pub async fn sched_setaffinity(t: &Thread, tid: i32, size: u64, address: u64) -> Result<u64> {
    let mut bytes = [0; 8];
    let length = size.min(8) as usize;
    t.mm().read_bytes(address, &mut bytes[..length]).await?;
    let mask = u64::from_ne_bytes(bytes);
    let target = target(t, tid)?;
    may_change(t, &target)?;
    if mask & cpu::online() == 0 {
        return Err(Errno::EINVAL);
    }
    target.affinity.store(mask, Ordering::Relaxed);
    target.apply_schedule();
    if target.tid() == t.tid() {
        rt::yield_now().await;
    }
    Ok(0)
}

/// `getcpu(2)`.
pub async fn getcpu(t: &Thread, cpu: u64, node: u64) -> Result<u64> {
    let mm = t.mm();
    if cpu != 0 {
        mm.write(cpu, &PerCpu::cpu_id()).await?;
    }
    if node != 0 {
        mm.write(node, &0u32).await?;
    }
    Ok(0)
}

/// `sched_getscheduler(2)`: 0 is `SCHED_OTHER`, 3 `SCHED_BATCH`, 5 `SCHED_IDLE`.
pub async fn sched_getscheduler(t: &Thread, tid: i32) -> Result<u64> {
    Ok(target(t, tid)?.policy.load(Ordering::Relaxed) as u64)
}

/// `sched_setscheduler(2)`.
///
/// # Errors
/// `EPERM` for the realtime policies, which the kernel does not have; `EINVAL` for unknown ones.
pub async fn sched_setscheduler(t: &Thread, tid: i32, policy: i32, parameters: u64) -> Result<u64> {
    const SCHED_RESET_ON_FORK: i32 = 0x4000_0000;
    let priority: i32 = t.mm().read(parameters).await?;
    let target = target(t, tid)?;
    match (policy & !SCHED_RESET_ON_FORK, priority) {
        (policy @ (0 | 3 | 5), 0) => {
            may_change(t, &target)?;
            target.policy.store(policy, Ordering::Relaxed);
            Ok(0)
        }
        (1 | 2, 1..=99) => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}

/// `sched_getparam(2)`.
pub async fn sched_getparam(t: &Thread, tid: i32, address: u64) -> Result<u64> {
    target(t, tid)?;
    t.mm().write(address, &0i32).await?;
    Ok(0)
}

/// `sched_setparam(2)`: 0 is the only priority.
pub async fn sched_setparam(t: &Thread, tid: i32, address: u64) -> Result<u64> {
    let priority: i32 = t.mm().read(address).await?;
    target(t, tid)?;
    if priority == 0 { Ok(0) } else { Err(Errno::EINVAL) }
}

/// `sched_get_priority_max(2)`.
pub async fn sched_get_priority_max(_: &Thread, policy: i32) -> Result<u64> {
    match policy {
        1 | 2 => Ok(99),
        0 | 3 | 5 | 6 => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

/// `sched_get_priority_min(2)`.
pub async fn sched_get_priority_min(_: &Thread, policy: i32) -> Result<u64> {
    match policy {
        1 | 2 => Ok(1),
        0 | 3 | 5 | 6 => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

/// The processes that `getpriority` and `setpriority` mean: `PRIO_PROCESS`, `PRIO_PGRP`, `PRIO_USER`.
fn chosen(t: &Thread, which: i32, who: i32) -> Result<Vec<Arc<Process>>> {
    let own = t.process();
    let found: Vec<_> = match which {
        0 if who == 0 => alloc::vec![own.clone()],
        0 => task::thread(who).map(|thread| thread.process().clone()).into_iter().collect(),
        1 => task::group_members(if who == 0 { own.group() } else { who }),
        2 => {
            let uid = if who == 0 { own.credentials().uid } else { who as u32 };
            task::processes().into_iter().filter(|process| process.credentials().uid == uid).collect()
        }
        _ => return Err(Errno::EINVAL),
    };
    if found.is_empty() { Err(Errno::ESRCH) } else { Ok(found) }
}

/// `getpriority(2)`: 20 minus the lowest nice value.
pub async fn getpriority(t: &Thread, which: i32, who: i32) -> Result<u64> {
    let chosen = chosen(t, which, who)?;
    let nice = chosen.iter().flat_map(|process| process.threads()).map(|t| t.nice.load(Ordering::Relaxed)).min();
    Ok((20 - nice.ok_or(Errno::ESRCH)?) as u64)
}

/// `setpriority(2)`.
pub async fn setpriority(t: &Thread, which: i32, who: i32, nice: i32) -> Result<u64> {
    let nice = nice.clamp(-20, 19);
    for process in chosen(t, which, who)? {
        for thread in process.threads() {
            may_change(t, &thread)?;
            if nice < thread.nice.load(Ordering::Relaxed) && !t.credentials().is_privileged() {
                return Err(Errno::EACCES);
            }
            thread.nice.store(nice, Ordering::Relaxed);
            thread.apply_schedule();
        }
    }
    Ok(0)
}
