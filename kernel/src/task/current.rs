//! Which thread a CPU works for.
//!
//! Few places may ask: what is called without its caller as an argument (`/proc/self`), and what reports from outside (a
//! panic, a hang). Everything else is handed its thread.

use core::{
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicI32, Ordering},
    task::{Context, Poll},
};

use hal::{MAX_CPUS, arch::PerCpu, traits::PerCpuOps};
use pin_project_lite::pin_project;

use super::Pid;
use crate::cpu;

const NOBODY: Pid = 0;

static CURRENT: [AtomicI32; MAX_CPUS] = [const { AtomicI32::new(NOBODY) }; MAX_CPUS];

/// The number of the thread whose future the calling CPU polls; `None` in kernel tasks.
pub fn tid() -> Option<Pid> {
    match CURRENT[PerCpu::cpu_id() as usize].load(Ordering::Relaxed) {
        NOBODY => None,
        tid => Some(tid),
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
        tid: Pid,
        name: [u8; 16],
        life: Life,
        #[pin]
        future: F,
    }
}

/// `future`, during whose polls [`tid`] is `tid` and the CPU's status shows `name`.
pub fn scope<F: Future>(tid: Pid, name: [u8; 16], future: F) -> Scope<F> {
    Scope {
        tid,
        name,
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
        current.store(*this.tid, Ordering::Relaxed);
        let end = this.name.iter().position(|byte| *byte == 0).unwrap_or(this.name.len());
        cpu::set_status(core::str::from_utf8(&this.name[..end]).unwrap_or("?"));
        let result = this.future.poll(cx);
        current.store(NOBODY, Ordering::Relaxed);
        if result.is_ready() {
            *this.life = Life::Over;
        }
        result
    }
}
