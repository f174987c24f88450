//! Sockets on the host: whose bytes come with what, who is woken, and which sockets nobody can come by any more.

use alloc::sync::{Arc, Weak};
use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use ::core::{
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};
use proptest::prelude::*;

use super::{
    Flags, Kind, Outgoing, Socket, collect,
    message::{Credentials, Taken},
    options::Passes,
    rights::Rights,
};
use crate::{
    errno::Errno,
    fs::{File, OpenFile, Readiness, Sink, Source, Stop, nameless::Anonymous},
};

/// What is on its way is the whole kernel's: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn collect_all() {
    let mut collecting = pin!(collect::pass());
    while poll(collecting.as_mut()).is_pending() {}
}

fn send(socket: &Socket, bytes: &[u8], out: &mut Outgoing) -> Result<usize, Stop> {
    let mut source = Source::kernel(bytes);
    match socket.kind() {
        Kind::Stream => socket.send_bytes(&mut source, None, out).map(|()| source.done()),
        _ => socket.send_message(&mut source, None, None, out).map(|()| bytes.len()),
    }
}

fn receive(socket: &Socket, most: usize) -> Result<(Vec<u8>, Taken), Stop> {
    let mut bytes = vec![0; most];
    let mut taken = Taken::default();
    let flags = Flags {
        takes_files: true,
        ..Flags::default()
    };
    let mut sink = Sink::kernel(&mut bytes);
    socket.receive(&mut sink, flags, &mut taken)?;
    let done = sink.done();
    bytes.truncate(done);
    Ok((bytes, taken))
}

fn who(pid: i32) -> Credentials {
    Credentials {
        pid,
        uid: 0,
        gid: 0,
        process: Weak::new(),
    }
}

#[test]
fn a_writer_waits_until_most_is_read() {
    let (a, b) = Socket::pair(Kind::Stream, 0, None);
    let piece = [1; 16 << 10];
    let mut held = 0;
    loop {
        match send(&a, &piece, &mut Outgoing::default()) {
            Ok(sent) => held += sent,
            Err(stop) => {
                assert_eq!(stop, Stop::WouldBlock);
                break;
            }
        }
    }
    assert!(!a.readiness().contains(Readiness::OUT));
    let mut waits = pin!(a.send_queue(None, false).wait());
    assert!(poll(waits.as_mut()).is_pending());
    let mut woken_at = None;
    while held > 0 {
        held -= receive(&b, 4096).unwrap().0.len();
        if woken_at.is_none() && poll(waits.as_mut()).is_ready() {
            woken_at = Some(held);
            assert!(a.readiness().contains(Readiness::OUT));
        }
    }
    let woken_at = woken_at.expect("the writer was woken");
    assert!((40_000..56_000).contains(&woken_at), "{woken_at}");
}

#[test]
fn a_cancelled_receiver_passes_its_wake_on() {
    let (a, b) = Socket::pair(Kind::SeqPacket, 0, None);
    let mut first = Box::pin(b.readable().wait());
    let mut second = pin!(b.readable().wait());
    assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
    assert_eq!(send(&a, b"x", &mut Outgoing::default()), Ok(1));
    drop(first);
    assert!(poll(second.as_mut()).is_ready());
}

#[test]
fn what_is_closed_wakes_everybody() {
    for kind in [Kind::Stream, Kind::SeqPacket] {
        let (a, b) = Socket::pair(kind, 0, None);
        let mut reader = pin!(a.readable().wait());
        let mut writer = pin!(a.send_queue(None, false).wait());
        let mut poller = pin!(a.poll_queue().unwrap().wait());
        assert!(poll(reader.as_mut()).is_pending());
        assert!(poll(writer.as_mut()).is_pending());
        assert!(poll(poller.as_mut()).is_pending());
        drop(b);
        assert!(poll(reader.as_mut()).is_ready());
        assert!(poll(writer.as_mut()).is_ready());
        assert!(poll(poller.as_mut()).is_ready());
        assert_eq!(receive(&a, 8).unwrap().0, b"");
        assert_eq!(send(&a, b"x", &mut Outgoing::default()), Err(Stop::Errno(Errno::EPIPE)));
    }
}

