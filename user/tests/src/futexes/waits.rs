//! Futexes beyond waiting and waking: several at once, the calls with a size, whose turn it is.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use super::{OWNER_DIED, WAITERS, asleep, fifo, futex, handled, stop_and_continue, tid, words};
use crate::{
    sys::{self, fork, wait_exit},
    syscall,
};

crate::tests! { "futexes":
    the_more_urgent_is_woken_first;
    counts_and_words_are_checked;
    several_words_are_waited_for_at_once;
    waiting_for_several_refuses_nonsense;
    several_are_waited_for_until_a_time;
    a_handler_may_end_a_wait_for_several;
    a_lock_that_was_about_to_be_freed_is_told_of;
    calls_with_a_size [needs SIZED_FUTEXES];
}

const SIZE_U32: u32 = 2;
const PRIVATE: u32 = 128;

/// `struct futex_waitv`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Waitv {
    value: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

fn entry(word: &AtomicU32, value: u32) -> Waitv {
    Waitv {
        value: value.into(),
        address: word.as_ptr() as u64,
        flags: SIZE_U32,
        reserved: 0,
    }
}

fn waitv(entries: &[Waitv], flags: u32, until: Option<u64>, clock: i32) -> sys::Sys {
    let time = until.map(sys::timespec);
    let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    syscall!(SYS_futex_waitv, entries.as_ptr(), entries.len(), flags, time, clock)
}

fn wake(word: &AtomicU32, count: u32) -> sys::Sys {
    futex(word, libc::FUTEX_WAKE, count, 0, 0, 0)
}

fn the_more_urgent_is_woken_first() {
    let (word, order) = (&words(1)[0], words(5));
    let children = [0, 40, 0, 50].map(|urgency| {
        let child = fork(move || {
            fifo(0, urgency);
            futex(word, libc::FUTEX_WAIT, 0, 0, 0, 0).expect("woken");
            let at = order[0].fetch_add(1, SeqCst) + 1;
            order[at as usize].store(urgency as u32 + 1, SeqCst);
            0
        });
        sys::sleep_ms(20);
        asleep(child);
        child
    });
    for woken in 1..=4 {
        assert_eq!(wake(word, 1), Ok(1));
        while order[0].load(SeqCst) < woken {
            sys::sleep_ms(1);
        }
    }
    children.into_iter().for_each(|child| assert_eq!(wait_exit(child), 0));
    let order: Vec<u32> = order[1..].iter().map(|number| number.load(SeqCst)).collect();
    assert_eq!(order, [51, 41, 1, 1]);
}

fn counts_and_words_are_checked() {
    let word = &words(1)[0];
    let children = [0; 3].map(|_| {
        let child = fork(|| i32::from(futex(word, libc::FUTEX_WAIT, 0, 0, 0, 0) != Ok(0)));
        asleep(child);
        child
    });
    sys::sleep_ms(20);
    // A count that is no positive number means one.
    assert_eq!(wake(word, 0), Ok(1));
    assert_eq!(wake(word, u32::MAX), Ok(1));
    assert_eq!(wake(word, i32::MAX as u32), Ok(1));
    children.into_iter().for_each(|child| assert_eq!(wait_exit(child), 0));
    let bits = libc::FUTEX_WAKE_BITSET;
    assert_eq!(futex(word, bits, 1, 0, 0, 0), Err(libc::EINVAL));
    let call = |address: usize, operation: i32| syscall!(SYS_futex, address, operation, 1, 0, 0, 0);
    assert_eq!(
        call(4096, libc::FUTEX_WAKE),
        Err(libc::EFAULT),
        "shared, it has to be there"
    );
    assert_eq!(call(4096, libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG), Ok(0));
    let outside = call(usize::MAX - 3, libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG);
    assert_eq!(outside, Err(libc::EFAULT));
    // The time is looked at before the operation.
    assert_eq!(
        futex(word, libc::FUTEX_WAIT | libc::FUTEX_CLOCK_REALTIME, 0, 8, 0, 0),
        Err(libc::EFAULT)
    );
    assert_eq!(
        futex(word, libc::FUTEX_WAIT | libc::FUTEX_CLOCK_REALTIME, 0, 0, 0, 0),
        Err(libc::ENOSYS)
    );
}

