//! Scheduling policies: who may ask for which, who inherits them, and what the real-time ones do.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::{
    sys::{self, fork, in_child, wait_killed},
    syscall,
};

crate::tests! { "real_time":
    policies_and_priorities_fit_each_other;
    attributes_have_versions;
    a_right_or_a_limit_is_needed;
    children_inherit_unless_told_otherwise;
    another_thread_is_named_by_its_number;
    a_woken_higher_priority_runs_at_once;
    an_equal_waits_for_a_yield;
    turns_are_taken_by_round_robin_alone (60);
    fair_threads_are_left_some_time (60);
    every_cpu_takes_one (60);
    the_list_of_processes_shows_it;
}

const RESET: i32 = libc::SCHED_RESET_ON_FORK;

fn set(tid: i32, policy: i32, priority: i32) -> sys::Sys {
    syscall!(SYS_sched_setscheduler, tid, policy, &raw const priority)
}

fn policy(tid: i32) -> sys::Sys {
    syscall!(SYS_sched_getscheduler, tid)
}

fn priority(tid: i32) -> i32 {
    let mut priority = -1i32;
    syscall!(SYS_sched_getparam, tid, &raw mut priority).expect("sched_getparam");
    priority
}

fn set_priority(tid: i32, priority: i32) -> sys::Sys {
    syscall!(SYS_sched_setparam, tid, &raw const priority)
}

/// The slice, in nanoseconds.
fn slice(tid: i32) -> i64 {
    let mut slice = sys::timespec(77);
    syscall!(SYS_sched_rr_get_interval, tid, &raw mut slice).expect("sched_rr_get_interval");
    slice.tv_sec * 1_000_000_000 + slice.tv_nsec
}

fn set_nice(nice: i32) -> sys::Sys {
    syscall!(SYS_setpriority, libc::PRIO_PROCESS, 0, nice)
}

fn nice() -> i32 {
    20 - syscall!(SYS_getpriority, libc::PRIO_PROCESS, 0).expect("getpriority") as i32
}

/// `struct sched_attr`, with room behind it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    deadline: [u64; 3],
    clamps: [u32; 2],
    unknown: [u8; 8],
}

const SIZE: u32 = 56;

impl Attributes {
    fn set(&mut self, tid: i32) -> sys::Sys {
        syscall!(SYS_sched_setattr, tid, &raw mut *self, 0)
    }

    fn get(tid: i32) -> Self {
        let mut attributes = Self::default();
        syscall!(SYS_sched_getattr, tid, &raw mut attributes, SIZE, 0).expect("sched_getattr");
        attributes
    }
}

