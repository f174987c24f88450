//! One process looks into another: `ptrace`.

use std::{
    fs,
    os::unix::fs::FileExt,
    ptr,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    thread,
};

use crate::{
    sys::{self, Sys, fork, kill, sleep_ms, wait_exit, wait_killed},
    syscall,
};

crate::tests! { "ptraces":
    a_traced_child_stops_at_signals;
    memory_is_read_and_written;
    text_is_written_to_although_it_is_read_only;
    calls_stop_twice;
    a_call_is_changed_or_left_out;
    a_call_is_emulated;
    an_interrupted_call_shows_its_restart;
    registers_are_read_and_set;
    forks_are_told;
    threads_are_told;
    a_program_is_told;
    the_end_is_told;
    breakpoints_stop;
    steps_are_single;
    a_handler_is_stepped_into;
    a_watched_word_stops_who_writes_it;
    a_hardware_breakpoint_stops;
    a_thread_is_attached_to_and_let_go;
    who_may_not_is_refused;
    a_seized_thread_is_interrupted;
    a_seized_thread_listens;
    a_group_stop_is_a_stop;
    kill_ends_whoever_stands;
    a_tracers_end_lets_go;
    a_tracers_end_may_kill;
    an_ended_thread_is_its_tracers;
    the_parent_hears_after_the_tracer;
    another_thread_takes_the_program_over;
    signals_are_changed_and_masks_read;
    the_status_file_tells;
    memory_is_a_file;
}

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
const GET_SYSCALL_INFO: usize = 0x420e;

const SYSGOOD: usize = 1;
const O_FORK: usize = 2;
const O_VFORK: usize = 4;
const O_CLONE: usize = 8;
const O_EXEC: usize = 16;
const O_VFORKDONE: usize = 32;
const O_EXIT: usize = 64;
const O_EXITKILL: usize = 1 << 20;

const EVENT_FORK: i32 = 1;
const EVENT_VFORK: i32 = 2;
const EVENT_CLONE: i32 = 3;
const EVENT_EXEC: i32 = 4;
const EVENT_VFORK_DONE: i32 = 5;
const EVENT_EXIT: i32 = 6;
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

use machine::*;

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

fn a_traced_child_stops_at_signals() {
    let child = traced(|| {
        kill(raw_pid(), libc::SIGUSR1).expect("kill");
        kill(raw_pid(), libc::SIGCHLD).expect("kill");
        kill(raw_pid(), libc::SIGTERM).expect("kill");
        7
    });
    let is = info(child).expect("siginfo");
    assert_eq!((is[0], is[2]), (libc::SIGSTOP, libc::SI_TKILL));
    assert_eq!(ptrace(CONT, child, 0, 65), Err(libc::EIO));
    go(CONT, child, 0);
    wait_stopped(child, libc::SIGUSR1, 0);
    let is = info(child).expect("siginfo");
    assert_eq!((is[0], is[2], is[4]), (libc::SIGUSR1, libc::SI_USER, child));
    go(CONT, child, 0);
    // What is ignored is told as well.
    wait_stopped(child, libc::SIGCHLD, 0);
    go(CONT, child, libc::SIGCHLD);
    wait_stopped(child, libc::SIGTERM, 0);
    assert_eq!(ptrace(CONT, 1, 0, 0), Err(libc::ESRCH));
    go(CONT, child, 0);
    assert_eq!(wait_exit(child), 7);
    let child = traced(|| 0);
    go(CONT, child, libc::SIGTERM);
    assert_eq!(wait_killed(child), libc::SIGTERM);
}

fn memory_is_read_and_written() {
    let hidden = sys::memory(8192);
    // SAFETY: it is ours.
    unsafe { ptr::write(hidden as *mut u64, 99) };
    syscall!(SYS_mprotect, hidden, 8192, libc::PROT_NONE).expect("mprotect");
    let hole = sys::memory(1 << 20);
    let shared = sys::mmap(0, 4096, libc::PROT_READ, libc::MAP_SHARED | libc::MAP_ANONYMOUS).expect("mmap");
    syscall!(SYS_munmap, hole, 1 << 20).expect("munmap");
    WORD.store(11, SeqCst);
    let child = traced(|| i32::from(WORD.load(SeqCst) != 12));
    assert_eq!(peek(child, word()), Ok(11));
    assert_eq!(poke(child, word(), 12), Ok(0));
    assert_eq!(peek(child, word()), Ok(12));
    assert_eq!(peek(child, word() + 3).map(|word| word >> 40), Ok(0));
    assert_eq!(WORD.load(SeqCst), 11, "the tracer's own");
    // Protection does not hide anything from a tracer.
    assert_eq!(peek(child, hidden), Ok(99));
    assert_eq!(peek(child, hidden + 4096), Ok(0));
    assert_eq!(poke(child, hidden, 98), Ok(0));
    assert_eq!(poke(child, hidden + 4096, 97), Ok(0));
    assert_eq!((peek(child, hidden), peek(child, hidden + 4096)), (Ok(98), Ok(97)));
    assert_eq!(peek(child, hole), Err(libc::EIO));
    assert_eq!(poke(child, hole, 1), Err(libc::EIO));
    assert_eq!(poke(child, shared, 1), Err(libc::EIO));
    assert_eq!(peek(child, usize::MAX - 3), Err(libc::EIO));
    assert_eq!(ptrace(PEEK, child, word(), 8), Err(libc::EFAULT));
    go(CONT, child, 0);
    assert_eq!(wait_exit(child), 0);
}

