//! Whose message goes to whom, and who is told.

use alloc::sync::Arc;
use core::{
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};
use std::vec::Vec;

use super::{
    Message, Notice, Queue, Received, Receivers, Senders, Shape,
    file_system::{self, Maker},
};
use crate::{
    errno::Errno,
    fs::{FileKind, Inode, inode::NewFile},
    ipc::line::{self, Over},
    task::{
        Thread,
        limits::Resource,
        signal::{SignalSet, info::code::SI_MESGQ, send::take_awaited, set::SIGUSR1},
        testing,
    },
};

fn queue(thread: &Thread, name: &[u8], messages: usize) -> Arc<Queue> {
    let shape = Shape { messages, bytes: 16 };
    let new = NewFile::new(FileKind::Regular, 0o600, 0, 0);
    file_system::root()
        .make(name, &new, Some(shape), &Maker::new(thread))
        .unwrap()
}

fn message(priority: u32, text: &[u8]) -> Message {
    Message {
        priority,
        text: text.to_vec(),
    }
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn taken(queue: &Queue, thread: &Arc<Thread>) -> Message {
    match queue.receive(thread, false) {
        Ok(Received::Message(message)) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_most_urgent_is_taken_first_and_the_older_of_two() {
    hal::host::machine().attach(0);
    let thread = testing::thread(9301);
    let queue = queue(&thread, b"order", 5);
    for (priority, text) in [(1, b"a"), (7, b"b"), (1, b"c"), (7, b"d"), (0, b"e")] {
        assert_eq!(queue.send(&thread, message(priority, text), false), Ok(None));
    }
    assert_eq!(queue.send(&thread, message(9, b"f"), false), Err(Errno::EAGAIN));
    let order: Vec<u8> = (0..5).map(|_| taken(&queue, &thread).text[0]).collect();
    assert_eq!(order, b"bdace");
    assert_eq!(queue.receive(&thread, false), Err(Errno::EAGAIN));
    file_system::root().unlink(b"order").unwrap();
    assert_eq!(queue.attributes().links, 0);
}

#[test]
fn a_message_goes_to_who_waits_and_is_told_to_nobody() {
    hal::host::machine().attach(0);
    let threads = [9311, 9312, 9313].map(testing::thread);
    let queue = queue(&threads[0], b"hand", 2);
    threads[1].set_nice(-5);
    queue.notify(Notice::new(&threads[2], Some((SIGUSR1, 77)))).unwrap();
    assert_eq!(
        queue.notify(Notice::new(&threads[2], None)),
        Err(Errno::EBUSY),
        "somebody is told already"
    );
    let place = |thread| match queue.receive(thread, true) {
        Ok(Received::Waits(ticket)) => ticket,
        other => panic!("{other:?}"),
    };
    let tickets = [place(&threads[0]), place(&threads[1])];
    let line = Receivers(&queue);
    let mut first = pin!(line::wait(&threads[0], &line, tickets[0], None));
    let mut urgent = pin!(line::wait(&threads[1], &line, tickets[1], None));
    assert!(poll(first.as_mut()).is_pending() && poll(urgent.as_mut()).is_pending());
    queue.send(&threads[2], message(1, b"x"), false).unwrap();
    assert!(poll(first.as_mut()).is_pending(), "the other is more urgent");
    assert_eq!(poll(urgent.as_mut()), Poll::Ready(Ok(message(1, b"x"))));
    queue.send(&threads[2], message(1, b"y"), false).unwrap();
    assert_eq!(poll(first.as_mut()), Poll::Ready(Ok(message(1, b"y"))));
    assert!(threads[2].pending_signals().is_empty());
    // Nobody waits any more.
    queue.send(&threads[0], message(1, b"z"), false).unwrap();
    queue.send(&threads[0], message(1, b"z"), false).unwrap();
    assert!(threads[2].pending_signals().contains(SIGUSR1));
    let info = take_awaited(&threads[2], SignalSet::of(&[SIGUSR1])).unwrap();
    assert_eq!((info.code(), info.signo()), (SI_MESGQ, SIGUSR1));
    assert!(threads[2].pending_signals().is_empty(), "once");
    queue.notify(Notice::new(&threads[2], None)).unwrap();
    queue.forget(threads[1].process().pid());
    assert!(
        queue.notify(Notice::new(&threads[1], None)).is_err(),
        "it was not that one's"
    );
    queue.forget(threads[2].process().pid());
    file_system::root().unlink(b"hand").unwrap();
}

#[test]
fn a_sender_that_gives_up_leaves_nothing() {
    hal::host::machine().attach(0);
    let threads = [9321, 9322, 9323].map(testing::thread);
    let queue = queue(&threads[0], b"full", 1);
    queue.send(&threads[0], message(1, b"a"), false).unwrap();
    let place = |thread, text| queue.send(thread, message(1, text), true).unwrap().unwrap();
    let (gone, stays) = (place(&threads[1], b"b"), place(&threads[2], b"c"));
    let line = Senders(&queue);
    {
        let mut wait = pin!(line::wait(&threads[1], &line, gone, None));
        assert!(poll(wait.as_mut()).is_pending());
        threads[1].kick(crate::task::attention::EXIT);
        assert_eq!(poll(wait.as_mut()), Poll::Ready(Err(Over::Interrupted)));
    }
    let mut wait = pin!(line::wait(&threads[2], &line, stays, None));
    assert!(poll(wait.as_mut()).is_pending());
    assert_eq!(taken(&queue, &threads[0]).text, b"a");
    assert_eq!(poll(wait.as_mut()), Poll::Ready(Ok(())));
    assert_eq!(taken(&queue, &threads[0]).text, b"c");
    assert!(queue.is_empty());
    file_system::root().unlink(b"full").unwrap();
}

#[test]
fn what_a_user_has_in_queues_is_limited_until_they_are_gone() {
    hal::host::machine().attach(0);
    let thread = testing::thread(9331);
    thread
        .process()
        .with_limits(|limits| limits.lower(Resource::MessageQueues, 3000));
    let make = |name: &[u8]| {
        let new = NewFile::new(FileKind::Regular, 0o600, 4711, 0);
        let shape = Shape {
            messages: 10,
            bytes: 16,
        };
        file_system::root().make(name, &new, Some(shape), &Maker::new(&thread))
    };
    // 10 * (16 + 48 + 48) bytes each.
    let held = make(b"one").unwrap();
    make(b"two").unwrap();
    assert_eq!(make(b"two").err(), Some(Errno::EMFILE));
    file_system::root().unlink(b"one").unwrap();
    assert_eq!(make(b"three").err(), Some(Errno::EMFILE), "it is still open");
    drop(held);
    make(b"three").unwrap();
    assert_eq!(make(b"three").err(), Some(Errno::EMFILE));
    for name in [b"two".as_slice(), b"three"] {
        file_system::root().unlink(name).unwrap();
    }
}
