//! The user class's queue of one CPU: real-time tasks by priority, and the fair ones behind them.
//!
//! It stands under the CPU's user lock. The highest priority that waits in it, `waits`, stands beside the lock, for others to look
//! at: whoever changes the real-time ones writes it, so that the fair ones cost nothing for it. A task in it bears the queue's
//! mark ([`Task::mark`]), written under that lock, so that whoever changes a task's share finds out where it stands
//! ([`UserQueue::holds`]).

use crate::{
    fair::FairQueue,
    heap::Heap,
    prim::{AtomicU32, Ordering::Relaxed, const_fn},
    real_time::TOP_PRIORITY,
    slab::Slab,
    task::{Head, NEW, Task},
};

/// In a mark: the task stands among the real-time ones.
const REAL_TIME: u8 = 1 << 7;

/// In the key of a real-time task: where its priority stands.
const PRIORITY_SHIFT: u32 = 56;
/// Below that: its turn among equals, which begins here and goes both ways.
const MIDDLE: u64 = 1 << (PRIORITY_SHIFT - 1);

/// Where a task goes among equals of its priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Before them: it was preempted.
    Front,
    /// Behind them: it was woken, has yielded, or its slice is over.
    Back,
}

/// See the module.
pub struct UserQueue {
    pub fair: FairQueue,
    real_time: Heap,
    /// Tasks in both.
    length: u32,
    /// Turns given away at either end.
    before: u64,
    behind: u64,
    /// Its CPU's number and one.
    mark: u8,
}

impl UserQueue {
    const_fn! {
        pub fn new() -> Self {
            Self {
                fair: FairQueue::new(),
                real_time: Heap::new(),
                length: 0,
                before: 0,
                behind: 0,
                mark: 0,
            }
        }
    }

    /// Makes it the queue of a CPU, before the first task.
    pub fn belong_to(&mut self, cpu: u32) {
        self.mark = cpu as u8 + 1;
    }

    /// Tasks queued.
    pub fn len(&self) -> usize {
        self.length as usize
    }

    /// Whether the task stands here.
    pub fn holds(&self, task: Task<'_>) -> bool {
        self.mark != 0 && task.mark() & !REAL_TIME == self.mark
    }

    /// Queues a task that has been here before and only gave way.
    pub fn push(&mut self, slab: &Slab<Head>, waits: &AtomicU32, task: Task<'_>, end: End) {
        if task.share().is_real_time() {
            return self.push_real_time(slab, waits, task, end);
        }
        self.fair.push(slab, task);
        task.set_mark(self.mark);
        self.length += 1;
    }

    /// Queues a task that slept or comes from elsewhere; see [`FairQueue::place`].
    pub fn place(&mut self, slab: &Slab<Head>, waits: &AtomicU32, task: Task<'_>, window: u64, running: Option<u64>) {
        if task.share().is_real_time() {
            return self.push_real_time(slab, waits, task, End::Back);
        }
        self.fair.place(slab, task, window, running);
        task.set_mark(self.mark);
        self.length += 1;
    }

    #[inline(never)]
    fn push_real_time(&mut self, slab: &Slab<Head>, waits: &AtomicU32, task: Task<'_>, end: End) {
        let turn = match end {
            End::Front => {
                self.before += 1;
                MIDDLE - self.before
            }
            End::Back => {
                self.behind += 1;
                MIDDLE + self.behind
            }
        };
        let priority = task.share().priority().min(TOP_PRIORITY);
        task.key
            .set(u64::from(TOP_PRIORITY - priority) << PRIORITY_SHIFT | turn);
        self.real_time.push(slab, task);
        task.set_mark(self.mark | REAL_TIME);
        self.length += 1;
        self.tell(slab, waits);
    }

