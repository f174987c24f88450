//! `futex(2)`, and the calls of its own for each operation.

mod robust;
mod second;

use alloc::{boxed::Box, sync::Arc};

use linux_raw_sys::general::{
    CLOCK_MONOTONIC, FUTEX_CLOCK_REALTIME, FUTEX_CMD_MASK, FUTEX_CMP_REQUEUE, FUTEX_CMP_REQUEUE_PI, FUTEX_LOCK_PI,
    FUTEX_LOCK_PI2, FUTEX_PRIVATE_FLAG, FUTEX_REQUEUE, FUTEX_TRYLOCK_PI, FUTEX_UNLOCK_PI, FUTEX_WAIT,
    FUTEX_WAIT_BITSET, FUTEX_WAIT_REQUEUE_PI, FUTEX_WAKE, FUTEX_WAKE_BITSET, FUTEX_WAKE_OP,
};

pub use self::{robust::*, second::*};
use super::types::Timespec;
use crate::{
    clock::{Base, Moment},
    errno::{Errno, Result},
    fs::{Stop, file::Attempt},
    mm::user,
    namespace::time::meant_by,
    rt,
    task::{
        Restart, Thread,
        futex::{
            self, Key, Scope, pi,
            requeue::{self, Source},
        },
    },
};

const ALL_BITS: u32 = u32::MAX;

/// `futex(2)`.
///
/// # Errors
/// As the manual page.
pub async fn futex(
    t: &Arc<Thread>,
    address: u64,
    operation: u32,
    value: u32,
    timeout: u64,
    address2: u64,
    value3: u32,
) -> Result<u64> {
    let scope = if operation & FUTEX_PRIVATE_FLAG != 0 {
        Scope::Process
    } else {
        Scope::Machine
    };
    let command = operation & FUTEX_CMD_MASK as u32;
    let base = if operation & FUTEX_CLOCK_REALTIME != 0 || command == FUTEX_LOCK_PI {
        Base::Wall
    } else {
        Base::Boot
    };
    // Looked at before anything else.
    let at = match command {
        FUTEX_WAIT | FUTEX_LOCK_PI | FUTEX_LOCK_PI2 | FUTEX_WAIT_BITSET | FUTEX_WAIT_REQUEUE_PI if timeout != 0 => {
            let time = t.mm().read::<Timespec>(timeout).await?.to_nanoseconds()?;
            Some(match command {
                FUTEX_WAIT => Moment {
                    base: Base::Boot,
                    time: rt::now().saturating_add(time),
                },
                _ if base == Base::Boot => Moment {
                    base,
                    time: meant_by(t, CLOCK_MONOTONIC, time),
                },
                _ => Moment { base, time },
            })
        }
        _ => None,
    };
    if operation & FUTEX_CLOCK_REALTIME != 0
        && !matches!(command, FUTEX_WAIT_BITSET | FUTEX_WAIT_REQUEUE_PI | FUTEX_LOCK_PI2)
    {
        return Err(Errno::ENOSYS);
    }
    match command {
        FUTEX_WAIT => wait_until(t, address, scope, value, ALL_BITS, at).await,
        FUTEX_WAIT_BITSET => wait_until(t, address, scope, value, value3, at).await,
        FUTEX_WAKE => wake(t, address, scope, value, ALL_BITS),
        FUTEX_WAKE_BITSET => wake(t, address, scope, value, value3),
        FUTEX_REQUEUE => requeue(t, address, address2, scope, (value, timeout as u32), None).await,
        FUTEX_CMP_REQUEUE => requeue(t, address, address2, scope, (value, timeout as u32), Some(value3)).await,
        FUTEX_WAKE_OP => wake_op(t, address, address2, scope, (value, timeout as u32), value3).await,
        // Few threads make these: their futures are not to size all.
        FUTEX_LOCK_PI | FUTEX_LOCK_PI2 => Box::pin(pi::lock(t, address, scope, at, false)).await.map(|()| 0),
        FUTEX_TRYLOCK_PI => Box::pin(pi::lock(t, address, scope, None, true)).await.map(|()| 0),
        FUTEX_UNLOCK_PI => Box::pin(pi::unlock(t, address, scope)).await.map(|()| 0),
        FUTEX_WAIT_REQUEUE_PI => Box::pin(requeue::wait_to_be_moved(t, address, scope, value, at, address2))
            .await
            .map(|()| 0),
        FUTEX_CMP_REQUEUE_PI => {
            Box::pin(move_to_lock(
                t,
                (address, address2),
                scope,
                (value, timeout as u32),
                value3,
            ))
            .await
        }
        _ => Err(Errno::ENOSYS),
    }
}

/// Wakes of [`futex`].
///
/// # Errors
/// As [`futex`]; would block for everything else.
pub fn futex_at_once(
    t: &Thread,
    address: u64,
    operation: u32,
    value: u32,
    _timeout: u64,
    _address2: u64,
    _value3: u32,
) -> Attempt<u64> {
    const PRIVATE_WAKE: u32 = FUTEX_WAKE | FUTEX_PRIVATE_FLAG;
    match operation {
        PRIVATE_WAKE => Ok(wake(t, address, Scope::Process, value, ALL_BITS)?),
        FUTEX_WAKE => Ok(wake(t, address, Scope::Machine, value, ALL_BITS)?),
        _ => Err(Stop::WouldBlock),
    }
}

