//! Stops, seen by the thread that stops.

use alloc::sync::Arc;
use core::{future::poll_fn, task::Poll};

use hal::{
    arch::UserContext,
    traced::TraceOps,
    traits::{InterruptFrame, SyscallFrame},
};

use super::{State, Stop, Tracee, events};
use crate::{
    errno::Errno,
    task::{
        fp::OnCpu,
        process::Process,
        signal::{
            SigInfo, Signo,
            action::{SIG_IGN, flags::SA_NOCLDSTOP},
            info::code::*,
            send,
            set::{SIGCHLD, SIGSTOP, SIGTRAP, SignalSet},
        },
        stop,
        thread::{Thread, attention},
    },
};

/// The siginfo that Linux makes for a stop that is no signal's (`ptrace_do_notify`).
pub(super) fn notice(thread: &Thread, signo: Signo, code: i32) -> SigInfo {
    SigInfo::from_process(signo, code, thread.tid(), thread.credentials().uid)
}

/// Stops until the tracer lets the thread go on; the signal with which it does. The saved registers are the tracer's meanwhile. Does not
/// stop where the thread must end or is not traced any more: `None`; and returns at once when that comes to be.
pub(super) async fn stand(
    thread: &Arc<Thread>,
    tracee: &Tracee,
    context: &mut UserContext,
    stop: Stop,
) -> Option<Signo> {
    stand_until(thread, tracee, context, stop, |thread, _| thread.must_exit()).await
}

/// As [`stand`], for a thread that ends already: being told to end once more ends it.
pub(super) async fn stand_before_end(thread: &Arc<Thread>, tracee: &Tracee, context: &mut UserContext, stop: Stop) {
    stand_until(thread, tracee, context, stop, |_, state| state.killed).await;
}

