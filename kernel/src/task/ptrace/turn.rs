//! The turns of a traced thread: as those of [`run`](crate::task::run), with stops at calls, single steps and hardware breakpoints.

use alloc::{boxed::Box, sync::Arc};

use hal::{
    arch::{Cpu, UserContext},
    traced::{CallStop, DebugOps, TraceOps},
    traits::{CpuOps, SyscallFrame},
    trap::Trap,
};

use super::{Mode, Stop, Tracee, events, options, stop};
use crate::{
    errno::Errno,
    rt,
    syscall::{
        self,
        table::{self, Call},
    },
    task::{
        fault,
        fp::{AfterCall, Away, OnCpu},
        process::WaitStatus,
        rseq, run,
        seccomp::{self, Verdict},
        signal::{
            SigInfo,
            deliver::{self, Outcome},
            force,
            info::code::{SI_USER, TRAP_BRKPT},
            set::SIGTRAP,
        },
        thread::{Thread, attention},
    },
    trace,
};

/// `PTRACE_EVENTMSG_SYSCALL_ENTRY` and `_EXIT`.
const ENTRY: u64 = 1;
const EXIT: u64 = 2;

/// Turns until the thread is traced no more or has to end.
pub(in crate::task) async fn live(
    thread: &Arc<Thread>,
    context: &mut UserContext,
    on_cpu: &mut OnCpu,
    interrupted: &mut Option<Errno>,
) -> Outcome {
    let mut last = None;
    loop {
        let after = core::mem::replace(&mut on_cpu.after_call, AfterCall::empty());
        on_cpu.after_call = after & AfterCall::FILTERED;
        if after.contains(AfterCall::RESUMED) {
            Box::pin(rseq::resumed(thread, context, on_cpu)).await;
        }
        if after.contains(AfterCall::TRACED) {
            trace::call_ended(context, *interrupted);
        }
        if (thread.attention() != 0 || after.contains(AfterCall::INTERRUPTED))
            && Box::pin(deliver::deliver::<true>(thread, context, on_cpu, interrupted)).await == Outcome::End
        {
            if let Some(tracee) = thread.tracee().or(last) {
                on_cpu.save(context);
                events::ending(thread, &tracee, context).await;
            }
            return Outcome::End;
        }
        let Some(tracee) = thread.tracee() else {
            thread.clear_attention(attention::TRACE);
            // A new tracer, whose bit that may have been, is there before it sets the bit.
            if thread.tracee().is_some() {
                continue;
            }
            return Outcome::Continue;
        };
        // What came before may have waited.
        if on_cpu.after_call.contains(AfterCall::RESUMED) {
            continue;
        }
        turn(thread, &tracee, context, on_cpu, interrupted).await;
        last = Some(tracee);
    }
}

async fn turn(
    thread: &Arc<Thread>,
    tracee: &Tracee,
    context: &mut UserContext,
    on_cpu: &mut OnCpu,
    interrupted: &mut Option<Errno>,
) {
    let Some(trap) = visit(thread, tracee, context, on_cpu, interrupted) else {
        if thread.attention() != 0 {
            on_cpu.after_call |= AfterCall::ATTENTION;
        } else {
            Away::new(thread, context, on_cpu, rt::yield_now()).await;
        }
        return;
    };
    match trap {
        Trap::Syscall => call(thread, tracee, context, on_cpu, interrupted).await,
        Trap::Interrupt(_) => {}
        Trap::Fault => fault::serve(thread, context, on_cpu).await,
    }
}

/// User mode, with what the tracer wants of it.
fn visit(
    thread: &Thread,
    tracee: &Tracee,
    context: &mut UserContext,
    on_cpu: &mut OnCpu,
    interrupted: &mut Option<Errno>,
) -> Option<Trap> {
    let (step, mut debug) = tracee.with(|state| (state.mode.steps, state.extra.debug.clone()));
    if !step && !debug.is_armed() {
        return run::visit_any(thread, context, on_cpu, interrupted, Cpu::enter_user);
    }
    let enter = |context: &mut UserContext| context.enter_user_traced(&mut debug, step);
    let trap = run::visit_any(thread, context, on_cpu, interrupted, enter);
    tracee.with(|state| state.extra.debug = debug);
    trap
}

/// A stop at one end of a call.
async fn stand_at_call(
    thread: &Arc<Thread>,
    tracee: &Tracee,
    context: &mut UserContext,
    on_cpu: &mut OnCpu,
    at: CallStop,
) {
    on_cpu.save(context);
    let good = tracee.with(|state| {
        state.message = if at == CallStop::Exit { EXIT } else { ENTRY };
        state.options & options::TRACESYSGOOD != 0
    });
    let code = if good { SIGTRAP | 0x80 } else { SIGTRAP };
    let stop = Stop {
        code,
        info: Some(stop::notice(thread, SIGTRAP, code)),
        of_group: false,
    };
    let before = context.begin_call_stop(at);
    let signo = stop::stand(thread, tracee, context, stop).await;
    context.end_call_stop(at, before);
    on_cpu.forget();
    // Attempts copy from and to the active address space, and this may be another CPU.
    on_cpu.mm.activate();
    stop::inject(thread, signo);
}

fn mode(tracee: &Tracee) -> Mode {
    tracee.with(|state| {
        if state.tracer.is_some() {
            state.mode
        } else {
            Mode::default()
        }
    })
}

