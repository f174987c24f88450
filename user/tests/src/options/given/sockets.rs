//! Of sockets.

use options::Group;

use super::{Given, with};
use crate::{
    options::place::{kept, room, runs, words},
    syscall,
};

const UNIX: usize = libc::AF_UNIX as usize;
const STREAM: usize = libc::SOCK_STREAM as usize;
const SOL_SOCKET: usize = libc::SOL_SOCKET as usize;

/// What goes with a choice of these.
pub fn given(group: &Group, choice: &str) -> Option<Given> {
    Some(match (group.call, group.what) {
        ("socket", "family") => with([0, STREAM]),
        ("socket", "type") => with([UNIX]),
        ("socket", _) => with([UNIX, STREAM, 0]),
        ("socketpair", _) => with([UNIX, STREAM, 0, room()]),
        // Nobody is there.
        ("accept4", _) => with([listener(), 0, 0]).fails(libc::EAGAIN),
        ("shutdown", _) => with([pair().0]),
        ("sendto", _) => with([pair().0, room(), 1]),
        ("sendmsg", _) => with([pair().0, message()]),
        ("sendmmsg", _) => with([pair().0, message(), 1]),
        ("recvfrom", _) => with([full(), room(), 1]),
        ("recvmsg", _) => with([full(), message()]),
        ("recvmmsg", _) => with([full(), message(), 1]),
        ("getsockopt", "level") => with([pair().0, 0, libc::SO_TYPE as usize, room(), kept(4)]),
        ("setsockopt", "level") => with([pair().0, 0, libc::SO_KEEPALIVE as usize, kept(1), 4]),
        ("getsockopt", _) => asked(choice),
        ("setsockopt", _) => match choice {
            "SO_RCVTIMEO_OLD" | "SO_SNDTIMEO_OLD" | "SO_RCVTIMEO_NEW" | "SO_SNDTIMEO_NEW" => {
                with([pair().0, SOL_SOCKET, 0, words(&[1, 0]), 16])
            }
            "SO_LINGER" => with([pair().0, SOL_SOCKET, 0, kept([1, 1]), 8]),
            "SO_ATTACH_FILTER" => {
                // BPF_RET | BPF_K, all of it.
                let program = words(&[0xffff_ffff_0000_0006]);
                with([pair().0, SOL_SOCKET, 0, words(&[1, program as u64]), 16])
            }
            _ => with([pair().0, SOL_SOCKET, 0, kept(1), 4]),
        },
        _ => return None,
    })
}

/// Two that are connected.
fn pair() -> (usize, usize) {
    let mut ends = [0_i32; 2];
    syscall!(SYS_socketpair, UNIX, STREAM, 0, ends.as_mut_ptr()).expect("socketpair");
    (ends[0] as usize, ends[1] as usize)
}

/// One that has bytes to be received.
fn full() -> usize {
    let (one, other) = pair();
    syscall!(SYS_write, other, room(), 16).expect("write");
    one
}

/// One that listens, and does not wait.
fn listener() -> usize {
    let socket = syscall!(SYS_socket, UNIX, STREAM | libc::SOCK_NONBLOCK as usize, 0).expect("socket");
    // The family alone has the kernel find a name.
    let family = kept([UNIX as u16, 0]);
    syscall!(SYS_bind, socket, family, 2).expect("bind");
    syscall!(SYS_listen, socket, 1).expect("listen");
    socket
}

/// A `struct mmsghdr`, which begins with a `struct msghdr`.
fn message() -> usize {
    words(&[0, 0, runs() as u64, 1, 0, 0, 0, 0])
}

fn asked(choice: &str) -> Given {
    let (value, length) = match choice {
        "SO_PEERNAME" => (room(), 2),
        "SO_PEERGROUPS" => (room(), 4096),
        "SO_COOKIE" | "SO_NETNS_COOKIE" => (room(), 8),
        "SO_BINDTODEVICE" | "SO_MEMINFO" => (room(), 64),
        _ => (room(), 16),
    };
    with([pair().0, SOL_SOCKET, 0, value, kept(length)])
}
