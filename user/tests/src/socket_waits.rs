//! Unix sockets: looking, waiting, being told, and what they have in common with other files.

use crate::{
    sockets::{
        DATAGRAM, PACKETS, STREAM, accept, connect, fill, listener, option, pair, pattern, ready, receive, send,
        set_option, shutdown, socket, timeout,
    },
    sys::{self, Sys, close, fork, poll, read, wait_exit, write},
    syscall,
};

crate::tests! { "socket_waits":
    looks_leave_bytes;
    waiting_for_all;
    the_least_to_receive;
    times_run_out;
    signals_interrupt;
    readiness;
    polling_wakes;
    files_of_kind_socket;
    bytes_and_memory;
    broken_pipes_signal;
    bad_addresses;
    read_and_write_of_vectors;
    sending_a_file;
    thousands_lose_no_memory [frees];
}

fn looks_leave_bytes() {
    let (a, b) = pair(STREAM);
    write(a, b"abcdef").expect("write");
    let mut buffer = [0; 4];
    for _ in 0..2 {
        assert_eq!(receive(b, &mut buffer, libc::MSG_PEEK), Ok(4));
        assert_eq!(&buffer, b"abcd");
    }
    // At an offset that goes along.
    assert_eq!(option(b, libc::SO_PEEK_OFF), Ok(-1));
    set_option(b, libc::SO_PEEK_OFF, 1).expect("SO_PEEK_OFF");
    assert_eq!(receive(b, &mut buffer[..2], libc::MSG_PEEK), Ok(2));
    assert_eq!(&buffer[..2], b"bc");
    assert_eq!(receive(b, &mut buffer[..2], libc::MSG_PEEK), Ok(2));
    assert_eq!(&buffer[..2], b"de");
    assert_eq!(option(b, libc::SO_PEEK_OFF), Ok(5));
    assert_eq!(receive(b, &mut buffer[..3], 0), Ok(3));
    assert_eq!(&buffer[..3], b"abc");
    assert_eq!(option(b, libc::SO_PEEK_OFF), Ok(2));
    assert_eq!(receive(b, &mut buffer, libc::MSG_PEEK), Ok(1));
    assert_eq!(&buffer[..1], b"f");
    assert_eq!(
        receive(b, &mut buffer, libc::MSG_PEEK | libc::MSG_DONTWAIT),
        Err(libc::EAGAIN)
    );
    set_option(b, libc::SO_PEEK_OFF, -1).expect("SO_PEEK_OFF");
    assert_eq!(receive(b, &mut buffer, 0), Ok(3));
}

fn waiting_for_all() {
    let (a, b) = pair(STREAM);
    let pid = fork(|| {
        for piece in [b"ab", b"cd", b"ef"] {
            write(a, piece).expect("write");
            sys::sleep_ms(20);
        }
        0
    });
    let mut buffer = [0; 6];
    assert_eq!(receive(b, &mut buffer, libc::MSG_WAITALL), Ok(6));
    assert_eq!(&buffer, b"abcdef");
    assert_eq!(wait_exit(pid), 0);
    write(a, b"xyz").expect("write");
    shutdown(a, libc::SHUT_WR).expect("shutdown");
    assert_eq!(receive(b, &mut buffer, libc::MSG_WAITALL), Ok(3), "there is no more");
    let (a, b) = pair(STREAM);
    write(a, b"xyz").expect("write");
    assert_eq!(receive(b, &mut buffer, libc::MSG_WAITALL | libc::MSG_DONTWAIT), Ok(3));
    timeout(b, libc::SO_RCVTIMEO, 20);
    write(a, b"xyz").expect("write");
    assert_eq!(receive(b, &mut buffer, libc::MSG_WAITALL), Ok(3), "nor time");
}

fn the_least_to_receive() {
    let (a, b) = pair(STREAM);
    set_option(b, libc::SO_RCVLOWAT, 4).expect("SO_RCVLOWAT");
    assert_eq!(option(b, libc::SO_RCVLOWAT), Ok(4));
    let pid = fork(|| {
        write(a, b"ab").expect("write");
        sys::sleep_ms(40);
        write(a, b"cd").expect("write");
        0
    });
    let mut buffer = [0; 8];
    assert_eq!(read(b, &mut buffer), Ok(4));
    assert_eq!(wait_exit(pid), 0);
    set_option(b, libc::SO_RCVLOWAT, 0).expect("SO_RCVLOWAT");
    assert_eq!(option(b, libc::SO_RCVLOWAT), Ok(1));
    assert_eq!(option(b, libc::SO_SNDLOWAT), Ok(1));
}

