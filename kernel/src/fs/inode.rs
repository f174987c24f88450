//! A file as its file system knows it, whatever names lead to it.
//!
//! Operations are complete in themselves and do not wait: everything here lives in memory. Permissions, mount points and
//! symlinks are the business of [`path`](super::path) and the calls; an inode is only asked for what it can do. Names handed
//! in have been checked: 1 to 255 bytes, no `/`, not `.` or `..`.

use alloc::{string::String, sync::Arc, vec::Vec};
use core::any::Any;

use smallvec::SmallVec;

use super::{
    attributes::{Attributes, DeviceNumber, FileKind, SetAttributes, Shrunk},
    file::File,
    mount::Location,
    pipe::Pipe,
};
use crate::{
    errno::{Errno, Result},
    mm::Pager,
    task::Thread,
};

/// What a new file is to be.
#[derive(Clone, Copy, Debug)]
pub struct NewFile<'a> {
    /// Its type.
    pub kind: FileKind,
    /// Its permission bits, umask applied.
    pub permissions: u16,
    /// Its owner.
    pub uid: u32,
    /// Its group, unless the directory hands down its own by its set-group-ID bit.
    pub gid: u32,
    /// What device it stands for.
    pub rdev: DeviceNumber,
    /// What a symlink points to, or what memory without a name is called.
    pub target: &'a [u8],
}

impl NewFile<'_> {
    /// A file, directory, fifo or socket of `uid` and `gid`.
    pub const fn new(kind: FileKind, permissions: u16, uid: u32, gid: u32) -> Self {
        Self {
            kind,
            permissions,
            uid,
            gid,
            rdev: DeviceNumber::new(0, 0),
            target: &[],
        }
    }
}

/// How a rename treats a name that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameMode {
    /// The old file there goes.
    Replace,
    /// `EEXIST`.
    NoReplace,
    /// The two change places.
    Exchange,
}

/// How an extended attribute is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetMode {
    /// Whether it is there or not.
    Any,
    /// `EEXIST` if it is there.
    Create,
    /// `ENODATA` if it is not.
    Replace,
    /// Either of these errors.
    Never,
}

/// What `statfs(2)` tells, in blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileSystemStatus {
    /// `f_type`.
    pub magic: u32,
    /// Blocks of 4 KiB in all; 0 where there is no limit.
    pub blocks: u64,
    /// Blocks free.
    pub free_blocks: u64,
    /// Inodes in all.
    pub files: u64,
    /// Inodes free.
    pub free_files: u64,
    /// The device number.
    pub device: DeviceNumber,
}

/// Room for what a symlink points to, short ones without allocation.
pub type LinkText = SmallVec<[u8; 64]>;

/// A file in a file system.
pub trait Inode: Send + Sync + Any {
    /// What is known of it.
    fn attributes(&self) -> Attributes;

    /// Its type: never changes.
    fn kind(&self) -> FileKind;

    /// Device and number: two inodes with the same are the same file. Never changes.
    fn identity(&self) -> (DeviceNumber, u64) {
        let attributes = self.attributes();
        (attributes.device, attributes.inode)
    }

    /// The pages of the file, if it has any that can be mapped.
    fn pager(&self) -> Option<Arc<dyn Pager>> {
        None
    }

    /// Changes attributes.
    ///
    /// # Errors
    /// `EPERM` by default; `EISDIR`, `EINVAL`, `EFBIG`, `ENOSPC` by what is asked.
    fn set_attributes(&self, change: &SetAttributes) -> Result<Shrunk> {
        let _ = change;
        Err(Errno::EPERM)
    }

