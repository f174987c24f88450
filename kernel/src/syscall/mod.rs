//! System calls.
//!
//! A handler is `pub async fn name(t: &Thread, arguments…) -> Result<u64>`; its arguments are integers of any width
//! ([`FromRegister`]), and what it returns is the value of the return register. [`table`] names every call. The few that
//! change the caller's registers are made by [`context`]. A call that does not block allocates nothing: its future is a
//! part of the thread's own, and those that would make it large are boxed, one by one, in the table. A call begins only
//! while what is kept for allocations that cannot fail is whole ([`fallible`]).

pub mod capabilities;
pub mod context;
pub mod fs;
pub mod futex;
pub mod identity;
pub mod ioprio;
pub mod ipc;
pub mod kcmp;
pub mod membarrier;
pub mod memory;
pub mod net;
pub mod pidfd;
pub mod policy;
pub mod prctl;
pub mod process;
pub mod process_vm;
pub mod ptrace;
pub mod sched;
pub mod seccomp;
pub mod setns;
pub mod signal;
pub mod system;
pub mod table;
pub mod time;
pub mod timers;
pub mod types;
pub mod unshare;
pub mod uts;

use alloc::{boxed::Box, sync::Arc};
use core::sync::atomic::{AtomicU64, Ordering};

use hal::{
    arch::UserContext,
    traits::{InterruptFrame, SyscallFrame},
};

use crate::{
    clock::Moment,
    errno::{Errno, Result},
    fs::{Stop, file::Attempt},
    mm::{fallible, heap},
    task::{
        Restart, Thread,
        fp::{Away, OnCpu, away_unloaded},
        futex::Scope,
        oom,
        run::finish_call,
        signal::deliver,
    },
};

/// An argument as it stands in a register: the low bits, sign- or zero-extended by the type that the handler declares.
pub trait FromRegister {
    /// The value.
    fn from_register(register: u64) -> Self;
}

macro_rules! from_register {
    ($($type:ty)*) => {
        $(impl FromRegister for $type {
            fn from_register(register: u64) -> Self {
                register as Self
            }
        })*
    };
}

from_register!(u64 i64 u32 i32 usize u16);

/// How a call begins: one word, which is 0 for most.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Begun(u32);

/// What is left of a call that was not made at once.
pub(crate) enum Rest {
    /// It was interrupted by a signal: the restart code.
    Interrupted(Errno),
    /// Nothing has happened: [`handle`] makes it. `admitted` says that what is kept of memory is whole.
    Waits { call: table::Call, admitted: bool },
}

impl Begun {
    /// It has been made, and the context says what it returned.
    pub const MADE: Self = Self(0);
    const INTERRUPTED: u32 = 1 << 16;
    const WAITS: u32 = 1 << 17;
    const ADMITTED: u32 = 1 << 18;
    const VALUE: u32 = Self::INTERRUPTED - 1;

    const fn interrupted(errno: Errno) -> Self {
        Self(errno.number() as u32 | Self::INTERRUPTED)
    }

    const fn waits(call: table::Call, admitted: bool) -> Self {
        Self(call as u32 | Self::WAITS | if admitted { Self::ADMITTED } else { 0 })
    }

    /// What is left to do; `None` if the call has been made.
    pub fn rest(self) -> Option<Rest> {
        let value = (self.0 & Self::VALUE) as u16;
        if self.0 & Self::WAITS != 0 {
            let call = table::ENTRIES[usize::from(value)].call;
            let admitted = self.0 & Self::ADMITTED != 0;
            Some(Rest::Waits { call, admitted })
        } else if self.0 & Self::INTERRUPTED != 0 {
            Some(Rest::Interrupted(Errno::from_number(value)))
        } else {
            None
        }
    }
}

/// Makes the call that the context stands at; the restart code if a signal interrupted it.
pub(crate) async fn make(thread: &Arc<Thread>, context: &mut UserContext, on_cpu: &mut OnCpu) -> Option<Errno> {
    match begin(thread, context).rest()? {
        Rest::Interrupted(errno) => Some(errno),
        Rest::Waits { call, admitted } => Box::pin(handle(thread, call, admitted, context, on_cpu)).await,
    }
}

/// Begins the call that the context stands at, and makes it if it need not wait.
#[inline]
pub(crate) fn begin(thread: &Arc<Thread>, context: &mut UserContext) -> Begun {
    let number = context.syscall_number();
    let Some(call) = table::find(number) else {
        trace_unknown(number, thread);
        context.set_return_value(Errno::ENOSYS.as_return_value());
        return Begun::MADE;
    };
    // One poll may make many calls; each begins with all that is kept.
    heap::begin_poll();
    if !fallible::has_room() {
        return Begun::waits(call, false);
    }
    table::at_once(thread, call, context)
}