fn times_run_out() {
    let (a, b) = pair(STREAM);
    timeout(b, libc::SO_RCVTIMEO, 30);
    let start = sys::now();
    assert_eq!(read(b, &mut [0; 8]), Err(libc::EAGAIN));
    assert!(sys::now() - start >= 30_000_000);
    fill(a);
    timeout(a, libc::SO_SNDTIMEO, 30);
    assert_eq!(write(a, b"x"), Err(libc::EAGAIN));
    let mut time = [0i64; 2];
    let mut length = 16i32;
    syscall!(
        SYS_getsockopt,
        a,
        libc::SOL_SOCKET,
        libc::SO_SNDTIMEO,
        time.as_mut_ptr(),
        &raw mut length
    )
    .expect("getsockopt");
    assert_eq!((time[0], length), (0, 16));
    assert!((26_000..=40_000).contains(&time[1]), "{time:?}");
    let set = |time: [i64; 2], length: i32| {
        syscall!(
            SYS_setsockopt,
            a,
            libc::SOL_SOCKET,
            libc::SO_SNDTIMEO,
            time.as_ptr(),
            length
        )
    };
    assert_eq!(set([0, 1_000_000], 16), Err(libc::EDOM));
    assert_eq!(set([0, -1], 16), Err(libc::EDOM));
    assert_eq!(set([0, 0], 8), Err(libc::EINVAL));
}

