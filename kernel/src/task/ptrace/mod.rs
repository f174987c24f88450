//! Threads that are traced (`ptrace(2)`).
//!
//! What a traced thread has besides others is one [`Tracee`], made when tracing begins and found by its thread, and by its tracer
//! through the table. An untraced thread pays nothing: [`attention::TRACE`](super::thread::attention::TRACE) leads a thread out of its
//! usual turns into those of [`turn`], which know about stops at calls, steps and hardware breakpoints, and it goes back when
//! tracing ends.
//!
//! A **stop** ([`stop`]) is a wait of the thread's own future. Before it begins the thread copies its registers into the tracee's state;
//! while [`State::stop`] is there they belong to the tracer, which reads and writes them under the state's lock; the thread takes
//! them back when it goes on. Whatever ends the thread ends its stop: SIGKILL, the end of its process, a detachment, the tracer's
//! death.
//!
//! [`link`] begins and ends tracing, [`events`] tells of forks and programs, [`report`] is what wait4 finds.
//!
//! Lock order: the table, a process's `shared`, a tracee's state, a thread's signals.

pub mod events;
pub mod link;
pub(super) mod report;
pub mod stop;
#[cfg(test)]
mod tests;
pub(super) mod turn;

use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicUsize, Ordering};

use hal::{arch::UserContext, traced::Extra};

use super::{
    capabilities::Capability,
    pid::Pid,
    process::{Process, WaitStatus},
    signal::{SigInfo, Signo},
    thread::{Thread, attention},
};
use crate::sync::{Rank, SpinLock};

/// `PTRACE_O_*` (`include/uapi/linux/ptrace.h`).
pub mod options {
    /// Stops for calls are told from SIGTRAP by 0x80.
    pub const TRACESYSGOOD: u32 = 1;
    /// Stop after execve.
    pub const TRACEEXEC: u32 = 1 << super::events::EXEC;
    /// Stop before the end.
    pub const TRACEEXIT: u32 = 1 << super::events::EXIT;
    /// The tracee dies with its tracer.
    pub const EXITKILL: u32 = 1 << 20;
    /// The tracee's calls pass no filter.
    pub const SUSPEND_SECCOMP: u32 = 1 << 21;
    /// All that there are.
    pub const KNOWN: u32 = 0xff | EXITKILL | SUSPEND_SECCOMP;
}

/// How a thread goes on after a stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mode {
    /// It stops before and after calls (`PTRACE_SYSCALL`).
    pub calls: bool,
    /// It stops before calls, which it does not make (`PTRACE_SYSEMU`).
    pub emulates: bool,
    /// It stops after one instruction.
    pub steps: bool,
}

/// What a thread stands at.
#[derive(Clone, Copy, Debug)]
pub struct Stop {
    /// What wait4 reports: a signal, and above it an event.
    pub code: i32,
    /// What `PTRACE_GETSIGINFO` gives; a stop of the whole process has none.
    pub info: Option<SigInfo>,
    /// Whether it is the stop of a whole process, or what a seized thread has in its place.
    pub of_group: bool,
}

/// What the tracer shares with its thread, under a lock.
pub struct State {
    /// The tracer; `None` once tracing has ended.
    pub tracer: Option<Arc<Thread>>,
    /// Whether whoever began the tracing could trace everybody (`CAP_SYS_PTRACE`): then the thread may gain by execve.
    pub strong: bool,
    /// By `PTRACE_SEIZE` rather than `PTRACE_ATTACH`.
    pub seized: bool,
    /// `PTRACE_O_*`.
    pub options: u32,
    /// How it runs.
    pub mode: Mode,
    /// Set while it stands.
    pub stop: Option<Stop>,
    /// Whether wait4 has not reported the stop yet.
    pub unreported: bool,
    /// The registers, while it stands.
    pub context: UserContext,
    /// What else belongs to them; always.
    pub extra: Extra<<UserContext as hal::traced::TraceOps>::Debug>,
    /// For `PTRACE_GETEVENTMSG`.
    pub message: u64,
    /// The signal with which it goes on.
    pub signal: Signo,
    /// The siginfo of the stop that has just ended.
    pub info: Option<SigInfo>,
    /// It is to stop as soon as it can (`PTRACE_INTERRUPT`).
    pub interrupt: bool,
    /// It is to tell that its process has stopped or continued.
    pub notify: bool,
    /// It stands, but hears of [`State::notify`] (`PTRACE_LISTEN`).
    pub listening: bool,
    /// It has been told to end: not even a stop before its end keeps it, if it has begun.
    pub killed: bool,
    /// What it gave `exit(2)`.
    pub own_exit: Option<WaitStatus>,
    /// Set once it has ended.
    pub ended: Option<WaitStatus>,
}

