//! Sending.

use ::core::sync::atomic::Ordering::SeqCst;
use alloc::{boxed::Box, sync::Arc};

use super::{
    Kind, Socket,
    core::{Core, Inbox, Phase, Shut},
    message::{Credentials, Packet, Payload},
    options::Passes,
    rights::Rights,
};
use crate::{
    errno::Errno,
    fs::{Attempt, Source, Stop},
    mm::fallible::TryRoom,
    sync::WaitQueue,
    task::Thread,
};

/// What goes out besides bytes, and how far that has come.
#[derive(Default)]
pub struct Outgoing {
    /// Who the sender says to be.
    pub credentials: Option<Credentials>,
    /// Files.
    pub rights: Option<Box<Rights>>,
    /// Whether it has waited already.
    pub waited: bool,
    /// Whether a failure by `EPIPE` is to raise SIGPIPE.
    pub signal: bool,
    packet: Option<Packet>,
}

impl Outgoing {
    /// What is to go out.
    pub fn with(credentials: Option<Credentials>, rights: Option<Box<Rights>>) -> Self {
        Self {
            credentials,
            rights,
            ..Self::default()
        }
    }

    /// Whether it is a message that counts for its sender already.
    pub const fn is_packed(&self) -> bool {
        self.packet.is_some()
    }
}

impl Socket {
    /// What is told of a sender who says nothing: who it is, if one of both sides asks for it.
    fn credentials(&self, to: &Core, given: Option<&Credentials>, caller: Option<&Thread>) -> Option<Credentials> {
        given.cloned().or_else(|| {
            let asked = self.core.passes(Passes::WHO) || to.passes(Passes::WHO);
            caller.filter(|_| asked).map(Credentials::of)
        })
    }

    /// Sends bytes to the peer, as far as the source's window and memory go.
    ///
    /// # Errors
    /// `ENOTCONN`, `EPIPE`, `ECONNRESET`, `ENOMEM`; a page that is missing; [`Stop::WouldBlock`] for [`Core`]'s own memory.
    pub fn send_bytes(&self, source: &mut Source<'_>, caller: Option<&Thread>, out: &mut Outgoing) -> Attempt<()> {
        let partner = self.partner.get().ok_or(Errno::ENOTCONN)?;
        if !out.waited && self.core.shut().contains(Shut::SEND) {
            out.signal = source.done() == 0;
            return Err(Errno::EPIPE.into());
        }
        if source.total() == 0 {
            return Ok(());
        }
        self.core.take_error()?;
        if self.core.shut().contains(Shut::SEND) {
            return Err(Errno::EPIPE.into());
        }
        let credentials = self.credentials(partner, out.credentials.as_ref(), caller);
        let mut inbox = partner.inbox();
        let Inbox::Stream(stream) = &mut *inbox else {
            drop(inbox);
            out.signal = source.done() == 0;
            return Err(Errno::EPIPE.into());
        };
        if partner.shut().contains(Shut::RECEIVE) {
            drop(inbox);
            out.signal = source.done() == 0;
            return Err(Errno::EPIPE.into());
        }
        let before = stream.len();
        let had_rights = out.rights.is_some();
        let result = stream.send(source, self.core.send_limit(), credentials.as_ref(), &mut out.rights);
        let came = stream.len() > before;
        self.core.sent.store(stream.charge(), SeqCst);
        if had_rights && out.rights.is_none() {
            partner.files_changed();
        }
        partner.put_back(inbox);
        if came {
            partner.wake_receivers();
        }
        result
    }

    /// Makes a message of the whole source, which counts for this socket.
    ///
    /// # Errors
    /// `EMSGSIZE`, `ECONNRESET`, `EPIPE`, `ENOMEM`; a page that is missing; [`Stop::WouldBlock`] for [`Core`]'s own memory.
    fn pack(&self, source: &mut Source<'_>, out: &mut Outgoing) -> Attempt<()> {
        if out.packet.is_some() {
            return Ok(());
        }
        if source.total() > self.core.send_limit().saturating_sub(32) {
            return Err(Errno::EMSGSIZE.into());
        }
        self.core.take_error()?;
        if self.core.shut().contains(Shut::SEND) {
            return Err(Errno::EPIPE.into());
        }
        if self.core.sent.load(SeqCst) >= self.core.send_limit() {
            return Err(Stop::WouldBlock);
        }
        let payload = Payload::take(source)?;
        out.packet = Some(Packet::new(&self.core, payload, None, out.rights.take()));
        Ok(())
    }

