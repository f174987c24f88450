//! Message queues (`msgop(2)`).
//!
//! A message that somebody waits for goes to the first such and not into the queue. When one is taken out, those whose messages then
//! fit are done with in order of arrival; a short one may pass a long one that still does not.

use alloc::{collections::VecDeque, sync::Arc, vec::Vec};

use super::{
    Objects,
    line::{HasLine, Line, Ticket, Woken},
    permission::{READ, WRITE},
    registry::{New, Object, Request, Room, State},
    seconds,
};
use crate::{
    errno::{Errno, Result},
    fs::{Stop, file::Attempt},
    mm::fallible::TryRoom,
    task::{Credentials, Pid, Thread},
};

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its type, greater than 0.
    pub kind: i64,
    /// What it says.
    pub text: Vec<u8>,
}

/// Which message is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The first.
    Any,
    /// The first of this type.
    Of(i64),
    /// The first of any other type (`MSG_EXCEPT`).
    Not(i64),
    /// The first of the lowest type that is at most this.
    UpTo(i64),
    /// The one with this number, counted from 0 (`MSG_COPY`).
    Number(i64),
}

impl Which {
    fn takes(self, kind: i64) -> bool {
        match self {
            Self::Any => true,
            Self::Of(wanted) => kind == wanted,
            Self::Not(unwanted) => kind != unwanted,
            Self::UpTo(most) => kind <= most,
            Self::Number(_) => false,
        }
    }
}

/// Who waits for a message.
pub struct Receiver {
    /// Which one.
    pub which: Which,
    /// Bytes that it has room for; a longer message is an error and stays.
    pub most: usize,
    /// Who it is.
    pub pid: Pid,
    /// Who it acts as.
    pub credentials: Arc<Credentials>,
}

/// Who waits for room.
pub struct Sender {
    message: Message,
    pid: Pid,
    credentials: Arc<Credentials>,
}

/// A queue.
pub struct Queue {
    messages: VecDeque<Message>,
    /// Bytes of all messages.
    pub bytes: u64,
    /// Bytes that there may be, and messages.
    pub limit: u64,
    /// Who last sent one.
    pub last_sender: Pid,
    /// Who last received one.
    pub last_receiver: Pid,
    /// Times, in seconds: of the last send, the last receive, the last change by `msgctl`.
    pub times: [i64; 3],
    receivers: Line<Receiver, Result<Message>>,
    senders: Line<Sender, Result<()>>,
}

/// The line of those who wait for a message.
pub struct Receivers<'a>(pub &'a Object<Queue>);

impl HasLine for Receivers<'_> {
    type Want = Receiver;
    type Outcome = Result<Message>;

    fn with_line<T>(&self, look: impl FnOnce(&mut Line<Receiver, Result<Message>>) -> T) -> T {
        look(&mut self.0.lock_even_if_gone().body.receivers)
    }
}

/// The line of those who wait for room.
pub struct Senders<'a>(pub &'a Object<Queue>);

impl HasLine for Senders<'_> {
    type Want = Sender;
    type Outcome = Result<()>;

    fn with_line<T>(&self, look: impl FnOnce(&mut Line<Sender, Result<()>>) -> T) -> T {
        look(&mut self.0.lock_even_if_gone().body.senders)
    }
}

/// `msgget(2)`.
///
/// # Errors
/// `ENOSPC`, `ENOENT`, `EEXIST`, `EACCES`.
pub fn get(among: &Objects, request: &Request<'_>) -> Result<i32> {
    let room = Room {
        objects: among.limits.msgmni.get(),
        weight: u64::MAX,
    };
    among.queues.find_or_make(
        request,
        room,
        |_| Ok(()),
        || {
            Ok(New {
                body: Queue::new(among.limits.msgmnb.get()),
                weight: 0,
            })
        },
    )
}

