//! `futex(2)` and the robust list.

use core::sync::atomic::Ordering;

use super::time::{Timespec, deadline_after, deadline_at_wall};
use crate::{
    errno::{Errno, Result},
    task::{
        self, Restart, Thread,
        futex::{self, Scope, Wait},
    },
};

const FUTEX_PRIVATE_FLAG: u32 = 128;
const FUTEX_CLOCK_REALTIME: u32 = 256;
const FUTEX_BITSET_MATCH_ANY: u32 = u32::MAX;

/// `futex(2)`.
///
/// # Errors
/// As the manual page; `ENOSYS` for priority inheritance.
pub async fn futex(t: &Thread, address: u64, op: u32, value: u32, timeout: u64, second: u64, third: u32) -> Result<u64> {
    let scope = if op & FUTEX_PRIVATE_FLAG != 0 { Scope::Private } else { Scope::Shared };
    let realtime = op & FUTEX_CLOCK_REALTIME != 0;
    // Counts are ints: a negative one means none to move, and at least one to wake.
    let limit = |value: u32| (value as i32).max(1) as usize;
    let pair = (limit(value), (timeout as i32).max(0) as usize);
    match op & !(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME) {
        0 => wait(t, address, value, scope, FUTEX_BITSET_MATCH_ANY, relative(t, timeout).await?).await,
        9 => wait(t, address, value, scope, third, absolute(t, timeout, realtime).await?).await,
        1 => futex::wake(t, address, scope, limit(value), FUTEX_BITSET_MATCH_ANY).await,
        10 => futex::wake(t, address, scope, limit(value), third).await,
        3 => futex::requeue(t, scope, (address, second), pair, None).await,
        4 => futex::requeue(t, scope, (address, second), pair, Some(third)).await,
        5 => futex::wake_op(t, scope, (address, second), pair, third).await,
        _ => Err(Errno::ENOSYS),
    }
}

async fn wait(
    t: &Thread,
    address: u64,
    expected: u32,
    scope: Scope,
    bits: u32,
    deadline: Option<u64>,
) -> Result<u64> {
    let deadline = match t.take_restart() {
        Restart::Futex { deadline, .. } => Some(deadline),
        _ => deadline,
    };
    futex::wait(t, Wait { address, expected, scope, bits, deadline }).await.map(|()| 0)
}

async fn relative(t: &Thread, timeout: u64) -> Result<Option<u64>> {
    if timeout == 0 {
        return Ok(None);
    }
    Ok(Some(deadline_after(t.mm().read::<Timespec>(timeout).await?)?))
}

async fn absolute(t: &Thread, timeout: u64, realtime: bool) -> Result<Option<u64>> {
    if timeout == 0 {
        return Ok(None);
    }
    let time = t.mm().read::<Timespec>(timeout).await?.to_ns()?;
    Ok(Some(if realtime { deadline_at_wall(time) } else { time }))
}

/// `set_robust_list(2)`.
pub async fn set_robust_list(t: &Thread, head: u64, size: u64) -> Result<u64> {
    if size != 24 {
        return Err(Errno::EINVAL);
    }
    t.robust_list.store(head, Ordering::Relaxed);
    Ok(0)
}

/// `get_robust_list(2)`.
pub async fn get_robust_list(t: &Thread, tid: i32, head: u64, size: u64) -> Result<u64> {
    let value = if tid == 0 {
        t.robust_list.load(Ordering::Relaxed)
    } else {
        let thread = task::thread(tid).ok_or(Errno::ESRCH)?;
        if thread.process().pid() != t.process().pid() && !t.credentials().is_privileged() {
            return Err(Errno::EPERM);
        }
        thread.robust_list.load(Ordering::Relaxed)
    };
    let mm = t.mm();
    mm.write(size, &24u64).await?;
    mm.write(head, &value).await?;
    Ok(0)
}
