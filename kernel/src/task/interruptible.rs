//! Waits that something else may end: a signal, a stop, the end of the process. And how an interrupted call goes on.

use core::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use super::thread::{Thread, attention};
use crate::{clock::Base, errno::Errno};

/// A wait that ended because of a signal, a stop or the end of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted;

impl From<Interrupted> for Errno {
    fn from(_: Interrupted) -> Self {
        Self::ERESTARTSYS
    }
}

/// How `restart_syscall` goes on with a call that returned `ERESTART_RESTARTBLOCK`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    /// Nothing to restart: `EINTR`.
    #[default]
    None,
    /// A sleep until a fixed time.
    Sleep {
        /// Monotonic nanoseconds.
        deadline: u64,
        /// Where to report the rest if interrupted again; 0 for nowhere.
        remaining: u64,
    },
    /// A sleep until a CPU clock shows a fixed time.
    CpuSleep {
        /// The clock's number.
        clock: u32,
        /// Nanoseconds of it.
        time: u64,
        /// As of [`Restart::Sleep`].
        remaining: u64,
    },
    /// A futex wait until a fixed time.
    Futex {
        /// The word.
        address: u64,
        /// What it must hold.
        expected: u32,
        /// Until when, in nanoseconds of `base`.
        time: u64,
        /// What that is counted from.
        base: Base,
        /// The waiter's bit set.
        bits: u32,
        /// Whether the key is private to the process.
        private: bool,
    },
    /// A poll until a fixed time.
    Poll {
        /// The `struct pollfd` array.
        descriptors: u64,
        /// How many.
        count: u32,
        /// Monotonic nanoseconds.
        deadline: u64,
    },
}

impl Thread {
    /// Waits for `future`, but no longer than until a signal is to be delivered. A future that is ready wins over a
    /// signal that is there at the same time.
    ///
    /// Must be awaited by the thread's own task. Cancel-safe where `future` is; an interrupted `future` is dropped.
    ///
    /// # Errors
    /// [`Interrupted`] by a signal, stop or exit.
    pub fn interruptible<F: Future>(&self, future: F) -> Interruptible<'_, F> {
        self.interruptible_at(attention::ANY, future)
    }

    /// As [`Thread::interruptible`], for waits that no signal interrupts but one that ends the thread (Linux's
    /// `TASK_KILLABLE`): those for a disk.
    ///
    /// # Errors
    /// [`Interrupted`]: the thread has to end.
    pub fn killable<F: Future>(&self, future: F) -> Interruptible<'_, F> {
        self.interruptible_at(attention::EXIT, future)
    }

    /// As [`Thread::interruptible`], for a wait that any of the [`attention`] of `ends_at` interrupts.
    ///
    /// # Errors
    /// [`Interrupted`].
    pub(crate) fn interruptible_at<F: Future>(&self, ends_at: u32, future: F) -> Interruptible<'_, F> {
        Interruptible {
            thread: self,
            ends_at,
            future,
        }
    }
}

pin_project! {
    /// See [`Thread::interruptible`].
    #[must_use = "futures do nothing unless awaited"]
    pub struct Interruptible<'a, F> {
        thread: &'a Thread,
        ends_at: u32,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Interruptible<'_, F> {
    type Output = Result<F::Output, Interrupted>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(value) = this.future.poll(cx) {
            return Poll::Ready(Ok(value));
        }
        this.thread.store_waker(cx.waker());
        if this.thread.attention() & *this.ends_at != 0 {
            Poll::Ready(Err(Interrupted))
        } else {
            Poll::Pending
        }
    }
}
