//! Waiting for a lock, and finding out that it would be in vain.
//!
//! A classic lock that is waited for stands in one list with all other such waits. Its owner waits for the owners of all that
//! stands in its way, they for others perhaps, and a wait that leads back to who begins it fails with `EDEADLK`. Waits begin one
//! after another, under the list's lock, so that the last of those that would wait for each other sees the others. The search
//! looks at each waiter once. It takes an owner that waits in any of its threads for one that waits. The locks of descriptions are neither followed
//! nor looked into, as on Linux.

use core::{
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    task::{Context, Poll, Waker},
};

use smallvec::SmallVec;

use super::{Files, Key, Lock, Owner, key, take};
use crate::{
    errno::{Errno, Result},
    fs::open_file::OpenFile,
    mm::fallible::TryRoom,
    sync::{Rank, SpinLock},
};

/// A classic lock that is waited for.
struct Waits {
    number: u64,
    key: Key,
    wanted: Lock,
    /// The last search that came by.
    search: u64,
    /// The one to be looked at after this one.
    next: Option<usize>,
}

/// Two without allocation.
type List = SmallVec<[Waits; 2]>;

/// All of them, by owner.
static WAITS: SpinLock<List> = SpinLock::new(Rank::LockWaits, List::new_const());
/// The last number given to a wait.
static NUMBERS: AtomicU64 = AtomicU64::new(0);

/// Takes a lock as [`lock`](super::lock) does, waiting for whatever stands in the way. To be polled at once.
///
/// Cancelling leaves the line, and passes on a wake that was not used.
///
/// # Errors
/// `ENOLCK` without memory; `EDEADLK` if the wait would not end.
pub fn acquire(file: &OpenFile, wanted: Lock) -> Acquire {
    Acquire {
        key: key(file),
        wanted,
        number: None,
    }
}

/// See [`acquire`].
#[must_use = "a future does nothing unless awaited"]
pub struct Acquire {
    key: Key,
    wanted: Lock,
    /// While it waits.
    number: Option<u64>,
}

impl Acquire {
    const fn is_classic(&self) -> bool {
        matches!(self.wanted.owner, Owner::Table(_))
    }

    /// Takes the lock, or enters the line.
    fn begin(&mut self, waker: &Waker) -> Poll<Result<()>> {
        if !self.is_classic() {
            return self.enter(waker);
        }
        let mut waits = WAITS.lock();
        if let Poll::Ready(result) = self.enter(waker) {
            return Poll::Ready(result);
        }
        let Some(number) = self.number else {
            return Poll::Pending;
        };
        let failed = if waits.try_room(1).is_err() {
            Errno::ENOLCK
        } else if !waits.is_empty() && is_circle(&mut waits, number, self.key, &self.wanted) {
            Errno::EDEADLK
        } else {
            let at = waits.partition_point(|other| other.wanted.owner <= self.wanted.owner);
            waits.insert(
                at,
                Waits {
                    number,
                    key: self.key,
                    wanted: self.wanted,
                    search: number,
                    next: None,
                },
            );
            return Poll::Pending;
        };
        drop(waits);
        self.number = None;
        self.quit(number);
        Poll::Ready(Err(failed))
    }

    fn enter(&mut self, waker: &Waker) -> Poll<Result<()>> {
        let number = NUMBERS.fetch_add(1, Relaxed) + 1;
        match take(Files::lock(self.key), &self.wanted, Some((number, waker))) {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => {
                self.number = Some(number);
                Poll::Pending
            }
            Err(errno) => Poll::Ready(Err(errno)),
        }
    }

    /// Leaves the line of the file.
    fn quit(&self, number: u64) {
        let mut files = Files::lock(self.key);
        match files.get().map(|file| file.leave(number)) {
            Some(true) => files.wake_waiters(),
            _ => files.tidy(),
        }
    }

    /// Leaves the list of waits.
    fn forget(&self, number: u64) {
        if !self.is_classic() {
            return;
        }
        let mut waits = WAITS.lock();
        let from = waits.partition_point(|other| other.wanted.owner < self.wanted.owner);
        if let Some(at) = waits[from..].iter().position(|other| other.number == number) {
            waits.remove(from + at);
        }
        if waits.is_empty() && waits.spilled() {
            *waits = List::new();
        }
    }
}

impl Future for Acquire {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let Some(number) = self.number else {
            return self.begin(context.waker());
        };
        let mut files = Files::lock(self.key);
        let Some(file) = files.get() else { return Poll::Pending };
        let (outcome, others) = file.retry(number, context.waker());
        if others {
            files.wake_waiters();
        } else {
            drop(files);
        }
        let Some(outcome) = outcome else { return Poll::Pending };
        self.number = None;
        self.forget(number);
        Poll::Ready(outcome)
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        if let Some(number) = self.number.take() {
            self.quit(number);
            self.forget(number);
        }
    }
}

/// Whether whoever waits for `wanted` of a file waits for itself, by way of other waits.
fn is_circle(waits: &mut [Waits], search: u64, key: Key, wanted: &Lock) -> bool {
    let (mut key, mut at) = (key, *wanted);
    let mut next = None;
    loop {
        let mut files = Files::lock(key);
        let file = files.get();
        for held in file.iter().flat_map(|file| file.conflicts(&at)) {
            if held.owner == wanted.owner {
                return true;
            }
            let first = waits.partition_point(|other| other.wanted.owner < held.owner);
            for (index, other) in waits.iter_mut().enumerate().skip(first) {
                if other.wanted.owner != held.owner {
                    break;
                }
                if other.search != search {
                    (other.search, other.next) = (search, next);
                    next = Some(index);
                }
            }
        }
        drop(files);
        let Some(other) = next.map(|index| &waits[index]) else {
            return false;
        };
        (key, at, next) = (other.key, other.wanted, other.next);
    }
}
