//! Files on tmpfs.

use std::{
    collections::BTreeSet,
    ffi::CString,
    fs,
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink},
};

use crate::{programs::Random, sys, syscall};

crate::tests! { "files":
    thousands_of_files (120) [frees];
    ten_thousand_names_are_listed_once (120);
    a_large_file_holds_what_was_written (120) [frees];
    sparse_files;
    rename_semantics;
    an_unlinked_file_lives_while_open [frees];
    links_and_symlinks;
    paths_of_every_length;
    an_answer_may_overwrite_its_question;
    a_mount_hides_what_it_covers;
    append_and_truncate;
    directories;
    open_flags;
    reads_and_writes_at_random_match_a_model;
    random_bytes;
    iovecs;
}

/// A directory of the test's own, removed at the end.
pub struct Scratch(String);

impl Scratch {
    /// Makes it.
    pub fn new(name: &str) -> Self {
        let path = format!("/tmp/tests-{name}-{}", std::process::id());
        fs::create_dir(&path).expect("mkdir in /tmp");
        Self(path)
    }

    /// A name in it.
    pub fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.0)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _left = fs::remove_dir_all(&self.0);
    }
}

fn error_of<T>(result: std::io::Result<T>) -> i32 {
    result.err().and_then(|error| error.raw_os_error()).unwrap_or(0)
}

fn thousands_of_files() {
    let scratch = Scratch::new("many");
    for index in 0..3000 {
        fs::write(
            scratch.path(&index.to_string()),
            format!("{index}\n").repeat(index % 50),
        )
        .expect("write");
    }
    for index in (0..3000).rev() {
        let text = fs::read_to_string(scratch.path(&index.to_string())).expect("read");
        assert_eq!(text, format!("{index}\n").repeat(index % 50));
    }
}

fn ten_thousand_names_are_listed_once() {
    let scratch = Scratch::new("names");
    for index in 0..10_000 {
        fs::File::create(scratch.path(&format!("name-{index}"))).expect("create");
    }
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(&scratch.0).expect("opendir") {
        assert!(names.insert(entry.expect("readdir").file_name()), "a name came twice");
    }
    assert_eq!(names.len(), 10_000);
    // Removing while listing: what was there throughout is listed, nothing twice.
    let mut seen = 0;
    for entry in fs::read_dir(&scratch.0).expect("opendir") {
        fs::remove_file(entry.expect("readdir").path()).expect("remove");
        seen += 1;
    }
    assert_eq!(seen, 10_000);
    assert_eq!(fs::read_dir(&scratch.0).expect("opendir").count(), 0);
}

fn a_large_file_holds_what_was_written() {
    let scratch = Scratch::new("large");
    let mut random = Random(42);
    let block: Vec<u8> = (0..1 << 16).map(|_| random.next() as u8).collect();
    let mut file = fs::File::create_new(scratch.path("f")).expect("create");
    for round in 0..256u32 {
        file.write_all(&round.to_le_bytes()).expect("write");
        file.write_all(&block).expect("write");
    }
    let mut file = fs::File::open(scratch.path("f")).expect("open");
    let mut got = vec![0; block.len()];
    for round in 0..256u32 {
        let mut number = [0; 4];
        file.read_exact(&mut number).expect("read");
        file.read_exact(&mut got).expect("read");
        assert_eq!(u32::from_le_bytes(number), round);
        assert!(got == block, "block {round} differs");
    }
}

fn sparse_files() {
    let scratch = Scratch::new("sparse");
    let file = fs::File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(scratch.path("f"))
        .expect("open");
    file.write_at(b"end", 1 << 33).expect("write");
    let metadata = file.metadata().expect("stat");
    assert_eq!(metadata.len(), (1 << 33) + 3);
    assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
    let mut middle = [1; 100];
    file.read_exact_at(&mut middle, 1 << 32).expect("read");
    assert_eq!(middle, [0; 100]);
    assert_eq!(
        error_of(file.write_at(b"x", i64::MAX as u64)),
        libc::EINVAL,
        "past the last offset"
    );
}

