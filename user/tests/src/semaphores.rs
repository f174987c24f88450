//! System V semaphores: what is done at once, in which order, and what the end of a process takes back.

use crate::{
    sys::{self, Sys, fork, in_child, kill, wait_exit},
    syscall,
    sysv::{IPC_NOWAIT, Kind, Object, as_user, until_asleep},
};

crate::tests! { "semaphores":
    operations_are_done_all_or_none;
    arguments_are_looked_at;
    values_can_be_set_and_read;
    waiters_go_on_in_order;
    who_waits_is_counted;
    a_removal_ends_waits;
    times_end_waits;
    a_signal_ends_a_wait_and_is_never_restarted_from;
    an_end_takes_back [frees];
    threads_have_one_list_of_what_is_taken_back;
    sets_and_reads_need_their_bits;
    many_take_turns (60) [frees];
}

pub const GETPID: i32 = 11;
pub const GETVAL: i32 = 12;
pub const GETALL: i32 = 13;
pub const GETNCNT: i32 = 14;
pub const GETZCNT: i32 = 15;
pub const SETVAL: i32 = 16;
pub const SETALL: i32 = 17;
const UNDO: i32 = 0x1000;

/// `struct sembuf`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Op(u16, i16, i16);

fn op(number: u16, change: i16, flags: i32) -> Op {
    Op(number, change, flags as i16)
}

fn set(count: i32) -> Object {
    Object::of(
        Kind::Semaphores,
        syscall!(SYS_semget, 0, count, 0o600).expect("semget") as i32,
    )
}

impl Object {
    fn operate(&self, operations: &[Op]) -> Sys {
        syscall!(SYS_semop, self.id, operations.as_ptr(), operations.len())
    }

    fn ask(&self, number: i32, command: i32, argument: usize) -> Sys {
        syscall!(SYS_semctl, self.id, number, command, argument)
    }

    fn value(&self, number: i32) -> usize {
        self.ask(number, GETVAL, 0).expect("GETVAL")
    }

    fn set_value(&self, number: i32, value: i32) {
        self.ask(number, SETVAL, value as usize).expect("SETVAL");
    }
}

fn operations_are_done_all_or_none() {
    let set = set(3);
    assert_eq!(set.operate(&[op(0, 2, 0), op(1, 1, 0), op(0, -1, 0)]), Ok(0));
    assert_eq!([0, 1, 2].map(|number| set.value(number)), [1, 1, 0]);
    let all = [op(0, -1, 0), op(0, 0, 0), op(2, 5, 0), op(1, -2, IPC_NOWAIT)];
    assert_eq!(set.operate(&all), Err(libc::EAGAIN));
    assert_eq!([0, 1, 2].map(|number| set.value(number)), [1, 1, 0]);
    assert_eq!(set.operate(&[op(2, 0, 0)]), Ok(0), "zero is there");
    assert_eq!(set.operate(&[op(0, 0, IPC_NOWAIT)]), Err(libc::EAGAIN));
    assert_eq!(set.operate(&[op(2, 32_767, 0)]), Ok(0));
    assert_eq!(set.operate(&[op(0, 1, 0), op(2, 1, 0)]), Err(libc::ERANGE));
    assert_eq!(set.value(0), 1);
    let me = syscall!(SYS_getpid).expect("getpid");
    assert_eq!(set.ask(2, GETPID, 0), Ok(me));
    let child =
        fork(|| set.operate(&[op(1, 0, IPC_NOWAIT)]).map_or(0, |_| 1) + set.operate(&[op(1, -1, 0)]).map_or(1, |_| 0));
    assert_eq!(wait_exit(child), 0);
    assert_eq!(set.ask(1, GETPID, 0), Ok(child as usize));
}

