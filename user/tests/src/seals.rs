//! Memory files and their seals: `memfd_create(2)`, `F_ADD_SEALS`.

use crate::{
    sys::{self, Sys, fork, wait_exit},
    syscall,
};

crate::tests! { "seals":
    creating_is_checked;
    sealing_is_checked;
    lengths_are_sealed;
    contents_are_sealed;
    mappings_keep_contents_open;
    sealed_contents_can_be_mapped_to_read;
    future_writes_are_sealed;
    other_files_have_none;
}

const ADD: i32 = libc::F_ADD_SEALS;
const GET: i32 = libc::F_GET_SEALS;
const SEAL: i32 = libc::F_SEAL_SEAL;
const SHRINK: i32 = libc::F_SEAL_SHRINK;
const GROW: i32 = libc::F_SEAL_GROW;
const WRITE: i32 = libc::F_SEAL_WRITE;
const FUTURE: i32 = libc::F_SEAL_FUTURE_WRITE;

fn create(flags: u32) -> i32 {
    syscall!(SYS_memfd_create, c"tests".as_ptr(), flags).expect("memfd_create") as i32
}

fn sealable(length: usize) -> i32 {
    let file = create(libc::MFD_ALLOW_SEALING);
    assert_eq!(syscall!(SYS_ftruncate, file, length), Ok(0));
    file
}

fn seal(file: i32, seals: i32) -> Sys {
    syscall!(SYS_fcntl, file, ADD, seals)
}

fn seals(file: i32) -> Sys {
    syscall!(SYS_fcntl, file, GET)
}

fn map(file: i32, protection: i32, flags: i32) -> Sys {
    syscall!(SYS_mmap, 0, 4096, protection, flags, file, 0)
}

fn write_at(file: i32, offset: usize, bytes: &[u8]) -> Sys {
    syscall!(SYS_pwrite64, file, bytes.as_ptr(), bytes.len(), offset)
}

fn creating_is_checked() {
    for flags in [1 << 20, u32::MAX] {
        assert_eq!(
            syscall!(SYS_memfd_create, c"x".as_ptr(), flags),
            Err(libc::EINVAL),
            "{flags:#x}"
        );
    }
    assert_eq!(syscall!(SYS_memfd_create, 8, 0), Err(libc::EFAULT));
    let name = |length: usize| {
        let name = std::ffi::CString::new("n".repeat(length)).expect("a name");
        syscall!(SYS_memfd_create, name.as_ptr(), 0)
    };
    assert_eq!(name(250), Err(libc::EINVAL));
    for length in [0, 249] {
        sys::close(name(length).expect("a name of that length") as i32);
    }
    let file = create(libc::MFD_CLOEXEC);
    assert_eq!(syscall!(SYS_fcntl, file, libc::F_GETFD), Ok(libc::FD_CLOEXEC as usize));
    let link = std::fs::read_link(format!("/proc/self/fd/{file}")).expect("its link");
    assert_eq!(link.to_str(), Some("/memfd:tests (deleted)"));
}

fn sealing_is_checked() {
    let file = create(0);
    assert_eq!(seals(file), Ok(SEAL as usize), "not asked for");
    assert_eq!(seal(file, GROW), Err(libc::EPERM));
    let file = sealable(0);
    assert_eq!(seals(file), Ok(0));
    assert_eq!(seal(file, 1 << 20), Err(libc::EINVAL));
    assert_eq!(seal(file, 0), Ok(0));
    assert_eq!(seal(file, GROW), Ok(0));
    assert_eq!(seal(file, GROW | SHRINK), Ok(0), "once more");
    assert_eq!(seals(file), Ok((GROW | SHRINK) as usize));
    let path = std::ffi::CString::new(format!("/proc/self/fd/{file}")).expect("a path");
    let reader = syscall!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY, 0).expect("open") as i32;
    assert_eq!(seal(reader, WRITE), Err(libc::EPERM), "by a descriptor that only reads");
    assert_eq!(seals(reader), Ok((GROW | SHRINK) as usize));
    assert_eq!(seal(file, SEAL), Ok(0));
    assert_eq!(seal(file, WRITE), Err(libc::EPERM));
    assert_eq!(seal(file, 0), Err(libc::EPERM));
}

fn lengths_are_sealed() {
    let file = sealable(5000);
    assert_eq!(seal(file, SHRINK), Ok(0));
    assert_eq!(syscall!(SYS_ftruncate, file, 4999), Err(libc::EPERM));
    assert_eq!(syscall!(SYS_ftruncate, file, 5000), Ok(0));
    assert_eq!(syscall!(SYS_ftruncate, file, 6000), Ok(0));
    assert_eq!(seal(file, GROW), Ok(0));
    assert_eq!(syscall!(SYS_ftruncate, file, 6001), Err(libc::EPERM));
    assert_eq!(syscall!(SYS_fallocate, file, 0, 0, 6001), Err(libc::EPERM));
    assert_eq!(syscall!(SYS_fallocate, file, 0, 0, 6000), Ok(0));
    assert_eq!(write_at(file, 5990, b"0123456789"), Ok(10));
    assert_eq!(write_at(file, 5991, b"0123456789"), Err(libc::EPERM));
    assert_eq!(
        write_at(file, 4000, &[1; 3000]),
        Ok(96),
        "up to the page that would grow"
    );
    assert_eq!(write_at(file, 7000, b""), Ok(0));
    let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    assert_eq!(syscall!(SYS_fallocate, file, punch, 0, 4096), Ok(0));
}

