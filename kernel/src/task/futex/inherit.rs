//! Who waits for a priority-inheriting lock of whom, and the priority that its owner has of it.
//!
//! A lock is here while somebody waits for it, or while its owner has still to write the word; its owner and its waiters are
//! nodes. A waiter stands in a lock's line by priority, then by arrival; an owner inherits the priority of the best waiter of
//! all its locks. What changes at one node is carried along the chain of locks and owners. There is no cycle: who would close one
//! is refused.
//!
//! All of it is under one lock ([`GRAPH`]): a chain goes over the locks of many processes, and only contended ones come here.

use alloc::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
};
use core::{
    cmp::Reverse,
    sync::atomic::{AtomicUsize, Ordering},
};

use arrayvec::ArrayVec;

use super::Key;
use crate::{
    errno::{Errno, Result},
    sync::{Rank, SpinLock},
    task::{Thread, schedule},
};

/// How long a chain of owners who wait may be (`max_lock_depth`).
const DEPTH: usize = 1024;

/// A thread's identity while it has a node, which keeps it: its address.
type Id = usize;

/// Where a waiter stands: its priority, best first, and the number of its arrival.
type Place = (Reverse<u8>, u64);

struct Lock {
    owner: Id,
    /// Whether the owner got it from one that has died, and has not yet written so into the word.
    unwritten: bool,
    line: BTreeMap<Place, Id>,
    /// The best waiter's priority, as the owner's node has it; 0 without one.
    best: u8,
}

struct Node {
    thread: Arc<Thread>,
    waits: Option<(Key, Place)>,
    owns: BTreeSet<(Reverse<u8>, Key)>,
}

/// Threads whose nodes have gone: to be dropped outside the lock, as what follows from that takes others.
pub(super) type Gone = ArrayVec<Arc<Thread>, 4>;

pub(super) struct Graph {
    locks: BTreeMap<Key, Lock>,
    nodes: BTreeMap<Id, Node>,
    arrivals: u64,
    /// How many nodes there are, and are about to be, for who does not hold the lock.
    count: &'static AtomicUsize,
}

pub(super) static GRAPH: SpinLock<Graph> = SpinLock::new(Rank::FutexOwners, Graph::new(&NODES));

/// The count of [`GRAPH`]: with none, nobody has to look.
static NODES: AtomicUsize = AtomicUsize::new(0);

/// Whether anybody may wait for such a lock.
pub(super) fn is_used() -> bool {
    NODES.load(Ordering::SeqCst) != 0
}

fn id(thread: &Thread) -> Id {
    core::ptr::from_ref(thread).addr()
}

impl Graph {
    const fn new(count: &'static AtomicUsize) -> Self {
        Self {
            locks: BTreeMap::new(),
            nodes: BTreeMap::new(),
            arrivals: 0,
            count,
        }
    }

    /// The owner of a lock that is here, and whether it has still to write the word.
    pub fn owner(&self, key: Key) -> Option<(&Arc<Thread>, bool)> {
        let lock = self.locks.get(&key)?;
        Some((&self.nodes.get(&lock.owner)?.thread, lock.unwritten))
    }

    /// Whether a thread waits.
    pub fn waits(&self, thread: &Thread) -> bool {
        self.nodes.get(&id(thread)).is_some_and(|node| node.waits.is_some())
    }

    /// A lock that a thread owns, of those that are here.
    pub fn owned(&self, thread: &Thread) -> Option<Key> {
        Some(self.nodes.get(&id(thread))?.owns.first()?.1)
    }

    /// Who gets the lock next.
    pub fn next(&self, key: Key) -> Option<&Arc<Thread>> {
        let (_, next) = self.locks.get(&key)?.line.first_key_value()?;
        Some(&self.nodes.get(next)?.thread)
    }

    /// Has `waiter`, which waits for nothing, wait for a lock. `owner` is who has it, if it is not here yet.
    ///
    /// # Errors
    /// `EDEADLK` if the owner waits, itself or by others, for `waiter`, or if the chain of those is too long; `ESRCH` if the owner
    /// has ended. Nothing is changed then.
    pub fn attach(&mut self, key: Key, owner: &Arc<Thread>, waiter: &Arc<Thread>) -> Result<()> {
        // Said before it is looked whether the owner has ended: see `super::pi::end`.
        self.count.fetch_add(2, Ordering::SeqCst);
        let result = self.try_attach(key, owner, waiter);
        self.count.store(self.nodes.len(), Ordering::SeqCst);
        result
    }

    fn try_attach(&mut self, key: Key, owner: &Arc<Thread>, waiter: &Arc<Thread>) -> Result<()> {
        // The caller or a node has it as well: to drop it here frees nothing.
        let owner = self.owner(key).map_or(owner, |(owner, _)| owner).clone();
        if owner.futex_place.load(Ordering::SeqCst) == super::OVER {
            return Err(Errno::ESRCH);
        }
        if self.is_behind(&owner, waiter) {
            return Err(Errno::EDEADLK);
        }
        for thread in [&owner, waiter] {
            self.nodes.entry(id(thread)).or_insert_with(|| Node {
                thread: Arc::clone(thread),
                waits: None,
                owns: BTreeSet::new(),
            });
        }
        if let Entry::Vacant(vacant) = self.locks.entry(key) {
            vacant.insert(Lock {
                owner: id(&owner),
                unwritten: false,
                line: BTreeMap::new(),
                best: 0,
            });
            self.node(id(&owner), |node| node.owns.insert((Reverse(0), key)));
        }
        self.stand(key, id(waiter), schedule::priority(waiter));
        self.carry_on(id(&owner));
        Ok(())
    }

