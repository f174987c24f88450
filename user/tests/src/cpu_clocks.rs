//! Clocks of CPU time: their numbers, timers and sleeps by them.

use std::{
    sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering::SeqCst},
    thread,
};

use crate::{
    sys::{self, Sys, fork, handle, mask, wait_exit},
    syscall,
    timers::{MS, SECOND, SIGNAL, count, create, delete, get, pending, set, take, try_create},
};

crate::tests! { "cpu_clocks":
    cpu_time_expires_a_timer;
    cpu_time_of_a_thread_expires_a_timer;
    cpu_time_of_a_sleeper_stands_still;
    cpu_clocks_have_numbers;
    cpu_clocks_can_be_slept_by;
}

/// `CPUCLOCK_SCHED`.
const SCHED: i32 = 2;
const ONE_THREAD: i32 = 4;

/// The number of a process's clock (`clock_getcpuclockid`).
pub const fn process_clock(pid: i32) -> i32 {
    !pid << 3 | SCHED
}

/// The number of a thread's clock (`pthread_getcpuclockid`).
pub const fn thread_clock(tid: i32) -> i32 {
    !tid << 3 | ONE_THREAD | SCHED
}

/// Uses CPU time.
fn spin(nanoseconds: u64) {
    let clock = libc::CLOCK_THREAD_CPUTIME_ID;
    let end = sys::clock(clock) + nanoseconds;
    while sys::clock(clock) < end {}
}

/// Sleeps by a clock for some nanoseconds, or until it shows them.
pub fn nap(clock: i32, flags: i32, nanoseconds: u64) -> Sys {
    let time = sys::timespec(nanoseconds);
    syscall!(SYS_clock_nanosleep, clock, flags, &raw const time, 0)
}

fn cpu_time_expires_a_timer() {
    mask(libc::SIG_BLOCK, &[SIGNAL]);
    for clock in [
        libc::CLOCK_PROCESS_CPUTIME_ID,
        libc::CLOCK_THREAD_CPUTIME_ID,
        process_clock(std::process::id() as i32),
        thread_clock(0),
    ] {
        let number = create(clock);
        let begun = sys::clock(clock);
        set(number, 0, 30 * MS, 0).expect("timer_settime");
        let (left, _) = get(number).expect("timer_gettime");
        let used = sys::clock(clock) - begun;
        // An emulated machine may itself have been kept waiting, which counts.
        assert!((1..=30 * MS).contains(&left) || used >= 30 * MS, "{left}, {used}");
        while pending() == 0 {
            assert!(sys::clock(clock) - begun < 10 * SECOND, "clock {clock}: no signal");
        }
        assert!(sys::clock(clock) - begun >= 30 * MS, "not early");
        assert_eq!(take(SIGNAL, 0).map(|told| told.timer), Ok(number));
        assert_eq!(get(number), Ok((0, 0)));
        // With an interval: one signal, and what it passed over.
        set(number, 0, 10 * MS, 10 * MS).expect("timer_settime");
        spin(100 * MS);
        let told = take(SIGNAL, 0).expect("its signal");
        assert!((5..100).contains(&told.overruns), "{}", told.overruns);
        set(number, 0, 0, 0).expect("timer_settime");
        while take(SIGNAL, 0).is_ok() {}
        set(number, libc::TIMER_ABSTIME, 1, 0).expect("timer_settime");
        assert_eq!(take(SIGNAL, 5000).map(|told| told.overruns), Ok(0), "long past");
        delete(number);
        while take(SIGNAL, 0).is_ok() {}
    }
}