fn rename_semantics() {
    let scratch = Scratch::new("rename");
    let path = |name: &str| scratch.path(name);
    fs::write(path("a"), "a").expect("write");
    fs::write(path("b"), "b").expect("write");
    fs::rename(path("a"), path("b")).expect("rename over a file");
    assert_eq!(fs::read_to_string(path("b")).expect("read"), "a");
    assert_eq!(error_of(fs::rename(path("a"), path("c"))), libc::ENOENT);
    fs::create_dir(path("d")).expect("mkdir");
    fs::create_dir(path("e")).expect("mkdir");
    fs::write(path("e/x"), "").expect("write");
    assert_eq!(error_of(fs::rename(path("d"), path("e"))), libc::ENOTEMPTY);
    assert_eq!(error_of(fs::rename(path("b"), path("d"))), libc::EISDIR);
    assert_eq!(error_of(fs::rename(path("d"), path("b"))), libc::ENOTDIR);
    assert_eq!(error_of(fs::rename(path("d"), path("d/inside"))), libc::EINVAL);
    fs::rename(path("e"), path("d")).expect("rename over an empty directory");
    assert!(fs::metadata(path("d/x")).is_ok());
    let (from, to) = (CString::new(path("b")).expect("c"), CString::new(path("d")).expect("c"));
    let rename = |flags: u32| {
        syscall!(
            SYS_renameat2,
            libc::AT_FDCWD,
            from.as_ptr(),
            libc::AT_FDCWD,
            to.as_ptr(),
            flags
        )
    };
    assert_eq!(rename(libc::RENAME_NOREPLACE), Err(libc::EEXIST));
    assert_eq!(rename(libc::RENAME_EXCHANGE), Ok(0));
    assert!(fs::metadata(path("b")).expect("stat").is_dir() && fs::metadata(path("d")).expect("stat").is_file());
}

fn an_unlinked_file_lives_while_open() {
    let scratch = Scratch::new("unlink");
    let mut file = fs::File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(scratch.path("f"))
        .expect("open");
    file.write_all(&[7; 100_000]).expect("write");
    fs::remove_file(scratch.path("f")).expect("unlink");
    assert_eq!(error_of(fs::File::open(scratch.path("f"))), libc::ENOENT);
    assert_eq!(file.metadata().expect("stat").nlink(), 0);
    file.seek(SeekFrom::Start(99_999)).expect("seek");
    let mut rest = Vec::new();
    file.read_to_end(&mut rest).expect("read");
    assert_eq!(rest, [7]);
}

fn links_and_symlinks() {
    let scratch = Scratch::new("links");
    let path = |name: &str| scratch.path(name);
    fs::write(path("a"), "text").expect("write");
    fs::hard_link(path("a"), path("b")).expect("link");
    let (a, b) = (
        fs::metadata(path("a")).expect("stat"),
        fs::metadata(path("b")).expect("stat"),
    );
    assert_eq!((a.ino(), a.nlink()), (b.ino(), 2));
    symlink("b", path("s")).expect("symlink");
    assert_eq!(fs::read_to_string(path("s")).expect("read through"), "text");
    assert_eq!(fs::read_link(path("s")).expect("readlink").to_str(), Some("b"));
    symlink(path("loop2"), path("loop1")).expect("symlink");
    symlink(path("loop1"), path("loop2")).expect("symlink");
    assert_eq!(error_of(fs::read(path("loop1"))), libc::ELOOP);
    assert_eq!(error_of(fs::hard_link(&scratch.0, path("dir"))), libc::EPERM);
    assert_eq!(error_of(fs::read(path("a/b"))), libc::ENOTDIR);
    assert_eq!(error_of(fs::read(path(&"n".repeat(256)))), libc::ENAMETOOLONG);
}

