//! Sending.

use alloc::{boxed::Box, sync::Arc};
use core::sync::atomic::Ordering::Relaxed;

use hal::PAGE_SIZE;
use linux_raw_sys::net;

use super::{
    NARROW, Wait,
    address::{self, Given},
    check_message_flags, find,
    header::{self, Header},
    socket, unless_it_waits,
};
use crate::{
    errno::{Errno, Result},
    fs::{Attempt, OpenFile, Source, Stop, UserSlice},
    net::unix::{
        Kind, Outgoing, Socket,
        core::{Core, Phase},
    },
    rt,
    syscall::fs::{
        broken_pipe,
        user::{Vectors, with_faults},
    },
    task::Thread,
};

/// Windows sent between two looks at what else is ready to run.
const WINDOWS_PER_TURN: u32 = 16;

/// Who a message is for, as the call says: nobody for the peer.
///
/// # Errors
/// `EOPNOTSUPP` for urgent bytes; `EISCONN`, `EOPNOTSUPP` of a stream; those of finding it.
fn target(t: &Thread, socket: &Socket, given: &Given, flags: u32) -> Result<Option<Arc<Core>>> {
    if flags & net::MSG_OOB != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    if given.is_empty() {
        return Ok(None);
    }
    match socket.kind() {
        Kind::Stream if socket.core().phase() == Phase::Connected => Err(Errno::EISCONN),
        Kind::Stream => Err(Errno::EOPNOTSUPP),
        Kind::SeqPacket => Ok(None),
        Kind::Datagram => Ok(Some(address::resolve(t, &address::parse(given)?, socket)?)),
    }
}

/// One attempt.
fn attempt(
    t: &Thread,
    socket: &Socket,
    source: &mut Source<'_>,
    to: Option<&Arc<Core>>,
    out: &mut Outgoing,
) -> Attempt<()> {
    source.open_window();
    match socket.kind() {
        Kind::Stream => socket.send_bytes(source, Some(t), out),
        Kind::Datagram | Kind::SeqPacket => socket.send_message(source, Some(t), to, out),
    }
}

/// A failure, and the signal that goes with it.
fn fail(t: &Thread, errno: Errno, out: &Outgoing, flags: u32) -> Errno {
    if errno == Errno::EPIPE && out.signal && flags & net::MSG_NOSIGNAL == 0 {
        broken_pipe(t);
    }
    errno
}

/// Sends the whole source, and waits as file and flags say.
async fn send(
    t: &Thread,
    file: &OpenFile,
    source: &mut Source<'_>,
    to: Option<Arc<Core>>,
    mut out: Outgoing,
    flags: u32,
) -> Result<u64> {
    let socket = socket(file)?;
    if !socket.connects() {
        socket.bind_if_told()?;
    }
    let is_stream = socket.kind() == Kind::Stream;
    let total = source.total() as u64;
    let wait = Wait::new(file, socket.options().send_timeout.load(Relaxed), flags);
    let to = to.as_ref();
    let mut windows = 0;
    let mut made = attempt(t, socket, source, to, &mut out);
    loop {
        made = match made {
            Ok(()) if !is_stream || source.is_complete() => return Ok(total),
            Ok(()) => {
                windows += 1;
                if windows % WINDOWS_PER_TURN == 0 {
                    rt::yield_now().await;
                    if t.must_exit() {
                        return Ok(source.done() as u64);
                    }
                }
                attempt(t, socket, source, to, &mut out)
            }
            Err(Stop::Errno(errno)) if is_stream && source.done() > 0 => {
                let _ = errno;
                return Ok(source.done() as u64);
            }
            Err(Stop::Errno(errno)) => return Err(fail(t, errno, &out, flags)),
            Err(Stop::Fault(fault)) => match t.mm().resolve(fault).await {
                Ok(()) => attempt(t, socket, source, to, &mut out),
                Err(errno) => Err(Stop::Errno(errno)),
            },
            Err(Stop::WouldBlock) => {
                let peer = if is_stream { None } else { socket.peer() };
                let packed = out.is_packed();
                let queue = socket.send_queue(to.or(peer.as_ref()), packed);
                let again = || {
                    out.waited = true;
                    match attempt(t, socket, source, to, &mut out) {
                        Err(Stop::WouldBlock) if out.is_packed() == packed => None,
                        made => Some(made),
                    }
                };
                match wait.again(t, queue, again).await {
                    Ok(made) => made,
                    Err(errno) => Err(Stop::Errno(errno)),
                }
            }
        };
    }
}

