//! Timers that are read: `timerfd_create` and its kin.

use std::thread;

use crate::{
    sys::{self, Sys, fork, wait_exit},
    syscall,
    timers::{MS, SECOND, setting, told},
};

crate::tests! { "timerfds":
    arguments_are_checked;
    expiries_are_read;
    a_read_waits_and_polls_are_woken;
    intervals_are_counted;
    settings_are_told;
    absolute_times_hold;
    setting_anew_forgets;
    a_clock_that_is_set_cancels;
    ticks_can_be_put_in;
    thousands_lose_no_memory [frees];
}

const EMPTY: Result<u64, i32> = Err(libc::EAGAIN);

fn create(clock: i32, flags: i32) -> i32 {
    syscall!(SYS_timerfd_create, clock, flags).expect("timerfd_create") as i32
}

fn set(timer: i32, flags: i32, value: u64, interval: u64) -> Result<(u64, u64), i32> {
    let new = setting(value, interval);
    let mut old = setting(7, 7);
    syscall!(SYS_timerfd_settime, timer, flags, new.as_ptr(), old.as_mut_ptr())?;
    Ok(told(old))
}

fn get(timer: i32) -> (u64, u64) {
    let mut now = setting(7, 7);
    syscall!(SYS_timerfd_gettime, timer, now.as_mut_ptr()).expect("timerfd_gettime");
    told(now)
}

fn expiries(timer: i32) -> Result<u64, i32> {
    let mut count = [0; 8];
    assert_eq!(sys::read(timer, &mut count)?, 8);
    Ok(u64::from_ne_bytes(count))
}

fn arguments_are_checked() {
    let make = |clock: i32, flags: i32| syscall!(SYS_timerfd_create, clock, flags);
    for clock in [
        2,
        3,
        libc::CLOCK_MONOTONIC_RAW,
        libc::CLOCK_REALTIME_COARSE,
        10,
        11,
        99,
        -6,
    ] {
        assert_eq!(make(clock, 0), Err(libc::EINVAL), "clock {clock}");
    }
    assert_eq!(make(libc::CLOCK_MONOTONIC, 1), Err(libc::EINVAL));
    for clock in [8, 9] {
        sys::in_child(|| {
            syscall!(SYS_setresuid, 1000, 1000, 1000).expect("setresuid");
            assert_eq!(make(clock, 0), Err(libc::EPERM), "it would wake the machine");
        });
    }
    for clock in [libc::CLOCK_REALTIME, libc::CLOCK_MONOTONIC, libc::CLOCK_BOOTTIME] {
        let timer = create(clock, libc::TFD_CLOEXEC);
        assert_eq!(syscall!(SYS_fcntl, timer, libc::F_GETFD), Ok(libc::FD_CLOEXEC as usize));
        assert_eq!(syscall!(SYS_fcntl, timer, libc::F_GETFL), Ok(libc::O_RDWR as usize));
        sys::close(timer);
    }
    let timer = create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK);
    assert_eq!(syscall!(SYS_fcntl, timer, libc::F_GETFD), Ok(0));
    let link = std::fs::read_link(format!("/proc/self/fd/{timer}")).expect("its link");
    assert_eq!(link.to_str(), Some("anon_inode:[timerfd]"));
    let new = setting(0, 0);
    let settime =
        |timer: i32, flags: i32, new: usize, old: usize| syscall!(SYS_timerfd_settime, timer, flags, new, old);
    let good = new.as_ptr() as usize;
    assert_eq!(settime(timer, 4, good, 0), Err(libc::EINVAL));
    assert_eq!(settime(-1, 0, good, 0), Err(libc::EBADF));
    assert_eq!(settime(timer, 0, 8, 0), Err(libc::EFAULT));
    assert_eq!(settime(timer, 0, 0, 0), Err(libc::EFAULT));
    assert_eq!(settime(timer, 0, good, 8), Err(libc::EFAULT));
    let (from, to) = sys::pipe(0);
    assert_eq!(settime(from, 0, good, 0), Err(libc::EINVAL), "no timer");
    assert_eq!(syscall!(SYS_timerfd_gettime, to, good), Err(libc::EINVAL));
    assert_eq!(syscall!(SYS_timerfd_gettime, 99, good), Err(libc::EBADF));
    assert_eq!(syscall!(SYS_timerfd_gettime, timer, 8), Err(libc::EFAULT));
    for (seconds, nanoseconds) in [(-1, 0), (0, -1), (0, 1_000_000_000)] {
        for place in 0..2 {
            let mut bad = setting(0, 0);
            (bad[place].tv_sec, bad[place].tv_nsec) = (seconds, nanoseconds);
            assert_eq!(settime(timer, 0, bad.as_ptr() as usize, 0), Err(libc::EINVAL));
        }
    }
    assert_eq!(sys::read(timer, &mut [0; 7]), Err(libc::EINVAL));
    assert_eq!(sys::write(timer, &[0; 8]), Err(libc::EINVAL));
    assert_eq!(
        syscall!(SYS_pread64, timer, [0u8; 8].as_mut_ptr(), 8, 0),
        Err(libc::ESPIPE)
    );
    assert_eq!(expiries(timer), EMPTY);
}

