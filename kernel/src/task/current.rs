//! Which thread a CPU works for.
//!
//! Few places may ask: what is called without its caller as an argument (`/proc/self`), and what reports from outside (a
//! panic, a hang). Everything else is handed its thread.

use alloc::sync::Arc;
use core::{
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicI32, Ordering},
    task::{Context, Poll},
};

use hal::{MAX_CPUS, arch::PerCpu, traits::PerCpuOps};
use pin_project_lite::pin_project;

use super::{
    Pid,
    thread::{Comm, Thread},
};
use crate::{cpu, tally};

const NOBODY: Pid = 0;

static CURRENT: [AtomicI32; MAX_CPUS] = [const { AtomicI32::new(NOBODY) }; MAX_CPUS];

/// The number of the thread whose future the calling CPU polls; `None` in kernel tasks.
pub fn tid() -> Option<Pid> {
    match CURRENT[PerCpu::cpu_id() as usize].load(Ordering::Relaxed) {
        NOBODY => None,
        tid => Some(tid),
    }
}

/// Shows a thread's name as what the calling CPU runs.
pub(super) fn show_name(name: &Comm) {
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    cpu::set_status(core::str::from_utf8(&name[..end]).unwrap_or("?"));
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
        let current = &CURRENT[PerCpu::cpu_id() as usize];
        current.store(this.thread.tid(), Ordering::Relaxed);
        show_name(&this.thread.comm());
        tally::book_to_nobody();
        let result = this.future.poll(cx);
        this.thread.account.book();
        current.store(NOBODY, Ordering::Relaxed);
        if result.is_ready() {
            *this.life = Life::Over;
        }
        result
    }
}
