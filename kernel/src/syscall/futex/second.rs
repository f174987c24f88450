//! `futex_waitv`, `futex_wait`, `futex_wake` and `futex_requeue`: each word with flags of its own (`FUTEX2_*`).

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use linux_raw_sys::general::{
    CLOCK_MONOTONIC, CLOCK_REALTIME, FUTEX_WAITV_MAX, FUTEX2_PRIVATE, FUTEX2_SIZE_MASK, FUTEX2_SIZE_U32,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{at_least_one, requeue_between};
use crate::{
    clock::{Base, Moment},
    errno::{Errno, Result},
    mm::fallible::TryRoomExact,
    namespace::time::meant_by,
    syscall::types::Timespec,
    task::{
        Thread,
        futex::{
            self, Key, Scope,
            vector::{self, Word},
        },
    },
};

const _: () = assert!(vector::MOST == FUTEX_WAITV_MAX as usize);

/// `struct futex_waitv` (`linux/futex.h`).
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Waitv {
    value: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

impl Waitv {
    /// # Errors
    /// `EINVAL`.
    fn decode(&self) -> Result<Word> {
        if self.reserved != 0 {
            return Err(Errno::EINVAL);
        }
        Ok(Word {
            address: self.address,
            scope: scope(self.flags)?,
            expected: word(self.value)?,
        })
    }
}

/// What flags say of a word. Only those of 32 bits are there, and none that knows of nodes.
///
/// # Errors
/// `EINVAL`.
fn scope(flags: u32) -> Result<Scope> {
    if flags & !(FUTEX2_SIZE_MASK | FUTEX2_PRIVATE) != 0 || flags & FUTEX2_SIZE_MASK != FUTEX2_SIZE_U32 {
        return Err(Errno::EINVAL);
    }
    Ok(if flags & FUTEX2_PRIVATE != 0 {
        Scope::Process
    } else {
        Scope::Machine
    })
}

/// A value or mask of a word of 32 bits.
///
/// # Errors
/// `EINVAL` if it has more.
fn word(value: u64) -> Result<u32> {
    u32::try_from(value).map_err(|_| Errno::EINVAL)
}

/// Reads until when to wait.
///
/// # Errors
/// `EINVAL` for another clock or a time that is none, `EFAULT`.
async fn moment(t: &Thread, timeout: u64, clock: u32) -> Result<Option<Moment>> {
    if timeout == 0 {
        return Ok(None);
    }
    let base = match clock {
        CLOCK_REALTIME => Base::Wall,
        CLOCK_MONOTONIC => Base::Boot,
        _ => return Err(Errno::EINVAL),
    };
    let time = t.mm().read::<Timespec>(timeout).await?.to_nanoseconds()?;
    let time = meant_by(t, clock, time);
    Ok(Some(Moment { base, time }))
}

async fn read_words(t: &Thread, waiters: u64, count: usize) -> Result<Vec<Word>> {
    let mut words = Vec::new();
    words.try_room_exact(count)?;
    let mm = t.mm();
    for index in 0..count {
        let entry: Waitv = mm
            .read(waiters.wrapping_add((index * size_of::<Waitv>()) as u64))
            .await?;
        words.push(entry.decode()?);
    }
    Ok(words)
}

/// `futex_waitv(2)`: which of the words was woken.
///
/// # Errors
/// `EINVAL`, `EFAULT`, `ENOMEM`, `EAGAIN`, `ETIMEDOUT`; a signal interrupts it, and it restarts.
pub async fn futex_waitv(
    t: &Arc<Thread>,
    waiters: u64,
    count: u32,
    flags: u32,
    timeout: u64,
    clock: u32,
) -> Result<u64> {
    if flags != 0 || !(1..=FUTEX_WAITV_MAX).contains(&count) || waiters == 0 {
        return Err(Errno::EINVAL);
    }
    let at = moment(t, timeout, clock).await?;
    let words = read_words(t, waiters, count as usize).await?;
    Ok(vector::wait(t, words, at).await? as u64)
}

/// `futex_wake(2)`, of Linux 6.7.
///
/// # Errors
/// `EINVAL`, `EFAULT`.
pub fn futex_wake(t: &Thread, address: u64, mask: u64, count: i32, flags: u32) -> Result<u64> {
    let (scope, bits) = (scope(flags)?, word(mask)?);
    if bits == 0 {
        return Err(Errno::EINVAL);
    }
    let key = Key::new(&t.mm(), address, scope)?;
    if count == 0 {
        return Ok(0);
    }
    Ok(futex::wake(key, at_least_one(count.cast_unsigned()), bits)? as u64)
}

/// `futex_wait(2)`, of Linux 6.7: its time is absolute.
///
/// # Errors
/// As [`futex::wait`]; `EINVAL` for flags or another clock.
pub async fn futex_wait(
    t: &Arc<Thread>,
    address: u64,
    value: u64,
    mask: u64,
    flags: u32,
    timeout: u64,
    clock: u32,
) -> Result<u64> {
    let (scope, value, bits) = (scope(flags)?, word(value)?, word(mask)?);
    let at = moment(t, timeout, clock).await?;
    futex::wait(t, address, scope, value, bits, at).await?;
    Ok(0)
}

/// `futex_requeue(2)`, of Linux 6.7: from the first of two words to the second.
///
/// # Errors
/// `EINVAL`, `EFAULT`, `ENOMEM`, `EAGAIN`.
pub async fn futex_requeue(t: &Thread, waiters: u64, flags: u32, wake_limit: u32, move_limit: u32) -> Result<u64> {
    if flags != 0 || waiters == 0 {
        return Err(Errno::EINVAL);
    }
    let words = read_words(t, waiters, 2).await?;
    let [from, to] = words[..] else {
        return Err(Errno::EINVAL);
    };
    // Also in their flags the two are to be alike.
    if from.scope != to.scope {
        return Err(Errno::EINVAL);
    }
    let (from_place, to_place) = ((from.address, from.scope), (to.address, to.scope));
    Box::pin(requeue_between(
        t,
        from_place,
        to_place,
        (wake_limit, move_limit),
        Some(from.expected),
    ))
    .await
}