fn expiries_are_read() {
    for clock in [libc::CLOCK_REALTIME, libc::CLOCK_MONOTONIC, libc::CLOCK_BOOTTIME] {
        let timer = create(clock, 0);
        let begun = sys::now();
        set(timer, 0, 20 * MS, 0).expect("timerfd_settime");
        assert_eq!(expiries(timer), Ok(1));
        assert!(sys::now() - begun >= 20 * MS, "not early");
        syscall!(SYS_fcntl, timer, libc::F_SETFL, libc::O_NONBLOCK).expect("fcntl");
        assert_eq!(expiries(timer), EMPTY);
        // One that has passed when the caller looks is there, whoever else has looked.
        set(timer, 0, 1, 0).expect("timerfd_settime");
        let begun = sys::now();
        while sys::now() < begun + MS {}
        let mut more = [9; 16];
        assert_eq!(
            sys::read(timer, &mut more),
            Ok(8),
            "a number, however much is asked for"
        );
        assert_eq!(more[..9], [1, 0, 0, 0, 0, 0, 0, 0, 9]);
        // A page that is not there takes nothing away.
        set(timer, 0, 1, 0).expect("timerfd_settime");
        sys::sleep_ms(2);
        let fresh = sys::memory(4096);
        assert_eq!(syscall!(SYS_read, timer, fresh, 8), Ok(8));
        sys::close(timer);
    }
}

fn a_read_waits_and_polls_are_woken() {
    let timer = create(libc::CLOCK_MONOTONIC, 0);
    assert_eq!(sys::poll(timer, libc::POLLIN | libc::POLLOUT, 1), 0);
    set(timer, 0, 30 * MS, 0).expect("timerfd_settime");
    assert_eq!(
        sys::poll(timer, libc::POLLIN | libc::POLLOUT, 0),
        0,
        "not writable ever"
    );
    assert_eq!(sys::poll(timer, libc::POLLIN | libc::POLLRDNORM, 5000), libc::POLLIN);
    assert_eq!(
        sys::poll(timer, libc::POLLIN, 5000),
        libc::POLLIN,
        "as long as it is not read"
    );
    assert_eq!(expiries(timer), Ok(1));
    assert_eq!(sys::poll(timer, libc::POLLIN, 1), 0);
    // Who waits before it is armed, or armed for later, hears of it too.
    let reader = thread::spawn(move || expiries(timer));
    let poller = thread::spawn(move || sys::poll(timer, libc::POLLIN, 10_000));
    set(timer, 0, 3600 * SECOND, 0).expect("timerfd_settime");
    sys::sleep_ms(20);
    set(timer, 0, 1, 0).expect("timerfd_settime");
    assert_eq!(reader.join().expect("the reader"), Ok(1));
    // The reader may have been faster.
    set(timer, 0, 1, 0).expect("timerfd_settime");
    assert_eq!(poller.join().expect("the poller"), libc::POLLIN);
    // A child has the same one.
    set(timer, 0, 20 * MS, 0).expect("timerfd_settime");
    let child = fork(|| i32::from(expiries(timer) != Ok(1)));
    assert_eq!(wait_exit(child), 0);
    assert_eq!(sys::poll(timer, libc::POLLIN, 0), 0);
}