fn policies_and_priorities_fit_each_other() {
    let ranges = [
        (libc::SCHED_OTHER, 0, 0),
        (libc::SCHED_FIFO, 1, 99),
        (libc::SCHED_RR, 1, 99),
        (libc::SCHED_BATCH, 0, 0),
        (libc::SCHED_IDLE, 0, 0),
        (6, 0, 0),
    ];
    for (policy, min, max) in ranges {
        assert_eq!(syscall!(SYS_sched_get_priority_min, policy), Ok(min));
        assert_eq!(syscall!(SYS_sched_get_priority_max, policy), Ok(max));
    }
    for policy in [-1, 4, 99, libc::SCHED_FIFO | RESET] {
        assert_eq!(syscall!(SYS_sched_get_priority_min, policy), Err(libc::EINVAL));
        assert_eq!(syscall!(SYS_sched_get_priority_max, policy), Err(libc::EINVAL));
        assert_eq!(set(0, policy, 0), Err(libc::EINVAL), "{policy:#x}");
    }
    in_child(|| {
        for (policy, priority) in [
            (libc::SCHED_OTHER, 1),
            (libc::SCHED_IDLE, 1),
            (libc::SCHED_FIFO, 0),
            (libc::SCHED_RR, 100),
            (libc::SCHED_RR, -1),
            (6, 0),
        ] {
            assert_eq!(set(0, policy, priority), Err(libc::EINVAL), "{policy} {priority}");
        }
        assert!(slice(0) > 0);
        assert_eq!(set(0, libc::SCHED_RR, 99), Ok(0));
        assert_eq!((policy(0), priority(0)), (Ok(libc::SCHED_RR as usize), 99));
        assert_eq!(slice(0), 100_000_000);
        assert_eq!(set(0, libc::SCHED_FIFO, 1), Ok(0));
        assert_eq!(slice(0), 0);
        assert_eq!(set_priority(0, 0), Err(libc::EINVAL));
        assert_eq!(set_priority(0, 17), Ok(0));
        assert_eq!((policy(0), priority(0)), (Ok(libc::SCHED_FIFO as usize), 17));
        assert_eq!(set(0, libc::SCHED_BATCH | RESET, 0), Ok(0));
        assert_eq!(policy(0), Ok((libc::SCHED_BATCH | RESET) as usize));
        assert_eq!((set_priority(0, 3), set_priority(0, 0)), (Err(libc::EINVAL), Ok(0)));
        assert_eq!(policy(0), Ok((libc::SCHED_BATCH | RESET) as usize), "kept");
        assert_eq!(set(0, libc::SCHED_OTHER, 0), Ok(0));
        assert_eq!(policy(0), Ok(0));
    });
    // What is looked at first.
    const GONE: i32 = 0x3fff_ffff;
    assert_eq!(syscall!(SYS_sched_setscheduler, GONE, 0, 8), Err(libc::EFAULT));
    assert_eq!(syscall!(SYS_sched_setscheduler, GONE, 0, 0), Err(libc::EINVAL));
    assert_eq!(set_priority(-1, 1), Err(libc::EINVAL));
    assert_eq!(syscall!(SYS_sched_getparam, GONE, 0), Err(libc::EINVAL));
    assert_eq!(syscall!(SYS_sched_getparam, GONE, 8), Err(libc::ESRCH));
    assert_eq!(syscall!(SYS_sched_getparam, 0, 8), Err(libc::EFAULT));
    assert_eq!(syscall!(SYS_sched_rr_get_interval, 0, 8), Err(libc::EFAULT));
    assert_eq!(syscall!(SYS_sched_rr_get_interval, GONE, 8), Err(libc::ESRCH));
    for (tid, error) in [(-1, libc::EINVAL), (GONE, libc::ESRCH)] {
        assert_eq!(policy(tid), Err(error));
        assert_eq!(set(tid, 0, 0), Err(error));
    }
}

fn attributes_have_versions() {
    in_child(|| {
        let fifo = |size| Attributes {
            size,
            policy: libc::SCHED_FIFO as u32,
            priority: 8,
            ..Attributes::default()
        };
        assert_eq!(fifo(47).set(0), Err(libc::E2BIG));
        let mut large = fifo(4097);
        assert_eq!((large.set(0), large.size >= SIZE), (Err(libc::E2BIG), true));
        let mut newer = fifo(64);
        newer.unknown[5] = 1;
        assert_eq!(newer.set(0), Err(libc::E2BIG));
        for size in [0, 48, SIZE, 64] {
            assert_eq!(set(0, libc::SCHED_OTHER, 0), Ok(0));
            assert_eq!(fifo(size).set(0), Ok(0), "{size}");
            assert_eq!(priority(0), 8);
        }
        let found = Attributes::get(0);
        assert_eq!(
            (found.policy, found.priority, found.nice),
            (libc::SCHED_FIFO as u32, 8, 0)
        );
        assert!((48..=SIZE).contains(&found.size));
        // The nice value beside an ordinary policy, out of range clamped.
        let mut other = Attributes {
            nice: 99,
            ..Attributes::default()
        };
        assert_eq!((other.set(0), nice()), (Ok(0), 19));
        assert_eq!(Attributes::get(0).nice, 19);
        let mut reset = Attributes {
            policy: libc::SCHED_RR as u32,
            priority: 5,
            flags: 1,
            ..Attributes::default()
        };
        assert_eq!(reset.set(0), Ok(0));
        assert_eq!(policy(0), Ok((libc::SCHED_RR | RESET) as usize));
        assert_eq!(Attributes::get(0).flags, 1);
        // The policy, or all of it, is to stay.
        let mut keeps = Attributes {
            flags: 8,
            priority: 6,
            ..Attributes::default()
        };
        assert_eq!((keeps.set(0), priority(0)), (Ok(0), 6));
        let mut keeps = Attributes {
            flags: 0x18,
            priority: 77,
            ..Attributes::default()
        };
        assert_eq!((keeps.set(0), priority(0)), (Ok(0), 6));
        for mut wrong in [
            Attributes {
                flags: 1 << 20,
                ..Attributes::default()
            },
            Attributes {
                policy: libc::SCHED_RR as u32 | RESET as u32,
                priority: 1,
                ..Attributes::default()
            },
            Attributes {
                policy: u32::MAX,
                ..Attributes::default()
            },
            Attributes {
                priority: 1,
                ..Attributes::default()
            },
        ] {
            assert_eq!(wrong.set(0), Err(libc::EINVAL), "{wrong:?}");
        }
    });
    let mut found = Attributes::default();
    let mut get = |tid: i32, size: u32, flags: u32| syscall!(SYS_sched_getattr, tid, &raw mut found, size, flags);
    assert_eq!(get(0, 47, 0), Err(libc::EINVAL));
    assert_eq!(get(0, 4097, 0), Err(libc::EINVAL));
    assert_eq!(get(0, 48, 1), Err(libc::EINVAL));
    assert_eq!(get(-1, 48, 0), Err(libc::EINVAL));
    assert_eq!(get(0x3fff_ffff, 48, 0), Err(libc::ESRCH));
    assert_eq!((get(0, 48, 0), found.size), (Ok(0), 48));
    assert_eq!(syscall!(SYS_sched_getattr, 0, 0, 48, 0), Err(libc::EINVAL));
    assert_eq!(syscall!(SYS_sched_getattr, 0, 8, 48, 0), Err(libc::EFAULT));
    assert_eq!(syscall!(SYS_sched_setattr, 0, 8, 0), Err(libc::EFAULT));
    assert_eq!(syscall!(SYS_sched_setattr, 0, &raw mut found, 1), Err(libc::EINVAL));
}

