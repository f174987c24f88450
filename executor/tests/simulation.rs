//! The executor on a simulated machine: what it promises, over many seeds.

#![cfg(not(loom))]

mod sim;

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
};

use executor::{
    Class, Executor, JoinError, SpawnOptions, TaskInfo, max_polls_per_turn, sleep_until,
    sync::{IrqCell, Notify, Semaphore},
    timeout, yield_now,
};
use sim::{Machine, Sim, clock, executor, random, spin, stop, stopped, visit_user};

const MS: u64 = 1_000_000;

fn options(class: Class) -> SpawnOptions {
    SpawnOptions::new(class, "simulated")
}

fn users(executor: &Executor<Sim>) -> Vec<TaskInfo> {
    executor.tasks().filter(|task| task.class == Class::User).collect()
}

/// A CPU's time is accounted for: user mode by weight, sleep, and little else here; also while it goes on.
#[test]
fn time_goes_where_it_was_spent() {
    const SECOND: u64 = 1000 * MS;
    for seed in 0..5 {
        let cpus = Machine::new(seed, 3, 10 * SECOND).run(
            || {
                let light = options(Class::User).cpu(1).affinity(2);
                let whole = options(Class::User).cpu(0).affinity(1);
                // Its share is lowered while it runs alone, with no other turn.
                let lowered = async {
                    let me = executor().current().unwrap();
                    executor().set_weight(me, executor::WEIGHT_ONE / 4);
                    spin().await
                };
                executor().spawn(light, lowered).unwrap().detach();
                executor().spawn(whole, spin()).unwrap().detach();
            },
            || executor().cpus().collect::<Vec<_>>(),
        );
        let shown = [
            (cpus[0].user_ns, [cpus[0].low_ns, cpus[0].idle_ns]),
            (cpus[1].low_ns, [cpus[1].user_ns, cpus[1].idle_ns]),
            (cpus[2].idle_ns, [cpus[2].user_ns, cpus[2].low_ns]),
        ];
        for (cpu, (spent, others)) in cpus.iter().zip(shown) {
            assert!(spent <= cpu.total_ns && spent > 9 * SECOND, "seed {seed}: {cpu:?}");
            assert!(others.iter().all(|other| *other < SECOND / 10), "seed {seed}: {cpu:?}");
        }
    }
}

/// Spinners on all CPUs, more than there are CPUs, and none: the averages are Linux's, and cost an idle machine nothing.
#[test]
fn load_averages_follow_the_runnable_tasks() {
    let minute = 60_000 * MS;
    let averages = |cpus, spinners: u32| {
        Machine::new(1, cpus, minute).run(
            || (0..spinners).for_each(|_| executor().spawn(options(Class::User), spin()).unwrap().detach()),
            || {
                let timers: u64 = executor().cpus().map(|cpu| cpu.timer_interrupts).sum();
                (executor().load_averages().map(|load| load as f64 / 65536.0), timers)
            },
        )
    };
    for (cpus, spinners) in [(4, 0), (4, 2), (4, 4), (2, 3)] {
        let (loads, timers) = averages(cpus, spinners);
        // 1 - e^-1, 1 - e^-0.2, 1 - e^-0.067 of the way after a minute, in periods of 5.01 s.
        for (load, way) in loads.into_iter().zip([0.6, 0.17, 0.058]) {
            let expected = f64::from(spinners) * way;
            assert!(
                (load - expected).abs() <= 0.1 * expected,
                "{spinners} on {cpus}: {loads:?}"
            );
        }
        // A slice or two until each has a CPU of its own; with a look every 5 s there would be twelve on each.
        assert!(spinners > cpus as u32 || timers < 10, "{timers} timer interrupts");
    }
}

/// Every sleep of many tasks on all CPUs ends, not early, once; also when a race with another future cancels half of them.
#[test]
fn sleeps_end_and_are_never_early() {
    for seed in 0..20 {
        let done = Arc::new(AtomicUsize::new(0));
        let count = done.clone();
        Machine::new(seed, 3, 60_000 * MS).run(
            || {
                for n in 0..30 {
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
                        if count.fetch_add(1, SeqCst) == 29 {
                            stop();
                        }
                    };
                    executor()
                        .spawn(options(class).cpu(n as u32 % 3), task)
                        .unwrap()
                        .detach();
                }
            },
            || {
                assert!(
                    executor().cpus().all(|cpu| cpu.timers == 0),
                    "a timer outlived its future"
                )
            },
        );
        assert_eq!(done.load(SeqCst), 30, "seed {seed}: a sleeper was lost");
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
        let mut machine = Machine::new(seed, 4, 10_000 * MS);
        machine.device_rate = 50;
        machine.run(
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
                            if count.fetch_add(1, SeqCst) == RINGS * TASKS - 1 {
                                stop();
                            }
                        };
                        executor()
                            .spawn(options(class).cpu(n as u32 % 4), task)
                            .unwrap()
                            .detach();
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
        let mut machine = Machine::new(seed, 2, 20 * MS);
        machine.device_rate = 20;
        machine.device = Box::new({
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
                executor().spawn(options(Class::Driver), driver).unwrap().detach();
                executor().spawn(options(Class::User), spin()).unwrap().detach();
            },
            || (),
        );
        let left = u64::from(cell.take());
        assert!(signalled.load(SeqCst) > 100);
        assert_eq!(served.load(SeqCst) + left, signalled.load(SeqCst), "seed {seed}");
        assert!(left <= 10, "seed {seed}: {left} signals were left waiting");
    }
}

