//! Mounts: which file system's root stands on which directory.
//!
//! There is one namespace. A [`Location`] is an inode *through* a mount, so that `..` at a mount's root finds the way out.

use alloc::{string::String, sync::Arc, vec::Vec};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::{attributes::DeviceNumber, inode::Inode};
use crate::{
    errno::{Errno, Result},
    mm::fallible::TryRoom,
    sync::{Rank, SpinLock},
};

/// A mounted file system.
pub struct Mount {
    id: u64,
    root: Arc<dyn Inode>,
    /// The directory it covers; `None` for the first of all.
    covers: Option<Location>,
    /// Of the covered directory, to find this mount by.
    key: Option<Key>,
    /// What was mounted, for `/proc/mounts`.
    source: String,
    /// The file system's type.
    kind: &'static str,
    flags: AtomicU32,
    /// Whether it stands in no directory, as [`nameless`](super::nameless) has it.
    is_hidden: bool,
}

impl Mount {
    /// A mount that stands in no directory and in no list.
    pub(crate) fn hidden(root: Arc<dyn Inode>) -> Arc<Self> {
        Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Relaxed),
            root,
            covers: None,
            key: None,
            source: String::from("none"),
            kind: "none",
            flags: AtomicU32::new(0),
            is_hidden: true,
        })
    }

    /// Its number.
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Its root.
    pub fn root(self: &Arc<Self>) -> Location {
        Location {
            mount: self.clone(),
            inode: self.root.clone(),
        }
    }

    /// The directory it covers.
    pub const fn covers(&self) -> Option<&Location> {
        self.covers.as_ref()
    }

    /// What was mounted.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The file system's type.
    pub const fn kind(&self) -> &'static str {
        self.kind
    }

    /// Linux's `MS_` flags.
    pub fn flags(&self) -> u32 {
        self.flags.load(Relaxed)
    }

    /// Replaces the flags (`MS_REMOUNT`).
    pub fn set_flags(&self, flags: u32) {
        self.flags.store(flags, Relaxed);
    }

    /// Whether a program's set-user-ID and set-group-ID bits count: not without a place in the tree, and not where it says so.
    pub fn honours_set_id(&self) -> bool {
        !self.is_hidden && self.flags() & linux_raw_sys::general::MS_NOSUID == 0
    }

    /// Whether nothing may be changed through it.
    ///
    /// # Errors
    /// `EROFS`.
    pub fn writable(&self) -> Result<()> {
        if self.flags() & linux_raw_sys::general::MS_RDONLY != 0 {
            Err(Errno::EROFS)
        } else {
            Ok(())
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.root.unmounted();
    }
}

/// A file, and the mount it is seen through.
#[derive(Clone)]
pub struct Location {
    /// The mount.
    pub mount: Arc<Mount>,
    /// The file.
    pub inode: Arc<dyn Inode>,
}

impl Location {
    /// Whether both are the same file through the same mount.
    pub fn is_same(&self, other: &Self) -> bool {
        self.mount.id == other.mount.id && self.inode.identity() == other.inode.identity()
    }

    /// Whether it is `other`, or lies below it.
    pub fn lies_below(&self, other: &Self) -> bool {
        let mut here = self.clone();
        loop {
            if here.is_same(other) {
                return true;
            }
            let above = here.parent();
            if above.is_same(&here) {
                return false;
            }
            here = above;
        }
    }

    /// Whether it is its mount's root.
    pub fn is_mount_root(&self) -> bool {
        self.inode.identity() == self.mount.root.identity()
    }

    /// Goes on to what is mounted here, on top of everything.
    pub fn descend(&mut self) {
        if self.inode.kind() == super::attributes::FileKind::Directory {
            while let Some(mount) = mounted_on(self) {
                *self = mount.root();
            }
        }
    }

    /// The directory above, through mounts; the root of all is above itself.
    #[must_use]
    pub fn parent(&self) -> Self {
        let mut here = self.clone();
        while here.is_mount_root() {
            match here.mount.covers.clone() {
                Some(covered) => here = covered,
                None => return here,
            }
        }
        match here.inode.place() {
            Some((inode, _)) => Self {
                mount: here.mount,
                inode,
            },
            None => here,
        }
    }
}