async fn stand_until(
    thread: &Arc<Thread>,
    tracee: &Tracee,
    context: &mut UserContext,
    stop: Stop,
    ends: fn(&Thread, &State) -> bool,
) -> Option<Signo> {
    let tracer = {
        let mut state = tracee.state.lock();
        if ends(thread, &state) {
            return None;
        }
        let tracer = state.tracer.clone()?;
        state.context.clone_from(context);
        // Any stop is the one that was asked for.
        state.interrupt = false;
        state.stop = Some(stop);
        state.unreported = true;
        state.listening = false;
        state.signal = 0;
        tracer
    };
    tell(thread, tracer.process(), stop);
    drop(tracer);
    poll_fn(|cx| {
        thread.store_waker(cx.waker());
        let state = tracee.state.lock();
        let called = state.listening && (state.notify || state.interrupt);
        if state.stop.is_none() || called || ends(thread, &state) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    let mut state = tracee.state.lock();
    context.clone_from(&state.context);
    state.unreported = false;
    state.listening = false;
    match state.stop.take() {
        // It ends, or stops anew.
        Some(_) => Some(0),
        None => Some(core::mem::take(&mut state.signal)),
    }
}

/// SIGCHLD for the tracer, and a wake in wait4.
fn tell(thread: &Thread, tracer: &Arc<Process>, stop: Stop) {
    let action = tracer.action(SIGCHLD);
    if action.handler != SIG_IGN && action.flags & SA_NOCLDSTOP == 0 {
        let (user, system) = thread.times();
        let code = if stop.of_group { CLD_STOPPED } else { CLD_TRAPPED };
        let (status, uid) = (stop.code & 0x7f, thread.credentials().uid);
        let info = SigInfo::child(code, thread.tid(), uid, status, user / 10_000_000, system / 10_000_000);
        // A standard signal cannot fail to be sent.
        let _ = send::send_to_process(tracer, info);
    }
    stop::wake_waiters(tracer);
}

/// The registers as a stop for a signal shows them, and back; what was interrupted may have been given up by the tracer.
async fn stand_at_signal(
    thread: &Arc<Thread>,
    tracee: &Tracee,
    context: &mut UserContext,
    on_cpu: &mut OnCpu,
    interrupted: &mut Option<Errno>,
    stop: Stop,
) -> Option<Signo> {
    on_cpu.save(context);
    let code = interrupted.map(Errno::as_return_value);
    if let Some(code) = code {
        context.show_interrupted(code);
    }
    let pc = context.instruction_pointer();
    let signo = stand(thread, tracee, context, stop).await;
    on_cpu.forget();
    if let Some(code) = code {
        *interrupted = context.still_interrupted(code, pc).and_then(restart_code);
    }
    signo
}

/// The restart code that a negative number is.
pub(super) fn restart_code(value: i64) -> Option<Errno> {
    [
        Errno::ERESTARTSYS,
        Errno::ERESTARTNOINTR,
        Errno::ERESTARTNOHAND,
        Errno::ERESTART_RESTARTBLOCK,
    ]
    .into_iter()
    .find(|errno| errno.as_return_value() == value)
}

/// What a traced thread has to stop for, other than signals and calls.
pub(super) struct News {
    pub stop: Stop,
    /// Its process stops, and has not heard yet that the thread does.
    pub arrives: bool,
}

/// Takes the news there are. Those of a continuation come after it, so what is taken is as new as the state of the process that is seen
/// with it: a tracer that is told of a stop which is over, and listens, hears of that.
pub(super) fn news(thread: &Thread, tracee: &Tracee) -> Option<News> {
    let (signo, seized, arrives) = {
        let shared = thread.process().shared.lock();
        let stopping = thread.attention() & attention::STOP != 0 && shared.stop.is_some();
        thread.clear_attention(attention::STOP);
        let mut state = tracee.state.lock();
        let interrupt = core::mem::take(&mut state.interrupt);
        let notify = core::mem::take(&mut state.notify);
        if !(interrupt || notify || stopping) {
            return None;
        }
        // Who was attached to while it was stopped has told already.
        (shared.stop, state.seized, stopping && !interrupt)
    };
    let stop = if seized {
        let signo = signo.unwrap_or(SIGTRAP);
        let code = signo | events::STOP << 8;
        Stop {
            code,
            info: Some(notice(thread, signo, code)),
            of_group: true,
        }
    } else {
        Stop {
            code: signo.unwrap_or(SIGSTOP),
            info: None,
            of_group: true,
        }
    };
    Some(News { stop, arrives })
}

/// Acts on what asks for a traced thread's attention: the stop of its process, an interruption, news for a seized one.
pub(in crate::task) async fn attend(
    thread: &Arc<Thread>,
    context: &mut UserContext,
    on_cpu: &mut OnCpu,
    interrupted: &mut Option<Errno>,
) {
    thread.clear_attention(attention::TRACE);
    let Some(tracee) = thread.tracee() else { return };
    let Some(News { stop, arrives }) = news(thread, &tracee) else {
        return;
    };
    if arrives {
        stop::arrive_traced(thread, tracee.tracer_process().as_deref());
    }
    stand_at_signal(thread, &tracee, context, on_cpu, interrupted, stop).await;
}

/// Stops at a signal that is about to be delivered; what the tracer makes of it, or `None`.
pub(in crate::task) async fn at_signal(
    thread: &Arc<Thread>,
    context: &mut UserContext,
    on_cpu: &mut OnCpu,
    interrupted: &mut Option<Errno>,
    info: SigInfo,
) -> Option<SigInfo> {
    let Some(tracee) = thread.tracee() else {
        return Some(info);
    };
    let stop = Stop {
        code: info.signo(),
        info: Some(info),
        of_group: false,
    };
    let tracer = tracee.state.lock().tracer.clone();
    let signo = stand_at_signal(thread, &tracee, context, on_cpu, interrupted, stop).await;
    let signo = match signo {
        None => return Some(info),
        Some(0) => return None,
        Some(signo) => signo,
    };
    let info = tracee.state.lock().info.take().unwrap_or(info);
    let info = if info.signo() == signo {
        info
    } else {
        let process = tracer.as_ref().map(|tracer| tracer.process());
        let (pid, uid) = process.map_or((0, 0), |process| (process.pid(), process.credentials().uid));
        SigInfo::from_process(signo, SI_USER, pid, uid)
    };
    let mut signals = thread.signals.lock();
    if signals.mask.contains(signo) && !SignalSet::UNBLOCKABLE.contains(signo) {
        // It waits until it is unblocked, as any.
        let _ = signals.pending.push(info, u64::MAX);
        return None;
    }
    Some(info)
}

/// Stops at the first instruction of a handler, where the thread goes step by step.
pub(in crate::task) async fn at_handler(thread: &Arc<Thread>, context: &mut UserContext) {
    if let Some(tracee) = thread.tracee()
        && tracee.with(|state| state.mode.steps)
    {
        let stop = Stop {
            code: SIGTRAP,
            info: Some(notice(thread, SIGTRAP, SIGTRAP)),
            of_group: false,
        };
        let signo = stand(thread, &tracee, context, stop).await;
        inject(thread, signo);
    }
}

/// Sends a thread the signal with which it goes on from a stop that was none for a signal.
pub(super) fn inject(thread: &Arc<Thread>, signo: Option<Signo>) {
    if let Some(signo) = signo
        && signo != 0
    {
        let process = thread.process();
        let info = SigInfo::from_process(signo, SI_USER, process.pid(), process.credentials().uid);
        // Only a realtime signal beyond the limit is lost, as on Linux.
        let _ = send::send_to_thread(thread, info);
    }
}

/// The value that a call has returned, as it stands after a stop at its end; whether it is still to be made again.
pub(super) fn result_after_stop(context: &UserContext) -> Option<Errno> {
    restart_code(context.return_value())
}
