//! wait4 and waitid.
//!
//! A waiting thread marks itself, then looks; whoever changes a child's state changes the table first and then wakes the
//! marked threads of the parent. A child that is there wins over a signal that arrived with it, so wait4 never returns
//! `EINTR` for the SIGCHLD of the very child it waits for.

use core::{future::poll_fn, sync::atomic::Ordering, task::Poll};

use super::{
    exit::After,
    pid::Pid,
    process::Process,
    ptrace::report,
    signal::{
        SigInfo,
        info::code::*,
        set::{SIGCHLD, SIGCONT},
    },
    table::{Node, TABLE, Table},
    thread::Thread,
};
use crate::{
    errno::{Errno, Result},
    rt,
};

/// `WNOHANG` and so on (`linux/wait.h`).
pub mod options {
    /// Do not wait.
    pub const WNOHANG: u32 = 1;
    /// Report stopped children (`WSTOPPED`).
    pub const WUNTRACED: u32 = 2;
    /// Report ended children, for waitid.
    pub const WEXITED: u32 = 4;
    /// Report continued children.
    pub const WCONTINUED: u32 = 8;
    /// Leave the child waitable.
    pub const WNOWAIT: u32 = 0x0100_0000;
    /// This thread's children only.
    pub const WNOTHREAD: u32 = 0x2000_0000;
    /// Children of every kind.
    pub const WALL: u32 = 0x4000_0000;
    /// Children that signal otherwise than by SIGCHLD.
    pub const WCLONE: u32 = 0x8000_0000;
}

use options::*;

/// Which children.
#[derive(Clone, Copy, Debug)]
pub enum Which<'a> {
    /// Any.
    Any,
    /// The one with this number.
    Process(Pid),
    /// Those of this group.
    Group(Pid),
    /// This very one, whoever has its number by now.
    This(&'a Process),
}

/// Times and memory of an ended process, for `struct rusage`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Nanoseconds in user mode.
    pub user_ns: u64,
    /// Nanoseconds in the kernel.
    pub system_ns: u64,
    /// The largest resident set, in KiB.
    pub max_rss: u64,
}

/// What a child did.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// The child.
    pub pid: Pid,
    /// Its real user.
    pub uid: u32,
    /// `CLD_*`.
    pub code: i32,
    /// Exit code or signal.
    pub value: i32,
    /// As wait4 has it.
    pub status: i32,
    /// What it and its reaped children used.
    pub usage: Usage,
}

impl Report {
    /// The siginfo that waitid fills.
    pub fn info(&self) -> SigInfo {
        SigInfo::child(self.code, self.pid, self.uid, self.value, 0, 0)
    }
}

/// Waits for a child's change of state. `None` if there is none yet and `WNOHANG` is set. An interrupted or cancelled wait
/// has taken nothing, but for one that is cancelled while it lets go of a child that it has found.
///
/// # Errors
/// `ECHILD` if there is no such child, `ERESTARTSYS` if interrupted.
pub async fn wait(thread: &Thread, which: Which<'_>, options: u32) -> Result<Option<Report>> {
    let (report, reaped) = if options & WNOHANG != 0 {
        look(thread, which, options)?
    } else {
        wait_for_change(thread, which, options).await?
    };
    // The page tables go with it.
    rt::give_way().await;
    drop(reaped);
    Ok(report)
}

/// A change of state, and the child if it was taken out of the table.
pub(super) type Found = (Option<Report>, Option<Node>);

async fn wait_for_change(thread: &Thread, which: Which<'_>, options: u32) -> Result<Found> {
    let waited = thread.interruptible(poll_fn(|cx| {
        thread.store_waker(cx.waker());
        thread.waits_for_child.store(true, Ordering::SeqCst);
        match look(thread, which, options) {
            Ok((None, _)) => Poll::Pending,
            found => Poll::Ready(found),
        }
    }));
    let result = waited.await;
    thread.waits_for_child.store(false, Ordering::SeqCst);
    result?
}

/// Takes one child's change of state, if there is one.
fn look(thread: &Thread, which: Which<'_>, options: u32) -> Result<Found> {
    let process = thread.process();
    let mut guard = TABLE.lock();
    let table = &mut *guard;
    if !table.tracees.is_empty() {
        let mut after = After::default();
        let found = report::look(table, thread, which, options, &mut after);
        drop(guard);
        after.send();
        return found;
    }
    let own = table.node(process.pid()).ok_or(Errno::ECHILD)?;
    let mut eligible = false;
    let mut found = None;
    for (_, child) in table.children(own) {
        if !matches(child, which, options) {
            continue;
        }
        eligible = true;
        if let Some(report) = change(child, options) {
            found = Some(report);
            break;
        }
    }
    let Some(report) = found else {
        return if eligible { Ok((None, None)) } else { Err(Errno::ECHILD) };
    };
    let reaped = if options & WNOWAIT == 0 {
        consume(table, process, &report)
    } else {
        None
    };
    Ok((Some(report), reaped))
}

pub(super) fn matches(child: &Node, which: Which<'_>, options: u32) -> bool {
    let of_kind = options & WALL != 0 || (options & WCLONE != 0) == (child.exit_signal != SIGCHLD);
    of_kind
        && match which {
            Which::Any => true,
            Which::Process(pid) => child.process.pid() == pid,
            Which::Group(group) => child.group == group,
            Which::This(process) => core::ptr::eq(&*child.process, process),
        }
}

pub(super) fn change(child: &Node, options: u32) -> Option<Report> {
    let process = &child.process;
    let report = |code, value, status| Report {
        pid: process.pid(),
        uid: process.credentials().uid,
        code,
        value,
        status,
        usage: usage(process),
    };
    if let Some(status) = child.exit {
        let ended = match (status.code(), status.signal()) {
            (Some(code), _) => report(CLD_EXITED, code, status.0),
            (None, signal) => report(CLD_KILLED, signal.unwrap_or(0), status.0),
        };
        return (options & WEXITED != 0).then_some(ended);
    }
    if let Some(signo) = child.stopped
        && options & WUNTRACED != 0
    {
        return Some(report(CLD_STOPPED, signo, signo << 8 | 0x7f));
    }
    (child.continued && options & WCONTINUED != 0).then(|| report(CLD_CONTINUED, SIGCONT, 0xffff))
}

pub(super) fn usage(process: &Process) -> Usage {
    let (user, system) = process.times();
    let (children_user, children_system) = process.children_times();
    Usage {
        user_ns: user + children_user,
        system_ns: system + children_system,
        max_rss: process
            .max_rss
            .load(Ordering::Relaxed)
            .max(process.children_max_rss.load(Ordering::Relaxed)),
    }
}

pub(super) fn consume(table: &mut Table, parent: &Process, report: &Report) -> Option<Node> {
    let node = table.node_mut(report.pid)?;
    if node.exit.is_some() {
        parent
            .children_user_ns
            .fetch_add(report.usage.user_ns, Ordering::Relaxed);
        parent
            .children_system_ns
            .fetch_add(report.usage.system_ns, Ordering::Relaxed);
        parent
            .children_max_rss
            .fetch_max(report.usage.max_rss, Ordering::Relaxed);
        return table.remove(report.pid);
    }
    if report.code == CLD_STOPPED {
        node.stopped = None;
    } else {
        node.continued = false;
    }
    None
}
