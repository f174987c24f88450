//! `futex(2)` and the robust list.

use alloc::sync::Arc;

use linux_raw_sys::general::{
    FUTEX_CLOCK_REALTIME, FUTEX_CMD_MASK, FUTEX_CMP_REQUEUE, FUTEX_PRIVATE_FLAG, FUTEX_REQUEUE, FUTEX_WAIT,
    FUTEX_WAIT_BITSET, FUTEX_WAKE, FUTEX_WAKE_BITSET, FUTEX_WAKE_OP,
};

use super::types::Timespec;
use crate::{
    errno::{Errno, Result},
    fs::{Stop, file::Attempt},
    mm::user,
    rt,
    task::{
        Restart, Thread,
        futex::{self, Key, Scope, Source},
    },
};

const ALL_BITS: u32 = u32::MAX;

/// `futex(2)`: `FUTEX_WAIT`, `WAKE`, their bit-set forms, `REQUEUE`, `CMP_REQUEUE`, `WAKE_OP`.
///
/// # Errors
/// As the manual page; `ENOSYS` for the priority-inheriting operations.
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
    let realtime = operation & FUTEX_CLOCK_REALTIME != 0;
    let command = operation & FUTEX_CMD_MASK as u32;
    if realtime && command != FUTEX_WAIT_BITSET {
        return Err(Errno::ENOSYS);
    }
    match command {
        FUTEX_WAIT => wait_relative(t, address, scope, value, timeout).await,
        FUTEX_WAIT_BITSET => {
            let deadline = absolute_deadline(t, timeout, realtime).await?;
            futex::wait(t, address, scope, value, value3, deadline).await?;
            Ok(0)
        }
        FUTEX_WAKE => wake(t, address, scope, value, ALL_BITS),
        FUTEX_WAKE_BITSET if value3 == 0 => Err(Errno::EINVAL),
        FUTEX_WAKE_BITSET => wake(t, address, scope, value, value3),
        FUTEX_REQUEUE => requeue(t, address, address2, scope, (value, timeout as u32), None).await,
        FUTEX_CMP_REQUEUE => requeue(t, address, address2, scope, (value, timeout as u32), Some(value3)).await,
        FUTEX_WAKE_OP => wake_op(t, address, address2, scope, (value, timeout as u32), value3).await,
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

fn wake(t: &Thread, address: u64, scope: Scope, limit: u32, bits: u32) -> Result<u64> {
    let key = Key::new(&t.mm(), address, scope)?;
    Ok(futex::wake(key, limit.max(1) as usize, bits) as u64)
}

async fn wait_relative(t: &Arc<Thread>, address: u64, scope: Scope, value: u32, timeout: u64) -> Result<u64> {
    let deadline = if timeout == 0 {
        None
    } else {
        let length = t.mm().read::<Timespec>(timeout).await?.to_nanoseconds()?;
        Some(rt::now().saturating_add(length))
    };
    wait_until(t, address, scope, value, ALL_BITS, deadline).await
}

/// Waits until a fixed monotonic time. Also how an interrupted wait goes on (`restart_syscall`).
///
/// # Errors
/// As [`futex::wait`]; interrupted with a deadline, `ERESTART_RESTARTBLOCK`.
pub async fn wait_until(
    t: &Arc<Thread>,
    address: u64,
    scope: Scope,
    expected: u32,
    bits: u32,
    deadline: Option<u64>,
) -> Result<u64> {
    match (futex::wait(t, address, scope, expected, bits, deadline).await, deadline) {
        (Ok(()), _) => Ok(0),
        (Err(Errno::ERESTARTSYS), Some(deadline)) => {
            let private = scope == Scope::Process;
            t.set_restart(Restart::Futex {
                address,
                expected,
                deadline,
                bits,
                private,
            });
            Err(Errno::ERESTART_RESTARTBLOCK)
        }
        (Err(errno), _) => Err(errno),
    }
}

async fn absolute_deadline(t: &Thread, timeout: u64, realtime: bool) -> Result<Option<u64>> {
    if timeout == 0 {
        return Ok(None);
    }
    let time = t.mm().read::<Timespec>(timeout).await?.to_nanoseconds()?;
    if !realtime {
        return Ok(Some(time));
    }
    let left = time.saturating_sub(rt::wall_clock().max(0) as u64);
    Ok(Some(rt::now().saturating_add(left)))
}

async fn requeue(
    t: &Thread,
    from: u64,
    to: u64,
    scope: Scope,
    (wake_limit, move_limit): (u32, u32),
    expected: Option<u32>,
) -> Result<u64> {
    if wake_limit > i32::MAX as u32 || move_limit > i32::MAX as u32 {
        return Err(Errno::EINVAL);
    }
    let mm = t.mm();
    loop {
        let source = Source {
            key: Key::new(&mm, from, scope)?,
            expected: expected.map(|expected| (from, expected)),
        };
        let target = Key::new(&mm, to, scope)?;
        match futex::requeue(&source, target, wake_limit as usize, move_limit as usize)? {
            Ok(count) => return Ok(count as u64),
            Err(fault) => mm.resolve(fault).await?,
        }
    }
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
    let mut woken = futex::wake(key, limit as usize, ALL_BITS);
    if op.compare(old as i32)? {
        woken += futex::wake(key2, limit2 as usize, ALL_BITS);
    }
    Ok(woken as u64)
}

/// `set_robust_list(2)`.
///
/// # Errors
/// `EINVAL` if `length` is not the head's size.
pub fn set_robust_list(t: &Thread, head: u64, length: usize) -> Result<u64> {
    if length != size_of::<[u64; 3]>() {
        return Err(Errno::EINVAL);
    }
    t.robust_list.store(head, core::sync::atomic::Ordering::Relaxed);
    Ok(0)
}

/// `get_robust_list(2)`, of a thread that the caller may look into.
///
/// # Errors
/// `ESRCH`, `EPERM`, `EFAULT`.
pub async fn get_robust_list(t: &Thread, tid: i32, head: u64, length: u64) -> Result<u64> {
    let address = if tid == 0 || tid == t.tid() {
        t.robust_list.load(core::sync::atomic::Ordering::Relaxed)
    } else {
        let other = crate::task::thread(tid).ok_or(Errno::ESRCH)?;
        let is_own = alloc::sync::Arc::ptr_eq(other.process(), t.process());
        if !is_own && !t.credentials().may_attach(other.process()) {
            return Err(Errno::EPERM);
        }
        other.robust_list.load(core::sync::atomic::Ordering::Relaxed)
    };
    let mm = t.mm();
    mm.write(length, &(size_of::<[u64; 3]>() as u64)).await?;
    mm.write(head, &address).await?;
    Ok(0)
}