fn arguments_are_looked_at() {
    assert_eq!(syscall!(SYS_semget, 0, 0, 0o600), Err(libc::EINVAL));
    assert_eq!(syscall!(SYS_semget, 0, -1i32, 0o600), Err(libc::EINVAL));
    assert_eq!(syscall!(SYS_semget, 0, 32_001, 0o600), Err(libc::EINVAL));
    let key = crate::sysv::key();
    let set = Object::new(Kind::Semaphores, key, 0o600);
    assert_eq!(
        syscall!(SYS_semget, key, 0, 0o600),
        Ok(set.id as usize),
        "as many as there are"
    );
    assert_eq!(syscall!(SYS_semget, key, 3, 0o600), Err(libc::EINVAL), "there are two");
    let one = [op(0, 1, 0)];
    assert_eq!(set.operate(&[]), Err(libc::EINVAL));
    assert_eq!(set.operate(&[op(2, 1, 0)]), Err(libc::EFBIG));
    assert_eq!(set.operate(&[op(0, 1, 0); 501]), Err(libc::E2BIG));
    assert_eq!(set.operate(&[op(0, 1, 0); 500]), Ok(0));
    assert_eq!(set.value(0), 500);
    assert_eq!(syscall!(SYS_semop, set.id, 8, 1), Err(libc::EFAULT));
    assert_eq!(syscall!(SYS_semop, -1i32, one.as_ptr(), 1), Err(libc::EINVAL));
    assert_eq!(
        syscall!(SYS_semop, set.id + (1 << 15), one.as_ptr(), 1),
        Err(libc::EINVAL),
        "another's turn"
    );
    let time = libc::timespec { tv_sec: -1, tv_nsec: 0 };
    assert_eq!(
        syscall!(SYS_semtimedop, set.id, one.as_ptr(), 1, &raw const time),
        Err(libc::EINVAL)
    );
    assert_eq!(syscall!(SYS_semtimedop, set.id, one.as_ptr(), 1, 8), Err(libc::EFAULT));
    assert_eq!(set.value(0), 500);
}

fn values_can_be_set_and_read() {
    let set = set(3);
    assert_eq!(set.ask(0, SETVAL, 32_768), Err(libc::ERANGE));
    assert_eq!(set.ask(0, SETVAL, usize::MAX), Err(libc::ERANGE));
    assert_eq!(set.ask(3, SETVAL, 1), Err(libc::EINVAL));
    assert_eq!(set.ask(-1, GETVAL, 0), Err(libc::EINVAL));
    set.set_value(1, 7);
    let mut values = [1u16, 2, 32_768];
    assert_eq!(set.ask(0, SETALL, values.as_mut_ptr() as usize), Err(libc::ERANGE));
    assert_eq!(set.value(1), 7);
    values[2] = 3;
    assert_eq!(
        set.ask(99, SETALL, values.as_mut_ptr() as usize),
        Ok(0),
        "the number is not looked at"
    );
    values = [0; 3];
    assert_eq!(set.ask(0, GETALL, values.as_mut_ptr() as usize), Ok(0));
    assert_eq!(values, [1, 2, 3]);
    assert_eq!(set.ask(0, GETALL, 8), Err(libc::EFAULT));
    assert_eq!(set.ask(0, SETALL, 8), Err(libc::EFAULT));
    let words = set.stat().expect("IPC_STAT");
    let (operated, changed, count) = if std::env::consts::ARCH == "x86_64" {
        (6, 8, 10)
    } else {
        (6, 7, 8)
    };
    assert_eq!((words[operated], words[count]), (0, 3), "never operated on");
    assert!(words[changed] > 1_600_000_000);
    set.operate(&[op(0, 1, 0)]).expect("semop");
    assert!(set.stat().expect("IPC_STAT")[operated] >= words[changed]);
}

/// Starts a child that operates and waits until it waits; its exit code is the error, if there is one.
fn waiter(set: &Object, operations: &[Op]) -> i32 {
    let child = fork(|| set.operate(operations).map_or_else(|error| error, |_| 0));
    until_asleep(child);
    child
}

fn waiters_go_on_in_order() {
    let set = set(3);
    // The first wants more than there is for a while, and all others stand behind; who can go on does.
    let first = waiter(&set, &[op(0, -2, 0)]);
    let second = waiter(&set, &[op(0, -1, 0), op(1, 1, 0)]);
    let third = waiter(&set, &[op(1, -1, 0), op(2, 1, 0)]);
    let fourth = waiter(&set, &[op(2, -1, 0)]);
    let zero = waiter(&set, &[op(0, 0, 0), op(2, 0, 0), op(2, 1, 0)]);
    assert_eq!(wait_exit(zero), 0, "it need not wait");
    assert_eq!(wait_exit(fourth), 0, "it took what that gave");
    set.operate(&[op(0, 1, 0)]).expect("semop");
    assert_eq!((wait_exit(second), wait_exit(third)), (0, 0));
    assert_eq!([0, 1, 2].map(|number| set.value(number)), [0, 0, 1]);
    // One call that lets two go on lets the older go first.
    let younger = waiter(&set, &[op(0, -2, 0)]);
    set.operate(&[op(0, 2, 0)]).expect("semop");
    assert_eq!(wait_exit(first), 0);
    assert_eq!(set.ask(0, GETNCNT, 0), Ok(1), "the younger still waits");
    set.set_value(0, 2);
    assert_eq!(wait_exit(younger), 0);
}

