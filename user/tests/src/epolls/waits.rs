//! Epolls in epolls, and who waits.

use std::{ffi::c_void, sync::atomic::AtomicI32, sync::atomic::Ordering::SeqCst, thread};

use super::{
    ET, EXCLUSIVE, IN, MS, ONESHOT, OUT, add, change, control, count, counter, create, event, polled, put, ready, take,
    wait, wait_with,
};
use crate::{
    sys::{self, close, pipe},
    syscall,
};

crate::tests! { "epolls":
    epolls_nest;
    loops_are_refused;
    exclusive_entries;
    times_hold;
    signals_end_the_wait;
    waiters_are_woken;
    many_threads_share_the_events (60);
}

fn epolls_nest() {
    let (inner, outer, (from, to)) = (create(), create(), pipe(0));
    add(outer, inner, IN);
    add(inner, from, IN);
    assert_eq!((ready(outer), polled(inner, libc::POLLIN)), (vec![], 0));
    put(to);
    assert_eq!(polled(inner, libc::POLLIN | libc::POLLOUT), libc::POLLIN);
    for _ in 0..2 {
        assert_eq!(ready(outer), event(inner, IN));
    }
    assert_eq!(
        polled(outer, libc::POLLIN | libc::POLLRDNORM),
        libc::POLLIN | libc::POLLRDNORM
    );
    let mut set = [0u64; 16];
    set[outer as usize / 64] = 1 << (outer % 64);
    let now = sys::timespec(0);
    assert_eq!(
        syscall!(SYS_pselect6, 1024, set.as_mut_ptr(), 0, 0, &raw const now, 0),
        Ok(1)
    );
    assert_eq!(ready(inner), event(from, IN));
    take(from);
    assert_eq!((ready(outer), polled(outer, libc::POLLIN)), (vec![], 0));
    // An edge below is one above.
    change(outer, inner, IN | ET);
    put(to);
    assert_eq!(ready(outer), event(inner, IN));
    assert_eq!(ready(outer), []);
    put(to);
    assert_eq!(ready(outer), event(inner, IN));
    close(inner);
    assert_eq!(ready(outer), []);
    // A poller that waits.
    let poller = thread::spawn(move || {
        let mut poll = libc::pollfd {
            fd: outer,
            events: libc::POLLIN,
            revents: 0,
        };
        syscall!(SYS_ppoll, &raw mut poll, 1, 0, 0, 8)
    });
    sys::sleep_ms(20);
    add(outer, from, IN);
    assert_eq!(poller.join().expect("the poller"), Ok(1));
}

fn loops_are_refused() {
    let (from, to) = pipe(0);
    let chain: Vec<i32> = (0..5).map(|_| create()).collect();
    add(chain[0], from, IN);
    for pair in chain.windows(2) {
        add(pair[1], pair[0], IN);
    }
    let put_into = |outer, inner| control(outer, libc::EPOLL_CTL_ADD, inner, IN, 0);
    assert_eq!(put_into(chain[0], chain[4]), Err(libc::ELOOP));
    assert_eq!(put_into(chain[1], chain[2]), Err(libc::ELOOP));
    // Older kernels than 6.16 say EINVAL, for the way from the pipe upwards.
    let sixth = create();
    assert!(matches!(put_into(sixth, chain[4]), Err(libc::ELOOP | libc::EINVAL)));
    assert_eq!(ready(chain[4]), []);
    put(to);
    assert_eq!(ready(chain[4]).len(), 1);
}

fn exclusive_entries() {
    let (one, two, counter) = (create(), create(), counter(0));
    let exclusive = |operation, fd, events| control(one, operation, fd, events | EXCLUSIVE, 0);
    for events in [IN | ONESHOT, libc::EPOLLRDHUP as u32, libc::EPOLLPRI as u32] {
        assert_eq!(exclusive(libc::EPOLL_CTL_ADD, counter, events), Err(libc::EINVAL));
    }
    assert_eq!(exclusive(libc::EPOLL_CTL_ADD, two, IN), Err(libc::EINVAL));
    assert_eq!(exclusive(libc::EPOLL_CTL_MOD, counter, IN), Err(libc::EINVAL));
    assert_eq!(exclusive(libc::EPOLL_CTL_ADD, counter, IN | OUT | ET), Ok(0));
    assert_eq!(control(one, libc::EPOLL_CTL_MOD, counter, IN, 0), Err(libc::EINVAL));
    assert_eq!(control(one, libc::EPOLL_CTL_DEL, counter, 0, 0), Ok(0));
    // Of two that wait, one is woken.
    let epolls = [one, two];
    for epoll in epolls {
        add(epoll, counter, IN | ET | EXCLUSIVE);
    }
    let waiters = epolls.map(|epoll| thread::spawn(move || wait(epoll, 300)));
    sys::sleep_ms(100);
    count(counter, 1);
    let found = waiters.map(|waiter| waiter.join().expect("a waiter").expect("epoll_pwait").len());
    assert_eq!(found.iter().sum::<usize>(), 1, "{found:?}");
}

