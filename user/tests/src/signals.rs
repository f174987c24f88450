//! Signals: sent, blocked, caught, nested, restarted; frames whole and mangled.

use std::{
    ffi::c_void,
    sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering::SeqCst},
};

use crate::{
    arch,
    sys::{self, fork, handle, kill, mask, set_of, wait, wait_exit, wait_killed},
    syscall,
};

crate::tests! { "signals":
    a_handler_runs_and_is_told;
    blocked_signals_wait;
    the_handlers_mask_holds;
    nodefer_and_resethand;
    restart_or_eintr;
    handlers_nest;
    an_alternate_stack_is_used;
    a_frame_without_room_is_a_fault;
    sigsuspend_and_sigtimedwait;
    realtime_signals_queue_in_order;
    stop_and_continue_are_reported;
    a_group_is_signalled;
    ignored_and_default;
    a_mangled_frame_kills_only_its_process;
    a_frame_can_be_changed;
    sigchld_comes_once_per_child_and_wait_is_not_disturbed;
    alarms_and_intervals;
    an_alarm_is_put_off_brought_forward_and_taken_back;
    kill_is_uncatchable;
    thousands_of_signals_lose_no_memory [frees];
}

static COUNT: AtomicI32 = AtomicI32::new(0);
static LAST: AtomicI32 = AtomicI32::new(0);
static CODE: AtomicI32 = AtomicI32::new(0);
static SENDER: AtomicI32 = AtomicI32::new(0);
static VALUE: AtomicI32 = AtomicI32::new(0);
static WORD: AtomicU64 = AtomicU64::new(0);
static ORDER: AtomicU64 = AtomicU64::new(0);
static PLACE: AtomicUsize = AtomicUsize::new(0);

fn own() -> i32 {
    std::process::id() as i32
}

extern "C" fn note(signo: i32, info: *mut libc::siginfo_t, _: *mut c_void) {
    let info = sys::info(info);
    COUNT.fetch_add(1, SeqCst);
    LAST.store(signo, SeqCst);
    CODE.store(info.code, SeqCst);
    SENDER.store(info.pid, SeqCst);
    VALUE.store(info.value, SeqCst);
}

fn a_handler_runs_and_is_told() {
    handle(libc::SIGUSR1, 0, &[], note);
    kill(own(), libc::SIGUSR1).expect("kill");
    assert_eq!(
        (COUNT.load(SeqCst), LAST.load(SeqCst)),
        (1, libc::SIGUSR1),
        "before kill returned"
    );
    assert_eq!((CODE.load(SeqCst), SENDER.load(SeqCst)), (libc::SI_USER, own()));
    syscall!(SYS_tgkill, own(), own(), libc::SIGUSR1).expect("tgkill");
    assert_eq!(CODE.load(SeqCst), libc::SI_TKILL);
    // rt_sigqueueinfo(SI_QUEUE) carries a value.
    queue(libc::SIGUSR1, 4711);
    assert_eq!((CODE.load(SeqCst), VALUE.load(SeqCst)), (libc::SI_QUEUE, 4711));
}

/// Sends a signal with a value to this process.
fn queue(signo: i32, value: i32) {
    let mut words = [0i32; 32];
    words[..3].copy_from_slice(&[signo, 0, libc::SI_QUEUE]);
    words[4..7].copy_from_slice(&[own(), 0, value]);
    syscall!(SYS_rt_sigqueueinfo, own(), signo, words.as_ptr()).expect("rt_sigqueueinfo");
}

