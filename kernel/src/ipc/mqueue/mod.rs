//! POSIX message queues (`mq_overview(7)`).
//!
//! A queue is an inode of a file system of its own ([`file_system`]), which is there whether it is mounted or not, and a file that is
//! opened by it. The most urgent message is taken first, the older one of two that are equally so. A message that somebody waits for goes to
//! the most urgent such and not into the queue; when one is taken out the most urgent sender that waits puts its own in.

mod file;
pub mod file_system;
mod notice;
#[cfg(test)]
mod tests;

use alloc::{
    collections::BinaryHeap,
    sync::{Arc, Weak},
    vec::Vec,
};
use core::{
    cmp::Reverse,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

pub use notice::{Notice, closed};

use super::{
    line::{HasLine, Line, Ticket, Woken},
    mqueue::file_system::{Charge, Root},
};
use crate::{
    errno::{Errno, Result},
    fs::{
        attributes::{Attributes, Timestamp},
        file::Readiness,
        poll_queue::PollQueue,
    },
    mm::fallible::TryRoom,
    sync::{Rank, SpinLock},
    task::{Thread, schedule},
};

/// One above the highest priority (`MQ_PRIO_MAX`).
pub const PRIORITIES: u32 = 32_768;

/// What a queue is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Messages that it holds.
    pub messages: usize,
    /// Bytes that one of them has at most.
    pub bytes: usize,
}

/// A message.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// Its priority, below [`PRIORITIES`].
    pub priority: u32,
    /// What it says.
    pub text: Vec<u8>,
}

/// A message in its place: the greatest is the next to be taken.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Placed {
    priority: u32,
    arrival: Reverse<u64>,
    text: Vec<u8>,
}

struct Contents {
    attributes: Attributes,
    messages: BinaryHeap<Placed>,
    bytes: usize,
    arrivals: u64,
    receivers: Line<(), Message>,
    senders: Line<Message, ()>,
    notice: Option<Notice>,
}

/// See the module.
pub struct Queue {
    shape: Shape,
    has_name: AtomicBool,
    root: Weak<Root>,
    contents: SpinLock<Contents>,
    pollers: PollQueue,
    /// What it counts for, as long as it is there.
    _charge: Charge,
}

/// The line of those who wait for a message.
pub struct Receivers<'a>(pub &'a Queue);

impl HasLine for Receivers<'_> {
    type Want = ();
    type Outcome = Message;

    fn with_line<T>(&self, look: impl FnOnce(&mut Line<(), Message>) -> T) -> T {
        look(&mut self.0.contents.lock().receivers)
    }
}

/// The line of those who wait for room.
pub struct Senders<'a>(pub &'a Queue);

impl HasLine for Senders<'_> {
    type Want = Message;
    type Outcome = ();

    fn with_line<T>(&self, look: impl FnOnce(&mut Line<Message, ()>) -> T) -> T {
        look(&mut self.0.contents.lock().senders)
    }
}

/// What came of an attempt to receive.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// The message, which is in the queue no more.
    Message(Message),
    /// There is none; the caller stands in line.
    Waits(Ticket),
}

/// A thread's place among those that wait: real-time ones before all others, by their priority, the others by their nice value.
fn rank(thread: &Thread) -> u8 {
    match schedule::priority(thread) {
        0 => (120 + thread.nice()) as u8,
        priority => 99 - priority.min(99),
    }
}

impl Queue {
    fn new(shape: Shape, attributes: Attributes, root: Weak<Root>, charge: Charge) -> Self {
        Self {
            shape,
            has_name: AtomicBool::new(true),
            root,
            contents: SpinLock::new(
                Rank::IpcObject,
                Contents {
                    attributes,
                    messages: BinaryHeap::new(),
                    bytes: 0,
                    arrivals: 0,
                    receivers: Line::new(),
                    senders: Line::new(),
                    notice: None,
                },
            ),
            pollers: PollQueue::new(),
            _charge: charge,
        }
    }

    /// What it was made with.
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// How many messages are in it.
    pub fn len(&self) -> usize {
        self.contents.lock().messages.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sends a message, or has it wait for room if `wait` says so; the place in line then.
    ///
    /// # Errors
    /// `EAGAIN`, `ENOMEM`.
    pub fn send(&self, thread: &Arc<Thread>, message: Message, wait: bool) -> Result<Option<Ticket>> {
        let mut woken = Woken::default();
        let mut told = None;
        let mut contents = self.contents.lock();
        if contents.messages.len() >= self.shape.messages {
            if !wait {
                return Err(Errno::EAGAIN);
            }
            return Ok(Some(contents.senders.join_at(rank(thread), thread, message)));
        }
        contents.messages.try_room(1)?;
        contents.touch();
        let mut is_new = false;
        if let Some((ticket, _)) = contents.receivers.after(None) {
            contents.receivers.finish(ticket, message, &mut woken);
        } else {
            is_new = true;
            contents.place(message);
            if contents.messages.len() == 1 {
                told = contents.notice.take();
            }
        }
        drop(contents);
        woken.wake();
        if let Some(notice) = told {
            notice.fire(thread);
        }
        if is_new {
            self.tell(Readiness::READABLE);
        }
        Ok(None)
    }

    /// Takes the most urgent message; `wait`s if there is none.
    ///
    /// # Errors
    /// `EAGAIN`.
    pub fn receive(&self, thread: &Arc<Thread>, wait: bool) -> Result<Received> {
        let mut woken = Woken::default();
        let mut contents = self.contents.lock();
        let Some(taken) = contents.messages.pop() else {
            if !wait {
                return Err(Errno::EAGAIN);
            }
            return Ok(Received::Waits(contents.receivers.join_at(rank(thread), thread, ())));
        };
        contents.bytes -= taken.text.len();
        contents.touch();
        if let Some((ticket, _)) = contents.senders.after(None)
            && let Some(message) = contents.senders.finish(ticket, (), &mut woken)
        {
            contents.place(message);
        }
        let has_room = contents.messages.len() < self.shape.messages;
        drop(contents);
        woken.wake();
        if has_room {
            self.tell(Readiness::WRITABLE);
        }
        Ok(Received::Message(Message {
            priority: taken.priority,
            text: taken.text,
        }))
    }

    fn tell(&self, news: Readiness) {
        if self.pollers.has_waiters() {
            self.pollers.wake(news);
        }
    }

    fn unlinked(&self) {
        self.has_name.store(false, Relaxed);
        self.contents.lock().attributes.changed = Timestamp::now();
    }
}

impl Contents {
    /// There is room.
    fn place(&mut self, message: Message) {
        self.arrivals += 1;
        self.bytes += message.text.len();
        self.messages.push(Placed {
            priority: message.priority,
            arrival: Reverse(self.arrivals),
            text: message.text,
        });
    }

    fn touch(&mut self) {
        let now = Timestamp::now();
        let attributes = &mut self.attributes;
        (attributes.accessed, attributes.modified, attributes.changed) = (now, now, now);
    }
}
