//! Mappings and faults.

use std::{
    ffi::c_void,
    sync::atomic::{AtomicI32, Ordering::SeqCst},
};

use crate::{
    sys::{self, fork, memory, mmap, peek, poke, wait_killed},
    syscall,
};

const PAGE: usize = 4096;
// `si_code` of SIGSEGV (asm-generic/siginfo.h).
const SEGV_MAPERR: i32 = 1;
const SEGV_ACCERR: i32 = 2;
const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;
const PRIVATE: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;

crate::tests! { "memory":
    anonymous_memory_is_zero_and_goes [frees];
    mmap_refuses_nonsense;
    fixed_mappings_replace;
    munmap_splits;
    mprotect_splits_and_merges;
    mremap_moves_grows_and_shrinks [frees];
    brk_grows_and_shrinks [frees];
    file_mappings;
    what_is_cut_off_a_mapped_file_is_sigbus;
    a_hole_in_a_mapped_file_shows_zeroes [frees];
    madvise_dontneed_zeroes;
    faults_tell_the_truth;
    the_stack_grows_and_ends;
    too_large_is_enomem;
    a_memory_hog_is_killed_and_nobody_else (180) [breenix "the whole machine's memory is used up"];
    a_hog_by_calls_is_killed_and_other_calls_wait (180) [breenix "the whole machine's memory is used up"];
    a_fork_bomb_eats_memory_and_the_kernel_lives (240) [breenix "the whole machine's memory is used up"];
}

fn anonymous_memory_is_zero_and_goes() {
    for _ in 0..50 {
        let address = memory(256 * PAGE);
        for page in 0..256 {
            assert_eq!(peek(address + page * PAGE + 17), 0);
            poke(address + page * PAGE + 17, 0xaa);
        }
        syscall!(SYS_munmap, address, 256 * PAGE).expect("munmap");
    }
}

fn mmap_refuses_nonsense() {
    assert_eq!(mmap(0, 0, RW, PRIVATE), Err(libc::EINVAL), "no length");
    assert_eq!(
        mmap(0, PAGE, RW, libc::MAP_ANONYMOUS),
        Err(libc::EINVAL),
        "neither shared nor private"
    );
    assert_eq!(
        mmap(1, PAGE, RW, PRIVATE | libc::MAP_FIXED),
        Err(libc::EINVAL),
        "unaligned"
    );
    assert_eq!(
        mmap(usize::MAX & !0xfff, PAGE, RW, PRIVATE | libc::MAP_FIXED),
        Err(libc::ENOMEM),
        "the kernel's half"
    );
    assert_eq!(mmap(0, usize::MAX - PAGE, RW, PRIVATE), Err(libc::ENOMEM), "everything");
    assert_eq!(
        syscall!(SYS_mmap, 0, PAGE, RW, libc::MAP_PRIVATE, 999, 0),
        Err(libc::EBADF)
    );
    assert_eq!(syscall!(SYS_munmap, 1, PAGE), Err(libc::EINVAL));
    assert_eq!(syscall!(SYS_munmap, PAGE, 0), Err(libc::EINVAL));
    let address = memory(PAGE);
    let fixed = PRIVATE | libc::MAP_FIXED_NOREPLACE;
    assert_eq!(mmap(address, PAGE, RW, fixed), Err(libc::EEXIST));
    assert_eq!(syscall!(SYS_mprotect, address + 1, PAGE, RW), Err(libc::EINVAL));
    syscall!(SYS_munmap, address, PAGE).expect("munmap");
    assert_eq!(
        syscall!(SYS_mprotect, address, PAGE, RW),
        Err(libc::ENOMEM),
        "nothing mapped there"
    );
    syscall!(SYS_munmap, address, PAGE).expect("munmap of nothing is fine");
}

fn fixed_mappings_replace() {
    let address = memory(3 * PAGE);
    (0..3).for_each(|page| poke(address + page * PAGE, 7));
    assert_eq!(
        mmap(address + PAGE, PAGE, RW, PRIVATE | libc::MAP_FIXED),
        Ok(address + PAGE)
    );
    let seen: Vec<u8> = (0..3).map(|page| peek(address + page * PAGE)).collect();
    assert_eq!(seen, [7, 0, 7]);
}

