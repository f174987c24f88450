//! Address spaces on simulated CPUs, against a model and edge by edge. A process of its own, so that frames can be counted.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use hal::{arch::PageTable, host, traits::PageTableOps, trap::Access};
use kernel::{
    errno::{Errno, Result},
    mm::{
        AddressSpace, FaultError, Frame, Map, MapFlags, MemoryObject, Pager, Prot,
        frame::{self, Purpose},
        space::{MAX_AREAS, STACK_TOP},
        user,
    },
};
use proptest::prelude::*;

const PAGE: u64 = 4096;
const BASE: u64 = 0x10_0000_0000;
const RW: Prot = Prot::READ.union(Prot::WRITE);

/// Runs one test at a time and checks that it leaves as many frames free as it found.
struct Accounting {
    free: usize,
    _turn: MutexGuard<'static, ()>,
}

impl Accounting {
    fn start() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        AddressSpace::deactivate_current();
        Self {
            free: frame::stats().free,
            _turn: turn,
        }
    }
}

impl Drop for Accounting {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            AddressSpace::deactivate_current();
            assert_eq!(frame::stats().free, self.free, "frames are lost or doubled");
        }
    }
}

/// Runs a future that has no reason to wait.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

fn read(space: &Arc<AddressSpace>, address: u64) -> Result<u8> {
    now(space.read::<u8>(address))
}

fn write(space: &Arc<AddressSpace>, address: u64, byte: u8) -> Result<()> {
    now(space.write(address, &byte))
}

fn map(space: &AddressSpace, page: u64, pages: u64, prot: Prot) -> Result<u64> {
    now(space.mmap(Map::anonymous(pages * PAGE, prot).fixed(BASE + page * PAGE)))
}

/// Pages whose bytes are their number, counting how often they were asked for.
struct File {
    pages: Vec<Frame>,
    asked: AtomicUsize,
}

impl File {
    fn new(pages: u8) -> Arc<Self> {
        let page = |number| {
            let frame = frame::allocate().unwrap();
            frame.fill(0..PAGE as usize, number);
            frame
        };
        Arc::new(Self {
            pages: (0..pages).map(page).collect(),
            asked: AtomicUsize::new(0),
        })
    }
}

impl Pager for File {
    fn page(&self, index: u64) -> Result<Frame> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.pages.get(index as usize).cloned().ok_or(Errno::ENXIO)
    }
}

fn file(pager: Arc<dyn Pager>, offset: u64, pages: u64, prot: Prot, sharing: MapFlags) -> Map {
    Map {
        flags: sharing,
        object: Some((pager, offset)),
        ..Map::anonymous(pages * PAGE, prot)
    }
}

#[derive(Clone, Debug)]
enum Op {
    Map(u64, u64, Prot),
    Unmap(u64, u64),
    Protect(u64, u64, Prot),
    Drop(u64, u64),
    Move(u64, u64, u64),
    Write(u64, u8),
    Read(u64),
    Fork,
    Switch(usize),
    Exit,
}

const PAGES: u64 = 24;

fn prots() -> impl Strategy<Value = Prot> {
    prop_oneof![Just(RW), Just(Prot::READ), Just(Prot::empty()), Just(RW | Prot::EXEC)]
}

fn ops() -> impl Strategy<Value = Op> {
    let range = || (0..PAGES, 1..8u64).prop_map(|(start, length)| (start, length.min(PAGES - start)));
    prop_oneof![
        3 => (range(), prots()).prop_map(|((start, length), prot)| Op::Map(start, length, prot)),
        2 => range().prop_map(|(start, length)| Op::Unmap(start, length)),
        2 => (range(), prots()).prop_map(|((start, length), prot)| Op::Protect(start, length, prot)),
        1 => range().prop_map(|(start, length)| Op::Drop(start, length)),
        2 => (range(), 0..PAGES).prop_map(|((start, length), to)| Op::Move(start, length, to)),
        8 => (0..PAGES, any::<u8>()).prop_map(|(page, byte)| Op::Write(page, byte)),
        5 => (0..PAGES).prop_map(Op::Read),
        1 => Just(Op::Fork),
        1 => (0..4usize).prop_map(Op::Switch),
        1 => Just(Op::Exit),
    ]
}

type Model = BTreeMap<u64, (Prot, u8)>;

