//! Calls on sockets.
//!
//! What a call says is read first, then it is attempted, and between attempts it waits. A message is received once its bytes,
//! and what else is to be written besides it, have room in the caller's memory.

mod address;
mod header;
mod multiple;
mod options;
mod receive;
mod send;

use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;

use linux_raw_sys::{general as linux, net};

pub use address::{bind, connect, getpeername, getsockname};
pub use multiple::{recvmmsg, sendmmsg};
pub use options::{MOST_BUFFER, getsockopt, setsockopt};
pub use receive::{read, recvfrom, recvfrom_at_once, recvmsg, recvmsg_at_once};
pub use send::{sendmsg, sendmsg_at_once, sendto, sendto_at_once, write};

use super::fs::{descriptor_limit, on_exec, user::with_faults};
use crate::{
    errno::{Errno, Result},
    fs::{Attempt, OpenFile, Stop, nameless},
    mm::user,
    namespace::network_of,
    net::unix::{Kind, Peer, Socket, core::Shut},
    rt,
    sync::WaitQueue,
    task::{Thread, deadline::until},
};

/// `AF_UNIX` (`linux/socket.h`).
const AF_UNIX: u32 = 1;
/// One past the last family (`AF_MAX`).
const FAMILIES: i32 = 46;
/// One past the last type (`SOCK_MAX` of `linux/net.h`).
const TYPES: u32 = 11;
const TYPE_MASK: u32 = 0xf;
/// `SOCK_CLOEXEC` and `SOCK_NONBLOCK` (`linux/net.h`).
const FLAGS: u32 = linux::O_CLOEXEC | linux::O_NONBLOCK;

/// `MSG_CMSG_COMPAT` (`linux/socket.h`): the kernel's own mark of programs for narrower machines.
const NARROW: u32 = 1 << 31;