/// The inode and its device that a path leads to.
fn stat(path: &[u8]) -> Result<(u64, u64), i32> {
    let path = CString::new(path).expect("no zero");
    let mut stat = [0u64; 32];
    syscall!(SYS_newfstatat, libc::AT_FDCWD, path.as_ptr(), stat.as_mut_ptr(), 0)?;
    Ok((stat[1], stat[0]))
}

fn paths_of_every_length() {
    let scratch = Scratch::new("paths");
    fs::write(scratch.path("0"), "").expect("write");
    for link in 1..=41 {
        symlink((link - 1).to_string(), scratch.path(&link.to_string())).expect("symlink");
    }
    let path = |name: &str| scratch.path(name).into_bytes();
    let file = stat(&path("0")).expect("stat");
    assert_eq!(stat(&path("40")), Ok(file), "as many links as may be");
    assert_eq!(stat(&path("41")), Err(libc::ELOOP));
    assert_eq!(stat(&path("1/")), Err(libc::ENOTDIR));
    assert_eq!(stat(&path(&"n".repeat(255))), Err(libc::ENOENT));
    assert_eq!(stat(&path(&"n".repeat(256))), Err(libc::ENAMETOOLONG));
    assert_eq!(stat(&path(&format!("{}/0", "n".repeat(256)))), Err(libc::ENAMETOOLONG));
    assert_eq!(stat(b""), Err(libc::ENOENT));
    // Through the directory again and again, up to the longest path.
    let start = path("");
    for length in (start.len() + 1..start.len() + 70).chain([4095, 4096, 5000]) {
        let mut long = start.clone();
        long.resize(length - 1, b'/');
        long.push(b'0');
        let answer = if length < 4096 {
            Ok(file)
        } else {
            Err(libc::ENAMETOOLONG)
        };
        assert_eq!(stat(&long), answer, "{length} bytes");
    }
    // A path that ends where memory ends, and an answer for which none is there.
    let pages = sys::memory(8192);
    syscall!(SYS_munmap, pages + 4096, 4096).expect("munmap");
    for length in 1..=16 {
        let at = pages + 4096 - length - 1;
        (0..length).for_each(|byte| sys::poke(at + byte, b'/'));
        sys::poke(at + length, 0);
        let mut stat = [0u64; 32];
        assert_eq!(
            syscall!(SYS_newfstatat, libc::AT_FDCWD, at, stat.as_mut_ptr(), 0),
            Ok(0)
        );
        assert_eq!(
            syscall!(SYS_newfstatat, libc::AT_FDCWD, at, pages + 4096 - 8, 0),
            Err(libc::EFAULT)
        );
    }
}

fn an_answer_may_overwrite_its_question() {
    let own = stat(b"/").expect("stat");
    // The answer's second page has never been touched, or is shared with the parent.
    let pages = sys::memory(8192);
    let ask = || {
        let at = pages + 4096 - 16;
        [b'/', 0]
            .into_iter()
            .enumerate()
            .for_each(|(byte, value)| sys::poke(at + byte, value));
        assert_eq!(syscall!(SYS_newfstatat, libc::AT_FDCWD, at, at, 0), Ok(0));
        let word = |from: usize| u64::from_ne_bytes(std::array::from_fn(|byte| sys::peek(at + from + byte)));
        assert_eq!((word(8), word(0)), own);
    };
    ask();
    sys::in_child(ask);
}

