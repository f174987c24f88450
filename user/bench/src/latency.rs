//! What one call, or a few that belong together, take.

use std::{
    ffi::{CStr, c_void},
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst},
    thread,
};

use user_sys::{self as sys, libc, syscall};

use crate::{
    calls::{Descriptors, allow_descriptors, close_all, done, ended_well, epoll, open, socket_pair, watch, why},
    row::{Sample, repeat, rows},
};

rows! {
    "null-call": repeat(10_000, || done(syscall!(SYS_getppid)));
    "read-1": on_file(c"/dev/zero", libc::O_RDONLY, |file| sys::read(file, &mut [0]));
    "write-1": on_file(c"/dev/null", libc::O_WRONLY, |file| sys::write(file, &[0]));
    "stat": repeat(5_000, || stat(FILE));
    "fstat": on_file(FILE, libc::O_RDONLY, fstat);
    "open-close": repeat(2_000, open_and_close);
    "clock-gettime": repeat(10_000, || { sys::now(); Ok(()) });
    "clock-vdso": repeat(10_000, || { std::hint::black_box(std::time::Instant::now()); Ok(()) });
    "pipe": pipe_round_trip();
    "unix-socket": socket_round_trip();
    "switch-2": ring(2);
    "switch-8": ring(8);
    "switch-16": ring(16);
    "switch-96": ring(96);
    "fork-exit": repeat(100, || child(|| 0));
    "fork-exec": repeat(50, || child(|| execute(&[c"/bin/bench", c"nothing"])));
    "sh-c": repeat(20, || child(|| execute(&[c"/bin/sh", c"-c", c":"])));
    "thread": thread_and_join();
    "signal-install": repeat(5_000, || { sys::handle(libc::SIGUSR1, 0, &[], count); Ok(()) });
    "signal-deliver": deliver_signals();
    "page-fault": fault_pages();
    "mmap-munmap": repeat(2_000, map_and_unmap);
    "futex-wake": futex_wake();
    "futex-round-trip": futex_round_trip();
    "poll-10": poll_idle(10);
    "poll-100": poll_idle(100);
    "poll-1000": poll_idle(1000);
    "poll-10000": poll_idle(10_000);
    "select-10": select_idle(10);
    "select-100": select_idle(100);
    "select-1000": select_idle(1000);
    "select-10000": select_idle(10_000);
    "epoll-10": epoll_one(10);
    "epoll-100": epoll_one(100);
    "epoll-1000": epoll_one(1000);
    "epoll-10000": epoll_one(10_000);
    "timer-arm": repeat(5_000, arm_timer);
    "nanosleep-overshoot": overshoot();
}

const FILE: &CStr = c"/bin/sh";

/// A call about an open file.
fn on_file(path: &CStr, flags: i32, call: impl Fn(i32) -> sys::Sys) -> Result<Sample, String> {
    let file = open(path, flags)?;
    let sample = repeat(10_000, || done(call(file)));
    sys::close(file);
    sample
}

/// Room for a `struct stat` of any architecture.
type Stat = [u64; 32];

fn stat(path: &CStr) -> Result<(), String> {
    let mut stat: Stat = [0; 32];
    done(syscall!(
        SYS_newfstatat,
        libc::AT_FDCWD,
        path.as_ptr(),
        stat.as_mut_ptr(),
        0
    ))
}

fn fstat(file: i32) -> sys::Sys {
    let mut stat: Stat = [0; 32];
    syscall!(SYS_fstat, file, stat.as_mut_ptr())
}

fn open_and_close() -> Result<(), String> {
    sys::close(open(FILE, libc::O_RDONLY)?);
    Ok(())
}

/// A child's whole life: it does `body` and ends with what that gives, which must be 0.
fn child(body: impl FnOnce() -> i32) -> Result<(), String> {
    let pid = sys::try_fork(body).map_err(why)?;
    ended_well(pid)
}

/// Becomes another program; the status if that fails.
fn execute(words: &[&CStr]) -> i32 {
    let mut arguments: Vec<usize> = words.iter().map(|word| word.as_ptr() as usize).collect();
    arguments.push(0);
    let environment = [0usize];
    let failed = syscall!(SYS_execve, arguments[0], arguments.as_ptr(), environment.as_ptr());
    failed.err().map_or(126, |_| 127)
}

