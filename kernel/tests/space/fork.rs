//! Forks: what parent and child share and what they do not.

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

use hal::host;
use kernel::mm::{AddressSpace, Map, MapFlags, frame, user};

use super::{Accounting, BASE, PAGE, RW, map, now, read, write};

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
        AddressSpace::idle_checkpoint();
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
