//! What may be watched, changed and forgotten.

use super::{ET, IN, MS, OUT, add, change, control, count, counter, create, event, put, ready, wait, wait_with};
use crate::{
    sys::{self, close, pipe},
    syscall,
};

crate::tests! { "epolls":
    arguments_are_checked;
    events_lie_where_they_should;
    changes_are_looked_at;
    closing_ends_the_watch;
    descriptors_are_told_apart;
    all_kinds_tell;
    every_user_has_a_limit;
    thousands_lose_no_memory (60) [frees];
}

fn arguments_are_checked() {
    assert_eq!(syscall!(SYS_epoll_create1, 1), Err(libc::EINVAL));
    #[cfg(target_arch = "x86_64")]
    {
        for size in [0, -1i32] {
            assert_eq!(syscall!(SYS_epoll_create, size), Err(libc::EINVAL));
        }
        let old = syscall!(SYS_epoll_create, 1).expect("epoll_create") as i32;
        assert_eq!(syscall!(SYS_epoll_wait, old, [0u64; 2].as_mut_ptr(), 1, 0), Ok(0));
        close(old);
    }
    let epoll = syscall!(SYS_epoll_create1, libc::EPOLL_CLOEXEC).expect("epoll_create1") as i32;
    assert_eq!(syscall!(SYS_fcntl, epoll, libc::F_GETFD), Ok(libc::FD_CLOEXEC as usize));
    assert_eq!(syscall!(SYS_fcntl, epoll, libc::F_GETFL), Ok(libc::O_RDWR as usize));
    let link = std::fs::read_link(format!("/proc/self/fd/{epoll}")).expect("its link");
    assert_eq!(link.to_str(), Some("anon_inode:[eventpoll]"));
    assert_eq!(sys::read(epoll, &mut [0; 16]), Err(libc::EINVAL));
    assert_eq!(sys::write(epoll, &[0; 16]), Err(libc::EINVAL));

    let (from, to) = pipe(0);
    let directory = syscall!(SYS_openat, libc::AT_FDCWD, c"/".as_ptr(), libc::O_RDONLY).expect("open") as i32;
    let file = syscall!(SYS_memfd_create, c"file".as_ptr(), 0).expect("memfd_create") as i32;
    let path = syscall!(SYS_openat, libc::AT_FDCWD, c"/".as_ptr(), libc::O_PATH).expect("open") as i32;
    for operation in [libc::EPOLL_CTL_ADD, libc::EPOLL_CTL_MOD, libc::EPOLL_CTL_DEL] {
        for fd in [directory, file] {
            assert_eq!(control(epoll, operation, fd, IN, 0), Err(libc::EPERM));
            assert_eq!(control(from, operation, fd, IN, 0), Err(libc::EPERM));
        }
        assert_eq!(control(epoll, operation, path, IN, 0), Err(libc::EBADF));
        assert_eq!(control(epoll, operation, -1, IN, 0), Err(libc::EBADF));
        assert_eq!(control(99, operation, from, IN, 0), Err(libc::EBADF));
        assert_eq!(control(from, operation, to, IN, 0), Err(libc::EINVAL), "no epoll");
        assert_eq!(control(epoll, operation, epoll, IN, 0), Err(libc::EINVAL), "itself");
    }
    let raw = |operation: i32, address: usize| syscall!(SYS_epoll_ctl, epoll, operation, from, address);
    assert_eq!(control(epoll, 4, from, IN, 0), Err(libc::EINVAL));
    assert_eq!(raw(4, 8), Err(libc::EFAULT), "the event comes first");
    assert_eq!(raw(libc::EPOLL_CTL_ADD, 0), Err(libc::EFAULT));
    assert_eq!(control(epoll, libc::EPOLL_CTL_MOD, from, IN, 0), Err(libc::ENOENT));
    assert_eq!(raw(libc::EPOLL_CTL_DEL, 0), Err(libc::ENOENT));
    add(epoll, from, IN);
    assert_eq!(control(epoll, libc::EPOLL_CTL_ADD, from, IN, 0), Err(libc::EEXIST));
    assert_eq!(raw(libc::EPOLL_CTL_DEL, 0), Ok(0));
    assert_eq!(raw(libc::EPOLL_CTL_DEL, 0), Err(libc::ENOENT));

    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 2];
    let array = events.as_mut_ptr() as usize;
    let collect = |epoll: i32, array: usize, most: i32, mask: usize, size: usize| {
        syscall!(SYS_epoll_pwait, epoll, array, most, 0, mask, size)
    };
    let largest = i32::MAX / size_of::<libc::epoll_event>() as i32;
    for most in [0, -1, largest + 1] {
        assert_eq!(collect(epoll, array, most, 0, 8), Err(libc::EINVAL));
    }
    assert_eq!(collect(epoll, usize::MAX - 4096, 1, 0, 8), Err(libc::EFAULT));
    assert_eq!(collect(epoll, 0, 1, 0, 8), Ok(0), "nothing is written");
    assert_eq!(collect(99, array, 1, 0, 8), Err(libc::EBADF));
    assert_eq!(collect(from, array, 1, 0, 8), Err(libc::EINVAL));
    let mask = 0u64;
    assert_eq!(collect(epoll, array, 1, &raw const mask as usize, 4), Err(libc::EINVAL));
    assert_eq!(collect(epoll, array, 1, 8, 8), Err(libc::EFAULT));
    assert_eq!(
        collect(epoll, array, 1, 0, 4),
        Ok(0),
        "without a mask its size means nothing"
    );
    let until = |time: usize| syscall!(SYS_epoll_pwait2, epoll, array, 2, time, 0, 8);
    let bad = libc::timespec {
        tv_sec: 0,
        tv_nsec: 1_000_000_000,
    };
    assert_eq!(until(&raw const bad as usize), Err(libc::EINVAL));
    assert_eq!(until(8), Err(libc::EFAULT));
    add(epoll, to, OUT);
    assert_eq!(collect(epoll, 8, 2, 0, 8), Err(libc::EFAULT));
    assert_eq!(collect(epoll, array, 2, 0, 8), Ok(1), "and the event is still there");
    for fd in [epoll, from, to, directory, file, path] {
        close(fd);
    }
}

