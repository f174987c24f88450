//! Filters of system calls.

use std::{
    sync::atomic::{
        AtomicI32, AtomicU32, AtomicU64,
        Ordering::{Relaxed, SeqCst},
    },
    thread,
};

use crate::{
    programs::{execute, myself},
    sys::{self, Sys, fork, in_child, wait_exit, wait_killed},
    syscall,
};

crate::tests! { "seccomp":
    calls_are_checked;
    programs_are_checked;
    a_right_or_a_renunciation_is_needed;
    calls_fail_with_any_error;
    what_a_filter_sees;
    a_trap_tells_all;
    a_trap_that_nobody_takes_ends;
    a_thread_or_all_are_ended;
    without_tracer_or_listener_there_is_no_call;
    logged_calls_are_made;
    the_strictest_of_several_counts;
    filters_are_inherited;
    filters_outlive_an_exec;
    status_shows_them;
    all_threads_get_one;
    threads_that_diverged_do_not;
    a_thread_in_user_mode_gets_one;
    all_together_are_limited;
    strictly_four_calls;
    a_division_by_zero_ends;
    interrupted_calls_pass_again;
    many_filters_come_and_go [frees];
}

const SET_MODE_STRICT: u32 = 0;
const SET_MODE_FILTER: u32 = 1;
const GET_ACTION_AVAIL: u32 = 2;
const TSYNC: u32 = 1;
const LOG: u32 = 2;
const SPEC_ALLOW: u32 = 4;
const TSYNC_ESRCH: u32 = 16;

const KILL_PROCESS: u32 = 0x8000_0000;
const KILL_THREAD: u32 = 0;
const TRAP: u32 = 0x0003_0000;
const ERRNO: u32 = 0x0005_0000;
const USER_NOTIF: u32 = 0x7fc0_0000;
const TRACE: u32 = 0x7ff0_0000;
const LOGGED: u32 = 0x7ffc_0000;
const ALLOW: u32 = 0x7fff_0000;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// A call that nobody needs here.
const VICTIM: i64 = libc::SYS_getpgid;

#[derive(Clone, Copy)]
#[repr(C)]
struct Instruction {
    code: u16,
    jump_true: u8,
    jump_false: u8,
    k: u32,
}

const fn statement(code: u16, k: u32) -> Instruction {
    jump(code, k, 0, 0)
}

const fn jump(code: u16, k: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction {
        code,
        jump_true,
        jump_false,
        k,
    }
}

/// Loads a word of what a filter sees: the number at 0, the architecture at 4, the address at 8, arguments from 16 on.
const fn load(at: u32) -> Instruction {
    statement(0x20, at)
}

const fn returns(value: u32) -> Instruction {
    statement(0x06, value)
}

fn seccomp(operation: u32, flags: u32, argument: usize) -> Sys {
    syscall!(SYS_seccomp, operation, flags, argument)
}

#[repr(C)]
struct Program {
    length: u16,
    instructions: *const Instruction,
}

fn install(flags: u32, instructions: &[Instruction]) -> Sys {
    let program = Program {
        length: instructions.len() as u16,
        instructions: instructions.as_ptr(),
    };
    seccomp(SET_MODE_FILTER, flags, &raw const program as usize)
}

/// Has calls of one number end as `value` says, others be made.
fn filter(flags: u32, number: i64, value: u32) -> Sys {
    install(
        flags,
        &[load(0), jump(0x15, number as u32, 0, 1), returns(value), returns(ALLOW)],
    )
}

fn victim() -> Sys {
    syscall!(SYS_getpgid, 0)
}

fn renounce() {
    syscall!(SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).expect("PR_SET_NO_NEW_PRIVS");
}

fn mode() -> Sys {
    syscall!(SYS_prctl, libc::PR_GET_SECCOMP, 0, 0, 0, 0)
}

fn set_mode(mode: u64, argument: usize) -> Sys {
    syscall!(SYS_prctl, libc::PR_SET_SECCOMP, mode, argument, 0, 0)
}