fn cpu_time_of_a_thread_expires_a_timer() {
    static GO: AtomicBool = AtomicBool::new(false);
    static TID: AtomicI32 = AtomicI32::new(0);
    static USED: AtomicU64 = AtomicU64::new(0);
    mask(libc::SIG_BLOCK, &[SIGNAL]);
    let worker = thread::spawn(|| {
        TID.store(syscall!(SYS_gettid).expect("gettid") as i32, SeqCst);
        while !GO.load(SeqCst) {
            sys::sleep_ms(1);
        }
        spin(120 * MS);
        USED.store(sys::clock(libc::CLOCK_THREAD_CPUTIME_ID), SeqCst);
        while GO.load(SeqCst) {
            sys::sleep_ms(1);
        }
    });
    while TID.load(SeqCst) == 0 {
        sys::sleep_ms(1);
    }
    let clock = thread_clock(TID.load(SeqCst));
    let number = create(clock);
    set(number, libc::TIMER_ABSTIME, 100 * MS, 0).expect("timer_settime");
    assert_eq!(take(SIGNAL, 50), Err(libc::EAGAIN), "it sleeps");
    GO.store(true, SeqCst);
    assert_eq!(take(SIGNAL, 20_000).map(|told| told.timer), Ok(number));
    assert!(sys::clock(clock) >= 100 * MS);
    set(number, libc::TIMER_ABSTIME, 3600 * SECOND, 0).expect("timer_settime");
    while USED.load(SeqCst) == 0 {
        sys::sleep_ms(1);
    }
    GO.store(false, SeqCst);
    worker.join().expect("the thread");
    // The number is gone for the kernel when the thread is, which join does not wait for to the last.
    let deadline = sys::now() + 5 * SECOND;
    let mut time = sys::timespec(0);
    while syscall!(SYS_clock_gettime, clock, &raw mut time).is_ok() {
        assert!(sys::now() < deadline, "the thread does not end");
        sys::sleep_ms(1);
    }
    assert_eq!(set(number, 0, SECOND, 0), Err(libc::ESRCH));
    assert_eq!(get(number).map(|(left, _)| left), Ok(0));
    delete(number);
}

fn cpu_time_of_a_sleeper_stands_still() {
    mask(libc::SIG_BLOCK, &[SIGNAL]);
    let number = create(libc::CLOCK_PROCESS_CPUTIME_ID);
    // More threads make it go faster than it was when the timer was set.
    let before = sys::clock(libc::CLOCK_PROCESS_CPUTIME_ID);
    set(number, 0, 300 * MS, 0).expect("timer_settime");
    sys::sleep_ms(400);
    let (came, begun) = (pending() != 0, sys::clock(libc::CLOCK_PROCESS_CPUTIME_ID));
    assert!(!came || begun - before >= 300 * MS, "used {}", begun - before);
    let workers: Vec<_> = (0..3).map(|_| thread::spawn(|| spin(150 * MS))).collect();
    for worker in workers {
        worker.join().expect("a thread");
    }
    assert!(sys::clock(libc::CLOCK_PROCESS_CPUTIME_ID) - begun >= 450 * MS);
    assert_eq!(take(SIGNAL, 5000).map(|told| told.timer), Ok(number));
}

