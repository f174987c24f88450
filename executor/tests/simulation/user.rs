//! What calls a thread back from user mode.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use executor::{
    Class,
    simulation::{Machine, Sim, clock, executor, spin, stopped, visit_user},
    sleep_until, yield_now,
};

use super::{MS, options, spawn, users};

/// A wake of a thread in user mode calls it back at once, from another CPU as from its own.
#[test]
fn a_signal_reaches_user_mode() {
    for seed in 0..10 {
        let got = Arc::new(AtomicUsize::new(0));
        let count = got.clone();
        Machine::new(seed, 2, 200 * MS).run(
            || {
                let signals = Arc::new(AtomicUsize::new(0));
                let pending = signals.clone();
                let thread = async move {
                    while !stopped() {
                        if signals.swap(0, SeqCst) != 0 {
                            count.fetch_add(1, SeqCst);
                        }
                        if visit_user().is_err() {
                            yield_now().await;
                        }
                    }
                };
                let thread = executor()
                    .spawn(options(Class::User).cpu(0).affinity(1), thread)
                    .unwrap();
                let sender = async move {
                    for _ in 0..10 {
                        sleep_until::<Sim>(clock() + 5 * MS).await;
                        pending.store(1, SeqCst);
                        executor().wake_task(thread.id());
                    }
                };
                spawn(options(Class::Service).cpu(seed as u32 % 2), sender);
            },
            || (),
        );
        assert_eq!(got.load(SeqCst), 10, "seed {seed}");
    }
}

/// Between the gate and user mode a CPU wakes nothing: its word says that it is away, and so nobody would call it for what it
/// has just made ready.
#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "says that it leaves")]
fn a_wake_after_the_gate_is_refused() {
    Machine::new(0, 1, MS).run(
        || {
            let waiter = executor().spawn(options(Class::Service), std::future::pending::<()>());
            let id = waiter.unwrap().id();
            let thread = async move {
                let _visit = executor().try_enter_user().unwrap();
                executor().wake_task(id);
            };
            spawn(options(Class::User).cpu(0), thread);
        },
        || (),
    );
}

/// A spinner that is told to run elsewhere goes there at once and stays.
#[test]
fn affinity_is_obeyed() {
    for seed in 0..5 {
        Machine::new(seed, 3, 100 * MS).run(
            || {
                let thread = executor()
                    .spawn(options(Class::User).cpu(0).affinity(0b001), spin())
                    .unwrap();
                let mover = async move {
                    for cpu in [1, 2, 0, 2] {
                        sleep_until::<Sim>(clock() + 5 * MS).await;
                        assert!(executor().set_affinity(thread.id(), 1 << cpu));
                        sleep_until::<Sim>(clock() + 5 * MS).await;
                        assert_eq!(executor().task(thread.id()).unwrap().cpu, cpu, "seed {seed}");
                    }
                    assert!(!executor().set_affinity(thread.id(), 1 << 7));
                };
                spawn(options(Class::Service).cpu(seed as u32 % 3), mover);
            },
            || assert!(users(executor())[0].user_ns > 95 * MS),
        );
    }
}
