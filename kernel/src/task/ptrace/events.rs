//! What a traced thread tells of itself: forks, programs, its end.

use alloc::sync::Arc;

use hal::arch::UserContext;

use super::{Stop, Tracee, link, options, stop};
use crate::task::{
    clone::{CloneArgs, flags},
    pid::Pid,
    signal::{
        SigInfo,
        info::code::SI_USER,
        send,
        set::{SIGCHLD, SIGTRAP},
    },
    thread::Thread,
};

/// `PTRACE_EVENT_*` (`include/uapi/linux/ptrace.h`).
pub const FORK: i32 = 1;
/// vfork.
pub const VFORK: i32 = 2;
/// clone that is neither.
pub const CLONE: i32 = 3;
/// execve.
pub const EXEC: i32 = 4;
/// A child of vfork has let its parent go.
pub const VFORK_DONE: i32 = 5;
/// The end.
pub const EXIT: i32 = 6;
/// A filter of calls wants the tracer to say what becomes of one.
pub const SECCOMP: i32 = 7;
/// A seized thread's stop that is no signal's.
pub const STOP: i32 = 128;

fn event_stop(thread: &Thread, event: i32) -> Stop {
    let code = SIGTRAP | event << 8;
    Stop {
        code,
        info: Some(stop::notice(thread, SIGTRAP, code)),
        of_group: false,
    }
}

fn is_wanted(tracee: &Tracee, event: i32) -> bool {
    tracee.with(|state| state.tracer.is_some() && state.options & 1 << event != 0)
}

/// Stops for an event if the tracer wants it. The registers have been saved.
async fn tell(thread: &Arc<Thread>, tracee: &Tracee, context: &mut UserContext, event: i32, message: u64) {
    if is_wanted(tracee, event) {
        tracee.with(|state| state.message = message);
        // The signal with which it goes on is for stops of other kinds.
        stop::stand(thread, tracee, context, event_stop(thread, event)).await;
    }
}

/// A filter wants the tracer to say what becomes of a call; false, and nothing is done, if the tracer does not want to. The registers
/// have been saved.
pub(super) async fn filtered(thread: &Arc<Thread>, tracee: &Tracee, context: &mut UserContext, message: u32) -> bool {
    let wanted = is_wanted(tracee, SECCOMP);
    tell(thread, tracee, context, SECCOMP, message.into()).await;
    wanted
}

/// What a traced thread's child has to do with its tracer.
pub struct Fork {
    tracee: Arc<Tracee>,
    event: Option<i32>,
}

impl Fork {
    /// For a thread that makes a child by these arguments.
    pub fn new(tracee: Arc<Tracee>, args: &CloneArgs) -> Self {
        let event = if args.flags & flags::CLONE_VFORK != 0 {
            VFORK
        } else if args.exit_signal == SIGCHLD && args.flags & flags::CLONE_THREAD == 0 {
            FORK
        } else {
            CLONE
        };
        let told = args.flags & flags::CLONE_UNTRACED == 0 && is_wanted(&tracee, event);
        Self {
            tracee,
            event: told.then_some(event),
        }
    }

    /// Before the child runs: it is traced too, if its birth is told or the caller asks for it.
    pub fn link(&self, child: &Arc<Thread>, args: &CloneArgs) {
        if self.event.is_some() || args.flags & flags::CLONE_PTRACE != 0 {
            link::inherit(&self.tracee, child);
        }
    }

    /// The child runs.
    pub async fn born(&self, thread: &Arc<Thread>, context: &mut UserContext, child: Pid) {
        if let Some(event) = self.event {
            tell(thread, &self.tracee, context, event, child as u64).await;
        }
    }

    /// The child has let go of the memory.
    pub async fn vfork_done(&self, thread: &Arc<Thread>, context: &mut UserContext, child: Pid) {
        tell(thread, &self.tracee, context, VFORK_DONE, child as u64).await;
    }
}

/// A traced thread has a new program; `old` is the number that it had.
pub async fn executed(thread: &Arc<Thread>, tracee: &Tracee, context: &mut UserContext, old: Pid) {
    // The addresses were the old program's.
    tracee.with(|state| state.extra.debug = Default::default());
    if is_wanted(tracee, EXEC) {
        return tell(thread, tracee, context, EXEC, old as u64).await;
    }
    if tracee.with(|state| state.tracer.is_some() && !state.seized) {
        let process = thread.process();
        let info = SigInfo::from_process(SIGTRAP, SI_USER, process.pid(), process.credentials().uid);
        // A standard signal cannot fail to be sent.
        let _ = send::send_to_thread(thread, info);
    }
}

/// Before a traced thread's end.
pub(super) async fn ending(thread: &Arc<Thread>, tracee: &Tracee, context: &mut UserContext) {
    if tracee.with(|state| state.options & options::TRACEEXIT == 0 || state.tracer.is_none()) {
        return;
    }
    let status = link::end_status(thread, tracee);
    tracee.with(|state| {
        state.message = status.0 as u64;
        // What has led here does not end the stop; what comes from now on does.
        state.killed = false;
    });
    stop::stand_before_end(thread, tracee, context, event_stop(thread, EXIT)).await;
}
