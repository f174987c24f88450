//! Files in memory.
//!
//! Names and contents are kept apart. All directories of one file system stand in one table under one lock (`Tree`), so
//! that a rename across directories, with its check that no directory ends up inside itself, is one critical section and
//! needs no order among directory locks. A file's contents and attributes are under its own lock (`Inode` rank).
//!
//! Each name has a cookie that grows and is never used again, and a listing goes by cookies: entries that come or go
//! meanwhile do not move the others.
//!
//! Pages are frames in a radix tree. They are charged to the file system, which has a limit as Linux' tmpfs has (half of
//! memory), so that files cannot take the last frame. A file that loses its last name lives on while something holds its
//! inode, and its pages go with the last reference.

mod contents;
mod directory;
mod extended;
mod node;
mod rename;
mod seals;

use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use hashbrown::HashMap;

pub use node::TmpInode;

use self::directory::Directory;
use super::{
    attributes::{DeviceNumber, FileKind},
    inode::{FileSystemStatus, Inode, NewFile},
    mount,
    page_map::Removed,
};
use crate::{
    errno::{Errno, Result},
    mm::{fallible::TryRoom, frame},
    sync::{Rank, SpinLock},
    task::Credentials,
};

/// The largest file: what a signed 64-bit offset can name, to the page.
pub const MAX_FILE_SIZE: u64 = i64::MAX as u64 & !4095;
/// The most names of one file.
pub const MAX_LINKS: u32 = 65_000;

/// The directories of a file system, by inode number.
type Tree = HashMap<u64, Directory>;

/// Limits of a file system; 0 is no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Pages of contents.
    pub pages: u64,
    /// Files of any type.
    pub inodes: u64,
}

impl Limits {
    /// Half of memory, as Linux has it.
    pub fn half_of_memory() -> Self {
        let half = frame::stats().total as u64 / 2;
        Self {
            pages: half,
            inodes: half,
        }
    }
}

/// One file system.
pub struct TmpFs {
    device: DeviceNumber,
    /// As in [`Limits`].
    most_pages: AtomicU64,
    most_inodes: AtomicU64,
    pages: AtomicU64,
    inodes: AtomicU64,
    next_inode: AtomicU64,
    tree: SpinLock<Tree>,
    kept: AtomicBool,
}

impl TmpFs {
    /// An empty file system; its root directory has these permission bits. The inode keeps the file system alive.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn create(limits: Limits, permissions: u16) -> Result<Arc<TmpInode>> {
        let fs = Arc::new(Self {
            device: mount::anonymous_device(),
            most_pages: AtomicU64::new(limits.pages),
            most_inodes: AtomicU64::new(limits.inodes),
            pages: AtomicU64::new(0),
            inodes: AtomicU64::new(0),
            next_inode: AtomicU64::new(1),
            tree: SpinLock::new(Rank::Directory, HashMap::new()),
            kept: AtomicBool::new(false),
        });
        let root = TmpInode::new(&fs, &NewFile::new(FileKind::Directory, permissions, 0, 0))?;
        let mut tree = fs.tree.lock();
        tree.try_room(1)?;
        tree.insert(root.number(), Directory::new(Arc::downgrade(&root), None));
        drop(tree);
        root.links_changed(|links| *links = 2);
        Ok(root)
    }

    /// Keeps names and contents when the last mount goes.
    pub fn keep(&self) {
        self.kept.store(true, Relaxed);
    }

    /// From now on it may have half of memory, or what it has and half of what is free, whichever is more.
    pub fn limit_to_half(&self) {
        let half = Limits::half_of_memory();
        let grown = self.pages.load(Relaxed) + frame::stats().free as u64 / 2;
        self.most_pages.store(half.pages.max(grown), Relaxed);
        self.most_inodes
            .store(half.inodes.max(2 * self.inodes.load(Relaxed)), Relaxed);
    }

    /// Forgets all names, as the last mount goes: files and file system refer to each other until then.
    fn clear(&self) {
        if !self.kept.load(Relaxed) {
            let tree = core::mem::take(&mut *self.tree.lock());
            drop(tree);
        }
    }

    fn charge(counter: &AtomicU64, limit: u64, count: u64) -> Result<()> {
        let add = |used: u64| used.checked_add(count).filter(|&used| limit == 0 || used <= limit);
        counter
            .fetch_update(Relaxed, Relaxed, add)
            .map(drop)
            .map_err(|_| Errno::ENOSPC)
    }

    fn charge_pages(&self, count: u64) -> Result<()> {
        Self::charge(&self.pages, self.most_pages.load(Relaxed), count)
    }

    fn uncharge_pages(&self, count: u64) {
        self.pages.fetch_sub(count, Relaxed);
    }

    /// Drops pages taken out of a file, which may be much work, and then lets others have their place.
    fn give_back(&self, removed: Removed) {
        let pages = removed.pages();
        drop(removed);
        self.uncharge_pages(pages);
    }

    fn status(&self) -> FileSystemStatus {
        let (most_pages, most_inodes) = (self.most_pages.load(Relaxed), self.most_inodes.load(Relaxed));
        let left = |limit: u64, used: &AtomicU64| limit.saturating_sub(used.load(Relaxed));
        FileSystemStatus {
            magic: linux_raw_sys::general::TMPFS_MAGIC,
            blocks: most_pages,
            free_blocks: left(most_pages, &self.pages),
            files: most_inodes,
            free_files: left(most_inodes, &self.inodes),
            device: self.device,
        }
    }

    /// The path's names from `inode` up to the root, if it still has a place.
    fn place(tree: &Tree, parent: u64) -> Option<Arc<dyn Inode>> {
        let parent: Arc<dyn Inode> = tree.get(&parent)?.inode.upgrade()?;
        Some(parent)
    }
}

/// A regular file of `owner` without a name in a file system of its own (`memfd_create`), which is called `name` in
/// `/proc` and can be sealed if `sealable`.
///
/// # Errors
/// `ENOMEM`.
pub fn unnamed_file(name: &[u8], sealable: bool, owner: &Credentials) -> Result<Arc<TmpInode>> {
    let root = TmpFs::create(Limits::half_of_memory(), 0o700)?;
    let mut new = NewFile::new(FileKind::Regular, 0o777, owner.fsuid, owner.fsgid);
    let name = [b"/memfd:", name, b" (deleted)"].concat();
    new.target = &name;
    let file = TmpInode::new(root.file_system(), &new)?;
    if sealable {
        file.make_sealable();
    }
    Ok(file)
}

/// The same in a file system that all such files share, with its limit: for segments of shared memory.
///
/// # Errors
/// `ENOSPC`, `ENOMEM`.
pub fn unnamed_segment() -> Result<Arc<TmpInode>> {
    static ROOT: spin::Once<Arc<TmpInode>> = spin::Once::new();
    let root = ROOT.try_call_once(|| TmpFs::create(Limits::half_of_memory(), 0o700))?;
    TmpInode::new(root.file_system(), &NewFile::new(FileKind::Regular, 0o777, 0, 0))
}

type WeakInode = Weak<TmpInode>;
