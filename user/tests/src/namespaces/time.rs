//! Time namespaces: what clocks show, what absolute times mean, to calls and without one.

use std::{fs, mem::zeroed};

use super::{open, own, setns, unshare};
use crate::{
    sys::{self, Sys, fork, in_child, wait_exit},
    syscall,
};

crate::tests! { "namespaces::time":
    children_are_in_it;
    clocks_are_ahead;
    the_vdso_agrees;
    absolute_times_are_its_own;
    timers_are_its_own;
    futexes_wait_by_its_clock;
    proc_shows_its_clocks;
    offsets_are_checked;
    it_is_entered_by_setns;
}

const NEWTIME: i32 = 0x80;
const SECOND: u64 = 1_000_000_000;
/// What clocks are ahead in these tests, in seconds.
const MONOTONIC: u64 = 10_000;
const BOOT: u64 = 20_000_000;

/// What a clock shows to a call, in nanoseconds.
fn called(clock: i32) -> u64 {
    // SAFETY: all zeroes are such a structure.
    let mut time: libc::timespec = unsafe { zeroed() };
    syscall!(SYS_clock_gettime, clock, &raw mut time).expect("clock_gettime");
    time.tv_sec as u64 * SECOND + time.tv_nsec as u64
}

fn set_offsets(text: &str) -> Result<(), i32> {
    fs::write("/proc/self/timens_offsets", text).map_err(|error| error.raw_os_error().unwrap_or(0))
}

/// Runs `body` in a process whose clocks are ahead, and tells it what they showed before.
fn ahead(body: impl FnOnce([u64; 2])) {
    in_child(|| {
        let before = [called(libc::CLOCK_MONOTONIC), called(libc::CLOCK_BOOTTIME)];
        unshare(NEWTIME).expect("unshare");
        set_offsets(&format!("monotonic {MONOTONIC} 0\nboottime {BOOT} 0\n")).expect("write");
        in_child(|| body(before));
    });
}

fn children_are_in_it() {
    in_child(|| {
        let before = own("time");
        unshare(NEWTIME).expect("unshare");
        let new = own("time_for_children");
        assert_ne!(new, before);
        assert_eq!(own("time"), before, "oneself is not");
        in_child(|| assert_eq!((own("time"), own("time_for_children")), (new.clone(), new.clone())));
    });
}

fn clocks_are_ahead() {
    ahead(|[monotonic, boot]| {
        for clock in [libc::CLOCK_MONOTONIC, libc::CLOCK_MONOTONIC_COARSE] {
            let passed = called(clock) - MONOTONIC * SECOND;
            assert!(
                passed + SECOND >= monotonic && passed < monotonic + 1000 * SECOND,
                "{clock}: {passed}"
            );
        }
        let passed = called(libc::CLOCK_BOOTTIME) - BOOT * SECOND;
        assert!(passed >= boot && passed < boot + 1000 * SECOND, "{passed}");
    });
}

fn the_vdso_agrees() {
    ahead(|_| {
        for clock in [libc::CLOCK_MONOTONIC, libc::CLOCK_BOOTTIME, libc::CLOCK_REALTIME] {
            let (first, between, last) = (called(clock), sys::clock(clock), called(clock));
            assert!(first <= between && between <= last, "{clock}: {first} {between} {last}");
        }
        // What a fork copies is as good.
        in_child(|| {
            let (first, between) = (called(libc::CLOCK_BOOTTIME), sys::clock(libc::CLOCK_BOOTTIME));
            assert!(first <= between);
        });
    });
    let (first, between, last) = (called(1), sys::clock(1), called(1));
    assert!(first <= between && between <= last, "nobody else's");
}

fn sleep_until(clock: i32, time: u64) -> Sys {
    let time = sys::timespec(time);
    syscall!(SYS_clock_nanosleep, clock, libc::TIMER_ABSTIME, &raw const time, 0)
}

fn absolute_times_are_its_own() {
    ahead(|_| {
        for clock in [libc::CLOCK_MONOTONIC, libc::CLOCK_BOOTTIME] {
            let until = called(clock) + SECOND / 20;
            assert_eq!(sleep_until(clock, until), Ok(0));
            assert!(called(clock) >= until);
            assert_eq!(sleep_until(clock, SECOND), Ok(0), "long ago");
        }
    });
}

