//! Files that never had a name, opened once more by `/proc/<pid>/fd`, and what else is asked of them.

use std::ffi::CString;

use crate::{
    sys::{Sys, close, fork, pipe, read, wait_exit, write},
    syscall,
};

crate::tests! { "nameless":
    a_pipe_opens_again_by_either_end [frees];
    a_pipe_outlives_its_ends_by_a_path [frees];
    opening_a_pipe_takes_its_permissions;
    a_memory_file_opens_again [frees];
    a_memory_file_runs;
    sockets_and_counters_do_not_open [frees];
    their_modes_and_file_systems;
    no_path_leads_to_them;
    a_shell_reads_its_standard_input;
}

fn opened(descriptor: i32, flags: i32) -> Sys {
    let path = CString::new(format!("/proc/self/fd/{descriptor}")).expect("a path");
    syscall!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0)
}

fn open(descriptor: i32, flags: i32) -> i32 {
    opened(descriptor, flags).expect("it opens") as i32
}

fn name(descriptor: i32) -> String {
    let link = std::fs::read_link(format!("/proc/self/fd/{descriptor}")).expect("its link");
    link.into_os_string().into_string().expect("UTF-8")
}

fn stat(descriptor: i32) -> libc::stat {
    // SAFETY: A structure of numbers.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    syscall!(SYS_fstat, descriptor, &raw mut stat).expect("fstat");
    stat
}

fn magic(descriptor: i32) -> u64 {
    // SAFETY: A structure of numbers.
    let mut status: libc::statfs = unsafe { std::mem::zeroed() };
    syscall!(SYS_fstatfs, descriptor, &raw mut status).expect("fstatfs");
    status.f_type as u64
}

fn memory_file() -> i32 {
    syscall!(SYS_memfd_create, c"tests".as_ptr(), 0).expect("memfd_create") as i32
}

fn counter() -> i32 {
    syscall!(SYS_eventfd2, 0, 0).expect("eventfd2") as i32
}

fn sockets() -> [i32; 2] {
    let mut pair = [0; 2];
    syscall!(SYS_socketpair, libc::AF_UNIX, libc::SOCK_STREAM, 0, pair.as_mut_ptr()).expect("socketpair");
    pair
}

fn a_pipe_opens_again_by_either_end() {
    let (reader, writer) = pipe(0);
    let flags = |descriptor| syscall!(SYS_fcntl, descriptor, libc::F_GETFL).expect("F_GETFL") as i32;
    syscall!(SYS_fcntl, reader, libc::F_SETFL, libc::O_NONBLOCK).expect("F_SETFL");
    // The access mode is the one asked for, whichever end is named.
    let again = open(writer, libc::O_RDONLY);
    assert_eq!(flags(again) & (libc::O_ACCMODE | libc::O_NONBLOCK), libc::O_RDONLY);
    assert_eq!(write(again, b"x"), Err(libc::EBADF));
    let both = open(reader, libc::O_RDWR);
    let late = open(reader, libc::O_WRONLY | libc::O_NONBLOCK);
    assert_eq!((write(both, b"ab"), write(late, b"cd")), (Ok(2), Ok(2)));
    let mut buffer = [0; 3];
    assert_eq!((read(again, &mut buffer), &buffer), (Ok(3), b"abc"));
    assert_eq!(read(reader, &mut buffer), Ok(1));
    assert_eq!(read(reader, &mut buffer), Err(libc::EAGAIN), "a description of its own");
    // All of them are the one pipe.
    assert_eq!(name(again), name(reader));
    assert_eq!(stat(both).st_ino, stat(writer).st_ino);
    // Each end counts.
    close(writer);
    close(late);
    assert_eq!(read(reader, &mut buffer), Err(libc::EAGAIN));
    close(both);
    assert_eq!(read(reader, &mut buffer), Ok(0), "no writer is left");
    let late = open(reader, libc::O_WRONLY);
    assert_eq!(read(reader, &mut buffer), Err(libc::EAGAIN), "and one again");
    [reader, again, late].into_iter().for_each(close);
}