fn blocked_signals_wait() {
    handle(libc::SIGUSR1, 0, &[], note);
    assert_eq!(mask(libc::SIG_BLOCK, &[libc::SIGUSR1]), 0);
    kill(own(), libc::SIGUSR1).expect("kill");
    kill(own(), libc::SIGUSR1).expect("kill");
    assert_eq!(COUNT.load(SeqCst), 0);
    let mut pending = 0u64;
    syscall!(SYS_rt_sigpending, &raw mut pending, 8).expect("rt_sigpending");
    assert_eq!(pending, set_of(&[libc::SIGUSR1]));
    let child = fork(|| {
        let mut pending = 0u64;
        let _ = syscall!(SYS_rt_sigpending, &raw mut pending, 8);
        i32::from(pending != 0)
    });
    assert_eq!(wait_exit(child), 0, "pending signals are not inherited");
    mask(libc::SIG_UNBLOCK, &[libc::SIGUSR1]);
    assert_eq!(COUNT.load(SeqCst), 1, "a standard signal is pending once");
    mask(libc::SIG_SETMASK, &[libc::SIGKILL, libc::SIGSTOP, libc::SIGUSR2]);
    assert_eq!(
        mask(libc::SIG_BLOCK, &[]),
        set_of(&[libc::SIGUSR2]),
        "KILL and STOP cannot be blocked"
    );
    assert_eq!(
        syscall!(SYS_rt_sigprocmask, 99, &raw const pending, 0, 8),
        Err(libc::EINVAL)
    );
    assert_eq!(
        syscall!(SYS_rt_sigprocmask, 0, &raw const pending, 0, 4),
        Err(libc::EINVAL)
    );
}

extern "C" fn masked(_: i32, _: *mut libc::siginfo_t, _: *mut c_void) {
    WORD.store(mask(libc::SIG_BLOCK, &[]), SeqCst);
    let _ = kill(own(), libc::SIGUSR2);
    VALUE.store(COUNT.load(SeqCst), SeqCst);
}

fn the_handlers_mask_holds() {
    handle(libc::SIGUSR1, 0, &[libc::SIGUSR2], masked);
    handle(libc::SIGUSR2, 0, &[], note);
    mask(libc::SIG_BLOCK, &[libc::SIGHUP]);
    kill(own(), libc::SIGUSR1).expect("kill");
    assert_eq!(WORD.load(SeqCst), set_of(&[libc::SIGUSR1, libc::SIGUSR2, libc::SIGHUP]));
    assert_eq!(VALUE.load(SeqCst), 0, "SIGUSR2 waited for the handler's end");
    assert_eq!(COUNT.load(SeqCst), 1, "and then came");
    assert_eq!(mask(libc::SIG_BLOCK, &[]), set_of(&[libc::SIGHUP]), "the mask is back");
}

fn nodefer_and_resethand() {
    handle(libc::SIGUSR1, libc::SA_NODEFER, &[], masked);
    kill(own(), libc::SIGCONT).expect("kill");
    handle(libc::SIGUSR2, 0, &[], note);
    kill(own(), libc::SIGUSR1).expect("kill");
    assert_eq!(WORD.load(SeqCst), 0, "SA_NODEFER blocks nothing");
    let child = fork(|| {
        handle(libc::SIGUSR1, libc::SA_RESETHAND, &[], note);
        let _ = kill(own(), libc::SIGUSR1);
        let _ = kill(own(), libc::SIGUSR1);
        0
    });
    assert_eq!(wait_killed(child), libc::SIGUSR1, "the second time it is the default");
}

fn restart_or_eintr() {
    for (flags, expected) in [(0, Err(libc::EINTR)), (libc::SA_RESTART, Ok(1))] {
        handle(libc::SIGUSR1, flags, &[], note);
        let (reader, writer) = sys::pipe(0);
        let parent = own();
        let child = fork(|| {
            sys::sleep_ms(50);
            let _ = kill(parent, libc::SIGUSR1);
            sys::sleep_ms(50);
            i32::from(sys::write(writer, b"x") != Ok(1))
        });
        let before = COUNT.load(SeqCst);
        assert_eq!(sys::read(reader, &mut [0]), expected, "flags {flags:#x}");
        assert_eq!(COUNT.load(SeqCst), before + 1);
        while wait(child, 0) == Err(libc::EINTR) {}
    }
    // A sleep is never restarted after a handler; it tells what is left.
    handle(libc::SIGUSR1, libc::SA_RESTART, &[], note);
    let parent = own();
    let child = fork(|| {
        sys::sleep_ms(50);
        let _ = kill(parent, libc::SIGUSR1);
        0
    });
    let (wanted, mut left) = (sys::timespec(10_000_000_000), sys::timespec(0));
    assert_eq!(
        syscall!(SYS_nanosleep, &raw const wanted, &raw mut left),
        Err(libc::EINTR)
    );
    assert!((5..10).contains(&left.tv_sec), "{} s left", left.tv_sec);
    assert_eq!(wait_exit(child), 0);
}

