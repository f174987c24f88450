//! Filters that ask another program: listeners.

use std::{
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    thread,
};

use super::{
    ALLOW, NEW_LISTENER, TSYNC, TSYNC_ESRCH, USER_NOTIF, VICTIM, WAIT_KILLABLE, filter, renounce, seccomp, victim,
};
use crate::{
    sys::{self, Sys, close, fork, in_child, kill, pipe, wait_exit, wait_killed},
    syscall,
};

crate::tests! { "seccomp":
    listeners_are_checked;
    a_supervisor_answers;
    answers_are_checked;
    a_listener_can_be_waited_for;
    who_is_gone_cannot_be_answered;
    a_signal_takes_a_question_back;
    a_received_question_may_outlast_signals;
    receivers_are_interrupted;
    without_a_supervisor_there_is_no_call;
    descriptors_are_given;
    a_given_descriptor_is_an_answer;
    many_ask_at_once [frees];
}

const RECEIVE: u32 = 0xc050_2100;
const SEND: u32 = 0xc018_2101;
const ID_VALID: u32 = 0x4008_2102;
const ADD_FD: u32 = 0x4018_2103;
const CONTINUE: u32 = 1;
const SET_FD: u32 = 1;
const AND_SEND: u32 = 2;

#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Notif {
    id: u64,
    pid: u32,
    flags: u32,
    number: i32,
    architecture: u32,
    address: u64,
    arguments: [u64; 6],
}

#[repr(C)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

#[repr(C)]
struct AddFd {
    id: u64,
    flags: u32,
    source: i32,
    target: i32,
    target_flags: u32,
}

/// A filter that asks about the victim: its listener.
fn listen(flags: u32) -> i32 {
    filter(NEW_LISTENER | flags, VICTIM, USER_NOTIF).expect("a listener") as i32
}

fn control<T>(listener: i32, request: u32, argument: &mut T) -> Sys {
    syscall!(SYS_ioctl, listener, request, std::ptr::from_mut(argument))
}

fn receive(listener: i32) -> Notif {
    let mut notif = Notif::default();
    assert_eq!(control(listener, RECEIVE, &mut notif), Ok(0));
    notif
}

fn respond(listener: i32, id: u64, value: i64, error: i32, flags: u32) -> Sys {
    let mut response = Response {
        id,
        value,
        error,
        flags,
    };
    control(listener, SEND, &mut response)
}

fn is_valid(listener: i32, id: u64) -> Sys {
    let mut id = id;
    control(listener, ID_VALID, &mut id)
}

fn add(listener: i32, id: u64, flags: u32, source: i32, target: i32) -> Sys {
    let mut wanted = AddFd {
        id,
        flags,
        source,
        target,
        target_flags: libc::O_CLOEXEC as u32,
    };
    control(listener, ADD_FD, &mut wanted)
}

fn listeners_are_checked() {
    let mut sizes = [0u16; 3];
    assert_eq!(seccomp(3, 0, sizes.as_mut_ptr() as usize), Ok(0));
    assert_eq!(sizes, [80, 24, 64]);
    assert_eq!(seccomp(3, 1, sizes.as_mut_ptr() as usize), Err(libc::EINVAL));
    assert_eq!(seccomp(3, 0, 8), Err(libc::EFAULT));
    let action = USER_NOTIF;
    assert_eq!(seccomp(2, 0, &raw const action as usize), Ok(0));
    in_child(|| {
        assert_eq!(filter(TSYNC | NEW_LISTENER, VICTIM, ALLOW), Err(libc::EINVAL));
        assert_eq!(filter(WAIT_KILLABLE, VICTIM, ALLOW), Err(libc::EINVAL));
        let listener = filter(TSYNC | TSYNC_ESRCH | NEW_LISTENER, VICTIM, ALLOW).expect("a listener") as i32;
        assert_eq!(
            syscall!(SYS_fcntl, listener, libc::F_GETFD),
            Ok(libc::FD_CLOEXEC as usize)
        );
        assert_eq!(filter(NEW_LISTENER, VICTIM, ALLOW), Err(libc::EBUSY));
        assert!(filter(0, VICTIM, ALLOW).is_ok());
        close(listener);
        let again = filter(NEW_LISTENER, VICTIM, ALLOW);
        assert_eq!(again, Ok(listener as usize), "that one is gone");
        let mut byte = [0];
        assert_eq!(sys::read(listener, &mut byte), Err(libc::EINVAL));
        assert_eq!(sys::write(listener, &byte), Err(libc::EINVAL));
        assert_eq!(control(listener, 0x2104, &mut byte), Err(libc::EINVAL));
    });
    in_child(|| {
        syscall!(SYS_setresuid, 1000, 1000, 1000).expect("setresuid");
        assert_eq!(filter(NEW_LISTENER, VICTIM, ALLOW), Err(libc::EACCES));
        renounce();
        assert!(filter(NEW_LISTENER, VICTIM, ALLOW).is_ok());
    });
}

