//! Unix sockets: making, naming, connecting, bytes.

use crate::{
    sys::{self, Sys, close, fork, in_child, poll, read, wait_exit, write},
    syscall,
};

crate::tests! { "sockets":
    what_there_is;
    bytes_go_both_ways [frees];
    a_megabyte_goes_through [frees];
    the_peer_s_end_is_seen;
    unread_bytes_reset;
    a_blocked_writer_is_reset;
    halves_are_shut_down;
    names_are_given;
    paths_are_bound_and_left;
    connections_are_made [frees];
    connecting_is_checked;
    a_full_backlog;
    a_closed_listener_resets;
    accepting_is_checked;
}

pub const STREAM: i32 = libc::SOCK_STREAM;
pub const DATAGRAM: i32 = libc::SOCK_DGRAM;
pub const PACKETS: i32 = libc::SOCK_SEQPACKET;

/// A pair of sockets.
pub fn pair(kind: i32) -> (i32, i32) {
    let mut pair = [0i32; 2];
    syscall!(SYS_socketpair, libc::AF_UNIX, kind, 0, pair.as_mut_ptr()).expect("socketpair");
    (pair[0], pair[1])
}

pub fn socket(kind: i32) -> i32 {
    syscall!(SYS_socket, libc::AF_UNIX, kind, 0).expect("socket") as i32
}

/// An address, with the family before it.
pub fn address(name: &[u8]) -> Vec<u8> {
    [(libc::AF_UNIX as u16).to_ne_bytes().as_slice(), name].concat()
}

pub fn bind(fd: i32, name: &[u8]) -> Sys {
    let address = address(name);
    syscall!(SYS_bind, fd, address.as_ptr(), address.len())
}

pub fn connect(fd: i32, name: &[u8]) -> Sys {
    let address = address(name);
    syscall!(SYS_connect, fd, address.as_ptr(), address.len())
}

pub fn listen(fd: i32, most: i32) -> Sys {
    syscall!(SYS_listen, fd, most)
}

pub fn accept(fd: i32) -> Sys {
    syscall!(SYS_accept4, fd, 0, 0, 0)
}

/// A name that no other test uses, abstract.
pub fn own_name(what: &str) -> Vec<u8> {
    format!("\0breenix-{}-{what}", std::process::id()).into_bytes()
}

/// A socket that listens by a name, and the name.
pub fn listener(kind: i32, what: &str, most: i32) -> (i32, Vec<u8>) {
    let fd = socket(kind);
    let name = own_name(what);
    bind(fd, &name).expect("bind");
    listen(fd, most).expect("listen");
    (fd, name)
}

pub fn send(fd: i32, bytes: &[u8], flags: i32) -> Sys {
    syscall!(SYS_sendto, fd, bytes.as_ptr(), bytes.len(), flags, 0, 0)
}

pub fn receive(fd: i32, buffer: &mut [u8], flags: i32) -> Sys {
    syscall!(SYS_recvfrom, fd, buffer.as_mut_ptr(), buffer.len(), flags, 0, 0)
}

pub fn shutdown(fd: i32, how: i32) -> Sys {
    syscall!(SYS_shutdown, fd, how)
}

pub fn set_option(fd: i32, option: i32, value: i32) -> Sys {
    syscall!(SYS_setsockopt, fd, libc::SOL_SOCKET, option, &raw const value, 4)
}

pub fn option(fd: i32, option: i32) -> Result<i32, i32> {
    let (mut value, mut length) = (0i32, 4i32);
    let result = syscall!(
        SYS_getsockopt,
        fd,
        libc::SOL_SOCKET,
        option,
        &raw mut value,
        &raw mut length
    );
    result.map(|_| value)
}

/// A socket's name, or its peer's, without the family.
fn name_of(number: i64, fd: i32) -> Result<Vec<u8>, i32> {
    let mut bytes = [0u8; 128];
    let mut length = 128i32;
    sys::call(
        number,
        &[fd as usize, bytes.as_mut_ptr() as usize, &raw mut length as usize],
    )?;
    assert_eq!(bytes[..2], (libc::AF_UNIX as u16).to_ne_bytes());
    Ok(bytes[2..length as usize].to_vec())
}

