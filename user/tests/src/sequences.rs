//! Restartable sequences: `rseq(2)`.

use std::{
    sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering::SeqCst},
    thread,
};

use crate::{
    arch::{SIGNATURE, Section, section, sequence},
    sys::{self, Sys, cpus, fork, in_child, pin, wait_exit, wait_killed},
    syscall,
};

crate::tests! { "sequences":
    registering_is_checked;
    the_cpu_is_told;
    what_nobody_disturbs_is_not_broken_off;
    a_signal_breaks_one_off;
    another_thread_breaks_one_off;
    moving_breaks_one_off;
    a_child_inherits_it_and_a_thread_does_not;
    execve_forgets_it;
    what_is_wrong_kills;
}

/// `struct rseq` (`linux/rseq.h`), which the kernel changes.
#[repr(C, align(32))]
#[derive(Default)]
struct Area {
    cpu_start: AtomicU32,
    cpu: AtomicU32,
    section: AtomicU64,
    rest: [u32; 4],
}

/// One that is registered, if it is.
#[derive(Default)]
struct Registered(Box<Area>);

impl Registered {
    fn new() -> Self {
        let area = Self::default();
        assert_eq!(area.call(32, 0, SIGNATURE), Ok(0));
        area
    }

    fn address(&self) -> usize {
        &raw const *self.0 as usize
    }

    fn call(&self, size: usize, flags: i32, signature: u32) -> Sys {
        syscall!(SYS_rseq, self.address(), size, flags, signature)
    }

    fn cpu(&self) -> u32 {
        let (start, cpu) = (self.0.cpu_start.load(SeqCst), self.0.cpu.load(SeqCst));
        assert_eq!(start, cpu);
        cpu
    }

    /// Turns in a sequence until something ends it.
    fn turn_until_broken_off(&self) {
        assert!(self.turn(&section(), u64::MAX), "nothing else ends it");
        assert_eq!(self.0.section.load(SeqCst), 0);
    }

    fn turn(&self, section: &Section, turns: u64) -> bool {
        sequence(self.0.section.as_ptr(), section, turns)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let _not_registered = self.call(32, 1, SIGNATURE);
    }
}

fn registering_is_checked() {
    let area = Registered::default();
    for size in [0, 20, 31, 33, 64] {
        assert_eq!(area.call(size, 0, SIGNATURE), Err(libc::EINVAL), "{size}");
    }
    for flags in [2, 3, -1] {
        assert_eq!(area.call(32, flags, SIGNATURE), Err(libc::EINVAL), "{flags:#x}");
    }
    let at = |address: usize| syscall!(SYS_rseq, address, 32, 0, SIGNATURE);
    assert_eq!(at(area.address() + 8), Err(libc::EINVAL));
    assert_eq!(at(usize::MAX & !31), Err(libc::EFAULT));
    assert_eq!(area.call(32, 1, SIGNATURE), Err(libc::EINVAL), "not registered");
    assert_eq!(area.call(32, 0, SIGNATURE), Ok(0));
    assert_eq!(area.call(32, 0, SIGNATURE), Err(libc::EBUSY));
    assert_eq!(area.call(32, 0, SIGNATURE + 1), Err(libc::EPERM));
    assert_eq!(at(area.address() + 32), Err(libc::EINVAL), "another");
    assert_eq!(area.call(32, 1, SIGNATURE + 1), Err(libc::EPERM));
    assert_eq!(area.call(20, 1, SIGNATURE), Err(libc::EINVAL));
    assert_eq!(area.call(32, 1, SIGNATURE), Ok(0));
    assert_eq!(area.0.cpu_start.load(SeqCst), 0);
    assert_eq!(area.0.cpu.load(SeqCst), u32::MAX, "uninitialized");
    assert_eq!(area.call(32, 1, SIGNATURE), Err(libc::EINVAL), "not any more");
}

