//! Futexes: waiting on a word of user memory.
//!
//! A bucket, chosen by the word's [`Key`], holds the waiters of every word that hashes to it, in order of arrival. A waiter
//! compares the word under the bucket's lock and enqueues under the same lock; a waker changes the word first and then
//! takes the lock. So either the waiter sees the new value, or the waker sees the waiter: no wake falls between.
//!
//! **Leaving.** A thread waits for one word at a time, and [`Thread::futex_place`] says where. A waiter that is woken is taken out
//! of its bucket by the waker, who says so there, and wakes it outside the lock. A
//! waiter whose wait ends otherwise (signal, time-out, drop) takes itself out; if it finds itself gone, the wake was meant
//! for it and the wait counts as successful. A requeue moves waiters between buckets under [`REQUEUE`]; while one is in
//! neither, its place says so, and a leaver waits for the move to end by taking that lock.

use alloc::{collections::VecDeque, sync::Arc};
use core::{
    future::Future,
    pin::Pin,
    sync::atomic::Ordering,
    task::{Context, Poll},
};

use arrayvec::ArrayVec;

use super::{Thread, deadline::until};
use crate::{
    errno::{Errno, Result},
    mm::{
        AddressSpace,
        fallible::TryRoom,
        user::{self, UserFault},
    },
    sync::{Rank, SpinLock},
};

const BUCKETS: usize = 256;

/// How many waiters are woken at a time.
const AT_ONCE: usize = 16;

/// Where a thread waits: a bucket's number, or one of these. Nowhere, or no more.
pub(super) const NOWHERE: u16 = u16::MAX;
const IN_TRANSIT: u16 = u16::MAX - 1;

/// Which word, however it is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A word of private memory.
    Private {
        /// The address space's identity.
        space: usize,
        /// The word's address.
        address: u64,
    },
    /// A word of memory that several address spaces share.
    Shared {
        /// The memory object's identity.
        object: usize,
        /// The byte of the object.
        byte: u64,
    },
}

/// Whether the caller promises that only its own process uses the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// `FUTEX_PRIVATE_FLAG`.
    Process,
    /// Any process that maps the memory.
    Machine,
}

impl Key {
    /// The key of the word at `address`.
    ///
    /// # Errors
    /// `EINVAL` if it is not aligned.
    pub fn new(mm: &Arc<AddressSpace>, address: u64, scope: Scope) -> Result<Self> {
        if !address.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        if scope == Scope::Machine
            && let Some((object, byte)) = mm.shared_object(address)
        {
            return Ok(Self::Shared { object, byte });
        }
        Ok(Self::Private {
            space: Arc::as_ptr(mm) as usize,
            address,
        })
    }

    fn bucket(&self) -> u16 {
        let (a, b) = match *self {
            Self::Private { space, address } => (space as u64, address),
            Self::Shared { object, byte } => (object as u64, byte),
        };
        // Fibonacci hashing of both words.
        let mixed = (a ^ b.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 56) as u16 % BUCKETS as u16
    }
}

struct Waiter {
    key: Key,
    bits: u32,
    thread: Arc<Thread>,
}

impl Waiter {
    /// Out of its bucket: says so. [`Thread::wake`] is to follow, outside the lock.
    fn end(self) -> Arc<Thread> {
        self.thread.futex_place.store(NOWHERE, Ordering::Release);
        self.thread
    }
}

type Bucket = SpinLock<VecDeque<Waiter>>;

static TABLE: [Bucket; BUCKETS] = [const { SpinLock::new(Rank::Futex, VecDeque::new()) }; BUCKETS];

fn numbered(number: u16) -> &'static Bucket {
    &TABLE[number as usize % BUCKETS]
}

/// Held while waiters move between buckets.
static REQUEUE: SpinLock<()> = SpinLock::new(Rank::FutexRequeue, ());