fn events_lie_where_they_should() {
    let (epoll, first, second) = (create(), counter(1), counter(2));
    control(epoll, libc::EPOLL_CTL_ADD, first, IN, 0x1111_2222_3333_4444).expect("epoll_ctl");
    control(epoll, libc::EPOLL_CTL_ADD, second, IN | OUT, u64::MAX).expect("epoll_ctl");
    let mut bytes = [0xeeu8; 40];
    assert_eq!(syscall!(SYS_epoll_pwait, epoll, bytes.as_mut_ptr(), 2, 0, 0, 8), Ok(2));
    // Packed on x86_64 alone.
    let (size, data) = if cfg!(target_arch = "x86_64") { (12, 4) } else { (16, 8) };
    assert_eq!(bytes[..4], 1u32.to_ne_bytes());
    assert_eq!(bytes[data..data + 8], 0x1111_2222_3333_4444u64.to_ne_bytes());
    assert_eq!(bytes[size..size + 4], 5u32.to_ne_bytes());
    assert_eq!(bytes[size + data..][..8], [0xff; 8]);
    assert_eq!(bytes[2 * size..], [0xee; 40][2 * size..]);
}

fn changes_are_looked_at() {
    let (epoll, (from, to)) = (create(), pipe(0));
    put(to);
    add(epoll, from, 0);
    assert_eq!(ready(epoll), []);
    change(epoll, from, IN | ET);
    assert_eq!(ready(epoll), event(from, IN), "ready as it was changed");
    change(epoll, from, IN | ET);
    assert_eq!(ready(epoll), event(from, IN), "a change is an edge");
    control(epoll, libc::EPOLL_CTL_MOD, from, IN, 77).expect("EPOLL_CTL_MOD");
    assert_eq!(ready(epoll), [(IN, 77)]);
    change(epoll, from, libc::EPOLLPRI as u32);
    assert_eq!(ready(epoll), []);
    control(epoll, libc::EPOLL_CTL_DEL, from, 0, 0).expect("EPOLL_CTL_DEL");
    put(to);
    assert_eq!(ready(epoll), []);
    // A bit by another name, and one that nobody has.
    add(epoll, from, libc::EPOLLRDNORM as u32 | libc::EPOLLRDHUP as u32);
    assert_eq!(ready(epoll), event(from, libc::EPOLLRDNORM as u32));
}