impl State {
    /// Whether the thread with this number is the tracer.
    pub fn is_traced_by(&self, tracer: &Arc<Thread>) -> bool {
        self.tracer.as_ref().is_some_and(|own| Arc::ptr_eq(own, tracer))
    }

    /// Whether requests that need a standing thread can be made.
    pub const fn stands(&self) -> bool {
        self.stop.is_some() && !self.listening
    }
}

impl State {
    /// Ends the stop.
    pub fn go_on(&mut self, mode: Mode, signal: Signo) {
        if let Some(stop) = self.stop.take() {
            self.info = stop.info;
            self.signal = signal;
        }
        self.mode = mode;
        self.unreported = false;
        self.listening = false;
    }
}

/// A thread that is traced.
pub struct Tracee {
    thread: Weak<Thread>,
    process: Arc<Process>,
    pub(super) state: SpinLock<State>,
}

/// How many there are, so that whoever would have to look for them need not.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Whether any thread is traced.
pub(super) fn is_used() -> bool {
    COUNT.load(Ordering::Relaxed) != 0
}

impl Tracee {
    fn new(thread: &Arc<Thread>, tracer: &Arc<Thread>, seized: bool, options: u32) -> Self {
        use hal::traits::InterruptFrame;
        COUNT.fetch_add(1, Ordering::Relaxed);
        Self {
            thread: Arc::downgrade(thread),
            process: thread.process().clone(),
            state: SpinLock::new(
                Rank::Tracee,
                State {
                    tracer: Some(tracer.clone()),
                    strong: tracer.credentials().can(Capability::SysPtrace),
                    seized,
                    options,
                    mode: Mode::default(),
                    stop: None,
                    unreported: false,
                    context: UserContext::new_user(0, 0),
                    extra: Extra::default(),
                    message: 0,
                    signal: 0,
                    info: None,
                    interrupt: false,
                    notify: false,
                    listening: false,
                    killed: false,
                    own_exit: None,
                    ended: None,
                },
            ),
        }
    }

    /// Its process.
    pub fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// The thread; `None` once it has ended.
    pub fn thread(&self) -> Option<Arc<Thread>> {
        self.thread.upgrade()
    }

    /// Whether its tracer could not trace whatever it becomes.
    pub fn is_by_the_weak(&self) -> bool {
        self.with(|state| state.tracer.is_some() && !state.strong)
    }

    /// Lends the state.
    pub fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock())
    }

    /// The process of its tracer.
    pub(super) fn tracer_process(&self) -> Option<Arc<Process>> {
        self.state.lock().tracer.as_ref().map(|tracer| tracer.process().clone())
    }

    /// Has the thread look at its state, which ends its waits as a signal does.
    pub fn kick(&self) {
        if let Some(thread) = self.thread.upgrade() {
            thread.kick(attention::TRACE | attention::SIGNAL);
        }
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        COUNT.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Thread {
    /// What it shares with its tracer.
    pub fn tracee(&self) -> Option<Arc<Tracee>> {
        self.signals.lock().tracee.clone()
    }

    /// Whether it is traced.
    pub fn is_traced(&self) -> bool {
        self.traced.load(Ordering::Relaxed)
    }

    /// Its tracer's number.
    pub fn tracer(&self) -> Option<Pid> {
        let tracee = self.tracee()?;
        let state = tracee.state.lock();
        state.tracer.as_ref().map(|tracer| tracer.tid())
    }

    /// Whether it stands because of its tracer.
    pub fn is_trace_stopped(&self) -> bool {
        self.is_traced()
            && self
                .tracee()
                .is_some_and(|tracee| tracee.with(|state| state.stop.is_some()))
    }
}

/// Goes through the traced threads of a process, which nobody looks for where nobody is traced.
fn for_each(process: &Process, mut act: impl FnMut(&Thread, &Tracee)) {
    if is_used() {
        for thread in &process.shared.lock().threads {
            if let Some(tracee) = thread.tracee() {
                act(thread, &tracee);
            }
        }
    }
}

/// A thread is told to end, whatever it stands at. Its process is locked.
pub(super) fn end(thread: &Thread) {
    if is_used()
        && let Some(tracee) = thread.tracee()
    {
        tracee.state.lock().killed = true;
    }
    thread.kick(attention::EXIT);
}

/// A process is to end for good, and its tracers are not asked.
pub(super) fn forbid_stops(process: &Process) {
    for_each(process, |thread, tracee| {
        let mut state = tracee.state.lock();
        state.options &= !options::TRACEEXIT;
        state.killed = true;
        drop(state);
        thread.wake();
    });
}

/// A process stops, or continues: its seized threads tell.
pub(super) fn group_changed(process: &Process) {
    for_each(process, |thread, tracee| {
        let seized = tracee.with(|state| {
            state.notify |= state.seized;
            state.seized
        });
        if seized {
            thread.kick(attention::TRACE | attention::SIGNAL);
        }
    });
}
