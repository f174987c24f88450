//! Delivery: what happens between a trap and the next entry to user mode.
//!
//! A call that a signal interrupted has left one of the restart codes. Which of `EINTR` and a repeat it becomes depends on
//! whether a handler runs: the first handler settles it, up to the very return to user mode; if none runs, the call is
//! repeated there ([`repeat`]). A call that goes on from a fixed deadline has left it in the thread
//! ([`Restart`](crate::task::Restart)); what is repeated is then `restart_syscall`, which finds it there, unless a handler
//! that comes before it has run: its `rt_sigreturn` leaves nothing to restart, and the program gets `EINTR`.

use alloc::{boxed::Box, sync::Arc};

use hal::{
    abi::Abi,
    arch::{ABI, UserContext},
    signal::{AltStack, Delivery, FrameError, Restored, SignalFrames},
    traits::{InterruptFrame, SyscallFrame},
};

use super::{
    action::{DefaultAction, SIG_DFL, SIG_IGN, SigAction, flags::*},
    force,
    info::{
        SigInfo,
        code::{SEGV_ACCERR, SEGV_MAPERR},
    },
    set::*,
};
use crate::{
    errno::Errno,
    mm::user::{self, UserFault},
    syscall::table::RESTART_SYSCALL,
    task::{
        exec::vdso,
        exit,
        fp::{AfterCall, OnCpu},
        interruptible::Restart,
        process::WaitStatus,
        ptrace, rseq, seccomp, stop, table,
        thread::{Thread, attention, comm_text},
    },
};

/// Whether the thread goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::task) enum Outcome {
    /// Back to user mode.
    Continue,
    /// The thread has to end.
    End,
    /// It is traced: it goes on with the turns of [`ptrace`].
    Traced,
}

/// `SS_ONSTACK`.
pub const SS_ONSTACK: i32 = 1;
/// `SS_DISABLE`.
pub const SS_DISABLE: i32 = 2;
/// `SS_AUTODISARM`: there is no alternate stack while a handler runs on it, so that the handler may leave it by `swapcontext`.
pub const SS_AUTODISARM: i32 = i32::MIN;

/// Acts on everything that asks for the thread's attention. `interrupted` is the restart code of a call not settled yet; a
/// handler takes it. `TRACED` threads stop for their tracers: boxed, because a future has room for what it never does.
pub(in crate::task) async fn deliver<const TRACED: bool>(
    thread: &Arc<Thread>,
    context: &mut UserContext,
    on_cpu: &mut OnCpu,
    interrupted: &mut Option<Errno>,
) -> Outcome {
    loop {
        let bits = thread.attention();
        if bits & attention::EXIT != 0 {
            // Its tracer may want to be told of the end.
            return if !TRACED && thread.is_traced() {
                Outcome::Traced
            } else {
                Outcome::End
            };
        }
        if bits & attention::FILTER != 0 {
            thread.clear_attention(attention::FILTER);
            on_cpu.after_call |= AfterCall::FILTERED;
        }
        if bits & attention::ASK != 0 {
            thread.clear_attention(attention::ASK);
            *interrupted = Box::pin(seccomp::call_after_asking(thread, context, on_cpu)).await;
            continue;
        }
        if bits & (attention::STOP | attention::TRACE) != 0 {
            if !TRACED && bits & attention::TRACE != 0 {
                return Outcome::Traced;
            }
            if TRACED && thread.is_traced() {
                Box::pin(ptrace::stop::attend(thread, context, on_cpu, interrupted)).await;
            } else if bits & attention::TRACE != 0 {
                // Not traced any more.
                return Outcome::Continue;
            } else {
                on_cpu.save(context);
                stop::park(thread).await;
            }
            continue;
        }
        thread.clear_attention(attention::SIGNAL);
        // Under the lock under which a tracer comes, so that the signal with which one attaches is seen by a thread that knows.
        let mut has_tracer = false;
        let wanted = |mask| {
            has_tracer = !TRACED && thread.is_traced();
            if has_tracer {
                SignalSet::default()
            } else {
                SignalSet(!0).without(mask)
            }
        };
        let Some((info, more)) = thread.take_signal(wanted) else {
            if has_tracer {
                thread.kick(attention::SIGNAL);
                return Outcome::Traced;
            }
            break;
        };
        let info = if TRACED {
            match Box::pin(ptrace::stop::at_signal(thread, context, on_cpu, interrupted, info)).await {
                Some(info) => info,
                None => continue,
            }
        } else {
            info
        };
        let signo = info.signo();
        let action = take_action(thread, signo);
        match action.handler {
            SIG_IGN => continue,
            SIG_DFL => match default_action(thread, context, &info) {
                Outcome::Continue => continue,
                outcome => return outcome,
            },
            _ => {}
        }
        if let Some(errno) = interrupted.take() {
            settle(thread, context, errno, &action);
        }
        let left = rseq::interrupted(thread, context, on_cpu).await;
        on_cpu.save(context);
        on_cpu.forget();
        let runs = run_handler(thread, context, &action, &info).await;
        // As on Linux a handler's frame is made although the sequence was wrong; the signal that says so comes before it runs.
        if left.is_err() || runs.is_err() {
            if signo == SIGSEGV {
                reset(thread, SIGSEGV);
            }
            force(thread, SigInfo::kernel(SIGSEGV));
        } else if TRACED {
            Box::pin(ptrace::stop::at_handler(thread, context)).await;
        } else if !more && thread.attention() == 0 {
            // Nor has the handler's mask, which took in the one to be restored, let any in.
            return Outcome::Continue;
        }
    }
    thread.restore_mask();
    Outcome::Continue
}

