//! Options (`socket(7)`).

use core::sync::atomic::Ordering::Relaxed;

use linux_raw_sys::net;

use super::{
    address::{self, Unnamed},
    find,
    header::{SOL_SOCKET, ucred},
    socket,
};
use crate::{
    errno::{Errno, Result},
    fs::{
        Attempt,
        io::{copy_in, copy_out},
    },
    mm::user,
    net::unix::{Kind, Socket, core::Phase, options::Passes},
    syscall::{pidfd, types::Timeval},
    task::{self, Capability, Thread},
};

/// The most that `SO_SNDBUF` and `SO_RCVBUF` may ask for (`net.core.wmem_max`, `rmem_max`), in bytes.
pub const MOST_BUFFER: u32 = 212_992;
/// The least memory for sending: `SOCK_MIN_SNDBUF` of `net/sock.h`.
const LEAST_SEND: usize = 4608;
/// `SOCK_MIN_RCVBUF`.
const LEAST_RECEIVE: usize = 2304;

const SO_RCVTIMEO: u32 = 20;
const SO_SNDTIMEO: u32 = 21;
const SO_RCVTIMEO_NEW: u32 = 66;
const SO_SNDTIMEO_NEW: u32 = 67;

/// Options that are on or off.
const fn passes(option: u32) -> Option<Passes> {
    Some(match option {
        net::SO_PASSCRED => Passes::CREDENTIALS,
        net::SO_PASSPIDFD => Passes::PIDFD,
        net::SO_PASSSEC => Passes::SECURITY,
        net::SO_DEBUG => Passes::DEBUG,
        net::SO_REUSEADDR => Passes::REUSE_ADDRESS,
        net::SO_DONTROUTE => Passes::DO_NOT_ROUTE,
        net::SO_BROADCAST => Passes::BROADCAST,
        net::SO_KEEPALIVE => Passes::KEEP_ALIVE,
        net::SO_OOBINLINE => Passes::INLINE,
        _ => return None,
    })
}

/// A timeout as it is set: none is 0.
fn timeout(nanoseconds: u64) -> Timeval {
    Timeval::from_nanoseconds(if nanoseconds == u64::MAX { 0 } else { nanoseconds })
}

fn integer(socket: &Socket, option: u32) -> Result<i32> {
    let (core, options) = (socket.core(), socket.options());
    if let Some(which) = passes(option) {
        return Ok(core.passes(which).into());
    }
    Ok(match option {
        net::SO_TYPE => {
            (match socket.kind() {
                Kind::Stream => net::SOCK_STREAM,
                Kind::Datagram => net::SOCK_DGRAM,
                Kind::SeqPacket => net::SOCK_SEQPACKET,
            }) as i32
        }
        net::SO_DOMAIN => super::AF_UNIX as i32,
        net::SO_PROTOCOL => 0,
        net::SO_ERROR => core.take_error().map_or_else(Errno::number, |()| 0),
        net::SO_ACCEPTCONN => (core.phase() == Phase::Listening).into(),
        net::SO_SNDBUF => core.send_limit() as i32,
        net::SO_RCVBUF => options.receive_limit.load(Relaxed) as i32,
        net::SO_RCVLOWAT => options.receive_least() as i32,
        net::SO_SNDLOWAT => 1,
        net::SO_PEEK_OFF => options.peek_offset_value(),
        net::SO_PRIORITY => options.priority.load(Relaxed),
        _ => return Err(Errno::ENOPROTOOPT),
    })
}

