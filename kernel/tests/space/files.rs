//! Reads and writes of a file from and to a program's memory, some of which is not there.

use std::sync::Arc;

use kernel::{
    errno::Errno,
    fs::{
        Attempt, File, FileKind, Inode, Sink, Source, Stop, Transfer, UserSlice,
        file::WriteAt,
        inode::{NewFile, OpenRequest},
        tmpfs::{Limits, TmpFs},
    },
    mm::{AddressSpace, MapFlags, Prot},
};

use super::{Accounting, BASE, PAGE, RW, file, map, now, read, write};

fn open(limits: Limits) -> (Arc<dyn Inode>, Arc<dyn File>) {
    let root: Arc<dyn Inode> = TmpFs::create(limits, 0o755).unwrap();
    let inode = root
        .create_unnamed(&NewFile::new(FileKind::Regular, 0o600, 0, 0))
        .unwrap();
    let file = inode.clone().open(&OpenRequest { flags: 2, caller: None }).unwrap();
    (inode, file)
}

/// Attempts, as a call does, until nothing is left to be brought in; how many attempts that took.
fn attempts(
    space: &Arc<AddressSpace>,
    position: &mut u64,
    mut attempt: impl FnMut(&mut Transfer<'_>) -> Attempt<()>,
) -> (u32, Attempt<()>) {
    for count in 1.. {
        space.activate();
        let result = attempt(&mut Transfer {
            position,
            write_at: WriteAt::Position,
            flags: 0,
            caller: None,
        });
        match result {
            Err(Stop::Fault(fault)) => {
                if let Err(errno) = now(space.resolve(fault)) {
                    return (count, Err(errno.into()));
                }
            }
            result => return (count, result),
        }
    }
    unreachable!("attempts are not counted so far")
}

fn slice(address: u64, len: u64) -> UserSlice {
    UserSlice::new(address, len).unwrap()
}

#[test]
fn a_write_goes_on_where_a_page_was_missing() {
    let _accounting = Accounting::start();
    let (inode, file) = open(Limits::default());
    let space = AddressSpace::new().unwrap();
    map(&space, 0, 8, RW).unwrap();
    for page in [0, 2, 3] {
        for at in [0, 100, PAGE - 1] {
            write(&space, BASE + page * PAGE + at, page as u8 + 1).unwrap();
        }
    }
    // From the middle of a page to the middle of another; in the file likewise, but otherwise.
    let (mut position, mut source) = (PAGE - 50, Source::user_slice(slice(BASE + 100, 3 * PAGE)));
    let (count, result) = attempts(&space, &mut position, |transfer| file.write(transfer, &mut source));
    assert_eq!(
        (result, source.done(), position),
        (Ok(()), 3 * PAGE as usize, 4 * PAGE - 50)
    );
    assert_eq!(count, 2, "one page was missing");
    assert_eq!(
        (inode.attributes().size, inode.attributes().blocks),
        (4 * PAGE - 50, 4 * 8)
    );
    // And back, to pages none of which is there, by several runs.
    let runs = [slice(BASE + 5 * PAGE - 10, 20), slice(BASE + 6 * PAGE, 2 * PAGE)];
    let (mut position, mut sink) = (PAGE - 50, Sink::user(&runs));
    let (count, result) = attempts(&space, &mut position, |transfer| file.read(transfer, &mut sink));
    assert_eq!((result, sink.done()), (Ok(()), 20 + 2 * PAGE as usize));
    assert_eq!(count, 5, "each of four pages was missing");
    assert_eq!(read(&space, BASE + 5 * PAGE - 10), Ok(1));
    // The bytes that came from `BASE + 2 * PAGE + 100` and the last of the page before, which was zeroes.
    let at = |offset: u64| BASE + 6 * PAGE + offset - 120;
    assert_eq!(read(&space, at(2 * PAGE + 100)), Ok(3));
    assert_eq!(
        (read(&space, at(2 * PAGE)), read(&space, at(2 * PAGE - 1))),
        (Ok(3), Ok(0))
    );
    space.leave();
}

#[test]
fn what_cannot_be_read_or_written_ends_a_transfer_that_counts() {
    let _accounting = Accounting::start();
    let (inode, file) = open(Limits::default());
    let space = AddressSpace::new().unwrap();
    map(&space, 0, 1, RW).unwrap();
    map(&space, 1, 1, Prot::READ).unwrap();
    write(&space, BASE, 7).unwrap();
    write(&space, BASE + PAGE - 30, 9).unwrap();
    // Nothing can be had: nothing has changed, and no page has been made.
    let (mut position, mut source) = (10 * PAGE, Source::user_slice(slice(BASE + 2 * PAGE, 100)));
    let (_, result) = attempts(&space, &mut position, |transfer| file.write(transfer, &mut source));
    assert_eq!(
        (result, source.done(), position),
        (Err(Errno::EFAULT.into()), 0, 10 * PAGE)
    );
    assert_eq!((inode.attributes().size, inode.attributes().blocks), (0, 0));
    // Half can be had: it counts, and what follows in the page is zero.
    let (mut position, mut source) = (20, Source::user_slice(slice(BASE + 2 * PAGE - 30, 100)));
    let (_, result) = attempts(&space, &mut position, |transfer| file.write(transfer, &mut source));
    assert_eq!((result, source.done(), position), (Err(Errno::EFAULT.into()), 30, 50));
    assert_eq!((inode.attributes().size, inode.attributes().blocks), (50, 8));
    let mut bytes = [1; 60];
    let (mut position, mut sink) = (0, Sink::kernel(&mut bytes));
    attempts(&space, &mut position, |transfer| file.read(transfer, &mut sink))
        .1
        .unwrap();
    assert_eq!((sink.done(), bytes[..50].iter().all(|&byte| byte == 0)), (50, true));
    // A page that may not be written is no place to read to, but what comes before it is.
    let (mut position, mut sink) = (0, Sink::user_slice(slice(BASE + PAGE - 40, 50)));
    let (_, result) = attempts(&space, &mut position, |transfer| file.read(transfer, &mut sink));
    assert_eq!((result, sink.done(), position), (Err(Errno::EFAULT.into()), 40, 40));
    assert_eq!((read(&space, BASE + PAGE - 30), read(&space, BASE)), (Ok(0), Ok(7)));
    space.leave();
}

#[test]
fn a_new_page_holds_nothing_but_what_was_written() {
    let _accounting = Accounting::start();
    for _ in 0..3 {
        let (_inode, file) = open(Limits::default());
        let space = AddressSpace::new().unwrap();
        map(&space, 0, 1, RW).unwrap();
        for at in 0..PAGE {
            write(&space, BASE + at, 0xaa).unwrap();
        }
        for (page, offset, len) in [(0, 0, PAGE), (1, 100, 50), (2, 0, 1), (3, PAGE - 1, 1)] {
            let (mut position, mut source) = (page * PAGE + offset, Source::user_slice(slice(BASE, len)));
            attempts(&space, &mut position, |transfer| file.write(transfer, &mut source))
                .1
                .unwrap();
        }
        let mut bytes = vec![1; 4 * PAGE as usize];
        let mut sink = Sink::kernel(&mut bytes);
        attempts(&space, &mut 0, |transfer| file.read(transfer, &mut sink))
            .1
            .unwrap();
        let written = |at: u64| match at / PAGE {
            0 => true,
            1 => (100..150).contains(&(at % PAGE)),
            2 => at.is_multiple_of(PAGE),
            _ => at % PAGE == PAGE - 1,
        };
        for (at, byte) in (0..).zip(&bytes) {
            assert_eq!(*byte == 0xaa, written(at), "byte {at}");
            assert!([0, 0xaa].contains(byte));
        }
        space.leave();
    }
}

#[test]
fn a_file_is_copied_from_and_to_its_own_mapping() {
    let _accounting = Accounting::start();
    let (inode, file_) = open(Limits::default());
    let mut source = Source::kernel(&[5; 4096]);
    let space = AddressSpace::new().unwrap();
    attempts(&space, &mut 0, |transfer| file_.write(transfer, &mut source))
        .1
        .unwrap();
    let pager = inode.pager().unwrap();
    now(space.mmap(file(pager, 0, 2, RW, MapFlags::SHARED).fixed(BASE))).unwrap();
    // A page onto itself, and to the hole behind it, which the mapping shows then.
    for to in [0, PAGE] {
        let (mut position, mut source) = (to, Source::user_slice(slice(BASE, PAGE)));
        attempts(&space, &mut position, |transfer| file_.write(transfer, &mut source))
            .1
            .unwrap();
        assert_eq!(source.done(), PAGE as usize);
    }
    assert_eq!((read(&space, BASE), read(&space, BASE + 2 * PAGE - 1)), (Ok(5), Ok(5)));
    let (mut position, mut sink) = (0, Sink::user_slice(slice(BASE + PAGE, PAGE)));
    write(&space, BASE + 9, 6).unwrap();
    attempts(&space, &mut position, |transfer| file_.read(transfer, &mut sink))
        .1
        .unwrap();
    assert_eq!(read(&space, BASE + PAGE + 9), Ok(6));
    space.leave();
}

#[test]
fn a_full_file_system_takes_what_fits() {
    let _accounting = Accounting::start();
    let (inode, file) = open(Limits { pages: 2, inodes: 9 });
    let space = AddressSpace::new().unwrap();
    map(&space, 0, 4, RW).unwrap();
    let (mut position, mut source) = (100, Source::user_slice(slice(BASE, 4 * PAGE)));
    let (_, result) = attempts(&space, &mut position, |transfer| file.write(transfer, &mut source));
    assert_eq!(
        (result, source.done() as u64),
        (Err(Errno::ENOSPC.into()), 2 * PAGE - 100)
    );
    assert_eq!(inode.attributes().size, 2 * PAGE);
    space.leave();
}
