//! Several CPUs in one space: what each may still reach by an old translation.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use hal::host;
use kernel::{
    errno::Errno,
    mm::{AddressSpace, Map, frame, user},
};

use super::{Accounting, BASE, PAGE, RW, map, read, write};

struct Flag(AtomicUsize);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Polls when woken and only then: a wake that is lost ends the test.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let woken = Arc::new(Flag(AtomicUsize::new(1)));
    let waker = Waker::from(woken.clone());
    let mut future = pin!(future);
    let began = Instant::now();
    loop {
        if woken.0.swap(0, Ordering::SeqCst) != 0
            && let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker))
        {
            return value;
        }
        AddressSpace::idle_checkpoint();
        std::thread::yield_now();
        assert!(began.elapsed() < Duration::from_secs(30), "nobody woke it");
    }
}

/// Two CPUs, stepped by one thread: the second keeps stale translations until it passes a checkpoint.
#[test]
fn no_frame_is_freed_while_a_cpu_can_reach_it() {
    let _accounting = Accounting::start();
    let space = AddressSpace::new().unwrap();
    map(&space, 0, 4, RW).unwrap();
    write(&space, BASE, 1).unwrap();
    host::set_cpu_id(1);
    assert_eq!(read(&space, BASE), Ok(1));
    host::set_cpu_id(0);
    assert_eq!(space.active_cpus(), 3);

    let woken = Arc::new(Flag(AtomicUsize::new(0)));
    let waker = Waker::from(woken.clone());
    let free = frame::stats().free;
    {
        let mut unmap = pin!(space.munmap(BASE, PAGE));
        assert!(unmap.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!((frame::stats().free, space.parked_frames()), (free, 1));
        host::set_cpu_id(1);
        assert!(
            host::machine().interrupt_pending(1),
            "the other CPU has been interrupted"
        );
        let mut byte = [0];
        assert!(user::copy_in(&mut byte, BASE).is_ok(), "and still reaches the page");
        AddressSpace::idle_checkpoint();
        assert!(user::copy_in(&mut byte, BASE).is_err());
        host::set_cpu_id(0);
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert!(unmap.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
    }
    assert_eq!((frame::stats().free, space.parked_frames()), (free + 1, 0));

    // A dropped future frees nothing early either.
    write(&space, BASE + PAGE, 1).unwrap();
    host::set_cpu_id(1);
    assert_eq!(read(&space, BASE + PAGE), Ok(1));
    host::set_cpu_id(0);
    {
        let mut unmap = pin!(space.munmap(BASE + PAGE, PAGE));
        assert!(unmap.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    assert_eq!(space.parked_frames(), 1);
    host::set_cpu_id(1);
    AddressSpace::deactivate_current();
    host::set_cpu_id(0);
    assert_eq!((space.parked_frames(), space.active_cpus()), (0, 1));
}

#[test]
fn an_idle_cpu_lets_go_of_a_dead_space() {
    let _accounting = Accounting::start();
    let space = AddressSpace::new().unwrap();
    map(&space, 0, 4, RW).unwrap();
    write(&space, BASE, 1).unwrap();
    AddressSpace::idle_checkpoint();
    assert_eq!(space.active_cpus(), 1, "a space in use stays");
    space.leave();
    assert_eq!(space.resident_pages(), 0);
    assert!(user::copy_in(&mut [0], BASE).is_err());
    AddressSpace::idle_checkpoint();
    assert_eq!(space.active_cpus(), 0);
}

/// Says that a test is over, also where it fails.
struct Over<'a>(&'a AtomicUsize);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(1, Ordering::SeqCst);
    }
}

/// A CPU that begins to use the space while it is being changed has its part in the change, and no other CPU knows when.
#[test]
fn a_cpu_that_comes_late_wakes_who_waits_for_it() {
    for _ in 0..20_000 {
        let _accounting = Accounting::start();
        let space = AddressSpace::new().unwrap();
        map(&space, 0, 2, RW).unwrap();
        write(&space, BASE, 1).unwrap();
        let machine = host::machine();
        let (over, begin) = (AtomicUsize::new(0), Barrier::new(4));
        std::thread::scope(|scope| {
            for cpu in 1..4 {
                let (machine, space, over, begin) = (machine.clone(), &space, &over, &begin);
                scope.spawn(move || {
                    machine.attach(cpu);
                    begin.wait();
                    space.activate();
                    while over.load(Ordering::SeqCst) == 0 {
                        AddressSpace::idle_checkpoint();
                        std::thread::yield_now();
                    }
                    AddressSpace::deactivate_current();
                });
            }
            let _over = Over(&over);
            begin.wait();
            wait(space.munmap(BASE, PAGE)).unwrap();
        });
        assert_eq!(space.parked_frames(), 0);
    }
}

/// Threads as CPUs: faults, writes, forks and unmappings at the same time, each waiting by polling and passing checkpoints.
#[test]
fn real_concurrency_loses_no_write() {
    let _accounting = Accounting::start();
    let space = AddressSpace::new().unwrap();
    map(&space, 0, 64, RW).unwrap();
    let machine = host::machine();
    let running = AtomicUsize::new(3);
    std::thread::scope(|scope| {
        for cpu in 1..4u64 {
            let (machine, space, running) = (machine.clone(), &space, &running);
            scope.spawn(move || {
                machine.attach(cpu as u32);
                for round in 0..400u64 {
                    let page = round % 16;
                    // Each CPU has a word of its own in pages that all write, and an area that only it unmaps.
                    let word = BASE + page * PAGE + cpu * 8;
                    wait(space.write(word, &round)).unwrap();
                    AddressSpace::idle_checkpoint();
                    assert_eq!(wait(space.read::<u64>(word)), Ok(round));
                    let own = BASE + (16 + cpu * 8) * PAGE;
                    wait(space.write(own, &round)).unwrap();
                    if round % 8 == 0 {
                        wait(space.munmap(own, PAGE)).unwrap();
                        assert_eq!(wait(space.read::<u64>(own)), Err(Errno::EFAULT));
                        wait(space.mmap(Map::anonymous(PAGE, RW).fixed(own))).unwrap();
                        assert_eq!(wait(space.read::<u64>(own)), Ok(0));
                    }
                    if round % 50 == cpu {
                        let child = wait(space.fork()).unwrap();
                        assert_eq!(wait(child.read::<u64>(word)), Ok(round));
                        child.leave();
                    }
                }
                running.fetch_sub(1, Ordering::SeqCst);
                while running.load(Ordering::SeqCst) > 0 {
                    AddressSpace::idle_checkpoint();
                    std::thread::yield_now();
                }
                AddressSpace::deactivate_current();
            });
        }
    });
    assert_eq!(space.parked_frames(), 0);
}