/// Does the same to the model; what the call is to return.
fn expect(model: &mut Model, op: &Op) -> Result<u8> {
    let covered = |model: &Model, start, length| (start..start + length).all(|page| model.contains_key(&page));
    match *op {
        Op::Map(start, length, prot) => model.extend((start..start + length).map(|page| (page, (prot, 0)))),
        Op::Unmap(start, length) => model.retain(|page, _| !(start..start + length).contains(page)),
        Op::Protect(start, length, prot) => {
            for page in start..start + length {
                model.get_mut(&page).ok_or(Errno::ENOMEM)?.0 = prot;
            }
        }
        Op::Drop(start, length) => {
            model.range_mut(start..start + length).for_each(|(_, page)| page.1 = 0);
            if !covered(model, start, length) {
                return Err(Errno::ENOMEM);
            }
        }
        Op::Move(start, length, to) => {
            if to + length > PAGES + 8 || (to < start + length && start < to + length) {
                return Err(Errno::EINVAL);
            }
            if !covered(model, start, length) {
                return Err(Errno::EFAULT);
            }
            if model
                .range(start..start + length)
                .any(|(_, page)| page.0 != model[&start].0)
            {
                return Err(Errno::EFAULT);
            }
            for page in 0..length {
                let moved = model.remove(&(start + page));
                model.extend(moved.map(|moved| (to + page, moved)));
            }
        }
        Op::Write(page, byte) => {
            let page = model
                .get_mut(&page)
                .filter(|page| page.0.contains(Prot::WRITE))
                .ok_or(Errno::EFAULT)?;
            page.1 = byte;
        }
        Op::Read(page) => {
            return model
                .get(&page)
                .filter(|page| !page.0.is_empty())
                .map(|page| page.1)
                .ok_or(Errno::EFAULT);
        }
        Op::Fork | Op::Switch(_) | Op::Exit => {}
    }
    Ok(0)
}

