//! Priority-inheriting locks (`FUTEX_LOCK_PI` and its kin).
//!
//! The word says who has the lock: the owner's thread number, `FUTEX_WAITERS` if who unlocks has to ask the kernel, and
//! `FUTEX_OWNER_DIED`. User mode takes and frees it without the kernel while nobody waits; so the word is believed where
//! nobody waits, and compared with what the kernel knows ([`inherit`](super::inherit)) where somebody does.
//!
//! **Handing over.** Who unlocks writes the next owner's number into the word and makes it the owner, both under the lock of the
//! graph; then the waiter is woken, and owns what it waited for whatever ends its wait at the same moment. The end of an owner
//! hands its locks over as well, but cannot write the words, which may be in memory that it does not map: the new owner does,
//! on its way out of the wait ([`Graph::written`](super::inherit::Graph::written)).
//!
//! **The end of an owner.** [`end`] says that the thread owns nothing any more, then looks whether it does; who waits says
//! first that there are waiters and looks second whether the owner has ended.

use alloc::sync::Arc;
use core::{
    future::Future,
    pin::Pin,
    sync::atomic::Ordering,
    task::{Context, Poll},
};

use linux_raw_sys::general::{FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS};

use super::{
    Key, NotWaiting, Scope, has_plain_waiter,
    inherit::{GRAPH, Gone, Graph, is_used},
    timed,
};
use crate::{
    clock::Moment,
    errno::{Errno, Result},
    mm::user::{self, UserFault},
    rt,
    task::{self, Thread},
};

/// How often a word that others change is tried in one poll.
const TRIES: usize = 16;

/// How far [`take`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The word says that the lock is the caller's.
    Taken,
    /// The caller stands in line.
    Queued,
    /// The word has changed meanwhile.
    Again,
}

impl From<UserFault> for NotWaiting {
    fn from(fault: UserFault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Errno> for NotWaiting {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

/// What is to be done for whom.
pub(super) struct Taking<'a> {
    pub key: Key,
    /// The word's address in the active address space.
    pub address: u64,
    /// Who gets the lock, or waits for it.
    pub waiter: &'a Arc<Thread>,
    /// Whether others are to wait behind it.
    pub with_waiters: bool,
    /// Whether it does not wait.
    pub only_try: bool,
}

/// The owner that the word names, to be looked up before [`take`], which holds locks.
#[derive(Debug)]
pub(super) struct Named {
    tid: u32,
    thread: Option<Arc<Thread>>,
}

impl Named {
    /// By the word at `address` in the active address space.
    pub fn look(address: u64) -> core::result::Result<Self, UserFault> {
        let tid = user::load_u32(address)? & FUTEX_TID_MASK;
        Ok(Self {
            tid,
            thread: if tid == 0 {
                None
            } else {
                task::thread(tid.cast_signed())
            },
        })
    }
}

/// Changes the word from `old` to `new`; false if it is no longer `old`.
fn exchange(address: u64, old: u32, new: u32) -> core::result::Result<bool, UserFault> {
    Ok(user::compare_exchange_u32(address, old, new)? == old)
}

/// Takes the lock if it is free, or has the waiter stand in line (`futex_lock_pi_atomic`).
///
/// # Errors
/// `EDEADLK`, `ESRCH` if the word names nobody, `EINVAL` if it says something else than the kernel knows, `EAGAIN` where the
/// waiter does not wait.
pub(super) fn take(graph: &mut Graph, taking: &Taking<'_>, named: &Named) -> core::result::Result<Step, NotWaiting> {
    let &Taking {
        key, address, waiter, ..
    } = taking;
    let value = user::load_u32(address)?;
    let own = waiter.tid().cast_unsigned();
    let tid = value & FUTEX_TID_MASK;
    if tid == own {
        return Err(Errno::EDEADLK.into());
    }
    if let Some((owner, unwritten)) = graph.owner(key) {
        let is_dying = tid == 0 && value & FUTEX_OWNER_DIED != 0;
        if !unwritten && !is_dying && tid != owner.tid().cast_unsigned() {
            return Err(Errno::EINVAL.into());
        }
        if taking.only_try {
            return Err(Errno::EAGAIN.into());
        }
        let owner = owner.clone();
        graph.attach(key, &owner, waiter)?;
        return Ok(Step::Queued);
    }
    if tid == 0 {
        let waiters = if taking.with_waiters { FUTEX_WAITERS } else { 0 };
        let new = value & FUTEX_OWNER_DIED | own | waiters;
        return Ok(match exchange(address, value, new)? {
            true => Step::Taken,
            false => Step::Again,
        });
    }
    let contended = value | FUTEX_WAITERS;
    if tid != named.tid || !exchange(address, value, contended)? {
        return Ok(Step::Again);
    }
    let attached = match &named.thread {
        Some(_) if taking.only_try => return Err(Errno::EAGAIN.into()),
        Some(owner) => graph.attach(key, owner, waiter),
        None => Err(Errno::ESRCH),
    };
    match attached {
        Ok(()) => Ok(Step::Queued),
        // What it left when it ended may be there by now.
        Err(Errno::ESRCH) if user::load_u32(address)? != contended => Ok(Step::Again),
        Err(errno) => Err(errno.into()),
    }
}

/// A thread that stands in a lock's line until it is given the lock or this is dropped.
pub(super) struct InLine<'a> {
    pub thread: &'a Arc<Thread>,
}

impl InLine<'_> {
    /// Gives up; false if the lock had been given to the thread before.
    pub fn leave(&self) -> bool {
        let mut gone = Gone::new();
        GRAPH.lock().leave(self.thread, &mut gone)
    }
}

