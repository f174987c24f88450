//! Threads and what they wait for each other by.

use std::{
    cell::Cell,
    collections::BTreeSet,
    sync::{
        Arc, Barrier, Condvar, Mutex, RwLock,
        atomic::{AtomicU32, AtomicU64, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use crate::{sys, syscall};

crate::tests! { "threads":
    a_mutex_excludes;
    condvars_and_channels;
    barriers_and_rwlocks;
    thread_locals_are_per_thread;
    thousands_of_threads_come_and_go (120) [frees];
    futex_wait_and_wake;
    futex_times_are_never_early;
    futex_requeue_moves_waiters;
    futex_refuses_nonsense;
    the_process_outlives_its_first_thread;
    a_fault_in_one_thread_ends_all;
    signals_reach_the_named_thread;
    a_robust_lock_tells_of_its_owners_death;
}

fn a_mutex_excludes() {
    let count = Arc::new(Mutex::new(0u64));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let count = count.clone();
            thread::spawn(move || (0..20_000).for_each(|_| *count.lock().expect("lock") += 1))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("join"));
    assert_eq!(*count.lock().expect("lock"), 160_000);
}

fn condvars_and_channels() {
    let pair = Arc::new((Mutex::new(0u32), Condvar::new()));
    let other = pair.clone();
    let thread = thread::spawn(move || {
        for expected in (1..2000).step_by(2) {
            let guard = other
                .1
                .wait_while(other.0.lock().expect("lock"), |value| *value != expected);
            *guard.expect("wait") += 1;
            other.1.notify_all();
        }
    });
    for expected in (0..2000).step_by(2) {
        let guard = pair
            .1
            .wait_while(pair.0.lock().expect("lock"), |value| *value != expected);
        *guard.expect("wait") += 1;
        pair.1.notify_all();
    }
    thread.join().expect("join");
    let started = Instant::now();
    let (guard, result) = pair
        .1
        .wait_timeout(pair.0.lock().expect("lock"), Duration::from_millis(30))
        .expect("wait");
    drop(guard);
    assert!(result.timed_out() && started.elapsed() >= Duration::from_millis(30));
    let (sender, receiver) = mpsc::channel();
    for id in 0..4 {
        let sender = sender.clone();
        thread::spawn(move || (0..1000).for_each(|index| sender.send(id * 1000 + index).expect("send")));
    }
    drop(sender);
    assert_eq!(receiver.iter().collect::<BTreeSet<_>>().len(), 4000);
}

fn barriers_and_rwlocks() {
    let barrier = Arc::new((Barrier::new(6), RwLock::new(0u32)));
    let threads: Vec<_> = (0..6)
        .map(|_| {
            let barrier = barrier.clone();
            thread::spawn(move || {
                for round in 0..200 {
                    if barrier.0.wait().is_leader() {
                        *barrier.1.write().expect("write") += 1;
                    }
                    barrier.0.wait();
                    assert_eq!(*barrier.1.read().expect("read"), round + 1);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("join"));
}

fn thread_locals_are_per_thread() {
    thread_local!(static OWN: Cell<usize> = const { Cell::new(0) });
    let threads: Vec<_> = (1..20)
        .map(|id| {
            thread::spawn(move || {
                OWN.set(id);
                for _ in 0..50 {
                    thread::yield_now();
                    assert_eq!(OWN.get(), id);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("join"));
    assert_eq!(OWN.get(), 0);
}

fn thousands_of_threads_come_and_go() {
    for _ in 0..200 {
        let threads: Vec<_> = (0..10)
            .map(|id| {
                thread::Builder::new()
                    .stack_size(64 << 10)
                    .spawn(move || id)
                    .expect("spawn")
            })
            .collect();
        let sum: i32 = threads.into_iter().map(|thread| thread.join().expect("join")).sum();
        assert_eq!(sum, 45);
    }
}

fn futex(word: &AtomicU32, operation: i32, value: u32, fourth: usize, second: usize, third: u32) -> sys::Sys {
    syscall!(SYS_futex, word.as_ptr(), operation, value, fourth, second, third)
}

const WAIT: i32 = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
const WAKE: i32 = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;

fn futex_wait_and_wake() {
    static WORD: AtomicU32 = AtomicU32::new(7);
    static AWAKE: AtomicU32 = AtomicU32::new(0);
    assert_eq!(futex(&WORD, WAIT, 8, 0, 0, 0), Err(libc::EAGAIN), "the value differs");
    assert_eq!(futex(&WORD, WAKE, 100, 0, 0, 0), Ok(0));
    let threads: Vec<_> = (0..5)
        .map(|_| {
            thread::spawn(|| {
                assert_eq!(futex(&WORD, WAIT, 7, 0, 0, 0), Ok(0));
                AWAKE.fetch_add(1, SeqCst);
            })
        })
        .collect();
    let mut woken = 0;
    while woken < 2 {
        woken += futex(&WORD, WAKE, 1, 0, 0, 0).expect("wake");
        sys::sleep_ms(1);
    }
    sys::sleep_ms(20);
    assert_eq!(AWAKE.load(SeqCst), 2, "as many as were woken");
    while woken < 5 {
        woken += futex(&WORD, WAKE, u32::MAX >> 1, 0, 0, 0).expect("wake");
        sys::sleep_ms(1);
    }
    threads.into_iter().for_each(|thread| thread.join().expect("join"));
    // Between processes, on shared memory.
    let shared = sys::shared_counters(1);
    let address = shared.as_ptr() as usize;
    let child = sys::fork(|| i32::from(syscall!(SYS_futex, address, libc::FUTEX_WAIT, 0, 0, 0, 0) != Ok(0)));
    while syscall!(SYS_futex, address, libc::FUTEX_WAKE, 1, 0, 0, 0) == Ok(0) {
        sys::sleep_ms(1);
    }
    assert_eq!(sys::wait_exit(child), 0);
}

fn futex_times_are_never_early() {
    static WORD: AtomicU32 = AtomicU32::new(0);
    for milliseconds in [0, 1, 5, 20] {
        let time = sys::timespec(milliseconds * 1_000_000);
        let started = sys::now();
        assert_eq!(
            futex(&WORD, WAIT, 0, &raw const time as usize, 0, 0),
            Err(libc::ETIMEDOUT)
        );
        assert!(sys::now() - started >= milliseconds * 1_000_000, "early");
        let until = sys::timespec(sys::now() + milliseconds * 1_000_000);
        let operation = libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG;
        let result = futex(&WORD, operation, 0, &raw const until as usize, 0, u32::MAX);
        assert_eq!(result, Err(libc::ETIMEDOUT));
        assert!(
            sys::now() >= until.tv_sec as u64 * 1_000_000_000 + until.tv_nsec as u64,
            "early"
        );
    }
}

fn futex_requeue_moves_waiters() {
    static FIRST: AtomicU32 = AtomicU32::new(0);
    static SECOND: AtomicU32 = AtomicU32::new(0);
    static AWAKE: AtomicU32 = AtomicU32::new(0);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(|| {
                assert_eq!(futex(&FIRST, WAIT, 0, 0, 0, 0), Ok(0));
                AWAKE.fetch_add(1, SeqCst);
            })
        })
        .collect();
    let requeue = libc::FUTEX_CMP_REQUEUE | libc::FUTEX_PRIVATE_FLAG;
    let second = SECOND.as_ptr() as usize;
    assert_eq!(
        futex(&FIRST, requeue, 1, 100, second, 5),
        Err(libc::EAGAIN),
        "the value differs"
    );
    let mut moved = 0;
    while moved < 4 {
        moved += futex(&FIRST, requeue, 0, 100, second, 0).expect("requeue");
        sys::sleep_ms(1);
    }
    assert_eq!(futex(&FIRST, WAKE, 100, 0, 0, 0), Ok(0), "nobody waits there any more");
    assert_eq!(AWAKE.load(SeqCst), 0);
    assert_eq!(futex(&SECOND, WAKE, 100, 0, 0, 0), Ok(4));
    threads.into_iter().for_each(|thread| thread.join().expect("join"));
}

fn futex_refuses_nonsense() {
    let word = AtomicU32::new(0);
    let unaligned = word.as_ptr() as usize + 1;
    assert_eq!(syscall!(SYS_futex, unaligned, WAIT, 0, 0, 0, 0), Err(libc::EINVAL));
    assert_eq!(syscall!(SYS_futex, 4096, WAIT, 0, 0, 0, 0), Err(libc::EFAULT));
    assert_eq!(futex(&word, 0x7f, 0, 0, 0, 0), Err(libc::ENOSYS));
    let bad = libc::timespec {
        tv_sec: 0,
        tv_nsec: 2_000_000_000,
    };
    assert_eq!(futex(&word, WAIT, 0, &raw const bad as usize, 0, 0), Err(libc::EINVAL));
    let operation = libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG;
    assert_eq!(futex(&word, operation, 0, 0, 0, 0), Err(libc::EINVAL), "no bits");
}

fn the_process_outlives_its_first_thread() {
    let child = sys::fork(|| {
        thread::spawn(|| {
            sys::sleep_ms(50);
            sys::exit(9);
        });
        let _ = syscall!(SYS_exit, 3);
        1
    });
    assert_eq!(sys::wait_exit(child), 9, "the process ends with its last thread");
}

fn a_fault_in_one_thread_ends_all() {
    let child = sys::fork(|| {
        sys::disposition(libc::SIGSEGV, libc::SIG_DFL);
        for _ in 0..4 {
            thread::spawn(|| {
                loop {
                    std::hint::spin_loop()
                }
            });
        }
        thread::spawn(|| {
            sys::sleep_ms(10);
            sys::poke(8, 1);
        });
        sys::sleep_ms(60_000);
        0
    });
    assert_eq!(sys::wait_killed(child), libc::SIGSEGV);
}

static TOLD: AtomicU64 = AtomicU64::new(0);

extern "C" fn who(_: i32, _: *mut libc::siginfo_t, _: *mut std::ffi::c_void) {
    TOLD.store(syscall!(SYS_gettid).unwrap_or(0) as u64, SeqCst);
}

fn signals_reach_the_named_thread() {
    sys::handle(libc::SIGUSR1, 0, &[], who);
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        sender.send(syscall!(SYS_gettid).expect("gettid")).expect("send");
        sys::sleep_ms(60_000);
    });
    let tid = receiver.recv().expect("recv");
    let pid = std::process::id();
    syscall!(SYS_tgkill, pid, tid, libc::SIGUSR1).expect("tgkill");
    while TOLD.load(SeqCst) == 0 {
        sys::sleep_ms(1);
    }
    assert_eq!(TOLD.load(SeqCst), tid as u64);
    assert_eq!(
        syscall!(SYS_tgkill, pid, 1, libc::SIGUSR1),
        Err(libc::ESRCH),
        "not of this process"
    );
    // A signal to the process goes to a thread that does not block it.
    TOLD.store(0, SeqCst);
    sys::mask(libc::SIG_BLOCK, &[libc::SIGUSR1]);
    sys::kill(pid as i32, libc::SIGUSR1).expect("kill");
    while TOLD.load(SeqCst) == 0 {
        sys::sleep_ms(1);
    }
    assert_eq!(TOLD.load(SeqCst), tid as u64);
}

fn a_robust_lock_tells_of_its_owners_death() {
    // A list of one lock: head {first, offset, pending} and the lock's {next, word}.
    static LIST: [AtomicU64; 5] = [const { AtomicU64::new(0) }; 5];
    let head = LIST.as_ptr() as usize;
    let entry = head + 24;
    LIST[0].store(entry as u64, SeqCst);
    LIST[1].store(8, SeqCst);
    LIST[3].store(head as u64, SeqCst);
    thread::spawn(move || {
        let tid = syscall!(SYS_gettid).expect("gettid") as u64;
        LIST[4].store(tid | 0x8000_0000, SeqCst);
        syscall!(SYS_set_robust_list, head, 24).expect("set_robust_list");
        let _ = syscall!(SYS_exit, 0);
    });
    let word = entry + 8;
    loop {
        let value = LIST[4].load(SeqCst) as u32;
        if value & 0x4000_0000 != 0 {
            assert_eq!(value & 0x3fff_ffff, 0, "the owner is gone");
            break;
        }
        let time = sys::timespec(10_000_000);
        let _ = syscall!(SYS_futex, word, libc::FUTEX_WAIT, value, &raw const time, 0, 0);
    }
}
