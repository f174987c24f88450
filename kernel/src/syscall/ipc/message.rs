//! `msgget`, `msgsnd`, `msgrcv`, `msgctl`.

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{IPC_INFO, IPC_RMID, IPC_SET, IPC_STAT, Named, check_id, check_shown, get, to_show};
use crate::{
    errno::{Errno, Result},
    fs::{
        Stop,
        file::Attempt,
        io::{copy_in, copy_out},
    },
    ipc::{
        IPC_NOWAIT,
        line::{self, Woken},
        message::{self, Message, Received, Receiver, Receivers, Senders, Which},
        permission::IpcPerm,
        registry::Object,
        seconds,
    },
    mm::fallible::TryRoomExact,
    namespace::ipc_of,
    syscall::fs::user::with_faults,
    task::{Capability, Thread},
};

/// `MSG_STAT` and its kin (`linux/msg.h`).
const MSG_STAT: i32 = 11;
const MSG_INFO: i32 = 12;
const MSG_STAT_ANY: i32 = 13;

/// `MSG_NOERROR`: cut what is too long.
const NO_ERROR: i32 = 0o1_0000;
/// `MSG_EXCEPT`.
const EXCEPT: i32 = 0o2_0000;
/// `MSG_COPY`: leave it there.
const COPY: i32 = 0o4_0000;

/// `struct msqid64_ds` (`asm-generic/msgbuf.h`), of both machines.
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct MsqidDs {
    permission: IpcPerm,
    times: [i64; 3],
    bytes: u64,
    messages: u64,
    limit: u64,
    last_sender: i32,
    last_receiver: i32,
    unused: [u64; 2],
}

/// `struct msginfo` (`linux/msg.h`).
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct MsgInfo {
    /// Kibibytes; for `MSG_INFO`, queues in use.
    pool: i32,
    /// For `MSG_INFO`, messages.
    map: i32,
    largest: i32,
    bytes_of_queue: i32,
    queues: i32,
    segment_size: i32,
    /// For `MSG_INFO`, bytes.
    headers: i32,
    segments: u16,
    pad: u16,
}

/// `msgget(2)`.
///
/// # Errors
/// `ENOSPC`, `ENOENT`, `EEXIST`, `EACCES`.
pub fn msgget(t: &Thread, key: i32, flags: i32) -> Result<u64> {
    get(t, key, flags, |request| message::get(&ipc_of(t), request))
}

fn copy_message(address: u64, size: u64) -> Attempt<Message> {
    let mut kind = [0; 8];
    copy_in(&mut kind, address)?;
    let kind = i64::from_ne_bytes(kind);
    if kind < 1 {
        return Err(Errno::EINVAL.into());
    }
    let mut text = Vec::new();
    text.try_room_exact(size as usize)?;
    text.resize(size as usize, 0);
    copy_in(&mut text, address + 8)?;
    Ok(Message { kind, text })
}

fn check_size(t: &Thread, id: i32, address: u64, size: u64) -> Attempt<()> {
    // The type is read before anything else is looked at.
    copy_in(&mut [0; 8], address)?;
    if id < 0 || size > i64::MAX as u64 || size > ipc_of(t).limits.msgmax.get() {
        return Err(Errno::EINVAL.into());
    }
    Ok(())
}

/// `msgsnd(2)`: a signal with a handler ends it with `EINTR` whatever `SA_RESTART` says.
///
/// # Errors
/// `EINVAL`, `EFAULT`, `EACCES`, `EIDRM`, `EAGAIN`, `EINTR`, `ENOMEM`.
pub async fn msgsnd(t: &Arc<Thread>, id: i32, address: u64, size: u64, flags: i32) -> Result<u64> {
    Box::pin(async move {
        with_faults(t, || check_size(t, id, address, size)).await?;
        let message = with_faults(t, || copy_message(address, size)).await?;
        let object = ipc_of(t).queues.get(id)?;
        let Some(ticket) = message::send(&object, t, message, flags & IPC_NOWAIT == 0)? else {
            return Ok(0);
        };
        match line::wait(t, &Senders(&object), ticket, None).await {
            Ok(outcome) => outcome.map(|()| 0),
            Err(_) => Err(Errno::ERESTARTNOHAND),
        }
    })
    .await
}