fn several_words_are_waited_for_at_once() {
    let (all, index) = (words(128), &words(1)[0]);
    for woken in [0, 5, 127] {
        let child = fork(|| {
            let entries: Vec<Waitv> = all.iter().map(|word| entry(word, 0)).collect();
            index.store(waitv(&entries, 0, None, 0).map_or(999, |index| index as u32), SeqCst);
            0
        });
        while wake(&all[woken], 1) != Ok(1) {
            sys::sleep_ms(1);
        }
        assert_eq!((wait_exit(child), index.load(SeqCst)), (0, woken as u32));
        assert!(all.iter().all(|word| wake(word, 1) == Ok(0)), "it waits for none");
    }
    // One word twice, and moved to another.
    let child = fork(|| {
        let entries = [entry(&all[0], 0), entry(&all[1], 0), entry(&all[1], 0)];
        waitv(&entries, 0, None, 0).map_or(99, |index| index as i32)
    });
    let second = all[2].as_ptr() as usize;
    while futex(&all[0], libc::FUTEX_REQUEUE, 0, 1, second, 0) != Ok(1) {
        sys::sleep_ms(1);
    }
    assert_eq!(wake(&all[0], 1), Ok(0));
    assert_eq!(wake(&all[2], 1), Ok(1));
    assert_eq!(wait_exit(child), 0);
}

fn waiting_for_several_refuses_nonsense() {
    let all = words(129);
    let entries: Vec<Waitv> = all.iter().map(|word| entry(word, 0)).collect();
    let call = |entries: &[Waitv]| waitv(entries, 0, Some(0), libc::CLOCK_MONOTONIC);
    assert_eq!(call(&entries[..128]), Err(libc::ETIMEDOUT));
    assert_eq!(call(&entries), Err(libc::EINVAL), "too many");
    assert_eq!(call(&[]), Err(libc::EINVAL));
    assert_eq!(waitv(&entries[..1], 1, None, 0), Err(libc::EINVAL), "flags");
    for clock in [2, libc::CLOCK_BOOTTIME, -1] {
        assert_eq!(waitv(&entries[..1], 0, Some(0), clock), Err(libc::EINVAL), "{clock}");
    }
    assert_eq!(syscall!(SYS_futex_waitv, 0, 1, 0, 0, 0), Err(libc::EINVAL));
    assert_eq!(syscall!(SYS_futex_waitv, 4096, 1, 0, 0, 0), Err(libc::EFAULT));
    assert_eq!(
        syscall!(SYS_futex_waitv, entries.as_ptr(), 1, 0, 8, 1),
        Err(libc::EFAULT)
    );
    let bad = libc::timespec { tv_sec: 0, tv_nsec: -1 };
    assert_eq!(
        syscall!(SYS_futex_waitv, entries.as_ptr(), 1, 0, &raw const bad, 1),
        Err(libc::EINVAL)
    );
    // The second of two is wrong.
    let with = |change: &dyn Fn(&mut Waitv)| {
        let mut pair = [entries[0], entries[1]];
        change(&mut pair[1]);
        call(&pair)
    };
    assert_eq!(with(&|entry| entry.value = 1), Err(libc::EAGAIN));
    assert_eq!(with(&|entry| entry.reserved = 1), Err(libc::EINVAL));
    for flags in [0, 1, 3, SIZE_U32 | 4, SIZE_U32 | 8, SIZE_U32 | 256, PRIVATE] {
        assert_eq!(with(&|entry| entry.flags = flags), Err(libc::EINVAL), "{flags}");
    }
    assert_eq!(with(&|entry| entry.address += 1), Err(libc::EINVAL));
    assert_eq!(with(&|entry| entry.address = 4096), Err(libc::EFAULT));
    assert_eq!(
        with(&|entry| (entry.address, entry.flags) = (4096, SIZE_U32 | PRIVATE)),
        Err(libc::EFAULT)
    );
    assert_eq!(wake(&all[0], 1), Ok(0), "the first is not waited for");
}