/// Has the context make the interrupted call again, or go on with it.
pub(in crate::task) fn repeat(context: &mut UserContext, errno: Errno) {
    if errno == Errno::ERESTART_RESTARTBLOCK {
        context.rewind_syscall_to(RESTART_SYSCALL);
    } else {
        context.rewind_syscall();
    }
}

/// The action for a signal that is being delivered; `SA_RESETHAND` takes effect.
fn take_action(thread: &Thread, signo: Signo) -> SigAction {
    thread.process().with_actions(|actions| {
        let action = *actions.get(signo);
        if action.handler > SIG_IGN && action.flags & SA_RESETHAND != 0 {
            actions.get_mut(signo).handler = SIG_DFL;
        }
        action
    })
}

fn reset(thread: &Thread, signo: Signo) {
    thread
        .process()
        .with_actions(|actions| *actions.get_mut(signo) = SigAction::default());
}

fn default_action(thread: &Arc<Thread>, context: &UserContext, info: &SigInfo) -> Outcome {
    let (process, signo) = (thread.process(), info.signo());
    let action = DefaultAction::of(signo);
    if matches!(action, DefaultAction::Ignore | DefaultAction::Continue) {
        return Outcome::Continue;
    }
    let killable = process.killable.load(core::sync::atomic::Ordering::Relaxed);
    if process.pid() == 1 && !(killable && SignalSet::SYNCHRONOUS.contains(signo)) {
        return Outcome::Continue;
    }
    match action {
        DefaultAction::Stop => {
            if signo == SIGSTOP || !table::is_orphaned_group(process.group()) {
                stop::begin(process, signo);
            }
            return Outcome::Continue;
        }
        DefaultAction::Core => {
            log::info!(
                "{}[{}]: killed by {} (code {}) at pc {:#x}, sp {:#x}, address {:#x}",
                comm_text(&thread.comm()),
                thread.tid(),
                name(signo),
                info.code(),
                context.instruction_pointer(),
                context.stack_pointer(),
                info.address(),
            );
        }
        _ => {}
    }
    exit::exit_group(process, WaitStatus::killed(signo));
    Outcome::End
}

/// What an interrupted call returns now that a handler runs.
fn settle(thread: &Thread, context: &mut UserContext, errno: Errno, action: &SigAction) {
    let again = match errno {
        Errno::ERESTARTNOINTR => true,
        Errno::ERESTARTSYS => action.flags & SA_RESTART != 0,
        _ => false,
    };
    if again {
        context.rewind_syscall();
    } else {
        thread.set_restart(Restart::None);
        context.set_return_value(Errno::EINTR.as_return_value());
    }
}

/// Whether the alternate stack is in use where the stack pointer is `sp`. One with [`SS_AUTODISARM`] is none while it is in use.
pub fn on_alt_stack(stack: &AltStack, sp: u64) -> bool {
    stack.flags & SS_AUTODISARM == 0 && lies_on(stack, sp)
}

fn lies_on(stack: &AltStack, sp: u64) -> bool {
    stack.size != 0 && sp > stack.sp && sp - stack.sp <= stack.size
}