/// Gives up all rights, with limits of the real-time priority and of the nice value.
fn become_nobody(priority: u64, nice: u64) {
    for (resource, limit) in [(libc::RLIMIT_RTPRIO, priority), (libc::RLIMIT_NICE, nice)] {
        syscall!(SYS_prlimit64, 0, resource, [limit, limit].as_ptr(), 0).expect("prlimit64");
    }
    syscall!(SYS_setresuid, 1234, 1234, 1234).expect("setresuid");
}

fn a_right_or_a_limit_is_needed() {
    in_child(|| {
        become_nobody(0, 0);
        assert_eq!(set(0, libc::SCHED_FIFO, 1), Err(libc::EPERM));
        assert_eq!(set(0, libc::SCHED_RR, 100), Err(libc::EINVAL));
        assert_eq!(set(1, libc::SCHED_OTHER, 0), Err(libc::EPERM), "another user's");
        assert_eq!(set(0, libc::SCHED_BATCH | RESET, 0), Ok(0));
        assert_eq!(
            set(0, libc::SCHED_OTHER, 0),
            Err(libc::EPERM),
            "the flag is taken away by none"
        );
        assert_eq!(set(0, libc::SCHED_OTHER | RESET, 0), Ok(0));
        assert_eq!(set(0, libc::SCHED_IDLE | RESET, 0), Ok(0));
        assert_eq!(set(0, libc::SCHED_OTHER | RESET, 0), Err(libc::EPERM), "a reduction");
        let mut better = Attributes {
            nice: -1,
            flags: 1,
            policy: 5,
            ..Attributes::default()
        };
        assert_eq!(better.set(0), Ok(0), "SCHED_IDLE takes no notice of a nice value");
        assert_eq!(set_nice(-1), Err(libc::EACCES), "which is what it was");
        better.policy = libc::SCHED_OTHER as u32;
        assert_eq!(better.set(0), Err(libc::EPERM));
    });
    in_child(|| {
        become_nobody(10, 25);
        assert_eq!(set(0, libc::SCHED_FIFO, 11), Err(libc::EPERM));
        assert_eq!(set(0, libc::SCHED_FIFO, 10), Ok(0));
        assert_eq!(set_priority(0, 11), Err(libc::EPERM));
        assert_eq!(set_priority(0, 4), Ok(0));
        assert_eq!(set(0, libc::SCHED_RR, 10), Ok(0));
        assert_eq!(set(0, libc::SCHED_IDLE, 0), Ok(0));
        assert_eq!(set(0, libc::SCHED_OTHER, 0), Ok(0), "within the limit of nice values");
        assert_eq!(set_nice(-5), Ok(0));
        assert_eq!(set_nice(-6), Err(libc::EACCES));
    });
    in_child(|| {
        assert_eq!(set(0, libc::SCHED_FIFO, 50), Ok(0));
        become_nobody(0, 0);
        assert_eq!(set_priority(0, 51), Err(libc::EPERM));
        assert_eq!(set(0, libc::SCHED_RR, 50), Err(libc::EPERM), "another policy");
        assert_eq!(set_priority(0, 49), Ok(0), "less of what it has");
    });
}

