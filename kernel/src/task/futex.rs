//! Futexes: waiting on a word of user memory.
//!
//! One table, keyed by what the word *is*: the address space and address for private memory, the memory object and offset
//! for shared mappings. A waiter compares the word and joins its key's queue under the table's lock, and a waker changes
//! the word before it takes the lock, so a wake between the comparison and the wait cannot be missed. A key with nobody
//! waiting takes no memory. The user's word is read under the lock by a copy that fails instead of faulting; the page is
//! then brought in without the lock, and everything begins again.
//!
//! A waiter that is dropped (interrupted, timed out, killed) leaves its queue. If it had been woken at that very moment,
//! the wake counts: the wait reports success.

use alloc::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};
use core::{
    future::poll_fn,
    sync::atomic::{AtomicBool, Ordering},
    task::{Poll, Waker},
};

use super::{
    deadline::until,
    thread::{Restart, Thread},
};
use crate::{
    errno::{Errno, Result},
    mm::{AddressSpace, user},
    sync::{Rank, SpinLock},
};

/// Whether the word may be shared with other address spaces (`FUTEX_PRIVATE_FLAG` clear or set).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// This address space alone.
    Private,
    /// Whoever maps the same memory.
    Shared,
}

/// What a word is: an object's or address space's identity, and the offset in it.
type Key = (usize, u64);

struct Waiter {
    bits: u32,
    woken: AtomicBool,
    waker: Waker,
}

type Queues = BTreeMap<Key, VecDeque<Arc<Waiter>>>;

static QUEUES: SpinLock<Queues> = SpinLock::new(Rank::Futex, BTreeMap::new());

fn key(mm: &Arc<AddressSpace>, address: u64, scope: Scope) -> Result<Key> {
    if !address.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    if scope == Scope::Shared
        && let Some(object) = mm.shared_object(address)
    {
        return Ok(object);
    }
    Ok((Arc::as_ptr(mm) as usize, address))
}

/// A waiter's place in the table. Dropping it leaves.
struct Place {
    waiter: Arc<Waiter>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.waiter.woken.load(Ordering::Acquire) {
            return;
        }
        // A requeue may have moved the waiter: look for it wherever it is now.
        let mut queues = QUEUES.lock();
        let found = queues.iter_mut().find_map(|(key, queue)| {
            let at = queue.iter().position(|waiter| Arc::ptr_eq(waiter, &self.waiter))?;
            queue.remove(at);
            Some((*key, queue.is_empty()))
        });
        if let Some((key, true)) = found {
            queues.remove(&key);
        }
    }
}

/// One `FUTEX_WAIT`.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    /// The word.
    pub address: u64,
    /// What it must hold.
    pub expected: u32,
    /// Whose word it is.
    pub scope: Scope,
    /// Which wakes count; not 0.
    pub bits: u32,
    /// Until when, in nanoseconds since boot.
    pub deadline: Option<u64>,
}

/// Waits for a wake.
///
/// # Errors
/// `EAGAIN` if the word holds something else, `ETIMEDOUT`, `EFAULT`, `EINVAL`; a restart code if interrupted.
pub async fn wait(thread: &Thread, wait: Wait) -> Result<()> {
    if wait.bits == 0 {
        return Err(Errno::EINVAL);
    }
    let mm = thread.mm();
    let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
    let key = key(&mm, wait.address, wait.scope)?;
    let place = loop {
        match enqueue(&mm, key, wait, &waker) {
            Ok(found) => break found?,
            Err(fault) => mm.resolve(fault).await?,
        }
    };
    let woken = poll_fn(|_| if place.waiter.woken.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending });
    match thread.interruptible(until(wait.deadline, woken)).await {
        Ok(Some(())) => Ok(()),
        Ok(None) => Err(Errno::ETIMEDOUT),
        Err(_) if wait.deadline.is_none() => Err(Errno::ERESTARTSYS),
        Err(_) => {
            thread.set_restart(Restart::Futex {
                address: wait.address,
                expected: wait.expected,
                deadline: wait.deadline.unwrap_or(u64::MAX),
                bits: wait.bits,
                private: wait.scope == Scope::Private,
            });
            Err(Errno::ERESTART_RESTARTBLOCK)
        }
    }
}

