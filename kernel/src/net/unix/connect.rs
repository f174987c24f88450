//! Binding, listening, connecting, accepting.

use ::core::sync::atomic::Ordering::SeqCst;
use alloc::{collections::VecDeque, sync::Arc};

use super::{
    Kind, Link, Peer, Socket,
    core::{Backlog, Core, Inbox, Phase, Shut},
    message::Credentials,
    name::{self, Key, Name},
    options::Passes,
};
use crate::{
    errno::{Errno, Result},
    fs::{Attempt, Location, Stop},
    mm::fallible::TryRoom,
    task::Thread,
};

/// The most connections that may wait, whatever `listen` says (`net.core.somaxconn`).
pub const MOST_CONNECTIONS: usize = 4096;

impl Peer {
    /// The caller, by its effective user and group.
    pub fn of(t: &Thread) -> Self {
        let own = t.credentials();
        Self {
            credentials: Credentials {
                uid: own.euid,
                gid: own.egid,
                ..Credentials::of(t)
            },
            groups: own,
        }
    }
}

impl Socket {
    /// Two sockets that are connected to each other, in the network namespace of that number, by one who is the peer of both.
    pub fn pair(kind: Kind, network: u64, identity: Option<&Peer>) -> (Arc<Self>, Arc<Self>) {
        let (a, b) = (Self::new(kind, network), Self::new(kind, network));
        for (socket, other) in [(&a, &b), (&b, &a)] {
            socket.link.lock().peer = identity.cloned();
            socket.set_peer(&mut socket.link.lock(), other.core.clone());
        }
        (Arc::new(a), Arc::new(b))
    }

    fn set_peer(&self, link: &mut Link, peer: Arc<Core>) {
        match self.kind() {
            Kind::Datagram => {
                self.core.peer_number.store(peer.number(), SeqCst);
                link.target = Some(peer);
            }
            Kind::Stream | Kind::SeqPacket => {
                self.partner.call_once(|| peer);
            }
        }
        self.core.set_phase(Phase::Connected);
    }

    /// Whether it has a name.
    pub fn is_named(&self) -> bool {
        self.core.name().is_some()
    }

    /// Gives it a name, which is taken by `key`; `place` is where it stands, of a path.
    ///
    /// # Errors
    /// `EINVAL` if it has one; `EADDRINUSE`.
    pub fn bind(&self, name: Name, key: Key, place: Option<Location>) -> Result<()> {
        let mut link = self.link.lock();
        if link.bound.is_some() || self.is_named() {
            return Err(Errno::EINVAL);
        }
        name::take(key.clone(), &self.core)?;
        link.bound = Some(key);
        link.place = place;
        self.core.set_name(Arc::new(name));
        Ok(())
    }

    /// Gives it an abstract name that nobody has, if it has none.
    ///
    /// # Errors
    /// `ENOSPC`.
    pub fn bind_to_any(&self) -> Result<()> {
        let mut link = self.link.lock();
        if link.bound.is_some() || self.is_named() {
            return Ok(());
        }
        let (key, name) = name::take_any(&self.core)?;
        link.bound = Some(key);
        self.core.set_name(Arc::new(name));
        Ok(())
    }

    /// As [`Socket::bind_to_any`], where receivers are to be told who sends.
    ///
    /// # Errors
    /// `ENOSPC`.
    pub fn bind_if_told(&self) -> Result<()> {
        if self.core.passes(Passes::WHO) && !self.is_named() {
            return self.bind_to_any();
        }
        Ok(())
    }

    /// Takes connections from now on, of which `most` and one more may wait.
    ///
    /// # Errors
    /// `EOPNOTSUPP` of a datagram socket; `EINVAL` if it has no name or is connected.
    pub fn listen(&self, most: u32, identity: Peer) -> Result<()> {
        if !self.connects() {
            return Err(Errno::EOPNOTSUPP);
        }
        if !self.is_named() {
            return Err(Errno::EINVAL);
        }
        let most = (most as usize).min(MOST_CONNECTIONS);
        let mut link = self.link.lock();
        if self.phase() == Phase::Connected {
            return Err(Errno::EINVAL);
        }
        link.peer = Some(identity.clone());
        let mut inbox = self.core.inbox();
        match &mut *inbox {
            Inbox::Connections(backlog) => (backlog.most, backlog.identity) = (most, identity.clone()),
            Inbox::Closed => return Err(Errno::EINVAL),
            unused => {
                *unused = Inbox::Connections(Backlog {
                    waiting: VecDeque::new(),
                    most,
                    identity: identity.clone(),
                });
            }
        }
        self.core.set_phase(Phase::Listening);
        self.core.put_back(inbox);
        drop(link);
        self.core.wake_for_room();
        self.core.pollers.wake_everybody();
        Ok(())
    }

