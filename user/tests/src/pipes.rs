//! Pipes, descriptors, poll.

use std::collections::BTreeSet;

use crate::{
    sys::{self, close, fork, pipe, poll, read, wait_exit, wait_killed, write},
    syscall,
};

crate::tests! { "pipes":
    a_megabyte_goes_through [frees];
    small_writes_are_atomic;
    the_end_of_writers_is_the_end_of_file;
    writing_to_nobody_is_epipe;
    nonblocking_ends;
    poll_sees_what_happens;
    select_and_ppoll_times;
    select_among_thousands;
    a_wait_for_ten_thousand_descriptors [frees];
    dup_shares_the_description;
    fcntl_flags;
    lowest_descriptor_first_and_limits;
    thousands_of_pipes_lose_no_memory [frees];
    a_reader_that_cannot_take_the_byte_leaves_it_to_the_next;
    a_reader_is_woken_by_another_cpu (60);
}

fn a_megabyte_goes_through() {
    let (reader, writer) = pipe(0);
    let pid = fork(|| {
        close(reader);
        let bytes: Vec<u8> = (0..1 << 20)
            .map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        i32::from(write(writer, &bytes) != Ok(1 << 20))
    });
    close(writer);
    let mut all = Vec::new();
    let mut piece = [0; 5000];
    loop {
        match read(reader, &mut piece).expect("read") {
            0 => break,
            count => all.extend_from_slice(&piece[..count]),
        }
    }
    assert_eq!(all.len(), 1 << 20);
    assert!(
        all.iter()
            .zip(0u32..)
            .all(|(byte, i)| *byte == (i.wrapping_mul(2_654_435_761) >> 13) as u8)
    );
    assert_eq!(wait_exit(pid), 0, "a blocking write writes all");
}

fn small_writes_are_atomic() {
    let (reader, writer) = pipe(0);
    let children: Vec<i32> = (0..4u8)
        .map(|id| {
            fork(|| {
                close(reader);
                let block = [b'a' + id; 512];
                i32::from((0..200).any(|_| write(writer, &block) != Ok(512)))
            })
        })
        .collect();
    close(writer);
    let mut block = [0; 512];
    let mut count = 0;
    loop {
        let mut filled = 0;
        while filled < 512 {
            match read(reader, &mut block[filled..]).expect("read") {
                0 => break,
                bytes => filled += bytes,
            }
        }
        if filled == 0 {
            break;
        }
        assert!(block.iter().all(|byte| *byte == block[0]), "two writes were mixed");
        count += 1;
    }
    assert_eq!(count, 800);
    children.into_iter().for_each(|pid| assert_eq!(wait_exit(pid), 0));
}

fn the_end_of_writers_is_the_end_of_file() {
    let (reader, writer) = pipe(0);
    write(writer, b"last").expect("write");
    close(writer);
    let mut buffer = [0; 10];
    assert_eq!(read(reader, &mut buffer), Ok(4));
    assert_eq!(read(reader, &mut buffer), Ok(0));
    assert_eq!(read(reader, &mut buffer), Ok(0));
    assert_eq!(syscall!(SYS_lseek, reader, 0, 0), Err(libc::ESPIPE));
    assert_eq!(write(reader, b"x"), Err(libc::EBADF), "the reading end");
}

fn writing_to_nobody_is_epipe() {
    let (reader, writer) = pipe(0);
    close(reader);
    sys::disposition(libc::SIGPIPE, libc::SIG_IGN);
    assert_eq!(write(writer, b"x"), Err(libc::EPIPE));
    let killed = fork(|| {
        sys::disposition(libc::SIGPIPE, libc::SIG_DFL);
        let _ = write(writer, b"x");
        0
    });
    assert_eq!(wait_killed(killed), libc::SIGPIPE);
    // A writer that waits for room when the reader goes.
    let (reader, writer) = pipe(0);
    let waiting = fork(|| {
        close(reader);
        match write(writer, &[0; 1 << 20]) {
            // What went in before the end counts, if the kernel reports it.
            Ok(count) if count < 1 << 20 => 0,
            Err(libc::EPIPE) => 0,
            _ => 1,
        }
    });
    close(writer);
    sys::sleep_ms(30);
    close(reader);
    assert_eq!(wait_exit(waiting), 0);
}

