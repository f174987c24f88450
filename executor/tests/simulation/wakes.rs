//! Wakes by tasks, by timers and by devices: none is lost.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
};

use executor::{
    Class,
    simulation::{Machine, Sim, clock, executor, random, spin},
    sleep_until,
    sync::{IrqCell, Semaphore},
    timeout, yield_now,
};

use super::{MS, arrive, options, spawn};

/// Every sleep of many tasks on all CPUs ends, not early, once; also when a race with another future cancels half of them.
#[test]
fn sleeps_end_and_are_never_early() {
    const TASKS: usize = 30;
    for seed in 0..20 {
        let done = Arc::new(AtomicUsize::new(0));
        let count = done.clone();
        Machine::new(seed, 3, 60_000 * MS).run(
            || {
                for n in 0..TASKS {
                    let count = count.clone();
                    let class = [Class::Timer, Class::Service, Class::User][n % 3];
                    let task = async move {
                        for _ in 0..10 {
                            let deadline = clock() + random(1 << random(30));
                            sleep_until::<Sim>(deadline).await;
                            assert!(clock() >= deadline, "early");
                            let (outer, inner) = (clock() + random(MS), clock() + random(MS));
                            let raced = timeout::<Sim, _>(outer, sleep_until::<Sim>(inner)).await;
                            assert!(clock() >= outer.min(inner), "early");
                            assert!(raced.is_ok() || clock() >= outer);
                        }
                        arrive(&count, TASKS);
                    };
                    spawn(options(class).cpu(n as u32 % 3), task);
                }
            },
            || {
                assert!(
                    executor().cpus().all(|cpu| cpu.timers == 0),
                    "a timer outlived its future"
                )
            },
        );
        assert_eq!(done.load(SeqCst), TASKS, "seed {seed}: a sleeper was lost");
    }
}

/// Tokens go round rings of tasks of all classes over all CPUs, while devices interrupt: none is lost.
#[test]
fn no_wake_is_lost() {
    for seed in 0..20 {
        const RINGS: usize = 3;
        const TASKS: usize = 6;
        const ROUNDS: usize = 60;
        let finished = Arc::new(AtomicUsize::new(0));
        let count = finished.clone();
        Machine::new(seed, 4, 10_000 * MS).device(50, || {}).run(
            || {
                for ring in 0..RINGS {
                    let links: Arc<Vec<Semaphore<executor::RawSpinLock>>> =
                        Arc::new((0..TASKS).map(|_| Semaphore::new(0)).collect());
                    for n in 0..TASKS {
                        let (links, count) = (links.clone(), count.clone());
                        let class = [Class::Driver, Class::Timer, Class::Service, Class::User][(n + ring) % 4];
                        let task = async move {
                            for _ in 0..ROUNDS {
                                links[n].acquire(1).await.unwrap().forget();
                                if random(4) == 0 {
                                    yield_now().await;
                                }
                                links[(n + 1) % TASKS].release(1);
                            }
                            arrive(&count, RINGS * TASKS);
                        };
                        spawn(options(class).cpu(n as u32 % 4), task);
                    }
                    links[0].release(1);
                }
            },
            || (),
        );
        assert_eq!(finished.load(SeqCst), RINGS * TASKS, "seed {seed}: a token was lost");
    }
}

/// Device interrupts reach their driver whatever the CPUs do: each signal is counted once.
#[test]
fn interrupts_reach_their_driver() {
    for seed in 0..10 {
        let cell = Arc::new(IrqCell::new());
        let (signalled, served) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let machine = Machine::new(seed, 2, 20 * MS).device(20, {
            let (cell, signalled) = (cell.clone(), signalled.clone());
            move || {
                signalled.fetch_add(1, SeqCst);
                cell.signal();
            }
        });
        let driver = {
            let (cell, served) = (cell.clone(), served.clone());
            async move {
                loop {
                    served.fetch_add(u64::from(cell.wait().await), SeqCst);
                }
            }
        };
        machine.run(
            || {
                spawn(options(Class::Driver), driver);
                spawn(options(Class::User), spin());
            },
            || (),
        );
        let left = u64::from(cell.take());
        assert!(signalled.load(SeqCst) > 100);
        assert_eq!(served.load(SeqCst) + left, signalled.load(SeqCst), "seed {seed}");
        assert!(left <= 10, "seed {seed}: {left} signals were left waiting");
    }
}
