//! Futexes, by the raw calls.

pub mod locks;
pub mod requeue;
pub mod waits;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

use crate::{
    sys::{self, wait_killed},
    syscall,
};

const WAITERS: u32 = 0x8000_0000;
const OWNER_DIED: u32 = 0x4000_0000;
const NOBODY: u32 = 0x3fff_fff0;

/// Words in memory that children share.
fn words(count: usize) -> &'static [AtomicU32] {
    let address = sys::shared(count.max(1) * 4);
    // SAFETY: fresh, zeroed, aligned memory that is never unmapped.
    unsafe { std::slice::from_raw_parts(address as *const AtomicU32, count) }
}

fn tid() -> u32 {
    syscall!(SYS_gettid).expect("gettid") as u32
}

fn futex(word: &AtomicU32, operation: i32, value: u32, fourth: usize, second: usize, third: u32) -> sys::Sys {
    syscall!(SYS_futex, word.as_ptr(), operation, value, fourth, second, third)
}

/// A field of `/proc/<pid>/stat` behind the name, counted as in proc(5).
fn stat(pid: i32, field: usize) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let (_, rest) = text.rsplit_once(')').expect("a name");
    rest.split_whitespace().nth(field - 3).expect("the field").to_string()
}

/// Waits until a process has begun to wait.
fn asleep(pid: i32) {
    while stat(pid, 3) != "S" {
        sys::sleep_ms(1);
    }
}

/// As [`asleep`], once it has said by the word that it is about to.
fn waiting(pid: i32, said: &AtomicU32) {
    while said.load(SeqCst) == 0 {
        sys::sleep_ms(1);
    }
    asleep(pid);
}

/// The priority that a process has now: 1 to 99, or 0 of a fair one.
fn priority(pid: i32) -> i32 {
    let shown: i32 = stat(pid, 18).parse().expect("a number");
    (-1 - shown).max(0)
}

/// A priority that a process comes to have: what changes it may not have been told of yet.
fn expect_priority(pid: i32, expected: i32) {
    for _ in 0..500 {
        if priority(pid) == expected {
            return;
        }
        sys::sleep_ms(1);
    }
    assert_eq!(priority(pid), expected);
}

fn fifo(pid: i32, priority: i32) {
    let policy = if priority == 0 {
        libc::SCHED_OTHER
    } else {
        libc::SCHED_FIFO
    };
    syscall!(SYS_sched_setscheduler, pid, policy, &raw const priority).expect("a policy");
}

fn lock(word: &AtomicU32) -> sys::Sys {
    futex(word, libc::FUTEX_LOCK_PI, 0, 0, 0, 0)
}

fn try_lock(word: &AtomicU32) -> sys::Sys {
    futex(word, libc::FUTEX_TRYLOCK_PI, 0, 0, 0, 0)
}

fn unlock(word: &AtomicU32) -> sys::Sys {
    futex(word, libc::FUTEX_UNLOCK_PI, 0, 0, 0, 0)
}

fn end(child: i32) {
    sys::kill(child, libc::SIGKILL).expect("kill");
    assert_eq!(wait_killed(child), libc::SIGKILL);
}

/// Stops a process that waits and has it continue: it waits again.
fn stop_and_continue(pid: i32) {
    sys::kill(pid, libc::SIGSTOP).expect("kill");
    sys::sleep_ms(30);
    sys::kill(pid, libc::SIGCONT).expect("kill");
    sys::sleep_ms(30);
    asleep(pid);
}

static HANDLED: AtomicU64 = AtomicU64::new(0);

extern "C" fn handled(_: i32, _: *mut libc::siginfo_t, _: *mut std::ffi::c_void) {
    HANDLED.fetch_add(1, SeqCst);
}
