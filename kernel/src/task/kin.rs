//! Lines of processes: a parent's children, a group's members.
//!
//! Each process knows its neighbours by number, so that joining and leaving a line takes no memory and no search through it, however
//! many there are.

use alloc::collections::BTreeMap;

use super::{pid::Pid, table::Node};

/// What a line is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kin {
    /// The children of one process.
    Children,
    /// The members of one group.
    Members,
}

/// A process's neighbours in a line; 0 is nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Neighbours {
    previous: Pid,
    next: Pid,
}

/// A line, in order of arrival.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    first: Pid,
    last: Pid,
}

type Nodes = BTreeMap<Pid, Node>;

fn neighbours(nodes: &mut Nodes, kin: Kin, pid: Pid) -> Option<&mut Neighbours> {
    nodes.get_mut(&pid).map(|node| node.neighbours_mut(kin))
}

impl Neighbours {
    /// Who comes next.
    pub const fn next(&self) -> Pid {
        self.next
    }
}

impl Line {
    /// Who came first.
    pub const fn first(self) -> Pid {
        self.first
    }

    /// Whether there is nobody.
    pub const fn is_empty(self) -> bool {
        self.first == 0
    }

    /// Puts a process, which is in no line of the kind, at the end.
    pub fn push(&mut self, nodes: &mut Nodes, kin: Kin, pid: Pid) {
        let last = core::mem::replace(&mut self.last, pid);
        match neighbours(nodes, kin, last) {
            Some(before) => before.next = pid,
            None => self.first = pid,
        }
        if let Some(own) = neighbours(nodes, kin, pid) {
            *own = Neighbours {
                previous: last,
                next: 0,
            };
        }
    }

    /// Takes out a process that is in the line.
    pub fn remove(&mut self, nodes: &mut Nodes, kin: Kin, pid: Pid) {
        let Some(own) = neighbours(nodes, kin, pid).map(core::mem::take) else {
            return;
        };
        match neighbours(nodes, kin, own.previous) {
            Some(before) => before.next = own.next,
            None => self.first = own.next,
        }
        match neighbours(nodes, kin, own.next) {
            Some(behind) => behind.previous = own.previous,
            None => self.last = own.previous,
        }
    }

    /// Those who are in it.
    pub fn iter(self, nodes: &Nodes, kin: Kin) -> impl Iterator<Item = (Pid, &Node)> {
        let with_pid = move |pid: Pid| nodes.get(&pid).map(|node| (pid, node));
        core::iter::successors(with_pid(self.first), move |(_, node)| {
            with_pid(node.neighbours(kin).next)
        })
    }
}
