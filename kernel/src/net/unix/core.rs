//! The part of a socket that others reach: by its name, as their peer, by what they have sent and nobody has taken.
//!
//! It knows no peer, so that two sockets that are connected don't keep each other.

use alloc::{
    collections::VecDeque,
    sync::{Arc, Weak},
    vec::Vec,
};
use core::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
    fence,
};

use super::{Kind, Peer, Socket, message::Packet, name::Name, stream::Stream};
use crate::{
    errno::{Errno, Result},
    fs::{Readiness, poll_queue::PollQueue},
    mm::fallible::TryRoom,
    sync::{Rank, SpinLock, SpinLockGuard, WaitQueue},
};

/// Bytes of memory that a socket may have sent and nobody taken (`net.core.wmem_default`).
pub const DEFAULT_SEND_LIMIT: usize = 212_992;

/// Connections to a datagram socket's queue that may wait beyond one (`net.unix.max_dgram_qlen`).
const DATAGRAMS: usize = 10;

bitflags::bitflags! {
    /// The halves of a socket that are shut down.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Shut: u32 {
        /// Nothing comes any more.
        const RECEIVE = 1;
        /// Nothing can be sent any more.
        const SEND = 2;
    }
}

impl Shut {
    /// What it means to the peer.
    pub fn mirrored(self) -> Self {
        let mut other = Self::empty();
        other.set(Self::SEND, self.contains(Self::RECEIVE));
        other.set(Self::RECEIVE, self.contains(Self::SEND));
        other
    }
}

/// How far a socket has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Phase {
    /// It is neither of the following.
    Idle,
    /// It takes connections.
    Listening,
    /// It has a peer, or had one.
    Connected,
}

/// What waits to be received.
pub enum Inbox {
    /// Bytes.
    Stream(Stream),
    /// Whole messages.
    Packets(VecDeque<Packet>),
    /// Connections that nobody has accepted yet.
    Connections(Backlog),
    /// Nothing any more: the socket is closed.
    Closed,
}

/// Of a socket that listens.
pub struct Backlog {
    pub(super) waiting: VecDeque<Arc<Socket>>,
    /// How many may wait beyond one.
    pub(super) most: usize,
    /// Who listens.
    pub(super) identity: Peer,
}

impl Inbox {
    /// What there is, in the unit of its kind.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Stream(stream) => stream.len(),
            Self::Packets(packets) => packets.len(),
            Self::Connections(backlog) => backlog.waiting.len(),
            Self::Closed => 0,
        }
    }
}

/// See the module.
pub struct Core {
    kind: Kind,
    /// The number of its network namespace.
    network: u64,
    number: u64,
    inbox: SpinLock<Inbox>,
    /// [`Inbox::len`], for who looks without the lock. Written under it.
    waiting: AtomicUsize,
    /// [`Shut`]. Written under the inbox's lock.
    shut: AtomicU32,
    /// [`Phase`].
    phase: AtomicU32,
    /// The number of the next call's error; 0 for none.
    error: AtomicU32,
    /// Memory of what it has sent and nobody has taken, in bytes.
    pub(super) sent: AtomicUsize,
    pub(super) send_limit: AtomicUsize,
    /// What it wants to be told besides data: the `SO_PASS…` options.
    pub(super) passes: AtomicU32,
    /// Of a datagram socket: the number of its peer, or 0.
    pub(super) peer_number: AtomicU64,
    /// How often files have come into the inbox or gone: for [`collect`](super::collect).
    changes: AtomicUsize,
    name: SpinLock<Option<Arc<Name>>>,
    /// Who polls for room in this socket's full inbox.
    watchers: SpinLock<Vec<Weak<Self>>>,
    /// Whether it stands in another's `watchers`.
    watching: AtomicBool,
    /// Receivers, and who accepts.
    pub(super) readable: WaitQueue,
    /// Its own senders, for memory.
    pub(super) writable: WaitQueue,
    /// Others, for room in the inbox.
    pub(super) room: WaitQueue,
    pub(super) pollers: PollQueue,
}

/// Wakes all pollers, for what readiness has gained: the words they look at have been changed before.
pub(super) fn wake_pollers(queue: &PollQueue, news: Readiness) {
    fence(SeqCst);
    if queue.has_waiters() {
        queue.wake(news);
    }
}

