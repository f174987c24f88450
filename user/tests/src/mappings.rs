//! Mapped files: what a read fault brings along, and calls that copy from and to what is not there yet.

use crate::{
    memory::{fault, touch},
    sys::{self, memory, peek, poke},
    syscall,
};

const PAGE: usize = 4096;
const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;

crate::tests! { "mappings":
    a_mapped_file_is_read_up_to_its_end [frees];
    what_a_fault_brought_along_is_cut_off_too [frees];
    a_private_mapping_and_its_forks_have_their_own_copies [frees];
    calls_copy_from_and_to_pages_that_are_not_there [frees];
}

/// A file of so many pages, each but those of `holes` full of its number plus one.
fn numbered(pages: usize, holes: &[usize]) -> usize {
    let file = syscall!(SYS_memfd_create, c"numbered".as_ptr(), 0).expect("memfd_create");
    syscall!(SYS_ftruncate, file, pages * PAGE).expect("ftruncate");
    for page in (0..pages).filter(|page| !holes.contains(page)) {
        let bytes = [page as u8 + 1; PAGE];
        let written = syscall!(SYS_pwrite64, file, bytes.as_ptr(), PAGE, page * PAGE);
        assert_eq!(written, Ok(PAGE));
    }
    file
}

fn a_mapped_file_is_read_up_to_its_end() {
    for sharing in [libc::MAP_SHARED, libc::MAP_PRIVATE] {
        for first in [0, 3] {
            let file = numbered(40, &[5, 20]);
            syscall!(SYS_ftruncate, file, 21 * PAGE + 10).expect("ftruncate");
            let at = syscall!(SYS_mmap, 0, 40 * PAGE, libc::PROT_READ, sharing, file, first * PAGE).expect("mmap");
            // In no order, so that some pages are there before they are read and others are not.
            for page in (0..22 - first).map(|step| step * 7 % (22 - first)) {
                let expected = match first + page {
                    5 | 20 => 0,
                    index => index as u8 + 1,
                };
                assert_eq!(peek(at + page * PAGE), expected, "page {page} from {first}");
            }
            assert_eq!(
                (peek(at + (21 - first) * PAGE + 9), peek(at + (21 - first) * PAGE + 10)),
                (22, 0)
            );
            let (signo, code, _) = fault(|| touch(peek(at + (22 - first) * PAGE)));
            assert_eq!((signo, code), (libc::SIGBUS, libc::BUS_ADRERR));
            syscall!(SYS_ftruncate, file, 23 * PAGE).expect("ftruncate");
            assert_eq!(peek(at + (22 - first) * PAGE), 0, "a longer file has it");
            let (signo, ..) = fault(|| poke(at, 1));
            assert_eq!(signo, libc::SIGSEGV, "it is readable, no more");
            syscall!(SYS_munmap, at, 40 * PAGE).expect("munmap");
            sys::close(file as i32);
        }
    }
}

fn what_a_fault_brought_along_is_cut_off_too() {
    for sharing in [libc::MAP_SHARED, libc::MAP_PRIVATE] {
        let file = numbered(16, &[]);
        let at = syscall!(SYS_mmap, 0, 16 * PAGE, RW, sharing, file, 0).expect("mmap");
        assert_eq!(peek(at + 8 * PAGE), 9);
        let (signo, code, _) = fault(|| {
            assert_eq!(peek(at + 8 * PAGE), 9);
            syscall!(SYS_ftruncate, file, 9 * PAGE).expect("ftruncate");
            touch(peek(at + 9 * PAGE));
        });
        assert_eq!((signo, code), (libc::SIGBUS, libc::BUS_ADRERR));
        for page in [9, 15] {
            assert_eq!(fault(|| touch(peek(at + page * PAGE))).0, libc::SIGBUS, "page {page}");
        }
        assert_eq!((peek(at), peek(at + 8 * PAGE)), (1, 9));
        syscall!(SYS_munmap, at, 16 * PAGE).expect("munmap");
        sys::close(file as i32);
    }
}

