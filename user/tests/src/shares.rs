//! `unshare(2)`, and the priorities of input and output.

use crate::{
    sys::{self, in_child},
    syscall,
};

crate::tests! { "shares":
    flags_are_checked;
    a_directory_is_kept_for_oneself;
    descriptors_are_kept_for_oneself;
    threads_keep_their_memory_in_common;
    priorities_are_told_and_inherited;
    priorities_are_checked;
}

/// Runs `body` in a process that has `flags` in common with this one, to its end.
fn with_shared(flags: i32, body: extern "C" fn(*mut libc::c_void) -> i32) {
    const LENGTH: usize = 0x40000;
    let stack = sys::memory(LENGTH);
    let child = sys::clone_on(stack, LENGTH, flags | libc::CLONE_VM | libc::SIGCHLD, body).expect("clone");
    assert_eq!(sys::wait_exit(child), 0);
}

fn directory() -> Vec<u8> {
    let mut path = [0u8; 200];
    let length = syscall!(SYS_getcwd, path.as_mut_ptr(), path.len()).expect("getcwd");
    path[..length - 1].to_vec()
}

fn chdir(path: &std::ffi::CStr) -> bool {
    syscall!(SYS_chdir, path.as_ptr()).is_ok()
}

fn flags_are_checked() {
    for bad in [1u64, 0x80_0000, 0x4000] {
        assert_eq!(syscall!(SYS_unshare, bad), Err(libc::EINVAL), "{bad:#x}");
    }
    assert_eq!(syscall!(SYS_unshare, 0), Ok(0));
    let alone = libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SYSVSEM | libc::CLONE_VM | libc::CLONE_SIGHAND;
    assert_eq!(
        syscall!(SYS_unshare, alone | libc::CLONE_THREAD),
        Ok(0),
        "who is alone has nothing in common"
    );
}

extern "C" fn move_away(_: *mut libc::c_void) -> i32 {
    let shared = chdir(c"/proc");
    let own = syscall!(SYS_unshare, libc::CLONE_FS).is_ok() && chdir(c"/dev");
    i32::from(!(shared && own && directory() == b"/dev"))
}

fn a_directory_is_kept_for_oneself() {
    in_child(|| {
        with_shared(libc::CLONE_FS, move_away);
        assert_eq!(directory(), b"/proc");
    });
}

extern "C" fn close_all(_: *mut libc::c_void) -> i32 {
    let shared = syscall!(SYS_close, 100).is_ok();
    let own = syscall!(SYS_unshare, libc::CLONE_FILES).is_ok() && syscall!(SYS_close, 101).is_ok();
    i32::from(!(shared && own))
}

fn descriptors_are_kept_for_oneself() {
    in_child(|| {
        let (reader, _) = sys::pipe(0);
        for copy in [100, 101] {
            syscall!(SYS_dup3, reader, copy, 0).expect("dup3");
        }
        with_shared(libc::CLONE_FILES, close_all);
        assert_eq!(syscall!(SYS_fcntl, 100, libc::F_GETFD), Err(libc::EBADF));
        assert_eq!(syscall!(SYS_fcntl, 101, libc::F_GETFD), Ok(0));
    });
}

fn threads_keep_their_memory_in_common() {
    let tried = std::thread::spawn(|| {
        let flags = [libc::CLONE_VM, libc::CLONE_SIGHAND, libc::CLONE_THREAD];
        flags.map(|flag| syscall!(SYS_unshare, flag))
    });
    assert_eq!(tried.join().expect("a thread"), [Err(libc::EINVAL); 3]);
}

fn io_priority(which: i32, who: i32) -> sys::Sys {
    syscall!(SYS_ioprio_get, which, who)
}

fn set_io_priority(which: i32, who: i32, priority: i32) -> sys::Sys {
    syscall!(SYS_ioprio_set, which, who, priority)
}

const PROCESS: i32 = 1;
const GROUP: i32 = 2;

fn priorities_are_told_and_inherited() {
    set_io_priority(PROCESS, 0, 2 << 13 | 6).expect("ioprio_set");
    assert_eq!(io_priority(PROCESS, 0), Ok(2 << 13 | 6));
    in_child(|| assert_eq!(io_priority(PROCESS, 0), Ok(2 << 13 | 6)));
    in_child(|| {
        syscall!(SYS_setpgid, 0, 0).expect("setpgid");
        set_io_priority(PROCESS, 0, 3 << 13).expect("ioprio_set");
        assert_eq!(io_priority(GROUP, 0), Ok(3 << 13));
        set_io_priority(GROUP, 0, 2 << 13 | 1).expect("ioprio_set");
        assert_eq!(io_priority(PROCESS, 0), Ok(2 << 13 | 1));
    });
}

fn priorities_are_checked() {
    assert_eq!(io_priority(0, 0), Err(libc::EINVAL));
    assert_eq!(io_priority(4, 0), Err(libc::EINVAL));
    assert_eq!(io_priority(PROCESS, i32::MAX), Err(libc::ESRCH));
    assert_eq!(set_io_priority(PROCESS, 0, 2 << 13 | 8), Err(libc::EINVAL));
    assert_eq!(set_io_priority(PROCESS, 0, 1), Err(libc::EINVAL));
    assert_eq!(set_io_priority(PROCESS, 0, 4 << 13), Err(libc::EINVAL));
    assert_eq!(set_io_priority(PROCESS, 0, 1 << 13), Ok(0));
    in_child(|| {
        syscall!(SYS_setresuid, 65534, 65534, 65534).expect("setresuid");
        assert_eq!(set_io_priority(PROCESS, 0, 1 << 13), Err(libc::EPERM));
        assert_eq!(set_io_priority(PROCESS, 0, 2 << 13), Ok(0));
        assert_eq!(set_io_priority(PROCESS, 1, 2 << 13), Err(libc::EPERM));
    });
}
