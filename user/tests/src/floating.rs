//! FP and SIMD registers: nobody's but the thread's.

use std::{
    ffi::c_void,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst},
    thread,
};

use crate::{
    arch,
    programs::Random,
    sys::{self, fork, handle, kill, wait_exit},
    syscall,
};

crate::tests! { "floating":
    sixteen_threads_keep_their_registers (120);
    sixteen_processes_keep_their_registers (120);
    handlers_that_interrupt_each_other_keep_them;
    a_handler_may_use_them;
    fork_copies_them;
    a_fresh_program_starts_clean;
}

/// Fills the registers and looks again, for some milliseconds; whether they were always right.
fn keeps(seed: u64, milliseconds: u64) -> bool {
    let mut random = Random(seed * 2 + 1);
    let size = arch::vector_bytes();
    let (mut pattern, mut seen) = (vec![0u8; size], vec![0u8; size]);
    let end = sys::now() + milliseconds * 1_000_000;
    arch::set_rounding(seed as u32 % 4);
    let mut round = 0u64;
    while sys::now() < end {
        pattern.iter_mut().for_each(|byte| *byte = random.next() as u8);
        // Some rounds are longer than a time slice.
        arch::hammer(
            &pattern,
            &mut seen,
            if round.is_multiple_of(16) { 2_000_000 } else { 2_000 },
        );
        if pattern != seen || arch::rounding() != seed as u32 % 4 {
            return false;
        }
        if round % 8 == 1 {
            let _ = syscall!(SYS_sched_yield);
        }
        if round % 8 == 2 {
            sys::sleep_ms(1);
        }
        round += 1;
    }
    arch::set_rounding(0);
    true
}

fn sixteen_threads_keep_their_registers() {
    let threads: Vec<_> = (0..16).map(|seed| thread::spawn(move || keeps(seed, 3000))).collect();
    for (index, thread) in threads.into_iter().enumerate() {
        assert!(
            thread.join().expect("join"),
            "thread {index} found somebody else's registers"
        );
    }
}

fn sixteen_processes_keep_their_registers() {
    let children: Vec<i32> = (0..16)
        .map(|seed| fork(move || i32::from(!keeps(seed, 3000))))
        .collect();
    // They are moved about meanwhile.
    let cpus = sys::cpus();
    let mut random = Random(77);
    let end = sys::now() + 2_500_000_000;
    while sys::now() < end {
        let child = children[random.below(children.len())];
        let mut words = [0u64; 16];
        let cpu = cpus[random.below(cpus.len())];
        words[cpu / 64] |= 1 << (cpu % 64);
        let _ended = syscall!(SYS_sched_setaffinity, child, 128, words.as_ptr());
        sys::sleep_ms(2);
    }
    for (index, child) in children.into_iter().enumerate() {
        assert_eq!(wait_exit(child), 0, "process {index} found somebody else's registers");
    }
}

static HANDLED: AtomicU64 = AtomicU64::new(0);

extern "C" fn scribble(_: i32, _: *mut libc::siginfo_t, _: *mut c_void) {
    let pattern = [0xa5; 512];
    let mut seen = [0; 512];
    arch::hammer(&pattern, &mut seen, 10);
    arch::set_rounding(3);
    HANDLED.fetch_add(1, SeqCst);
}

fn a_handler_may_use_them() {
    handle(libc::SIGUSR1, 0, &[], scribble);
    let parent = std::process::id() as i32;
    // For as long as it takes: several that come while the parent does not run are one.
    let sender = fork(|| {
        while kill(parent, libc::SIGUSR1).is_ok() {
            sys::sleep_ms(1);
        }
        0
    });
    let size = arch::vector_bytes();
    let (mut pattern, mut seen) = (vec![0u8; size], vec![0u8; size]);
    let mut random = Random(9);
    arch::set_rounding(1);
    while HANDLED.load(SeqCst) < 100 {
        pattern.iter_mut().for_each(|byte| *byte = random.next() as u8);
        arch::hammer(&pattern, &mut seen, 100_000);
        assert!(pattern == seen, "a handler's registers came through");
        assert_eq!(arch::rounding(), 1, "a handler's rounding mode came through");
    }
    arch::set_rounding(0);
    let _ = kill(sender, libc::SIGKILL);
    while sys::wait(sender, 0) == Err(libc::EINTR) {}
}

static ROUNDINGS: [AtomicU32; 2] = [const { AtomicU32::new(u32::MAX) }; 2];

extern "C" fn note_rounding(signo: i32, _: *mut libc::siginfo_t, _: *mut c_void) {
    ROUNDINGS[usize::from(signo == libc::SIGUSR2)].store(arch::rounding(), SeqCst);
    arch::set_rounding(3);
}

fn handlers_that_interrupt_each_other_keep_them() {
    let both = [libc::SIGUSR1, libc::SIGUSR2];
    both.iter().for_each(|signo| handle(*signo, 0, &[], note_rounding));
    sys::mask(libc::SIG_BLOCK, &both);
    for signo in both {
        kill(std::process::id() as i32, signo).expect("kill");
    }
    arch::set_rounding(2);
    // Both at once: one handler is interrupted before its first instruction.
    sys::mask(libc::SIG_UNBLOCK, &both);
    assert_eq!(arch::rounding(), 2);
    arch::set_rounding(0);
    let [one, other] = ROUNDINGS.each_ref().map(|seen| seen.load(SeqCst));
    assert_eq!(one, other, "one handler had the other's registers");
    assert_ne!(one, u32::MAX);
}

fn fork_copies_them() {
    arch::set_rounding(2);
    let child = fork(|| i32::from(arch::rounding() != 2));
    assert_eq!(arch::rounding(), 2);
    arch::set_rounding(0);
    assert_eq!(wait_exit(child), 0);
}

fn a_fresh_program_starts_clean() {
    arch::set_rounding(3);
    let me = crate::programs::myself();
    let child = fork(|| crate::programs::execute(&me, &["tests", "helper", "rounding"]));
    arch::set_rounding(0);
    assert_eq!(wait_exit(child), 0, "execve resets the control register");
}
