//! The user class's run queue of one CPU: fair by weighted run time.
//!
//! Each user task carries a virtual run time: nanoseconds run, divided by its share. The queue is a pairing heap by that
//! number, intrusive in the tasks by slot number, so that the most deserving task is at the root, a wake is O(1), and
//! taking any task out is O(log n) amortised. It stands under the CPU's user lock, because idle CPUs take from it.
//!
//! Virtual times are comparable between CPUs, which is what balancing goes by. So that neither a long sleep nor a long
//! run elsewhere is worth more than a few slices, a task that comes to a CPU is clamped to a window round what is being
//! run there ([`FairQueue::place`]).

use crate::{
    options::WEIGHT_ONE,
    slab::Slab,
    task::{Head, NEW, NONE, Task},
};

/// How many tasks a thief looks at before it gives up.
const STEAL_LOOK: usize = 32;

/// The heap and the CPU's virtual clock.
pub struct FairQueue {
    root: u32,
    length: u32,
    /// Never more than any runnable task's virtual time was; grows.
    clock: u64,
}

/// Nanoseconds run, in virtual time.
pub fn virtual_time(ns: u64, weight: u32) -> u64 {
    (u128::from(ns) * u128::from(WEIGHT_ONE) / u128::from(weight.max(1))) as u64
}

/// Where `now` says that a running task, begun at `(since, base)`, has got to.
pub fn running_time(base: u64, since: u64, now: u64, weight: u32) -> u64 {
    base.saturating_add(virtual_time(now.saturating_sub(since), weight))
}

impl FairQueue {
    pub const fn new() -> Self {
        Self {
            root: NONE,
            length: 0,
            clock: 0,
        }
    }

    /// Tasks queued.
    pub fn len(&self) -> usize {
        self.length as usize
    }

    /// The task with the least virtual time.
    pub fn first<'a>(&self, slab: &'a Slab<Head>) -> Option<Task<'a>> {
        slab.get(self.root)
    }

    /// Brings the virtual clock up to the least of the running task's time (if one runs) and the queue's.
    pub fn advance(&mut self, slab: &Slab<Head>, running: Option<u64>) {
        let queued = self.first(slab).map(|task| task.vruntime.get());
        if let Some(least) = [running, queued].into_iter().flatten().min() {
            self.clock = self.clock.max(least);
        }
    }

    /// Queues a task that has been here before and only gave way.
    pub fn push(&mut self, slab: &Slab<Head>, task: Task<'_>) {
        task.set_child(NONE);
        task.sibling.set(NONE);
        task.previous.set(NONE);
        self.root = meld(slab, self.root, task.slot);
        self.length += 1;
    }

    /// Queues a task that slept or comes from elsewhere, at most `window` away from the clock. Where no user task runs or waits
    /// the clock takes the newcomer's time.
    ///
    /// A new task begins at the clock. With what a sleeper has in hand a thread that forks without end would starve all others.
    pub fn place(&mut self, slab: &Slab<Head>, task: Task<'_>, window: u64, running: Option<u64>) {
        self.advance(slab, running);
        let time = match task.vruntime.get() {
            NEW => self.clock,
            time => time,
        };
        if running.is_none() && self.length == 0 {
            self.clock = self.clock.max(time);
        }
        task.vruntime
            .set(time.clamp(self.clock.saturating_sub(window), self.clock.saturating_add(window)));
        self.push(slab, task);
    }

    /// Takes the most deserving task.
    pub fn pop<'a>(&mut self, slab: &'a Slab<Head>) -> Option<Task<'a>> {
        let task = self.first(slab)?;
        self.clock = self.clock.max(task.vruntime.get());
        self.take(slab, task);
        Some(task)
    }

    /// Takes a deserving task that may run on a CPU of `mask`.
    pub fn steal<'a>(&mut self, slab: &'a Slab<Head>, mask: u64) -> Option<Task<'a>> {
        let task = self.find(slab, mask)?;
        self.take(slab, task);
        Some(task)
    }

    /// A deserving task that may run on a CPU of `mask`; looks at a bounded number.
    pub fn find<'a>(&self, slab: &'a Slab<Head>, mask: u64) -> Option<Task<'a>> {
        // The root, then its children, then theirs down the left edge: deserving enough, and bounded.
        let mut level = self.root;
        let mut looked = 0;
        while let Some(head) = slab.get(level) {
            let mut next = Some(head);
            while let Some(task) = next {
                if task.affinity.get() & mask != 0 {
                    return Some(task);
                }
                looked += 1;
                if looked == STEAL_LOOK {
                    return None;
                }
                next = slab.get(task.sibling.get());
            }
            level = head.child();
        }
        None
    }

    fn take(&mut self, slab: &Slab<Head>, task: Task<'_>) {
        let children = merge_pairs(slab, task.child());
        if task.slot == self.root {
            self.root = children;
        } else {
            // Out of its parent's list: `previous` is the parent for a first child.
            let (previous, sibling) = (task.previous.get(), task.sibling.get());
            if let Some(left) = slab.get(previous) {
                if left.child() == task.slot {
                    left.set_child(sibling);
                } else {
                    left.sibling.set(sibling);
                }
            }
            if let Some(right) = slab.get(sibling) {
                right.previous.set(previous);
            }
            self.root = meld(slab, self.root, children);
        }
        self.length -= 1;
    }
}