fn text_is_written_to_although_it_is_read_only() {
    let child = traced(|| i32::from(landmark(3) != 4));
    let at = landmark_address();
    let code = peek(child, at).expect("peek");
    assert_eq!(poke(child, at, !code), Ok(0));
    assert_eq!(peek(child, at), Ok(!code));
    // SAFETY: the function's own code.
    assert_eq!(unsafe { ptr::read_unaligned(at as *const u64) }, code);
    assert_eq!(poke(child, at, code), Ok(0));
    go(CONT, child, 0);
    assert_eq!(wait_exit(child), 0);
}

fn calls_stop_twice() {
    let child = traced(|| {
        raw_pid();
        syscall!(SYS_getppid).expect("getppid");
        let _ = syscall!(SYS_close, 12345);
        0
    });
    go(SYSCALL, child, 0);
    // Before getpid: the signal came after the call that raised it.
    wait_stopped(child, TRAP, 0);
    assert_eq!(call_info(child).0, 0, "without TRACESYSGOOD it does not say");
    assert_eq!(ptrace(SETOPTIONS, child, 0, 1 << 25), Err(libc::EINVAL));
    assert_eq!(ptrace(SETOPTIONS, child, 0, SYSGOOD), Ok(0));
    go(SYSCALL, child, 0);
    wait_stopped(child, TRAP | 0x80, 0);
    assert_eq!(call_info(child).2[2] as i32, child);
    let mut seen = Vec::new();
    for _ in 0..2 {
        go(SYSCALL, child, 0);
        wait_stopped(child, TRAP | 0x80, 0);
        let is = info(child).expect("siginfo");
        assert_eq!((is[0], is[2], is[4]), (TRAP, TRAP | 0x80, child));
        let (operation, arch, rest, length) = call_info(child);
        assert_eq!((operation, arch, length, message(child)), (1, ARCH, 80, 1));
        let words = registers(child);
        assert_eq!((rest[0], rest[1]), (words[PC], words[SP]));
        if cfg!(target_arch = "x86_64") {
            assert_eq!((words[RESULT] as i64, words[15]), (-i64::from(libc::ENOSYS), rest[2]));
        } else {
            assert_eq!(words[7], 0);
        }
        go(SYSCALL, child, 0);
        wait_stopped(child, TRAP | 0x80, 0);
        let (operation, _, result, length) = call_info(child);
        assert_eq!((operation, length, message(child)), (2, 33, 2));
        assert_eq!(result[2], registers(child)[RESULT]);
        if cfg!(target_arch = "aarch64") {
            assert_eq!(registers(child)[7], 1);
        }
        seen.push((rest[2] as i64, rest[3], result[2] as i64, result[3] as u8));
    }
    assert_eq!(seen[0].0, libc::SYS_getppid);
    assert_eq!((seen[0].2, seen[0].3), (i64::from(std::process::id() as i32), 0));
    assert_eq!(seen[1], (libc::SYS_close, 12345, -i64::from(libc::EBADF), 1));
    go(CONT, child, 0);
    assert_eq!(wait_exit(child), 0);
}

/// To the next stop at a call.
fn next_call(tid: i32) {
    go(SYSCALL, tid, 0);
    wait_stopped(tid, TRAP | 0x80, 0);
}

fn a_call_is_changed_or_left_out() {
    let child = traced(|| {
        let own = i64::from(raw_pid());
        let changed = sys::call(libc::SYS_getppid, &[]).map(|pid| pid as i64);
        let skipped = sys::call(libc::SYS_getppid, &[]).map(|pid| pid as i64);
        let given = sys::call(libc::SYS_getppid, &[]).map(|pid| pid as i64);
        let argument = sys::call(libc::SYS_close, &[54321]);
        let restarted = sys::call(libc::SYS_getppid, &[]).map(|pid| pid as i64);
        let right = changed == Ok(own)
            && skipped
                == if cfg!(target_arch = "x86_64") {
                    Err(libc::ENOSYS)
                } else {
                    skipped
                }
            && given == Ok(77)
            && argument == Ok(0)
            && restarted == Ok(78);
        i32::from(!right)
    });
    assert_eq!(ptrace(SETOPTIONS, child, 0, SYSGOOD), Ok(0));
    next_call(child);
    next_call(child); // getpid
    next_call(child);
    set_call(child, libc::SYS_getpid);
    next_call(child);
    next_call(child);
    set_call(child, -1);
    next_call(child);
    next_call(child);
    set_call(child, -1);
    next_call(child);
    let mut words = registers(child);
    words[RESULT] = 77;
    set_registers(child, words);
    next_call(child);
    let mut words = registers(child);
    assert_eq!(words[FIRST], 54321);
    words[FIRST] = 0;
    set_registers(child, words);
    next_call(child);
    next_call(child);
    next_call(child);
    let mut words = registers(child);
    words[RESULT] = 78;
    set_registers(child, words);
    go(CONT, child, 0);
    assert_eq!(wait_exit(child), 0);
}

