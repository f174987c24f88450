//! Locks on files: ranges by process and by open file description, and whole files.

use std::ffi::CString;

use crate::{
    files::Scratch,
    sys::{self, fork, wait, wait_exit},
    syscall,
};

crate::tests! { "locks":
    record_locks_go_with_any_descriptor_and_any_end;
    processes_exclude_each_other_and_are_told_who [frees];
    of_two_who_would_wait_for_each_other_one_is_refused;
    a_circle_over_three_files_is_refused;
    what_is_let_go_goes_to_who_waits_for_it;
    a_close_and_an_end_let_waiters_in;
    a_signal_ends_a_wait;
    ranges_split_and_join;
    flock_goes_with_the_last_of_its_descriptors;
    descriptions_exclude_each_other_in_one_process;
}

fn open(scratch: &Scratch, name: &str, flags: i32) -> i32 {
    let path = CString::new(scratch.path(name)).expect("a path");
    let flags = flags | libc::O_RDWR | libc::O_CREAT;
    syscall!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0o600).expect("open") as i32
}

fn flock_of(kind: i32, start: i64, length: i64) -> libc::flock {
    libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: start,
        l_len: length,
        l_pid: 0,
    }
}

fn control(file: i32, command: i32, kind: i32, start: i64, length: i64) -> sys::Sys {
    let lock = flock_of(kind, start, length);
    syscall!(SYS_fcntl, file, command, &raw const lock)
}

/// Locks a range, or unlocks it, without waiting.
fn lock(file: i32, kind: i32, start: i64, length: i64) -> sys::Sys {
    control(file, libc::F_SETLK, kind, start, length)
}

/// Locks a range, waiting.
fn lock_waiting(file: i32, kind: i32, start: i64, length: i64) -> sys::Sys {
    control(file, libc::F_SETLKW, kind, start, length)
}

/// What stands in the way of a lock: kind, start, length, process.
fn in_the_way(file: i32, kind: i32, start: i64, length: i64) -> Option<(i32, i64, i64, i32)> {
    let mut lock = flock_of(kind, start, length);
    syscall!(SYS_fcntl, file, libc::F_GETLK, &raw mut lock).expect("F_GETLK");
    (i32::from(lock.l_type) != libc::F_UNLCK).then_some((i32::from(lock.l_type), lock.l_start, lock.l_len, lock.l_pid))
}

/// Until the process is asleep, in its only thread.
fn until_asleep(pid: i32) {
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
        let state = stat
            .rsplit(')')
            .next()
            .and_then(|rest| rest.trim_start().chars().next());
        if state == Some('S') {
            return;
        }
        sys::sleep_ms(2);
    }
}

fn record_locks_go_with_any_descriptor_and_any_end() {
    let scratch = Scratch::new("locks");
    let open = |flags: i32| open(&scratch, "file", flags);
    let lock = |file: i32| lock(file, libc::F_WRLCK, 0, 10);
    let own = open(0);
    let sleep = || {
        sys::sleep_ms(60_000);
    };
    let execute = |file: i32| {
        // What is closed by execve is the file by another descriptor.
        let _other = open(libc::O_CLOEXEC);
        lock(file).map(|_| {
            crate::programs::execute("/bin/sleep", &["sleep", "60"]);
        })
    };
    // Each child holds the lock and lets go of it in its own way; `true` if it is still alive then.
    type Way<'a> = (&'a str, bool, &'a dyn Fn(i32));
    let ways: [Way<'_>; 6] = [
        ("close of another descriptor", true, &|_| {
            sys::close(open(0));
            sleep();
        }),
        ("dup over another descriptor", true, &|_| {
            let other = open(0);
            let null = syscall!(SYS_openat, libc::AT_FDCWD, c"/dev/null".as_ptr(), libc::O_RDWR).expect("open");
            syscall!(SYS_dup3, null, other, 0).expect("dup3");
            sleep();
        }),
        ("close_range", true, &|_| {
            let other = open(0);
            syscall!(SYS_close_range, other, other, 0).expect("close_range");
            sleep();
        }),
        ("execve", true, &|file| {
            let _ = execute(file);
        }),
        ("exit", false, &|_| sys::exit(0)),
        ("a signal", false, &|_| {
            let _ = sys::kill(std::process::id() as i32, libc::SIGKILL);
        }),
    ];
    for (name, lives, way) in ways {
        let (reader, writer) = sys::pipe(libc::O_CLOEXEC);
        let child = sys::fork(|| {
            let file = open(0);
            lock(file).expect("the child's lock");
            let _ = sys::write(writer, b"x");
            sys::sleep_ms(20);
            way(file);
            9
        });
        assert_eq!(sys::read(reader, &mut [0]), Ok(1));
        if lives {
            // It has let go once the lock can be had; a test that hangs has failed.
            while lock(own).is_err() {
                sys::sleep_ms(5);
            }
            assert_eq!(sys::wait(child, libc::WNOHANG), Ok((0, 0)), "{name}: it lives");
            let _ = sys::kill(child, libc::SIGKILL);
            let _ = sys::wait(child, 0);
        } else {
            let _ = sys::wait(child, 0);
            lock(own).unwrap_or_else(|error| panic!("after {name}: error {error}"));
        }
        sys::close(reader);
        sys::close(writer);
        // Any close gives the own lock up as well.
        sys::close(open(0));
    }
}