#[test]
fn memory_comes_back_to_a_sender_whose_messages_are_dropped() {
    let (a, b) = Socket::pair(Kind::Datagram, 0, None);
    assert_eq!(send(&a, &[0; 10_000], &mut Outgoing::default()), Ok(10_000));
    assert!(a.core().sent.load(::core::sync::atomic::Ordering::SeqCst) >= 10_000);
    drop(b);
    assert_eq!(a.core().sent.load(::core::sync::atomic::Ordering::SeqCst), 0);
}

proptest! {
    /// Each byte is received in order and with its sender, and files with the first byte of theirs, at the end of a read.
    #[test]
    fn bytes_come_with_what_they_were_sent_with(
        steps in proptest::collection::vec((0..3u8, 0..3i32, 1usize..9000), 1..80)
    ) {
        let _alone = alone();
        let (a, b) = Socket::pair(Kind::Stream, 0, None);
        b.core().set_passes(Passes::CREDENTIALS, true);
        let mut model: VecDeque<(u8, i32, bool)> = VecDeque::new();
        let mut next = 0u8;
        for (what, pid, length) in steps {
            if what > 0 {
                let bytes: Vec<u8> = (0..length).map(|_| { next = next.wrapping_add(1); next }).collect();
                let with_files = what == 2;
                let rights = with_files.then(|| Rights::new(vec![anything()], 7, None).unwrap());
                let mut out = Outgoing::with((pid > 0).then(|| who(pid)), rights);
                match send(&a, &bytes, &mut out) {
                    Ok(sent) => {
                        prop_assert_eq!(sent, length);
                        let tell = |(at, byte): (usize, u8)| (byte, pid, with_files && at == 0);
                        model.extend(bytes.into_iter().enumerate().map(tell));
                    }
                    Err(stop) => {
                        prop_assert_eq!(stop, Stop::WouldBlock);
                        next = next.wrapping_sub(length as u8);
                    }
                }
                continue;
            }
            match receive(&b, length) {
                Ok((bytes, taken)) => {
                    prop_assert!(!bytes.is_empty());
                    let of = taken.credentials.flatten().map_or(0, |who| who.pid);
                    let mut files = 0;
                    for byte in &bytes {
                        let (sent, pid, with_files) = model.pop_front().unwrap();
                        prop_assert_eq!((*byte, of), (sent, pid));
                        prop_assert!(files == 0 || !with_files, "files of two messages by one call");
                        files += usize::from(with_files);
                    }
                    prop_assert_eq!(taken.rights.map_or(0, |rights| rights.files().len()), files);
                    let more_fits = bytes.len() < length;
                    let is_boundary = model.front().is_none_or(|(_, pid, _)| *pid != of) || files > 0;
                    prop_assert!(!more_fits || is_boundary);
                }
                Err(stop) => {
                    prop_assert_eq!(stop, Stop::WouldBlock);
                    prop_assert!(model.is_empty());
                }
            }
        }
    }

    /// After whatever was sent, received and closed, with the collector at work meanwhile: who can be come by is there with
    /// all that waits in it, and nobody else.
    #[test]
    fn those_and_only_those_that_nobody_can_come_by_go(
        steps in proptest::collection::vec((0..5u8, 0..8usize, 0..8usize, 0..6usize), 1..120)
    ) {
        let _alone = alone();
        let mut held: Vec<Option<Arc<OpenFile>>> = Vec::new();
        let mut all: Vec<Weak<OpenFile>> = Vec::new();
        // What waits in each, by number.
        let mut waits: Vec<VecDeque<usize>> = Vec::new();
        for _ in 0..4 {
            let (a, b) = Socket::pair(Kind::SeqPacket, 0, None);
            for socket in [a, b] {
                let file = Arc::new(OpenFile::anonymous(socket, Anonymous::EventFd, 2));
                all.push(Arc::downgrade(&file));
                held.push(Some(file));
                waits.push(VecDeque::new());
            }
        }
        let mut collecting = Box::pin(collect::pass());
        for (what, at, other, polls) in steps {
            let file = held[at].clone();
            let socket = file.as_ref().and_then(|file| file.socket());
            match (what, socket) {
                (0 | 1, Some(socket)) => {
                    if let Some(sent) = &held[other] {
                        let rights = Rights::new(vec![sent.clone()], 7, None).unwrap();
                        let mut out = Outgoing::with(None, Some(rights));
                        if send(socket, b"x", &mut out).is_ok() {
                            waits[at ^ 1].push_back(other);
                        }
                    }
                }
                (2, Some(socket)) => {
                    if let Ok((bytes, taken)) = receive(socket, 1)
                        && !bytes.is_empty()
                    {
                        let expected = waits[at].pop_front().unwrap();
                        let files = taken.rights.expect("a file").into_files();
                        prop_assert!(Arc::ptr_eq(&files[0], &all[expected].upgrade().unwrap()));
                        held[expected] = files.into_iter().next();
                    }
                }
                (3, _) => {
                    held[at] = None;
                }
                _ => {}
            }
            drop(file);
            for _ in 0..polls {
                if poll(collecting.as_mut()).is_ready() {
                    collecting = Box::pin(collect::pass());
                }
            }
        }
        drop(collecting);
        collect_all();
        // Nothing is left of those without a way to them: twice, since the first may have found what the other held.
        collect_all();
        let mut reached: BTreeSet<usize> = (0..8).filter(|at| held[*at].is_some()).collect();
        let mut open: Vec<usize> = reached.iter().copied().collect();
        while let Some(at) = open.pop() {
            for next in &waits[at] {
                if reached.insert(*next) {
                    open.push(*next);
                }
            }
        }
        for (at, socket) in all.iter().enumerate() {
            prop_assert_eq!(socket.upgrade().is_some(), reached.contains(&at), "socket {}", at);
        }
        // And what waits is whole.
        let mut open: Vec<usize> = (0..8).filter(|at| held[*at].is_some()).collect();
        while let Some(at) = open.pop() {
            let file = all[at].upgrade().unwrap();
            let socket = file.socket().unwrap();
            // Its peer may have gone with what it had not read: that is told once.
            let _ = socket.core().take_error();
            while let Some(expected) = waits[at].pop_front() {
                let (_, taken) = receive(socket, 1).unwrap();
                let files = taken.rights.expect("a file").into_files();
                prop_assert!(Arc::ptr_eq(&files[0], &all[expected].upgrade().unwrap()));
                held.push(files.into_iter().next());
                open.push(expected);
            }
        }
    }
}

