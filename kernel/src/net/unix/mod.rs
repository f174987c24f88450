//! Unix sockets (`unix(7)`).
//!
//! A [`Socket`] is the file; what others reach of it is its [`Core`](core::Core), which knows no other. What a socket has sent
//! waits in the inbox of the core of its peer. So a socket that is closed is gone, whoever was connected to it, and what its
//! peer has not read yet stays with that.
//!
//! **Memory** of what is on its way counts for its sender (`SO_SNDBUF`). A sender goes on while the limit has not been reached;
//! one that waits is woken when three quarters are free, as pollers are.
//!
//! **Who is woken.** Whoever receives from a stream, and all who wait for memory or for room in another's inbox, are woken
//! all together; receivers of messages and connections one at a time, by what came in and by the one before, if there is
//! more.
//!
//! **What pollers look at** are atomic words: each change is made before pollers are woken.
//!
//! **Files on their way** may hold each other: see [`rights`] and [`collect`].

pub mod collect;
mod connect;
pub use connect::MOST_CONNECTIONS;
pub mod core;
mod file;
pub mod message;
pub mod name;
pub mod options;
mod receive;
pub mod rights;
mod send;
mod stream;
#[cfg(test)]
mod tests;

use ::core::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use alloc::{sync::Arc, vec::Vec};

use spin::Once;

pub use receive::Flags;
pub use send::Outgoing;

use self::{
    core::{Core, Inbox, Phase, Shut},
    message::Credentials,
    name::Key,
    options::Options,
    rights::Pending,
};
use crate::{
    fs::Location,
    sync::{Rank, SpinLock},
};

/// A socket's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Bytes (`SOCK_STREAM`).
    Stream,
    /// Messages to anybody (`SOCK_DGRAM`).
    Datagram,
    /// Messages to a peer (`SOCK_SEQPACKET`).
    SeqPacket,
}

/// Who a peer is, as it was when the connection was made.
#[derive(Clone)]
pub struct Peer {
    /// Process, effective user and group.
    pub credentials: Credentials,
    /// Supplementary groups.
    pub groups: Arc<crate::task::Credentials>,
}

/// What a socket is bound and connected to.
#[derive(Default)]
struct Link {
    /// The name that is its own.
    bound: Option<Key>,
    /// Where that name stands, if it is a path.
    place: Option<Location>,
    /// The peer of a datagram socket.
    target: Option<Arc<Core>>,
    /// Who the peer is.
    peer: Option<Peer>,
    released: bool,
}

/// Whether a connection has been accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepted {
    Yes,
    No,
}

/// See the module.
pub struct Socket {
    core: Arc<Core>,
    /// The peer of a stream or packet socket: once and for all.
    partner: Once<Arc<Core>>,
    link: SpinLock<Link>,
    options: Options,
    /// In how many messages it is on its way.
    in_flight: AtomicUsize,
}

impl Socket {
    /// A socket that is connected to nothing, in the network namespace of that number.
    pub fn new(kind: Kind, network: u64) -> Self {
        Self {
            core: Core::new(kind, network),
            partner: Once::new(),
            link: SpinLock::new(Rank::Socket, Link::default()),
            options: Options::default(),
            in_flight: AtomicUsize::new(0),
        }
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.core.kind()
    }

    /// Its number.
    pub fn number(&self) -> u64 {
        self.core.number()
    }

    /// What others reach of it.
    pub const fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Its options.
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// Whether it goes by connections.
    pub fn connects(&self) -> bool {
        self.kind() != Kind::Datagram
    }

    /// Its peer.
    pub fn peer(&self) -> Option<Arc<Core>> {
        match self.kind() {
            Kind::Datagram => self.link.lock().target.clone(),
            Kind::Stream | Kind::SeqPacket => self.partner.get().cloned(),
        }
    }

    /// Who its peer is; of one that listens, who it is itself.
    pub fn peer_identity(&self) -> Option<Peer> {
        self.link.lock().peer.clone()
    }

    /// Where receivers wait, and who accepts.
    pub fn readable(&self) -> &crate::sync::WaitQueue {
        &self.core.readable
    }

    /// Shuts halves down: what that means to a peer by connection happens to that.
    pub fn shut_down(&self, halves: Shut) {
        self.core.shut_down(halves);
        if let Some(partner) = self.partner.get() {
            partner.shut_down(halves.mirrored());
        }
    }

    /// Closes it. What it held of files goes to `pending`.
    fn release(&self, pending: &mut Pending, accepted: Accepted) {
        let (bound, place, target) = {
            let mut link = self.link.lock();
            if ::core::mem::replace(&mut link.released, true) {
                return;
            }
            (link.bound.take(), link.place.take(), link.target.take())
        };
        if let Some(key) = &bound {
            name::give_up(key);
        }
        drop(place);
        let rest = self.core.close();
        let unread = match &rest {
            Inbox::Stream(_) | Inbox::Packets(_) => rest.len() > 0,
            Inbox::Connections(..) | Inbox::Closed => false,
        };
        if let Some(partner) = self.partner.get() {
            if unread || accepted == Accepted::No {
                partner.reset();
            }
            partner.shut_down(Shut::all());
        }
        pending.inbox(rest);
        if let Some(partner) = self.partner.get() {
            // What it had sent is gone with the inbox.
            if self.kind() == Kind::Stream {
                partner.sent.store(0, SeqCst);
            }
            partner.pollers.wake_everybody();
        }
        self.core.peer_number.store(0, SeqCst);
        self.core.wake_everybody();
        self.core.wake_for_room();
        drop(target);
    }

    /// The messages with files that wait in it or in connections that it has not accepted, and where they stand: looked at
    /// a few at a time, `each` is told of those with sockets. `None` if something came or went meanwhile.
    fn scan(core: &Core, mut each: impl FnMut(&rights::Rights)) -> Option<usize> {
        const AT_ONCE: usize = 16;
        let changes = core.changes();
        let mut from = 0;
        loop {
            let inbox = core.inbox();
            if core.changes() != changes {
                return None;
            }
            let seen = match &*inbox {
                Inbox::Stream(stream) => look(stream.rights(from).take(AT_ONCE), &mut each),
                Inbox::Packets(packets) => {
                    let rights = packets.iter().skip(from).map(|packet| packet.rights.as_deref());
                    look(rights.take(AT_ONCE), &mut each)
                }
                Inbox::Connections(..) | Inbox::Closed => 0,
            };
            if seen < AT_ONCE {
                return Some(changes);
            }
            from += seen;
        }
    }

    /// The cores of connections that it has not accepted.
    fn unaccepted(&self) -> Vec<Arc<Core>> {
        match &*self.core.inbox() {
            Inbox::Connections(backlog) => backlog.waiting.iter().map(|socket| socket.core.clone()).collect(),
            _ => Vec::new(),
        }
    }

    fn phase(&self) -> Phase {
        self.core.phase()
    }
}

fn look<'a>(
    messages: impl Iterator<Item = Option<&'a rights::Rights>>,
    each: &mut impl FnMut(&rights::Rights),
) -> usize {
    messages
        .map(|rights| {
            rights
                .filter(|rights| rights.with_sockets())
                .into_iter()
                .for_each(&mut *each)
        })
        .count()
}

impl Drop for Socket {
    fn drop(&mut self) {
        let mut pending = Pending::default();
        self.release(&mut pending, Accepted::Yes);
        pending.finish();
        if rights::has_sockets() {
            collect::wake();
        }
    }
}
