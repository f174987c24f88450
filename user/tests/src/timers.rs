//! POSIX timers.

use std::{
    ffi::c_void,
    sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst},
    thread,
};

use crate::{
    cpu_clocks::{nap, process_clock, thread_clock},
    sys::{self, Sys, fork, handle, mask, set_of, wait_exit},
    syscall,
};

crate::tests! { "timers":
    clocks_are_checked;
    events_are_checked;
    numbers_are_checked;
    a_timer_tells_its_number_and_value;
    without_an_event_it_is_an_alarm;
    a_silent_timer_only_counts;
    one_signal_is_pending_and_the_rest_is_counted;
    an_ignored_signal_does_not_stop_a_timer;
    a_signal_goes_to_the_thread_that_was_named;
    settings_are_told;
    absolute_times_hold;
    no_signal_comes_after_the_end;
    neither_fork_nor_exec_hands_them_on;
    as_many_as_signals_may_be_queued;
    setting_the_clock_moves_absolute_timers;
    thousands_of_timers_lose_no_memory [frees];
}

pub const MS: u64 = 1_000_000;
pub const SECOND: u64 = 1_000 * MS;
pub const SIGNAL: i32 = libc::SIGUSR1;
/// Of `linux/time.h`.
const CLOCK_TAI: i32 = 11;
const CLOCK_ALARMS: [i32; 2] = [8, 9];

pub fn event(notify: i32, signo: i32, value: usize) -> libc::sigevent {
    let mut event = sys::silent_event();
    event.sigev_notify = notify;
    event.sigev_signo = signo;
    event.sigev_value.sival_ptr = value as *mut c_void;
    event
}

pub fn try_create(clock: i32, event: &libc::sigevent) -> Result<i32, i32> {
    let mut number = -1i32;
    syscall!(SYS_timer_create, clock, &raw const *event, &raw mut number)?;
    Ok(number)
}

pub fn create(clock: i32) -> i32 {
    try_create(clock, &event(libc::SIGEV_SIGNAL, SIGNAL, 77)).expect("timer_create")
}

pub fn setting(value: u64, interval: u64) -> [libc::timespec; 2] {
    [sys::timespec(interval), sys::timespec(value)]
}

/// Value and interval.
pub fn told(setting: [libc::timespec; 2]) -> (u64, u64) {
    let nanoseconds = |time: libc::timespec| time.tv_sec as u64 * SECOND + time.tv_nsec as u64;
    (nanoseconds(setting[1]), nanoseconds(setting[0]))
}

/// Sets a timer; what it was.
pub fn set(number: i32, flags: i32, value: u64, interval: u64) -> Result<(u64, u64), i32> {
    let new = setting(value, interval);
    let mut old = setting(7, 7);
    syscall!(SYS_timer_settime, number, flags, new.as_ptr(), old.as_mut_ptr())?;
    Ok(told(old))
}

pub fn get(number: i32) -> Result<(u64, u64), i32> {
    let mut now = setting(7, 7);
    syscall!(SYS_timer_gettime, number, now.as_mut_ptr())?;
    Ok(told(now))
}

pub fn overruns(number: i32) -> Sys {
    syscall!(SYS_timer_getoverrun, number)
}

pub fn delete(number: i32) {
    syscall!(SYS_timer_delete, number).expect("timer_delete");
}

/// What a taken signal said: number, code, timer, overruns, value.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    pub signo: i32,
    pub code: i32,
    pub timer: i32,
    pub overruns: i32,
    pub value: usize,
}

/// Takes a blocked signal, which has to come within the time.
pub fn take(signo: i32, milliseconds: u64) -> Result<Told, i32> {
    let set = set_of(&[signo]);
    let mut words = [0i32; 32];
    let time = sys::timespec(milliseconds * MS);
    let signo = syscall!(
        SYS_rt_sigtimedwait,
        &raw const set,
        words.as_mut_ptr(),
        &raw const time,
        8
    )?;
    assert_eq!(words[0], signo as i32);
    Ok(Told {
        signo: words[0],
        code: words[2],
        timer: words[4],
        overruns: words[5],
        value: words[6] as u32 as usize | (words[7] as u32 as usize) << 32,
    })
}

