//! `seccomp(2)`: filters of system calls. What they do is [`task::seccomp`](crate::task::seccomp)'s.

pub(super) mod inspect;
mod notify;

use alloc::{sync::Arc, vec::Vec};

use linux_raw_sys::general as linux;
use zerocopy::IntoBytes;

use self::notify::{Notif, NotifResponse, control};
use super::fs::descriptor_limit;

use crate::{
    errno::{Errno, Result},
    fs::{OnExec, OpenFile, nameless::Anonymous},
    mm::fallible::TryRoomExact,
    task::{
        Capability, Thread,
        seccomp::{
            self, Diverged, For, With, action,
            bpf::{Instruction, MAX_INSTRUCTIONS, Program, WORDS},
            listener::{Asking, Listener, ListenerFile},
        },
    },
};

const SET_MODE_STRICT: u32 = 0;
const SET_MODE_FILTER: u32 = 1;
const GET_ACTION_AVAIL: u32 = 2;
const GET_NOTIF_SIZES: u32 = 3;

/// `SECCOMP_FILTER_FLAG_*`.
mod flags {
    pub const TSYNC: u32 = 1;
    /// Everything that is not allowed is written about: it is in any case, as far as Linux's default goes.
    pub const LOG: u32 = 2;
    /// No mitigation of speculation is switched on by a filter that this would leave off.
    pub const SPEC_ALLOW: u32 = 4;
    pub const NEW_LISTENER: u32 = 8;
    pub const TSYNC_ESRCH: u32 = 16;
    pub const WAIT_KILLABLE_RECV: u32 = 32;
    pub const ALL: u32 = TSYNC | LOG | SPEC_ALLOW | NEW_LISTENER | TSYNC_ESRCH | WAIT_KILLABLE_RECV;
}

/// `SECCOMP_MODE_*` of `prctl`.
const MODE_STRICT: u64 = 1;
const MODE_FILTER: u64 = 2;

/// `seccomp(2)`.
///
/// # Errors
/// `EINVAL` for an operation or flags that are not there, for a program that is none, and where the other mode is on; `EFAULT`; `EACCES`
/// without `no_new_privs` and `CAP_SYS_ADMIN`; `ENOMEM` for too many instructions; `ESRCH` if threads diverge and that is asked
/// for; `EBUSY` for a second listener, `EMFILE`; `EOPNOTSUPP` for an action that is not there.
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
                | action::USER_NOTIF
                | action::TRACE
                | action::LOG
                | action::ALLOW => Ok(0),
                _ => Err(Errno::EOPNOTSUPP),
            }
        }
        GET_NOTIF_SIZES if flags == 0 => {
            let sizes = [
                size_of::<Notif>(),
                size_of::<NotifResponse>(),
                size_of::<[u32; WORDS]>(),
            ];
            t.mm().write(argument, &sizes.map(|size| size as u16)).await?;
            Ok(0)
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
    let has = |flag: u32| flags & flag != 0;
    // A call that returns a descriptor cannot return a thread.
    let ambiguous = has(flags::TSYNC) && has(flags::NEW_LISTENER) && !has(flags::TSYNC_ESRCH);
    if flags & !flags::ALL != 0 || ambiguous || has(flags::WAIT_KILLABLE_RECV) && !has(flags::NEW_LISTENER) {
        return Err(Errno::EINVAL);
    }
    let program = read_program(t, argument).await?;
    let whom = if flags & flags::TSYNC == 0 {
        For::Itself
    } else {
        For::All
    };
    let mut with = With {
        logs: has(flags::LOG),
        asking: None,
    };
    let descriptor = if has(flags::NEW_LISTENER) {
        let listener = Arc::new(Listener::new(has(flags::WAIT_KILLABLE_RECV)));
        with.asking = Some(Asking(listener.clone()));
        let file = OpenFile::anonymous(
            Arc::new(ListenerFile::new(listener, control)),
            Anonymous::SeccompListener,
            linux::O_RDWR,
        );
        Some(t.files().insert(Arc::new(file), OnExec::Close, descriptor_limit(t))?)
    } else {
        None
    };
    let installed = seccomp::install(t, program, whom, with);
    if let (Some(fd), Err(_) | Ok(Err(_))) = (descriptor, &installed) {
        drop(t.files().remove(fd));
    }
    match installed? {
        Ok(()) => Ok(descriptor.unwrap_or(0) as u64),
        Err(_) if has(flags::TSYNC_ESRCH) => Err(Errno::ESRCH),
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
