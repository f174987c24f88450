//! Whose FP/SIMD registers and thread pointers a CPU holds.
//!
//! The kernel never touches these registers, so a thread's values stay in the CPU while the kernel works for it. They are
//! saved when the thread's poll ends, because another thread may be polled next, and loaded again only if this CPU has
//! had another owner since. Ownership is a stamp that is made anew by each load and never used again: a CPU whose stamp
//! equals the thread's holds exactly the thread's last values, whatever migrations and forks lie between.

use core::{
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll},
};

use alloc::sync::Arc;

use bitflags::bitflags;
use hal::{
    MAX_CPUS,
    arch::{PerCpu, UserContext},
    traits::{InterruptFrame, PerCpuOps},
};
use pin_project_lite::pin_project;

use super::thread::Thread;
use crate::mm::AddressSpace;

/// The stamp of the values that each CPU holds. Written by its own CPU only.
static OWNERS: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];
/// How many stamps each CPU has made.
static STAMPS: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

/// A thread's view of the CPU: its FP/SIMD values, and what it translates by.
pub(crate) struct OnCpu {
    /// The stamp of this thread's last load; 0 where its saved copy is newer than any CPU.
    stamp: u64,
    /// Whether the CPU's registers are newer than the saved copy.
    live: bool,
    /// The thread's address space; execve exchanges it.
    pub mm: Arc<AddressSpace>,
    /// What has to be seen to before the next visit to user mode; nearly always nothing.
    pub after_call: AfterCall,
}

bitflags! {
    /// What is to be done before user mode.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct AfterCall: u8 {
        /// A signal has interrupted it: a handler or the return to user mode settles what becomes of it.
        const INTERRUPTED = 1 << 0;
        /// The trace has the call's beginning.
        const TRACED = 1 << 1;
        /// It was not a call, but something that asks for attention, which kept the thread from user mode.
        const ATTENTION = 1 << 2;
        /// The thread was away from its CPU, and has said where its restartable sequences are noted.
        const RESUMED = 1 << 3;
        /// Every call is looked at by a filter: stays.
        const FILTERED = 1 << 4;
    }
}

impl OnCpu {
    /// For a thread whose values are in its context.
    pub fn new(thread: &Thread) -> Self {
        Self {
            stamp: 0,
            live: false,
            mm: thread.mm(),
            after_call: AfterCall::empty(),
        }
    }

    /// Makes the CPU hold the thread's values. Interrupts are masked, and user mode comes next.
    #[inline]
    pub fn load(&mut self, context: &UserContext) {
        // Who has live ones is the one who is polled.
        if !self.live {
            self.load_anew(context);
        }
        debug_assert_eq!(
            OWNERS[PerCpu::cpu_id() as usize].load(Ordering::Relaxed),
            self.stamp,
            "live FP/SIMD values were left on another CPU"
        );
    }

    #[inline(never)]
    fn load_anew(&mut self, context: &UserContext) {
        let cpu = PerCpu::cpu_id() as usize;
        if self.stamp == 0 || OWNERS[cpu].load(Ordering::Relaxed) != self.stamp {
            context.load_kept();
            let count = STAMPS[cpu].load(Ordering::Relaxed) + 1;
            STAMPS[cpu].store(count, Ordering::Relaxed);
            self.stamp = count * MAX_CPUS as u64 + cpu as u64;
            OWNERS[cpu].store(self.stamp, Ordering::Relaxed);
        }
        self.live = true;
    }

    /// A poll of the thread's has come after another: what it has to be told before user mode.
    #[inline]
    pub fn resumed(&mut self, thread: &Thread) {
        if thread.rseq.is_there() {
            self.after_call |= AfterCall::RESUMED;
        }
    }

    /// Makes the saved copy current.
    pub fn save(&mut self, context: &mut UserContext) {
        if core::mem::take(&mut self.live) {
            context.save_kept();
        }
    }

    /// The saved copy is about to be replaced: no CPU holds it any more.
    pub fn forget(&mut self) {
        self.stamp = 0;
        self.live = false;
    }
}

pin_project! {
    /// Awaits a future on a thread's behalf: whenever a poll ends without a result, the thread's FP/SIMD values are saved.
    #[must_use = "futures do nothing unless awaited"]
    pub(crate) struct Away<'a, F> {
        thread: &'a Thread,
        context: &'a mut UserContext,
        on_cpu: &'a mut OnCpu,
        away: bool,
        #[pin]
        future: F,
    }
}

impl<'a, F> Away<'a, F> {
    pub fn new(thread: &'a Thread, context: &'a mut UserContext, on_cpu: &'a mut OnCpu, future: F) -> Self {
        Self {
            thread,
            context,
            on_cpu,
            away: false,
            future,
        }
    }
}

impl<F: Future> Future for Away<'_, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        if core::mem::take(this.away) {
            // Attempts copy from and to the CPU's active address space, and this may be another CPU.
            this.on_cpu.mm.activate();
            this.thread.blocked.store(false, Ordering::Relaxed);
            this.on_cpu.resumed(this.thread);
        }
        let result = this.future.poll(cx);
        if result.is_pending() {
            *this.away = true;
            this.on_cpu.save(this.context);
            this.thread.blocked.store(true, Ordering::Relaxed);
        }
        result
    }
}

/// As [`Away`], for the calls that change the context: the thread's values must have been saved before. They may exchange
/// the address space.
pub(crate) async fn away_unloaded<F: Future>(thread: &Thread, future: F) -> F::Output {
    let mut future = core::pin::pin!(future);
    let mut away = false;
    core::future::poll_fn(|cx| {
        if core::mem::take(&mut away) {
            thread.mm().activate();
            thread.blocked.store(false, Ordering::Relaxed);
        }
        let result = future.as_mut().poll(cx);
        if result.is_pending() {
            away = true;
            thread.blocked.store(true, Ordering::Relaxed);
        }
        result
    })
    .await
}
