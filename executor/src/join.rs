//! Waiting for a task's end.

#![expect(unsafe_code, reason = "takes the output out of the task's cell")]

use core::{
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
};

use crate::{
    options::{JoinError, TaskId},
    platform::Platform,
    task::Header,
};

/// A task's end, to be awaited: its output, or [`JoinError::Aborted`]. Ready once; polling it again after that gives
/// `Aborted`.
///
/// Dropping the handle detaches the task; the output is then dropped where the task ends. Dropping it when the task has
/// ended drops the output here. Task context.
#[must_use = "dropping the handle detaches the task"]
pub struct JoinHandle<T, P: Platform> {
    id: TaskId,
    output: PhantomData<fn() -> (T, P)>,
}

impl<T, P: Platform> JoinHandle<T, P> {
    /// The task was spawned with a future of output `T`, and its state says that it has a handle.
    pub(crate) fn new(id: TaskId) -> Self {
        Self {
            id,
            output: PhantomData,
        }
    }

    fn task(&self) -> &'static Header {
        // The slot exists, and stays this task's as long as the handle does.
        P::executor()
            .slab
            .get(self.id.slot())
            .expect("a join handle's slot exists")
    }

    /// Which task.
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// Asks for the task to be ended; see [`Executor::abort`](crate::Executor::abort). Await the handle to know that the
    /// future is gone.
    pub fn abort(&self) {
        P::executor().abort(self.id);
    }

    /// Lets the task run on with nobody waiting.
    pub fn detach(self) {}

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.task().state.is_complete()
    }
}

impl<T, P: Platform> Future for JoinHandle<T, P> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let task = self.task();
        if task.state.withdraw_joiner() {
            // SAFETY: `JOINER` and `COMPLETE` are clear, and only this handle sets `JOINER`.
            let old = unsafe { task.replace_joiner(Some(context.waker().clone())) };
            drop(old);
            if task.state.leave_joiner() {
                return Poll::Pending;
            }
        }
        debug_assert!(task.state.is_complete());
        // SAFETY: this is the handle, `COMPLETE` was seen with acquire, and `T` is the output's type by construction.
        Poll::Ready(unsafe { task.take_output::<T>() }.ok_or(JoinError::Aborted))
    }
}

impl<T, P: Platform> Drop for JoinHandle<T, P> {
    fn drop(&mut self) {
        let task = self.task();
        if task.state.withdraw_joiner() {
            // SAFETY: as in `poll`.
            drop(unsafe { task.replace_joiner(None) });
        }
        if task.state.drop_handle() {
            P::executor().free(task);
        }
    }
}