pub fn own(fd: i32) -> Vec<u8> {
    name_of(libc::SYS_getsockname, fd).expect("getsockname")
}

pub fn peer(fd: i32) -> Result<Vec<u8>, i32> {
    name_of(libc::SYS_getpeername, fd)
}

pub fn timeout(fd: i32, option: i32, milliseconds: i64) {
    let time = [milliseconds / 1000, milliseconds % 1000 * 1000];
    syscall!(SYS_setsockopt, fd, libc::SOL_SOCKET, option, time.as_ptr(), 16).expect("setsockopt");
}

pub const ALL: i16 = libc::POLLIN | libc::POLLOUT | libc::POLLRDHUP;

pub fn ready(fd: i32) -> i16 {
    poll(fd, ALL, 0)
}

fn what_there_is() {
    let make =
        |family: i32, kind: i32, protocol: i32| syscall!(SYS_socket, family, kind, protocol).map(|fd| close(fd as i32));
    assert_eq!(make(libc::AF_UNIX, STREAM, 0), Ok(()));
    assert_eq!(make(libc::AF_UNIX, STREAM, 1), Ok(()), "the family as protocol");
    assert_eq!(make(libc::AF_UNIX, STREAM, 2), Err(libc::EPROTONOSUPPORT));
    assert_eq!(make(libc::AF_UNIX, libc::SOCK_RDM, 0), Err(libc::ESOCKTNOSUPPORT));
    assert_eq!(make(libc::AF_UNIX, 11, 0), Err(libc::EINVAL));
    assert_eq!(make(libc::AF_UNIX, STREAM | 0x100, 0), Err(libc::EINVAL));
    for family in [-1, 46, 1000] {
        assert_eq!(make(family, STREAM, 0), Err(libc::EAFNOSUPPORT), "{family}");
    }
    let raw = socket(libc::SOCK_RAW);
    assert_eq!(option(raw, libc::SO_TYPE), Ok(DATAGRAM));
    for kind in [STREAM, DATAGRAM, PACKETS] {
        let fd = socket(kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK);
        assert_eq!(option(fd, libc::SO_TYPE), Ok(kind));
        assert_eq!(option(fd, libc::SO_DOMAIN), Ok(libc::AF_UNIX));
        assert_eq!(option(fd, libc::SO_PROTOCOL), Ok(0));
        assert_eq!(syscall!(SYS_fcntl, fd, libc::F_GETFD), Ok(libc::FD_CLOEXEC as usize));
        let flags = (libc::O_RDWR | libc::O_NONBLOCK) as usize;
        assert_eq!(syscall!(SYS_fcntl, fd, libc::F_GETFL), Ok(flags));
    }
    let mut ends = [0i32; 2];
    assert_eq!(syscall!(SYS_socketpair, libc::AF_UNIX, STREAM, 0, 8), Err(libc::EFAULT));
    assert_eq!(
        syscall!(SYS_socketpair, libc::AF_UNIX, STREAM | 0x100, 0, ends.as_mut_ptr()),
        Err(libc::EINVAL)
    );
    let (reader, _writer) = sys::pipe(0);
    assert_eq!(send(reader, b"x", 0), Err(libc::ENOTSOCK));
    assert_eq!(send(-1, b"x", 0), Err(libc::EBADF));
    assert_eq!(listen(reader, 1), Err(libc::ENOTSOCK));
}

fn bytes_go_both_ways() {
    for kind in [STREAM, DATAGRAM, PACKETS] {
        let (a, b) = pair(kind);
        assert_eq!(write(a, b"there"), Ok(5));
        assert_eq!(send(b, b"and back", 0), Ok(8));
        let mut buffer = [0; 16];
        assert_eq!(read(b, &mut buffer), Ok(5));
        assert_eq!(&buffer[..5], b"there");
        assert_eq!(receive(a, &mut buffer, 0), Ok(8));
        assert_eq!(&buffer[..8], b"and back");
        assert_eq!(receive(a, &mut buffer, libc::MSG_DONTWAIT), Err(libc::EAGAIN));
        assert_eq!(own(a), b"");
        assert_eq!(peer(a), Ok(Vec::new()));
        close(a);
        close(b);
    }
}

