//! Stops at signals, and what is told: forks, threads, programs, ends.

use std::{ptr, sync::atomic::Ordering::SeqCst, thread};

use super::{
    CONT, EVENT_CLONE, EVENT_EXEC, EVENT_EXIT, EVENT_FORK, EVENT_VFORK, EVENT_VFORK_DONE, KILL, O_CLONE, O_EXEC,
    O_EXIT, O_FORK, O_VFORK, O_VFORKDONE, PC, SETOPTIONS, SP, SYSGOOD, TRAP, WORD, go, info, ptrace, raw_pid,
    registers, stop_here, told, traced, wait, wait_stopped,
};
use crate::{
    sys::{self, fork, kill, sleep_ms, wait_exit, wait_killed},
    syscall,
};

crate::tests! { "ptraces":
    a_traced_child_stops_at_signals;
    forks_are_told;
    threads_are_told;
    a_program_is_told;
    the_end_is_told;
    a_kill_is_told;
    a_program_waits_for_its_threads_ends;
    an_ended_thread_is_its_tracers;
    another_thread_takes_the_program_over;
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
    #[cfg(target_arch = "x86_64")]
    assert_eq!(registers(child)[15], libc::SYS_execve as u64, "orig_rax");
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

fn a_kill_is_told() {
    let child = traced(|| {
        loop {
            sleep_ms(1000);
        }
    });
    assert_eq!(ptrace(SETOPTIONS, child, 0, O_EXIT), Ok(0));
    go(CONT, child, 0);
    kill(child, libc::SIGKILL).expect("kill");
    assert_eq!(told(child, EVENT_EXIT), libc::SIGKILL);
    // It ends already.
    kill(child, libc::SIGKILL).expect("kill");
    sleep_ms(20);
    assert_eq!(sys::wait(child, libc::__WALL | libc::WNOHANG), Ok((0, 0)));
    go(CONT, child, 0);
    assert_eq!(wait(child), libc::SIGKILL);
}

fn a_program_waits_for_its_threads_ends() {
    let child = traced(|| {
        thread::spawn(|| {
            loop {
                sleep_ms(1000);
            }
        });
        stop_here();
        run_self()
    });
    assert_eq!(ptrace(SETOPTIONS, child, 0, O_CLONE | O_EXEC), Ok(0));
    go(CONT, child, 0);
    let other = told(child, EVENT_CLONE);
    wait_stopped(other, libc::SIGSTOP, 0);
    go(CONT, other, 0);
    go(CONT, child, 0);
    wait_stopped(child, libc::SIGSTOP, 0);
    go(CONT, child, 0);
    sleep_ms(200);
    assert_eq!(sys::wait(child, libc::__WALL | libc::WNOHANG), Ok((0, 0)));
    assert_eq!(wait(other), 0, "it has ended, and nobody knew");
    assert_eq!(told(child, EVENT_EXEC), child);
    go(CONT, child, 0);
    let status = wait(child);
    assert!(libc::WIFEXITED(status), "{status:#x}");
    // Who does not wait keeps it from nothing but that: it can still be killed.
    let child = traced(|| {
        thread::spawn(|| {
            loop {
                sleep_ms(1000);
            }
        });
        run_self()
    });
    assert_eq!(ptrace(SETOPTIONS, child, 0, O_CLONE), Ok(0));
    go(CONT, child, 0);
    let other = told(child, EVENT_CLONE);
    wait_stopped(other, libc::SIGSTOP, 0);
    go(CONT, other, 0);
    go(CONT, child, 0);
    sleep_ms(100);
    kill(child, libc::SIGKILL).expect("kill");
    wait(other);
    assert_eq!(wait(child), libc::SIGKILL);
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
