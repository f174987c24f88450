//! The end of threads and processes.
//!
//! A thread ends in its own future, after its last turn: it hands back its robust futexes, clears its tid word, leaves the
//! process. The last one ends the process: memory and files go, children go to init (or a subreaper), groups that this
//! orphans are told, and the parent gets its signal. What remains is the number, the status and the times, until wait4.

use alloc::{sync::Arc, vec::Vec};
use core::sync::atomic::Ordering;

use super::{
    futex,
    pid::Pid,
    process::{Process, WaitStatus},
    ptrace::{self, link, report},
    robust, shutdown,
    signal::{
        SigInfo, Signo,
        action::{SIG_IGN, flags::SA_NOCLDWAIT},
        info::code::{CLD_EXITED, CLD_KILLED, CLD_STOPPED},
        send,
        set::*,
    },
    stop,
    table::{Node, TABLE, Table},
    thread::{Thread, attention},
};
use crate::{fs::FdTable, ipc::semaphore::undo, mm::shortage, rt, tty};

/// Ends every thread of the process with `status`; the first such status wins.
pub(super) fn exit_group(process: &Process, status: WaitStatus) {
    send::end_all(&mut process.shared.lock(), status);
}

/// As [`exit_group`], for a process that may be stopped and is not the caller's.
pub(super) fn kill_now(process: &Arc<Process>, status: WaitStatus) {
    stop::resume(process, stop::Report::Nobody);
    exit_group(process, status);
    ptrace::forbid_stops(process);
}

/// Ends the calling thread alone, with the code of `exit(2)`.
pub(crate) fn exit_thread(thread: &Thread, code: i32) {
    if thread.tid() == thread.process().pid() {
        thread
            .process()
            .leader_status
            .store(WaitStatus::exited(code).0, Ordering::Relaxed);
    }
    thread.kick(attention::EXIT);
}

/// Ends the calling thread alone, as by a signal.
pub(super) fn kill_thread(thread: &Thread, signo: Signo) {
    if thread.tid() == thread.process().pid() {
        thread
            .process()
            .leader_status
            .store(WaitStatus::killed(signo).0, Ordering::Relaxed);
    }
    thread.kick(attention::EXIT);
}

/// `exit_group(2)`.
pub(crate) fn exit_process(thread: &Thread, code: i32) {
    exit_group(thread.process(), WaitStatus::exited(code));
    thread.kick(attention::EXIT);
}

/// The last act of a thread's future.
pub(super) async fn end(thread: &Arc<Thread>) {
    let process = thread.process();
    thread.exiting.store(true, Ordering::Relaxed);
    robust::release(thread).await;
    futex::pi::end(thread).await;
    let clear = thread.clear_child_tid.load(Ordering::Relaxed);
    if clear != 0 {
        let mm = thread.mm();
        if mm.write_bytes(clear, &0u32.to_ne_bytes()).await.is_ok() {
            futex::wake_address(&mm, clear);
        }
    }
    undo::end(thread);
    leave(thread);
    drop(thread.set_files(Arc::new(FdTable::new())));
    drop(thread.leave_namespaces());
    if process.thread_count() == 0 && !process.ended.swap(true, Ordering::AcqRel) {
        let mm = process.mm();
        process.max_rss.fetch_max(mm.resident_pages() * 4, Ordering::Relaxed);
        process.cancel_timers();
        mm.leave_in_turns().await;
        drop(mm);
        rt::give_way().await;
        end_process(process);
    }
}

/// Takes the thread out of its process and of the table.
fn leave(thread: &Arc<Thread>) {
    let process = thread.process();
    let (user, system) = thread.times();
    let mut table = TABLE.lock();
    let mut shared = process.shared.lock();
    process.dead_user_ns.fetch_add(user, Ordering::Relaxed);
    process.dead_system_ns.fetch_add(system, Ordering::Relaxed);
    // The caller has it as well: nothing is freed under the lock.
    shared.threads.remove(thread);
    send::wake_one(&shared, SignalSet(!0), None);
    if let Some(exec) = shared.exec
        && let Some(waiter) = shared.threads.iter().find(|other| other.tid() == exec)
    {
        waiter.wake();
    }
    let stopped = stop::report_if_complete(&mut table, process, &shared)
        .then_some(shared.stop)
        .flatten();
    drop(shared);
    let tid = thread.tid();
    let removed = table.threads.remove(&tid);
    let mut after = After::default();
    let traced = ptrace::is_used() && link::thread_ended(&mut table, thread, &mut after);
    if ptrace::is_used() {
        link::tracer_ends(&mut table, thread, &mut after);
    }
    if tid != process.pid() && !traced {
        table.release(tid);
    }
    drop(table);
    drop(removed);
    after.send();
    if let Some(signo) = stopped {
        stop::tell_parent(process, CLD_STOPPED, signo);
    }
}

/// Wakes a parent that waits in vfork.
pub(super) fn complete_vfork(process: &Process) {
    let parent = process.vfork.lock().take();
    if let Some(parent) = parent {
        parent.wake();
    }
}