fn contents_are_sealed() {
    let file = sealable(4096);
    assert_eq!(write_at(file, 0, b"kept"), Ok(4));
    assert_eq!(seal(file, WRITE), Ok(0));
    assert_eq!(write_at(file, 0, b"lost"), Err(libc::EPERM));
    let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    assert_eq!(syscall!(SYS_fallocate, file, punch, 0, 4096), Err(libc::EPERM));
    assert_eq!(
        map(file, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED),
        Err(libc::EPERM)
    );
    let own = map(file, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE).expect("a private mapping");
    assert_eq!(sys::peek(own), b'k');
    sys::poke(own, b'x');
    let mut bytes = [0; 4];
    assert_eq!(syscall!(SYS_pread64, file, bytes.as_mut_ptr(), 4, 0), Ok(4));
    assert_eq!(&bytes, b"kept");
    assert_eq!(
        syscall!(SYS_ftruncate, file, 8192),
        Ok(0),
        "its length is another matter"
    );
}

fn mappings_keep_contents_open() {
    let file = sealable(8192);
    let shared = map(file, libc::PROT_READ, libc::MAP_SHARED).expect("a mapping that could be written");
    assert_eq!(seal(file, WRITE), Err(libc::EBUSY));
    assert_eq!(seal(file, WRITE | GROW), Err(libc::EBUSY));
    assert_eq!(seals(file), Ok(0), "all or nothing");
    let (read, write) = sys::pipe(0);
    let child = fork(|| {
        sys::close(write);
        let mut byte = [0];
        assert_eq!(sys::read(read, &mut byte), Ok(0));
        0
    });
    sys::close(read);
    assert_eq!(syscall!(SYS_munmap, shared, 4096), Ok(0));
    assert_eq!(seal(file, WRITE), Err(libc::EBUSY), "the child has it still");
    sys::close(write);
    assert_eq!(wait_exit(child), 0);
    let private = map(file, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE).expect("a private mapping");
    assert_eq!(seal(file, WRITE), Ok(0));
    sys::poke(private, 1);
    assert_eq!(syscall!(SYS_shmdt, private), Err(libc::EINVAL));
}

fn sealed_contents_can_be_mapped_to_read() {
    let file = sealable(4096);
    let both = libc::PROT_READ | libc::PROT_WRITE;
    assert_eq!(seal(file, WRITE), Ok(0));
    assert_eq!(map(file, both, libc::MAP_SHARED), Err(libc::EPERM));
    let reads = map(file, libc::PROT_READ, libc::MAP_SHARED).expect("a mapping that reads");
    assert_eq!(syscall!(SYS_mprotect, reads, 4096, both), Err(libc::EACCES));
}

fn future_writes_are_sealed() {
    let file = sealable(4096);
    let both = libc::PROT_READ | libc::PROT_WRITE;
    let before = map(file, both, libc::MAP_SHARED).expect("a mapping from before");
    assert_eq!(syscall!(SYS_shmdt, before), Err(libc::EINVAL), "no segment");
    assert_eq!(seal(file, FUTURE), Ok(0));
    sys::poke(before, 7);
    assert_eq!(write_at(file, 0, b"x"), Err(libc::EPERM));
    assert_eq!(map(file, both, libc::MAP_SHARED), Err(libc::EPERM));
    let reads = map(file, libc::PROT_READ, libc::MAP_SHARED).expect("a mapping that reads");
    assert_eq!(sys::peek(reads), 7);
    assert_eq!(syscall!(SYS_mprotect, reads, 4096, both), Err(libc::EACCES));
    assert_eq!(syscall!(SYS_mprotect, before, 4096, libc::PROT_READ), Ok(0));
    assert_eq!(syscall!(SYS_mprotect, before, 4096, both), Ok(0));
}

fn other_files_have_none() {
    let (read, write) = sys::pipe(0);
    assert_eq!(seals(read), Err(libc::EINVAL));
    assert_eq!(seal(read, GROW), Err(libc::EPERM));
    assert_eq!(seal(write, GROW), Err(libc::EINVAL));
    for path in [c"/dev/null", c"/dev/zero", c"/proc/self/status"] {
        let file = syscall!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY, 0).expect("open") as i32;
        assert_eq!(seals(file), Err(libc::EINVAL), "{path:?}");
        sys::close(file);
    }
    let device = syscall!(SYS_openat, libc::AT_FDCWD, c"/dev/null".as_ptr(), libc::O_RDWR, 0).expect("open") as i32;
    assert_eq!(seal(device, GROW), Err(libc::EINVAL));
    sys::close(device);
}
