//! `ptrace(2)`.
//!
//! What differs between the machines (register sets, `struct user`) is [`TraceOps`]'s; how a thread stops is [`ptrace`]'s.

use alloc::{sync::Arc, vec::Vec};

use hal::{
    arch::UserContext,
    traced::{LARGEST_SET, Refused, TraceOps},
    traits::{InterruptFrame, SyscallFrame},
};

use super::seccomp::inspect;
use crate::{
    errno::{Errno, Result},
    mm::fallible::TryRoom,
    task::{
        Capability, Pid, Thread,
        ptrace::{Mode, State, Tracee, events, link, options},
        signal::{
            SigInfo, SignalSet,
            send::send_to_thread,
            set::{SIGKILL, SIGNALS, SIGTRAP},
        },
    },
};

/// Requests (`include/uapi/linux/ptrace.h`; the first two below `GETREGS` of `asm/ptrace-abi.h` and `asm/ptrace.h`).
mod request {
    pub const TRACEME: u32 = 0;
    pub const PEEKTEXT: u32 = 1;
    pub const PEEKDATA: u32 = 2;
    pub const PEEKUSER: u32 = 3;
    pub const POKETEXT: u32 = 4;
    pub const POKEDATA: u32 = 5;
    pub const POKEUSER: u32 = 6;
    pub const CONT: u32 = 7;
    pub const KILL: u32 = 8;
    pub const SINGLESTEP: u32 = 9;
    pub const ATTACH: u32 = 16;
    pub const DETACH: u32 = 17;
    pub const SYSCALL: u32 = 24;
    pub const SYSEMU: u32 = 31;
    pub const SYSEMU_SINGLESTEP: u32 = 32;
    pub const OLDSETOPTIONS: u32 = 21;
    pub const SETOPTIONS: u32 = 0x4200;
    pub const GETEVENTMSG: u32 = 0x4201;
    pub const GETSIGINFO: u32 = 0x4202;
    pub const SETSIGINFO: u32 = 0x4203;
    pub const GETREGSET: u32 = 0x4204;
    pub const SETREGSET: u32 = 0x4205;
    pub const SEIZE: u32 = 0x4206;
    pub const INTERRUPT: u32 = 0x4207;
    pub const LISTEN: u32 = 0x4208;
    pub const PEEKSIGINFO: u32 = 0x4209;
    pub const GETSIGMASK: u32 = 0x420a;
    pub const SETSIGMASK: u32 = 0x420b;
    pub const SECCOMP_GET_FILTER: u32 = 0x420c;
    pub const SECCOMP_GET_METADATA: u32 = 0x420d;
    pub const GET_SYSCALL_INFO: u32 = 0x420e;
}

use request::*;

/// `ptrace(2)`, as the kernel has it: what is peeked is stored at `data`.
///
/// # Errors
/// As the manual page: `EPERM`, `ESRCH`, `EIO`, `EINVAL`, `EFAULT`.
pub async fn ptrace(t: &Arc<Thread>, request: u64, tid: i32, address: u64, data: u64) -> Result<u64> {
    let request = u32::try_from(request).map_err(|_| Errno::EIO)?;
    match request {
        TRACEME => return link::trace_me(t).map(|()| 0),
        ATTACH => return link::attach(t, tid, None).map(|()| 0),
        SEIZE => {
            if address != 0 || data & !u64::from(options::KNOWN) != 0 {
                return Err(Errno::EIO);
            }
            check_options(t, data)?;
            return link::attach(t, tid, Some(data as u32)).map(|()| 0);
        }
        _ => {}
    }
    let target = Target::find(t, tid)?;
    match request {
        KILL => {
            target.with_any(|_| Ok(()))?;
            if let Some(thread) = target.tracee.thread() {
                // SIGKILL is never refused.
                let _ = send_to_thread(&thread, SigInfo::kernel(SIGKILL));
            }
            Ok(0)
        }
        INTERRUPT => {
            target.with_any(|state| {
                if !state.seized {
                    return Err(Errno::EIO);
                }
                state.interrupt = true;
                Ok(())
            })?;
            target.tracee.kick();
            Ok(0)
        }
        _ => {
            target.with(|_| Ok(()))?;
            of_standing(t, &target, request, address, data).await
        }
    }
}