fn several_are_waited_for_until_a_time() {
    let all = words(2);
    let entries = [entry(&all[0], 0), entry(&all[1], 0)];
    for clock in [libc::CLOCK_MONOTONIC, libc::CLOCK_REALTIME] {
        let until = sys::clock(clock) + 30_000_000;
        assert_eq!(waitv(&entries, 0, Some(until), clock), Err(libc::ETIMEDOUT));
        assert!(sys::clock(clock) >= until);
    }
}

fn a_handler_may_end_a_wait_for_several() {
    let all = words(2);
    for (flags, expected) in [(0, libc::EINTR as u32), (libc::SA_RESTART, 1000)] {
        let result = &words(1)[0];
        let child = fork(|| {
            sys::handle(libc::SIGUSR1, flags, &[], handled);
            let waited = waitv(&[entry(&all[0], 0), entry(&all[1], 0)], 0, None, 0);
            result.store(
                waited.map_or_else(|errno| errno as u32, |index| 999 + index as u32),
                SeqCst,
            );
            0
        });
        sys::sleep_ms(30);
        asleep(child);
        sys::kill(child, libc::SIGUSR1).expect("kill");
        if flags != 0 {
            sys::sleep_ms(30);
            while wake(&all[1], 1) != Ok(1) {
                sys::sleep_ms(1);
            }
        }
        assert_eq!((wait_exit(child), result.load(SeqCst)), (0, expected));
    }
    // One that has a time goes on by itself where no handler runs, and is ended by one also if that says to restart.
    let word = &words(1)[0];
    for operation in [
        libc::FUTEX_WAIT,
        libc::FUTEX_WAIT_BITSET,
        libc::FUTEX_WAIT_BITSET | libc::FUTEX_CLOCK_REALTIME,
    ] {
        let clock = if operation & libc::FUTEX_CLOCK_REALTIME != 0 {
            libc::CLOCK_REALTIME
        } else {
            libc::CLOCK_MONOTONIC
        };
        let child = fork(|| {
            sys::handle(libc::SIGUSR1, libc::SA_RESTART, &[], handled);
            let base = if operation == libc::FUTEX_WAIT {
                0
            } else {
                sys::clock(clock)
            };
            let time = sys::timespec(base + 20_000_000_000);
            let waited = futex(word, operation, 0, &raw const time as usize, 0, u32::MAX);
            i32::from(waited != Err(libc::EINTR))
        });
        sys::sleep_ms(30);
        asleep(child);
        stop_and_continue(child);
        sys::kill(child, libc::SIGUSR1).expect("kill");
        assert_eq!(wait_exit(child), 0, "{operation}");
    }
}

fn a_lock_that_was_about_to_be_freed_is_told_of() {
    // A head whose pending entry's word is free already: who waits for it may not have been woken.
    let (word, list) = (&words(1)[0], sys::shared_counters(3));
    let waiter = fork(|| i32::from(futex(word, libc::FUTEX_WAIT, 0, 0, 0, 0) != Ok(0)));
    sys::sleep_ms(20);
    asleep(waiter);
    let die = |value: u32| {
        let child = fork(|| {
            let head = list.as_ptr() as u64;
            list[0].store(head, SeqCst);
            list[2].store(word.as_ptr() as u64 - list[1].load(SeqCst), SeqCst);
            word.store(if value == 1 { tid() | WAITERS } else { value }, SeqCst);
            syscall!(SYS_set_robust_list, head, 24).expect("set_robust_list");
            0
        });
        assert_eq!(wait_exit(child), 0);
    };
    die(0);
    assert_eq!(wait_exit(waiter), 0);
    die(1);
    assert_eq!(word.load(SeqCst), WAITERS | OWNER_DIED);
    die(77);
    assert_eq!(word.load(SeqCst), 77, "another's");
}