fn cpu_clocks_have_numbers() {
    let own = std::process::id() as i32;
    let mut time = sys::timespec(0);
    let mut read = |clock: i32| syscall!(SYS_clock_gettime, clock, &raw mut time).map(|_| ());
    for clock in [
        process_clock(own),
        thread_clock(own),
        process_clock(0),
        thread_clock(0),
        // CPUCLOCK_PROF and CPUCLOCK_VIRT.
        !0 << 3,
        !0 << 3 | 1,
        process_clock(1),
    ] {
        assert_eq!(read(clock), Ok(()), "clock {clock}");
        let mut resolution = sys::timespec(0);
        assert_eq!(syscall!(SYS_clock_getres, clock, &raw mut resolution), Ok(0));
        assert!(resolution.tv_sec == 0 && resolution.tv_nsec > 0);
        assert_eq!(syscall!(SYS_clock_getres, clock, 0), Ok(0));
        assert_eq!(
            syscall!(SYS_clock_settime, clock, &raw const resolution),
            Err(libc::EPERM)
        );
    }
    for clock in [thread_clock(1), process_clock(0x0fff_ffff), !0 << 3 | 3, !0 << 3 | 7] {
        assert_eq!(read(clock), Err(libc::EINVAL), "clock {clock}");
        assert_eq!(syscall!(SYS_clock_getres, clock, 0), Err(libc::EINVAL), "clock {clock}");
    }
    let mut resolution = sys::timespec(0);
    syscall!(SYS_clock_getres, process_clock(0), &raw mut resolution).expect("clock_getres");
    assert_eq!(resolution.tv_nsec, 1);
    spin(20 * MS);
    let (all, of_one) = (sys::clock(process_clock(own)), sys::clock(thread_clock(own)));
    assert!(all >= 20 * MS && of_one >= 20 * MS, "{all}, {of_one}");
    // A thread's number names its process, but only for itself and only to read.
    thread::spawn(move || {
        let tid = syscall!(SYS_gettid).expect("gettid") as i32;
        let mut time = sys::timespec(0);
        let clock = process_clock(tid);
        assert_eq!(syscall!(SYS_clock_gettime, clock, &raw mut time), Ok(0));
        assert!(time.tv_nsec as u64 >= 20 * MS || time.tv_sec > 0);
        assert_eq!(syscall!(SYS_clock_getres, clock, 0), Err(libc::EINVAL));
        assert_eq!(try_create(clock, &sys::silent_event()), Err(libc::EINVAL));
        assert_eq!(syscall!(SYS_clock_gettime, thread_clock(own), &raw mut time), Ok(0));
    })
    .join()
    .expect("a thread");
    // One that has ended has its time until it is waited for.
    let child = fork(|| {
        spin(30 * MS);
        0
    });
    let info = sys::empty_info();
    syscall!(
        SYS_waitid,
        libc::P_PID,
        child,
        &raw const info,
        libc::WEXITED | libc::WNOWAIT,
        0
    )
    .expect("waitid");
    assert!(sys::clock(process_clock(child)) >= 30 * MS);
    assert_eq!(wait_exit(child), 0);
    assert_eq!(
        syscall!(SYS_clock_gettime, process_clock(child), &raw mut time),
        Err(libc::EINVAL)
    );
}

fn cpu_clocks_can_be_slept_by() {
    let thread = libc::CLOCK_THREAD_CPUTIME_ID;
    assert_eq!(nap(thread, 0, 1), Err(libc::EOPNOTSUPP));
    let own = std::process::id() as i32;
    assert_eq!(nap(thread_clock(own), 0, 1), Err(libc::EINVAL), "it would never wake");
    assert_eq!(nap(thread_clock(0), 0, 1), Err(libc::EINVAL));
    assert_eq!(nap(thread_clock(1), 0, 1), Err(libc::EINVAL));
    assert_eq!(nap(!0 << 3 | 3, 0, 1), Err(libc::EOPNOTSUPP), "a device's");
    let child = fork(|| {
        loop {
            spin(SECOND);
        }
    });
    let clock = process_clock(child);
    let begun = sys::clock(clock);
    assert_eq!(nap(clock, 0, 50 * MS), Ok(0));
    let slept = sys::clock(clock) - begun;
    assert!((50 * MS..5 * SECOND).contains(&slept), "{slept}");
    let until = sys::clock(clock) + 50 * MS;
    assert_eq!(nap(clock, libc::TIMER_ABSTIME, until), Ok(0));
    assert!(sys::clock(clock) >= until);
    assert_eq!(nap(clock, libc::TIMER_ABSTIME, 1), Ok(0), "long past");
    // The other threads of a process make its clock go.
    let worker = thread::spawn(|| spin(200 * MS));
    assert_eq!(nap(libc::CLOCK_PROCESS_CPUTIME_ID, 0, 20 * MS), Ok(0));
    worker.join().expect("the thread");
    // A handler ends the sleep, which tells what is left; a stop does not.
    handle(libc::SIGALRM, libc::SA_RESTART, &[], count);
    let (time, mut left) = (sys::timespec(3600 * SECOND), sys::timespec(0));
    let alarm = create(libc::CLOCK_MONOTONIC);
    delete(alarm);
    let value = [0u64, 0, 0, 30_000];
    syscall!(SYS_setitimer, libc::ITIMER_REAL, value.as_ptr(), 0).expect("setitimer");
    assert_eq!(
        syscall!(SYS_clock_nanosleep, clock, 0, &raw const time, &raw mut left),
        Err(libc::EINTR)
    );
    assert!((3500..3600).contains(&left.tv_sec), "{} s left", left.tv_sec);
    sys::kill(child, libc::SIGKILL).expect("kill");
    sys::wait_killed(child);
}
