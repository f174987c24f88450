//! Open files on their way in messages (`SCM_RIGHTS`).
//!
//! A file in a message may be a socket in which another message waits with files, and so on: letting go of one may let go of
//! a long chain. So they are let go one after the other and not one within the other, and beyond a few by the task of
//! [`collect`](super::collect).

use alloc::{
    boxed::Box,
    collections::BTreeMap,
    sync::{Arc, Weak},
    vec::Vec,
};
use core::{
    mem,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

use super::{collect, core::Inbox};
use crate::{
    errno::{Errno, Result},
    fs::OpenFile,
    mm::fallible::TryRoomExact,
    sync::{Rank, SpinLock},
};

/// The most files of one message (`SCM_MAX_FD` of `net/scm.h`).
pub const MOST: usize = 253;

/// Files that are let go at once.
const AT_ONCE: usize = 64;

/// What is on its way.
struct InFlight {
    /// Files, by the user who sent them.
    by_user: BTreeMap<u32, usize>,
    /// The sockets among them, by number.
    sockets: BTreeMap<u64, Weak<OpenFile>>,
    /// Files to be let go.
    left: Option<Box<Rights>>,
}

static IN_FLIGHT: SpinLock<InFlight> = SpinLock::new(
    Rank::InFlight,
    InFlight {
        by_user: BTreeMap::new(),
        sockets: BTreeMap::new(),
        left: None,
    },
);

/// Messages with files of which one is a socket.
static WITH_SOCKETS: AtomicUsize = AtomicUsize::new(0);

/// Whether sockets are on their way, so that they may hold each other.
pub fn has_sockets() -> bool {
    WITH_SOCKETS.load(SeqCst) > 0
}

/// See the module.
pub struct Rights {
    files: Vec<Arc<OpenFile>>,
    /// Who has sent them.
    uid: u32,
    /// Whether a socket is among them.
    with_sockets: bool,
    /// The next that are to be let go.
    next: Option<Box<Self>>,
}

impl Rights {
    /// Sends files on their way, at most [`MOST`]. `limit` is how many of the user's may be already.
    ///
    /// # Errors
    /// `ETOOMANYREFS`, `ENOMEM`.
    pub fn new(files: Vec<Arc<OpenFile>>, uid: u32, limit: Option<u64>) -> Result<Box<Self>> {
        let with_sockets = files.iter().any(|file| file.socket().is_some());
        let mut in_flight = IN_FLIGHT.lock();
        let count = in_flight.by_user.get(&uid).copied().unwrap_or(0);
        if limit.is_some_and(|limit| count as u64 > limit) {
            drop(in_flight);
            return Err(Errno::ETOOMANYREFS);
        }
        in_flight.by_user.insert(uid, count + files.len());
        if with_sockets {
            WITH_SOCKETS.fetch_add(1, SeqCst);
            for file in &files {
                if let Some(socket) = file.socket()
                    && socket.in_flight.fetch_add(1, SeqCst) == 0
                {
                    in_flight.sockets.insert(socket.number(), Arc::downgrade(file));
                }
            }
        }
        drop(in_flight);
        Ok(Box::new(Self {
            files,
            uid,
            with_sockets,
            next: None,
        }))
    }

    /// The files.
    pub fn files(&self) -> &[Arc<OpenFile>] {
        &self.files
    }

    /// Whether a socket is among them.
    pub(super) const fn with_sockets(&self) -> bool {
        self.with_sockets
    }

    /// The same files once more.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn duplicate(&self) -> Result<Box<Self>> {
        let mut files = Vec::new();
        files.try_room_exact(self.files.len())?;
        files.extend_from_slice(&self.files);
        Self::new(files, self.uid, None)
    }

    /// They are not on their way any more: the files.
    fn arrive(&mut self) -> Vec<Arc<OpenFile>> {
        let files = mem::take(&mut self.files);
        if files.is_empty() {
            return files;
        }
        let mut in_flight = IN_FLIGHT.lock();
        if let Some(count) = in_flight.by_user.get_mut(&self.uid) {
            *count -= files.len();
            if *count == 0 {
                in_flight.by_user.remove(&self.uid);
            }
        }
        if self.with_sockets {
            for socket in files.iter().filter_map(|file| file.socket()) {
                if socket.in_flight.fetch_sub(1, SeqCst) == 1 {
                    in_flight.sockets.remove(&socket.number());
                }
            }
            WITH_SOCKETS.fetch_sub(1, SeqCst);
        }
        files
    }

    /// Takes the files out, for their receiver.
    pub fn into_files(mut self) -> Vec<Arc<OpenFile>> {
        self.arrive()
    }
}