fn a_call_is_emulated() {
    let child = traced(|| i32::from(sys::call(libc::SYS_getppid, &[]) != Ok(5)));
    assert_eq!(ptrace(SETOPTIONS, child, 0, SYSGOOD), Ok(0));
    go(SYSEMU, child, 0);
    wait_stopped(child, TRAP | 0x80, 0);
    assert_eq!(call_info(child).2[2] as i64, libc::SYS_getppid);
    let mut words = registers(child);
    words[RESULT] = 5;
    set_registers(child, words);
    go(SYSEMU, child, 0);
    wait_stopped(child, TRAP | 0x80, 0);
    // The next call, not the end of the last.
    let exits = [libc::SYS_exit_group, libc::SYS_exit];
    assert!(exits.contains(&(call_info(child).2[2] as i64)));
    go(CONT, child, 0);
    assert_eq!(wait_exit(child), 0);
}

fn an_interrupted_call_shows_its_restart() {
    let (reader, writer) = sys::pipe(0);
    let child = traced(|| {
        let mut byte = [0];
        i32::from(sys::read(reader, &mut byte) != Ok(1))
    });
    assert_eq!(ptrace(SETOPTIONS, child, 0, SYSGOOD), Ok(0));
    next_call(child);
    go(SYSCALL, child, 0);
    sleep_ms(50);
    kill(child, libc::SIGWINCH).expect("kill");
    wait_stopped(child, TRAP | 0x80, 0);
    assert_eq!(registers(child)[RESULT] as i64, -512);
    go(SYSCALL, child, 0);
    wait_stopped(child, libc::SIGWINCH, 0);
    let at_signal = registers(child);
    if cfg!(target_arch = "x86_64") {
        assert_eq!((at_signal[RESULT] as i64, at_signal[15]), (-512, libc::SYS_read as u64));
    } else {
        assert_eq!(at_signal[0], reader as u64);
    }
    go(SYSCALL, child, 0);
    wait_stopped(child, TRAP | 0x80, 0);
    let (operation, _, rest, _) = call_info(child);
    assert_eq!((operation, rest[2] as i64, rest[3]), (1, libc::SYS_read, reader as u64));
    sys::write(writer, b"x").expect("write");
    go(CONT, child, 0);
    assert_eq!(wait_exit(child), 0);
}

fn registers_are_read_and_set() {
    let child = traced(|| 3);
    let first = registers(child);
    let mut changed = first;
    changed[KEPT] = 0x1234_5678_9abc_def0;
    set_registers(child, changed);
    assert_eq!(registers(child), changed);
    set_registers(child, first);
    let mut words = [0u64; 64];
    // In part, of what there is not, and of no whole number of registers.
    let mut vector = [words.as_mut_ptr() as usize, 16];
    assert_eq!(ptrace(GETREGSET, child, GENERAL, vector.as_mut_ptr() as usize), Ok(0));
    assert_eq!((vector[1], words[0], words[1], words[2]), (16, first[0], first[1], 0));
    assert_eq!(register_set(child, 0x9999, &mut words), Err(libc::EINVAL));
    vector[1] = 12;
    assert_eq!(
        ptrace(GETREGSET, child, GENERAL, vector.as_mut_ptr() as usize),
        Err(libc::EINVAL)
    );
    vector[1] = 4096;
    assert_eq!(ptrace(GETREGSET, child, GENERAL, vector.as_mut_ptr() as usize), Ok(0));
    assert_eq!(vector[1], WORDS * 8);
    let mut fp = [0u64; 66];
    let length = register_set(child, 2, &mut fp).expect("FP registers");
    assert_eq!(length, if cfg!(target_arch = "x86_64") { 512 } else { 528 });
    fp[20] ^= 0xff;
    let there = fp;
    assert_eq!(set_register_set(child, 2, &mut fp, length), Ok(0));
    fp = [0; 66];
    register_set(child, 2, &mut fp).expect("FP registers");
    assert_eq!(fp[..length / 8], there[..length / 8]);
    #[cfg(target_arch = "x86_64")]
    {
        let mut whole = [0u64; 1024];
        let length = register_set(child, 0x202, &mut whole).expect("XSAVE area");
        assert!(length >= 576);
        assert_eq!(whole[20], fp[20]);
        assert_eq!(whole[64] & !whole[58], 0, "components are among those there are");
        whole[21] = 42;
        assert_eq!(set_register_set(child, 0x202, &mut whole, length), Ok(0));
        assert_eq!(set_register_set(child, 0x202, &mut whole, 512), Err(libc::EFAULT));
        register_set(child, 2, &mut fp).expect("FP registers");
        assert_eq!(fp[21], 42);
        let mut user = [0u64; 27];
        assert_eq!(ptrace(12, child, 0, user.as_mut_ptr() as usize), Ok(0));
        assert_eq!(user, first);
        let mut value = 0u64;
        assert_eq!(ptrace(3, child, PC * 8, &raw mut value as usize), Ok(0));
        assert_eq!(value, first[PC]);
        assert_eq!(ptrace(6, child, KEPT * 8, 55), Ok(0));
        assert_eq!(registers(child)[KEPT], 55);
        assert_eq!(ptrace(6, child, KEPT * 8, first[KEPT] as usize), Ok(0));
        assert_eq!(ptrace(3, child, 4, &raw mut value as usize), Err(libc::EIO));
        assert_eq!(ptrace(3, child, 4096, &raw mut value as usize), Err(libc::EIO));
        let mut bad = first;
        bad[17] = 0x10;
        assert_eq!(set_register_set(child, GENERAL, &mut bad, WORDS * 8), Err(libc::EIO));
    }
    #[cfg(target_arch = "aarch64")]
    {
        let mut tls = [0u64];
        assert_eq!(register_set(child, 0x401, &mut tls), Ok(8));
        assert_ne!(tls[0], 0);
        let mut bad = first;
        bad[33] |= 5;
        assert_eq!(set_register_set(child, GENERAL, &mut bad, WORDS * 8), Err(libc::EINVAL));
    }
    set_registers(child, first);
    go(CONT, child, 0);
    assert_eq!(wait_exit(child), 3);
}

