//! Extended attributes: `setxattr(2)` and its kin.

use std::{ffi::CString, fs, os::fd::AsRawFd};

use crate::{
    sys::{self, Sys, fork, wait_exit},
    syscall,
};

crate::tests! { "xattrs":
    values_are_kept;
    calls_are_checked;
    what_has_no_attributes;
    links_and_descriptors;
    users_have_their_own [needs USER_ATTRIBUTES];
    others_may_not [needs USER_ATTRIBUTES];
    much_is_refused_and_given_back;
}

const CREATE: i32 = libc::XATTR_CREATE;
const REPLACE: i32 = libc::XATTR_REPLACE;

struct Scratch(CString);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = format!("/tmp/xattrs-{name}-{}", std::process::id());
        fs::write(&path, "").expect("a file");
        Self(CString::new(path).expect("a path"))
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("text")
    }

    fn set(&self, name: &str, value: &[u8], flags: i32) -> Sys {
        let name = CString::new(name).expect("a name");
        syscall!(
            SYS_setxattr,
            self.0.as_ptr(),
            name.as_ptr(),
            value.as_ptr(),
            value.len(),
            flags
        )
    }

    fn get(&self, name: &str) -> Result<Vec<u8>, i32> {
        let name = CString::new(name).expect("a name");
        let mut value = vec![0; 70_000];
        let got = syscall!(
            SYS_getxattr,
            self.0.as_ptr(),
            name.as_ptr(),
            value.as_mut_ptr(),
            value.len()
        )?;
        value.truncate(got);
        Ok(value)
    }

    fn remove(&self, name: &str) -> Sys {
        let name = CString::new(name).expect("a name");
        syscall!(SYS_removexattr, self.0.as_ptr(), name.as_ptr())
    }

    /// The names of ours that it has, sorted: a kernel may add its own.
    fn names(&self) -> Vec<String> {
        let mut list = vec![0; 70_000];
        let got = syscall!(SYS_listxattr, self.0.as_ptr(), list.as_mut_ptr(), list.len()).expect("listxattr");
        let mut names: Vec<String> = list[..got]
            .split(|byte| *byte == 0)
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .filter(|name| name.contains("tests"))
            .collect();
        names.sort();
        names
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _gone = fs::remove_file(self.path());
    }
}

fn values_are_kept() {
    let file = Scratch::new("values");
    assert_eq!(file.names(), Vec::<String>::new());
    assert_eq!(file.get("trusted.tests"), Err(libc::ENODATA));
    assert_eq!(file.set("trusted.tests", b"one", 0), Ok(0));
    assert_eq!(file.set("trusted.tests-b", b"", 0), Ok(0));
    assert_eq!(file.set("security.tests", b"\0\xff", 0), Ok(0));
    assert_eq!(file.get("trusted.tests"), Ok(b"one".to_vec()));
    assert_eq!(file.get("trusted.tests-b"), Ok(Vec::new()));
    assert_eq!(file.names(), ["security.tests", "trusted.tests", "trusted.tests-b"]);
    assert_eq!(file.set("trusted.tests", b"another", REPLACE), Ok(0));
    assert_eq!(file.get("trusted.tests"), Ok(b"another".to_vec()));
    assert_eq!(file.set("trusted.tests", b"x", CREATE), Err(libc::EEXIST));
    assert_eq!(file.set("trusted.tests-c", b"x", REPLACE), Err(libc::ENODATA));
    assert_eq!(file.remove("trusted.tests"), Ok(0));
    assert_eq!(file.remove("trusted.tests"), Err(libc::ENODATA));
    assert_eq!(file.get("security.tests"), Ok(b"\0\xff".to_vec()));
    let moved = format!("{}-moved", file.path());
    fs::rename(file.path(), &moved).expect("rename");
    fs::rename(&moved, file.path()).expect("rename back");
    assert_eq!(file.names(), ["security.tests", "trusted.tests-b"]);
}