pub fn pending() -> u64 {
    let mut pending = 0u64;
    syscall!(SYS_rt_sigpending, &raw mut pending, 8).expect("rt_sigpending");
    pending
}

fn clocks_are_checked() {
    let silent = sys::silent_event();
    for clock in [
        libc::CLOCK_REALTIME,
        libc::CLOCK_MONOTONIC,
        libc::CLOCK_BOOTTIME,
        CLOCK_TAI,
        libc::CLOCK_PROCESS_CPUTIME_ID,
        libc::CLOCK_THREAD_CPUTIME_ID,
        process_clock(0),
        thread_clock(0),
        process_clock(std::process::id() as i32),
    ] {
        let number = try_create(clock, &silent).unwrap_or_else(|error| panic!("clock {clock}: error {error}"));
        delete(number);
    }
    for clock in [
        libc::CLOCK_MONOTONIC_RAW,
        libc::CLOCK_REALTIME_COARSE,
        libc::CLOCK_MONOTONIC_COARSE,
    ] {
        assert_eq!(try_create(clock, &silent), Err(libc::EOPNOTSUPP), "clock {clock}");
        assert_eq!(nap(clock, 0, 1), Err(libc::EOPNOTSUPP), "sleep by clock {clock}");
    }
    for clock in [10, 12, 99, i32::MAX, process_clock(i32::MAX >> 4), !0 << 3 | 7] {
        assert_eq!(try_create(clock, &silent), Err(libc::EINVAL), "clock {clock}");
        assert_eq!(nap(clock, 0, 1), Err(libc::EINVAL), "sleep by clock {clock}");
    }
    // Those that would wake the machine: where it has a clock that can, root may.
    for clock in CLOCK_ALARMS {
        let made = try_create(clock, &silent);
        assert!(
            made.is_ok() || made == Err(libc::EOPNOTSUPP) || made == Err(libc::EPERM),
            "clock {clock}: {made:?}"
        );
        sys::in_child(|| {
            syscall!(SYS_setresuid, 1000, 1000, 1000).expect("setresuid");
            let refused = try_create(clock, &silent);
            assert!(
                refused == Err(libc::EPERM) || refused == Err(libc::EOPNOTSUPP),
                "clock {clock}: {refused:?}"
            );
        });
    }
}

fn events_are_checked() {
    let monotonic = libc::CLOCK_MONOTONIC;
    for signo in [0, -1, 65] {
        for notify in [libc::SIGEV_SIGNAL, libc::SIGEV_THREAD] {
            assert_eq!(try_create(monotonic, &event(notify, signo, 0)), Err(libc::EINVAL));
        }
        assert!(
            try_create(monotonic, &event(libc::SIGEV_NONE, signo, 0)).is_ok(),
            "nobody hears of it"
        );
    }
    assert_eq!(try_create(monotonic, &event(3, SIGNAL, 0)), Err(libc::EINVAL));
    assert_eq!(try_create(monotonic, &event(99, SIGNAL, 0)), Err(libc::EINVAL));
    // A thread of another process.
    let mut elsewhere = event(libc::SIGEV_THREAD_ID, SIGNAL, 0);
    for thread in [1, 0, -1] {
        elsewhere.sigev_notify_thread_id = thread;
        assert_eq!(try_create(monotonic, &elsewhere), Err(libc::EINVAL), "thread {thread}");
    }
    let mut number = 0i32;
    assert_eq!(
        syscall!(SYS_timer_create, monotonic, 8, &raw mut number),
        Err(libc::EFAULT)
    );
    let silent = sys::silent_event();
    assert_eq!(
        syscall!(SYS_timer_create, monotonic, &raw const silent, 8),
        Err(libc::EFAULT)
    );
}