fn munmap_splits() {
    let address = memory(5 * PAGE);
    (0..5).for_each(|page| poke(address + page * PAGE, page as u8));
    syscall!(SYS_munmap, address + 2 * PAGE, PAGE).expect("munmap");
    assert_eq!(fault_of(|| poke(address + 2 * PAGE, 1)).0, SEGV_MAPERR);
    assert_eq!((peek(address + PAGE), peek(address + 3 * PAGE)), (1, 3));
}

fn mprotect_splits_and_merges() {
    let address = memory(3 * PAGE);
    poke(address + PAGE, 5);
    syscall!(SYS_mprotect, address + PAGE, PAGE, libc::PROT_READ).expect("mprotect");
    poke(address, 1);
    poke(address + 2 * PAGE, 1);
    assert_eq!(peek(address + PAGE), 5);
    assert_eq!(fault_of(|| poke(address + PAGE, 1)).0, SEGV_ACCERR);
    syscall!(SYS_mprotect, address, 3 * PAGE, RW).expect("mprotect");
    poke(address + PAGE, 6);
    syscall!(SYS_mprotect, address, PAGE, libc::PROT_NONE).expect("mprotect");
    assert_eq!(fault_of(|| touch(peek(address))).0, SEGV_ACCERR);
    let mut byte = [0];
    let (reader, writer) = sys::pipe(0);
    assert_eq!(
        syscall!(SYS_write, writer, address, 1),
        Err(libc::EFAULT),
        "nor may the kernel read it"
    );
    sys::write(writer, b"x").expect("write");
    syscall!(SYS_mprotect, address, PAGE, libc::PROT_READ).expect("mprotect");
    assert_eq!(
        syscall!(SYS_read, reader, address, 1),
        Err(libc::EFAULT),
        "nor write what is read-only"
    );
    assert_eq!(sys::read(reader, &mut byte), Ok(1), "and the byte is still there");
}

fn mremap_moves_grows_and_shrinks() {
    let address = memory(4 * PAGE);
    (0..4).for_each(|page| poke(address + page * PAGE, page as u8 + 1));
    let shrunk = syscall!(SYS_mremap, address, 4 * PAGE, 2 * PAGE, 0).expect("shrink");
    assert_eq!(shrunk, address);
    assert_eq!(fault_of(|| touch(peek(address + 3 * PAGE))).0, SEGV_MAPERR);
    let blocker = mmap(address + 2 * PAGE, PAGE, RW, PRIVATE | libc::MAP_FIXED).expect("mmap");
    assert_eq!(
        syscall!(SYS_mremap, address, 2 * PAGE, 3 * PAGE, 0),
        Err(libc::ENOMEM),
        "no room to grow in place"
    );
    let moved = syscall!(SYS_mremap, address, 2 * PAGE, 64 * PAGE, libc::MREMAP_MAYMOVE).expect("move");
    assert_ne!(moved, address);
    assert_eq!((peek(moved), peek(moved + PAGE), peek(moved + 63 * PAGE)), (1, 2, 0));
    assert_eq!(fault_of(|| touch(peek(address))).0, SEGV_MAPERR);
    assert_eq!(syscall!(SYS_mremap, address + 1, PAGE, PAGE, 0), Err(libc::EINVAL));
    assert_eq!(
        syscall!(SYS_mremap, address, PAGE, PAGE, 0),
        Err(libc::EFAULT),
        "nothing mapped"
    );
    syscall!(SYS_munmap, moved, 64 * PAGE).expect("munmap");
    syscall!(SYS_munmap, blocker, PAGE).expect("munmap");
}

fn brk_grows_and_shrinks() {
    sys::in_child(|| {
        let start = syscall!(SYS_brk, 0).expect("brk");
        let top = (start + PAGE - 1) & !(PAGE - 1);
        assert_eq!(syscall!(SYS_brk, top + 10 * PAGE), Ok(top + 10 * PAGE));
        poke(top + 9 * PAGE, 9);
        assert_eq!(syscall!(SYS_brk, top), Ok(top));
        assert_eq!(syscall!(SYS_brk, top + 10 * PAGE), Ok(top + 10 * PAGE));
        assert_eq!(peek(top + 9 * PAGE), 0, "what was given back comes again as zeroes");
        assert_eq!(
            syscall!(SYS_brk, usize::MAX / 2),
            Ok(top + 10 * PAGE),
            "too much: unchanged"
        );
        let _ = syscall!(SYS_brk, start);
    });
}

