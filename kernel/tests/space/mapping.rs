//! mmap, munmap and mprotect: what they refuse, where they map, how areas split and merge.

use std::sync::Arc;

use hal::{arch::PageTable, traits::PageTableOps};
use kernel::{
    errno::Errno,
    mm::{AddressSpace, Map, MapFlags, MemoryObject, Pager, Prot, space::MAX_AREAS},
};

use super::{Accounting, BASE, PAGE, RW, file, map, now};

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
