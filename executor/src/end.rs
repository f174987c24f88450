//! A task's end: who is told, and who frees its slot.

#![expect(
    unsafe_code,
    reason = "does with an ended task what the state word has appointed it for"
)]

use crate::{
    cpu::PerCpu, executor::Executor, platform::Platform, prim::Ordering::Relaxed, slab::Cache, task::Task,
    waker::Target,
};

impl<P: Platform> Executor<P> {
    /// The future is gone: tells who waits for that, and frees the slot if nobody refers to it.
    #[inline]
    pub(crate) fn complete(&self, cpu: &PerCpu<P>, task: Task<'_>) {
        if !task.is_queued() && task.state().complete_alone() {
            // SAFETY: nobody else refers to the task, and its generation has ended.
            unsafe { task.drop_rest(true) };
            self.slab.free(task, Some(&cpu.tasks));
        } else {
            self.complete_for_others(cpu, task);
        }
    }

    /// As [`Executor::complete`], for a task that others refer to. Apart, so that the other is short.
    #[inline(never)]
    fn complete_for_others(&self, cpu: &PerCpu<P>, task: Task<'_>) {
        let joined = task.is_joined();
        let left = task.state().complete(task.is_queued());
        if joined || left.wake_joiner {
            // Of this task, or of the slot's next: see `join`.
            self.wake(Target::of(task.joiner.load(Relaxed)));
        }
        if left.wake_foreign {
            // SAFETY: `complete` has given the foreign joiner's place to this call.
            if let Some(joiner) = unsafe { task.replace_foreign(None) } {
                joiner.wake();
            }
            if !left.queued {
                self.release(cpu, task);
            }
        }
        if left.free {
            self.free(task, Some(&cpu.tasks));
        }
    }

    /// Nothing refers to the ended task any more but its handle.
    pub(crate) fn release(&self, cpu: &PerCpu<P>, task: Task<'_>) {
        if task.state().release() {
            self.free(task, Some(&cpu.tasks));
        }
    }

    /// Frees the slot of an ended task, or of one that never began. `cache` is the calling CPU's.
    #[inline]
    pub(crate) fn free(&self, task: Task<'_>, cache: Option<&Cache>) {
        // SAFETY: called once, by the one that the state word appointed: `complete`, `release` or the join handle.
        unsafe { task.retire() };
        self.slab.free(task, cache);
    }
}