fn processes_exclude_each_other_and_are_told_who() {
    let scratch = Scratch::new("locks-two");
    let file = open(&scratch, "file", 0);
    let own = std::process::id() as i32;
    lock(file, libc::F_WRLCK, 10, 10).expect("a lock");
    lock(file, libc::F_RDLCK, 30, 0).expect("a lock to the end");
    let child = fork(|| {
        assert_eq!(lock(file, libc::F_RDLCK, 19, 1), Err(libc::EAGAIN));
        assert_eq!(lock(file, libc::F_WRLCK, 1 << 40, 1), Err(libc::EAGAIN));
        lock(file, libc::F_RDLCK, 1 << 40, 1).expect("readers share");
        lock(file, libc::F_WRLCK, 0, 10).expect("the bytes before");
        lock(file, libc::F_WRLCK, 20, 10).expect("the bytes behind");
        assert_eq!(
            in_the_way(file, libc::F_RDLCK, 0, 100),
            Some((libc::F_WRLCK, 10, 10, own))
        );
        assert_eq!(
            in_the_way(file, libc::F_WRLCK, 50, 1),
            Some((libc::F_RDLCK, 30, 0, own))
        );
        assert_eq!(in_the_way(file, libc::F_WRLCK, 0, 10), None, "its own");
        0
    });
    assert_eq!(wait_exit(child), 0);
    assert_eq!(in_the_way(file, libc::F_WRLCK, 0, 0), None, "the child's went with it");
    sys::close(file);
}

fn of_two_who_would_wait_for_each_other_one_is_refused() {
    let scratch = Scratch::new("locks-circle");
    let files = [open(&scratch, "one", 0), open(&scratch, "other", 0)];
    let (reader, writer) = sys::pipe(0);
    for _ in 0..50 {
        lock(files[0], libc::F_WRLCK, 0, 1).expect("the first");
        let child = fork(|| {
            lock(files[1], libc::F_WRLCK, 0, 1).expect("the second");
            let _ = sys::write(writer, b"x");
            let result = lock_waiting(files[0], libc::F_WRLCK, 0, 1);
            // Either is refused and lets go, or has both in the end.
            match result {
                Ok(_) => 1,
                Err(libc::EDEADLK) => 2,
                Err(_) => 3,
            }
        });
        assert_eq!(sys::read(reader, &mut [0]), Ok(1));
        let own = lock_waiting(files[1], libc::F_WRLCK, 0, 1);
        if own == Err(libc::EDEADLK) {
            lock(files[0], libc::F_UNLCK, 0, 1).expect("unlock");
            assert_eq!(wait_exit(child), 1, "the other goes on");
        } else {
            assert_eq!((own, wait_exit(child)), (Ok(0), 2));
        }
        lock(files[0], libc::F_UNLCK, 0, 0).expect("unlock");
        lock(files[1], libc::F_UNLCK, 0, 0).expect("unlock");
    }
    sys::close(reader);
    sys::close(writer);
}

fn a_circle_over_three_files_is_refused() {
    let scratch = Scratch::new("locks-three");
    let files = ["a", "b", "c"].map(|name| open(&scratch, name, 0));
    let (reader, writer) = sys::pipe(0);
    lock(files[0], libc::F_WRLCK, 0, 1).expect("the first");
    // Each child has a file of its own and waits for the one before.
    let children = [1, 2].map(|own| {
        let child = fork(|| {
            lock(files[own], libc::F_WRLCK, 0, 1).expect("its own");
            let _ = sys::write(writer, b"x");
            i32::from(lock_waiting(files[own - 1], libc::F_RDLCK, 0, 1).is_err())
        });
        assert_eq!(sys::read(reader, &mut [0]), Ok(1));
        until_asleep(child);
        child
    });
    assert_eq!(lock_waiting(files[2], libc::F_RDLCK, 0, 1), Err(libc::EDEADLK));
    // A range of that file that nobody has is no circle.
    lock_waiting(files[2], libc::F_RDLCK, 5, 1).expect("another range");
    lock(files[0], libc::F_UNLCK, 0, 1).expect("unlock");
    assert_eq!(children.map(wait_exit), [0, 0]);
}