fn enqueue(
    mm: &Arc<AddressSpace>,
    key: Key,
    wait: Wait,
    waker: &Waker,
) -> core::result::Result<Result<Place>, user::UserFault> {
    mm.activate();
    let mut queues = QUEUES.lock();
    if user::load_u32(wait.address)? != wait.expected {
        return Ok(Err(Errno::EAGAIN));
    }
    let waiter = Arc::new(Waiter { bits: wait.bits, woken: AtomicBool::new(false), waker: waker.clone() });
    queues.entry(key).or_default().push_back(waiter.clone());
    Ok(Ok(Place { waiter }))
}

/// Wakes up to `limit` waiters of one key, the longest waiting first.
fn wake_key(queues: &mut Queues, key: Key, limit: usize, bits: u32) -> usize {
    let Some(queue) = queues.get_mut(&key) else { return 0 };
    let mut woken = 0;
    queue.retain(|waiter| {
        if woken == limit || waiter.bits & bits == 0 {
            return true;
        }
        woken += 1;
        waiter.woken.store(true, Ordering::Release);
        waiter.waker.wake_by_ref();
        false
    });
    if queue.is_empty() {
        queues.remove(&key);
    }
    woken
}

/// Wakes up to `limit` waiters; how many.
///
/// # Errors
/// `EINVAL` for a misaligned address or no bits.
pub async fn wake(thread: &Thread, address: u64, scope: Scope, limit: usize, bits: u32) -> Result<u64> {
    if bits == 0 {
        return Err(Errno::EINVAL);
    }
    let key = key(&thread.mm(), address, scope)?;
    Ok(wake_key(&mut QUEUES.lock(), key, limit, bits) as u64)
}

/// Wakes up to `wake_limit` waiters of `from` and moves up to `requeue_limit` others to `to`. With `expected`, only while
/// `from` holds that.
///
/// # Errors
/// `EAGAIN` if it does not, `EFAULT`, `EINVAL`.
pub async fn requeue(
    thread: &Thread,
    scope: Scope,
    (from, to): (u64, u64),
    (wake_limit, requeue_limit): (usize, usize),
    expected: Option<u32>,
) -> Result<u64> {
    let mm = thread.mm();
    let (from_key, to_key) = (key(&mm, from, scope)?, key(&mm, to, scope)?);
    loop {
        match try_requeue(&mm, from, (from_key, to_key), (wake_limit, requeue_limit), expected) {
            Ok(result) => return result,
            Err(fault) => mm.resolve(fault).await?,
        }
    }
}

fn try_requeue(
    mm: &Arc<AddressSpace>,
    from: u64,
    (from_key, to_key): (Key, Key),
    (wake_limit, requeue_limit): (usize, usize),
    expected: Option<u32>,
) -> core::result::Result<Result<u64>, user::UserFault> {
    mm.activate();
    let mut queues = QUEUES.lock();
    if let Some(expected) = expected
        && user::load_u32(from)? != expected
    {
        return Ok(Err(Errno::EAGAIN));
    }
    let woken = wake_key(&mut queues, from_key, wake_limit, !0);
    let mut moved = 0;
    if from_key != to_key
        && let Some(mut queue) = queues.remove(&from_key)
    {
        moved = requeue_limit.min(queue.len());
        let rest = queue.split_off(moved);
        if !rest.is_empty() {
            queues.insert(from_key, rest);
        }
        if !queue.is_empty() {
            queues.entry(to_key).or_default().append(&mut queue);
        }
    }
    Ok(Ok((woken + moved) as u64))
}

