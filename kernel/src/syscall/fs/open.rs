//! Opening and closing.

use alloc::sync::Arc;

use linux_raw_sys::general as linux;

use super::{
    at::{self, AT_FDCWD, may_change_names, new_mode, walk_within},
    user::{path, path_at_once},
};
use crate::{
    errno::{Errno, Result},
    fs::{
        FileKind, Location, OnExec, OpenFile, Permission, Stop,
        attributes::{SetAttributes, owns, permit},
        block_device, devfs,
        file::{Attempt, File},
        inode::{NewFile, OpenRequest},
        open_file::PathFile,
        path::{LastLink, LastName, Limits, Walked},
        pipe::End,
    },
    task::{Thread, limits::Resource},
};

/// The limit on new descriptors.
pub fn descriptor_limit(t: &Thread) -> u64 {
    t.process().limit(Resource::OpenFiles)
}

/// Whether `O_CLOEXEC` stands in flags.
pub const fn on_exec(flags: u32) -> OnExec {
    if flags & linux::O_CLOEXEC != 0 {
        OnExec::Close
    } else {
        OnExec::Keep
    }
}

const O_TMPFILE: u32 = linux::O_TMPFILE;

const fn wants_write(flags: u32) -> bool {
    matches!(flags & linux::O_ACCMODE, linux::O_WRONLY | linux::O_RDWR) || flags & linux::O_TRUNC != 0
}

fn wanted(flags: u32) -> Permission {
    let mut wanted = Permission::empty();
    if flags & linux::O_ACCMODE != linux::O_WRONLY {
        wanted |= Permission::READ;
    }
    if wants_write(flags) {
        wanted |= Permission::WRITE;
    }
    wanted
}

/// Makes the file that a walk did not find.
fn create(t: &Thread, walked: &Walked, mode: u32) -> Result<Location> {
    if walked.trailing_slash {
        return Err(Errno::EISDIR);
    }
    let credentials = t.credentials();
    may_change_names(&walked.directory, &credentials)?;
    let permissions = new_mode(&walked.directory, &credentials, FileKind::Regular, mode as u16 & 0o7777);
    let permissions = permissions & !t.fs().umask();
    let new = NewFile::new(FileKind::Regular, permissions, credentials.fsuid, credentials.fsgid);
    let inode = walked.directory.inode.create(&walked.name, &new)?;
    Ok(Location {
        mount: walked.directory.mount.clone(),
        inode,
    })
}

/// Whether the caller may open what is there with these flags.
fn check(t: &Thread, location: &Location, flags: u32) -> Result<()> {
    let attributes = location.inode.attributes();
    match attributes.kind {
        FileKind::Symlink => return Err(Errno::ELOOP),
        FileKind::Directory if wants_write(flags) || flags & linux::O_CREAT != 0 => return Err(Errno::EISDIR),
        FileKind::Directory => {}
        _ if flags & linux::O_DIRECTORY != 0 => return Err(Errno::ENOTDIR),
        _ => {}
    }
    let is_node = matches!(
        attributes.kind,
        FileKind::CharDevice | FileKind::BlockDevice | FileKind::Fifo
    );
    if wants_write(flags) && !is_node {
        location.mount.writable()?;
    }
    let credentials = t.credentials();
    permit(&attributes, &credentials, wanted(flags))?;
    if flags & linux::O_NOATIME != 0 {
        owns(&attributes, &credentials)?;
    }
    Ok(())
}

/// Finds or makes what is to be opened, and whether it was made.
fn find(t: &Thread, dirfd: i32, path: &[u8], flags: u32, mode: u32, limits: Limits) -> Result<(Location, bool)> {
    if flags & O_TMPFILE == O_TMPFILE {
        if !matches!(flags & linux::O_ACCMODE, linux::O_WRONLY | linux::O_RDWR) {
            return Err(Errno::EINVAL);
        }
        let directory = walk_within(t, dirfd, path, LastLink::Follow, limits)?.existing()?;
        let credentials = t.credentials();
        if directory.inode.kind() != FileKind::Directory {
            return Err(Errno::ENOTDIR);
        }
        may_change_names(&directory, &credentials)?;
        let permissions = mode as u16 & 0o7777 & !t.fs().umask();
        let new = NewFile::new(FileKind::Regular, permissions, credentials.fsuid, credentials.fsgid);
        let inode = directory.inode.create_unnamed(&new)?;
        return Ok((
            Location {
                mount: directory.mount,
                inode,
            },
            true,
        ));
    }
    let exclusive = flags & (linux::O_CREAT | linux::O_EXCL) == linux::O_CREAT | linux::O_EXCL;
    let keep = flags & linux::O_NOFOLLOW != 0 || exclusive;
    let last = if keep { LastLink::Keep } else { LastLink::Follow };
    let walked = walk_within(t, dirfd, path, last, limits)?;
    if flags & linux::O_CREAT == 0 {
        return Ok((walked.existing()?, false));
    }
    if exclusive && walked.target.is_some() {
        return Err(Errno::EEXIST);
    }
    match walked.target.clone() {
        Some(found) => Ok((found, false)),
        None if walked.last == LastName::Name => match create(t, &walked, mode) {
            Ok(made) => Ok((made, true)),
            // Somebody else was quicker: then it is there to be opened.
            Err(Errno::EEXIST) if !exclusive => {
                let found = walk_within(t, dirfd, path, LastLink::Follow, limits)?;
                Ok((found.existing()?, false))
            }
            Err(errno) => Err(errno),
        },
        None => Err(Errno::EISDIR),
    }
}

