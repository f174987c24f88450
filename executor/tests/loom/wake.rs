//! Wakes, by one thread and by several, against a CPU that polls or falls asleep.

use std::{
    future::poll_fn,
    sync::{Arc, atomic::Ordering::SeqCst},
    task::Poll,
};

use executor::{Class, JoinHandle};
use loom::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
};

use super::{Cell, EXECUTOR, check, run, spawn};

/// Drivers on the first level, under loom.
const DIRECT_UNDER_LOOM: usize = 2;

/// Runs the CPU until the tasks of all cells have got their payloads, each from a thread of its own.
fn deliver_to(cells: &[Cell]) {
    let threads: Vec<_> = cells.iter().map(Cell::deliver).collect();
    run(|| cells.iter().all(Cell::seen));
    for thread in threads {
        thread.join().unwrap();
    }
}

fn wake_and_sleep(class: Class) {
    check(move || {
        let cell = Cell::spawn(class);
        EXECUTOR.run_until_idle();
        deliver_to(&[cell]);
    });
}

#[test]
fn a_wake_reaches_a_queued_task_falling_asleep() {
    wake_and_sleep(Class::Service);
}

#[test]
fn a_wake_reaches_a_driver_falling_asleep() {
    wake_and_sleep(Class::Driver);
}

#[test]
fn a_wake_reaches_a_user_task_falling_asleep() {
    wake_and_sleep(Class::User);
}

/// The driver's number is on the second level: its group's bit and the word's are two steps.
#[test]
fn a_wake_reaches_a_driver_of_the_second_level_falling_asleep() {
    check(|| {
        let direct: Vec<_> = (0..DIRECT_UNDER_LOOM)
            .map(|_| spawn(Class::Driver, std::future::pending()))
            .collect();
        let cells = [Cell::spawn(Class::Driver), Cell::spawn(Class::Driver)];
        EXECUTOR.run_until_idle();
        deliver_to(&cells);
        direct.iter().for_each(JoinHandle::abort);
        EXECUTOR.run_until_idle();
    });
}

#[test]
fn two_wakers_of_one_task_poll_it_and_queue_it_once() {
    check(|| {
        let cell = Cell::spawn(Class::Service);
        EXECUTOR.run_until_idle();
        let waker = cell.waker();
        let one = thread::spawn(move || waker.wake());
        let two = cell.deliver();
        run(|| cell.seen());
        one.join().unwrap();
        two.join().unwrap();
        EXECUTOR.run_until_idle();
        assert_eq!(EXECUTOR.cpu(0).unwrap().queued, [0, 0]);
    });
}

/// One wake is the CPU's own and needs no atomic operation, the other comes from elsewhere and uses the inbox.
#[test]
fn a_wake_at_home_and_one_from_elsewhere_are_both_answered() {
    check(|| {
        let cell = Cell::new();
        let here = Arc::new(AtomicUsize::new(0));
        let (own, wait) = (here.clone(), cell.clone());
        let task = poll_fn(move |context| {
            *wait.waker.lock().unwrap() = Some(context.waker().clone());
            if own.load(Relaxed) == 0 || wait.payload.load(Relaxed) == 0 {
                return Poll::Pending;
            }
            wait.seen.store(1, SeqCst);
            Poll::Ready(1)
        });
        spawn(Class::Service, task).detach();
        EXECUTOR.run_until_idle();
        let other = cell.deliver();
        here.store(1, Relaxed);
        cell.waker().wake();
        run(|| cell.seen());
        other.join().unwrap();
        EXECUTOR.run_until_idle();
        assert_eq!(EXECUTOR.tasks().count(), 0);
        assert_eq!(EXECUTOR.cpu(0).unwrap().queued, [0, 0]);
    });
}

#[test]
fn the_inbox_keeps_what_two_producers_push() {
    check(|| {
        let cells = [Cell::spawn(Class::Service), Cell::spawn(Class::Service)];
        EXECUTOR.run_until_idle();
        deliver_to(&cells);
    });
}

/// A task that ends at its next poll, while another thread wakes it once more.
fn woken_too_late() -> (Cell, thread::JoinHandle<()>) {
    let cell = Cell::spawn(Class::Service);
    EXECUTOR.run_until_idle();
    let late = cell.waker();
    cell.payload.store(7, Relaxed);
    cell.waker().wake();
    (cell, thread::spawn(move || late.wake()))
}

#[test]
fn a_stale_waker_touches_nothing() {
    check(|| {
        let (first, other) = woken_too_late();
        EXECUTOR.run_until_idle();
        // Takes the freed slot, or another.
        let second = Cell::spawn(Class::Service);
        EXECUTOR.run_until_idle();
        other.join().unwrap();
        EXECUTOR.run_until_idle();
        assert!(first.seen() && !second.seen());
        let task = EXECUTOR.tasks().next().unwrap();
        assert_eq!((task.polls, EXECUTOR.tasks().count()), (1, 1));
        EXECUTOR.abort(task.id);
        EXECUTOR.run_until_idle();
    });
}

/// A task ends while a wake of it from elsewhere is on its way to the inbox, and another begins and is woken from elsewhere
/// before the inbox is emptied: one slot would stand there twice.
#[test]
fn a_slot_is_not_used_again_while_its_task_is_linked() {
    check(|| {
        let (_, other) = woken_too_late();
        EXECUTOR.turn();
        let second = Cell::spawn(Class::Service);
        EXECUTOR.turn();
        deliver_to(&[second]);
        other.join().unwrap();
        EXECUTOR.run_until_idle();
        assert_eq!(EXECUTOR.tasks().count(), 0);
    });
}