    /// Takes the task whose turn it is, a fair one if there is one and `fair_first` says so, which is asked only then.
    pub fn pop<'a>(
        &mut self,
        slab: &'a Slab<Head>,
        waits: &AtomicU32,
        fair_first: impl FnOnce() -> bool,
    ) -> Option<Task<'a>> {
        if !self.real_time.is_empty() && (self.fair.heap.is_empty() || !fair_first()) {
            let task = self.real_time.first(slab)?;
            self.take(slab, waits, task);
            return Some(task);
        }
        let task = self.fair.pop(slab)?;
        task.set_mark(0);
        self.length -= 1;
        Some(task)
    }

    /// A deserving task that may run on a CPU of `mask`; looks at a bounded number.
    pub fn find<'a>(&self, slab: &'a Slab<Head>, mask: u64) -> Option<Task<'a>> {
        let fits = |task: Task<'_>| task.affinity.get() & mask != 0;
        let first = self.real_time.find(slab, fits);
        first.or_else(|| self.fair.heap.find(slab, fits))
    }

    /// Takes what [`UserQueue::find`] finds.
    pub fn steal<'a>(&mut self, slab: &'a Slab<Head>, waits: &AtomicU32, mask: u64) -> Option<Task<'a>> {
        let task = self.find(slab, mask)?;
        self.take(slab, waits, task);
        Some(task)
    }

    /// As [`UserQueue::steal`], of the fair ones.
    pub fn steal_fair<'a>(&mut self, slab: &'a Slab<Head>, waits: &AtomicU32, mask: u64) -> Option<Task<'a>> {
        let task = self.fair.heap.find(slab, |task| task.affinity.get() & mask != 0)?;
        self.take(slab, waits, task);
        Some(task)
    }

    /// As [`UserQueue::steal`], of those of a priority above `above`.
    pub fn steal_real_time<'a>(
        &mut self,
        slab: &'a Slab<Head>,
        waits: &AtomicU32,
        mask: u64,
        above: u32,
    ) -> Option<Task<'a>> {
        let fits = |task: Task<'_>| priority_of(task) > above && task.affinity.get() & mask != 0;
        let task = self.real_time.find(slab, fits)?;
        self.take(slab, waits, task);
        Some(task)
    }

    /// The share of a task that stands here has changed: puts it where it belongs now. Of a lower priority it goes before its
    /// new equals, of a higher one behind them, as on Linux.
    pub fn resort(&mut self, slab: &Slab<Head>, waits: &AtomicU32, task: Task<'_>, window: u64, running: Option<u64>) {
        let was = if task.mark() & REAL_TIME == 0 {
            0
        } else {
            priority_of(task)
        };
        let is = task.share().priority();
        if was == 0 && is == 0 {
            return;
        }
        self.take(slab, waits, task);
        if is == 0 {
            self.place(slab, waits, task, window, running);
        } else {
            self.push_real_time(slab, waits, task, if is < was { End::Front } else { End::Back });
        }
    }

    fn take(&mut self, slab: &Slab<Head>, waits: &AtomicU32, task: Task<'_>) {
        if task.mark() & REAL_TIME == 0 {
            self.fair.heap.take(slab, task);
        } else {
            self.real_time.take(slab, task);
            // Its key was a turn. Should it become fair it begins as a new one does.
            task.key.set(NEW);
            self.tell(slab, waits);
        }
        task.set_mark(0);
        self.length -= 1;
    }

    /// Says to others what waits here now.
    fn tell(&self, slab: &Slab<Head>, waits: &AtomicU32) {
        waits.store(self.real_time.first(slab).map_or(0, priority_of), Relaxed);
    }
}

/// The priority that a task stands in the queue with.
fn priority_of(task: Task<'_>) -> u32 {
    TOP_PRIORITY.saturating_sub((task.key.get() >> PRIORITY_SHIFT) as u32)
}