fn what_is_cut_off_a_mapped_file_is_sigbus() {
    for sharing in [libc::MAP_SHARED, libc::MAP_PRIVATE] {
        let file = syscall!(SYS_memfd_create, c"cut".as_ptr(), 0).expect("memfd_create");
        syscall!(SYS_ftruncate, file, 3 * PAGE).expect("ftruncate");
        let at = syscall!(SYS_mmap, 0, 3 * PAGE, RW, sharing, file, 0).expect("mmap");
        (0..3).for_each(|page| poke(at + page * PAGE, 1));
        let (signo, code, _) = fault(|| {
            // In the process that has the page, and by its own translation.
            poke(at + 2 * PAGE, 2);
            syscall!(SYS_ftruncate, file, PAGE + 1).expect("ftruncate");
            touch(peek(at + 2 * PAGE));
        });
        assert_eq!((signo, code), (libc::SIGBUS, libc::BUS_ADRERR));
        assert_eq!(peek(at + PAGE), 1, "what is left is as it was");
        let (signo, ..) = fault(|| touch(peek(at + 2 * PAGE)));
        assert_eq!(signo, libc::SIGBUS, "in every process");
        syscall!(SYS_munmap, at, 3 * PAGE).expect("munmap");
        sys::close(file as i32);
    }
}

fn a_hole_in_a_mapped_file_shows_zeroes() {
    const HOLE: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    let file = syscall!(SYS_memfd_create, c"hole".as_ptr(), 0).expect("memfd_create");
    syscall!(SYS_ftruncate, file, 3 * PAGE).expect("ftruncate");
    let map = |flags: i32| syscall!(SYS_mmap, 0, 3 * PAGE, RW, flags, file, 0).expect("mmap");
    let (shared, private) = (map(libc::MAP_SHARED), map(libc::MAP_PRIVATE));
    for round in 1..50 {
        (0..3).for_each(|page| poke(shared + page * PAGE, round));
        poke(private + PAGE, round + 100);
        assert_eq!(
            [peek(private), peek(private + PAGE), peek(private + 2 * PAGE)],
            [round, round + 100, round]
        );
        // The last page in part only: it stays, with zeroes in it.
        syscall!(SYS_fallocate, file, HOLE, PAGE, PAGE + 1).expect("fallocate");
        for (page, value) in [(0, round), (1, 0), (2, 0)] {
            assert_eq!(peek(shared + page * PAGE), value, "shared page {page}");
        }
        for (page, value) in [(0, round), (1, round + 100), (2, 0)] {
            assert_eq!(peek(private + page * PAGE), value, "private page {page}");
        }
    }
    [shared, private]
        .iter()
        .for_each(|&at| _ = syscall!(SYS_munmap, at, 3 * PAGE));
    sys::close(file as i32);
}

