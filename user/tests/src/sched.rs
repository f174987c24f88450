//! Who runs where, when and for how long; clocks and sleeps.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::{
    programs::Random,
    sys::{self, fork, wait_killed},
    syscall,
};

crate::tests! { "sched":
    as_many_spin_at_once_as_there_are_cpus (60);
    one_more_gets_its_share (60);
    a_spinner_is_preempted;
    affinity_holds;
    sleeps_are_never_early;
    clocks_go_forward;
    yields_go_round;
    cpu_time_is_counted;
    a_sleeper_among_spinners_wakes_in_time (60);
}

/// A child that publishes its CPU and counts, until killed.
fn spinner(cpu: &'static AtomicU64, count: &'static AtomicU64) -> i32 {
    fork(|| {
        loop {
            cpu.store(sys::cpu() as u64 + 1, SeqCst);
            for _ in 0..1000 {
                count.fetch_add(1, SeqCst);
            }
        }
    })
}

fn end(children: Vec<i32>) {
    for child in &children {
        let _ = sys::kill(*child, libc::SIGKILL);
    }
    children
        .into_iter()
        .for_each(|child| assert_eq!(wait_killed(child), libc::SIGKILL));
}

/// The CPU time of a process, running or not.
fn cpu_time(pid: i32) -> u64 {
    sys::clock(!pid << 3 | 2)
}

/// Four children (fewer on fewer CPUs) spin, and together use that many times the time that passes: nothing but running at
/// the same time gives that. Time is the machine's own, so a busy host does not matter.
fn as_many_spin_at_once_as_there_are_cpus() {
    const WINDOW_MS: u64 = 1000;
    let count = sys::cpus().len().min(4);
    let counters = sys::shared_counters(2 * count);
    let (places, counts) = counters.split_at(count);
    let children: Vec<i32> = (0..count).map(|own| spinner(&places[own], &counts[own])).collect();
    sys::sleep_ms(300);
    let started = sys::now();
    let total = || children.iter().map(|child| cpu_time(*child)).sum::<u64>();
    let (before, progress): (u64, Vec<u64>) = (total(), counts.iter().map(|count| count.load(SeqCst)).collect());
    sys::sleep_ms(WINDOW_MS);
    let (used, passed) = (total() - before, sys::now() - started);
    let on: std::collections::BTreeSet<u64> = places.iter().map(|place| place.load(SeqCst)).collect();
    let all_moved = counts
        .iter()
        .zip(&progress)
        .all(|(count, before)| count.load(SeqCst) > *before);
    end(children);
    assert!(all_moved, "a spinner made no progress");
    assert_eq!(on.len(), count, "the spinners were on {on:?} (from 1) in the end");
    assert!(
        used * 10 > passed * count as u64 * 8,
        "{count} spinners used {used} ns of CPU in {passed} ns"
    );
}

fn one_more_gets_its_share() {
    let count = sys::cpus().len() + 1;
    let counters = sys::shared_counters(2 * count);
    let (places, counts) = counters.split_at(count);
    let children: Vec<i32> = (0..count).map(|own| spinner(&places[own], &counts[own])).collect();
    sys::sleep_ms(300);
    let before: Vec<u64> = children.iter().map(|child| cpu_time(*child)).collect();
    sys::sleep_ms(4000);
    let used: Vec<u64> = children
        .iter()
        .zip(before)
        .map(|(child, before)| cpu_time(*child) - before)
        .collect();
    end(children);
    let fair = used.iter().sum::<u64>() / count as u64;
    assert!(
        used.iter().all(|used| *used > fair / 2),
        "shares of CPU time in ns: {used:?}"
    );
}

fn a_spinner_is_preempted() {
    let counters = sys::shared_counters(4);
    let first = *sys::cpus().first().expect("a CPU");
    sys::pin(&[first]);
    let children = vec![spinner(&counters[0], &counters[1]), spinner(&counters[2], &counters[3])];
    let mut seen = (0, 0);
    for _ in 0..10 {
        sys::sleep_ms(50);
        let now = (counters[1].load(SeqCst), counters[3].load(SeqCst));
        if now.0 > seen.0 && now.1 > seen.1 {
            seen = now;
        }
    }
    end(children);
    assert!(seen.0 > 0 && seen.1 > 0, "one starved on CPU {first}: {seen:?}");
}