/// A traced thread and its tracer.
struct Target<'a> {
    tracer: &'a Arc<Thread>,
    tracee: Arc<Tracee>,
    tid: Pid,
}

impl<'a> Target<'a> {
    fn find(tracer: &'a Arc<Thread>, tid: Pid) -> Result<Self> {
        let thread = crate::task::thread(tid).ok_or(Errno::ESRCH)?;
        let tracee = thread.tracee().ok_or(Errno::ESRCH)?;
        Ok(Self { tracer, tracee, tid })
    }

    /// Lends the state, whether the thread stands or not.
    fn with_any<T>(&self, what: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        self.tracee.with(|state| {
            if state.is_traced_by(self.tracer) && state.ended.is_none() {
                what(state)
            } else {
                Err(Errno::ESRCH)
            }
        })
    }

    /// Lends the state of a thread that stands.
    fn with<T>(&self, what: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        self.with_any(|state| if state.stands() { what(state) } else { Err(Errno::ESRCH) })
    }

    fn wake(&self) {
        if let Some(thread) = self.tracee.thread() {
            thread.wake();
        }
    }
}

fn signal_of(data: u64) -> Result<i32> {
    match i32::try_from(data) {
        Ok(signo @ 0..=SIGNALS) => Ok(signo),
        _ => Err(Errno::EIO),
    }
}

async fn of_standing(t: &Arc<Thread>, target: &Target<'_>, request: u32, address: u64, data: u64) -> Result<u64> {
    match request {
        PEEKTEXT | PEEKDATA => {
            let mut word = [0; 8];
            let mm = target.tracee.process().mm();
            match mm.read_remote(address, &mut word).await {
                Ok(8) => answer(t, data, &word).await,
                _ => Err(Errno::EIO),
            }
        }
        POKETEXT | POKEDATA => {
            let mm = target.tracee.process().mm();
            match mm.write_remote(address, &data.to_ne_bytes()).await {
                Ok(8) => Ok(0),
                _ => Err(Errno::EIO),
            }
        }
        PEEKUSER => {
            let word = target.with(|state| state.context.peek_user(&state.extra, address).ok_or(Errno::EIO))?;
            answer(t, data, &word.to_ne_bytes()).await
        }
        POKEUSER => {
            target.with(|state| {
                let State { context, extra, .. } = state;
                context.poke_user(extra, address, data).map_err(refusal)
            })?;
            Ok(0)
        }
        CONT | SYSCALL | SINGLESTEP | SYSEMU | SYSEMU_SINGLESTEP | DETACH => go_on(t, target, request, data),
        SETOPTIONS | OLDSETOPTIONS => {
            if data & !u64::from(options::KNOWN) != 0 {
                return Err(Errno::EINVAL);
            }
            check_options(t, data)?;
            target.with(|state| {
                state.options = data as u32;
                Ok(0)
            })
        }
        GETEVENTMSG => {
            let message = target.with(|state| Ok(state.message))?;
            answer(t, data, &message.to_ne_bytes()).await
        }
        GETSIGINFO | SETSIGINFO | PEEKSIGINFO | GETSIGMASK | SETSIGMASK => {
            of_signals(t, target, request, address, data).await
        }
        LISTEN => {
            let news = target.with(|state| {
                if !state.seized || !state.stop.is_some_and(|stop| stop.of_group) {
                    return Err(Errno::EIO);
                }
                state.listening = true;
                Ok(state.notify)
            })?;
            if news {
                target.wake();
            }
            Ok(0)
        }
        GETREGSET | SETREGSET => register_set(t, target, request == SETREGSET, address, data).await,
        GET_SYSCALL_INFO => syscall_info(t, target, address, data).await,
        SECCOMP_GET_FILTER | SECCOMP_GET_METADATA => {
            let thread = target.tracee.thread().ok_or(Errno::ESRCH)?;
            if request == SECCOMP_GET_FILTER {
                inspect::filter(t, &thread, address, data).await
            } else {
                inspect::metadata(t, &thread, address, data).await
            }
        }
        _ => match UserContext::legacy_request(request) {
            Some((set, write)) => {
                let size = UserContext::register_set(set).ok_or(Errno::EIO)?.bytes;
                transfer(t, target, write, set, data, size).await?;
                Ok(0)
            }
            None => Err(Errno::EIO),
        },
    }
}