/// Refuses what no program may ask of calls with a message's header.
fn check_message_flags(flags: u32) -> Result<()> {
    if flags & NARROW == 0 {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}

/// The open file behind a descriptor, which is a socket.
fn find(t: &Thread, fd: i32) -> Result<Arc<OpenFile>> {
    let file = t.files().get_usable(fd)?;
    if file.socket().is_some() {
        Ok(file)
    } else {
        Err(Errno::ENOTSOCK)
    }
}

/// The socket of a file that [`find`] gave.
fn socket(file: &OpenFile) -> Result<&Socket> {
    file.socket().ok_or(Errno::ENOTSOCK)
}

/// What a socket is asked to be.
fn kind(family: i32, kind: u32, protocol: i32) -> Result<(Kind, u32)> {
    let flags = kind & !TYPE_MASK;
    if flags & !FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let kind = kind & TYPE_MASK;
    if !(0..FAMILIES).contains(&family) {
        return Err(Errno::EAFNOSUPPORT);
    }
    if kind >= TYPES {
        return Err(Errno::EINVAL);
    }
    if family as u32 != AF_UNIX {
        return Err(Errno::EAFNOSUPPORT);
    }
    if protocol != 0 && protocol as u32 != AF_UNIX {
        return Err(Errno::EPROTONOSUPPORT);
    }
    let kind = match kind {
        net::SOCK_STREAM => Kind::Stream,
        net::SOCK_DGRAM | net::SOCK_RAW => Kind::Datagram,
        net::SOCK_SEQPACKET => Kind::SeqPacket,
        _ => return Err(Errno::ESOCKTNOSUPPORT),
    };
    Ok((kind, flags))
}

/// Gives a socket a descriptor.
fn install(t: &Thread, socket: Arc<Socket>, flags: u32) -> Result<i32> {
    let place = nameless::socket(socket.number(), &t.credentials());
    let file = OpenFile::new(socket, place, linux::O_RDWR | flags & linux::O_NONBLOCK);
    t.files().insert(Arc::new(file), on_exec(flags), descriptor_limit(t))
}

/// `socket(2)`.
///
/// # Errors
/// `EAFNOSUPPORT`, `EINVAL`, `EPROTONOSUPPORT`, `ESOCKTNOSUPPORT`, `EMFILE`, `ENOMEM`.
pub fn socket_call(t: &Thread, family: i32, type_and_flags: u32, protocol: i32) -> Result<u64> {
    let (kind, flags) = kind(family, type_and_flags, protocol)?;
    Ok(install(t, Arc::new(Socket::new(kind, network_of(t))), flags)? as u64)
}

/// `socketpair(2)`.
///
/// # Errors
/// As [`socket_call`]; `EFAULT`.
pub fn socketpair(t: &Thread, family: i32, type_and_flags: u32, protocol: i32, pair: u64) -> Attempt<u64> {
    let (kind, flags) = kind(family, type_and_flags, protocol)?;
    user::check_writable(pair & !3, 8 + (pair & 3) as usize)?;
    let (a, b) = Socket::pair(kind, network_of(t), Some(&Peer::of(t)));
    let files = t.files();
    let first = install(t, a, flags)?;
    let second = install(t, b, flags).inspect_err(|_| drop(files.remove(first)))?;
    user::write(pair, &[first, second]).map_err(|_| {
        drop(files.remove(first));
        drop(files.remove(second));
        Errno::EFAULT
    })?;
    Ok(0)
}

/// `listen(2)`.
///
/// # Errors
/// `EBADF`, `ENOTSOCK`, `EOPNOTSUPP`, `EINVAL`.
pub fn listen(t: &Thread, fd: i32, most: u32) -> Result<u64> {
    let file = find(t, fd)?;
    socket(&file)?.listen(most, Peer::of(t))?;
    Ok(0)
}

/// `shutdown(2)`.
///
/// # Errors
/// `EBADF`, `ENOTSOCK`, `EINVAL`.
pub fn shutdown(t: &Thread, fd: i32, how: u32) -> Result<u64> {
    let file = find(t, fd)?;
    let halves = match how {
        net::SHUT_RD => Shut::RECEIVE,
        net::SHUT_WR => Shut::SEND,
        net::SHUT_RDWR => Shut::all(),
        _ => return Err(Errno::EINVAL),
    };
    socket(&file)?.shut_down(halves);
    Ok(0)
}

/// `accept4(2)`.
///
/// # Errors
/// `EINVAL`, `EBADF`, `ENOTSOCK`, `EOPNOTSUPP`, `EAGAIN`, `EFAULT`, `EMFILE`, `ENOMEM`; the restart codes.
pub async fn accept4(t: &Thread, fd: i32, address: u64, length: u64, flags: u32) -> Result<u64> {
    if flags & !FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let file = find(t, fd)?;
    let listener = socket(&file)?;
    let wait = Wait::new(&file, listener.options().receive_timeout.load(Relaxed), 0);
    let accepted = wait.until(t, || listener.accept(), || listener.readable()).await?;
    let peer = accepted.peer();
    let new = install(t, accepted.clone(), flags).inspect_err(|_| listener.give_back(accepted))?;
    if address != 0 {
        let name = peer.and_then(|peer| peer.name());
        let written = with_faults(t, || {
            address::put(address, length, address::Unnamed::Family, name.as_deref())
        });
        if let Err(errno) = written.await {
            drop(t.files().remove(new));
            return Err(errno);
        }
    }
    Ok(new as u64)
}

/// `accept(2)`.
///
/// # Errors
/// As [`accept4`].
pub async fn accept(t: &Thread, fd: i32, address: u64, length: u64) -> Result<u64> {
    accept4(t, fd, address, length, 0).await
}

/// Whether a call waits, by its file and its flags.
fn waits(file: &OpenFile, flags: u32) -> bool {
    !file.is_nonblocking() && flags & net::MSG_DONTWAIT == 0
}

/// What an attempt says that is all there will be of its call: nothing to wait for is an error then.
fn unless_it_waits(stop: Stop, file: &OpenFile, flags: u32) -> Stop {
    match stop {
        Stop::WouldBlock if !waits(file, flags) => Errno::EAGAIN.into(),
        stop => stop,
    }
}

/// How a call waits.
#[derive(Clone, Copy)]
struct Wait {
    /// Whether it does.
    waits: bool,
    /// Nanoseconds since boot; `None` is for ever.
    deadline: Option<u64>,
}

impl Wait {
    /// As the file, the socket's `timeout` and the call's `flags` say.
    fn new(file: &OpenFile, timeout: u64, flags: u32) -> Self {
        Self {
            waits: waits(file, flags),
            deadline: (timeout != u64::MAX).then(|| rt::now().saturating_add(timeout)),
        }
    }

    /// Waits in `queue` until `attempt` gives something else than that it would block.
    ///
    /// # Errors
    /// `EAGAIN` where there is no waiting, or not any longer; the restart code, or with a deadline `EINTR`.
    async fn again<T>(
        self,
        t: &Thread,
        queue: &WaitQueue,
        mut attempt: impl FnMut() -> Option<Attempt<T>>,
    ) -> Result<Attempt<T>> {
        if !self.waits {
            return Err(Errno::EAGAIN);
        }
        let made = t.interruptible(until(self.deadline, queue.wait_again_until(&mut attempt)));
        match made.await {
            Ok(Some(made)) => Ok(made),
            Ok(None) => Err(Errno::EAGAIN),
            Err(_) if self.deadline.is_some() => Err(Errno::EINTR),
            Err(interrupted) => Err(interrupted.into()),
        }
    }

    /// Attempts until it neither blocks nor lacks a page.
    async fn until<'a, T>(
        self,
        t: &Thread,
        mut attempt: impl FnMut() -> Attempt<T>,
        queue: impl Fn() -> &'a WaitQueue,
    ) -> Result<T> {
        let mut made = attempt();
        loop {
            made = match made {
                Ok(value) => return Ok(value),
                Err(Stop::Errno(errno)) => return Err(errno),
                Err(Stop::Fault(fault)) => {
                    t.mm().resolve(fault).await?;
                    attempt()
                }
                Err(Stop::WouldBlock) => {
                    self.again(t, queue(), || match attempt() {
                        Err(Stop::WouldBlock) => None,
                        made => Some(made),
                    })
                    .await?
                }
            };
        }
    }
}
