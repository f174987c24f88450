//! The life of a user thread: one future, one loop, one way to user mode and back.
//!
//! The contract of one turn. Before user mode: whatever asks for attention has been acted on; the address space is this
//! CPU's; the CPU holds the thread's FP/SIMD values; interrupts are masked, attention is looked at once more (a wake
//! from now on finds the executor's gate and sends an IPI); the gate is open. After user mode: the gate is closed, the
//! trap's own work is done with interrupts unmasked, and every wait of it is wrapped in [`Away`], which saves the FP/SIMD
//! values if the poll ends.
//!
//! The registers are a local of the future. The calls that change them (fork, execve, `rt_sigreturn`) get them lent.

use alloc::{boxed::Box, sync::Arc};
use core::{
    future::{Future, poll_fn},
    sync::atomic::Ordering,
    task::Poll,
};

use executor::{Class, SpawnOptions};
use hal::{
    arch::{Cpu, UserContext},
    traits::CpuOps,
    trap::Trap,
};

use super::{
    exit, fault,
    fp::{AfterCall, Away, OnCpu},
    ptrace::turn,
    rseq, seccomp,
    signal::deliver::{self, Outcome},
    thread::{Thread, comm_text},
};
use crate::{
    errno::{Errno, Result},
    irq, rt,
    syscall::{self, Begun, Rest},
    trace,
};

/// Starts a thread at its context. `set_child_tid` is where it first writes its number, 0 for nowhere.
///
/// # Errors
/// `ENOMEM` if there is no memory for its future.
pub(super) fn start(thread: &Arc<Thread>, context: UserContext, set_child_tid: u64) -> Result<()> {
    let comm = thread.comm();
    let options = SpawnOptions::new(Class::User, comm_text(&comm))
        .affinity(thread.affinity.load(Ordering::Relaxed))
        .weight(super::schedule::weight(thread))
        .real_time(super::schedule::real_time(thread));
    let task = rt::executor().spawn(
        options,
        super::current::scope(thread.clone(), run(thread.clone(), context, set_child_tid)),
    )?;
    thread.set_task_id(task.id());
    task.detach();
    Ok(())
}

/// The thread's future.
#[expect(
    clippy::manual_async_fn,
    reason = "an `async fn` holds its arguments twice, and the context is large"
)]
pub(super) fn run(
    thread: Arc<Thread>,
    mut context: UserContext,
    set_child_tid: u64,
) -> impl Future<Output = ()> + Send + 'static {
    async move {
        let mut on_cpu = OnCpu::new(&thread);
        poll_fn(|cx| {
            thread.store_waker(cx.waker());
            // Before the first instruction, which may come before whoever spawned the task has noted what it is.
            if let Some(id) = rt::executor().current() {
                thread.set_task_id(id);
                // What was changed since it was spawned, by whoever could not know the task yet.
                super::schedule::apply(&thread);
            }
            Poll::Ready(())
        })
        .await;
        if set_child_tid != 0 {
            // As on Linux, an address that cannot be written is the program's own business.
            let _ = on_cpu.mm.write_bytes(set_child_tid, &thread.tid().to_ne_bytes()).await;
        }
        on_cpu.resumed(&thread);
        live(&thread, &mut context, &mut on_cpu).await;
        exit::end(&thread).await;
    }
}

/// Turns until the thread has to end.
async fn live(thread: &Arc<Thread>, context: &mut UserContext, on_cpu: &mut OnCpu) {
    // The restart code of a call that a signal interrupted, until a handler or the return to user mode settles it.
    let mut interrupted = None;
    loop {
        // What asks for attention is seen on the way to user mode, where it has to be looked for in any case.
        let mut slowly = false;
        if !on_cpu.after_call.is_empty() {
            let after = core::mem::replace(&mut on_cpu.after_call, AfterCall::empty());
            on_cpu.after_call = after & AfterCall::FILTERED;
            if after.contains(AfterCall::RESUMED) {
                rseq::resumed(thread, context, on_cpu).await;
            }
            if after.contains(AfterCall::TRACED) {
                trace::call_ended(context, interrupted);
            }
            if thread.attention() != 0 || after.contains(AfterCall::INTERRUPTED) {
                let mut outcome = deliver::deliver::<false>(thread, context, on_cpu, &mut interrupted).await;
                if outcome == Outcome::Traced {
                    outcome = Box::pin(turn::live(thread, context, on_cpu, &mut interrupted)).await;
                }
                if outcome == Outcome::End {
                    return;
                }
            }
            // That has waited.
            if on_cpu.after_call.contains(AfterCall::RESUMED) {
                on_cpu.after_call.set(AfterCall::INTERRUPTED, interrupted.is_some());
                continue;
            }
            slowly = interrupted.is_some() || on_cpu.after_call.contains(AfterCall::FILTERED);
        }
        // Looked at once, here: the way of who has nothing to see to knows nothing of the others'.
        let trap = if slowly || trace::is_on() {
            visit_user_slowly(thread, context, on_cpu, &mut interrupted)
        } else {
            visit_user::<false>(thread, context, on_cpu, None, Cpu::enter_user)
        };
        let Some(trap) = trap else {
            // Still to be settled.
            on_cpu.after_call.set(AfterCall::INTERRUPTED, interrupted.is_some());
            if thread.attention() != 0 {
                on_cpu.after_call |= AfterCall::ATTENTION;
            } else {
                Away::new(thread, context, on_cpu, rt::yield_now()).await;
            }
            continue;
        };
        match trap {
            Trap::Syscall => {
                let begun = syscall::begin(thread, context);
                if begun == Begun::MADE {
                    continue;
                }
                interrupted = match begun.rest() {
                    Some(Rest::Waits { call, admitted }) => {
                        syscall::handle(thread, call, admitted, context, on_cpu).await
                    }
                    Some(Rest::Interrupted(errno)) => Some(errno),
                    None => None,
                };
                if interrupted.is_some() {
                    on_cpu.after_call |= AfterCall::INTERRUPTED;
                }
            }
            // Dispatched on the way out.
            Trap::Interrupt(_) => {}
            Trap::Fault => fault::serve(thread, context, on_cpu).await,
        }
    }
}

