//! Who called whom, told from the order in which blocks ran.
//!
//! The log has no stacks. But a block that begins where a function does is a call, and one in the middle of another function is
//! the return to it (a function that comes to its own beginning again loops); so a stack can be kept along. Where a function is returned to that is not on it (the log begins in the middle,
//! an interrupt), it begins anew with that function. User mode leaves the kernel's stack as it is.

use std::collections::{BTreeMap, HashMap};

/// A stack: an index of [`Stacks`].
type Node = usize;

/// How often each block ran on each stack.
#[derive(Debug, Default)]
pub struct Stacks {
    /// Caller's stack and function, by the function's address.
    nodes: Vec<(Option<Node>, u64)>,
    calls: HashMap<(Option<Node>, u64), Node>,
    counts: BTreeMap<(Node, u64), u64>,
    /// How often each block of user mode ran.
    pub user: BTreeMap<u64, u64>,
    /// How often the kernel was entered from user mode.
    pub entries: u64,
}

impl Stacks {
    /// Follows `runs`; `function` says where the kernel's function begins that an address is in.
    pub fn follow(runs: &[u64], function: impl Fn(u64) -> Option<u64>) -> Self {
        let mut stacks = Self::default();
        let mut stack: Option<Node> = None;
        let mut in_user = false;
        for &block in runs {
            let Some(start) = function(block) else {
                *stacks.user.entry(block).or_default() += 1;
                in_user = true;
                continue;
            };
            let here = stacks.step(stack, start, block == start || in_user);
            stacks.entries += u64::from(in_user);
            in_user = false;
            stack = Some(here);
            *stacks.counts.entry((here, block)).or_default() += 1;
        }
        stacks
    }

    /// The stack after a block of the function at `start`.
    fn step(&mut self, stack: Option<Node>, start: u64, called: bool) -> Node {
        let loops = stack.is_some_and(|node| self.nodes[node].1 == start);
        if called && !loops {
            return self.call(stack, start);
        }
        let mut at = stack;
        while let Some(node) = at {
            if self.nodes[node].1 == start {
                return node;
            }
            at = self.nodes[node].0;
        }
        self.call(None, start)
    }

    fn call(&mut self, caller: Option<Node>, function: u64) -> Node {
        *self.calls.entry((caller, function)).or_insert_with(|| {
            self.nodes.push((caller, function));
            self.nodes.len() - 1
        })
    }

    /// Every stack, outermost function first, with a block of its innermost and how often that ran.
    pub fn iter(&self) -> impl Iterator<Item = (Vec<u64>, u64, u64)> {
        self.counts.iter().map(|(&(node, block), &count)| {
            let mut functions = Vec::new();
            let mut at = Some(node);
            while let Some(node) = at {
                functions.push(self.nodes[node].1);
                at = self.nodes[node].0;
            }
            functions.reverse();
            (functions, block, count)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Functions are a hundred bytes long, user mode is below.
    fn function(address: u64) -> Option<u64> {
        (address >= 1000).then_some(address / 100 * 100)
    }

    fn follow(runs: &[u64]) -> Vec<(Vec<u64>, u64, u64)> {
        let mut stacks: Vec<_> = Stacks::follow(runs, function).iter().collect();
        stacks.sort();
        stacks
    }

    #[test]
    fn calls_and_returns_are_followed() {
        let stacks = follow(&[1000, 1100, 1200, 1110, 1200, 1120, 1010]);
        assert_eq!(
            stacks,
            [
                (vec![1000], 1000, 1),
                (vec![1000], 1010, 1),
                (vec![1000, 1100], 1100, 1),
                (vec![1000, 1100], 1110, 1),
                (vec![1000, 1100], 1120, 1),
                (vec![1000, 1100, 1200], 1200, 2),
            ]
        );
    }

    #[test]
    fn a_loop_to_the_beginning_is_no_call() {
        assert_eq!(follow(&[1000, 1000, 1000]), [(vec![1000], 1000, 3)]);
    }

    #[test]
    fn the_way_through_user_mode_keeps_the_stack() {
        // 1100 goes to user mode; the way back begins in the middle of 1300.
        let runs = [1000, 1100, 10, 20, 1310, 1150, 1050];
        assert_eq!(
            follow(&runs),
            [
                (vec![1000], 1000, 1),
                (vec![1000], 1050, 1),
                (vec![1000, 1100], 1100, 1),
                (vec![1000, 1100], 1150, 1),
                (vec![1000, 1100, 1300], 1310, 1),
            ]
        );
        let stacks = Stacks::follow(&runs, function);
        assert_eq!((stacks.user.values().sum::<u64>(), stacks.entries), (2, 1));
    }

    #[test]
    fn a_return_to_an_unknown_caller_begins_anew() {
        assert_eq!(
            follow(&[1150, 1250, 1260]),
            [(vec![1100], 1150, 1), (vec![1200], 1250, 1), (vec![1200], 1260, 1)]
        );
    }
}