fn numbers_are_checked() {
    let (first, second) = (create(libc::CLOCK_MONOTONIC), create(libc::CLOCK_MONOTONIC));
    assert_ne!(first, second);
    delete(first);
    for number in [first, second + 1000, -1] {
        assert_eq!(set(number, 0, 0, 0), Err(libc::EINVAL));
        assert_eq!(get(number), Err(libc::EINVAL));
        assert_eq!(overruns(number), Err(libc::EINVAL));
        assert_eq!(syscall!(SYS_timer_delete, number), Err(libc::EINVAL));
    }
    assert_ne!(create(libc::CLOCK_MONOTONIC), first, "numbers are used again late");
    let settime = |new: usize, old: usize| syscall!(SYS_timer_settime, second, 0, new, old);
    assert_eq!(settime(0, 0), Err(libc::EINVAL));
    assert_eq!(settime(8, 0), Err(libc::EFAULT));
    for (seconds, nanoseconds) in [(-1, 0), (0, -1), (0, 1_000_000_000)] {
        for place in 0..2 {
            let mut bad = setting(0, 0);
            (bad[place].tv_sec, bad[place].tv_nsec) = (seconds, nanoseconds);
            assert_eq!(settime(bad.as_ptr() as usize, 0), Err(libc::EINVAL));
        }
    }
    assert_eq!(syscall!(SYS_timer_gettime, second, 8), Err(libc::EFAULT));
    // Bits of the flags that mean nothing are not looked at.
    assert_eq!(set(second, 0x70, 0, 0), Ok((0, 0)));
}

fn a_timer_tells_its_number_and_value() {
    mask(libc::SIG_BLOCK, &[SIGNAL]);
    create(libc::CLOCK_MONOTONIC);
    for clock in [
        libc::CLOCK_REALTIME,
        libc::CLOCK_MONOTONIC,
        libc::CLOCK_BOOTTIME,
        CLOCK_TAI,
    ] {
        let value = 0x1234_5678_9abc_def0;
        let number = try_create(clock, &event(libc::SIGEV_SIGNAL, SIGNAL, value)).expect("timer_create");
        assert_ne!(number, 0);
        let before = sys::now();
        set(number, 0, 20 * MS, 0).expect("timer_settime");
        let told = take(SIGNAL, 5000).expect("its signal");
        assert!(sys::now() - before >= 20 * MS, "not early");
        let expected = Told {
            signo: SIGNAL,
            code: libc::SI_TIMER,
            timer: number,
            overruns: 0,
            value,
        };
        assert_eq!(told, expected);
        assert_eq!(get(number), Ok((0, 0)), "it is over");
        assert_eq!(overruns(number), Ok(0));
    }
}

static COUNT: AtomicI32 = AtomicI32::new(0);
static LAST_TIMER: AtomicI32 = AtomicI32::new(-1);
static RECEIVER: AtomicI32 = AtomicI32::new(0);

pub extern "C" fn count(_: i32, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel's.
    let (code, value) = unsafe { ((*info).si_code, (*info).si_value().sival_ptr as usize as i32) };
    if code == libc::SI_TIMER {
        LAST_TIMER.store(value, SeqCst);
    }
    RECEIVER.store(syscall!(SYS_gettid).unwrap_or(0) as i32, SeqCst);
    COUNT.fetch_add(1, SeqCst);
}

fn count_to(wanted: i32) {
    let deadline = sys::now() + 10 * SECOND;
    while COUNT.load(SeqCst) < wanted {
        assert!(sys::now() < deadline, "{} of {wanted} signals", COUNT.load(SeqCst));
        sys::sleep_ms(1);
    }
}

fn without_an_event_it_is_an_alarm() {
    handle(libc::SIGALRM, 0, &[], count);
    create(libc::CLOCK_MONOTONIC);
    let mut number = 0i32;
    syscall!(SYS_timer_create, libc::CLOCK_REALTIME, 0, &raw mut number).expect("timer_create");
    assert_ne!(number, 0);
    set(number, 0, 1, MS).expect("timer_settime");
    count_to(5);
    delete(number);
    assert_eq!(LAST_TIMER.load(SeqCst), number, "the value is the timer's number");
}

fn a_silent_timer_only_counts() {
    let number = try_create(libc::CLOCK_MONOTONIC, &sys::silent_event()).expect("timer_create");
    assert_eq!(set(number, 0, 10 * MS, 0), Ok((0, 0)));
    let (left, _) = get(number).expect("timer_gettime");
    assert!((1..=10 * MS).contains(&left), "{left}");
    sys::sleep_ms(15);
    assert_eq!(get(number), Ok((0, 0)), "one that is over shows nothing");
    set(number, 0, 10 * MS, 50 * MS).expect("timer_settime");
    sys::sleep_ms(30);
    let (left, interval) = get(number).expect("timer_gettime");
    assert!((1..=50 * MS).contains(&left), "{left}");
    assert_eq!(interval, 50 * MS);
    assert_eq!(pending(), 0);
}