fn file_mappings() {
    let path = format!("/tmp/tests-map-{}", std::process::id());
    let mut bytes = vec![b'a'; PAGE];
    bytes.extend(vec![b'b'; 100]);
    std::fs::write(&path, &bytes).expect("write");
    let name = std::ffi::CString::new(path.as_str()).expect("no zero");
    let file = syscall!(SYS_openat, libc::AT_FDCWD, name.as_ptr(), libc::O_RDWR).expect("open");
    let map = |flags: i32, offset: usize| syscall!(SYS_mmap, 0, 2 * PAGE, RW, flags, file, offset);
    let shared = map(libc::MAP_SHARED, 0).expect("map shared");
    let private = map(libc::MAP_PRIVATE, 0).expect("map private");
    assert_eq!(
        (peek(shared), peek(shared + PAGE + 99), peek(shared + PAGE + 100)),
        (b'a', b'b', 0)
    );
    poke(private, b'p');
    poke(shared + 1, b's');
    assert_eq!((peek(shared), peek(private)), (b'a', b'p'));
    let now = std::fs::read(&path).expect("read");
    assert_eq!(
        (now[0], now[1], now.len()),
        (b'a', b's', bytes.len()),
        "the file has the shared write only"
    );
    syscall!(SYS_pwrite64, file, b"W".as_ptr(), 1, PAGE).expect("pwrite");
    assert_eq!(peek(shared + PAGE), b'W', "one page cache");
    assert_eq!(map(libc::MAP_SHARED, 1), Err(libc::EINVAL), "unaligned offset");
    syscall!(SYS_ftruncate, file, 10).expect("ftruncate");
    let (signo, code, _) = fault(|| touch(peek(shared + PAGE)));
    assert_eq!((signo, code), (libc::SIGBUS, libc::BUS_ADRERR), "past the file's end");
    let readonly = syscall!(SYS_openat, libc::AT_FDCWD, name.as_ptr(), libc::O_RDONLY).expect("open");
    assert_eq!(
        syscall!(SYS_mmap, 0, PAGE, RW, libc::MAP_SHARED, readonly, 0),
        Err(libc::EACCES)
    );
    std::fs::remove_file(&path).expect("remove");
}

fn madvise_dontneed_zeroes() {
    let address = memory(2 * PAGE);
    poke(address, 1);
    poke(address + PAGE, 2);
    syscall!(SYS_madvise, address, PAGE, libc::MADV_DONTNEED).expect("madvise");
    assert_eq!((peek(address), peek(address + PAGE)), (0, 2));
}

static REPORT: AtomicI32 = AtomicI32::new(-1);

extern "C" fn report(signo: i32, info: *mut libc::siginfo_t, _: *mut c_void) {
    let info = sys::info(info);
    let mut told = [0; 16];
    told[..4].copy_from_slice(&info.code.to_ne_bytes());
    told[4..8].copy_from_slice(&signo.to_ne_bytes());
    told[8..].copy_from_slice(&info.address.to_ne_bytes());
    let _ = sys::write(REPORT.load(SeqCst), &told);
    sys::exit(77);
}

/// The `si_code` and address of the fault that `body` raises, seen by a handler in a child.
fn fault_of(body: impl FnOnce()) -> (i32, usize) {
    let (_, code, address) = fault(body);
    (code, address)
}

/// The signal, `si_code` and address. Nothing is mapped here for it: holes in the test's own mappings must stay holes.
pub fn fault(body: impl FnOnce()) -> (i32, i32, usize) {
    let (reader, writer) = sys::pipe(0);
    REPORT.store(writer, SeqCst);
    let pid = fork(|| {
        sys::handle(libc::SIGSEGV, 0, &[], report);
        sys::handle(libc::SIGBUS, 0, &[], report);
        body();
        0
    });
    assert_eq!(sys::wait_exit(pid), 77, "no fault came");
    let mut told = [0; 16];
    assert_eq!(sys::read(reader, &mut told), Ok(16));
    sys::close(reader);
    sys::close(writer);
    let word = |at: usize| i32::from_ne_bytes([told[at], told[at + 1], told[at + 2], told[at + 3]]);
    (
        word(4),
        word(0),
        usize::from_ne_bytes(std::array::from_fn(|i| told[8 + i])),
    )
}

/// Uses a value that was read for its fault.
pub fn touch(value: u8) {
    std::hint::black_box(value);
}

fn faults_tell_the_truth() {
    assert_eq!(fault_of(|| poke(0x10, 1)), (SEGV_MAPERR, 0x10), "near null");
    let address = memory(PAGE);
    assert_eq!(
        fault_of(|| sys::jump(address)),
        (SEGV_ACCERR, address),
        "not executable"
    );
    syscall!(SYS_mprotect, address, PAGE, libc::PROT_READ).expect("mprotect");
    assert_eq!(
        fault_of(|| poke(address + 123, 1)),
        (SEGV_ACCERR, address + 123),
        "read-only"
    );
    let killed = fork(|| {
        poke(0, 1);
        0
    });
    assert_eq!(wait_killed(killed), libc::SIGSEGV, "without a handler it kills");
    let blocked = fork(|| {
        sys::mask(libc::SIG_BLOCK, &[libc::SIGSEGV]);
        poke(0, 1);
        0
    });
    assert_eq!(wait_killed(blocked), libc::SIGSEGV, "blocked: it kills as well");
}