extern "C" fn outer(_: i32, _: *mut libc::siginfo_t, _: *mut c_void) {
    push(1);
    let _ = kill(own(), libc::SIGUSR2);
    push(3);
}

extern "C" fn inner(_: i32, _: *mut libc::siginfo_t, _: *mut c_void) {
    push(2);
}

/// Appends a decimal digit to the order of events.
fn push(digit: u64) {
    ORDER.store(ORDER.load(SeqCst) * 10 + digit, SeqCst);
}

fn handlers_nest() {
    handle(libc::SIGUSR1, 0, &[], outer);
    handle(libc::SIGUSR2, 0, &[], inner);
    kill(own(), libc::SIGUSR1).expect("kill");
    push(4);
    assert_eq!(ORDER.load(SeqCst), 1234);
}

extern "C" fn where_am_i(_: i32, _: *mut libc::siginfo_t, _: *mut c_void) {
    let local = 0u8;
    PLACE.store(std::hint::black_box(&raw const local) as usize, SeqCst);
    let mut stack = [0usize; 3];
    let _ = syscall!(SYS_sigaltstack, 0, stack.as_mut_ptr());
    WORD.store(stack[1] as u32 as u64, SeqCst);
    let change = [0usize, libc::SS_DISABLE as usize, 0];
    CODE.store(syscall!(SYS_sigaltstack, change.as_ptr(), 0).err().unwrap_or(0), SeqCst);
}

fn an_alternate_stack_is_used() {
    let size = 65536;
    let stack = sys::memory(size);
    let small = [stack, 0, 100];
    assert_eq!(syscall!(SYS_sigaltstack, small.as_ptr(), 0), Err(libc::ENOMEM));
    let description = [stack, 0, size];
    syscall!(SYS_sigaltstack, description.as_ptr(), 0).expect("sigaltstack");
    handle(libc::SIGUSR1, libc::SA_ONSTACK, &[], where_am_i);
    kill(own(), libc::SIGUSR1).expect("kill");
    assert!((stack..stack + size).contains(&PLACE.load(SeqCst)));
    assert_eq!(WORD.load(SeqCst), libc::SS_ONSTACK as u64);
    assert_eq!(CODE.load(SeqCst), libc::EPERM, "it cannot be changed while in use");
    handle(libc::SIGUSR2, 0, &[], where_am_i);
    kill(own(), libc::SIGUSR2).expect("kill");
    assert!(
        !(stack..stack + size).contains(&PLACE.load(SeqCst)),
        "only with SA_ONSTACK"
    );
}

extern "C" fn again(signo: i32, _: *mut libc::siginfo_t, _: *mut c_void) {
    let _ = kill(own(), signo);
}

fn a_frame_without_room_is_a_fault() {
    let size = 32768;
    let dies = |stack: usize, size: usize| {
        let child = fork(|| {
            // std has a handler for this.
            sys::disposition(libc::SIGSEGV, libc::SIG_DFL);
            let description = [stack, 0, size];
            syscall!(SYS_sigaltstack, description.as_ptr(), 0).expect("sigaltstack");
            handle(libc::SIGUSR1, libc::SA_ONSTACK | libc::SA_NODEFER, &[], again);
            let _ = kill(own(), libc::SIGUSR1);
            0
        });
        assert_eq!(wait_killed(child), libc::SIGSEGV);
    };
    let stack = sys::memory(size);
    // Handlers nest until the stack is full.
    dies(stack, size);
    // Only the beginning of the frame has no memory, then all of it.
    syscall!(SYS_munmap, stack, size - 4096).expect("munmap");
    dies(stack, size - 4096 + 256);
    syscall!(SYS_munmap, stack, size).expect("munmap");
    dies(stack, size);
}