fn calls_are_checked() {
    for (operation, flags, argument) in [
        (4, 0, 0),
        (u32::MAX, 0, 0),
        (SET_MODE_STRICT, 1, 0),
        (SET_MODE_STRICT, 0, 1),
    ] {
        assert_eq!(
            seccomp(operation, flags, argument),
            Err(libc::EINVAL),
            "{operation} {flags}"
        );
    }
    for flags in [64, 1 << 31] {
        assert_eq!(filter(flags, VICTIM, ALLOW), Err(libc::EINVAL), "{flags}");
    }
    let available = |action: u32, flags: u32| seccomp(GET_ACTION_AVAIL, flags, &raw const action as usize);
    for action in [KILL_PROCESS, KILL_THREAD, TRAP, ERRNO, TRACE, LOGGED, ALLOW] {
        assert_eq!(available(action, 0), Ok(0), "{action:#x}");
        assert_eq!(available(action | 1, 0), Err(libc::EOPNOTSUPP), "{action:#x}");
    }
    assert_eq!(available(0x7fff_ffff, 0), Err(libc::EOPNOTSUPP));
    assert_eq!(available(ALLOW, 1), Err(libc::EINVAL));
    assert_eq!(seccomp(GET_ACTION_AVAIL, 0, 8), Err(libc::EFAULT));
    assert_eq!(seccomp(SET_MODE_FILTER, 0, 0), Err(libc::EFAULT));
    assert_eq!(seccomp(SET_MODE_FILTER, 0, 8), Err(libc::EFAULT));
    for mode in [0, 3, u64::MAX] {
        assert_eq!(set_mode(mode, 0), Err(libc::EINVAL));
    }
    assert_eq!(set_mode(2, 8), Err(libc::EFAULT));
    assert_eq!(mode(), Ok(0));
    let program = Program {
        length: 1,
        instructions: std::ptr::without_provenance(8),
    };
    assert_eq!(
        seccomp(SET_MODE_FILTER, 0, &raw const program as usize),
        Err(libc::EFAULT)
    );
}

fn programs_are_checked() {
    let refused = |instructions: &[Instruction]| {
        in_child(|| assert_eq!(install(0, instructions), Err(libc::EINVAL)));
    };
    let accepted = |instructions: &[Instruction]| {
        in_child(|| assert_eq!(install(0, instructions), Ok(0)));
    };
    let end = returns(ALLOW);
    refused(&[]);
    refused(&[load(0)]);
    refused(&vec![end; 4097]);
    accepted(&vec![end; 4096]);
    for bad in [
        load(64),
        load(2),
        load(0xffff_f000),
        // Half-words, bytes, by X, lengths of headers.
        statement(0x28, 0),
        statement(0x30, 0),
        statement(0x40, 0),
        statement(0xb1, 0),
        // Division by nothing, modulo, shifts too far, unknown ones.
        statement(0x34, 0),
        statement(0x94, 3),
        statement(0x64, 32),
        statement(0x74, 32),
        statement(0xf4, 0),
        statement(0x0104, 0),
        statement(0x0e, 0),
        // Memory.
        statement(0x02, 16),
        statement(0x60, 0),
        // Jumps.
        statement(0x05, 1),
        statement(0x05, u32::MAX),
        jump(0x15, 0, 1, 0),
        jump(0x25, 0, 0, 1),
    ] {
        refused(&[bad, end]);
    }
    for good in [
        load(60),
        statement(0x80, 0),
        statement(0x81, 0),
        statement(0x34, 1),
        statement(0x64, 31),
        statement(0x02, 15),
        statement(0x03, 15),
        statement(0x05, 0),
        jump(0x4d, 0, 0, 0),
        statement(0x07, 0),
        statement(0x87, 0),
        statement(0x84, 0),
    ] {
        accepted(&[good, end]);
    }
    // Divided by X, which is zero at first.
    accepted(&[statement(0x01, 1), statement(0x3c, 0), end]);
    // One of two ways to the read does not write.
    refused(&[jump(0x15, 0, 0, 1), statement(0x02, 3), statement(0x60, 3), end]);
    accepted(&[
        statement(0x02, 3),
        jump(0x15, 0, 0, 1),
        statement(0x02, 3),
        statement(0x60, 3),
        end,
    ]);
}