/// Sends a message, or has it wait for room if `wait` says so; the place in line then.
///
/// # Errors
/// `EACCES`, `EIDRM`, `EAGAIN`, `ENOMEM`.
pub fn send(object: &Object<Queue>, thread: &Arc<Thread>, message: Message, wait: bool) -> Result<Option<Ticket>> {
    let credentials = thread.credentials();
    let pid = thread.process().pid();
    let mut woken = Woken::default();
    let mut state = object.lock()?;
    state.check(&credentials, WRITE)?;
    let queue = &mut state.body;
    let ticket = if queue.fits(&message) {
        queue.take_in(message, pid, &mut woken)?;
        None
    } else if wait {
        Some(queue.senders.join(
            thread,
            Sender {
                message,
                pid,
                credentials,
            },
        ))
    } else {
        return Err(Errno::EAGAIN);
    };
    drop(state);
    woken.wake();
    Ok(ticket)
}

/// What came of an attempt to receive.
pub enum Received {
    /// A message has been copied, so many bytes of it.
    Copied(usize),
    /// There is none; the caller stands in line.
    Waits(Ticket),
}

/// Has `copy` copy the message that is wanted, at most so many bytes of it as there is room for, and takes it out of the queue if that
/// succeeds and it is not to stay. `wait`, if there is none.
///
/// # Errors
/// `EACCES`, `EIDRM`, `E2BIG`, what `copy` says; would block if there is none.
pub fn receive(
    object: &Object<Queue>,
    receiver: &Receiver,
    wait: Option<&Arc<Thread>>,
    copy: impl FnOnce(&Message) -> Attempt<usize>,
) -> Attempt<Received> {
    let mut woken = Woken::default();
    let mut state = object.lock()?;
    state.check(&receiver.credentials, READ)?;
    let queue = &mut state.body;
    let Some(index) = queue.find(receiver.which) else {
        let Some(thread) = wait else {
            return Err(Stop::WouldBlock);
        };
        let Receiver {
            which,
            most,
            pid,
            credentials,
        } = receiver;
        let receiver = Receiver {
            which: *which,
            most: *most,
            pid: *pid,
            credentials: credentials.clone(),
        };
        return Ok(Received::Waits(queue.receivers.join(thread, receiver)));
    };
    let message = &queue.messages[index];
    if message.text.len() > receiver.most {
        return Err(Errno::E2BIG.into());
    }
    let copied = copy(message)?;
    if !matches!(receiver.which, Which::Number(_)) {
        let taken = queue.messages.remove(index);
        queue.bytes -= taken.map_or(0, |message| message.text.len()) as u64;
        queue.times[1] = seconds();
        queue.last_receiver = receiver.pid;
        queue.let_senders_in(&mut woken);
    }
    drop(state);
    woken.wake();
    Ok(Received::Copied(copied))
}

/// Removes a queue; those that wait get `EIDRM`.
///
/// # Errors
/// `EINVAL`, `EPERM`.
pub fn remove(among: &Objects, id: i32, credentials: &Credentials) -> Result<()> {
    let object = among
        .queues
        .remove_if(id, |state| state.check_control(credentials).map(|()| true))?;
    if let Some(object) = object {
        let mut woken = Woken::default();
        let mut state = object.lock_even_if_gone();
        state.body.receivers.finish_all(|| Err(Errno::EIDRM), &mut woken);
        state.body.senders.finish_all(|| Err(Errno::EIDRM), &mut woken);
        drop(state);
        woken.wake();
    }
    Ok(())
}

impl State<Queue> {
    /// After permission or limit have changed: who waits and must not any more gets `EACCES`, who fits in goes in.
    pub fn look_again(&mut self, woken: &mut Woken) {
        let (permission, queue) = (self.permission, &mut self.body);
        let mut place = None;
        while let Some((ticket, waiter)) = queue.receivers.after(place) {
            place = Some(ticket);
            if !permission.allows(&waiter.want.credentials, READ) {
                drop(queue.receivers.finish(ticket, Err(Errno::EACCES), woken));
            }
        }
        place = None;
        while let Some((ticket, waiter)) = queue.senders.after(place) {
            place = Some(ticket);
            if !permission.allows(&waiter.want.credentials, WRITE) {
                drop(queue.senders.finish(ticket, Err(Errno::EACCES), woken));
            }
        }
        queue.let_senders_in(woken);
    }
}