/// What becomes of an alternate stack that a program describes so; with [`SS_DISABLE`] one without bytes.
///
/// # Errors
/// `EINVAL` for unknown flags, `ENOMEM` if it is too small.
pub fn asked_alt_stack(stack: AltStack) -> Result<AltStack, Errno> {
    const MINSIGSTKSZ: u64 = 2048;
    match stack.flags & !SS_AUTODISARM {
        SS_DISABLE => Ok(AltStack {
            flags: stack.flags,
            ..AltStack::default()
        }),
        0 | SS_ONSTACK if stack.size < MINSIGSTKSZ => Err(Errno::ENOMEM),
        0 | SS_ONSTACK => Ok(stack),
        _ => Err(Errno::EINVAL),
    }
}

/// Builds the frame on the user's stack and points the context at the handler.
async fn run_handler(
    thread: &Arc<Thread>,
    context: &mut UserContext,
    action: &SigAction,
    info: &SigInfo,
) -> Result<(), Errno> {
    let signo = info.signo();
    let (saved_mask, stack) = {
        let mut signals = thread.signals.lock();
        (signals.saved_mask.take().unwrap_or(signals.mask), signals.alt_stack)
    };
    let sp = context.stack_pointer();
    let already = on_alt_stack(&stack, sp);
    let switch = action.flags & SA_ONSTACK != 0 && !already && stack.size != 0;
    // As it was set, not as it is in use: the frame's is what sigreturn sets again.
    let flags = if stack.size == 0 { SS_DISABLE } else { stack.flags };
    let restorer = if action.flags & SA_RESTORER != 0 || UserContext::SIGNAL_RETURN.is_none() {
        action.restorer
    } else {
        vdso::signal_return(thread.process())
    };
    let fault = SignalSet::SYNCHRONOUS.contains(signo) && info.code() > 0;
    let delivery = Delivery {
        signo,
        handler: action.handler,
        restorer,
        stack_top: if switch { stack.sp + stack.size } else { sp },
        on_alt_stack: switch,
        saved_mask: saved_mask.0,
        alt_stack: AltStack { flags, ..stack },
        info: info.to_bytes(),
        fault_address: if fault { info.address() } else { 0 },
    };
    let address = context.frame_address(&delivery);
    if (switch || already) && !lies_on(&stack, address) {
        return Err(Errno::EFAULT);
    }
    let mm = thread.mm();
    loop {
        mm.activate();
        match context.write_frame(&delivery, user::copy_out) {
            Ok(()) => break,
            Err(fault) => mm.resolve(fault).await?,
        }
    }
    context.enter_handler(&delivery, address);
    if stack.flags & SS_AUTODISARM != 0 {
        thread.set_alt_stack(AltStack::default());
    }
    thread.change_signal_mask(|mask| {
        let mut blocked = mask.union(action.mask);
        if action.flags & SA_NODEFER == 0 {
            blocked.insert(signo);
        }
        blocked
    });
    Ok(())
}

/// `rt_sigreturn(2)`. What is not a frame raises SIGSEGV.
pub(crate) async fn sigreturn(thread: &Arc<Thread>, context: &mut UserContext) {
    let mm = thread.mm();
    loop {
        mm.activate();
        match sigreturn_at_once(thread, context) {
            Ok(()) => return,
            Err(fault) if mm.resolve(fault).await.is_ok() => {}
            Err(_) => return force(thread, no_frame(thread, context)),
        }
    }
}

/// What is raised where the stack has no frame to go back by: aarch64 says where it was looked for (`arm64_notify_segfault`).
fn no_frame(thread: &Thread, context: &UserContext) -> SigInfo {
    match ABI {
        Abi::X86_64 => SigInfo::kernel(SIGSEGV),
        Abi::Aarch64 => {
            let stack = context.stack_pointer();
            let code = if thread.mm().goes_beyond(stack) {
                SEGV_ACCERR
            } else {
                SEGV_MAPERR
            };
            SigInfo::fault(SIGSEGV, code, stack)
        }
    }
}

/// As [`sigreturn`], at once.
///
/// # Errors
/// A page of the frame that is not there; nothing has been done.
pub(crate) fn sigreturn_at_once(thread: &Arc<Thread>, context: &mut UserContext) -> Result<(), UserFault> {
    match context.restore_frame(|from, to| user::copy_in(to, from)) {
        Ok(restored) => restore(thread, context, &restored),
        Err(FrameError::Malformed) => force(thread, no_frame(thread, context)),
        Err(FrameError::Unread(fault)) => return Err(fault),
    }
    Ok(())
}

fn restore(thread: &Arc<Thread>, context: &UserContext, restored: &Restored) {
    thread.change_signals(|signals| {
        signals.restart = Restart::None;
        // What cannot be set leaves it as it is.
        if !on_alt_stack(&signals.alt_stack, context.stack_pointer())
            && let Ok(stack) = asked_alt_stack(restored.alt_stack)
        {
            signals.alt_stack = stack;
        }
        SignalSet(restored.mask)
    });
}