/// Answers every byte from one descriptor on another until there are no more.
fn echo(from: i32, to: i32) -> i32 {
    let mut byte = [0];
    while sys::read(from, &mut byte) == Ok(1) {
        if sys::write(to, &byte) != Ok(1) {
            return 1;
        }
    }
    0
}

/// A byte there and back, between two processes.
fn round_trip(ours: (i32, i32), theirs: (i32, i32)) -> Result<Sample, String> {
    let pid = sys::try_fork(|| {
        close_all(&[ours.0, ours.1]);
        echo(theirs.0, theirs.1)
    })
    .map_err(why)?;
    close_all(&[theirs.0, theirs.1]);
    let sample = repeat(1_000, || {
        done(sys::write(ours.1, &[1]))?;
        done(sys::read(ours.0, &mut [0]))
    });
    close_all(&[ours.0, ours.1]);
    sys::wait(pid, 0).map_err(why)?;
    sample
}

fn pipe_round_trip() -> Result<Sample, String> {
    let (there, back) = (sys::pipe(0), sys::pipe(0));
    round_trip((back.0, there.1), (there.0, back.1))
}

fn socket_round_trip() -> Result<Sample, String> {
    let ends = socket_pair()?;
    round_trip((ends[0], ends[0]), (ends[1], ends[1]))
}

/// A byte goes round `processes` processes, this one among them; an operation is one step.
fn ring(processes: usize) -> Result<Sample, String> {
    let pipes: Vec<(i32, i32)> = (0..processes).map(|_| sys::pipe(0)).collect();
    let close_but = |from, to| {
        let ends = pipes.iter().flat_map(|ends| [ends.0, ends.1]);
        ends.filter(|end| *end != from && *end != to).for_each(sys::close);
    };
    let mut children = Vec::new();
    for index in 1..processes {
        let (from, to) = (pipes[index - 1].0, pipes[index].1);
        let pid = sys::try_fork(|| {
            close_but(from, to);
            echo(from, to)
        });
        children.push(pid.map_err(why)?);
    }
    let (from, to) = (pipes[processes - 1].0, pipes[0].1);
    close_but(from, to);
    let rounds = 2_000 / processes as u64;
    let sample = repeat(rounds, || {
        done(sys::write(to, &[1]))?;
        done(sys::read(from, &mut [0]))
    });
    close_all(&[from, to]);
    for pid in children {
        sys::wait(pid, 0).map_err(why)?;
    }
    Ok(Sample {
        operations: rounds * processes as u64,
        ..sample?
    })
}

fn thread_and_join() -> Result<Sample, String> {
    repeat(100, || {
        let thread = thread::Builder::new().spawn(|| ()).map_err(|error| error.to_string())?;
        thread.join().map_err(|_| "a thread panicked".to_owned())
    })
}

static SIGNALS: AtomicU64 = AtomicU64::new(0);

extern "C" fn count(_: i32, _: *mut libc::siginfo_t, _: *mut c_void) {
    SIGNALS.fetch_add(1, Relaxed);
}

fn deliver_signals() -> Result<Sample, String> {
    sys::handle(libc::SIGUSR1, 0, &[], count);
    let me = std::process::id() as i32;
    let before = SIGNALS.load(Relaxed);
    let sample = repeat(2_000, || done(sys::kill(me, libc::SIGUSR1)))?;
    let seen = SIGNALS.load(Relaxed) - before;
    if seen == sample.operations {
        Ok(sample)
    } else {
        Err(format!("{seen} signals of {}", sample.operations))
    }
}

const PAGE: usize = 4096;

/// The first write to each of many pages.
fn fault_pages() -> Result<Sample, String> {
    const PAGES: usize = 1_000;
    let memory = sys::memory(PAGES * PAGE);
    // Small pages alone: what a large one saves is another row's business.
    let _refused = syscall!(SYS_madvise, memory, PAGES * PAGE, libc::MADV_NOHUGEPAGE);
    let mut next = memory;
    let sample = repeat(PAGES as u64, || {
        sys::poke(next, 1);
        next += PAGE;
        Ok(())
    });
    done(syscall!(SYS_munmap, memory, PAGES * PAGE))?;
    sample
}

fn map_and_unmap() -> Result<(), String> {
    let memory = sys::memory(16 * PAGE);
    done(syscall!(SYS_munmap, memory, 16 * PAGE))
}

fn futex_wake() -> Result<Sample, String> {
    let word = AtomicU32::new(0);
    repeat(10_000, || {
        done(syscall!(
            SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
            1
        ))
    })
}

