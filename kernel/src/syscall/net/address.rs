//! Addresses (`struct sockaddr_un`), and the calls that are about them.

use alloc::{sync::Arc, vec::Vec};
use core::sync::atomic::Ordering::Relaxed;

use smallvec::SmallVec;

use super::{AF_UNIX, Wait, find, socket};
use crate::{
    errno::{Errno, Result},
    fs::{
        Attempt, FileKind, Location, Permission, Stop,
        attributes::permit,
        inode::NewFile,
        io::{copy_in, copy_out},
        path::LastLink,
    },
    mm::user,
    net::unix::{
        Peer, Socket,
        core::Core,
        name::{self, ADDRESS, FAMILY, Key, Name},
    },
    syscall::fs::{
        at::{self, AT_FDCWD, may_change_names},
        user::with_faults,
    },
    task::Thread,
};

/// The longest address of any family (`struct sockaddr_storage`).
pub const STORAGE: usize = 128;

/// An address as the caller has it.
pub type Given = SmallVec<[u8; 32]>;

/// Reads an address.
///
/// # Errors
/// `EINVAL` for a length that is none; a page that is missing.
pub fn get(address: u64, length: i32) -> Attempt<Given> {
    let length = usize::try_from(length).map_err(|_| Errno::EINVAL)?;
    if length > STORAGE {
        return Err(Errno::EINVAL.into());
    }
    let mut bytes = Given::new();
    bytes.resize(length, 0);
    copy_in(&mut bytes, address)?;
    Ok(bytes)
}

/// The family of an address that has one.
pub fn family(given: &[u8]) -> Option<u32> {
    let (family, _) = given.split_first_chunk::<FAMILY>()?;
    Some(u16::from_ne_bytes(*family).into())
}

/// The name that an address gives.
///
/// # Errors
/// `EINVAL`.
pub fn parse(given: &[u8]) -> Result<Name> {
    if given.len() <= FAMILY || given.len() > ADDRESS || family(given) != Some(AF_UNIX) {
        return Err(Errno::EINVAL);
    }
    Name::parse(&given[FAMILY..])
}

/// What stands for a socket without a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unnamed {
    /// The family alone.
    Family,
    /// Nothing.
    Nothing,
}

/// A name as an address.
pub fn bytes(unnamed: Unnamed, name: Option<&Name>) -> Vec<u8> {
    let family = (AF_UNIX as u16).to_ne_bytes();
    match (name, unnamed) {
        (Some(name), _) => [&family, name.bytes()].concat(),
        (None, Unnamed::Family) => family.to_vec(),
        (None, Unnamed::Nothing) => Vec::new(),
    }
}

/// Writes an address, as far as there is room, and its length.
///
/// # Errors
/// `EINVAL` for a negative length; a page that is missing.
pub fn put(address: u64, length: u64, unnamed: Unnamed, name: Option<&Name>) -> Attempt<u64> {
    let bytes = bytes(unnamed, name);
    let room: i32 = user::read(length)?;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    copy_out(address, &bytes[..bytes.len().min(room)])?;
    user::write(length, &(bytes.len() as i32))?;
    Ok(0)
}

/// Whom a name leads to.
///
/// # Errors
/// `ECONNREFUSED`; of a path those of finding it, `EACCES` without the right to write, `EPROTOTYPE` for a socket of
/// another kind.
pub fn resolve(t: &Thread, name: &Name, from: &Socket) -> Result<Arc<Core>> {
    let Some(path) = name.path() else {
        return name::find(&Key::Abstract(from.core().network(), from.kind(), name.clone()));
    };
    let location = at::find(t, AT_FDCWD, path, LastLink::Follow)?;
    permit(&location.inode.attributes(), &t.credentials(), Permission::WRITE)?;
    if location.inode.kind() != FileKind::Socket {
        return Err(Errno::ECONNREFUSED);
    }
    let (device, inode) = location.inode.identity();
    let found = name::find(&Key::Inode(device, inode))?;
    if found.kind() == from.kind() {
        Ok(found)
    } else {
        Err(Errno::EPROTOTYPE)
    }
}