/// A stop that tells of a child, and the child.
fn told(tid: i32, event: i32) -> i32 {
    wait_stopped(tid, TRAP, event);
    let is = info(tid).expect("siginfo");
    assert_eq!((is[0], is[2]), (TRAP, TRAP | event << 8));
    message(tid) as i32
}

fn vfork_and_exit() {
    // SAFETY: the child does nothing but end.
    let child = unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_VFORK | libc::SIGCHLD, 0, 0, 0, 0) };
    if child == 0 {
        sys::exit(4);
    }
    assert_eq!(wait_exit(child as i32), 4);
}

fn forks_are_told() {
    let child = traced(|| {
        let grandchild = fork(|| 3);
        assert_eq!(wait_exit(grandchild), 3);
        vfork_and_exit();
        0
    });
    let options = O_FORK | O_VFORK | O_CLONE | O_VFORKDONE;
    assert_eq!(ptrace(SETOPTIONS, child, 0, options), Ok(0));
    go(CONT, child, 0);
    let grandchild = told(child, EVENT_FORK);
    wait_stopped(grandchild, libc::SIGSTOP, 0);
    assert_eq!(ptrace(SETOPTIONS, grandchild, 0, SYSGOOD), Ok(0));
    go(CONT, grandchild, 0);
    assert_eq!(wait(grandchild), 3 << 8);
    go(CONT, child, 0);
    wait_stopped(child, libc::SIGCHLD, 0);
    go(CONT, child, 0);
    let other = told(child, EVENT_VFORK);
    go(CONT, child, 0);
    wait_stopped(other, libc::SIGSTOP, 0);
    go(CONT, other, 0);
    assert_eq!(wait(other), 4 << 8);
    assert_eq!(told(child, EVENT_VFORK_DONE), other);
    go(CONT, child, 0);
    wait_stopped(child, libc::SIGCHLD, 0);
    go(CONT, child, 0);
    assert_eq!(wait_exit(child), 0);
}

fn threads_are_told() {
    let child = traced(|| {
        let made = thread::spawn(|| WORD.store(5, SeqCst));
        made.join().expect("join");
        WORD.load(SeqCst) as i32
    });
    assert_eq!(ptrace(SETOPTIONS, child, 0, O_CLONE), Ok(0));
    go(CONT, child, 0);
    let made = told(child, EVENT_CLONE);
    wait_stopped(made, libc::SIGSTOP, 0);
    let (ours, its) = (registers(child), registers(made));
    assert_ne!(ours[SP], its[SP]);
    go(CONT, child, 0);
    sleep_ms(20);
    assert_eq!(sys::wait(child, libc::__WALL | libc::WNOHANG), Ok((0, 0)));
    go(CONT, made, 0);
    // By itself, or together with its process, which does not wait for all of it.
    assert!([0, 5 << 8].contains(&wait(made)));
    assert_eq!(wait_exit(child), 5);
}

fn run_self() -> i32 {
    let name = c"/proc/self/exe";
    let arguments = [name.as_ptr(), c"none-such".as_ptr(), ptr::null()];
    let environment = [ptr::null::<libc::c_char>()];
    let _ = syscall!(SYS_execve, name.as_ptr(), arguments.as_ptr(), environment.as_ptr());
    99
}

fn a_program_is_told() {
    let child = traced(run_self);
    let before = registers(child);
    go(CONT, child, 0);
    wait_stopped(child, TRAP, 0);
    let is = info(child).expect("siginfo");
    assert_eq!((is[0], is[2]), (TRAP, 0));
    assert_ne!(registers(child)[PC], before[PC]);
    go(KILL, child, 0);
    assert_eq!(wait(child), libc::SIGKILL);
    let child = traced(run_self);
    assert_eq!(ptrace(SETOPTIONS, child, 0, O_EXEC), Ok(0));
    go(CONT, child, 0);
    assert_eq!(told(child, EVENT_EXEC), child);
    go(CONT, child, 0);
    let status = wait(child);
    assert!(libc::WIFEXITED(status), "{status:#x}");
}

fn the_end_is_told() {
    let child = traced(|| 9);
    assert_eq!(ptrace(SETOPTIONS, child, 0, O_EXIT), Ok(0));
    go(CONT, child, 0);
    assert_eq!(told(child, EVENT_EXIT), 9 << 8);
    assert_ne!(registers(child)[PC], 0);
    go(CONT, child, 0);
    assert_eq!(wait_exit(child), 9);
}

