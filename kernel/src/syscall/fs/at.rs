//! What the `dirfd, path, flags` of the `…at` calls mean.

use alloc::sync::Arc;

use linux_raw_sys::general as linux;

use crate::{
    errno::{Errno, Result},
    fs::{
        Attributes, FileKind, Location, OpenFile, Permission,
        attributes::{S_ISGID, may_set_group_id, permit},
        path::{self, Base, LastLink, Limits, Walked},
    },
    task::{Credentials, Thread},
};

/// `dirfd` of the working directory.
pub const AT_FDCWD: i32 = linux::AT_FDCWD;

/// Where a relative path starts.
///
/// # Errors
/// `EBADF`; `ENOTDIR` for something that is no directory.
fn start(t: &Thread, dirfd: i32, path: &[u8]) -> Result<Location> {
    if dirfd == AT_FDCWD {
        return Ok(t.fs().working_directory());
    }
    let file = t.file(dirfd)?;
    let location = file.location();
    if location.inode.kind() != FileKind::Directory && !path.is_empty() {
        return Err(Errno::ENOTDIR);
    }
    Ok(location.clone())
}

fn base<'a>(t: &Thread, credentials: &'a Credentials, dirfd: i32, path: &[u8]) -> Result<Base<'a>> {
    Ok(Base {
        root: t.fs().root(),
        start: match path.first() {
            Some(b'/') => None,
            _ => Some(start(t, dirfd, path)?),
        },
        credentials,
        limits: Limits::empty(),
    })
}

/// Walks `path` from `dirfd` as the caller, which may not do all that a walk may (`openat2(2)`).
///
/// # Errors
/// As [`walk`]; `EXDEV` and `ELOOP` where the limits end it, `EAGAIN` where somebody moved a directory meanwhile.
pub fn walk_within(t: &Thread, dirfd: i32, path: &[u8], last: LastLink, limits: Limits) -> Result<Walked> {
    if limits.is_empty() {
        return walk(t, dirfd, path, last);
    }
    let credentials = t.credentials();
    let mut base = base(t, &credentials, dirfd, path)?;
    base.limits = limits;
    if limits.is_scoped() {
        // Also where the path begins with a slash.
        base.root = start(t, dirfd, b".")?;
    }
    let walked = path::walk(&base, path, last)?;
    base.check_mount(walked.target.as_ref().unwrap_or(&walked.directory))?;
    Ok(walked)
}

/// Walks `path` from `dirfd` as the caller.
///
/// # Errors
/// `EBADF` and those of [`walk`](path::walk).
pub fn walk(t: &Thread, dirfd: i32, path: &[u8], last: LastLink) -> Result<Walked> {
    path::walk(&base(t, &t.credentials(), dirfd, path)?, path, last)
}

/// What `path` leads to from `dirfd`, for the caller.
///
/// # Errors
/// As [`walk`].
pub fn find(t: &Thread, dirfd: i32, path: &[u8], last: LastLink) -> Result<Location> {
    find_as(t, &t.credentials(), dirfd, path, last)
}

/// What `path` leads to from `dirfd`, for somebody else.
///
/// # Errors
/// As [`walk`].
pub fn find_as(t: &Thread, credentials: &Credentials, dirfd: i32, path: &[u8], last: LastLink) -> Result<Location> {
    path::find(&base(t, credentials, dirfd, path)?, path, last)
}

/// What a call is about.
pub enum Subject {
    /// A place.
    Location(Location),
    /// The file behind a descriptor.
    Open(Arc<OpenFile>),
}

impl Subject {
    /// What is known of it.
    pub fn attributes(&self) -> Attributes {
        match self {
            Self::Location(location) => location.inode.attributes(),
            Self::Open(file) => file.attributes(),
        }
    }

    /// The place.
    pub fn location(&self) -> &Location {
        match self {
            Self::Location(location) => location,
            Self::Open(file) => file.location(),
        }
    }
}

/// What `dirfd, path, flags` lead to, with `AT_EMPTY_PATH` and `AT_SYMLINK_NOFOLLOW`.
///
/// # Errors
/// As [`walk`].
pub fn subject(t: &Thread, dirfd: i32, path: &[u8], flags: u32) -> Result<Subject> {
    if path.is_empty() && flags & linux::AT_EMPTY_PATH != 0 {
        return if dirfd == AT_FDCWD {
            Ok(Subject::Location(t.fs().working_directory()))
        } else {
            Ok(Subject::Open(t.file(dirfd)?))
        };
    }
    let last = if flags & linux::AT_SYMLINK_NOFOLLOW != 0 {
        LastLink::Keep
    } else {
        LastLink::Follow
    };
    Ok(Subject::Location(find(t, dirfd, path, last)?))
}

/// The mode that a new file gets of what is asked for: the set-group-ID bit of a program that takes over a directory's group is
/// left only to who might set it.
pub fn new_mode(directory: &Location, credentials: &Credentials, kind: FileKind, mode: u16) -> u16 {
    const GROUP_PROGRAM: u16 = S_ISGID | 0o010;
    if kind == FileKind::Directory || mode & GROUP_PROGRAM != GROUP_PROGRAM {
        return mode;
    }
    let above = directory.inode.attributes();
    if above.permissions & S_ISGID != 0 && !may_set_group_id(above.gid, credentials) {
        mode & !S_ISGID
    } else {
        mode
    }
}

/// Whether the caller may add or remove names in a directory.
///
/// # Errors
/// `EROFS`, `EACCES`.
pub fn may_change_names(directory: &Location, credentials: &Credentials) -> Result<()> {
    directory.mount.writable()?;
    permit(
        &directory.inode.attributes(),
        credentials,
        Permission::WRITE | Permission::EXECUTE,
    )
}
