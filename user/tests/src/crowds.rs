//! As many threads and processes as there may be on a machine of one GiB, all waiting at once.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use crate::{arch, runner, sys, syscall};

crate::tests! { "crowds":
    a_hundred_thousand_threads_wait (900) [breenix "Linux has fewer numbers, unless it is told otherwise"];
    ten_thousand_processes_wait (900);
}

const THREADS: usize = 100_000;
/// Bytes of a thread's stack: it makes one call.
const STACK: usize = 2048;

static GATE: AtomicU32 = AtomicU32::new(0);
static STARTED: AtomicU32 = AtomicU32::new(0);

extern "C" fn wait_at_the_gate() -> i32 {
    STARTED.fetch_add(1, SeqCst);
    let _woken = syscall!(
        SYS_futex,
        GATE.as_ptr(),
        libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
        0,
        0
    );
    0
}

fn threads() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("Threads:"));
    line.and_then(|count| count.trim().parse().ok()).expect("a count")
}

fn seconds(since: u64) -> f64 {
    (sys::now() - since) as f64 / 1e9
}

fn a_hundred_thousand_threads_wait() {
    let stacks = sys::memory(THREADS * STACK);
    (0..THREADS * STACK)
        .step_by(4096)
        .for_each(|at| sys::poke(stacks + at, 0));
    let (free, began) = (sys::free_memory(), sys::now());
    for thread in 0..THREADS {
        arch::bare_thread(stacks + (thread + 1) * STACK, wait_at_the_gate)
            .unwrap_or_else(|errno| panic!("thread {thread}: error {errno}"));
    }
    while (STARTED.load(SeqCst) as usize) < THREADS {
        sys::sleep_ms(10);
    }
    let made = seconds(began);
    let used = free.saturating_sub(sys::free_memory());
    assert_eq!(threads(), THREADS + 1);
    let began = sys::now();
    GATE.store(1, SeqCst);
    let wake = || {
        syscall!(
            SYS_futex,
            GATE.as_ptr(),
            libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
            i32::MAX
        )
    };
    while threads() > 1 {
        wake().expect("wake");
        sys::sleep_ms(10);
    }
    let ended = seconds(began);
    let left = free as i64 - sys::free_memory() as i64;
    runner::note(&format!(
        "{THREADS} threads: {} bytes each; made in {made:.1} s, ended in {ended:.1} s; {} KiB less free afterwards",
        used / THREADS as u64,
        left / 1024
    ));
}

fn ten_thousand_processes_wait() {
    const PROCESSES: usize = 10_000;
    let (gate, open) = sys::pipe(0);
    let (free, began) = (sys::free_memory(), sys::now());
    let mut children = Vec::with_capacity(PROCESSES);
    for number in 0..PROCESSES {
        let child = sys::try_fork(|| {
            sys::close(open);
            i32::from(sys::read(gate, &mut [0]) != Ok(0))
        });
        children.push(child.unwrap_or_else(|errno| panic!("process {number}: error {errno}")));
    }
    let made = seconds(began);
    let used = free.saturating_sub(sys::free_memory());
    let listed = std::fs::read_dir("/proc").expect("/proc").filter(|entry| {
        let name = entry.as_ref().map(std::fs::DirEntry::file_name);
        name.is_ok_and(|name| name.to_string_lossy().parse::<i32>().is_ok())
    });
    assert!(listed.count() > PROCESSES);
    let began = sys::now();
    sys::close(open);
    for child in children {
        assert_eq!(sys::wait_exit(child), 0);
    }
    runner::note(&format!(
        "{PROCESSES} processes: {} bytes each; made in {made:.1} s, ended in {:.1} s",
        used / PROCESSES as u64,
        seconds(began)
    ));
}