fn a_right_or_a_renunciation_is_needed() {
    in_child(|| {
        syscall!(SYS_setresuid, 1000, 1000, 1000).expect("setresuid");
        assert_eq!(filter(0, VICTIM, ALLOW), Err(libc::EACCES));
        // What has no length is told so first.
        assert_eq!(install(0, &[]), Err(libc::EINVAL));
        // What is wrong is not even looked at.
        assert_eq!(install(0, &[load(2)]), Err(libc::EACCES));
        renounce();
        assert_eq!(filter(0, VICTIM, ALLOW), Ok(0));
    });
    in_child(|| assert_eq!(filter(LOG | SPEC_ALLOW, VICTIM, ALLOW), Ok(0)));
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

/// What a filter finds in one word of what it sees, for a call with these arguments: the low and the high half.
fn seen(at: u32, arguments: [usize; 6]) -> u32 {
    let counters = sys::shared_counters(1);
    in_child(|| {
        let half = |high: bool| {
            let shift = if high { vec![statement(0x74, 16)] } else { vec![] };
            let mut instructions = vec![
                load(0),
                jump(0x15, 9_000 + u32::from(high), 1, 0),
                returns(ALLOW),
                load(at),
            ];
            instructions.extend(shift);
            // Shown by parts, since an error has but twelve bits.
            instructions.extend([statement(0x54, 0xfff), statement(0x44, ERRNO), statement(0x16, 0)]);
            install(0, &instructions).expect("seccomp");
        };
        half(false);
        half(true);
        let low = sys::call(9_000, &arguments).err().unwrap_or(0) as u32;
        let high = sys::call(9_001, &arguments).err().unwrap_or(0) as u32;
        counters[0].store(u64::from(high << 16 | low), Relaxed);
    });
    counters[0].load(Relaxed) as u32
}

fn what_a_filter_sees() {
    // By parts: bits 0 to 11 and 16 to 27.
    const SHOWN: u32 = 0x0fff_0fff;
    let arguments: [usize; 6] = std::array::from_fn(|i| 0x0123_0abc_0456_0def_usize + i * 0x1_0001);
    assert_eq!(seen(4, arguments), ARCHITECTURE & SHOWN);
    for (i, argument) in arguments.iter().enumerate() {
        let at = 16 + 8 * i as u32;
        assert_eq!(seen(at, arguments), *argument as u32 & SHOWN, "{i}");
        assert_eq!(seen(at + 4, arguments), (*argument >> 32) as u32 & SHOWN, "{i}");
    }
    assert_ne!(seen(8, arguments), 0);
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

fn filters_are_inherited() {
    in_child(|| {
        filter(0, VICTIM, ERRNO | 9).expect("seccomp");
        in_child(|| {
            assert_eq!(victim(), Err(9));
            in_child(|| assert_eq!(victim(), Err(9)));
        });
        assert_eq!(thread::spawn(victim).join().expect("the thread"), Err(9));
        // What a child adds is its own.
        in_child(|| {
            filter(0, libc::SYS_getppid, ERRNO | 8).expect("seccomp");
            assert_eq!(syscall!(SYS_getppid), Err(8));
        });
        assert!(syscall!(SYS_getppid).is_ok());
        thread::spawn(|| {
            filter(0, libc::SYS_getppid, ERRNO | 8).expect("seccomp");
            assert_eq!(syscall!(SYS_getppid), Err(8));
        })
        .join()
        .expect("the thread");
        assert!(syscall!(SYS_getppid).is_ok());
    });
}

/// The other side of [`filters_outlive_an_exec`].
pub fn after_exec() -> bool {
    victim() == Err(9) && mode() == Ok(2)
}

fn filters_outlive_an_exec() {
    let program = myself();
    let status = wait_exit(fork(|| {
        filter(0, VICTIM, ERRNO | 9).expect("seccomp");
        execute(&program, &["tests", "helper", "filtered"])
    }));
    assert_eq!(status, 0);
    // By the thread that is not the first.
    let status = wait_exit(fork(|| {
        let program = program.clone();
        thread::spawn(move || {
            filter(0, VICTIM, ERRNO | 9).expect("seccomp");
            execute(&program, &["tests", "helper", "filtered"])
        })
        .join()
        .expect("the thread")
    }));
    assert_eq!(status, 0);
}

fn shown(line: &str) -> String {
    let text = std::fs::read_to_string("/proc/self/status").expect("its status");
    let found = text.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
    found
        .unwrap_or_else(|| panic!("no {line} in {text}"))
        .trim()
        .to_string()
}

fn status_shows_them() {
    assert_eq!((shown("Seccomp"), shown("Seccomp_filters")), ("0".into(), "0".into()));
    in_child(|| {
        for count in 1..4 {
            filter(0, VICTIM, ALLOW).expect("seccomp");
            assert_eq!(
                (shown("Seccomp"), shown("Seccomp_filters")),
                ("2".into(), format!("{count}"))
            );
        }
    });
}

/// Threads that wait for a word, and then say what `victim` gives them.
fn asked(count: usize, between: impl FnOnce()) -> Vec<Sys> {
    static GO: AtomicU32 = AtomicU32::new(0);
    static THERE: AtomicU32 = AtomicU32::new(0);
    GO.store(0, SeqCst);
    THERE.store(0, SeqCst);
    let threads: Vec<_> = (0..count)
        .map(|_| {
            thread::spawn(|| {
                THERE.fetch_add(1, SeqCst);
                while GO.load(SeqCst) == 0 {
                    // In a wait that nothing but a signal may end early.
                    let time = sys::timespec(10_000_000);
                    assert_eq!(syscall!(SYS_nanosleep, &raw const time, 0), Ok(0));
                }
                victim()
            })
        })
        .collect();
    while THERE.load(SeqCst) < count as u32 {
        sys::sleep_ms(1);
    }
    between();
    GO.store(1, SeqCst);
    threads
        .into_iter()
        .map(|thread| thread.join().expect("a thread"))
        .collect()
}

fn all_threads_get_one() {
    in_child(|| {
        // Not root, so that it is seen that renouncing goes along.
        syscall!(SYS_setresuid, 1000, 1000, 1000).expect("setresuid");
        let renounced = asked(4, || {
            renounce();
            filter(TSYNC, VICTIM, ERRNO | 9).expect("seccomp");
        });
        assert_eq!(renounced, [Err(9); 4]);
    });
    in_child(|| {
        // What each has may be older.
        filter(0, VICTIM, LOGGED).expect("seccomp");
        let got = asked(4, || {
            filter(0, VICTIM, ALLOW).expect("seccomp");
            filter(TSYNC | TSYNC_ESRCH, VICTIM, ERRNO | 9).expect("seccomp");
        });
        assert_eq!(got, [Err(9); 4]);
    });
    in_child(|| {
        let got = asked(2, || {
            filter(0, VICTIM, ERRNO | 9).expect("seccomp");
        });
        assert!(got.iter().all(Result::is_ok), "only the caller's: {got:?}");
        assert_eq!(victim(), Err(9));
    });
}

fn threads_that_diverged_do_not() {
    in_child(|| {
        static TID: AtomicI32 = AtomicI32::new(0);
        static END: AtomicU32 = AtomicU32::new(0);
        let other = thread::spawn(|| {
            filter(0, libc::SYS_getppid, ERRNO | 8).expect("seccomp");
            TID.store(syscall!(SYS_gettid).expect("gettid") as i32, SeqCst);
            while END.load(SeqCst) == 0 {
                sys::sleep_ms(1);
            }
            assert!(victim().is_ok());
        });
        while TID.load(SeqCst) == 0 {
            sys::sleep_ms(1);
        }
        assert_eq!(filter(TSYNC, VICTIM, ERRNO | 9), Ok(TID.load(SeqCst) as usize));
        assert_eq!(filter(TSYNC | TSYNC_ESRCH, VICTIM, ERRNO | 9), Err(libc::ESRCH));
        assert!(victim().is_ok(), "the caller has not got it either");
        assert_eq!(mode(), Ok(0));
        END.store(1, SeqCst);
        other.join().expect("the thread");
        assert_eq!(filter(TSYNC, VICTIM, ERRNO | 9), Ok(0));
        assert_eq!(victim(), Err(9));
    });
}

fn a_thread_in_user_mode_gets_one() {
    in_child(|| {
        static STATE: AtomicU32 = AtomicU32::new(0);
        let other = thread::spawn(|| {
            STATE.store(1, SeqCst);
            while STATE.load(SeqCst) != 2 {
                std::hint::spin_loop();
            }
            victim()
        });
        while STATE.load(SeqCst) == 0 {
            sys::sleep_ms(1);
        }
        filter(TSYNC, VICTIM, ERRNO | 9).expect("seccomp");
        // The interrupt that tells it is on its way.
        sys::sleep_ms(20);
        STATE.store(2, SeqCst);
        assert_eq!(other.join().expect("the thread"), Err(9));
    });
}

fn all_together_are_limited() {
    in_child(|| {
        let long = vec![returns(ALLOW); 4096];
        let mut count = 0;
        let refused = loop {
            match install(0, &long) {
                Ok(_) => count += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(refused, libc::ENOMEM);
        // Linux counts what it has translated the instructions to, which is more.
        assert!((3..=7).contains(&count), "{count} of 4096 instructions each");
        assert_eq!(filter(0, VICTIM, ERRNO | 9), Ok(0), "a short one still fits");
        assert_eq!(victim(), Err(9));
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

fn a_division_by_zero_ends() {
    let child = fork(|| {
        install(
            0,
            &[
                load(0),
                jump(0x15, VICTIM as u32, 1, 0),
                returns(ALLOW),
                statement(0x01, 0),
                statement(0x3c, 0),
                returns(ALLOW),
            ],
        )
        .expect("seccomp");
        let _none = victim();
        1
    });
    assert_eq!(wait_killed(child), libc::SIGSYS);
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

fn many_filters_come_and_go() {
    for round in 0..20 {
        in_child(|| {
            for _ in 0..50 {
                filter(0, VICTIM, ERRNO | 9).expect("seccomp");
            }
            assert_eq!(victim(), Err(9), "{round}");
            if round % 4 == 0 {
                let children: Vec<_> = (0..4).map(|_| thread::spawn(victim)).collect();
                assert!(
                    children
                        .into_iter()
                        .all(|child| child.join().expect("a thread") == Err(9))
                );
            }
        });
    }
}