fn one_signal_is_pending_and_the_rest_is_counted() {
    mask(libc::SIG_BLOCK, &[SIGNAL, 40]);
    // A real-time signal would queue many times over, if the timer sent them.
    for signo in [SIGNAL, 40] {
        let number = try_create(libc::CLOCK_MONOTONIC, &event(libc::SIGEV_SIGNAL, signo, 1)).expect("timer_create");
        let begun = sys::now();
        set(number, 0, 10 * MS, 10 * MS).expect("timer_settime");
        sys::sleep_ms(105);
        let told = take(signo, 5000).expect("its signal");
        let most = (sys::now() - begun) / (10 * MS);
        assert!((9..most as i32).contains(&told.overruns), "{} of {most}", told.overruns);
        assert_eq!(overruns(number), Ok(told.overruns as usize));
        // Unless the time has come again meanwhile: the first and those that were counted are over.
        let another = take(signo, 0).is_ok();
        let again = (told.overruns as u64 + 2) * 10 * MS;
        assert!(!another || sys::now() - begun >= again, "one was pending");
        // It goes on where it would have been.
        while take(signo, 0).is_ok() {}
        let next = take(signo, 5000).expect("the next");
        assert_eq!(next.timer, number);
        let phase = (sys::now() - begun) % (10 * MS);
        assert!(phase < 9 * MS || next.overruns > 0, "in step: {phase}");
        delete(number);
        while take(signo, 0).is_ok() {}
    }
    // A single one that is set again while its signal waits.
    let number = create(libc::CLOCK_MONOTONIC);
    set(number, 0, 1, 0).expect("timer_settime");
    sys::sleep_ms(5);
    assert_eq!(pending() & set_of(&[SIGNAL]), set_of(&[SIGNAL]));
    assert_eq!(get(number), Ok((0, 0)));
    assert_eq!(take(SIGNAL, 0).map(|told| told.timer), Ok(number));
    assert_eq!(take(SIGNAL, 0), Err(libc::EAGAIN));
}

fn an_ignored_signal_does_not_stop_a_timer() {
    sys::disposition(SIGNAL, libc::SIG_IGN);
    let number = create(libc::CLOCK_MONOTONIC);
    set(number, 0, MS, 5 * MS).expect("timer_settime");
    sys::sleep_ms(30);
    assert_eq!(pending(), 0);
    let (left, interval) = get(number).expect("timer_gettime");
    assert!(left > 0 && interval == 5 * MS, "{left}, {interval}");
    handle(SIGNAL, 0, &[], count);
    count_to(3);
    delete(number);
    // Ignored while one is pending.
    mask(libc::SIG_BLOCK, &[SIGNAL]);
    let number = create(libc::CLOCK_MONOTONIC);
    set(number, 0, 1, 0).expect("timer_settime");
    sys::sleep_ms(10);
    sys::disposition(SIGNAL, libc::SIG_IGN);
    assert_eq!(pending(), 0);
    handle(SIGNAL, 0, &[], count);
    set(number, 0, 1, 0).expect("timer_settime");
    assert_eq!(take(SIGNAL, 5000).map(|told| told.timer), Ok(number));
}

fn a_signal_goes_to_the_thread_that_was_named() {
    static DONE: AtomicBool = AtomicBool::new(false);
    static TID: AtomicI32 = AtomicI32::new(0);
    handle(SIGNAL, 0, &[], count);
    let other = thread::spawn(|| {
        TID.store(syscall!(SYS_gettid).expect("gettid") as i32, SeqCst);
        while !DONE.load(SeqCst) {
            sys::sleep_ms(1);
        }
    });
    while TID.load(SeqCst) == 0 {
        sys::sleep_ms(1);
    }
    let mut to_thread = event(libc::SIGEV_THREAD_ID, SIGNAL, 5);
    to_thread.sigev_notify_thread_id = TID.load(SeqCst);
    let number = try_create(libc::CLOCK_MONOTONIC, &to_thread).expect("timer_create");
    set(number, 0, MS, 2 * MS).expect("timer_settime");
    count_to(10);
    assert_eq!(RECEIVER.load(SeqCst), TID.load(SeqCst));
    DONE.store(true, SeqCst);
    other.join().expect("the thread");
    // Its signal goes nowhere now.
    sys::sleep_ms(10);
    let seen = COUNT.load(SeqCst);
    sys::sleep_ms(20);
    assert_eq!(COUNT.load(SeqCst), seen);
    set(number, 0, MS, 0).expect("timer_settime");
    delete(number);
}