fn what_is_let_go_goes_to_who_waits_for_it() {
    let scratch = Scratch::new("locks-ranges");
    let [file, other] = ["file", "other"].map(|name| open(&scratch, name, 0));
    lock(file, libc::F_WRLCK, 0, 100).expect("a lock");
    lock(other, libc::F_WRLCK, 0, 100).expect("a lock");
    let wants = [(file, 0), (file, 50), (other, 50)];
    let children = wants.map(|(file, start)| {
        let child = fork(|| {
            lock_waiting(file, libc::F_WRLCK, start, 10).expect("the child's lock");
            0
        });
        until_asleep(child);
        child
    });
    let lives = |index: usize| wait(children[index], libc::WNOHANG) == Ok((0, 0));
    lock(file, libc::F_UNLCK, 55, 5).expect("unlock a part");
    assert!(
        lives(0) && lives(1) && lives(2),
        "a part of what is wanted is not enough"
    );
    lock(file, libc::F_UNLCK, 50, 5).expect("unlock the rest");
    assert_eq!(wait_exit(children[1]), 0);
    assert!(lives(0) && lives(2));
    lock(other, libc::F_UNLCK, 0, 0).expect("unlock");
    assert_eq!(wait_exit(children[2]), 0);
    assert!(lives(0));
    lock(file, libc::F_UNLCK, 0, 0).expect("unlock");
    assert_eq!(wait_exit(children[0]), 0);
}

fn a_close_and_an_end_let_waiters_in() {
    let scratch = Scratch::new("locks-end");
    let file = open(&scratch, "file", 0);
    let (reader, writer) = sys::pipe(0);
    let (go, let_go) = sys::pipe(0);
    for ends in [false, true] {
        let holder = fork(|| {
            lock(file, libc::F_WRLCK, 0, 0).expect("a lock");
            let _ = sys::write(writer, b"x");
            let _ = sys::read(go, &mut [0]);
            if !ends {
                sys::close(file);
                sys::sleep_ms(60_000);
            }
            0
        });
        assert_eq!(sys::read(reader, &mut [0]), Ok(1));
        let waiter = fork(|| i32::from(lock_waiting(file, libc::F_WRLCK, 0, 0).is_err()));
        until_asleep(waiter);
        let _ = sys::write(let_go, b"x");
        assert_eq!(wait_exit(waiter), 0);
        if !ends {
            sys::kill(holder, libc::SIGKILL).expect("kill");
        }
        let _ = wait(holder, 0);
    }
    for descriptor in [reader, writer, go, let_go] {
        sys::close(descriptor);
    }
}

extern "C" fn nothing(_: i32, _: *mut libc::siginfo_t, _: *mut std::ffi::c_void) {}

fn a_signal_ends_a_wait() {
    let scratch = Scratch::new("locks-signal");
    let file = open(&scratch, "file", 0);
    lock(file, libc::F_WRLCK, 0, 0).expect("a lock");
    let child = fork(|| {
        sys::handle(libc::SIGUSR1, 0, &[], nothing);
        match lock_waiting(file, libc::F_RDLCK, 0, 0) {
            Err(libc::EINTR) => 0,
            _ => 1,
        }
    });
    until_asleep(child);
    sys::kill(child, libc::SIGUSR1).expect("kill");
    assert_eq!(wait_exit(child), 0);
    // It is in no line any more.
    lock(file, libc::F_UNLCK, 0, 0).expect("unlock");
    assert_eq!(in_the_way(file, libc::F_WRLCK, 0, 0), None);
}