extern "C" fn ignore(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

fn signals_interrupt() {
    let (_a, b) = pair(STREAM);
    sys::handle(libc::SIGUSR1, 0, &[], ignore);
    let parent = std::process::id() as i32;
    let pid = fork(|| {
        for _ in 0..2 {
            sys::sleep_ms(40);
            sys::kill(parent, libc::SIGUSR1).expect("kill");
        }
        0
    });
    assert_eq!(read(b, &mut [0; 8]), Err(libc::EINTR));
    // With a time limit it is never begun anew.
    sys::handle(libc::SIGUSR1, libc::SA_RESTART, &[], ignore);
    timeout(b, libc::SO_RCVTIMEO, 5000);
    assert_eq!(read(b, &mut [0; 8]), Err(libc::EINTR));
    assert_eq!(wait_exit(pid), 0);
}

fn readiness() {
    assert_eq!(ready(socket(STREAM)), libc::POLLOUT | libc::POLLHUP);
    assert_eq!(ready(socket(PACKETS)), libc::POLLOUT | libc::POLLHUP);
    assert_eq!(ready(socket(DATAGRAM)), libc::POLLOUT);
    for kind in [STREAM, DATAGRAM, PACKETS] {
        let (a, b) = pair(kind);
        assert_eq!(ready(b), libc::POLLOUT);
        assert_eq!(
            poll(b, libc::POLLWRBAND | libc::POLLWRNORM, 0),
            libc::POLLWRBAND | libc::POLLWRNORM
        );
        write(a, b"x").expect("write");
        assert_eq!(ready(b), libc::POLLIN | libc::POLLOUT);
        fill(a);
        assert_eq!(ready(a), 0);
        assert_eq!(read(b, &mut [0; 1]), Ok(1));
        let mut buffer = vec![0; 1 << 20];
        while receive(b, &mut buffer, libc::MSG_DONTWAIT).is_ok() {}
        assert_eq!(ready(a), libc::POLLOUT);
    }
}

fn polling_wakes() {
    let (a, b) = pair(STREAM);
    let pid = fork(|| i32::from(poll(b, libc::POLLIN, 5000) != libc::POLLIN));
    sys::sleep_ms(30);
    write(a, b"x").expect("write");
    assert_eq!(wait_exit(pid), 0);
    fill(a);
    let pid = fork(|| i32::from(poll(a, libc::POLLOUT, 5000) != libc::POLLOUT));
    sys::sleep_ms(30);
    let mut buffer = vec![0; 1 << 20];
    while receive(b, &mut buffer, libc::MSG_DONTWAIT).is_ok() {}
    assert_eq!(wait_exit(pid), 0);
    let pid = fork(|| {
        close(b);
        i32::from(poll(a, libc::POLLRDHUP, 5000) & libc::POLLRDHUP == 0)
    });
    sys::sleep_ms(30);
    close(b);
    assert_eq!(wait_exit(pid), 0);
    let (fd, name) = listener(STREAM, "polled", 1);
    let pid = fork(|| i32::from(poll(fd, libc::POLLIN, 5000) != libc::POLLIN));
    sys::sleep_ms(30);
    assert_eq!(connect(socket(STREAM), &name), Ok(0));
    assert_eq!(wait_exit(pid), 0);
}

fn files_of_kind_socket() {
    let (a, _b) = pair(STREAM);
    // SAFETY: all-zero is a valid stat.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    syscall!(SYS_fstat, a, &raw mut stat).expect("fstat");
    assert_eq!(stat.st_mode, libc::S_IFSOCK | 0o777);
    assert_eq!((stat.st_nlink, stat.st_size), (1, 0));
    let link = std::fs::read_link(format!("/proc/self/fd/{a}")).expect("its link");
    assert_eq!(link.to_string_lossy(), format!("socket:[{}]", stat.st_ino));
    let again = syscall!(
        SYS_openat,
        libc::AT_FDCWD,
        format!("/proc/self/fd/{a}\0").as_ptr(),
        libc::O_RDWR
    );
    assert_eq!(again, Err(libc::ENXIO));
    assert_eq!(syscall!(SYS_fsync, a), Err(libc::EINVAL));
    assert_eq!(syscall!(SYS_ftruncate, a, 0), Err(libc::EINVAL));
}

fn count(fd: i32, request: u64) -> Result<i32, i32> {
    let mut value = -1i32;
    syscall!(SYS_ioctl, fd, request, &raw mut value).map(|_| value)
}

fn bytes_and_memory() {
    const WAITING: u64 = 0x541b;
    const UNREAD: u64 = 0x5411;
    for kind in [STREAM, PACKETS, DATAGRAM] {
        let (a, b) = pair(kind);
        assert_eq!((count(b, WAITING), count(a, UNREAD)), (Ok(0), Ok(0)));
        write(a, b"abc").expect("write");
        write(a, b"defgh").expect("write");
        let first = if kind == DATAGRAM { 3 } else { 8 };
        assert_eq!(count(b, WAITING), Ok(first));
        assert!(count(a, UNREAD).expect("SIOCOUTQ") >= 8);
        assert_eq!(count(b, UNREAD), Ok(0));
        let mut buffer = [0; 16];
        while receive(b, &mut buffer, libc::MSG_DONTWAIT).is_ok() {}
        assert_eq!((count(b, WAITING), count(a, UNREAD)), (Ok(0), Ok(0)));
    }
    let (fd, _) = listener(STREAM, "counted", 1);
    assert_eq!(count(fd, WAITING), Err(libc::EINVAL));
    assert_eq!(count(fd, UNREAD), Ok(0));
    let (_a, b) = pair(STREAM);
    let on = 1i32;
    syscall!(SYS_ioctl, b, libc::FIONBIO, &raw const on).expect("FIONBIO");
    assert_eq!(read(b, &mut [0; 8]), Err(libc::EAGAIN));
    assert_eq!(syscall!(SYS_ioctl, b, 0x1234, 0), Err(libc::ENOTTY));
}

fn broken_pipes_signal() {
    let broken = |kind: i32, by: fn(i32) -> Sys| {
        fork(move || {
            sys::disposition(libc::SIGPIPE, libc::SIG_DFL);
            let (a, b) = pair(kind);
            close(b);
            let result = by(a);
            i32::from(!matches!(result, Err(libc::EPIPE | libc::ECONNREFUSED)))
        })
    };
    assert_eq!(sys::wait_killed(broken(STREAM, |fd| write(fd, b"x"))), libc::SIGPIPE);
    assert_eq!(sys::wait_killed(broken(STREAM, |fd| send(fd, b"x", 0))), libc::SIGPIPE);
    assert_eq!(wait_exit(broken(STREAM, |fd| send(fd, b"x", libc::MSG_NOSIGNAL))), 0);
    // Of messages it is only an error.
    for kind in [DATAGRAM, PACKETS] {
        assert_eq!(wait_exit(broken(kind, |fd| write(fd, b"x"))), 0);
        assert_eq!(wait_exit(broken(kind, |fd| send(fd, b"x", 0))), 0);
    }
}

fn bad_addresses() {
    for kind in [STREAM, DATAGRAM, PACKETS] {
        let (a, b) = pair(kind);
        assert_eq!(syscall!(SYS_write, a, 8, 10), Err(libc::EFAULT));
        assert_eq!(syscall!(SYS_sendto, a, 8, 10, 0, 0, 0), Err(libc::EFAULT));
        // Half of it is there: none is sent.
        let page = sys::memory(8192);
        syscall!(SYS_munmap, page + 4096, 4096).expect("munmap");
        assert_eq!(syscall!(SYS_write, a, page + 4000, 200), Err(libc::EFAULT));
        assert_eq!(receive(b, &mut [0; 8], libc::MSG_DONTWAIT), Err(libc::EAGAIN));
        // Memory that has not been touched is brought in.
        let fresh = sys::memory(64 << 10);
        assert_eq!(syscall!(SYS_write, a, fresh, 40_000), Ok(40_000));
        assert_eq!(syscall!(SYS_recvfrom, b, fresh + 20_000, 40_000, 0, 0, 0), Ok(40_000));
    }
    // A reader that cannot take bytes leaves them.
    let (a, b) = pair(STREAM);
    write(a, b"kept").expect("write");
    assert_eq!(syscall!(SYS_read, b, 8, 10), Err(libc::EFAULT));
    assert_eq!(read(b, &mut [0; 8]), Ok(4));
}

fn read_and_write_of_vectors() {
    let (a, b) = pair(STREAM);
    let parts: [&[u8]; 3] = [b"ab", b"", b"cde"];
    let out: Vec<[usize; 2]> = parts.iter().map(|part| [part.as_ptr() as usize, part.len()]).collect();
    assert_eq!(syscall!(SYS_writev, a, out.as_ptr(), 3), Ok(5));
    let mut first = [0u8; 3];
    let mut second = [0u8; 3];
    let into = [[first.as_mut_ptr() as usize, 3], [second.as_mut_ptr() as usize, 3]];
    assert_eq!(syscall!(SYS_readv, b, into.as_ptr(), 2), Ok(5));
    assert_eq!((&first, &second[..2]), (b"abc", b"de".as_slice()));
    assert_eq!(syscall!(SYS_read, b, 0, 0), Ok(0));
    assert_eq!(syscall!(SYS_write, a, 0, 0), Ok(0));
    assert_eq!(receive(b, &mut first, libc::MSG_DONTWAIT), Err(libc::EAGAIN));
}

fn sending_a_file() {
    let (a, b) = pair(STREAM);
    let path = format!("/tmp/sockets-{}-file", std::process::id());
    let bytes: Vec<u8> = (0..100_000).map(pattern).collect();
    std::fs::write(&path, &bytes).expect("a file");
    let name = format!("{path}\0");
    let file = syscall!(SYS_openat, libc::AT_FDCWD, name.as_ptr(), libc::O_RDONLY).expect("openat");
    let pid = fork(|| {
        let sent = syscall!(SYS_sendfile, a, file, 0, bytes.len());
        i32::from(sent != Ok(bytes.len()))
    });
    let mut all = vec![0; bytes.len()];
    assert_eq!(receive(b, &mut all, libc::MSG_WAITALL), Ok(bytes.len()));
    assert!(all == bytes);
    assert_eq!(wait_exit(pid), 0);
    let _ = std::fs::remove_file(path);
}

fn thousands_lose_no_memory() {
    for round in 0..2000 {
        let (a, b) = pair([STREAM, DATAGRAM, PACKETS][round % 3]);
        write(a, b"left behind").expect("write");
        close(a);
        close(b);
    }
    let (fd, name) = listener(STREAM, "thousands", 10);
    for _ in 0..500 {
        let client = socket(STREAM);
        connect(client, &name).expect("connect");
        let server = accept(fd).expect("accept") as i32;
        close(client);
        close(server);
    }
    close(fd);
}