fn a_mount_hides_what_it_covers() {
    let scratch = Scratch::new("mounts");
    let path = |name: &str| scratch.path(name).into_bytes();
    fs::create_dir_all(scratch.path("below/deep")).expect("mkdir");
    symlink("below", scratch.path("link")).expect("symlink");
    let (above, covered) = (stat(&path("")), stat(&path("below")));
    let target = CString::new(scratch.path("below")).expect("no zero");
    let mount = || syscall!(SYS_mount, c"none".as_ptr(), target.as_ptr(), c"tmpfs".as_ptr(), 0, 0).expect("mount");
    let unmount = || syscall!(SYS_umount2, target.as_ptr(), 0).expect("umount2");
    mount();
    let first = stat(&path("below"));
    assert!(first.is_ok() && first != covered);
    assert_eq!(stat(&path("below/deep")), Err(libc::ENOENT));
    assert_eq!((stat(&path("link/")), stat(&path("below/."))), (first, first));
    assert_eq!(stat(&path("below/..")), above);
    mount();
    let second = stat(&path("link"));
    assert!(second.is_ok() && second != first && second != covered);
    assert_eq!(stat(&path("link/..")), above);
    unmount();
    assert_eq!(stat(&path("below")), first);
    unmount();
    assert_eq!(stat(&path("below")), covered);
    assert!(stat(&path("below/deep")).is_ok());
}

fn append_and_truncate() {
    let scratch = Scratch::new("append");
    fs::write(scratch.path("f"), "start").expect("write");
    let mut one = fs::File::options().append(true).open(scratch.path("f")).expect("open");
    let mut two = fs::File::options().append(true).open(scratch.path("f")).expect("open");
    one.write_all(b"-1").expect("write");
    two.write_all(b"-2").expect("write");
    one.write_all(b"-3").expect("write");
    assert_eq!(fs::read_to_string(scratch.path("f")).expect("read"), "start-1-2-3");
    one.set_len(3).expect("truncate");
    one.set_len(6).expect("extend");
    assert_eq!(fs::read(scratch.path("f")).expect("read"), b"sta\0\0\0");
    assert_eq!(
        error_of(fs::File::open(&scratch.0).and_then(|directory| directory.set_len(0))),
        libc::EINVAL
    );
}

fn directories() {
    let scratch = Scratch::new("dirs");
    let path = |name: &str| scratch.path(name);
    fs::create_dir_all(path("a/b/c")).expect("mkdir -p");
    assert_eq!(error_of(fs::create_dir(path("a"))), libc::EEXIST);
    assert_eq!(error_of(fs::remove_dir(path("a"))), libc::ENOTEMPTY);
    assert_eq!(error_of(fs::remove_file(path("a"))), libc::EISDIR);
    assert_eq!(fs::metadata(path("a")).expect("stat").nlink(), 3);
    std::env::set_current_dir(path("a/b")).expect("chdir");
    assert_eq!(
        std::env::current_dir().expect("getcwd").to_str(),
        Some(path("a/b").as_str())
    );
    assert!(fs::metadata("../b/./c/..").expect("stat").is_dir());
    fs::set_permissions("c", fs::Permissions::from_mode(0o1750)).expect("chmod");
    assert_eq!(fs::metadata("c").expect("stat").mode() & 0o7777, 0o1750);
    fs::remove_dir("c").expect("rmdir");
    std::env::set_current_dir("/").expect("chdir");
}

fn open_flags() {
    let scratch = Scratch::new("open");
    let open = |name: &str, flags: i32| {
        let path = CString::new(scratch.path(name)).expect("c");
        syscall!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0o600)
    };
    let file = open("f", libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY).expect("open") as i32;
    assert_eq!(open("f", libc::O_CREAT | libc::O_EXCL), Err(libc::EEXIST));
    assert_eq!(sys::read(file, &mut [0]), Err(libc::EBADF), "write-only");
    assert_eq!(open("f", libc::O_DIRECTORY), Err(libc::ENOTDIR));
    assert_eq!(open("", libc::O_WRONLY), Err(libc::EISDIR));
    assert_eq!(open("absent", 0), Err(libc::ENOENT));
    symlink("f", scratch.path("s")).expect("symlink");
    assert_eq!(open("s", libc::O_NOFOLLOW), Err(libc::ELOOP));
    sys::write(file, b"text").expect("write");
    open("f", libc::O_WRONLY | libc::O_TRUNC).expect("truncate");
    assert_eq!(fs::metadata(scratch.path("f")).expect("stat").len(), 0);
    assert_eq!(syscall!(SYS_lseek, file, -1i64, libc::SEEK_SET), Err(libc::EINVAL));
    assert_eq!(syscall!(SYS_lseek, file, 10, libc::SEEK_END), Ok(10));
}