pub fn pattern(i: u32) -> u8 {
    (i.wrapping_mul(2_654_435_761) >> 13) as u8
}

fn a_megabyte_goes_through() {
    let (a, b) = pair(STREAM);
    let pid = fork(|| {
        close(a);
        let bytes: Vec<u8> = (0..1 << 20).map(pattern).collect();
        i32::from(write(b, &bytes) != Ok(1 << 20))
    });
    close(b);
    let mut all = Vec::new();
    let mut piece = [0; 70_001];
    loop {
        match read(a, &mut piece).expect("read") {
            0 => break,
            count => all.extend_from_slice(&piece[..count]),
        }
    }
    close(a);
    assert_eq!(all.len(), 1 << 20);
    assert!(all.iter().zip(0u32..).all(|(byte, i)| *byte == pattern(i)));
    assert_eq!(wait_exit(pid), 0, "a blocking write writes all");
}

fn the_peer_s_end_is_seen() {
    let mut buffer = [0; 8];
    for kind in [STREAM, PACKETS] {
        let (a, b) = pair(kind);
        assert_eq!(write(b, b"last"), Ok(4));
        close(b);
        assert_eq!(read(a, &mut buffer), Ok(4));
        assert_eq!(read(a, &mut buffer), Ok(0));
        assert_eq!(receive(a, &mut buffer, libc::MSG_DONTWAIT), Ok(0));
        assert_eq!(send(a, b"x", libc::MSG_NOSIGNAL), Err(libc::EPIPE));
        assert_eq!(ready(a), ALL | libc::POLLHUP);
        assert_eq!(peer(a), Ok(Vec::new()), "it had one");
    }
    let (a, b) = pair(DATAGRAM);
    close(b);
    assert_eq!(send(a, b"x", 0), Err(libc::ECONNREFUSED));
    assert_eq!(send(a, b"x", 0), Err(libc::ENOTCONN));
    assert_eq!(receive(a, &mut buffer, libc::MSG_DONTWAIT), Err(libc::EAGAIN));
}

fn unread_bytes_reset() {
    let mut buffer = [0; 8];
    for kind in [STREAM, PACKETS] {
        let (a, b) = pair(kind);
        assert_eq!(write(a, b"unread"), Ok(6));
        assert_eq!(write(b, b"first"), Ok(5));
        close(b);
        assert_eq!(ready(a) & libc::POLLERR, libc::POLLERR);
        if kind == STREAM {
            assert_eq!(read(a, &mut buffer), Ok(5), "what has come is read first");
            assert_eq!(read(a, &mut buffer), Err(libc::ECONNRESET));
        } else {
            assert_eq!(
                read(a, &mut buffer),
                Err(libc::ECONNRESET),
                "of packets the error goes first"
            );
            assert_eq!(read(a, &mut buffer), Ok(5));
        }
        assert_eq!(read(a, &mut buffer), Ok(0), "and once");
        let (a, b) = pair(kind);
        assert_eq!(write(a, b"unread"), Ok(6));
        close(b);
        assert_eq!(option(a, libc::SO_ERROR), Ok(libc::ECONNRESET));
        assert_eq!(option(a, libc::SO_ERROR), Ok(0));
    }
}

pub fn fill(fd: i32) -> usize {
    let piece = [7; 4096];
    let mut all = 0;
    loop {
        match send(fd, &piece, libc::MSG_DONTWAIT) {
            Ok(count) => all += count,
            Err(error) => {
                assert_eq!(error, libc::EAGAIN);
                return all;
            }
        }
    }
}

