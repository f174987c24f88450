//! What holds for namespaces of every kind: `/proc/<pid>/ns`, files of namespaces, `unshare`, `setns`, `clone`.

use std::{fs, mem::zeroed, thread};

use super::{Waiting, link, open, own, setns, unshare};
use crate::{
    sys::{self, in_child, wait_exit},
    syscall,
};

crate::tests! { "namespaces":
    links_name_them;
    links_of_another_want_a_right;
    files_tell_of_them;
    owners_are_told;
    children_share_them;
    threads_have_their_own;
    clone_makes_them;
    clone3_makes_them;
    unshare_is_checked;
    setns_is_checked;
    setns_by_a_process_takes_several;
    files_keep_them;
    thousands_lose_no_memory [frees];
}

const KINDS: [(&str, i32); 7] = [
    ("cgroup", libc::CLONE_NEWCGROUP),
    ("ipc", libc::CLONE_NEWIPC),
    ("mnt", libc::CLONE_NEWNS),
    ("net", libc::CLONE_NEWNET),
    ("pid", libc::CLONE_NEWPID),
    ("user", libc::CLONE_NEWUSER),
    ("uts", libc::CLONE_NEWUTS),
];
const NEWTIME: i32 = 0x80;

const NS_GET_USERNS: u32 = 0xb701;
const NS_GET_PARENT: u32 = 0xb702;
const NS_GET_NSTYPE: u32 = 0xb703;
const NS_GET_OWNER_UID: u32 = 0xb704;

fn become_user() {
    syscall!(SYS_setresuid, 1000, 1000, 1000).expect("setresuid");
}

fn ioctl(file: i32, request: u32) -> sys::Sys {
    syscall!(SYS_ioctl, file, request, 0)
}

fn inode(file: i32) -> u64 {
    // SAFETY: all zeroes are such a structure.
    let mut status: libc::stat = unsafe { zeroed() };
    syscall!(SYS_fstat, file, &raw mut status).expect("fstat");
    assert_eq!(status.st_mode, libc::S_IFREG | 0o444);
    status.st_ino
}

fn links_name_them() {
    let mut seen: Vec<_> = fs::read_dir("/proc/self/ns")
        .expect("readdir")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a text"))
        .collect();
    seen.sort();
    let all = [
        "cgroup",
        "ipc",
        "mnt",
        "net",
        "pid",
        "pid_for_children",
        "time",
        "time_for_children",
        "user",
        "uts",
    ];
    assert_eq!(seen, all);
    for name in all {
        let kind = name.trim_end_matches("_for_children");
        let text = own(name);
        let number = text
            .strip_prefix(&format!("{kind}:["))
            .and_then(|rest| rest.strip_suffix(']'));
        let number: u64 = number.and_then(|number| number.parse().ok()).expect("a number");
        let file = open("self", name);
        assert_eq!(inode(file), number, "{name}");
        assert_eq!(link("self", name), text);
        let shown = fs::read_link(format!("/proc/self/fd/{file}")).expect("readlink");
        assert_eq!(shown.to_str(), Some(&text[..]));
        sys::close(file);
    }
    assert_eq!(own("pid"), own("pid_for_children"));
    assert_eq!(link("self", "uts"), link("1", "uts"));
}

fn links_of_another_want_a_right() {
    in_child(|| {
        become_user();
        let error = fs::read_link("/proc/1/ns/uts").expect_err("a right");
        assert_eq!(error.raw_os_error(), Some(libc::EACCES));
        let error = fs::File::open("/proc/1/ns/uts").expect_err("a right");
        assert_eq!(error.raw_os_error(), Some(libc::EACCES));
    });
}

fn files_tell_of_them() {
    const NSFS_MAGIC: i64 = 0x6e73_6673;
    for (name, flag) in KINDS.into_iter().chain([("time", NEWTIME)]) {
        let file = open("self", name);
        // SAFETY: all zeroes are such a structure.
        let mut status: libc::statfs = unsafe { zeroed() };
        syscall!(SYS_fstatfs, file, &raw mut status).expect("fstatfs");
        assert_eq!(status.f_type as i64, NSFS_MAGIC);
        assert_eq!(ioctl(file, NS_GET_NSTYPE), Ok(flag as usize), "{name}");
        assert_eq!(sys::read(file, &mut [0]), Err(libc::EINVAL));
        assert_eq!(ioctl(file, 0xb7ff), Err(libc::ENOTTY));
        sys::close(file);
    }
}

fn owners_are_told() {
    let user = open("self", "user");
    for (name, _) in KINDS {
        let file = open("self", name);
        if name == "user" {
            assert_eq!(ioctl(file, NS_GET_USERNS), Err(libc::EPERM), "the first has none");
        } else {
            let owner = ioctl(file, NS_GET_USERNS).expect("an owner") as i32;
            assert_eq!(inode(owner), inode(user), "{name}");
            let flags = syscall!(SYS_fcntl, owner, libc::F_GETFD);
            assert_eq!(flags, Ok(libc::FD_CLOEXEC as usize));
            sys::close(owner);
        }
        let parent = match name {
            "user" | "pid" => libc::EPERM,
            _ => libc::EINVAL,
        };
        assert_eq!(ioctl(file, NS_GET_PARENT), Err(parent), "{name}");
        let mut uid = 7u32;
        let told = syscall!(SYS_ioctl, file, NS_GET_OWNER_UID, &raw mut uid);
        match name {
            "user" => assert_eq!((told, uid), (Ok(0), 0)),
            _ => assert_eq!(told, Err(libc::EINVAL)),
        }
        sys::close(file);
    }
    sys::close(user);
}

