//! What a trace is made of.

use crate::options::{Name, TaskId};

/// Something that the calling CPU does, for [`Platform::trace`](crate::Platform::trace).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A poll begins.
    PollBegan {
        /// Of which task.
        task: TaskId,
        /// As it is called now.
        name: Name,
    },
    /// It ends.
    PollEnded {
        /// Of which task.
        task: TaskId,
        /// Whether the task has ended with it.
        finished: bool,
    },
    /// A task that rested was woken, or asked to end.
    Woken {
        /// Which.
        task: TaskId,
    },
}