fn plant(tid: i32, at: usize) -> u64 {
    let code = peek(tid, at).expect("peek");
    assert_eq!(poke(tid, at, code & !BREAKPOINT.1 | BREAKPOINT.0), Ok(0));
    code
}

/// To a breakpoint at [`landmark`], which is taken away.
fn to_landmark(tid: i32) {
    let at = landmark_address();
    let code = plant(tid, at);
    go(CONT, tid, 0);
    wait_stopped(tid, TRAP, 0);
    let is = info(tid).expect("siginfo");
    assert_eq!((is[0], is[2]), (TRAP, BREAKPOINT_CODE));
    let mut words = registers(tid);
    assert_eq!(words[PC], at as u64 + PAST);
    words[PC] = at as u64;
    set_registers(tid, words);
    assert_eq!(poke(tid, at, code), Ok(0));
}

fn breakpoints_stop() {
    let child = traced(|| {
        let mut sum = 0;
        for value in 0..3 {
            sum += landmark(value);
        }
        sum as i32
    });
    for _ in 0..3 {
        to_landmark(child);
        go(STEP, child, 0);
        wait_stopped(child, TRAP, 0);
    }
    go(CONT, child, 0);
    assert_eq!(wait_exit(child), 6);
}

fn steps_are_single() {
    let child = traced(|| {
        landmark(1);
        let parent = syscall!(SYS_getppid).expect("getppid");
        i32::from(parent == 0)
    });
    to_landmark(child);
    let mut at = registers(child)[PC];
    let mut calls = 0;
    for _ in 0..5000 {
        go(STEP, child, 0);
        let status = wait(child);
        if libc::WIFEXITED(status) {
            assert_eq!((libc::WEXITSTATUS(status), calls >= 1), (0, true));
            return;
        }
        assert_eq!(status, stopped(TRAP, 0));
        let is = info(child).expect("siginfo");
        let now = registers(child)[PC];
        let after_call = is[2] != 2;
        if after_call {
            let code = if cfg!(target_arch = "x86_64") { 1 } else { 0 };
            assert_eq!((is[2], now), (code, at + CALL_LENGTH));
            calls += 1;
        }
        at = now;
    }
    panic!("it takes too many steps");
}

fn a_handler_is_stepped_into() {
    extern "C" fn handler(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}
    let child = traced(|| {
        sys::handle(libc::SIGUSR1, 0, &[], handler);
        stop_here();
        0
    });
    go(CONT, child, 0);
    wait_stopped(child, libc::SIGSTOP, 0);
    go(STEP, child, libc::SIGUSR1);
    wait_stopped(child, TRAP, 0);
    assert_eq!(registers(child)[PC], handler as extern "C" fn(_, _, _) as usize as u64);
    go(CONT, child, 0);
    assert_eq!(wait_exit(child), 0);
}

#[cfg(target_arch = "x86_64")]
fn debug_register(tid: i32, number: usize, value: usize) -> Sys {
    ptrace(6, tid, 848 + number * 8, value)
}

/// Sets or clears a watchpoint for writes to eight bytes, or a breakpoint.
fn watch(tid: i32, at: usize, code: bool, on: bool) {
    #[cfg(target_arch = "x86_64")]
    {
        assert_eq!(debug_register(tid, 7, 0), Ok(0));
        assert_eq!(debug_register(tid, 0, at), Ok(0));
        let control = if code { 1 } else { 1 | 0b1001 << 16 };
        assert_eq!(debug_register(tid, 7, if on { control } else { 0 }), Ok(0));
    }
    #[cfg(target_arch = "aarch64")]
    {
        let kind = if code { 0x402 } else { 0x403 };
        let control = if code { 1 | 0xf << 5 } else { 1 | 2 << 3 | 0xff << 5 };
        let mut words = [0, at as u64, if on { control } else { 0 }];
        assert_eq!(set_register_set(tid, kind, &mut words, 24), Ok(0));
    }
}

fn a_watched_word_stops_who_writes_it() {
    WORD.store(0, SeqCst);
    let child = traced(|| {
        for value in 1..=3 {
            landmark(value);
        }
        // The kernel's own writes are not watched.
        let file = fs::File::open("/proc/self/exe").expect("open");
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, 0).expect("read");
        let read = syscall!(SYS_pread64, std::os::fd::AsRawFd::as_raw_fd(&file), word(), 8, 0);
        i32::from(read != Ok(8))
    });
    watch(child, word(), false, true);
    let mut before = 0;
    for value in 1..=3 {
        go(CONT, child, 0);
        wait_stopped(child, TRAP, 0);
        let is = info(child).expect("siginfo");
        assert_eq!((is[0], is[2]), (TRAP, 4));
        if cfg!(target_arch = "aarch64") {
            // Before the write, which has to be stepped over.
            assert_eq!(is[4] as u32, word() as u32);
            watch(child, word(), false, false);
            let mut steps = 0;
            while peek(child, word()) == Ok(before) {
                go(STEP, child, 0);
                wait_stopped(child, TRAP, 0);
                steps += 1;
                assert!(steps < 20);
            }
            watch(child, word(), false, true);
        } else {
            let mut status = 0u64;
            assert_eq!(ptrace(3, child, 848 + 6 * 8, &raw mut status as usize), Ok(0));
            assert_eq!(status & 0xf, 1);
        }
        before += value;
        assert_eq!(peek(child, word()), Ok(before));
    }
    go(CONT, child, 0);
    assert_eq!(wait_exit(child), 0);
}

