//! What no program should do: bad pointers to every call, calls that do not exist, calls at random.

use crate::{
    programs::Random,
    sys::{self, fork},
    syscall,
};

crate::tests! { "hostile":
    bad_pointers_are_efault;
    a_structure_that_ends_in_nothing_is_efault;
    unknown_calls_are_enosys;
    bad_descriptors_are_ebadf;
    random_calls (200) [breenix "makes calls that no Linux comes out of whole"];
    random_code (120) [breenix "makes calls that no Linux comes out of whole"];
}

/// One call: its name, number, and arguments, of which one is the pointer to be bad.
struct Row {
    name: &'static str,
    number: i64,
    arguments: Vec<usize>,
    pointer: usize,
}

macro_rules! rows {
    ($($name:ident [$($before:expr),*] * [$($after:expr),*];)*) => {
        vec![$(Row {
            name: stringify!($name),
            number: libc::$name,
            arguments: vec![$($before as usize,)* 0, $($after as usize),*],
            pointer: <[&str]>::len(&[$(stringify!($before)),*]),
        }),*]
    };
}

/// Every call that reads or writes memory at `*`, with its other arguments right.
fn rows(reader: i32, writer: i32, file: i32) -> Vec<Row> {
    const CWD: i32 = libc::AT_FDCWD;
    let name = c"/tmp".as_ptr();
    rows! {
        SYS_read [reader] * [1];
        SYS_write [writer] * [1];
        SYS_pread64 [file] * [1, 0];
        SYS_pwrite64 [file] * [1, 0];
        SYS_readv [reader] * [1];
        SYS_writev [writer] * [1];
        SYS_openat [CWD] * [0, 0];
        SYS_newfstatat [CWD] * [0, 0];
        SYS_newfstatat [CWD, name] * [0];
        SYS_fstat [file] * [];
        SYS_statx [CWD] * [0, 0, 0];
        SYS_statfs [] * [0];
        SYS_fstatfs [file] * [];
        SYS_readlinkat [CWD] * [c"x".as_ptr(), 10];
        SYS_readlinkat [CWD, c"/proc/self/exe".as_ptr()] * [10];
        SYS_mkdirat [CWD] * [0];
        SYS_unlinkat [CWD] * [0];
        SYS_renameat2 [CWD] * [CWD, 0, 0];
        SYS_linkat [CWD] * [CWD, 0, 0];
        SYS_symlinkat [] * [CWD, 0];
        SYS_faccessat [CWD] * [0];
        SYS_fchmodat [CWD] * [0];
        SYS_fchownat [CWD] * [0, 0, 0];
        SYS_chdir [] * [];
        SYS_chroot [] * [];
        SYS_getcwd [] * [100];
        SYS_truncate [] * [0];
        SYS_utimensat [CWD] * [0, 0];
        SYS_pipe2 [] * [0];
        SYS_ppoll [] * [1, 0, 0, 8];
        SYS_pselect6 [1] * [0, 0, 0, 0];
        SYS_nanosleep [] * [0];
        SYS_clock_nanosleep [1, 0] * [0];
        SYS_clock_gettime [1] * [];
        SYS_clock_getres [1] * [];
        SYS_clock_settime [0] * [];
        SYS_gettimeofday [] * [0];
        SYS_getitimer [0] * [];
        SYS_times [] * [];
        SYS_uname [] * [];
        SYS_sysinfo [] * [];
        SYS_getrandom [] * [10, 0];
        SYS_getrlimit [0] * [];
        SYS_setrlimit [7] * [];
        SYS_prlimit64 [0, 7] * [0];
        SYS_prlimit64 [0, 7, 0] * [];
        SYS_getrusage [0] * [];
        SYS_sched_getaffinity [0, 8] * [];
        SYS_sched_setaffinity [0, 8] * [];
        SYS_sched_getparam [0] * [];
        SYS_getcpu [] * [0, 0];
        SYS_setgroups [1] * [];
        SYS_getresuid [] * [0, 0];
        SYS_rt_sigaction [10] * [0, 8];
        SYS_rt_sigaction [10, 0] * [8];
        SYS_rt_sigprocmask [0] * [0, 8];
        SYS_rt_sigprocmask [0, 0] * [8];
        SYS_rt_sigpending [] * [8];
        SYS_rt_sigsuspend [] * [8];
        SYS_rt_sigtimedwait [] * [0, 0, 8];
        SYS_rt_sigqueueinfo [sys::call(libc::SYS_getpid, &[]).unwrap_or(0), 10] * [];
        SYS_sigaltstack [] * [0];
        SYS_sigaltstack [0] * [];
        SYS_futex [] * [0, 0, 0, 0, 0];
        SYS_execve [] * [0, 0];
        SYS_execve [c"/bin/sh".as_ptr()] * [0];
        SYS_sethostname [] * [5];
        SYS_getdents64 [sys::call(libc::SYS_openat, &[CWD as usize, name as usize, 0]).unwrap_or(0)] * [1000];
    }
}