fn times_hold() {
    let (epoll, (from, to)) = (create(), pipe(0));
    add(epoll, from, IN);
    let begun = sys::now();
    assert_eq!(wait(epoll, 30), Ok(vec![]));
    let took = sys::now() - begun;
    assert!(took >= 30 * MS, "{took} ns");
    let mut events = [0u8; 16];
    let mut until = |time: Option<u64>| {
        let time = time.map(sys::timespec);
        let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        syscall!(SYS_epoll_pwait2, epoll, events.as_mut_ptr(), 1, time, 0, 8)
    };
    let begun = sys::now();
    assert_eq!(until(Some(1_500_000)), Ok(0));
    let took = sys::now() - begun;
    assert!((1_500_000..1000 * MS).contains(&took), "{took} ns");
    assert_eq!(until(Some(0)), Ok(0));
    let writer = thread::spawn(move || {
        sys::sleep_ms(20);
        put(to);
    });
    assert_eq!(until(None), Ok(1), "for ever");
    assert_eq!(wait(epoll, -1), Ok(event(from, IN)));
    writer.join().expect("the writer");
}

static HANDLED: AtomicI32 = AtomicI32::new(0);

extern "C" fn note(_: i32, _: *mut libc::siginfo_t, _: *mut c_void) {
    HANDLED.fetch_add(1, SeqCst);
}

fn signals_end_the_wait() {
    let (epoll, (from, to)) = (create(), pipe(0));
    add(epoll, from, IN);
    let own = syscall!(SYS_getpid).expect("getpid");
    let later = move |signal: i32| {
        sys::fork(move || {
            sys::sleep_ms(50);
            let _ = syscall!(SYS_kill, own, signal);
            0
        })
    };
    let done = |child| while sys::wait(child, 0) == Err(libc::EINTR) {};
    // Whatever the handler's flags.
    for flags in [0, libc::SA_RESTART] {
        sys::handle(libc::SIGUSR1, flags, &[], note);
        let child = later(libc::SIGUSR1);
        assert_eq!(wait(epoll, -1), Err(libc::EINTR));
        done(child);
    }
    assert_eq!(HANDLED.load(SeqCst), 2);
    // Blocked but for the time of the wait.
    let before = sys::mask(libc::SIG_BLOCK, &[libc::SIGUSR1]);
    syscall!(SYS_kill, own, libc::SIGUSR1).expect("kill");
    assert_eq!(wait(epoll, 20), Ok(vec![]));
    let open = 0u64;
    assert_eq!(wait_with(epoll, 1, -1, &raw const open as usize), Err(libc::EINTR));
    assert_eq!(HANDLED.load(SeqCst), 3);
    assert_eq!(sys::mask(libc::SIG_BLOCK, &[]), before | sys::set_of(&[libc::SIGUSR1]));
    // What is ready goes first, and what has no time to wait is not interrupted.
    syscall!(SYS_kill, own, libc::SIGUSR1).expect("kill");
    assert_eq!(wait_with(epoll, 1, 0, &raw const open as usize), Ok(vec![]));
    put(to);
    assert_eq!(wait_with(epoll, 1, -1, &raw const open as usize), Ok(event(from, IN)));
    // And blocked for the time of the wait alone.
    sys::mask(libc::SIG_UNBLOCK, &[libc::SIGUSR1]);
    assert_eq!(HANDLED.load(SeqCst), 4);
    take(from);
    let closed = sys::set_of(&[libc::SIGUSR1]);
    let child = later(libc::SIGUSR1);
    assert_eq!(wait_with(epoll, 1, 200, &raw const closed as usize), Ok(vec![]));
    assert_eq!(HANDLED.load(SeqCst), 5, "after the wait");
    done(child);
}

fn waiters_are_woken() {
    let (epoll, (from, to)) = (create(), pipe(0));
    let waiter = thread::spawn(move || wait(epoll, -1));
    sys::sleep_ms(20);
    add(epoll, from, IN | ET);
    sys::sleep_ms(20);
    put(to);
    assert_eq!(waiter.join().expect("the waiter"), Ok(event(from, IN)));
    // Added, or changed, when it is ready already.
    for operation in [libc::EPOLL_CTL_MOD, libc::EPOLL_CTL_ADD] {
        if operation == libc::EPOLL_CTL_ADD {
            control(epoll, libc::EPOLL_CTL_DEL, from, 0, 0).expect("EPOLL_CTL_DEL");
        }
        let waiter = thread::spawn(move || wait(epoll, -1));
        sys::sleep_ms(20);
        control(epoll, operation, from, IN | ET, from as u64).expect("epoll_ctl");
        assert_eq!(waiter.join().expect("the waiter"), Ok(event(from, IN)));
    }
}

fn many_threads_share_the_events() {
    const FILES: usize = 20;
    const EVENTS: i32 = 300;
    static FOUND: AtomicI32 = AtomicI32::new(0);
    let epoll = create();
    let counters: Vec<i32> = (0..FILES).map(|_| counter(0)).collect();
    for fd in &counters {
        add(epoll, *fd, IN | ET);
    }
    let stop = counter(0);
    control(epoll, libc::EPOLL_CTL_ADD, stop, IN, u64::MAX).expect("EPOLL_CTL_ADD");
    let waiters: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(move || {
                loop {
                    for (_, fd) in wait_with(epoll, 3, -1, 0).expect("epoll_pwait") {
                        if fd == u64::MAX {
                            return;
                        }
                        FOUND.fetch_add(1, SeqCst);
                    }
                }
            })
        })
        .collect();
    for number in 1..=EVENTS {
        count(counters[number as usize % FILES], 1);
        while FOUND.load(SeqCst) < number {
            syscall!(SYS_sched_yield).expect("sched_yield");
        }
    }
    sys::sleep_ms(20);
    assert_eq!(FOUND.load(SeqCst), EVENTS, "each once");
    count(stop, 1);
    for waiter in waiters {
        waiter.join().expect("a waiter");
    }
}
