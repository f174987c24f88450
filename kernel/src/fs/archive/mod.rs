//! A read-only file system: a newc cpio archive on a disk.
//!
//! [`mount`] reads the headers once, and the little that names and links say, and makes a tree of inodes of them. What files
//! hold stays on the disk and is read through its page cache when it is wanted. Where a file's bytes begin at a page of the
//! disk, as the image's writer has it, the cache's own pages are mapped; where they do not, and for the last page of a file,
//! a mapping shows copies, which are given back when frames run short ([`Reclaim`]).
//!
//! The archive is not trusted. Its headers are read in order, each further on than the one before, so the work is bounded by
//! the disk's size; files, depth and links by the constants here; memory by being asked for. An archive with anything wrong
//! in it is refused as a whole, with the place and the reason.

mod file;
pub mod header;
mod node;

use alloc::{
    format,
    string::String,
    sync::{Arc, Weak},
    vec::Vec,
};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hashbrown::HashMap;

use self::{
    header::{Header, NAME_MOST, SIZE, TRAILER, aligned},
    node::{Meta, Node},
};
use super::{
    attributes::{DeviceNumber, FileKind},
    block_device::Extent,
    inode::{FileSystemStatus, Inode},
    mount,
    page_cache::{Pool, ReadAhead, give_back},
    path::{NAME_MAX, PATH_MAX},
};
use crate::{
    errno::{Errno, Result},
    mm::{
        Frame,
        fallible::{self, TryRoom, TryRoomExact},
        reclaim::{self, Reclaim},
    },
    rt,
    sync::{Rank, SpinLock},
};

/// What its type is called.
pub const KIND: &str = "cpio";
/// What `statfs` says it is: the digits that every header begins with. Linux has no number for it.
pub const MAGIC: u32 = 0x0007_0701;
/// Most files.
const MOST_FILES: u64 = 1 << 20;
/// Most directories in one another.
const MOST_LEVELS: usize = 128;
/// Entries between two looks at what else is ready to run.
const ENTRIES_PER_TURN: u64 = 64;
/// Bytes of the heap that an entry may take without a way to be refused: its inode, names, a node of a tree.
const ENTRY_BYTES: usize = 4 << 10;

/// What the files of one archive have in common.
pub(super) struct Shared {
    device: DeviceNumber,
    extent: Extent,
    files: AtomicU64,
    /// Copies of pages that the disk has not as a page, by the file's first number and the page's place in it.
    copies: SpinLock<Pool>,
    next_copy: AtomicU64,
}

impl Shared {
    fn status(&self) -> FileSystemStatus {
        FileSystemStatus {
            magic: MAGIC,
            blocks: self.extent.pages(),
            free_blocks: 0,
            files: self.files.load(Relaxed),
            free_files: 0,
            device: self.device,
        }
    }

    /// A copy that is there.
    fn copy(&self, number: u64) -> Option<Frame> {
        let copies = self.copies.lock();
        let frame = copies.pages.get(number)?;
        frame.set_used(true);
        Some(frame.clone())
    }

    fn add_copy(&self, number: u64, frame: Frame) -> Result<Frame> {
        reclaim::grow(1);
        let mut copies = self.copies.lock();
        if let Some(there) = copies.pages.get(number) {
            // Somebody was quicker, and it may be mapped already. The other one is dropped by the caller.
            return Ok(there.clone());
        }
        frame.set_used(true);
        copies.pages.insert(number, frame.clone())?;
        Ok(frame)
    }
}

impl Reclaim for Shared {
    fn reclaim(&self, pages: usize) -> usize {
        give_back(pages, |batch| self.copies.lock().take_unused(batch))
    }

    fn pages(&self) -> usize {
        self.copies.lock().pages.len() as usize
    }
}

/// Why an archive cannot be mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is no archive at all.
    NoArchive,
    /// This is wrong with it.
    Damaged(String),
    /// The disk cannot be read, or memory is short.
    Errno(Errno),
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