fn who_waits_is_counted() {
    let set = set(2);
    set.set_value(1, 1);
    let up = waiter(&set, &[op(1, -1, 0), op(0, -1, 0)]);
    let zero = waiter(&set, &[op(0, 0, 0), op(1, 0, 0)]);
    let counts = || {
        [(0, GETNCNT), (1, GETNCNT), (0, GETZCNT), (1, GETZCNT)]
            .map(|(number, what)| set.ask(number, what, 0).expect("count"))
    };
    assert_eq!(counts(), [1, 0, 0, 1], "by the operation that could not be done");
    set.operate(&[op(1, -1, 0)]).expect("semop");
    assert_eq!(wait_exit(zero), 0);
    assert_eq!(counts(), [0, 1, 0, 0], "which changes");
    set.ask(0, SETALL, [1u16, 1].as_ptr() as usize).expect("SETALL");
    assert_eq!(wait_exit(up), 0);
    assert_eq!(counts(), [0; 4]);
}

fn a_removal_ends_waits() {
    let set = set(1);
    set.set_value(0, 1);
    let waiters = [op(0, -2, 0), op(0, 0, 0)].map(|operation| waiter(&set, &[operation]));
    set.remove().expect("IPC_RMID");
    assert_eq!(waiters.map(wait_exit), [libc::EIDRM; 2]);
    assert_eq!(set.operate(&[op(0, 1, 0)]), Err(libc::EINVAL));
}

fn times_end_waits() {
    let set = set(1);
    let take = [op(0, -1, 0)];
    let within = |milliseconds: u64| {
        let time = sys::timespec(milliseconds * 1_000_000);
        let began = sys::now();
        let result = syscall!(SYS_semtimedop, set.id, take.as_ptr(), 1, &raw const time);
        (result, (sys::now() - began) / 1_000_000)
    };
    assert_eq!(within(0).0, Err(libc::EAGAIN));
    let (result, took) = within(100);
    assert!(result == Err(libc::EAGAIN) && took >= 100, "{result:?} after {took} ms");
    assert_eq!(set.ask(0, GETNCNT, 0), Ok(0), "nobody waits any more");
    let child = fork(|| {
        sys::sleep_ms(50);
        set.operate(&[op(0, 1, 0)]).map_or(1, |_| 0)
    });
    assert_eq!(within(20_000).0, Ok(0));
    assert_eq!(wait_exit(child), 0);
}

fn a_signal_ends_a_wait_and_is_never_restarted_from() {
    extern "C" fn nothing(_: i32, _: *mut libc::siginfo_t, _: *mut std::ffi::c_void) {}
    let set = set(1);
    let child = fork(|| {
        sys::handle(libc::SIGUSR1, libc::SA_RESTART, &[], nothing);
        set.operate(&[op(0, -1, 0)]).map_or_else(|error| error, |_| 0)
    });
    while set.ask(0, GETNCNT, 0) != Ok(1) {
        sys::sleep_ms(1);
    }
    kill(child, libc::SIGUSR1).expect("kill");
    assert_eq!(wait_exit(child), libc::EINTR);
    assert_eq!(set.ask(0, GETNCNT, 0), Ok(0));
    // One that dies leaves the line as well.
    let child = waiter(&set, &[op(0, -1, 0)]);
    kill(child, libc::SIGKILL).expect("kill");
    assert_eq!(sys::wait_killed(child), libc::SIGKILL);
    assert_eq!(set.ask(0, GETNCNT, 0), Ok(0));
    set.operate(&[op(0, 1, 0)]).expect("semop");
    assert_eq!(set.value(0), 1, "nobody took it");
}

