//! One process looks into another: `ptrace`.

pub mod attaching;
pub mod calls;
pub mod events;
pub mod filters;
pub mod registers;
pub mod steps;

use std::{sync::atomic::AtomicU64, sync::atomic::Ordering::SeqCst};

use crate::{
    sys::{self, Sys, fork},
    syscall,
};
use machine::*;

const TRACEME: usize = 0;
const PEEK: usize = 2;
const POKE: usize = 5;
const CONT: usize = 7;
const KILL: usize = 8;
const STEP: usize = 9;
const ATTACH: usize = 16;
const DETACH: usize = 17;
const SYSCALL: usize = 24;
const SYSEMU: usize = 31;
const SETOPTIONS: usize = 0x4200;
const GETEVENTMSG: usize = 0x4201;
const GETSIGINFO: usize = 0x4202;
const SETSIGINFO: usize = 0x4203;
const GETREGSET: usize = 0x4204;
const SETREGSET: usize = 0x4205;
const SEIZE: usize = 0x4206;
const INTERRUPT: usize = 0x4207;
const LISTEN: usize = 0x4208;
const PEEKSIGINFO: usize = 0x4209;
const GETSIGMASK: usize = 0x420a;
const SETSIGMASK: usize = 0x420b;
const GET_FILTER: usize = 0x420c;
const GET_METADATA: usize = 0x420d;
const GET_SYSCALL_INFO: usize = 0x420e;

const SYSGOOD: usize = 1;
const O_FORK: usize = 2;
const O_VFORK: usize = 4;
const O_CLONE: usize = 8;
const O_EXEC: usize = 16;
const O_VFORKDONE: usize = 32;
const O_EXIT: usize = 64;
const O_SECCOMP: usize = 128;
const O_EXITKILL: usize = 1 << 20;
const O_SUSPEND_SECCOMP: usize = 1 << 21;

const EVENT_FORK: i32 = 1;
const EVENT_VFORK: i32 = 2;
const EVENT_CLONE: i32 = 3;
const EVENT_EXEC: i32 = 4;
const EVENT_VFORK_DONE: i32 = 5;
const EVENT_EXIT: i32 = 6;
const EVENT_SECCOMP: i32 = 7;
const EVENT_STOP: i32 = 128;

const TRAP: i32 = libc::SIGTRAP;
const GENERAL: usize = 1;

fn ptrace(request: usize, tid: i32, address: usize, data: usize) -> Sys {
    syscall!(SYS_ptrace, request, tid, address, data)
}

fn go(request: usize, tid: i32, signo: i32) {
    assert_eq!(ptrace(request, tid, 0, signo as usize), Ok(0), "request {request}");
}

fn peek(tid: i32, address: usize) -> Result<u64, i32> {
    let mut word = 0u64;
    ptrace(PEEK, tid, address, &raw mut word as usize).map(|_| word)
}

fn poke(tid: i32, address: usize, word: u64) -> Sys {
    ptrace(POKE, tid, address, word as usize)
}

/// Waits for a thread of any kind; its status.
fn wait(tid: i32) -> i32 {
    let (found, status) = sys::wait(tid, libc::__WALL).expect("wait4");
    assert_eq!(found, tid);
    status
}

/// The status of a stop.
const fn stopped(signo: i32, event: i32) -> i32 {
    (signo | event << 8) << 8 | 0x7f
}

fn wait_stopped(tid: i32, signo: i32, event: i32) {
    let (is, expected) = (wait(tid), stopped(signo, event));
    assert_eq!(is, expected, "{is:#x}, expected {expected:#x}");
}

/// A child that asks to be traced and stops at once; its tracer then runs.
fn traced(body: impl FnOnce() -> i32) -> i32 {
    let child = fork(|| {
        end_with_parent();
        go(TRACEME, 0, 0);
        stop_here();
        body()
    });
    wait_stopped(child, libc::SIGSTOP, 0);
    child
}

/// What a failed test leaves behind does not stay.
fn end_with_parent() {
    syscall!(SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL).expect("prctl");
}

/// By calls that the C library has no part in.
fn stop_here() {
    let (own, tid) = (raw_pid(), syscall!(SYS_gettid).expect("gettid"));
    syscall!(SYS_tgkill, own, tid, libc::SIGSTOP).expect("tgkill");
}

fn raw_pid() -> i32 {
    syscall!(SYS_getpid).expect("getpid") as i32
}

