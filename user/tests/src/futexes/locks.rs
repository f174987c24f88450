//! Priority-inheriting locks, by the raw calls: the word, who gets it, and what priority its owner has meanwhile.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use super::{
    HANDLED, NOBODY, OWNER_DIED, WAITERS, asleep, end, expect_priority, fifo, futex, handled, lock, priority,
    stop_and_continue, tid, try_lock, unlock, waiting, words,
};
use crate::{
    sys::{self, fork, wait_exit},
    syscall,
};

crate::tests! { "inheritance":
    the_word_says_who_has_the_lock;
    a_lock_is_waited_for_until_a_time;
    the_best_waiter_is_the_next;
    the_owner_has_the_priority_of_the_best_waiter (60);
    a_chain_of_owners_inherits;
    a_circle_is_refused;
    the_end_of_an_owner_is_told;
    a_signal_does_not_end_the_wait;
    a_spinner_between_two_priorities_does_not_stop_them (60);
    the_library_s_mutexes_inherit (60);
}

const LOCK_PI2: i32 = 13;

/// A child of a priority that takes a lock, notes its number as the next of those that have, and frees it.
fn taker(word: &'static AtomicU32, urgency: i32, order: &'static [AtomicU32], number: u32) -> i32 {
    let said = &words(1)[0];
    let child = fork(move || {
        fifo(0, urgency);
        said.store(1, SeqCst);
        lock(word).expect("the lock");
        assert_eq!(word.load(SeqCst) & !(WAITERS | OWNER_DIED), tid());
        let at = order[0].fetch_add(1, SeqCst) + 1;
        order[at as usize].store(number, SeqCst);
        unlock(word).expect("its lock");
        0
    });
    waiting(child, said);
    child
}

/// A child that takes a lock and keeps it until it is killed.
fn keeper(word: &'static AtomicU32) -> i32 {
    let child = fork(move || {
        lock(word).expect("the lock");
        sys::sleep_ms(60_000);
        1
    });
    while word.load(SeqCst) == 0 {
        sys::sleep_ms(1);
    }
    child
}

fn the_word_says_who_has_the_lock() {
    let word = &words(1)[0];
    let own = tid();
    for (free, taken) in [(0, own), (WAITERS, own), (OWNER_DIED, own | OWNER_DIED)] {
        for take in [lock, try_lock] {
            word.store(free, SeqCst);
            assert_eq!((take(word), word.load(SeqCst)), (Ok(0), taken), "{free:x}");
            assert_eq!((lock(word), try_lock(word)), (Err(libc::EDEADLK), Err(libc::EDEADLK)));
            assert_eq!((unlock(word), word.load(SeqCst)), (Ok(0), 0));
        }
    }
    assert_eq!(unlock(word), Err(libc::EPERM));
    // Nobody of this number is there.
    for take in [lock, try_lock] {
        word.store(NOBODY, SeqCst);
        assert_eq!((take(word), word.load(SeqCst)), (Err(libc::ESRCH), NOBODY | WAITERS));
    }
    assert_eq!(unlock(word), Err(libc::EPERM));
    word.store(0, SeqCst);
    let owner = keeper(word);
    assert_eq!(try_lock(word), Err(libc::EAGAIN));
    assert_eq!(word.load(SeqCst), owner as u32 | WAITERS);
    assert_eq!(unlock(word), Err(libc::EPERM));
    end(owner);
    assert_eq!(lock(word), Err(libc::ESRCH), "it had no list of its locks");
    for operation in [
        libc::FUTEX_LOCK_PI,
        libc::FUTEX_TRYLOCK_PI,
        libc::FUTEX_UNLOCK_PI,
        LOCK_PI2,
    ] {
        let call = |address: usize, flags| syscall!(SYS_futex, address, operation | flags, 0, 0, 0, 0);
        let unaligned = word.as_ptr() as usize + 2;
        // What the word says comes first where it is to be freed.
        let error = if operation == libc::FUTEX_UNLOCK_PI {
            libc::EPERM
        } else {
            libc::EINVAL
        };
        assert_eq!(call(unaligned, 0), Err(error), "{operation}");
        assert_eq!(call(4096, 0), Err(libc::EFAULT));
        assert_eq!(call(4096, libc::FUTEX_PRIVATE_FLAG), Err(libc::EFAULT));
        assert_eq!(call(usize::MAX - 3, 0), Err(libc::EFAULT));
        if operation != LOCK_PI2 {
            assert_eq!(
                call(word.as_ptr() as usize, libc::FUTEX_CLOCK_REALTIME),
                Err(libc::ENOSYS)
            );
        }
    }
    // A word that says one thing while the kernel knows another.
    word.store(0, SeqCst);
    lock(word).expect("the lock");
    let order = words(2);
    let child = taker(word, 0, order, 1);
    for wrong in [NOBODY, 0, 1] {
        word.store(wrong, SeqCst);
        assert_eq!(lock(word), Err(libc::EINVAL), "{wrong:x}");
        assert_eq!(unlock(word), Err(libc::EPERM));
    }
    word.store(own | WAITERS, SeqCst);
    assert_eq!(futex(word, libc::FUTEX_WAKE, 1, 0, 0, 0), Err(libc::EINVAL));
    assert_eq!(
        futex(word, libc::FUTEX_REQUEUE, 1, 1, words(1).as_ptr() as usize, 0),
        Err(libc::EINVAL)
    );
    unlock(word).expect("the lock");
    assert_eq!((wait_exit(child), order[1].load(SeqCst), word.load(SeqCst)), (0, 1, 0));
}

