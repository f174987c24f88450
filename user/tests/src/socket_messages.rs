//! Unix sockets: messages, and what goes with them.

use std::mem::size_of;

use crate::{
    sockets::{
        DATAGRAM, PACKETS, STREAM, address, bind, connect, listener, option, own_name, pair, receive, send, set_option,
        socket,
    },
    sys::{self, Sys, close, fork, in_child, poll, read, wait_exit, write},
    syscall,
};

crate::tests! { "socket_messages":
    messages_keep_their_ends;
    datagrams_to_names;
    datagram_peers;
    a_full_queue;
    files_go_along [frees];
    files_end_a_read;
    files_without_room;
    looks_copy_files;
    sending_files_is_checked;
    sockets_in_sockets_are_collected [frees];
    a_long_chain_is_let_go [frees];
    credentials;
    credentials_are_checked;
    who_the_peer_is;
    headers_are_checked;
    several_at_once;
    options;
}

/// Room for control messages.
#[repr(C, align(8))]
struct Control([u8; 2048]);

/// One control message.
fn control(kind: i32, data: &[u8]) -> Vec<u8> {
    let mut bytes = (16 + data.len()).to_ne_bytes().to_vec();
    bytes.extend(libc::SOL_SOCKET.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

fn files(descriptors: &[i32]) -> Vec<u8> {
    let data: Vec<u8> = descriptors.iter().flat_map(|fd| fd.to_ne_bytes()).collect();
    control(libc::SCM_RIGHTS, &data)
}

fn header(vectors: &mut [libc::iovec], control: &mut [u8]) -> libc::msghdr {
    // SAFETY: all-zero is a valid header.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = vectors.as_mut_ptr();
    header.msg_iovlen = vectors.len() as _;
    if !control.is_empty() {
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = control.len() as _;
    }
    header
}

fn vector(bytes: &[u8]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    }
}

/// Sends bytes and control messages.
fn send_with(fd: i32, bytes: &[u8], control: &[u8]) -> Sys {
    let mut control = control.to_vec();
    let mut vectors = [vector(bytes)];
    let header = header(&mut vectors, &mut control);
    syscall!(SYS_sendmsg, fd, &raw const header, libc::MSG_NOSIGNAL)
}

/// What came.
#[derive(Debug)]
struct Got {
    bytes: Vec<u8>,
    flags: i32,
    files: Vec<i32>,
    who: Option<[i32; 3]>,
}

/// Receives up to `most` bytes, with room for `room` bytes of control messages.
fn receive_with(fd: i32, most: usize, room: usize, flags: i32) -> Result<Got, i32> {
    let mut bytes = vec![0u8; most];
    let mut control = Control([0; 2048]);
    let mut vectors = [vector(&bytes)];
    let mut header = header(&mut vectors, &mut control.0[..room]);
    let count = syscall!(SYS_recvmsg, fd, &raw mut header, flags)?;
    bytes.truncate(count);
    let mut got = Got {
        bytes,
        flags: header.msg_flags,
        files: Vec::new(),
        who: None,
    };
    let mut rest = &control.0[..header.msg_controllen as usize];
    while rest.len() >= 16 {
        let length = usize::from_ne_bytes(rest[..8].try_into().expect("eight bytes"));
        let kind = i32::from_ne_bytes(rest[12..16].try_into().expect("four bytes"));
        let words: Vec<i32> = rest[16..length]
            .chunks_exact(4)
            .map(|word| i32::from_ne_bytes(word.try_into().expect("four bytes")))
            .collect();
        match kind {
            libc::SCM_RIGHTS => got.files = words,
            libc::SCM_CREDENTIALS => got.who = words.try_into().ok(),
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(8)..).unwrap_or_default();
    }
    Ok(got)
}

fn messages_keep_their_ends() {
    for kind in [DATAGRAM, PACKETS] {
        let (a, b) = pair(kind);
        for message in [b"one".as_slice(), b"", b"three"] {
            assert_eq!(send(a, message, libc::MSG_EOR), Ok(message.len()));
        }
        let mut buffer = [0; 16];
        assert_eq!(receive(b, &mut buffer, libc::MSG_PEEK), Ok(3));
        assert_eq!(receive(b, &mut buffer, 0), Ok(3));
        assert_eq!(receive(b, &mut buffer, 0), Ok(0), "an empty message");
        assert_eq!(receive(b, &mut buffer[..2], libc::MSG_TRUNC | libc::MSG_PEEK), Ok(5));
        let got = receive_with(b, 2, 0, 0).expect("recvmsg");
        assert_eq!((got.bytes.as_slice(), got.flags), (b"th".as_slice(), libc::MSG_TRUNC));
        assert_eq!(
            receive(b, &mut buffer, libc::MSG_DONTWAIT),
            Err(libc::EAGAIN),
            "the rest is lost"
        );
        // Large ones, over many pages.
        let large: Vec<u8> = (0..150_000u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        assert_eq!(send(a, &large, 0), Ok(large.len()));
        let mut all = vec![0; large.len() + 1];
        assert_eq!(receive(b, &mut all, 0), Ok(large.len()));
        assert!(all[..large.len()] == large);
        assert_eq!(send(a, &vec![0; 300_000], 0), Err(libc::EMSGSIZE));
        assert_eq!(send(a, b"x", libc::MSG_OOB), Err(libc::EOPNOTSUPP));
        assert_eq!(receive(b, &mut buffer, libc::MSG_OOB), Err(libc::EOPNOTSUPP));
    }
}

fn datagrams_to_names() {
    let (to, from) = (socket(DATAGRAM), socket(DATAGRAM));
    let (name, own) = (own_name("to"), own_name("from"));
    bind(to, &name).expect("bind");
    let target = address(&name);
    let send_to = |length: usize| syscall!(SYS_sendto, from, c"hello".as_ptr(), 5, 0, target.as_ptr(), length);
    assert_eq!(send_to(target.len()), Ok(5));
    let mut bytes = [0u8; 64];
    let mut length = 64i32;
    let mut from_whom = |flags: i32| {
        let mut buffer = [0u8; 8];
        length = 64;
        syscall!(
            SYS_recvfrom,
            to,
            buffer.as_mut_ptr(),
            8,
            flags,
            bytes.as_mut_ptr(),
            &raw mut length
        )
        .map(|count| (count, bytes[..length as usize].to_vec()))
    };
    assert_eq!(from_whom(0), Ok((5, Vec::new())), "it has no name");
    bind(from, &own).expect("bind");
    assert_eq!(send_to(target.len()), Ok(5));
    assert_eq!(from_whom(0), Ok((5, address(&own))));
    assert_eq!(send(from, b"x", 0), Err(libc::ENOTCONN));
    assert_eq!(send_to(2), Err(libc::EINVAL));
    let nobody = address(&own_name("nobody"));
    let refused = syscall!(SYS_sendto, from, c"x".as_ptr(), 1, 0, nobody.as_ptr(), nobody.len());
    assert_eq!(refused, Err(libc::ECONNREFUSED));
}

fn datagram_peers() {
    let (a, b, c) = (socket(DATAGRAM), socket(DATAGRAM), socket(DATAGRAM));
    let names = [own_name("a"), own_name("b"), own_name("c")];
    for (fd, name) in [a, b, c].into_iter().zip(&names) {
        bind(fd, name).expect("bind");
    }
    connect(a, &names[1]).expect("connect");
    assert_eq!(send(a, b"to b", 0), Ok(4));
    connect(b, &names[0]).expect("connect");
    // Who has a peer takes messages from nobody else.
    let to = address(&names[1]);
    let refused = syscall!(SYS_sendto, c, c"x".as_ptr(), 1, 0, to.as_ptr(), to.len());
    assert_eq!(refused, Err(libc::EPERM));
    assert_eq!(connect(c, &names[1]), Err(libc::EPERM));
    assert_eq!(read(b, &mut [0; 8]), Ok(4));
    // Another peer: what the old one had sent is lost, and it is told.
    assert_eq!(send(a, b"lost", 0), Ok(4));
    connect(b, &names[2]).expect("connect");
    assert_eq!(receive(b, &mut [0; 8], libc::MSG_DONTWAIT), Err(libc::EAGAIN));
    assert_eq!(option(a, libc::SO_ERROR), Ok(libc::ECONNRESET));
    // None.
    let unspecified = [0u16; 1];
    assert_eq!(syscall!(SYS_connect, b, unspecified.as_ptr(), 2), Ok(0));
    assert_eq!(send(b, b"x", 0), Err(libc::ENOTCONN));
    assert_eq!(syscall!(SYS_connect, b, unspecified.as_ptr(), 1), Err(libc::EINVAL));
}

fn a_full_queue() {
    let to = socket(DATAGRAM);
    let name = own_name("full");
    bind(to, &name).expect("bind");
    let from = socket(DATAGRAM);
    connect(from, &name).expect("connect");
    let mut count = 0;
    while send(from, b"x", libc::MSG_DONTWAIT).is_ok() {
        count += 1;
    }
    assert!((2..=600).contains(&count), "{count}");
    assert_eq!(send(from, b"x", libc::MSG_DONTWAIT), Err(libc::EAGAIN));
    assert_eq!(poll(from, libc::POLLOUT, 0), 0);
    let pid = fork(|| i32::from(send(from, b"waited", 0) != Ok(6)));
    let poller = fork(|| i32::from(poll(from, libc::POLLOUT, 5000) != libc::POLLOUT));
    sys::sleep_ms(50);
    let mut last = [0; 8];
    for _ in 0..count {
        assert_eq!(read(to, &mut last), Ok(1));
    }
    assert_eq!(read(to, &mut last), Ok(6));
    assert_eq!(wait_exit(pid), 0);
    assert_eq!(wait_exit(poller), 0);
}

fn files_go_along() {
    for kind in [STREAM, DATAGRAM, PACKETS] {
        let (a, b) = pair(kind);
        let (reader, writer) = sys::pipe(0);
        assert_eq!(send_with(a, b"x", &files(&[reader, writer])), Ok(1));
        close(reader);
        close(writer);
        let got = receive_with(b, 8, 64, libc::MSG_CMSG_CLOEXEC).expect("recvmsg");
        assert_eq!((got.bytes.as_slice(), got.files.len()), (b"x".as_slice(), 2));
        assert_eq!(got.flags, libc::MSG_CMSG_CLOEXEC);
        assert_eq!(
            syscall!(SYS_fcntl, got.files[0], libc::F_GETFD),
            Ok(libc::FD_CLOEXEC as usize)
        );
        assert_eq!(write(got.files[1], b"through"), Ok(7));
        assert_eq!(read(got.files[0], &mut [0; 8]), Ok(7));
        // What is never received is closed with the socket.
        assert_eq!(send_with(a, b"x", &files(&[got.files[1]])), Ok(1));
        close(got.files[1]);
        close(b);
        assert_eq!(read(got.files[0], &mut [0; 8]), Ok(0));
        close(got.files[0]);
        close(a);
    }
}

fn files_end_a_read() {
    let (a, b) = pair(STREAM);
    write(a, b"before").expect("write");
    send_with(a, b"with", &files(&[a])).expect("sendmsg");
    write(a, b"after").expect("write");
    let got = receive_with(b, 64, 64, 0).expect("recvmsg");
    assert_eq!((got.bytes.as_slice(), got.files.len()), (b"beforewith".as_slice(), 1));
    let got = receive_with(b, 64, 64, 0).expect("recvmsg");
    assert_eq!((got.bytes.as_slice(), got.files.len()), (b"after".as_slice(), 0));
    // With the first byte of theirs.
    send_with(a, b"with", &files(&[a])).expect("sendmsg");
    let got = receive_with(b, 1, 64, 0).expect("recvmsg");
    assert_eq!((got.bytes.as_slice(), got.files.len()), (b"w".as_slice(), 1));
    assert_eq!(read(b, &mut [0; 8]), Ok(3));
    // Without bytes there is nothing to go with.
    assert_eq!(send_with(a, b"", &files(&[a])), Ok(0));
    assert_eq!(receive(b, &mut [0; 8], libc::MSG_DONTWAIT), Err(libc::EAGAIN));
}

fn files_without_room() {
    let (a, b) = pair(STREAM);
    let (reader, writer) = sys::pipe(0);
    let three = files(&[reader, writer, reader]);
    for (room, expected) in [(0, 0), (16, 0), (20, 1), (24, 2), (32, 3)] {
        assert_eq!(send_with(a, b"x", &three), Ok(1));
        let got = receive_with(b, 8, room, 0).expect("recvmsg");
        assert_eq!(got.files.len(), expected, "{room}");
        let cut = if expected < 3 { libc::MSG_CTRUNC } else { 0 };
        assert_eq!(got.flags, cut, "{room}");
        got.files.into_iter().for_each(close);
    }
    // Nor descriptors.
    in_child(|| {
        assert_eq!(send_with(a, b"x", &three), Ok(1));
        let next = syscall!(SYS_dup, a).expect("dup");
        let limit = [next as u64 + 2, 4096];
        syscall!(SYS_prlimit64, 0, libc::RLIMIT_NOFILE, limit.as_ptr(), 0).expect("prlimit64");
        let got = receive_with(b, 8, 64, 0).expect("recvmsg");
        assert_eq!((got.files.len(), got.flags), (1, libc::MSG_CTRUNC));
    });
    // Read as bytes, they are gone.
    assert_eq!(send_with(a, b"x", &files(&[writer])), Ok(1));
    close(writer);
    assert_eq!(read(b, &mut [0; 8]), Ok(1));
    assert_eq!(read(reader, &mut [0; 8]), Ok(0));
}

fn looks_copy_files() {
    for kind in [STREAM, DATAGRAM] {
        let (a, b) = pair(kind);
        let (reader, _writer) = sys::pipe(0);
        assert_eq!(send_with(a, b"x", &files(&[reader])), Ok(1));
        for flags in [libc::MSG_PEEK, libc::MSG_PEEK, 0] {
            let got = receive_with(b, 8, 64, flags).expect("recvmsg");
            assert_eq!(got.files.len(), 1);
        }
    }
}

fn sending_files_is_checked() {
    let (a, _b) = pair(STREAM);
    assert_eq!(send_with(a, b"x", &files(&[-1])), Err(libc::EBADF));
    assert_eq!(send_with(a, b"x", &files(&[a; 254])), Err(libc::EINVAL));
    assert_eq!(send_with(a, b"x", &files(&[a; 253])), Ok(1));
    assert_eq!(send_with(a, b"x", &control(77, b"")), Err(libc::EINVAL));
    let mut short = files(&[a]);
    short[..8].copy_from_slice(&15usize.to_ne_bytes());
    assert_eq!(send_with(a, b"x", &short), Err(libc::EINVAL));
    short[..8].copy_from_slice(&1000usize.to_ne_bytes());
    assert_eq!(send_with(a, b"x", &short), Err(libc::EINVAL));
    let mut other = files(&[-1]);
    other[8..12].copy_from_slice(&77i32.to_ne_bytes());
    assert_eq!(
        send_with(a, b"x", &other),
        Ok(1),
        "of another level it is nobody's business"
    );
    assert_eq!(send_with(a, b"x", &vec![0; 30_000]), Err(libc::ENOBUFS));
    // More of an unprivileged user's than may be on their way.
    in_child(|| {
        syscall!(SYS_setuid, 1001).expect("setuid");
        let limit = [100u64, 100];
        syscall!(SYS_prlimit64, 0, libc::RLIMIT_NOFILE, limit.as_ptr(), 0).expect("prlimit64");
        let (a, _b) = pair(STREAM);
        let result = (0..100).find_map(|_| send_with(a, b"x", &files(&[a; 50])).err());
        assert_eq!(result, Some(libc::ETOOMANYREFS));
    });
}

fn sockets_in_sockets_are_collected() {
    for _ in 0..200 {
        // Each in the other.
        let (a, b) = pair(STREAM);
        let (reader, writer) = sys::pipe(0);
        send_with(a, b"x", &files(&[a, writer])).expect("sendmsg");
        send_with(b, b"x", &files(&[b])).expect("sendmsg");
        close(writer);
        close(a);
        close(b);
        // The next socket that is closed has them looked for.
        close(socket(STREAM));
        assert_eq!(poll(reader, libc::POLLIN, 5000) & libc::POLLHUP, libc::POLLHUP);
        close(reader);
    }
    // In a connection that nobody has accepted.
    let (fd, name) = listener(STREAM, "collected", 5);
    let client = socket(STREAM);
    connect(client, &name).expect("connect");
    let (reader, writer) = sys::pipe(0);
    send_with(client, b"x", &files(&[fd, client, writer])).expect("sendmsg");
    for fd in [writer, fd, client] {
        close(fd);
    }
    close(socket(STREAM));
    assert_eq!(poll(reader, libc::POLLIN, 5000) & libc::POLLHUP, libc::POLLHUP);
    close(reader);
}

fn a_long_chain_is_let_go() {
    let (reader, writer) = sys::pipe(0);
    let mut inner = writer;
    for _ in 0..500 {
        let (a, b) = pair(DATAGRAM);
        send_with(a, b"x", &files(&[inner])).expect("sendmsg");
        close(inner);
        close(a);
        inner = b;
    }
    close(inner);
    assert_eq!(poll(reader, libc::POLLIN, 10_000) & libc::POLLHUP, libc::POLLHUP);
    close(reader);
}

fn me() -> [i32; 3] {
    [std::process::id() as i32, 0, 0]
}

fn bytes_of(words: [i32; 3]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn credentials() {
    for kind in [STREAM, DATAGRAM, PACKETS] {
        let (a, b) = pair(kind);
        write(a, b"unasked").expect("write");
        assert_eq!(receive_with(b, 16, 64, 0).expect("recvmsg").who, None);
        write(a, b"before").expect("write");
        set_option(b, libc::SO_PASSCRED, 1).expect("SO_PASSCRED");
        assert_eq!(option(b, libc::SO_PASSCRED), Ok(1));
        assert_eq!(
            receive_with(b, 16, 64, 0).expect("recvmsg").who,
            Some([0, 65534, 65534])
        );
        write(a, b"asked").expect("write");
        let got = receive_with(b, 16, 64, 0).expect("recvmsg");
        assert_eq!((got.who, got.flags), (Some(me()), 0));
        // Without room, or with little.
        write(a, b"asked").expect("write");
        assert_eq!(receive_with(b, 16, 0, 0).expect("recvmsg").flags, libc::MSG_CTRUNC);
        write(a, b"asked").expect("write");
        assert_eq!(receive_with(b, 16, 20, 0).expect("recvmsg").flags, libc::MSG_CTRUNC);
        // Said by the sender.
        let who = [std::process::id() as i32, 1234, 5678];
        send_with(a, b"said", &control(libc::SCM_CREDENTIALS, &bytes_of(who))).expect("sendmsg");
        assert_eq!(receive_with(b, 16, 64, 0).expect("recvmsg").who, Some(who));
    }
    // Bytes of two senders are not read together.
    let (a, b) = pair(STREAM);
    set_option(b, libc::SO_PASSCRED, 1).expect("SO_PASSCRED");
    write(a, b"one").expect("write");
    write(a, b"again").expect("write");
    let child = fork(|| i32::from(write(a, b"two") != Ok(3)));
    assert_eq!(wait_exit(child), 0);
    let got = receive_with(b, 64, 64, 0).expect("recvmsg");
    assert_eq!((got.bytes.as_slice(), got.who), (b"oneagain".as_slice(), Some(me())));
    let got = receive_with(b, 64, 64, 0).expect("recvmsg");
    assert_eq!(
        (got.bytes.as_slice(), got.who),
        (b"two".as_slice(), Some([child, 0, 0]))
    );
}

fn credentials_are_checked() {
    let (a, _b) = pair(STREAM);
    let say = |words: [i32; 3]| send_with(a, b"x", &control(libc::SCM_CREDENTIALS, &bytes_of(words)));
    let own = std::process::id() as i32;
    assert_eq!(say([i32::MAX, 0, 0]), Err(libc::ESRCH));
    assert_eq!(say([own, -1, 0]), Err(libc::EINVAL));
    assert_eq!(
        send_with(a, b"x", &control(libc::SCM_CREDENTIALS, &[0; 8])),
        Err(libc::EINVAL)
    );
    in_child(|| {
        syscall!(SYS_setgid, 1000).expect("setgid");
        syscall!(SYS_setuid, 1000).expect("setuid");
        let own = std::process::id() as i32;
        let say = |words: [i32; 3]| send_with(a, b"x", &control(libc::SCM_CREDENTIALS, &bytes_of(words)));
        assert_eq!(say([own, 1000, 1000]), Ok(1));
        assert_eq!(say([1, 1000, 1000]), Err(libc::EPERM));
        assert_eq!(say([own, 0, 1000]), Err(libc::EPERM));
        assert_eq!(say([own, 1000, 0]), Err(libc::EPERM));
    });
}

fn who(fd: i32) -> [i32; 3] {
    let mut words = [7i32; 3];
    let mut length = 12i32;
    syscall!(
        SYS_getsockopt,
        fd,
        libc::SOL_SOCKET,
        libc::SO_PEERCRED,
        words.as_mut_ptr(),
        &raw mut length
    )
    .expect("SO_PEERCRED");
    assert_eq!(length, 12);
    words
}

fn who_the_peer_is() {
    assert_eq!(who(socket(STREAM)), [0, -1, -1]);
    let (a, _b) = pair(STREAM);
    assert_eq!(who(a), me());
    let (fd, name) = listener(STREAM, "peers", 1);
    let parent = me();
    let child = fork(|| {
        let client = socket(STREAM);
        connect(client, &name).expect("connect");
        let fine = who(client) == parent && read(client, &mut [0; 1]) == Ok(1);
        i32::from(!fine)
    });
    let server = syscall!(SYS_accept4, fd, 0, 0, 0).expect("accept4") as i32;
    assert_eq!(who(server), [child, 0, 0]);
    write(server, b"x").expect("write");
    assert_eq!(wait_exit(child), 0);
}

fn headers_are_checked() {
    let (a, b) = pair(STREAM);
    let mut bytes = *b"x";
    let mut vectors = [vector(&bytes)];
    let mut good = header(&mut vectors, &mut []);
    let call = |header: &libc::msghdr| syscall!(SYS_sendmsg, a, header as *const libc::msghdr, 0);
    assert_eq!(call(&good), Ok(1));
    good.msg_iovlen = 1025;
    assert_eq!(call(&good), Err(libc::EMSGSIZE));
    good.msg_iovlen = 1;
    good.msg_name = bytes.as_mut_ptr().cast();
    good.msg_namelen = u32::MAX;
    assert_eq!(call(&good), Err(libc::EINVAL));
    assert_eq!(syscall!(SYS_sendmsg, a, 8, 0), Err(libc::EFAULT));
    assert_eq!(syscall!(SYS_recvmsg, b, 8, 0), Err(libc::EFAULT));
    assert_eq!(read(b, &mut [0; 8]), Ok(1), "it is still there");
    // The sender's name, and how long it is.
    let (to, from) = (socket(DATAGRAM), socket(DATAGRAM));
    let (name, own) = (own_name("h"), own_name("named"));
    bind(to, &name).expect("bind");
    bind(from, &own).expect("bind");
    connect(from, &name).expect("connect");
    write(from, b"hello").expect("write");
    let mut room = [0u8; 6];
    let into = [0u8; 8];
    let mut vectors = [vector(&into)];
    let mut header = header(&mut vectors, &mut []);
    header.msg_name = room.as_mut_ptr().cast();
    header.msg_namelen = 6;
    assert_eq!(syscall!(SYS_recvmsg, to, &raw mut header, 0), Ok(5));
    assert_eq!(header.msg_namelen as usize, own.len() + 2);
    assert_eq!(room, address(&own)[..6]);
}

fn several_at_once() {
    let (a, b) = pair(DATAGRAM);
    let parts: [&[u8]; 3] = [b"one", b"second", b"x"];
    let mut vectors: Vec<[libc::iovec; 1]> = parts.iter().map(|part| [vector(part)]).collect();
    let mut messages: Vec<libc::mmsghdr> = vectors
        .iter_mut()
        .map(|vectors| libc::mmsghdr {
            msg_hdr: header(vectors, &mut []),
            msg_len: 0,
        })
        .collect();
    assert_eq!(size_of::<libc::mmsghdr>(), 64);
    assert_eq!(syscall!(SYS_sendmmsg, a, messages.as_mut_ptr(), 3, 0), Ok(3));
    let sent: Vec<u32> = messages.iter().map(|message| message.msg_len).collect();
    assert_eq!(sent, [3, 6, 1]);
    let buffers = [[0u8; 8]; 5];
    let mut vectors: Vec<[libc::iovec; 1]> = buffers.iter().map(|buffer| [vector(buffer)]).collect();
    let mut messages: Vec<libc::mmsghdr> = vectors
        .iter_mut()
        .map(|vectors| libc::mmsghdr {
            msg_hdr: header(vectors, &mut []),
            msg_len: 0,
        })
        .collect();
    let mut call = |count: i32, flags: i32, time: &mut [i64; 2]| {
        syscall!(SYS_recvmmsg, b, messages.as_mut_ptr(), count, flags, time.as_mut_ptr())
    };
    assert_eq!(call(5, libc::MSG_WAITFORONE, &mut [5, 0]), Ok(3));
    assert_eq!(call(5, libc::MSG_DONTWAIT, &mut [5, 0]), Err(libc::EAGAIN));
    assert_eq!(call(5, 0, &mut [5, 1_000_000_000]), Err(libc::EINVAL));
    write(a, b"late").expect("write");
    assert_eq!(call(5, 0, &mut [0, 0]), Ok(1), "the time is looked at after a message");
    assert_eq!(&buffers[0][..4], b"late");
}

fn options() {
    let fd = socket(STREAM);
    assert_eq!(option(fd, libc::SO_SNDBUF), Ok(212_992));
    assert_eq!(option(fd, libc::SO_RCVBUF), Ok(212_992));
    set_option(fd, libc::SO_SNDBUF, 10_000).expect("SO_SNDBUF");
    assert_eq!(option(fd, libc::SO_SNDBUF), Ok(20_000), "twice what was asked for");
    set_option(fd, libc::SO_SNDBUF, 1).expect("SO_SNDBUF");
    assert_eq!(option(fd, libc::SO_SNDBUF), Ok(4608));
    set_option(fd, libc::SO_RCVBUF, i32::MAX).expect("SO_RCVBUF");
    assert_eq!(option(fd, libc::SO_RCVBUF), Ok(425_984));
    for which in [
        libc::SO_KEEPALIVE,
        libc::SO_REUSEADDR,
        libc::SO_BROADCAST,
        libc::SO_OOBINLINE,
    ] {
        assert_eq!(option(fd, which), Ok(0), "{which}");
        set_option(fd, which, 5).expect("setsockopt");
        assert_eq!(option(fd, which), Ok(1), "{which}");
    }
    for which in [
        libc::SO_TYPE,
        libc::SO_DOMAIN,
        libc::SO_PROTOCOL,
        libc::SO_ERROR,
        libc::SO_ACCEPTCONN,
        9999,
    ] {
        assert_eq!(set_option(fd, which, 1), Err(libc::ENOPROTOOPT), "{which}");
    }
    assert_eq!(option(fd, 9999), Err(libc::ENOPROTOOPT));
    let value = 1i32;
    let set = |level: i32, value: *const i32, length: i32| {
        syscall!(SYS_setsockopt, fd, level, libc::SO_KEEPALIVE, value, length)
    };
    assert_eq!(set(libc::IPPROTO_TCP, &raw const value, 4), Err(libc::EOPNOTSUPP));
    assert_eq!(set(libc::SOL_SOCKET, &raw const value, 3), Err(libc::EINVAL));
    assert_eq!(set(libc::SOL_SOCKET, std::ptr::null(), 4), Err(libc::EFAULT));
    let mut length = -1i32;
    let negative = syscall!(
        SYS_getsockopt,
        fd,
        libc::SOL_SOCKET,
        libc::SO_TYPE,
        &raw const value,
        &raw mut length
    );
    assert_eq!(negative, Err(libc::EINVAL));
    in_child(|| {
        syscall!(SYS_setuid, 1000).expect("setuid");
        assert_eq!(set_option(fd, libc::SO_SNDBUFFORCE, 1 << 20), Err(libc::EPERM));
        assert_eq!(set_option(fd, libc::SO_DEBUG, 1), Err(libc::EACCES));
    });
    set_option(fd, libc::SO_SNDBUFFORCE, 1 << 20).expect("SO_SNDBUFFORCE");
    assert_eq!(option(fd, libc::SO_SNDBUF), Ok(2 << 20));
}
