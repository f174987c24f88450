//! What a read fault maps around its page, and that forks leave it to faults.

use std::{
    ops::Range,
    sync::{Arc, Mutex},
};

use hal::trap::Access;
use kernel::{
    errno::Result,
    fs::{Inode, inode::OpenRequest},
    mm::{
        AddressSpace, FaultError, Frame, Map, MapFlags, Pager, Prot,
        pager::{self, Copies, Mappings},
    },
};
use linux_raw_sys::general as linux;

use super::{
    Accounting, BASE, PAGE, RW,
    cut::{punch, resize, tmpfs_file},
    file, now, read, write,
};

/// A file whose pages `present` are in memory, each full of its number.
fn filled(pages: u64, present: Range<u64>) -> (Arc<dyn Inode>, Arc<dyn Pager>) {
    let (inode, pager) = tmpfs_file(pages);
    for index in present {
        pager.page(index).unwrap().fill(0..PAGE as usize, index as u8);
    }
    (inode, pager)
}

/// Maps pages from `first` on of an object at page `at` above [`BASE`], which is aligned to far more than a window.
fn map(space: &AddressSpace, pager: &Arc<dyn Pager>, at: u64, first: u64, pages: u64, prot: Prot, sharing: MapFlags) {
    let request = file(pager.clone(), first * PAGE, pages, prot, sharing).fixed(BASE + at * PAGE);
    now(space.mmap(request)).unwrap();
}

fn access(space: &AddressSpace, page: u64, access: Access) -> core::result::Result<(), FaultError> {
    now(space.fault(BASE + page * PAGE + 5, access))
}

/// Which pages of the first so many above [`BASE`] are mapped.
fn mapped(space: &AddressSpace, pages: usize) -> Vec<u64> {
    let mut there = vec![0; pages];
    space.mincore(BASE, &mut there).unwrap();
    (0..)
        .zip(there)
        .filter(|(_, there)| *there == 1)
        .map(|(page, _)| page)
        .collect()
}

fn range(pages: Range<u64>) -> Vec<u64> {
    pages.collect()
}

#[test]
fn a_read_maps_what_is_in_memory_in_its_window() {
    let _accounting = Accounting::start();
    for sharing in [MapFlags::SHARED, MapFlags::PRIVATE] {
        let (_inode, pager) = filled(48, 6..48);
        let space = AddressSpace::new().unwrap();
        map(&space, &pager, 0, 0, 48, RW, sharing);
        access(&space, 20, Access::Read).unwrap();
        assert_eq!(mapped(&space, 48), range(16..32), "{sharing:?}");
        access(&space, 15, Access::Read).unwrap();
        assert_eq!(
            mapped(&space, 48),
            range(6..32),
            "but no page that would have to be made"
        );
        assert_eq!(space.resident_pages(), 26);
        access(&space, 3, Access::Read).unwrap();
        assert_eq!(mapped(&space, 48), [&[3], &range(6..32)[..]].concat());
        for page in 0..48 {
            let expected = if page < 6 { 0 } else { page as u8 };
            assert_eq!(read(&space, BASE + page * PAGE), Ok(expected), "page {page}");
        }
        space.leave();
    }
}

#[test]
fn a_window_ends_with_its_area() {
    let _accounting = Accounting::start();
    let (_inode, pager) = filled(80, 0..80);
    let space = AddressSpace::new().unwrap();
    // Pages 60 to 68 of the file, which stand in two nodes of its tree; before and behind, the file otherwise.
    map(&space, &pager, 3, 60, 9, Prot::READ, MapFlags::PRIVATE);
    map(&space, &pager, 0, 0, 3, Prot::READ, MapFlags::PRIVATE);
    map(&space, &pager, 12, 0, 8, Prot::READ, MapFlags::PRIVATE);
    access(&space, 7, Access::Read).unwrap();
    assert_eq!(mapped(&space, 20), range(3..12));
    for page in 3..12 {
        assert_eq!(read(&space, BASE + page * PAGE), Ok((57 + page) as u8));
    }
    assert_eq!(access(&space, 7, Access::Write), Err(FaultError::AccErr));
    assert_eq!(access(&space, 7, Access::Execute), Err(FaultError::AccErr));
    access(&space, 1, Access::Read).unwrap();
    assert_eq!(mapped(&space, 20), range(0..12));
    now(space.munmap(BASE + 4 * PAGE, 7 * PAGE)).unwrap();
    assert_eq!(space.resident_pages(), 5);
    space.leave();
}