fn children_inherit_unless_told_otherwise() {
    in_child(|| {
        assert_eq!(set(0, libc::SCHED_RR, 33), Ok(0));
        in_child(|| assert_eq!((policy(0), priority(0)), (Ok(libc::SCHED_RR as usize), 33)));
        let thread = std::thread::spawn(|| (policy(0), priority(0)));
        assert_eq!(thread.join().expect("a thread"), (Ok(libc::SCHED_RR as usize), 33));
        assert_eq!(set(0, libc::SCHED_FIFO | RESET, 33), Ok(0));
        in_child(|| assert_eq!((policy(0), priority(0), nice()), (Ok(0), 0, 0)));
        assert_eq!(set(0, libc::SCHED_BATCH | RESET, 0), Ok(0));
        set_nice(-7).expect("setpriority");
        in_child(|| assert_eq!((policy(0), nice()), (Ok(libc::SCHED_BATCH as usize), 0)));
        set_nice(7).expect("setpriority");
        in_child(|| assert_eq!((policy(0), nice()), (Ok(libc::SCHED_BATCH as usize), 7)));
    });
}

fn another_thread_is_named_by_its_number() {
    let (waits, go) = sys::pipe(0);
    let (said, tell) = sys::pipe(0);
    let thread = std::thread::spawn(move || {
        let tid = syscall!(SYS_gettid).expect("gettid") as i32;
        sys::write(tell, &tid.to_ne_bytes()).expect("told");
        sys::read(waits, &mut [0]).expect("woken");
        (policy(0), priority(0))
    });
    let mut tid = [0; 4];
    sys::read(said, &mut tid).expect("its number");
    let tid = i32::from_ne_bytes(tid);
    assert_eq!(set(tid, libc::SCHED_FIFO, 12), Ok(0));
    assert_eq!((policy(tid), priority(tid), policy(0)), (Ok(1), 12, Ok(0)));
    sys::write(go, &[1]).expect("wakes it");
    assert_eq!(thread.join().expect("a thread"), (Ok(1), 12));
}

/// A child on this CPU that counts each byte it reads.
fn counter(policy: i32, priority: i32, count: &'static AtomicU64) -> (i32, i32) {
    let (read, write) = sys::pipe(0);
    let child = fork(move || {
        set(0, policy, priority).expect("its policy");
        while sys::read(read, &mut [0]).is_ok() {
            count.fetch_add(1, SeqCst);
        }
        1
    });
    (child, write)
}

/// Lets everything that is less urgent run for a while.
fn rest() {
    sys::sleep_ms(50);
}

/// Kills first and waits second: one may run only once another has ended.
fn end(children: &[i32]) {
    for child in children {
        let _ = sys::kill(*child, libc::SIGKILL);
    }
    for child in children {
        assert_eq!(wait_killed(*child), libc::SIGKILL);
    }
}

/// On the same CPU, by a byte in a pipe: whoever is more urgent has read it before the writer goes on.
fn a_woken_higher_priority_runs_at_once() {
    let counts = sys::shared_counters(2);
    sys::pin(&sys::cpus()[..1]);
    set(0, libc::SCHED_FIFO, 50).expect("a policy");
    let (higher, call_higher) = counter(libc::SCHED_FIFO, 51, &counts[0]);
    let (lower, call_lower) = counter(libc::SCHED_RR, 49, &counts[1]);
    rest();
    for n in 1..=20 {
        sys::write(call_lower, &[1]).expect("a byte");
        sys::write(call_higher, &[1]).expect("a byte");
        assert_eq!((counts[0].load(SeqCst), counts[1].load(SeqCst)), (n, n - 1));
        rest();
        assert_eq!(counts[1].load(SeqCst), n);
    }
    // It becomes more urgent while it waits for the CPU.
    sys::write(call_lower, &[1]).expect("a byte");
    assert_eq!(counts[1].load(SeqCst), 20);
    set(lower, libc::SCHED_RR, 60).expect("a policy");
    assert_eq!(counts[1].load(SeqCst), 21);
    // And the writer less.
    set(lower, libc::SCHED_RR, 40).expect("a policy");
    sys::write(call_lower, &[1]).expect("a byte");
    set(0, libc::SCHED_OTHER, 0).expect("a policy");
    assert_eq!(counts[1].load(SeqCst), 22);
    end(&[higher, lower]);
}