fn closing_ends_the_watch() {
    let (epoll, (from, to)) = (create(), pipe(0));
    add(epoll, from, IN);
    put(to);
    let copy = syscall!(SYS_dup, from).expect("dup") as i32;
    close(from);
    assert_eq!(ready(epoll), event(from, IN), "the file is open still");
    assert_eq!(control(epoll, libc::EPOLL_CTL_DEL, from, 0, 0), Err(libc::EBADF));
    assert_eq!(control(epoll, libc::EPOLL_CTL_DEL, copy, 0, 0), Err(libc::ENOENT));
    // The number, with another file behind it.
    let other = counter(0);
    assert_eq!(other, from);
    add(epoll, other, IN);
    assert_eq!(ready(epoll), event(from, IN));
    count(other, 1);
    assert_eq!(ready(epoll).len(), 2);
    close(copy);
    assert_eq!(ready(epoll), event(from, IN));
    close(other);
    assert_eq!(ready(epoll), []);
    // A child has the file open.
    let (from, to) = pipe(0);
    add(epoll, from, IN);
    put(to);
    let (hold, release) = pipe(0);
    let child = sys::fork(|| {
        close(release);
        let _ended = sys::read(hold, &mut [0]);
        0
    });
    close(from);
    assert_eq!(ready(epoll), event(from, IN));
    close(release);
    assert_eq!(sys::wait_exit(child), 0);
    assert_eq!(ready(epoll), []);
}

fn descriptors_are_told_apart() {
    let (epoll, (from, to)) = (create(), pipe(0));
    let copy = syscall!(SYS_dup, from).expect("dup") as i32;
    add(epoll, from, IN);
    add(epoll, copy, IN | ET);
    put(to);
    // In no order that is promised.
    let mut found = ready(epoll);
    found.sort_by_key(|(_, fd)| *fd);
    assert_eq!(found, [event(from, IN), event(copy, IN)].concat());
    assert_eq!(ready(epoll), event(from, IN));
    control(epoll, libc::EPOLL_CTL_DEL, from, 0, 0).expect("EPOLL_CTL_DEL");
    put(to);
    assert_eq!(ready(epoll), event(copy, IN));
}

fn all_kinds_tell() {
    let epoll = create();
    // A timer.
    let timer = syscall!(SYS_timerfd_create, libc::CLOCK_MONOTONIC, 0).expect("timerfd_create") as i32;
    add(epoll, timer, IN | ET);
    let time = [0u64, 0, 0, 10 * MS];
    syscall!(SYS_timerfd_settime, timer, 0, time.as_ptr(), 0).expect("timerfd_settime");
    assert_eq!(wait(epoll, -1), Ok(event(timer, IN)));
    assert_eq!(wait(epoll, 20), Ok(vec![]));
    close(timer);
    // A process.
    let (hold, release) = pipe(0);
    let child = sys::fork(|| {
        close(release);
        let _ended = sys::read(hold, &mut [0]);
        0
    });
    let process = syscall!(SYS_pidfd_open, child, 0).expect("pidfd_open") as i32;
    add(epoll, process, IN);
    assert_eq!(ready(epoll), []);
    close(release);
    assert_eq!(wait(epoll, -1), Ok(event(process, IN)));
    assert_eq!(sys::wait_exit(child), 0);
    assert_eq!(ready(epoll), event(process, IN));
    close(process);
    // Signals.
    sys::mask(libc::SIG_BLOCK, &[libc::SIGUSR2]);
    let mask = sys::set_of(&[libc::SIGUSR2]);
    let signals = syscall!(SYS_signalfd4, -1i32, &raw const mask, 8, 0).expect("signalfd4") as i32;
    add(epoll, signals, IN);
    assert_eq!(ready(epoll), []);
    syscall!(SYS_kill, syscall!(SYS_getpid).expect("getpid"), libc::SIGUSR2).expect("kill");
    assert_eq!(wait(epoll, -1), Ok(event(signals, IN)));
    assert_eq!(sys::read(signals, &mut [0; 128]), Ok(128));
    assert_eq!(ready(epoll), []);
    close(signals);
    syscall!(SYS_kill, syscall!(SYS_getpid).expect("getpid"), libc::SIGUSR2).expect("kill");
    assert_eq!(ready(epoll), []);
    // A fifo, opened for both: it is its own other end.
    let path = c"/tmp/epoll-fifo";
    let _old = syscall!(SYS_unlinkat, libc::AT_FDCWD, path.as_ptr(), 0);
    syscall!(SYS_mknodat, libc::AT_FDCWD, path.as_ptr(), libc::S_IFIFO | 0o600, 0).expect("mknod");
    let fifo = syscall!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), libc::O_RDWR).expect("open") as i32;
    add(epoll, fifo, IN | ET);
    put(fifo);
    assert_eq!(ready(epoll), event(fifo, IN));
    assert_eq!(ready(epoll), []);
    close(fifo);
    syscall!(SYS_unlinkat, libc::AT_FDCWD, path.as_ptr(), 0).expect("unlink");
}

