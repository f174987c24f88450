//! Real-time threads: who runs, where, and what the others are left.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use executor::{
    Class, JoinError, RUNTIME_NS, RealTime, TaskId, WEIGHT_ONE,
    simulation::{self, Machine, Sim, clock, executor, random, spin, stop, stopped, visit_user},
    sleep_until, yield_now,
};

use super::{MS, options, spawn};

const SECOND: u64 = 1000 * MS;

/// Spawns a spinner on a CPU, of the CPUs of `mask`.
fn spinner(how: RealTime, cpu: u32, mask: u64) -> TaskId {
    let options = options(Class::User).real_time(how).cpu(cpu).affinity(mask);
    executor().spawn_detached(options, spin()).unwrap()
}

/// Nanoseconds of user mode, in milliseconds.
fn ran(id: TaskId) -> u64 {
    executor().task(id).map_or(0, |task| task.user_ns / MS)
}

/// In user mode until `end`, for which something has to call it back.
async fn work_until(end: u64) {
    spawn(options(Class::Timer), sleep_until::<Sim>(end));
    while clock() < end && !stopped() {
        if visit_user().is_err() {
            yield_now().await;
        }
    }
}

/// Runs spinners on one CPU; how many milliseconds each got.
fn shares(until: u64, spinners: &[RealTime]) -> Vec<u64> {
    let ids = Arc::new(Mutex::new(Vec::new()));
    let made = ids.clone();
    let spinners = spinners.to_vec();
    Machine::new(1, 1, until).run(
        move || {
            made.lock()
                .unwrap()
                .extend(spinners.iter().map(|how| spinner(*how, 0, 1)))
        },
        || ids.lock().unwrap().iter().map(|id| ran(*id)).collect(),
    )
}

/// Of several that spin the highest priority has it all; of equals the first, or each in turn.
#[test]
fn priority_decides_and_turns_are_taken() {
    let (fifo, turns) = (RealTime::fifo, RealTime::round_robin);
    let about = |spinners: &[RealTime], expected: &[u64]| {
        let got = shares(SECOND / 2, spinners);
        let near = got
            .iter()
            .zip(expected)
            .all(|(got, expected)| got.abs_diff(*expected) <= 5);
        assert!(near && got.len() == expected.len(), "{spinners:?} got {got:?} ms");
    };
    about(&[fifo(3), fifo(9), fifo(5)], &[0, 500, 0]);
    about(&[fifo(3), fifo(3)], &[500, 0]);
    about(&[turns(3), turns(3)], &[300, 200]);
    about(&[turns(3), turns(3), turns(3), turns(3)], &[200, 100, 100, 100]);
    // One that takes turns gives way to an equal that does not, which keeps the CPU.
    about(&[turns(3), fifo(3)], &[100, 400]);
}

/// Fair threads that wait are left a twentieth, whatever the real-time ones do; if none waits nothing is kept for them, and no
/// timer looks after it.
#[test]
fn fair_threads_keep_a_twentieth() {
    let fifo = RealTime::fifo;
    let shared = shares(4 * SECOND, &[fifo(3), RealTime::NONE, fifo(9), RealTime::NONE]);
    let fair = shared[1] + shared[3];
    assert!(
        (195..=205).contains(&fair) && shared[1].abs_diff(shared[3]) < 10,
        "{shared:?}"
    );
    assert!(shared[0] == 0 && shared[2] > 4 * RUNTIME_NS / MS - 5, "{shared:?}");
    let timers = Machine::new(1, 1, 4 * SECOND).run(
        || _ = spinner(fifo(3), 0, 1),
        || executor().cpu(0).unwrap().timer_interrupts,
    );
    assert_eq!(timers, 0);
}

/// A fair thread that comes when the real-time share is used up has the CPU at once.
#[test]
fn what_is_used_up_is_not_lent() {
    let late = Arc::new(AtomicU64::new(u64::MAX));
    let record = late.clone();
    Machine::new(2, 1, 980 * MS).run(
        || {
            spinner(RealTime::fifo(50), 0, 1);
            spawn(options(Class::User).cpu(0), async move {
                sleep_until::<Sim>(960 * MS).await;
                record.store(clock() - 960 * MS, SeqCst);
            });
        },
        || (),
    );
    assert!(late.load(SeqCst) < MS, "{late:?}");
}

