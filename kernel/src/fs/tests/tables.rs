//! Descriptors, paths and the initramfs.

use alloc::sync::Arc;
use core::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use proptest::prelude::*;

use crate::{
    errno::Errno,
    fs::{
        DeviceNumber, FdTable, FileKind, Inode, OnExec, OpenFile, initramfs,
        inode::{LinkText, NewFile, OpenRequest},
        locks::{self, Lock, LockKind, Owner},
        mount, nameless,
        open_file::PathFile,
        path::{self, Base, LastLink, Named, find, path_of, walk},
        tmpfs::{Limits, TmpFs},
    },
    mm::frame::{self, loaded_tests},
    task::Credentials,
};

fn file() -> Arc<OpenFile> {
    let place = nameless::pipe(&Credentials::root()).0;
    Arc::new(OpenFile::new(Arc::new(PathFile), place, 0))
}

#[test]
fn the_lowest_free_descriptor() {
    let table = FdTable::new();
    for expected in 0..5 {
        assert_eq!(table.insert(file(), OnExec::Keep, 5), Ok(expected));
    }
    assert_eq!(table.insert(file(), OnExec::Keep, 5), Err(Errno::EMFILE));
    table.remove(3).unwrap();
    table.remove(1).unwrap();
    assert_eq!(table.insert_from(file(), 2, OnExec::Keep, 5), Ok(3));
    assert_eq!(table.insert(file(), OnExec::Close, 5), Ok(1));
    assert_eq!(table.insert_from(file(), 9, OnExec::Keep, 5), Err(Errno::EINVAL));
    assert!(matches!(table.replace(9, file(), OnExec::Keep, 5), Err(Errno::EBADF)));
    let child = table.fork().unwrap();
    child.close_on_exec();
    assert_eq!(child.descriptors(), [0, 2, 3, 4]);
    assert_eq!(table.descriptors(), [0, 1, 2, 3, 4]);
    assert!(matches!(table.get(-1), Err(Errno::EBADF)));
}

#[test]
fn a_fork_copies_no_more_of_a_table_than_is_open() {
    let table = FdTable::new();
    for fd in [0, 2, 900] {
        table.replace(fd, file(), OnExec::Keep, 1024).unwrap();
    }
    assert_eq!(table.fork().unwrap().size(), 901);
    table.remove(900).unwrap();
    let child = table.fork().unwrap();
    assert_eq!((child.size(), child.descriptors()), (3, vec![0, 2]));
    // The table is as it was, for what comes into it again.
    table.replace(700, file(), OnExec::Keep, 1024).unwrap();
    assert_eq!(table.fork().unwrap().descriptors(), [0, 2, 700]);
    for fd in [0, 2, 700] {
        table.remove(fd).unwrap();
    }
    let empty = table.fork().unwrap();
    assert_eq!(empty.size(), 0);
    assert_eq!(empty.insert(file(), OnExec::Keep, 1024), Ok(0));
}

#[test]
fn a_table_that_loses_a_descriptor_loses_its_locks() {
    let open = file();
    let other = FdTable::new();
    let lock = |table: &FdTable| Lock {
        owner: Owner::table(table),
        pid: 1,
        kind: LockKind::Exclusive,
        start: 0,
        end: 10,
    };
    // Each way to lose one of two descriptors of the file.
    type Way = fn(Arc<FdTable>) -> Option<Arc<FdTable>>;
    let ways: [Way; 4] = [
        |table| {
            table.remove(0).unwrap();
            Some(table)
        },
        |table| {
            table.replace(1, file(), OnExec::Keep, 10).unwrap();
            Some(table)
        },
        |table| {
            table.close_on_exec();
            Some(table)
        },
        |table| {
            drop(table);
            None
        },
    ];
    for way in ways {
        let table = Arc::new(FdTable::new());
        table.insert(open.clone(), OnExec::Close, 10).unwrap();
        table.insert(open.clone(), OnExec::Keep, 10).unwrap();
        assert_eq!(locks::lock(&open, &lock(&table)), Ok(true));
        assert_eq!(locks::lock(&open, &lock(&other)), Ok(false));
        drop(table.fork().unwrap());
        assert_eq!(
            locks::lock(&open, &lock(&other)),
            Ok(false),
            "a copy has no locks to let go"
        );
        let left = way(table);
        assert_eq!(locks::conflict(&open, &lock(&other)), None);
        drop(left);
    }
}

