//! `process_vm_readv(2)` and `process_vm_writev(2)`: copies between the caller's memory and another's.
//!
//! Bytes go by way of a buffer, since one CPU has one address space at a time. As on Linux a page that cannot be accessed ends the
//! transfer, and what came before it counts.

use alloc::{sync::Arc, vec::Vec};

use hal::PAGE_SIZE;

use super::fs::user::vectors;
use crate::{
    errno::{Errno, Result},
    fs::io::Place,
    mm::{AddressSpace, fallible::TryRoomExact},
    task::{self, Thread, ptrace::link::may_trace},
};

/// Bytes copied at once.
const CHUNK: usize = 4 * PAGE_SIZE;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    /// From the other.
    Read,
    /// To the other.
    Write,
}

/// Bytes from `address` to the end of its page.
const fn to_page_end(address: u64) -> usize {
    PAGE_SIZE - (address % PAGE_SIZE as u64) as usize
}

struct Transfer {
    own: Arc<AddressSpace>,
    other: Arc<AddressSpace>,
    direction: Direction,
    buffer: Vec<u8>,
}

impl Transfer {
    async fn copy(&mut self, own: u64, other: u64, length: usize) -> Result<()> {
        let buffer = &mut self.buffer[..length];
        match self.direction {
            Direction::Read => {
                self.other.read_bytes(other, buffer).await?;
                self.own.write_bytes(own, buffer).await
            }
            Direction::Write => {
                self.own.read_bytes(own, buffer).await?;
                self.other.write_bytes(other, buffer).await
            }
        }
    }

    /// As [`Transfer::copy`]; returns how many bytes at the beginning could be copied, by whole pages of both.
    async fn copy_what_can_be(&mut self, own: u64, other: u64, length: usize) -> usize {
        if self.copy(own, other, length).await.is_ok() {
            return length;
        }
        let mut done = 0;
        while done < length {
            let (own, other) = (own + done as u64, other + done as u64);
            let part = (length - done).min(to_page_end(own)).min(to_page_end(other));
            if self.copy(own, other, part).await.is_err() {
                break;
            }
            done += part;
        }
        done
    }
}

async fn transfer(
    t: &Thread,
    pid: i32,
    own: (u64, u64),
    other: (u64, u64),
    flags: u64,
    direction: Direction,
) -> Result<u64> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let own = vectors(t, own.0, own.1).await?;
    let (mut here, mut there) = (Place::default(), Place::default());
    if here.run(&own).is_none() {
        return Ok(0);
    }
    let other = vectors(t, other.0, other.1).await?;
    if there.run(&other).is_none() {
        return Ok(0);
    }
    let thread = task::thread(pid).ok_or(Errno::ESRCH)?;
    if thread.process().has_exited() {
        return Err(Errno::ESRCH);
    }
    if !may_trace(t, thread.process()) {
        return Err(Errno::EPERM);
    }
    let mut buffer = Vec::new();
    buffer.try_room_exact(CHUNK)?;
    buffer.resize(CHUNK, 0);
    let mut transfer = Transfer {
        own: t.mm(),
        other: thread.mm(),
        direction,
        buffer,
    };
    let mut done = 0;
    while let (Some(to), Some(from)) = (here.run(&own), there.run(&other)) {
        let length = to.len.min(from.len).min(CHUNK);
        let copied = transfer.copy_what_can_be(to.address, from.address, length).await;
        here.advance(copied);
        there.advance(copied);
        done += copied as u64;
        if copied < length || t.must_exit() {
            break;
        }
    }
    // The calls to come expect the caller's.
    transfer.own.activate();
    if done == 0 { Err(Errno::EFAULT) } else { Ok(done) }
}

/// `process_vm_readv(2)`.
///
/// # Errors
/// `EINVAL`, `EFAULT`, `ESRCH`, `EPERM`, `ENOMEM`.
pub async fn process_vm_readv(
    t: &Thread,
    pid: i32,
    own: u64,
    runs: u64,
    other: u64,
    others: u64,
    flags: u64,
) -> Result<u64> {
    transfer(t, pid, (own, runs), (other, others), flags, Direction::Read).await
}

/// `process_vm_writev(2)`.
///
/// # Errors
/// As [`process_vm_readv`].
pub async fn process_vm_writev(
    t: &Thread,
    pid: i32,
    own: u64,
    runs: u64,
    other: u64,
    others: u64,
    flags: u64,
) -> Result<u64> {
    transfer(t, pid, (own, runs), (other, others), flags, Direction::Write).await
}