fn a_supervisor_answers() {
    in_child(|| {
        let group = victim().expect("its group");
        let listener = listen(0);
        let asker = sys::call(libc::SYS_getpid, &[]).expect("getpid") as u32;
        let supervisor = fork(|| {
            let first = receive(listener);
            assert_eq!((first.pid, first.flags, i64::from(first.number)), (asker, 0, VICTIM));
            assert_eq!(
                (first.arguments[0], first.architecture),
                (0x1234_5678_9abc, super::ARCHITECTURE)
            );
            assert_ne!(first.address, 0);
            assert_eq!(respond(listener, first.id, 0x1_0000_0001, 0, 0), Ok(0));
            let mut last = first.id;
            for (value, error, flags) in [(0, -77, 0), (5, -3, 0), (0, 0, CONTINUE), (-9, 0, 0)] {
                let next = receive(listener);
                assert!(next.id > last);
                last = next.id;
                assert_eq!(respond(listener, next.id, value, error, flags), Ok(0));
            }
            0
        });
        assert_eq!(sys::call(VICTIM, &[0x1234_5678_9abc]), Ok(0x1_0000_0001));
        assert_eq!(victim(), Err(77));
        assert_eq!(victim(), Err(3), "an error counts before a value");
        assert_eq!(victim(), Ok(group), "made after all");
        assert_eq!(victim(), Err(9));
        assert_eq!(wait_exit(supervisor), 0);
    });
}

fn answers_are_checked() {
    in_child(|| {
        let listener = listen(0);
        let asker = thread::spawn(victim_with_filter_of_its_own);
        let _ = asker.join();
        let asked = fork(|| i32::from(victim() != Ok(4)));
        let mut dirty = Notif {
            flags: 1,
            ..Notif::default()
        };
        assert_eq!(control(listener, RECEIVE, &mut dirty), Err(libc::EINVAL));
        assert_eq!(syscall!(SYS_ioctl, listener, RECEIVE, 8), Err(libc::EFAULT));
        assert_eq!(respond(listener, 0, 0, 0, 0), Err(libc::ENOENT));
        let notif = receive(listener);
        assert_eq!(respond(listener, notif.id + 1, 0, 0, 0), Err(libc::ENOENT));
        assert_eq!(is_valid(listener, notif.id + 1), Err(libc::ENOENT));
        assert_eq!(is_valid(listener, notif.id), Ok(0));
        for (value, error, flags) in [(0, 0, 2), (1, 0, CONTINUE), (0, -1, CONTINUE)] {
            assert_eq!(respond(listener, notif.id, value, error, flags), Err(libc::EINVAL));
        }
        assert_eq!(syscall!(SYS_ioctl, listener, SEND, 8), Err(libc::EFAULT));
        assert_eq!(respond(listener, notif.id, 4, 0, 0), Ok(0));
        assert_eq!(wait_exit(asked), 0);
        assert_eq!(respond(listener, notif.id, 4, 0, 0), Err(libc::ENOENT));
    });
}

/// A thread whose own filter says otherwise, and counts.
fn victim_with_filter_of_its_own() {
    filter(0, VICTIM, super::ERRNO | 5).expect("seccomp");
    assert_eq!(victim(), Err(5));
}

fn readiness(listener: i32, milliseconds: u64) -> i16 {
    sys::poll(listener, libc::POLLIN | libc::POLLOUT, milliseconds)
}