/// `getsockopt(2)`.
///
/// # Errors
/// `EBADF`, `ENOTSOCK`, `EOPNOTSUPP` for options of other levels, `ENOPROTOOPT`, `EINVAL`, `ENODATA`, `ERANGE`, `EMFILE`; a
/// page that is missing.
pub fn getsockopt(t: &Thread, fd: i32, level: i32, option: u32, value: u64, length: u64) -> Attempt<u64> {
    let file = find(t, fd)?;
    let socket = socket(&file)?;
    if level != SOL_SOCKET {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let room: i32 = user::read(length)?;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    // What it returns once is not lost by a page that is missing.
    user::check_writable(length & !3, 4)?;
    user::check_writable(value, room.min(4))?;
    let put = |bytes: &[u8]| -> Attempt<u64> {
        let bytes = &bytes[..bytes.len().min(room)];
        copy_out(value, bytes)?;
        user::write(length, &(bytes.len() as i32))?;
        Ok(0)
    };
    match option {
        net::SO_LINGER => {
            let options = [
                i32::from(socket.core().passes(Passes::LINGER)),
                socket.options().linger.load(Relaxed),
            ];
            put(options.map(i32::to_ne_bytes).as_flattened())
        }
        SO_RCVTIMEO | SO_RCVTIMEO_NEW | SO_SNDTIMEO | SO_SNDTIMEO_NEW => {
            let receives = matches!(option, SO_RCVTIMEO | SO_RCVTIMEO_NEW);
            let options = socket.options();
            let set = if receives {
                &options.receive_timeout
            } else {
                &options.send_timeout
            };
            let time = timeout(set.load(Relaxed));
            put([time.seconds, time.microseconds].map(i64::to_ne_bytes).as_flattened())
        }
        net::SO_PEERCRED => {
            let peer = socket.peer_identity().map(|peer| peer.credentials);
            let (pid, uid, gid) = peer.map_or((0, u32::MAX, u32::MAX), |peer| (peer.pid, peer.uid, peer.gid));
            put(&ucred(pid, uid, gid))
        }
        net::SO_PEERGROUPS => peer_groups(socket, value, length, room),
        net::SO_PEERPIDFD => {
            let peer = socket.peer_identity().ok_or(Errno::ENODATA)?;
            let process = peer.credentials.process.upgrade();
            let process = process.filter(|process| task::process(process.pid()).is_some());
            let pidfd = pidfd::open(t, process.ok_or(Errno::ESRCH)?, 0)?;
            put(&pidfd.to_ne_bytes()).inspect_err(|_| drop(t.files().remove(pidfd)))
        }
        net::SO_PEERNAME => {
            let peer = socket.peer().ok_or(Errno::ENOTCONN)?;
            let bytes = address::bytes(Unnamed::Family, peer.name().as_deref());
            if bytes.len() < room {
                return Err(Errno::EINVAL.into());
            }
            put(&bytes)
        }
        _ => put(&integer(socket, option)?.to_ne_bytes()),
    }
}

fn peer_groups(socket: &Socket, value: u64, length: u64, room: usize) -> Attempt<u64> {
    let peer = socket.peer_identity().ok_or(Errno::ENODATA)?;
    let groups = &peer.groups.groups;
    let bytes = groups.len() * 4;
    user::write(length, &(bytes as i32))?;
    if bytes > room {
        return Err(Errno::ERANGE.into());
    }
    for (index, group) in groups.iter().enumerate() {
        copy_out(value + 4 * index as u64, &group.to_ne_bytes())?;
    }
    Ok(0)
}

/// The timeout that a `struct timeval` asks for, in nanoseconds.
fn given_timeout(value: u64, length: i32) -> Attempt<u64> {
    if length < size_of::<Timeval>() as i32 {
        return Err(Errno::EINVAL.into());
    }
    let given: Timeval = user::read(value)?;
    if !(0..1_000_000).contains(&given.microseconds) {
        return Err(Errno::EDOM.into());
    }
    Ok(match given {
        Timeval { seconds: ..0, .. } => 0,
        Timeval {
            seconds: 0,
            microseconds: 0,
        } => u64::MAX,
        given => given.to_nanoseconds()?,
    })
}

/// `setsockopt(2)`.
///
/// # Errors
/// `EBADF`, `ENOTSOCK`, `EOPNOTSUPP` for options of other levels, `ENOPROTOOPT`, `EINVAL`, `EDOM`, `EPERM`; a page that is
/// missing.
pub fn setsockopt(t: &Thread, fd: i32, level: i32, option: u32, value: u64, length: i32) -> Attempt<u64> {
    let file = find(t, fd)?;
    let socket = socket(&file)?;
    if level != SOL_SOCKET {
        return Err(if length < 0 { Errno::EINVAL } else { Errno::EOPNOTSUPP }.into());
    }
    if length < 4 {
        return Err(Errno::EINVAL.into());
    }
    let mut bytes = [0; 4];
    copy_in(&mut bytes, value)?;
    let given = i32::from_ne_bytes(bytes);
    let credentials = t.credentials();
    let may_administer = credentials.can(Capability::NetAdmin);
    let may_prefer = may_administer || credentials.can(Capability::NetRaw);
    let (core, options) = (socket.core(), socket.options());
    match option {
        net::SO_DEBUG if given != 0 && !may_administer => return Err(Errno::EACCES.into()),
        net::SO_SNDBUFFORCE | net::SO_RCVBUFFORCE if !may_administer => return Err(Errno::EPERM.into()),
        net::SO_SNDBUF => core.set_send_limit(doubled((given as u32).min(MOST_BUFFER)).max(LEAST_SEND)),
        net::SO_SNDBUFFORCE => core.set_send_limit(doubled(given.max(0) as u32).max(LEAST_SEND)),
        net::SO_RCVBUF => options
            .receive_limit
            .store(doubled((given as u32).min(MOST_BUFFER)).max(LEAST_RECEIVE), Relaxed),
        net::SO_RCVBUFFORCE => options
            .receive_limit
            .store(doubled(given.max(0) as u32).max(LEAST_RECEIVE), Relaxed),
        net::SO_RCVLOWAT => options.set_receive_least(match given {
            0 => 1,
            ..0 => i32::MAX as usize,
            _ => given as usize,
        }),
        net::SO_PEEK_OFF => options.set_peek_offset(given),
        net::SO_PRIORITY if !(0..=6).contains(&given) && !may_prefer => return Err(Errno::EPERM.into()),
        net::SO_PRIORITY => options.priority.store(given, Relaxed),
        net::SO_LINGER => {
            if length < 8 {
                return Err(Errno::EINVAL.into());
            }
            let [on, seconds]: [i32; 2] = user::read(value)?;
            core.set_passes(Passes::LINGER, on != 0);
            if on != 0 {
                options.linger.store(seconds, Relaxed);
            }
        }
        SO_RCVTIMEO | SO_RCVTIMEO_NEW => options.receive_timeout.store(given_timeout(value, length)?, Relaxed),
        SO_SNDTIMEO | SO_SNDTIMEO_NEW => options.send_timeout.store(given_timeout(value, length)?, Relaxed),
        _ => core.set_passes(passes(option).ok_or(Errno::ENOPROTOOPT)?, given != 0),
    }
    Ok(0)
}

/// Half of the memory that a buffer may take is for what goes with bytes.
const fn doubled(bytes: u32) -> usize {
    // As an `int` on Linux.
    let most = i32::MAX as u32 / 2;
    (if bytes > most { most } else { bytes }) as usize * 2
}