#[cfg(test)]
mod tests {
    use core::{
        future::Future,
        pin::pin,
        task::{Context, Poll},
    };
    use std::task::Waker;

    use super::*;
    use crate::{
        mm::{Map, Prot},
        syscall,
        task::{
            signal::{SigInfo, send},
            testing,
        },
    };

    const HANDLER: u64 = 0x4000;
    const CALL: u64 = 0x1000;

    fn now<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("it waits"),
        }
    }

    /// A thread with a stack and a handler for SIGUSR1, at a sleep that something without a handler has interrupted.
    fn interrupted_sleeper(cpu: u32, pid: i32) -> (Arc<Thread>, UserContext, OnCpu) {
        hal::host::machine().attach(cpu);
        let thread = testing::thread(pid);
        let stack = now(thread.mm().mmap(Map::anonymous(0x10000, Prot::READ | Prot::WRITE))).unwrap();
        let mut context = UserContext::new_user(CALL, stack + 0x10000);
        context.registers.number = 35;
        let action = SigAction {
            handler: HANDLER,
            flags: SA_RESTART | SA_RESTORER,
            ..SigAction::default()
        };
        thread
            .process()
            .with_actions(|actions| *actions.get_mut(SIGUSR1) = action);
        thread.set_restart(Restart::Sleep {
            deadline: u64::MAX,
            remaining: 0,
        });
        let on_cpu = OnCpu::new(&thread);
        (thread, context, on_cpu)
    }

    fn deliver_now(
        thread: &Arc<Thread>,
        context: &mut UserContext,
        on_cpu: &mut OnCpu,
        interrupted: &mut Option<Errno>,
    ) {
        assert_eq!(
            now(deliver::<false>(thread, context, on_cpu, interrupted)),
            Outcome::Continue
        );
    }

    #[test]
    fn a_handler_before_user_mode_settles_the_call() {
        let (thread, mut context, mut on_cpu) = interrupted_sleeper(18, 9004);
        let mut interrupted = Some(Errno::ERESTART_RESTARTBLOCK);
        deliver_now(&thread, &mut context, &mut on_cpu, &mut interrupted);
        // Nothing ran; the way to user mode is about to open when a signal with a handler comes.
        send::send_to_thread(&thread, SigInfo::kernel(SIGUSR1)).unwrap();
        deliver_now(&thread, &mut context, &mut on_cpu, &mut interrupted);
        assert_eq!((context.instruction_pointer(), interrupted), (HANDLER, None));
        now(sigreturn(&thread, &mut context));
        assert_eq!(context.instruction_pointer(), CALL);
        assert_eq!(context.return_value(), Errno::EINTR.as_return_value());
        assert_eq!(context.registers.again, 0, "the sleep would start anew");
    }

    #[test]
    fn a_handler_before_the_repeated_call_leaves_nothing_to_restart() {
        let (thread, mut context, mut on_cpu) = interrupted_sleeper(19, 9005);
        repeat(&mut context, Errno::ERESTART_RESTARTBLOCK);
        assert_eq!(context.registers.number, RESTART_SYSCALL);
        // In user mode, at the instruction of the call: the signal's interrupt comes first.
        send::send_to_thread(&thread, SigInfo::kernel(SIGUSR1)).unwrap();
        deliver_now(&thread, &mut context, &mut on_cpu, &mut None);
        assert_eq!(context.instruction_pointer(), HANDLER);
        now(sigreturn(&thread, &mut context));
        assert_eq!(
            (context.registers.again, context.registers.number),
            (1, RESTART_SYSCALL)
        );
        assert_eq!(now(syscall::restart_syscall(&thread)), Err(Errno::EINTR));
    }

    #[test]
    fn without_a_handler_the_call_goes_on() {
        let (thread, mut context, mut on_cpu) = interrupted_sleeper(20, 9006);
        let mut interrupted = Some(Errno::ERESTART_RESTARTBLOCK);
        deliver_now(&thread, &mut context, &mut on_cpu, &mut interrupted);
        assert_eq!(interrupted, Some(Errno::ERESTART_RESTARTBLOCK));
        let deadline = Restart::Sleep {
            deadline: u64::MAX,
            remaining: 0,
        };
        assert_eq!(thread.take_restart(), deadline);
        let mut other = context.clone();
        repeat(&mut other, Errno::ERESTARTSYS);
        assert_eq!(
            (other.registers.again, other.registers.number),
            (1, 35),
            "by its own number and arguments"
        );
    }
}
