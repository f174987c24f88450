//! The file system of the queues: one directory.

use alloc::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    vec::Vec,
};
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
        mount::anonymous_device,
    },
    ipc::limits::QueueLimits,
    sync::{Rank, SpinLock},
    task::{
        Capability, Thread,
        limits::{Limits, Resource},
    },
};

const DEVICE: DeviceNumber = DeviceNumber::new(0, 18);

pub(super) fn status(device: DeviceNumber) -> FileSystemStatus {
    FileSystemStatus {
        // `MQUEUE_MAGIC` (`linux/magic.h`).
        magic: 0x1980_0202,
        device,
        ..FileSystemStatus::default()
    }
}

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

/// What a queue's existence counts for: one of all of its namespace, and bytes of its user (`RLIMIT_MSGQUEUE`).
pub struct Charge {
    queues: Arc<AtomicU64>,
    uid: u32,
    bytes: u64,
}

/// Bytes of each user, in all namespaces. Numbers of queues change under this lock.
static USAGE: SpinLock<BTreeMap<u32, u64>> = SpinLock::new(Rank::Ipc, BTreeMap::new());

impl Charge {
    /// # Errors
    /// `ENOSPC` if there are too many queues, `EMFILE` if the user has too many bytes in them.
    fn new(uid: u32, bytes: u64, maker: &Maker, root: &Root) -> Result<Self> {
        let mut usage = USAGE.lock();
        if root.queues.load(Relaxed) >= root.limits.queues.get() && !maker.is_privileged {
            return Err(Errno::ENOSPC);
        }
        let used = usage.entry(uid).or_default();
        let sum = used.saturating_add(bytes);
        if sum > maker.limit {
            if *used == 0 {
                usage.remove(&uid);
            }
            return Err(Errno::EMFILE);
        }
        *used = sum;
        let queues = root.queues.clone();
        queues.fetch_add(1, Relaxed);
        Ok(Self { queues, uid, bytes })
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let mut usage = USAGE.lock();
        self.queues.fetch_sub(1, Relaxed);
        if let Some(used) = usage.get_mut(&self.uid) {
            *used -= self.bytes;
            if *used == 0 {
                usage.remove(&self.uid);
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
    fn check(&self, shape: Shape, limits: &QueueLimits) -> Result<()> {
        let most = if self.is_privileged {
            MOST
        } else {
            Shape {
                messages: limits.messages.get() as usize,
                bytes: limits.size.get() as usize,
            }
        };
        if shape.messages == 0 || shape.bytes == 0 || shape.messages > most.messages || shape.bytes > most.bytes {
            return Err(Errno::EINVAL);
        }
        Ok(())
    }
}

/// What a queue is made with where nothing is said.
fn default_shape(limits: &QueueLimits) -> Shape {
    Shape {
        messages: limits.default_messages.get().min(limits.messages.get()) as usize,
        bytes: limits.default_size.get().min(limits.size.get()) as usize,
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

/// The directory of an IPC namespace's queues.
pub struct Root {
    own: Weak<Self>,
    device: DeviceNumber,
    limits: QueueLimits,
    queues: Arc<AtomicU64>,
    names: SpinLock<BTreeMap<Vec<u8>, Arc<Queue>>>,
    attributes: SpinLock<Attributes>,
}

/// That of the first namespace.
pub fn root() -> Arc<Root> {
    static ROOT: Once<Arc<Root>> = Once::new();
    ROOT.call_once(|| Root::on(DEVICE)).clone()
}

/// A queue's place where it is opened by name.
pub fn location(root: &Arc<Root>, queue: Arc<Queue>) -> Location {
    static FIRST: Once<Arc<Mount>> = Once::new();
    let mount = if root.device == DEVICE {
        FIRST.call_once(|| Mount::hidden(root.clone())).clone()
    } else {
        // One that the root knew would keep the root.
        Mount::hidden(root.clone())
    };
    Location { mount, inode: queue }
}

impl Root {
    fn on(device: DeviceNumber) -> Arc<Self> {
        Arc::new_cyclic(|own| Self {
            own: own.clone(),
            device,
            limits: QueueLimits::initial(),
            queues: Arc::new(AtomicU64::new(0)),
            names: SpinLock::new(Rank::Directory, BTreeMap::new()),
            attributes: SpinLock::new(
                Rank::Inode,
                Attributes::synthetic(device, FIRST_NUMBER - 1, FileKind::Directory, 0o1777),
            ),
        })
    }

    /// That of another namespace.
    pub fn new() -> Arc<Self> {
        Self::on(anonymous_device())
    }

    /// How much there may be in it.
    pub const fn limits(&self) -> &QueueLimits {
        &self.limits
    }

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
        let shape = shape.unwrap_or_else(|| default_shape(&self.limits));
        maker.check(shape, &self.limits)?;
        let attributes = Attributes {
            uid: new.uid,
            gid: new.gid,
            size: SIZE_OF_QUEUE,
            ..Attributes::synthetic(
                self.device,
                NEXT.fetch_add(1, Relaxed),
                FileKind::Regular,
                new.permissions,
            )
        };
        let queue = Arc::new(Queue::new(
            shape,
            attributes,
            self.own.clone(),
            Charge::new(new.uid, weight(shape), maker, self)?,
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
        status(self.device)
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