fn settings_are_told() {
    let number = create(libc::CLOCK_MONOTONIC);
    assert_eq!(get(number), Ok((0, 0)));
    assert_eq!(set(number, 0, 100 * SECOND, 3 * SECOND), Ok((0, 0)));
    let (left, interval) = get(number).expect("timer_gettime");
    assert!((99 * SECOND..=100 * SECOND).contains(&left), "{left}");
    assert_eq!(interval, 3 * SECOND);
    let (left, interval) = set(number, 0, 50 * SECOND, 0).expect("timer_settime");
    assert!((99 * SECOND..=100 * SECOND).contains(&left), "{left}");
    assert_eq!(interval, 3 * SECOND);
    // An interval without a value disarms.
    let (left, interval) = set(number, 0, 0, 5 * SECOND).expect("timer_settime");
    assert!((49 * SECOND..=50 * SECOND).contains(&left), "{left}");
    assert_eq!(interval, 0);
    assert_eq!(get(number).expect("timer_gettime").0, 0);
    // Times beyond all that the clock will show.
    let mut far = setting(0, 0);
    far[1].tv_sec = i64::MAX;
    syscall!(SYS_timer_settime, number, 0, far.as_ptr(), 0).expect("timer_settime");
    let (left, _) = get(number).expect("timer_gettime");
    assert!(left > 200 * 365 * 24 * 3600 * SECOND, "{left}");
}

fn absolute_times_hold() {
    mask(libc::SIG_BLOCK, &[SIGNAL]);
    for clock in [
        libc::CLOCK_REALTIME,
        libc::CLOCK_MONOTONIC,
        libc::CLOCK_BOOTTIME,
        CLOCK_TAI,
    ] {
        let number = create(clock);
        let now = sys::clock(clock);
        set(number, libc::TIMER_ABSTIME, now + 20 * MS, 0).expect("timer_settime");
        let (left, _) = get(number).expect("timer_gettime");
        assert!((1..=20 * MS).contains(&left), "{left}");
        assert_eq!(take(SIGNAL, 5000).map(|told| told.timer), Ok(number));
        assert!(sys::clock(clock) >= now + 20 * MS, "not early");
        // What has passed expires at once, and an interval counts from there.
        let past = sys::clock(clock) - 1050 * MS;
        set(number, libc::TIMER_ABSTIME, past, 100 * MS).expect("timer_settime");
        let told = take(SIGNAL, 5000).expect("at once");
        let passed = (sys::clock(clock) - past) / (100 * MS);
        assert!(
            told.timer == number && (10..=passed as i32).contains(&told.overruns),
            "{told:?}"
        );
        delete(number);
    }
}

fn no_signal_comes_after_the_end() {
    mask(libc::SIG_BLOCK, &[40]);
    let number = try_create(libc::CLOCK_MONOTONIC, &event(libc::SIGEV_SIGNAL, 40, 0)).expect("timer_create");
    for turn in 0..2000 {
        // So that some expire before they are disarmed, and some do not.
        set(number, 0, 1 + turn % 40 * 1000, 0).expect("timer_settime");
        for _ in 0..turn % 20 * 10 {
            std::hint::spin_loop();
        }
        set(number, 0, 0, 0).expect("timer_settime");
        let came = take(40, 0).is_ok();
        assert_eq!(pending(), 0, "turn {turn}, another came: {came}");
    }
    for turn in 0..500 {
        let number = try_create(libc::CLOCK_MONOTONIC, &event(libc::SIGEV_SIGNAL, 40, 0)).expect("timer_create");
        set(number, 0, 1 + turn % 40 * 1000, MS).expect("timer_settime");
        delete(number);
        let _came = take(40, 0).is_ok();
        sys::sleep_ms(u64::from(turn % 100 == 0));
        assert_eq!(pending(), 0, "turn {turn}");
    }
}

