//! A CPU that leaves, against wakes of its tasks.

use executor::{Class, Platform, RetireError, SpawnOptions};
use loom::thread;

use super::{Cell, EXECUTOR, Model, be, check_bounded, run};

/// A task of CPU 1 is woken by a third party while CPU 1 leaves; CPU 0, its heir, polls it.
fn woken_while_its_cpu_leaves(class: Class) {
    check_bounded(2, move || {
        // Makes both CPUs known.
        EXECUTOR.turn();
        be(1);
        let cell = Cell::new();
        EXECUTOR
            .spawn_detached(SpawnOptions::new(class, "model").cpu(1), cell.wait())
            .unwrap();
        EXECUTOR.run_until_idle();
        be(0);
        let leaver = thread::spawn(|| {
            be(1);
            EXECUTOR.retire(1).unwrap();
            run(|| EXECUTOR.online() == 1);
        });
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
        EXECUTOR.turn();
        be(1);
        let cell = Cell::new();
        EXECUTOR
            .spawn_detached(SpawnOptions::new(Class::Service, "model").cpu(1), cell.wait())
            .unwrap();
        EXECUTOR.run_until_idle();
        be(0);
        let leaver = thread::spawn(|| {
            be(1);
            EXECUTOR.retire(1).unwrap();
            run(|| EXECUTOR.online() == 1);
        });
        cell.payload.store(7, loom::sync::atomic::Ordering::Relaxed);
        cell.waker().wake();
        run(|| cell.seen());
        leaver.join().unwrap();
        assert_eq!(Model::cpu(), 0);
    });
}
