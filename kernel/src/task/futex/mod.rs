//! Futexes: waiting on a word of user memory.
//!
//! A bucket, chosen by the word's [`Key`], holds the waiters of every word that hashes to it, by real-time priority and then in
//! order of arrival. A waiter
//! compares the word under the bucket's lock and enqueues under the same lock; a waker changes the word first and then
//! takes the lock. So either the waiter sees the new value, or the waker sees the waiter: no wake falls between.
//!
//! Waiters for priority-inheriting locks stand in no bucket but in a graph of their own: see [`pi`].
//!
//! **Leaving.** [`Thread::futex_place`] says where a thread that waits for one word stands; who waits for several has a place for each
//! ([`vector`]). A waiter that is woken is taken out
//! of its bucket by the waker, who says so there, and wakes it outside the lock. A
//! waiter whose wait ends otherwise (signal, time-out, drop) takes itself out; if it finds itself gone, the wake was meant
//! for it and the wait counts as successful. A requeue moves waiters between buckets under [`REQUEUE`]; while one is in
//! neither, its place says so, and a leaver waits for the move to end by taking that lock.

mod inherit;
pub mod pi;
pub mod requeue;
pub mod vector;

use alloc::{boxed::Box, collections::VecDeque, sync::Arc};
use core::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::atomic::{AtomicU16, Ordering},
    task::{Context, Poll},
};

use arrayvec::ArrayVec;
use hal::{arch::PageTable, traits::PageTableOps};

use self::{requeue::Moving, vector::Several};
use super::{Thread, deadline::until, schedule};
use crate::{
    clock::{Base, Moment},
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
/// The thread has ended.
const OVER: u16 = u16::MAX - 2;

/// Which word, however it is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The identity of the address space, or of the memory object that several share.
    memory: usize,
    /// The word's address, or the byte of the object; the lowest bit is set for the latter.
    place: u64,
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
    /// `EINVAL` if it is not aligned, `EFAULT` if it is no program's, or one of [`Scope::Machine`] where nothing is mapped.
    pub fn new(mm: &Arc<AddressSpace>, address: u64, scope: Scope) -> Result<Self> {
        if !address.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        if address > PageTable::USER_END - 4 {
            return Err(Errno::EFAULT);
        }
        if scope == Scope::Machine
            && let Some((object, byte)) = mm.shared_object(address)?
        {
            return Ok(Self {
                memory: object,
                place: byte | 1,
            });
        }
        Ok(Self {
            memory: Arc::as_ptr(mm).addr(),
            place: address,
        })
    }

    fn bucket(&self) -> u16 {
        // Fibonacci hashing of both words.
        let mixed = (self.memory as u64 ^ self.place.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 56) as u16 % BUCKETS as u16
    }
}

/// On whose behalf a waiter stands in a bucket.
enum Who {
    /// A thread that waits for one word.
    One(Arc<Thread>),
    /// A thread that waits for several.
    Several(Arc<Several>),
    /// A thread that waits to be moved to a priority-inheriting lock.
    Moving(Arc<Moving>),
}

struct Waiter {
    key: Key,
    bits: u32,
    /// 0 of a fair thread, else 1 to 99; as it was when the wait began.
    priority: u8,
    /// Which of several.
    index: u8,
    who: Who,
}

const _: () = assert!(size_of::<Waiter>() == 40);

impl Waiter {
    /// Where it says where it stands.
    fn place(&self) -> &AtomicU16 {
        match &self.who {
            Who::One(thread) => &thread.futex_place,
            Who::Several(several) => &several.places[usize::from(self.index)],
            Who::Moving(moving) => &moving.place,
        }
    }

    /// Out of its bucket: says so. [`Thread::wake`] is to follow, outside the lock.
    fn end(self) -> Arc<Thread> {
        match self.who {
            Who::One(thread) => {
                thread.futex_place.store(NOWHERE, Ordering::Release);
                thread
            }
            Who::Several(several) => {
                // Whoever waits may let go of it once it sees this.
                let thread = several.thread.clone();
                several.places[usize::from(self.index)].store(NOWHERE, Ordering::Release);
                thread
            }
            Who::Moving(moving) => {
                let thread = moving.thread.clone();
                moving.place.store(NOWHERE, Ordering::Release);
                thread
            }
        }
    }
}

type Bucket = SpinLock<VecDeque<Waiter>>;

static TABLE: [Bucket; BUCKETS] = [const { SpinLock::new(Rank::Futex, VecDeque::new()) }; BUCKETS];

fn numbered(number: u16) -> &'static Bucket {
    &TABLE[number as usize % BUCKETS]
}

/// Held while waiters move between buckets.
static REQUEUE: SpinLock<()> = SpinLock::new(Rank::FutexRequeue, ());

/// Why a waiter was not enqueued.
pub(super) enum NotWaiting {
    Errno(Errno),
    Fault(UserFault),
}

/// Puts a waiter behind its equals. There is room.
fn insert(bucket: &mut VecDeque<Waiter>, waiter: Waiter) {
    let at = match bucket.back() {
        Some(last) if last.priority < waiter.priority => {
            bucket.partition_point(|other| other.priority >= waiter.priority)
        }
        _ => bucket.len(),
    };
    bucket.insert(at, waiter);
}

