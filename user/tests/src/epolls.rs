//! Waiting for many files: `epoll_create1` and its kin.

use std::{
    ffi::c_void,
    sync::atomic::{AtomicI32, Ordering::SeqCst},
    thread,
};

use crate::{
    sys::{self, Sys, close, pipe},
    syscall,
};

crate::tests! { "epolls":
    arguments_are_checked;
    events_lie_where_they_should;
    levels_and_edges;
    every_write_is_an_edge;
    one_shots_are_off_until_changed;
    changes_are_looked_at;
    turns_are_taken;
    closing_ends_the_watch;
    descriptors_are_told_apart;
    epolls_nest;
    loops_are_refused;
    exclusive_entries;
    times_hold;
    signals_end_the_wait;
    waiters_are_woken;
    many_threads_share_the_events (60);
    all_kinds_tell;
    every_user_has_a_limit;
    thousands_lose_no_memory (60) [frees];
}

const MS: u64 = 1_000_000;
const IN: u32 = libc::EPOLLIN as u32;
const OUT: u32 = libc::EPOLLOUT as u32;
const HUP: u32 = libc::EPOLLHUP as u32;
const ET: u32 = libc::EPOLLET as u32;
const ONESHOT: u32 = libc::EPOLLONESHOT as u32;
const EXCLUSIVE: u32 = libc::EPOLLEXCLUSIVE as u32;

fn create() -> i32 {
    syscall!(SYS_epoll_create1, 0).expect("epoll_create1") as i32
}

fn control(epoll: i32, operation: i32, fd: i32, events: u32, data: u64) -> Sys {
    let event = libc::epoll_event { events, u64: data };
    syscall!(SYS_epoll_ctl, epoll, operation, fd, &raw const event)
}

/// Watches a descriptor, which is its own datum.
fn add(epoll: i32, fd: i32, events: u32) {
    control(epoll, libc::EPOLL_CTL_ADD, fd, events, fd as u64).expect("EPOLL_CTL_ADD");
}

fn change(epoll: i32, fd: i32, events: u32) {
    control(epoll, libc::EPOLL_CTL_MOD, fd, events, fd as u64).expect("EPOLL_CTL_MOD");
}

/// Events and data.
type Events = Vec<(u32, u64)>;

fn wait_with(epoll: i32, most: usize, timeout: i32, mask: usize) -> Result<Events, i32> {
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; most];
    let found = syscall!(SYS_epoll_pwait, epoll, events.as_mut_ptr(), most, timeout, mask, 8)?;
    Ok(events[..found].iter().map(|event| (event.events, event.u64)).collect())
}

fn wait(epoll: i32, timeout: i32) -> Result<Events, i32> {
    wait_with(epoll, 8, timeout, 0)
}

/// What is ready now.
fn ready(epoll: i32) -> Events {
    wait(epoll, 0).expect("epoll_pwait")
}

fn event(fd: i32, events: u32) -> Events {
    vec![(events, fd as u64)]
}

fn polled(fd: i32, events: i16) -> i16 {
    let mut poll = libc::pollfd { fd, events, revents: 0 };
    let now = sys::timespec(0);
    syscall!(SYS_ppoll, &raw mut poll, 1, &raw const now, 0, 8).expect("ppoll");
    poll.revents
}

fn put(fd: i32) {
    assert_eq!(sys::write(fd, b"x"), Ok(1));
}

fn take(fd: i32) {
    assert_eq!(sys::read(fd, &mut [0]), Ok(1));
}

fn counter(initial: u32) -> i32 {
    syscall!(SYS_eventfd2, initial, libc::EFD_NONBLOCK).expect("eventfd2") as i32
}

fn count(fd: i32, added: u64) {
    assert_eq!(sys::write(fd, &added.to_ne_bytes()), Ok(8));
}