fn a_blocked_writer_is_reset() {
    let (a, b) = pair(STREAM);
    let held = fill(a);
    assert!((64 << 10..2 << 20).contains(&held), "{held}");
    assert_eq!(ready(a) & libc::POLLOUT, 0);
    let pid = fork(|| {
        close(b);
        i32::from(send(a, &[1; 100], 0) != Err(libc::ECONNRESET))
    });
    sys::sleep_ms(50);
    close(b);
    assert_eq!(wait_exit(pid), 0);
}

fn halves_are_shut_down() {
    let mut buffer = [0; 8];
    let (a, b) = pair(STREAM);
    for how in [-1, 3] {
        assert_eq!(shutdown(a, how), Err(libc::EINVAL));
    }
    assert_eq!(write(a, b"last"), Ok(4));
    assert_eq!(shutdown(a, libc::SHUT_WR), Ok(0));
    assert_eq!(send(a, b"x", libc::MSG_NOSIGNAL), Err(libc::EPIPE));
    assert_eq!(ready(a), libc::POLLOUT);
    assert_eq!(ready(b), ALL);
    assert_eq!(read(b, &mut buffer), Ok(4));
    assert_eq!(read(b, &mut buffer), Ok(0));
    assert_eq!(write(b, b"still"), Ok(5), "the other way stays");
    assert_eq!(read(a, &mut buffer), Ok(5));
    assert_eq!(shutdown(a, libc::SHUT_RD), Ok(0));
    assert_eq!(ready(a), ALL | libc::POLLHUP);
    assert_eq!(read(a, &mut buffer), Ok(0));
    assert_eq!(send(b, b"x", libc::MSG_NOSIGNAL), Err(libc::EPIPE));
    assert_eq!(shutdown(socket(STREAM), libc::SHUT_RDWR), Ok(0), "without a peer");
    // Whoever waits sees it.
    let (a, b) = pair(STREAM);
    let pid = fork(|| i32::from(read(b, &mut [0; 8]) != Ok(0)));
    sys::sleep_ms(30);
    assert_eq!(shutdown(a, libc::SHUT_WR), Ok(0));
    assert_eq!(wait_exit(pid), 0);
    // Messages: a datagram socket's reader that may wait gets nothing, one that may not is told to try again.
    let (a, _b) = pair(DATAGRAM);
    assert_eq!(shutdown(a, libc::SHUT_RD), Ok(0));
    assert_eq!(read(a, &mut buffer), Ok(0));
    assert_eq!(receive(a, &mut buffer, libc::MSG_DONTWAIT), Err(libc::EAGAIN));
    let (a, b) = pair(PACKETS);
    assert_eq!(shutdown(a, libc::SHUT_RD), Ok(0));
    assert_eq!(receive(a, &mut buffer, libc::MSG_DONTWAIT), Ok(0));
    assert_eq!(send(b, b"x", 0), Err(libc::EPIPE));
}

