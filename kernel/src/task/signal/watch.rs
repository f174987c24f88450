//! Telling of signals that become pending, to those who look and do not take part in their delivery: readers and pollers of
//! signal files.

use crate::{
    fs::{Readiness, poll_queue::PollQueue},
    task::{Pid, Process},
};

/// A queue is one for all processes whose numbers have this remainder. Who is woken for another's signal looks and waits on.
pub const QUEUES: usize = 64;

static WAITING: [PollQueue; QUEUES] = [const { PollQueue::new() }; QUEUES];

/// Where to wait for signals of a process and its threads. Whoever waits registers first and then looks at what is pending.
pub fn queue(pid: Pid) -> &'static PollQueue {
    numbered(number(pid))
}

/// The number of that queue.
pub const fn number(pid: Pid) -> usize {
    pid as usize % QUEUES
}

/// The queue of a number.
pub fn numbered(number: usize) -> &'static PollQueue {
    &WAITING[number]
}

/// Something has become pending. Under, or after, a lock under which it was made so and under which it is looked at.
#[inline]
pub(super) fn tell(process: &Process) {
    let queue = queue(process.pid());
    if queue.has_waiters() {
        queue.wake(Readiness::empty());
    }
}