/// Who is preempted goes on before its equals; who yields goes behind them.
#[test]
fn the_preempted_goes_on_and_the_yielding_goes_behind() {
    Machine::new(4, 1, 100 * MS).run(
        || {
            let first = spinner(RealTime::fifo(5), 0, 1);
            let second = spinner(RealTime::fifo(5), 0, 1);
            let third = options(Class::User).real_time(RealTime::fifo(9)).cpu(0);
            spawn(third, async move {
                for n in 1..10 {
                    sleep_until::<Sim>(n * 5 * MS).await;
                    assert_eq!(ran(second), 0);
                }
                assert!(ran(first) > 40);
            });
        },
        || (),
    );
    let order = Arc::new(Mutex::new(Vec::new()));
    let log = order.clone();
    Machine::new(4, 1, 100 * MS).run(
        move || {
            for n in 0..3 {
                let log = log.clone();
                spawn(options(Class::User).real_time(RealTime::fifo(5)).cpu(0), async move {
                    for _ in 0..3 {
                        log.lock().unwrap().push(n);
                        // As an interrupt's wake would have it: stays in front.
                        yield_now().await;
                        executor().note_yield();
                        yield_now().await;
                    }
                });
            }
        },
        || (),
    );
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 0, 1, 2, 0, 1, 2]);
}

/// A real-time thread has its CPU at once from a fair one and from a lower one, whoever wakes it and where.
#[test]
fn a_wake_preempts() {
    for seed in 0..10 {
        let worst = Arc::new(AtomicU64::new(0));
        let record = worst.clone();
        Machine::new(seed, 2, 300 * MS).run(
            || {
                spinner(RealTime::fifo(3), 0, 1);
                spinner(RealTime::NONE, 0, 1);
                spinner(RealTime::NONE, 1, 2);
                let woken = Arc::new(AtomicU64::new(0));
                let sent = woken.clone();
                let options_of = |cpu: u32| options(Class::User).real_time(RealTime::fifo(7)).cpu(cpu);
                let sleeper = executor().spawn_detached(
                    options_of(0).affinity(1 << (seed % 2)).cpu(seed as u32 % 2),
                    async move {
                        while !stopped() {
                            let at = sent.swap(0, SeqCst);
                            if at != 0 {
                                record.fetch_max(clock() - at, SeqCst);
                            }
                            let mut polled = false;
                            std::future::poll_fn(|_| {
                                let ready = polled || sent.load(SeqCst) != 0;
                                polled = true;
                                if ready {
                                    std::task::Poll::Ready(())
                                } else {
                                    std::task::Poll::Pending
                                }
                            })
                            .await;
                        }
                    },
                );
                let id = sleeper.unwrap();
                spawn(options(Class::Service).cpu(seed as u32 / 2 % 2), async move {
                    loop {
                        sleep_until::<Sim>(clock() + 5 * MS).await;
                        woken.store(clock(), SeqCst);
                        executor().wake_task(id);
                    }
                });
            },
            || (),
        );
        let worst = worst.load(SeqCst);
        assert!(worst != 0 && worst < MS / 4, "seed {seed}: {worst} ns");
    }
}

/// As many as there are CPUs run: those of the highest priorities, wherever they began and whatever is changed meanwhile.
#[test]
fn the_most_urgent_run_everywhere() {
    simulation::seeds(0..60, |seed| {
        const CPUS: usize = 3;
        Machine::new(seed, CPUS, 10 * SECOND).run(
            move || {
                for cpu in 0..CPUS as u32 {
                    spinner(RealTime::NONE, cpu, u64::MAX);
                }
                spawn(options(Class::Service), async move {
                    while executor().online() != 0b111 {
                        sleep_until::<Sim>(clock() + MS / 10).await;
                    }
                    let mut tasks: Vec<(u8, TaskId)> = (0..6)
                        .map(|n| {
                            let priority = 10 + 10 * n + random(10) as u8;
                            let how = RealTime::fifo(priority);
                            (priority, spinner(how, random(CPUS as u64) as u32, u64::MAX))
                        })
                        .collect();
                    for _ in 0..8 {
                        sleep_until::<Sim>(clock() + MS).await;
                        let before: Vec<u64> = tasks.iter().map(|(_, id)| ran(*id)).collect();
                        sleep_until::<Sim>(clock() + 20 * MS).await;
                        tasks.iter().zip(before).for_each(|((priority, id), before)| {
                            let higher = tasks.iter().filter(|(other, _)| other > priority).count();
                            let got = ran(*id) - before;
                            let right = if higher < CPUS { got >= 18 } else { got == 0 };
                            assert!(right, "priority {priority}, {higher} above it: {got} ms");
                        });
                        // Another order: no two alike.
                        let changed = random(6) as usize;
                        let priority = loop {
                            let priority = 1 + random(99) as u8;
                            if tasks.iter().all(|(other, _)| *other != priority) {
                                break priority;
                            }
                        };
                        tasks[changed].0 = priority;
                        let how = RealTime::fifo(priority);
                        assert!(executor().set_policy(tasks[changed].1, WEIGHT_ONE, how));
                    }
                    stop();
                });
            },
            || (),
        );
    });
}