/// Reads the headers of the archive that `extent` begins with, up to its trailer, and makes inodes of them; returns the root.
/// Dropping the future forgets all of it.
///
/// # Errors
/// [`Fault`].
pub async fn open(extent: &Extent) -> core::result::Result<Arc<dyn Inode>, Fault> {
    let shared = Arc::new(Shared {
        device: mount::anonymous_device(),
        extent: extent.clone(),
        files: AtomicU64::new(0),
        copies: SpinLock::new(Rank::PageCache, Pool::default()),
        next_copy: AtomicU64::new(0),
    });
    let known: Weak<Shared> = Arc::downgrade(&shared);
    reclaim::register(known)?;
    let root = Node::new(
        &shared,
        FileKind::Directory,
        &Meta::directory(),
        DeviceNumber::default(),
    )?;
    let mut reader = Reader {
        root,
        shared,
        ahead: ReadAhead::default(),
        linked: HashMap::new(),
        at: 0,
    };
    let mut entries = 0;
    loop {
        let place = reader.at;
        match reader.entry().await {
            Ok(true) => {}
            Ok(false) => break,
            Err(Fault::NoArchive) if place > 0 => {
                return Err(Fault::Damaged(format!("no entry at byte {place}")));
            }
            Err(Fault::Damaged(reason)) => return Err(Fault::Damaged(format!("entry at byte {place}: {reason}"))),
            Err(fault) => return Err(fault),
        }
        entries += 1;
        if entries % ENTRIES_PER_TURN == 0 {
            rt::yield_now().await;
        }
    }
    Ok(reader.root)
}

/// Files of one archive that have several names, by device and number.
type Linked = HashMap<((u32, u32), u32), Arc<Node>>;

/// An archive while its headers are read.
struct Reader {
    shared: Arc<Shared>,
    root: Arc<Node>,
    ahead: ReadAhead,
    linked: Linked,
    /// The next header's first byte.
    at: u64,
}

fn damaged(reason: impl Into<String>) -> Fault {
    Fault::Damaged(reason.into())
}

impl Reader {
    /// Reads an entry and passes on to the next; false at the trailer.
    async fn entry(&mut self) -> core::result::Result<bool, Fault> {
        let mut bytes = [0; SIZE];
        let name_at = self.at + SIZE as u64;
        if name_at > self.shared.extent.length() {
            return Err(damaged("the archive ends without a trailer"));
        }
        self.read(self.at, &mut bytes).await?;
        let header = Header::parse(&bytes).ok_or(Fault::NoArchive)?;
        let data_at = aligned(name_at + header.name_size);
        let end = aligned(data_at + header.size);
        if !(1..=NAME_MOST).contains(&header.name_size) || end > self.shared.extent.length() {
            return Err(damaged("it is longer than the archive"));
        }
        let mut name = Vec::new();
        name.try_room_exact(header.name_size as usize)?;
        name.resize(header.name_size as usize, 0);
        self.read(name_at, &mut name).await?;
        let Some(length) = name.iter().position(|byte| *byte == 0) else {
            return Err(damaged("its name has no end"));
        };
        name.truncate(length);
        if name == TRAILER {
            return Ok(false);
        }
        if self.shared.files.load(Relaxed) >= MOST_FILES {
            return Err(damaged("there are too many files"));
        }
        let in_words = |fault: Fault| match fault {
            Fault::Damaged(reason) => Fault::Damaged(format!("{}: {reason}", String::from_utf8_lossy(&name))),
            fault => fault,
        };
        self.place(&name, &header, data_at).await.map_err(in_words)?;
        self.at = end;
        Ok(true)
    }

    async fn read(&self, at: u64, bytes: &mut [u8]) -> Result<()> {
        self.shared.extent.read_all(&self.ahead, at, bytes).await
    }

