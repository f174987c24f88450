//! The file system of the queues: one directory.

use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};
use core::{
    any::Any,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use spin::Once;

use super::{Queue, Shape};
use crate::{
    errno::{Errno, Result},
    fs::{
        FileKind, Inode, Location, Mount,
        attributes::{Attributes, DeviceNumber, SetAttributes, Shrunk, Timestamp},
        file::{Attempt, DirectoryEntry, File, Positioning, Whence, list_dots, seek_before_end},
        inode::{FileSystemStatus, NewFile, OpenRequest},
    },
    ipc::limits::{MQ_DEFAULT_MESSAGES, MQ_DEFAULT_SIZE, MQ_MESSAGES, MQ_QUEUES, MQ_SIZE},
    sync::{Rank, SpinLock},
    task::{
        Capability, Thread,
        limits::{Limits, Resource},
    },
};

pub(super) const DEVICE: DeviceNumber = DeviceNumber::new(0, 18);

pub(super) const STATUS: FileSystemStatus = FileSystemStatus {
    // `MQUEUE_MAGIC` (`linux/magic.h`).
    magic: 0x1980_0202,
    blocks: 0,
    free_blocks: 0,
    files: 0,
    free_files: 0,
    device: DEVICE,
};

/// What the privileged can ask for (`HARD_MSGMAX`, `HARD_MSGSIZEMAX` of `linux/ipc_namespace.h`).
const MOST: Shape = Shape {
    messages: 65_536,
    bytes: 16 << 20,
};
/// What `stat` says of a queue (`FILENT_SIZE` of `ipc/mqueue.c`), and of the directory for each.
const SIZE_OF_QUEUE: u64 = 80;
const SIZE_OF_ENTRY: u64 = 20;
/// Numbers below are the directory's own.
const FIRST_NUMBER: u64 = 2;

/// What a queue's existence counts for: one of all, and bytes of its user (`RLIMIT_MSGQUEUE`).
pub struct Charge {
    uid: u32,
    bytes: u64,
}

struct Usage {
    queues: u64,
    bytes: BTreeMap<u32, u64>,
}

static USAGE: SpinLock<Usage> = SpinLock::new(
    Rank::Ipc,
    Usage {
        queues: 0,
        bytes: BTreeMap::new(),
    },
);

impl Charge {
    /// # Errors
    /// `ENOSPC` if there are too many queues, `EMFILE` if the user has too many bytes in them.
    fn new(uid: u32, bytes: u64, maker: &Maker) -> Result<Self> {
        let mut usage = USAGE.lock();
        if usage.queues >= MQ_QUEUES.get() && !maker.is_privileged {
            return Err(Errno::ENOSPC);
        }
        let used = usage.bytes.entry(uid).or_default();
        let sum = used.saturating_add(bytes);
        if sum > maker.limit {
            if *used == 0 {
                usage.bytes.remove(&uid);
            }
            return Err(Errno::EMFILE);
        }
        *used = sum;
        usage.queues += 1;
        Ok(Self { uid, bytes })
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let mut usage = USAGE.lock();
        usage.queues -= 1;
        if let Some(used) = usage.bytes.get_mut(&self.uid) {
            *used -= self.bytes;
            if *used == 0 {
                usage.bytes.remove(&self.uid);
            }
        }
    }
}

/// On whose account a queue is made.
pub struct Maker {
    /// Bytes that its user's queues may have (`RLIMIT_MSGQUEUE`).
    limit: u64,
    /// Whether it may go beyond what `/proc/sys/fs/mqueue` says (`CAP_SYS_RESOURCE`).
    is_privileged: bool,
}

impl Maker {
    /// A thread.
    pub fn new(thread: &Thread) -> Self {
        Self {
            limit: thread.process().limit(Resource::MessageQueues),
            is_privileged: thread.credentials().can(Capability::SysResource),
        }
    }

    /// Whoever makes a file in the directory by its path.
    fn anybody() -> Self {
        Self {
            limit: Limits::initial().get(Resource::MessageQueues).soft,
            is_privileged: false,
        }
    }

    /// # Errors
    /// `EINVAL`.
    fn check(&self, shape: Shape) -> Result<()> {
        let most = if self.is_privileged {
            MOST
        } else {
            Shape {
                messages: MQ_MESSAGES.get() as usize,
                bytes: MQ_SIZE.get() as usize,
            }
        };
        if shape.messages == 0 || shape.bytes == 0 || shape.messages > most.messages || shape.bytes > most.bytes {
            return Err(Errno::EINVAL);
        }
        Ok(())
    }
}

/// What a queue is made with where nothing is said.
fn default_shape() -> Shape {
    Shape {
        messages: MQ_DEFAULT_MESSAGES.get().min(MQ_MESSAGES.get()) as usize,
        bytes: MQ_DEFAULT_SIZE.get().min(MQ_SIZE.get()) as usize,
    }
}

/// Bytes that count for the user, as Linux reckons (`mqueue_get_inode`): its messages' headers, and what sorts them, included.
const fn weight(shape: Shape) -> u64 {
    const HEADER: usize = 48;
    const NODE: usize = 48;
    let sorted = if shape.messages < super::PRIORITIES as usize {
        shape.messages
    } else {
        super::PRIORITIES as usize
    };
    (shape.messages * (shape.bytes + HEADER) + sorted * NODE) as u64
}

/// The directory.
pub struct Root {
    names: SpinLock<BTreeMap<Vec<u8>, Arc<Queue>>>,
    attributes: SpinLock<Attributes>,
}

/// The one that there is.
pub fn root() -> Arc<Root> {
    static ROOT: Once<Arc<Root>> = Once::new();
    let make = || {
        Arc::new(Root {
            names: SpinLock::new(Rank::Directory, BTreeMap::new()),
            attributes: SpinLock::new(
                Rank::Inode,
                Attributes::synthetic(DEVICE, FIRST_NUMBER - 1, FileKind::Directory, 0o1777),
            ),
        })
    };
    ROOT.call_once(make).clone()
}

/// A queue's place where it is opened by name.
pub fn location(queue: Arc<Queue>) -> Location {
    static MOUNT: Once<Arc<Mount>> = Once::new();
    let mount = MOUNT.call_once(|| Mount::hidden(root())).clone();
    Location { mount, inode: queue }
}

impl Root {
    /// The queue of that name.
    ///
    /// # Errors
    /// `ENOENT`.
    pub fn find(&self, name: &[u8]) -> Result<Arc<Queue>> {
        self.names.lock().get(name).cloned().ok_or(Errno::ENOENT)
    }

    /// Makes a queue.
    ///
    /// # Errors
    /// `EEXIST`, `EINVAL` for a shape that is not allowed, `ENOSPC`, `EMFILE`.
    pub fn make(&self, name: &[u8], new: &NewFile<'_>, shape: Option<Shape>, maker: &Maker) -> Result<Arc<Queue>> {
        static NEXT: AtomicU64 = AtomicU64::new(FIRST_NUMBER);
        let shape = shape.unwrap_or_else(default_shape);
        maker.check(shape)?;
        let attributes = Attributes {
            uid: new.uid,
            gid: new.gid,
            size: SIZE_OF_QUEUE,
            ..Attributes::synthetic(DEVICE, NEXT.fetch_add(1, Relaxed), FileKind::Regular, new.permissions)
        };
        let queue = Arc::new(Queue::new(
            shape,
            attributes,
            Charge::new(new.uid, weight(shape), maker)?,
        ));
        let name = name.to_vec();
        {
            let mut names = self.names.lock();
            if names.contains_key(&name) {
                drop(names);
                return Err(Errno::EEXIST);
            }
            names.insert(name, queue.clone());
        }
        self.changed();
        Ok(queue)
    }

    pub(super) fn name_of(&self, queue: &Queue) -> Option<Vec<u8>> {
        let names = self.names.lock();
        let mut found = names.iter().filter(|(_, there)| core::ptr::eq(&***there, queue));
        found.next().map(|(name, _)| name.clone())
    }

    fn changed(&self) {
        let mut attributes = self.attributes.lock();
        let now = Timestamp::now();
        (attributes.accessed, attributes.modified, attributes.changed) = (now, now, now);
    }
}

impl Inode for Root {
    fn attributes(&self) -> Attributes {
        let size = self.names.lock().len() as u64 * SIZE_OF_ENTRY;
        Attributes {
            size,
            links: 2,
            ..*self.attributes.lock()
        }
    }

    fn kind(&self) -> FileKind {
        FileKind::Directory
    }

    fn set_attributes(&self, change: &SetAttributes) -> Result<Shrunk> {
        self.attributes.lock().change(change);
        Ok(Shrunk::No)
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        Ok(self.find(name)?)
    }

    fn create(&self, name: &[u8], new: &NewFile<'_>) -> Result<Arc<dyn Inode>> {
        if new.kind != FileKind::Regular {
            return Err(Errno::EPERM);
        }
        Ok(self.make(name, new, None, &Maker::anybody())?)
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        let queue = self.names.lock().remove(name).ok_or(Errno::ENOENT)?;
        queue.unlinked();
        self.changed();
        Ok(())
    }

    fn open(self: Arc<Self>, _: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
        Ok(self)
    }

    fn status(&self) -> FileSystemStatus {
        STATUS
    }
}

impl File for Root {
    fn positioning(&self) -> Positioning {
        Positioning::Offsets
    }

    fn seek(&self, position: u64, offset: i64, whence: Whence) -> Result<u64> {
        seek_before_end(position, offset, whence)
    }

    /// Positions are the numbers of queues, in whose order they are listed: they stay whatever comes and goes.
    fn read_directory(
        &self,
        position: &mut u64,
        emit: &mut dyn FnMut(&DirectoryEntry<'_>) -> Attempt<()>,
    ) -> Attempt<()> {
        let own = FIRST_NUMBER - 1;
        list_dots(position, (own, own), emit)?;
        loop {
            let next = {
                let names = self.names.lock();
                let numbered = names.iter().map(|(name, queue)| (queue.identity().1, name));
                let behind = numbered.filter(|(number, _)| *number >= *position);
                behind.min().map(|(number, name)| (number, name.clone()))
            };
            let Some((number, name)) = next else { return Ok(()) };
            emit(&DirectoryEntry {
                name: &name,
                inode: number,
                kind: FileKind::Regular,
                next: number + 1,
            })?;
            *position = number + 1;
        }
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}