fn perform(space: &Arc<AddressSpace>, op: &Op) -> Result<u8> {
    let at = |page: u64| BASE + page * PAGE;
    match *op {
        Op::Map(start, length, prot) => map(space, start, length, prot).map(|_| 0),
        Op::Unmap(start, length) => now(space.munmap(at(start), length * PAGE)).map(|()| 0),
        Op::Protect(start, length, prot) => now(space.mprotect(at(start), length * PAGE, prot)).map(|()| 0),
        Op::Drop(start, length) => now(space.madvise(at(start), length * PAGE, 4)).map(|()| 0),
        Op::Move(_, length, to) if to + length > PAGES + 8 => Err(Errno::EINVAL),
        Op::Move(start, length, to) => now(space.mremap(at(start), length * PAGE, length * PAGE, 3, at(to))).map(|_| 0),
        Op::Write(page, byte) => write(space, at(page) + 4095, byte).map(|()| 0),
        Op::Read(page) => read(space, at(page) + 4095),
        Op::Fork | Op::Switch(_) | Op::Exit => Ok(0),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn spaces_agree_with_the_model(steps in proptest::collection::vec(ops(), 1..120)) {
        let _accounting = Accounting::start();
        let mut spaces = vec![(AddressSpace::new().unwrap(), Model::new())];
        let mut current = 0;
        for op in steps {
            match op {
                Op::Fork if spaces.len() < 4 => {
                    let (space, model) = &spaces[current];
                    let forked = (now(space.fork()).unwrap(), model.clone());
                    spaces.push(forked);
                }
                Op::Switch(to) => current = to % spaces.len(),
                Op::Exit if spaces.len() > 1 => {
                    spaces.swap_remove(current).0.leave();
                    current = 0;
                }
                _ => {
                    let (space, model) = &mut spaces[current];
                    let (expected, found) = (expect(model, &op), perform(space, &op));
                    prop_assert_eq!(found, expected, "{:?}", op);
                }
            }
        }
        for (space, model) in &mut spaces {
            for page in 0..PAGES + 8 {
                let op = Op::Read(page);
                prop_assert_eq!(perform(space, &op), expect(model, &op), "page {} at the end", page);
            }
        }
    }
}

#[test]
fn mmap_refuses_what_linux_refuses() {
    let _accounting = Accounting::start();
    let space = AddressSpace::new().unwrap();
    let fails = |request: Map| now(space.mmap(request)).unwrap_err();
    let private = || Map::anonymous(PAGE, RW);
    assert_eq!(fails(Map::anonymous(0, RW)), Errno::EINVAL);
    assert_eq!(fails(Map::anonymous(u64::MAX, RW)), Errno::ENOMEM);
    assert_eq!(fails(Map::anonymous(1 << 46, RW)), Errno::ENOMEM);
    assert_eq!(
        fails(Map {
            flags: MapFlags::ANONYMOUS,
            ..private()
        }),
        Errno::EINVAL
    );
    assert_eq!(
        fails(Map {
            flags: MapFlags::SHARED | MapFlags::PRIVATE,
            ..private()
        }),
        Errno::EINVAL
    );
    assert_eq!(fails(private().fixed(BASE + 1)), Errno::EINVAL);
    assert_eq!(fails(private().fixed(0x1000)), Errno::EPERM);
    assert_eq!(fails(private().fixed(PageTable::USER_END & !4095)), Errno::ENOMEM);
    assert_eq!(fails(private().fixed(!4095)), Errno::ENOMEM);
    let object: Arc<dyn Pager> = MemoryObject::new();
    assert_eq!(fails(file(object.clone(), 5, 1, RW, MapFlags::SHARED)), Errno::EINVAL);
    assert_eq!(
        fails(file(object.clone(), !4095, 2, RW, MapFlags::SHARED)),
        Errno::EOVERFLOW
    );
    let unwritable = Map {
        max_prot: Prot::READ,
        ..file(object, 0, 1, RW, MapFlags::SHARED)
    };
    assert_eq!(fails(unwritable), Errno::EACCES);
    map(&space, 0, 2, RW).unwrap();
    let mut noreplace = private();
    noreplace.flags |= MapFlags::FIXED_NOREPLACE;
    noreplace.address = BASE + PAGE;
    assert_eq!(fails(noreplace), Errno::EEXIST);
}

#[test]
fn hints_are_taken_where_free() {
    let _accounting = Accounting::start();
    let space = AddressSpace::new().unwrap();
    let hinted = |address| {
        now(space.mmap(Map {
            address,
            ..Map::anonymous(PAGE, RW)
        }))
        .unwrap()
    };
    assert_eq!(hinted(BASE + 5), BASE);
    let other = hinted(BASE);
    assert!(other != BASE && other.is_multiple_of(PAGE));
    // Top down, one below the other.
    assert_eq!(hinted(0), other - PAGE);
    assert_eq!(hinted(1), other - 2 * PAGE);
    // Raised to the lowest address allowed.
    assert_eq!(hinted(0x1000), 0x1_0000);
}

#[test]
fn unmapping_and_protecting_split_and_merge() {
    let _accounting = Accounting::start();
    let space = AddressSpace::new().unwrap();
    map(&space, 0, 9, RW).unwrap();
    assert_eq!(space.maps().unwrap().len(), 1);
    now(space.mprotect(BASE + 3 * PAGE, PAGE, Prot::READ)).unwrap();
    now(space.munmap(BASE + 6 * PAGE, 1)).unwrap();
    let lengths: Vec<_> = space
        .maps()
        .unwrap()
        .iter()
        .map(|entry| ((entry.end - entry.start) / PAGE, entry.prot))
        .collect();
    assert_eq!(lengths, [(3, RW), (1, Prot::READ), (2, RW), (2, RW)]);
    now(space.mprotect(BASE + 3 * PAGE, PAGE, RW)).unwrap();
    map(&space, 6, 1, RW).unwrap();
    assert_eq!(space.maps().unwrap().len(), 1);
    assert_eq!(
        now(space.mprotect(BASE + 8 * PAGE, 2 * PAGE, Prot::READ)),
        Err(Errno::ENOMEM)
    );
    assert_eq!(
        space.maps().unwrap().len(),
        2,
        "what lies before the hole has been changed"
    );
    assert_eq!(now(space.munmap(BASE + 1, PAGE)), Err(Errno::EINVAL));
    assert_eq!(now(space.munmap(BASE, 0)), Err(Errno::EINVAL));
    assert_eq!(now(space.munmap(BASE, u64::MAX)), Err(Errno::EINVAL));
    assert_eq!(
        now(space.munmap(BASE + 100 * PAGE, PAGE)),
        Ok(()),
        "a hole can be unmapped"
    );
    let line = space.maps().unwrap()[1].to_string();
    assert_eq!(line, "1000008000-1000009000 r--p 00000000 00:00 0 ");
}

#[test]
fn faults_say_what_is_wrong() {
    let _accounting = Accounting::start();
    let space = AddressSpace::new().unwrap();
    map(&space, 0, 1, Prot::READ).unwrap();
    map(&space, 1, 1, Prot::empty()).unwrap();
    let fault = |page, access| now(space.fault(BASE + page * PAGE + 7, access));
    assert_eq!(fault(0, Access::Read), Ok(()));
    assert_eq!(fault(0, Access::Write), Err(FaultError::AccErr));
    assert_eq!(fault(0, Access::Execute), Err(FaultError::AccErr));
    assert_eq!(fault(1, Access::Read), Err(FaultError::AccErr));
    assert_eq!(fault(2, Access::Read), Err(FaultError::MapErr));
    assert_eq!(
        now(space.fault(PageTable::USER_END, Access::Read)),
        Err(FaultError::MapErr)
    );
    assert_eq!(now(space.fault(u64::MAX, Access::Write)), Err(FaultError::MapErr));
    let at = now(space.mmap(file(File::new(1), 0, 2, RW, MapFlags::PRIVATE))).unwrap();
    assert_eq!(now(space.fault(at, Access::Write)), Ok(()));
    assert_eq!(now(space.fault(at + PAGE, Access::Read)), Err(FaultError::Bus));
}

#[test]
fn private_file_pages_are_copied_shared_ones_are_not() {
    let _accounting = Accounting::start();
    let space = AddressSpace::new().unwrap();
    let pages = File::new(4);
    let private = now(space.mmap(file(pages.clone(), PAGE, 3, RW, MapFlags::PRIVATE))).unwrap();
    let shared = now(space.mmap(file(pages.clone(), 0, 4, RW, MapFlags::SHARED))).unwrap();
    assert_eq!(read(&space, private + PAGE), Ok(2));
    write(&space, private + PAGE, 99).unwrap();
    assert_eq!(
        (read(&space, private + PAGE), read(&space, shared + 2 * PAGE)),
        (Ok(99), Ok(2))
    );
    let child = now(space.fork()).unwrap();
    write(&child, shared, 77).unwrap();
    assert_eq!(read(&space, shared), Ok(77));
    let mut byte = [0];
    pages.pages[0].read(0, &mut byte);
    assert_eq!(byte, [77]);
    // A private page not yet written follows the file.
    assert_eq!(read(&space, private), Ok(1));
    write(&child, shared + PAGE, 55).unwrap();
    assert_eq!(read(&space, private), Ok(55));
    assert!(pages.asked.load(Ordering::SeqCst) > 0);
}

#[test]
fn anonymous_shared_memory_outlives_fork() {
    let _accounting = Accounting::start();
    let space = AddressSpace::new().unwrap();
    let flags = MapFlags::SHARED | MapFlags::ANONYMOUS;
    let at = now(space.mmap(Map {
        flags,
        ..Map::anonymous(3 * PAGE, RW)
    }))
    .unwrap();
    let child = now(space.fork()).unwrap();
    write(&child, at + 2 * PAGE, 8).unwrap();
    assert_eq!(read(&space, at + 2 * PAGE), Ok(8));
    assert_eq!(now(space.munmap(at, PAGE)), Ok(()));
    assert_eq!(read(&space, at + 2 * PAGE), Ok(8));
}

#[test]
fn forked_trees_keep_their_own_contents() {
    let _accounting = Accounting::start();
    let root = AddressSpace::new().unwrap();
    map(&root, 0, 300, RW).unwrap();
    for page in 0..300 {
        write(&root, BASE + page * PAGE, page as u8).unwrap();
    }
    let used = frame::stats().free;
    let mut family = vec![root];
    for generation in 0..5u64 {
        for index in 0..family.len() {
            let child = now(family[index].fork()).unwrap();
            write(&child, BASE + generation * PAGE, 200 + generation as u8).unwrap();
            family.push(child);
        }
    }
    // 31 children: tables and one page each, not 300.
    assert!(used - frame::stats().free < 31 * 8);
    for (index, space) in family.iter().enumerate() {
        for generation in 0..5u64 {
            let written = index >> generation & 1 == 1;
            let expected = if written {
                200 + generation as u8
            } else {
                generation as u8
            };
            assert_eq!(read(space, BASE + generation * PAGE), Ok(expected), "space {index}");
        }
        assert_eq!(read(space, BASE + 299 * PAGE), Ok(299u64 as u8));
    }
    // The last one left writes without copying.
    let last = family.pop().unwrap();
    family.iter().for_each(|space| space.leave());
    let free = frame::stats().free;
    write(&last, BASE + 299 * PAGE, 1).unwrap();
    assert_eq!(frame::stats().free, free);
}

#[test]
fn the_heap_moves() {
    let _accounting = Accounting::start();
    let space = AddressSpace::new().unwrap();
    space.set_heap_start(BASE + 100);
    assert_eq!(now(space.brk(0)), BASE + 100);
    assert_eq!(now(space.brk(BASE + 3 * PAGE + 1)), BASE + 3 * PAGE + 1);
    write(&space, BASE + 3 * PAGE + 4000, 5).unwrap();
    assert_eq!(now(space.brk(BASE + PAGE)), BASE + PAGE);
    assert_eq!(read(&space, BASE + 3 * PAGE), Err(Errno::EFAULT));
    assert_eq!(now(space.brk(BASE + 4 * PAGE)), BASE + 4 * PAGE);
    assert_eq!(
        read(&space, BASE + 3 * PAGE + 4000),
        Ok(0),
        "given back and taken again is zero"
    );
    map(&space, 6, 1, RW).unwrap();
    assert_eq!(
        now(space.brk(BASE + 7 * PAGE)),
        BASE + 4 * PAGE,
        "something is in the way"
    );
    assert_eq!(now(space.brk(u64::MAX)), BASE + 4 * PAGE);
    assert_eq!(space.maps().unwrap()[0].name, "[heap]");
}

#[test]
fn the_stack_grows_and_stops() {
    let _accounting = Accounting::start();
    let space = AddressSpace::new().unwrap();
    space.map_stack(STACK_TOP, 4 * PAGE, 1 << 20).unwrap();
    write(&space, STACK_TOP - 100 * PAGE, 1).unwrap();
    assert_eq!(space.maps().unwrap()[0].start, STACK_TOP - 100 * PAGE);
    assert_eq!(write(&space, STACK_TOP - 257 * PAGE, 1), Err(Errno::EFAULT));
    let below = STACK_TOP - 400 * PAGE;
    now(space.mmap(Map::anonymous(PAGE, RW).fixed(below))).unwrap();
    assert_eq!(
        write(&space, STACK_TOP - 150 * PAGE, 1),
        Err(Errno::EFAULT),
        "the gap is kept"
    );
    now(space.munmap(below, PAGE)).unwrap();
    assert_eq!(write(&space, STACK_TOP - 150 * PAGE, 1), Ok(()));
}

#[test]
fn remapping_grows_moves_and_shrinks() {
    let _accounting = Accounting::start();
    let space = AddressSpace::new().unwrap();
    map(&space, 0, 4, RW).unwrap();
    map(&space, 8, 1, RW).unwrap();
    write(&space, BASE + 3 * PAGE, 3).unwrap();
    let remap = |old: u64, length: u64, new: u64, flags| {
        now(space.mremap(BASE + old * PAGE, length * PAGE, new * PAGE, flags, 0))
    };
    assert_eq!(remap(0, 4, 8, 0), Ok(BASE));
    map(&space, 30, 1, Prot::READ).unwrap();
    assert_eq!(remap(0, 9, 40, 0), Err(Errno::ENOMEM));
    assert_eq!(remap(0, 40, 41, 1), Err(Errno::EFAULT));
    assert_eq!(remap(0, 4, 0, 0), Err(Errno::EINVAL));
    assert_eq!(remap(50, 1, 2, 1), Err(Errno::EFAULT));
    assert_eq!(remap(0, 4, 4, 8), Err(Errno::EINVAL));
    assert_eq!(remap(0, 9, 2, 0), Ok(BASE));
    assert_eq!(read(&space, BASE + 3 * PAGE), Err(Errno::EFAULT));
    write(&space, BASE + PAGE, 11).unwrap();
    let moved = remap(0, 2, 6, 1).unwrap();
    if moved != BASE {
        assert_eq!(read(&space, BASE + PAGE), Err(Errno::EFAULT));
    }
    assert_eq!(
        (read(&space, moved + PAGE), read(&space, moved + 5 * PAGE)),
        (Ok(11), Ok(0))
    );
}

#[test]
fn copies_cross_pages_and_stop_at_holes() {
    let _accounting = Accounting::start();
    let space = AddressSpace::new().unwrap();
    map(&space, 0, 2, RW).unwrap();
    map(&space, 3, 1, Prot::READ).unwrap();
    let bytes: Vec<u8> = (0..6000).map(|at| at as u8).collect();
    now(space.write_bytes(BASE + 1000, &bytes)).unwrap();
    let mut back = vec![0; 6000];
    now(space.read_bytes(BASE + 1000, &mut back)).unwrap();
    assert_eq!(back, bytes);
    assert_eq!(now(space.write_bytes(BASE + 4000, &bytes)), Err(Errno::EFAULT));
    assert_eq!(now(space.write(BASE + 3 * PAGE, &0u32)), Err(Errno::EFAULT));
    let fault = user::copy_in(&mut back[..200], BASE + 2 * PAGE - 50).unwrap_err();
    assert_eq!((fault.address, fault.copied), (BASE + 2 * PAGE, 50));
    for address in [
        PageTable::USER_END - 2,
        PageTable::USER_END,
        u64::MAX - 1,
        u64::MAX,
        1 << 63,
        0,
    ] {
        assert!(user::copy_in(&mut back[..4], address).is_err());
        assert_eq!(now(space.read::<u32>(address)), Err(Errno::EFAULT), "{address:#x}");
        assert_eq!(now(space.write(address, &1u32)), Err(Errno::EFAULT), "{address:#x}");
    }
    assert!(user::load_u32(BASE + 2).is_err());
    assert_eq!(user::compare_exchange_u32(BASE, 0, 7), Ok(0));
    assert_eq!(user::compare_exchange_u32(BASE, 0, 8), Ok(7));
    assert_eq!(user::load_u32(BASE), Ok(7));
}

#[test]
fn strings_and_pointer_arrays() {
    let _accounting = Accounting::start();
    let space = AddressSpace::new().unwrap();
    map(&space, 0, 2, RW).unwrap();
    let end = BASE + 2 * PAGE;
    let long = vec![b'x'; 5000];
    now(space.write_bytes(end - 5001, &long)).unwrap();
    assert_eq!(now(space.read_cstr(end - 5001, 6000)), Ok(long));
    assert_eq!(now(space.read_cstr(end - 5001, 4096)), Err(Errno::ENAMETOOLONG));
    assert_eq!(now(space.read_cstr(end - 1, 10)), Ok(vec![]));
    write(&space, end - 1, b'y').unwrap();
    assert_eq!(now(space.read_cstr(end - 5, 10)), Err(Errno::EFAULT));
    now(space.write(BASE, &[BASE, end, 0u64][..])).unwrap();
    assert_eq!(now(space.read_pointer_array(BASE, 2)), Ok(vec![BASE, end]));
    assert_eq!(now(space.read_pointer_array(BASE, 1)), Err(Errno::E2BIG));
    assert_eq!(now(space.read_pointer_array(0, 1)), Ok(vec![]));
    let mut bytes = [0; 16];
    AddressSpace::deactivate_current();
    assert_eq!(now(space.read_remote(BASE, &mut bytes)), Ok(16));
    assert_eq!(bytes[..8], BASE.to_ne_bytes());
    assert_eq!(now(space.read_remote(end - 4, &mut bytes)), Ok(4));
    assert_eq!(now(space.read_remote(end, &mut bytes)), Err(Errno::EFAULT));
}

#[test]
fn too_many_areas_are_refused() {
    let _accounting = Accounting::start();
    let space = AddressSpace::new().unwrap();
    for index in 0..MAX_AREAS as u64 {
        map(&space, index * 2, 1, RW).unwrap();
    }
    assert_eq!(map(&space, 1 << 20, 1, RW), Err(Errno::ENOMEM));
    assert_eq!(now(space.munmap(BASE, PAGE)), Ok(()));
    map(&space, 1 << 20, 3, RW).unwrap();
    assert_eq!(
        now(space.munmap(BASE + ((1 << 20) + 1) * PAGE, PAGE)),
        Err(Errno::ENOMEM)
    );
    assert_eq!(
        now(space.mprotect(BASE + ((1 << 20) + 1) * PAGE, PAGE, Prot::READ)),
        Err(Errno::ENOMEM)
    );
}

#[test]
fn exhausted_memory_is_an_error_and_comes_back() {
    let _accounting = Accounting::start();
    let space = AddressSpace::new().unwrap();
    let total = frame::stats().total as u64;
    map(&space, 0, total / 2, RW).unwrap();
    now(space.mmap(Map::anonymous(total * PAGE, RW).fixed(BASE * 4))).unwrap();
    let mut page = 0;
    while now(space.fault(BASE * 4 + page * PAGE, Access::Write)).is_ok() {
        page += 1;
    }
    assert_eq!(
        now(space.fault(BASE * 4 + page * PAGE, Access::Write)),
        Err(FaultError::Oom)
    );
    assert!(frame::stats().failures > 0);
    assert!(now(space.fork()).is_err());
    assert!(AddressSpace::new().is_err());
    // The kernel still gets what it needs.
    assert!(frame::stats().free >= frame::stats().reserve / 2);
    assert!(frame::allocate_order(0, Purpose::Kernel).is_ok());
    assert_eq!(read(&space, BASE * 4), Ok(0), "the parent is as it was");
    space.leave();
    assert_eq!(space.resident_pages(), 0);
}

struct Flag(AtomicUsize);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Two CPUs, stepped by one thread: the second keeps stale translations until it passes a checkpoint.
#[test]
fn no_frame_is_freed_while_a_cpu_can_reach_it() {
    let _accounting = Accounting::start();
    let space = AddressSpace::new().unwrap();
    map(&space, 0, 4, RW).unwrap();
    write(&space, BASE, 1).unwrap();
    host::set_cpu_id(1);
    assert_eq!(read(&space, BASE), Ok(1));
    host::set_cpu_id(0);
    assert_eq!(space.active_cpus(), 3);

    let woken = Arc::new(Flag(AtomicUsize::new(0)));
    let waker = Waker::from(woken.clone());
    let free = frame::stats().free;
    {
        let mut unmap = pin!(space.munmap(BASE, PAGE));
        assert!(unmap.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!((frame::stats().free, space.parked_frames()), (free, 1));
        host::set_cpu_id(1);
        assert!(
            host::machine().interrupt_pending(1),
            "the other CPU has been interrupted"
        );
        let mut byte = [0];
        assert!(user::copy_in(&mut byte, BASE).is_ok(), "and still reaches the page");
        AddressSpace::tlb_checkpoint();
        assert!(user::copy_in(&mut byte, BASE).is_err());
        host::set_cpu_id(0);
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert!(unmap.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
    }
    assert_eq!((frame::stats().free, space.parked_frames()), (free + 1, 0));

    // A dropped future frees nothing early either.
    write(&space, BASE + PAGE, 1).unwrap();
    host::set_cpu_id(1);
    assert_eq!(read(&space, BASE + PAGE), Ok(1));
    host::set_cpu_id(0);
    {
        let mut unmap = pin!(space.munmap(BASE + PAGE, PAGE));
        assert!(unmap.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    assert_eq!(space.parked_frames(), 1);
    host::set_cpu_id(1);
    AddressSpace::deactivate_current();
    host::set_cpu_id(0);
    assert_eq!((space.parked_frames(), space.active_cpus()), (0, 1));
}

#[test]
fn an_idle_cpu_lets_go_of_a_dead_space() {
    let _accounting = Accounting::start();
    let space = AddressSpace::new().unwrap();
    map(&space, 0, 4, RW).unwrap();
    write(&space, BASE, 1).unwrap();
    AddressSpace::idle_checkpoint();
    assert_eq!(space.active_cpus(), 1, "a space in use stays");
    space.leave();
    assert_eq!(space.resident_pages(), 0);
    assert!(user::copy_in(&mut [0], BASE).is_err());
    AddressSpace::idle_checkpoint();
    assert_eq!(space.active_cpus(), 0);
}

/// What a thread that waits in these calls costs.
#[test]
fn futures_are_small() {
    let _accounting = Accounting::start();
    let space = AddressSpace::new().unwrap();
    let fault = size_of_val(&space.fault(BASE, Access::Write));
    let copy = size_of_val(&space.read_cstr(BASE, 100));
    let unmap = size_of_val(&space.munmap(BASE, PAGE));
    let map = size_of_val(&space.mmap(Map::anonymous(PAGE, RW)));
    let fork = size_of_val(&space.fork());
    let sizes = [fault, copy, unmap, map, fork];
    assert!(sizes.iter().all(|&size| size <= 1024), "{sizes:?}");
}

#[test]
fn shared_words_have_one_name() {
    let _accounting = Accounting::start();
    let space = AddressSpace::new().unwrap();
    let flags = MapFlags::SHARED | MapFlags::ANONYMOUS;
    let at = now(space.mmap(Map {
        flags,
        ..Map::anonymous(2 * PAGE, RW)
    }))
    .unwrap();
    let child = now(space.fork()).unwrap();
    let moved = now(child.mremap(at, 2 * PAGE, 2 * PAGE, 3, BASE)).unwrap();
    assert_eq!(moved, BASE);
    let name = space.shared_object(at + PAGE + 8);
    assert!(name.is_some_and(|(_, offset)| offset == PAGE + 8));
    assert_eq!(child.shared_object(BASE + PAGE + 8), name);
    map(&space, 0, 1, RW).unwrap();
    assert_eq!(
        (space.shared_object(BASE), space.shared_object(BASE + PAGE)),
        (None, None)
    );
}

#[test]
fn fork_waits_until_no_cpu_writes_the_shared_page() {
    let _accounting = Accounting::start();
    let space = AddressSpace::new().unwrap();
    map(&space, 0, 1, RW).unwrap();
    host::set_cpu_id(1);
    write(&space, BASE, 1).unwrap();
    host::set_cpu_id(0);
    space.activate();
    let child = {
        let mut fork = pin!(space.fork());
        let mut context = Context::from_waker(Waker::noop());
        assert!(fork.as_mut().poll(&mut context).is_pending());
        host::set_cpu_id(1);
        assert!(user::copy_out(BASE, &[2]).is_ok(), "a stale translation still writes");
        AddressSpace::tlb_checkpoint();
        assert!(user::copy_out(BASE, &[3]).is_err());
        host::set_cpu_id(0);
        match fork.as_mut().poll(&mut context) {
            Poll::Ready(child) => child.unwrap(),
            Poll::Pending => panic!("every CPU has seen it"),
        }
    };
    host::set_cpu_id(1);
    AddressSpace::deactivate_current();
    host::set_cpu_id(0);
    write(&space, BASE, 4).unwrap();
    assert_eq!(read(&child, BASE), Ok(2));
}

/// Threads as CPUs: faults, writes, forks and unmappings at the same time, each waiting by polling and passing checkpoints.
#[test]
fn real_concurrency_loses_no_write() {
    let _accounting = Accounting::start();
    let space = AddressSpace::new().unwrap();
    map(&space, 0, 64, RW).unwrap();
    let machine = host::machine();
    fn wait<T>(future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return value;
            }
            AddressSpace::tlb_checkpoint();
            std::thread::yield_now();
        }
    }
    let running = AtomicUsize::new(3);
    std::thread::scope(|scope| {
        for cpu in 1..4u64 {
            let (machine, space, running) = (machine.clone(), &space, &running);
            scope.spawn(move || {
                machine.attach(cpu as u32);
                for round in 0..400u64 {
                    let page = round % 16;
                    // Each CPU has a word of its own in pages that all write, and an area that only it unmaps.
                    let word = BASE + page * PAGE + cpu * 8;
                    wait(space.write(word, &round)).unwrap();
                    AddressSpace::tlb_checkpoint();
                    assert_eq!(wait(space.read::<u64>(word)), Ok(round));
                    let own = BASE + (16 + cpu * 8) * PAGE;
                    wait(space.write(own, &round)).unwrap();
                    if round % 8 == 0 {
                        wait(space.munmap(own, PAGE)).unwrap();
                        assert_eq!(wait(space.read::<u64>(own)), Err(Errno::EFAULT));
                        wait(space.mmap(Map::anonymous(PAGE, RW).fixed(own))).unwrap();
                        assert_eq!(wait(space.read::<u64>(own)), Ok(0));
                    }
                    if round % 50 == cpu {
                        let child = wait(space.fork()).unwrap();
                        assert_eq!(wait(child.read::<u64>(word)), Ok(round));
                        child.leave();
                    }
                }
                running.fetch_sub(1, Ordering::SeqCst);
                while running.load(Ordering::SeqCst) > 0 {
                    AddressSpace::tlb_checkpoint();
                    std::thread::yield_now();
                }
                AddressSpace::deactivate_current();
            });
        }
    });
    assert_eq!(space.parked_frames(), 0);
}