fn calls_are_checked() {
    let file = Scratch::new("checks");
    assert_eq!(file.set("trusted.tests", b"value", 0), Ok(0));
    for flags in [4, -1, i32::MIN] {
        assert_eq!(file.set("trusted.tests", b"", flags), Err(libc::EINVAL), "{flags:#x}");
    }
    for name in ["tests", "user", "trusted", "other.tests", "TRUSTED.tests"] {
        assert_eq!(file.set(name, b"", 0), Err(libc::EOPNOTSUPP), "{name}");
        assert_eq!(file.get(name), Err(libc::EOPNOTSUPP), "{name}");
    }
    assert_eq!(file.set("trusted.", b"", 0), Err(libc::EINVAL));
    assert_eq!(file.set("", b"", 0), Err(libc::ERANGE));
    let longest = format!("trusted.{}", "n".repeat(255 - 8));
    assert_eq!(file.set(&longest, b"", 0), Ok(0));
    assert_eq!(file.set(&format!("{longest}n"), b"", 0), Err(libc::ERANGE));
    assert_eq!(file.set("trusted.tests", &vec![0; 65537], 0), Err(libc::E2BIG));
    let get =
        |buffer: usize, size: usize| syscall!(SYS_getxattr, file.0.as_ptr(), c"trusted.tests".as_ptr(), buffer, size);
    let mut buffer = [7u8; 8];
    assert_eq!(get(0, 0), Ok(5), "how much room it takes");
    assert_eq!(get(buffer.as_mut_ptr() as usize, 4), Err(libc::ERANGE));
    assert_eq!(get(buffer.as_mut_ptr() as usize, 8), Ok(5));
    assert_eq!(&buffer, b"value\x07\x07\x07");
    assert_eq!(get(8, 8), Err(libc::EFAULT));
    let list = |buffer: usize, size: usize| syscall!(SYS_listxattr, file.0.as_ptr(), buffer, size);
    let length = list(0, 0).expect("its length");
    assert!(length >= 14 + 256);
    assert_eq!(list(buffer.as_mut_ptr() as usize, 8), Err(libc::ERANGE));
    assert_eq!(list(8, length), Err(libc::EFAULT));
    let nobody = |path: usize, name: usize| syscall!(SYS_setxattr, path, name, buffer.as_ptr(), 1, 0);
    assert_eq!(nobody(8, c"trusted.tests".as_ptr() as usize), Err(libc::EFAULT));
    assert_eq!(nobody(file.0.as_ptr() as usize, 8), Err(libc::EFAULT));
    assert_eq!(
        nobody(
            c"/tmp/nothing-here".as_ptr() as usize,
            c"trusted.tests".as_ptr() as usize
        ),
        Err(libc::ENOENT)
    );
    assert_eq!(
        nobody(c"".as_ptr() as usize, c"trusted.tests".as_ptr() as usize),
        Err(libc::ENOENT)
    );
}

fn what_has_no_attributes() {
    let (read, write) = sys::pipe(0);
    let name = c"user.tests".as_ptr();
    assert_eq!(syscall!(SYS_fsetxattr, read, name, name, 1, 0), Err(libc::EPERM));
    assert_eq!(syscall!(SYS_fgetxattr, write, name, 0, 0), Err(libc::ENODATA));
    let trusted = c"trusted.tests".as_ptr();
    assert_eq!(
        syscall!(SYS_fsetxattr, read, trusted, name, 1, 0),
        Err(libc::EOPNOTSUPP)
    );
    assert_eq!(syscall!(SYS_fgetxattr, read, trusted, 0, 0), Err(libc::EOPNOTSUPP));
    assert_eq!(syscall!(SYS_flistxattr, read, 0, 0), Ok(0));
    assert_eq!(syscall!(SYS_fgetxattr, -1i32, name, 0, 0), Err(libc::EBADF));
    let proc = c"/proc/self/status".as_ptr();
    assert_eq!(syscall!(SYS_getxattr, proc, name, 0, 0), Err(libc::EOPNOTSUPP));
    assert_eq!(syscall!(SYS_listxattr, proc, 0, 0), Ok(0));
    let file = Scratch::new("path");
    let opened = syscall!(SYS_openat, libc::AT_FDCWD, file.0.as_ptr(), libc::O_PATH, 0).expect("O_PATH");
    assert_eq!(syscall!(SYS_fgetxattr, opened, name, 0, 0), Err(libc::EBADF));
    sys::close(opened as i32);
}

