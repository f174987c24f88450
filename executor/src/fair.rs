//! The user class's fair queue of one CPU: by weighted run time.
//!
//! Each user task carries a virtual run time: nanoseconds run, divided by its share. The queue is a [`Heap`] by that
//! number, so that the most deserving task is at its root.
//!
//! Virtual times are comparable between CPUs, which is what balancing goes by. So that neither a long sleep nor a long
//! run elsewhere is worth more than a few slices, a task that comes to a CPU is clamped to a window round what is being
//! run there ([`FairQueue::place`]).

use crate::{
    heap::Heap,
    options::WEIGHT_ONE,
    prim::const_fn,
    slab::Slab,
    task::{Head, NEW, Task},
};

/// The heap and the CPU's virtual clock.
pub struct FairQueue {
    pub heap: Heap,
    /// Never more than any runnable task's virtual time was; grows.
    clock: u64,
}

/// Nanoseconds run, in virtual time.
#[inline]
pub fn virtual_time(ns: u64, weight: u32) -> u64 {
    if weight == WEIGHT_ONE {
        return ns;
    }
    // Most times leave room for it, and 128 bits are divided by a function.
    match ns.checked_mul(WEIGHT_ONE.into()) {
        Some(scaled) => scaled / u64::from(weight.max(1)),
        None => (u128::from(ns) * u128::from(WEIGHT_ONE) / u128::from(weight.max(1))) as u64,
    }
}

/// Where `now` says that a running task, begun at `(since, base)`, has got to.
pub fn running_time(base: u64, since: u64, now: u64, weight: u32) -> u64 {
    base.saturating_add(virtual_time(now.saturating_sub(since), weight))
}

impl FairQueue {
    const_fn! {
        pub fn new() -> Self {
            Self { heap: Heap::new(), clock: 0 }
        }
    }

    /// The virtual clock: where a new task begins.
    pub fn clock(&self) -> u64 {
        self.clock
    }

    /// The least virtual time of those that wait.
    pub fn least(&self, slab: &Slab<Head>) -> Option<u64> {
        self.heap.first(slab).map(|task| task.key.get())
    }

    /// Brings the virtual clock up to the least of the running task's time (if one runs) and the queue's.
    pub fn advance(&mut self, slab: &Slab<Head>, running: Option<u64>) {
        if let Some(least) = [running, self.least(slab)].into_iter().flatten().min() {
            self.clock = self.clock.max(least);
        }
    }

    /// Queues a task that has been here before and only gave way.
    pub fn push(&mut self, slab: &Slab<Head>, task: Task<'_>) {
        if task.key.get() == NEW {
            // Real-time before.
            task.key.set(self.clock);
        }
        self.heap.push(slab, task);
    }

    /// Queues a task that slept or comes from elsewhere, at most `window` away from the clock. Where no fair task runs or waits
    /// the clock takes the newcomer's time.
    ///
    /// A new task begins at the clock. With what a sleeper has in hand a thread that forks without end would starve all others.
    pub fn place(&mut self, slab: &Slab<Head>, task: Task<'_>, window: u64, running: Option<u64>) {
        self.advance(slab, running);
        let time = match task.key.get() {
            NEW => self.clock,
            time => time,
        };
        if running.is_none() && self.heap.is_empty() {
            self.clock = self.clock.max(time);
        }
        task.key
            .set(time.clamp(self.clock.saturating_sub(window), self.clock.saturating_add(window)));
        self.heap.push(slab, task);
    }

    /// Takes the most deserving task.
    pub fn pop<'a>(&mut self, slab: &'a Slab<Head>) -> Option<Task<'a>> {
        let task = self.heap.first(slab)?;
        self.clock = self.clock.max(task.key.get());
        self.heap.take(slab, task);
        Some(task)
    }
}