/// Addresses that are nobody's: below the first page's end, nowhere, the kernel's, not canonical, the very end.
const NOWHERE: [usize; 6] = [
    8,
    0x10_0000,
    0xffff_8000_0000_0000,
    0xffff_ffff_8000_0000,
    0x0080_0000_0000_0000,
    usize::MAX - 7,
];

/// The calls that take a null pointer for "not there", or check something else first on Linux.
fn may_differ(row: &Row, answer: sys::Sys) -> bool {
    match row.name {
        // x86_64's vDSO aside, the time zone and the like may be refused otherwise.
        "SYS_clock_settime" | "SYS_chroot" | "SYS_sethostname" | "SYS_setgroups" => answer == Err(libc::EPERM),
        // Only from kernel 5.x on; nothing says EFAULT must come before the length's check.
        "SYS_sched_setaffinity" | "SYS_sched_getaffinity" => answer == Err(libc::EINVAL),
        _ => false,
    }
}

fn bad_pointers_are_efault() {
    let (reader, writer) = sys::pipe(0);
    sys::write(writer, b"something to read").expect("write");
    let path = c"/tmp/tests-hostile";
    let flags = libc::O_RDWR | libc::O_CREAT;
    let file = syscall!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0o600).expect("open") as i32;
    sys::write(file, b"something to read").expect("write");
    let mut wrong = Vec::new();
    for mut row in rows(reader, writer, file) {
        for address in NOWHERE {
            row.arguments[row.pointer] = address;
            let answer = sys::call(row.number, &row.arguments);
            if answer != Err(libc::EFAULT) && !may_differ(&row, answer) {
                wrong.push(format!(
                    "{} argument {} = {address:#x}: {answer:?}",
                    row.name, row.pointer
                ));
            }
        }
    }
    let _ = syscall!(SYS_unlinkat, libc::AT_FDCWD, path.as_ptr(), 0);
    assert!(wrong.is_empty(), "{}", wrong.join("; "));
}

fn a_structure_that_ends_in_nothing_is_efault() {
    let pages = sys::memory(8192);
    syscall!(SYS_munmap, pages + 4096, 4096).expect("munmap");
    let edge = pages + 4096 - 4;
    (0..4).for_each(|at| sys::poke(edge + at, b'/'));
    assert_eq!(syscall!(SYS_clock_gettime, 1, edge), Err(libc::EFAULT));
    assert_eq!(syscall!(SYS_uname, edge), Err(libc::EFAULT));
    assert_eq!(syscall!(SYS_chdir, edge), Err(libc::EFAULT), "a path without an end");
    let (reader, writer) = sys::pipe(0);
    sys::write(writer, b"abcdefgh").expect("write");
    let answer = syscall!(SYS_read, reader, edge, 8);
    assert!(answer == Ok(4) || answer == Err(libc::EFAULT), "{answer:?}");
    assert_eq!(syscall!(SYS_nanosleep, edge, 0), Err(libc::EFAULT));
    assert_eq!(syscall!(SYS_write, writer, edge, usize::MAX >> 1), Err(libc::EFAULT));
}