/// Opens a fifo: without `O_NONBLOCK`, waits for the other side.
async fn open_fifo(t: &Thread, location: &Location, flags: u32) -> Result<Arc<dyn File>> {
    let pipe = location.inode.fifo()?;
    let end = End::from_flags(flags);
    let nonblocking = flags & linux::O_NONBLOCK != 0;
    if end == End::Write && nonblocking && !pipe.has_peer(end) {
        return Err(Errno::ENXIO);
    }
    let (opened, alone) = pipe.open(end);
    if let Some(seen) = alone.filter(|_| !nonblocking) {
        let met = pipe.opened().wait_until(|| pipe.has_met(end, seen).then_some(()));
        t.interruptible(met).await?;
    }
    Ok(opened)
}

/// Opens a place, whose permissions have been checked; `None` if it is a fifo, whose opening may wait.
fn open_now(t: &Thread, location: &Location, flags: u32) -> Result<Option<Arc<dyn File>>> {
    if flags & linux::O_PATH != 0 {
        return Ok(Some(Arc::new(PathFile)));
    }
    let request = OpenRequest { flags, caller: Some(t) };
    let kind = location.inode.kind();
    match location.inode.clone().open(&request) {
        Err(Errno::ENXIO) if kind == FileKind::Fifo => Ok(None),
        Err(Errno::ENXIO) if kind == FileKind::CharDevice => {
            if location.mount.flags() & linux::MS_NODEV != 0 {
                return Err(Errno::EACCES);
            }
            devfs::open_char(location.inode.attributes().rdev, &request).map(Some)
        }
        Err(Errno::ENXIO) if kind == FileKind::BlockDevice => {
            if location.mount.flags() & linux::MS_NODEV != 0 {
                return Err(Errno::EACCES);
            }
            block_device::open(location.inode.attributes().rdev, &request).map(Some)
        }
        other => other.map(Some),
    }
}

/// What the caller asked to be opened, which it may open, and the flags to open it with.
fn find_checked(t: &Thread, dirfd: i32, name: &[u8], flags: u32, mode: u32, limits: Limits) -> Result<(Location, u32)> {
    let flags = if flags & linux::O_PATH != 0 {
        flags & (linux::O_PATH | linux::O_DIRECTORY | linux::O_NOFOLLOW | linux::O_CLOEXEC)
    } else {
        flags
    };
    if flags & O_TMPFILE != O_TMPFILE
        && flags & (linux::O_CREAT | linux::O_DIRECTORY) == linux::O_CREAT | linux::O_DIRECTORY
    {
        return Err(Errno::EINVAL);
    }
    let (location, made) = find(t, dirfd, name, flags, mode, limits)?;
    let flags = if flags & O_TMPFILE == O_TMPFILE {
        flags & !O_TMPFILE
    } else {
        flags
    };
    if flags & linux::O_PATH != 0 {
        if flags & linux::O_DIRECTORY != 0 && location.inode.kind() != FileKind::Directory {
            return Err(Errno::ENOTDIR);
        }
    } else if !made {
        check(t, &location, flags)?;
    }
    let flags = if made { flags & !linux::O_TRUNC } else { flags };
    Ok((location, flags))
}

fn install(t: &Thread, file: Arc<dyn File>, location: Location, flags: u32) -> Result<u64> {
    let file = OpenFile::new(file, location, flags);
    Ok(t.files().insert(Arc::new(file), on_exec(flags), descriptor_limit(t))? as u64)
}