fn a_lock_is_waited_for_until_a_time() {
    let word = &words(1)[0];
    let bad = libc::timespec {
        tv_sec: 0,
        tv_nsec: 1_000_000_000,
    };
    let owner = keeper(word);
    for (operation, clock) in [
        (libc::FUTEX_LOCK_PI, libc::CLOCK_REALTIME),
        (LOCK_PI2, libc::CLOCK_MONOTONIC),
        (LOCK_PI2 | libc::FUTEX_CLOCK_REALTIME, libc::CLOCK_REALTIME),
    ] {
        for length in [0, 30_000_000] {
            let until = sys::clock(clock) + length;
            let time = sys::timespec(until);
            let waited = futex(word, operation, 0, &raw const time as usize, 0, 0);
            assert_eq!(waited, Err(libc::ETIMEDOUT));
            assert!(sys::clock(clock) >= until);
            assert_eq!(word.load(SeqCst), owner as u32 | WAITERS);
        }
        assert_eq!(
            futex(word, operation, 0, &raw const bad as usize, 0, 0),
            Err(libc::EINVAL)
        );
        assert_eq!(futex(word, operation, 0, 8, 0, 0), Err(libc::EFAULT));
    }
    end(owner);
}

fn the_best_waiter_is_the_next() {
    let (word, order) = (&words(1)[0], words(6));
    lock(word).expect("the lock");
    let urgencies = [0, 10, 20, 20, 0];
    let takers: Vec<i32> = (1..)
        .zip(urgencies)
        .map(|(number, urgency)| taker(word, urgency, order, number))
        .collect();
    unlock(word).expect("the lock");
    takers.into_iter().for_each(|child| assert_eq!(wait_exit(child), 0));
    let order: Vec<u32> = order[1..].iter().map(|number| number.load(SeqCst)).collect();
    assert_eq!(order, [3, 4, 2, 1, 5]);
    assert_eq!(word.load(SeqCst), 0);
}

fn the_owner_has_the_priority_of_the_best_waiter() {
    let (word, order) = (&words(1)[0], words(4));
    let own = std::process::id() as i32;
    lock(word).expect("the lock");
    let fair = taker(word, 0, order, 1);
    assert_eq!(priority(own), 0);
    let low = taker(word, 30, order, 2);
    expect_priority(own, 30);
    let high = taker(word, 40, order, 3);
    expect_priority(own, 40);
    assert_eq!(syscall!(SYS_sched_getscheduler, 0), Ok(0), "which is not its own");
    end(high);
    expect_priority(own, 30);
    fifo(low, 50);
    expect_priority(own, 50);
    fifo(low, 5);
    expect_priority(own, 5);
    fifo(0, 20);
    expect_priority(own, 20);
    fifo(low, 60);
    expect_priority(own, 60);
    fifo(0, 0);
    expect_priority(own, 60);
    sys::in_child(|| expect_priority(std::process::id() as i32, 0));
    unlock(word).expect("the lock");
    expect_priority(own, 0);
    assert_eq!((wait_exit(low), wait_exit(fair)), (0, 0));
    assert_eq!((order[1].load(SeqCst), order[2].load(SeqCst)), (2, 1));
}

/// A child that has the first lock, and then waits for the second; it frees both.
fn link(has: &'static AtomicU32, wants: &'static AtomicU32) -> i32 {
    let said = &words(1)[0];
    let child = fork(move || {
        lock(has).expect("its lock");
        said.store(1, SeqCst);
        lock(wants).expect("the lock");
        unlock(wants).expect("the lock");
        unlock(has).expect("its lock");
        0
    });
    waiting(child, said);
    child
}

