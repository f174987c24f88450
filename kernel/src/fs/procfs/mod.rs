//! `/proc`, and `/sys` ([`sysfs`]): the kernel's state as files.
//!
//! Nothing is stored. A [`Node`] is a name for something that is looked up when it is used: its [`Kind`] says what it
//! shows, and a process that has ended meanwhile answers `ENOENT` or `ESRCH`. The text of a file is made when it is read
//! at position 0, or from there on in steps, and kept in the open file until it is read there again ([`text`]).
//!
//! [`global`], [`system`] and [`bus`] make the files about the machine, [`process`] those about one process, [`areas`], [`page_map`] and
//! [`memory`] those about its memory, [`descriptor`] those about its files, [`allocations`] one about a thread, [`trace`] what all CPUs
//! did, [`sysvipc`] those about System V IPC; [`namespaces`] those about what it is in; [`mounts`] those about file systems, [`listing`] the directories.

mod allocations;
mod areas;
mod bus;
mod descriptor;
mod global;
mod kind;
mod listing;
mod memory;
mod mounts;
mod namespaces;
mod oom;
mod page_map;
mod process;
pub mod sysfs;
mod system;
mod sysvipc;
mod text;
mod trace;

use alloc::{boxed::Box, sync::Arc, vec::Vec};
use core::sync::atomic::Ordering;

use kind::{GlobalText, Kind, Walk};

use super::{
    attributes::{Attributes, DeviceNumber, FileKind, SetAttributes, Shrunk},
    file::{Attempt, File, Transfer, seek_before_end as seek},
    inode::{FileSystemStatus, Inode, LinkText, OpenRequest, Target},
    mount::anonymous_device,
};
use crate::{
    errno::{Errno, Result},
    task::{self, Process, ptrace::link},
};

/// `PROC_SUPER_MAGIC` (`linux/magic.h`).
const MAGIC: u32 = 0x9fa0;

/// The number of `/proc` itself.
const ROOT_NUMBER: u64 = 1;

/// A file system of such nodes.
pub struct Tree {
    /// Its kind for `statfs`.
    magic: u32,
    /// Its root.
    root: Kind,
}

static PROC: Tree = Tree {
    magic: MAGIC,
    root: Kind::Root,
};

/// A file of such a tree.
pub struct Node {
    tree: &'static Tree,
    kind: Kind,
    number: u64,
    device: DeviceNumber,
    /// Where it is, from the root on; empty for that.
    path: Box<[u8]>,
}

/// A new `/proc`.
pub fn new() -> Arc<dyn Inode> {
    plant(&PROC)
}

/// A file system of the tree.
fn plant(tree: &'static Tree) -> Arc<dyn Inode> {
    Node::root_of(tree, anonymous_device())
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
            tree: self.tree,
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

    fn root_of(tree: &'static Tree, device: DeviceNumber) -> Arc<dyn Inode> {
        Arc::new(Self {
            tree,
            kind: tree.root,
            number: ROOT_NUMBER,
            device,
            path: Box::default(),
        })
    }

    /// The root that this is below.
    fn root(&self) -> Arc<dyn Inode> {
        Self::root_of(self.tree, self.device)
    }

    fn owner(&self) -> Option<Arc<Process>> {
        process::find(self.kind.pid()?).ok()
    }
}

impl Inode for Node {
    fn attributes(&self) -> Attributes {
        let mut attributes = Attributes::synthetic(self.device, self.number, self.kind(), self.kind.permissions());
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
        self.kind.file_kind()
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
        if self.kind.takes_writes() {
            Ok(Shrunk::No)
        } else {
            Err(Errno::EPERM)
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
            Kind::LinkOf(number, target) => target(number).into_bytes(),
            Kind::OwnProcess => alloc::format!("{}", own()?.process().pid()).into_bytes(),
            Kind::OwnThread => {
                let thread = own()?;
                alloc::format!("{}/task/{}", thread.process().pid(), thread.tid()).into_bytes()
            }
            Kind::Descriptor(pid, fd) => process::describe_descriptor(pid, fd)?,
            Kind::Place(pid, place) => process::describe_place(pid, place)?,
            Kind::Namespace(pid, kind, whose) => namespaces::describe(pid, kind, whose)?,
            _ => return Err(Errno::EINVAL),
        };
        text.extend_from_slice(&target);
        Ok(())
    }

    fn follow(&self) -> Option<Result<Target>> {
        match self.kind {
            Kind::Descriptor(pid, fd) => process::follow_descriptor(pid, fd),
            Kind::Place(pid, place) => process::follow_place(pid, place),
            Kind::Namespace(pid, kind, whose) => Some(namespaces::follow(pid, kind, whose)),
            _ => None,
        }
    }

    fn open(self: Arc<Self>, _: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
        if self.kind.is_private() {
            let process = self.owner().ok_or(Errno::ENOENT)?;
            let caller = task::current::tid().and_then(task::thread);
            if !caller.is_some_and(|caller| link::may_trace(&caller, &process)) {
                return Err(Errno::EACCES);
            }
        }
        Ok(match (self.kind, self.kind()) {
            (_, FileKind::Directory) => Arc::new(listing::Directory::new(self)),
            (Kind::Trace, _) => Arc::new(trace::Trace::new()),
            (Kind::Memory(pid), _) => memory::Memory::open(pid)?,
            (Kind::Allocations(tid), _) => Arc::new(allocations::Allocations::new(tid)),
            (Kind::PageMap(pid), _) => page_map::PageMap::open(pid)?,
            _ => Arc::new(text::Text::new(self)),
        })
    }

    fn status(&self) -> FileSystemStatus {
        FileSystemStatus {
            magic: self.tree.magic,
            device: self.device,
            ..FileSystemStatus::default()
        }
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
