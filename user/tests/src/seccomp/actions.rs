//! What becomes of a call.

use std::{
    sync::atomic::AtomicI32, sync::atomic::AtomicU32, sync::atomic::AtomicU64, sync::atomic::Ordering::Relaxed,
    sync::atomic::Ordering::SeqCst, thread,
};

use super::{
    ALLOW, ARCHITECTURE, ERRNO, KILL_PROCESS, KILL_THREAD, LOG, LOGGED, Program, SET_MODE_STRICT, TRACE, TRAP,
    USER_NOTIF, VICTIM, filter, jump, load, mode, returns, seccomp, set_mode, victim,
};
use crate::{
    sys::{self, fork, in_child, wait_exit, wait_killed},
    syscall,
};

crate::tests! { "seccomp":
    calls_fail_with_any_error;
    a_trap_tells_all;
    a_trap_that_nobody_takes_ends;
    a_thread_or_all_are_ended;
    without_tracer_or_listener_there_is_no_call;
    logged_calls_are_made;
    the_strictest_of_several_counts;
    strictly_four_calls;
    interrupted_calls_pass_again;
}

fn calls_fail_with_any_error() {
    for (value, result) in [
        (ERRNO | 5, Err(5)),
        (ERRNO, Ok(0)),
        (ERRNO | 4095, Err(4095)),
        (ERRNO | 4096, Err(4095)),
        (ERRNO | 0xffff, Err(4095)),
    ] {
        in_child(|| {
            filter(0, VICTIM, value).expect("seccomp");
            assert_eq!(mode(), Ok(2));
            for _ in 0..100 {
                assert_eq!(victim(), result);
            }
            // Numbers that are none can be had too.
            filter(0, 10_000, ERRNO | 77).expect("seccomp");
            assert_eq!(sys::call(10_000, &[]), Err(77));
            assert_eq!(sys::call(10_001, &[]), Err(libc::ENOSYS));
        });
    }
    in_child(|| {
        let instructions = [
            load(0),
            jump(0x15, VICTIM as u32, 0, 1),
            returns(ERRNO | 1),
            returns(ALLOW),
        ];
        let program = Program {
            length: 4,
            instructions: instructions.as_ptr(),
        };
        set_mode(2, &raw const program as usize).expect("PR_SET_SECCOMP");
        assert_eq!(victim(), Err(1));
        // The mode is settled.
        assert_eq!(seccomp(SET_MODE_STRICT, 0, 0), Err(libc::EINVAL));
        assert_eq!(set_mode(1, 0), Err(libc::EINVAL));
    });
}

static TRAPS: AtomicU32 = AtomicU32::new(0);

static WORDS: [AtomicU64; 5] = [const { AtomicU64::new(0) }; 5];

extern "C" fn on_trap(signo: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    let word = |i: usize| u64::from_ne_bytes(std::array::from_fn(|byte| sys::peek(info as usize + i * 8 + byte)));
    for (to, i) in WORDS.iter().zip(0..4) {
        to.store(word(i), Relaxed);
    }
    WORDS[4].store(signo as u64, Relaxed);
    TRAPS.fetch_add(1, Relaxed);
}

fn a_trap_tells_all() {
    in_child(|| {
        sys::handle(libc::SIGSYS, libc::SA_SIGINFO, &[], on_trap);
        filter(0, VICTIM, TRAP | 0x1234).expect("seccomp");
        let returned = sys::call(VICTIM, &[77]);
        // The call is not made: its number, or first argument, is where the result would be.
        let left = if cfg!(target_arch = "x86_64") {
            VICTIM as usize
        } else {
            77
        };
        assert_eq!(returned, Ok(left));
        assert_eq!(TRAPS.load(Relaxed), 1);
        let [first, second, address, call] = std::array::from_fn(|i| WORDS[i].load(Relaxed));
        assert_eq!(
            (first as i32, first >> 32),
            (libc::SIGSYS, 0x1234),
            "si_signo, si_errno"
        );
        assert_eq!(second as i32, 1, "SYS_SECCOMP");
        assert_ne!(address, 0);
        assert_eq!((call as u32, (call >> 32) as u32), (VICTIM as u32, ARCHITECTURE));
        assert_eq!(WORDS[4].load(Relaxed), libc::SIGSYS as u64);
        assert!(victim().is_ok());
        assert_eq!(TRAPS.load(Relaxed), 2);
    });
}

fn a_trap_that_nobody_takes_ends() {
    let ends = |before: fn()| {
        let child = fork(move || {
            before();
            filter(0, VICTIM, TRAP).expect("seccomp");
            let _none = victim();
            1
        });
        assert_eq!(wait_killed(child), libc::SIGSYS);
    };
    ends(|| ());
    ends(|| sys::disposition(libc::SIGSYS, libc::SIG_IGN));
    ends(|| {
        sys::handle(libc::SIGSYS, libc::SA_SIGINFO, &[], on_trap);
        sys::mask(libc::SIG_BLOCK, &[libc::SIGSYS]);
    });
}

