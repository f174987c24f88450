//! The graph against a model that keeps nothing but who waits for what, and works out the rest each time.

use std::{collections::BTreeMap, vec::Vec};

use linux_raw_sys::general::{SCHED_FIFO, SCHED_NORMAL};
use proptest::prelude::*;

use super::*;
use crate::task::{schedule::Policy, testing};

static COUNT: AtomicUsize = AtomicUsize::new(0);

const THREADS: usize = 6;
const LOCKS: usize = 4;

fn key(lock: usize) -> Key {
    Key {
        memory: 1,
        place: 4 * lock as u64,
    }
}

fn set_priority(thread: &Thread, priority: u8) {
    thread.policy.set(Policy {
        number: if priority == 0 { SCHED_NORMAL } else { SCHED_FIFO },
        priority: priority.into(),
        reset_on_fork: false,
    });
}

#[derive(Clone, Debug)]
enum Step {
    /// The thread waits for the lock, which the other has if nobody waits yet.
    Wait(usize, usize, usize),
    /// The thread gives up.
    Leave(usize),
    /// The lock's owner unlocks it, or ends.
    HandOver(usize, bool),
    /// The lock's owner writes the word.
    Write(usize),
    /// The thread's policy changes.
    Priority(usize, u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..THREADS, 0..LOCKS, 0..THREADS).prop_map(|(thread, lock, owner)| Step::Wait(thread, lock, owner)),
        1 => (0..THREADS).prop_map(Step::Leave),
        2 => (0..LOCKS, any::<bool>()).prop_map(|(lock, dies)| Step::HandOver(lock, dies)),
        1 => (0..LOCKS).prop_map(Step::Write),
        2 => (0..THREADS, 0u8..4).prop_map(|(thread, priority)| Step::Priority(thread, priority)),
    ]
}

/// Owner, whether it has still to write the word, and waiters.
type Model = BTreeMap<usize, (usize, bool, Vec<usize>)>;

/// The priority a thread has: its own or the best of those who wait for it.
fn effective(model: &Model, own: &[u8], thread: usize) -> u8 {
    let waiters = model
        .values()
        .filter(|(owner, ..)| *owner == thread)
        .flat_map(|(.., waiters)| waiters);
    waiters
        .map(|waiter| effective(model, own, *waiter))
        .fold(own[thread], u8::max)
}

fn waits_for(model: &Model, thread: usize) -> Option<usize> {
    model
        .iter()
        .find(|(_, (.., waiters))| waiters.contains(&thread))
        .map(|(lock, _)| *lock)
}

fn leads_to(model: &Model, from: usize, to: usize) -> bool {
    from == to || waits_for(model, from).is_some_and(|lock| leads_to(model, model[&lock].0, to))
}

struct Run {
    threads: Vec<Arc<Thread>>,
    own: [u8; THREADS],
    graph: Graph,
    model: Model,
}

impl Run {
    fn new() -> Self {
        Self {
            threads: (0..THREADS as i32)
                .map(|number| testing::thread(9300 + number))
                .collect(),
            own: [0; THREADS],
            graph: {
                COUNT.store(0, Ordering::SeqCst);
                Graph::new(&COUNT)
            },
            model: Model::new(),
        }
    }

    fn number(&self, thread: &Arc<Thread>) -> usize {
        self.threads
            .iter()
            .position(|other| Arc::ptr_eq(other, thread))
            .unwrap()
    }

    fn take(&mut self, step: Step) {
        let mut gone = Gone::new();
        match step {
            Step::Wait(thread, lock, owner) => self.wait(thread, lock, owner),
            Step::Leave(thread) => {
                let lock = waits_for(&self.model, thread);
                assert_eq!(self.graph.leave(&self.threads[thread], &mut gone), lock.is_some());
                if let Some(lock) = lock {
                    self.model.get_mut(&lock).unwrap().2.retain(|waiter| *waiter != thread);
                    self.forget(lock);
                }
            }
            Step::HandOver(lock, dies) => {
                // Only who runs can unlock.
                if self
                    .model
                    .get(&lock)
                    .is_some_and(|(owner, ..)| waits_for(&self.model, *owner).is_some())
                {
                    return;
                }
                let next = self
                    .graph
                    .hand_over(key(lock), dies, &mut gone)
                    .map(|next| self.number(&next));
                let Some((owner, unwritten, waiters)) = self.model.get_mut(&lock) else {
                    assert_eq!(next, None);
                    return;
                };
                assert_eq!(next.is_some(), !waiters.is_empty());
                if let Some(next) = next {
                    waiters.retain(|waiter| *waiter != next);
                    (*owner, *unwritten) = (next, dies);
                    self.forget(lock);
                } else {
                    self.model.remove(&lock);
                }
            }
            Step::Write(lock) => {
                self.graph.written(key(lock), &mut gone);
                if let Some((_, unwritten, _)) = self.model.get_mut(&lock) {
                    *unwritten = false;
                    self.forget(lock);
                }
            }
            Step::Priority(thread, priority) => {
                self.own[thread] = priority;
                set_priority(&self.threads[thread], priority);
                self.graph.adjust(&self.threads[thread]);
            }
        }
    }