    /// Connects to `to`, which listens: who does so is `identity`.
    ///
    /// # Errors
    /// `ECONNREFUSED`, `EISCONN`, `EINVAL`, `ENOMEM`; [`Stop::WouldBlock`] while too many wait there.
    pub fn connect(&self, to: &Arc<Core>, identity: &Peer) -> Attempt<()> {
        let fresh = Self::new(self.kind(), self.core.network());
        fresh.partner.call_once(|| self.core.clone());
        fresh.core.set_phase(Phase::Connected);
        fresh.link.lock().peer = Some(identity.clone());
        if let Some(name) = to.name() {
            fresh.core.set_name(name);
        }
        let fresh = Arc::new(fresh);
        let result = self.connect_by(to, &fresh);
        if result.is_err() {
            // Nobody was ever connected to it.
            fresh.link.lock().released = true;
        } else {
            to.wake_receivers();
            self.core.pollers.wake_everybody();
        }
        result
    }

    fn connect_by(&self, to: &Arc<Core>, fresh: &Arc<Self>) -> Attempt<()> {
        let mut link = self.link.lock();
        let mut inbox = to.inbox();
        let Inbox::Connections(backlog) = &mut *inbox else {
            return Err(Errno::ECONNREFUSED.into());
        };
        if to.shut().contains(Shut::RECEIVE) {
            return Err(Errno::ECONNREFUSED.into());
        }
        if backlog.waiting.len() > backlog.most {
            return Err(Stop::WouldBlock);
        }
        match self.phase() {
            Phase::Idle => {}
            Phase::Connected => return Err(Errno::EISCONN.into()),
            Phase::Listening => return Err(Errno::EINVAL.into()),
        }
        backlog.waiting.try_room(1)?;
        backlog.waiting.push_back(fresh.clone());
        self.partner.call_once(|| fresh.core.clone());
        self.core.set_phase(Phase::Connected);
        let old = link.peer.replace(backlog.identity.clone());
        to.put_back(inbox);
        drop(link);
        drop(old);
        Ok(())
    }

    /// Makes `to` the peer of a datagram socket, or nobody.
    ///
    /// # Errors
    /// `EPERM` if `to` has another peer; `ECONNREFUSED` if it is closed.
    pub fn set_target(&self, to: Option<Arc<Core>>) -> Result<()> {
        if let Some(to) = &to {
            if matches!(*to.inbox(), Inbox::Closed) {
                return Err(Errno::ECONNREFUSED);
            }
            let theirs = to.peer_number.load(SeqCst);
            if theirs != 0 && theirs != self.number() {
                return Err(Errno::EPERM);
            }
        }
        let same = |old: &Arc<Core>| to.as_ref().is_some_and(|to| Arc::ptr_eq(to, old));
        let mut link = self.link.lock();
        if link.released {
            return Ok(());
        }
        let phase = if to.is_some() { Phase::Connected } else { Phase::Idle };
        self.core
            .peer_number
            .store(to.as_ref().map_or(0, |to| to.number()), SeqCst);
        self.core.set_phase(phase);
        let old = ::core::mem::replace(&mut link.target, to.clone());
        drop(link);
        if let Some(old) = old.filter(|old| !same(old)) {
            self.forget_messages_of(&old);
        }
        self.core.pollers.wake_everybody();
        Ok(())
    }

    /// A connection that has come.
    ///
    /// # Errors
    /// `EOPNOTSUPP` of a datagram socket; `EINVAL` if it does not listen, or not any more; [`Stop::WouldBlock`].
    pub fn accept(&self) -> Attempt<Arc<Self>> {
        if !self.connects() {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let mut inbox = self.core.inbox();
        let Inbox::Connections(backlog) = &mut *inbox else {
            return Err(Errno::EINVAL.into());
        };
        let Some(accepted) = backlog.waiting.pop_front() else {
            return Err(if self.core.shut().contains(Shut::RECEIVE) {
                Errno::EINVAL.into()
            } else {
                Stop::WouldBlock
            });
        };
        let more = !backlog.waiting.is_empty();
        self.core.files_changed();
        self.core.put_back(inbox);
        if more && self.core.readable.has_waiters() {
            self.core.readable.wake_one();
        }
        self.core.wake_for_room();
        accepted.core.set_passes(self.core.passes_of(Passes::INHERITED), true);
        Ok(accepted)
    }

    /// A connection that was accepted and could not be handed on is to be accepted again.
    pub fn give_back(&self, connection: Arc<Self>) {
        let mut inbox = self.core.inbox();
        if let Inbox::Connections(backlog) = &mut *inbox
            && backlog.waiting.try_room(1).is_ok()
        {
            backlog.waiting.push_front(connection);
        }
        self.core.put_back(inbox);
        self.core.wake_receivers();
    }
}
