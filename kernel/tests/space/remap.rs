//! mremap.

use kernel::{
    errno::Errno,
    mm::{AddressSpace, Map, MapFlags, Prot},
};

use super::{Accounting, BASE, PAGE, RW, map, now, read, write};

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
    assert!(matches!(name, Ok(Some((_, offset))) if offset == PAGE + 8));
    assert_eq!(child.shared_object(BASE + PAGE + 8), name);
    map(&space, 0, 1, RW).unwrap();
    assert_eq!(
        (space.shared_object(BASE), space.shared_object(BASE + PAGE)),
        (Ok(None), Err(Errno::EFAULT))
    );
}
