//! Breakpoints, single steps, and what hardware watches.

use std::{fs, os::unix::fs::FileExt, sync::atomic::Ordering::SeqCst};

use super::{
    BREAKPOINT, BREAKPOINT_CODE, CALL_LENGTH, CONT, PAST, PC, STEP, TRAP, WORD, go, info, landmark, landmark_address,
    peek, poke, ptrace, registers, set_registers, stop_here, stopped, traced, wait, wait_stopped, word,
};
#[cfg(target_arch = "aarch64")]
use super::{register_set, set_register_set};
use crate::{
    sys::{self, wait_exit},
    syscall,
};

crate::tests! { "ptraces":
    breakpoints_stop;
    steps_are_single;
    a_handler_is_stepped_into;
    a_watched_word_stops_who_writes_it;
    a_hardware_breakpoint_stops;
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
fn debug_register(tid: i32, number: usize, value: usize) -> sys::Sys {
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
