//! Processes held by descriptors: `pidfd_open` and its kin.

use std::{
    sync::atomic::{AtomicI32, Ordering::SeqCst},
    thread,
};

use crate::{
    sys::{self, Sys, fork, kill, mask, set_of, wait_exit, wait_killed},
    syscall,
};

crate::tests! { "pidfds":
    opening_is_checked;
    signals_are_sent;
    sending_is_checked;
    the_end_is_seen;
    the_end_of_the_last_thread_counts;
    waiting_by_descriptor;
    a_descriptor_of_another_is_taken;
    taking_needs_a_right;
    clone_gives_one;
    clone_is_checked;
    thousands_lose_no_memory [frees];
}

fn own() -> i32 {
    std::process::id() as i32
}

fn try_open(pid: i32, flags: i32) -> Sys {
    syscall!(SYS_pidfd_open, pid, flags)
}

fn open(pid: i32) -> i32 {
    try_open(pid, 0).expect("pidfd_open") as i32
}

fn send(pidfd: i32, signo: i32) -> Sys {
    syscall!(SYS_pidfd_send_signal, pidfd, signo, 0, 0)
}

fn get(pidfd: i32, file: i32) -> Sys {
    syscall!(SYS_pidfd_getfd, pidfd, file, 0)
}

/// A child that waits to be killed.
fn sleeper() -> i32 {
    fork(|| {
        loop {
            sys::sleep_ms(1000);
        }
    })
}

fn end(child: i32) {
    kill(child, libc::SIGKILL).expect("kill");
    wait_killed(child);
}

fn ready(pidfd: i32, milliseconds: u64) -> i16 {
    sys::poll(pidfd, libc::POLLIN | libc::POLLOUT, milliseconds)
}

fn opening_is_checked() {
    for pid in [0, -1, i32::MIN] {
        assert_eq!(try_open(pid, 0), Err(libc::EINVAL), "{pid}");
    }
    assert_eq!(try_open(i32::MAX, 0), Err(libc::ESRCH));
    for flags in [1, libc::O_CLOEXEC, i32::MIN] {
        assert_eq!(try_open(own(), flags), Err(libc::EINVAL), "{flags:#x}");
    }
    let pidfd = open(own());
    assert_eq!(syscall!(SYS_fcntl, pidfd, libc::F_GETFD), Ok(libc::FD_CLOEXEC as usize));
    assert_eq!(syscall!(SYS_fcntl, pidfd, libc::F_GETFL), Ok(libc::O_RDWR as usize));
    let pidfd = try_open(own(), libc::O_NONBLOCK).expect("PIDFD_NONBLOCK") as i32;
    assert_eq!(
        syscall!(SYS_fcntl, pidfd, libc::F_GETFL),
        Ok((libc::O_RDWR | libc::O_NONBLOCK) as usize)
    );
    let link = std::fs::read_link(format!("/proc/self/fd/{pidfd}")).expect("its link");
    assert!(link.to_string_lossy().contains("pidfd"), "{link:?}");
    assert_eq!(sys::read(pidfd, &mut [0; 8]), Err(libc::EINVAL));
    assert_eq!(sys::write(pidfd, &[0; 8]), Err(libc::EINVAL));
    // A thread alone is no process; which error says so has changed.
    thread::spawn(|| {
        let tid = syscall!(SYS_gettid).expect("gettid") as i32;
        let refused = try_open(tid, 0);
        assert!(
            refused == Err(libc::EINVAL) || refused == Err(libc::ENOENT),
            "{refused:?}"
        );
    })
    .join()
    .expect("the thread");
    // One that has ended is there until it is waited for.
    let child = fork(|| 0);
    while ready(open(child), 1000) == 0 {}
    assert_eq!(wait_exit(child), 0);
    assert_eq!(try_open(child, 0), Err(libc::ESRCH));
}