fn names_are_given() {
    let fd = socket(STREAM);
    assert_eq!(own(fd), b"");
    let name = own_name("name");
    assert_eq!(bind(fd, &name), Ok(0));
    assert_eq!(own(fd), name);
    assert_eq!(bind(fd, &own_name("other")), Err(libc::EINVAL), "once");
    assert_eq!(bind(socket(STREAM), &name), Err(libc::EADDRINUSE));
    assert_eq!(bind(socket(DATAGRAM), &name), Ok(0), "each kind has its own names");
    close(fd);
    assert_eq!(bind(socket(STREAM), &name), Ok(0), "free again");
    // Any name.
    let fd = socket(STREAM);
    assert_eq!(bind(fd, b""), Ok(0));
    let given = own(fd);
    assert_eq!((given.len(), given[0]), (6, 0));
    assert!(given[1..].iter().all(u8::is_ascii_hexdigit));
    assert_eq!(bind(fd, b""), Ok(0), "it has one");
    // Lengths.
    let fd = socket(STREAM);
    let long = [&own_name("long")[..], &[b'x'; 108]].concat();
    assert_eq!(bind(fd, &long[..109]), Err(libc::EINVAL));
    assert_eq!(bind(fd, &long[..108]), Ok(0));
    assert_eq!(own(fd), &long[..108]);
    // What is no address.
    let fd = socket(STREAM);
    let address = address(&own_name("x"));
    let bind = |length: i32| syscall!(SYS_bind, fd, address.as_ptr(), length);
    for length in [-1, 0, 1, 129] {
        assert_eq!(bind(length), Err(libc::EINVAL), "{length}");
    }
    let inet = [libc::AF_INET as u16, 0, 0, 0];
    assert_eq!(syscall!(SYS_bind, fd, inet.as_ptr(), 8), Err(libc::EINVAL));
    assert_eq!(syscall!(SYS_bind, fd, 8, 16), Err(libc::EFAULT));
    // Room for less than the name: the whole length is told.
    let (fd, name) = listener(STREAM, "cut", 1);
    let mut bytes = [0xaau8; 8];
    let mut length = 4i32;
    syscall!(SYS_getsockname, fd, bytes.as_mut_ptr(), &raw mut length).expect("getsockname");
    assert_eq!(length as usize, name.len() + 2);
    assert_eq!(bytes[4..], [0xaa; 4]);
    length = -1;
    let negative = syscall!(SYS_getsockname, fd, bytes.as_mut_ptr(), &raw mut length);
    assert_eq!(negative, Err(libc::EINVAL));
    assert_eq!(peer(fd), Err(libc::ENOTCONN));
}

fn directory(what: &str) -> String {
    let path = format!("/tmp/sockets-{}-{what}", std::process::id());
    let _ = std::fs::create_dir_all(&path);
    path
}

fn paths_are_bound_and_left() {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    let directory = directory("paths");
    let path = format!("{directory}/socket");
    syscall!(SYS_umask, 0o027).expect("umask");
    let fd = socket(STREAM);
    // Without a zero at its end.
    assert_eq!(bind(fd, path.as_bytes()), Ok(0));
    assert_eq!(own(fd), [path.as_bytes(), b"\0"].concat());
    let found = std::fs::symlink_metadata(&path).expect("the file");
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o7777, 0o750);
    assert_eq!(bind(socket(STREAM), path.as_bytes()), Err(libc::EADDRINUSE));
    let other = format!("{directory}/other");
    assert_eq!(bind(fd, other.as_bytes()), Err(libc::EINVAL));
    assert!(std::fs::symlink_metadata(&other).is_err(), "nothing is left of it");
    assert_eq!(bind(socket(STREAM), b"/no/such/place"), Err(libc::ENOENT));
    assert_eq!(bind(socket(STREAM), format!("{path}/x").as_bytes()), Err(libc::ENOTDIR));
    let name = format!("{path}\0");
    for flags in [libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR] {
        let opened = syscall!(SYS_openat, libc::AT_FDCWD, name.as_ptr(), flags);
        assert_eq!(opened, Err(libc::ENXIO));
    }
    listen(fd, 1).expect("listen");
    assert_eq!(connect(socket(DATAGRAM), path.as_bytes()), Err(libc::EPROTOTYPE));
    assert_eq!(connect(socket(STREAM), path.as_bytes()), Ok(0));
    // By another name of the same file, and by a link.
    let link = format!("{directory}/link");
    std::os::unix::fs::symlink("socket", &link).expect("symlink");
    assert_eq!(connect(socket(STREAM), link.as_bytes()), Ok(0));
    let moved = format!("{directory}/moved");
    std::fs::rename(&path, &moved).expect("rename");
    accept(fd).expect("accept");
    assert_eq!(connect(socket(STREAM), moved.as_bytes()), Ok(0));
    in_child(|| {
        syscall!(SYS_setgid, 1000).expect("setgid");
        syscall!(SYS_setuid, 1000).expect("setuid");
        assert_eq!(connect(socket(STREAM), moved.as_bytes()), Err(libc::EACCES));
        assert!(bind(socket(STREAM), b"/proc/x").is_err());
    });
    close(fd);
    assert_eq!(connect(socket(STREAM), moved.as_bytes()), Err(libc::ECONNREFUSED));
    std::fs::write(format!("{directory}/file"), "").expect("a file");
    let file = format!("{directory}/file");
    assert_eq!(connect(socket(STREAM), file.as_bytes()), Err(libc::ECONNREFUSED));
    let _ = std::fs::remove_dir_all(directory);
}