fn timers_are_its_own() {
    ahead(|_| {
        for clock in [libc::CLOCK_MONOTONIC, libc::CLOCK_BOOTTIME] {
            let until = called(clock) + SECOND / 20;
            let setting = [sys::timespec(0), sys::timespec(until)];
            let file = syscall!(SYS_timerfd_create, clock, 0).expect("timerfd_create") as i32;
            syscall!(SYS_timerfd_settime, file, libc::TFD_TIMER_ABSTIME, setting.as_ptr(), 0).expect("timerfd_settime");
            assert_eq!(sys::read(file, &mut [0; 8]), Ok(8));
            assert!(called(clock) >= until);
            sys::close(file);

            let _blocked = sys::mask(libc::SIG_BLOCK, &[libc::SIGALRM]);
            let mut timer = 0i32;
            syscall!(SYS_timer_create, clock, 0, &raw mut timer).expect("timer_create");
            let until = called(clock) + SECOND / 20;
            let setting = [sys::timespec(0), sys::timespec(until)];
            syscall!(SYS_timer_settime, timer, libc::TIMER_ABSTIME, setting.as_ptr(), 0).expect("timer_settime");
            let set = sys::set_of(&[libc::SIGALRM]);
            let taken = syscall!(SYS_rt_sigtimedwait, &raw const set, 0, 0, 8);
            assert_eq!(taken, Ok(libc::SIGALRM as usize));
            assert!(called(clock) >= until);
        }
    });
}

fn futexes_wait_by_its_clock() {
    const WAIT_BITSET: i32 = 9;
    ahead(|_| {
        let word = 7u32;
        let until = called(libc::CLOCK_MONOTONIC) + SECOND / 20;
        let time = sys::timespec(until);
        let waited = syscall!(SYS_futex, &raw const word, WAIT_BITSET, 7, &raw const time, 0, !0u32);
        assert_eq!(waited, Err(libc::ETIMEDOUT));
        assert!(called(libc::CLOCK_MONOTONIC) >= until);
    });
}

fn proc_shows_its_clocks() {
    fn uptime() -> u64 {
        let text = fs::read_to_string("/proc/uptime").expect("read");
        text.split('.')
            .next()
            .and_then(|seconds| seconds.parse().ok())
            .expect("seconds")
    }
    fn started() -> u64 {
        let text = fs::read_to_string("/proc/self/stat").expect("read");
        text.split(' ')
            .nth(21)
            .and_then(|ticks| ticks.parse().ok())
            .expect("ticks")
    }
    let before = uptime();
    ahead(|_| {
        let now = uptime();
        assert!(now >= before + BOOT && now < before + BOOT + 1000, "{now}");
        let started = started() / 100;
        assert!(started >= before + BOOT - 1 && started <= now, "{started}");
        // SAFETY: all zeroes are such a structure.
        let mut info: libc::sysinfo = unsafe { zeroed() };
        syscall!(SYS_sysinfo, &raw mut info).expect("sysinfo");
        assert!(info.uptime as u64 >= now, "{}", info.uptime);
        let shown = fs::read_to_string("/proc/self/timens_offsets").expect("read");
        let words: Vec<_> = shown.split_ascii_whitespace().collect();
        assert_eq!(words, ["monotonic", "10000", "0", "boottime", "20000000", "0"]);
    });
}

fn offsets_are_checked() {
    assert_eq!(set_offsets("monotonic 1 0"), Err(libc::EACCES), "the first is in use");
    in_child(|| {
        unshare(NEWTIME).expect("unshare");
        for bad in ["monotonic", "monotonic 1", "monotonic 1 1000000000", "realtime 1 0"] {
            assert_eq!(set_offsets(bad), Err(libc::EINVAL), "{bad}");
        }
        assert_eq!(set_offsets("monotonic -1000000000 0"), Err(libc::ERANGE));
        assert_eq!(set_offsets("monotonic 9000000000 0"), Err(libc::ERANGE));
        assert_eq!(set_offsets("1 5 6"), Ok(()));
        assert_eq!(set_offsets("boottime 5 6"), Ok(()));
        in_child(|| ());
        assert_eq!(set_offsets("monotonic 7 0"), Err(libc::EACCES), "somebody was in it");
    });
    let child = fork(|| {
        syscall!(SYS_setresuid, 1000, 1000, 1000).expect("setresuid");
        i32::from(unshare(NEWTIME) != Err(libc::EPERM))
    });
    assert_eq!(wait_exit(child), 0);
}

fn it_is_entered_by_setns() {
    in_child(|| {
        unshare(NEWTIME).expect("unshare");
        set_offsets(&format!("boottime {BOOT} 0\n")).expect("write");
        let new = open("self", "time_for_children");
        assert!(sys::clock(libc::CLOCK_BOOTTIME) < BOOT * SECOND);
        in_child(|| {
            let old = open("1", "time");
            assert!(sys::clock(libc::CLOCK_BOOTTIME) > BOOT * SECOND);
            setns(old, NEWTIME).expect("setns");
            assert!(sys::clock(libc::CLOCK_BOOTTIME) < BOOT * SECOND);
            assert!(called(libc::CLOCK_BOOTTIME) < BOOT * SECOND);
            setns(new, 0).expect("setns");
            assert!(sys::clock(libc::CLOCK_BOOTTIME) > BOOT * SECOND);
            let tried = std::thread::spawn(move || setns(old, 0)).join().expect("a thread");
            assert_eq!(tried, Err(libc::EUSERS));
        });
    });
}