impl Queue {
    fn new(limit: u64) -> Self {
        Self {
            messages: VecDeque::new(),
            bytes: 0,
            limit,
            last_sender: 0,
            last_receiver: 0,
            times: [0, 0, seconds()],
            receivers: Line::new(),
            senders: Line::new(),
        }
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    fn fits(&self, message: &Message) -> bool {
        self.bytes + message.text.len() as u64 <= self.limit && (self.messages.len() as u64) < self.limit
    }

    /// Gives a message to whom it suits, or keeps it.
    fn take_in(&mut self, message: Message, pid: Pid, woken: &mut Woken) -> Result<()> {
        self.messages.try_room(1)?;
        self.last_sender = pid;
        self.times[0] = seconds();
        let mut place = None;
        while let Some((ticket, waiter)) = self.receivers.after(place) {
            place = Some(ticket);
            let receiver = &waiter.want;
            if !receiver.which.takes(message.kind) {
                continue;
            }
            if receiver.most < message.text.len() {
                drop(self.receivers.finish(ticket, Err(Errno::E2BIG), woken));
                continue;
            }
            self.last_receiver = receiver.pid;
            self.times[1] = seconds();
            drop(self.receivers.finish(ticket, Ok(message), woken));
            return Ok(());
        }
        self.bytes += message.text.len() as u64;
        self.messages.push_back(message);
        Ok(())
    }

    fn let_senders_in(&mut self, woken: &mut Woken) {
        let mut place = None;
        while let Some((ticket, waiter)) = self.senders.after(place) {
            place = Some(ticket);
            let fits = self.bytes + waiter.want.message.text.len() as u64 <= self.limit
                && (self.messages.len() as u64) < self.limit;
            if !fits {
                continue;
            }
            // Without room it waits for the next chance.
            if self.messages.try_room(1).is_err() {
                return;
            }
            if let Some(Sender { message, pid, .. }) = self.senders.finish(ticket, Ok(()), woken) {
                // There is room.
                let _kept = self.take_in(message, pid, woken);
            }
        }
    }

    fn find(&self, which: Which) -> Option<usize> {
        match which {
            Which::Number(number) => usize::try_from(number)
                .ok()
                .filter(|&index| index < self.messages.len()),
            Which::UpTo(_) => {
                let candidates = self.messages.iter().enumerate();
                let candidates = candidates.filter(|(_, message)| which.takes(message.kind));
                let lowest = candidates.min_by_key(|(_, message)| message.kind)?;
                Some(lowest.0)
            }
            _ => self.messages.iter().position(|message| which.takes(message.kind)),
        }
    }
}

/// Messages and bytes in all queues.
pub fn totals(among: &Objects) -> (u64, u64) {
    let (mut messages, mut bytes, mut from) = (0, 0, 0);
    while let Some((index, object)) = among.queues.next(from) {
        let state = object.lock_even_if_gone();
        messages += state.body.len() as u64;
        bytes += state.body.bytes;
        from = index + 1;
    }
    (messages, bytes)
}

#[cfg(test)]
mod tests {
    use core::{
        future::Future,
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;
    use crate::{
        ipc::{FIRST, IPC_PRIVATE, line},
        task::testing,
    };

    fn queue(limit: u64) -> Arc<Object<Queue>> {
        let credentials = Credentials::root();
        let request = Request {
            key: IPC_PRIVATE,
            flags: 0o600,
            credentials: &credentials,
        };
        let object = FIRST.queues.get(get(&FIRST, &request).unwrap()).unwrap();
        object.lock().unwrap().body.limit = limit;
        object
    }

    fn message(kind: i64, length: usize) -> Message {
        Message {
            kind,
            text: std::vec![kind as u8; length],
        }
    }

    fn receiver(which: Which, most: usize) -> Receiver {
        Receiver {
            which,
            most,
            pid: 1,
            credentials: Arc::new(Credentials::root()),
        }
    }

    /// The type of the message that is taken.
    fn take(object: &Object<Queue>, which: Which) -> Attempt<i64> {
        let mut kind = 0;
        receive(object, &receiver(which, 100), None, |message| {
            kind = message.kind;
            Ok(message.text.len())
        })?;
        Ok(kind)
    }

    #[test]
    fn senders_go_in_by_turns_as_far_as_they_fit() {
        hal::host::machine().attach(0);
        let threads = [9201, 9202, 9203].map(testing::thread);
        let object = queue(10);
        assert_eq!(send(&object, &threads[0], message(1, 10), false), Ok(None));
        assert_eq!(send(&object, &threads[0], message(2, 1), false), Err(Errno::EAGAIN));
        let waits = |thread, message| send(&object, thread, message, true).unwrap().unwrap();
        let tickets = [
            waits(&threads[0], message(2, 6)),
            waits(&threads[1], message(3, 6)),
            waits(&threads[2], message(4, 4)),
        ];
        assert_eq!(take(&object, Which::Any).ok(), Some(1));
        let outcome = |ticket| Senders(&object).with_line(|line| line.outcome(ticket));
        assert_eq!(tickets.map(outcome), [Some(Ok(())), None, Some(Ok(()))]);
        assert_eq!(
            take(&object, Which::Not(2)).ok(),
            Some(4),
            "behind the one that it passed nobody"
        );
        assert_eq!(take(&object, Which::Any).ok(), Some(2));
        assert_eq!(outcome(tickets[1]), Some(Ok(())));
        assert_eq!(take(&object, Which::Any).ok(), Some(3));
        assert_eq!(object.lock().unwrap().body.bytes, 0);
        remove(&FIRST, object.id(), &Credentials::root()).unwrap();
    }

    #[test]
    fn a_message_goes_to_who_waits_even_if_its_wait_ends_before_it_looks() {
        hal::host::machine().attach(0);
        let threads = [9211, 9212].map(testing::thread);
        let object = queue(100);
        let mut context = Context::from_waker(Waker::noop());
        let wanted = receiver(Which::UpTo(5), 3);
        let copy = |_: &Message| Ok(0);
        let Ok(Received::Waits(ticket)) = receive(&object, &wanted, Some(&threads[0]), copy) else {
            panic!("there is none")
        };
        let line = Receivers(&object);
        let mut wait = pin!(line::wait(&threads[0], &line, ticket, None));
        assert!(wait.as_mut().poll(&mut context).is_pending());
        send(&object, &threads[1], message(6, 3), false).unwrap();
        assert!(wait.as_mut().poll(&mut context).is_pending(), "not of that type");
        send(&object, &threads[1], message(5, 3), false).unwrap();
        assert_eq!(object.lock().unwrap().body.len(), 1, "the other is no longer there");
        // A signal comes at the same time: the message counts.
        threads[0].kick(crate::task::thread::attention::SIGNAL);
        assert_eq!(wait.as_mut().poll(&mut context), Poll::Ready(Ok(Ok(message(5, 3)))));
        remove(&FIRST, object.id(), &Credentials::root()).unwrap();
    }

    #[test]
    fn a_copy_that_fails_takes_nothing() {
        hal::host::machine().attach(0);
        let thread = testing::thread(9221);
        let object = queue(100);
        send(&object, &thread, message(1, 5), false).unwrap();
        let failed = receive(&object, &receiver(Which::Any, 100), None, |_| Err(Errno::EFAULT.into()));
        assert!(matches!(failed, Err(Stop::Errno(Errno::EFAULT))));
        let short = receive(&object, &receiver(Which::Any, 4), None, |_| Ok(0));
        assert!(matches!(short, Err(Stop::Errno(Errno::E2BIG))));
        assert_eq!(take(&object, Which::Number(0)).ok(), Some(1));
        assert_eq!(take(&object, Which::Any).ok(), Some(1));
        assert!(matches!(take(&object, Which::Any), Err(Stop::WouldBlock)));
        remove(&FIRST, object.id(), &Credentials::root()).unwrap();
    }
}