fn connections_are_made() {
    for kind in [STREAM, PACKETS] {
        let (fd, name) = listener(kind, "made", 5);
        assert_eq!(option(fd, libc::SO_ACCEPTCONN), Ok(1));
        assert_eq!(ready(fd), 0);
        let client = socket(kind);
        assert_eq!(option(client, libc::SO_ACCEPTCONN), Ok(0));
        assert_eq!(connect(client, &name), Ok(0));
        assert_eq!(ready(fd), libc::POLLIN);
        assert_eq!(write(client, b"early"), Ok(5), "before it is accepted");
        let mut bytes = [0u8; 64];
        let mut length = 64i32;
        let server = syscall!(
            SYS_accept4,
            fd,
            bytes.as_mut_ptr(),
            &raw mut length,
            libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK
        );
        let server = server.expect("accept4") as i32;
        assert_eq!(length, 2, "the client has no name");
        assert_eq!(
            syscall!(SYS_fcntl, server, libc::F_GETFD),
            Ok(libc::FD_CLOEXEC as usize)
        );
        let flags = (libc::O_RDWR | libc::O_NONBLOCK) as usize;
        assert_eq!(syscall!(SYS_fcntl, server, libc::F_GETFL), Ok(flags));
        assert_eq!(read(server, &mut bytes), Ok(5));
        assert_eq!(own(server), name);
        assert_eq!(peer(client), Ok(name.clone()));
        assert_eq!(peer(server), Ok(Vec::new()));
        assert_eq!(write(server, b"hello"), Ok(5));
        assert_eq!(read(client, &mut bytes), Ok(5));
        assert_eq!(connect(client, &name), Err(libc::EISCONN));
        assert_eq!(listen(client, 1), Err(libc::EINVAL));
        for fd in [fd, client, server] {
            close(fd);
        }
    }
}

fn connecting_is_checked() {
    assert_eq!(connect(socket(STREAM), &own_name("nobody")), Err(libc::ECONNREFUSED));
    assert_eq!(connect(socket(STREAM), b"/no/such/path"), Err(libc::ENOENT));
    let idle = socket(STREAM);
    let name = own_name("idle");
    bind(idle, &name).expect("bind");
    assert_eq!(
        connect(socket(STREAM), &name),
        Err(libc::ECONNREFUSED),
        "it does not listen"
    );
    assert_eq!(connect(socket(DATAGRAM), &name), Err(libc::ECONNREFUSED));
    assert_eq!(connect(socket(STREAM), b""), Err(libc::EINVAL));
    let unspecified = [0u16; 8];
    let refused = syscall!(SYS_connect, socket(STREAM), unspecified.as_ptr(), 16);
    assert_eq!(refused, Err(libc::EINVAL));
    assert_eq!(syscall!(SYS_connect, socket(STREAM), 8, 16), Err(libc::EFAULT));
    let (fd, name) = listener(STREAM, "itself", 1);
    assert_eq!(connect(fd, &name), Err(libc::EINVAL));
    assert_eq!(shutdown(fd, libc::SHUT_RD), Ok(0));
    assert_eq!(connect(socket(STREAM), &name), Err(libc::ECONNREFUSED));
    assert_eq!(accept(fd), Err(libc::EINVAL));
    assert_eq!(listen(socket(STREAM), 1), Err(libc::EINVAL), "without a name");
    assert_eq!(listen(socket(DATAGRAM), 1), Err(libc::EOPNOTSUPP));
    // Bytes need a peer.
    let fd = socket(STREAM);
    assert_eq!(send(fd, b"x", 0), Err(libc::ENOTCONN));
    assert_eq!(receive(fd, &mut [0; 8], 0), Err(libc::EINVAL));
    let fd = socket(PACKETS);
    assert_eq!(send(fd, b"x", 0), Err(libc::ENOTCONN));
    assert_eq!(receive(fd, &mut [0; 8], 0), Err(libc::ENOTCONN));
    let (a, _b) = pair(STREAM);
    let to = address(&name);
    let send_to = |fd: i32| syscall!(SYS_sendto, fd, c"x".as_ptr(), 1, 0, to.as_ptr(), to.len());
    assert_eq!(send_to(a), Err(libc::EISCONN));
    assert_eq!(send_to(socket(STREAM)), Err(libc::EOPNOTSUPP));
    assert_eq!(syscall!(SYS_lseek, a, 0, libc::SEEK_SET), Err(libc::ESPIPE));
    assert_eq!(syscall!(SYS_pread64, a, to.as_ptr(), 1, 0), Err(libc::ESPIPE));
}

