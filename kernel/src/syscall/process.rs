//! Calls on processes: their ends, numbers, groups, limits, attributes.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use zerocopy::IntoBytes;

use crate::{
    errno::{Errno, Result},
    rt,
    task::{
        self, Process, Thread, exit,
        limits::Limit,
        process,
        signal::set::SIGNALS,
        table,
        wait::{self, Report, Usage, Which, options::*},
    },
};

/// `exit(2)` of one thread.
pub async fn exit(t: &Thread, code: i32) -> Result<u64> {
    exit::exit_thread(t, code);
    Ok(0)
}

/// `exit_group(2)`.
pub async fn exit_group(t: &Thread, code: i32) -> Result<u64> {
    exit::exit_process(t, code);
    Ok(0)
}

/// `struct rusage`: two timevals and fourteen longs, of which the kernel knows the largest resident set.
fn rusage(usage: &Usage) -> [u64; 18] {
    let mut words = [0; 18];
    [words[0], words[1]] = timeval(usage.user_ns);
    [words[2], words[3]] = timeval(usage.system_ns);
    words[4] = usage.max_rss;
    words
}

fn timeval(ns: u64) -> [u64; 2] {
    [ns / 1_000_000_000, ns % 1_000_000_000 / 1000]
}

/// `wait4(2)`.
///
/// # Errors
/// `EINVAL`, `ESRCH`, `ECHILD`, `EFAULT`, a restart code.
pub async fn wait4(t: &Thread, pid: i32, status: u64, options: u32, usage: u64) -> Result<u64> {
    if options & !(WNOHANG | WUNTRACED | WCONTINUED | WNOTHREAD | WCLONE | WALL) != 0 {
        return Err(Errno::EINVAL);
    }
    let which = match pid {
        -1 => Which::Any,
        0 => Which::Group(t.process().group()),
        i32::MIN => return Err(Errno::ESRCH),
        1.. => Which::Process(pid),
        _ => Which::Group(-pid),
    };
    let Some(report) = wait::wait(t, which, options | WEXITED).await? else { return Ok(0) };
    let mm = t.mm();
    if status != 0 {
        mm.write(status, &report.status).await?;
    }
    if usage != 0 {
        mm.write(usage, &rusage(&report.usage)).await?;
    }
    Ok(report.pid as u64)
}

/// `waitid(2)`.
///
/// # Errors
/// `EINVAL`, `ECHILD`, `EFAULT`, a restart code.
pub async fn waitid(t: &Thread, kind: u32, id: i32, info: u64, options: u32, usage: u64) -> Result<u64> {
    const KNOWN: u32 = WNOHANG | WUNTRACED | WEXITED | WCONTINUED | WNOWAIT | WNOTHREAD | WCLONE | WALL;
    if options & !KNOWN != 0 || options & (WEXITED | WUNTRACED | WCONTINUED) == 0 {
        return Err(Errno::EINVAL);
    }
    let which = match (kind, id) {
        (0, _) => Which::Any,
        (1, 1..) => Which::Process(id),
        (2, 0) => Which::Group(t.process().group()),
        (2, 1..) => Which::Group(id),
        _ => return Err(Errno::EINVAL),
    };
    let report: Option<Report> = wait::wait(t, which, options).await?;
    let mm = t.mm();
    if info != 0 {
        let bytes = report.map_or([0; 128], |report| report.info().to_bytes());
        // Linux fills only the fields that a child's siginfo has: up to and with si_status.
        mm.write_bytes(info, &bytes[..32]).await?;
    }
    if usage != 0
        && let Some(report) = report
    {
        mm.write(usage, &rusage(&report.usage)).await?;
    }
    Ok(0)
}

/// `getpid(2)`.
pub async fn getpid(t: &Thread) -> Result<u64> {
    Ok(t.process().pid() as u64)
}

/// `gettid(2)`.
pub async fn gettid(t: &Thread) -> Result<u64> {
    Ok(t.tid() as u64)
}

/// `getppid(2)`.
pub async fn getppid(t: &Thread) -> Result<u64> {
    Ok(t.process().parent() as u64)
}

/// `setpgid(2)`.
pub async fn setpgid(t: &Thread, pid: i32, group: i32) -> Result<u64> {
    table::set_group(t.process(), pid, group).map(|()| 0)
}

/// `getpgid(2)`.
pub async fn getpgid(t: &Thread, pid: i32) -> Result<u64> {
    Ok(table::group_and_session(t.process(), pid)?.0 as u64)
}

/// `getpgrp(2)`.
pub async fn getpgrp(t: &Thread) -> Result<u64> {
    Ok(t.process().group() as u64)
}

/// `setsid(2)`.
pub async fn setsid(t: &Thread) -> Result<u64> {
    Ok(table::new_session(t.process())? as u64)
}

/// `getsid(2)`.
pub async fn getsid(t: &Thread, pid: i32) -> Result<u64> {
    Ok(table::group_and_session(t.process(), pid)?.1 as u64)
}

/// `set_tid_address(2)`.
pub async fn set_tid_address(t: &Thread, address: u64) -> Result<u64> {
    t.clear_child_tid.store(address, Ordering::Relaxed);
    Ok(t.tid() as u64)
}