/// What waits behind a real-time thread goes where one has ended, or only fair ones run, as its mask allows.
#[test]
fn a_cpu_that_has_done_takes_what_waits() {
    for seed in 0..20 {
        Machine::new(seed, 2, 200 * MS).run(
            || {
                spinner(RealTime::fifo(20), 0, 1);
                spinner(RealTime::NONE, 1, 2);
                let ends = options(Class::User).real_time(RealTime::fifo(20)).cpu(1).affinity(2);
                spawn(ends, work_until(50 * MS));
                let waits = spinner(RealTime::round_robin(10), 0, 3);
                let bound = spinner(RealTime::fifo(15), 0, 1);
                spawn(options(Class::Service), async move {
                    sleep_until::<Sim>(49 * MS).await;
                    assert_eq!(ran(waits), 0);
                    sleep_until::<Sim>(100 * MS).await;
                    assert!(ran(waits) >= 48, "{} ms", ran(waits));
                    assert!(executor().set_affinity(waits, 1));
                    assert!(executor().set_affinity(bound, 3));
                    sleep_until::<Sim>(150 * MS).await;
                    assert!(
                        ran(waits) <= 52 && ran(bound) >= 48,
                        "{} and {} ms",
                        ran(waits),
                        ran(bound)
                    );
                });
            },
            || (),
        );
    }
}

/// Fair threads leave a CPU that a real-time one keeps.
#[test]
fn fair_threads_go_elsewhere() {
    for seed in 0..10 {
        Machine::new(seed, 2, 500 * MS).run(
            || {
                spinner(RealTime::fifo(1), 0, 1);
                let fair = [0, 0, 1].map(|cpu| spinner(RealTime::NONE, cpu, 3));
                spawn(options(Class::Service), async move {
                    sleep_until::<Sim>(490 * MS).await;
                    let ran = fair.map(ran);
                    assert!(ran.iter().all(|ran| *ran > 140), "{ran:?}");
                });
            },
            || (),
        );
    }
}

/// An abort reaches one that waits in the queue, whatever its policy, and the next in it.
#[test]
fn a_queued_one_can_be_aborted() {
    for seed in 0..10 {
        Machine::new(seed, 2, SECOND).run(
            || {
                spinner(RealTime::fifo(50), 0, 1);
                let options = options(Class::User).real_time(RealTime::round_robin(60));
                let top = executor().spawn(options.cpu(0).affinity(1), spin()).unwrap();
                let queued = options.real_time(RealTime::fifo(40)).cpu(0).affinity(1);
                let queued = executor().spawn(queued, spin()).unwrap();
                spawn(super::options(Class::Service).cpu(1), async move {
                    sleep_until::<Sim>(clock() + random(MS)).await;
                    queued.abort();
                    sleep_until::<Sim>(clock() + random(MS)).await;
                    top.abort();
                    assert_eq!(top.await, Err(JoinError::Aborted));
                    // Its turn comes when it is the first.
                    executor().set_policy(queued.id(), WEIGHT_ONE, RealTime::fifo(70));
                    assert_eq!(queued.await, Err(JoinError::Aborted));
                    stop();
                });
            },
            || assert!(clock() < SECOND, "an abort was not answered"),
        );
    }
}

/// A thread that runs becomes fair, urgent again, and of another priority: at once each time.
#[test]
fn a_running_one_can_be_changed() {
    Machine::new(1, 1, SECOND).run(
        || {
            let one = spinner(RealTime::fifo(30), 0, 1);
            let other = spinner(RealTime::fifo(20), 0, 1);
            spawn(options(Class::Service), async move {
                let steps = [
                    (RealTime::fifo(10), false),
                    (RealTime::fifo(25), true),
                    (RealTime::NONE, false),
                    (RealTime::round_robin(21), true),
                    // Before its new equal, since it comes from above.
                    (RealTime::fifo(20), true),
                ];
                for (how, runs) in steps {
                    executor().set_policy(one, WEIGHT_ONE, how);
                    let before = (ran(one), ran(other));
                    sleep_until::<Sim>(clock() + 10 * MS).await;
                    let got = (ran(one) - before.0, ran(other) - before.1);
                    let (more, less) = if runs { got } else { (got.1, got.0) };
                    assert!(more >= 9 && less <= 1, "{how:?}: {got:?}");
                }
                stop();
            });
        },
        || (),
    );
}