impl Future for &InLine<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.thread.store_waker(cx.waker());
        if GRAPH.lock().waits(self.thread) {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Takes the lock at `address`, waiting until `at` at most; with `only_try` not at all.
///
/// Cancel-safe: dropped, the caller has left the line, or owns the lock, as the word says.
///
/// # Errors
/// `EDEADLK` if the caller has it, or its owner waits for one that the caller has; `ESRCH` if nobody bears the number in the word;
/// `EINVAL` for a word that is not aligned, waited for by others in other ways, or inconsistent; `ETIMEDOUT`; `EFAULT`; `EAGAIN`
/// with `only_try` if it is taken; `ERESTARTNOINTR` after a signal.
pub async fn lock(t: &Arc<Thread>, address: u64, scope: Scope, at: Option<Moment>, only_try: bool) -> Result<()> {
    let mm = t.mm();
    let key = loop {
        let key = Key::new(&mm, address, scope)?;
        if has_plain_waiter(key) {
            return Err(Errno::EINVAL);
        }
        let taking = Taking {
            key,
            address,
            waiter: t,
            with_waiters: false,
            only_try,
        };
        let step = Named::look(address)
            .map_err(NotWaiting::from)
            .and_then(|named| take(&mut GRAPH.lock(), &taking, &named));
        match step {
            Ok(Step::Taken) => return Ok(()),
            Ok(Step::Queued) => break key,
            Ok(Step::Again) => again(t).await?,
            Err(NotWaiting::Errno(errno)) => return Err(errno),
            Err(NotWaiting::Fault(fault)) => mm.resolve(fault).await?,
        }
    };
    let place = InLine { thread: t };
    match timed(t, at, &place).await {
        Err(errno) if place.leave() => Err(match errno {
            Errno::ERESTARTSYS => Errno::ERESTARTNOINTR,
            errno => errno,
        }),
        // Given at the same moment: it is the caller's.
        _ => claim(t, key, address).await,
    }
}

/// Lets others go on before the word is looked at once more.
///
/// # Errors
/// `ERESTARTNOINTR` if a signal has come meanwhile.
pub(super) async fn again(t: &Thread) -> Result<()> {
    rt::yield_now().await;
    if t.is_interrupted() {
        return Err(Errno::ERESTARTNOINTR);
    }
    Ok(())
}

/// The caller has been given the lock: writes so, where the one who gave it could not.
///
/// # Errors
/// `EFAULT` if the word cannot be written: the lock goes to the next.
pub(super) async fn claim(t: &Arc<Thread>, key: Key, address: u64) -> Result<()> {
    let mm = t.mm();
    loop {
        match try_claim(t, key, address) {
            Ok(true) => return Ok(()),
            // Then its end hands the lock over.
            Ok(false) if t.must_exit() => return Ok(()),
            Ok(false) => rt::yield_now().await,
            Err(fault) => {
                if let Err(errno) = mm.resolve(fault).await {
                    give(key, t);
                    return Err(errno);
                }
            }
        }
    }
}

/// As [`claim`]; false if the word keeps changing.
fn try_claim(t: &Thread, key: Key, address: u64) -> core::result::Result<bool, UserFault> {
    let mut gone = Gone::new();
    let mut graph = GRAPH.lock();
    if !graph
        .owner(key)
        .is_some_and(|(owner, unwritten)| unwritten && core::ptr::eq(&raw const **owner, t))
    {
        return Ok(true);
    }
    let new = t.tid().cast_unsigned() | FUTEX_WAITERS | FUTEX_OWNER_DIED;
    let mut seen = user::load_u32(address)?;
    for _ in 0..TRIES {
        let old = user::compare_exchange_u32(address, seen, new)?;
        if old == seen {
            graph.written(key, &mut gone);
            return Ok(true);
        }
        seen = old;
    }
    Ok(false)
}

/// The owner gives a lock to the next without having written the word.
fn give(key: Key, owner: &Thread) {
    let mut gone = Gone::new();
    let next = {
        let mut graph = GRAPH.lock();
        match graph.owner(key) {
            Some((current, _)) if core::ptr::eq(&raw const **current, owner) => graph.hand_over(key, true, &mut gone),
            _ => None,
        }
    };
    if let Some(next) = next {
        next.wake();
    }
}

/// Frees the lock at `address`, or gives it to the best of those who wait.
///
/// # Errors
/// `EPERM` if the word does not name the caller; `EINVAL` if it is not aligned, or the kernel knows of another owner; `EAGAIN`
/// if the word was changed at the same time; `EFAULT`; `ERESTARTNOINTR` after a signal.
pub async fn unlock(t: &Arc<Thread>, address: u64, scope: Scope) -> Result<()> {
    let mm = t.mm();
    if !address.is_multiple_of(4) {
        // Whose it is comes first, and can be told of any word.
        let value = mm.read::<u32>(address).await?;
        let is_own = value & FUTEX_TID_MASK == t.tid().cast_unsigned();
        return Err(if is_own { Errno::EINVAL } else { Errno::EPERM });
    }
    loop {
        let key = Key::new(&mm, address, scope)?;
        let mut gone = Gone::new();
        match try_unlock(t, key, address, &mut gone) {
            Ok(Freed::Done(next)) => {
                if let Some(next) = next {
                    next.wake();
                }
                return Ok(());
            }
            Ok(Freed::Again) => again(t).await?,
            Err(NotWaiting::Errno(errno)) => return Err(errno),
            Err(NotWaiting::Fault(fault)) => mm.resolve(fault).await?,
        }
    }
}

enum Freed {
    /// With who has it now.
    Done(Option<Arc<Thread>>),
    /// A waiter has come at the same moment.
    Again,
}

fn try_unlock(t: &Arc<Thread>, key: Key, address: u64, gone: &mut Gone) -> core::result::Result<Freed, NotWaiting> {
    let own = t.tid().cast_unsigned();
    let seen = user::load_u32(address)?;
    if seen & FUTEX_TID_MASK != own {
        return Err(Errno::EPERM.into());
    }
    if has_plain_waiter(key) {
        return Err(Errno::EINVAL.into());
    }
    let mut graph = GRAPH.lock();
    let next = match graph.owner(key) {
        Some((owner, _)) if !Arc::ptr_eq(owner, t) => return Err(Errno::EINVAL.into()),
        Some(_) => graph.next(key).map(|next| next.tid().cast_unsigned()),
        None => None,
    };
    let Some(next) = next else {
        return match exchange(address, seen, 0)? {
            true => Ok(Freed::Done(None)),
            false => Err(Errno::EAGAIN.into()),
        };
    };
    let old = user::compare_exchange_u32(address, seen, next | FUTEX_WAITERS)?;
    if old == seen {
        Ok(Freed::Done(graph.hand_over(key, false, gone)))
    } else if old & FUTEX_TID_MASK == seen {
        Ok(Freed::Again)
    } else {
        Err(Errno::EINVAL.into())
    }
}

/// A thread that ends, or whose memory goes, gives its locks to the next in line.
pub(in crate::task) async fn release(t: &Arc<Thread>) {
    while is_used() {
        let mut gone = Gone::new();
        let next = {
            let mut graph = GRAPH.lock();
            match graph.owned(t) {
                Some(key) => graph.hand_over(key, true, &mut gone),
                None => break,
            }
        };
        if let Some(next) = next {
            next.wake();
        }
        rt::give_way().await;
    }
}

/// As [`release`], and from now on the thread cannot be waited for.
pub(in crate::task) async fn end(t: &Arc<Thread>) {
    t.futex_place.store(super::OVER, Ordering::SeqCst);
    release(t).await;
}

/// A thread's policy or priority has changed: what waits by it is told.
pub(in crate::task) fn adjust(t: &Thread) {
    if is_used() {
        GRAPH.lock().adjust(t);
    }
}

/// Whether somebody waits for the word as for a priority-inheriting lock.
pub(super) fn is_waited_for(key: Key) -> bool {
    is_used() && GRAPH.lock().owner(key).is_some()
}