/// A waiter that stands in a bucket until it is woken or dropped.
struct Wait<'a> {
    thread: &'a Arc<Thread>,
}

/// Why [`Wait::enqueue`] did not enqueue.
enum NotWaiting {
    Errno(Errno),
    Fault(UserFault),
}

impl<'a> Wait<'a> {
    /// Enqueues if the word holds `expected`.
    fn enqueue(
        thread: &'a Arc<Thread>,
        key: Key,
        address: u64,
        expected: u32,
        bits: u32,
    ) -> core::result::Result<Self, NotWaiting> {
        debug_assert_eq!(thread.futex_place.load(Ordering::Relaxed), NOWHERE);
        let number = key.bucket();
        let mut bucket = numbered(number).lock();
        let value = user::load_u32(address).map_err(NotWaiting::Fault)?;
        if value != expected {
            return Err(NotWaiting::Errno(Errno::EAGAIN));
        }
        bucket.try_room(1).map_err(|_| NotWaiting::Errno(Errno::ENOMEM))?;
        thread.futex_place.store(number, Ordering::Relaxed);
        bucket.push_back(Waiter {
            key,
            bits,
            thread: thread.clone(),
        });
        Ok(Self { thread })
    }

    /// Leaves the queue; false if a waker had taken the waiter out before.
    fn leave(&self) -> bool {
        loop {
            match self.thread.futex_place.load(Ordering::Acquire) {
                NOWHERE => return false,
                // The move is over once the lock can be had.
                IN_TRANSIT => drop(REQUEUE.lock()),
                number => {
                    let mut bucket = numbered(number).lock();
                    if let Some(position) = bucket
                        .iter()
                        .position(|waiter| Arc::ptr_eq(&waiter.thread, self.thread))
                    {
                        let waiter = bucket.remove(position);
                        shrink(&mut bucket);
                        drop(waiter.map(Waiter::end));
                        return true;
                    }
                }
            }
        }
    }
}

