//! Receiving.

use alloc::boxed::Box;
use core::sync::atomic::Ordering::Relaxed;

use linux_raw_sys::net;

use super::{
    NARROW, Wait,
    address::{self, Unnamed},
    check_message_flags, find,
    header::{self, Control, Header},
    send::in_one_page,
    socket, unless_it_waits, waits,
};
use crate::{
    errno::{Errno, Result},
    fs::{Attempt, OnExec, OpenFile, Sink, Stop, UserSlice, io::copy_out},
    mm::user,
    net::unix::{Flags, Kind, Socket, message::Taken, name::Name},
    rt,
    syscall::fs::user::with_faults,
    task::Thread,
};

/// Windows received between two looks at what else is ready to run.
const WINDOWS_PER_TURN: u32 = 16;

/// What the flags of a call ask for.
fn flags_of(flags: u32, takes_files: bool) -> Flags {
    Flags {
        peek: flags & net::MSG_PEEK != 0,
        all: flags & net::MSG_WAITALL != 0,
        takes_files,
    }
}

/// Whether `flags` ask for what sockets of this kind don't have.
fn check(socket: &Socket, flags: u32) -> Result<()> {
    if flags & net::MSG_OOB == 0 {
        return Ok(());
    }
    Err(match socket.kind() {
        Kind::Stream if socket.core().phase() != crate::net::unix::core::Phase::Connected => Errno::EINVAL,
        _ => Errno::EOPNOTSUPP,
    })
}

/// Receives into the sink, and waits as file and flags say. `ready` is whether what else is to be written can be.
async fn receive(
    t: &Thread,
    file: &OpenFile,
    sink: &mut Sink<'_>,
    flags: u32,
    how: Flags,
    taken: &mut Taken,
    ready: impl Fn() -> Attempt<()>,
) -> Result<usize> {
    let socket = socket(file)?;
    check(socket, flags)?;
    let is_stream = socket.kind() == Kind::Stream;
    let wait = Wait::new(file, socket.options().receive_timeout.load(Relaxed), flags);
    let attempt = |sink: &mut Sink<'_>, taken: &mut Taken| {
        ready()?;
        sink.open_window();
        socket.receive(sink, how, taken)
    };
    let mut windows = 0;
    let mut made = attempt(sink, taken);
    loop {
        made = match made {
            Ok(_) if taken.ended && !wait.waits => return Err(Errno::EAGAIN),
            Ok(again) if !again || !is_stream => return Ok(sink.done()),
            Ok(_) => {
                windows += 1;
                if windows % WINDOWS_PER_TURN == 0 {
                    rt::yield_now().await;
                    if t.must_exit() {
                        return Ok(sink.done());
                    }
                }
                attempt(sink, taken)
            }
            Err(Stop::Errno(errno)) if sink.done() > 0 => {
                let _ = errno;
                return Ok(sink.done());
            }
            Err(Stop::Errno(errno)) => return Err(errno),
            Err(Stop::Fault(fault)) => match t.mm().resolve(fault).await {
                // What came with files ends with them.
                Ok(()) if is_stream && taken.has_rights && sink.done() > 0 && !how.peek => return Ok(sink.done()),
                Ok(()) => attempt(sink, taken),
                Err(errno) => {
                    // It may have been woken for what it could not take.
                    socket.readable().wake_one();
                    Err(Stop::Errno(errno))
                }
            },
            Err(Stop::WouldBlock) => {
                let again = || match attempt(sink, taken) {
                    Err(Stop::WouldBlock) => None,
                    made => Some(made),
                };
                match wait.again(t, socket.readable(), again).await {
                    Ok(made) => made,
                    Err(errno) => Err(Stop::Errno(errno)),
                }
            }
        };
    }
}

/// What a call returns that received `done` bytes, and the flag that says they are not all.
fn outcome(socket: &Socket, taken: &Taken, done: usize, flags: u32) -> (u64, u32) {
    match taken.whole.filter(|_| socket.kind() != Kind::Stream) {
        Some(whole) => {
            let cut = if whole > done { net::MSG_TRUNC } else { 0 };
            let told = if flags & net::MSG_TRUNC != 0 { whole } else { done };
            (told as u64, cut)
        }
        None => (done as u64, 0),
    }
}

/// What the sender is called: of a stream, the peer.
fn sender(socket: &Socket, taken: &mut Taken, done: usize) -> Option<alloc::sync::Arc<Name>> {
    if socket.kind() == Kind::Stream && done > 0 {
        return socket.peer().and_then(|peer| peer.name());
    }
    taken.name.take()
}

/// `read(2)` and its kin on a socket.
///
/// # Errors
/// As [`recvmsg`].
pub async fn read(t: &Thread, file: &OpenFile, _: &Socket, sink: &mut Sink<'_>) -> Result<u64> {
    if sink.total() == 0 {
        return Ok(0);
    }
    let how = Flags::default();
    Ok(receive(t, file, sink, 0, how, &mut Taken::default(), || Ok(())).await? as u64)
}

