//! A root file system that is an archive on a partition: by system calls, and broken in every way.

use std::{future::Future, pin::Pin};

use kernel::{
    errno::Errno,
    fs::{
        FileKind, FsContext, Inode,
        archive::{self, Fault, MAGIC},
        block_device::{self, Volume},
        boot::mount_disk,
        mount,
        nameless::Anonymous,
    },
    syscall::{fs, memory},
};
use proptest::prelude::*;

use super::{
    common::now,
    device::{Caller, install},
    *,
};

/// A writer of archives.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

/// What is written of an entry besides name and contents.
#[derive(Clone, Copy)]
struct Entry {
    mode: u32,
    links: u32,
    /// Of another entry with the same, this is one more name.
    inode: Option<u32>,
    rdev: (u32, u32),
    owner: (u32, u32),
    /// Its contents begin at a page.
    aligned: bool,
}

const FILE: Entry = Entry {
    mode: 0o100_644,
    links: 1,
    inode: None,
    rdev: (0, 0),
    owner: (0, 0),
    aligned: false,
};

impl Archive {
    fn add(&mut self, name: &str, entry: Entry, data: &[u8]) -> &mut Self {
        self.inode += 1;
        let mut name = name.as_bytes().to_vec();
        name.push(0);
        while entry.aligned && !(self.bytes.len() + 110 + name.len()).is_multiple_of(4096) {
            name.push(0);
        }
        self.bytes.extend_from_slice(b"070701");
        for field in [
            entry.inode.unwrap_or(1000 + self.inode),
            entry.mode,
            entry.owner.0,
            entry.owner.1,
            entry.links,
            1_600_000_000 + self.inode,
            data.len() as u32,
            0,
            0,
            entry.rdev.0,
            entry.rdev.1,
            name.len() as u32,
            0,
        ] {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        for part in [&name[..], data] {
            self.bytes.extend_from_slice(part);
            self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        }
        self
    }

    fn finish(&mut self) -> Vec<u8> {
        self.add("TRAILER!!!", Entry { mode: 0, ..FILE }, &[]);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        std::mem::take(&mut self.bytes)
    }
}

fn mode(mode: u32) -> Entry {
    Entry { mode, ..FILE }
}

const LARGE: usize = 300_000;

/// An archive with one of everything.
fn sample() -> Vec<u8> {
    let mut large = pattern(LARGE);
    large.reverse();
    let linked = Entry {
        links: 2,
        inode: Some(7),
        ..FILE
    };
    Archive::default()
        .add(".", mode(0o040_755), &[])
        .add("bin", mode(0o040_755), &[])
        .add(
            "bin/large",
            Entry {
                aligned: true,
                ..mode(0o100_755)
            },
            &large,
        )
        .add("bin/odd", mode(0o100_755), &large[..10_000])
        .add("bin/empty", FILE, &[])
        .add("bin/sh", mode(0o120_777), b"large")
        .add("deep/down/here", FILE, b"hello")
        .add("first", linked, &[])
        .add("second", linked, b"of two names")
        .add(
            "null",
            Entry {
                rdev: (1, 3),
                ..mode(0o020_666)
            },
            &[],
        )
        .add("pipe", mode(0o010_600), &[])
        .add(
            "secret",
            Entry {
                owner: (5, 6),
                ..mode(0o100_600)
            },
            b"...",
        )
        .add("bin/odd", mode(0o100_700), &large[..9_999])
        .finish()
}

/// The root of an archive that is a whole disk.
fn open(drive: &Drive) -> std::result::Result<Arc<dyn Inode>, Fault> {
    let cache = PageCache::new(drive.disk().clone()).unwrap();
    drive.wait(archive::open(&whole(&cache)))
}

fn open_bytes(mut bytes: Vec<u8>) -> std::result::Result<Arc<dyn Inode>, Fault> {
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    open(&Drive::new(Kind::default(), bytes))
}

fn context(root: Arc<dyn Inode>) -> FsContext {
    let flags = linux_raw_sys::general::MS_RDONLY;
    FsContext::new(mount::mount(root, None, "/dev/x", archive::KIND, flags).unwrap().root())
}

#[test]
fn everything_is_where_it_was_put() {
    let _accounting = Accounting::start();
    let drive = Drive::new(Kind::default(), sample());
    let root = open(&drive).unwrap();
    let find = |path: &str| {
        path.split('/')
            .try_fold(root.clone(), |directory, name| directory.lookup(name.as_bytes()))
    };
    let large = find("bin/large").unwrap().attributes();
    assert_eq!(
        (large.kind, large.size, large.permissions),
        (FileKind::Regular, LARGE as u64, 0o755)
    );
    assert_eq!((large.links, large.blocks), (1, (LARGE as u64).div_ceil(512)));
    assert_eq!(large.modified.seconds, 1_600_000_003);
    let odd = find("bin/odd").unwrap().attributes();
    assert_eq!((odd.size, odd.permissions), (9_999, 0o700), "the later one counts");
    let [first, second] = ["first", "second"].map(|name| find(name).unwrap());
    assert_eq!(first.identity(), second.identity());
    assert_eq!((first.attributes().links, first.attributes().size), (2, 12));
    let null = find("null").unwrap().attributes();
    assert_eq!(
        (null.kind, null.rdev.major, null.rdev.minor),
        (FileKind::CharDevice, 1, 3)
    );
    let secret = find("secret").unwrap().attributes();
    assert_eq!((secret.uid, secret.gid, secret.permissions), (5, 6, 0o600));
    assert_eq!(find("bin/sh").unwrap().attributes().size, 5);
    assert_eq!(find("deep/down").unwrap().attributes().links, 2);
    assert_eq!(root.attributes().links, 4, "two directories");
    assert_eq!(find("bin/none").err(), Some(Errno::ENOENT));
    assert_eq!(find("bin/odd/none").err(), Some(Errno::ENOTDIR));
    assert!(find("pipe").unwrap().fifo().is_ok());
    let status = root.status();
    assert_eq!((status.magic, status.free_blocks, status.files), (MAGIC, 0, 14));
    let read: u64 = drive.take_reads().iter().map(|read| read.end - read.start).sum();
    assert!(read < 300, "{read} sectors read for headers: files are not to be read");
}

#[test]
fn programs_read_it_and_cannot_change_it() {
    let _accounting = Accounting::start();
    let drive = Drive::new(Kind::default(), sample());
    let caller = Caller::new(context(open(&drive).unwrap()));
    let (t, at) = (&caller.thread, caller.memory);
    let mut large = pattern(LARGE);
    large.reverse();
    for (name, size) in [("/bin/sh", LARGE), ("/bin/odd", 9_999)] {
        let fd = caller.open(name, 0).unwrap();
        assert_eq!(
            drive.wait(fs::read(t, fd, at, LARGE as u64 + 1)),
            Ok(size as u64),
            "{name}"
        );
        assert!(caller.bytes(at, size) == large[..size], "{name}");
        assert_eq!(now(fs::read(t, fd, at, 10)), Ok(0));
        // Mapped, the last page with zeroes behind the end; and again once nothing of it is in memory.
        for _ in 0..2 {
            let length = (size as u64).next_multiple_of(PAGE);
            let mapped = now(memory::mmap(t, 0, length + PAGE, 5, 2, fd, 0)).unwrap();
            let mut bytes = vec![1; length as usize];
            assert_eq!(drive.wait(t.mm().read_bytes(mapped, &mut bytes)), Ok(()));
            assert!(bytes[..size] == large[..size], "{name}");
            assert!(bytes[size..].iter().all(|byte| *byte == 0), "{name}");
            let past = drive.wait(t.mm().read_bytes(mapped + length, &mut [0]));
            assert_eq!(past, Err(Errno::EFAULT));
            now(memory::munmap(t, mapped, length + PAGE)).unwrap();
            kernel::mm::AddressSpace::deactivate_current();
            kernel::mm::reclaim::reclaim(usize::MAX);
            assert_eq!(kernel::mm::reclaim::cached_pages(), 0);
        }
        assert_eq!(now(memory::mmap(t, 0, PAGE, 3, 1, fd, 0)), Err(Errno::EACCES));
    }
    let directory = caller.open("/bin", linux_raw_sys::general::O_DIRECTORY).unwrap();
    let length = now(fs::getdents64(t, directory, at, 4096)).unwrap() as usize;
    let listing = String::from_utf8_lossy(&caller.bytes(at, length)).into_owned();
    for name in ["empty", "large", "odd", "sh"] {
        assert_eq!(listing.matches(&format!("{name}\0")).count(), 1, "{listing:?}");
    }
    assert_eq!(now(fs::getdents64(t, directory, at, 4096)), Ok(0));
    for flags in [1, 2, 0o1000] {
        assert_eq!(caller.open("/bin/odd", flags), Err(Errno::EROFS));
    }
    assert_eq!(caller.open("/new", 0o101), Err(Errno::EROFS));
    assert_eq!(now(fs::mkdirat(t, -100, caller.name("/new"), 0o700)), Err(Errno::EROFS));
    assert_eq!(
        now(fs::unlinkat(t, -100, caller.name("/bin/odd"), 0)),
        Err(Errno::EROFS)
    );
    assert_eq!(
        now(fs::unlinkat(t, -100, caller.name("/bin"), 0x200)),
        Err(Errno::EROFS)
    );
    assert_eq!(now(fs::truncate(t, caller.name("/bin/odd"), 0)), Err(Errno::EROFS));
    assert_eq!(
        now(fs::fchmodat(t, -100, caller.name("/bin/odd"), 0)),
        Err(Errno::EROFS)
    );
    assert_eq!(
        now(fs::utimensat(t, -100, caller.name("/bin/odd"), 0, 0)),
        Err(Errno::EROFS)
    );
    assert_eq!(
        caller.open("/bin/odd", linux_raw_sys::general::O_DIRECT),
        Err(Errno::EINVAL),
        "O_DIRECT"
    );
    let name = caller.name("/");
    now(fs::user::with_faults(t, || fs::statfs(t, name, at))).unwrap();
    let status = caller.bytes(at, 88);
    assert_eq!(status[..8], u64::from(MAGIC).to_le_bytes());
    assert_eq!(status[80] & 1, 1, "ST_RDONLY");
    drive.spoil(0..10_000);
    let fd = caller.open("/bin/large", 0).unwrap();
    assert_eq!(drive.wait(fs::read(t, fd, at, 100)), Err(Errno::EIO));
}

#[test]
fn copies_are_given_back_and_made_anew_under_many_hands() {
    let _accounting = Accounting::start();
    let drive = Drive::new(Kind::default(), sample());
    let root = open(&drive).unwrap();
    let pager = root.lookup(b"bin").unwrap().lookup(b"odd").unwrap().pager().unwrap();
    let waits = |index| {
        let pager = pager.clone();
        let wait: Pin<Box<dyn Future<Output = _>>> = Box::pin(async move {
            let attempt = || match pager.page(index) {
                Err(Errno::EAGAIN) => None,
                made => Some(made.unwrap()),
            };
            match attempt() {
                Some(made) => made,
                None => pager.arrivals(index).unwrap().wait_again_until(attempt).await,
            }
        });
        wait
    };
    for _ in 0..3 {
        let pages = drive.run(vec![waits(1), waits(1), waits(2), waits(1)], |pending| pending - 1);
        assert!(pages[0].address() == pages[1].address() && pages[0].address() == pages[3].address());
        let mut bytes = [0; 4096];
        pages[2].read(0, &mut bytes);
        let mut large = pattern(LARGE);
        large.reverse();
        assert_eq!(bytes[..9_999 - 8192], large[8192..9_999]);
        assert!(bytes[9_999 - 8192..].iter().all(|byte| *byte == 0));
        drop(pages);
        drive.answer_all();
        kernel::mm::reclaim::reclaim(usize::MAX);
        assert_eq!(kernel::mm::reclaim::cached_pages(), 0);
    }
    assert_eq!(pager.page(3).unwrap_err(), Errno::ENXIO);
    assert_eq!(pager.page_for_write(0).unwrap_err(), Errno::EROFS);
}

#[test]
fn a_root_is_found_on_its_partition() {
    let _accounting = Accounting::start();
    let mut bytes = gpt::with_table(512, 4 << 20, &[("EFI System", 64, 2047), ("root", 2048, 6000)]);
    let archive = sample();
    bytes[2048 * 512..][..archive.len()].copy_from_slice(&archive);
    let drive = Drive::new(
        Kind {
            name: "vdr",
            ..Kind::default()
        },
        bytes,
    );
    install(&drive);
    let identifier = block_device::by_name("vdr2").unwrap().partition().unwrap().identifier;
    let by_identifier = format!("PARTUUID={identifier}");
    for description in ["/dev/vdr2", &by_identifier] {
        let root = drive.wait(mount_disk(description, Some("ext4,cpio")));
        let caller = Caller::new(root.unwrap());
        let fd = caller.open("/deep/down/here", 0).unwrap();
        assert_eq!(drive.wait(fs::read(&caller.thread, fd, caller.memory, 100)), Ok(5));
        assert_eq!(caller.bytes(caller.memory, 5), b"hello");
        let mounts = mount::mounts();
        assert_eq!(mounts.last().unwrap().source(), "/dev/vdr2");
    }
    let error = |description, kind| drive.wait(mount_disk(description, kind)).err().unwrap();
    assert!(error("/dev/vdr3", None).contains("vdr1 (EFI System) vdr2 (root)"));
    assert!(error("/dev/vdr1", None).contains("no cpio archive"));
    assert!(error("/dev/vdr2", Some("ext4")).contains("only cpio"));
    let caller = Caller::new(super::device::devices());
    let mounted = |flags| {
        let t = &caller.thread;
        let source = caller.name("/vdr2");
        now(t.mm().write_bytes(caller.memory, b"/shm\0cpio\0")).unwrap();
        drive.wait(fs::mount(t, source, caller.memory, caller.memory + 5, flags, 0))
    };
    assert_eq!(mounted(0), Err(Errno::EROFS));
    assert_eq!(mounted(1), Ok(0));
    assert!(caller.open("/shm/bin/large", 0).is_ok());
    assert_eq!(mounted(0x20), Err(Errno::EROFS), "remounted, writable");
    now(fs::umount2(&caller.thread, caller.name("/shm"), 2)).unwrap();
}

#[test]
fn what_is_no_archive_is_refused_with_its_reason() {
    let _accounting = Accounting::start();
    let refused = |bytes: Vec<u8>| match open_bytes(bytes) {
        Err(Fault::Damaged(reason)) => reason,
        Err(fault) => panic!("{fault:?}"),
        Ok(_) => panic!("it was taken"),
    };
    assert!(matches!(open_bytes(vec![0; 4096]), Err(Fault::NoArchive)));
    let cut: Vec<u8> = sample()[..200_000].to_vec();
    assert!(refused(cut).contains("longer than the archive"));
    let entry = |name: &str, entry: Entry, data: &[u8]| Archive::default().add(name, entry, data).finish();
    assert!(refused(entry("a/../b", FILE, b"")).contains("out of its directory"));
    assert!(refused(entry(&"x".repeat(256), FILE, b"")).contains("too long"));
    assert!(refused(entry("untyped", mode(0), b"")).contains("untyped: it has no type"));
    assert!(refused(entry("link", mode(0o120_777), b"")).contains("no length"));
    assert!(refused(entry(".", FILE, b"")).contains("no directory"));
    assert!(refused(entry(&"d/".repeat(200), mode(0o040_755), b"")).contains("too deep"));
    let both = Archive::default()
        .add("a", FILE, b"file")
        .add("a/b", FILE, b"below a file")
        .finish();
    assert!(refused(both).contains("taken for a directory"));
    let both = Archive::default()
        .add("a/b", FILE, b"below")
        .add("a", FILE, b"in a directory's place")
        .finish();
    assert!(refused(both).contains("a directory has its name"));
    let mut unended = sample();
    let at = unended.windows(10).rposition(|window| window == b"TRAILER!!!").unwrap();
    unended[at] = b'X';
    // What is no trailer is a file without a type.
    assert!(refused(unended).contains("it has no type"));
    let drive = Drive::new(Kind::default(), sample());
    drive.spoil(0..1);
    assert!(matches!(open(&drive), Err(Fault::Errno(Errno::EIO))));
}

#[test]
fn without_memory_there_is_no_root_and_nothing_is_lost() {
    let _accounting = Accounting::start();
    let bytes = sample();
    let drive = Drive::new(Kind::default(), bytes);
    let cache = PageCache::new(drive.disk().clone()).unwrap();
    let extent = whole(&cache);
    let taken: Vec<_> = core::iter::from_fn(|| frame::allocate().ok()).collect();
    assert!(matches!(
        drive.wait(archive::open(&extent)),
        Err(Fault::Errno(Errno::ENOMEM))
    ));
    drop(taken);
    assert!(drive.wait(archive::open(&extent)).is_ok());
    let _ = Volume::new(extent);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever an archive says: it is taken or refused; what is taken can be walked and read to its end.
    #[test]
    fn no_archive_does_harm(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..8)) {
        let _accounting = Accounting::start();
        let mut bytes = sample();
        let headers: Vec<usize> = (0..bytes.len() - 6).filter(|&at| bytes[at..].starts_with(b"070701")).collect();
        for (index, value, digit) in changes {
            // Anywhere in a header or name, digits mostly.
            let at = headers[index.index(headers.len())] + index.index(130 * 7) / 7;
            let value = if digit { b"0123456789abcdef"[usize::from(value) % 16] } else { value };
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        let drive = Drive::new(Kind::default(), bytes);
        if let Ok(root) = open(&drive) {
            let mut seen = 0;
            visit(&drive, &root, &mut seen);
            prop_assert!(seen < 40);
        }
    }
}

fn visit(drive: &Drive, directory: &Arc<dyn Inode>, seen: &mut u32) {
    let request = kernel::fs::inode::OpenRequest { flags: 0, caller: None };
    let mut names = Vec::new();
    let listed = directory
        .clone()
        .open(&request)
        .unwrap()
        .read_directory(&mut 0, &mut |entry| {
            if !matches!(entry.name, b"." | b"..") {
                names.push(entry.name.to_vec());
            }
            Ok(())
        });
    listed.unwrap();
    for name in names {
        *seen += 1;
        let inode = directory.lookup(&name).unwrap();
        match inode.kind() {
            FileKind::Directory => visit(drive, &inode, seen),
            FileKind::Regular => {
                let file = Arc::new(kernel::fs::OpenFile::anonymous(
                    inode.clone().open(&request).unwrap(),
                    Anonymous::EventFd,
                    0,
                ));
                let mut bytes = vec![0; inode.attributes().size as usize + 1];
                let read = drive.wait(file.read_kernel(0, &mut bytes)).unwrap();
                assert_eq!(read + 1, bytes.len());
            }
            _ => {}
        }
    }
}