/// How many a count of waiters to be woken means: one, where it is not positive.
const fn at_least_one(limit: u32) -> usize {
    let limit = limit.cast_signed();
    if limit < 1 { 1 } else { limit as usize }
}

fn wake(t: &Thread, address: u64, scope: Scope, limit: u32, bits: u32) -> Result<u64> {
    if bits == 0 {
        return Err(Errno::EINVAL);
    }
    let key = Key::new(&t.mm(), address, scope)?;
    Ok(futex::wake(key, at_least_one(limit), bits)? as u64)
}

/// Waits until a fixed time. Also how an interrupted wait goes on (`restart_syscall`).
///
/// # Errors
/// As [`futex::wait`]; interrupted with a time, `ERESTART_RESTARTBLOCK`.
pub async fn wait_until(
    t: &Arc<Thread>,
    address: u64,
    scope: Scope,
    expected: u32,
    bits: u32,
    at: Option<Moment>,
) -> Result<u64> {
    match (futex::wait(t, address, scope, expected, bits, at).await, at) {
        (Ok(()), _) => Ok(0),
        (Err(Errno::ERESTARTSYS), Some(Moment { base, time })) => {
            let private = scope == Scope::Process;
            t.set_restart(Restart::Futex {
                address,
                expected,
                time,
                base,
                bits,
                private,
            });
            Err(Errno::ERESTART_RESTARTBLOCK)
        }
        (Err(errno), _) => Err(errno),
    }
}

async fn requeue(
    t: &Thread,
    from: u64,
    to: u64,
    scope: Scope,
    limits: (u32, u32),
    expected: Option<u32>,
) -> Result<u64> {
    requeue_between(t, (from, scope), (to, scope), limits, expected).await
}

/// Requeues from one word to another, each with its scope.
async fn requeue_between(
    t: &Thread,
    (from, from_scope): (u64, Scope),
    (to, to_scope): (u64, Scope),
    (wake_limit, move_limit): (u32, u32),
    expected: Option<u32>,
) -> Result<u64> {
    if wake_limit > i32::MAX as u32 || move_limit > i32::MAX as u32 {
        return Err(Errno::EINVAL);
    }
    let mm = t.mm();
    loop {
        let source = Source {
            key: Key::new(&mm, from, from_scope)?,
            expected: expected.map(|expected| (from, expected)),
        };
        let target = Key::new(&mm, to, to_scope)?;
        match requeue::requeue(&source, target, wake_limit as usize, move_limit as usize)? {
            Ok(count) => return Ok(count as u64),
            Err(fault) => mm.resolve(fault).await?,
        }
    }
}

/// `FUTEX_CMP_REQUEUE_PI`: one waiter takes the lock or waits for it, and as many as `move_limit` besides.
async fn move_to_lock(
    t: &Arc<Thread>,
    (from, lock): (u64, u64),
    scope: Scope,
    (wake_limit, move_limit): (u32, u32),
    expected: u32,
) -> Result<u64> {
    if wake_limit != 1 || move_limit > i32::MAX as u32 {
        return Err(Errno::EINVAL);
    }
    Ok(requeue::move_to_lock(t, from, scope, expected, lock, move_limit as usize).await? as u64)
}

/// Bits of `FUTEX_WAKE_OP`'s last argument (`linux/futex.h`).
struct WakeOp {
    operation: u32,
    comparison: u32,
    operand: i32,
    comparand: i32,
}

impl WakeOp {
    fn decode(word: u32) -> Self {
        // Twelve bits, sign-extended.
        let sign_extend = |bits: u32| (bits << 20) as i32 >> 20;
        let operand = sign_extend(word >> 12 & 0xfff);
        let shift = word >> 28 & 8 != 0;
        Self {
            operation: word >> 28 & 7,
            comparison: word >> 24 & 15,
            operand: if shift {
                1_i32.wrapping_shl(operand as u32 & 31)
            } else {
                operand
            },
            comparand: sign_extend(word & 0xfff),
        }
    }

    fn apply(&self, old: i32) -> Result<i32> {
        Ok(match self.operation {
            0 => self.operand,
            1 => old.wrapping_add(self.operand),
            2 => old | self.operand,
            3 => old & !self.operand,
            4 => old ^ self.operand,
            _ => return Err(Errno::ENOSYS),
        })
    }

    fn compare(&self, old: i32) -> Result<bool> {
        Ok(match self.comparison {
            0 => old == self.comparand,
            1 => old != self.comparand,
            2 => old < self.comparand,
            3 => old <= self.comparand,
            4 => old > self.comparand,
            5 => old >= self.comparand,
            _ => return Err(Errno::ENOSYS),
        })
    }
}

async fn wake_op(
    t: &Thread,
    address: u64,
    address2: u64,
    scope: Scope,
    (limit, limit2): (u32, u32),
    encoded: u32,
) -> Result<u64> {
    let op = WakeOp::decode(encoded);
    let mm = t.mm();
    let (key, key2) = (Key::new(&mm, address, scope)?, Key::new(&mm, address2, scope)?);
    let mut seen = 0;
    let old = loop {
        match user::compare_exchange_u32(address2, seen, op.apply(seen as i32)? as u32) {
            Ok(old) if old == seen => break old,
            Ok(old) => seen = old,
            Err(fault) => mm.resolve(fault).await?,
        }
    };
    let mut woken = futex::wake(key, at_least_one(limit), ALL_BITS)?;
    if op.compare(old as i32)? {
        woken += futex::wake(key2, at_least_one(limit2), ALL_BITS)?;
    }
    Ok(woken as u64)
}