/// [`msgsnd`], if it need not wait.
///
/// # Errors
/// As [`msgsnd`]; would block.
pub fn msgsnd_at_once(t: &Arc<Thread>, id: i32, address: u64, size: u64, flags: i32) -> Attempt<u64> {
    check_size(t, id, address, size)?;
    let message = copy_message(address, size)?;
    let object = ipc_of(t).queues.get(id)?;
    match message::send(&object, t, message, false) {
        Err(Errno::EAGAIN) if flags & IPC_NOWAIT == 0 => Err(Stop::WouldBlock),
        sent => Ok(sent.map(|_| 0)?),
    }
}

/// What `msgrcv` asks for.
#[derive(Clone, Copy)]
struct Wanted {
    address: u64,
    size: u64,
    kind: i64,
    flags: i32,
    /// Bytes of the longest message that may be copied.
    longest: u64,
}

impl Wanted {
    fn receiver(&self, t: &Thread, id: i32) -> Result<Receiver> {
        if id < 0 || self.size > i64::MAX as u64 {
            return Err(Errno::EINVAL);
        }
        if self.flags & COPY != 0 && (self.flags & EXCEPT != 0 || self.flags & IPC_NOWAIT == 0) {
            return Err(Errno::EINVAL);
        }
        let which = match self.kind {
            number if self.flags & COPY != 0 => Which::Number(number),
            0 => Which::Any,
            kind if kind < 0 => Which::UpTo(kind.checked_neg().unwrap_or(i64::MAX)),
            kind if self.flags & EXCEPT != 0 => Which::Not(kind),
            kind => Which::Of(kind),
        };
        Ok(Receiver {
            which,
            most: if self.flags & NO_ERROR != 0 {
                usize::MAX
            } else {
                self.size as usize
            },
            pid: t.process().pid(),
            credentials: t.credentials(),
        })
    }

    /// How many bytes of a message are copied.
    fn length(&self, message: &Message) -> Result<usize> {
        // Copies are never cut.
        if self.flags & COPY != 0 && message.text.len() as u64 > self.size.min(self.longest) {
            return Err(Errno::EINVAL);
        }
        Ok(message.text.len().min(self.size as usize))
    }

    fn copy(&self, message: &Message) -> Attempt<usize> {
        let length = self.length(message)?;
        copy_out(self.address, &message.kind.to_ne_bytes())?;
        copy_out(self.address + 8, &message.text[..length])?;
        Ok(length)
    }

    fn attempt(
        &self,
        object: &Object<message::Queue>,
        receiver: &Receiver,
        t: Option<&Arc<Thread>>,
    ) -> Attempt<Received> {
        match message::receive(object, receiver, t, |message| self.copy(message)) {
            Err(Stop::WouldBlock) if self.flags & IPC_NOWAIT != 0 => Err(Errno::ENOMSG.into()),
            received => received,
        }
    }
}

/// `msgrcv(2)`: how long the message is. A signal with a handler ends it with `EINTR` whatever `SA_RESTART` says.
///
/// # Errors
/// `EINVAL`, `EFAULT`, `EACCES`, `EIDRM`, `ENOMSG`, `E2BIG`, `EINTR`.
pub async fn msgrcv(t: &Arc<Thread>, id: i32, address: u64, size: u64, kind: i64, flags: i32) -> Result<u64> {
    let among = ipc_of(t);
    let wanted = Wanted {
        address,
        size,
        kind,
        flags,
        longest: among.limits.msgmax.get(),
    };
    Box::pin(async move {
        let receiver = wanted.receiver(t, id)?;
        let object = among.queues.get(id)?;
        let thread = (flags & IPC_NOWAIT == 0).then_some(t);
        let ticket = match with_faults(t, || wanted.attempt(&object, &receiver, thread)).await? {
            Received::Copied(length) => return Ok(length as u64),
            Received::Waits(ticket) => ticket,
        };
        let message = match line::wait(t, &Receivers(&object), ticket, None).await {
            Ok(outcome) => outcome?,
            Err(_) => return Err(Errno::ERESTARTNOHAND),
        };
        // It is nobody else's any more, as on Linux.
        let length = wanted.length(&message)?;
        let mm = t.mm();
        mm.write(address, &message.kind).await?;
        mm.write_bytes(address + 8, &message.text[..length]).await?;
        Ok(length as u64)
    })
    .await
}

