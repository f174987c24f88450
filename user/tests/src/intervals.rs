//! The interval timers, above all those that count CPU time.

use std::sync::atomic::{AtomicI32, Ordering::SeqCst};

use crate::{
    programs,
    sys::{self, Sys, fork, handle, wait_exit, wait_killed},
    syscall,
};

crate::tests! { "intervals":
    numbers_and_times_are_checked;
    a_setting_is_told;
    virtual_time_is_that_of_user_mode;
    profiled_time_is_all;
    they_stand_while_the_process_sleeps;
    one_with_an_interval_goes_on;
    they_end_at_fork_and_stay_at_exec;
    the_default_action_ends_the_process;
    thousands_of_settings_lose_no_memory [frees];
}

const SECOND: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;
const CPU_TIMERS: [(i32, i32); 2] = [
    (libc::ITIMER_VIRTUAL, libc::SIGVTALRM),
    (libc::ITIMER_PROF, libc::SIGPROF),
];

/// Interval and value, as the calls have them: seconds and microseconds of each.
fn words(value: u64, interval: u64) -> [u64; 4] {
    let pair = |time: u64| [time / SECOND, time % SECOND / 1000];
    let ([a, b], [c, d]) = (pair(interval), pair(value));
    [a, b, c, d]
}

fn set(which: i32, value: u64, interval: u64) -> Sys {
    syscall!(SYS_setitimer, which, words(value, interval).as_ptr(), 0)
}

/// Value and interval in nanoseconds.
fn get(which: i32) -> (u64, u64) {
    let mut words = [0u64; 4];
    syscall!(SYS_getitimer, which, words.as_mut_ptr()).expect("getitimer");
    (words[2] * SECOND + words[3] * 1000, words[0] * SECOND + words[1] * 1000)
}

static SEEN: AtomicI32 = AtomicI32::new(0);

extern "C" fn count(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    SEEN.fetch_add(1, SeqCst);
}

/// Uses CPU time in user mode until `enough`, or for want of it a minute has passed.
fn compute_until(enough: impl Fn() -> bool) {
    let end = sys::now() + 60 * SECOND;
    while !enough() && sys::now() < end {
        (0..10_000u64).for_each(|number| {
            std::hint::black_box(number);
        });
    }
    assert!(enough(), "a minute was not enough");
}

