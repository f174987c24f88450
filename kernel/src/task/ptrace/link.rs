//! The beginning and the end of tracing.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use super::{Mode, Tracee, options::EXITKILL};
use crate::{
    errno::{Errno, Result},
    task::{
        capabilities::Capability,
        exit::{self, After},
        pid::Pid,
        process::{Process, WaitStatus},
        signal::{
            SigInfo, Signo, send,
            set::{SIGKILL, SIGSTOP},
        },
        table::{TABLE, Table},
        thread::{Thread, attention},
    },
};

/// Whether a thread may trace, and look into, another (`PTRACE_MODE_ATTACH`, `ptrace(2)`): its own process's threads, and what its
/// credentials allow.
pub fn may_trace(tracer: &Thread, target: &Process) -> bool {
    tracer.process().pid() == target.pid() || tracer.credentials().may_attach(target)
}

/// Makes the thread traced. The table is locked: whoever looks finds both or none.
pub(super) fn link(
    table: &mut Table,
    thread: &Arc<Thread>,
    tracer: &Arc<Thread>,
    seized: bool,
    options: u32,
) -> Result<Arc<Tracee>> {
    if thread.is_over() || tracer.is_over() {
        return Err(Errno::EPERM);
    }
    let tracee = Arc::new(Tracee::new(thread, tracer, seized, options));
    let mut signals = thread.signals.lock();
    if signals.tracee.is_some() {
        return Err(Errno::EPERM);
    }
    signals.tracee = Some(tracee.clone());
    thread.traced.store(true, Ordering::Relaxed);
    drop(signals);
    table.tracees.insert(thread.tid(), tracee.clone());
    Ok(tracee)
}

/// `PTRACE_TRACEME`: the thread's parent becomes its tracer.
///
/// # Errors
/// `EPERM` if it is traced already.
pub fn trace_me(thread: &Arc<Thread>) -> Result<()> {
    let process = thread.process();
    let creator = process.creator.load(Ordering::Relaxed);
    let mut table = TABLE.lock();
    let parent = table.node(process.parent()).map(|node| node.process.clone());
    let Some(parent) = parent else { return Err(Errno::EPERM) };
    let made = table
        .threads
        .get(&creator)
        .filter(|made| Arc::ptr_eq(made.process(), &parent));
    let tracer = made.cloned().or_else(|| parent.first_thread()).ok_or(Errno::EPERM)?;
    let tracee = link(&mut table, thread, &tracer, false, 0)?;
    // As on Linux its own strength counts: it is the one who asks for it.
    tracee.state.lock().strong = thread.credentials().can(Capability::SysPtrace);
    drop(table);
    thread.kick(attention::TRACE);
    Ok(())
}

/// `PTRACE_ATTACH`, or `PTRACE_SEIZE` with options.
///
/// # Errors
/// `ESRCH` if there is no such thread, `EPERM`.
pub fn attach(tracer: &Arc<Thread>, tid: Pid, seize: Option<u32>) -> Result<()> {
    let target = TABLE.lock().threads.get(&tid).cloned().ok_or(Errno::ESRCH)?;
    if Arc::ptr_eq(target.process(), tracer.process()) || !may_trace(tracer, target.process()) {
        return Err(Errno::EPERM);
    }
    {
        let mut table = TABLE.lock();
        // It may have got another number since.
        if !table.threads.get(&tid).is_some_and(|there| Arc::ptr_eq(there, &target)) {
            return Err(Errno::ESRCH);
        }
        let tracee = link(&mut table, &target, tracer, seize.is_some(), seize.unwrap_or(0))?;
        let shared = target.process().shared.lock();
        // Who stands because its process is stopped stands for its tracer from now on.
        if shared.stop.is_some() && target.parked.load(Ordering::Relaxed) {
            tracee.state.lock().interrupt = true;
        }
    }
    if seize.is_none() {
        // A standard signal cannot fail to be sent.
        let _ = send::send_to_thread(&target, SigInfo::kernel(SIGSTOP));
    }
    // By itself this ends no wait.
    target.kick(attention::TRACE);
    Ok(())
}

/// A child is traced by its parent's tracer, in the same way.
pub(super) fn inherit(parent: &Tracee, child: &Arc<Thread>) {
    let mut table = TABLE.lock();
    let (tracer, seized, options, strong) = {
        let state = parent.state.lock();
        (state.tracer.clone(), state.seized, state.options, state.strong)
    };
    let Some(tracer) = tracer else { return };
    // Where somebody else has been faster the child is that one's.
    let Ok(tracee) = link(&mut table, child, &tracer, seized, options) else {
        return;
    };
    drop(table);
    tracee.state.lock().strong = strong;
    if seized {
        tracee.state.lock().interrupt = true;
    } else {
        // A standard signal, at a thread that has none: this cannot fail.
        let _ = child.signals.lock().pending.push(SigInfo::new(SIGSTOP, 0), u64::MAX);
    }
    child.kick(attention::TRACE | attention::SIGNAL);
}