fn signals_are_sent() {
    mask(libc::SIG_BLOCK, &[libc::SIGUSR1, 40]);
    let itself = open(own());
    send(itself, libc::SIGUSR1).expect("pidfd_send_signal");
    let take = |signo: i32| {
        let mut words = [0i32; 32];
        let set = set_of(&[signo]);
        let time = sys::timespec(0);
        syscall!(
            SYS_rt_sigtimedwait,
            &raw const set,
            words.as_mut_ptr(),
            &raw const time,
            8
        )
        .map(|_| words)
    };
    let words = take(libc::SIGUSR1).expect("a signal");
    assert_eq!([words[2], words[4]], [libc::SI_USER, own()]);
    let mut words = [0i32; 32];
    words[..3].copy_from_slice(&[40, 0, libc::SI_QUEUE]);
    words[4..7].copy_from_slice(&[77, 88, 99]);
    syscall!(SYS_pidfd_send_signal, itself, 40, words.as_ptr(), 0).expect("pidfd_send_signal");
    assert_eq!(take(40).expect("a signal")[..7], words[..7]);
    let child = sleeper();
    let pidfd = open(child);
    assert_eq!(send(pidfd, 0), Ok(0), "it is there");
    send(pidfd, libc::SIGTERM).expect("pidfd_send_signal");
    assert_eq!(wait_killed(child), libc::SIGTERM);
    assert_eq!(send(pidfd, 0), Err(libc::ESRCH), "and gone");
    assert_eq!(send(pidfd, libc::SIGTERM), Err(libc::ESRCH));
    // By a directory of /proc.
    let child = sleeper();
    let path = format!("/proc/{child}\0");
    let directory = syscall!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), libc::O_DIRECTORY).expect("openat") as i32;
    send(directory, libc::SIGKILL).expect("pidfd_send_signal");
    assert_eq!(wait_killed(child), libc::SIGKILL);
    assert_eq!(send(directory, 0), Err(libc::ESRCH));
}

fn sending_is_checked() {
    let child = sleeper();
    let pidfd = open(child);
    let call =
        |pidfd: i32, signo: i32, info: usize, flags: i32| syscall!(SYS_pidfd_send_signal, pidfd, signo, info, flags);
    assert_eq!(call(pidfd, 0, 0, i32::MIN), Err(libc::EINVAL));
    for signo in [-1, 65, 1000] {
        assert_eq!(call(pidfd, signo, 0, 0), Err(libc::EINVAL), "{signo}");
    }
    assert_eq!(call(-1, 0, 0, 0), Err(libc::EBADF));
    let (from, _) = sys::pipe(0);
    assert_eq!(call(from, 0, 0, 0), Err(libc::EBADF), "no process");
    assert_eq!(call(pidfd, libc::SIGUSR1, 8, 0), Err(libc::EFAULT));
    let mut words = [0i32; 32];
    words[..3].copy_from_slice(&[libc::SIGUSR1, 0, libc::SI_QUEUE]);
    let info = words.as_ptr() as usize;
    assert_eq!(call(pidfd, libc::SIGUSR2, info, 0), Err(libc::EINVAL), "another number");
    // Nobody may pretend to be the kernel, or kill.
    for code in [libc::SI_USER, libc::SI_KERNEL, libc::SI_TKILL, libc::CLD_EXITED] {
        let mut words = [0i32; 32];
        words[..3].copy_from_slice(&[libc::SIGUSR1, 0, code]);
        assert_eq!(call(pidfd, libc::SIGUSR1, words.as_ptr() as usize, 0), Err(libc::EPERM));
    }
    sys::in_child(|| {
        syscall!(SYS_setresuid, 1000, 1000, 1000).expect("setresuid");
        assert_eq!(call(pidfd, 0, 0, 0), Err(libc::EPERM), "another user's");
    });
    end(child);
}

fn the_end_is_seen() {
    let child = sleeper();
    let pidfd = open(child);
    assert_eq!(ready(pidfd, 1), 0);
    kill(child, libc::SIGSTOP).expect("kill");
    assert_eq!(ready(pidfd, 10), 0, "a stop is no end");
    let poller = thread::spawn(move || ready(pidfd, 10_000));
    sys::sleep_ms(20);
    kill(child, libc::SIGKILL).expect("kill");
    assert_eq!(poller.join().expect("the poller"), libc::POLLIN);
    assert_eq!(ready(pidfd, 0), libc::POLLIN);
    wait_killed(child);
    assert_eq!(
        ready(pidfd, 0) & libc::POLLIN,
        libc::POLLIN,
        "and once it was waited for"
    );
    // With exec it stays the same.
    let child = fork(|| {
        let me = crate::programs::myself();
        crate::programs::execute(&me, &[&me, "helper", "ok"])
    });
    let pidfd = open(child);
    assert_eq!(ready(pidfd, 10_000), libc::POLLIN);
    assert_eq!(wait_exit(child), 0);
    // Children that nobody waits for.
    sys::disposition(libc::SIGCHLD, libc::SIG_IGN);
    let (gate, go) = sys::pipe(0);
    let child = fork(|| {
        let _ = sys::read(gate, &mut [0]);
        0
    });
    let pidfd = open(child);
    let _ = sys::write(go, b"x");
    assert_eq!(ready(pidfd, 10_000) & libc::POLLIN, libc::POLLIN);
    for _ in 0..100 {
        if send(pidfd, 0) == Err(libc::ESRCH) {
            return;
        }
        sys::sleep_ms(10);
    }
    panic!("it is still there");
}