    /// Whether `owner` is `waiter`, or waits for it.
    fn is_behind(&self, owner: &Thread, waiter: &Thread) -> bool {
        let mut at = id(owner);
        for _ in 0..DEPTH {
            if at == id(waiter) {
                return true;
            }
            let waits = self.nodes.get(&at).and_then(|node| node.waits);
            match waits.and_then(|(key, _)| self.locks.get(&key)) {
                Some(lock) => at = lock.owner,
                None => return false,
            }
        }
        true
    }

    fn node<T>(&mut self, id: Id, change: impl FnOnce(&mut Node) -> T) -> Option<T> {
        self.nodes.get_mut(&id).map(change)
    }

    /// Puts a waiter into a lock's line, behind its equals.
    fn stand(&mut self, key: Key, waiter: Id, priority: u8) {
        self.arrivals += 1;
        let place = (Reverse(priority), self.arrivals);
        if let Some(lock) = self.locks.get_mut(&key) {
            lock.line.insert(place, waiter);
        }
        self.node(waiter, |node| node.waits = Some((key, place)));
        self.note_best(key);
    }

    /// Takes a waiter out of its line; the lock.
    fn step_out(&mut self, waiter: Id) -> Option<Key> {
        let (key, place) = self.nodes.get_mut(&waiter)?.waits.take()?;
        self.locks.get_mut(&key)?.line.remove(&place);
        self.note_best(key);
        Some(key)
    }

    /// Has the owner's node know the priority of the best waiter.
    fn note_best(&mut self, key: Key) {
        let Some(lock) = self.locks.get_mut(&key) else { return };
        let best = lock.line.first_key_value().map_or(0, |((Reverse(best), _), _)| *best);
        let was = core::mem::replace(&mut lock.best, best);
        let owner = lock.owner;
        if was != best {
            self.node(owner, |node| {
                node.owns.remove(&(Reverse(was), key));
                node.owns.insert((Reverse(best), key));
            });
        }
    }

    /// What a thread inherits has changed, or what it has of its own: it and those it waits for are given what they have now.
    /// Beyond the longest chain that is allowed, which joining short ones can exceed, nothing is carried.
    fn carry_on(&mut self, from: Id) {
        let mut at = from;
        for _ in 0..DEPTH {
            let Some(node) = self.nodes.get(&at) else { return };
            let inherited = node.owns.first().map_or(0, |(Reverse(best), _)| *best);
            if node.thread.inherited.swap(inherited, Ordering::SeqCst) != inherited {
                schedule::apply_share(&node.thread);
            }
            let priority = schedule::priority(&node.thread);
            let Some((key, (Reverse(stands_at), _))) = node.waits else {
                return;
            };
            if stands_at == priority {
                return;
            }
            self.step_out(at);
            self.stand(key, at, priority);
            let Some(lock) = self.locks.get(&key) else { return };
            at = lock.owner;
        }
    }

    /// A thread's own priority has changed.
    pub fn adjust(&mut self, thread: &Thread) {
        self.carry_on(id(thread));
    }

    /// Takes a waiter that gives up out of its line. False if it did not wait: it has been given the lock.
    pub fn leave(&mut self, waiter: &Thread, gone: &mut Gone) -> bool {
        let Some(key) = self.step_out(id(waiter)) else {
            return false;
        };
        let owner = self.locks.get(&key).map(|lock| lock.owner);
        self.tidy(key);
        self.settle(owner, gone);
        self.settle(Some(id(waiter)), gone);
        true
    }

    /// Gives a lock to the best waiter, which is to be woken; to nobody if nobody waits. `unwritten`: it writes the word itself.
    pub fn hand_over(&mut self, key: Key, unwritten: bool, gone: &mut Gone) -> Option<Arc<Thread>> {
        let (owner, best) = self.locks.get(&key).map(|lock| (lock.owner, lock.best))?;
        self.node(owner, |node| node.owns.remove(&(Reverse(best), key)));
        let next = self.next(key).cloned();
        if let (Some(next), Some(lock)) = (&next, self.locks.get_mut(&key)) {
            lock.owner = id(next);
            lock.unwritten = unwritten;
            self.node(id(next), |node| node.owns.insert((Reverse(best), key)));
            self.step_out(id(next));
            self.tidy(key);
            self.settle(Some(id(next)), gone);
        } else {
            self.locks.remove(&key);
        }
        self.settle(Some(owner), gone);
        next
    }

    /// The owner has written the word.
    pub fn written(&mut self, key: Key, gone: &mut Gone) {
        let Some(lock) = self.locks.get_mut(&key) else { return };
        lock.unwritten = false;
        let owner = lock.owner;
        self.tidy(key);
        self.settle(Some(owner), gone);
    }

    /// Forgets a lock for which nobody waits.
    fn tidy(&mut self, key: Key) {
        if let Some(lock) = self.locks.get(&key)
            && lock.line.is_empty()
            && !lock.unwritten
        {
            let (owner, best) = (lock.owner, lock.best);
            self.locks.remove(&key);
            self.node(owner, |node| node.owns.remove(&(Reverse(best), key)));
        }
    }

    /// Gives a thread what it inherits now, and takes its node away if it has no more to do with any lock.
    fn settle(&mut self, thread: Option<Id>, gone: &mut Gone) {
        let Some(thread) = thread else { return };
        self.carry_on(thread);
        let is_idle = |node: &Node| node.waits.is_none() && node.owns.is_empty();
        if self.nodes.get(&thread).is_some_and(is_idle) {
            gone.extend(self.nodes.remove(&thread).map(|node| node.thread));
        }
        self.count.store(self.nodes.len(), Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests;
