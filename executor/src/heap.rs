//! Heaps of user tasks: pairing heaps by a number, intrusive in the tasks by slot number.
//!
//! The least is at the root, putting one in is O(1), and taking any out is O(log n) amortised. They stand under their CPU's
//! user lock, because other CPUs take from them.

use crate::{
    prim::const_fn,
    slab::Slab,
    task::{Head, NONE, Task},
};

/// How many tasks are looked at for one that may be taken.
const LOOK: usize = 32;

/// A heap of tasks by [`key`](crate::task::Body::key).
pub struct Heap {
    root: u32,
}

impl Heap {
    const_fn! {
        pub fn new() -> Self {
            Self { root: NONE }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.root == NONE
    }

    /// The task with the least key.
    pub fn first<'a>(&self, slab: &'a Slab<Head>) -> Option<Task<'a>> {
        slab.get(self.root)
    }

    pub fn push(&mut self, slab: &Slab<Head>, task: Task<'_>) {
        task.set_child(NONE);
        task.sibling.set(NONE);
        task.previous.set(NONE);
        self.root = meld(slab, self.root, task.slot);
    }

    /// A task with a low key of which `fits` is true; looks at a bounded number.
    pub fn find<'a>(&self, slab: &'a Slab<Head>, fits: impl Fn(Task<'_>) -> bool) -> Option<Task<'a>> {
        // The root, then its children, then theirs down the left edge: deserving enough, and bounded.
        let mut level = self.root;
        let mut looked = 0;
        while let Some(head) = slab.get(level) {
            let mut next = Some(head);
            while let Some(task) = next {
                if fits(task) {
                    return Some(task);
                }
                looked += 1;
                if looked == LOOK {
                    return None;
                }
                next = slab.get(task.sibling.get());
            }
            level = head.child();
        }
        None
    }

    /// Takes out a task that is in it.
    pub fn take(&mut self, slab: &Slab<Head>, task: Task<'_>) {
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
    }
}

/// Joins two heaps; of equals the first stays on top.
fn meld(slab: &Slab<Head>, a: u32, b: u32) -> u32 {
    let (Some(first), Some(second)) = (slab.get(a), slab.get(b)) else {
        return if a == NONE { b } else { a };
    };
    let (top, under) = if first.key.get() <= second.key.get() {
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
    // Mostly it is none or one.
    match slab.get(list) {
        None => return NONE,
        Some(only) if only.sibling.get() == NONE => return detach(slab, list),
        Some(_) => {}
    }
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

    fn pop(heap: &mut Heap, slab: &Slab<Head>) -> Option<(u64, u32)> {
        let first = heap.first(slab)?;
        heap.take(slab, first);
        Some((first.key.get(), first.slot))
    }

    proptest! {
        /// Against a sorted model: the least comes first, what is found respects the mask, nothing is lost.
        #[test]
        fn heap_matches_model(operations in prop::collection::vec((0u8..4, 0u64..50, 1u64..4), 1..200)) {
            let slab = Slab::<Head>::new();
            let mut heap = Heap::new();
            let mut model: Vec<(u64, u32, u64)> = Vec::new();
            for (operation, time, mask) in operations {
                match operation {
                    0 | 1 => {
                        let task = slab.allocate(None).unwrap();
                        task.key.set(time);
                        task.affinity.set(mask);
                        heap.push(&slab, task);
                        model.push((time, task.slot, mask));
                    }
                    2 => {
                        let popped = pop(&mut heap, &slab);
                        prop_assert_eq!(popped.map(|p| p.0), model.iter().map(|m| m.0).min());
                        if let Some((_, slot)) = popped {
                            model.retain(|m| m.1 != slot);
                        }
                    }
                    _ => {
                        if let Some(task) = heap.find(&slab, |task| task.affinity.get() & mask != 0) {
                            heap.take(&slab, task);
                            let at = model.iter().position(|m| m.1 == task.slot).unwrap();
                            prop_assert!(model[at].2 & mask != 0);
                            model.remove(at);
                        }
                    }
                }
                prop_assert_eq!(heap.is_empty(), model.is_empty());
            }
            let mut rest = Vec::new();
            while let Some((time, _)) = pop(&mut heap, &slab) {
                rest.push(time);
            }
            let mut expected: Vec<u64> = model.iter().map(|m| m.0).collect();
            expected.sort_unstable();
            prop_assert_eq!(rest, expected);
        }
    }
}
