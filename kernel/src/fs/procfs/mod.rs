//! `/proc`: the kernel's state as files.
//!
//! Nothing is stored. A [`Node`] is a name for something that is looked up when it is used: [`Node::kind`] says what it
//! shows, and a process that has ended meanwhile answers `ENOENT` or `ESRCH`. The text of a file is made when it is read
//! at position 0 and kept in the open file until it is read there again.
//!
//! [`global`] and [`bus`] make the files about the machine, [`process`] those about one process, [`allocations`] one about a thread,
//! [`memory`] a process's memory itself, [`trace`] what all CPUs did, [`sysvipc`] those about System V IPC; [`mounts`] those about
//! file systems, [`listing`] the directories.

mod allocations;
mod bus;
mod global;
mod listing;
mod memory;
mod mounts;
mod process;
mod sysvipc;
mod trace;

use alloc::{boxed::Box, string::String, sync::Arc, vec::Vec};
use core::sync::atomic::Ordering;

use super::{
    attributes::{Attributes, DeviceNumber, FileKind, SetAttributes, Shrunk},
    file::{Attempt, File, Positioning, Transfer, Whence},
    inode::{FileSystemStatus, Inode, LinkText, OpenRequest, Target},
    io::Sink,
    mount::anonymous_device,
};
use crate::{
    errno::{Errno, Result},
    sync::{Rank, SpinLock},
    task::{self, Pid, Process},
};

/// `PROC_SUPER_MAGIC` (`linux/magic.h`).
const MAGIC: u32 = 0x9fa0;

/// The number of `/proc` itself.
const ROOT_NUMBER: u64 = 1;

/// Makes a global file's text.
type GlobalText = fn(&mut String) -> core::fmt::Result;
/// Makes the bytes of a file about a process.
type ProcessText = fn(&Arc<Process>) -> Result<Vec<u8>>;

/// What a node is.
#[derive(Clone, Copy)]
enum Kind {
    /// `/proc` itself.
    Root,
    /// A directory with fixed contents.
    Directory(&'static [(&'static str, Kind)]),
    /// A text about the machine.
    Global(GlobalText),
    /// A file to write one line to, with the text it shows.
    Setting(GlobalText, fn(&[u8]) -> Result<()>),
    /// The trace of all CPUs.
    Trace,
    /// A file to write one line to and not to be read.
    Command(fn(&[u8]) -> Result<()>),
    /// A fixed link.
    Link(&'static str),
    /// `self`.
    OwnProcess,
    /// `thread-self`.
    OwnThread,
    /// `/proc/<pid>`, or `/proc/<pid>/task/<tid>`.
    Process(Pid),
    /// A text about a process.
    About(Pid, ProcessText),
    /// `status`, of a process or one of its threads.
    Status(Pid),
    /// `/proc/<pid>/fd`.
    Descriptors(Pid),
    /// A descriptor.
    Descriptor(Pid, i32),
    /// `/proc/<pid>/task`.
    Threads(Pid),
    /// What was allocated for a thread.
    Allocations(Pid),
    /// `mem`.
    Memory(Pid),
    /// `exe`, `cwd`, `root`.
    Place(Pid, process::Place),
}

/// A file of `/proc`.
pub struct Node {
    kind: Kind,
    number: u64,
    device: DeviceNumber,
    /// Where it is, from the root on; empty for that.
    path: Box<[u8]>,
}

/// A new `/proc`.
pub fn new() -> Arc<dyn Inode> {
    Arc::new(Node {
        kind: Kind::Root,
        number: ROOT_NUMBER,
        device: anonymous_device(),
        path: Box::default(),
    })
}

/// The process of an open `/proc/<pid>`.
///
/// # Errors
/// `EBADF` if the file is something else, `ESRCH` if the process is gone.
pub fn process_of(file: &super::OpenFile) -> Result<Arc<Process>> {
    let directory = file.file().as_any().and_then(|file| file.downcast_ref());
    match directory.map(|directory: &listing::Directory| directory.node().kind) {
        Some(Kind::Process(pid)) => task::process(pid).ok_or(Errno::ESRCH),
        _ => Err(Errno::EBADF),
    }
}

