//! `ioctl(2)` on a listener (`seccomp_unotify(2)`, `linux/seccomp.h`).

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::{
    errno::Errno,
    fs::{Attempt, OnExec, io::copy_in},
    mm::user,
    task::{
        Thread,
        seccomp::{
            bpf::WORDS,
            listener::{Answer, Listener, Notification},
        },
    },
};

/// `struct seccomp_notif`.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct Notif {
    id: u64,
    tid: u32,
    flags: u32,
    data: [u32; WORDS],
}

/// `struct seccomp_notif_resp`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct NotifResponse {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// `struct seccomp_notif_addfd`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct NotifAddFd {
    id: u64,
    flags: u32,
    source: i32,
    target: i32,
    target_flags: u32,
}

/// `_IOC` (`asm-generic/ioctl.h`) of the type `!`.
const fn request(direction: u32, number: u32, size: usize) -> u32 {
    direction << 30 | (size as u32) << 16 | (b'!' as u32) << 8 | number
}

const WRITE: u32 = 1;
const READ: u32 = 2;
const RECEIVE: u32 = request(READ | WRITE, 0, size_of::<Notif>());
const SEND: u32 = request(READ | WRITE, 1, size_of::<NotifResponse>());
const ID_VALID: u32 = request(WRITE, 2, 8);
/// As it was first published.
const ID_VALID_OLD: u32 = request(READ, 2, 8);
const ADD_FD: u32 = request(WRITE, 3, 0);
/// Where a request has its size, and how large that may be.
const SIZE_SHIFT: u32 = 16;
const SIZE_MASK: u32 = 0x3fff;

/// `SECCOMP_USER_NOTIF_FLAG_CONTINUE`.
const CONTINUE: u32 = 1;
/// `SECCOMP_ADDFD_FLAG_SETFD`.
const SET_FD: u32 = 1;
/// `SECCOMP_ADDFD_FLAG_SEND`.
const AND_SEND: u32 = 2;

/// `ioctl(2)` on a listener.
///
/// # Errors
/// `EINVAL`, `EFAULT`, `ENOENT`, `EINPROGRESS`, `EBADF`, `E2BIG`, `EMFILE`, `ENOMEM`; that nothing is to be received.
pub(super) fn control(listener: &Listener, t: &Thread, request: u32, argument: u64) -> Attempt<u64> {
    match request {
        RECEIVE => receive(listener, argument),
        SEND => send(listener, argument),
        ID_VALID | ID_VALID_OLD => {
            listener.check(user::read(argument)?)?;
            Ok(0)
        }
        _ if request & !(SIZE_MASK << SIZE_SHIFT) == ADD_FD => {
            add(listener, t, argument, (request >> SIZE_SHIFT & SIZE_MASK) as usize)
        }
        _ => Err(Errno::EINVAL.into()),
    }
}

fn receive(listener: &Listener, to: u64) -> Attempt<u64> {
    let there: Notif = user::read(to)?;
    if there.as_bytes().iter().any(|byte| *byte != 0) {
        return Err(Errno::EINVAL.into());
    }
    listener.receive(|&Notification { id, tid, data }| {
        let notif = Notif {
            id,
            tid: tid.cast_unsigned(),
            flags: 0,
            data,
        };
        Ok(user::write(to, &notif)?)
    })?;
    Ok(0)
}

fn send(listener: &Listener, from: u64) -> Attempt<u64> {
    let response: NotifResponse = user::read(from)?;
    let continues = response.flags & CONTINUE != 0;
    if response.flags & !CONTINUE != 0 || continues && (response.error != 0 || response.value != 0) {
        return Err(Errno::EINVAL.into());
    }
    let answer = match response.error {
        _ if continues => Answer::Make,
        0 => Answer::Returns(response.value),
        error => Answer::Returns(error.into()),
    };
    listener.answer(response.id, answer)?;
    Ok(0)
}

fn add(listener: &Listener, t: &Thread, from: u64, size: usize) -> Attempt<u64> {
    if size < size_of::<NotifAddFd>() || size >= hal::PAGE_SIZE {
        return Err(Errno::EINVAL.into());
    }
    let wanted: NotifAddFd = user::read(from)?;
    // What is larger is of a later kernel, which is asked for nothing more.
    for at in size_of::<NotifAddFd>()..size {
        let mut byte = [0];
        copy_in(&mut byte, from.wrapping_add(at as u64))?;
        if byte != [0] {
            return Err(Errno::E2BIG.into());
        }
    }
    let close_on_exec = linux_raw_sys::general::O_CLOEXEC;
    let names = wanted.flags & SET_FD != 0;
    if wanted.target_flags & !close_on_exec != 0
        || wanted.flags & !(SET_FD | AND_SEND) != 0
        || wanted.target != 0 && !names
    {
        return Err(Errno::EINVAL.into());
    }
    let file = t.files().get_usable(wanted.source)?;
    let on_exec = if wanted.target_flags == 0 {
        OnExec::Keep
    } else {
        OnExec::Close
    };
    let at = names.then_some(wanted.target);
    Ok(listener.add_file(wanted.id, file, at, on_exec, wanted.flags & AND_SEND != 0)? as u64)
}

const _: () = assert!(size_of::<Notif>() == 80 && size_of::<NotifResponse>() == 24 && size_of::<NotifAddFd>() == 24);