fn a_private_mapping_and_its_forks_have_their_own_copies() {
    let file = numbered(16, &[]);
    let map = |sharing: i32| syscall!(SYS_mmap, 0, 16 * PAGE, RW, sharing, file, 0).expect("mmap");
    let (private, shared) = (map(libc::MAP_PRIVATE), map(libc::MAP_SHARED));
    assert_eq!((peek(private), peek(shared)), (1, 1));
    poke(private + 2 * PAGE, 100);
    poke(shared + 3 * PAGE, 101);
    let check = |copied: u8, page: usize| {
        for at in 0..16 {
            let (own, file) = match at {
                2 => (if page == 2 { copied } else { 100 }, 3),
                3 => (101, 101),
                at => (at as u8 + 1, at as u8 + 1),
            };
            let own = if at == page { copied } else { own };
            assert_eq!(
                (peek(private + at * PAGE), peek(shared + at * PAGE)),
                (own, file),
                "page {at}"
            );
        }
    };
    check(100, 2);
    for page in [2, 9] {
        sys::in_child(|| {
            check(if page == 2 { 100 } else { 10 }, page);
            poke(private + page * PAGE, 102);
            check(102, page);
            // Its own child has what it has.
            sys::in_child(|| check(102, page));
        });
        check(100, 2);
    }
    // What nobody has copied follows the file, in a child as well.
    sys::in_child(|| {
        poke(shared + 12 * PAGE, 103);
        assert_eq!(peek(private + 12 * PAGE), 103);
    });
    assert_eq!(peek(private + 12 * PAGE), 103);
    for at in [private, shared] {
        syscall!(SYS_munmap, at, 16 * PAGE).expect("munmap");
    }
    sys::close(file as i32);
}

fn calls_copy_from_and_to_pages_that_are_not_there() {
    let file = numbered(3, &[]);
    // Two pages that nobody has touched, one that may not be written, and nothing behind it.
    let at = memory(4 * PAGE);
    syscall!(SYS_mprotect, at + 2 * PAGE, PAGE, libc::PROT_READ).expect("mprotect");
    syscall!(SYS_munmap, at + 3 * PAGE, PAGE).expect("munmap");
    assert_eq!(
        syscall!(SYS_pread64, file, at, 3 * PAGE, 100),
        Ok(2 * PAGE),
        "as far as it can"
    );
    assert_eq!((peek(at), peek(at + PAGE - 100), peek(at + 2 * PAGE - 1)), (1, 2, 3));
    assert_eq!(syscall!(SYS_pread64, file, at + 2 * PAGE, 1, 0), Err(libc::EFAULT));
    let end = at + 3 * PAGE - 10;
    assert_eq!(syscall!(SYS_pwrite64, file, end, 20, 5 * PAGE), Ok(10), "what is there");
    assert_eq!(syscall!(SYS_pwrite64, file, end + 10, 1, 9 * PAGE), Err(libc::EFAULT));
    assert_eq!(
        syscall!(SYS_lseek, file, 0, libc::SEEK_END),
        Ok(5 * PAGE + 10),
        "it has grown by as much"
    );
    // A file's page onto its neighbour, through a mapping of which nothing is there.
    let mapped = syscall!(SYS_mmap, 0, 3 * PAGE, RW, libc::MAP_SHARED, file, 0).expect("mmap");
    assert_eq!(syscall!(SYS_pwrite64, file, mapped + PAGE, PAGE, 0), Ok(PAGE));
    assert_eq!((peek(mapped), peek(mapped + PAGE)), (2, 2));
    assert_eq!(syscall!(SYS_pread64, file, mapped + PAGE, PAGE, 2 * PAGE), Ok(PAGE));
    assert_eq!((peek(mapped + PAGE), peek(mapped + 2 * PAGE)), (3, 3));
    syscall!(SYS_munmap, mapped, 3 * PAGE).expect("munmap");
    syscall!(SYS_munmap, at, 3 * PAGE).expect("munmap");
    sys::close(file as i32);
}