fn the_cpu_is_told() {
    let area = Registered::new();
    // Before anything is pinned.
    let all = cpus();
    for _ in 0..20 {
        for &cpu in &all {
            pin(&[cpu]);
            assert_eq!((area.cpu() as usize, sys::cpu()), (cpu, cpu));
        }
    }
    // Many threads, which take turns where they are and are moved by each other: each knows where it is kept.
    let threads: Vec<_> = (0..2 * all.len())
        .map(|first| {
            let cpus = all.clone();
            thread::spawn(move || {
                let area = Registered::new();
                for turn in 0..200 {
                    let cpu = cpus[(first + turn * (1 + first % 3)) % cpus.len()];
                    pin(&[cpu]);
                    assert_eq!((area.cpu() as usize, sys::cpu()), (cpu, cpu));
                    if turn % 20 == 0 {
                        sys::sleep_ms(1);
                    }
                    // Not by a call: nothing but the scheduler has come between.
                    for _ in 0..2000 {
                        assert_eq!(area.cpu() as usize, cpu);
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("a thread saw a CPU that it was not on");
    }
}

fn what_nobody_disturbs_is_not_broken_off() {
    let area = Registered::new();
    let whole = (0..1000).filter(|_| !area.turn(&section(), 10)).count();
    assert!(whole > 900, "{whole} of 1000");
    // Left behind, as programs do: it does not matter outside of it.
    let left = section();
    area.turn(&left, 1);
    sys::sleep_ms(1);
    assert!((0..50).any(|_| !area.turn(&section(), 1000)));
}

fn a_signal_breaks_one_off() {
    static SEEN: AtomicBool = AtomicBool::new(false);
    extern "C" fn note(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
        SEEN.store(true, SeqCst);
    }
    sys::handle(libc::SIGALRM, 0, &[], note);
    let area = Registered::new();
    for _ in 0..3 {
        SEEN.store(false, SeqCst);
        alarm_in(20_000);
        while !SEEN.load(SeqCst) {
            area.turn_until_broken_off();
        }
    }
}

fn alarm_in(microseconds: i64) {
    let timer = libc::itimerval {
        it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
        it_value: libc::timeval {
            tv_sec: 0,
            tv_usec: microseconds,
        },
    };
    assert_eq!(syscall!(SYS_setitimer, libc::ITIMER_REAL, &raw const timer, 0), Ok(0));
}

/// What a thread that turns in sequences tells, and is told.
#[derive(Default)]
struct Spinner {
    tid: AtomicI32,
    broken_off: AtomicU32,
    over: AtomicBool,
}

impl Spinner {
    fn run(&self, cpu: usize) {
        pin(&[cpu]);
        let area = Registered::new();
        self.tid.store(syscall!(SYS_gettid).expect("gettid") as i32, SeqCst);
        while !self.over.load(SeqCst) {
            area.turn_until_broken_off();
            self.broken_off.fetch_add(1, SeqCst);
        }
    }

    /// Disturbs it until a sequence has been broken off. What comes before it has begun one does not count.
    fn disturb(&self, mut how: impl FnMut(i32)) {
        while self.tid.load(SeqCst) == 0 {
            thread::yield_now();
        }
        let before = self.broken_off.load(SeqCst);
        while self.broken_off.load(SeqCst) == before {
            how(self.tid.load(SeqCst));
            sys::sleep_ms(2);
        }
    }
}

fn another_thread_breaks_one_off() {
    let spinner = Spinner::default();
    let cpu = cpus()[0];
    thread::scope(|scope| {
        scope.spawn(|| spinner.run(cpu));
        // Beside it on its CPU, which it is taken from whenever the sleep is over.
        scope.spawn(|| {
            pin(&[cpu]);
            for _ in 0..10 {
                spinner.disturb(|_| {});
            }
            spinner.over.store(true, SeqCst);
            spinner.disturb(|_| {});
        });
    });
}

fn moving_breaks_one_off() {
    let cpus = cpus();
    if cpus.len() < 2 {
        return;
    }
    let spinner = Spinner::default();
    let mut to = 0;
    let mut elsewhere = |tid| {
        to ^= 1;
        move_to(tid, cpus[to]);
    };
    thread::scope(|scope| {
        scope.spawn(|| spinner.run(cpus[0]));
        for _ in 0..20 {
            spinner.disturb(&mut elsewhere);
        }
        spinner.over.store(true, SeqCst);
        spinner.disturb(&mut elsewhere);
    });
}

fn move_to(tid: i32, cpu: usize) {
    let mask = 1u64 << cpu;
    assert_eq!(syscall!(SYS_sched_setaffinity, tid, 8, &raw const mask), Ok(0));
}

fn a_child_inherits_it_and_a_thread_does_not() {
    let area = Registered::new();
    let child = fork(|| {
        assert_eq!(area.call(32, 0, SIGNATURE), Err(libc::EBUSY));
        for cpu in cpus() {
            pin(&[cpu]);
            assert_eq!(area.cpu() as usize, cpu);
        }
        0
    });
    assert_eq!(wait_exit(child), 0);
    thread::scope(|scope| {
        scope.spawn(|| drop(Registered::new()));
    });
    assert_eq!(area.call(32, 0, SIGNATURE), Err(libc::EBUSY));
}

fn execve_forgets_it() {
    let child = fork(|| {
        std::mem::forget(Registered::new());
        let arguments = [
            c"tests".as_ptr(),
            c"sequences::registering_is_checked".as_ptr(),
            std::ptr::null(),
        ];
        let nothing = [std::ptr::null::<libc::c_char>()];
        let _failed = syscall!(
            SYS_execve,
            c"/proc/self/exe".as_ptr(),
            arguments.as_ptr(),
            nothing.as_ptr()
        );
        1
    });
    assert_eq!(wait_exit(child), 0);
}

fn what_is_wrong_kills() {
    let good = section();
    let bad = [
        ("version", Section { version: 1, ..good }),
        (
            "start",
            Section {
                start: u64::MAX - 64,
                ..good
            },
        ),
        (
            "abort outside of memory",
            Section {
                abort: u64::MAX - 64,
                ..good
            },
        ),
        (
            "abort inside",
            Section {
                abort: good.start,
                ..good
            },
        ),
        (
            "signature",
            Section {
                abort: good.abort + 1,
                ..good
            },
        ),
    ];
    for (what, section) in bad {
        dies(what, move |area| {
            area.turn(&section, u64::MAX);
        });
    }
    for (what, note) in [("nowhere", 8u64), ("the kernel", 1 << 63)] {
        dies(what, move |area| {
            area.0.section.store(note, SeqCst);
            sys::sleep_ms(50);
        });
    }
    in_child(|| {
        let memory = sys::memory(4096);
        assert_eq!(syscall!(SYS_rseq, memory, 32, 0, SIGNATURE), Ok(0));
        let child = fork(|| {
            assert_eq!(syscall!(SYS_munmap, memory, 4096), Ok(0));
            sys::sleep_ms(50);
            0
        });
        assert_eq!(wait_killed(child), libc::SIGSEGV);
    });
}

/// A process dies of what its thread has noted once a signal comes.
fn dies(what: &str, act: impl FnOnce(&Registered)) {
    extern "C" fn handler(signo: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
        sys::exit(signo);
    }
    let child = fork(|| {
        sys::handle(libc::SIGALRM, 0, &[], handler);
        let area = Registered::new();
        alarm_in(20_000);
        act(&area);
        0
    });
    let (_, status) = sys::wait(child, 0).expect("wait");
    assert_eq!(status, libc::SIGSEGV, "{what}");
}
