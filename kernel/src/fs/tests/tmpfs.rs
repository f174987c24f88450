//! tmpfs against a model: random operations on a file's bytes, and on names.

use alloc::sync::Arc;
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{read, write};
use crate::{
    errno::Errno,
    fs::{
        File, FileKind, Inode,
        attributes::SetAttributes,
        inode::{NewFile, OpenRequest, RenameMode},
        tmpfs::{Limits, TmpFs},
    },
};

fn new_root() -> Arc<dyn Inode> {
    TmpFs::create(Limits::default(), 0o755).unwrap()
}

fn open(inode: &Arc<dyn Inode>) -> Arc<dyn File> {
    inode.clone().open(&OpenRequest { flags: 2, caller: None }).unwrap()
}

const REGULAR: NewFile<'_> = NewFile::new(FileKind::Regular, 0o644, 0, 0);
const DIRECTORY: NewFile<'_> = NewFile::new(FileKind::Directory, 0o755, 0, 0);

#[test]
fn a_removed_file_lives_on_and_its_memory_comes_back() {
    let root = new_root();
    let free = root.status();
    let inode = root.create(b"f", &REGULAR).unwrap();
    let file = open(&inode);
    assert_eq!(write(&file, 5000, b"hello"), (5, Ok(())));
    root.unlink(b"f").unwrap();
    assert_eq!(inode.attributes().links, 0);
    assert_eq!(read(&file, 4998, 20).unwrap(), b"\0\0hello");
    drop((file, inode));
    assert_eq!(root.status(), free);
}

#[test]
fn limits_are_enospc() {
    let root: Arc<dyn Inode> = TmpFs::create(Limits { pages: 2, inodes: 3 }, 0o755).unwrap();
    let a = root.create(b"a", &REGULAR).unwrap();
    root.create(b"b", &REGULAR).unwrap();
    assert_eq!(root.create(b"c", &REGULAR).err(), Some(Errno::ENOSPC));
    assert_eq!(write(&open(&a), 0, &[1; 10_000]).0, 8192);
    assert_eq!(a.attributes().size, 8192);
    root.unlink(b"a").unwrap();
    drop(a);
    root.create(b"c", &REGULAR).unwrap();
}

#[test]
fn renames() {
    let root = new_root();
    let a = root.create(b"a", &DIRECTORY).unwrap();
    let b = a.create(b"b", &DIRECTORY).unwrap();
    root.create(b"f", &REGULAR).unwrap();
    let rename = |from: &Arc<dyn Inode>, name: &[u8], to: &Arc<dyn Inode>, new: &[u8]| {
        from.rename(name, to, new, RenameMode::Replace)
    };
    assert_eq!(rename(&root, b"a", &b, b"x"), Err(Errno::EINVAL));
    assert_eq!(rename(&root, b"f", &root, b"a"), Err(Errno::EISDIR));
    assert_eq!(rename(&root, b"a", &root, b"f"), Err(Errno::ENOTDIR));
    assert_eq!(rename(&a, b"b", &root, b"a"), Err(Errno::ENOTEMPTY));
    assert_eq!(
        root.rename(b"f", &root, b"a", RenameMode::NoReplace),
        Err(Errno::EEXIST)
    );
    assert_eq!(a.rename(b"b", &root, b"f", RenameMode::Exchange), Ok(()));
    assert_eq!((root.attributes().links, a.attributes().links), (4, 2));
    assert_eq!(a.lookup(b"b").unwrap().kind(), FileKind::Regular);
    assert_eq!(b.place().unwrap().1, b"f");
    assert_eq!(root.remove_directory(b"a"), Err(Errno::ENOTEMPTY));
    a.unlink(b"b").unwrap();
    root.remove_directory(b"a").unwrap();
    assert_eq!(a.create(b"late", &REGULAR).err(), Some(Errno::ENOENT));
}

#[test]
fn a_listing_survives_removals() {
    let root = new_root();
    for index in 0..100u8 {
        root.create(&[b'n', index + 100], &REGULAR).unwrap();
    }
    let file = open(&root);
    let mut seen = Vec::new();
    let mut position = 0;
    loop {
        let mut room = 7;
        let before = seen.len();
        let _ = file.read_directory(&mut position, &mut |entry| {
            if room == 0 {
                return Err(Errno::EINVAL.into());
            }
            room -= 1;
            seen.push(entry.name.to_vec());
            Ok(())
        });
        if seen.len() == before {
            break;
        }
        // What has been listed goes; the rest must still come, once.
        for name in seen.iter().skip(2) {
            let _ = root.unlink(name);
        }
    }
    assert_eq!(seen.len(), 102);
    assert!(root.lookup(&[b'n', 150]).is_err());
}