impl Node {
    /// A node below this one. Numbers only have to tell siblings and cousins apart.
    fn child(&self, name: &[u8], kind: Kind) -> Arc<dyn Inode> {
        // FNV-1a over the parent's number and the name.
        let mut number = 0xcbf2_9ce4_8422_2325 ^ self.number;
        for byte in name {
            number = (number ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
        Arc::new(Self {
            kind,
            number: number >> 16 | 1 << 48,
            device: self.device,
            path: if self.path.is_empty() {
                name.into()
            } else {
                [&self.path, name].join(&b'/').into()
            },
        })
    }

    /// The root that this is below.
    fn root(&self) -> Arc<dyn Inode> {
        Arc::new(Self {
            kind: Kind::Root,
            number: ROOT_NUMBER,
            device: self.device,
            path: Box::default(),
        })
    }

    fn owner(&self) -> Option<Arc<Process>> {
        match self.kind {
            Kind::Process(pid)
            | Kind::About(pid, _)
            | Kind::Status(pid)
            | Kind::Descriptors(pid)
            | Kind::Descriptor(pid, _)
            | Kind::Threads(pid)
            | Kind::Allocations(pid)
            | Kind::Memory(pid)
            | Kind::Place(pid, _) => process::find(pid).ok(),
            _ => None,
        }
    }
}

impl Inode for Node {
    fn attributes(&self) -> Attributes {
        let permissions = match self.kind {
            Kind::Root | Kind::Directory(_) | Kind::Process(_) | Kind::Threads(_) => 0o555,
            Kind::Descriptors(_) => 0o500,
            Kind::Setting(..) => 0o644,
            Kind::Command(_) => 0o200,
            Kind::Trace | Kind::Memory(_) => 0o600,
            Kind::Global(_) | Kind::About(..) | Kind::Status(_) | Kind::Allocations(_) => 0o444,
            Kind::Link(_) | Kind::OwnProcess | Kind::OwnThread | Kind::Descriptor(..) | Kind::Place(..) => 0o777,
        };
        let mut attributes = Attributes::synthetic(self.device, self.number, self.kind(), permissions);
        if self.kind() == FileKind::Directory {
            attributes.links = 2;
        }
        if let Some(process) = self.owner() {
            // Root's where others may not look into the process.
            if matches!(self.kind, Kind::Process(_) | Kind::Threads(_)) || process.dumpable.load(Ordering::Relaxed) == 1
            {
                let credentials = process.credentials();
                (attributes.uid, attributes.gid) = (credentials.euid, credentials.egid);
            }
        }
        attributes
    }

    fn kind(&self) -> FileKind {
        match self.kind {
            Kind::Root | Kind::Directory(_) | Kind::Process(_) | Kind::Descriptors(_) | Kind::Threads(_) => {
                FileKind::Directory
            }
            Kind::Global(_)
            | Kind::Setting(..)
            | Kind::Trace
            | Kind::Command(_)
            | Kind::About(..)
            | Kind::Status(_)
            | Kind::Allocations(_)
            | Kind::Memory(_) => FileKind::Regular,
            Kind::Link(_) | Kind::OwnProcess | Kind::OwnThread | Kind::Descriptor(..) | Kind::Place(..) => {
                FileKind::Symlink
            }
        }
    }

    /// A file that can be written may be cut to any length, which changes nothing, as on Linux: a shell's `>` does that.
    fn set_attributes(&self, change: &SetAttributes) -> Result<Shrunk> {
        let SetAttributes {
            permissions: None,
            strips_capabilities: _,
            uid: None,
            gid: None,
            size: Some(_),
            accessed: _,
            modified: _,
        } = change
        else {
            return Err(Errno::EPERM);
        };
        match self.kind {
            Kind::Setting(..) | Kind::Trace | Kind::Command(_) | Kind::Memory(_) => Ok(Shrunk::No),
            _ => Err(Errno::EPERM),
        }
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let kind = listing::find(&self.kind, name)?;
        Ok(self.child(name, kind))
    }

    /// The directory is looked up anew, so that one about a process that has ended is none.
    fn place(&self) -> Option<(Arc<dyn Inode>, Vec<u8>)> {
        let mut names = self.path.split(|byte| *byte == b'/');
        let name = names.next_back().filter(|name| !name.is_empty())?;
        let directory = names.try_fold(self.root(), |directory, name| directory.lookup(name));
        Some((directory.ok()?, name.to_vec()))
    }

    fn read_link(&self, text: &mut LinkText) -> Result<()> {
        let own = || task::current::tid().and_then(task::thread).ok_or(Errno::ENOENT);
        let target = match self.kind {
            Kind::Link(target) => target.into(),
            Kind::OwnProcess => alloc::format!("{}", own()?.process().pid()).into_bytes(),
            Kind::OwnThread => {
                let thread = own()?;
                alloc::format!("{}/task/{}", thread.process().pid(), thread.tid()).into_bytes()
            }
            Kind::Descriptor(pid, fd) => process::describe_descriptor(pid, fd)?,
            Kind::Place(pid, place) => process::describe_place(pid, place)?,
            _ => return Err(Errno::EINVAL),
        };
        text.extend_from_slice(&target);
        Ok(())
    }

    fn follow(&self) -> Option<Result<Target>> {
        match self.kind {
            Kind::Descriptor(pid, fd) => process::follow_descriptor(pid, fd),
            Kind::Place(pid, place) => process::follow_place(pid, place),
            _ => None,
        }
    }

    fn open(self: Arc<Self>, _: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
        Ok(match (self.kind, self.kind()) {
            (_, FileKind::Directory) => Arc::new(listing::Directory::new(self)),
            (Kind::Trace, _) => Arc::new(trace::Trace::new()),
            (Kind::Memory(pid), _) => memory::Memory::open(pid)?,
            (Kind::Allocations(tid), _) => Arc::new(allocations::Allocations::new(tid)),
            _ => Arc::new(Text {
                node: self,
                made: SpinLock::new(Rank::Inode, Vec::new()),
            }),
        })
    }

    fn status(&self) -> FileSystemStatus {
        FileSystemStatus {
            magic: MAGIC,
            device: self.device,
            ..FileSystemStatus::default()
        }
    }
}

/// An open text.
struct Text {
    node: Arc<Node>,
    made: SpinLock<Vec<u8>>,
}

impl Text {
    fn make(&self) -> Result<Vec<u8>> {
        match self.node.kind {
            Kind::Global(make) | Kind::Setting(make, _) => {
                let mut text = String::new();
                make(&mut text).map_err(|_| Errno::EIO)?;
                Ok(text.into_bytes())
            }
            Kind::About(pid, make) => make(&process::find(pid).map_err(|_| Errno::ESRCH)?),
            Kind::Status(pid) => process::status(pid),
            Kind::Command(_) => Err(Errno::EIO),
            _ => Err(Errno::EINVAL),
        }
    }
}

impl File for Text {
    fn prepare(&self, position: &dyn Fn() -> u64) -> Result<()> {
        if position() == 0 {
            let text = self.make()?;
            *self.made.lock() = text;
        }
        Ok(())
    }

    fn read(&self, transfer: &mut Transfer<'_>, sink: &mut Sink<'_>) -> Attempt<()> {
        read(&self.made.lock(), transfer, sink)
    }

    fn write(&self, transfer: &mut Transfer<'_>, source: &mut super::io::Source<'_>) -> Attempt<()> {
        let (Kind::Setting(_, set) | Kind::Command(set)) = self.node.kind else {
            return Err(Errno::EINVAL.into());
        };
        set_by_line(transfer, source, set)
    }

    fn positioning(&self) -> Positioning {
        Positioning::Offsets
    }

    fn seek(&self, position: u64, offset: i64, whence: Whence) -> Result<u64> {
        seek(position, offset, whence)
    }
}

/// Hands a line that is written, its first 256 bytes at most, to `set`; where that refuses nothing has been written.
fn set_by_line(
    transfer: &mut Transfer<'_>,
    source: &mut super::io::Source<'_>,
    set: impl FnOnce(&[u8]) -> Result<()>,
) -> Attempt<()> {
    let mut line = [0; 256];
    let length = source.remaining().min(line.len());
    let start = source.done();
    source.take(&mut line[..length])?;
    if let Err(errno) = set(line[..length].trim_ascii_end()) {
        // Else the call would return what it took.
        source.rewind(start);
        return Err(errno.into());
    }
    *transfer.position += length as u64;
    Ok(())
}

/// Reading `text` from where the transfer stands.
fn read(text: &[u8], transfer: &mut Transfer<'_>, sink: &mut Sink<'_>) -> Attempt<()> {
    let rest = usize::try_from(*transfer.position)
        .ok()
        .and_then(|position| text.get(position..))
        .unwrap_or(&[]);
    let before = sink.done();
    let result = sink.put(rest);
    *transfer.position += (sink.done() - before) as u64;
    result?;
    Ok(())
}

/// Seeking in something without an end that is known.
fn seek(position: u64, offset: i64, whence: Whence) -> Result<u64> {
    let base = match whence {
        Whence::Set => 0,
        Whence::Current => position,
        Whence::End | Whence::Data | Whence::Hole => return Err(Errno::EINVAL),
    };
    base.checked_add_signed(offset).ok_or(Errno::EINVAL)
}