fn sigsuspend_and_sigtimedwait() {
    handle(libc::SIGUSR1, 0, &[], note);
    mask(libc::SIG_SETMASK, &[libc::SIGUSR1, libc::SIGUSR2]);
    kill(own(), libc::SIGUSR1).expect("kill");
    let only_second = set_of(&[libc::SIGUSR2]);
    assert_eq!(syscall!(SYS_rt_sigsuspend, &raw const only_second, 8), Err(libc::EINTR));
    assert_eq!(COUNT.load(SeqCst), 1);
    assert_eq!(
        mask(libc::SIG_BLOCK, &[]),
        set_of(&[libc::SIGUSR1, libc::SIGUSR2]),
        "the mask is back"
    );
    let wanted = only_second;
    let time = sys::timespec(30_000_000);
    let started = sys::now();
    assert_eq!(
        syscall!(SYS_rt_sigtimedwait, &raw const wanted, 0, &raw const time, 8),
        Err(libc::EAGAIN)
    );
    assert!(sys::now() - started >= 30_000_000);
    queue(libc::SIGUSR2, 5);
    let mut info = sys::empty_info();
    let got = syscall!(
        SYS_rt_sigtimedwait,
        &raw const wanted,
        &raw mut info,
        &raw const time,
        8
    );
    assert_eq!(got, Ok(libc::SIGUSR2 as usize));
    assert_eq!(sys::info(&raw mut info).value, 5);
    assert_eq!(COUNT.load(SeqCst), 1, "no handler ran");
}

extern "C" fn sequence(_: i32, info: *mut libc::siginfo_t, _: *mut c_void) {
    push(sys::info(info).value as u64);
}

fn realtime_signals_queue_in_order() {
    let (low, high) = (40, 41);
    for signo in [low, high] {
        handle(signo, 0, &[low, high], sequence);
    }
    mask(libc::SIG_BLOCK, &[low, high]);
    for (signo, value) in [(high, 4), (low, 1), (low, 2), (high, 5), (low, 3)] {
        queue(signo, value);
    }
    mask(libc::SIG_UNBLOCK, &[low, high]);
    assert_eq!(
        ORDER.load(SeqCst),
        12345,
        "the lower number first, each in order of sending"
    );
}

fn stop_and_continue_are_reported() {
    let child = fork(|| {
        sys::sleep_ms(60_000);
        0
    });
    kill(child, libc::SIGSTOP).expect("kill");
    let (pid, status) = wait(child, libc::WUNTRACED).expect("wait4");
    assert_eq!(
        (pid, libc::WIFSTOPPED(status), libc::WSTOPSIG(status)),
        (child, true, libc::SIGSTOP)
    );
    assert_eq!(
        wait(child, libc::WUNTRACED | libc::WNOHANG),
        Ok((0, 0)),
        "reported once"
    );
    kill(child, libc::SIGCONT).expect("kill");
    let (_, status) = wait(child, libc::WCONTINUED).expect("wait4");
    assert!(libc::WIFCONTINUED(status));
    kill(child, libc::SIGTSTP).expect("kill");
    let (_, status) = wait(child, libc::WUNTRACED).expect("wait4");
    assert_eq!(libc::WSTOPSIG(status), libc::SIGTSTP);
    kill(child, libc::SIGKILL).expect("kill");
    assert_eq!(wait_killed(child), libc::SIGKILL, "SIGKILL ends what is stopped");
    // A stopped process makes no progress.
    let counters = sys::shared_counters(1);
    let spinner = fork(|| {
        loop {
            counters[0].fetch_add(1, SeqCst);
        }
    });
    while counters[0].load(SeqCst) == 0 {
        std::hint::spin_loop();
    }
    kill(spinner, libc::SIGSTOP).expect("kill");
    wait(spinner, libc::WUNTRACED).expect("wait4");
    let before = counters[0].load(SeqCst);
    sys::sleep_ms(50);
    assert_eq!(counters[0].load(SeqCst), before);
    kill(spinner, libc::SIGCONT).expect("kill");
    while counters[0].load(SeqCst) == before {
        std::hint::spin_loop();
    }
    kill(spinner, libc::SIGTERM).expect("kill");
    assert_eq!(wait_killed(spinner), libc::SIGTERM);
}