fn ranges_split_and_join() {
    let scratch = Scratch::new("locks-split");
    let file = open(&scratch, "file", 0);
    let own = std::process::id() as i32;
    let seen = |start| {
        let (reader, writer) = sys::pipe(0);
        let child = fork(|| {
            let (kind, start, length, pid) =
                in_the_way(file, libc::F_WRLCK, start, 1).unwrap_or((libc::F_UNLCK, 0, 0, own));
            assert_eq!(pid, own);
            let words = [i64::from(kind), start, length].map(i64::to_ne_bytes);
            let _ = sys::write(writer, words.as_flattened());
            0
        });
        let mut words = [[0; 8]; 3];
        assert_eq!(sys::read(reader, words.as_flattened_mut()), Ok(24));
        assert_eq!(wait_exit(child), 0);
        sys::close(reader);
        sys::close(writer);
        let [kind, start, length] = words.map(i64::from_ne_bytes);
        (kind as i32, start, length)
    };
    lock(file, libc::F_WRLCK, 0, 100).expect("a lock");
    lock(file, libc::F_UNLCK, 40, 20).expect("unlock the middle");
    assert_eq!(seen(0), (libc::F_WRLCK, 0, 40));
    assert_eq!(seen(40), (libc::F_UNLCK, 0, 0));
    assert_eq!(seen(60), (libc::F_WRLCK, 60, 40));
    lock(file, libc::F_WRLCK, 40, 20).expect("the middle again");
    assert_eq!(seen(50), (libc::F_WRLCK, 0, 100));
    lock(file, libc::F_RDLCK, 90, 20).expect("another kind");
    assert_eq!(seen(0), (libc::F_WRLCK, 0, 90));
    assert_eq!(seen(95), (libc::F_RDLCK, 90, 20));
    assert_eq!(lock(file, 7, 0, 1), Err(libc::EINVAL));
    assert_eq!(lock(file, libc::F_WRLCK, -1, 1), Err(libc::EINVAL));
    assert_eq!(lock(file + 100, libc::F_WRLCK, 0, 1), Err(libc::EBADF));
    assert_eq!(syscall!(SYS_fcntl, file, libc::F_SETLK, 16), Err(libc::EFAULT));
}

fn flock_goes_with_the_last_of_its_descriptors() {
    let scratch = Scratch::new("locks-whole");
    let own = open(&scratch, "file", 0);
    let copy = syscall!(SYS_dup, own).expect("dup") as i32;
    let other = open(&scratch, "file", 0);
    let flock = |file: i32, operation: i32| syscall!(SYS_flock, file, operation | libc::LOCK_NB);
    flock(own, libc::LOCK_EX).expect("alone");
    assert_eq!(flock(other, libc::LOCK_SH), Err(libc::EAGAIN));
    flock(copy, libc::LOCK_SH).expect("the same description");
    flock(other, libc::LOCK_SH).expect("shared");
    lock(other, libc::F_WRLCK, 0, 0).expect("ranges are another matter");
    assert_eq!(flock(own, libc::LOCK_EX), Err(libc::EAGAIN));
    flock(other, libc::LOCK_EX).expect("what was shared is lost as more is asked for");
    let child = fork(|| {
        // Its copies would keep the descriptions.
        sys::close(copy);
        sys::close(other);
        i32::from(syscall!(SYS_flock, own, libc::LOCK_EX).is_err())
    });
    until_asleep(child);
    sys::close(copy);
    assert_eq!(wait(child, libc::WNOHANG), Ok((0, 0)));
    sys::close(other);
    assert_eq!(wait_exit(child), 0);
}

fn descriptions_exclude_each_other_in_one_process() {
    let scratch = Scratch::new("locks-description");
    let [own, other] = [0; 2].map(|flags| open(&scratch, "file", flags));
    let lock = |file, command, kind| control(file, command, kind, 0, 10);
    lock(own, libc::F_OFD_SETLK, libc::F_WRLCK).expect("a lock");
    assert_eq!(lock(other, libc::F_OFD_SETLK, libc::F_RDLCK), Err(libc::EAGAIN));
    assert_eq!(
        lock(other, libc::F_SETLK, libc::F_RDLCK),
        Err(libc::EAGAIN),
        "nor the process"
    );
    let mut seen = flock_of(libc::F_RDLCK, 0, 0);
    syscall!(SYS_fcntl, other, libc::F_OFD_GETLK, &raw mut seen).expect("F_OFD_GETLK");
    assert_eq!((i32::from(seen.l_type), seen.l_pid), (libc::F_WRLCK, -1));
    let waiter = std::thread::spawn(move || control(other, libc::F_OFD_SETLKW, libc::F_WRLCK, 0, 10));
    sys::sleep_ms(20);
    sys::close(own);
    assert_eq!(waiter.join().expect("the thread"), Ok(0));
    // A close of another description leaves it alone.
    sys::close(open(&scratch, "file", 0));
    let third = open(&scratch, "file", 0);
    assert_eq!(lock(third, libc::F_OFD_SETLK, libc::F_RDLCK), Err(libc::EAGAIN));
}