fn neither_fork_nor_exec_hands_them_on() {
    handle(SIGNAL, 0, &[], count);
    let number = create(libc::CLOCK_MONOTONIC);
    set(number, 0, SECOND, SECOND).expect("timer_settime");
    let child = fork(|| i32::from(get(number) != Err(libc::EINVAL)));
    assert_eq!(wait_exit(child), 0);
    delete(number);
    let child = fork(|| {
        mask(libc::SIG_BLOCK, &[SIGNAL]);
        let number = create(libc::CLOCK_MONOTONIC);
        set(number, 0, 1, 10 * MS).expect("timer_settime");
        sys::sleep_ms(5);
        let me = crate::programs::myself();
        crate::programs::execute(&me, &[&me, "helper", "timers-after-exec", &number.to_string()])
    });
    assert_eq!(wait_exit(child), 0);
}

/// What a program finds that was begun by one with a timer whose signal was pending.
pub fn after_exec(number: &str) -> bool {
    let number = number.parse().expect("a number");
    sys::sleep_ms(20);
    get(number) == Err(libc::EINVAL) && pending() == 0
}

fn as_many_as_signals_may_be_queued() {
    let limit = [8u64, 8];
    syscall!(SYS_prlimit64, 0, libc::RLIMIT_SIGPENDING, limit.as_ptr(), 0).expect("prlimit64");
    let silent = sys::silent_event();
    let mut made = Vec::new();
    let refused = loop {
        match try_create(libc::CLOCK_MONOTONIC, &silent) {
            Ok(number) => made.push(number),
            Err(error) => break error,
        }
        assert!(made.len() <= 8, "beyond the limit");
    };
    assert_eq!(refused, libc::EAGAIN);
    // Others of the same user may have some of Linux's.
    if let Some(number) = made.pop() {
        delete(number);
        assert!(try_create(libc::CLOCK_MONOTONIC, &silent).is_ok());
    }
}

fn setting_the_clock_moves_absolute_timers() {
    mask(libc::SIG_BLOCK, &[SIGNAL, libc::SIGUSR2]);
    let real = libc::CLOCK_REALTIME;
    let now = sys::timespec(sys::clock(real));
    if syscall!(SYS_clock_settime, real, &raw const now).is_err() {
        // Not root, or in a container.
        return;
    }
    let absolute = create(real);
    let relative = try_create(real, &event(libc::SIGEV_SIGNAL, libc::SIGUSR2, 0)).expect("timer_create");
    let begun = sys::clock(real);
    set(absolute, libc::TIMER_ABSTIME, begun + 3600 * SECOND, 0).expect("timer_settime");
    set(relative, 0, 3600 * SECOND, 0).expect("timer_settime");
    let sleeper = thread::spawn(move || nap(real, libc::TIMER_ABSTIME, begun + 3600 * SECOND));
    sys::sleep_ms(50);
    let ahead = sys::timespec(sys::clock(real) + 3600 * SECOND);
    syscall!(SYS_clock_settime, real, &raw const ahead).expect("clock_settime");
    let told = take(SIGNAL, 5000);
    let slept = sleeper.join().expect("the sleeper");
    let (left, _) = get(relative).expect("timer_gettime");
    let back = sys::timespec(sys::clock(real) - 3600 * SECOND);
    syscall!(SYS_clock_settime, real, &raw const back).expect("clock_settime");
    assert_eq!(told.map(|told| told.timer), Ok(absolute));
    assert_eq!(slept, Ok(0));
    assert!(left > 3000 * SECOND, "{left}");
    assert_eq!(pending(), 0);
}

fn thousands_of_timers_lose_no_memory() {
    mask(libc::SIG_BLOCK, &[SIGNAL]);
    for turn in 0..3000 {
        let clock = if turn % 10 == 0 {
            libc::CLOCK_PROCESS_CPUTIME_ID
        } else {
            libc::CLOCK_MONOTONIC
        };
        let number = create(clock);
        set(number, 0, 1 + turn % 3 * MS, turn % 2 * MS).expect("timer_settime");
        if turn % 4 == 0 {
            delete(number);
        }
    }
    let child = fork(|| {
        let number = create(libc::CLOCK_MONOTONIC);
        set(number, 0, 1, 1).expect("timer_settime");
        0
    });
    assert_eq!(wait_exit(child), 0);
}