fn the_stack_grows_and_ends() {
    #[inline(never)]
    fn deep(levels: usize) -> usize {
        let mut frame = [levels as u8; 1024];
        std::hint::black_box(&mut frame);
        if levels == 0 {
            0
        } else {
            deep(levels - 1) + usize::from(frame[1023] == levels as u8)
        }
    }
    assert_eq!(deep(4000), 4000, "4 MiB of stack");
    let endless = fork(|| {
        // std's own handler for this speaks; the signal alone matters here.
        sys::disposition(libc::SIGSEGV, libc::SIG_DFL);
        i32::from(deep(100_000_000) == 3)
    });
    assert_eq!(wait_killed(endless), libc::SIGSEGV, "past the limit");
}

fn too_large_is_enomem() {
    assert_eq!(mmap(0, 1 << 47, RW, PRIVATE), Err(libc::ENOMEM));
}

fn a_memory_hog_is_killed_and_nobody_else() {
    let bystander = fork(|| {
        sys::sleep_ms(2000);
        5
    });
    let hog = fork(|| {
        loop {
            match mmap(0, 1 << 20, RW, PRIVATE) {
                Ok(address) => (0..256).for_each(|page| poke(address + page * PAGE, 1)),
                Err(_) => return 0,
            }
        }
    });
    let (_, status) = sys::wait(hog, 0).expect("wait4");
    assert!(
        libc::WIFEXITED(status) || libc::WTERMSIG(status) == libc::SIGKILL,
        "the hog ended by {}",
        libc::WTERMSIG(status)
    );
    assert_eq!(sys::wait_exit(bystander), 5, "somebody else was killed");
}

/// Fills fresh memory by a call; what the call answers.
fn fill_by_call(zero: i32, length: usize) -> (usize, sys::Sys) {
    let address = memory(length);
    (address, syscall!(SYS_read, zero, address, length))
}

fn a_hog_by_calls_is_killed_and_other_calls_wait() {
    let zero = syscall!(SYS_openat, libc::AT_FDCWD, c"/dev/zero".as_ptr(), libc::O_RDONLY).expect("open") as i32;
    let over = &sys::shared_counters(1)[0];
    let bystander = fork(|| {
        while over.load(SeqCst) == 0 {
            let (address, answer) = fill_by_call(zero, 1 << 16);
            if answer != Ok(1 << 16) {
                return answer.err().unwrap_or(1);
            }
            syscall!(SYS_munmap, address, 1 << 16).expect("munmap");
        }
        0
    });
    let hog = fork(|| {
        loop {
            let (_, answer) = fill_by_call(zero, 1 << 20);
            if answer != Ok(1 << 20) {
                return answer.err().unwrap_or(1);
            }
        }
    });
    assert_eq!(
        wait_killed(hog),
        libc::SIGKILL,
        "who takes all memory by calls is killed too"
    );
    over.store(1, SeqCst);
    assert_eq!(sys::wait_exit(bystander), 0, "a call that met exhausted memory failed");
}

/// Takes memory, forks on, and again.
fn bomb(end: u64) -> i32 {
    while sys::now() < end {
        if let Ok(address) = mmap(0, 256 * PAGE, RW, PRIVATE) {
            (0..256).for_each(|page| poke(address + page * PAGE, 1));
        }
        // Refused or not: that is the kernel's business.
        let _refused = sys::try_fork(|| bomb(end)).is_err();
        sys::sleep_ms(5);
    }
    0
}

fn a_fork_bomb_eats_memory_and_the_kernel_lives() {
    let end = sys::now() + 15_000_000_000;
    let first = fork(|| {
        let _ = syscall!(SYS_setpgid, 0, 0);
        bomb(end)
    });
    sys::sleep_ms(10_000);
    // A fork may slip past a kill of the group: until nobody is left.
    while sys::kill(-first, libc::SIGKILL).is_ok() {
        let _ = sys::wait(first, libc::WNOHANG);
        sys::sleep_ms(20);
    }
    assert_eq!(sys::wait_exit(fork(|| 3)), 3, "there is life after it");
}