fn a_listener_can_be_waited_for() {
    in_child(|| {
        // Only the asker has the filter.
        let (reader, writer) = pipe(0);
        let asker = fork(|| {
            let listener = listen(0);
            sys::write(writer, &(listener as u32).to_ne_bytes()).expect("write");
            i32::from(victim() != Ok(6))
        });
        let mut bytes = [0; 4];
        assert_eq!(sys::read(reader, &mut bytes), Ok(4));
        let listener = fetch(asker, i32::from_ne_bytes(bytes));
        assert_eq!(readiness(listener, 5000), libc::POLLIN);
        let notif = receive(listener);
        assert_eq!(readiness(listener, 0), libc::POLLOUT);
        assert_eq!(respond(listener, notif.id, 6, 0, 0), Ok(0));
        assert_eq!(wait_exit(asker), 0);
        assert_eq!(readiness(listener, 5000), libc::POLLHUP);
    });
}

/// A descriptor of another process.
fn fetch(pid: i32, fd: i32) -> i32 {
    let process = syscall!(SYS_pidfd_open, pid, 0).expect("pidfd_open") as i32;
    let fetched = syscall!(SYS_pidfd_getfd, process, fd, 0).expect("pidfd_getfd") as i32;
    close(process);
    fetched
}

fn who_is_gone_cannot_be_answered() {
    in_child(|| {
        let listener = listen(0);
        let asker = fork(|| i32::from(victim().is_ok()));
        let notif = receive(listener);
        kill(asker, libc::SIGKILL).expect("kill");
        assert_eq!(wait_killed(asker), libc::SIGKILL);
        assert_eq!(is_valid(listener, notif.id), Err(libc::ENOENT));
        assert_eq!(respond(listener, notif.id, 0, 0, 0), Err(libc::ENOENT));
        assert_eq!(add(listener, notif.id, 0, 0, 0), Err(libc::ENOENT));
        assert_eq!(readiness(listener, 0), 0);
    });
}

static HANDLED: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    HANDLED.fetch_add(1, SeqCst);
}

fn a_signal_takes_a_question_back() {
    in_child(|| {
        let listener = listen(0);
        let asker = fork(|| {
            sys::handle(libc::SIGUSR1, 0, &[], count);
            assert_eq!((victim(), HANDLED.load(SeqCst)), (Err(libc::EINTR), 1));
            sys::handle(libc::SIGUSR1, libc::SA_RESTART, &[], count);
            assert_eq!((victim(), HANDLED.load(SeqCst)), (Ok(8), 2));
            0
        });
        let first = receive(listener);
        kill(asker, libc::SIGUSR1).expect("kill");
        let second = receive(listener);
        assert_ne!(first.id, second.id);
        assert_eq!(respond(listener, first.id, 0, 0, 0), Err(libc::ENOENT));
        kill(asker, libc::SIGUSR1).expect("kill");
        let third = receive(listener);
        assert_eq!(respond(listener, second.id, 0, 0, 0), Err(libc::ENOENT));
        assert_eq!(respond(listener, third.id, 8, 0, 0), Ok(0));
        assert_eq!(wait_exit(asker), 0);
    });
}

fn a_received_question_may_outlast_signals() {
    in_child(|| {
        let listener = listen(WAIT_KILLABLE);
        let asker = fork(|| {
            sys::handle(libc::SIGUSR1, 0, &[], count);
            assert_eq!((victim(), HANDLED.load(SeqCst)), (Ok(8), 1));
            victim().map_or(1, |_| 2)
        });
        let notif = receive(listener);
        kill(asker, libc::SIGUSR1).expect("kill");
        sys::sleep_ms(30);
        assert_eq!(is_valid(listener, notif.id), Ok(0));
        assert_eq!(respond(listener, notif.id, 8, 0, 0), Ok(0));
        receive(listener);
        kill(asker, libc::SIGKILL).expect("kill");
        assert_eq!(wait_killed(asker), libc::SIGKILL);
    });
}

fn receivers_are_interrupted() {
    in_child(|| {
        let listener = listen(0);
        let receiver = fork(|| {
            sys::handle(libc::SIGALRM, libc::SA_RESTART, &[], count);
            // Again and again: the first may come before the call.
            let timer = [0u64, 20_000, 0, 20_000];
            syscall!(SYS_setitimer, libc::ITIMER_REAL, timer.as_ptr(), 0).expect("setitimer");
            let mut notif = Notif::default();
            i32::from(control(listener, RECEIVE, &mut notif) != Err(libc::EINTR))
        });
        assert_eq!(wait_exit(receiver), 0);
    });
}

