//! Waiters that are moved from one word to a lock.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use super::{NOBODY, WAITERS, asleep, end, expect_priority, fifo, futex, handled, lock, tid, unlock, waiting, words};
use crate::sys::{self, fork, wait_exit};

crate::tests! { "requeue":
    waiters_are_moved_to_a_lock (60);
    moving_refuses_nonsense;
    a_moved_waiter_gives_up;
}

const WAIT_REQUEUE: i32 = libc::FUTEX_WAIT_REQUEUE_PI;
const MOVE: i32 = libc::FUTEX_CMP_REQUEUE_PI;

/// A child that waits by the first word to be given the second; it notes its number and frees it.
fn follower(pair: &'static [AtomicU32], urgency: i32, order: &'static [AtomicU32], number: u32) -> i32 {
    let said = &words(1)[0];
    let child = fork(move || {
        fifo(0, urgency);
        said.store(1, SeqCst);
        futex(&pair[0], WAIT_REQUEUE, 0, 0, pair[1].as_ptr() as usize, 0).expect("the lock");
        assert_eq!(pair[1].load(SeqCst) & !WAITERS, tid());
        let at = order[0].fetch_add(1, SeqCst) + 1;
        order[at as usize].store(number, SeqCst);
        unlock(&pair[1]).expect("its lock");
        0
    });
    waiting(child, said);
    child
}

fn waiters_are_moved_to_a_lock() {
    let own = std::process::id() as i32;
    for is_held in [true, false] {
        let (pair, order) = (words(2), words(5));
        let target = pair[1].as_ptr() as usize;
        let followers: Vec<i32> = (1..)
            .zip([0, 30, 0, 20])
            .map(|(number, urgency)| follower(pair, urgency, order, number))
            .collect();
        assert_eq!(futex(&pair[0], libc::FUTEX_WAKE, 1, 0, 0, 0), Err(libc::EINVAL));
        assert_eq!(
            futex(&pair[0], libc::FUTEX_CMP_REQUEUE, 0, 1, target, 0),
            Err(libc::EINVAL)
        );
        assert_eq!(
            futex(&pair[0], MOVE, 1, 9, target, 7),
            Err(libc::EAGAIN),
            "another value"
        );
        if is_held {
            lock(&pair[1]).expect("the lock");
            // The best alone, then the rest.
            assert_eq!(futex(&pair[0], MOVE, 1, 0, target, 0), Ok(1));
            expect_priority(own, 30);
            assert_eq!(futex(&pair[0], MOVE, 1, 9, target, 0), Ok(3));
            assert_eq!(order[0].load(SeqCst), 0, "all wait for the lock");
            unlock(&pair[1]).expect("the lock");
        } else {
            assert_eq!(futex(&pair[0], MOVE, 1, 9, target, 0), Ok(4));
        }
        followers.into_iter().for_each(|child| assert_eq!(wait_exit(child), 0));
        let order: Vec<u32> = order[1..].iter().map(|number| number.load(SeqCst)).collect();
        assert_eq!(order, [2, 4, 1, 3]);
        assert_eq!(futex(&pair[0], MOVE, 1, 9, target, 0), Ok(0), "nobody is left");
        assert_eq!(pair[1].load(SeqCst), 0);
    }
}

