//! Network namespaces: abstract names of Unix sockets.

use super::{Waiting, open, setns, unshare};
use crate::{
    sys::{self, Sys, in_child},
    syscall,
};

crate::tests! { "namespaces::net":
    abstract_names_are_apart;
    a_socket_stays_where_it_was_made;
    paths_lead_everywhere;
}

/// An address, and its length.
fn address(name: &[u8]) -> ([u8; 110], usize) {
    let mut address = [0; 110];
    address[..2].copy_from_slice(&(libc::AF_UNIX as u16).to_ne_bytes());
    address[2..2 + name.len()].copy_from_slice(name);
    (address, 2 + name.len())
}

fn socket() -> i32 {
    syscall!(SYS_socket, libc::AF_UNIX, libc::SOCK_STREAM, 0).expect("socket") as i32
}

fn bind(socket: i32, name: &[u8]) -> Sys {
    let (address, length) = address(name);
    syscall!(SYS_bind, socket, address.as_ptr(), length)
}

fn connect(socket: i32, name: &[u8]) -> Sys {
    let (address, length) = address(name);
    syscall!(SYS_connect, socket, address.as_ptr(), length)
}

fn listener(name: &[u8]) -> i32 {
    let listener = socket();
    bind(listener, name).expect("bind");
    syscall!(SYS_listen, listener, 5).expect("listen");
    listener
}

fn abstract_names_are_apart() {
    const NAME: &[u8] = b"\0tests-apart";
    let outside = listener(NAME);
    let net = open("self", "net");
    in_child(|| {
        unshare(libc::CLONE_NEWNET).expect("unshare");
        assert_eq!(connect(socket(), NAME), Err(libc::ECONNREFUSED));
        let inside = listener(NAME);
        assert_eq!(connect(socket(), NAME), Ok(0));
        assert_eq!(bind(socket(), NAME), Err(libc::EADDRINUSE));
        setns(net, 0).expect("setns");
        sys::close(inside);
        assert_eq!(connect(socket(), NAME), Ok(0), "the one outside");
    });
    assert_eq!(bind(socket(), NAME), Err(libc::EADDRINUSE));
    sys::close(outside);
    sys::close(net);
}

fn a_socket_stays_where_it_was_made() {
    const NAME: &[u8] = b"\0tests-stays";
    let outside = listener(NAME);
    in_child(|| {
        let before = socket();
        unshare(libc::CLONE_NEWNET).expect("unshare");
        assert_eq!(connect(before, NAME), Ok(0));
    });
    sys::close(outside);
}

fn paths_lead_everywhere() {
    const PATH: &[u8] = b"/tmp/tests-net";
    let _gone = std::fs::remove_file("/tmp/tests-net");
    let outside = listener(PATH);
    let child = Waiting::new(|| {
        unshare(libc::CLONE_NEWNET).expect("unshare");
        assert_eq!(connect(socket(), PATH), Ok(0));
    });
    drop(child);
    sys::close(outside);
    std::fs::remove_file("/tmp/tests-net").expect("unlink");
}
