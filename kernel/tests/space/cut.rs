//! Files that shrink while they are mapped, and forks in steps: what each lets the other see.

use std::{
    future::Future,
    ops::Range,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
};

use hal::trap::Access;
use kernel::{
    errno::Result,
    fs::{
        FileKind, Inode,
        attributes::SetAttributes,
        inode::{NewFile, OpenRequest},
        tmpfs::{Limits, TmpFs},
    },
    mm::{
        AddressSpace, FaultError, Frame, Map, MapFlags, Pager, frame,
        pager::{self, Copies, Mappings},
    },
};

use linux_raw_sys::general as linux;

use super::{Accounting, PAGE, RW, file, now, write};

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Polls to the end; how many polls it took.
fn finish<T>(future: impl Future<Output = T>) -> (T, u32) {
    let mut future = pin!(future);
    let mut polls = 1;
    loop {
        match poll(future.as_mut()) {
            Poll::Ready(value) => return (value, polls),
            Poll::Pending => polls += 1,
        }
    }
}

/// A file of so many pages.
pub fn tmpfs_file(pages: u64) -> (Arc<dyn Inode>, Arc<dyn Pager>) {
    let root: Arc<dyn Inode> = TmpFs::create(Limits::default(), 0o755).unwrap();
    let inode = root
        .create_unnamed(&NewFile::new(FileKind::Regular, 0o600, 0, 0))
        .unwrap();
    resize(&inode, pages * PAGE);
    let pager = inode.pager().unwrap();
    (inode, pager)
}

pub fn resize(inode: &Arc<dyn Inode>, size: u64) {
    let change = SetAttributes {
        size: Some(size),
        ..SetAttributes::default()
    };
    inode.set_attributes(&change).unwrap();
}

fn map(space: &Arc<AddressSpace>, pager: &Arc<dyn Pager>, first: u64, pages: u64, sharing: MapFlags) -> u64 {
    now(space.mmap(file(pager.clone(), first * PAGE, pages, RW, sharing))).unwrap()
}

fn access(space: &Arc<AddressSpace>, address: u64) -> core::result::Result<(), FaultError> {
    now(space.fault(address, Access::Read))
}

#[test]
fn what_is_cut_off_is_gone_from_every_space() {
    let _accounting = Accounting::start();
    let (inode, pager) = tmpfs_file(4);
    let (one, two) = (AddressSpace::new().unwrap(), AddressSpace::new().unwrap());
    let shared = map(&one, &pager, 0, 4, MapFlags::SHARED);
    let later = map(&one, &pager, 2, 2, MapFlags::SHARED);
    let private = map(&two, &pager, 0, 4, MapFlags::PRIVATE);
    let anonymous = now(two.mmap(Map::anonymous(PAGE, RW))).unwrap();
    write(&two, anonymous, 1).unwrap();
    for page in 0..4 {
        write(&one, shared + page * PAGE, 7).unwrap();
        write(&two, private + page * PAGE, 8).unwrap();
    }
    write(&one, shared + PAGE + 100, 9).unwrap();
    access(&one, later).unwrap();
    let child = now(one.fork()).unwrap();
    write(&child, shared + 3 * PAGE, 7).unwrap();

    resize(&inode, PAGE + 50);
    now(pager::cut(&pager, 2..u64::MAX, Copies::Go));
    for space in [&one, &child] {
        assert_eq!(access(space, shared + PAGE), Ok(()));
        assert_eq!(now(space.read::<u8>(shared + PAGE + 100)), Ok(0), "the tail is zero");
        assert_eq!(access(space, shared + 2 * PAGE), Err(FaultError::Bus));
        assert_eq!(access(space, shared + 3 * PAGE), Err(FaultError::Bus));
        assert_eq!(access(space, later), Err(FaultError::Bus));
    }
    assert_eq!(
        access(&two, private + 3 * PAGE),
        Err(FaultError::Bus),
        "private copies go as well"
    );
    assert_eq!(now(two.read::<u8>(private + PAGE)), Ok(8));
    assert_eq!(now(two.read::<u8>(anonymous)), Ok(1));
    // Grown again it is zeroes, for everybody.
    resize(&inode, 4 * PAGE);
    assert_eq!(now(one.read::<u8>(shared + 3 * PAGE)), Ok(0));
    [one, two, child].iter().for_each(|space| space.leave());
}

/// Punches a hole into the file, as `fallocate` does.
pub fn punch(inode: &Arc<dyn Inode>, pager: &Arc<dyn Pager>, pages: Range<u64>) {
    let file = inode.clone().open(&OpenRequest { flags: 2, caller: None }).unwrap();
    let mode = linux::FALLOC_FL_PUNCH_HOLE | linux::FALLOC_FL_KEEP_SIZE;
    file.allocate(mode, pages.start * PAGE, (pages.end - pages.start) * PAGE)
        .unwrap();
    finish(pager::cut(pager, pages, Copies::Stay));
}