async fn call(
    thread: &Arc<Thread>,
    tracee: &Tracee,
    context: &mut UserContext,
    on_cpu: &mut OnCpu,
    interrupted: &mut Option<Errno>,
) {
    let at_entry = mode(tracee);
    tracee.with(|state| state.extra.call = context.syscall_number() as i32);
    if at_entry.calls || at_entry.emulates {
        stand_at_call(thread, tracee, context, on_cpu, CallStop::Entry).await;
        if thread.must_exit() {
            return;
        }
    }
    if !at_entry.emulates {
        make(thread, tracee, context, on_cpu, interrupted).await;
    }
    if thread.must_exit() {
        return;
    }
    let at_exit = mode(tracee);
    if at_exit.steps && !at_entry.emulates {
        // The instruction of the call has been stepped over.
        let info = match hal::arch::ABI {
            hal::abi::Abi::X86_64 => SigInfo::fault(SIGTRAP, TRAP_BRKPT, instruction(context)),
            hal::abi::Abi::Aarch64 => SigInfo::new(SIGTRAP, SI_USER),
        };
        force(thread, info);
    } else if at_exit.calls {
        let code = *interrupted;
        if let Some(errno) = code {
            context.set_return_value(errno.as_return_value());
        }
        stand_at_call(thread, tracee, context, on_cpu, CallStop::Exit).await;
        if code.is_some() {
            *interrupted = stop::result_after_stop(context);
        }
    }
    tracee.with(|state| state.extra.call = -1);
    if interrupted.is_some() {
        on_cpu.after_call |= AfterCall::INTERRUPTED;
    }
}

fn instruction(context: &UserContext) -> u64 {
    use hal::traits::InterruptFrame;
    context.instruction_pointer()
}

/// What became of the call at which a thread stands.
enum Passed {
    /// It is to be made: its number, and what [`TraceOps::call_made`] needs.
    Make(i32, [u64; 2]),
    /// It is not made.
    Leave,
    /// A signal has interrupted it.
    Interrupted(Errno),
}

/// Has the call pass the filters, whatever the tracer made of it; they are asked anew when the tracer has said what becomes of a call.
async fn pass(thread: &Arc<Thread>, tracee: &Tracee, context: &mut UserContext, on_cpu: &mut OnCpu) -> Passed {
    let mut asked = false;
    loop {
        let number = tracee.with(|state| context.call_to_make(&state.extra));
        let before = context.prepare_call(number);
        let filtered = on_cpu.after_call.contains(AfterCall::FILTERED) && !is_suspended(tracee);
        let verdict = if filtered {
            seccomp::look(thread, context)
        } else {
            Verdict::Make
        };
        let makes = match verdict {
            Verdict::Make => true,
            Verdict::Trace(_) if asked => true,
            Verdict::Leave => false,
            Verdict::Ask(listener) => match seccomp::ask(thread, context, on_cpu, &listener).await {
                Ok(makes) => makes,
                Err(errno) => {
                    context.call_made(before);
                    return Passed::Interrupted(errno);
                }
            },
            Verdict::Trace(message) => {
                context.call_made(before);
                if !stand_at_filter(thread, tracee, context, on_cpu, message).await {
                    seccomp::refuse(context);
                    return Passed::Leave;
                }
                if thread.must_exit() || tracee.with(|state| context.call_to_make(&state.extra)) < 0 {
                    return Passed::Leave;
                }
                asked = true;
                continue;
            }
        };
        // What is no call any more has what it returns already.
        if makes && number != -1 {
            return Passed::Make(number, before);
        }
        context.call_made(before);
        return Passed::Leave;
    }
}

fn is_suspended(tracee: &Tracee) -> bool {
    tracee.with(|state| state.tracer.is_some() && state.options & options::SUSPEND_SECCOMP != 0)
}

/// A stop because a filter wants it; false if the tracer does not.
async fn stand_at_filter(
    thread: &Arc<Thread>,
    tracee: &Tracee,
    context: &mut UserContext,
    on_cpu: &mut OnCpu,
    message: u32,
) -> bool {
    on_cpu.save(context);
    let before = context.begin_call_stop(CallStop::Filter);
    let stood = events::filtered(thread, tracee, context, message).await;
    context.end_call_stop(CallStop::Filter, before);
    on_cpu.forget();
    on_cpu.mm.activate();
    stood
}

/// Makes the call at which the thread stands, if it passes.
async fn make(
    thread: &Arc<Thread>,
    tracee: &Tracee,
    context: &mut UserContext,
    on_cpu: &mut OnCpu,
    interrupted: &mut Option<Errno>,
) {
    let (number, before) = match Box::pin(pass(thread, tracee, context, on_cpu)).await {
        Passed::Make(number, before) => (number, before),
        Passed::Leave => {
            *interrupted = None;
            return;
        }
        Passed::Interrupted(errno) => {
            *interrupted = Some(errno);
            return;
        }
    };
    let call = table::find(u64::from(number.cast_unsigned()));
    if call == Some(Call::exit) {
        let status = WaitStatus::exited(context.syscall_arguments()[0] as i32);
        tracee.with(|state| state.own_exit = Some(status));
    }
    *interrupted = syscall::make(thread, context, on_cpu).await;
    if !matches!(call, Some(Call::execve | Call::execveat | Call::rt_sigreturn)) {
        context.call_made(before);
    }
}
