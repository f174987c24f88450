//! Faults: what they say, what they bring in, and how the stack grows.

use std::sync::atomic::Ordering;

use hal::{arch::PageTable, traits::PageTableOps, trap::Access};
use kernel::mm::{
    AddressSpace, FaultError, Map, MapFlags, Prot,
    frame::{self, Purpose},
};

use super::{Accounting, BASE, File, PAGE, RW, file, map, now, read, write};

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
