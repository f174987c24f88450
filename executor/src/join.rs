//! Waiting for a task's end.
//!
//! A joiner that is a task of this executor leaves the number of its waker in the joined task's header; the completer
//! reads it after it has set `COMPLETE`, and touches the slot no more. On the joined task's own CPU that takes no atomic
//! operation. (Should the handle meanwhile have found the task
//! ended and freed the slot, the completer may read the number that a later joiner left there: a needless poll.) Any other
//! kind of waker is owned by somebody, so it is handed over under the state's `FOREIGN` bit.

#![expect(unsafe_code, reason = "takes the output out of the task's cell")]

use core::{
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use crate::{
    options::{JoinError, TaskId},
    platform::Platform,
    prim::Ordering::Relaxed,
    state::Ended,
    task::Task,
    waker,
};

/// A task's end, to be awaited: its output, or [`JoinError::Aborted`]. Ready once; polling it again after that gives
/// `Aborted`.
///
/// Dropping the handle detaches the task; the output is then dropped where the task ends. Dropping it when the task has
/// ended drops the output here. Task context.
#[must_use = "dropping the handle detaches the task"]
pub struct JoinHandle<T, P: Platform> {
    /// Which task, and [`OVER`]. One word, so that a handle is moved at once: what it has left in the task's header, that says.
    id: u64,
    output: PhantomData<fn() -> (T, P)>,
}

/// The output was taken, and the slot is no longer the handle's. A bit that no identity has.
const OVER: u64 = 1 << 63;

impl<T, P: Platform> JoinHandle<T, P> {
    /// The task was spawned with a future of output `T`, and its state says that it has a handle.
    pub(crate) fn new(id: TaskId) -> Self {
        Self {
            id: id.as_u64(),
            output: PhantomData,
        }
    }

    fn task(&self) -> Task<'static> {
        // The slot exists, and stays this task's as long as the handle has not joined it.
        P::executor()
            .slab
            .get(self.id().slot())
            .expect("a join handle's slot exists")
    }

    /// Which task.
    pub fn id(&self) -> TaskId {
        TaskId(self.id & !OVER)
    }

    fn is_over(&self) -> bool {
        self.id & OVER != 0
    }

    /// Asks for the task to be ended; see [`Executor::abort`](crate::Executor::abort). Await the handle to know that the
    /// future is gone.
    pub fn abort(&self) {
        P::executor().abort(self.id());
    }

    /// Lets the task run on with nobody waiting.
    pub fn detach(self) {}

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.is_over() || self.task().state().ended() != Ended::No
    }

    /// Has the completer wake `waker`, unless the task has ended.
    #[inline]
    fn register(&self, task: Task<'_>, waker: &Waker) -> Ended {
        let Some(number) = waker::number::<P>(waker) else {
            return self.register_foreign(task, waker);
        };
        if let Some((me, _)) = P::executor().task_cpu()
            && task.leave_joiner_at_home(me, number)
        {
            return Ended::No;
        }
        if task.state().has_joiner() && task.joiner.load(Relaxed) == number {
            // Left there by this handle; whoever sees the end wakes it, or has.
            return task.state().ended();
        }
        task.joiner.store(number, Relaxed);
        task.state().leave_joiner()
    }

    fn register_foreign(&self, task: Task<'_>, waker: &Waker) -> Ended {
        let ended = task.state().withdraw_foreign();
        if ended != Ended::No {
            return ended;
        }
        // SAFETY: `FOREIGN` and `COMPLETE` are clear, and only this handle sets `FOREIGN`.
        drop(unsafe { task.replace_foreign(Some(waker.clone())) });
        task.state().leave_foreign()
    }

    /// The task has ended: gives the slot back, or leaves it to who still uses it.
    fn leave(&mut self, task: Task<'_>, ended: Ended) {
        if ended == Ended::No && task.state().has_foreign() && task.state().withdraw_foreign() == Ended::No {
            // SAFETY: as in `register_foreign`.
            drop(unsafe { task.replace_foreign(None) });
        }
        self.id |= OVER;
        if ended == Ended::Alone || task.state().drop_handle() {
            let executor = P::executor();
            executor.free(task, executor.task_cache());
        }
    }
}

impl<T, P: Platform> Future for JoinHandle<T, P> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.is_over() {
            return Poll::Ready(Err(JoinError::Aborted));
        }
        let task = this.task();
        let mut ended = task.state().ended();
        if ended == Ended::No {
            ended = this.register(task, context.waker());
        }
        if ended == Ended::No {
            return Poll::Pending;
        }
        // SAFETY: this is the handle, `COMPLETE` was seen with acquire, and `T` is the output's type by construction.
        let output = unsafe { task.take_output::<T>() };
        this.leave(task, ended);
        Poll::Ready(output.ok_or(JoinError::Aborted))
    }
}

impl<T, P: Platform> Drop for JoinHandle<T, P> {
    fn drop(&mut self) {
        if !self.is_over() {
            let task = self.task();
            self.leave(task, task.state().ended());
        }
    }
}