    /// Gives an entry its place in the tree.
    async fn place(&mut self, path: &[u8], header: &Header, data_at: u64) -> core::result::Result<(), Fault> {
        let mut names = path
            .split(|byte| *byte == b'/')
            .filter(|name| !matches!(*name, b"" | b"."));
        let kind = FileKind::from_mode(header.mode).ok_or_else(|| damaged("it has no type"))?;
        let meta = Meta::of(header);
        let Some(mut name) = names.next() else {
            if kind != FileKind::Directory {
                return Err(damaged("the root is no directory"));
            }
            self.root.set_meta(&meta);
            return Ok(());
        };
        let target = self.link_text(kind, header, data_at).await?;
        fallible::afford(ENTRY_BYTES)?;
        let mut directory = self.root.clone();
        let mut levels = 1;
        for next in names {
            directory = self.enter(&directory, name)?;
            name = next;
            levels += 1;
            if levels > MOST_LEVELS {
                return Err(damaged("it lies too deep"));
            }
        }
        check(name)?;
        if kind == FileKind::Directory
            && let Some(there) = directory.child(name)
        {
            if there.kind() != FileKind::Directory {
                return Err(damaged("a file has its name"));
            }
            there.set_meta(&meta);
            return Ok(());
        }
        let key = (header.device, header.inode);
        let has_links = header.links > 1 && kind == FileKind::Regular;
        let node = match self.linked.get(&key).filter(|_| has_links) {
            Some(node) => {
                node.set_meta(&meta);
                node.clone()
            }
            None => {
                let rdev = DeviceNumber::new(header.rdev.0, header.rdev.1);
                let node = Node::new(&self.shared, kind, &meta, rdev)?;
                if has_links {
                    self.linked.try_room(1)?;
                    self.linked.insert(key, node.clone());
                }
                node
            }
        };
        if let Some(target) = target {
            node.set_target(target);
        }
        if kind == FileKind::Regular && header.size > 0 {
            node.set_bytes(self.shared.extent.part(data_at..data_at + header.size)?);
        }
        // A later entry of the same name wins, as on Linux; a directory stays.
        if directory
            .child(name)
            .is_some_and(|there| there.kind() == FileKind::Directory)
        {
            return Err(damaged("a directory has its name"));
        }
        directory.add(name, &node)?;
        Ok(())
    }

    /// What a symlink says; `None` for everything else.
    async fn link_text(
        &self,
        kind: FileKind,
        header: &Header,
        data_at: u64,
    ) -> core::result::Result<Option<Vec<u8>>, Fault> {
        if kind != FileKind::Symlink {
            return Ok(None);
        }
        if !(1..PATH_MAX as u64).contains(&header.size) {
            return Err(damaged("a link too long, or of no length"));
        }
        let mut text = Vec::new();
        text.try_room_exact(header.size as usize)?;
        text.resize(header.size as usize, 0);
        self.read(data_at, &mut text).await?;
        if text.contains(&0) {
            return Err(damaged("a link with a zero in it"));
        }
        Ok(Some(text))
    }

    /// The directory of that name, made if the archive has left it out.
    fn enter(&self, directory: &Arc<Node>, name: &[u8]) -> core::result::Result<Arc<Node>, Fault> {
        check(name)?;
        match directory.child(name) {
            Some(there) if there.kind() == FileKind::Directory => Ok(there),
            Some(_) => Err(damaged("a file is taken for a directory")),
            None => {
                fallible::afford(ENTRY_BYTES)?;
                let made = Node::new(
                    &self.shared,
                    FileKind::Directory,
                    &Meta::directory(),
                    DeviceNumber::default(),
                )?;
                directory.add(name, &made)?;
                Ok(made)
            }
        }
    }
}

fn check(name: &[u8]) -> core::result::Result<(), Fault> {
    match name {
        b".." => Err(damaged("it leads out of its directory")),
        _ if name.len() > NAME_MAX => Err(damaged("its name is too long")),
        _ => Ok(()),
    }
}
