//! `openat2`: what it refuses, and walks that may not leave a directory, a mount, or follow links.

use std::{
    ffi::CString,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use crate::{sys, syscall};

// linux/openat2.h
const NO_XDEV: u64 = 1;
const NO_MAGICLINKS: u64 = 2;
const NO_SYMLINKS: u64 = 4;
const BENEATH: u64 = 8;
const IN_ROOT: u64 = 0x10;
const CACHED: u64 = 0x20;

crate::tests! { "resolving":
    flags_that_make_no_sense_are_refused;
    the_structure_may_be_longer;
    nothing_leads_out_of_a_directory;
    a_directory_is_the_root;
    links_are_not_followed;
    mounts_are_not_crossed;
    files_are_made_beneath;
}

/// A directory that goes when this does.
struct Place(PathBuf);

impl Place {
    /// Files `file` and `sub/file`, links that lead to them, out, and to the root.
    fn new(name: &str) -> Self {
        let path = Path::new("/tmp").join(name);
        fs::create_dir_all(path.join("sub")).expect("directories");
        for file in ["file", "sub/file"] {
            fs::write(path.join(file), file).expect("a file");
        }
        for (target, link) in [
            ("sub/file", "inner"),
            ("../file", "sub/up"),
            ("../../tmp", "sub/out"),
            ("/file", "absolute"),
            ("/proc/self/cwd", "magic"),
        ] {
            symlink(target, path.join(link)).expect("a link");
        }
        Self(path)
    }

    fn open(&self) -> i32 {
        let path = CString::new(self.0.to_str().expect("UTF-8")).expect("a path");
        syscall!(
            SYS_openat,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::O_PATH | libc::O_DIRECTORY
        )
        .expect("open") as i32
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn openat2(directory: i32, path: &str, flags: i32, mode: u64, resolve: u64) -> Result<i32, i32> {
    let path = CString::new(path).expect("a path");
    let how = [flags as u32 as u64, mode, resolve];
    syscall!(SYS_openat2, directory, path.as_ptr(), how.as_ptr(), 24).map(|fd| fd as i32)
}

/// What opening by a walk with limits comes to.
fn walk(directory: i32, path: &str, resolve: u64) -> Result<(), i32> {
    openat2(directory, path, libc::O_RDONLY, 0, resolve).map(sys::close)
}

fn flags_that_make_no_sense_are_refused() {
    for (flags, mode, resolve) in [
        (libc::O_RDONLY, 0o600, 0),
        (libc::O_PATH, 0o600, 0),
        (libc::O_PATH | libc::O_RDWR, 0, 0),
        (libc::O_PATH | libc::O_CREAT, 0, 0),
        (libc::O_TMPFILE | libc::O_PATH, 0, 0),
        (libc::O_TMPFILE | libc::O_CREAT | libc::O_RDWR, 0o600, 0),
        (libc::O_TMPFILE, 0o600, 0),
        (libc::O_RDONLY, 0, BENEATH | IN_ROOT),
        (libc::O_RDONLY, 0, 0x40),
    ] {
        let made = openat2(libc::AT_FDCWD, "/tmp", flags, mode, resolve);
        assert_eq!(made, Err(libc::EINVAL), "{flags:#o} {mode:#o} {resolve:#x}");
    }
    let unnamed = openat2(libc::AT_FDCWD, "/tmp", libc::O_TMPFILE | libc::O_RDWR, 0o600, 0).expect("O_TMPFILE");
    let flags = syscall!(SYS_fcntl, unnamed, libc::F_GETFL).expect("F_GETFL") as i32;
    assert_eq!(flags & libc::O_TMPFILE, libc::O_TMPFILE);
    assert_eq!(
        openat2(libc::AT_FDCWD, "/tmp/x", libc::O_CREAT | libc::O_RDWR, 0o600, CACHED),
        Err(libc::EAGAIN)
    );
}

fn the_structure_may_be_longer() {
    let path = c"/tmp";
    let mut how = [0_u64; 600];
    let open = |how: &[u64; 600], size: usize| {
        syscall!(SYS_openat2, libc::AT_FDCWD, path.as_ptr(), how.as_ptr(), size).map(|fd| sys::close(fd as i32))
    };
    assert_eq!(open(&how, 23), Err(libc::EINVAL));
    assert_eq!(open(&how, 0), Err(libc::EINVAL));
    assert_eq!(open(&how, 24), Ok(()));
    assert_eq!(open(&how, 4096), Ok(()), "zeroes");
    assert_eq!(open(&how, 4097), Err(libc::E2BIG));
    how[3] = 1;
    assert_eq!(open(&how, 25), Err(libc::E2BIG));
    assert_eq!(open(&how, 24), Ok(()));
}

fn nothing_leads_out_of_a_directory() {
    let place = Place::new("beneath");
    let directory = place.open();
    for (path, expected) in [
        ("file", Ok(())),
        ("sub/../file", Ok(())),
        ("inner", Ok(())),
        ("sub/up", Ok(())),
        ("..", Err(libc::EXDEV)),
        ("sub/../..", Err(libc::EXDEV)),
        ("sub/out", Err(libc::EXDEV)),
        ("absolute", Err(libc::EXDEV)),
        ("/file", Err(libc::EXDEV)),
        ("magic", Err(libc::EXDEV)),
        ("none", Err(libc::ENOENT)),
    ] {
        assert_eq!(walk(directory, path, BENEATH), expected, "{path}");
    }
    sys::close(directory);
}

fn a_directory_is_the_root() {
    let place = Place::new("in-root");
    let directory = place.open();
    for (path, expected) in [
        ("/file", Ok(())),
        ("../../../file", Ok(())),
        ("absolute", Ok(())),
        ("sub/../../../sub/up", Ok(())),
        ("sub/out", Err(libc::ENOENT)),
        ("/tmp", Err(libc::ENOENT)),
        ("magic", Err(libc::ENOENT)),
    ] {
        assert_eq!(walk(directory, path, IN_ROOT), expected, "{path}");
    }
    sys::close(directory);
}

fn links_are_not_followed() {
    let place = Place::new("links");
    let directory = place.open();
    assert_eq!(walk(directory, "sub/file", NO_SYMLINKS), Ok(()));
    assert_eq!(walk(directory, "inner", NO_SYMLINKS), Err(libc::ELOOP));
    assert_eq!(walk(directory, "inner", NO_MAGICLINKS), Ok(()));
    assert_eq!(walk(directory, "magic", NO_MAGICLINKS), Err(libc::ELOOP));
    assert_eq!(
        walk(libc::AT_FDCWD, "/proc/self/status", NO_MAGICLINKS),
        Ok(()),
        "a link with a text"
    );
    assert_eq!(walk(libc::AT_FDCWD, "/proc/self/fd/0", NO_MAGICLINKS), Err(libc::ELOOP));
    let link = openat2(directory, "inner", libc::O_PATH | libc::O_NOFOLLOW, 0, NO_SYMLINKS).expect("the link itself");
    sys::close(link);
    sys::close(directory);
}

fn mounts_are_not_crossed() {
    let place = Place::new("mounts");
    let directory = place.open();
    assert_eq!(walk(directory, "sub/../inner", NO_XDEV), Ok(()));
    assert_eq!(walk(directory, "magic", NO_XDEV), Err(libc::EXDEV));
    // /tmp and /proc are mounts of their own.
    assert_eq!(walk(libc::AT_FDCWD, "/", NO_XDEV), Ok(()));
    assert_eq!(walk(libc::AT_FDCWD, "/proc", NO_XDEV), Err(libc::EXDEV));
    assert_eq!(walk(libc::AT_FDCWD, "/proc/self", NO_XDEV), Err(libc::EXDEV));
    assert_eq!(
        walk(libc::AT_FDCWD, "/proc/../", NO_XDEV),
        Err(libc::EXDEV),
        "nor crossed twice"
    );
    sys::close(directory);
}

fn files_are_made_beneath() {
    let place = Place::new("made");
    let directory = place.open();
    let new = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY;
    sys::close(openat2(directory, "sub/../new", new, 0o600, BENEATH).expect("a new file"));
    assert!(place.0.join("new").exists());
    assert_eq!(
        openat2(directory, "../new-outside", new, 0o600, BENEATH),
        Err(libc::EXDEV)
    );
    assert!(!Path::new("/tmp/new-outside").exists());
    sys::close(openat2(directory, "../new-inside", new, 0o600, IN_ROOT).expect("a new file"));
    assert!(place.0.join("new-inside").exists());
    sys::close(directory);
}
