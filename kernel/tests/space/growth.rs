//! What grows: the heap by brk, the stack by faults.

use kernel::{
    errno::Errno,
    mm::{AddressSpace, Map, space::STACK_TOP},
};

use super::{Accounting, BASE, PAGE, RW, map, now, read, write};

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
