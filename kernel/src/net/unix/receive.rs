//! Receiving.

use super::{
    Kind, Socket,
    core::{Inbox, Phase, Shut},
    message::{Taken, duplicate},
    options::Passes,
    stream::{End, Receive},
};
use crate::{
    errno::Errno,
    fs::{Attempt, Sink, Stop},
};

/// How a call receives.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flags {
    /// What is received stays (`MSG_PEEK`).
    pub peek: bool,
    /// Bytes are waited for until there is no room (`MSG_WAITALL`).
    pub all: bool,
    /// Whether files can be given out, so that a look gives out copies.
    pub takes_files: bool,
}

impl Socket {
    /// Bytes that a call waits for.
    fn target(&self, flags: Flags, total: usize) -> usize {
        let least = if flags.all {
            total
        } else {
            self.options.receive_least().min(total)
        };
        least.max(1)
    }

    /// Receives bytes. Gives whether there may be more, once the sink's window has been moved on.
    ///
    /// # Errors
    /// `EINVAL` if it is not connected; `ECONNRESET`; a page that is missing; [`Stop::WouldBlock`].
    pub fn receive_bytes(&self, sink: &mut Sink<'_>, flags: Flags, taken: &mut Taken) -> Attempt<bool> {
        let core = &*self.core;
        if core.phase() != Phase::Connected {
            return Err(Errno::EINVAL.into());
        }
        let target = self.target(flags, sink.total());
        let tells = core.passes(Passes::WHO);
        let offset = self.options.peek_offset();
        let how = if flags.peek {
            Receive::Peek(offset.unwrap_or(0) + if offset.is_some() { 0 } else { sink.done() })
        } else {
            Receive::Take
        };
        let before = sink.done();
        let mut inbox = core.inbox();
        let Inbox::Stream(stream) = &mut *inbox else {
            return Ok(false);
        };
        let charge = stream.charge();
        let end = if sink.total() == 0 && stream.len() > 0 {
            Ok(End::Full)
        } else {
            stream.receive(sink, how, tells, flags.takes_files, taken)
        };
        let moved = sink.done() - before;
        if taken.has_rights {
            core.files_changed();
        }
        // Under the lock: whatever came before that has been seen.
        let shut = core.shut();
        if flags.peek {
            drop(inbox);
            self.options.peeked(moved);
        } else {
            let left = stream.charge();
            let partner = self.partner.get().filter(|_| left != charge);
            if let Some(partner) = partner {
                partner.sent.store(left, ::core::sync::atomic::Ordering::SeqCst);
            }
            core.put_back(inbox);
            if let Some(partner) = partner {
                partner.wake_senders(charge);
            }
            if offset.is_some() {
                self.options.taken(moved);
            }
        }
        match end? {
            End::Full => Ok(!sink.is_complete()),
            End::Boundary => Ok(false),
            End::Empty if sink.done() >= target || flags.peek && sink.done() > 0 => Ok(false),
            End::Empty => {
                // What has been received is returned first.
                if sink.done() == 0 {
                    core.take_error()?;
                } else if core.has_error() {
                    return Ok(false);
                }
                if shut.contains(Shut::RECEIVE) {
                    return Ok(false);
                }
                Err(Stop::WouldBlock)
            }
        }
    }

    /// Receives a message. There is no more of it then: gives `false`.
    ///
    /// # Errors
    /// `ENOTCONN` of a packet socket without a peer; `ECONNRESET`, `ENOMEM`; a page that is missing; [`Stop::WouldBlock`].
    pub fn receive_message(&self, sink: &mut Sink<'_>, flags: Flags, taken: &mut Taken) -> Attempt<bool> {
        let core = &*self.core;
        if self.kind() == Kind::SeqPacket && core.phase() != Phase::Connected {
            return Err(Errno::ENOTCONN.into());
        }
        core.take_error()?;
        let offset = self.options.peek_offset();
        let mut skip = if flags.peek { offset.unwrap_or(0) } else { 0 };
        let mut inbox = core.inbox();
        let Inbox::Packets(packets) = &mut *inbox else {
            return Ok(false);
        };
        let by_offset = flags.peek && offset.is_some();
        let found = packets.iter_mut().find(|packet| {
            let passed = by_offset && skip >= packet.len() && (skip > 0 || packet.peeked);
            if passed {
                skip -= packet.len();
            }
            !passed
        });
        let Some(packet) = found else {
            let shut = core.shut();
            drop(inbox);
            taken.ended = self.kind() == Kind::Datagram && shut.contains(Shut::RECEIVE);
            return if shut.contains(Shut::RECEIVE) {
                Ok(false)
            } else {
                Err(Stop::WouldBlock)
            };
        };
        let copies = duplicate(packet.rights.as_deref(), flags.peek && flags.takes_files)?;
        packet.copy_out(sink, skip)?;
        packet.tell(taken);
        taken.whole = Some(packet.len() - skip);
        if taken.has_rights {
            core.files_changed();
        }
        let (moved, length) = (sink.done(), packet.len());
        if flags.peek {
            packet.peeked = true;
            taken.rights = copies;
            drop(inbox);
            self.options.peeked(moved);
            // It stays for the next.
            core.readable.wake_one();
            return Ok(false);
        }
        taken.rights = packet.rights.take();
        let packet = packets.pop_front();
        let more = !packets.is_empty();
        core.put_back(inbox);
        drop(packet);
        if offset.is_some() {
            self.options.taken(length);
        }
        if more && core.readable.has_waiters() {
            core.readable.wake_one();
        }
        core.wake_for_room();
        Ok(false)
    }

    /// Receives what is of its kind. Gives whether there may be more for this call.
    ///
    /// # Errors
    /// As [`Socket::receive_bytes`] and [`Socket::receive_message`].
    pub fn receive(&self, sink: &mut Sink<'_>, flags: Flags, taken: &mut Taken) -> Attempt<bool> {
        match self.kind() {
            Kind::Stream => self.receive_bytes(sink, flags, taken),
            Kind::Datagram | Kind::SeqPacket => self.receive_message(sink, flags, taken),
        }
    }
}