#[test]
fn nothing_is_mapped_past_the_end() {
    let _accounting = Accounting::start();
    let (inode, pager) = filled(5, 0..5);
    resize(&inode, 4 * PAGE + 100);
    let open = inode.clone().open(&OpenRequest { flags: 2, caller: None }).unwrap();
    open.allocate(linux::FALLOC_FL_KEEP_SIZE, 0, 10 * PAGE).unwrap();
    let space = AddressSpace::new().unwrap();
    map(&space, &pager, 0, 0, 16, RW, MapFlags::SHARED);
    access(&space, 2, Access::Read).unwrap();
    assert_eq!(mapped(&space, 16), range(0..5));
    assert_eq!(access(&space, 5, Access::Read), Err(FaultError::Bus));
    assert_eq!(read(&space, BASE + 4 * PAGE + 100), Ok(0));
    // Once the file is longer they are there.
    resize(&inode, 8 * PAGE);
    assert_eq!(read(&space, BASE + 5 * PAGE), Ok(0));
    assert_eq!(mapped(&space, 16), range(0..8));
    space.leave();
}

#[test]
fn what_came_with_another_page_is_cut_off_too() {
    let _accounting = Accounting::start();
    for sharing in [MapFlags::SHARED, MapFlags::PRIVATE] {
        let (inode, pager) = filled(16, 0..16);
        let space = AddressSpace::new().unwrap();
        map(&space, &pager, 0, 0, 16, RW, sharing);
        access(&space, 0, Access::Read).unwrap();
        let child = now(space.fork()).unwrap();
        access(&child, 0, Access::Read).unwrap();
        punch(&inode, &pager, 3..5);
        for space in [&space, &child] {
            assert_eq!(space.resident_pages(), 14);
            assert_eq!(
                (read(space, BASE + 3 * PAGE), read(space, BASE + 5 * PAGE)),
                (Ok(0), Ok(5))
            );
        }
        resize(&inode, 2 * PAGE + 1);
        now(pager::cut(&pager, 3..u64::MAX, Copies::Go));
        for space in [&space, &child] {
            assert_eq!(mapped(space, 16), range(0..3));
            assert_eq!(read(space, BASE + 2 * PAGE), Ok(2));
            assert_eq!(access(space, 3, Access::Read), Err(FaultError::Bus));
            space.leave();
        }
    }
}

#[test]
fn a_write_brings_its_own_page_alone_and_copies_what_is_private() {
    let _accounting = Accounting::start();
    let (_inode, pager) = filled(16, 0..16);
    let (one, two) = (AddressSpace::new().unwrap(), AddressSpace::new().unwrap());
    map(&one, &pager, 0, 0, 16, RW, MapFlags::PRIVATE);
    map(&two, &pager, 0, 0, 16, RW, MapFlags::SHARED);
    write(&one, BASE + 9 * PAGE, 99).unwrap();
    assert_eq!(mapped(&one, 16), [9]);
    access(&one, 0, Access::Read).unwrap();
    assert_eq!(mapped(&one, 16), range(0..16));
    assert_eq!(read(&one, BASE + 9 * PAGE), Ok(99), "what is there stays");
    access(&two, 0, Access::Read).unwrap();
    write(&one, BASE + 4 * PAGE, 44).unwrap();
    write(&two, BASE + 5 * PAGE, 55).unwrap();
    for (page, private, shared) in [(4, 44, 4), (5, 55, 55), (9, 99, 9)] {
        assert_eq!(read(&one, BASE + page * PAGE), Ok(private));
        assert_eq!(read(&two, BASE + page * PAGE), Ok(shared));
    }
    [one, two].iter().for_each(|space| space.leave());
}

#[test]
fn anonymous_shared_memory_is_mapped_around_too() {
    let _accounting = Accounting::start();
    let space = AddressSpace::new().unwrap();
    let request = Map {
        flags: MapFlags::SHARED | MapFlags::ANONYMOUS,
        ..Map::anonymous(32 * PAGE, RW)
    };
    now(space.mmap(request.fixed(BASE))).unwrap();
    for page in 10..20 {
        write(&space, BASE + page * PAGE, page as u8).unwrap();
    }
    let child = now(space.fork()).unwrap();
    assert_eq!(read(&child, BASE + 12 * PAGE), Ok(12));
    assert_eq!(mapped(&child, 32), range(10..16));
    [space, child].iter().for_each(|space| space.leave());
}

#[test]
fn a_fork_copies_no_page_that_is_the_file_s() {
    let _accounting = Accounting::start();
    let (_inode, pager) = filled(64, 0..64);
    let space = AddressSpace::new().unwrap();
    map(&space, &pager, 0, 0, 64, RW, MapFlags::PRIVATE);
    for page in [0, 16, 32, 48] {
        access(&space, page, Access::Read).unwrap();
    }
    for page in [7, 40] {
        write(&space, BASE + page * PAGE, 200).unwrap();
    }
    let child = now(space.fork()).unwrap();
    assert_eq!((mapped(&space, 64), mapped(&child, 64)), (range(0..64), vec![7, 40]));
    // The copies are shared until one side writes; the rest follows the file, on both sides.
    write(&space, BASE + 7 * PAGE, 201).unwrap();
    write(&child, BASE + 40 * PAGE, 202).unwrap();
    pager.page(20).unwrap().fill(0..PAGE as usize, 203);
    for (page, parent, own) in [(7, 201, 200), (40, 200, 202), (20, 203, 203), (63, 63, 63)] {
        assert_eq!(read(&space, BASE + page * PAGE), Ok(parent), "page {page}");
        assert_eq!(read(&child, BASE + page * PAGE), Ok(own), "page {page} of the child");
    }
    let grandchild = now(child.fork()).unwrap();
    assert_eq!(read(&grandchild, BASE + 40 * PAGE), Ok(202));
    [space, child, grandchild].iter().for_each(|space| space.leave());
}