/// Whether the tracer may ask for all of these options.
fn check_options(t: &Thread, data: u64) -> Result<()> {
    if data & u64::from(options::SUSPEND_SECCOMP) == 0 {
        return Ok(());
    }
    let credentials = t.credentials();
    let suspended = t
        .tracee()
        .is_some_and(|tracee| tracee.with(|state| state.options & options::SUSPEND_SECCOMP != 0));
    if !credentials.can(Capability::SysAdmin) || credentials.filter.is_some() || suspended {
        return Err(Errno::EPERM);
    }
    Ok(())
}

async fn answer(t: &Arc<Thread>, address: u64, bytes: &[u8]) -> Result<u64> {
    t.mm().write_bytes(address, bytes).await?;
    Ok(0)
}

const fn refusal(refused: Refused) -> Errno {
    match refused {
        Refused::Invalid => Errno::EINVAL,
        Refused::Io => Errno::EIO,
        Refused::Partial => Errno::EFAULT,
        Refused::Full => Errno::ENOSPC,
    }
}

fn go_on(t: &Arc<Thread>, target: &Target<'_>, request: u32, data: u64) -> Result<u64> {
    let signo = signal_of(data)?;
    if request == DETACH {
        link::detach(t, &target.tracee, target.tid, signo)?;
        return Ok(0);
    }
    let mode = Mode {
        calls: request == SYSCALL,
        emulates: matches!(request, SYSEMU | SYSEMU_SINGLESTEP),
        steps: matches!(request, SINGLESTEP | SYSEMU_SINGLESTEP),
    };
    target.with(|state| {
        state.go_on(mode, signo);
        Ok(())
    })?;
    target.wake();
    Ok(0)
}

async fn of_signals(t: &Arc<Thread>, target: &Target<'_>, request: u32, address: u64, data: u64) -> Result<u64> {
    match request {
        GETSIGINFO => {
            let info = target.with(|state| state.stop.and_then(|stop| stop.info).ok_or(Errno::EINVAL))?;
            answer(t, data, &info.to_bytes()).await
        }
        SETSIGINFO => {
            let mut bytes = [0; SigInfo::SIZE];
            t.mm().read_bytes(data, &mut bytes).await?;
            target.with(|state| {
                let info = state.stop.as_mut().and_then(|stop| stop.info.as_mut());
                *info.ok_or(Errno::EINVAL)? = SigInfo::from_user(&bytes);
                Ok(0)
            })
        }
        PEEKSIGINFO => peek_signals(t, target, address, data).await,
        GETSIGMASK => {
            if address != 8 {
                return Err(Errno::EINVAL);
            }
            let thread = target.tracee.thread().ok_or(Errno::ESRCH)?;
            answer(t, data, &thread.blocked_signals().0.to_ne_bytes()).await
        }
        _ => {
            if address != 8 {
                return Err(Errno::EINVAL);
            }
            let mask: u64 = t.mm().read(data).await?;
            let thread = target.tracee.thread().ok_or(Errno::ESRCH)?;
            target.with(|_| Ok(()))?;
            thread.set_signal_mask(SignalSet(mask));
            Ok(0)
        }
    }
}