fn nonblocking_ends() {
    let (reader, writer) = pipe(libc::O_NONBLOCK);
    assert_eq!(read(reader, &mut [0]), Err(libc::EAGAIN));
    let mut total = 0;
    let error = loop {
        match write(writer, &[0; 4096]) {
            Ok(count) => total += count,
            Err(error) => break error,
        }
    };
    assert_eq!((error, total), (libc::EAGAIN, 65536));
    let mut buffer = [0; 4096];
    assert_eq!(read(reader, &mut buffer), Ok(4096));
    assert_eq!(write(writer, &[0; 4096]), Ok(4096), "room for one page again");
    let size = syscall!(SYS_fcntl, writer, libc::F_GETPIPE_SZ, 0);
    assert_eq!(size, Ok(65536));
}

fn poll_sees_what_happens() {
    let (reader, writer) = pipe(0);
    assert_eq!(poll(reader, libc::POLLIN, 0), 0);
    assert_eq!(poll(writer, libc::POLLOUT, 0), libc::POLLOUT);
    let pid = fork(|| {
        sys::sleep_ms(30);
        i32::from(write(writer, b"x") != Ok(1))
    });
    assert_eq!(poll(reader, libc::POLLIN, 5000), libc::POLLIN);
    assert_eq!(wait_exit(pid), 0);
    close(writer);
    assert_eq!(poll(reader, libc::POLLIN, 0), libc::POLLIN | libc::POLLHUP);
    assert_eq!(read(reader, &mut [0; 4]), Ok(1));
    assert_eq!(poll(reader, libc::POLLIN, 0), libc::POLLHUP);
    let (reader2, writer2) = pipe(0);
    close(reader2);
    assert_eq!(poll(writer2, libc::POLLOUT, 0), libc::POLLOUT | libc::POLLERR);
    assert_eq!(poll(999, libc::POLLIN, 0), libc::POLLNVAL);
    assert_eq!(poll(-1, libc::POLLIN, 0), 0, "a negative descriptor is passed over");
}

fn select_and_ppoll_times() {
    let (reader, writer) = pipe(0);
    let started = sys::now();
    assert_eq!(poll(reader, libc::POLLIN, 50), 0);
    let took = sys::now() - started;
    assert!(took >= 50_000_000, "poll came back after {took} ns");
    let mut set = [0u64; 16];
    set[reader as usize / 64] |= 1 << (reader % 64);
    let wanted = set;
    let mut time = sys::timespec(50_000_000);
    let started = sys::now();
    let none = syscall!(SYS_pselect6, reader + 1, set.as_mut_ptr(), 0, 0, &raw mut time, 0);
    assert_eq!(
        (none, set[reader as usize / 64]),
        (Ok(0), 0),
        "select clears what is not ready"
    );
    assert!(sys::now() - started >= 50_000_000);
    write(writer, b"x").expect("write");
    set = wanted;
    assert_eq!(syscall!(SYS_pselect6, reader + 1, set.as_mut_ptr(), 0, 0, 0, 0), Ok(1));
    assert_eq!(set, wanted);
    let mut set = [1u64 << 63; 16];
    assert_eq!(
        syscall!(SYS_pselect6, 1024, set.as_mut_ptr(), 0, 0, 0, 0),
        Err(libc::EBADF)
    );
    assert_eq!(
        syscall!(SYS_pselect6, -1i32, set.as_mut_ptr(), 0, 0, 0, 0),
        Err(libc::EINVAL)
    );
}

/// A select of the sets at the addresses, among 4096 descriptors.
fn select(sets: [usize; 3], nanoseconds: Option<u64>) -> sys::Sys {
    let mut time = sys::timespec(nanoseconds.unwrap_or(0));
    let time = nanoseconds.map_or(std::ptr::null_mut(), |_| &raw mut time);
    syscall!(SYS_pselect6, 4096, sets[0], sets[1], sets[2], time, 0)
}