fn message(tid: i32) -> u64 {
    let mut value = 0u64;
    assert_eq!(ptrace(GETEVENTMSG, tid, 0, &raw mut value as usize), Ok(0));
    value
}

/// Words of a `siginfo_t`.
fn info(tid: i32) -> Result<[i32; 32], i32> {
    let mut words = [0; 32];
    ptrace(GETSIGINFO, tid, 0, words.as_mut_ptr() as usize).map(|_| words)
}

fn register_set(tid: i32, kind: usize, bytes: &mut [u64]) -> Result<usize, i32> {
    let mut vector = [bytes.as_mut_ptr() as usize, size_of_val(bytes)];
    ptrace(GETREGSET, tid, kind, vector.as_mut_ptr() as usize).map(|_| vector[1])
}

fn set_register_set(tid: i32, kind: usize, bytes: &mut [u64], length: usize) -> Sys {
    let mut vector = [bytes.as_mut_ptr() as usize, length];
    ptrace(SETREGSET, tid, kind, vector.as_mut_ptr() as usize)
}

#[cfg(target_arch = "x86_64")]
mod machine {
    pub const WORDS: usize = 27;
    pub const PC: usize = 16;
    pub const SP: usize = 19;
    pub const RESULT: usize = 10;
    /// The first two arguments of a call, and what no call changes.
    pub const FIRST: usize = 14;
    pub const KEPT: usize = 3;
    pub const ARCH: u32 = 0xc000_003e;
    pub const BREAKPOINT: (u64, u64) = (0xcc, 0xff);
    /// What the program counter is past a breakpoint.
    pub const PAST: u64 = 1;
    pub const BREAKPOINT_CODE: i32 = 0x80;
    pub const CALL_LENGTH: u64 = 2;
}

#[cfg(target_arch = "aarch64")]
mod machine {
    pub const WORDS: usize = 34;
    pub const PC: usize = 32;
    pub const SP: usize = 31;
    pub const RESULT: usize = 0;
    pub const FIRST: usize = 0;
    pub const KEPT: usize = 20;
    pub const ARCH: u32 = 0xc000_00b7;
    pub const BREAKPOINT: (u64, u64) = (0xd420_0000, 0xffff_ffff);
    pub const PAST: u64 = 0;
    pub const BREAKPOINT_CODE: i32 = 1;
    pub const CALL_LENGTH: u64 = 4;
}

type Registers = [u64; WORDS];

fn registers(tid: i32) -> Registers {
    let mut words = [0; WORDS];
    assert_eq!(register_set(tid, GENERAL, &mut words), Ok(WORDS * 8));
    words
}

fn set_registers(tid: i32, mut words: Registers) {
    assert_eq!(set_register_set(tid, GENERAL, &mut words, WORDS * 8), Ok(0));
}

/// Changes the number of the call that a thread stands before.
fn set_call(tid: i32, number: i64) {
    #[cfg(target_arch = "x86_64")]
    {
        let mut words = registers(tid);
        words[15] = number as u64;
        set_registers(tid, words);
    }
    #[cfg(target_arch = "aarch64")]
    {
        let mut word = [number as u64];
        assert_eq!(set_register_set(tid, 0x404, &mut word, 4), Ok(0));
    }
}

fn call_info(tid: i32) -> (u8, u32, [u64; 10], usize) {
    let mut words = [0u64; 11];
    let length = ptrace(GET_SYSCALL_INFO, tid, 88, words.as_mut_ptr() as usize).expect("info");
    let rest = std::array::from_fn(|at| words[1 + at]);
    (words[0] as u8, (words[0] >> 32) as u32, rest, length)
}

static WORD: AtomicU64 = AtomicU64::new(0);

fn word() -> usize {
    &raw const WORD as usize
}

/// Something whose first instruction can be stopped at.
#[inline(never)]
extern "C" fn landmark(value: u64) -> u64 {
    WORD.fetch_add(value, SeqCst);
    std::hint::black_box(value + 1)
}

fn landmark_address() -> usize {
    landmark as extern "C" fn(u64) -> u64 as usize
}

/// To the next stop at a call.
fn next_call(tid: i32) {
    go(SYSCALL, tid, 0);
    wait_stopped(tid, TRAP | 0x80, 0);
}

/// A stop that tells of a child, and the child.
fn told(tid: i32, event: i32) -> i32 {
    wait_stopped(tid, TRAP, event);
    let is = info(tid).expect("siginfo");
    assert_eq!((is[0], is[2]), (TRAP, TRAP | event << 8));
    message(tid) as i32
}