/// A file that is no socket.
fn anything() -> Arc<OpenFile> {
    Arc::new(OpenFile::anonymous(
        Arc::new(crate::fs::open_file::PathFile),
        Anonymous::EventFd,
        0,
    ))
}

#[test]
fn a_long_chain_is_no_recursion() {
    let _alone = alone();
    let mut inner = anything();
    let last = Arc::downgrade(&inner);
    for _ in 0..20_000 {
        let (a, b) = Socket::pair(Kind::SeqPacket, 0, None);
        let mut out = Outgoing::with(None, Some(Rights::new(vec![inner], 9, None).unwrap()));
        assert_eq!(send(&a, b"x", &mut out), Ok(1));
        inner = Arc::new(OpenFile::anonymous(b, Anonymous::EventFd, 2));
    }
    drop(inner);
    // Beyond a few the task lets go of them.
    let mut pending = super::rights::Pending::left();
    while pending.step() {}
    assert!(last.upgrade().is_none());
}

#[test]
fn too_many_on_their_way() {
    let _alone = alone();
    let files = || vec![anything(), anything()];
    let first = Rights::new(files(), 4242, Some(1)).unwrap();
    assert_eq!(Rights::new(files(), 4242, Some(1)).err(), Some(Errno::ETOOMANYREFS));
    assert!(Rights::new(files(), 4243, Some(1)).is_ok());
    drop(first);
    assert!(Rights::new(files(), 4242, Some(1)).is_ok());
}