fn a_group_is_signalled() {
    let first = fork(|| {
        let _ = syscall!(SYS_setpgid, 0, 0);
        sys::sleep_ms(60_000);
        0
    });
    let _ = syscall!(SYS_setpgid, first, first);
    let second = fork(|| {
        sys::sleep_ms(60_000);
        0
    });
    syscall!(SYS_setpgid, second, first).expect("setpgid");
    kill(-first, libc::SIGTERM).expect("kill");
    assert_eq!(
        (wait_killed(first), wait_killed(second)),
        (libc::SIGTERM, libc::SIGTERM)
    );
}

fn ignored_and_default() {
    sys::disposition(libc::SIGUSR1, libc::SIG_IGN);
    kill(own(), libc::SIGUSR1).expect("kill");
    kill(own(), libc::SIGCHLD).expect("kill");
    kill(own(), libc::SIGWINCH).expect("kill");
    kill(own(), libc::SIGURG).expect("kill");
    mask(libc::SIG_BLOCK, &[libc::SIGUSR1]);
    kill(own(), libc::SIGUSR1).expect("kill");
    let mut pending = 0u64;
    syscall!(SYS_rt_sigpending, &raw mut pending, 8).expect("rt_sigpending");
    sys::disposition(libc::SIGUSR1, libc::SIG_IGN);
    mask(libc::SIG_UNBLOCK, &[libc::SIGUSR1]);
    for signo in [libc::SIGTERM, libc::SIGABRT, libc::SIGALRM, 35, 64] {
        let child = fork(|| {
            let _ = kill(own(), signo);
            0
        });
        assert_eq!(wait_killed(child), signo);
    }
    assert_eq!(
        syscall!(SYS_rt_sigaction, libc::SIGKILL, [0usize; 4].as_ptr(), 0, 8),
        Err(libc::EINVAL)
    );
    assert_eq!(syscall!(SYS_rt_sigaction, 65, 0, 0, 8), Err(libc::EINVAL));
    // With SIGCHLD ignored children leave no zombies.
    sys::in_child(|| {
        sys::disposition(libc::SIGCHLD, libc::SIG_IGN);
        fork(|| 0);
        assert_eq!(wait(-1, 0), Err(libc::ECHILD));
    });
}

fn a_mangled_frame_kills_only_its_process() {
    for way in 0..arch::MANGLINGS {
        COUNT.store(way as i32, SeqCst);
        let child = fork(|| {
            handle(libc::SIGUSR1, 0, &[], mangle);
            let _ = kill(own(), libc::SIGUSR1);
            // Some harm is none: the kernel may mend what it can.
            0
        });
        let (_, status) = wait(child, 0).expect("wait4");
        let fine = libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0;
        let killed = libc::WIFSIGNALED(status)
            && [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGTRAP].contains(&libc::WTERMSIG(status));
        assert!(fine || killed, "way {way}: status {status:#x}");
    }
    // sigreturn with a stack pointer to nowhere.
    let child = fork(|| {
        // std has a handler for this.
        sys::disposition(libc::SIGSEGV, libc::SIG_DFL);
        arch::sigreturn_from_nowhere()
    });
    assert_eq!(wait_killed(child), libc::SIGSEGV);
}

extern "C" fn mangle(_: i32, _: *mut libc::siginfo_t, context: *mut c_void) {
    arch::mangle(context, COUNT.load(SeqCst) as usize);
}

extern "C" fn skip(_: i32, _: *mut libc::siginfo_t, context: *mut c_void) {
    arch::set_result(context, 4321);
}

