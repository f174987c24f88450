//! Whole messages, and what is told of a message besides its bytes.

use alloc::{
    boxed::Box,
    sync::{Arc, Weak},
    vec::Vec,
};
use core::sync::atomic::Ordering::SeqCst;

use smallvec::SmallVec;

use super::{core::Core, name::Name, rights::Rights};
use crate::{
    errno::Result,
    fs::{Sink, Source, file::Attempt, io::UserFault},
    mm::fallible::{TryRoom, TryRoomExact},
    task::{Pid, Process, Thread},
};

/// `overflowuid`: who sends without saying who.
pub const NOBODY: u32 = 65534;

/// Who sends (`struct ucred`).
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Process.
    pub pid: Pid,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The process itself, while it is there.
    pub process: Weak<Process>,
}

impl PartialEq for Credentials {
    fn eq(&self, other: &Self) -> bool {
        (self.pid, self.uid, self.gid) == (other.pid, other.uid, other.gid)
    }
}

impl Credentials {
    /// The caller's, by its real user and group.
    pub fn of(t: &Thread) -> Self {
        let own = t.credentials();
        Self {
            pid: t.process().pid(),
            uid: own.uid,
            gid: own.gid,
            process: Arc::downgrade(t.process()),
        }
    }
}

/// What a receiver gets besides bytes.
#[derive(Default)]
pub struct Taken {
    /// Who has sent it, where that is wanted and something has come; `None` in it: nobody has said.
    pub credentials: Option<Option<Credentials>>,
    /// Files.
    pub rights: Option<Box<Rights>>,
    /// Whether files came with it, even if they are not given out.
    pub has_rights: bool,
    /// What the sender is called.
    pub name: Option<Arc<Name>>,
    /// The whole message's length, where it was longer than the buffer.
    pub whole: Option<usize>,
    /// A datagram socket takes nothing any more: who would wait gets nothing, and who would not is to try again.
    pub ended: bool,
}

/// Bytes of a message that stand together.
const PIECE: usize = 4096;
/// Memory that a message counts for besides its bytes.
const CHARGE: usize = 576;

/// A message's bytes.
#[derive(Default)]
pub struct Payload {
    pieces: SmallVec<[Vec<u8>; 1]>,
    len: usize,
}

impl Payload {
    /// Takes the whole of a source, from its beginning.
    ///
    /// # Errors
    /// `ENOMEM`; a page that is missing.
    pub fn take(source: &mut Source<'_>) -> Attempt<Self> {
        source.rewind(0);
        source.open_window();
        let mut payload = Self::default();
        let total = source.total();
        payload.pieces.try_room(total.div_ceil(PIECE))?;
        while payload.len < total {
            let wanted = PIECE.min(total - payload.len);
            let mut piece = Vec::new();
            piece.try_room_exact(wanted)?;
            piece.resize(wanted, 0);
            source.open_window();
            source.take(&mut piece)?;
            payload.len += wanted;
            payload.pieces.push(piece);
        }
        Ok(payload)
    }

    /// Bytes.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Puts what the sink admits of it, from `skip` on.
    fn put(&self, sink: &mut Sink<'_>, mut skip: usize) -> core::result::Result<(), UserFault> {
        for piece in &self.pieces {
            if skip >= piece.len() {
                skip -= piece.len();
                continue;
            }
            sink.open_window();
            sink.put(&piece[core::mem::take(&mut skip)..])?;
        }
        Ok(())
    }
}

/// A message on its way.
pub struct Packet {
    payload: Payload,
    from: Arc<Core>,
    charge: usize,
    pub(super) credentials: Option<Credentials>,
    pub(super) rights: Option<Box<Rights>>,
    /// Whether somebody has looked at it.
    pub(super) peeked: bool,
}

impl Packet {
    /// A message of `from`, which is charged with it.
    pub fn new(
        from: &Arc<Core>,
        payload: Payload,
        credentials: Option<Credentials>,
        rights: Option<Box<Rights>>,
    ) -> Self {
        let charge = (payload.len() + CHARGE).next_multiple_of(256);
        from.sent.fetch_add(charge, SeqCst);
        Self {
            payload,
            from: from.clone(),
            charge,
            credentials,
            rights,
            peeked: false,
        }
    }

    /// Bytes.
    pub(super) const fn len(&self) -> usize {
        self.payload.len()
    }

    /// Copies what follows `skip` out: all of it, or nothing.
    ///
    /// # Errors
    /// A page that is missing.
    pub fn copy_out(&self, sink: &mut Sink<'_>, skip: usize) -> Attempt<()> {
        let start = sink.done();
        self.payload.put(sink, skip).inspect_err(|_| sink.rewind(start))?;
        Ok(())
    }

    /// What its sender is called now.
    pub fn name(&self) -> Option<Arc<Name>> {
        self.from.name()
    }

    /// What is told of it.
    pub(super) fn tell(&self, taken: &mut Taken) {
        taken.credentials = Some(self.credentials.clone());
        taken.has_rights = self.rights.is_some();
        taken.name = self.name();
    }
}

impl Drop for Packet {
    fn drop(&mut self) {
        let before = self.from.sent.fetch_sub(self.charge, SeqCst);
        self.from.wake_senders(before);
    }
}

/// Whether files are to be given out by a look at a message that stays.
pub(super) fn duplicate(rights: Option<&Rights>, wanted: bool) -> Result<Option<Box<Rights>>> {
    rights.filter(|_| wanted).map(Rights::duplicate).transpose()
}