/// The caller's memory, if it lies in one page: then an attempt copies all of it or nothing.
pub(super) fn in_one_page(slice: UserSlice) -> bool {
    slice.len <= PAGE_SIZE - slice.address as usize % PAGE_SIZE
}

/// Sends what lies in one page, to the peer and without anything besides.
fn send_at_once(t: &Thread, file: &OpenFile, slice: UserSlice, flags: u32) -> Attempt<u64> {
    let socket = socket(file)?;
    if !in_one_page(slice) || flags & (net::MSG_OOB | NARROW) != 0 || !socket.connects() {
        return Err(Stop::WouldBlock);
    }
    let mut source = Source::user_slice(slice);
    let mut out = Outgoing::default();
    match attempt(t, socket, &mut source, None, &mut out) {
        Ok(()) => Ok(slice.len as u64),
        Err(Stop::Errno(errno)) => Err(fail(t, errno, &out, flags).into()),
        Err(stop) => Err(unless_it_waits(stop, file, flags)),
    }
}

/// `write(2)` and its kin on a socket.
///
/// # Errors
/// As [`sendmsg`].
pub async fn write(t: &Thread, file: &OpenFile, _: &Socket, source: &mut Source<'_>) -> Result<u64> {
    send(t, file, source, None, Outgoing::default(), 0).await
}

/// `sendto(2)`.
///
/// # Errors
/// As [`sendmsg`].
pub async fn sendto(
    t: &Thread,
    fd: i32,
    buffer: u64,
    count: u64,
    flags: u32,
    address: u64,
    length: i32,
) -> Result<u64> {
    Box::pin(async move {
        let slice = UserSlice::new(buffer, count)?;
        let file = find(t, fd)?;
        let given = if address == 0 {
            Given::new()
        } else {
            with_faults(t, || address::get(address, length)).await?
        };
        let to = target(t, socket(&file)?, &given, flags)?;
        send(t, &file, &mut Source::user_slice(slice), to, Outgoing::default(), flags).await
    })
    .await
}

/// [`sendto`] where it need not wait.
pub fn sendto_at_once(
    t: &Thread,
    fd: i32,
    buffer: u64,
    count: u64,
    flags: u32,
    address: u64,
    _length: i32,
) -> Attempt<u64> {
    if address != 0 {
        return Err(Stop::WouldBlock);
    }
    let slice = UserSlice::new(buffer, count)?;
    send_at_once(t, &*find(t, fd)?, slice, flags)
}

/// What a message header says, read.
struct Message {
    given: Given,
    vectors: Vectors,
    out: Outgoing,
}

fn read_message(t: &Thread, address: u64) -> Attempt<Message> {
    let header = Header::read(address)?;
    let given = address::get(header.name, header.name_length)?;
    let vectors = header.vectors()?;
    let out = header::outgoing(t, header.control, header.control_length)?;
    Ok(Message { given, vectors, out })
}

/// Sends one message of a header.
pub(super) async fn send_one(t: &Thread, file: &OpenFile, address: u64, flags: u32) -> Result<u64> {
    check_message_flags(flags)?;
    let Message { given, vectors, out } = with_faults(t, || read_message(t, address)).await?;
    let to = target(t, socket(file)?, &given, flags)?;
    send(t, file, &mut Source::user(&vectors), to, out, flags).await
}

/// `sendmsg(2)`.
///
/// # Errors
/// `EBADF`, `ENOTSOCK`, `EFAULT`, `EINVAL`, `EMSGSIZE`, `ENOBUFS`, `EOPNOTSUPP`, `EISCONN`, `ENOTCONN`, `EPIPE`,
/// `ECONNRESET`, `ECONNREFUSED`, `EPERM`, `ESRCH`, `ETOOMANYREFS`, `EAGAIN`, `ENOMEM`; the restart codes.
pub async fn sendmsg(t: &Thread, fd: i32, address: u64, flags: u32) -> Result<u64> {
    Box::pin(async move {
        let file = find(t, fd)?;
        send_one(t, &file, address, flags).await
    })
    .await
}

/// [`sendmsg`] where it need not wait.
pub fn sendmsg_at_once(t: &Thread, fd: i32, address: u64, flags: u32) -> Attempt<u64> {
    let file = find(t, fd)?;
    let header = Header::read(address)?;
    if header.name_length != 0 || header.control_length != 0 {
        return Err(Stop::WouldBlock);
    }
    send_at_once(t, &file, header.only_run()?, flags)
}