type Deed = Box<dyn FnOnce() + Send>;

/// A file to which something happens just after it has answered.
struct Racing {
    pager: Arc<dyn Pager>,
    deed: Mutex<Option<Deed>>,
}

impl Pager for Racing {
    fn page(&self, index: u64) -> Result<Frame> {
        self.pager.page(index)
    }

    fn pages_in_memory(&self, first: u64, into: &mut [Option<Frame>]) {
        self.pager.pages_in_memory(first, into);
        if let Some(deed) = self.deed.lock().unwrap().take() {
            deed();
        }
    }

    fn mappings(&self) -> Option<&Mappings> {
        self.pager.mappings()
    }
}

/// Reads page 4 of a mapping of a whole window while the `deed` is done.
fn race(deed: impl FnOnce(&Arc<AddressSpace>, &Arc<dyn Inode>, &Arc<dyn Pager>) + Send + 'static) -> Raced {
    let (inode, pager) = filled(16, 0..16);
    let space = AddressSpace::new().unwrap();
    let racing = Arc::new(Racing {
        pager: pager.clone(),
        deed: Mutex::new(None),
    });
    let cut: Arc<dyn Pager> = racing.clone();
    map(&space, &cut, 0, 0, 16, RW, MapFlags::PRIVATE);
    let (its, file) = (space.clone(), inode.clone());
    *racing.deed.lock().unwrap() = Some(Box::new(move || deed(&its, &file, &cut)));
    let result = access(&space, 4, Access::Read);
    Raced {
        space,
        result,
        _inode: inode,
    }
}

struct Raced {
    space: Arc<AddressSpace>,
    result: core::result::Result<(), FaultError>,
    _inode: Arc<dyn Inode>,
}

impl Drop for Raced {
    fn drop(&mut self) {
        self.space.leave();
    }
}

#[test]
fn an_answer_that_has_become_stale_is_not_mapped() {
    let _accounting = Accounting::start();
    let raced = race(|_, inode, pager| {
        resize(inode, 0);
        now(pager::cut(pager, 0..u64::MAX, Copies::Go));
    });
    assert_eq!((raced.result, raced.space.resident_pages()), (Err(FaultError::Bus), 0));
    let raced = race(|_, inode, pager| {
        resize(inode, 5 * PAGE);
        now(pager::cut(pager, 5..u64::MAX, Copies::Go));
    });
    assert_eq!((raced.result, mapped(&raced.space, 16)), (Ok(()), range(0..5)));
    let raced = race(|space, _, _| now(space.munmap(BASE, 16 * PAGE)).unwrap());
    assert_eq!(
        (raced.result, raced.space.resident_pages()),
        (Err(FaultError::MapErr), 0)
    );
    let raced = race(|space, _, _| now(space.mprotect(BASE, 16 * PAGE, Prot::empty())).unwrap());
    assert_eq!(
        (raced.result, raced.space.resident_pages()),
        (Err(FaultError::AccErr), 0)
    );
    // The area is shorter, or shows other pages of the file.
    let raced = race(|space, _, _| now(space.munmap(BASE + 6 * PAGE, 10 * PAGE)).unwrap());
    assert_eq!((raced.result, mapped(&raced.space, 6)), (Ok(()), vec![4]));
    let raced = race(|space, _, pager| map(space, pager, 2, 8, 8, RW, MapFlags::PRIVATE));
    assert_eq!((raced.result, read(&raced.space, BASE + 4 * PAGE)), (Ok(()), Ok(10)));
    assert_eq!(read(&raced.space, BASE + PAGE), Ok(1));
    // Somebody else was faster, and has written.
    let raced = race(|space, _, _| {
        write(space, BASE + 4 * PAGE, 44).unwrap();
        write(space, BASE + 5 * PAGE, 55).unwrap();
    });
    assert_eq!((raced.result, mapped(&raced.space, 16)), (Ok(()), range(0..16)));
    for (page, byte) in [(3, 3), (4, 44), (5, 55), (6, 6)] {
        assert_eq!(read(&raced.space, BASE + page * PAGE), Ok(byte));
    }
}
