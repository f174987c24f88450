//! Pages that are brought before anybody touches them: `mlock` and its kin, `MADV_POPULATE_READ` and `MADV_POPULATE_WRITE`.

use std::{
    fs::{self, File},
    os::fd::AsRawFd,
};

use crate::{
    sys::{memory, mmap, peek},
    syscall,
};

const PAGE: usize = 4096;
const PRIVATE: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
// asm-generic/mman-common.h, asm-generic/mman.h
const POPULATE_READ: usize = 22;
const POPULATE_WRITE: usize = 23;
const ON_FAULT: usize = 1;
const CURRENT: usize = 1;
const ALL_ON_FAULT: usize = 4;

crate::tests! { "populating":
    locked_pages_are_there;
    locks_of_what_is_not_mapped_are_enomem;
    flags_of_locks_are_checked;
    populating_brings_pages;
    populating_tells_why_not;
}

/// How many of `pages` pages are in memory.
fn resident(address: usize, pages: usize) -> usize {
    let mut there = vec![0_u8; pages];
    syscall!(SYS_mincore, address, pages * PAGE, there.as_mut_ptr()).expect("mincore");
    there.iter().filter(|page| **page & 1 == 1).count()
}

fn locked_pages_are_there() {
    let address = memory(8 * PAGE);
    assert_eq!(resident(address, 8), 0, "nothing is touched yet");
    syscall!(SYS_mlock2, address, 8 * PAGE, ON_FAULT).expect("mlock2");
    assert_eq!(resident(address, 8), 0, "locked as they come");
    syscall!(SYS_munlock, address, 8 * PAGE).expect("munlock");
    // From the middle of one to the middle of another: both, whole.
    syscall!(SYS_mlock, address + PAGE + 100, PAGE).expect("mlock");
    assert_eq!(resident(address, 8), 2);
    syscall!(SYS_mlock2, address, 8 * PAGE, 0).expect("mlock2 without flags");
    assert_eq!(resident(address, 8), 8);
    syscall!(SYS_munlock, address, 8 * PAGE).expect("munlock");
    assert_eq!(peek(address + 3 * PAGE), 0);
    let other = memory(4 * PAGE);
    syscall!(SYS_mlockall, CURRENT).expect("mlockall");
    assert_eq!(resident(other, 4), 4);
    syscall!(SYS_munlockall).expect("munlockall");
}

fn locks_of_what_is_not_mapped_are_enomem() {
    let address = memory(3 * PAGE);
    syscall!(SYS_munmap, address + PAGE, PAGE).expect("munmap");
    assert_eq!(syscall!(SYS_mlock, address, 3 * PAGE), Err(libc::ENOMEM));
    assert_eq!(syscall!(SYS_mlock2, address, 3 * PAGE, ON_FAULT), Err(libc::ENOMEM));
    assert_eq!(syscall!(SYS_munlock, address, 3 * PAGE), Err(libc::ENOMEM));
    assert_eq!(syscall!(SYS_mlock, address, 0), Ok(0), "nothing is locked");
    let none = mmap(0, PAGE, libc::PROT_NONE, PRIVATE).expect("mmap");
    assert_eq!(syscall!(SYS_mlock, none, PAGE), Err(libc::ENOMEM), "it cannot be used");
    assert_eq!(syscall!(SYS_munlock, none, PAGE), Ok(0));
}

fn flags_of_locks_are_checked() {
    let address = memory(PAGE);
    assert_eq!(syscall!(SYS_mlock2, address, PAGE, 2), Err(libc::EINVAL));
    assert_eq!(syscall!(SYS_mlockall, 0), Err(libc::EINVAL), "locks nothing");
    assert_eq!(
        syscall!(SYS_mlockall, ALL_ON_FAULT),
        Err(libc::EINVAL),
        "says how, not what"
    );
    assert_eq!(syscall!(SYS_mlockall, 8), Err(libc::EINVAL));
}

fn populating_brings_pages() {
    let address = memory(200 * PAGE);
    syscall!(SYS_madvise, address, 100 * PAGE, POPULATE_READ).expect("MADV_POPULATE_READ");
    assert_eq!(resident(address, 200), 100);
    syscall!(SYS_madvise, address + 50 * PAGE, 150 * PAGE, POPULATE_WRITE).expect("MADV_POPULATE_WRITE");
    assert_eq!(resident(address, 200), 200);
    assert_eq!(peek(address + 150 * PAGE), 0);
}

fn populating_tells_why_not() {
    let address = memory(4 * PAGE);
    syscall!(SYS_munmap, address + 2 * PAGE, PAGE).expect("munmap");
    let populate = |address: usize, pages: usize, advice: usize| syscall!(SYS_madvise, address, pages * PAGE, advice);
    assert_eq!(populate(address, 4, POPULATE_WRITE), Err(libc::ENOMEM), "a hole");
    assert_eq!(resident(address, 2), 2, "what comes before it is there");
    let read_only = mmap(0, PAGE, libc::PROT_READ, PRIVATE).expect("mmap");
    assert_eq!(populate(read_only, 1, POPULATE_WRITE), Err(libc::EINVAL));
    assert_eq!(populate(read_only, 1, POPULATE_READ), Ok(0));
    let none = mmap(0, PAGE, libc::PROT_NONE, PRIVATE).expect("mmap");
    assert_eq!(populate(none, 1, POPULATE_READ), Err(libc::EINVAL));
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open("/tmp/populating")
        .expect("a file");
    fs::remove_file("/tmp/populating").expect("unlink");
    file.set_len(PAGE as u64).expect("ftruncate");
    let mapped = syscall!(
        SYS_mmap,
        0,
        2 * PAGE,
        libc::PROT_READ,
        libc::MAP_SHARED,
        file.as_raw_fd(),
        0
    )
    .expect("mmap");
    assert_eq!(
        populate(mapped, 2, POPULATE_READ),
        Err(libc::EFAULT),
        "past the end of the file"
    );
}