/// Joins two heaps; of equals the first stays on top.
fn meld(slab: &Slab<Head>, a: u32, b: u32) -> u32 {
    let (Some(first), Some(second)) = (slab.get(a), slab.get(b)) else {
        return if a == NONE { b } else { a };
    };
    let (top, under) = if first.vruntime.get() <= second.vruntime.get() {
        (first, second)
    } else {
        (second, first)
    };
    under.previous.set(top.slot);
    under.sibling.set(top.child());
    if let Some(child) = slab.get(top.child()) {
        child.previous.set(under.slot);
    }
    top.set_child(under.slot);
    top.sibling.set(NONE);
    top.previous.set(NONE);
    top.slot
}

/// Joins a list of siblings to one heap: pairs from the left, then all from the right.
fn merge_pairs(slab: &Slab<Head>, mut list: u32) -> u32 {
    let mut pairs = NONE;
    while let Some(first) = slab.get(list) {
        let second = first.sibling.get();
        list = slab.get(second).map_or(NONE, |second| second.sibling.get());
        let pair = meld(slab, detach(slab, first.slot), detach(slab, second));
        if let Some(top) = slab.get(pair) {
            top.sibling.set(pairs);
            pairs = pair;
        }
    }
    let mut heap = NONE;
    while let Some(pair) = slab.get(pairs) {
        pairs = pair.sibling.get();
        heap = meld(slab, heap, detach(slab, pair.slot));
    }
    heap
}

fn detach(slab: &Slab<Head>, slot: u32) -> u32 {
    if let Some(task) = slab.get(slot) {
        task.sibling.set(NONE);
        task.previous.set(NONE);
    }
    slot
}

#[cfg(all(test, not(loom)))]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    proptest! {
        /// Against a sorted model: pops come in order, steals respect the mask, nothing is lost.
        #[test]
        fn heap_matches_model(operations in prop::collection::vec((0u8..4, 0u64..50, 1u64..4), 1..200)) {
            let slab = Slab::<Head>::new();
            let mut queue = FairQueue::new();
            let mut model: Vec<(u64, u32, u64)> = Vec::new();
            for (operation, time, mask) in operations {
                match operation {
                    0 | 1 => {
                        let task = slab.allocate(None).unwrap();
                        task.vruntime.set(time);
                        task.affinity.set(mask);
                        queue.push(&slab, task);
                        model.push((time, task.slot, mask));
                    }
                    2 => {
                        let popped = queue.pop(&slab).map(|task| (task.vruntime.get(), task.slot));
                        prop_assert_eq!(popped.map(|p| p.0), model.iter().map(|m| m.0).min());
                        if let Some((_, slot)) = popped {
                            model.retain(|m| m.1 != slot);
                        }
                    }
                    _ => {
                        if let Some(task) = queue.steal(&slab, mask) {
                            let at = model.iter().position(|m| m.1 == task.slot).unwrap();
                            prop_assert!(model[at].2 & mask != 0);
                            model.remove(at);
                        }
                    }
                }
                prop_assert_eq!(queue.len(), model.len());
            }
            let mut rest = Vec::new();
            while let Some(task) = queue.pop(&slab) {
                rest.push(task.vruntime.get());
            }
            let mut expected: Vec<u64> = model.iter().map(|m| m.0).collect();
            expected.sort_unstable();
            prop_assert_eq!(rest, expected);
        }
    }
}