/// Two threads that wake each other in turn, by one word whose parity says whose turn it is.
fn futex_round_trip() -> Result<Sample, String> {
    const TRIPS: u32 = 1_000;
    let word = AtomicU32::new(0);
    let hit = |mine: u32| {
        word.store(mine + 1, SeqCst);
        let _woken = syscall!(SYS_futex, word.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1);
    };
    let until = |value: u32| {
        loop {
            let now = word.load(SeqCst);
            if now >= value {
                return;
            }
            let _changed = syscall!(
                SYS_futex,
                word.as_ptr(),
                libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                now,
                0
            );
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            for trip in 0..TRIPS {
                until(2 * trip + 1);
                hit(2 * trip + 1);
            }
        });
        let mut trip = 0;
        repeat(TRIPS.into(), || {
            hit(2 * trip);
            until(2 * trip + 2);
            trip += 1;
            Ok(())
        })
    })
}

/// Reading ends of a pipe in which nothing is, and behind them its writing end.
fn idle_pipe(count: usize) -> Result<Descriptors, String> {
    let mut all = Descriptors::with_room(count + 1)?;
    let (from, to) = sys::pipe(0);
    all.add(&[from]);
    for _ in 1..count {
        all.add(&[syscall!(SYS_dup, from).map_err(why)? as i32]);
    }
    all.add(&[to]);
    Ok(all)
}

/// How often many descriptors are looked at.
fn looks(count: usize) -> u64 {
    10_000 / count as u64 + 20
}

/// A look at so many descriptors, none of them ready.
fn poll_idle(count: usize) -> Result<Sample, String> {
    let all = idle_pipe(count)?;
    let polled = all.all()[..count].iter().map(|fd| libc::pollfd {
        fd: *fd,
        events: libc::POLLIN,
        revents: 0,
    });
    let mut polled: Vec<libc::pollfd> = polled.collect();
    let now = sys::timespec(0);
    repeat(looks(count), || {
        done(syscall!(
            SYS_ppoll,
            polled.as_mut_ptr(),
            polled.len(),
            &raw const now,
            0,
            8
        ))
    })
}

fn select_idle(count: usize) -> Result<Sample, String> {
    let all = idle_pipe(count)?;
    let from = &all.all()[..count];
    let most = from.iter().max().copied().unwrap_or(0) as usize;
    let mut wanted = vec![0u64; most / 64 + 1];
    for fd in from {
        wanted[*fd as usize / 64] |= 1 << (fd % 64);
    }
    let mut set = wanted.clone();
    let mut now = sys::timespec(0);
    repeat(looks(count), || {
        set.copy_from_slice(&wanted);
        done(syscall!(
            SYS_pselect6,
            most + 1,
            set.as_mut_ptr(),
            0,
            0,
            &raw mut now,
            0
        ))
    })
}

/// One descriptor of many is ready: the wait that finds it.
fn epoll_one(count: usize) -> Result<Sample, String> {
    let mut few = Descriptors::default();
    allow_descriptors(count + 4)?;
    let epoll = epoll()?;
    few.add(&[epoll]);
    let all = idle_pipe(count - 1)?;
    let (from, to) = sys::pipe(0);
    few.add(&[from, to]);
    for fd in all.all()[..count - 1].iter().chain([&from]) {
        watch(epoll, *fd)?;
    }
    done(sys::write(to, &[1]))?;
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 8];
    repeat(2_000, || {
        done(syscall!(
            SYS_epoll_pwait,
            epoll,
            events.as_mut_ptr(),
            events.len(),
            0,
            0,
            8
        ))
    })
}

fn arm_timer() -> Result<(), String> {
    // In an hour, and not at all.
    for seconds in [3600u64, 0] {
        let time = [0u64, 0, seconds, 0];
        done(syscall!(SYS_setitimer, libc::ITIMER_REAL, time.as_ptr(), 0))?;
    }
    Ok(())
}

/// How much longer than asked for a short sleep takes.
fn overshoot() -> Result<Sample, String> {
    const ASKED: u64 = 200_000;
    let time = sys::timespec(ASKED);
    let sample = repeat(100, || {
        done(syscall!(
            SYS_clock_nanosleep,
            libc::CLOCK_MONOTONIC,
            0,
            &raw const time,
            0
        ))
    })?;
    Ok(Sample {
        amount: sample.amount.saturating_sub(ASKED * sample.operations),
        ..sample
    })
}
