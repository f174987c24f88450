//! Changes that CPUs take note of in their own time: whoever waits for them is woken, however they come to pass.

use std::sync::Arc;

use executor::{RawSpinLock, sync::Generations};
use loom::thread;

use super::{IPI, block_on, check};

type Shared = Arc<Generations<RawSpinLock>>;

/// A CPU's checkpoint.
fn checkpoint(generations: &Shared, cpu: u32) {
    if generations.is_behind(cpu) {
        let current = generations.current();
        generations.pass(cpu, current);
    }
}

/// CPU 0 changes, calls the others and waits.
fn change(generations: &Shared) {
    let (generation, others) = generations.advance(0);
    if others & 2 != 0 {
        IPI[1].notify();
    }
    block_on(generations.wait(generation));
}

/// The CPU may be counted before it has a view at all; its first pass is as good as a later one.
#[test]
fn a_change_waits_for_a_cpu_that_joins() {
    check(|| {
        let generations = Shared::default();
        generations.join(0);
        let other = generations.clone();
        let joining = thread::spawn(move || {
            other.join(1);
            checkpoint(&other, 1);
            checkpoint(&other, 1);
            other.current()
        });
        let (generation, others) = generations.advance(0);
        if others == 0 {
            // It came after the change, and must find it.
            assert_eq!(joining.join().unwrap(), generation);
        } else {
            // The interrupt.
            let called = generations.clone();
            let call = thread::spawn(move || {
                joining.join().unwrap();
                checkpoint(&called, 1);
            });
            block_on(generations.wait(generation));
            call.join().unwrap();
        }
    });
}

/// Neither of them may think that the other will wake.
#[test]
fn two_cpus_pass_at_once() {
    check(|| {
        let generations = Shared::default();
        generations.join(0);
        generations.join(1);
        // By a CPU without a view.
        let (generation, others) = generations.advance(7);
        assert_eq!((generation, others), (1, 3));
        let passing = [0, 1].map(|cpu| {
            let generations = generations.clone();
            thread::spawn(move || checkpoint(&generations, cpu))
        });
        block_on(generations.wait(generation));
        passing.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// A CPU that is behind makes a change itself: those who wait for it to see the earlier one are woken when it has.
#[test]
fn a_cpu_that_is_behind_makes_a_change() {
    check(|| {
        let generations = Shared::default();
        generations.join(0);
        generations.join(1);
        let (first, _) = generations.advance(0);
        let other = generations.clone();
        let behind = thread::spawn(move || {
            let (second, others) = other.advance(1);
            assert_eq!((second, others), (2, 1));
            checkpoint(&other, 1);
        });
        block_on(generations.wait(first));
        assert!(generations.have_passed(first));
        behind.join().unwrap();
    });
}

/// Changes are not waited for where nobody has a view any more.
#[test]
fn a_cpu_that_leaves_is_not_waited_for() {
    check(|| {
        let generations = Shared::default();
        generations.join(0);
        generations.join(1);
        let other = generations.clone();
        let leaving = thread::spawn(move || other.leave(1));
        change(&generations);
        leaving.join().unwrap();
    });
}

/// A third party waits for whatever is current while the only member makes a change, which it has seen before it is one.
#[test]
fn a_change_without_others_is_not_waited_for() {
    check(|| {
        let generations = Shared::default();
        generations.join(0);
        let other = generations.clone();
        let settling = thread::spawn(move || block_on(other.wait(other.current())));
        assert_eq!(generations.advance(0), (1, 0));
        settling.join().unwrap();
    });
}