fn calls_with_a_size() {
    let all = words(2);
    let (word, other) = (&all[0], &all[1]);
    let at = word.as_ptr() as usize;
    let wake = |mask: usize, count: i32, flags: u32| sys::call(454, &[at, mask, count as usize, flags as usize]);
    let wait = |value: usize, mask: usize, flags: u32, time: usize, clock: i32| {
        sys::call(455, &[at, value, mask, flags as usize, time, clock as usize])
    };
    let past = sys::timespec(1);
    let past = &raw const past as usize;
    for flags in [0, 1, 3, SIZE_U32 | 4, SIZE_U32 | 8, SIZE_U32 | 64, 1 << 31 | SIZE_U32] {
        assert_eq!(wake(1, 1, flags), Err(libc::EINVAL), "{flags:x}");
        assert_eq!(wait(0, 1, flags, 0, 0), Err(libc::EINVAL), "{flags:x}");
    }
    assert_eq!(wake(0, 1, SIZE_U32), Err(libc::EINVAL), "no bits");
    assert_eq!(wait(0, 0, SIZE_U32, past, 1), Err(libc::EINVAL));
    assert_eq!(wake(1 << 32, 1, SIZE_U32), Err(libc::EINVAL), "too many bits");
    assert_eq!(wait(1 << 32, 1, SIZE_U32, past, 1), Err(libc::EINVAL));
    assert_eq!(wait(0, 1 << 32, SIZE_U32, past, 1), Err(libc::EINVAL));
    assert_eq!(wait(1, 1, SIZE_U32, 0, 0), Err(libc::EAGAIN));
    for clock in [libc::CLOCK_MONOTONIC, libc::CLOCK_REALTIME] {
        assert_eq!(wait(0, 1, SIZE_U32, past, clock), Err(libc::ETIMEDOUT));
    }
    assert_eq!(wait(0, 1, SIZE_U32, past, 2), Err(libc::EINVAL));
    let waiter = |mask: usize| {
        let child = fork(move || i32::from(wait(0, mask, SIZE_U32, 0, 0) != Ok(0)));
        sys::sleep_ms(20);
        asleep(child);
        child
    };
    let child = waiter(6);
    assert_eq!(wake(1, 1, SIZE_U32), Ok(0), "other bits");
    assert_eq!(wake(2, 0, SIZE_U32), Ok(0), "as many as asked for");
    assert_eq!(wake(2, 1, SIZE_U32 | PRIVATE), Ok(0), "another word");
    assert_eq!(wake(4, 1, SIZE_U32), Ok(1));
    assert_eq!(wait_exit(child), 0);
    let requeue = |pair: &[Waitv; 2], flags: u32, wakes: i32, moves: i32| {
        sys::call(
            456,
            &[pair.as_ptr() as usize, flags as usize, wakes as usize, moves as usize],
        )
    };
    let pair = [entry(word, 0), entry(other, 0)];
    assert_eq!(requeue(&pair, 1, 0, 1), Err(libc::EINVAL));
    assert_eq!(requeue(&pair, 0, -1, 1), Err(libc::EINVAL));
    assert_eq!(requeue(&pair, 0, 0, -1), Err(libc::EINVAL));
    assert_eq!(sys::call(456, &[0, 0, 0, 1]), Err(libc::EINVAL));
    let mut unlike = pair;
    unlike[1].flags |= PRIVATE;
    assert_eq!(requeue(&unlike, 0, 0, 1), Err(libc::EINVAL));
    assert_eq!(requeue(&[entry(word, 3), pair[1]], 0, 0, 1), Err(libc::EAGAIN));
    let children = [0; 3].map(|_| waiter(1));
    assert_eq!(requeue(&pair, 0, 1, 2), Ok(3));
    assert_eq!(wake(1, 9, SIZE_U32), Ok(0));
    assert_eq!(futex(other, libc::FUTEX_WAKE, 9, 0, 0, 0), Ok(2));
    children.into_iter().for_each(|child| assert_eq!(wait_exit(child), 0));
}