/// Takes tracer and thread apart. Where the thread has ended, whoever is next hears of it.
fn unlink(table: &mut Table, tid: Pid, after: &mut After) {
    let Some(tracee) = table.tracees.remove(&tid) else {
        return;
    };
    let process = tracee.process().clone();
    let ended = {
        let shared = process.shared.lock();
        let mut state = tracee.state.lock();
        state.tracer = None;
        if let Some(thread) = tracee.thread.upgrade() {
            thread.traced.store(false, Ordering::Relaxed);
            thread.signals.lock().tracee = None;
            // Its own turns see that it is traced no more.
            if shared.stop.is_some() {
                thread.kick(attention::STOP);
            } else {
                thread.wake();
            }
        }
        state.ended
    };
    if ended.is_some() {
        over(table, &process, tid, after);
    }
}

/// A thread that has ended is no longer the tracer's: its number goes back, or its process is its parent's affair.
pub(in crate::task) fn over(table: &mut Table, process: &Arc<Process>, tid: Pid, after: &mut After) {
    if tid != process.pid() {
        table.release(tid);
        // One that executes a program waits for this.
        let shared = process.shared.lock();
        if let Some(exec) = shared.exec
            && let Some(waiter) = shared.threads.iter().find(|thread| thread.tid() == exec)
        {
            waiter.wake();
        }
    }
    exit::announce(table, process, after);
}

/// `PTRACE_DETACH` of a thread that stands.
///
/// # Errors
/// `ESRCH` if it does not, or has another tracer.
pub fn detach(tracer: &Arc<Thread>, tracee: &Tracee, tid: Pid, signal: Signo) -> Result<()> {
    let mut after = After::default();
    {
        let mut table = TABLE.lock();
        {
            let mut state = tracee.state.lock();
            if !state.is_traced_by(tracer) || !state.stands() {
                return Err(Errno::ESRCH);
            }
            state.go_on(Mode::default(), signal);
        }
        unlink(&mut table, tid, &mut after);
    }
    after.send();
    Ok(())
}

/// A thread ends: what it traces goes on without it, or ends too.
pub(in crate::task) fn tracer_ends(table: &mut Table, tracer: &Arc<Thread>, after: &mut After) {
    loop {
        let mut tracees = table.tracees.iter();
        let own = tracees.find(|(_, tracee)| tracee.with(|state| state.is_traced_by(tracer)));
        let Some((&tid, tracee)) = own else { return };
        let mut state = tracee.state.lock();
        // A signal that the tracer has not heard of takes its course.
        let signal = match state.stop {
            Some(stop) if state.unreported && stop.code >> 8 == 0 && !stop.of_group => stop.code & 0x7f,
            _ => 0,
        };
        state.go_on(Mode::default(), signal);
        if state.options & EXITKILL != 0 {
            after.signals.push((tracee.process().clone(), SigInfo::kernel(SIGKILL)));
        }
        drop(state);
        unlink(table, tid, after);
    }
}

/// With what a thread ends.
pub(super) fn end_status(thread: &Thread, tracee: &Tracee) -> WaitStatus {
    let of_all = thread.process().shared.lock().group_exit;
    of_all
        .or_else(|| tracee.state.lock().own_exit)
        .unwrap_or(WaitStatus::exited(0))
}

/// A traced thread has left its process. Its number is its tracer's until that has waited for it.
pub(in crate::task) fn thread_ended(table: &mut Table, thread: &Arc<Thread>, after: &mut After) -> bool {
    let Some(tracee) = table.tracees.get(&thread.tid()).cloned() else {
        return false;
    };
    let status = end_status(thread, &tracee);
    let tracer = {
        let mut state = tracee.state.lock();
        state.ended = Some(status);
        state.stop = None;
        state.unreported = false;
        state.tracer.as_ref().map(|tracer| tracer.process().clone())
    };
    if let Some(tracer) = tracer
        && thread.tid() != thread.process().pid()
    {
        let info = exit::child_info(
            thread.process(),
            thread.tid(),
            crate::task::signal::set::SIGCHLD,
            status,
        );
        after.signals.push((tracer.clone(), info));
        after.wake.push(tracer);
    }
    true
}

/// A thread takes its process's number for execve; the first thread, if it was traced, is gone without a word.
pub(in crate::task) fn renumber(table: &mut Table, thread: &Arc<Thread>, old: Pid, after: &mut After) {
    let first = table.tracees.remove(&thread.tid());
    if let Some(tracer) = first.and_then(|first| first.tracer_process()) {
        after.wake.push(tracer);
    }
    if let Some(tracee) = table.tracees.remove(&old) {
        table.tracees.insert(thread.tid(), tracee);
    }
}