fn a_hardware_breakpoint_stops() {
    let child = traced(|| landmark(4) as i32);
    #[cfg(target_arch = "x86_64")]
    {
        assert_eq!(debug_register(child, 0, 0xffff_8000_0000_0000), Err(libc::EINVAL));
        assert_eq!(debug_register(child, 4, 0), Err(libc::EIO));
        assert_eq!(debug_register(child, 0, landmark_address()), Ok(0));
        assert_eq!(debug_register(child, 7, 1 | 0b0100 << 16), Err(libc::EINVAL));
    }
    #[cfg(target_arch = "aarch64")]
    {
        let mut words = [0u64; 33];
        assert_eq!(register_set(child, 0x402, &mut words), Ok(264));
        assert!((1..=16).contains(&(words[0] & 0xff)));
        let mut words = [0, 0xffff_0000_0000_0000, 1 | 0xf << 5];
        assert!(set_register_set(child, 0x402, &mut words, 24).is_err());
        let mut words = [0, 0, 0];
        assert_eq!(set_register_set(child, 0x402, &mut words, 24), Ok(0));
    }
    watch(child, landmark_address(), true, true);
    go(CONT, child, 0);
    wait_stopped(child, TRAP, 0);
    let is = info(child).expect("siginfo");
    assert_eq!((is[0], is[2]), (TRAP, 4));
    assert_eq!(registers(child)[PC], landmark_address() as u64);
    if cfg!(target_arch = "aarch64") {
        watch(child, landmark_address(), true, false);
    }
    go(CONT, child, 0);
    assert_eq!(wait_exit(child), 5);
}

/// A child that runs until its word is not 0 any more, and returns it.
fn spinning() -> i32 {
    WORD.store(0, SeqCst);
    fork(|| {
        end_with_parent();
        while WORD.load(SeqCst) == 0 {
            std::hint::spin_loop();
        }
        WORD.load(SeqCst) as i32
    })
}

fn a_thread_is_attached_to_and_let_go() {
    let child = spinning();
    assert_eq!(ptrace(ATTACH, child, 0, 0), Ok(0));
    wait_stopped(child, libc::SIGSTOP, 0);
    assert_eq!(ptrace(ATTACH, child, 0, 0), Err(libc::EPERM));
    assert_eq!(ptrace(DETACH, child, 0, 0), Ok(0));
    assert_eq!(ptrace(CONT, child, 0, 0), Err(libc::ESRCH));
    sleep_ms(10);
    assert_eq!(sys::wait(child, libc::WUNTRACED | libc::WNOHANG), Ok((0, 0)));
    assert_eq!(ptrace(ATTACH, child, 0, 0), Ok(0));
    wait_stopped(child, libc::SIGSTOP, 0);
    assert_eq!(poke(child, word(), 6), Ok(0));
    assert_eq!(ptrace(DETACH, child, 0, 0), Ok(0));
    assert_eq!(wait_exit(child), 6);
}

fn who_may_not_is_refused() {
    assert_eq!(ptrace(ATTACH, raw_pid(), 0, 0), Err(libc::EPERM));
    assert_eq!(ptrace(ATTACH, 0x3ff_ffff, 0, 0), Err(libc::ESRCH));
    assert_eq!(ptrace(PEEK, raw_pid(), word(), word()), Err(libc::ESRCH));
    let child = spinning();
    assert_eq!(ptrace(PEEK, child, word(), word()), Err(libc::ESRCH));
    assert_eq!(ptrace(SEIZE, child, 1, 0), Err(libc::EIO));
    assert_eq!(ptrace(SEIZE, child, 0, 1 << 25), Err(libc::EIO));
    let other = fork(|| {
        syscall!(SYS_setresuid, 1000, 1000, 1000).expect("setresuid");
        i32::from(ptrace(ATTACH, child, 0, 0) != Err(libc::EPERM))
    });
    assert_eq!(wait_exit(other), 0);
    kill(child, libc::SIGKILL).expect("kill");
    assert_eq!(wait_killed(child), libc::SIGKILL);
}

fn a_seized_thread_is_interrupted() {
    let child = spinning();
    assert_eq!(ptrace(SEIZE, child, 0, SYSGOOD), Ok(0));
    sleep_ms(10);
    assert_eq!(sys::wait(child, libc::__WALL | libc::WNOHANG), Ok((0, 0)));
    go(INTERRUPT, child, 0);
    wait_stopped(child, TRAP, EVENT_STOP);
    let is = info(child).expect("siginfo");
    assert_eq!((is[0], is[2]), (TRAP, TRAP | EVENT_STOP << 8));
    // Once more, for later.
    go(INTERRUPT, child, 0);
    go(CONT, child, 0);
    wait_stopped(child, TRAP, EVENT_STOP);
    assert_eq!(poke(child, word(), 8), Ok(0));
    go(CONT, child, 0);
    assert_eq!(wait_exit(child), 8);
    let child = traced(|| 0);
    assert_eq!(ptrace(INTERRUPT, child, 0, 0), Err(libc::EIO));
    assert_eq!(ptrace(LISTEN, child, 0, 0), Err(libc::EIO));
    go(KILL, child, 0);
    assert_eq!(wait(child), libc::SIGKILL);
}