fn a_pipe_outlives_its_ends_by_a_path() {
    let (reader, writer) = pipe(0);
    let path = open(reader, libc::O_PATH);
    assert_eq!(read(path, &mut [0]), Err(libc::EBADF));
    let name_then = name(path);
    assert!(name_then.starts_with("pipe:["), "{name_then}");
    write(writer, b"lost").expect("write");
    close(reader);
    close(writer);
    // Neither waits for the other side, as the ends of a fifo with a name would.
    let (reader, writer) = (open(path, libc::O_RDONLY), open(path, libc::O_WRONLY));
    assert_eq!(name(reader), name_then);
    assert_eq!(write(writer, b"x"), Ok(1));
    let mut buffer = [0; 8];
    assert_eq!(read(reader, &mut buffer), Ok(1), "what nobody had open is gone");
    [path, reader, writer].into_iter().for_each(close);
}

fn opening_a_pipe_takes_its_permissions() {
    const USER: u32 = 1000;
    let (reader, writer) = pipe(0);
    let of_root = stat(reader);
    assert_eq!((of_root.st_mode, of_root.st_uid), (libc::S_IFIFO | 0o600, 0));
    let as_user = |body: &dyn Fn() -> bool| {
        wait_exit(fork(|| {
            syscall!(SYS_setresgid, USER, USER, USER).expect("setresgid");
            syscall!(SYS_setresuid, USER, USER, USER).expect("setresuid");
            // Who changes users is not to be looked into, not even by itself.
            syscall!(SYS_prctl, libc::PR_SET_DUMPABLE, 1, 0, 0, 0).expect("dumpable");
            i32::from(!body())
        }))
    };
    let refused = || opened(reader, libc::O_RDONLY) == Err(libc::EACCES);
    assert_eq!(as_user(&refused), 0, "another's");
    assert_eq!(syscall!(SYS_fchmod, writer, 0o604), Ok(0));
    assert_eq!(stat(reader).st_mode & 0o777, 0o604);
    let reads = || opened(writer, libc::O_RDONLY).is_ok() && opened(writer, libc::O_RDWR) == Err(libc::EACCES);
    assert_eq!(as_user(&reads), 0, "for all to read");
    let own = || {
        let (reader, _) = pipe(0);
        stat(reader).st_uid == USER && opened(reader, libc::O_RDWR).is_ok()
    };
    assert_eq!(as_user(&own), 0, "its own");
}

fn a_memory_file_opens_again() {
    let file = memory_file();
    assert_eq!(write(file, b"hello"), Ok(5));
    let reader = open(file, libc::O_RDONLY);
    assert_eq!(write(reader, b"x"), Err(libc::EBADF));
    let mut buffer = [0; 8];
    assert_eq!(read(reader, &mut buffer), Ok(5), "from its beginning");
    assert_eq!(
        (name(reader), name(file)),
        (name(file), "/memfd:tests (deleted)".into())
    );
    let path = open(file, libc::O_PATH);
    assert_eq!(name(path), "/memfd:tests (deleted)");
    close(open(path, libc::O_WRONLY | libc::O_TRUNC));
    assert_eq!(stat(file).st_size, 0);
    [file, reader, path].into_iter().for_each(close);
}

fn a_memory_file_runs() {
    let program = std::fs::read("/proc/self/exe").expect("this program");
    let file = memory_file();
    assert_eq!(write(file, &program), Ok(program.len()));
    let run = |descriptor: i32, flags: i32| {
        fork(|| {
            let arguments = [c"tests".as_ptr(), c"helper".as_ptr(), c"ok".as_ptr(), std::ptr::null()];
            let environment = [std::ptr::null::<libc::c_char>()];
            let error = syscall!(
                SYS_execveat,
                descriptor,
                c"".as_ptr(),
                arguments.as_ptr(),
                environment.as_ptr(),
                flags
            );
            100 + error.expect_err("it came back")
        })
    };
    let reader = open(file, libc::O_RDONLY | libc::O_CLOEXEC);
    assert_eq!(
        wait_exit(run(file, libc::AT_EMPTY_PATH)),
        0,
        "by the descriptor of its maker"
    );
    close(file);
    assert_eq!(wait_exit(run(reader, libc::AT_EMPTY_PATH)), 0);
    assert_eq!(wait_exit(run(reader, 0)), 100 + libc::ENOENT);
    let file = open(reader, libc::O_RDWR);
    assert_eq!(syscall!(SYS_fchmod, file, 0o600), Ok(0));
    close(file);
    assert_eq!(wait_exit(run(reader, libc::AT_EMPTY_PATH)), 100 + libc::EACCES);
    let end = pipe(0).0;
    assert_eq!(wait_exit(run(end, libc::AT_EMPTY_PATH)), 100 + libc::EACCES, "a pipe");
}

