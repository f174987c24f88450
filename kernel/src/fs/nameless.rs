//! Files that never had a name: pipes, sockets, event counters and the like, memory files.
//!
//! Each has an inode all the same, on one mount that stands in no directory. So whatever is asked of an open file (its attributes,
//! its file system, to be opened once more by `/proc/<pid>/fd`) is asked of a [`Location`], with or without a name. No path leads
//! onto that mount, and [`path_of`](super::path::path_of) tells what `/proc` calls such a file.

use alloc::{
    format,
    string::String,
    sync::{Arc, Weak},
};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use spin::Once;

use super::{
    attributes::{Attributes, DeviceNumber, FileKind, SetAttributes, Shrunk, Timestamp},
    file::File,
    inode::{FileSystemStatus, Inode, OpenRequest},
    mount::{Location, Mount},
    pipe::{End, Pipe, PipeEnd},
};
use crate::{
    errno::{Errno, Result},
    sync::{Rank, SpinLock},
    task::Credentials,
};

/// What Linux keeps in a file system of its own, never mounted in a directory: magic numbers are those of `linux/magic.h`.
struct FileSystem {
    device: DeviceNumber,
    magic: u32,
}

const ANONYMOUS: FileSystem = FileSystem {
    device: DeviceNumber::new(0, 2),
    magic: 0x0904_1934,
};
const PIPES: FileSystem = FileSystem {
    device: DeviceNumber::new(0, 3),
    magic: 0x5049_5045,
};
const SOCKETS: FileSystem = FileSystem {
    device: DeviceNumber::new(0, 8),
    magic: 0x534f_434b,
};

impl FileSystem {
    fn status(&self) -> FileSystemStatus {
        FileSystemStatus {
            magic: self.magic,
            device: self.device,
            ..FileSystemStatus::default()
        }
    }
}

/// The place of a file that has no name.
pub fn place(inode: Arc<dyn Inode>) -> Location {
    static MOUNT: Once<Arc<Mount>> = Once::new();
    let mount = MOUNT.call_once(|| Mount::hidden(Arc::new(Root)));
    Location {
        mount: mount.clone(),
        inode,
    }
}

/// The root of the hidden mount, which has one for form's sake.
struct Root;

impl Inode for Root {
    fn attributes(&self) -> Attributes {
        Attributes::synthetic(ANONYMOUS.device, 0, FileKind::Directory, 0)
    }

    fn kind(&self) -> FileKind {
        FileKind::Directory
    }
}

/// Files that are a call's object and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the calls'")]
pub enum Anonymous {
    EventFd,
    EventPoll,
    PidFd,
    SeccompListener,
    SignalFd,
    TimerFd,
}

impl Anonymous {
    const ALL: [Self; 6] = [
        Self::EventFd,
        Self::EventPoll,
        Self::PidFd,
        Self::SeccompListener,
        Self::SignalFd,
        Self::TimerFd,
    ];

    /// The place of all of its kind. To `stat` and to locks all kinds are one file, as on Linux.
    pub fn place(self) -> Location {
        static INODES: Once<[Arc<dyn Inode>; Anonymous::ALL.len()]> = Once::new();
        let inodes = INODES.call_once(|| Self::ALL.map(|kind| -> Arc<dyn Inode> { Arc::new(kind) }));
        place(inodes[self as usize].clone())
    }
}

impl Inode for Anonymous {
    fn attributes(&self) -> Attributes {
        Attributes::synthetic(ANONYMOUS.device, 1, self.kind(), 0o600)
    }

    fn kind(&self) -> FileKind {
        FileKind::Untyped
    }

    fn identity(&self) -> (DeviceNumber, u64) {
        (ANONYMOUS.device, 1)
    }

    fn own_name(&self) -> Option<String> {
        Some(String::from(match self {
            Self::EventFd => "anon_inode:[eventfd]",
            Self::EventPoll => "anon_inode:[eventpoll]",
            Self::PidFd => "anon_inode:[pidfd]",
            Self::SeccompListener => "anon_inode:seccomp notify",
            Self::SignalFd => "anon_inode:[signalfd]",
            Self::TimerFd => "anon_inode:[timerfd]",
        }))
    }

    fn status(&self) -> FileSystemStatus {
        ANONYMOUS.status()
    }
}

/// What can be changed of a pipe or socket.
struct State {
    permissions: u16,
    uid: u32,
    gid: u32,
    accessed: Timestamp,
    modified: Timestamp,
    changed: Timestamp,
    /// The pipe that is open, of a pipe: one that was closed on both sides and is opened once more is a new one.
    pipe: Weak<Pipe>,
}

/// The inode of a pipe or of a socket.
struct Nameless {
    number: u64,
    kind: FileKind,
    created: Timestamp,
    state: SpinLock<State>,
}

impl Nameless {
    fn new(kind: FileKind, number: u64, permissions: u16, owner: &Credentials, pipe: Weak<Pipe>) -> Self {
        let now = Timestamp::now();
        Self {
            number,
            kind,
            created: now,
            state: SpinLock::new(
                Rank::Inode,
                State {
                    permissions,
                    uid: owner.fsuid,
                    gid: owner.fsgid,
                    accessed: now,
                    modified: now,
                    changed: now,
                    pipe,
                },
            ),
        }
    }

    const fn file_system(&self) -> &'static FileSystem {
        match self.kind {
            FileKind::Fifo => &PIPES,
            _ => &SOCKETS,
        }
    }
}