/// [`msgrcv`], if it need not wait.
///
/// # Errors
/// As [`msgrcv`]; would block.
pub fn msgrcv_at_once(t: &Arc<Thread>, id: i32, address: u64, size: u64, kind: i64, flags: i32) -> Attempt<u64> {
    let among = ipc_of(t);
    let wanted = Wanted {
        address,
        size,
        kind,
        flags,
        longest: among.limits.msgmax.get(),
    };
    let receiver = wanted.receiver(t, id)?;
    match wanted.attempt(&*among.queues.get(id)?, &receiver, None)? {
        Received::Copied(length) => Ok(length as u64),
        Received::Waits(_) => Err(Stop::WouldBlock),
    }
}

/// `msgctl(2)`.
///
/// # Errors
/// `EINVAL`, `EACCES`, `EPERM`, `EFAULT`, `EIDRM`.
pub async fn msgctl(t: &Thread, id: i32, command: i32, address: u64) -> Result<u64> {
    check_id(id)?;
    match command {
        IPC_INFO | MSG_INFO => info(t, command == MSG_INFO, address).await,
        IPC_STAT => stat(t, id, Named::Id, address).await,
        MSG_STAT => stat(t, id, Named::Place, address).await,
        MSG_STAT_ANY => stat(t, id, Named::PlaceForAll, address).await,
        IPC_SET => {
            let new = t.mm().read::<MsqidDs>(address).await?;
            set(t, id, &new)
        }
        IPC_RMID => {
            message::remove(&ipc_of(t), id, &t.credentials())?;
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

fn set(t: &Thread, id: i32, new: &MsqidDs) -> Result<u64> {
    let object = ipc_of(t).queues.get(id)?;
    let credentials = t.credentials();
    let mut woken = Woken::default();
    {
        let mut state = object.lock()?;
        state.check_control(&credentials)?;
        if new.limit > ipc_of(t).limits.msgmnb.get() && !credentials.can(Capability::SysResource) {
            return Err(Errno::EPERM);
        }
        if !new.permission.is_valid() {
            return Err(Errno::EINVAL);
        }
        state.permission.set(&new.permission);
        state.body.limit = new.limit;
        state.body.times[2] = seconds();
        state.look_again(&mut woken);
    }
    woken.wake();
    Ok(0)
}

async fn stat(t: &Thread, id: i32, named: Named, address: u64) -> Result<u64> {
    let credentials = t.credentials();
    let (object, value, asked) = to_show(&ipc_of(t).queues, id, named, &credentials)?;
    let shown = {
        let state = object.lock()?;
        check_shown(&state, asked)?;
        let queue = &state.body;
        MsqidDs {
            permission: state.shown(&object),
            times: queue.times,
            bytes: queue.bytes,
            messages: queue.len() as u64,
            limit: queue.limit,
            last_sender: queue.last_sender,
            last_receiver: queue.last_receiver,
            unused: [0; 2],
        }
    };
    t.mm().write(address, &shown).await?;
    Ok(value)
}

async fn info(t: &Thread, in_use: bool, address: u64) -> Result<u64> {
    let among = ipc_of(t);
    // `MSGPOOL`, `MSGMAP`, `MSGTQL`, `MSGSSZ`, `MSGSEG`: they limit nothing.
    let (pool, map, headers) = if in_use {
        let (messages, bytes) = message::totals(&among);
        (among.queues.usage().0, messages, bytes)
    } else {
        (32_000 * 16_384 / 1024, 16_384, 16_384)
    };
    let limit = |value: u64| value.min(i32::MAX as u64) as i32;
    let info = MsgInfo {
        pool: limit(pool),
        map: limit(map),
        largest: limit(among.limits.msgmax.get()),
        bytes_of_queue: limit(among.limits.msgmnb.get()),
        queues: limit(among.limits.msgmni.get()),
        segment_size: 16,
        headers: limit(headers),
        segments: 0xffff,
        pad: 0,
    };
    t.mm().write(address, &info).await?;
    Ok(among.queues.last_index())
}
