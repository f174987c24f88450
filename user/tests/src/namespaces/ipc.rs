//! IPC namespaces: System V objects, POSIX message queues, and their limits.

use std::{ffi::CStr, fs};

use super::{Waiting, open, own, setns, unshare};
use crate::{
    sys::{self, Sys, fork, in_child, wait_exit},
    syscall,
    sysv::{IPC_CREAT, IPC_EXCL, IPC_RMID, IPC_STAT},
};

crate::tests! { "namespaces::ipc":
    objects_are_apart;
    queues_are_apart;
    limits_are_apart;
    the_reader_of_proc_sees_its_own;
    a_segment_keeps_its_namespace;
    an_undo_list_stays_behind;
    clone_and_undo_lists_exclude_each_other;
    all_goes_with_the_last_user [frees];
}

const KEY: i32 = 0x7e57_0001;

fn semget(count: i32, flags: i32) -> Sys {
    syscall!(SYS_semget, KEY, count, flags)
}

fn msgget(flags: i32) -> Sys {
    syscall!(SYS_msgget, KEY, flags)
}

fn shmget(flags: i32) -> Sys {
    syscall!(SYS_shmget, KEY, 4096, flags)
}

fn value(set: usize) -> Sys {
    const GETVAL: i32 = 12;
    syscall!(SYS_semctl, set, 0, GETVAL, 0)
}

fn add(set: usize, change: i16, flags: i16) -> Sys {
    let operation = [0i16, change, flags];
    syscall!(SYS_semop, set, operation.as_ptr(), 1)
}

fn mq_open(name: &CStr, flags: i32) -> Sys {
    syscall!(SYS_mq_open, name.as_ptr(), flags, 0o600, 0)
}

fn objects_are_apart() {
    let sets = semget(1, IPC_CREAT | 0o600).expect("semget");
    let queue = msgget(IPC_CREAT | 0o600).expect("msgget");
    let segment = shmget(IPC_CREAT | 0o600).expect("shmget");
    let outside = open("self", "ipc");
    in_child(|| {
        unshare(libc::CLONE_NEWIPC).expect("unshare");
        assert_eq!(semget(0, 0o600), Err(libc::ENOENT));
        assert_eq!(msgget(0o600), Err(libc::ENOENT));
        assert_eq!(shmget(0o600), Err(libc::ENOENT));
        assert_eq!(value(sets), Err(libc::EINVAL));
        assert_eq!(syscall!(SYS_shmat, segment, 0, 0), Err(libc::EINVAL));
        semget(3, IPC_CREAT | IPC_EXCL | 0o600).expect("semget");
        msgget(IPC_CREAT | IPC_EXCL | 0o600).expect("msgget");
        shmget(IPC_CREAT | IPC_EXCL | 0o600).expect("shmget");
        setns(outside, libc::CLONE_NEWIPC).expect("setns");
        assert_eq!(
            (semget(0, 0o600), msgget(0o600), shmget(0o600)),
            (Ok(sets), Ok(queue), Ok(segment))
        );
    });
    assert_eq!(value(sets), Ok(0));
    syscall!(SYS_semctl, sets, 0, IPC_RMID, 0).expect("semctl");
    syscall!(SYS_msgctl, queue, IPC_RMID, 0).expect("msgctl");
    syscall!(SYS_shmctl, segment, IPC_RMID, 0).expect("shmctl");
    sys::close(outside);
}

fn queues_are_apart() {
    let name = c"tests-apart";
    let outside = mq_open(name, libc::O_CREAT | libc::O_RDWR).expect("mq_open") as i32;
    in_child(|| {
        unshare(libc::CLONE_NEWIPC).expect("unshare");
        assert_eq!(mq_open(name, libc::O_RDWR), Err(libc::ENOENT));
        let inside = mq_open(name, libc::O_CREAT | libc::O_EXCL | libc::O_RDWR).expect("mq_open") as i32;
        let sent = syscall!(SYS_mq_timedsend, inside, b"x".as_ptr(), 1, 0, 0);
        assert_eq!(sent, Ok(0));
        assert_eq!(
            sys::poll(outside, libc::POLLIN, 0),
            0,
            "another queue, which stays open"
        );
        assert_eq!(sys::poll(inside, libc::POLLIN, 0), libc::POLLIN);
        // By its path it is found as well.
        let shown = fs::read_link(format!("/proc/self/fd/{inside}")).expect("readlink");
        assert!(shown.ends_with("tests-apart"), "{shown:?}");
        syscall!(SYS_mq_unlink, name.as_ptr()).expect("mq_unlink");
    });
    syscall!(SYS_mq_unlink, name.as_ptr()).expect("mq_unlink");
    sys::close(outside);
}

const LIMITS: [(&str, &str); 4] = [
    ("kernel/sem", "100\t200\t50\t10"),
    ("kernel/msgmnb", "777"),
    ("kernel/shmmni", "55"),
    ("fs/mqueue/queues_max", "2"),
];

fn limit(name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/sys/{name}")).expect("read");
    text.trim_end().to_owned()
}