fn arguments_are_checked() {
    assert_eq!(syscall!(SYS_epoll_create1, 1), Err(libc::EINVAL));
    #[cfg(target_arch = "x86_64")]
    {
        for size in [0, -1i32] {
            assert_eq!(syscall!(SYS_epoll_create, size), Err(libc::EINVAL));
        }
        let old = syscall!(SYS_epoll_create, 1).expect("epoll_create") as i32;
        assert_eq!(syscall!(SYS_epoll_wait, old, [0u64; 2].as_mut_ptr(), 1, 0), Ok(0));
        close(old);
    }
    let epoll = syscall!(SYS_epoll_create1, libc::EPOLL_CLOEXEC).expect("epoll_create1") as i32;
    assert_eq!(syscall!(SYS_fcntl, epoll, libc::F_GETFD), Ok(libc::FD_CLOEXEC as usize));
    assert_eq!(syscall!(SYS_fcntl, epoll, libc::F_GETFL), Ok(libc::O_RDWR as usize));
    let link = std::fs::read_link(format!("/proc/self/fd/{epoll}")).expect("its link");
    assert_eq!(link.to_str(), Some("anon_inode:[eventpoll]"));
    assert_eq!(sys::read(epoll, &mut [0; 16]), Err(libc::EINVAL));
    assert_eq!(sys::write(epoll, &[0; 16]), Err(libc::EINVAL));

    let (from, to) = pipe(0);
    let directory = syscall!(SYS_openat, libc::AT_FDCWD, c"/".as_ptr(), libc::O_RDONLY).expect("open") as i32;
    let file = syscall!(SYS_memfd_create, c"file".as_ptr(), 0).expect("memfd_create") as i32;
    let path = syscall!(SYS_openat, libc::AT_FDCWD, c"/".as_ptr(), libc::O_PATH).expect("open") as i32;
    for operation in [libc::EPOLL_CTL_ADD, libc::EPOLL_CTL_MOD, libc::EPOLL_CTL_DEL] {
        for fd in [directory, file] {
            assert_eq!(control(epoll, operation, fd, IN, 0), Err(libc::EPERM));
            assert_eq!(control(from, operation, fd, IN, 0), Err(libc::EPERM));
        }
        assert_eq!(control(epoll, operation, path, IN, 0), Err(libc::EBADF));
        assert_eq!(control(epoll, operation, -1, IN, 0), Err(libc::EBADF));
        assert_eq!(control(99, operation, from, IN, 0), Err(libc::EBADF));
        assert_eq!(control(from, operation, to, IN, 0), Err(libc::EINVAL), "no epoll");
        assert_eq!(control(epoll, operation, epoll, IN, 0), Err(libc::EINVAL), "itself");
    }
    let raw = |operation: i32, address: usize| syscall!(SYS_epoll_ctl, epoll, operation, from, address);
    assert_eq!(control(epoll, 4, from, IN, 0), Err(libc::EINVAL));
    assert_eq!(raw(4, 8), Err(libc::EFAULT), "the event comes first");
    assert_eq!(raw(libc::EPOLL_CTL_ADD, 0), Err(libc::EFAULT));
    assert_eq!(control(epoll, libc::EPOLL_CTL_MOD, from, IN, 0), Err(libc::ENOENT));
    assert_eq!(raw(libc::EPOLL_CTL_DEL, 0), Err(libc::ENOENT));
    add(epoll, from, IN);
    assert_eq!(control(epoll, libc::EPOLL_CTL_ADD, from, IN, 0), Err(libc::EEXIST));
    assert_eq!(raw(libc::EPOLL_CTL_DEL, 0), Ok(0));
    assert_eq!(raw(libc::EPOLL_CTL_DEL, 0), Err(libc::ENOENT));

    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 2];
    let array = events.as_mut_ptr() as usize;
    let collect = |epoll: i32, array: usize, most: i32, mask: usize, size: usize| {
        syscall!(SYS_epoll_pwait, epoll, array, most, 0, mask, size)
    };
    let largest = i32::MAX / size_of::<libc::epoll_event>() as i32;
    for most in [0, -1, largest + 1] {
        assert_eq!(collect(epoll, array, most, 0, 8), Err(libc::EINVAL));
    }
    assert_eq!(collect(epoll, usize::MAX - 4096, 1, 0, 8), Err(libc::EFAULT));
    assert_eq!(collect(epoll, 0, 1, 0, 8), Ok(0), "nothing is written");
    assert_eq!(collect(99, array, 1, 0, 8), Err(libc::EBADF));
    assert_eq!(collect(from, array, 1, 0, 8), Err(libc::EINVAL));
    let mask = 0u64;
    assert_eq!(collect(epoll, array, 1, &raw const mask as usize, 4), Err(libc::EINVAL));
    assert_eq!(collect(epoll, array, 1, 8, 8), Err(libc::EFAULT));
    assert_eq!(
        collect(epoll, array, 1, 0, 4),
        Ok(0),
        "without a mask its size means nothing"
    );
    let until = |time: usize| syscall!(SYS_epoll_pwait2, epoll, array, 2, time, 0, 8);
    let bad = libc::timespec {
        tv_sec: 0,
        tv_nsec: 1_000_000_000,
    };
    assert_eq!(until(&raw const bad as usize), Err(libc::EINVAL));
    assert_eq!(until(8), Err(libc::EFAULT));
    add(epoll, to, OUT);
    assert_eq!(collect(epoll, 8, 2, 0, 8), Err(libc::EFAULT));
    assert_eq!(collect(epoll, array, 2, 0, 8), Ok(1), "and the event is still there");
    for fd in [epoll, from, to, directory, file, path] {
        close(fd);
    }
}

