//! Who runs when, and how much of the time each gets.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use executor::{
    Class, Platform, WEIGHT_ONE, max_polls_per_turn,
    simulation::{self, Machine, Sim, clock, executor, random, spin, stopped, visit_user},
    sleep_until, yield_now,
};

use super::{MS, options, spawn, users};

fn shares(seed: u64, cpus: usize, weights: &[u32], until: u64) -> Vec<f64> {
    Machine::new(seed, cpus, until).run(
        || {
            for weight in weights {
                spawn(options(Class::User).weight(*weight), spin());
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

const SLICE: u64 = Sim::USER_SLICE;

/// A thread that comes, runs for all it can, and goes.
#[derive(Clone, Copy)]
struct Visit {
    weight: u32,
    comes: u64,
    goes: u64,
}

/// What a fluid of processor time, divided by weight among those present at every moment, would have given each visitor out of
/// the time that one CPU gave to all of them.
fn fluid(visits: &[Visit], given: u64) -> Vec<f64> {
    let mut moments: Vec<u64> = visits.iter().flat_map(|visit| [visit.comes, visit.goes]).collect();
    moments.sort_unstable();
    let mut shares = vec![0.0; visits.len()];
    for pair in moments.windows(2) {
        let there = |visit: &Visit| visit.comes <= pair[0] && pair[1] <= visit.goes;
        let weights: u32 = visits
            .iter()
            .filter(|visit| there(visit))
            .map(|visit| visit.weight)
            .sum();
        for (share, visit) in shares.iter_mut().zip(visits).filter(|(_, visit)| there(visit)) {
            *share += (pair[1] - pair[0]) as f64 * f64::from(visit.weight) / f64::from(weights);
        }
    }
    let total: f64 = shares.iter().sum();
    shares.iter().map(|share| share * given as f64 / total).collect()
}

/// A thread that spins is not starved by one that forks without end: to be new is no merit.
#[test]
fn newcomers_have_no_credit() {
    /// In user mode until it has been there for a while; then the next begins, and this one ends.
    fn link() {
        spawn(options(Class::User), async {
            let me = executor().current().unwrap();
            let spent = || executor().task(me).map_or(0, |task| task.user_ns);
            // Ends each visit soon.
            spawn(options(Class::Timer), sleep_until::<Sim>(clock() + 2 * MS));
            while spent() < MS {
                if visit_user().is_err() {
                    yield_now().await;
                }
            }
            link();
        });
    }
    simulation::seeds(0..10, |seed| {
        Machine::new(seed, 1, 1000 * MS).run(
            || {
                spawn(options(Class::User), spin());
                link();
            },
            || {
                let most = users(executor()).iter().map(|task| task.user_ns).max();
                assert!(most > Some(400 * MS), "seed {seed}: {most:?} ns of 1 s");
            },
        );
    });
}

/// Against the fluid: whoever comes and goes when, with whatever weight, nobody is further from its share of one CPU than three
/// slices, and the two slices' worth of virtual time by which a newcomer may be ahead of the others.
#[test]
fn shares_of_visitors_are_those_of_a_fluid() {
    simulation::seeds(0..200, |seed| {
        let visits = Arc::new(Mutex::new(Vec::new()));
        let (planned, done) = (visits.clone(), Arc::new(Mutex::new(Vec::new())));
        let given = done.clone();
        Machine::new(seed, 1, 600 * MS).run(
            move || {
                for n in 0..2 + random(4) as usize {
                    let visit = Visit {
                        weight: 300 + random(3000) as u32,
                        comes: random(150 * MS),
                        goes: 250 * MS + random(200 * MS),
                    };
                    planned.lock().unwrap().push(visit);
                    let given = given.clone();
                    spawn(options(Class::User).weight(visit.weight), async move {
                        sleep_until::<Sim>(visit.comes).await;
                        while clock() < visit.goes {
                            if visit_user().is_err() {
                                yield_now().await;
                            }
                        }
                        let me = executor().current().and_then(|id| executor().task(id)).unwrap();
                        given.lock().unwrap().push((n, me.user_ns));
                    });
                    // Ends whoever is in user mode when it is to go.
                    spawn(options(Class::Timer), sleep_until::<Sim>(visit.goes));
                }
            },
            || (),
        );
        let (visits, mut done) = (visits.lock().unwrap(), done.lock().unwrap());
        done.sort_unstable();
        assert_eq!(done.len(), visits.len(), "seed {seed}: all have gone");
        let fair = fluid(&visits, done.iter().map(|(_, ns)| ns).sum());
        for (((_, got), fair), visit) in done.iter().zip(fair).zip(visits.iter()) {
            let away = (*got as f64 - fair).abs();
            let ahead = (2 * SLICE) as f64 * f64::from(visit.weight) / f64::from(WEIGHT_ONE);
            assert!(
                away < ahead + (3 * SLICE) as f64,
                "seed {seed}: {away} ns from the share: {done:?}"
            );
        }
    });
}

/// A task that only sleeps and works a little gets its turn at once in spite of a spinner on its CPU.
#[test]
fn a_sleeper_preempts_a_spinner() {
    let worst = Arc::new(AtomicU64::new(0));
    let record = worst.clone();
    Machine::new(3, 1, 500 * MS).run(
        || {
            spawn(options(Class::User), spin());
            let sleeper = async move {
                while !stopped() {
                    let deadline = clock() + 10 * MS;
                    sleep_until::<Sim>(deadline).await;
                    record.fetch_max(clock() - deadline, SeqCst);
                }
                std::future::pending::<()>().await;
            };
            spawn(options(Class::User), sleeper);
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
                spawn(options(class), busy);
            }
            spawn(options(Class::User), spin());
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
                spawn(options(class), busy);
            }
            let service = async move {
                while !stopped() {
                    let before = polls.load(SeqCst);
                    yield_now().await;
                    record.fetch_max(polls.load(SeqCst) - before, SeqCst);
                }
            };
            spawn(options(Class::Service), service);
        },
        || (),
    );
    let worst = worst.load(SeqCst);
    assert!(
        worst > 0 && worst <= u64::from(max_polls_per_turn(DRIVERS)),
        "{worst} polls between two of a ready task"
    );
}