fn every_user_has_a_limit() {
    const LIMIT: &str = "/proc/sys/fs/epoll/max_user_watches";
    let before = std::fs::read_to_string(LIMIT).expect("the limit");
    assert!(before.trim().parse::<u64>().expect("a number") > 100);
    assert_eq!(
        std::fs::write(LIMIT, "many").map_err(|error| error.raw_os_error()),
        Err(Some(libc::EINVAL))
    );
    sys::in_child(|| {
        // A user who has no other epolls.
        std::fs::write(LIMIT, "3").expect("set");
        syscall!(SYS_setresuid, 4711, 4711, 4711).expect("setresuid");
        let (one, two) = (create(), create());
        let counters = [(); 4].map(|()| counter(0));
        add(one, counters[0], IN);
        add(one, counters[1], IN);
        add(two, counters[0], IN);
        let more = |epoll: i32| control(epoll, libc::EPOLL_CTL_ADD, counters[3], IN, 0);
        assert_eq!((more(one), more(two)), (Err(libc::ENOSPC), Err(libc::ENOSPC)));
        assert_eq!(
            control(one, libc::EPOLL_CTL_ADD, counters[0], IN, 0),
            Err(libc::EEXIST),
            "before the limit"
        );
        close(counters[1]);
        assert_eq!(more(two), Ok(0));
        close(two);
        assert_eq!(control(one, libc::EPOLL_CTL_ADD, counters[2], IN, 0), Ok(0));
        assert_eq!(more(one), Ok(0));
    });
    std::fs::write(LIMIT, before.trim()).expect("set again");
}

fn thousands_lose_no_memory() {
    const MANY: usize = 3000;
    let limit = libc::rlimit {
        rlim_cur: MANY as u64 + 64,
        rlim_max: MANY as u64 + 64,
    };
    syscall!(SYS_prlimit64, 0, libc::RLIMIT_NOFILE, &raw const limit, 0).expect("prlimit64");
    let (epoll, other, (from, to)) = (create(), create(), pipe(0));
    let copies: Vec<i32> = (0..MANY)
        .map(|_| syscall!(SYS_dup, from).expect("dup") as i32)
        .collect();
    for fd in &copies {
        add(epoll, *fd, IN);
        add(other, *fd, IN | ET);
    }
    put(to);
    assert_eq!(wait_with(epoll, 2 * MANY, 0, 0).expect("epoll_pwait").len(), MANY);
    assert_eq!(wait_with(other, 100, 0, 0).expect("epoll_pwait").len(), 100);
    // One epoll goes before the files, one after.
    close(other);
    for fd in copies {
        close(fd);
    }
    close(from);
    assert_eq!(ready(epoll), []);
    close(epoll);
    close(to);
}