fn events_lie_where_they_should() {
    let (epoll, first, second) = (create(), counter(1), counter(2));
    control(epoll, libc::EPOLL_CTL_ADD, first, IN, 0x1111_2222_3333_4444).expect("epoll_ctl");
    control(epoll, libc::EPOLL_CTL_ADD, second, IN | OUT, u64::MAX).expect("epoll_ctl");
    let mut bytes = [0xeeu8; 40];
    assert_eq!(syscall!(SYS_epoll_pwait, epoll, bytes.as_mut_ptr(), 2, 0, 0, 8), Ok(2));
    // Packed on x86_64 alone.
    let (size, data) = if cfg!(target_arch = "x86_64") { (12, 4) } else { (16, 8) };
    assert_eq!(bytes[..4], 1u32.to_ne_bytes());
    assert_eq!(bytes[data..data + 8], 0x1111_2222_3333_4444u64.to_ne_bytes());
    assert_eq!(bytes[size..size + 4], 5u32.to_ne_bytes());
    assert_eq!(bytes[size + data..][..8], [0xff; 8]);
    assert_eq!(bytes[2 * size..], [0xee; 40][2 * size..]);
}

fn levels_and_edges() {
    let (level, edge, (from, to)) = (create(), create(), pipe(0));
    add(level, from, IN);
    add(edge, from, IN | ET);
    assert_eq!((ready(level), ready(edge)), (vec![], vec![]));
    put(to);
    for _ in 0..3 {
        assert_eq!(ready(level), event(from, IN));
    }
    assert_eq!(ready(edge), event(from, IN));
    assert_eq!(ready(edge), []);
    take(from);
    assert_eq!(ready(level), [], "looked at anew");
    put(to);
    assert_eq!(ready(edge), event(from, IN));
    put(to);
    take(from);
    take(from);
    assert_eq!(ready(edge), [], "an edge that is gone by the time of the look");
    close(to);
    for _ in 0..2 {
        assert_eq!(ready(level), event(from, HUP), "told unasked");
    }
    assert_eq!(ready(edge), event(from, HUP));
    assert_eq!(ready(edge), []);
}

