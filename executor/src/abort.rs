//! Ending tasks in two phases, and with their owner.

use core::{
    future::poll_fn,
    marker::PhantomData,
    ops::{Deref, DerefMut},
    task::Poll,
};

use crate::{Executor, JoinHandle, Platform, options::TaskId, prim::Ordering::Relaxed, waker::Target};

/// While it lives, an abort of the task that made it does not drop the task's future: the task is polled instead, so that
/// it can bring what it owns to rest (stop a device that writes to its buffers, say) and let go. The abort then takes
/// effect at the next poll. Made by [`Executor::hold_abort`].
///
/// It is part of the task's future; moved elsewhere it still holds aborts of that task off, until it is dropped.
#[must_use = "dropping it lets aborts through"]
pub struct HoldAbort<P: Platform> {
    task: TaskId,
    platform: PhantomData<fn() -> P>,
}

impl<P: Platform> Executor<P> {
    /// Holds aborts of the calling task off; `None` if the caller is no task. Task context.
    pub fn hold_abort(&self) -> Option<HoldAbort<P>> {
        let task = self.current_task()?;
        task.holds.fetch_add(1, Relaxed);
        Some(HoldAbort {
            task: TaskId::new(task.slot, task.state().generation()),
            platform: PhantomData,
        })
    }

    /// Whether the calling task is to end: it was aborted and has held that off. Task context.
    pub fn is_aborted(&self) -> bool {
        self.current_task().is_some_and(|task| task.state().is_aborted())
    }

    /// Ready when the task that awaits it is to end; to be raced with what a [`HoldAbort`] protects. Every abort wakes the
    /// task, so nothing is registered, and dropping it does nothing.
    pub async fn aborted(&self) {
        poll_fn(|_| {
            if self.is_aborted() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

impl<P: Platform> Drop for HoldAbort<P> {
    fn drop(&mut self) {
        let executor = P::executor();
        let Some(task) = executor.slab.get(self.task.slot()) else {
            return;
        };
        if !task.state().is(self.task.generation()) {
            return;
        }
        task.holds.fetch_sub(1, Relaxed);
        if task.state().has_been_aborted() {
            // The abort's own wake may have been used up.
            executor.wake(Target::of(task.number(self.task.generation())));
        }
    }
}

/// A join handle whose task ends with it: dropping it aborts the task. See [`JoinHandle::abort_on_drop`].
#[must_use = "dropping it aborts the task"]
pub struct AbortOnDrop<T, P: Platform>(Option<JoinHandle<T, P>>);

impl<T, P: Platform> JoinHandle<T, P> {
    /// Ties the task to the handle: dropping that aborts it. The future is dropped by its own CPU, a moment later.
    pub fn abort_on_drop(self) -> AbortOnDrop<T, P> {
        AbortOnDrop(Some(self))
    }
}

impl<T, P: Platform> AbortOnDrop<T, P> {
    /// Lets the task go on by itself.
    pub fn release(mut self) -> JoinHandle<T, P> {
        self.0.take().expect("taken by this function alone")
    }
}

impl<T, P: Platform> Deref for AbortOnDrop<T, P> {
    type Target = JoinHandle<T, P>;

    fn deref(&self) -> &JoinHandle<T, P> {
        self.0.as_ref().expect("taken by `release` alone")
    }
}

impl<T, P: Platform> DerefMut for AbortOnDrop<T, P> {
    fn deref_mut(&mut self) -> &mut JoinHandle<T, P> {
        self.0.as_mut().expect("taken by `release` alone")
    }
}

impl<T, P: Platform> Drop for AbortOnDrop<T, P> {
    fn drop(&mut self) {
        if let Some(handle) = &self.0 {
            handle.abort();
        }
    }
}