fn moving_refuses_nonsense() {
    let (pair, other) = (words(2), words(1));
    let (from, to) = (pair[0].as_ptr() as usize, pair[1].as_ptr() as usize);
    assert_eq!(futex(&pair[0], MOVE, 2, 1, to, 0), Err(libc::EINVAL), "wakes but one");
    assert_eq!(futex(&pair[0], MOVE, 0, 1, to, 0), Err(libc::EINVAL));
    assert_eq!(futex(&pair[0], MOVE, 1, 1 << 31, to, 0), Err(libc::EINVAL));
    assert_eq!(futex(&pair[0], MOVE, 1, 1, from, 0), Err(libc::EINVAL));
    assert_eq!(futex(&pair[0], WAIT_REQUEUE, 0, 0, from, 0), Err(libc::EINVAL));
    assert_eq!(futex(&pair[0], WAIT_REQUEUE, 1, 0, to, 0), Err(libc::EAGAIN));
    assert_eq!(futex(&pair[0], WAIT_REQUEUE, 0, 0, to + 1, 0), Err(libc::EINVAL));
    assert_eq!(futex(&pair[0], WAIT_REQUEUE, 0, 0, 4096, 0), Err(libc::EFAULT));
    // A plain waiter is not moved to a lock, nor one that waits for another.
    let child = fork(|| i32::from(futex(&pair[0], libc::FUTEX_WAIT, 0, 0, 0, 0) != Ok(0)));
    asleep(child);
    assert_eq!(futex(&pair[0], MOVE, 1, 1, to, 0), Err(libc::EINVAL));
    assert_eq!(futex(&pair[0], libc::FUTEX_WAKE, 1, 0, 0, 0), Ok(1));
    assert_eq!(wait_exit(child), 0);
    let order = words(2);
    let child = follower(pair, 0, order, 1);
    assert_eq!(
        futex(&pair[0], MOVE, 1, 1, other.as_ptr() as usize, 0),
        Err(libc::EINVAL)
    );
    pair[1].store(child as u32, SeqCst);
    assert_eq!(
        futex(&pair[0], MOVE, 1, 1, to, 0),
        Err(libc::EDEADLK),
        "it has the lock"
    );
    pair[1].store(NOBODY, SeqCst);
    assert_eq!(futex(&pair[0], MOVE, 1, 1, to, 0), Err(libc::ESRCH));
    pair[1].store(0, SeqCst);
    assert_eq!(futex(&pair[0], MOVE, 1, 1, to, 0), Ok(1));
    assert_eq!(wait_exit(child), 0);
}

fn a_moved_waiter_gives_up() {
    let pair = words(2);
    let (to, own) = (pair[1].as_ptr() as usize, std::process::id() as i32);
    lock(&pair[1]).expect("the lock");
    let wait = |clock: i32, flag: i32, result: &'static AtomicU32| {
        fork(move || {
            sys::handle(libc::SIGUSR1, 0, &[], handled);
            fifo(0, 33);
            let time = sys::timespec(sys::clock(clock) + 200_000_000);
            let until = if flag < 0 { 0 } else { &raw const time as usize };
            let waited = futex(&pair[0], WAIT_REQUEUE | flag.max(0), 0, until, to, 0);
            result.store(waited.err().unwrap_or(0) as u32, SeqCst);
            0
        })
    };
    let result = &words(1)[0];
    // It is not moved; it is.
    for (clock, flag) in [
        (libc::CLOCK_MONOTONIC, 0),
        (libc::CLOCK_REALTIME, libc::FUTEX_CLOCK_REALTIME),
    ] {
        for is_moved in [false, true] {
            let child = wait(clock, flag, result);
            while is_moved && futex(&pair[0], MOVE, 1, 0, to, 0) != Ok(1) {
                sys::sleep_ms(1);
            }
            assert_eq!((wait_exit(child), result.load(SeqCst)), (0, libc::ETIMEDOUT as u32));
            expect_priority(own, 0);
        }
    }
    // A signal has it wait again, or tells that the word is another's.
    let child = wait(libc::CLOCK_MONOTONIC, -1, result);
    asleep(child);
    sys::kill(child, libc::SIGUSR1).expect("kill");
    sys::sleep_ms(30);
    while futex(&pair[0], MOVE, 1, 0, to, 0) != Ok(1) {
        sys::sleep_ms(1);
    }
    expect_priority(own, 33);
    sys::kill(child, libc::SIGUSR1).expect("kill");
    assert_eq!((wait_exit(child), result.load(SeqCst)), (0, libc::EAGAIN as u32));
    expect_priority(own, 0);
    // Killed where it waits for the lock.
    let child = wait(libc::CLOCK_MONOTONIC, -1, result);
    while futex(&pair[0], MOVE, 1, 0, to, 0) != Ok(1) {
        sys::sleep_ms(1);
    }
    expect_priority(own, 33);
    end(child);
    expect_priority(own, 0);
    assert_eq!(unlock(&pair[1]), Ok(0));
}