/// `prctl(2)`, the part that is not about capabilities or tracing (`linux/prctl.h`).
///
/// # Errors
/// `EINVAL` for options that the kernel does not have.
pub async fn prctl(t: &Thread, option: u32, a: u64, _b: u64, _c: u64, _d: u64) -> Result<u64> {
    let process = t.process();
    match option {
        1 => {
            // PR_SET_PDEATHSIG
            if a > SIGNALS as u64 {
                return Err(Errno::EINVAL);
            }
            process.parent_death_signal.store(a as i32, Ordering::Relaxed);
        }
        2 => t.mm().write(a, &process.parent_death_signal.load(Ordering::Relaxed)).await?,
        3 => return Ok(process.dumpable.load(Ordering::Relaxed) as u64),
        4 => {
            if a > 1 {
                return Err(Errno::EINVAL);
            }
            process.dumpable.store(a as i32, Ordering::Relaxed);
        }
        15 => {
            // PR_SET_NAME: at most 15 bytes; a longer name is cut.
            let mut name = [0; 15];
            let mut length = 0;
            let mm = t.mm();
            while length < name.len() {
                mm.read_bytes(a + length as u64, &mut name[length..=length]).await?;
                if name[length] == 0 {
                    break;
                }
                length += 1;
            }
            t.set_comm(&name[..length]);
        }
        16 => t.mm().write_bytes(a, &t.comm()).await?,
        21 => return Ok(0), // PR_GET_SECCOMP
        23 => return if a < 41 { Ok(1) } else { Err(Errno::EINVAL) }, // PR_CAPBSET_READ
        29 => {} // PR_SET_TIMERSLACK: timers are exact.
        30 => return Ok(50_000), // PR_GET_TIMERSLACK
        36 => process.subreaper.store(a != 0, Ordering::Relaxed),
        37 => t.mm().write(a, &i32::from(process.subreaper.load(Ordering::Relaxed))).await?,
        38 => {
            if a != 1 {
                return Err(Errno::EINVAL);
            }
            process.no_new_privileges.store(true, Ordering::Relaxed);
        }
        39 => return Ok(process.no_new_privileges.load(Ordering::Relaxed).into()),
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// `personality(2)`: the flags are stored; only `ADDR_NO_RANDOMIZE` means something.
pub async fn personality(t: &Thread, persona: u32) -> Result<u64> {
    let personality = &t.process().personality;
    let old = personality.load(Ordering::Relaxed);
    if persona != u32::MAX {
        personality.store(persona, Ordering::Relaxed);
    }
    Ok(old.into())
}

/// `getrusage(2)`.
pub async fn getrusage(t: &Thread, who: i32, address: u64) -> Result<u64> {
    let process = t.process();
    let max_rss = process.mm().resident_pages() * 4;
    let ((user_ns, system_ns), max_rss) = match who {
        0 => (process.times(), max_rss),
        -1 => (process.children_times(), process.children_max_rss()),
        1 => (t.times(), max_rss),
        _ => return Err(Errno::EINVAL),
    };
    t.mm().write(address, &rusage(&Usage { user_ns, system_ns, max_rss })).await?;
    Ok(0)
}

/// `times(2)`, in ticks of 10 ms.
pub async fn times(t: &Thread, address: u64) -> Result<u64> {
    const TICK: u64 = 10_000_000;
    let process = t.process();
    if address != 0 {
        let (own, children) = (process.times(), process.children_times());
        let words = [own.0 / TICK, own.1 / TICK, children.0 / TICK, children.1 / TICK];
        t.mm().write_bytes(address, words.as_bytes()).await?;
    }
    Ok(rt::now() / TICK)
}

fn target(t: &Thread, pid: i32) -> Result<Arc<Process>> {
    if pid == 0 || pid == t.process().pid() {
        return Ok(t.process().clone());
    }
    let target = task::process(pid)
        .or_else(|| task::thread(pid).map(|thread| thread.process().clone()))
        .ok_or(Errno::ESRCH)?;
    let (own, other) = (t.credentials(), target.credentials());
    let same = [other.uid, other.euid, other.suid].iter().all(|uid| *uid == own.uid);
    if own.is_privileged() || same { Ok(target) } else { Err(Errno::EPERM) }
}

/// `prlimit64(2)`.
pub async fn prlimit64(t: &Thread, pid: i32, resource: u32, new: u64, old: u64) -> Result<u64> {
    let process: Arc<process::Process> = target(t, pid)?;
    let mm = t.mm();
    let before = process.limits().by_number(resource)?;
    if new != 0 {
        let [soft, hard]: [u64; 2] = mm.read(new).await?;
        let privileged = t.credentials().is_privileged();
        process.with_limits(|limits| limits.set_by_number(resource, Limit { soft, hard }, privileged))?;
    }
    if old != 0 {
        mm.write(old, &[before.soft, before.hard]).await?;
    }
    Ok(0)
}

/// `getrlimit(2)`.
pub async fn getrlimit(t: &Thread, resource: u32, address: u64) -> Result<u64> {
    prlimit64(t, 0, resource, 0, address).await
}

/// `setrlimit(2)`.
pub async fn setrlimit(t: &Thread, resource: u32, address: u64) -> Result<u64> {
    if address == 0 {
        return Err(Errno::EFAULT);
    }
    prlimit64(t, 0, resource, address, 0).await
}