impl Task<'_> {
    /// The mark of the user queue that it stands in; 0 for none. Under that queue's lock.
    pub fn mark(self) -> u8 {
        self.head().queued.get()
    }

    /// See [`Task::mark`].
    pub fn set_mark(self, mark: u8) {
        self.head().queued.set(mark);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    extern crate std;
    use super::*;
    use crate::{RealTime, SpawnOptions, options::Class, real_time::Share};
    use core::panic::Location;
    use std::{vec, vec::Vec};

    fn task<'a>(slab: &'a Slab<Head>, real_time: RealTime) -> Task<'a> {
        let task = slab.allocate(None).unwrap();
        let options = SpawnOptions::new(Class::User, "queued").real_time(real_time);
        task.prepare(&options, 0, Location::caller());
        task
    }

    fn queue() -> UserQueue {
        let mut queue = UserQueue::new();
        queue.belong_to(0);
        queue
    }

    fn drain(queue: &mut UserQueue, slab: &Slab<Head>) -> Vec<u32> {
        core::iter::from_fn(|| queue.pop(slab, &AtomicU32::new(0), || false).map(|task| task.slot)).collect()
    }

    /// By priority, first come first served among equals, fair ones last.
    #[test]
    fn real_time_goes_first() {
        let (slab, mut queue) = (Slab::new(), queue());
        let kinds = [(0, 4), (10, 2), (99, 0), (10, 3), (99, 1), (0, 5)];
        let tasks: Vec<_> = kinds.map(|(priority, _)| task(&slab, RealTime::fifo(priority))).into();
        for task in &tasks {
            queue.place(&slab, &AtomicU32::new(0), *task, 0, None);
        }
        assert_eq!(queue.len(), 6);
        let order = drain(&mut queue, &slab);
        for (task, (_, place)) in tasks.iter().zip(kinds) {
            assert_eq!(order[place], task.slot);
        }
    }

    /// Who was preempted goes on before its equals, who yields behind them.
    #[test]
    fn the_front_is_for_the_preempted() {
        let (slab, mut queue) = (Slab::new(), queue());
        let [a, b, c] = [(); 3].map(|()| task(&slab, RealTime::fifo(5)));
        queue.push(&slab, &AtomicU32::new(0), a, End::Back);
        queue.push(&slab, &AtomicU32::new(0), b, End::Back);
        queue.push(&slab, &AtomicU32::new(0), c, End::Front);
        assert_eq!(drain(&mut queue, &slab), [c.slot, a.slot, b.slot]);
    }

    /// With the real-time share of the time used up, the fair ones go first, while there are any.
    #[test]
    fn fair_ones_first_if_so_asked() {
        let (slab, mut queue) = (Slab::new(), queue());
        let (urgent, fair) = (task(&slab, RealTime::fifo(5)), task(&slab, RealTime::NONE));
        queue.push(&slab, &AtomicU32::new(0), urgent, End::Back);
        queue.push(&slab, &AtomicU32::new(0), fair, End::Back);
        let order: Vec<_> =
            core::iter::from_fn(|| queue.pop(&slab, &AtomicU32::new(0), || true).map(|task| task.slot)).collect();
        assert_eq!(order, [fair.slot, urgent.slot]);
    }

    /// A queued task whose share changes: raised it goes behind, lowered before its new equals, made fair to the fair ones.
    #[test]
    fn a_change_resorts() {
        let (slab, mut queue) = (Slab::new(), queue());
        let [a, b, c] = [7, 7, 3].map(|priority| task(&slab, RealTime::round_robin(priority)));
        for task in [a, b, c] {
            queue.push(&slab, &AtomicU32::new(0), task, End::Back);
        }
        let change = |queue: &mut UserQueue, task: Task<'_>, how| {
            assert!(queue.holds(task));
            task.set_share(Share::new(1024, how));
            queue.resort(&slab, &AtomicU32::new(0), task, 0, None);
        };
        change(&mut queue, c, RealTime::fifo(7));
        change(&mut queue, a, RealTime::fifo(2));
        let d = task(&slab, RealTime::fifo(2));
        queue.push(&slab, &AtomicU32::new(0), d, End::Back);
        change(&mut queue, b, RealTime::fifo(2));
        let mut expected = vec![c.slot, b.slot, a.slot, d.slot];
        assert_eq!(drain(&mut queue, &slab), expected);
        for task in [d, a, b, c] {
            queue.push(&slab, &AtomicU32::new(0), task, End::Back);
        }
        change(&mut queue, a, RealTime::NONE);
        change(&mut queue, d, RealTime::fifo(9));
        expected = vec![d.slot, c.slot, b.slot, a.slot];
        assert_eq!(drain(&mut queue, &slab), expected);
        assert!(!queue.holds(a) && a.mark() == 0);
    }

    /// Only what may run there, and what is above what runs there, is taken.
    #[test]
    fn steals_by_mask_and_priority() {
        let (slab, mut queue, waits) = (Slab::new(), queue(), AtomicU32::new(0));
        let [high, low, fair] = [RealTime::fifo(50), RealTime::fifo(20), RealTime::NONE].map(|how| task(&slab, how));
        high.affinity.set(0b01);
        for task in [high, low, fair] {
            queue.push(&slab, &waits, task, End::Back);
        }
        let slot = |task: Option<Task<'_>>| task.map(|task| task.slot);
        assert_eq!(slot(queue.steal_real_time(&slab, &waits, 0b10, 20)), None);
        assert_eq!(slot(queue.find(&slab, 0b01)), Some(high.slot));
        assert_eq!(slot(queue.steal_real_time(&slab, &waits, 0b10, 19)), Some(low.slot));
        assert_eq!(slot(queue.steal(&slab, &waits, 0b10)), Some(fair.slot));
        assert_eq!((waits.load(Relaxed), queue.len()), (50, 1));
    }
}