fn unknown_calls_are_enosys() {
    for number in [600, 1000, 1023, 4096, 65_535, 0x4000_0000 + 5000, 0x7fff_ffff] {
        assert_eq!(
            sys::call(number, &[1, 2, 3, 4, 5, 6]),
            Err(libc::ENOSYS),
            "call {number}"
        );
    }
    assert_eq!(sys::call(-1, &[0; 6]), Err(libc::ENOSYS));
    // The low half of the number may be all that counts; whatever that call says, the kernel survives it.
    let _ = sys::call(i64::MIN, &[0; 6]);
}

fn bad_descriptors_are_ebadf() {
    let mut byte = [0u8; 128];
    for descriptor in [-1, 1000, i32::MAX, i32::MIN] {
        for number in [libc::SYS_read, libc::SYS_write, libc::SYS_fstat, libc::SYS_getdents64] {
            let answer = sys::call(number, &[descriptor as usize, byte.as_mut_ptr() as usize, 100]);
            assert_eq!(answer, Err(libc::EBADF), "call {number} on {descriptor}");
        }
        for number in [libc::SYS_close, libc::SYS_fsync, libc::SYS_dup, libc::SYS_fchdir] {
            assert_eq!(
                sys::call(number, &[descriptor as usize]),
                Err(libc::EBADF),
                "call {number} on {descriptor}"
            );
        }
        assert_eq!(syscall!(SYS_lseek, descriptor, 0, 0), Err(libc::EBADF));
        assert_eq!(syscall!(SYS_ioctl, descriptor, 0x5401, 0), Err(libc::EBADF));
    }
}

/// Calls that would end the machine or the test, or make processes that nobody counts.
const SPARED: [i64; 14] = [
    libc::SYS_reboot,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_tgkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_send_signal,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_rt_sigreturn,
    libc::SYS_setpgid,
    libc::SYS_setsid,
];

/// Runs `body` as nobody in particular, for at most half a second.
fn harmless(body: impl FnOnce()) {
    let pid = fork(|| {
        let _ = syscall!(SYS_setresgid, 5555, 5555, 5555);
        let _ = syscall!(SYS_setresuid, 5555, 5555, 5555);
        for descriptor in 1..3 {
            let _ = syscall!(SYS_dup3, 0, descriptor, 0);
        }
        body();
        0
    });
    let end = sys::now() + 500_000_000;
    while sys::now() < end {
        if sys::wait(pid, libc::WNOHANG) != Ok((0, 0)) {
            return;
        }
        sys::sleep_ms(2);
    }
    let _ = sys::kill(pid, libc::SIGKILL);
    let _ = sys::wait(pid, 0);
}

fn random_calls() {
    for seed in 1..=200u64 {
        harmless(|| {
            let mut random = Random(seed * 0x9e37_79b9);
            let buffer = sys::memory(16 * 4096);
            (0..16 * 4096)
                .step_by(3)
                .for_each(|at| sys::poke(buffer + at, random.next() as u8));
            for (at, byte) in b"/tmp/fuzz\0".iter().enumerate() {
                sys::poke(buffer + 4096 + at, *byte);
            }
            for _ in 0..400 {
                let number = random.below(460) as i64;
                if SPARED.contains(&number) || (cfg!(target_arch = "x86_64") && [57, 58].contains(&number)) {
                    continue;
                }
                let arguments: Vec<usize> = (0..6)
                    .map(|_| match random.below(9) {
                        0 => 0,
                        1 => random.below(8),
                        2 => random.below(4096),
                        3 => buffer + random.below(4096),
                        4 => buffer + 4096,
                        5 => buffer + 16 * 4096 - random.below(16),
                        6 => usize::MAX - random.below(4096),
                        7 => 1 << random.below(64),
                        _ => random.next() as usize,
                    })
                    .collect();
                let _ = sys::call(number, &arguments);
            }
        });
    }
    assert_eq!(sys::wait_exit(fork(|| 6)), 6, "the kernel still works");
}

fn random_code() {
    for seed in 1..=150u64 {
        harmless(|| {
            let mut random = Random(seed * 0x517c_c1b7);
            let all = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            if let Ok(code) = sys::mmap(0, 4096, all, flags) {
                (0..4096).for_each(|at| sys::poke(code + at, random.next() as u8));
                sys::jump(code);
            }
        });
    }
    assert_eq!(sys::wait_exit(fork(|| 6)), 6, "the kernel still works");
}
