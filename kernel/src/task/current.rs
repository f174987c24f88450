//! Which thread a CPU works for.
//!
//! Few places may ask: what is called without its caller as an argument (`/proc/self`), and what reports from outside (a
//! panic, a hang). Everything else is handed its thread.

use alloc::sync::Arc;
use core::{
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll},
};

use hal::{MAX_CPUS, arch::PerCpu, traits::PerCpuOps};
use pin_project_lite::pin_project;

use super::{Pid, thread::Thread};
use crate::{
    cpu,
    mm::{frame, heap},
    rt, tally,
};

const NOBODY: u64 = 0;

/// The numbers of each CPU's thread and of its process, as [`Thread::numbers`] gives them.
static CURRENT: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(NOBODY) }; MAX_CPUS];

/// The number of the thread whose future the calling CPU polls; `None` in kernel tasks.
pub fn tid() -> Option<Pid> {
    match CURRENT[PerCpu::cpu_id() as usize].load(Ordering::Relaxed) {
        NOBODY => None,
        numbers => Some(numbers as Pid),
    }
}

/// The number of that thread's process; 0 in kernel tasks.
pub fn pid() -> Pid {
    (CURRENT[PerCpu::cpu_id() as usize].load(Ordering::Relaxed) >> 32) as Pid
}

/// Shows the thread's name in the status of the calling CPU, which polls the thread.
#[inline]
fn show(thread: &Thread) {
    cpu::set_short_status(thread.comm_words());
}

/// After a thread has got another number or name: if the calling CPU polls it, the CPU says so.
pub(super) fn renamed(thread: &Thread, old: u64) {
    let current = &CURRENT[PerCpu::cpu_id() as usize];
    if current.load(Ordering::Relaxed) == old {
        current.store(thread.numbers(), Ordering::Relaxed);
        show(thread);
    }
}

/// Whether the future may still be polled. Also what lets the executor's cell tell its states apart without a word of its
/// own, which would cost every thread 64 bytes, the alignment of its FP/SIMD state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Runs,
    Over,
}

pin_project! {
    /// See [`scope`].
    pub struct Scope<F> {
        thread: Arc<Thread>,
        life: Life,
        #[pin]
        future: F,
    }
}

/// `future`, during whose polls [`tid`] is the thread's, the CPU's status shows its name, and what is allocated is booked to
/// its account.
pub fn scope<F: Future>(thread: Arc<Thread>, future: F) -> Scope<F> {
    Scope {
        thread,
        life: Life::Runs,
        future,
    }
}

impl<F: Future> Future for Scope<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        debug_assert_eq!(*this.life, Life::Runs, "polled after its end");
        let cpu = PerCpu::cpu_id();
        let current = &CURRENT[cpu as usize];
        current.store(this.thread.numbers(), Ordering::Relaxed);
        this.thread.last_cpu.store(cpu as u16, Ordering::Relaxed);
        // The executor has just read the clock.
        let began = rt::executor().poll_began();
        this.thread.cpu_time.start(began.unwrap_or_else(rt::now));
        this.thread.tell_clock_watch();
        show(this.thread);
        tally::book_to_nobody();
        // Who has to end may use the reserve: what it still does gives memory back.
        frame::entitle(this.thread.must_exit());
        heap::begin_poll();
        let result = this.future.poll(cx);
        heap::end_poll();
        frame::entitle(false);
        this.thread.account.book();
        this.thread.cpu_time.stop(rt::executor().poll_ends());
        current.store(NOBODY, Ordering::Relaxed);
        if result.is_ready() {
            *this.life = Life::Over;
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use core::pin::pin;
    use std::task::Waker;

    use super::*;
    use crate::task::testing;

    #[test]
    fn the_status_shows_the_name_of_the_moment() {
        hal::host::machine().attach(17);
        let thread = testing::thread(9002);
        thread.set_comm(b"sh");
        let seen = || cpu::Status(17).to_string();
        let named = thread.clone();
        let scope = scope(thread, async move {
            assert_eq!((tid(), seen()), (Some(9002), "sh".to_string()));
            // What execve and PR_SET_NAME do.
            named.set_comm(b"cat");
            assert_eq!(seen(), "cat");
            named.set_tid(9003);
            assert_eq!(tid(), Some(9003), "execve gives a thread its process's number");
            crate::rt::yield_now().await;
            assert_eq!((tid(), seen()), (Some(9003), "cat".to_string()));
        });
        let mut scope = pin!(scope);
        let mut poll = || scope.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(poll().is_pending());
        cpu::set_status("idle");
        assert!(poll().is_ready());
        assert_eq!(tid(), None);
    }
}
