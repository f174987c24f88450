//! Address spaces on simulated CPUs, against a model and edge by edge. A process of its own, so that frames can be counted.

mod access;
mod around;
#[path = "../common/mod.rs"]
mod common;
mod cut;
mod fault;
mod files;
mod fork;
mod growth;
mod mapping;
mod model;
mod remap;
mod tlb;

use std::sync::{
    Arc, MutexGuard,
    atomic::{AtomicUsize, Ordering},
};

use common::now;
use hal::trap::Access;
use kernel::{
    errno::{Errno, Result},
    mm::{AddressSpace, Frame, Map, MapFlags, Pager, Prot, frame},
};

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
        let turn = common::turn();
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
