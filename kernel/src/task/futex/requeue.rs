//! Moving waiters from one word to another: to an ordinary word, and to a priority-inheriting lock.
//!
//! Who waits to be moved to a lock (`FUTEX_WAIT_REQUEUE_PI`) says beforehand to which. It stands in the bucket of the first word;
//! under that bucket's lock it is then given the second or put into its line, and taken out of the bucket. So its wait has two
//! parts and ends wherever it is found.

use alloc::{collections::VecDeque, sync::Arc};
use core::{
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicU16, Ordering},
    task::{Context, Poll},
};

use super::{
    IN_TRANSIT, Key, NOWHERE, NotWaiting, REQUEUE, Scope, Waiter, Who, enqueue, has_plain_waiter,
    inherit::GRAPH,
    insert, leave, numbered,
    pi::{self, InLine, Named, Step, Taking},
    shrink, timed,
};
use crate::{
    clock::Moment,
    errno::{Errno, Result},
    mm::{
        fallible::TryRoom,
        user::{self, UserFault},
    },
    task::{Thread, schedule},
};

/// A word to requeue from, with the value it must still hold.
pub struct Source {
    /// The word.
    pub key: Key,
    /// Its address and the value it must hold (`FUTEX_CMP_REQUEUE`).
    pub expected: Option<(u64, u32)>,
}

impl Source {
    /// Whether the word still holds what it must.
    ///
    /// # Errors
    /// `EAGAIN` if not, or the fault.
    fn check(&self) -> core::result::Result<(), NotWaiting> {
        match self.expected {
            Some((address, expected)) if user::load_u32(address)? != expected => Err(Errno::EAGAIN.into()),
            _ => Ok(()),
        }
    }
}

/// An attempt at moving waiters: its result, or the fault of a word that has to be paged in first.
pub type Attempted<T> = Result<core::result::Result<T, UserFault>>;

/// Wakes at most `wake_limit` waiters of one word and moves at most `move_limit` of the rest to another; how many were either.
///
/// # Errors
/// `EAGAIN` if the word holds another value, `ENOMEM`; `EINVAL` if it comes upon a waiter for a priority-inheriting lock.
pub fn requeue(from: &Source, to: Key, wake_limit: usize, move_limit: usize) -> Attempted<usize> {
    let mut ended: VecDeque<Arc<Thread>> = VecDeque::new();
    let result = requeue_into(&mut ended, from, to, wake_limit, move_limit);
    ended.iter().for_each(|thread| thread.wake());
    match result {
        Ok(0) if pi::is_waited_for(from.key) => Err(Errno::EINVAL),
        Ok(count) => Ok(Ok(count)),
        Err(NotWaiting::Errno(errno)) => Err(errno),
        Err(NotWaiting::Fault(fault)) => Ok(Err(fault)),
    }
}

/// As [`requeue`], but leaves those to be woken in `ended`.
fn requeue_into(
    ended: &mut VecDeque<Arc<Thread>>,
    from: &Source,
    to: Key,
    wake_limit: usize,
    move_limit: usize,
) -> core::result::Result<usize, NotWaiting> {
    let _moving = REQUEUE.lock();
    let mut moved = VecDeque::new();
    let mut is_wrong = false;
    {
        let mut bucket = numbered(from.key.bucket()).lock();
        from.check()?;
        moved.try_room(bucket.len().min(move_limit))?;
        // Of those that are to be moved there may be some that have to be woken instead.
        ended.try_room(bucket.len().min(wake_limit.saturating_add(move_limit)))?;
        let mut position = 0;
        while position < bucket.len() && (ended.len() < wake_limit || moved.len() < move_limit) {
            if bucket[position].key != from.key {
                position += 1;
            } else if matches!(bucket[position].who, Who::Moving(_)) {
                is_wrong = true;
                break;
            } else if let Some(mut waiter) = bucket.remove(position) {
                if ended.len() < wake_limit {
                    ended.push_back(waiter.end());
                } else {
                    waiter.place().store(IN_TRANSIT, Ordering::Release);
                    waiter.key = to;
                    moved.push_back(waiter);
                }
            }
        }
        shrink(&mut bucket);
    }
    let count = ended.len() + moved.len();
    let number = to.bucket();
    let mut bucket = numbered(number).lock();
    if bucket.try_room(count).is_err() {
        // A spurious wake is allowed, a lost waiter is not.
        ended.extend(moved.drain(..).map(Waiter::end));
    }
    for waiter in moved {
        waiter.place().store(number, Ordering::Release);
        insert(&mut bucket, waiter);
    }
    if is_wrong {
        return Err(Errno::EINVAL.into());
    }
    Ok(count)
}

/// A thread that waits to be moved to a priority-inheriting lock.
pub(super) struct Moving {
    pub thread: Arc<Thread>,
    pub place: AtomicU16,
    /// The lock.
    to: Key,
}

/// A thread in either part of its wait; dropped, in neither.
struct Moved<'a> {
    moving: Arc<Moving>,
    line: InLine<'a>,
}

/// How [`Moved`] was left.
#[derive(Debug, PartialEq, Eq)]
enum Left {
    /// It had not been moved.
    Bucket,
    /// It stood in the lock's line.
    Line,
    /// The lock had been given to it.
    Not,
}

impl Moved<'_> {
    fn leave(&self) -> Left {
        if leave(&self.moving.place) {
            Left::Bucket
        } else if self.line.leave() {
            Left::Line
        } else {
            Left::Not
        }
    }
}