fn limits_are_apart() {
    let before = LIMITS.map(|(name, _)| limit(name));
    in_child(|| {
        unshare(libc::CLONE_NEWIPC).expect("unshare");
        assert_eq!(
            LIMITS.map(|(name, _)| limit(name)),
            before,
            "as they are from the beginning"
        );
        for (name, value) in LIMITS {
            fs::write(format!("/proc/sys/{name}"), value).expect("write");
            assert_eq!(limit(name), value);
        }
        assert_eq!(semget(101, IPC_CREAT | 0o600), Err(libc::EINVAL));
    });
    assert_eq!(LIMITS.map(|(name, _)| limit(name)), before);
}

fn the_reader_of_proc_sees_its_own() {
    let lines = || fs::read_to_string("/proc/sysvipc/sem").expect("read").lines().count();
    let set = semget(1, IPC_CREAT | 0o600).expect("semget");
    assert!(lines() > 1);
    in_child(|| {
        unshare(libc::CLONE_NEWIPC).expect("unshare");
        assert_eq!(lines(), 1);
        semget(1, IPC_CREAT | 0o600).expect("semget");
        assert_eq!(lines(), 2);
    });
    syscall!(SYS_semctl, set, 0, IPC_RMID, 0).expect("semctl");
}

fn a_segment_keeps_its_namespace() {
    in_child(|| {
        let outside = open("self", "ipc");
        unshare(libc::CLONE_NEWIPC).expect("unshare");
        let inside = open("self", "ipc");
        let segment = shmget(IPC_CREAT | 0o600).expect("shmget");
        let place = syscall!(SYS_shmat, segment, 0, 0).expect("shmat");
        sys::poke(place, 7);
        syscall!(SYS_shmctl, segment, IPC_RMID, 0).expect("shmctl");
        setns(outside, 0).expect("setns");
        sys::poke(place + 1, 8);
        assert_eq!((sys::peek(place), sys::peek(place + 1)), (7, 8));
        in_child(|| {
            setns(inside, 0).expect("setns");
            let mut status = [0u8; 112];
            syscall!(SYS_shmctl, segment, IPC_STAT, status.as_mut_ptr()).expect("shmctl");
        });
        sys::close(inside);
        // Nobody is in it any more, and its last segment goes with this.
        syscall!(SYS_shmdt, place).expect("shmdt");
    });
}

const SEM_UNDO: i16 = 0x1000;

fn an_undo_list_stays_behind() {
    let set = semget(1, IPC_CREAT | 0o600).expect("semget");
    in_child(|| {
        add(set, 3, SEM_UNDO).expect("semop");
        assert_eq!(value(set), Ok(3));
        let outside = open("self", "ipc");
        unshare(libc::CLONE_NEWIPC).expect("unshare");
        // What was to be undone has been.
        let inside = semget(1, IPC_CREAT | 0o600).expect("semget");
        let another = fork(|| {
            setns(outside, 0).expect("setns");
            value(set).expect("semctl") as i32
        });
        assert_eq!(wait_exit(another), 0);
        add(inside, 5, SEM_UNDO).expect("semop");
        setns(outside, 0).expect("setns");
        add(set, 1, 0).expect("semop");
    });
    assert_eq!(value(set), Ok(1));
    syscall!(SYS_semctl, set, 0, IPC_RMID, 0).expect("semctl");
}

extern "C" fn nothing(_: *mut libc::c_void) -> i32 {
    0
}

fn clone_and_undo_lists_exclude_each_other() {
    const LENGTH: usize = 0x40000;
    let stack = sys::memory(LENGTH);
    let both = libc::CLONE_NEWIPC | libc::CLONE_SYSVSEM | libc::CLONE_VM | libc::SIGCHLD;
    assert_eq!(sys::clone_on(stack, LENGTH, both, nothing), Err(libc::EINVAL));
}

fn all_goes_with_the_last_user() {
    let before = own("ipc");
    for _ in 0..20 {
        let child = Waiting::new(|| {
            unshare(libc::CLONE_NEWIPC).expect("unshare");
            let segment = shmget(IPC_CREAT | 0o600).expect("shmget");
            let place = syscall!(SYS_shmat, segment, 0, 0).expect("shmat");
            sys::poke(place, 7);
            for _ in 0..20 {
                syscall!(SYS_semget, 0, 100, 0o600).expect("semget");
                let queue = syscall!(SYS_msgget, 0, 0o600).expect("msgget");
                let message = [1u64, 2];
                syscall!(SYS_msgsnd, queue, message.as_ptr(), 8, 0).expect("msgsnd");
            }
            // Small, since its user's bytes are counted in all namespaces.
            let shape = [0u64, 1, 1, 0, 0, 0, 0, 0];
            let (name, flags) = (c"tests-goes".as_ptr(), libc::O_CREAT | libc::O_RDWR);
            let queue = syscall!(SYS_mq_open, name, flags, 0o600, shape.as_ptr()).expect("mq_open");
            syscall!(SYS_mq_timedsend, queue, b"x".as_ptr(), 1, 0, 0).expect("mq_timedsend");
        });
        drop(child);
    }
    assert_eq!(own("ipc"), before);
}