fn links_and_descriptors() {
    let file = Scratch::new("links");
    let link = Scratch::new("link");
    fs::remove_file(link.path()).expect("removing");
    std::os::unix::fs::symlink(file.path(), link.path()).expect("a link");
    assert_eq!(link.set("trusted.tests", b"through", 0), Ok(0));
    assert_eq!(file.get("trusted.tests"), Ok(b"through".to_vec()));
    let name = c"trusted.tests".as_ptr();
    let path = link.0.as_ptr();
    assert_eq!(
        syscall!(SYS_lgetxattr, path, name, 0, 0),
        Err(libc::ENODATA),
        "the link's own"
    );
    assert_eq!(
        syscall!(SYS_lsetxattr, path, name, c"of the link".as_ptr(), 11, 0),
        Ok(0)
    );
    assert_eq!(syscall!(SYS_lgetxattr, path, name, 0, 0), Ok(11));
    assert!(syscall!(SYS_llistxattr, path, 0, 0).expect("llistxattr") >= 14);
    assert_eq!(syscall!(SYS_lremovexattr, path, name), Ok(0));
    assert_eq!(
        syscall!(SYS_lsetxattr, path, c"user.tests".as_ptr(), name, 1, 0),
        Err(libc::EPERM)
    );
    let open = fs::File::open(file.path()).expect("open");
    let fd = open.as_raw_fd();
    assert_eq!(syscall!(SYS_fgetxattr, fd, name, 0, 0), Ok(7));
    assert_eq!(
        syscall!(SYS_fsetxattr, fd, name, name, 1, REPLACE),
        Ok(0),
        "read-only makes no difference"
    );
    assert_eq!(syscall!(SYS_fremovexattr, fd, name), Ok(0));
    assert_eq!(file.names(), Vec::<String>::new());
}

fn users_have_their_own() {
    let file = Scratch::new("user");
    assert_eq!(file.set("user.tests", b"mine", 0), Ok(0));
    assert_eq!(file.get("user.tests"), Ok(b"mine".to_vec()));
    let fifo = Scratch::new("fifo");
    fs::remove_file(fifo.path()).expect("removing");
    assert_eq!(
        syscall!(SYS_mknodat, libc::AT_FDCWD, fifo.0.as_ptr(), libc::S_IFIFO | 0o666, 0),
        Ok(0)
    );
    assert_eq!(fifo.set("user.tests", b"", 0), Err(libc::EPERM));
    assert_eq!(fifo.get("user.tests"), Err(libc::ENODATA));
}

fn others_may_not() {
    let file = Scratch::new("others");
    assert_eq!(file.set("user.tests", b"mine", 0), Ok(0));
    assert_eq!(file.set("trusted.tests", b"secret", 0), Ok(0));
    assert_eq!(file.set("security.tests", b"shown", 0), Ok(0));
    let child = fork(|| {
        assert_eq!(syscall!(SYS_setresuid, 1000, 1000, 1000), Ok(0));
        assert_eq!(file.get("user.tests"), Ok(b"mine".to_vec()));
        assert_eq!(file.set("user.tests", b"theirs", 0), Err(libc::EACCES));
        assert_eq!(file.get("trusted.tests"), Err(libc::ENODATA));
        assert_eq!(file.set("trusted.tests", b"", 0), Err(libc::EPERM));
        assert_eq!(file.remove("trusted.tests"), Err(libc::EPERM));
        assert_eq!(file.get("security.tests"), Ok(b"shown".to_vec()));
        assert_eq!(file.set("security.tests", b"", 0), Err(libc::EPERM));
        assert_eq!(file.names(), ["security.tests", "user.tests"]);
        0
    });
    assert_eq!(wait_exit(child), 0);
    fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("chmod");
    let child = fork(|| {
        assert_eq!(syscall!(SYS_setresuid, 1000, 1000, 1000), Ok(0));
        assert_eq!(file.get("user.tests"), Err(libc::EACCES));
        0
    });
    assert_eq!(wait_exit(child), 0);
}

fn much_is_refused_and_given_back() {
    let file = Scratch::new("much");
    let before = free_blocks();
    let value = vec![1; 16_000];
    let made = (0..1000)
        .take_while(|number| file.set(&format!("trusted.tests-{number}"), &value, 0).is_ok())
        .count();
    assert!(made > 0);
    if made < 1000 {
        assert_eq!(file.set("trusted.tests-more", &value, 0), Err(libc::ENOSPC));
    }
    drop(file);
    assert_eq!(free_blocks(), before);
}

fn free_blocks() -> u64 {
    let mut status = std::mem::MaybeUninit::<libc::statfs>::zeroed();
    assert_eq!(syscall!(SYS_statfs, c"/tmp".as_ptr(), status.as_mut_ptr()), Ok(0));
    // SAFETY: the kernel filled it in, and zeroes are a value of it.
    unsafe { status.assume_init() }.f_bfree
}