fn sockets_and_counters_do_not_open() {
    let [a, b] = sockets();
    let counter = counter();
    for descriptor in [a, counter] {
        for flags in [libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR] {
            assert_eq!(opened(descriptor, flags), Err(libc::ENXIO), "{}", name(descriptor));
        }
        let path = open(descriptor, libc::O_PATH);
        assert_eq!(name(path), name(descriptor));
        assert_eq!(opened(path, libc::O_RDONLY), Err(libc::ENXIO));
        close(path);
    }
    // A path keeps a socket's place and not the socket.
    let path = open(a, libc::O_PATH);
    close(a);
    assert_eq!(read(b, &mut [0]), Ok(0));
    [path, b, counter].into_iter().for_each(close);
}

fn their_modes_and_file_systems() {
    let (end, other) = pipe(0);
    let [socket, _peer] = sockets();
    let (memory, counter) = (memory_file(), counter());
    assert_eq!(magic(end), 0x5049_5045);
    assert_eq!(magic(socket), 0x534f_434b);
    assert_eq!(magic(memory), libc::TMPFS_MAGIC as u64);
    assert_eq!(magic(counter), 0x0904_1934);
    assert_eq!(stat(socket).st_mode, libc::S_IFSOCK | 0o777);
    assert_eq!(stat(memory).st_mode, libc::S_IFREG | 0o777);
    assert_eq!(stat(memory).st_nlink, 0);
    assert_eq!(stat(counter).st_mode, 0o600, "of no type");
    for (descriptor, mode) in [(end, 0o640), (socket, 0o700), (memory, 0o400)] {
        assert_eq!(syscall!(SYS_fchmod, descriptor, mode), Ok(0));
        assert_eq!(stat(descriptor).st_mode & 0o7777, mode);
        assert_eq!(syscall!(SYS_fchown, descriptor, 7, 8), Ok(0));
        assert_eq!((stat(descriptor).st_uid, stat(descriptor).st_gid), (7, 8));
    }
    for descriptor in [end, other, socket, counter] {
        assert_eq!(syscall!(SYS_ftruncate, descriptor, 0), Err(libc::EINVAL));
    }
    let path = CString::new(format!("/proc/self/fd/{end}")).expect("a path");
    assert_eq!(syscall!(SYS_truncate, path.as_ptr(), 0), Err(libc::EINVAL));
    // Locks go by the file, and both ends are one.
    let exclusive = libc::LOCK_EX | libc::LOCK_NB;
    let again = open(end, libc::O_RDWR);
    assert_eq!(syscall!(SYS_flock, end, exclusive), Ok(0));
    assert_eq!(syscall!(SYS_flock, again, exclusive), Err(libc::EWOULDBLOCK));
}

fn no_path_leads_to_them() {
    let end = pipe(0).0;
    let file = memory_file();
    for descriptor in [end, file] {
        let link = name(descriptor);
        assert!(std::fs::metadata(&link).is_err(), "{link}");
        let at = syscall!(SYS_openat, descriptor, c"x".as_ptr(), 0, 0);
        assert_eq!(at, Err(libc::ENOTDIR));
        assert_eq!(syscall!(SYS_fchdir, descriptor), Err(libc::ENOTDIR));
        let linked = syscall!(
            SYS_linkat,
            descriptor,
            c"".as_ptr(),
            libc::AT_FDCWD,
            c"/tmp/nameless-link".as_ptr(),
            libc::AT_EMPTY_PATH
        );
        assert_eq!(linked, Err(libc::EXDEV));
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    assert!(!mounts.contains("pipe"), "{mounts}");
}

fn a_shell_reads_its_standard_input() {
    let script = "
        set -e
        [ \"$(echo x | cat /dev/stdin)\" = x ]
        [ \"$(echo y | cat /proc/self/fd/0 /dev/null)\" = y ]
        echo z | tee /dev/stderr 2>&1 >/dev/null | grep -q z
    ";
    let status = wait_exit(fork(|| crate::programs::execute("/bin/sh", &["sh", "-c", script])));
    assert_eq!(status, 0);
}
