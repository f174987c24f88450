//! What CPUs and tasks are said to have done.

use executor::Class;

use executor::simulation::{Machine, executor, spin};

use super::{MS, options, spawn, users};

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
                    executor().set_policy(me, executor::WEIGHT_ONE / 4, executor::RealTime::NONE);
                    spin().await
                };
                spawn(light, lowered);
                spawn(whole, spin());
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
            || (0..spinners).for_each(|_| spawn(options(Class::User), spin())),
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

/// No tick: neither on an idle machine, nor for a lone spinner.
#[test]
fn no_tick_without_need() {
    Machine::new(1, 4, 5_000 * MS).run(
        || spawn(options(Class::User), spin()),
        || {
            for cpu in executor().cpus() {
                assert_eq!((cpu.timer_interrupts, cpu.ipis_received), (0, 0), "CPU {}", cpu.cpu);
            }
            assert!(users(executor())[0].user_ns > 4_990 * MS);
        },
    );
}