fn intervals_are_counted() {
    let timer = create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK);
    let begun = sys::now();
    set(timer, 0, 10 * MS, 10 * MS).expect("timerfd_settime");
    assert_eq!(sys::poll(timer, libc::POLLIN, 5000), libc::POLLIN);
    sys::sleep_ms(100);
    let counted = expiries(timer).expect("some");
    let passed = (sys::now() - begun) / (10 * MS);
    assert!((10..=passed).contains(&counted), "{counted} of {passed}");
    assert_eq!(sys::poll(timer, libc::POLLIN, 5000), libc::POLLIN, "it goes on");
    let (left, interval) = get(timer);
    assert!((1..=10 * MS).contains(&left), "{left}");
    assert_eq!(interval, 10 * MS);
    let all = counted + expiries(timer).expect("more");
    let passed = (sys::now() - begun) / (10 * MS);
    assert!(
        all <= passed && all + 1 >= passed,
        "{all} of {passed}: none lost, none invented"
    );
}

fn settings_are_told() {
    let timer = create(libc::CLOCK_BOOTTIME, libc::TFD_NONBLOCK);
    assert_eq!(get(timer), (0, 0));
    assert_eq!(set(timer, 0, 100 * SECOND, 3 * SECOND), Ok((0, 0)));
    let (left, interval) = get(timer);
    assert!((99 * SECOND..=100 * SECOND).contains(&left), "{left}");
    assert_eq!(interval, 3 * SECOND);
    let (left, interval) = set(timer, 0, MS, 0).expect("timerfd_settime");
    assert!((99 * SECOND..=100 * SECOND).contains(&left), "{left}");
    assert_eq!(interval, 3 * SECOND);
    sys::sleep_ms(3);
    assert_eq!(get(timer), (0, 0), "it is over");
    assert_eq!(set(timer, 0, 0, 5 * SECOND), Ok((0, 0)));
    assert_eq!(expiries(timer), EMPTY, "disarmed, and what it had is forgotten");
    assert_eq!(get(timer).0, 0);
}

fn absolute_times_hold() {
    for clock in [libc::CLOCK_REALTIME, libc::CLOCK_MONOTONIC, libc::CLOCK_BOOTTIME] {
        let timer = create(clock, 0);
        let until = sys::clock(clock) + 20 * MS;
        set(timer, libc::TFD_TIMER_ABSTIME, until, 0).expect("timerfd_settime");
        assert_eq!(expiries(timer), Ok(1));
        assert!(sys::clock(clock) >= until);
        set(timer, libc::TFD_TIMER_ABSTIME, 1, 0).expect("timerfd_settime");
        assert_eq!(expiries(timer), Ok(1), "long past");
        let past = sys::clock(clock) - 1050 * MS;
        set(timer, libc::TFD_TIMER_ABSTIME, past, 100 * MS).expect("timerfd_settime");
        let counted = expiries(timer).expect("some");
        let passed = (sys::clock(clock) - past) / (100 * MS) + 1;
        assert!((11..=passed).contains(&counted), "{counted}");
        sys::close(timer);
    }
}

fn setting_anew_forgets() {
    let timer = create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK);
    for turn in 0..1000 {
        set(timer, 0, 1 + turn % 30 * 1000, 0).expect("timerfd_settime");
        for _ in 0..turn % 20 * 10 {
            std::hint::spin_loop();
        }
        set(timer, 0, 0, 0).expect("timerfd_settime");
        assert_eq!(sys::poll(timer, libc::POLLIN, 0), 0, "turn {turn}");
        assert_eq!(expiries(timer), EMPTY, "turn {turn}");
    }
}

fn clock_set(time: u64) -> Sys {
    let time = sys::timespec(time);
    syscall!(SYS_clock_settime, libc::CLOCK_REALTIME, &raw const time)
}

