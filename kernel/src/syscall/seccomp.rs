//! `seccomp(2)`: filters of system calls. What they do is [`task::seccomp`](crate::task::seccomp)'s.

use alloc::vec::Vec;

use zerocopy::IntoBytes;

use crate::{
    errno::{Errno, Result},
    mm::fallible::TryRoomExact,
    task::{
        Capability, Thread,
        seccomp::{
            self, Diverged, For, action,
            bpf::{Instruction, MAX_INSTRUCTIONS, Program},
        },
    },
};

const SET_MODE_STRICT: u32 = 0;
const SET_MODE_FILTER: u32 = 1;
const GET_ACTION_AVAIL: u32 = 2;

/// `SECCOMP_FILTER_FLAG_*`. Not among them are the two of listeners, which there are none of.
mod flags {
    pub const TSYNC: u32 = 1;
    /// Everything that is not allowed is written about: it is in any case, as far as Linux's default goes.
    pub const LOG: u32 = 2;
    /// No mitigation of speculation is switched on by a filter that this would leave off.
    pub const SPEC_ALLOW: u32 = 4;
    pub const TSYNC_ESRCH: u32 = 16;
    pub const ALL: u32 = TSYNC | LOG | SPEC_ALLOW | TSYNC_ESRCH;
}

/// `SECCOMP_MODE_*` of `prctl`.
const MODE_STRICT: u64 = 1;
const MODE_FILTER: u64 = 2;

/// `seccomp(2)`.
///
/// # Errors
/// `EINVAL` for an operation or flags that are not there (those about listeners among them), for a program that is none, and
/// where the other mode is on; `EFAULT`; `EACCES` without `no_new_privs` and `CAP_SYS_ADMIN`; `ENOMEM` for too many
/// instructions; `ESRCH` if threads diverge and that is asked for; `EOPNOTSUPP` for an action that is not there.
pub async fn seccomp(t: &Thread, operation: u32, flags: u32, argument: u64) -> Result<u64> {
    match operation {
        SET_MODE_STRICT if flags == 0 && argument == 0 => seccomp::restrict(t).map(|()| 0),
        SET_MODE_FILTER => set_filter(t, flags, argument).await,
        GET_ACTION_AVAIL if flags == 0 => {
            let asked: u32 = t.mm().read(argument).await?;
            match asked {
                action::KILL_PROCESS
                | action::KILL_THREAD
                | action::TRAP
                | action::ERRNO
                | action::TRACE
                | action::LOG
                | action::ALLOW => Ok(0),
                _ => Err(Errno::EOPNOTSUPP),
            }
        }
        _ => Err(Errno::EINVAL),
    }
}

/// `PR_SET_SECCOMP`.
///
/// # Errors
/// As [`seccomp`].
pub(super) async fn set_mode(t: &Thread, mode: u64, filter: u64) -> Result<u64> {
    match mode {
        MODE_STRICT => seccomp::restrict(t).map(|()| 0),
        MODE_FILTER => set_filter(t, 0, filter).await,
        _ => Err(Errno::EINVAL),
    }
}

/// `PR_GET_SECCOMP`.
pub(super) fn mode(t: &Thread) -> u64 {
    t.credentials().filter.as_ref().map_or(0, |filter| filter.mode().into())
}

async fn set_filter(t: &Thread, flags: u32, argument: u64) -> Result<u64> {
    if flags & !flags::ALL != 0 {
        return Err(Errno::EINVAL);
    }
    let program = read_program(t, argument).await?;
    let whom = if flags & flags::TSYNC == 0 {
        For::Itself
    } else {
        For::All
    };
    match seccomp::install(t, program, whom)? {
        Ok(()) => Ok(0),
        Err(_) if flags & flags::TSYNC_ESRCH != 0 => Err(Errno::ESRCH),
        Err(Diverged(tid)) => Ok(tid as u64),
    }
}

/// Reads a `struct sock_fprog`: how many instructions, and where they are.
async fn read_program(t: &Thread, address: u64) -> Result<Program> {
    let mm = t.mm();
    let [length, at]: [u64; 2] = mm.read(address).await?;
    let length = usize::from(length as u16);
    if length == 0 || length > MAX_INSTRUCTIONS {
        return Err(Errno::EINVAL);
    }
    let credentials = t.credentials();
    if !credentials.no_new_privileges && !credentials.can(Capability::SysAdmin) {
        return Err(Errno::EACCES);
    }
    let mut instructions: Vec<Instruction> = Vec::new();
    instructions.try_room_exact(length)?;
    instructions.resize(length, Instruction::default());
    mm.read_bytes(at, instructions.as_mut_slice().as_mut_bytes()).await?;
    Program::new(instructions)
}