fn shares(seed: u64, cpus: usize, weights: &[u32], until: u64) -> Vec<f64> {
    Machine::new(seed, cpus, until).run(
        || {
            for weight in weights {
                executor()
                    .spawn(options(Class::User).weight(*weight), spin())
                    .unwrap()
                    .detach();
            }
        },
        || {
            users(executor())
                .iter()
                .map(|task| task.user_ns as f64 / until as f64)
                .collect()
        },
    )
}

/// Five spinners on four CPUs get four fifths of a CPU each; other crowds likewise.
#[test]
fn spinners_share_all_cpus() {
    for seed in 0..4 {
        for (cpus, count) in [(4, 5), (4, 4), (4, 7), (2, 3), (3, 10)] {
            let shares = shares(seed, cpus, &vec![1024; count], 1500 * MS);
            let fair = cpus as f64 / count as f64;
            assert_eq!(shares.len(), count);
            for share in &shares {
                assert!(
                    (share / fair.min(1.0) - 1.0).abs() < 0.12,
                    "{count} on {cpus}, seed {seed}: {shares:?}"
                );
            }
        }
    }
}

/// On one CPU shares go by weight.
#[test]
fn shares_follow_weights() {
    let shares = shares(1, 1, &[1024, 2048, 512], 1000 * MS);
    for (share, fair) in shares.iter().zip([2.0 / 7.0, 4.0 / 7.0, 1.0 / 7.0]) {
        assert!((share / fair - 1.0).abs() < 0.1, "{shares:?}");
    }
}

/// A task that only sleeps and works a little gets its turn at once in spite of a spinner on its CPU.
#[test]
fn a_sleeper_preempts_a_spinner() {
    let worst = Arc::new(AtomicU64::new(0));
    let record = worst.clone();
    Machine::new(3, 1, 500 * MS).run(
        || {
            executor().spawn(options(Class::User), spin()).unwrap().detach();
            let sleeper = async move {
                while !stopped() {
                    let deadline = clock() + 10 * MS;
                    sleep_until::<Sim>(deadline).await;
                    record.fetch_max(clock() - deadline, SeqCst);
                }
                std::future::pending::<()>().await;
            };
            executor().spawn(options(Class::User), sleeper).unwrap().detach();
        },
        || assert!(users(executor())[1].polls > 30),
    );
    assert!(worst.load(SeqCst) < 5 * MS, "late by {} ns", worst.load(SeqCst));
}

/// Drivers and services that never rest leave user mode its share, and each other theirs.
#[test]
fn nothing_starves() {
    Machine::new(5, 1, 300 * MS).run(
        || {
            for class in [
                Class::Driver,
                Class::Driver,
                Class::Timer,
                Class::Service,
                Class::Service,
            ] {
                let busy = async {
                    while !stopped() {
                        yield_now().await;
                    }
                    std::future::pending::<()>().await;
                };
                executor().spawn(options(class), busy).unwrap().detach();
            }
            executor().spawn(options(Class::User), spin()).unwrap().detach();
        },
        || {
            let user = users(executor())[0];
            assert!(user.user_ns > 30 * MS, "user mode got {} of 300 ms", user.user_ns / MS);
            let total = executor().cpu(0).unwrap().polls;
            for task in executor().tasks().filter(|task| task.class != Class::User) {
                assert!(
                    task.polls > total / 100,
                    "{:?} was polled {} of {total} times",
                    task.class,
                    task.polls
                );
            }
        },
    );
}

