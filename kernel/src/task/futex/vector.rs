//! Waiting for several words at once (`futex_waitv`).
//!
//! Such a waiter stands in a bucket for each word, and each of its places says so for itself. It is awake once one of them has
//! been left to a waker; which, is what the call returns.

use alloc::{boxed::Box, sync::Arc, vec::Vec};
use core::{
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicU16, Ordering},
    task::{Context, Poll},
};

use super::{Key, NOWHERE, NotWaiting, Scope, Waiter, Who, enqueue, leave, timed};
use crate::{
    clock::Moment,
    errno::{Errno, Result},
    mm::fallible::TryRoomExact,
    task::{Thread, schedule},
};

/// The most words at once (`FUTEX_WAITV_MAX`).
pub const MOST: usize = 128;

/// One of several words.
#[derive(Clone, Copy, Debug)]
pub struct Word {
    /// Where it is.
    pub address: u64,
    /// Whose it is.
    pub scope: Scope,
    /// What it must hold.
    pub expected: u32,
}

/// A thread that waits for several words.
pub(super) struct Several {
    pub thread: Arc<Thread>,
    pub places: Box<[AtomicU16]>,
}

/// Stands in the buckets of the first `count` words until it is woken or dropped.
struct Wait {
    several: Arc<Several>,
    count: usize,
}

impl Wait {
    /// Leaves all queues; the last of the words by which a waker had come before.
    fn leave(&mut self) -> Option<usize> {
        let count = core::mem::take(&mut self.count);
        let mut woken = None;
        for index in 0..count {
            if !leave(&self.several.places[index]) {
                woken = Some(index);
            }
        }
        woken
    }
}

impl Future for &Wait {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.several.thread.store_waker(cx.waker());
        let is_woken = |place: &AtomicU16| place.load(Ordering::Acquire) == NOWHERE;
        if self.several.places[..self.count].iter().any(is_woken) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Waits until one of at most [`MOST`] words is woken, if all hold what they must; until `at` at most. Which one; if it were more,
/// the last.
///
/// Cancel-safe: dropped, it waits for none.
///
/// # Errors
/// `EAGAIN` if one holds something else, `ETIMEDOUT`, `ERESTARTSYS` after a signal, `EFAULT`, `EINVAL`, `ENOMEM`.
pub async fn wait(t: &Arc<Thread>, words: Vec<Word>, at: Option<Moment>) -> Result<usize> {
    let mm = t.mm();
    let mut keys = Vec::new();
    keys.try_room_exact(words.len())?;
    for word in &words {
        keys.push(Key::new(&mm, word.address, word.scope)?);
    }
    let mut places = Vec::new();
    places.try_room_exact(words.len())?;
    places.resize_with(words.len(), || AtomicU16::new(NOWHERE));
    let mut wait = Wait {
        several: Arc::new(Several {
            thread: t.clone(),
            places: places.into_boxed_slice(),
        }),
        count: 0,
    };
    while let Some(word) = words.get(wait.count) {
        let waiter = Waiter {
            key: keys[wait.count],
            bits: u32::MAX,
            priority: schedule::real_time(t).priority(),
            index: wait.count as u8,
            who: Who::Several(wait.several.clone()),
        };
        match enqueue(waiter, word.address, word.expected) {
            Ok(()) => wait.count += 1,
            Err(stopped) => {
                // Whoever was woken meanwhile is not told of another's value.
                if let Some(index) = wait.leave() {
                    return Ok(index);
                }
                match stopped {
                    NotWaiting::Errno(errno) => return Err(errno),
                    NotWaiting::Fault(fault) => mm.resolve(fault).await?,
                }
            }
        }
    }
    // The wait itself needs little.
    drop((keys, words));
    let ended = timed(t, at, &wait).await;
    match (wait.leave(), ended) {
        (Some(index), _) => Ok(index),
        // Nothing ends the wait without a word that has been left.
        (None, Ok(())) => Err(Errno::ERESTARTSYS),
        (None, Err(errno)) => Err(errno),
    }
}