fn reads_and_writes_at_random_match_a_model() {
    let scratch = Scratch::new("model");
    let file = fs::File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(scratch.path("f"))
        .expect("open");
    let mut model: Vec<u8> = Vec::new();
    let mut random = Random(0xfeed);
    for round in 0..2000 {
        let at = random.below(100_000);
        let length = random.below(9000);
        match random.below(8) {
            0 => {
                file.set_len(at as u64).expect("truncate");
                model.resize(at, 0);
            }
            1..=3 => {
                let bytes = vec![round as u8; length];
                file.write_all_at(&bytes, at as u64).expect("write");
                model.resize(model.len().max(at + length), 0);
                model[at..at + length].copy_from_slice(&bytes);
            }
            _ => {
                let mut bytes = vec![0; length];
                let got = file.read_at(&mut bytes, at as u64).expect("read");
                let expected = &model[at.min(model.len())..(at + length).min(model.len())];
                assert!(bytes[..got] == *expected, "round {round}: {got} bytes at {at} differ");
            }
        }
    }
}

fn random_bytes() {
    let mut first = [0u8; 64];
    let mut second = [0u8; 64];
    assert_eq!(syscall!(SYS_getrandom, first.as_mut_ptr(), 64, 0), Ok(64));
    assert_eq!(syscall!(SYS_getrandom, second.as_mut_ptr(), 64, 0), Ok(64));
    assert_ne!(first, second);
    assert_eq!(
        syscall!(SYS_getrandom, first.as_mut_ptr(), 64, 0x100),
        Err(libc::EINVAL)
    );
    let mut file = fs::File::open("/dev/urandom").expect("/dev/urandom");
    file.read_exact(&mut first).expect("read");
    assert_ne!(first, second);
    let mut zeroes = [1; 100];
    fs::File::open("/dev/zero")
        .expect("/dev/zero")
        .read_exact(&mut zeroes)
        .expect("read");
    assert_eq!(zeroes, [0; 100]);
    let mut full = fs::File::options().write(true).open("/dev/full").expect("/dev/full");
    assert_eq!(error_of(full.write(b"x")), libc::ENOSPC);
}

fn iovecs() {
    let (reader, writer) = sys::pipe(0);
    let (a, b) = (*b"hello ", *b"world");
    let parts = [
        libc::iovec {
            iov_base: a.as_ptr() as *mut _,
            iov_len: 6,
        },
        libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        },
        libc::iovec {
            iov_base: b.as_ptr() as *mut _,
            iov_len: 5,
        },
    ];
    assert_eq!(syscall!(SYS_writev, writer, parts.as_ptr(), 3), Ok(11));
    let (mut x, mut y) = ([0u8; 4], [0u8; 20]);
    let parts = [
        libc::iovec {
            iov_base: x.as_mut_ptr().cast(),
            iov_len: 4,
        },
        libc::iovec {
            iov_base: y.as_mut_ptr().cast(),
            iov_len: 20,
        },
    ];
    assert_eq!(syscall!(SYS_readv, reader, parts.as_ptr(), 2), Ok(11));
    assert_eq!((&x, &y[..7]), (b"hell", &b"o world"[..]));
    assert_eq!(syscall!(SYS_writev, writer, parts.as_ptr(), 2000), Err(libc::EINVAL));
    assert_eq!(syscall!(SYS_writev, writer, parts.as_ptr(), 0), Ok(0));
}