fn a_frame_can_be_changed() {
    handle(libc::SIGUSR1, 0, &[], skip);
    // The handler changes the register in which kill returns.
    assert_eq!(kill(own(), libc::SIGUSR1), Ok(4321));
}

fn sigchld_comes_once_per_child_and_wait_is_not_disturbed() {
    handle(libc::SIGCHLD, 0, &[], note);
    for round in 1..=20 {
        let child = fork(|| {
            sys::sleep_ms(2);
            3
        });
        assert_eq!(
            wait(child, 0).map(|(_, status)| libc::WEXITSTATUS(status)),
            Ok(3),
            "round {round}"
        );
        assert_eq!(COUNT.load(SeqCst), round);
    }
    assert_eq!(CODE.load(SeqCst), libc::CLD_EXITED);
}

fn alarms_and_intervals() {
    handle(libc::SIGALRM, 0, &[], note);
    let interval = [0i64, 20_000, 0, 20_000];
    let started = sys::now();
    syscall!(SYS_setitimer, libc::ITIMER_REAL, interval.as_ptr(), 0).expect("setitimer");
    while COUNT.load(SeqCst) < 5 {
        sys::sleep_ms(1);
    }
    assert!(sys::now() - started >= 100_000_000, "five intervals of 20 ms in less");
    let off = [0i64; 4];
    let mut old = [0i64; 4];
    syscall!(SYS_setitimer, libc::ITIMER_REAL, off.as_ptr(), old.as_mut_ptr()).expect("setitimer");
    assert_eq!(old[1], 20_000);
    let after = COUNT.load(SeqCst);
    sys::sleep_ms(60);
    assert_eq!(COUNT.load(SeqCst), after);
}

fn an_alarm_is_put_off_brought_forward_and_taken_back() {
    handle(libc::SIGALRM, 0, &[], note);
    // What was set before, in microseconds.
    let set = |microseconds: i64| {
        let new = [0, 0, 0, microseconds];
        let mut old = [0i64; 4];
        syscall!(SYS_setitimer, libc::ITIMER_REAL, new.as_ptr(), old.as_mut_ptr()).expect("setitimer");
        old[2] * 1_000_000 + old[3]
    };
    for round in 1..=3 {
        // Far away, then near.
        assert_eq!(set(900_000), 0);
        let started = sys::now();
        assert!((800_000..=900_000).contains(&set(20_000)));
        while COUNT.load(SeqCst) < round {
            sys::sleep_ms(1);
        }
        assert!((20..800).contains(&((sys::now() - started) / 1_000_000)));
        // Near, then not at all, then later: only that comes. On a slow machine the near one may come before it is taken back.
        loop {
            assert_eq!(set(5_000), 0);
            if set(0) > 0 {
                break;
            }
            COUNT.store(round, SeqCst);
        }
        let started = sys::now();
        set(40_000);
        sys::sleep_ms(15);
        let seen = COUNT.load(SeqCst);
        if sys::now() - started < 40_000_000 {
            assert_eq!(seen, round, "it was taken back");
        }
        while COUNT.load(SeqCst) == round {
            sys::sleep_ms(1);
        }
        assert!(sys::now() - started >= 40_000_000, "it was put off");
        COUNT.store(round, SeqCst);
    }
}

fn kill_is_uncatchable() {
    let child = fork(|| {
        mask(libc::SIG_SETMASK, &(1..=64).collect::<Vec<_>>());
        loop {
            std::hint::spin_loop();
        }
    });
    sys::sleep_ms(20);
    kill(child, libc::SIGTERM).expect("kill");
    sys::sleep_ms(20);
    assert_eq!(wait(child, libc::WNOHANG), Ok((0, 0)), "blocked");
    kill(child, libc::SIGKILL).expect("kill");
    assert_eq!(wait_killed(child), libc::SIGKILL);
}

fn thousands_of_signals_lose_no_memory() {
    handle(libc::SIGUSR1, 0, &[], note);
    for _ in 0..5000 {
        queue(libc::SIGUSR1, 1);
    }
    assert_eq!(COUNT.load(SeqCst), 5000);
}
