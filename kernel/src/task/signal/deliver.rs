//! Delivery: what happens between a trap and the next entry to user mode.
//!
//! A call that a signal interrupted has left one of the restart codes. Which of `EINTR` and a repeat it becomes depends on
//! whether a handler runs: the first handler settles it; if none runs, the call is repeated. A call that goes on from a
//! fixed deadline has left it in the thread ([`Restart`](crate::task::Restart)) and finds it there when it is repeated.

use alloc::sync::Arc;

use hal::{
    arch::UserContext,
    signal::{AltStack, Delivery, SignalFrames},
    traits::{InterruptFrame, SyscallFrame},
};

use super::{
    action::{DefaultAction, SIG_DFL, SIG_IGN, SigAction, flags::*},
    force,
    info::SigInfo,
    set::*,
};
use crate::{
    errno::Errno,
    task::{
        exec::vdso,
        exit,
        fp::OnCpu,
        process::WaitStatus,
        stop, table,
        thread::{Restart, Thread, attention},
    },
};

/// Whether the thread goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::task) enum Outcome {
    /// Back to user mode.
    Continue,
    /// The thread has to end.
    End,
}

/// `SS_ONSTACK`.
pub const SS_ONSTACK: i32 = 1;
/// `SS_DISABLE`.
pub const SS_DISABLE: i32 = 2;

/// Acts on everything that asks for the thread's attention. `interrupted` is the restart code of the call just made.
pub(in crate::task) async fn deliver(
    thread: &Arc<Thread>,
    context: &mut UserContext,
    on_cpu: &mut OnCpu,
    mut interrupted: Option<Errno>,
) -> Outcome {
    loop {
        let bits = thread.attention();
        if bits & attention::EXIT != 0 {
            return Outcome::End;
        }
        if bits & attention::STOP != 0 {
            on_cpu.save(context);
            stop::park(thread).await;
            continue;
        }
        thread.clear_attention(attention::SIGNAL);
        let Some(info) = thread.take_signal(|mask| SignalSet(!0).without(mask)) else {
            break;
        };
        let signo = info.signo();
        let action = take_action(thread, signo);
        match action.handler {
            SIG_IGN => continue,
            SIG_DFL => match default_action(thread, context, &info) {
                Outcome::Continue => continue,
                Outcome::End => return Outcome::End,
            },
            _ => {}
        }
        if let Some(errno) = interrupted.take() {
            settle(thread, context, errno, &action);
        }
        on_cpu.restarting = false;
        on_cpu.save(context);
        on_cpu.forget();
        if run_handler(thread, context, &action, &info).await.is_err() {
            if signo == SIGSEGV {
                reset(thread, SIGSEGV);
            }
            force(thread, SigInfo::kernel(SIGSEGV));
        }
    }
    if let Some(errno) = interrupted {
        on_cpu.restarting = errno == Errno::ERESTART_RESTARTBLOCK;
        context.rewind_syscall();
    }
    thread.restore_mask();
    Outcome::Continue
}

/// The action for a signal that is being delivered; `SA_RESETHAND` takes effect.
fn take_action(thread: &Thread, signo: Signo) -> SigAction {
    let actions = thread.process().actions();
    let mut actions = actions.lock();
    let action = *actions.get(signo);
    if action.handler > SIG_IGN && action.flags & SA_RESETHAND != 0 {
        actions.get_mut(signo).handler = SIG_DFL;
    }
    action
}

fn reset(thread: &Thread, signo: Signo) {
    let actions = thread.process().actions();
    *actions.lock().get_mut(signo) = SigAction::default();
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
            let comm = thread.comm();
            let end = comm.iter().position(|byte| *byte == 0).unwrap_or(comm.len());
            log::info!(
                "{}[{}]: killed by {} (code {}) at pc {:#x}, sp {:#x}, address {:#x}",
                core::str::from_utf8(&comm[..end]).unwrap_or("?"),
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

/// Whether `sp` is on the alternate stack.
pub fn on_alt_stack(stack: &AltStack, sp: u64) -> bool {
    stack.size != 0 && sp > stack.sp && sp - stack.sp <= stack.size
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
    let switch = action.flags & SA_ONSTACK != 0 && !already && stack.size != 0 && stack.flags & SS_DISABLE == 0;
    let flags = match (stack.size == 0, already) {
        (true, _) => SS_DISABLE,
        (false, true) => SS_ONSTACK,
        (false, false) => 0,
    };
    let restorer = if action.flags & SA_RESTORER != 0 || UserContext::TRAMPOLINE.is_empty() {
        action.restorer
    } else {
        vdso::trampoline(thread.process())
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
    let (address, frame) = context.build_frame(&delivery);
    if (switch || already) && !on_alt_stack(&stack, address) {
        return Err(Errno::EFAULT);
    }
    thread.mm().write_bytes(address, &frame).await?;
    context.enter_handler(&delivery, address);
    thread.change_signal_mask(|mask| {
        let mut blocked = mask.union(action.mask);
        if action.flags & SA_NODEFER == 0 {
            blocked.insert(signo);
        }
        blocked
    });
    Ok(())
}

/// `rt_sigreturn(2)`: false if the frame is not one, and SIGSEGV has been raised.
pub(crate) async fn sigreturn(thread: &Arc<Thread>, context: &mut UserContext) {
    let (address, length) = context.frame_location();
    let mut frame = alloc::vec![0; length];
    let restored = match thread.mm().read_bytes(address, &mut frame).await {
        Ok(()) => context.restore_frame(&frame).ok(),
        Err(_) => None,
    };
    let Some(restored) = restored else {
        force(thread, SigInfo::kernel(SIGSEGV));
        return;
    };
    thread.set_signal_mask(SignalSet(restored.mask));
    let mut signals = thread.signals.lock();
    if !on_alt_stack(&signals.alt_stack, context.stack_pointer()) {
        let flags = restored.alt_stack.flags & !SS_ONSTACK;
        let disabled = flags & SS_DISABLE != 0;
        signals.alt_stack = if disabled {
            AltStack::default()
        } else {
            AltStack {
                flags,
                ..restored.alt_stack
            }
        };
    }
}