fn the_end_of_the_last_thread_counts() {
    let (gate, go) = sys::pipe(0);
    let child = fork(|| {
        sys::close(go);
        thread::spawn(move || {
            let _ = sys::read(gate, &mut [0]);
            sys::exit(7);
        });
        // The first thread alone.
        let _ = syscall!(SYS_exit, 3);
        0
    });
    let pidfd = open(child);
    assert_eq!(ready(pidfd, 50), 0, "a thread goes on");
    sys::close(go);
    assert_eq!(ready(pidfd, 10_000), libc::POLLIN);
    assert_eq!(wait_exit(child), 7);
}

fn waitid(pidfd: i32, options: i32) -> Result<[i32; 32], i32> {
    let mut info = [0i32; 32];
    syscall!(SYS_waitid, libc::P_PIDFD, pidfd, info.as_mut_ptr(), options, 0)?;
    Ok(info)
}

fn waiting_by_descriptor() {
    let (gate, go) = sys::pipe(0);
    let child = fork(|| {
        let _ = sys::read(gate, &mut [0]);
        9
    });
    let other = fork(|| 0);
    let pidfd = open(child);
    assert_eq!(waitid(pidfd, libc::WEXITED | libc::WNOHANG).map(|info| info[0]), Ok(0));
    let nonblocking = try_open(child, libc::O_NONBLOCK).expect("pidfd_open") as i32;
    assert_eq!(waitid(nonblocking, libc::WEXITED), Err(libc::EAGAIN));
    assert_eq!(
        waitid(nonblocking, libc::WEXITED | libc::WNOHANG).map(|info| info[0]),
        Ok(0)
    );
    let _ = sys::write(go, b"x");
    let info = waitid(pidfd, libc::WEXITED | libc::WNOWAIT).expect("waitid");
    assert_eq!(
        [info[0], info[2], info[4], info[6]],
        [libc::SIGCHLD, libc::CLD_EXITED, child, 9]
    );
    let info = waitid(nonblocking, libc::WEXITED).expect("waitid");
    assert_eq!([info[4], info[6]], [child, 9]);
    assert_eq!(
        waitid(pidfd, libc::WEXITED),
        Err(libc::ECHILD),
        "it has been waited for"
    );
    assert_eq!(waitid(open(own()), libc::WEXITED), Err(libc::ECHILD), "no child");
    assert_eq!(waitid(-1, libc::WEXITED), Err(libc::EINVAL));
    assert_eq!(waitid(99, libc::WEXITED), Err(libc::EBADF));
    assert_eq!(waitid(gate, libc::WEXITED), Err(libc::EBADF));
    assert_eq!(waitid(pidfd, 0), Err(libc::EINVAL));
    assert_eq!(wait_exit(other), 0);
}

fn a_descriptor_of_another_is_taken() {
    let (ready, tell) = sys::pipe(0);
    let (gate, go) = sys::pipe(0);
    let child = fork(|| {
        sys::close(go);
        let (from, to) = sys::pipe(0);
        let _ = sys::write(to, b"secret");
        let _ = sys::write(tell, &from.to_ne_bytes());
        i32::from(sys::read(gate, &mut [0]) != Ok(0) || sys::read(from, &mut [0; 8]) != Ok(4))
    });
    let mut number = [0; 4];
    assert_eq!(sys::read(ready, &mut number), Ok(4));
    let number = i32::from_ne_bytes(number);
    let pidfd = open(child);
    let taken = get(pidfd, number).expect("pidfd_getfd") as i32;
    assert_eq!(syscall!(SYS_fcntl, taken, libc::F_GETFD), Ok(libc::FD_CLOEXEC as usize));
    let mut bytes = [0; 2];
    assert_eq!(sys::read(taken, &mut bytes), Ok(2), "one file, two descriptors");
    assert_eq!(&bytes, b"se");
    assert_eq!(get(pidfd, 99), Err(libc::EBADF));
    assert_eq!(get(pidfd, -1), Err(libc::EBADF));
    assert_eq!(get(gate, 0), Err(libc::EBADF), "no process");
    assert_eq!(get(-1, 0), Err(libc::EBADF));
    assert_eq!(syscall!(SYS_pidfd_getfd, pidfd, number, 1), Err(libc::EINVAL));
    assert!(get(open(own()), 0).is_ok(), "of itself");
    let mut before = [0u64; 2];
    syscall!(SYS_prlimit64, 0, libc::RLIMIT_NOFILE, 0, before.as_mut_ptr()).expect("prlimit64");
    let limit = [0, before[1]];
    syscall!(SYS_prlimit64, 0, libc::RLIMIT_NOFILE, limit.as_ptr(), 0).expect("prlimit64");
    assert_eq!(get(pidfd, number), Err(libc::EMFILE));
    syscall!(SYS_prlimit64, 0, libc::RLIMIT_NOFILE, before.as_ptr(), 0).expect("prlimit64");
    sys::close(go);
    assert_eq!(wait_exit(child), 0);
    let gone = get(pidfd, number);
    // Which of the two has changed.
    assert!(gone == Err(libc::ESRCH) || gone == Err(libc::EBADF), "{gone:?}");
}