fn a_seized_thread_listens() {
    let child = spinning();
    assert_eq!(ptrace(SEIZE, child, 0, 0), Ok(0));
    kill(child, libc::SIGTSTP).expect("kill");
    wait_stopped(child, libc::SIGTSTP, 0);
    go(CONT, child, libc::SIGSTOP);
    wait_stopped(child, libc::SIGSTOP, EVENT_STOP);
    go(LISTEN, child, 0);
    assert_eq!(ptrace(CONT, child, 0, 0), Err(libc::ESRCH));
    sleep_ms(20);
    assert_eq!(sys::wait(child, libc::__WALL | libc::WNOHANG), Ok((0, 0)));
    kill(child, libc::SIGCONT).expect("kill");
    wait_stopped(child, TRAP, EVENT_STOP);
    go(CONT, child, 0);
    wait_stopped(child, libc::SIGCONT, 0);
    assert_eq!(poke(child, word(), 9), Ok(0));
    go(CONT, child, libc::SIGCONT);
    assert_eq!(wait_exit(child), 9);
}

fn a_group_stop_is_a_stop() {
    let child = traced(|| {
        stop_here();
        5
    });
    go(CONT, child, 0);
    wait_stopped(child, libc::SIGSTOP, 0);
    assert!(info(child).is_ok());
    go(CONT, child, libc::SIGSTOP);
    wait_stopped(child, libc::SIGSTOP, 0);
    assert_eq!(info(child), Err(libc::EINVAL), "that of the process is no signal's");
    go(CONT, child, 0);
    assert_eq!(wait_exit(child), 5);
    // Who is stopped already is attached to in its stop.
    let child = spinning();
    kill(child, libc::SIGSTOP).expect("kill");
    assert_eq!(
        sys::wait(child, libc::WUNTRACED),
        Ok((child, stopped(libc::SIGSTOP, 0)))
    );
    assert_eq!(ptrace(SEIZE, child, 0, 0), Ok(0));
    wait_stopped(child, libc::SIGSTOP, EVENT_STOP);
    assert_eq!(poke(child, word(), 3), Ok(0));
    assert_eq!(ptrace(DETACH, child, 0, 0), Ok(0));
    sleep_ms(20);
    assert_eq!(sys::wait(child, libc::WNOHANG), Ok((0, 0)), "it still is stopped");
    kill(child, libc::SIGCONT).expect("kill");
    assert_eq!(wait_exit(child), 3);
}

fn kill_ends_whoever_stands() {
    for request in [CONT, SYSCALL, STEP] {
        let child = traced(|| {
            loop {
                let _ = syscall!(SYS_getppid);
            }
        });
        go(request, child, 0);
        if request != CONT {
            wait(child);
        }
        kill(child, libc::SIGKILL).expect("kill");
        assert_eq!(wait(child), libc::SIGKILL);
    }
    let child = traced(|| 3);
    assert_eq!(ptrace(SETOPTIONS, child, 0, O_EXIT), Ok(0));
    go(CONT, child, 0);
    told(child, EVENT_EXIT);
    kill(child, libc::SIGTERM).expect("kill");
    go(CONT, child, 0);
    assert_eq!(wait_exit(child), 3);
}

/// A tracer that attaches to the thread with these options and then ends.
fn short_tracer(tid: i32, options: usize) {
    let tracer = fork(|| {
        assert_eq!(ptrace(ATTACH, tid, 0, 0), Ok(0));
        wait_stopped(tid, libc::SIGSTOP, 0);
        assert_eq!(ptrace(SETOPTIONS, tid, 0, options), Ok(0));
        0
    });
    assert_eq!(wait_exit(tracer), 0);
}

fn a_tracers_end_lets_go() {
    let shared = sys::shared_counters(1);
    let child = fork(|| {
        end_with_parent();
        while shared[0].load(SeqCst) == 0 {
            sleep_ms(1);
        }
        7
    });
    short_tracer(child, 0);
    assert_eq!(sys::wait(child, libc::WNOHANG), Ok((0, 0)));
    shared[0].store(1, SeqCst);
    assert_eq!(wait_exit(child), 7);
}

fn a_tracers_end_may_kill() {
    let child = spinning();
    short_tracer(child, O_EXITKILL);
    assert_eq!(wait_killed(child), libc::SIGKILL);
}

fn an_ended_thread_is_its_tracers() {
    let child = traced(|| {
        for _ in 0..3 {
            thread::spawn(|| ()).join().expect("join");
        }
        2
    });
    assert_eq!(ptrace(SETOPTIONS, child, 0, O_CLONE), Ok(0));
    go(CONT, child, 0);
    let mut ends = 0;
    loop {
        let (tid, status) = sys::wait(-1, libc::__WALL).expect("wait4");
        if tid == child && libc::WIFEXITED(status) {
            assert_eq!((libc::WEXITSTATUS(status), ends), (2, 3));
            break;
        }
        if libc::WIFEXITED(status) {
            ends += 1;
        } else {
            go(CONT, tid, 0);
        }
    }
    assert_eq!(sys::wait(-1, libc::__WALL), Err(libc::ECHILD));
}