fn select_among_thousands() {
    const MILLISECONDS: u64 = 1_000_000;
    let limit = libc::rlimit {
        rlim_cur: 4096,
        rlim_max: 4096,
    };
    syscall!(SYS_prlimit64, 0, libc::RLIMIT_NOFILE, &raw const limit, 0).expect("prlimit64");
    let (reader, writer) = pipe(0);
    assert_eq!(syscall!(SYS_fcntl, reader, libc::F_DUPFD, 3000), Ok(3000));
    assert_eq!(syscall!(SYS_fcntl, writer, libc::F_DUPFD, 3001), Ok(3001));
    let of = |descriptors: &[i32]| {
        let mut set = [0u64; 64];
        for fd in descriptors {
            set[*fd as usize / 64] |= 1 << (fd % 64);
        }
        set
    };
    let address = |set: &mut [u64; 64]| set.as_mut_ptr() as usize;
    let asked = of(&[reader, 3000]);
    let (mut read_set, mut write_set) = (asked, of(&[writer, 3000, 3001]));

    let sets = [address(&mut read_set), address(&mut write_set), 0];
    assert_eq!(select(sets, None), Ok(2), "a reading end is never writable");
    assert_eq!((read_set, write_set), (of(&[]), of(&[writer, 3001])));

    read_set = asked;
    let sets = [address(&mut read_set), 0, 0];
    assert_eq!(select(sets, Some(0)), Ok(0));
    assert_eq!(read_set, of(&[]));

    read_set = asked;
    let started = sys::now();
    assert_eq!(select(sets, Some(50 * MILLISECONDS)), Ok(0));
    assert!(sys::now() - started >= 50 * MILLISECONDS);
    assert_eq!(read_set, of(&[]));

    read_set = of(&[3000]);
    let pid = fork(|| {
        sys::sleep_ms(30);
        i32::from(write(writer, b"x") != Ok(1))
    });
    assert_eq!(select(sets, None), Ok(1));
    assert_eq!((read_set, wait_exit(pid)), (of(&[3000]), 0));

    read_set = of(&[reader, 2999]);
    assert_eq!(select(sets, Some(0)), Err(libc::EBADF), "one is closed");
    assert_eq!(read_set, of(&[reader, 2999]), "and nothing is answered");
    let page = sys::memory(8192);
    syscall!(SYS_munmap, page + 4096, 4096).expect("munmap");
    let cut = page + 4096 - 256;
    assert_eq!(select([cut, 0, 0], Some(0)), Err(libc::EFAULT));

    // What has been hung up is ready to be read, and no exception.
    close(writer);
    close(3001);
    read(reader, &mut [0]).expect("read");
    read_set = asked;
    assert_eq!(select(sets, None), Ok(2));
    assert_eq!(read_set, asked);
    let started = sys::now();
    assert_eq!(select([0, 0, sets[0]], Some(50 * MILLISECONDS)), Ok(0));
    assert!(sys::now() - started >= 50 * MILLISECONDS, "it came back at once");
}