fn affinity_holds() {
    let cpus = sys::cpus();
    for &cpu in &cpus {
        sys::pin(&[cpu]);
        assert_eq!(sys::cpus(), [cpu]);
        for _ in 0..20 {
            assert_eq!(sys::cpu(), cpu);
            let _ = syscall!(SYS_sched_yield);
        }
        sys::in_child(|| assert_eq!((sys::cpus(), sys::cpu()), (vec![cpu], cpu), "fork hands it down"));
    }
    let none = [0u64; 16];
    assert_eq!(
        syscall!(SYS_sched_setaffinity, 0, 128, none.as_ptr()),
        Err(libc::EINVAL)
    );
    assert_eq!(
        syscall!(SYS_sched_setaffinity, 0x3fff_ffff, 128, [1u64; 16].as_ptr()),
        Err(libc::ESRCH)
    );
}

fn sleeps_are_never_early() {
    let mut random = Random(3);
    for _ in 0..100 {
        let length = random.next() % 5_000_000;
        let time = sys::timespec(length);
        let started = sys::now();
        syscall!(SYS_nanosleep, &raw const time, 0).expect("nanosleep");
        assert!(
            sys::now() - started >= length,
            "{length} ns were {} ns",
            sys::now() - started
        );
    }
    let past = sys::timespec(1);
    assert_eq!(
        syscall!(SYS_clock_nanosleep, 1, libc::TIMER_ABSTIME, &raw const past, 0),
        Ok(0)
    );
    let bad = libc::timespec {
        tv_sec: 0,
        tv_nsec: 1_000_000_000,
    };
    assert_eq!(syscall!(SYS_nanosleep, &raw const bad, 0), Err(libc::EINVAL));
    let negative = libc::timespec { tv_sec: -1, tv_nsec: 0 };
    assert_eq!(syscall!(SYS_nanosleep, &raw const negative, 0), Err(libc::EINVAL));
    assert_eq!(
        syscall!(SYS_clock_nanosleep, 99, 0, &raw const past, 0),
        Err(libc::EINVAL)
    );
}

fn clocks_go_forward() {
    let counters = sys::shared_counters(1);
    let cpus = sys::cpus();
    let children: Vec<i32> = cpus
        .iter()
        .map(|&cpu| {
            fork(move || {
                sys::pin(&[cpu]);
                for _ in 0..20_000 {
                    let before = counters[0].load(SeqCst);
                    let now = sys::now();
                    if now < before {
                        return 1;
                    }
                    counters[0].fetch_max(now, SeqCst);
                }
                0
            })
        })
        .collect();
    children
        .into_iter()
        .for_each(|child| assert_eq!(sys::wait_exit(child), 0, "time went back between CPUs"));
    let wall = sys::clock(libc::CLOCK_REALTIME);
    assert!(wall > 1_600_000_000_000_000_000, "the wall clock says {wall}");
    let mut resolution = sys::timespec(0);
    syscall!(SYS_clock_getres, 1, &raw mut resolution).expect("clock_getres");
    assert_eq!(resolution.tv_nsec, 1);
    assert_eq!(syscall!(SYS_clock_gettime, 99, &raw mut resolution), Err(libc::EINVAL));
}

fn yields_go_round() {
    let counters = sys::shared_counters(2);
    sys::pin(&sys::cpus()[..1]);
    let children: Vec<i32> = (0..2)
        .map(|own| {
            fork(move || {
                for turn in 0..1000u64 {
                    while counters[0].load(SeqCst) != turn * 2 + own {
                        let _ = syscall!(SYS_sched_yield);
                    }
                    counters[0].fetch_add(1, SeqCst);
                }
                0
            })
        })
        .collect();
    children
        .into_iter()
        .for_each(|child| assert_eq!(sys::wait_exit(child), 0));
}

fn cpu_time_is_counted() {
    let (wall, used) = (sys::now(), sys::clock(libc::CLOCK_PROCESS_CPUTIME_ID));
    while sys::clock(libc::CLOCK_PROCESS_CPUTIME_ID) - used < 50_000_000 {}
    assert!(sys::now() - wall >= 49_000_000, "more time used than has passed");
    let used = sys::clock(libc::CLOCK_PROCESS_CPUTIME_ID);
    sys::sleep_ms(100);
    assert!(
        sys::clock(libc::CLOCK_PROCESS_CPUTIME_ID) - used < 50_000_000,
        "sleeping is not counted"
    );
}

fn a_sleeper_among_spinners_wakes_in_time() {
    let count = sys::cpus().len() * 2;
    let counters = sys::shared_counters(2 * count);
    let (places, counts) = counters.split_at(count);
    let children: Vec<i32> = (0..count).map(|own| spinner(&places[own], &counts[own])).collect();
    let mut late: Vec<u64> = (0..50)
        .map(|_| {
            let until = sys::now() + 10_000_000;
            sys::sleep_ms(10);
            sys::now() - until
        })
        .collect();
    end(children);
    late.sort_unstable();
    assert!(
        late[25] < 200_000_000,
        "half of the sleeps of 10 ms were {} ms late or more",
        late[25] / 1_000_000
    );
}
