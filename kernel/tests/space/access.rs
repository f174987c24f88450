//! Copies from and to user memory.

use hal::{arch::PageTable, traits::PageTableOps};
use kernel::{
    errno::Errno,
    mm::{AddressSpace, Prot, user},
};

use super::{Accounting, BASE, PAGE, RW, map, now, write};

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