fn an_end_takes_back() {
    let set = set(4);
    set.ask(0, SETALL, [5u16, 5, 0, 1].as_ptr() as usize).expect("SETALL");
    let waits = waiter(&set, &[op(2, -1, 0)]);
    let pid = fork(|| {
        // Back and forth, taken once; set afterwards; below zero; not to be undone.
        set.operate(&[op(0, -3, UNDO), op(0, 1, UNDO), op(1, -2, UNDO)])
            .expect("semop");
        set.operate(&[op(3, -1, UNDO), op(3, 1, 0), op(2, 0, UNDO)])
            .expect("semop");
        set.set_value(1, 9);
        i32::from(set.value(0) != 3)
    });
    assert_eq!(wait_exit(pid), 0);
    assert_eq!(
        [0, 1, 3].map(|number| set.value(number)),
        [5, 9, 2],
        "taken back, but for what was set"
    );
    assert_eq!(set.ask(0, GETPID, 0), Ok(pid as usize), "who was taken back for did it");
    in_child(|| {
        set.operate(&[op(0, 4, UNDO), op(1, 1, 0)]).expect("semop");
        set.set_value(0, 1);
        set.operate(&[op(0, 3, UNDO), op(0, -1, 0)]).expect("semop");
        set.operate(&[op(0, -2, 0)]).expect("semop");
    });
    assert_eq!(set.value(0), 0, "not below zero");
    in_child(|| {
        set.set_value(3, 20_000);
        assert_eq!(set.operate(&[op(3, -20_000, UNDO)]), Ok(0));
        set.set_value(0, 20_000);
        assert_eq!(set.operate(&[op(0, -20_000, UNDO)]), Ok(0));
    });
    assert_eq!([0, 3].map(|number| set.value(number)), [20_000; 2]);
    let killed = fork(|| {
        set.operate(&[op(2, 1, 0), op(2, -1, UNDO)]).expect("semop");
        sys::sleep_ms(60_000);
        0
    });
    until_asleep(killed);
    kill(killed, libc::SIGKILL).expect("kill");
    assert_eq!(sys::wait_killed(killed), libc::SIGKILL);
    assert_eq!(wait_exit(waits), 0, "what came back let it go on");
    assert_eq!(set.value(2), 0);
    // The bound of what can be taken back.
    in_child(|| {
        set.ask(0, SETALL, [0u16; 4].as_ptr() as usize).expect("SETALL");
        for _ in 0..2 {
            assert_eq!(set.operate(&[op(0, 16_384, UNDO), op(0, -16_384, 0)]), Ok(0));
        }
        assert_eq!(set.operate(&[op(0, 1, UNDO)]), Err(libc::ERANGE));
        assert_eq!(set.value(0), 0);
    });
}

fn threads_have_one_list_of_what_is_taken_back() {
    let set = set(1);
    set.set_value(0, 2);
    in_child(|| {
        let id = set.id;
        let take = move || {
            let set = std::mem::ManuallyDrop::new(Object::of(Kind::Semaphores, id));
            set.operate(&[op(0, -1, UNDO)]).expect("semop");
        };
        std::thread::spawn(take).join().expect("join");
        assert_eq!(set.value(0), 1, "the process goes on, and its list");
    });
    assert_eq!(set.value(0), 2);
}

fn sets_and_reads_need_their_bits() {
    let set = Object::of(
        Kind::Semaphores,
        syscall!(SYS_semget, 0, 1, 0o604).expect("semget") as i32,
    );
    as_user(1234, || {
        assert_eq!(set.operate(&[op(0, 1, 0)]), Err(libc::EACCES));
        assert_eq!(set.operate(&[op(0, 0, 0)]), Ok(0), "to wait for zero is to read");
        assert_eq!(set.ask(0, GETVAL, 0), Ok(0));
        assert_eq!(set.ask(0, SETVAL, 1), Err(libc::EACCES));
        assert_eq!(set.ask(0, SETALL, [1u16].as_ptr() as usize), Err(libc::EACCES));
    });
}

fn many_take_turns() {
    const ROUNDS: u16 = 200;
    let children = 6;
    let set = set(children + 1);
    let pids: Vec<i32> = (0..children as u16)
        .map(|own| {
            fork(|| {
                for _ in 0..ROUNDS {
                    let next = (own + 1) % children as u16;
                    if set.operate(&[op(own, -1, UNDO)]).is_err() {
                        return 1;
                    }
                    if set
                        .operate(&[op(own, 1, UNDO), op(own, -1, 0), op(next, 1, 0)])
                        .is_err()
                    {
                        return 2;
                    }
                }
                0
            })
        })
        .collect();
    set.operate(&[op(0, 1, 0)]).expect("semop");
    assert!(pids.into_iter().all(|pid| wait_exit(pid) == 0));
    let left: usize = (0..children).map(|number| set.value(number)).sum();
    assert_eq!(left, 1, "the one that went round");
}