fn a_chain_of_owners_inherits() {
    let locks = words(3);
    let own = std::process::id() as i32;
    lock(&locks[0]).expect("the lock");
    let first = link(&locks[1], &locks[0]);
    let second = link(&locks[2], &locks[1]);
    let chain = [own, first, second];
    // One that gives up by itself, and one that does not.
    let hasty = fork(|| {
        fifo(0, 70);
        let time = sys::timespec(sys::clock(libc::CLOCK_REALTIME) + 300_000_000);
        let waited = futex(&locks[2], libc::FUTEX_LOCK_PI, 0, &raw const time as usize, 0, 0);
        i32::from(waited != Err(libc::ETIMEDOUT))
    });
    chain.iter().for_each(|pid| expect_priority(*pid, 70));
    assert_eq!(wait_exit(hasty), 0);
    chain.iter().for_each(|pid| expect_priority(*pid, 0));
    let order = words(2);
    let patient = taker(&locks[2], 44, order, 1);
    chain.iter().for_each(|pid| expect_priority(*pid, 44));
    fifo(first, 50);
    expect_priority(own, 50);
    assert_eq!((priority(first), priority(second)), (50, 44));
    unlock(&locks[0]).expect("the lock");
    expect_priority(own, 0);
    for child in [first, second, patient] {
        assert_eq!(wait_exit(child), 0);
    }
    assert!(locks.iter().all(|word| word.load(SeqCst) == 0));
}

fn a_circle_is_refused() {
    let locks = words(3);
    lock(&locks[0]).expect("the lock");
    let first = link(&locks[1], &locks[0]);
    assert_eq!(lock(&locks[1]), Err(libc::EDEADLK));
    assert_eq!(try_lock(&locks[1]), Err(libc::EAGAIN), "which does not wait");
    let second = link(&locks[2], &locks[1]);
    assert_eq!(lock(&locks[2]), Err(libc::EDEADLK));
    unlock(&locks[0]).expect("the lock");
    assert_eq!((wait_exit(first), wait_exit(second)), (0, 0));
    lock(&locks[2]).expect("free again");
}

fn the_end_of_an_owner_is_told() {
    let locks = words(2);
    // A list of one lock: the head with next, offset and pending, and the lock's next; the word is elsewhere.
    let list = sys::shared_counters(4);
    for (is_listed, is_pending) in [(false, false), (true, false), (true, true)] {
        for has_waiter in [true, false] {
            let word = &locks[0];
            word.store(0, SeqCst);
            let child = fork(|| {
                lock(word).expect("the lock");
                if is_listed {
                    let head = list.as_ptr() as u64;
                    let entry = (head + 24) | 1;
                    list[0].store(if is_pending { head } else { entry }, SeqCst);
                    list[1].store((word.as_ptr() as u64).wrapping_sub(head + 24), SeqCst);
                    list[2].store(if is_pending { entry } else { 0 }, SeqCst);
                    list[3].store(head, SeqCst);
                    syscall!(SYS_set_robust_list, head, 24).expect("set_robust_list");
                }
                while has_waiter && word.load(SeqCst) & WAITERS == 0 {
                    sys::sleep_ms(1);
                }
                sys::sleep_ms(20);
                sys::exit(0)
            });
            while word.load(SeqCst) == 0 {
                sys::sleep_ms(1);
            }
            if has_waiter {
                assert_eq!(lock(word), Ok(0));
                assert_eq!(word.load(SeqCst), tid() | WAITERS | OWNER_DIED);
                assert_eq!((unlock(word), word.load(SeqCst)), (Ok(0), 0));
                assert_eq!(wait_exit(child), 0);
            } else {
                assert_eq!(wait_exit(child), 0);
                let left = if is_listed { OWNER_DIED } else { child as u32 };
                assert_eq!(word.load(SeqCst), left);
                let taken = if is_listed { Ok(0) } else { Err(libc::ESRCH) };
                assert_eq!(lock(word), taken);
            }
        }
    }
    // Several heirs, and an end by a signal.
    let (word, order) = (&locks[1], words(4));
    let owner = keeper(word);
    let heirs = [1, 2, 3].map(|number| taker(word, number * 10, order, number as u32));
    end(owner);
    heirs.into_iter().for_each(|child| assert_eq!(wait_exit(child), 0));
    let order: Vec<u32> = order[1..].iter().map(|number| number.load(SeqCst)).collect();
    assert_eq!(order, [3, 2, 1]);
    assert_eq!(word.load(SeqCst), 0);
}

