//! Waiting for many files: `epoll_create1` and its kin.

pub mod control;
pub mod edges;
pub mod waits;

use crate::{
    sys::{self, Sys},
    syscall,
};

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