fn bind_path(t: &Thread, socket: &Socket, name: &Name, path: &[u8]) -> Result<()> {
    let walked = at::walk(t, AT_FDCWD, path, LastLink::Keep)?;
    let taken = |errno| {
        if errno == Errno::EEXIST {
            Errno::EADDRINUSE
        } else {
            errno
        }
    };
    let (directory, last) = walked.vacant().map_err(taken)?;
    if walked.trailing_slash {
        return Err(Errno::ENOENT);
    }
    let credentials = t.credentials();
    may_change_names(directory, &credentials)?;
    if socket.is_named() {
        return Err(Errno::EINVAL);
    }
    let permissions = 0o777 & !t.fs().umask();
    let new = NewFile::new(FileKind::Socket, permissions, credentials.fsuid, credentials.fsgid);
    let inode = directory.inode.create(last, &new).map_err(taken)?;
    let (device, number) = inode.identity();
    let place = Location {
        mount: directory.mount.clone(),
        inode,
    };
    socket
        .bind(name.clone(), Key::Inode(device, number), Some(place))
        .inspect_err(|_| {
            let _ = directory.inode.unlink(last);
        })
}

/// `bind(2)`.
///
/// # Errors
/// `EBADF`, `ENOTSOCK`, `EFAULT`, `EINVAL`, `EADDRINUSE`; of a path those of making it.
pub async fn bind(t: &Thread, fd: i32, address: u64, length: i32) -> Result<u64> {
    let file = find(t, fd)?;
    let socket = socket(&file)?;
    let given = with_faults(t, || get(address, length)).await?;
    if given.len() == FAMILY && family(&given) == Some(AF_UNIX) {
        socket.bind_to_any()?;
        return Ok(0);
    }
    let name = parse(&given)?;
    match name.path() {
        Some(path) => bind_path(t, socket, &name, path)?,
        None => socket.bind(
            name.clone(),
            Key::Abstract(socket.core().network(), socket.kind(), name),
            None,
        )?,
    }
    Ok(0)
}

/// `connect(2)`.
///
/// # Errors
/// `EBADF`, `ENOTSOCK`, `EFAULT`, `EINVAL`, `ECONNREFUSED`, `EISCONN`, `EPROTOTYPE`, `EPERM`, `EAGAIN`; of a path those of
/// finding it; the restart codes.
pub async fn connect(t: &Thread, fd: i32, address: u64, length: i32) -> Result<u64> {
    let file = find(t, fd)?;
    let socket = socket(&file)?;
    let given = with_faults(t, || get(address, length)).await?;
    if !socket.connects() {
        if given.len() < FAMILY {
            return Err(Errno::EINVAL);
        }
        // AF_UNSPEC.
        let target = if family(&given) == Some(0) {
            None
        } else {
            let name = parse(&given)?;
            socket.bind_if_told()?;
            Some(resolve(t, &name, socket)?)
        };
        socket.set_target(target)?;
        return Ok(0);
    }
    let name = parse(&given)?;
    socket.bind_if_told()?;
    let identity = Peer::of(t);
    let wait = Wait::new(&file, socket.options().send_timeout.load(Relaxed), 0);
    let mut target = resolve(t, &name, socket)?;
    loop {
        let queue = target.room();
        let result = match socket.connect(&target, &identity) {
            Err(Stop::WouldBlock) => {
                let again = || match socket.connect(&target, &identity) {
                    Err(Stop::WouldBlock) => None,
                    made => Some(made),
                };
                wait.again(t, queue, again).await?
            }
            made => made,
        };
        match result {
            Ok(()) => return Ok(0),
            // It may have been closed, and another have its name.
            Err(Stop::Errno(Errno::ECONNREFUSED)) if target.is_closed() => {
                let next = resolve(t, &name, socket)?;
                if Arc::ptr_eq(&next, &target) {
                    return Err(Errno::ECONNREFUSED);
                }
                target = next;
            }
            Err(Stop::Errno(errno)) => return Err(errno),
            Err(Stop::WouldBlock | Stop::Fault(_)) => return Err(Errno::EAGAIN),
        }
    }
}

/// `getsockname(2)`.
///
/// # Errors
/// `EBADF`, `ENOTSOCK`, `EINVAL`; a page that is missing.
pub fn getsockname(t: &Thread, fd: i32, address: u64, length: u64) -> Attempt<u64> {
    let file = find(t, fd)?;
    let name = socket(&file)?.core().name();
    put(address, length, Unnamed::Family, name.as_deref())
}

/// `getpeername(2)`.
///
/// # Errors
/// As [`getsockname`]; `ENOTCONN`.
pub fn getpeername(t: &Thread, fd: i32, address: u64, length: u64) -> Attempt<u64> {
    let file = find(t, fd)?;
    let peer = socket(&file)?.peer().ok_or(Errno::ENOTCONN)?;
    put(address, length, Unnamed::Family, peer.name().as_deref())
}
