//! Mappings that move (`mremap`): pages without their mapping, and what the kernel gave the program.

use std::{
    ffi::c_void,
    fs,
    sync::atomic::{AtomicI32, Ordering::SeqCst},
};

use crate::{
    sys::{self, fork, handle, kill, memory, mmap, peek, poke, wait_exit},
    syscall,
};

const PAGE: usize = 4096;
const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;
const MOVES: i32 = libc::MREMAP_MAYMOVE;
const STAYS: i32 = libc::MREMAP_MAYMOVE | libc::MREMAP_DONTUNMAP;

crate::tests! { "moving":
    pages_move_and_an_empty_mapping_stays [frees];
    what_is_shared_is_seen_at_both_places;
    pages_move_to_a_given_place;
    staying_asks_for_the_same_length;
    the_vdso_moves;
}

fn pages_move_and_an_empty_mapping_stays() {
    let old = memory(3 * PAGE);
    for page in 0..3 {
        poke(old + page * PAGE, page as u8 + 1);
    }
    let new = syscall!(SYS_mremap, old + PAGE, PAGE, PAGE, STAYS).expect("mremap");
    assert!(!(old..old + 3 * PAGE).contains(&new));
    assert_eq!(peek(new), 2);
    assert_eq!([peek(old), peek(old + PAGE), peek(old + 2 * PAGE)], [1, 0, 3]);
    poke(old + PAGE, 9);
    assert_eq!([peek(new), peek(old + PAGE)], [2, 9], "they are two");
    syscall!(SYS_munmap, old, 3 * PAGE).expect("munmap");
    syscall!(SYS_munmap, new, PAGE).expect("munmap");
}

fn what_is_shared_is_seen_at_both_places() {
    let old = mmap(0, PAGE, RW, libc::MAP_SHARED | libc::MAP_ANONYMOUS).expect("mmap");
    poke(old, 7);
    let new = syscall!(SYS_mremap, old, PAGE, PAGE, STAYS).expect("mremap");
    assert_eq!([peek(old), peek(new)], [7, 7]);
    poke(old, 8);
    assert_eq!(peek(new), 8);
}

fn pages_move_to_a_given_place() {
    let (old, place) = (memory(2 * PAGE), memory(2 * PAGE));
    poke(old + PAGE, 5);
    poke(place, 6);
    let new = syscall!(SYS_mremap, old, 2 * PAGE, 2 * PAGE, STAYS | libc::MREMAP_FIXED, place);
    assert_eq!(new, Ok(place));
    assert_eq!([peek(place), peek(place + PAGE), peek(old + PAGE)], [0, 5, 0]);
}

fn staying_asks_for_the_same_length() {
    let old = memory(2 * PAGE);
    assert_eq!(syscall!(SYS_mremap, old, 2 * PAGE, PAGE, STAYS), Err(libc::EINVAL));
    assert_eq!(syscall!(SYS_mremap, old, PAGE, 2 * PAGE, STAYS), Err(libc::EINVAL));
    assert_eq!(
        syscall!(SYS_mremap, old, PAGE, PAGE, libc::MREMAP_DONTUNMAP),
        Err(libc::EINVAL),
        "it has to move"
    );
}

static HANDLED: AtomicI32 = AtomicI32::new(0);

extern "C" fn note(signo: i32, _: *mut libc::siginfo_t, _: *mut c_void) {
    HANDLED.store(signo, SeqCst);
}

/// Handlers without a restorer, which Arm's programs need not give, return by way of it.
fn the_vdso_moves() {
    let maps = fs::read_to_string("/proc/self/maps").expect("/proc/self/maps");
    let line = maps.lines().find(|line| line.ends_with("[vdso]")).expect("a vDSO");
    let (start, end) = line
        .split(' ')
        .next()
        .and_then(|range| range.split_once('-'))
        .expect("a range");
    let number = |word| usize::from_str_radix(word, 16).expect("an address");
    let (start, length) = (number(start), number(end) - number(start));
    // In a process whose C library asks the vDSO nothing more.
    let child = fork(|| {
        handle(libc::SIGUSR1, 0, &[], note);
        if cfg!(target_arch = "aarch64") {
            let [handler, flags, _, mask] = sys::exchange_action(libc::SIGUSR1, None).expect("the action");
            let without = [handler, flags & !0x0400_0000, 0, mask];
            sys::exchange_action(libc::SIGUSR1, Some(without)).expect("rt_sigaction");
        }
        let place = memory(length);
        let fixed = MOVES | libc::MREMAP_FIXED;
        assert_eq!(syscall!(SYS_mremap, start, length, length, fixed, place), Ok(place));
        kill(std::process::id() as i32, libc::SIGUSR1).expect("kill");
        assert_eq!(HANDLED.load(SeqCst), libc::SIGUSR1);
        0
    });
    assert_eq!(wait_exit(child), 0);
}
