//! The calls that change their caller's registers, or copy them.

use alloc::{boxed::Box, sync::Arc, vec};

use hal::{arch::UserContext, traits::SyscallFrame};
use linux_raw_sys::general::{AT_FDCWD, PATH_MAX};

use super::{fs, prctl, table::Call};
use crate::{
    errno::{Errno, Result},
    namespace::Kind,
    task::{
        Thread,
        clone::{self, CloneArgs, flags},
        exec::{self, Request, args::Strings},
        ptrace::events,
        signal::{deliver, set::SIGCHLD},
    },
};

/// What to do about the return register.
pub(super) enum Made {
    /// Set it.
    Returned(Result<u64>),
    /// Leave it: the call has set all registers.
    Registers,
}

/// Whether the thread has another address space now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AddressSpaceIs {
    /// No.
    Same,
    /// Yes.
    New,
}

/// Makes one of the calls for which [`Call::changes_context`] holds.
pub(super) async fn dispatch(thread: &Arc<Thread>, call: Call, context: &mut UserContext) -> (Made, AddressSpaceIs) {
    let a = context.syscall_arguments();
    let result = match call {
        Call::rt_sigreturn => {
            deliver::sigreturn(thread, context).await;
            return (Made::Registers, AddressSpaceIs::Same);
        }
        Call::execve => execve(thread, context, AT_FDCWD, [a[0], a[1], a[2]], 0).await,
        Call::execveat => execve(thread, context, a[0] as i32, [a[1], a[2], a[3]], a[4] as u32).await,
        Call::arch_prctl => {
            let result = prctl::arch_prctl(thread, context, a[0] as u32, a[1]).await;
            return (Made::Returned(result), AddressSpaceIs::Same);
        }
        _ => {
            return (
                Made::Returned(spawn(thread, call, context, a).await),
                AddressSpaceIs::Same,
            );
        }
    };
    match result {
        Ok(()) => (Made::Returned(Ok(0)), AddressSpaceIs::New),
        Err(error) => (Made::Returned(Err(error)), AddressSpaceIs::Same),
    }
}

async fn spawn(thread: &Arc<Thread>, call: Call, context: &mut UserContext, a: [u64; 6]) -> Result<u64> {
    let args = match call {
        Call::fork => CloneArgs {
            exit_signal: SIGCHLD,
            ..CloneArgs::default()
        },
        Call::vfork => CloneArgs {
            flags: flags::CLONE_VFORK | flags::CLONE_VM,
            exit_signal: SIGCHLD,
            ..CloneArgs::default()
        },
        Call::clone => clone_args(a),
        Call::clone3 => clone3_args(thread, a[0], a[1]).await?,
        _ => return Err(Errno::ENOSYS),
    };
    Ok(clone::clone(thread, context, args).await? as u64)
}

/// `clone`'s registers: flags, stack, parent_tid, then child_tid and tls in an order of the machine's own
/// (`CONFIG_CLONE_BACKWARDS` of arm64).
fn clone_args(a: [u64; 6]) -> CloneArgs {
    let (child_tid, tls) = match hal::arch::ABI {
        hal::abi::Abi::X86_64 => (a[3], a[4]),
        hal::abi::Abi::Aarch64 => (a[4], a[3]),
    };
    CloneArgs {
        flags: a[0] & 0xffff_ffff & !flags::CSIGNAL,
        exit_signal: (a[0] & flags::CSIGNAL) as i32,
        stack: a[1],
        tls,
        parent_tid: a[2],
        // One register for both: who asks for both asks for nonsense.
        pidfd: a[2],
        child_tid,
    }
}

/// `struct clone_args` (`linux/sched.h`): flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls,
/// set_tid, set_tid_size, cgroup.
async fn clone3_args(thread: &Thread, address: u64, size: u64) -> Result<CloneArgs> {
    const WORDS: usize = 11;
    if size < 64 {
        return Err(Errno::EINVAL);
    }
    if size > 4096 {
        return Err(Errno::E2BIG);
    }
    let mut bytes = vec![0; size as usize];
    thread.mm().read_bytes(address, &mut bytes).await?;
    let mut words = [0u64; WORDS];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = chunk.try_into().map_or(0, u64::from_ne_bytes);
    }
    if bytes
        .get(WORDS * 8..)
        .is_some_and(|rest| rest.iter().any(|byte| *byte != 0))
    {
        return Err(Errno::E2BIG);
    }
    let [
        flags,
        pidfd,
        child_tid,
        parent_tid,
        exit_signal,
        stack,
        stack_size,
        tls,
        set_tid,
        set_tid_size,
        _,
    ] = words;
    // Those above the low word are this call's own; of them only this is there.
    if flags & !(u64::from(u32::MAX) | flags::CLONE_CLEAR_SIGHAND) != 0 {
        return Err(Errno::EINVAL);
    }
    // The flag of time namespaces lies where `clone` has the signal.
    const NO_FLAGS: u64 = flags::CSIGNAL & !Kind::Time.flag() | flags::CLONE_DETACHED;
    if flags & NO_FLAGS != 0 || exit_signal > 64 || set_tid != 0 || set_tid_size != 0 {
        return Err(Errno::EINVAL);
    }
    if (stack == 0) != (stack_size == 0) {
        return Err(Errno::EINVAL);
    }
    let stack = stack.checked_add(stack_size).ok_or(Errno::EINVAL)?;
    Ok(CloneArgs {
        flags,
        exit_signal: exit_signal as i32,
        stack,
        tls,
        parent_tid,
        pidfd,
        child_tid,
    })
}

async fn execve(
    thread: &Arc<Thread>,
    context: &mut UserContext,
    directory: i32,
    [path, arguments, environment]: [u64; 3],
    flags: u32,
) -> Result<()> {
    let mm = thread.mm();
    let path = mm.read_cstr(path, PATH_MAX as usize).await?;
    let limit = exec::argument_limit(thread.process());
    let mut arguments = Strings::read(&mm, arguments, limit).await?;
    let environment = Strings::read(&mm, environment, limit).await?;
    if arguments.count() == 0 {
        // As Linux since 5.18: a program always has a name.
        arguments.push(b"")?;
    }
    let file = fs::open_executable(thread, directory, &path, flags)?;
    let old = thread.tid();
    let request = Request {
        file,
        path,
        arguments,
        environment,
    };
    exec::execve(thread, context, request).await?;
    if thread.is_traced()
        && let Some(tracee) = thread.tracee()
    {
        Box::pin(events::executed(thread, &tracee, context, old)).await;
    }
    Ok(())
}