fn children_share_them() {
    in_child(|| {
        unshare(libc::CLONE_NEWUTS).expect("unshare");
        let mine = own("uts");
        in_child(|| assert_eq!(own("uts"), mine));
    });
}

fn threads_have_their_own() {
    in_child(|| {
        let before = own("uts");
        let apart = thread::spawn(|| {
            unshare(libc::CLONE_NEWUTS).expect("unshare");
            own("uts")
        });
        assert_ne!(apart.join().expect("a thread"), before);
        assert_eq!(own("uts"), before);
    });
}

extern "C" fn tell_uts(there: *mut libc::c_void) -> i32 {
    let _ = there;
    i32::from(own("uts") == link("self", "uts") && own("uts") == link("1", "uts"))
}

fn clone_makes_them() {
    const LENGTH: usize = 0x40000;
    let stack = sys::memory(LENGTH);
    let clone = |flags: i32| sys::clone_on(stack, LENGTH, flags | libc::CLONE_VM | libc::SIGCHLD, tell_uts);
    assert_eq!(wait_exit(clone(0).expect("clone")), 1);
    assert_eq!(wait_exit(clone(libc::CLONE_NEWUTS).expect("clone")), 0);
    for bad in [libc::CLONE_NEWNS, libc::CLONE_NEWUSER] {
        assert_eq!(clone(bad | libc::CLONE_FS), Err(libc::EINVAL), "{bad:#x}");
    }
    in_child(|| {
        become_user();
        assert_eq!(clone(libc::CLONE_NEWUTS), Err(libc::EPERM));
    });
}

/// Forks by `clone3`, with these flags.
fn clone3(flags: u64, body: impl FnOnce()) -> Result<(), i32> {
    let arguments = [flags, 0, 0, 0, libc::SIGCHLD as u64, 0, 0, 0];
    match syscall!(SYS_clone3, arguments.as_ptr(), size_of_val(&arguments))? {
        0 => {
            body();
            sys::exit(0);
        }
        child => {
            assert_eq!(wait_exit(child as i32), 0);
            Ok(())
        }
    }
}

fn clone3_makes_them() {
    let before = own("uts");
    let made = clone3(libc::CLONE_NEWUTS as u64, || assert_ne!(own("uts"), before));
    assert_eq!(made, Ok(()));
    assert_eq!(clone3(0x40, || {}), Err(libc::EINVAL), "a signal among the flags");
}

fn unshare_is_checked() {
    in_child(|| {
        become_user();
        for flag in [libc::CLONE_NEWUTS, libc::CLONE_NEWNET] {
            assert_eq!(unshare(flag), Err(libc::EPERM));
        }
    });
    let before = own("uts");
    assert_eq!(unshare(libc::CLONE_NEWUTS | 1), Err(libc::EINVAL));
    assert_eq!(own("uts"), before);
}

fn setns_is_checked() {
    let uts = open("self", "uts");
    assert_eq!(setns(-1, 0), Err(libc::EBADF));
    assert_eq!(setns(uts, libc::CLONE_NEWNET), Err(libc::EINVAL));
    let (reader, writer) = sys::pipe(0);
    assert_eq!(setns(reader, 0), Err(libc::EINVAL), "no namespace");
    sys::close(reader);
    sys::close(writer);
    let user = open("self", "user");
    assert_eq!(setns(user, 0), Err(libc::EINVAL), "the own user namespace");
    sys::close(user);
    in_child(|| {
        assert_eq!(setns(uts, 0), Ok(0));
        assert_eq!(setns(uts, libc::CLONE_NEWUTS), Ok(0));
        become_user();
        assert_eq!(setns(uts, 0), Err(libc::EPERM));
    });
    sys::close(uts);
}

fn setns_by_a_process_takes_several() {
    let child = Waiting::new(|| {
        unshare(libc::CLONE_NEWUTS | libc::CLONE_NEWNET).expect("unshare");
    });
    let process = syscall!(SYS_pidfd_open, child.pid, 0).expect("pidfd_open") as i32;
    assert_eq!(setns(process, 0), Err(libc::EINVAL));
    assert_eq!(setns(process, libc::CLONE_VM), Err(libc::EINVAL));
    in_child(|| {
        let net = own("net");
        assert_eq!(setns(process, libc::CLONE_NEWUTS), Ok(0));
        assert_eq!(own("uts"), link(&child.name(), "uts"));
        assert_eq!(own("net"), net);
        let uts = own("uts");
        let both = libc::CLONE_NEWNET | libc::CLONE_NEWUTS;
        assert_eq!(setns(process, both | libc::CLONE_NEWUSER), Err(libc::EINVAL));
        assert_eq!((own("uts"), own("net")), (uts, net), "all or none");
        assert_eq!(setns(process, both), Ok(0));
        assert_eq!(own("net"), link(&child.name(), "net"));
    });
    in_child(|| {
        become_user();
        assert_eq!(setns(process, libc::CLONE_NEWUTS), Err(libc::EPERM));
    });
    drop(child);
    assert_eq!(setns(process, libc::CLONE_NEWUTS), Err(libc::ESRCH));
    sys::close(process);
}

fn files_keep_them() {
    let child = Waiting::new(|| {
        unshare(libc::CLONE_NEWUTS).expect("unshare");
        syscall!(SYS_sethostname, c"kept".as_ptr(), 4).expect("sethostname");
    });
    let file = open(&child.name(), "uts");
    drop(child);
    in_child(|| {
        setns(file, 0).expect("setns");
        assert_eq!(super::uts::host(), b"kept");
    });
    sys::close(file);
}

fn thousands_lose_no_memory() {
    in_child(|| {
        for _ in 0..2000 {
            unshare(libc::CLONE_NEWUTS | libc::CLONE_NEWNET).expect("unshare");
        }
    });
}
