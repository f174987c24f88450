//! The living threads of a process: as many as there are numbers, each of which comes and goes by itself.

use alloc::{
    collections::{BTreeMap, btree_map::Values},
    sync::Arc,
};

use super::{Pid, Thread};

/// Threads by number.
#[derive(Default)]
pub struct ThreadList(BTreeMap<Pid, Arc<Thread>>);

impl ThreadList {
    /// Nobody.
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Adds a thread by the number that it has.
    pub fn push(&mut self, thread: Arc<Thread>) {
        self.0.insert(thread.tid(), thread);
    }

    /// Takes a thread out.
    pub fn remove(&mut self, thread: &Thread) -> Option<Arc<Thread>> {
        self.0.remove(&thread.tid())
    }

    /// The only thread has got another number than `old`.
    pub fn renumber(&mut self, old: Pid) {
        if let Some(thread) = self.0.remove(&old) {
            self.push(thread);
        }
    }

    /// The one with the lowest number: the process's first, while it lives.
    pub fn first(&self) -> Option<&Arc<Thread>> {
        self.0.values().next()
    }

    /// Each of them.
    pub fn iter(&self) -> Values<'_, Pid, Arc<Thread>> {
        self.0.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes all out.
    #[cfg(test)]
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

impl<'a> IntoIterator for &'a ThreadList {
    type Item = &'a Arc<Thread>;
    type IntoIter = Values<'a, Pid, Arc<Thread>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
