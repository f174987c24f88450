//! A CPU that leaves, against wakes of its tasks.

use executor::{Class, RetireError, SpawnOptions};
use loom::{sync::atomic::Ordering::Relaxed, thread};

use super::{Cell, EXECUTOR, be, check_bounded, run};

/// A task of CPU 1 that waits, once both CPUs are known.
fn task_of_the_other(class: Class) -> Cell {
    EXECUTOR.turn();
    be(1);
    let cell = Cell::new();
    let options = SpawnOptions::new(class, "model").cpu(1);
    EXECUTOR.spawn_detached(options, cell.wait()).unwrap();
    EXECUTOR.run_until_idle();
    be(0);
    cell
}

/// CPU 1 leaves.
fn leave() -> thread::JoinHandle<()> {
    thread::spawn(|| {
        be(1);
        EXECUTOR.retire(1).unwrap();
        run(|| EXECUTOR.online() == 1);
    })
}

/// A task of CPU 1 is woken by a third party while CPU 1 leaves; CPU 0, its heir, polls it.
fn woken_while_its_cpu_leaves(class: Class) {
    check_bounded(2, move || {
        let cell = task_of_the_other(class);
        let leaver = leave();
        let other = cell.deliver();
        run(|| cell.seen());
        leaver.join().unwrap();
        other.join().unwrap();
        EXECUTOR.run_until_idle();
        assert_eq!(EXECUTOR.tasks().count(), 0);
        assert_eq!(EXECUTOR.retire(0), Err(RetireError::LastCpu));
        assert_eq!(EXECUTOR.retire(1), Err(RetireError::NotOnline));
    });
}

#[test]
fn a_service_task_is_inherited() {
    woken_while_its_cpu_leaves(Class::Service);
}

#[test]
fn a_driver_is_inherited() {
    woken_while_its_cpu_leaves(Class::Driver);
}

#[test]
fn a_user_task_is_inherited() {
    woken_while_its_cpu_leaves(Class::User);
}

/// As above; the task that leaves its CPU is woken by the heir.
#[test]
fn an_heir_wakes_what_it_inherits() {
    check_bounded(2, || {
        let cell = task_of_the_other(Class::Service);
        let leaver = leave();
        cell.payload.store(7, Relaxed);
        cell.waker().wake();
        run(|| cell.seen());
        leaver.join().unwrap();
        EXECUTOR.run_until_idle();
        assert_eq!(EXECUTOR.tasks().count(), 0);
    });
}