fn end_process(process: &Arc<Process>) {
    let status = process
        .shared
        .lock()
        .group_exit
        .unwrap_or(WaitStatus(process.leader_status.load(Ordering::Relaxed)));
    shortage::nudge();
    complete_vfork(process);
    if process.pid() == 1 {
        shutdown::on_init_exit(status);
    }
    if process.session().id() == process.pid() {
        tty::session_leader_ended(&process.session());
    }
    process.set_subreaper(false);
    let mut after = After::default();
    {
        let mut table = TABLE.lock();
        reparent_children(&mut table, process, &mut after);
        check_own_group(&table, process, &mut after);
        become_zombie(&mut table, process, status, &mut after);
    }
    process.exits.wake_everybody();
    after.send();
}

/// What is to be done once the table's lock is released.
#[derive(Default)]
pub(super) struct After {
    pub signals: Vec<(Arc<Process>, SigInfo)>,
    pub wake: Vec<Arc<Process>>,
    pub reaped: Vec<Node>,
}

impl After {
    pub fn send(self) {
        for (process, info) in self.signals {
            // Standard signals only: sending cannot fail.
            let _ = send::send_to_process(&process, info);
        }
        for process in self.wake {
            stop::wake_waiters(&process);
        }
        drop(self.reaped);
    }
}

fn new_parent(table: &Table, process: &Process) -> Pid {
    let mut at = process.parent();
    // Rarely is there any, and the way up may be long.
    while at > 1 && Process::there_are_subreapers() {
        let Some(node) = table.node(at) else { break };
        if node.process.is_subreaper() {
            return at;
        }
        at = node.parent;
    }
    1
}

fn reparent_children(table: &mut Table, process: &Process, after: &mut After) {
    let heir = new_parent(table, process);
    while let Some(pid) = table.first_child(process.pid()) {
        table.hand_over(pid, heir);
        let Some(child) = table.node_mut(pid) else { break };
        child.exit_signal = SIGCHLD;
        let (group, zombie, child) = (child.group, child.exit.is_some(), child.process.clone());
        let death_signal = child.parent_death_signal.load(Ordering::Relaxed);
        if zombie {
            if let Some(heir) = table.node(heir) {
                after.signals.push((heir.process.clone(), SigInfo::kernel(SIGCHLD)));
                after.wake.push(heir.process.clone());
            }
        } else if death_signal != 0 {
            after
                .signals
                .push((child, SigInfo::from_process(death_signal, 0, process.pid(), 0)));
        }
        if group != process.group() && table.is_orphaned(group, Some(process.pid())) && table.has_stopped_member(group)
        {
            wake_group(table, group, after);
        }
    }
}

fn check_own_group(table: &Table, process: &Process, after: &mut After) {
    let group = process.group();
    let was = table.is_orphaned(group, None);
    if !was && table.is_orphaned(group, Some(process.pid())) && table.has_stopped_member(group) {
        wake_group(table, group, after);
    }
}

fn wake_group(table: &Table, group: Pid, after: &mut After) {
    for member in table.members(group) {
        after.signals.push((member.clone(), SigInfo::kernel(SIGHUP)));
        after.signals.push((member, SigInfo::kernel(SIGCONT)));
    }
}

fn become_zombie(table: &mut Table, process: &Arc<Process>, status: WaitStatus, after: &mut After) {
    table.change(process.pid(), |table| {
        if let Some(node) = table.node_mut(process.pid()) {
            node.exit = Some(status);
            process.exited.store(true, Ordering::SeqCst);
            node.stopped = None;
            node.continued = false;
        }
    });
    announce(table, process, after);
}

/// Tells whoever is to wait for an ended process of its end: its tracer, then its parent. Not while a tracer has threads of it to wait
/// for.
pub(super) fn announce(table: &mut Table, process: &Arc<Process>, after: &mut After) {
    let Some(node) = table.node(process.pid()) else { return };
    let Some(status) = node.exit else { return };
    let (parent, exit_signal) = (node.parent, node.exit_signal);
    if !table.tracees.is_empty() {
        if report::has_ended_threads(table, process) {
            return;
        }
        if let Some(tracer) = report::tracer_of(table, process) {
            let signo = if tracer.pid() == parent { exit_signal } else { SIGCHLD };
            if signo != 0 {
                let info = child_info(process, process.pid(), signo, status);
                after.signals.push((tracer.clone(), info));
            }
            after.wake.push(tracer);
            return;
        }
    }
    let Some(parent) = table.node(parent).map(|node| node.process.clone()) else {
        return;
    };
    let action = parent.action(SIGCHLD);
    let unwanted = exit_signal == SIGCHLD && (action.handler == SIG_IGN || action.flags & SA_NOCLDWAIT != 0);
    if exit_signal != 0 && !(exit_signal == SIGCHLD && action.handler == SIG_IGN) {
        after
            .signals
            .push((parent.clone(), child_info(process, process.pid(), exit_signal, status)));
    }
    if unwanted {
        after.reaped.extend(table.remove(process.pid()));
    }
    after.wake.push(parent);
}

pub(super) fn child_info(process: &Process, tid: Pid, signo: Signo, status: WaitStatus) -> SigInfo {
    let (code, value) = match (status.code(), status.signal()) {
        (Some(code), _) => (CLD_EXITED, code),
        (None, signal) => (CLD_KILLED, signal.unwrap_or(0)),
    };
    let (user, system) = process.times();
    let uid = process.credentials().uid;
    SigInfo::child(code, tid, uid, value, user / 10_000_000, system / 10_000_000).with_signo(signo)
}