fn a_thread_or_all_are_ended() {
    for value in [KILL_PROCESS, KILL_THREAD, KILL_THREAD | 9, 0x1234_0000] {
        let child = fork(move || {
            sys::disposition(libc::SIGSYS, libc::SIG_IGN);
            filter(0, VICTIM, value).expect("seccomp");
            let _none = victim();
            1
        });
        assert_eq!(wait_killed(child), libc::SIGSYS, "{value:#x}");
    }
    static GONE: AtomicI32 = AtomicI32::new(0);
    let run = |value: u32| {
        fork(move || {
            let other = thread::spawn(move || {
                GONE.store(syscall!(SYS_gettid).expect("gettid") as i32, SeqCst);
                filter(0, VICTIM, value).expect("seccomp");
                let _none = victim();
                GONE.store(0, SeqCst);
            });
            while GONE.load(SeqCst) == 0 {
                sys::sleep_ms(1);
            }
            // It is never joined: its thread does not come to what a join waits for, but is gone.
            std::mem::forget(other);
            let tid = GONE.load(SeqCst);
            while syscall!(SYS_tgkill, std::process::id(), tid, 0).is_ok() {
                sys::sleep_ms(1);
            }
            if GONE.load(SeqCst) == tid { 7 } else { 8 }
        })
    };
    assert_eq!(wait_exit(run(KILL_THREAD)), 7);
    assert_eq!(wait_killed(run(KILL_PROCESS)), libc::SIGSYS);
}

fn without_tracer_or_listener_there_is_no_call() {
    for value in [TRACE | 3, USER_NOTIF] {
        in_child(|| {
            filter(0, VICTIM, value).expect("seccomp");
            assert_eq!(victim(), Err(libc::ENOSYS), "{value:#x}");
        });
    }
}

fn logged_calls_are_made() {
    in_child(|| {
        filter(LOG, VICTIM, LOGGED).expect("seccomp");
        for _ in 0..40 {
            assert!(victim().is_ok());
        }
    });
}

fn the_strictest_of_several_counts() {
    in_child(|| {
        filter(0, VICTIM, LOGGED).expect("seccomp");
        assert!(victim().is_ok());
        filter(0, VICTIM, ERRNO | 1).expect("seccomp");
        assert_eq!(victim(), Err(1));
        filter(0, VICTIM, ERRNO | 2).expect("seccomp");
        assert_eq!(victim(), Err(2), "the latest of equals");
        filter(0, VICTIM, TRACE).expect("seccomp");
        filter(0, VICTIM, ALLOW).expect("seccomp");
        assert_eq!(victim(), Err(2));
        sys::handle(libc::SIGSYS, libc::SA_SIGINFO, &[], on_trap);
        filter(0, VICTIM, TRAP).expect("seccomp");
        assert!(victim().is_ok());
        assert_eq!(TRAPS.load(Relaxed), 1);
        let child = fork(|| {
            filter(0, VICTIM, KILL_THREAD).expect("seccomp");
            let _none = victim();
            1
        });
        assert_eq!(wait_killed(child), libc::SIGSYS);
        // A filter can keep from filters.
        filter(0, libc::SYS_seccomp, ERRNO | 3).expect("seccomp");
        assert_eq!(filter(0, VICTIM, ALLOW), Err(3));
    });
}

fn strictly_four_calls() {
    let child = fork(|| {
        let (reader, writer) = sys::pipe(0);
        seccomp(SET_MODE_STRICT, 0, 0).expect("seccomp");
        let fine = sys::write(writer, b"x") == Ok(1) && sys::read(reader, &mut [0]) == Ok(1);
        // exit, not exit_group.
        let _none = syscall!(SYS_exit, if fine { 3 } else { 4 });
        5
    });
    assert_eq!(wait_exit(child), 3);
    for call in [libc::SYS_getpid, libc::SYS_exit_group, libc::SYS_prctl, 10_000] {
        let child = fork(move || {
            set_mode(1, 0).expect("PR_SET_SECCOMP");
            let _none = sys::call(call, &[0]);
            loop {
                std::hint::spin_loop();
            }
        });
        assert_eq!(wait_killed(child), libc::SIGKILL, "{call}");
    }
}

extern "C" fn nothing(_signo: i32, _info: *mut libc::siginfo_t, _context: *mut libc::c_void) {}

fn interrupted_calls_pass_again() {
    in_child(|| {
        let (reader, writer) = sys::pipe(0);
        sys::handle(libc::SIGUSR1, libc::SA_SIGINFO | libc::SA_RESTART, &[], nothing);
        filter(0, VICTIM, ERRNO | 9).expect("seccomp");
        let pid = std::process::id() as i32;
        let tid = syscall!(SYS_gettid).expect("gettid") as i32;
        let other = thread::spawn(move || {
            for _ in 0..5 {
                sys::sleep_ms(5);
                syscall!(SYS_tgkill, pid, tid, libc::SIGUSR1).expect("tgkill");
            }
            sys::sleep_ms(5);
            sys::write(writer, b"y").expect("write");
        });
        let mut byte = [0];
        assert_eq!((sys::read(reader, &mut byte), byte), (Ok(1), *b"y"));
        other.join().expect("the thread");
        assert_eq!(victim(), Err(9));
    });
}
