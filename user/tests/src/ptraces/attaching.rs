//! How tracing begins and ends, and how a process stops as a whole.

use std::sync::atomic::Ordering::SeqCst;

use super::{
    ATTACH, CONT, DETACH, EVENT_EXIT, EVENT_STOP, INTERRUPT, KILL, LISTEN, O_EXIT, O_EXITKILL, PEEK, SEIZE, SETOPTIONS,
    STEP, SYSCALL, SYSGOOD, TRAP, WORD, end_with_parent, go, info, poke, ptrace, raw_pid, stop_here, stopped, told,
    traced, wait, wait_stopped, word,
};
use crate::{
    sys::{self, fork, kill, sleep_ms, wait_exit, wait_killed},
    syscall,
};

crate::tests! { "ptraces":
    a_thread_is_attached_to_and_let_go;
    who_may_not_is_refused;
    a_seized_thread_is_interrupted;
    a_seized_thread_listens;
    a_group_stop_is_a_stop;
    kill_ends_whoever_stands;
    a_tracers_end_lets_go;
    a_tracers_end_may_kill;
    the_parent_hears_after_the_tracer;
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