/// `FUTEX_WAKE_OP`: changes the second word, wakes on the first, and on the second if its old value compares.
///
/// # Errors
/// `ENOSYS` for an unknown operation, `EFAULT`, `EINVAL`.
pub async fn wake_op(
    thread: &Thread,
    scope: Scope,
    (first, second): (u64, u64),
    (first_limit, second_limit): (usize, usize),
    encoded: u32,
) -> Result<u64> {
    let mm = thread.mm();
    let (first_key, second_key) = (key(&mm, first, scope)?, key(&mm, second, scope)?);
    let old = loop {
        match modify(&mm, second, encoded) {
            Ok(old) => break old?,
            Err(fault) => mm.resolve(fault).await?,
        }
    };
    let compare_with = (encoded << 20) as i32 >> 20;
    let value = old as i32;
    let matches = match encoded >> 24 & 0xf {
        0 => value == compare_with,
        1 => value != compare_with,
        2 => value < compare_with,
        3 => value <= compare_with,
        4 => value > compare_with,
        5 => value >= compare_with,
        _ => return Err(Errno::ENOSYS),
    };
    let mut queues = QUEUES.lock();
    let mut woken = wake_key(&mut queues, first_key, first_limit, !0);
    if matches {
        woken += wake_key(&mut queues, second_key, second_limit, !0);
    }
    Ok(woken as u64)
}

fn modify(mm: &Arc<AddressSpace>, address: u64, encoded: u32) -> core::result::Result<Result<u32>, user::UserFault> {
    mm.activate();
    let operation = encoded >> 28 & 7;
    let mut operand = ((encoded << 8) as i32 >> 20) as u32;
    if encoded >> 31 != 0 {
        operand = 1 << (operand & 31);
    }
    loop {
        let old = user::load_u32(address)?;
        let new = match operation {
            0 => operand,
            1 => old.wrapping_add(operand),
            2 => old | operand,
            3 => old & !operand,
            4 => old ^ operand,
            _ => return Ok(Err(Errno::ENOSYS)),
        };
        if user::compare_exchange_u32(address, old, new)? == old {
            return Ok(Ok(old));
        }
    }
}

const FUTEX_TID_MASK: u32 = 0x3fff_ffff;
const FUTEX_OWNER_DIED: u32 = 0x4000_0000;
const FUTEX_WAITERS: u32 = 0x8000_0000;
const ROBUST_LIST_LIMIT: usize = 2048;

/// Marks every robust futex that the ending thread holds and wakes one waiter of each (`linux/futex.h`,
/// `struct robust_list_head`: next, offset, pending).
pub(super) async fn release_robust_list(thread: &Thread) {
    let head = thread.robust_list.swap(0, Ordering::Relaxed);
    if head != 0 {
        // A list that cannot be read ends where it cannot: the program's own fault.
        let _ = walk_robust_list(thread, head).await;
    }
}

async fn walk_robust_list(thread: &Thread, head: u64) -> Result<()> {
    let mm = thread.mm();
    let [first, offset, pending]: [u64; 3] = mm.read(head).await?;
    let mut entry = first & !1;
    for _ in 0..ROBUST_LIST_LIMIT {
        if entry == head || entry == 0 {
            break;
        }
        let next: u64 = mm.read(entry).await?;
        if entry != pending & !1 {
            release_robust(thread, entry.wrapping_add(offset)).await?;
        }
        entry = next & !1;
    }
    if pending & !1 != 0 {
        release_robust(thread, (pending & !1).wrapping_add(offset)).await?;
    }
    Ok(())
}

async fn release_robust(thread: &Thread, address: u64) -> Result<()> {
    if !address.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    let mm = thread.mm();
    loop {
        match try_release(thread, &mm, address) {
            Ok(wake_one) => {
                if wake_one {
                    wake(thread, address, Scope::Shared, 1, !0).await?;
                    wake(thread, address, Scope::Private, 1, !0).await?;
                }
                return Ok(());
            }
            Err(fault) => mm.resolve(fault).await?,
        }
    }
}

fn try_release(thread: &Thread, mm: &Arc<AddressSpace>, address: u64) -> core::result::Result<bool, user::UserFault> {
    mm.activate();
    loop {
        let old = user::load_u32(address)?;
        if old & FUTEX_TID_MASK != thread.tid() as u32 {
            return Ok(false);
        }
        let new = old & FUTEX_WAITERS | FUTEX_OWNER_DIED;
        if user::compare_exchange_u32(address, old, new)? == old {
            return Ok(old & FUTEX_WAITERS != 0);
        }
    }
}