fn a_full_backlog() {
    let (fd, name) = listener(STREAM, "full", 0);
    let first = socket(STREAM);
    assert_eq!(connect(first, &name), Ok(0));
    assert_eq!(connect(socket(STREAM | libc::SOCK_NONBLOCK), &name), Err(libc::EAGAIN));
    let limited = socket(STREAM);
    timeout(limited, libc::SO_SNDTIMEO, 20);
    assert_eq!(connect(limited, &name), Err(libc::EAGAIN));
    let pid = fork(|| i32::from(connect(socket(STREAM), &name) != Ok(0)));
    sys::sleep_ms(50);
    accept(fd).expect("accept");
    assert_eq!(wait_exit(pid), 0);
    accept(fd).expect("the second");
    // One that waits is refused once nobody listens.
    assert_eq!(connect(socket(STREAM), &name), Ok(0));
    let pid = fork(|| {
        close(fd);
        i32::from(connect(socket(STREAM), &name) != Err(libc::ECONNREFUSED))
    });
    sys::sleep_ms(50);
    close(fd);
    assert_eq!(wait_exit(pid), 0);
}

fn a_closed_listener_resets() {
    let (fd, name) = listener(STREAM, "gone", 1);
    let client = socket(STREAM);
    assert_eq!(connect(client, &name), Ok(0));
    close(fd);
    assert_eq!(read(client, &mut [0; 8]), Err(libc::ECONNRESET));
    assert_eq!(read(client, &mut [0; 8]), Ok(0));
    assert_eq!(ready(client), ALL | libc::POLLHUP);
}

fn accepting_is_checked() {
    let (fd, name) = listener(STREAM, "accepting", 1);
    assert_eq!(syscall!(SYS_accept4, fd, 0, 0, 1), Err(libc::EINVAL));
    assert_eq!(accept(socket(STREAM)), Err(libc::EINVAL));
    assert_eq!(accept(socket(DATAGRAM)), Err(libc::EOPNOTSUPP));
    syscall!(SYS_fcntl, fd, libc::F_SETFL, libc::O_NONBLOCK).expect("fcntl");
    assert_eq!(accept(fd), Err(libc::EAGAIN));
    syscall!(SYS_fcntl, fd, libc::F_SETFL, 0).expect("fcntl");
    timeout(fd, libc::SO_RCVTIMEO, 20);
    assert_eq!(accept(fd), Err(libc::EAGAIN));
    timeout(fd, libc::SO_RCVTIMEO, 0);
    let pid = fork(|| i32::from(accept(fd).is_err()));
    sys::sleep_ms(30);
    assert_eq!(connect(socket(STREAM), &name), Ok(0));
    assert_eq!(wait_exit(pid), 0);
    assert_eq!(receive(fd, &mut [0; 8], 0), Err(libc::EINVAL));
    assert_eq!(send(fd, b"x", 0), Err(libc::ENOTCONN));
}
