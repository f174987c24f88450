//! Several messages by one call.

use alloc::boxed::Box;

use linux_raw_sys::{general as linux, net};

use super::{find, receive::receive_one, send::send_one, socket};
use crate::{
    errno::{Errno, Result},
    rt,
    syscall::{fs::user::put, types::Timespec},
    task::Thread,
};

/// Bytes of a `struct mmsghdr`.
const ENTRY: u64 = size_of::<net::mmsghdr>() as u64;
/// Where the message's length stands in it.
const LENGTH: u64 = core::mem::offset_of!(net::mmsghdr, msg_len) as u64;
/// `MSG_WAITFORONE` (`linux/socket.h`).
const WAIT_FOR_ONE: u32 = 0x1_0000;

/// `sendmmsg(2)`.
///
/// # Errors
/// Those of the first message, as of [`sendmsg`](super::sendmsg).
pub async fn sendmmsg(t: &Thread, fd: i32, array: u64, count: u32, flags: u32) -> Result<u64> {
    Box::pin(async move {
        let file = find(t, fd)?;
        let mut sent = 0;
        while sent < u64::from(count.min(linux::UIO_MAXIOV)) {
            let entry = array.wrapping_add(sent * ENTRY);
            let result = match send_one(t, &file, entry, flags).await {
                Ok(bytes) => put(t, entry + LENGTH, &(bytes as u32).to_ne_bytes()).await,
                Err(errno) => Err(errno),
            };
            match result {
                Ok(()) => sent += 1,
                Err(errno) if sent == 0 => return Err(errno),
                Err(_) => break,
            }
            rt::give_way().await;
            if t.is_interrupted() {
                break;
            }
        }
        Ok(sent)
    })
    .await
}

/// `recvmmsg(2)`. As on Linux the timeout is looked at after each message alone.
///
/// # Errors
/// Those of the first message, as of [`recvmsg`](super::recvmsg); `EINVAL`, `EFAULT` for the timeout.
pub async fn recvmmsg(t: &Thread, fd: i32, array: u64, count: u32, flags: u32, timeout: u64) -> Result<u64> {
    Box::pin(async move {
        let deadline = if timeout == 0 {
            None
        } else {
            let given: Timespec = t.mm().read(timeout).await?;
            Some(rt::now().saturating_add(given.to_nanoseconds()?))
        };
        let received = receive_several(t, fd, array, count, flags, deadline).await;
        if let (Some(deadline), Ok(1..)) = (deadline, &received) {
            let rest = Timespec::from_nanoseconds(deadline.saturating_sub(rt::now()));
            t.mm().write(timeout, &rest).await?;
        }
        received
    })
    .await
}

async fn receive_several(
    t: &Thread,
    fd: i32,
    array: u64,
    count: u32,
    mut flags: u32,
    deadline: Option<u64>,
) -> Result<u64> {
    let file = find(t, fd)?;
    let socket = socket(&file)?;
    socket.core().take_error()?;
    let mut received = 0;
    while received < u64::from(count) {
        let entry = array.wrapping_add(received * ENTRY);
        let result = match receive_one(t, &file, entry, flags & !WAIT_FOR_ONE).await {
            Ok(bytes) => put(t, entry + LENGTH, &(bytes as u32).to_ne_bytes()).await,
            Err(errno) => Err(errno),
        };
        match result {
            Ok(()) => received += 1,
            Err(errno) if received == 0 => return Err(errno),
            Err(errno) => {
                if errno == Errno::ECONNRESET {
                    socket.core().keep_error();
                }
                break;
            }
        }
        if flags & WAIT_FOR_ONE != 0 {
            flags |= net::MSG_DONTWAIT;
        }
        if deadline.is_some_and(|deadline| rt::now() >= deadline) {
            break;
        }
        rt::give_way().await;
        if t.must_exit() {
            break;
        }
    }
    Ok(received)
}