#[derive(Clone, Debug)]
enum Step {
    Write(u32, u16, u8),
    Truncate(u32),
    Read(u32, u16),
    Punch(u32, u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let at = 0u32..70_000;
    let step = prop_oneof![
        (at.clone(), 0u16..9000, any::<u8>()).prop_map(|(at, len, byte)| Step::Write(at, len, byte)),
        at.clone().prop_map(Step::Truncate),
        (at.clone(), 0u16..20_000).prop_map(|(at, len)| Step::Read(at, len)),
        (at.clone(), 1u32..30_000).prop_map(|(at, len)| Step::Punch(at, len)),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #[test]
    fn bytes_as_in_a_vector(steps in steps()) {
        let root = new_root();
        let inode = root.create(b"f", &REGULAR).unwrap();
        let file = open(&inode);
        let mut model: Vec<u8> = Vec::new();
        for step in steps {
            match step {
                Step::Write(at, len, byte) => {
                    let (at, len) = (at as usize, usize::from(len));
                    prop_assert_eq!(write(&file, at as u64, &vec![byte; len]), (len, Ok(())));
                    if len > 0 {
                        model.resize(model.len().max(at + len), 0);
                        model[at..at + len].fill(byte);
                    }
                }
                Step::Truncate(size) => {
                    inode.set_attributes(&SetAttributes { size: Some(size.into()), ..Default::default() }).unwrap();
                    model.resize(size as usize, 0);
                }
                Step::Read(at, len) => {
                    let start = (at as usize).min(model.len());
                    let end = (start + usize::from(len)).min(model.len());
                    prop_assert_eq!(&read(&file, at.into(), len.into()).unwrap()[..], &model[start..end]);
                }
                Step::Punch(at, len) => {
                    let mode = linux_raw_sys::general::FALLOC_FL_PUNCH_HOLE | linux_raw_sys::general::FALLOC_FL_KEEP_SIZE;
                    file.allocate(mode, at.into(), len.into()).unwrap();
                    let (start, end) = ((at as usize).min(model.len()), ((at + len) as usize).min(model.len()));
                    model[start..end].fill(0);
                }
            }
            prop_assert_eq!(inode.attributes().size, model.len() as u64);
        }
        prop_assert_eq!(read(&file, 0, model.len()).unwrap(), model);
    }

    #[test]
    fn names_as_in_a_map(steps in proptest::collection::vec((0u8..5, 0u8..6, 0u8..6), 1..80)) {
        let root = new_root();
        let mut model: BTreeMap<u8, u64> = BTreeMap::new();
        for (what, a, b) in steps {
            let (from, to) = ([b'a' + a], [b'a' + b]);
            match what {
                0 => match root.create(&from, &REGULAR) {
                    Ok(made) => prop_assert_eq!(model.insert(a, made.attributes().inode), None),
                    Err(errno) => prop_assert!(errno == Errno::EEXIST && model.contains_key(&a)),
                },
                1 => prop_assert_eq!(root.unlink(&from).is_ok(), model.remove(&a).is_some()),
                2 => {
                    let found = root.lookup(&from);
                    prop_assert_eq!(found.as_ref().ok().map(|inode| inode.attributes().inode), model.get(&a).copied());
                    if let Ok(inode) = found {
                        let done = root.link(&to, &inode);
                        prop_assert_eq!(done.is_ok(), !model.contains_key(&b));
                        if done.is_ok() {
                            model.insert(b, inode.attributes().inode);
                        }
                    }
                }
                3 => {
                    let done = root.rename(&from, &root, &to, RenameMode::Replace);
                    prop_assert_eq!(done.is_ok(), model.contains_key(&a));
                    if let Some(&number) = model.get(&a)
                        && model.get(&b) != Some(&number)
                    {
                        model.remove(&a);
                        model.insert(b, number);
                    }
                }
                _ => {
                    let done = root.rename(&from, &root, &to, RenameMode::Exchange);
                    prop_assert_eq!(done.is_ok(), model.contains_key(&a) && model.contains_key(&b));
                    if done.is_ok() {
                        let (x, y) = (model[&a], model[&b]);
                        model.insert(a, y);
                        model.insert(b, x);
                    }
                }
            }
            for (name, number) in &model {
                let inode = root.lookup(&[b'a' + name]).unwrap();
                prop_assert_eq!(inode.attributes().inode, *number);
                let links = model.values().filter(|other| *other == number).count();
                prop_assert_eq!(inode.attributes().links as usize, links);
            }
        }
    }
}