/// Opens a path by a walk that has limits.
pub(super) async fn open_path(
    t: &Thread,
    dirfd: i32,
    name: &[u8],
    flags: u32,
    mode: u32,
    limits: Limits,
) -> Result<u64> {
    // It is seen in the file's flags, and of no account when it is opened.
    let unnamed = if flags & O_TMPFILE == O_TMPFILE { O_TMPFILE } else { 0 };
    let (location, flags) = find_checked(t, dirfd, name, flags, mode, limits)?;
    let file = match open_now(t, &location, flags)? {
        Some(file) => file,
        None => open_fifo(t, &location, flags).await?,
    };
    if flags & linux::O_TRUNC != 0 && location.inode.kind() == FileKind::Regular {
        let change = SetAttributes {
            size: Some(0),
            ..SetAttributes::default()
        };
        super::attr::set_size(&location.inode, &change).await?;
    }
    install(t, file, location, flags | unnamed)
}

/// Opens a program to be executed, or its interpreter.
///
/// # Errors
/// As `open`; `EINVAL` for flags of `execveat` that are not there; `EACCES` for what is not a regular file or not executable.
pub fn open_executable(t: &Thread, dirfd: i32, name: &[u8], flags: u32) -> Result<Arc<OpenFile>> {
    if flags & !(linux::AT_SYMLINK_NOFOLLOW | linux::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let location = at::subject(t, dirfd, name, flags)?.location().clone();
    let attributes = location.inode.attributes();
    match attributes.kind {
        FileKind::Regular => {}
        FileKind::Symlink => return Err(Errno::ELOOP),
        _ => return Err(Errno::EACCES),
    }
    if location.mount.flags() & linux::MS_NOEXEC != 0 {
        return Err(Errno::EACCES);
    }
    permit(&attributes, &t.credentials(), Permission::EXECUTE)?;
    let file = location.inode.clone().open(&OpenRequest {
        flags: linux::O_RDONLY,
        caller: Some(t),
    })?;
    Ok(Arc::new(OpenFile::new(file, location, linux::O_RDONLY)))
}

/// `openat(2)`.
pub async fn openat(t: &Thread, dirfd: i32, name: u64, flags: u32, mode: u32) -> Result<u64> {
    let name = path(t, name).await?;
    open_path(t, dirfd, &name, flags, mode, Limits::empty()).await
}

/// [`openat`] of what is there, where that need not wait.
pub fn openat_at_once(t: &Thread, dirfd: i32, name: u64, flags: u32, mode: u32) -> Attempt<u64> {
    if flags & (linux::O_CREAT | linux::O_TRUNC) != 0 || flags & O_TMPFILE == O_TMPFILE {
        return Err(Stop::WouldBlock);
    }
    let (location, flags) = find_checked(t, dirfd, &path_at_once(name)?, flags, mode, Limits::empty())?;
    let file = open_now(t, &location, flags)?.ok_or(Stop::WouldBlock)?;
    Ok(install(t, file, location, flags)?)
}

/// As [`openat_at_once`], for [`open`].
pub fn open_at_once(t: &Thread, name: u64, flags: u32, mode: u32) -> Attempt<u64> {
    openat_at_once(t, AT_FDCWD, name, flags, mode)
}

/// `open(2)`.
pub async fn open(t: &Thread, name: u64, flags: u32, mode: u32) -> Result<u64> {
    openat(t, AT_FDCWD, name, flags, mode).await
}

/// `creat(2)`.
pub async fn creat(t: &Thread, name: u64, mode: u32) -> Result<u64> {
    openat(
        t,
        AT_FDCWD,
        name,
        linux::O_CREAT | linux::O_WRONLY | linux::O_TRUNC,
        mode,
    )
    .await
}

/// `close(2)`.
pub fn close(t: &Thread, fd: i32) -> Result<u64> {
    drop(t.files().remove(fd)?);
    Ok(0)
}

/// `close_range(2)`.
pub fn close_range(t: &Thread, first: u32, last: u32, flags: u32) -> Result<u64> {
    if first > last || flags & !(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & CLOSE_RANGE_UNSHARE != 0 {
        let own = t.files().fork()?;
        drop(t.set_files(Arc::new(own)));
    }
    t.files().for_each(first, last, |table, fd| {
        if flags & CLOSE_RANGE_CLOEXEC != 0 {
            let _ = table.set_on_exec(fd, OnExec::Close);
        } else {
            let _ = table.remove(fd);
        }
    });
    Ok(0)
}

/// `linux/close_range.h`.
const CLOSE_RANGE_UNSHARE: u32 = 2;
/// `linux/close_range.h`.
const CLOSE_RANGE_CLOEXEC: u32 = 4;