fn a_clock_that_is_set_cancels() {
    const FLAGS: i32 = libc::TFD_TIMER_ABSTIME | libc::TFD_TIMER_CANCEL_ON_SET;
    let real = libc::CLOCK_REALTIME;
    if clock_set(sys::clock(real)).is_err() {
        // Not root, or in a container.
        return;
    }
    let cancelled = create(real, libc::TFD_NONBLOCK);
    let moved = create(real, libc::TFD_NONBLOCK);
    let relative = create(real, libc::TFD_NONBLOCK);
    let monotonic = create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK);
    let blocking = create(real, 0);
    let now = sys::clock(real);
    set(cancelled, FLAGS, now + 3600 * SECOND, 0).expect("timerfd_settime");
    set(blocking, FLAGS, now + 3600 * SECOND, 0).expect("timerfd_settime");
    set(moved, libc::TFD_TIMER_ABSTIME, now + 1800 * SECOND, 0).expect("timerfd_settime");
    set(relative, libc::TFD_TIMER_CANCEL_ON_SET, 1800 * SECOND, 0).expect("timerfd_settime");
    let until = sys::now() + 3600 * SECOND;
    set(monotonic, FLAGS, until, 0).expect("timerfd_settime");
    let waiting = thread::spawn(move || expiries(blocking));
    let polling = thread::spawn(move || sys::poll(cancelled, libc::POLLIN, 500));
    sys::sleep_ms(30);
    assert_eq!(expiries(cancelled), EMPTY);
    clock_set(sys::clock(real) + 2400 * SECOND).expect("clock_settime");
    let seen = [cancelled, moved, relative, monotonic].map(expiries);
    let again = expiries(cancelled);
    let (waited, polled) = (waiting.join(), polling.join());
    clock_set(sys::clock(real) - 2400 * SECOND).expect("clock_settime");
    // Back again is another time.
    let back = set(cancelled, FLAGS, sys::clock(real) + SECOND, 0);
    assert_eq!(seen, [Err(libc::ECANCELED), Ok(1), EMPTY, EMPTY]);
    assert_eq!(again, EMPTY, "once");
    assert_eq!(waited.expect("the reader"), Err(libc::ECANCELED));
    // Unless the read was faster.
    assert!(matches!(polled.expect("the poller"), libc::POLLIN | 0));
    assert_eq!(back, Err(libc::ECANCELED));
    let (left, _) = get(cancelled);
    assert!((1..=SECOND).contains(&left), "set nevertheless: {left}");
    assert_eq!(sys::poll(cancelled, libc::POLLIN, 5000), libc::POLLIN);
    assert_eq!(expiries(cancelled), Ok(1));
}

fn ticks_can_be_put_in() {
    // TFD_IOC_SET_TICKS.
    const SET_TICKS: i32 = 0x4008_5400;
    let timer = create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK);
    let put = |ticks: u64| syscall!(SYS_ioctl, timer, SET_TICKS, &raw const ticks);
    if put(5) == Err(libc::ENOTTY) {
        // A kernel without checkpoint and restore.
        return;
    }
    assert_eq!(expiries(timer), Ok(5));
    assert_eq!(put(0), Err(libc::EINVAL));
    assert_eq!(syscall!(SYS_ioctl, timer, SET_TICKS, 8), Err(libc::EFAULT));
    assert_eq!(syscall!(SYS_ioctl, timer, libc::TCGETS, 8), Err(libc::ENOTTY));
    assert_eq!(expiries(timer), EMPTY);
}

fn thousands_lose_no_memory() {
    for turn in 0..2000 {
        let timer = create(
            if turn % 2 == 0 {
                libc::CLOCK_MONOTONIC
            } else {
                libc::CLOCK_REALTIME
            },
            libc::TFD_NONBLOCK,
        );
        let flags = if turn % 4 == 3 {
            libc::TFD_TIMER_ABSTIME | libc::TFD_TIMER_CANCEL_ON_SET
        } else {
            0
        };
        set(timer, flags, 1 + turn % 3 * MS, turn % 5 * MS).expect("timerfd_settime");
        sys::close(timer);
    }
}