fn without_a_supervisor_there_is_no_call() {
    in_child(|| {
        let listener = listen(0);
        let supervisor = thread::spawn(move || {
            receive(listener);
            sys::sleep_ms(10);
            close(listener);
        });
        assert_eq!(victim(), Err(libc::ENOSYS), "it left without a word");
        supervisor.join().expect("the supervisor");
        assert_eq!(victim(), Err(libc::ENOSYS));
        // Nor does one that came too late.
        let again = listen(0);
        close(again);
        assert_eq!(victim(), Err(libc::ENOSYS));
    });
}

fn descriptors_are_given() {
    in_child(|| {
        let listener = listen(0);
        let asker = fork(|| {
            let free = syscall!(SYS_dup, 0).expect("dup") as i32;
            close(free);
            assert_eq!(victim(), Ok(free as usize));
            assert_eq!(sys::write(free, b"x"), Ok(1));
            assert_eq!(sys::write(50, b"y"), Ok(1));
            assert_eq!(syscall!(SYS_fcntl, free, libc::F_GETFD), Ok(libc::FD_CLOEXEC as usize));
            0
        });
        let (reader, writer) = pipe(0);
        let notif = receive(listener);
        assert_eq!(
            add(listener, notif.id, 0, writer, 50),
            Err(libc::EINVAL),
            "without SETFD"
        );
        assert_eq!(add(listener, notif.id, 4, writer, 0), Err(libc::EINVAL));
        assert_eq!(add(listener, notif.id, 0, 99, 0), Err(libc::EBADF));
        assert_eq!(add(listener, notif.id + 1, 0, writer, 0), Err(libc::ENOENT));
        assert_eq!(add(listener, notif.id, SET_FD, writer, 1 << 30), Err(libc::EBADF));
        let mut short = [0u64; 2];
        assert_eq!(control(listener, 0x4010_2103, &mut short), Err(libc::EINVAL));
        let mut long = [notif.id, 0, 0, 1];
        assert_eq!(control(listener, 0x4020_2103, &mut long), Err(libc::E2BIG));
        let given = add(listener, notif.id, 0, writer, 0).expect("a descriptor");
        assert_eq!(add(listener, notif.id, SET_FD, writer, 50), Ok(50));
        assert_eq!(add(listener, notif.id, SET_FD, writer, 50), Ok(50), "in its place");
        assert_eq!(respond(listener, notif.id, given as i64, 0, 0), Ok(0));
        assert_eq!(wait_exit(asker), 0);
        let mut bytes = [0; 3];
        assert_eq!((sys::read(reader, &mut bytes), bytes), (Ok(2), *b"xy\0"));
    });
}

fn a_given_descriptor_is_an_answer() {
    in_child(|| {
        let listener = listen(0);
        let asker = fork(|| {
            let fd = victim().expect("a descriptor") as i32;
            assert_eq!(sys::write(fd, b"z"), Ok(1));
            0
        });
        let (reader, writer) = pipe(0);
        let notif = receive(listener);
        assert_eq!(
            add(listener, notif.id, AND_SEND | SET_FD, writer, 1 << 30),
            Err(libc::EBADF)
        );
        assert_eq!(is_valid(listener, notif.id), Ok(0), "what failed is no answer");
        assert!(add(listener, notif.id, AND_SEND, writer, 0).is_ok());
        assert_eq!(wait_exit(asker), 0);
        assert_eq!(sys::read(reader, &mut [0; 2]), Ok(1));
    });
}

fn many_ask_at_once() {
    in_child(|| {
        const ASKERS: usize = 12;
        let listener = listen(0);
        let askers: Vec<i32> = (0..ASKERS)
            .map(|_| {
                fork(|| {
                    for turn in 0..20 {
                        assert_eq!(sys::call(VICTIM, &[turn]), Ok(turn + 1));
                    }
                    0
                })
            })
            .collect();
        let supervisors: Vec<_> = (0..3)
            .map(|_| {
                fork(|| {
                    for _ in 0..ASKERS * 20 / 3 {
                        let notif = receive(listener);
                        assert_eq!(respond(listener, notif.id, notif.arguments[0] as i64 + 1, 0, 0), Ok(0));
                    }
                    0
                })
            })
            .collect();
        for child in askers.into_iter().chain(supervisors) {
            assert_eq!(wait_exit(child), 0);
        }
    });
}