#[test]
fn a_hole_shows_zeroes_everywhere_but_in_private_copies() {
    let _accounting = Accounting::start();
    let (inode, pager) = tmpfs_file(4);
    let (one, two) = (AddressSpace::new().unwrap(), AddressSpace::new().unwrap());
    let shared = map(&one, &pager, 0, 4, MapFlags::SHARED);
    let private = map(&two, &pager, 0, 4, MapFlags::PRIVATE);
    for page in 0..4 {
        write(&one, shared + page * PAGE, 7).unwrap();
    }
    // One page is a copy, which a child has as well; the rest is the file's, read.
    write(&two, private + PAGE, 8).unwrap();
    for page in [0, 2, 3] {
        assert_eq!(now(two.read::<u8>(private + page * PAGE)), Ok(7));
    }
    let child = now(two.fork()).unwrap();
    punch(&inode, &pager, 1..3);
    for (page, byte) in [(0, 7), (1, 0), (2, 0), (3, 7)] {
        assert_eq!(
            now(one.read::<u8>(shared + page * PAGE)),
            Ok(byte),
            "shared page {page}"
        );
    }
    for space in [&two, &child] {
        for (page, byte) in [(0, 7), (1, 8), (2, 0), (3, 7)] {
            assert_eq!(
                now(space.read::<u8>(private + page * PAGE)),
                Ok(byte),
                "private page {page}"
            );
        }
    }
    // A page that was the file's and has become the program's own stays with it.
    write(&two, private + 3 * PAGE, 9).unwrap();
    punch(&inode, &pager, 0..4);
    assert_eq!(now(two.read::<u8>(private + 3 * PAGE)), Ok(9));
    assert_eq!(now(two.read::<u8>(private)), Ok(0));
    [one, two, child].iter().for_each(|space| space.leave());
}

#[test]
fn a_large_hole_is_made_in_steps_around_the_copies() {
    const PAGES: u64 = 1500;
    let _accounting = Accounting::start();
    let (inode, pager) = tmpfs_file(PAGES);
    let space = AddressSpace::new().unwrap();
    let at = map(&space, &pager, 0, PAGES, MapFlags::PRIVATE);
    for page in 0..PAGES {
        if page % 3 == 0 || (400..1000).contains(&page) {
            write(&space, at + page * PAGE, 1).unwrap();
        } else {
            access(&space, at + page * PAGE).unwrap();
        }
    }
    let before = space.resident_pages();
    punch(&inode, &pager, 0..PAGES);
    let of_file = (0..PAGES)
        .filter(|page| page % 3 != 0 && !(400..1000).contains(page))
        .count() as u64;
    assert_eq!(space.resident_pages(), before - of_file);
    space.leave();
}

/// A file that is cut just after it has answered: the answer is stale when the fault goes on.
struct Racing {
    inode: Arc<dyn Inode>,
    pager: Arc<dyn Pager>,
    armed: AtomicBool,
}

impl Pager for Racing {
    fn page(&self, index: u64) -> Result<Frame> {
        let answer = self.pager.page(index);
        if self.armed.swap(false, SeqCst) {
            resize(&self.inode, 0);
            now(pager::cut(&self.pager, 0..u64::MAX, Copies::Go));
        }
        answer
    }

    fn mappings(&self) -> Option<&Mappings> {
        self.pager.mappings()
    }
}

#[test]
fn a_page_that_was_cut_off_meanwhile_is_not_mapped() {
    let _accounting = Accounting::start();
    for sharing in [MapFlags::SHARED, MapFlags::PRIVATE] {
        for wanted in [Access::Read, Access::Write] {
            let (inode, pager) = tmpfs_file(1);
            let racing: Arc<dyn Pager> = Arc::new(Racing {
                inode,
                pager,
                armed: AtomicBool::new(true),
            });
            let space = AddressSpace::new().unwrap();
            let at = map(&space, &racing, 0, 1, sharing);
            assert_eq!(
                now(space.fault(at, wanted)),
                Err(FaultError::Bus),
                "{sharing:?} {wanted:?}"
            );
            space.leave();
        }
    }
}

#[test]
fn memory_comes_back_bit_by_bit() {
    let _accounting = Accounting::start();
    let (inode, pager) = tmpfs_file(5000);
    let before = frame::stats().free;
    for index in 0..5000 {
        drop(pager.page(index).unwrap());
    }
    resize(&inode, PAGE);
    let ((), polls) = finish(pager::cut(&pager, 1..u64::MAX, Copies::Go));
    assert!(polls > 5, "{polls} polls for 5000 pages");
    assert!(frame::stats().free + 16 > before, "all but a page and its nodes");
    // Dropped half-way, the rest goes with the file.
    for index in 1..5000 {
        resize(&inode, 5000 * PAGE);
        drop(pager.page(index).unwrap());
    }
    resize(&inode, 0);
    let mut cut = Box::pin(pager::cut(&pager, 0..u64::MAX, Copies::Go));
    assert!(poll(cut.as_mut()).is_pending());
}