fn every_write_is_an_edge() {
    let (epoll, (from, to), counter) = (create(), pipe(0), counter(0));
    add(epoll, from, IN | ET);
    for _ in 0..3 {
        put(to);
        assert_eq!(ready(epoll), event(from, IN), "unread bytes are there already");
        assert_eq!(ready(epoll), []);
    }
    take(from);
    assert_eq!(ready(epoll), [], "a read that leaves something is no edge");
    put(to);
    put(to);
    assert_eq!(ready(epoll), event(from, IN), "two are one");
    assert_eq!(ready(epoll), []);
    close(from);
    // The end that writes: writes are not its edges, nor reads of what is not full.
    let (from, to) = pipe(libc::O_NONBLOCK);
    add(epoll, to, IN | OUT | ET);
    assert_eq!(ready(epoll), event(to, OUT));
    put(to);
    assert_eq!(ready(epoll), []);
    while sys::write(to, &[0; 4096]).is_ok() {}
    assert_eq!(ready(epoll), []);
    let mut page = [0; 4096];
    assert_eq!(sys::read(from, &mut page), Ok(4096));
    assert_eq!(ready(epoll), event(to, OUT));
    assert_eq!(sys::read(from, &mut page), Ok(4096));
    assert_eq!(ready(epoll), []);
    close(to);
    // A count that is added to.
    add(epoll, counter, IN | ET);
    for added in [1, 1, 0] {
        count(counter, added);
        assert_eq!(ready(epoll), event(counter, IN), "added {added}");
        assert_eq!(ready(epoll), []);
    }
    assert_eq!(sys::read(counter, &mut [0; 8]), Ok(8));
    assert_eq!(ready(epoll), []);
    change(epoll, counter, OUT | ET);
    assert_eq!(ready(epoll), event(counter, OUT));
    count(counter, 1);
    assert_eq!(ready(epoll), [], "an edge of what is not asked for");
    assert_eq!(sys::read(counter, &mut [0; 8]), Ok(8));
    assert_eq!(ready(epoll), event(counter, OUT));
}

fn one_shots_are_off_until_changed() {
    let (epoll, (from, to)) = (create(), pipe(0));
    for how in [ONESHOT, ONESHOT | ET] {
        add(epoll, from, IN | how);
        put(to);
        assert_eq!(ready(epoll), event(from, IN));
        put(to);
        assert_eq!(ready(epoll), []);
        change(epoll, from, IN | how);
        assert_eq!(ready(epoll), event(from, IN));
        take(from);
        take(from);
        change(epoll, from, IN | how);
        assert_eq!(ready(epoll), []);
        control(epoll, libc::EPOLL_CTL_DEL, from, 0, 0).expect("EPOLL_CTL_DEL");
    }
    // Off means that not even a hang-up is told.
    add(epoll, from, IN | ONESHOT);
    put(to);
    assert_eq!(ready(epoll), event(from, IN));
    close(to);
    assert_eq!(ready(epoll), []);
    change(epoll, from, IN | ONESHOT);
    assert_eq!(ready(epoll), event(from, IN | HUP));
}

fn changes_are_looked_at() {
    let (epoll, (from, to)) = (create(), pipe(0));
    put(to);
    add(epoll, from, 0);
    assert_eq!(ready(epoll), []);
    change(epoll, from, IN | ET);
    assert_eq!(ready(epoll), event(from, IN), "ready as it was changed");
    change(epoll, from, IN | ET);
    assert_eq!(ready(epoll), event(from, IN), "a change is an edge");
    control(epoll, libc::EPOLL_CTL_MOD, from, IN, 77).expect("EPOLL_CTL_MOD");
    assert_eq!(ready(epoll), [(IN, 77)]);
    change(epoll, from, libc::EPOLLPRI as u32);
    assert_eq!(ready(epoll), []);
    control(epoll, libc::EPOLL_CTL_DEL, from, 0, 0).expect("EPOLL_CTL_DEL");
    put(to);
    assert_eq!(ready(epoll), []);
    // A bit by another name, and one that nobody has.
    add(epoll, from, libc::EPOLLRDNORM as u32 | libc::EPOLLRDHUP as u32);
    assert_eq!(ready(epoll), event(from, libc::EPOLLRDNORM as u32));
}

fn turns_are_taken() {
    let (epoll, pipes) = (create(), [(); 5].map(|()| pipe(0)));
    for (from, to) in pipes {
        add(epoll, from, IN);
        put(to);
    }
    let some = |most| {
        let found = wait_with(epoll, most, 0, 0).expect("epoll_pwait");
        let number = |fd| {
            pipes
                .iter()
                .position(|(from, _)| *from == fd as i32)
                .expect("one of them")
        };
        found.into_iter().map(|(_, fd)| number(fd)).collect::<Vec<_>>()
    };
    assert_eq!([some(2), some(2), some(2)], [[0, 1], [2, 3], [4, 0]]);
    assert_eq!(some(9), [1, 2, 3, 4, 0], "each once");
    take(pipes[3].0);
    assert_eq!(some(9), [1, 2, 4, 0]);
}

