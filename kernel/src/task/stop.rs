//! Stopping and continuing a process, and telling its parent.
//!
//! A stop begins when a thread takes a stopping signal: the process is marked and every thread is called to park before
//! it would next enter user mode, leaving interruptible waits to get there. When the last has parked, the parent is told.
//! A continue (or SIGKILL) clears the mark and wakes them. Both transitions are made under the table's lock and the
//! process's, so that what wait4 reports is what happened last.

use alloc::sync::Arc;
use core::{future::poll_fn, sync::atomic::Ordering, task::Poll};

use super::{
    process::Process,
    ptrace,
    signal::{
        SigInfo, Signo,
        action::flags::SA_NOCLDSTOP,
        info::code::{CLD_CONTINUED, CLD_STOPPED},
        send,
        set::{SIGCHLD, SIGCONT},
    },
    table::{self, TABLE},
    thread::{Thread, attention},
};

/// Who hears of a continuation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// The parent, as after SIGCONT.
    Parent,
    /// Nobody, as before SIGKILL.
    Nobody,
}

/// Marks the process as stopping.
pub(super) fn begin(process: &Process, signo: Signo) {
    let mut shared = process.shared.lock();
    if shared.group_exit.is_none() && shared.stop.is_none() {
        shared.stop = Some(signo);
        for thread in &shared.threads {
            // Who is traced may run although its process is stopped.
            thread.parked.store(false, Ordering::Relaxed);
            thread.kick(attention::STOP);
        }
        drop(shared);
        ptrace::group_changed(process);
    }
}

/// Lets a stopped process run again.
pub(super) fn resume(process: &Arc<Process>, report: Report) {
    let mut table = TABLE.lock();
    let mut shared = process.shared.lock();
    if shared.stop.take().is_none() {
        return;
    }
    for thread in &shared.threads {
        thread.clear_attention(attention::STOP);
        thread.wake();
    }
    drop(shared);
    if let Some(node) = table.node_mut(process.pid()) {
        node.stopped = None;
        node.continued = report == Report::Parent;
    }
    drop(table);
    if report == Report::Parent {
        tell_parent(process, CLD_CONTINUED, SIGCONT);
    }
}

/// Parks the calling thread for as long as its process is stopped.
pub(super) async fn park(thread: &Arc<Thread>) {
    let process = thread.process();
    if let Some(signo) = arrive(thread) {
        tell_parent(process, CLD_STOPPED, signo);
    }
    poll_fn(|cx| {
        thread.store_waker(cx.waker());
        if thread.attention() & (attention::EXIT | attention::TRACE) != 0 || process.shared.lock().stop.is_none() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    thread.parked.store(false, Ordering::Relaxed);
    // A new stop may have begun since the old one ended: its bit must survive.
    let shared = process.shared.lock();
    if shared.stop.is_none() {
        thread.clear_attention(attention::STOP);
    }
}

/// Marks the thread as parked; the signal to report if it was the last.
fn arrive(thread: &Thread) -> Option<Signo> {
    let process = thread.process();
    let mut table = TABLE.lock();
    let shared = process.shared.lock();
    let signo = shared.stop?;
    thread.parked.store(true, Ordering::Relaxed);
    report_if_complete(&mut table, process, &shared).then_some(signo)
}

/// As [`arrive`] for a traced thread; tells the parent if that is not the tracer anyway.
pub(super) fn arrive_traced(thread: &Thread, tracer: Option<&Process>) {
    let process = thread.process();
    if let Some(signo) = arrive(thread)
        && tracer.is_none_or(|tracer| tracer.pid() != process.parent())
    {
        tell_parent(process, CLD_STOPPED, signo);
    }
}

/// Records the stop for wait4 if every thread has parked; whether it did.
pub(super) fn report_if_complete(table: &mut table::Table, process: &Process, shared: &super::process::Shared) -> bool {
    let Some(signo) = shared.stop else { return false };
    if shared.threads.is_empty()
        || !shared
            .threads
            .iter()
            .all(|thread| thread.parked.load(Ordering::Relaxed))
    {
        return false;
    }
    if let Some(node) = table.node_mut(process.pid()) {
        node.stopped = Some(signo);
        node.continued = false;
    }
    true
}

/// SIGCHLD for a stop or continuation, and a wake for a parent in wait4.
pub(super) fn tell_parent(process: &Arc<Process>, code: i32, status: Signo) {
    let Some(parent) = table::process(process.parent()) else {
        return;
    };
    if parent.action(SIGCHLD).flags & SA_NOCLDSTOP == 0 {
        let (user, system) = process.times();
        let uid = process.credentials().uid;
        let info = SigInfo::child(code, process.pid(), uid, status, user / 10_000_000, system / 10_000_000);
        // A standard signal cannot fail to be sent.
        let _ = send::send_to_process(&parent, info);
    }
    wake_waiters(&parent);
}

/// Makes threads in wait4 look again.
pub(super) fn wake_waiters(parent: &Process) {
    for thread in &parent.shared.lock().threads {
        if thread.waits_for_child.load(Ordering::SeqCst) {
            thread.wake();
        }
    }
}