fn a_signal_does_not_end_the_wait() {
    let (word, said) = (&words(1)[0], words(2));
    lock(word).expect("the lock");
    let child = fork(|| {
        sys::handle(libc::SIGUSR1, 0, &[], handled);
        said[0].store(1, SeqCst);
        let locked = lock(word);
        said[1].store(HANDLED.load(SeqCst) as u32, SeqCst);
        i32::from(locked != Ok(0) || word.load(SeqCst) & !WAITERS != tid())
    });
    waiting(child, &said[0]);
    sys::kill(child, libc::SIGUSR1).expect("kill");
    sys::sleep_ms(30);
    asleep(child);
    stop_and_continue(child);
    unlock(word).expect("the lock");
    assert_eq!((wait_exit(child), said[1].load(SeqCst)), (0, 1));
}

/// On one CPU: the owner is the least urgent, who spins is more urgent than it, who waits more than both. Only with what it
/// inherits does the owner ever run again.
fn a_spinner_between_two_priorities_does_not_stop_them() {
    sys::pin(&sys::cpus()[..1]);
    fifo(0, 50);
    let (word, done) = (&words(1)[0], &words(1)[0]);
    let low = fork(|| {
        fifo(0, 10);
        lock(word).expect("the lock");
        while word.load(SeqCst) & WAITERS == 0 {
            std::hint::spin_loop();
        }
        unlock(word).expect("its lock");
        0
    });
    while word.load(SeqCst) == 0 {
        sys::sleep_ms(1);
    }
    let middle = fork(|| {
        fifo(0, 20);
        while done.load(SeqCst) == 0 {
            std::hint::spin_loop();
        }
        0
    });
    sys::sleep_ms(20);
    let high = fork(|| {
        fifo(0, 30);
        lock(word).expect("the lock");
        done.store(1, SeqCst);
        unlock(word).expect("its lock");
        0
    });
    for child in [high, middle, low] {
        assert_eq!(wait_exit(child), 0);
    }
}

/// The C library's mutexes of that protocol, and its condition variables with them.
fn the_library_s_mutexes_inherit() {
    struct Shared(std::cell::UnsafeCell<(libc::pthread_mutex_t, u64)>);
    // SAFETY: the number is reached with the mutex held alone.
    unsafe impl Sync for Shared {}
    static SHARED: Shared = Shared(std::cell::UnsafeCell::new((libc::PTHREAD_MUTEX_INITIALIZER, 0)));
    let (mutex, number) = {
        let shared = SHARED.0.get();
        // SAFETY: addresses of the parts alone.
        unsafe { (&raw mut (*shared).0, &raw mut (*shared).1) }
    };
    // SAFETY: initialised before any use; the attributes live on this stack.
    unsafe {
        let mut attributes: libc::pthread_mutexattr_t = std::mem::zeroed();
        assert_eq!(libc::pthread_mutexattr_init(&mut attributes), 0);
        assert_eq!(
            libc::pthread_mutexattr_setprotocol(&mut attributes, libc::PTHREAD_PRIO_INHERIT),
            0
        );
        assert_eq!(
            libc::pthread_mutexattr_setrobust(&mut attributes, libc::PTHREAD_MUTEX_ROBUST),
            0
        );
        assert_eq!(libc::pthread_mutex_init(mutex, &attributes), 0);
    }
    let (mutex, number) = (mutex as usize, number as usize);
    let add = move |times: u64| {
        let (mutex, number) = (mutex as *mut libc::pthread_mutex_t, number as *mut u64);
        for _ in 0..times {
            // SAFETY: initialised above; the number is the holder's.
            unsafe {
                assert_eq!(libc::pthread_mutex_lock(mutex), 0);
                *number += 1;
                if *number % 64 == 0 {
                    std::thread::yield_now();
                }
                assert_eq!(libc::pthread_mutex_unlock(mutex), 0);
            }
        }
    };
    let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(move || add(2000))).collect();
    threads.into_iter().for_each(|thread| thread.join().expect("a thread"));
    // SAFETY: all others have ended.
    assert_eq!(unsafe { *(number as *const u64) }, 8000);
    // A thread that ends with it.
    std::thread::spawn(move || {
        // SAFETY: initialised above.
        assert_eq!(unsafe { libc::pthread_mutex_lock(mutex as *mut _) }, 0);
    })
    .join()
    .expect("a thread");
    // SAFETY: as above.
    unsafe {
        let mutex = mutex as *mut libc::pthread_mutex_t;
        assert_eq!(libc::pthread_mutex_lock(mutex), libc::EOWNERDEAD);
        assert_eq!(libc::pthread_mutex_consistent(mutex), 0);
        assert_eq!(libc::pthread_mutex_unlock(mutex), 0);
        assert_eq!(libc::pthread_mutex_lock(mutex), 0);
        assert_eq!(libc::pthread_mutex_unlock(mutex), 0);
    }
}