/// `PTRACE_PEEKSIGINFO`: `struct ptrace_peeksiginfo_args` is offset, flags and number.
async fn peek_signals(t: &Arc<Thread>, target: &Target<'_>, address: u64, data: u64) -> Result<u64> {
    const SHARED: u32 = 1;
    let mm = t.mm();
    let offset: u64 = mm.read(address).await?;
    let flags: u32 = mm.read(address.wrapping_add(8)).await?;
    let number: i32 = mm.read(address.wrapping_add(12)).await?;
    if flags & !SHARED != 0 || number < 0 {
        return Err(Errno::EINVAL);
    }
    let thread = target.tracee.thread().ok_or(Errno::ESRCH)?;
    let mut copied = 0;
    while copied < number as u64 {
        let Some(at) = offset.checked_add(copied).and_then(|at| usize::try_from(at).ok()) else {
            break;
        };
        let Some(info) = thread.pending_info(flags & SHARED != 0, at) else {
            break;
        };
        let to = data.wrapping_add(copied * SigInfo::SIZE as u64);
        match mm.write_bytes(to, &info.to_bytes()).await {
            Ok(()) => copied += 1,
            Err(_) if copied > 0 => break,
            Err(errno) => return Err(errno),
        }
        if t.is_interrupted() {
            break;
        }
    }
    Ok(copied)
}

/// `PTRACE_GETREGSET`, `PTRACE_SETREGSET`: `data` is a `struct iovec`.
async fn register_set(t: &Arc<Thread>, target: &Target<'_>, write: bool, kind: u64, data: u64) -> Result<u64> {
    let mm = t.mm();
    let base: u64 = mm.read(data).await?;
    let length: u64 = mm.read(data.wrapping_add(8)).await?;
    let set = u32::try_from(kind).map_err(|_| Errno::EINVAL)?;
    let size = UserContext::register_set(set).ok_or(Errno::EINVAL)?;
    if !length.is_multiple_of(size.unit as u64) {
        return Err(Errno::EINVAL);
    }
    let length = length.min(size.bytes as u64);
    transfer(t, target, write, set, base, length as usize).await?;
    mm.write(data.wrapping_add(8), &length).await?;
    Ok(0)
}

async fn transfer(t: &Arc<Thread>, target: &Target<'_>, write: bool, set: u32, at: u64, length: usize) -> Result<()> {
    let mut room: Vec<u8> = Vec::new();
    room.try_room(LARGEST_SET)?;
    room.resize(length.min(LARGEST_SET), 0);
    if write {
        t.mm().read_bytes(at, &mut room).await?;
        target.with(|state| {
            let State { context, extra, .. } = state;
            context.write_set(set, extra, &room).map_err(refusal)
        })
    } else {
        target.with(|state| {
            state.context.read_set(set, &state.extra, &mut room);
            Ok(())
        })?;
        t.mm().write_bytes(at, &room).await
    }
}

/// `PTRACE_GET_SYSCALL_INFO` (`struct ptrace_syscall_info`): stores at most `size` bytes and returns how many there are.
async fn syscall_info(t: &Arc<Thread>, target: &Target<'_>, size: u64, data: u64) -> Result<u64> {
    let mut bytes = [0; 88];
    let length = target.with(|state| {
        let context = &state.context;
        let mut put = |at: usize, value: u64| bytes[at..at + 8].copy_from_slice(&value.to_ne_bytes());
        put(0, u64::from(UserContext::AUDIT_ARCH) << 32);
        put(8, context.instruction_pointer());
        put(16, context.stack_pointer());
        let code = state.stop.and_then(|stop| stop.info).map_or(0, |info| info.code());
        let operation = match code {
            _ if code == SIGTRAP | 0x80 => state.message,
            _ if code == SIGTRAP | events::SECCOMP << 8 => 3,
            _ => 0,
        };
        let length = match operation {
            1 | 3 => {
                put(24, context.call_to_make(&state.extra) as i64 as u64);
                for (index, argument) in context.call_arguments().into_iter().enumerate() {
                    put(32 + index * 8, argument);
                }
                if operation == 3 {
                    put(80, state.message);
                    84
                } else {
                    80
                }
            }
            2 => {
                let result = context.return_value();
                put(24, result as u64);
                let is_error = (-4095..0).contains(&result);
                put(32, u64::from(is_error));
                33
            }
            _ => 24,
        };
        bytes[0] = operation as u8;
        Ok(length)
    })?;
    let stored = usize::try_from(size).unwrap_or(usize::MAX).min(length);
    t.mm().write_bytes(data, &bytes[..stored]).await?;
    Ok(length as u64)
}
