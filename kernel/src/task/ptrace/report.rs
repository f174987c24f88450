//! What wait4 finds where threads are traced: Linux's `wait_consider_task`.
//!
//! A traced thread is its tracer's to wait for, of whatever kind it is: its stops, and its end, which its parent sees only after the
//! tracer has. The parent still hears of stops of the whole process, unless it is the tracer.

use alloc::sync::Arc;

use super::{Tracee, link};
use crate::{
    errno::{Errno, Result},
    task::{
        exit::After,
        pid::Pid,
        process::{Process, WaitStatus},
        signal::info::code::{CLD_EXITED, CLD_KILLED, CLD_TRAPPED},
        table::Table,
        thread::Thread,
        wait::{self, Found, Report, Usage, Which, options::*},
    },
};

/// The process that traces the first thread of a process.
pub(in crate::task) fn tracer_of(table: &Table, process: &Process) -> Option<Arc<Process>> {
    table.tracees.get(&process.pid())?.tracer_process()
}

/// Whether a tracer has threads of the process, other than the first, to wait for the ends of.
pub(in crate::task) fn has_ended_threads(table: &Table, process: &Process) -> bool {
    let mut tracees = table.tracees.iter();
    tracees.any(|(tid, tracee)| {
        *tid != process.pid()
            && core::ptr::eq(&**tracee.process(), process)
            && tracee.with(|state| state.ended.is_some())
    })
}

fn is_meant(tid: Pid, process: &Process, which: Which<'_>) -> bool {
    match which {
        Which::Any => true,
        Which::Process(pid) => tid == pid,
        Which::Group(group) => process.group() == group,
        Which::This(this) => tid == process.pid() && core::ptr::eq(process, this),
    }
}

fn ended(tid: Pid, process: &Process, status: WaitStatus) -> Report {
    let (code, value) = match (status.code(), status.signal()) {
        (Some(code), _) => (CLD_EXITED, code),
        (None, signal) => (CLD_KILLED, signal.unwrap_or(0)),
    };
    let usage = if tid == process.pid() {
        wait::usage(process)
    } else {
        Usage::default()
    };
    Report {
        pid: tid,
        uid: process.credentials().uid,
        code,
        value,
        status: status.0,
        usage,
    }
}

/// What a traced thread has to tell its tracer.
fn change(table: &Table, tid: Pid, tracee: &Tracee, options: u32) -> Option<Report> {
    let process = tracee.process();
    let (end, stop) = tracee.with(|state| {
        let stop = state.stop.filter(|_| state.unreported && !state.listening);
        (state.ended, stop)
    });
    if let Some(status) = end {
        if options & WEXITED == 0 {
            return None;
        }
        if tid != process.pid() {
            return Some(ended(tid, process, status));
        }
        let status = table.node(tid).and_then(|node| node.exit)?;
        return (!has_ended_threads(table, process)).then(|| ended(tid, process, status));
    }
    let stop = stop?;
    Some(Report {
        pid: tid,
        uid: process.credentials().uid,
        code: CLD_TRAPPED,
        value: stop.code,
        status: stop.code << 8 | 0x7f,
        usage: wait::usage(process),
    })
}

/// As `wait`'s look where nobody is traced.
pub(in crate::task) fn look(
    table: &mut Table,
    thread: &Thread,
    which: Which<'_>,
    options: u32,
    after: &mut After,
) -> Result<Found> {
    let process = thread.process();
    let own = table.node(process.pid()).ok_or(Errno::ECHILD)?;
    let mut eligible = false;
    let mut found = None;
    for (_, child) in table.children(own) {
        if !wait::matches(child, which, options) {
            continue;
        }
        eligible = true;
        let tracer = tracer_of(table, &child.process);
        if tracer.as_ref().is_some_and(|tracer| Arc::ptr_eq(tracer, process)) {
            continue;
        }
        let hidden = child.exit.is_some() && (tracer.is_some() || has_ended_threads(table, &child.process));
        if !hidden && let Some(report) = wait::change(child, options) {
            found = Some(report);
            break;
        }
    }
    if let Some(report) = found {
        let reaped = if options & WNOWAIT == 0 {
            wait::consume(table, process, &report)
        } else {
            None
        };
        return Ok((Some(report), reaped));
    }
    for (&tid, tracee) in &table.tracees {
        let of_caller = tracee.with(|state| {
            state.tracer.as_ref().is_some_and(|tracer| {
                if options & WNOTHREAD != 0 {
                    core::ptr::eq(&**tracer, thread)
                } else {
                    Arc::ptr_eq(tracer.process(), process)
                }
            })
        });
        if !of_caller || !is_meant(tid, tracee.process(), which) {
            continue;
        }
        eligible = true;
        if let Some(report) = change(table, tid, tracee, options) {
            found = Some(report);
            break;
        }
        // The first thread stands for its process: a continuation is its tracer's as well as its parent's.
        if options & WCONTINUED != 0
            && let Some(node) = table.node(tid)
            && node.continued
            && let Some(report) = wait::change(node, WCONTINUED)
        {
            found = Some(report);
            break;
        }
    }
    match found {
        Some(report) if options & WNOWAIT == 0 => {
            let reaped = consume(table, process, &report, after);
            Ok((Some(report), reaped))
        }
        Some(report) => Ok((Some(report), None)),
        None if eligible => Ok((None, None)),
        None => Err(Errno::ECHILD),
    }
}

fn consume(
    table: &mut Table,
    caller: &Arc<Process>,
    report: &Report,
    after: &mut After,
) -> Option<crate::task::table::Node> {
    let tid = report.pid;
    if report.code != CLD_EXITED && report.code != CLD_KILLED {
        match (report.code, table.tracees.get(&tid)) {
            (CLD_TRAPPED, Some(tracee)) => tracee.with(|state| state.unreported = false),
            _ => return wait::consume(table, caller, report),
        }
        return None;
    }
    let tracee = table.tracees.remove(&tid)?;
    let process = tracee.process().clone();
    tracee.with(|state| state.tracer = None);
    let own_child = table.node(tid).is_some_and(|node| node.parent == caller.pid());
    if tid == process.pid() && own_child {
        return wait::consume(table, caller, report);
    }
    link::over(table, &process, tid, after);
    None
}