static MOUNTS: SpinLock<Vec<Arc<Mount>>> = SpinLock::new(Rank::Mounts, Vec::new());
static NEXT_ID: AtomicU64 = AtomicU64::new(1);
static NEXT_DEVICE: AtomicU32 = AtomicU32::new(16);
/// A bit for the key of each covered directory, by [`bit_of`]: a directory whose bit is not set need not be searched for.
/// Changed under the lock of `MOUNTS`, so that no bit of a mount that stays is ever missing.
static COVERED: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

/// A device number for a file system that has no device.
pub fn anonymous_device() -> DeviceNumber {
    DeviceNumber::new(0, NEXT_DEVICE.fetch_add(1, Relaxed))
}

/// A directory as it is covered: seen through the mount of that number.
type Key = (u64, (DeviceNumber, u64));

fn key(location: &Location) -> Key {
    (location.mount.id, location.inode.identity())
}

/// A key's word of [`COVERED`], and its bit there.
fn bit_of((mount, (_, inode)): Key) -> (usize, u64) {
    let hash = (inode << 8 ^ mount).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
    (hash as usize / 64, 1 << (hash % 64))
}

/// Brings [`COVERED`] up to date, with the table locked.
fn note_covered(mounts: &[Arc<Mount>]) {
    let mut covered = [0; COVERED.len()];
    for key in mounts.iter().filter_map(|mount| mount.key) {
        let (word, bit) = bit_of(key);
        covered[word] |= bit;
    }
    for (word, covered) in COVERED.iter().zip(covered) {
        word.store(covered, Relaxed);
    }
}

fn mounted_on(location: &Location) -> Option<Arc<Mount>> {
    let key = key(location);
    let (word, bit) = bit_of(key);
    if COVERED[word].load(Relaxed) & bit == 0 {
        return None;
    }
    MOUNTS.lock().iter().rev().find(|mount| mount.key == Some(key)).cloned()
}

/// Mounts a file system's root on `covers` (`None`: as the root of all).
///
/// # Errors
/// `ENOTDIR` if `covers` is no directory, `ENOMEM`.
pub fn mount(
    root: Arc<dyn Inode>,
    covers: Option<Location>,
    source: &str,
    kind: &'static str,
    flags: u32,
) -> Result<Arc<Mount>> {
    if covers
        .as_ref()
        .is_some_and(|place| place.inode.kind() != super::attributes::FileKind::Directory)
    {
        return Err(Errno::ENOTDIR);
    }
    let mount = Arc::new(Mount {
        id: NEXT_ID.fetch_add(1, Relaxed),
        root,
        key: covers.as_ref().map(key),
        covers,
        source: String::from(source),
        kind,
        flags: AtomicU32::new(flags),
        is_hidden: false,
    });
    let mut mounts = MOUNTS.lock();
    mounts.try_room(1)?;
    mounts.push(mount.clone());
    note_covered(&mounts);
    drop(mounts);
    Ok(mount)
}

/// Whether a busy mount is taken away all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmount {
    /// `EBUSY`.
    IfIdle,
    /// It goes from the tree now, and for good with its last user (`MNT_DETACH`).
    Detach,
}

/// Takes a mount away.
///
/// # Errors
/// `EINVAL` if `root` is no mount's root or is the root of all; `EBUSY` if something is mounted below or in use.
pub fn unmount(root: &Location, how: Unmount) -> Result<()> {
    if !root.is_mount_root() || root.mount.covers.is_none() {
        return Err(Errno::EINVAL);
    }
    let mut mounts = MOUNTS.lock();
    let below = mounts.iter().any(|mount| {
        mount
            .covers
            .as_ref()
            .is_some_and(|covered| covered.mount.id == root.mount.id)
    });
    // The table's reference and the caller's are not uses.
    if how == Unmount::IfIdle && (below || Arc::strong_count(&root.mount) > 2) {
        return Err(Errno::EBUSY);
    }
    let at = mounts
        .iter()
        .position(|mount| mount.id == root.mount.id)
        .ok_or(Errno::EINVAL)?;
    let gone = mounts.remove(at);
    note_covered(&mounts);
    drop(mounts);
    drop(gone);
    Ok(())
}

/// All mounts, in the order they were made.
pub fn mounts() -> Vec<Arc<Mount>> {
    MOUNTS.lock().clone()
}