fn closing_ends_the_watch() {
    let (epoll, (from, to)) = (create(), pipe(0));
    add(epoll, from, IN);
    put(to);
    let copy = syscall!(SYS_dup, from).expect("dup") as i32;
    close(from);
    assert_eq!(ready(epoll), event(from, IN), "the file is open still");
    assert_eq!(control(epoll, libc::EPOLL_CTL_DEL, from, 0, 0), Err(libc::EBADF));
    assert_eq!(control(epoll, libc::EPOLL_CTL_DEL, copy, 0, 0), Err(libc::ENOENT));
    // The number, with another file behind it.
    let other = counter(0);
    assert_eq!(other, from);
    add(epoll, other, IN);
    assert_eq!(ready(epoll), event(from, IN));
    count(other, 1);
    assert_eq!(ready(epoll).len(), 2);
    close(copy);
    assert_eq!(ready(epoll), event(from, IN));
    close(other);
    assert_eq!(ready(epoll), []);
    // A child has the file open.
    let (from, to) = pipe(0);
    add(epoll, from, IN);
    put(to);
    let (hold, release) = pipe(0);
    let child = sys::fork(|| {
        close(release);
        let _ended = sys::read(hold, &mut [0]);
        0
    });
    close(from);
    assert_eq!(ready(epoll), event(from, IN));
    close(release);
    assert_eq!(sys::wait_exit(child), 0);
    assert_eq!(ready(epoll), []);
}

fn descriptors_are_told_apart() {
    let (epoll, (from, to)) = (create(), pipe(0));
    let copy = syscall!(SYS_dup, from).expect("dup") as i32;
    add(epoll, from, IN);
    add(epoll, copy, IN | ET);
    put(to);
    // In no order that is promised.
    let mut found = ready(epoll);
    found.sort_by_key(|(_, fd)| *fd);
    assert_eq!(found, [event(from, IN), event(copy, IN)].concat());
    assert_eq!(ready(epoll), event(from, IN));
    control(epoll, libc::EPOLL_CTL_DEL, from, 0, 0).expect("EPOLL_CTL_DEL");
    put(to);
    assert_eq!(ready(epoll), event(copy, IN));
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

fn all_kinds_tell() {
    let epoll = create();
    // A timer.
    let timer = syscall!(SYS_timerfd_create, libc::CLOCK_MONOTONIC, 0).expect("timerfd_create") as i32;
    add(epoll, timer, IN | ET);
    let time = [0u64, 0, 0, 10 * MS];
    syscall!(SYS_timerfd_settime, timer, 0, time.as_ptr(), 0).expect("timerfd_settime");
    assert_eq!(wait(epoll, -1), Ok(event(timer, IN)));
    assert_eq!(wait(epoll, 20), Ok(vec![]));
    close(timer);
    // A process.
    let (hold, release) = pipe(0);
    let child = sys::fork(|| {
        close(release);
        let _ended = sys::read(hold, &mut [0]);
        0
    });
    let process = syscall!(SYS_pidfd_open, child, 0).expect("pidfd_open") as i32;
    add(epoll, process, IN);
    assert_eq!(ready(epoll), []);
    close(release);
    assert_eq!(wait(epoll, -1), Ok(event(process, IN)));
    assert_eq!(sys::wait_exit(child), 0);
    assert_eq!(ready(epoll), event(process, IN));
    close(process);
    // Signals.
    sys::mask(libc::SIG_BLOCK, &[libc::SIGUSR2]);
    let mask = sys::set_of(&[libc::SIGUSR2]);
    let signals = syscall!(SYS_signalfd4, -1i32, &raw const mask, 8, 0).expect("signalfd4") as i32;
    add(epoll, signals, IN);
    assert_eq!(ready(epoll), []);
    syscall!(SYS_kill, syscall!(SYS_getpid).expect("getpid"), libc::SIGUSR2).expect("kill");
    assert_eq!(wait(epoll, -1), Ok(event(signals, IN)));
    assert_eq!(sys::read(signals, &mut [0; 128]), Ok(128));
    assert_eq!(ready(epoll), []);
    close(signals);
    syscall!(SYS_kill, syscall!(SYS_getpid).expect("getpid"), libc::SIGUSR2).expect("kill");
    assert_eq!(ready(epoll), []);
    // A fifo, opened for both: it is its own other end.
    let path = c"/tmp/epoll-fifo";
    let _old = syscall!(SYS_unlinkat, libc::AT_FDCWD, path.as_ptr(), 0);
    syscall!(SYS_mknodat, libc::AT_FDCWD, path.as_ptr(), libc::S_IFIFO | 0o600, 0).expect("mknod");
    let fifo = syscall!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), libc::O_RDWR).expect("open") as i32;
    add(epoll, fifo, IN | ET);
    put(fifo);
    assert_eq!(ready(epoll), event(fifo, IN));
    assert_eq!(ready(epoll), []);
    close(fifo);
    syscall!(SYS_unlinkat, libc::AT_FDCWD, path.as_ptr(), 0).expect("unlink");
}