    /// The file of that name in this directory.
    ///
    /// # Errors
    /// `ENOENT`; `ENOTDIR` by default.
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let _ = name;
        Err(Errno::ENOTDIR)
    }

    /// A directory that holds this file, and the name there; `None` for a root, or once it has no name.
    fn place(&self) -> Option<(Arc<dyn Inode>, Vec<u8>)> {
        None
    }

    /// What `/proc` calls it instead of by a path; `None` for what stands in a tree.
    fn own_name(&self) -> Option<String> {
        None
    }

    /// Makes a file in this directory.
    ///
    /// # Errors
    /// `EEXIST`, `ENOSPC`, `ENOENT` where the directory itself has been removed; `EPERM` by default.
    fn create(&self, name: &[u8], new: &NewFile<'_>) -> Result<Arc<dyn Inode>> {
        let _ = (name, new);
        Err(Errno::EPERM)
    }

    /// Makes a file without a name (`O_TMPFILE`).
    ///
    /// # Errors
    /// `EOPNOTSUPP` by default.
    fn create_unnamed(&self, new: &NewFile<'_>) -> Result<Arc<dyn Inode>> {
        let _ = new;
        Err(Errno::EOPNOTSUPP)
    }

    /// Gives `target` (of the same file system) another name in this directory.
    ///
    /// # Errors
    /// `EEXIST`, `EXDEV`, `EMLINK`, `ENOENT`; `EPERM` by default and for directories.
    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        let _ = (name, target);
        Err(Errno::EPERM)
    }

    /// Takes a name of something other than a directory away.
    ///
    /// # Errors
    /// `ENOENT`, `EISDIR`; `EPERM` by default.
    fn unlink(&self, name: &[u8]) -> Result<()> {
        let _ = name;
        Err(Errno::EPERM)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `ENOTEMPTY`; `EPERM` by default.
    fn remove_directory(&self, name: &[u8]) -> Result<()> {
        let _ = name;
        Err(Errno::EPERM)
    }

    /// Moves `name` of this directory to `new_name` of `new_directory` (of the same file system).
    ///
    /// # Errors
    /// `ENOENT`, `EEXIST`, `EISDIR`, `ENOTDIR`, `ENOTEMPTY`, `EXDEV`; `EINVAL` for a directory moved into itself; `EPERM` by
    /// default.
    fn rename(&self, name: &[u8], new_directory: &Arc<dyn Inode>, new_name: &[u8], mode: RenameMode) -> Result<()> {
        let _ = (name, new_directory, new_name, mode);
        Err(Errno::EPERM)
    }

    /// Appends what a symlink points to.
    ///
    /// # Errors
    /// `EINVAL` by default.
    fn read_link(&self, text: &mut LinkText) -> Result<()> {
        let _ = text;
        Err(Errno::EINVAL)
    }

    /// Where a link leads that is followed by itself and not by its text (`/proc/<pid>/fd/1`, `exe`, `cwd`, `root`).
    ///
    /// # Errors
    /// Where it leads nowhere any more.
    fn follow(&self) -> Option<Result<Target>> {
        None
    }

    /// Opens it. Device nodes and fifos are opened by the caller and not by this.
    ///
    /// # Errors
    /// `ENXIO` by default.
    fn open(self: Arc<Self>, request: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
        let _ = request;
        Err(Errno::ENXIO)
    }

    /// The value of an extended attribute.
    ///
    /// # Errors
    /// `ENODATA`, `ENOMEM`; `EOPNOTSUPP` by default.
    fn extended(&self, name: &[u8]) -> Result<Vec<u8>> {
        let _ = name;
        Err(Errno::EOPNOTSUPP)
    }

    /// Sets an extended attribute, or with no value removes it.
    ///
    /// # Errors
    /// `EEXIST`, `ENODATA` by `mode`; `ENODATA` for one to be removed that is not there; `ENOSPC`, `ENOMEM`; `EOPNOTSUPP` by default.
    fn set_extended(&self, name: &[u8], value: Option<&[u8]>, mode: SetMode) -> Result<()> {
        let _ = (name, value, mode);
        Err(Errno::EOPNOTSUPP)
    }

    /// Appends the names of its extended attributes, a zero behind each; those for root alone only with `all`.
    ///
    /// # Errors
    /// `ENOMEM`.
    fn extended_names(&self, names: &mut Vec<u8>, all: bool) -> Result<()> {
        let _ = (names, all);
        Ok(())
    }

    /// The pipe that all who have this fifo open share.
    ///
    /// # Errors
    /// `ENXIO` for what is no fifo; `ENOMEM`.
    fn fifo(&self) -> Result<Arc<Pipe>> {
        Err(Errno::ENXIO)
    }

    /// The file system's state.
    fn status(&self) -> FileSystemStatus {
        FileSystemStatus::default()
    }

    /// Called on the root of a file system as the mount of it goes for good.
    fn unmounted(&self) {}
}

/// What a self-following link leads to.
pub enum Target {
    /// A place, which may be in no tree.
    Location(Location),
    /// A file through the mount of the link.
    Inode(Arc<dyn Inode>),
}

/// What `open` is told.
pub struct OpenRequest<'a> {
    /// Linux's flags.
    pub flags: u32,
    /// Who opens; `None` for the kernel.
    pub caller: Option<&'a Thread>,
}
