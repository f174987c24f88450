//! `membarrier(2)`.

use std::{
    hint::spin_loop,
    sync::atomic::{AtomicU32, AtomicUsize, Ordering::*, compiler_fence},
    thread,
};

use crate::{
    sys::{Sys, cpus, fork, pin, wait_exit},
    syscall,
};

crate::tests! { "barriers":
    commands_are_checked;
    private_ones_are_registered_first;
    a_child_has_what_its_parent_registered;
    stores_and_loads_are_ordered;
}

const GLOBAL: i32 = 1;
const GLOBAL_EXPEDITED: i32 = 2;
const REGISTER_GLOBAL: i32 = 4;
const PRIVATE: i32 = 8;
const SYNC_CORE: i32 = 32;
const RSEQ: i32 = 128;

fn barrier(command: i32, flags: u32, cpu: i32) -> Sys {
    syscall!(SYS_membarrier, command, flags, cpu)
}

fn commands_are_checked() {
    let all = barrier(0, 0, 0).expect("query") as i32;
    for command in [
        GLOBAL,
        GLOBAL_EXPEDITED,
        REGISTER_GLOBAL,
        PRIVATE,
        PRIVATE * 2,
        SYNC_CORE,
        SYNC_CORE * 2,
    ] {
        assert_eq!(all & command, command, "{command}");
    }
    for command in [3, PRIVATE | GLOBAL, 1 << 20, -1, i32::MIN] {
        assert_eq!(barrier(command, 0, 0), Err(libc::EINVAL), "{command}");
    }
    for command in [0, GLOBAL, GLOBAL_EXPEDITED, PRIVATE, SYNC_CORE] {
        assert_eq!(barrier(command, 1, 0), Err(libc::EINVAL), "{command}");
    }
    assert_eq!(barrier(RSEQ, 2, 0), Err(libc::EINVAL));
    assert_eq!(barrier(GLOBAL, 0, 0), Ok(0));
    assert_eq!(barrier(REGISTER_GLOBAL, 0, 0), Ok(0));
    assert_eq!(barrier(GLOBAL_EXPEDITED, 0, 0), Ok(0));
}

fn private_ones_are_registered_first() {
    for command in [PRIVATE, SYNC_CORE, RSEQ] {
        assert_eq!(barrier(command, 0, 0), Err(libc::EPERM), "{command}");
        assert_eq!(barrier(command * 2, 0, 0), Ok(0));
        assert_eq!(barrier(command, 0, 0), Ok(0), "{command}");
    }
    for cpu in [0, 63, 64, 1000, i32::MAX, -1, i32::MIN] {
        assert_eq!(barrier(RSEQ, 1, cpu), Ok(0), "{cpu}");
    }
}

fn a_child_has_what_its_parent_registered() {
    assert_eq!(barrier(PRIVATE * 2, 0, 0), Ok(0));
    let child = fork(|| {
        assert_eq!(barrier(PRIVATE, 0, 0), Ok(0));
        assert_eq!(barrier(SYNC_CORE, 0, 0), Err(libc::EPERM));
        0
    });
    assert_eq!(wait_exit(child), 0);
}

/// Two threads that each store and then load what the other stores. One has no barrier, and the other `membarrier`: at least one of
/// them sees the other's store.
fn stores_and_loads_are_ordered() {
    const ROUNDS: usize = 500;
    let cpus = cpus();
    if cpus.len() < 2 {
        return;
    }
    assert_eq!(barrier(PRIVATE * 2, 0, 0), Ok(0));
    let words = [AtomicU32::new(0), AtomicU32::new(0)];
    let round = AtomicUsize::new(0);
    // The round, and whether the other's store was seen in it.
    let seen = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            pin(&[cpus[1]]);
            for number in 1..=ROUNDS {
                while round.load(Acquire) < number {
                    spin_loop();
                }
                words[1].store(number as u32, Relaxed);
                compiler_fence(SeqCst);
                let other = words[0].load(Relaxed);
                seen.store(number << 1 | usize::from(other == number as u32), Release);
            }
        });
        pin(&[cpus[0]]);
        for number in 1..=ROUNDS {
            round.store(number, Release);
            words[0].store(number as u32, Relaxed);
            assert_eq!(barrier(PRIVATE, 0, 0), Ok(0));
            let other = words[1].load(Relaxed) == number as u32;
            let theirs = loop {
                let seen = seen.load(Acquire);
                if seen >> 1 == number {
                    break seen & 1 != 0;
                }
                spin_loop();
            };
            assert!(other || theirs, "round {number}: neither saw the other's store");
        }
    });
}