impl Core {
    /// Of a new socket, in the network namespace of that number.
    pub fn new(kind: Kind, network: u64) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let inbox = match kind {
            Kind::Stream => Inbox::Stream(Stream::new()),
            Kind::Datagram | Kind::SeqPacket => Inbox::Packets(VecDeque::new()),
        };
        Arc::new(Self {
            kind,
            network,
            number: NEXT.fetch_add(1, Relaxed),
            inbox: SpinLock::new(Rank::SocketInbox, inbox),
            waiting: AtomicUsize::new(0),
            shut: AtomicU32::new(0),
            phase: AtomicU32::new(Phase::Idle as u32),
            error: AtomicU32::new(0),
            sent: AtomicUsize::new(0),
            send_limit: AtomicUsize::new(DEFAULT_SEND_LIMIT),
            passes: AtomicU32::new(0),
            peer_number: AtomicU64::new(0),
            changes: AtomicUsize::new(0),
            name: SpinLock::new(Rank::SocketNames, None),
            watchers: SpinLock::new(Rank::SocketNames, Vec::new()),
            watching: AtomicBool::new(false),
            readable: WaitQueue::new(),
            writable: WaitQueue::new(),
            room: WaitQueue::new(),
            pollers: PollQueue::new(),
        })
    }

    /// Its kind.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The number of its network namespace.
    pub const fn network(&self) -> u64 {
        self.network
    }

    /// Its number, which no other has or had.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// What it is called.
    pub fn name(&self) -> Option<Arc<Name>> {
        self.name.lock().clone()
    }

    pub(super) fn set_name(&self, name: Arc<Name>) {
        let old = self.name.lock().replace(name);
        drop(old);
    }

    /// How far it has come.
    pub fn phase(&self) -> Phase {
        match self.phase.load(SeqCst) {
            phase if phase == Phase::Listening as u32 => Phase::Listening,
            phase if phase == Phase::Connected as u32 => Phase::Connected,
            _ => Phase::Idle,
        }
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u32, SeqCst);
    }

    /// What is shut down of it.
    pub fn shut(&self) -> Shut {
        Shut::from_bits_truncate(self.shut.load(SeqCst))
    }

    /// Shuts halves down, and wakes everybody whom that concerns.
    pub(super) fn shut_down(&self, halves: Shut) {
        let inbox = self.inbox.lock();
        self.shut.fetch_or(halves.bits(), SeqCst);
        drop(inbox);
        self.wake_everybody();
    }

    pub(super) fn wake_everybody(&self) {
        self.readable.wake_all();
        self.writable.wake_all();
        self.room.wake_all();
        self.pollers.wake_everybody();
    }

    /// The error that the next call is to return, if there is one; it is returned once.
    ///
    /// # Errors
    /// That error.
    pub fn take_error(&self) -> Result<()> {
        if self.error.load(Relaxed) == 0 {
            return Ok(());
        }
        match self.error.swap(0, SeqCst) {
            0 => Ok(()),
            number if number == Errno::ECONNRESET.number() as u32 => Err(Errno::ECONNRESET),
            _ => Err(Errno::EIO),
        }
    }

    /// Whether [`Core::take_error`] has one.
    pub fn has_error(&self) -> bool {
        self.error.load(SeqCst) != 0
    }

    /// The next call is to return `ECONNRESET`, as one that could not has.
    pub fn keep_error(&self) {
        self.reset();
    }

    /// The peer has gone with what it had not read.
    pub(super) fn reset(&self) {
        self.error.store(Errno::ECONNRESET.number() as u32, SeqCst);
    }

    /// What waits to be received.
    pub(super) fn inbox(&self) -> SpinLockGuard<'_, Inbox> {
        self.inbox.lock()
    }

    /// Lets go of an inbox that was changed.
    pub(super) fn put_back(&self, inbox: SpinLockGuard<'_, Inbox>) {
        self.waiting.store(inbox.len(), SeqCst);
        drop(inbox);
    }

    /// As [`Inbox::len`], by a look without the lock.
    pub fn waiting(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    /// Closes the inbox; what was in it.
    pub(super) fn close(&self) -> Inbox {
        let mut inbox = self.inbox.lock();
        let rest = core::mem::replace(&mut *inbox, Inbox::Closed);
        self.shut.fetch_or(Shut::all().bits(), SeqCst);
        self.put_back(inbox);
        rest
    }

    /// Takes everything out of an inbox that stays; for [`collect`](super::collect) and for datagrams of another peer.
    pub(super) fn clear(&self) -> Inbox {
        let mut inbox = self.inbox.lock();
        let rest = match &mut *inbox {
            Inbox::Stream(stream) => Inbox::Stream(stream.clear()),
            Inbox::Packets(packets) => Inbox::Packets(core::mem::take(packets)),
            Inbox::Connections(backlog) => Inbox::Connections(Backlog {
                waiting: core::mem::take(&mut backlog.waiting),
                most: backlog.most,
                identity: backlog.identity.clone(),
            }),
            Inbox::Closed => Inbox::Closed,
        };
        self.files_changed();
        self.put_back(inbox);
        rest
    }

    /// Files came or went, or were looked at. Called under the inbox's lock.
    pub(super) fn files_changed(&self) {
        self.changes.fetch_add(1, SeqCst);
    }

    pub(super) fn changes(&self) -> usize {
        self.changes.load(SeqCst)
    }

    /// Whether its inbox takes no more from others than its peer.
    pub fn is_full(&self) -> bool {
        self.waiting() > DATAGRAMS
    }

    /// The most memory it may have on its way, in bytes.
    pub fn send_limit(&self) -> usize {
        self.send_limit.load(Relaxed)
    }

    /// Whether it is writable for pollers, and blocked senders go on: a quarter of the limit is in use at most.
    pub fn has_room(&self) -> bool {
        self.sent.load(SeqCst) * 4 <= self.send_limit()
    }

    /// Something that it had sent is gone: less memory is in use than `before`.
    pub(super) fn wake_senders(&self, before: usize) {
        if before * 4 > self.send_limit() && self.has_room() {
            self.writable.wake_all();
            wake_pollers(&self.pollers, Readiness::WRITABLE);
        }
    }

    /// Something has come into the inbox.
    pub(super) fn wake_receivers(&self) {
        if self.readable.has_waiters() {
            if self.kind == Kind::Stream && self.phase() != Phase::Listening {
                self.readable.wake_all();
            } else {
                self.readable.wake_one();
            }
        }
        wake_pollers(&self.pollers, Readiness::READABLE);
    }

    /// Something has gone out of the inbox: for others there may be room in it.
    pub(super) fn wake_for_room(&self) {
        if self.room.has_waiters() {
            self.room.wake_all();
        }
        fence(SeqCst);
        let watchers = core::mem::take(&mut *self.watchers.lock());
        for watcher in watchers.iter().filter_map(Weak::upgrade) {
            watcher.watching.store(false, SeqCst);
            wake_pollers(&watcher.pollers, Readiness::WRITABLE);
        }
    }

    /// Whether `other`, which would send here, has to wait for room: then its pollers are woken once there is some.
    pub(super) fn is_full_for(&self, other: &Arc<Self>) -> bool {
        if !self.is_full() {
            return false;
        }
        if !other.watching.swap(true, SeqCst) {
            let mut watchers = self.watchers.lock();
            watchers.retain(|watcher| watcher.strong_count() > 0);
            if watchers.try_room(1).is_err() {
                // It is told of room that there is not, rather than not of room that there is.
                other.watching.store(false, SeqCst);
                return false;
            }
            watchers.push(Arc::downgrade(other));
        }
        // Whoever makes room looks for watchers afterwards.
        fence(SeqCst);
        self.is_full()
    }

    /// What it is ready for by itself, a peer's room aside.
    pub(super) fn readiness(&self) -> Readiness {
        let shut = self.shut();
        let mut ready = Readiness::empty();
        if self.has_error() {
            ready |= Readiness::ERR;
        }
        if shut == Shut::all() {
            ready |= Readiness::HUP;
        }
        if shut.contains(Shut::RECEIVE) {
            ready |= Readiness::RDHUP | Readiness::READABLE;
        }
        if self.waiting() > 0 {
            ready |= Readiness::READABLE;
        }
        if self.kind != Kind::Datagram && self.phase() == Phase::Idle {
            ready |= Readiness::HUP;
        }
        if self.phase() != Phase::Listening && self.has_room() {
            ready |= Readiness::WRITABLE | Readiness::WRBAND;
        }
        ready
    }
}

impl Core {
    /// Where others wait for room in the inbox.
    pub const fn room(&self) -> &WaitQueue {
        &self.room
    }

    /// Whether its socket is closed.
    pub fn is_closed(&self) -> bool {
        matches!(*self.inbox(), Inbox::Closed)
    }
}
