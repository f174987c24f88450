//! Calls on processes: their ends, numbers, groups, limits, attributes.

use core::sync::atomic::Ordering;

use crate::{
    errno::{Errno, Result},
    fs::pidfd::PidFile,
    task::{
        Thread, exit, table,
        wait::{self, Report, Usage, Which, options::*},
    },
};

/// `exit(2)` of one thread.
pub fn exit(t: &Thread, code: i32) -> Result<u64> {
    exit::exit_thread(t, code);
    Ok(0)
}

/// `exit_group(2)`.
pub fn exit_group(t: &Thread, code: i32) -> Result<u64> {
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
    let Some(report) = wait::wait(t, which, options | WEXITED).await? else {
        return Ok(0);
    };
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
/// `EINVAL`, `ECHILD`, `EFAULT`, a restart code; `EBADF` if the descriptor is none of a process, `EAGAIN` if it does not wait.
pub async fn waitid(t: &Thread, kind: u32, id: i32, info: u64, options: u32, usage: u64) -> Result<u64> {
    const KNOWN: u32 = WNOHANG | WUNTRACED | WEXITED | WCONTINUED | WNOWAIT | WNOTHREAD | WCLONE | WALL;
    if options & !KNOWN != 0 || options & (WEXITED | WUNTRACED | WCONTINUED) == 0 {
        return Err(Errno::EINVAL);
    }
    let held;
    let mut never_waits = false;
    let which = match (kind, id) {
        (3, 0..) => {
            let (process, file) = PidFile::find(t, id)?;
            never_waits = file.is_nonblocking();
            held = process;
            Which::This(&held)
        }
        (0, _) => Which::Any,
        (1, 1..) => Which::Process(id),
        (2, 0) => Which::Group(t.process().group()),
        (2, 1..) => Which::Group(id),
        _ => return Err(Errno::EINVAL),
    };
    let at_most = if never_waits { options | WNOHANG } else { options };
    let report: Option<Report> = wait::wait(t, which, at_most).await?;
    if report.is_none() && options & WNOHANG == 0 {
        return Err(Errno::EAGAIN);
    }
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
pub fn getpid(t: &Thread) -> Result<u64> {
    Ok(t.process().pid() as u64)
}

/// `gettid(2)`.
pub fn gettid(t: &Thread) -> Result<u64> {
    Ok(t.tid() as u64)
}

/// `getppid(2)`.
pub fn getppid(t: &Thread) -> Result<u64> {
    Ok(t.process().parent() as u64)
}

/// `setpgid(2)`.
pub fn setpgid(t: &Thread, pid: i32, group: i32) -> Result<u64> {
    table::set_group(t.process(), pid, group).map(|()| 0)
}

/// `getpgid(2)`.
pub fn getpgid(t: &Thread, pid: i32) -> Result<u64> {
    Ok(table::group_and_session(t.process(), pid)?.0 as u64)
}

/// `getpgrp(2)`.
pub fn getpgrp(t: &Thread) -> Result<u64> {
    Ok(t.process().group() as u64)
}

/// `setsid(2)`.
pub fn setsid(t: &Thread) -> Result<u64> {
    Ok(table::new_session(t.process())? as u64)
}

/// `getsid(2)`.
pub fn getsid(t: &Thread, pid: i32) -> Result<u64> {
    Ok(table::group_and_session(t.process(), pid)?.1 as u64)
}

/// `set_tid_address(2)`.
pub fn set_tid_address(t: &Thread, address: u64) -> Result<u64> {
    t.clear_child_tid.store(address, Ordering::Relaxed);
    Ok(t.tid() as u64)
}