fn cpu_time() -> u64 {
    sys::clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn numbers_and_times_are_checked() {
    let mut old = [0u64; 4];
    for which in [3, -1, i32::MAX] {
        assert_eq!(syscall!(SYS_getitimer, which, old.as_mut_ptr()), Err(libc::EINVAL));
        assert_eq!(set(which, 0, 0), Err(libc::EINVAL));
    }
    for which in 0..3 {
        assert_eq!(syscall!(SYS_getitimer, which, 1), Err(libc::EFAULT));
        assert_eq!(syscall!(SYS_setitimer, which, 1, 0), Err(libc::EFAULT));
        for bad in [
            [0, 1_000_000, 0, 0],
            [0, 0, 0, 1_000_000],
            [0, 0, u64::MAX, 0],
            [0, 0, 0, u64::MAX],
        ] {
            assert_eq!(
                syscall!(SYS_setitimer, which, bad.as_ptr(), 0),
                Err(libc::EINVAL),
                "{bad:?}"
            );
        }
        // Nothing is set by nothing.
        assert_eq!(syscall!(SYS_setitimer, which, 0, 0), Ok(0));
        assert_eq!(get(which), (0, 0));
    }
}

fn a_setting_is_told() {
    for (which, _) in CPU_TIMERS {
        set(which, 100 * SECOND, 7 * SECOND).expect("setitimer");
        let (value, interval) = get(which);
        // Linux adds a tick to what is asked for.
        assert!((90 * SECOND..=101 * SECOND).contains(&value), "{value}");
        assert_eq!(interval, 7 * SECOND);
        let mut old = [0u64; 4];
        syscall!(SYS_setitimer, which, words(0, 0).as_ptr(), old.as_mut_ptr()).expect("setitimer");
        assert_eq!(old[..2], [7, 0]);
        assert!((90..=101).contains(&old[2]), "{old:?}");
        assert_eq!(get(which), (0, 0));
    }
}

fn virtual_time_is_that_of_user_mode() {
    handle(libc::SIGVTALRM, 0, &[], count);
    set(libc::ITIMER_VIRTUAL, 50 * MS, 0).expect("setitimer");
    compute_until(|| SEEN.load(SeqCst) == 1);
    // Linux may count by ticks.
    assert!(cpu_time() >= 20 * MS, "{}", cpu_time());
    assert_eq!(get(libc::ITIMER_VIRTUAL), (0, 0));
}

fn profiled_time_is_all() {
    handle(libc::SIGPROF, 0, &[], count);
    let begin = cpu_time();
    set(libc::ITIMER_PROF, 50 * MS, 0).expect("setitimer");
    let end = sys::now() + 60 * SECOND;
    // Mostly in the kernel.
    while SEEN.load(SeqCst) == 0 && sys::now() < end {
        let _ = syscall!(SYS_sched_yield);
    }
    assert_eq!(SEEN.load(SeqCst), 1);
    assert!(cpu_time() - begin >= 20 * MS, "{}", cpu_time() - begin);
}

fn they_stand_while_the_process_sleeps() {
    for (which, signo) in CPU_TIMERS {
        handle(signo, 0, &[], count);
        set(which, 100 * MS, 0).expect("setitimer");
        sys::sleep_ms(300);
        assert_eq!(SEEN.load(SeqCst), 0, "{which}");
        assert!(get(which).0 >= 20 * MS, "{:?}", get(which));
        set(which, 0, 0).expect("setitimer");
    }
}

fn one_with_an_interval_goes_on() {
    handle(libc::SIGVTALRM, 0, &[], count);
    set(libc::ITIMER_VIRTUAL, 10 * MS, 10 * MS).expect("setitimer");
    compute_until(|| SEEN.load(SeqCst) >= 5);
    assert_eq!(get(libc::ITIMER_VIRTUAL).1, 10 * MS);
    set(libc::ITIMER_VIRTUAL, 0, 0).expect("setitimer");
    let seen = SEEN.load(SeqCst);
    let begin = cpu_time();
    compute_until(|| cpu_time() > begin + 50 * MS);
    assert!(SEEN.load(SeqCst) <= seen + 1, "it goes on after its end");
}

/// What the program of [`they_end_at_fork_and_stay_at_exec`] looks at: whether both timers are set.
pub fn are_set() -> bool {
    CPU_TIMERS.iter().all(|(which, _)| get(*which).0 != 0)
}

fn they_end_at_fork_and_stay_at_exec() {
    for (which, _) in CPU_TIMERS {
        set(which, 100 * SECOND, 0).expect("setitimer");
    }
    let child = fork(|| {
        let none = CPU_TIMERS.iter().all(|(which, _)| get(*which) == (0, 0));
        i32::from(!none)
    });
    assert_eq!(wait_exit(child), 0, "the child has its parent's timers");
    let me = programs::myself();
    programs::execute(&me, &[&me, "helper", "intervals"]);
    unreachable!("execve failed");
}

fn the_default_action_ends_the_process() {
    for (which, signo) in CPU_TIMERS {
        let child = fork(|| {
            set(which, MS, 0).expect("setitimer");
            compute_until(|| false);
            0
        });
        assert_eq!(wait_killed(child), signo);
    }
}

fn thousands_of_settings_lose_no_memory() {
    for round in 0..2000 {
        for (which, _) in CPU_TIMERS {
            set(which, (100 + round) * SECOND, SECOND).expect("setitimer");
        }
    }
    for (which, _) in CPU_TIMERS {
        set(which, 0, 0).expect("setitimer");
    }
}