#[test]
fn paths() {
    let root: Arc<dyn Inode> = TmpFs::create(Limits::default(), 0o755).unwrap();
    let directory = |at: &Arc<dyn Inode>, name: &[u8]| {
        at.create(name, &NewFile::new(FileKind::Directory, 0o755, 0, 0))
            .unwrap()
    };
    let a = directory(&root, b"a");
    let b = directory(&a, b"b");
    b.create(b"file", &NewFile::new(FileKind::Regular, 0o644, 0, 0))
        .unwrap();
    let link = |name: &[u8], target: &'static [u8]| {
        let mut new = NewFile::new(FileKind::Symlink, 0o777, 0, 0);
        new.target = target;
        root.create(name, &new).unwrap();
    };
    link(b"to-b", b"a//b/");
    link(b"loop", b"/loop");
    link(b"new", b"a/made");
    let top = mount::mount(root, None, "test", "tmpfs", 0).unwrap().root();
    let credentials = Credentials::root();
    let base = Base {
        root: top.clone(),
        start: Some(top.clone()),
        credentials: &credentials,
        limits: path::Limits::empty(),
    };
    let found_at = |path: &[u8]| {
        let found = find(&base, path, LastLink::Follow)?;
        match path_of(&found, &top) {
            Named::Path(path) => Ok(String::from_utf8(path).unwrap()),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(found_at(b"/").unwrap(), "/");
    assert_eq!(found_at(b"//../..").unwrap(), "/");
    assert_eq!(found_at(b"to-b/../b/./file").unwrap(), "/a/b/file");
    assert_eq!(found_at(b"a/b/").unwrap(), "/a/b");
    assert_eq!(found_at(b"to-b/").unwrap(), "/a/b");
    assert_eq!(found_at(b""), Err(Errno::ENOENT));
    assert_eq!(found_at(b"a/b/file/"), Err(Errno::ENOTDIR));
    assert_eq!(found_at(b"a/b/file/x"), Err(Errno::ENOTDIR));
    assert_eq!(found_at(b"loop"), Err(Errno::ELOOP));
    assert_eq!(found_at(b"none/x"), Err(Errno::ENOENT));
    assert_eq!(found_at(&[b'x'; 256]), Err(Errno::ENAMETOOLONG));
    assert_eq!(found_at(&[b'/'; 4096]), Err(Errno::ENAMETOOLONG));
    let walked = walk(&base, b"new", LastLink::Follow).unwrap();
    assert!(walked.target.is_none() && &walked.name[..] == b"made");
    let user = Credentials {
        fsuid: 5,
        euid: 5,
        ..Credentials::default()
    };
    let base = Base {
        credentials: &user,
        ..base.clone()
    };
    a.set_attributes(&crate::fs::attributes::SetAttributes {
        permissions: Some(0o700),
        ..Default::default()
    })
    .unwrap();
    assert!(matches!(walk(&base, b"a/b", LastLink::Follow), Err(Errno::EACCES)));
}

#[test]
fn device_numbers() {
    for number in [
        DeviceNumber::new(1, 3),
        DeviceNumber::new(204, 64),
        DeviceNumber::new(8, 0x12345),
    ] {
        assert_eq!(DeviceNumber::decode(number.encode() as u32), number);
    }
}

fn archive(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, mode, data) in files.iter().chain([&("TRAILER!!!", 0, b"".as_slice())]) {
        let fields = [
            1,
            *mode,
            0,
            0,
            1,
            0,
            data.len() as u32,
            0,
            0,
            0,
            0,
            name.len() as u32 + 1,
            0,
        ];
        out.extend_from_slice(b"070701");
        for field in fields {
            out.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        out.extend_from_slice(name.as_bytes());
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend_from_slice(data);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

fn sample() -> Vec<u8> {
    archive(&[
        ("bin", 0o040_755, b""),
        ("bin/sh", 0o100_755, &[7; 10_000]),
        ("deep/er/link", 0o120_777, b"../sh"),
        ("dev-node", 0o020_600, b""),
    ])
}

#[test]
fn unpacks() {
    let root: Arc<dyn Inode> = TmpFs::create(Limits::default(), 0o755).unwrap();
    let report = initramfs::unpack(&root, &mut sample().as_slice()).unwrap();
    assert_eq!((report.files, report.bytes), (4, 10_000));
    let sh = root.lookup(b"bin").unwrap().lookup(b"sh").unwrap();
    assert_eq!((sh.attributes().size, sh.attributes().mode()), (10_000, 0o100_755));
    let link = root
        .lookup(b"deep")
        .unwrap()
        .lookup(b"er")
        .unwrap()
        .lookup(b"link")
        .unwrap();
    let mut text = LinkText::new();
    link.read_link(&mut text).unwrap();
    assert_eq!(&text[..], b"../sh");
    assert!(initramfs::unpack(&root, &mut b"".as_slice()).is_err());
}

#[test]
fn the_archive_s_memory_becomes_free_as_it_is_unpacked() {
    let _alone = loaded_tests::ALONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let contents: std::vec::Vec<u8> = (0..2_000_000).map(|at: u32| (at / 7) as u8).collect();
    let bytes = archive(&[("big", 0o100_644, &contents), ("small", 0o100_644, b"x")]);
    let root: Arc<dyn Inode> = TmpFs::create(Limits::default(), 0o755).unwrap();
    let before = frame::stats().total;
    let mut loaded = loaded_tests::loaded(&bytes);
    let place = initramfs::find(loaded.bytes(), b"small").unwrap();
    assert_eq!(loaded.keep(place), Some(b"x".as_slice()));
    initramfs::unpack(&root, &mut loaded).unwrap();
    let given = frame::stats().total - before;
    assert!(
        (contents.len() / 4096 - 3..=bytes.len() / 4096).contains(&given),
        "{given} frames"
    );
    drop(loaded);
    let big = root.lookup(b"big").unwrap();
    assert_eq!(big.attributes().size, contents.len() as u64);
    let request = OpenRequest { flags: 0, caller: None };
    let open = OpenFile::new(big.clone().open(&request).unwrap(), nameless::place(big), 0);
    let mut read = std::vec![0; contents.len()];
    let count = pin!(open.read_kernel(0, &mut read)).poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(count, Poll::Ready(Ok(contents.len())));
    assert!(read == contents, "what was freed was not read again");
}

proptest! {
    #[test]
    fn damaged_archives_do_not_panic(cut in 0usize..11_000, at in 0usize..11_000, byte in any::<u8>()) {
            let mut bytes = sample();
        let at = at % bytes.len();
        bytes[at] = byte;
        bytes.truncate(cut.min(bytes.len()));
        let root: Arc<dyn Inode> = TmpFs::create(Limits::default(), 0o755).unwrap();
        let _ = initramfs::unpack(&root, &mut bytes.as_slice());
        let whole = sample();
        if cut < whole.len() - 4 {
            prop_assert!(initramfs::unpack(&root, &mut &whole[..cut]).is_err());
        }
    }
}