/// A ready task of the lowest kernel class is polled within a turn's polls.
#[test]
fn a_ready_task_waits_for_a_bounded_number_of_polls() {
    /// Some of them on the second level.
    const DRIVERS: u32 = 80;
    let worst = Arc::new(AtomicU64::new(0));
    let record = worst.clone();
    Machine::new(7, 1, 100 * MS).run(
        || {
            let polls = Arc::new(AtomicU64::new(0));
            for n in 0..DRIVERS + 4 {
                let polls = polls.clone();
                let class = if n < DRIVERS { Class::Driver } else { Class::Timer };
                let busy = async move {
                    while !stopped() {
                        polls.fetch_add(1, SeqCst);
                        yield_now().await;
                    }
                };
                executor().spawn(options(class), busy).unwrap().detach();
            }
            let service = async move {
                while !stopped() {
                    let before = polls.load(SeqCst);
                    yield_now().await;
                    record.fetch_max(polls.load(SeqCst) - before, SeqCst);
                }
            };
            executor().spawn(options(Class::Service), service).unwrap().detach();
        },
        || (),
    );
    let worst = worst.load(SeqCst);
    assert!(
        worst > 0 && worst <= u64::from(max_polls_per_turn(DRIVERS)),
        "{worst} polls between two of a ready task"
    );
}

/// No tick: neither on an idle machine, nor for a lone spinner.
#[test]
fn no_tick_without_need() {
    Machine::new(1, 4, 5_000 * MS).run(
        || executor().spawn(options(Class::User), spin()).unwrap().detach(),
        || {
            for cpu in executor().cpus() {
                assert_eq!((cpu.timer_interrupts, cpu.ipis_received), (0, 0), "CPU {}", cpu.cpu);
            }
            assert!(users(executor())[0].user_ns > 4_990 * MS);
        },
    );
}

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
                executor()
                    .spawn(options(Class::Service).cpu(seed as u32 % 2), sender)
                    .unwrap()
                    .detach();
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
                executor().try_enter_user().unwrap();
                executor().wake_task(id);
            };
            executor().spawn(options(Class::User).cpu(0), thread).unwrap().detach();
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
                executor()
                    .spawn(options(Class::Service).cpu(seed as u32 % 3), mover)
                    .unwrap()
                    .detach();
            },
            || assert!(users(executor())[0].user_ns > 95 * MS),
        );
    }
}

/// Tasks that sleep, wait, spin in user mode or are ready are aborted at random: each future is dropped once, by a CPU,
/// and its join says so.
#[test]
fn abort_drops_every_future_once() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    for seed in 0..20 {
        const TASKS: usize = 24;
        let (drops, joined) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (dropped, counted) = (drops.clone(), joined.clone());
        Machine::new(seed, 3, 10_000 * MS).run(
            || {
                let never: Arc<Notify<executor::RawSpinLock>> = Arc::default();
                let mut handles = Vec::new();
                for n in 0..TASKS {
                    let (mark, never) = (Counted(dropped.clone()), never.clone());
                    let class = [Class::Service, Class::User, Class::Driver, Class::User][n % 4];
                    let task = async move {
                        let _mark = mark;
                        match n % 6 {
                            0 => sleep_until::<Sim>(clock() + random(20 * MS)).await,
                            1 if class == Class::User => spin().await,
                            2 => never.notified().await,
                            3 => sleep_until::<Sim>(u64::MAX).await,
                            _ => {
                                for _ in 0..random(50) {
                                    yield_now().await;
                                }
                            }
                        }
                    };
                    handles.push(executor().spawn(options(class).cpu(n as u32 % 3), task).unwrap());
                }
                let judge = async move {
                    for handle in &handles {
                        if random(3) != 0 {
                            sleep_until::<Sim>(clock() + random(MS)).await;
                        }
                        handle.abort();
                        if random(2) == 0 {
                            handle.abort();
                        }
                    }
                    for handle in handles {
                        if random(4) == 0 {
                            drop(handle);
                        } else {
                            assert!(matches!(handle.await, Ok(()) | Err(JoinError::Aborted)));
                        }
                        counted.fetch_add(1, SeqCst);
                    }
                    while executor().tasks().count() > 1 {
                        yield_now().await;
                    }
                    stop();
                };
                executor().spawn(options(Class::Service), judge).unwrap().detach();
            },
            || assert_eq!(executor().tasks().count(), 0, "seed {seed}: a slot was not freed"),
        );
        assert_eq!(joined.load(SeqCst), TASKS, "seed {seed}: a join never came");
        assert_eq!(drops.load(SeqCst), TASKS, "seed {seed}");
    }
}

/// The same seed gives the same run.
#[test]
fn a_seed_replays() {
    let run = |seed| {
        Machine::new(seed, 3, 100 * MS).run(
            || (0..5).for_each(|_| executor().spawn(options(Class::User), spin()).unwrap().detach()),
            || {
                executor()
                    .tasks()
                    .map(|task| (task.polls, task.run_ns))
                    .collect::<Vec<_>>()
            },
        )
    };
    assert_eq!(run(9), run(9));
    assert_ne!(run(9), run(10));
}