/// `recvfrom(2)`.
///
/// # Errors
/// As [`recvmsg`].
pub async fn recvfrom(
    t: &Thread,
    fd: i32,
    buffer: u64,
    count: u64,
    flags: u32,
    address: u64,
    length: u64,
) -> Result<u64> {
    Box::pin(async move {
        let slice = UserSlice::new(buffer, count)?;
        let file = find(t, fd)?;
        let socket = socket(&file)?;
        let mut sink = Sink::user_slice(slice);
        let mut taken = Taken::default();
        let how = flags_of(flags, false);
        let ready = || match address {
            0 => Ok(()),
            _ => Ok(user::check_writable(length & !3, 4)?),
        };
        let done = receive(t, &file, &mut sink, flags, how, &mut taken, ready).await?;
        let (value, _) = outcome(socket, &taken, done, flags);
        if address != 0 {
            let name = sender(socket, &mut taken, done);
            with_faults(t, || address::put(address, length, Unnamed::Nothing, name.as_deref())).await?;
        }
        Ok(value)
    })
    .await
}

/// Receives into one page, without being told anything besides.
fn receive_at_once(file: &OpenFile, slice: UserSlice, flags: u32) -> Attempt<(u64, Taken, u32)> {
    let socket = socket(file)?;
    if !in_one_page(slice)
        || flags & (net::MSG_OOB | net::MSG_WAITALL | NARROW) != 0
        || socket.options().receive_least() > 1
        || slice.len == 0
    {
        return Err(Stop::WouldBlock);
    }
    let mut sink = Sink::user_slice(slice);
    let mut taken = Taken::default();
    match socket.receive(&mut sink, flags_of(flags, false), &mut taken) {
        Ok(_) if taken.ended && !waits(file, flags) => Err(Errno::EAGAIN.into()),
        Ok(_) => {
            let (value, cut) = outcome(socket, &taken, sink.done(), flags);
            Ok((value, taken, cut))
        }
        Err(stop) => Err(unless_it_waits(stop, file, flags)),
    }
}

/// [`recvfrom`] where it need not wait.
pub fn recvfrom_at_once(
    t: &Thread,
    fd: i32,
    buffer: u64,
    count: u64,
    flags: u32,
    address: u64,
    _length: u64,
) -> Attempt<u64> {
    if address != 0 {
        return Err(Stop::WouldBlock);
    }
    let slice = UserSlice::new(buffer, count)?;
    Ok(receive_at_once(&*find(t, fd)?, slice, flags)?.0)
}

/// Receives one message into what a header says.
pub(super) async fn receive_one(t: &Thread, file: &OpenFile, address: u64, flags: u32) -> Result<u64> {
    check_message_flags(flags)?;
    let (header, vectors) = with_faults(t, || {
        let header = Header::read(address)?;
        Ok((header, header.vectors()?))
    })
    .await?;
    let socket = socket(file)?;
    let mut sink = Sink::user(&vectors);
    let mut taken = Taken::default();
    let how = flags_of(flags, header::takes_files(&header));
    let done = receive(t, file, &mut sink, flags, how, &mut taken, || header.check_writable()).await?;
    let (value, cut) = outcome(socket, &taken, done, flags);
    let name = sender(socket, &mut taken, done);
    let on_exec = if flags & net::MSG_CMSG_CLOEXEC != 0 {
        OnExec::Close
    } else {
        OnExec::Keep
    };
    let mut control = Control::of(&header);
    control.tell(t, socket.core(), &mut taken, on_exec)?;
    let mut told = flags & net::MSG_CMSG_CLOEXEC | cut;
    if control.cut {
        told |= net::MSG_CTRUNC;
    }
    with_faults(t, || {
        if header.name != 0 {
            let bytes = address::bytes(Unnamed::Nothing, name.as_deref());
            copy_out(header.name, &bytes[..bytes.len().min(header.name_length as usize)])?;
            user::write(header.name_length_at(), &(bytes.len() as i32))?;
        }
        header.answer(told, control.used)
    })
    .await?;
    Ok(value)
}

/// `recvmsg(2)`.
///
/// # Errors
/// `EBADF`, `ENOTSOCK`, `EFAULT`, `EINVAL`, `EMSGSIZE`, `EOPNOTSUPP`, `ENOTCONN`, `ECONNRESET`, `EAGAIN`, `ENOMEM`; the
/// restart codes.
pub async fn recvmsg(t: &Thread, fd: i32, address: u64, flags: u32) -> Result<u64> {
    Box::pin(async move {
        let file = find(t, fd)?;
        receive_one(t, &file, address, flags).await
    })
    .await
}

/// [`recvmsg`] where it need not wait.
pub fn recvmsg_at_once(t: &Thread, fd: i32, address: u64, flags: u32) -> Attempt<u64> {
    let file = find(t, fd)?;
    let header = Header::read(address)?;
    if header.name != 0 || header.control != 0 {
        return Err(Stop::WouldBlock);
    }
    let slice = header.only_run()?;
    header.check_writable()?;
    let (value, mut taken, cut) = receive_at_once(&file, slice, flags)?;
    let mut control = Control::of(&header);
    control.tell(t, socket(&file)?.core(), &mut taken, OnExec::Keep)?;
    let missing = if control.cut { net::MSG_CTRUNC } else { 0 };
    let told = flags & net::MSG_CMSG_CLOEXEC | cut | missing;
    header.answer(told, 0).map_err(|_| Errno::EFAULT)?;
    Ok(value)
}