/// Pages enough for a fork to let others run in between.
const MANY: u64 = 5000;

fn large() -> (Arc<AddressSpace>, u64) {
    let space = AddressSpace::new().unwrap();
    let at = now(space.mmap(Map::anonymous(MANY * PAGE, RW))).unwrap();
    for page in 0..MANY {
        write(&space, at + page * PAGE, page as u8).unwrap();
    }
    (space, at)
}

#[test]
fn calls_that_change_areas_wait_for_a_fork() {
    let _accounting = Accounting::start();
    let (space, at) = large();
    let child = {
        let mut fork = pin!(space.fork());
        assert!(poll(fork.as_mut()).is_pending());
        let mut unmap = pin!(space.munmap(at + 4999 * PAGE, PAGE));
        let mut map = pin!(space.mmap(Map::anonymous(PAGE, RW).fixed(at)));
        let mut second = pin!(space.fork());
        // Shared already: another CPU may still write to it by a translation from before.
        let mut write_shared = pin!(space.fault(at, Access::Write));
        assert!(poll(unmap.as_mut()).is_pending() && poll(map.as_mut()).is_pending());
        assert!(poll(second.as_mut()).is_pending() && poll(write_shared.as_mut()).is_pending());
        assert_eq!(now(space.read::<u8>(at)), Ok(0), "reads do not wait");
        write(&space, at + 4998 * PAGE, 77).unwrap();
        let (child, polls) = finish(fork);
        assert!(polls > 1);
        let child = child.unwrap();
        assert_eq!(poll(write_shared.as_mut()), Poll::Ready(Ok(())));
        assert_eq!(poll(unmap.as_mut()), Poll::Ready(Ok(())));
        assert_eq!(poll(map.as_mut()), Poll::Ready(Ok(at)));
        let (second, _) = finish(second);
        second.unwrap().leave();
        child
    };
    for page in [0, 1, 2047, 2048, 4997, 4999] {
        assert_eq!(now(child.read::<u8>(at + page * PAGE)), Ok(page as u8), "page {page}");
    }
    // A write that does not wait is seen or not, as on Linux.
    assert!([77, 4998_u64 as u8].contains(&now(child.read::<u8>(at + 4998 * PAGE)).unwrap()));
    space.leave();
    child.leave();
}

#[test]
fn a_fork_that_is_dropped_lets_everybody_go_on() {
    let _accounting = Accounting::start();
    let (space, at) = large();
    {
        let mut fork = Box::pin(space.fork());
        assert!(poll(fork.as_mut()).is_pending());
        let mut wait = pin!(space.fault(at, Access::Write));
        assert!(poll(wait.as_mut()).is_pending());
        drop(fork);
        assert_eq!(poll(wait.as_mut()), Poll::Ready(Ok(())));
    }
    write(&space, at + PAGE, 1).unwrap();
    space.leave();
}

#[test]
fn a_file_cut_during_a_fork_is_cut_in_the_child() {
    let _accounting = Accounting::start();
    let (space, _) = large();
    let (inode, pager) = tmpfs_file(2);
    // Below the large area, so that the fork has passed it when the file shrinks.
    let at = map(&space, &pager, 0, 2, MapFlags::PRIVATE);
    write(&space, at + PAGE, 5).unwrap();
    let child = {
        let mut fork = pin!(space.fork());
        assert!(poll(fork.as_mut()).is_pending());
        resize(&inode, PAGE);
        let mut cut = pin!(pager::cut(&pager, 1..u64::MAX, Copies::Go));
        assert!(poll(cut.as_mut()).is_pending(), "it waits for the fork");
        let (child, _) = finish(fork);
        finish(cut);
        child.unwrap()
    };
    assert_eq!(access(&space, at + PAGE), Err(FaultError::Bus));
    assert_eq!(access(&child, at + PAGE), Err(FaultError::Bus));
    space.leave();
    child.leave();
}

/// The memory of what is punched out is free for the file system when it is free for the file.
#[test]
pub fn punched_pages_are_given_back() {
    let _accounting = Accounting::start();
    let (inode, pager) = tmpfs_file(64);
    let space = AddressSpace::new().unwrap();
    let shared = map(&space, &pager, 0, 64, MapFlags::SHARED);
    let mut held = None;
    for _ in 0..20 {
        for page in 0..64 {
            write(&space, shared + page * PAGE, 7).unwrap();
        }
        punch(&inode, &pager, 0..64);
        let free = frame::stats().free;
        assert_eq!(*held.get_or_insert(free), free);
    }
    space.leave();
}