/// What came of an attempt to make a call at once. In line, so that a call which cannot fail does not say that it has not.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "left to itself the compiler makes it a call, which every system call then pays"
)]
fn settle(context: &mut UserContext, call: table::Call, made: Attempt<u64>) -> Begun {
    match made {
        Ok(value) => {
            context.set_return_value(value as i64);
            Begun::MADE
        }
        Err(stop) => settle_stop(context, call, stop),
    }
}

#[inline(never)]
fn settle_stop(context: &mut UserContext, call: table::Call, stop: Stop) -> Begun {
    match stop {
        Stop::Errno(errno) => finish_call(context, Err(errno)).map_or(Begun::MADE, Begun::interrupted),
        Stop::WouldBlock | Stop::Fault(_) => Begun::waits(call, true),
    }
}

/// Makes a call that has begun; the restart code if a signal interrupted it.
pub(crate) async fn handle(
    thread: &Arc<Thread>,
    call: table::Call,
    admitted: bool,
    context: &mut UserContext,
    on_cpu: &mut OnCpu,
) -> Option<Errno> {
    if !admitted && !matches!(call, table::Call::exit | table::Call::exit_group) {
        let admitted = Away::new(thread, context, on_cpu, Box::pin(oom::admission())).await;
        if let Err(errno) = admitted {
            return finish_call(context, Err(errno));
        }
    }
    if call.changes_context() {
        if call == table::Call::sigaltstack {
            // Of the registers it needs only one.
            let (stack_pointer, arguments) = (context.stack_pointer(), context.syscall_arguments());
            let made = signal::sigaltstack(thread, stack_pointer, arguments[0], arguments[1]);
            let result = Away::new(thread, context, on_cpu, made).await;
            return finish_call(context, result);
        }
        on_cpu.save(context);
        on_cpu.forget();
        if call == table::Call::rt_sigreturn && deliver::sigreturn_at_once(thread, context).is_ok() {
            return None;
        }
        let made = Box::pin(context::dispatch(thread, call, context));
        let (result, address_space) = away_unloaded(thread, made).await;
        on_cpu.resumed(thread);
        if address_space == context::AddressSpaceIs::New {
            on_cpu.mm = thread.mm();
        }
        return match result {
            context::Made::Returned(result) => finish_call(context, result),
            context::Made::Registers => None,
        };
    }
    let arguments = context.syscall_arguments();
    let result = Away::new(thread, context, on_cpu, table::dispatch(thread, call, arguments)).await;
    finish_call(context, result)
}

/// `restart_syscall(2)`: goes on with a call that was interrupted without a handler, from the deadline that it had. The
/// kernel has a thread make this call where the interrupted one returned `ERESTART_RESTARTBLOCK`; a handler that runs in
/// between leaves nothing to restart.
///
/// # Errors
/// `EINTR` if there is nothing to restart; the call's own.
pub async fn restart_syscall(thread: &Arc<Thread>) -> Result<u64> {
    match thread.take_restart() {
        Restart::None => Err(Errno::EINTR),
        Restart::Sleep { deadline, remaining } => time::sleep(thread, deadline, remaining).await,
        Restart::CpuSleep { clock, time, remaining } => time::sleep_by_cpu(thread, clock, time, remaining).await,
        Restart::Futex {
            address,
            expected,
            time,
            base,
            bits,
            private,
        } => {
            let scope = if private { Scope::Process } else { Scope::Machine };
            futex::wait_until(thread, address, scope, expected, bits, Some(Moment { base, time })).await
        }
        Restart::Poll {
            descriptors,
            count,
            deadline,
        } => fs::restart_poll(thread, descriptors, count, deadline).await,
    }
}

/// Says once per number that a call is missing.
#[cold]
fn trace_unknown(number: u64, thread: &Thread) {
    static SEEN: [AtomicU64; 16] = [const { AtomicU64::new(0) }; 16];
    let slot = (number as usize).min(SEEN.len() * 64 - 1);
    if SEEN[slot / 64].fetch_or(1 << (slot % 64), Ordering::Relaxed) >> (slot % 64) & 1 == 0 {
        log::info!("system call {number} is not implemented (thread {})", thread.tid());
    }
}