impl Future for &Moved<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.line.thread.store_waker(cx.waker());
        if self.moving.place.load(Ordering::Acquire) != NOWHERE {
            return Poll::Pending;
        }
        Pin::new(&mut &self.line).poll(cx)
    }
}

impl Drop for Moved<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Waits until the caller has been moved from one word, if that holds `expected`, to the lock at `lock`, and has been given it;
/// until `at` at most.
///
/// Cancel-safe, as [`pi::lock`].
///
/// # Errors
/// `EAGAIN` if the word holds something else, or after a signal when it had been moved; `ERESTARTNOINTR` after one before;
/// `EINVAL` if the two are one; `ETIMEDOUT`, `EFAULT`, `ENOMEM`.
pub async fn wait_to_be_moved(
    t: &Arc<Thread>,
    address: u64,
    scope: Scope,
    expected: u32,
    at: Option<Moment>,
    lock: u64,
) -> Result<()> {
    if address == lock {
        return Err(Errno::EINVAL);
    }
    let mm = t.mm();
    let (wait, to) = loop {
        let to = Key::new(&mm, lock, scope)?;
        let key = Key::new(&mm, address, scope)?;
        if key == to {
            return Err(Errno::EINVAL);
        }
        let moving = Arc::new(Moving {
            thread: t.clone(),
            place: AtomicU16::new(NOWHERE),
            to,
        });
        let waiter = Waiter {
            key,
            bits: u32::MAX,
            priority: schedule::real_time(t).priority(),
            index: 0,
            who: Who::Moving(moving.clone()),
        };
        match enqueue(waiter, address, expected) {
            Ok(()) => {
                let line = InLine { thread: t };
                break (Moved { moving, line }, to);
            }
            Err(NotWaiting::Errno(errno)) => return Err(errno),
            Err(NotWaiting::Fault(fault)) => mm.resolve(fault).await?,
        }
    };
    if let Err(errno) = timed(t, at, &wait).await {
        match (wait.leave(), errno) {
            (Left::Not, _) => {}
            (Left::Bucket, Errno::ERESTARTSYS) => return Err(Errno::ERESTARTNOINTR),
            // The word has another value by now: whoever calls goes by that.
            (Left::Line, Errno::ERESTARTSYS) => return Err(Errno::EAGAIN),
            (_, errno) => return Err(errno),
        }
    }
    pi::claim(t, to, lock).await
}

/// Has one waiter of a word take the lock at `lock`, and at most `move_limit` more stand in its line; how many it were.
///
/// # Errors
/// `EAGAIN` if the word holds another value, `EINVAL` for waiters that do not wait for that, `EDEADLK`, `ESRCH`, `EFAULT`,
/// `ERESTARTNOINTR` after a signal.
pub async fn move_to_lock(
    t: &Arc<Thread>,
    from: u64,
    scope: Scope,
    expected: u32,
    lock: u64,
    move_limit: usize,
) -> Result<usize> {
    if from == lock {
        return Err(Errno::EINVAL);
    }
    let mm = t.mm();
    loop {
        let source = Source {
            key: Key::new(&mm, from, scope)?,
            expected: Some((from, expected)),
        };
        let to = Key::new(&mm, lock, scope)?;
        if source.key == to {
            return Err(Errno::EINVAL);
        }
        let mut woken = None;
        let moved = source
            .check()
            .and_then(|()| Ok(Named::look(lock)?))
            .and_then(|named| try_move(&source, to, lock, move_limit, &named, &mut woken));
        if let Some(thread) = woken {
            thread.wake();
        }
        match moved {
            Ok(Some(count)) => return Ok(count),
            Ok(None) => pi::again(t).await?,
            Err(NotWaiting::Errno(errno)) => return Err(errno),
            Err(NotWaiting::Fault(fault)) => mm.resolve(fault).await?,
        }
    }
}

/// As [`move_to_lock`]; `None` if the lock's word has changed meanwhile, and nothing has been done. Who is given the lock is
/// left in `woken`.
fn try_move(
    source: &Source,
    to: Key,
    lock: u64,
    move_limit: usize,
    named: &Named,
    woken: &mut Option<Arc<Thread>>,
) -> core::result::Result<Option<usize>, NotWaiting> {
    let is_plain = has_plain_waiter(to);
    let mut bucket = numbered(source.key.bucket()).lock();
    source.check()?;
    let mut graph = GRAPH.lock();
    let mut position = 0;
    let mut count = 0;
    while count <= move_limit
        && let Some(next) = bucket.range(position..).position(|waiter| waiter.key == source.key)
    {
        position += next;
        let Who::Moving(moving) = &bucket[position].who else {
            return Err(Errno::EINVAL.into());
        };
        if moving.to != to || is_plain {
            return Err(Errno::EINVAL.into());
        }
        let is_first = count == 0;
        if is_first {
            let taking = Taking {
                key: to,
                address: lock,
                waiter: &moving.thread,
                with_waiters: move_limit > 0,
                only_try: false,
            };
            match pi::take(&mut graph, &taking, named)? {
                Step::Taken => *woken = Some(moving.thread.clone()),
                Step::Queued => {}
                Step::Again => return Ok(None),
            }
        } else if let Some(owner) = graph
            .owner(to)
            .map(|(owner, _)| owner.clone())
            .or_else(|| woken.clone())
        {
            graph.attach(to, &owner, &moving.thread)?;
        }
        // It is where it is to be before it is said to have left the bucket.
        if let Some(waiter) = bucket.remove(position) {
            let _moved = waiter.end();
        }
        count += 1;
    }
    shrink(&mut bucket);
    Ok(Some(count))
}