    /// Sends the whole source as a message: to `to`, or to the peer.
    ///
    /// # Errors
    /// `ENOTCONN`, `ECONNREFUSED`, `ECONNRESET`, `EPERM`, `EPIPE`, `EMSGSIZE`, `ENOMEM`; a page that is missing;
    /// [`Stop::WouldBlock`] for what [`Socket::send_queue`] says.
    pub fn send_message(
        &self,
        source: &mut Source<'_>,
        caller: Option<&Thread>,
        to: Option<&Arc<Core>>,
        out: &mut Outgoing,
    ) -> Attempt<()> {
        if self.kind() == Kind::SeqPacket {
            self.core.take_error()?;
            if self.phase() != Phase::Connected {
                return Err(Errno::ENOTCONN.into());
            }
        }
        let peer;
        let (target, named) = match to {
            Some(to) => (to, true),
            None => {
                peer = self.peer().ok_or(Errno::ENOTCONN)?;
                (&peer, false)
            }
        };
        self.pack(source, out)?;
        let Some(packet) = &mut out.packet else { return Ok(()) };
        let peer_of_target = target.peer_number.load(SeqCst);
        let mutual = self.kind() == Kind::SeqPacket || peer_of_target == self.number();
        if !mutual && peer_of_target != 0 {
            return Err(Errno::EPERM.into());
        }
        let credentials = self.credentials(target, out.credentials.as_ref(), caller);
        let mut inbox = target.inbox();
        let Inbox::Packets(packets) = &mut *inbox else {
            drop(inbox);
            return Err(self.refused(target, named).into());
        };
        if target.shut().contains(Shut::RECEIVE) {
            return Err(Errno::EPIPE.into());
        }
        if !mutual && !Arc::ptr_eq(target, &self.core) && target.is_full() {
            return Err(Stop::WouldBlock);
        }
        packets.try_room(1)?;
        packet.credentials = credentials;
        let has_rights = packet.rights.is_some();
        if let Some(packet) = out.packet.take() {
            packets.push_back(packet);
        }
        if has_rights {
            target.files_changed();
        }
        target.put_back(inbox);
        target.wake_receivers();
        source.rewind(0);
        source.open_window();
        Ok(())
    }

    /// Why a message cannot go to one that is closed; a peer is none any more then.
    fn refused(&self, target: &Arc<Core>, named: bool) -> Errno {
        if self.kind() == Kind::SeqPacket {
            return Errno::EPIPE;
        }
        if !named {
            let mut link = self.link.lock();
            let gone = link.target.take_if(|peer| Arc::ptr_eq(peer, target));
            if gone.is_some() {
                self.core.peer_number.store(0, SeqCst);
                self.core.set_phase(Phase::Idle);
            }
            drop(link);
            self.forget_messages_of(target);
        }
        Errno::ECONNREFUSED
    }

    /// Messages of a peer that is none any more are lost.
    pub(super) fn forget_messages_of(&self, old: &Core) {
        if self.core.waiting() == 0 {
            return;
        }
        drop(self.core.clear());
        self.core.wake_for_room();
        if !matches!(*old.inbox(), Inbox::Closed) && old.peer_number.load(SeqCst) == self.number() {
            old.reset();
            old.readable.wake_all();
            old.writable.wake_all();
            old.pollers.wake_everybody();
        }
    }

    /// Where a sender waits whose attempt would block: for its own memory, or with a message that is `packed` for room at the
    /// other side.
    pub fn send_queue<'a>(&'a self, to: Option<&'a Arc<Core>>, packed: bool) -> &'a WaitQueue {
        match to {
            Some(to) if packed => &to.room,
            _ => &self.core.writable,
        }
    }
}