impl Inode for Nameless {
    fn attributes(&self) -> Attributes {
        let state = self.state.lock();
        Attributes {
            device: self.file_system().device,
            inode: self.number,
            kind: self.kind,
            permissions: state.permissions,
            links: 1,
            uid: state.uid,
            gid: state.gid,
            rdev: DeviceNumber::default(),
            size: 0,
            block_size: 4096,
            blocks: 0,
            accessed: state.accessed,
            modified: state.modified,
            changed: state.changed,
            created: self.created,
        }
    }

    fn kind(&self) -> FileKind {
        self.kind
    }

    fn identity(&self) -> (DeviceNumber, u64) {
        (self.file_system().device, self.number)
    }

    fn set_attributes(&self, change: &SetAttributes) -> Result<Shrunk> {
        if change.size.is_some() {
            return Err(Errno::EINVAL);
        }
        let mut state = self.state.lock();
        state.permissions = change.permissions.unwrap_or(state.permissions);
        state.uid = change.uid.unwrap_or(state.uid);
        state.gid = change.gid.unwrap_or(state.gid);
        state.accessed = change.accessed.unwrap_or(state.accessed);
        state.modified = change.modified.unwrap_or(state.modified);
        state.changed = Timestamp::now();
        Ok(Shrunk::No)
    }

    fn own_name(&self) -> Option<String> {
        let kind = match self.kind {
            FileKind::Fifo => "pipe",
            _ => "socket",
        };
        Some(format!("{kind}:[{}]", self.number))
    }

    /// A pipe's end anew, without a wait for the other side as a fifo's would be. A socket is opened by calls alone.
    fn open(self: Arc<Self>, request: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
        if self.kind != FileKind::Fifo {
            return Err(Errno::ENXIO);
        }
        let pipe = self.fifo()?;
        Ok(pipe.open(End::from_flags(request.flags)).0)
    }

    fn fifo(&self) -> Result<Arc<Pipe>> {
        if self.kind != FileKind::Fifo {
            return Err(Errno::ENXIO);
        }
        Ok(Pipe::shared(&mut self.state.lock().pipe))
    }

    fn status(&self) -> FileSystemStatus {
        self.file_system().status()
    }
}

/// A new pipe of `owner`: where it is, its end to read and its end to write.
pub fn pipe(owner: &Credentials) -> (Location, Arc<PipeEnd>, Arc<PipeEnd>) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let (read, write) = Pipe::ends();
    let number = NEXT.fetch_add(1, Relaxed);
    let inode = Nameless::new(FileKind::Fifo, number, 0o600, owner, Arc::downgrade(read.pipe()));
    (place(Arc::new(inode)), read, write)
}

/// The place of the socket of that number, of `owner`.
pub fn socket(number: u64, owner: &Credentials) -> Location {
    place(Arc::new(Nameless::new(
        FileKind::Socket,
        number,
        0o777,
        owner,
        Weak::new(),
    )))
}

/// A device that is open before there is a `/dev`.
struct Device {
    path: String,
    number: DeviceNumber,
}

impl Inode for Device {
    fn attributes(&self) -> Attributes {
        Attributes {
            rdev: self.number,
            ..Attributes::synthetic(ANONYMOUS.device, 2, self.kind(), 0o600)
        }
    }

    fn kind(&self) -> FileKind {
        FileKind::CharDevice
    }

    fn own_name(&self) -> Option<String> {
        Some(self.path.clone())
    }

    fn status(&self) -> FileSystemStatus {
        ANONYMOUS.status()
    }
}

/// The place of a character device that the kernel itself opens for the first program, before there is a `/dev`. `/proc` calls
/// it `path`.
pub fn device(path: String, number: DeviceNumber) -> Location {
    place(Arc::new(Device { path, number }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::path::path_of;

    fn reopened(at: &Location, flags: u32) -> Arc<dyn File> {
        let request = OpenRequest { flags, caller: None };
        at.inode.clone().open(&request).expect("a pipe opens")
    }

    #[test]
    fn a_pipe_is_opened_anew_while_an_end_is_open_and_made_anew_afterwards() {
        let (at, read, write) = pipe(&Credentials::root());
        let both = reopened(&at, linux_raw_sys::general::O_RDWR);
        let again = both.as_pipe().expect("a pipe");
        assert_eq!(again.end(), End::Both);
        assert!(Arc::ptr_eq(again.pipe(), read.pipe()));
        let old = Arc::downgrade(again.pipe());
        drop((read, write));
        assert_eq!(old.strong_count(), 1, "the end that was opened anew");
        drop(both);
        assert_eq!(old.strong_count(), 0, "a place keeps no pipe");
        assert!(reopened(&at, 0).as_pipe().is_some());
    }

    #[test]
    fn nothing_without_a_name_has_a_path() {
        let root = place(Arc::new(Root));
        let (pipe, ..) = pipe(&Credentials::root());
        let shown = |at: &Location| String::from_utf8(path_of(at, &root).display()).unwrap();
        assert!(shown(&pipe).starts_with("pipe:["), "{}", shown(&pipe));
        assert_eq!(shown(&socket(7, &Credentials::root())), "socket:[7]");
        for kind in Anonymous::ALL {
            assert!(shown(&kind.place()).starts_with("anon_inode:"));
            assert_eq!(kind.place().inode.own_name(), kind.own_name());
        }
    }

    #[test]
    fn sockets_and_objects_of_calls_do_not_open() {
        let request = OpenRequest { flags: 0, caller: None };
        for at in [socket(1, &Credentials::root()), Anonymous::EventFd.place()] {
            assert!(matches!(at.inode.open(&request), Err(Errno::ENXIO)));
        }
    }
}