impl Future for &Wait<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.thread.store_waker(cx.waker());
        if self.thread.futex_place.load(Ordering::Acquire) == NOWHERE {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Gives an empty bucket's memory back.
fn shrink(bucket: &mut VecDeque<Waiter>) {
    if bucket.is_empty() && bucket.capacity() > 8 {
        *bucket = VecDeque::new();
    }
}

/// Gives the memory of all empty buckets back, of which each keeps a little for its next waiter.
pub fn trim() {
    for bucket in &TABLE {
        let mut bucket = bucket.lock();
        if bucket.is_empty() {
            *bucket = VecDeque::new();
        }
    }
}

/// Waits until the word at `address` is woken, if it holds `expected`. `deadline` is monotonic.
///
/// # Errors
/// `EAGAIN` if it holds something else, `ETIMEDOUT`, `EINTR` (as `ERESTARTSYS`), `EFAULT`, `EINVAL`, `ENOMEM`.
pub async fn wait(
    t: &Arc<Thread>,
    address: u64,
    scope: Scope,
    expected: u32,
    bits: u32,
    deadline: Option<u64>,
) -> Result<()> {
    if bits == 0 {
        return Err(Errno::EINVAL);
    }
    let mm = t.mm();
    let wait = loop {
        let key = Key::new(&mm, address, scope)?;
        match Wait::enqueue(t, key, address, expected, bits) {
            Ok(wait) => break wait,
            Err(NotWaiting::Errno(errno)) => return Err(errno),
            Err(NotWaiting::Fault(fault)) => mm.resolve(fault).await?,
        }
    };
    let ended = match deadline {
        None => t.interruptible(&wait).await.map_err(Errno::from),
        Some(deadline) => match t.interruptible(until(Some(deadline), &wait)).await {
            Ok(Some(())) => Ok(()),
            Ok(None) => Err(Errno::ETIMEDOUT),
            Err(interrupted) => Err(interrupted.into()),
        },
    };
    match ended {
        // Woken at the same moment: the wake was given to this waiter, so it counts.
        Err(_) if !wait.leave() => Ok(()),
        ended => ended,
    }
}

/// Wakes at most `limit` waiters whose bits meet `bits`; returns how many.
pub fn wake(key: Key, limit: usize, bits: u32) -> usize {
    let mut woken = 0;
    let mut left = limit;
    loop {
        let mut threads = ArrayVec::<_, AT_ONCE>::new();
        let mut bucket = numbered(key.bucket()).lock();
        // Who comes while this goes on is not meant.
        left = left.min(bucket.len());
        let mut position = 0;
        while left > 0 && !threads.is_full() && position < bucket.len() {
            if bucket[position].key != key || bucket[position].bits & bits == 0 {
                position += 1;
            } else if let Some(waiter) = bucket.remove(position) {
                threads.push(waiter.end());
                left -= 1;
            }
        }
        shrink(&mut bucket);
        drop(bucket);
        woken += threads.len();
        let over = left == 0 || !threads.is_full();
        threads.iter().for_each(|thread| thread.wake());
        if over {
            return woken;
        }
    }
}

/// Wakes one waiter on a word of the thread's memory, as the end of a thread does for its thread number.
pub fn wake_address(mm: &Arc<AddressSpace>, address: u64) {
    for scope in [Scope::Process, Scope::Machine] {
        if let Ok(key) = Key::new(mm, address, scope)
            && wake(key, 1, u32::MAX) > 0
        {
            return;
        }
    }
}

/// A word to requeue from, with the value it must still hold.
pub struct Source {
    /// The word.
    pub key: Key,
    /// Its address and the value it must hold (`FUTEX_CMP_REQUEUE`).
    pub expected: Option<(u64, u32)>,
}

/// Wakes at most `wake_limit` waiters of one word and moves at most `move_limit` of the rest to another.
///
/// # Errors
/// `Ok(Err(fault))` if the word has to be paged in first; `EAGAIN` if it holds another value, `ENOMEM`.
pub fn requeue(
    from: &Source,
    to: Key,
    wake_limit: usize,
    move_limit: usize,
) -> Result<core::result::Result<usize, UserFault>> {
    let mut ended: VecDeque<Arc<Thread>> = VecDeque::new();
    let result = requeue_into(&mut ended, from, to, wake_limit, move_limit);
    ended.iter().for_each(|thread| thread.wake());
    result
}

/// As [`requeue`], but leaves those to be woken in `ended`.
fn requeue_into(
    ended: &mut VecDeque<Arc<Thread>>,
    from: &Source,
    to: Key,
    wake_limit: usize,
    move_limit: usize,
) -> Result<core::result::Result<usize, UserFault>> {
    let _moving = REQUEUE.lock();
    let mut moved = VecDeque::new();
    {
        let mut bucket = numbered(from.key.bucket()).lock();
        if let Some((address, expected)) = from.expected {
            match user::load_u32(address) {
                Ok(value) if value == expected => {}
                Ok(_) => return Err(Errno::EAGAIN),
                Err(fault) => return Ok(Err(fault)),
            }
        }
        moved.try_room(bucket.len().min(move_limit))?;
        // Of those that are to be moved there may be some that have to be woken instead.
        ended.try_room(bucket.len().min(wake_limit.saturating_add(move_limit)))?;
        let mut position = 0;
        while position < bucket.len() && (ended.len() < wake_limit || moved.len() < move_limit) {
            if bucket[position].key != from.key {
                position += 1;
            } else if let Some(mut waiter) = bucket.remove(position) {
                if ended.len() < wake_limit {
                    ended.push_back(waiter.end());
                } else {
                    waiter.thread.futex_place.store(IN_TRANSIT, Ordering::Release);
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
        waiter.thread.futex_place.store(number, Ordering::Release);
        bucket.push_back(waiter);
    }
    Ok(Ok(count))
}