fn a_wait_for_ten_thousand_descriptors() {
    const COUNT: usize = 10_000;
    let limit = libc::rlimit {
        rlim_cur: COUNT as u64 + 64,
        rlim_max: COUNT as u64 + 64,
    };
    syscall!(SYS_prlimit64, 0, libc::RLIMIT_NOFILE, &raw const limit, 0).expect("prlimit64");
    let (reader, writer) = pipe(0);
    let all = (0..COUNT).map(|_| syscall!(SYS_dup, reader).expect("dup") as i32);
    let mut polled: Vec<libc::pollfd> = all
        .map(|fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    let mut wait = || {
        let mut time = sys::timespec(50_000_000);
        syscall!(SYS_ppoll, polled.as_mut_ptr(), COUNT, &raw mut time, 0, 8)
    };
    assert_eq!(wait(), Ok(0));
    let pid = fork(|| {
        sys::sleep_ms(20);
        i32::from(write(writer, b"x") != Ok(1))
    });
    while wait().expect("ppoll") == 0 {}
    assert_eq!(wait(), Ok(COUNT));
    assert_eq!(wait_exit(pid), 0);
}

fn dup_shares_the_description() {
    let path = format!("/tmp/tests-dup-{}", std::process::id());
    std::fs::write(&path, b"abcdef").expect("write");
    let name = std::ffi::CString::new(path.as_str()).expect("no zero");
    let a = syscall!(SYS_openat, libc::AT_FDCWD, name.as_ptr(), libc::O_RDWR).expect("open") as i32;
    let b = syscall!(SYS_dup, a).expect("dup") as i32;
    let mut byte = [0];
    assert_eq!((read(a, &mut byte), byte), (Ok(1), *b"a"));
    assert_eq!((read(b, &mut byte), byte), (Ok(1), *b"b"), "one position");
    let c = syscall!(SYS_openat, libc::AT_FDCWD, name.as_ptr(), libc::O_RDWR).expect("open") as i32;
    assert_eq!(
        (read(c, &mut byte), byte),
        (Ok(1), *b"a"),
        "another open, another position"
    );
    let child = fork(|| i32::from(read(a, &mut [0; 2]) != Ok(2)));
    assert_eq!(wait_exit(child), 0);
    assert_eq!((read(a, &mut byte), byte), (Ok(1), *b"e"), "shared over fork");
    assert_eq!(syscall!(SYS_dup3, a, 50, libc::O_CLOEXEC), Ok(50));
    assert_eq!(syscall!(SYS_fcntl, 50, libc::F_GETFD, 0), Ok(libc::FD_CLOEXEC as usize));
    assert_eq!(syscall!(SYS_dup3, a, a, 0), Err(libc::EINVAL));
    assert_eq!(syscall!(SYS_dup3, a, 50, 0x7fff), Err(libc::EINVAL));
    assert_eq!(syscall!(SYS_dup3, 999, 51, 0), Err(libc::EBADF));
    assert_eq!(syscall!(SYS_dup3, a, 1 << 30, 0), Err(libc::EBADF));
    std::fs::remove_file(&path).expect("remove");
}

fn fcntl_flags() {
    let (reader, _writer) = pipe(0);
    let flags = |descriptor: i32| syscall!(SYS_fcntl, descriptor, libc::F_GETFL, 0).expect("F_GETFL") as i32;
    assert_eq!(flags(reader) & libc::O_ACCMODE, libc::O_RDONLY);
    let copy = syscall!(SYS_dup, reader).expect("dup") as i32;
    syscall!(SYS_fcntl, copy, libc::F_SETFL, libc::O_NONBLOCK).expect("F_SETFL");
    assert_ne!(flags(reader) & libc::O_NONBLOCK, 0, "the flag is the description's");
    syscall!(SYS_fcntl, copy, libc::F_SETFD, libc::FD_CLOEXEC).expect("F_SETFD");
    assert_eq!(
        syscall!(SYS_fcntl, reader, libc::F_GETFD, 0),
        Ok(0),
        "close-on-exec is the descriptor's"
    );
    assert_eq!(syscall!(SYS_fcntl, reader, libc::F_DUPFD, 100), Ok(100));
    assert_eq!(syscall!(SYS_fcntl, reader, libc::F_DUPFD_CLOEXEC, 100), Ok(101));
    assert_eq!(syscall!(SYS_fcntl, reader, libc::F_DUPFD, -1i32), Err(libc::EINVAL));
    assert_eq!(syscall!(SYS_fcntl, reader, 0x7777, 0), Err(libc::EINVAL));
    assert_eq!(syscall!(SYS_fcntl, 999, libc::F_GETFD, 0), Err(libc::EBADF));
}

fn lowest_descriptor_first_and_limits() {
    let (a, b) = pipe(0);
    close(a);
    assert_eq!(syscall!(SYS_dup, b), Ok(a as usize), "the lowest free number");
    let limit = libc::rlimit {
        rlim_cur: 64,
        rlim_max: 64,
    };
    syscall!(SYS_prlimit64, 0, libc::RLIMIT_NOFILE, &raw const limit, 0).expect("prlimit64");
    let mut seen = BTreeSet::new();
    let error = loop {
        match syscall!(SYS_dup, b) {
            Ok(number) => assert!(seen.insert(number)),
            Err(error) => break error,
        }
    };
    assert_eq!(error, libc::EMFILE);
    assert_eq!(seen.last(), Some(&63));
}

fn thousands_of_pipes_lose_no_memory() {
    for _ in 0..5000 {
        let (reader, writer) = pipe(0);
        write(writer, &[1; 5000]).expect("write");
        close(reader);
        close(writer);
    }
}

fn a_reader_that_cannot_take_the_byte_leaves_it_to_the_next() {
    let (reader, writer) = pipe(0);
    let nowhere = 8usize;
    let first = fork(|| i32::from(syscall!(SYS_read, reader, nowhere, 1) != Err(libc::EFAULT)));
    until_asleep(first);
    let second = fork(|| {
        let mut byte = [0];
        i32::from(read(reader, &mut byte) != Ok(1) || byte != [7])
    });
    until_asleep(second);
    write(writer, &[7]).expect("write");
    assert_eq!((wait_exit(first), wait_exit(second)), (0, 0));
}

/// Waits until a child sleeps in a call.
fn until_asleep(pid: i32) {
    let stat = format!("/proc/{pid}/stat");
    while !std::fs::read_to_string(&stat).expect("its state").contains(") S ") {
        sys::sleep_ms(1);
    }
}

fn a_reader_is_woken_by_another_cpu() {
    let (reader, writer) = pipe(0);
    let (back_reader, back_writer) = pipe(0);
    let cpus = sys::cpus();
    let other = fork(|| {
        sys::pin(&cpus[cpus.len() - 1..]);
        let mut byte = [0];
        for _ in 0..5000 {
            if read(reader, &mut byte) != Ok(1) || write(back_writer, &byte) != Ok(1) {
                return 1;
            }
        }
        0
    });
    sys::pin(&cpus[..1]);
    for round in 0..5000u32 {
        let byte = [round as u8];
        write(writer, &byte).expect("write");
        let mut back = [0];
        assert_eq!((read(back_reader, &mut back), back), (Ok(1), byte));
    }
    assert_eq!(wait_exit(other), 0);
}