impl Drop for Rights {
    fn drop(&mut self) {
        let mut pending = Pending::default();
        pending.files(self.arrive());
        pending.finish();
        // A list is taken apart by who walks it, and never dropped as one.
        debug_assert!(self.next.is_none());
    }
}

/// Messages' files that are to be let go.
#[derive(Default)]
pub(super) struct Pending {
    first: Option<Box<Rights>>,
    let_go: usize,
}

impl Pending {
    fn push(&mut self, mut rights: Box<Rights>) {
        rights.next = self.first.take();
        self.first = Some(rights);
    }

    fn pop(&mut self) -> Option<Box<Rights>> {
        let mut rights = self.first.take()?;
        self.first = rights.next.take();
        Some(rights)
    }

    /// Lets go of what was in an inbox.
    pub(super) fn inbox(&mut self, inbox: Inbox) {
        match inbox {
            Inbox::Stream(stream) => stream.into_rights().for_each(|rights| self.push(rights)),
            Inbox::Packets(packets) => {
                for mut packet in packets {
                    if let Some(rights) = packet.rights.take() {
                        self.push(rights);
                    }
                }
            }
            Inbox::Connections(backlog) => {
                for socket in backlog.waiting {
                    socket.release(self, super::Accepted::No);
                }
            }
            Inbox::Closed => {}
        }
    }

    /// Lets go of files: of what is in a socket that nobody else has, later.
    fn files(&mut self, files: Vec<Arc<OpenFile>>) {
        self.let_go += files.len();
        for file in files {
            if let Some(file) = Arc::into_inner(file) {
                if let Some(socket) = file.socket()
                    && Arc::strong_count(file.file()) == 1
                {
                    socket.release(self, super::Accepted::Yes);
                }
                drop(file);
            }
        }
    }

    /// Lets go of one message's files; whether there was one.
    pub(super) fn step(&mut self) -> bool {
        let Some(mut rights) = self.pop() else { return false };
        let files = rights.arrive();
        self.files(files);
        true
    }

    /// Lets go of a few, and leaves the rest to the task.
    pub(super) fn finish(mut self) {
        while self.let_go < AT_ONCE {
            if !self.step() {
                return;
            }
        }
    }

    /// What was left to the task.
    pub(super) fn left() -> Self {
        Self {
            first: IN_FLIGHT.lock().left.take(),
            let_go: 0,
        }
    }
}

impl Drop for Pending {
    /// What has not been let go is the task's.
    fn drop(&mut self) {
        if self.first.is_none() {
            return;
        }
        while let Some(mut rights) = self.pop() {
            let mut in_flight = IN_FLIGHT.lock();
            rights.next = in_flight.left.take();
            in_flight.left = Some(rights);
        }
        collect::wake();
    }
}

/// Up to `most` sockets that are on their way, in the order of their numbers from `from` on.
pub(super) fn sockets(from: u64, most: usize, into: &mut Vec<(u64, Weak<OpenFile>)>) {
    let in_flight = IN_FLIGHT.lock();
    let found = in_flight.sockets.range(from..).take(most);
    into.extend(found.map(|(number, file)| (*number, file.clone())));
}