fn taking_needs_a_right() {
    let child = sleeper();
    let pidfd = open(child);
    sys::in_child(|| {
        syscall!(SYS_setresuid, 1000, 1000, 1000).expect("setresuid");
        assert_eq!(get(pidfd, 0), Err(libc::EPERM), "another user's");
        assert_eq!(get(pidfd, 99), Err(libc::EPERM));
    });
    end(child);
}

/// `struct clone_args`.
fn clone3(words: &mut [u64; 11]) -> Sys {
    syscall!(SYS_clone3, words.as_mut_ptr(), 88)
}

fn clone_gives_one() {
    let mut pidfd = -1i32;
    let mut words = [0; 11];
    (words[0], words[1], words[4]) = (libc::CLONE_PIDFD as u64, &raw mut pidfd as u64, libc::SIGCHLD as u64);
    let child = clone3(&mut words).expect("clone3") as i32;
    if child == 0 {
        // The child does not have it.
        let none = pidfd < 3 || syscall!(SYS_fcntl, pidfd, libc::F_GETFD) == Err(libc::EBADF);
        sys::exit(if none { 5 } else { 6 });
    }
    assert_eq!(syscall!(SYS_fcntl, pidfd, libc::F_GETFD), Ok(libc::FD_CLOEXEC as usize));
    assert_eq!(ready(pidfd, 10_000), libc::POLLIN);
    assert_eq!(
        waitid(pidfd, libc::WEXITED).map(|info| [info[4], info[6]]),
        Ok([child, 5])
    );
    // By clone, in place of the parent's copy of the number.
    static PLACE: AtomicI32 = AtomicI32::new(-1);
    let flags = libc::CLONE_PIDFD | libc::SIGCHLD;
    let child = syscall!(SYS_clone, flags, 0, PLACE.as_ptr(), 0, 0).expect("clone") as i32;
    if child == 0 {
        sys::exit(8);
    }
    let pidfd = PLACE.load(SeqCst);
    assert_eq!(
        waitid(pidfd, libc::WEXITED).map(|info| [info[4], info[6]]),
        Ok([child, 8])
    );
}

fn clone_is_checked() {
    let mut place = 0i32;
    let place = &raw mut place as u64;
    let pidfd = libc::CLONE_PIDFD as u64;
    let attempt = |flags: u64, pidfd: u64, parent: u64| {
        let mut words = [0; 11];
        (words[0], words[1], words[3]) = (flags, pidfd, parent);
        words[4] = libc::SIGCHLD as u64;
        let result = clone3(&mut words);
        if result == Ok(0) {
            sys::exit(0);
        }
        result
    };
    assert_eq!(attempt(pidfd, 8, 0), Err(libc::EFAULT));
    let both = pidfd | libc::CLONE_PARENT_SETTID as u64;
    assert_eq!(attempt(both, place, place), Err(libc::EINVAL), "one place for two");
    // CLONE_DETACHED.
    assert_eq!(attempt(pidfd | 0x40_0000, place, 0), Err(libc::EINVAL));
    let flags = libc::CLONE_PIDFD | libc::CLONE_PARENT_SETTID | libc::SIGCHLD;
    assert_eq!(syscall!(SYS_clone, flags, 0, place, 0, 0), Err(libc::EINVAL));
    assert_eq!(
        syscall!(SYS_wait4, -1i32, 0, libc::WNOHANG, 0),
        Err(libc::ECHILD),
        "no child came to be"
    );
    // Nor a descriptor: the next is where it would have been.
    let next = syscall!(SYS_dup, 2).expect("dup");
    sys::close(next as i32);
    assert_eq!(attempt(pidfd, 8, 0), Err(libc::EFAULT));
    assert_eq!(syscall!(SYS_dup, 2), Ok(next));
    // Where the number itself cannot be written is no matter.
    let child = attempt(libc::CLONE_PARENT_SETTID as u64, 0, 8).expect("clone3") as i32;
    assert_eq!(sys::wait_exit(child), 0);
}

fn thousands_lose_no_memory() {
    for _ in 0..500 {
        let child = fork(|| 0);
        let pidfd = open(child);
        waitid(pidfd, libc::WEXITED).expect("waitid");
        sys::close(pidfd);
    }
}
