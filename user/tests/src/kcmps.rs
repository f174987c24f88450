//! `kcmp`: what two processes have in common.

use crate::{
    sys::{self, fork, pipe, wait_exit},
    syscall,
};

// linux/kcmp.h
const FILE: i32 = 0;
const VM: i32 = 1;
const FILES: i32 = 2;
const FS: i32 = 3;
const SIGHAND: i32 = 4;

crate::tests! { "kcmp":
    a_process_has_all_in_common_with_itself;
    a_child_has_open_files_in_common;
    nonsense_is_refused;
}

fn kcmp(first: i32, second: i32, kind: i32, first_index: i32, second_index: i32) -> Result<usize, i32> {
    syscall!(SYS_kcmp, first, second, kind, first_index, second_index)
}

fn own() -> i32 {
    std::process::id() as i32
}

fn a_process_has_all_in_common_with_itself() {
    for kind in 1..=6 {
        assert_eq!(kcmp(own(), own(), kind, 0, 0), Ok(0), "type {kind}");
    }
    let (read, write) = pipe(0);
    let copy = syscall!(SYS_dup, read).expect("dup") as i32;
    assert_eq!(kcmp(own(), own(), FILE, read, copy), Ok(0));
    let orders = [
        kcmp(own(), own(), FILE, read, write),
        kcmp(own(), own(), FILE, write, read),
    ];
    assert!(orders == [Ok(1), Ok(2)] || orders == [Ok(2), Ok(1)], "{orders:?}");
}

fn a_child_has_open_files_in_common() {
    let (read, write) = pipe(0);
    let parent = own();
    let child = fork(|| {
        let own = own();
        assert_eq!(kcmp(parent, own, FILE, read, read), Ok(0));
        for kind in [VM, FILES, FS, SIGHAND] {
            assert!(matches!(kcmp(parent, own, kind, 0, 0), Ok(1 | 2)), "type {kind}");
        }
        sys::close(read);
        assert_eq!(kcmp(parent, own, FILE, read, read), Err(libc::EBADF));
        0
    });
    assert_eq!(wait_exit(child), 0);
    sys::close(write);
}

fn nonsense_is_refused() {
    assert_eq!(kcmp(own(), own(), 8, 0, 0), Err(libc::EINVAL));
    assert_eq!(kcmp(own(), 0x3fff_ffff, VM, 0, 0), Err(libc::ESRCH));
    assert_eq!(kcmp(own(), own(), FILE, 0, 999), Err(libc::EBADF));
    let child = fork(|| {
        syscall!(SYS_setresuid, 1000, 1000, 1000).expect("setresuid");
        assert_eq!(kcmp(own(), 1, VM, 0, 0), Err(libc::EPERM));
        0
    });
    assert_eq!(wait_exit(child), 0);
}