    fn wait(&mut self, thread: usize, lock: usize, owner: usize) {
        if waits_for(&self.model, thread).is_some() {
            return;
        }
        let owner = self.model.get(&lock).map_or(owner, |(owner, ..)| *owner);
        let is_cycle = leads_to(&self.model, owner, thread);
        let result = self
            .graph
            .attach(key(lock), &self.threads[owner], &self.threads[thread]);
        assert_eq!(result, if is_cycle { Err(Errno::EDEADLK) } else { Ok(()) });
        if !is_cycle {
            self.model
                .entry(lock)
                .or_insert((owner, false, Vec::new()))
                .2
                .push(thread);
        }
    }

    fn forget(&mut self, lock: usize) {
        if self
            .model
            .get(&lock)
            .is_some_and(|(_, unwritten, waiters)| !unwritten && waiters.is_empty())
        {
            self.model.remove(&lock);
        }
    }

    fn check(&self) {
        for (number, thread) in self.threads.iter().enumerate() {
            let priority = effective(&self.model, &self.own, number);
            assert_eq!(schedule::priority(thread), priority, "of {number} in {:?}", self.model);
            assert_eq!(self.graph.waits(thread), waits_for(&self.model, number).is_some());
            let owns = self.model.values().any(|(owner, ..)| *owner == number);
            assert_eq!(self.graph.owned(thread).is_some(), owns);
        }
        for lock in 0..LOCKS {
            let known = self
                .graph
                .owner(key(lock))
                .map(|(owner, unwritten)| (self.number(owner), unwritten));
            assert_eq!(
                known,
                self.model.get(&lock).map(|(owner, unwritten, _)| (*owner, *unwritten))
            );
            if let Some(next) = self.graph.next(key(lock)) {
                let of = |waiter: &usize| effective(&self.model, &self.own, *waiter);
                let best = self.model[&lock].2.iter().map(of).max();
                assert_eq!(Some(of(&self.number(next))), best, "the best is the next");
            }
        }
        assert_eq!(COUNT.load(Ordering::SeqCst), self.graph.nodes.len());
        let involved = |number: &usize| {
            waits_for(&self.model, *number).is_some() || self.model.values().any(|(owner, ..)| owner == number)
        };
        assert_eq!(self.graph.nodes.len(), (0..THREADS).filter(involved).count());
    }
}

/// One at a time: they share a count.
static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());

proptest! {
    #[test]
    fn everybody_has_the_priority_of_the_best_who_waits(steps in proptest::collection::vec(step(), 1..60)) {
        let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut run = Run::new();
        for step in steps {
            run.take(step);
            run.check();
        }
    }
}

#[test]
fn equals_come_in_order_of_arrival_and_a_changed_one_last() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut run = Run::new();
    for waiter in 1..5 {
        run.take(Step::Wait(waiter, 0, 0));
    }
    run.take(Step::Priority(3, 2));
    run.take(Step::Priority(1, 1));
    run.take(Step::Priority(1, 0));
    let mut order = Vec::new();
    while let Some((owner, ..)) = run.model.get(&0) {
        order.push(*owner);
        run.take(Step::HandOver(0, true));
    }
    assert_eq!(order, [0, 3, 2, 4, 1]);
}

#[test]
fn a_chain_that_is_too_long_is_refused() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut graph = Graph::new(&COUNT);
    let threads: Vec<_> = (0..DEPTH as i32 + 2)
        .map(|number| testing::thread(10_000 + number))
        .collect();
    // Each waits for a lock of the one before.
    for number in 1..DEPTH {
        graph
            .attach(key(number), &threads[number - 1], &threads[number])
            .unwrap();
    }
    assert_eq!(graph.attach(key(DEPTH), &threads[DEPTH - 1], &threads[DEPTH]), Ok(()));
    let end = graph.attach(key(DEPTH + 1), &threads[DEPTH], &threads[DEPTH + 1]);
    assert_eq!(end, Err(Errno::EDEADLK));
    // A priority at the far end goes as far as a chain may be.
    set_priority(&threads[DEPTH], 7);
    graph.adjust(&threads[DEPTH]);
    assert_eq!(schedule::priority(&threads[1]), 7);
    let mut gone = Gone::new();
    for thread in &threads {
        graph.leave(thread, &mut gone);
        gone.clear();
    }
    assert!(graph.nodes.is_empty() && graph.locks.is_empty());
    COUNT.store(0, Ordering::SeqCst);
}