/// Goes to user mode, for who is in no hurry. Leaves `interrupted` to be looked at again if that cannot be.
pub(super) fn visit_any(
    thread: &Thread,
    context: &mut UserContext,
    on_cpu: &mut OnCpu,
    interrupted: &mut Option<Errno>,
    enter: impl FnOnce(&mut UserContext) -> Trap,
) -> Option<Trap> {
    if trace::is_on() {
        visit_user::<true>(thread, context, on_cpu, Some(interrupted), enter)
    } else {
        visit_user::<false>(thread, context, on_cpu, Some(interrupted), enter)
    }
}

/// As [`visit_user`], with everything that may have to be done about it. A call that a filter keeps from being made is none: the
/// thread goes back to user mode.
#[cold]
#[inline(never)]
fn visit_user_slowly(
    thread: &Arc<Thread>,
    context: &mut UserContext,
    on_cpu: &mut OnCpu,
    interrupted: &mut Option<Errno>,
) -> Option<Trap> {
    loop {
        let trap = visit_any(thread, context, on_cpu, interrupted, Cpu::enter_user)?;
        if trap != Trap::Syscall || !on_cpu.after_call.contains(AfterCall::FILTERED) || seccomp::passes(thread, context)
        {
            return Some(trap);
        }
        if thread.attention() != 0 || on_cpu.after_call.contains(AfterCall::TRACED) {
            return None;
        }
    }
}

/// Goes to user mode until the next trap. `None` if something else has to come first: attention, or another task. Of an interrupted call
/// that no handler has settled, where there may be one, `interrupted` tells.
#[expect(
    clippy::inline_always,
    reason = "left to itself the compiler makes it a call, which every system call then pays"
)]
#[inline(always)]
fn visit_user<const TRACED: bool>(
    thread: &Thread,
    context: &mut UserContext,
    on_cpu: &mut OnCpu,
    interrupted: Option<&mut Option<Errno>>,
    enter: impl FnOnce(&mut UserContext) -> Trap,
) -> Option<Trap> {
    debug_assert!(
        Cpu::interrupts_enabled(),
        "a user thread is polled with interrupts masked"
    );
    Cpu::disable_interrupts();
    // It may wake whoever waits for this CPU to forget a translation, on this very CPU, so it comes before the gate: once that
    // is open only an interrupt brings the CPU back. A shootdown from here on is an interrupt.
    on_cpu.mm.activate();
    let visit = if thread.attention() == 0 {
        rt::executor().try_enter_user().ok()
    } else {
        None
    };
    let Some(visit) = visit else {
        Cpu::unmask_interrupts();
        return None;
    };
    // Nothing can come in between any more: the call is made again.
    if let Some(errno) = interrupted.and_then(Option::take) {
        deliver::repeat(context, errno);
    }
    on_cpu.load(context);
    thread.user_time.begin(visit.began());
    if TRACED {
        trace::user_began(rt::now(), thread.tid());
    }
    let trap = enter(context);
    let left = visit.leave();
    if TRACED {
        trace::user_ended(trap, context);
        if trap == Trap::Syscall {
            trace::call_began(context, thread.tid());
            on_cpu.after_call |= AfterCall::TRACED;
        }
    }
    thread.user_time.end(left);
    if let Trap::Interrupt(token) = trap {
        // A shootdown's, maybe. Other traps pass here again, or where the CPU goes idle, before long.
        on_cpu.mm.checkpoint_active();
        irq::dispatch(token);
    }
    Cpu::unmask_interrupts();
    Some(trap)
}

/// What a call returned, put into the context: the restart code if a signal interrupted it.
pub(crate) fn finish_call(context: &mut UserContext, result: Result<u64>) -> Option<Errno> {
    use hal::traits::SyscallFrame;
    match result {
        Ok(value) => context.set_return_value(value as i64),
        Err(errno) if errno.is_restart() => return Some(errno),
        Err(errno) => context.set_return_value(errno.as_return_value()),
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_output<F>(_: impl FnOnce(Arc<Thread>, UserContext, u64) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_thread_and_its_counts_fit_their_class_of_the_heap() {
        assert!(
            size_of::<Thread>() + 2 * size_of::<usize>() <= 384,
            "{}",
            size_of::<Thread>()
        );
    }

    #[test]
    fn a_blocked_thread_is_small() {
        let size = size_of_output(run) - size_of::<UserContext>() + size_of::<Thread>();
        // The largest context (x86_64 with AVX) takes the rest of 4 KiB.
        assert!(size <= 4096 - 1024, "{size} bytes besides the registers");
    }
}