/// Enqueues a waiter if the word at `address` holds `expected`.
fn enqueue(waiter: Waiter, address: u64, expected: u32) -> core::result::Result<(), NotWaiting> {
    debug_assert_eq!(waiter.place().load(Ordering::Relaxed), NOWHERE);
    let number = waiter.key.bucket();
    let mut bucket = numbered(number).lock();
    let value = user::load_u32(address).map_err(NotWaiting::Fault)?;
    if value != expected {
        return Err(NotWaiting::Errno(Errno::EAGAIN));
    }
    bucket.try_room(1).map_err(|_| NotWaiting::Errno(Errno::ENOMEM))?;
    waiter.place().store(number, Ordering::Relaxed);
    insert(&mut bucket, waiter);
    Ok(())
}

/// Leaves the queue; false if a waker had taken the waiter out before.
fn leave(place: &AtomicU16) -> bool {
    loop {
        match place.load(Ordering::Acquire) {
            NOWHERE => return false,
            // The move is over once the lock can be had.
            IN_TRANSIT => drop(REQUEUE.lock()),
            number => {
                let mut bucket = numbered(number).lock();
                let is_this = |waiter: &Waiter| core::ptr::eq(waiter.place(), place);
                if let Some(position) = bucket.iter().position(is_this) {
                    let waiter = bucket.remove(position);
                    shrink(&mut bucket);
                    drop(bucket);
                    drop(waiter.map(Waiter::end));
                    return true;
                }
            }
        }
    }
}

/// A waiter that stands in a bucket until it is woken or dropped.
struct Wait<'a> {
    thread: &'a Arc<Thread>,
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
        let waiter = Waiter {
            key,
            bits,
            priority: schedule::real_time(thread).priority(),
            index: 0,
            who: Who::One(thread.clone()),
        };
        enqueue(waiter, address, expected)?;
        Ok(Self { thread })
    }

    /// Leaves the queue; false if a waker had taken the waiter out before.
    fn leave(&self) -> bool {
        leave(&self.thread.futex_place)
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

/// Waits for `wait`, until `at` at most.
///
/// # Errors
/// `ETIMEDOUT`, `ERESTARTSYS` after a signal.
async fn timed<F: Future<Output = ()>>(t: &Thread, at: Option<Moment>, wait: F) -> Result<()> {
    match at {
        None => Ok(t.interruptible(wait).await?),
        Some(Moment { base: Base::Boot, time }) => {
            t.interruptible(until(Some(time), wait)).await?.ok_or(Errno::ETIMEDOUT)
        }
        Some(moment) => {
            // Few wait by the wall clock, and it takes room.
            let mut reached = Box::pin(moment.reached());
            let mut wait = pin!(wait);
            let both = poll_fn(|cx| {
                if wait.as_mut().poll(cx).is_ready() {
                    Poll::Ready(Ok(()))
                } else {
                    reached.as_mut().poll(cx).map(|()| Err(Errno::ETIMEDOUT))
                }
            });
            t.interruptible(both).await?
        }
    }
}

/// Waits until the word at `address` is woken, if it holds `expected`; until `at` at most.
///
/// # Errors
/// `EAGAIN` if it holds something else, `ETIMEDOUT`, `EINTR` (as `ERESTARTSYS`), `EFAULT`, `EINVAL`, `ENOMEM`.
pub async fn wait(
    t: &Arc<Thread>,
    address: u64,
    scope: Scope,
    expected: u32,
    bits: u32,
    at: Option<Moment>,
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
    match timed(t, at, &wait).await {
        // Woken at the same moment: the wake was given to this waiter, so it counts.
        Err(_) if !wait.leave() => Ok(()),
        ended => ended,
    }
}

/// Wakes at most `limit` waiters whose bits meet `bits`; returns how many.
///
/// # Errors
/// `EINVAL` if it comes upon one that waits for a priority-inheriting lock, or to be moved to one.
pub fn wake(key: Key, limit: usize, bits: u32) -> Result<usize> {
    let mut woken = 0;
    let mut left = limit;
    loop {
        let mut threads = ArrayVec::<_, AT_ONCE>::new();
        let mut bucket = numbered(key.bucket()).lock();
        // Who comes while this goes on is not meant.
        left = left.min(bucket.len());
        let mut position = 0;
        let mut is_wrong = false;
        while left > 0 && !threads.is_full() && position < bucket.len() && !is_wrong {
            if bucket[position].key != key {
                position += 1;
            } else if matches!(bucket[position].who, Who::Moving(_)) {
                is_wrong = true;
            } else if bucket[position].bits & bits == 0 {
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
        if is_wrong || woken == 0 && pi::is_waited_for(key) {
            return Err(Errno::EINVAL);
        }
        if over {
            return Ok(woken);
        }
    }
}

/// Whether somebody waits for the word in any other way than for a priority-inheriting lock.
fn has_plain_waiter(key: Key) -> bool {
    numbered(key.bucket()).lock().iter().any(|waiter| waiter.key == key)
}

/// Wakes one waiter on a word of the thread's memory, as the end of a thread does for its thread number.
pub fn wake_address(mm: &Arc<AddressSpace>, address: u64) {
    for scope in [Scope::Process, Scope::Machine] {
        if let Ok(key) = Key::new(mm, address, scope)
            && wake(key, 1, u32::MAX).is_ok_and(|woken| woken > 0)
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