fn every_user_has_a_limit() {
    const LIMIT: &str = "/proc/sys/fs/epoll/max_user_watches";
    let before = std::fs::read_to_string(LIMIT).expect("the limit");
    assert!(before.trim().parse::<u64>().expect("a number") > 100);
    assert_eq!(
        std::fs::write(LIMIT, "many").map_err(|error| error.raw_os_error()),
        Err(Some(libc::EINVAL))
    );
    sys::in_child(|| {
        // A user who has no other epolls.
        std::fs::write(LIMIT, "3").expect("set");
        syscall!(SYS_setresuid, 4711, 4711, 4711).expect("setresuid");
        let (one, two) = (create(), create());
        let counters = [(); 4].map(|()| counter(0));
        add(one, counters[0], IN);
        add(one, counters[1], IN);
        add(two, counters[0], IN);
        let more = |epoll: i32| control(epoll, libc::EPOLL_CTL_ADD, counters[3], IN, 0);
        assert_eq!((more(one), more(two)), (Err(libc::ENOSPC), Err(libc::ENOSPC)));
        assert_eq!(
            control(one, libc::EPOLL_CTL_ADD, counters[0], IN, 0),
            Err(libc::EEXIST),
            "before the limit"
        );
        close(counters[1]);
        assert_eq!(more(two), Ok(0));
        close(two);
        assert_eq!(control(one, libc::EPOLL_CTL_ADD, counters[2], IN, 0), Ok(0));
        assert_eq!(more(one), Ok(0));
    });
    std::fs::write(LIMIT, before.trim()).expect("set again");
}

fn thousands_lose_no_memory() {
    const MANY: usize = 3000;
    let limit = libc::rlimit {
        rlim_cur: MANY as u64 + 64,
        rlim_max: MANY as u64 + 64,
    };
    syscall!(SYS_prlimit64, 0, libc::RLIMIT_NOFILE, &raw const limit, 0).expect("prlimit64");
    let (epoll, other, (from, to)) = (create(), create(), pipe(0));
    let copies: Vec<i32> = (0..MANY)
        .map(|_| syscall!(SYS_dup, from).expect("dup") as i32)
        .collect();
    for fd in &copies {
        add(epoll, *fd, IN);
        add(other, *fd, IN | ET);
    }
    put(to);
    assert_eq!(wait_with(epoll, 2 * MANY, 0, 0).expect("epoll_pwait").len(), MANY);
    assert_eq!(wait_with(other, 100, 0, 0).expect("epoll_pwait").len(), 100);
    // One epoll goes before the files, one after.
    close(other);
    for fd in copies {
        close(fd);
    }
    close(from);
    assert_eq!(ready(epoll), []);
    close(epoll);
    close(to);
}