fn the_parent_hears_after_the_tracer() {
    let shared = sys::shared_counters(2);
    let child = fork(|| {
        end_with_parent();
        while shared[0].load(SeqCst) == 0 {
            sleep_ms(1);
        }
        6
    });
    let tracer = fork(|| {
        assert_eq!(ptrace(SEIZE, child, 0, 0), Ok(0));
        shared[0].store(1, SeqCst);
        while shared[1].load(SeqCst) == 0 {
            sleep_ms(1);
        }
        assert_eq!(wait(child), 6 << 8);
        0
    });
    sleep_ms(100);
    assert_eq!(sys::wait(child, libc::WNOHANG), Ok((0, 0)));
    shared[1].store(1, SeqCst);
    assert_eq!(wait_exit(child), 6);
    assert_eq!(wait_exit(tracer), 0);
}

fn another_thread_takes_the_program_over() {
    let child = traced(|| {
        thread::spawn(run_self);
        loop {
            sleep_ms(1000);
        }
    });
    assert_eq!(ptrace(SETOPTIONS, child, 0, O_CLONE | O_EXEC), Ok(0));
    go(CONT, child, 0);
    let other = told(child, EVENT_CLONE);
    wait_stopped(other, libc::SIGSTOP, 0);
    go(CONT, child, 0);
    go(CONT, other, 0);
    assert_eq!(told(child, EVENT_EXEC), other);
    go(CONT, child, 0);
    let status = wait(child);
    assert!(libc::WIFEXITED(status), "{status:#x}");
    assert_eq!(sys::wait(-1, libc::__WALL), Err(libc::ECHILD));
}

fn signals_are_changed_and_masks_read() {
    let child = traced(|| {
        sys::mask(libc::SIG_SETMASK, &[libc::SIGUSR1, libc::SIGUSR2]);
        kill(raw_pid(), libc::SIGUSR1).expect("kill");
        stop_here();
        0
    });
    go(CONT, child, 0);
    wait_stopped(child, libc::SIGSTOP, 0);
    let mut mask = 0u64;
    assert_eq!(ptrace(GETSIGMASK, child, 8, &raw mut mask as usize), Ok(0));
    assert_eq!(mask, 1 << (libc::SIGUSR1 - 1) | 1 << (libc::SIGUSR2 - 1));
    assert_eq!(ptrace(GETSIGMASK, child, 4, &raw mut mask as usize), Err(libc::EINVAL));
    let mut infos = [[0i32; 32]; 3];
    let mut arguments = [0u64, 3 << 32 | 1];
    let count = ptrace(
        PEEKSIGINFO,
        child,
        arguments.as_mut_ptr() as usize,
        infos.as_mut_ptr() as usize,
    );
    assert_eq!((count, infos[0][0], infos[0][4]), (Ok(1), libc::SIGUSR1, child));
    // It waits where it is blocked.
    let mut own = info(child).expect("siginfo");
    own[2] = -77;
    assert_eq!(ptrace(SETSIGINFO, child, 0, own.as_mut_ptr() as usize), Ok(0));
    assert_eq!(info(child).map(|info| info[2]), Ok(-77));
    mask = 0;
    assert_eq!(ptrace(SETSIGMASK, child, 8, &raw mut mask as usize), Ok(0));
    go(CONT, child, 0);
    wait_stopped(child, libc::SIGUSR1, 0);
    go(CONT, child, 0);
    assert_eq!(wait_exit(child), 0);
}

fn status_line(tid: i32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{tid}/status")).expect("status");
    let line = text.lines().find(|line| line.starts_with(name)).expect("line");
    line[name.len()..].trim().to_string()
}

fn the_status_file_tells() {
    let child = traced(|| 0);
    assert_eq!(status_line(child, "State:"), "t (tracing stop)");
    assert_eq!(status_line(child, "TracerPid:"), raw_pid().to_string());
    assert_eq!(status_line(raw_pid(), "TracerPid:"), "0");
    go(CONT, child, 0);
    assert_eq!(wait_exit(child), 0);
}

fn memory_is_a_file() {
    let child = traced(|| i32::from(WORD.load(SeqCst) != 21 || landmark(1) != 2));
    let mut options = fs::OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .open(format!("/proc/{child}/mem"))
        .expect("open");
    file.write_all_at(&21u64.to_ne_bytes(), word() as u64).expect("write");
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, word() as u64).expect("read");
    assert_eq!(u64::from_ne_bytes(bytes), 21);
    file.read_exact_at(&mut bytes, landmark_address() as u64).expect("read");
    file.write_all_at(&bytes, landmark_address() as u64).expect("write");
    assert_eq!(
        file.read_at(&mut bytes, 8).map_err(|e| e.raw_os_error()),
        Err(Some(libc::EIO))
    );
    assert_eq!(
        file.write_at(&bytes, 8).map_err(|e| e.raw_os_error()),
        Err(Some(libc::EIO))
    );
    go(CONT, child, 0);
    assert_eq!(wait_exit(child), 0);
    assert_eq!(
        file.read_at(&mut bytes, word() as u64).map_err(|e| e.raw_os_error()),
        Ok(0)
    );
}