fn an_equal_waits_for_a_yield() {
    let counts = sys::shared_counters(1);
    sys::pin(&sys::cpus()[..1]);
    set(0, libc::SCHED_FIFO, 50).expect("a policy");
    let (equal, call) = counter(libc::SCHED_FIFO, 50, &counts[0]);
    rest();
    for n in 1..=20 {
        sys::write(call, &[1]).expect("a byte");
        assert_eq!(counts[0].load(SeqCst), n - 1);
        syscall!(SYS_sched_yield).expect("sched_yield");
        assert_eq!(counts[0].load(SeqCst), n);
    }
    end(&[equal]);
}

/// A child that says when it has its policy, and counts without end from a byte in a pipe on.
fn spinner(policy: i32, ready: &'static AtomicU64, go: i32, count: &'static AtomicU64) -> i32 {
    fork(move || {
        set(0, policy, 7).expect("its policy");
        ready.fetch_add(1, SeqCst);
        sys::read(go, &mut [0]).expect("a byte");
        loop {
            count.fetch_add(1, SeqCst);
        }
    })
}

fn turns_are_taken_by_round_robin_alone() {
    sys::pin(&sys::cpus()[..1]);
    set(0, libc::SCHED_FIFO, 50).expect("a policy");
    for policy in [libc::SCHED_FIFO, libc::SCHED_RR] {
        let counts = sys::shared_counters(3);
        let (go, start) = sys::pipe(0);
        let children = [0, 1].map(|n| spinner(policy, &counts[2], go, &counts[n]));
        while counts[2].load(SeqCst) < 2 {
            sys::sleep_ms(1);
        }
        sys::write(start, &[1, 1]).expect("two bytes");
        let counted = || [0, 1].map(|n| counts[n].load(SeqCst) > 0);
        if policy == libc::SCHED_RR {
            // However slow the machine, each has its turn.
            while counted() != [true, true] {
                sys::sleep_ms(10);
            }
        } else {
            sys::sleep_ms(1000);
            assert_ne!(counted(), [true, true]);
        }
        end(&children);
    }
}

/// A spinning thread of the highest priority does not starve ordinary ones of its CPU.
fn fair_threads_are_left_some_time() {
    let counts = sys::shared_counters(2);
    let cpu = sys::cpus()[0];
    let children = [0, 1].map(|n| {
        let count = &counts[n];
        fork(move || {
            sys::pin(&[cpu]);
            if n == 0 {
                set(0, libc::SCHED_FIFO, 99).expect("its policy");
            }
            loop {
                count.fetch_add(1, SeqCst);
            }
        })
    });
    while counts[0].load(SeqCst) == 0 {
        sys::sleep_ms(10);
    }
    // It may have to wait for most of a second, again and again: but it goes on.
    for _ in 0..2 {
        let before = counts[1].load(SeqCst);
        while counts[1].load(SeqCst) == before {
            sys::sleep_ms(10);
        }
    }
    end(&children);
}

/// As many threads that never give way as there are CPUs, all begun on one of them: each has a CPU.
fn every_cpu_takes_one() {
    let cpus = sys::cpus();
    let counts = sys::shared_counters(cpus.len());
    set(0, libc::SCHED_FIFO, 50).expect("a policy");
    sys::pin(&cpus[..1]);
    let children: Vec<i32> = counts
        .iter()
        .map(|count| {
            let cpus = cpus.clone();
            fork(move || {
                set(0, libc::SCHED_FIFO, 7).expect("its policy");
                sys::pin(&cpus);
                loop {
                    count.fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    while counts.iter().any(|count| count.load(SeqCst) == 0) {
        sys::sleep_ms(10);
    }
    end(&children);
}

fn the_list_of_processes_shows_it() {
    in_child(|| {
        let field = |number: usize| -> i64 {
            let text = std::fs::read_to_string("/proc/self/stat").expect("stat");
            let (_, rest) = text.rsplit_once(')').expect("a name");
            let field = rest.split_whitespace().nth(number - 3);
            field.and_then(|field| field.parse().ok()).expect("a number")
        };
        assert_eq!([18, 40, 41].map(field), [20, 0, 0]);
        set(0, libc::SCHED_RR, 80).expect("a policy");
        assert_eq!([18, 40, 41].map(field), [-81, 80, 2]);
    });
}
