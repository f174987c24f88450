//! Changing attributes: mode, owner, times, length.

use alloc::{boxed::Box, sync::Arc};

use hal::PAGE_SIZE;
use linux_raw_sys::general as linux;

use super::{
    at::{AT_FDCWD, Subject, subject, walk},
    user::{path, words},
};
use crate::{
    errno::{Errno, Result},
    fs::{
        FileKind, Inode, Permission, Timestamp,
        attributes::{S_ISGID, S_ISUID, SetAttributes, owns, permit},
        path::LastLink,
    },
    mm::{Pager, pager},
    task::Thread,
};

/// Changes what a call is about. Pipes and the like have no attributes to change.
fn apply(subject: &Subject, change: &SetAttributes) -> Result<u64> {
    let location = subject.location().map_err(|_| Errno::EPERM)?;
    location.mount.writable()?;
    location.inode.set_attributes(change)?;
    Ok(0)
}

fn change_mode(t: &Thread, subject: &Subject, mode: u32) -> Result<u64> {
    let attributes = subject.attributes();
    let credentials = t.credentials();
    owns(&attributes, &credentials)?;
    if attributes.kind == FileKind::Symlink {
        return Err(Errno::EOPNOTSUPP);
    }
    let mut permissions = mode as u16 & 0o7777;
    if credentials.fsuid != 0 && !credentials.in_group(attributes.gid) {
        permissions &= !S_ISGID;
    }
    apply(
        subject,
        &SetAttributes {
            permissions: Some(permissions),
            ..SetAttributes::default()
        },
    )
}

/// `fchmodat2(2)`.
pub async fn fchmodat2(t: &Thread, dirfd: i32, name: u64, mode: u32, flags: u32) -> Result<u64> {
    if flags & !(linux::AT_SYMLINK_NOFOLLOW | linux::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let name = path(t, name).await?;
    change_mode(t, &subject(t, dirfd, &name, flags)?, mode)
}

/// `fchmodat(2)`, which has no flags.
pub async fn fchmodat(t: &Thread, dirfd: i32, name: u64, mode: u32) -> Result<u64> {
    fchmodat2(t, dirfd, name, mode, 0).await
}

/// `chmod(2)`.
pub async fn chmod(t: &Thread, name: u64, mode: u32) -> Result<u64> {
    fchmodat2(t, AT_FDCWD, name, mode, 0).await
}

/// `fchmod(2)`.
pub async fn fchmod(t: &Thread, fd: i32, mode: u32) -> Result<u64> {
    change_mode(t, &Subject::Open(t.files().get_usable(fd)?), mode)
}

fn change_owner(t: &Thread, subject: &Subject, uid: u32, gid: u32) -> Result<u64> {
    let attributes = subject.attributes();
    let credentials = t.credentials();
    let uid = (uid != u32::MAX).then_some(uid);
    let gid = (gid != u32::MAX).then_some(gid);
    if credentials.fsuid != 0 {
        let same_owner = uid.is_none_or(|uid| uid == attributes.uid);
        let own_group = gid.is_none_or(|gid| gid == attributes.gid || credentials.in_group(gid));
        if credentials.fsuid != attributes.uid || !same_owner || !own_group {
            return Err(Errno::EPERM);
        }
    }
    let mut permissions = attributes.permissions;
    if attributes.kind == FileKind::Regular {
        permissions &= !S_ISUID;
        if permissions & 0o010 != 0 {
            permissions &= !S_ISGID;
        }
    }
    apply(
        subject,
        &SetAttributes {
            uid,
            gid,
            permissions: Some(permissions),
            ..SetAttributes::default()
        },
    )
}

/// `fchownat(2)`.
pub async fn fchownat(t: &Thread, dirfd: i32, name: u64, uid: u32, gid: u32, flags: u32) -> Result<u64> {
    if flags & !(linux::AT_SYMLINK_NOFOLLOW | linux::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let name = path(t, name).await?;
    change_owner(t, &subject(t, dirfd, &name, flags)?, uid, gid)
}

/// `chown(2)`.
pub async fn chown(t: &Thread, name: u64, uid: u32, gid: u32) -> Result<u64> {
    fchownat(t, AT_FDCWD, name, uid, gid, 0).await
}

/// `lchown(2)`.
pub async fn lchown(t: &Thread, name: u64, uid: u32, gid: u32) -> Result<u64> {
    fchownat(t, AT_FDCWD, name, uid, gid, linux::AT_SYMLINK_NOFOLLOW).await
}

/// `fchown(2)`.
pub async fn fchown(t: &Thread, fd: i32, uid: u32, gid: u32) -> Result<u64> {
    change_owner(t, &Subject::Open(t.files().get_usable(fd)?), uid, gid)
}

/// What one of the two times is set to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NewTime {
    Now,
    Keep,
    At(Timestamp),
}

impl NewTime {
    fn value(self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Now => Some(now),
            Self::Keep => None,
            Self::At(time) => Some(time),
        }
    }
}

fn change_times(t: &Thread, subject: &Subject, times: [NewTime; 2]) -> Result<u64> {
    if times == [NewTime::Keep; 2] {
        return Ok(0);
    }
    let attributes = subject.attributes();
    let credentials = t.credentials();
    if let Err(errno) = owns(&attributes, &credentials) {
        if times != [NewTime::Now; 2] {
            return Err(errno);
        }
        permit(&attributes, &credentials, Permission::WRITE)?;
    }
    let now = Timestamp::now();
    let change = SetAttributes {
        accessed: times[0].value(now),
        modified: times[1].value(now),
        ..SetAttributes::default()
    };
    apply(subject, &change)
}

/// What `dirfd, name` name for `utimensat`: no name is the descriptor itself.
async fn timed(t: &Thread, dirfd: i32, name: u64, flags: u32) -> Result<Subject> {
    if name == 0 {
        return if flags == 0 && dirfd != AT_FDCWD {
            Ok(Subject::Open(t.files().get_usable(dirfd)?))
        } else if dirfd == AT_FDCWD {
            Err(Errno::EFAULT)
        } else {
            Err(Errno::EINVAL)
        };
    }
    let name = path(t, name).await?;
    subject(t, dirfd, &name, flags)
}

/// `utimensat(2)`.
pub async fn utimensat(t: &Thread, dirfd: i32, name: u64, times: u64, flags: u32) -> Result<u64> {
    if flags & !(linux::AT_SYMLINK_NOFOLLOW | linux::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let new = if times == 0 {
        [NewTime::Now; 2]
    } else {
        let [s0, n0, s1, n1] = words(t, times).await?;
        let parse = |seconds: u64, nanoseconds: u64| match nanoseconds as u32 {
            _ if nanoseconds > u64::from(u32::MAX) => Err(Errno::EINVAL),
            linux::UTIME_NOW => Ok(NewTime::Now),
            linux::UTIME_OMIT => Ok(NewTime::Keep),
            nanoseconds @ 0..1_000_000_000 => Ok(NewTime::At(Timestamp {
                seconds: seconds as i64,
                nanoseconds,
            })),
            _ => Err(Errno::EINVAL),
        };
        [parse(s0, n0)?, parse(s1, n1)?]
    };
    let subject = timed(t, dirfd, name, flags).await?;
    change_times(t, &subject, new)
}

/// `futimesat(2)`: microseconds.
pub async fn futimesat(t: &Thread, dirfd: i32, name: u64, times: u64) -> Result<u64> {
    let new = if times == 0 {
        [NewTime::Now; 2]
    } else {
        let [s0, u0, s1, u1] = words(t, times).await?;
        let parse = |seconds: u64, micros: u64| match micros {
            0..1_000_000 => Ok(NewTime::At(Timestamp {
                seconds: seconds as i64,
                nanoseconds: micros as u32 * 1000,
            })),
            _ => Err(Errno::EINVAL),
        };
        [parse(s0, u0)?, parse(s1, u1)?]
    };
    let subject = timed(t, dirfd, name, 0).await?;
    change_times(t, &subject, new)
}

/// `utimes(2)`.
pub async fn utimes(t: &Thread, name: u64, times: u64) -> Result<u64> {
    futimesat(t, AT_FDCWD, name, times).await
}

/// `utime(2)`: seconds.
pub async fn utime(t: &Thread, name: u64, times: u64) -> Result<u64> {
    let new = if times == 0 {
        [NewTime::Now; 2]
    } else {
        let at = |seconds: u64| {
            NewTime::At(Timestamp {
                seconds: seconds as i64,
                nanoseconds: 0,
            })
        };
        words::<2>(t, times).await?.map(at)
    };
    let subject = timed(t, AT_FDCWD, name, 0).await?;
    change_times(t, &subject, new)
}

fn size(length: i64) -> Result<SetAttributes> {
    let size = u64::try_from(length).map_err(|_| Errno::EINVAL)?;
    Ok(SetAttributes {
        size: Some(size),
        ..SetAttributes::default()
    })
}

/// `truncate(2)`.
pub async fn truncate(t: &Thread, name: u64, length: i64) -> Result<u64> {
    let change = size(length)?;
    let name = path(t, name).await?;
    let place = walk(t, AT_FDCWD, &name, LastLink::Follow)?.existing()?;
    let attributes = place.inode.attributes();
    if attributes.kind == FileKind::Directory {
        return Err(Errno::EISDIR);
    }
    place.mount.writable()?;
    permit(&attributes, &t.credentials(), Permission::WRITE)?;
    set_size(&place.inode, &change).await?;
    Ok(0)
}

/// Changes a file's size. Mappings of what is cut off go, and its memory is given back bit by bit.
pub(super) async fn set_size(inode: &Arc<dyn Inode>, change: &SetAttributes) -> Result<()> {
    inode.set_attributes(change)?;
    forget_past(inode.pager(), change.size.unwrap_or(u64::MAX)).await;
    Ok(())
}

async fn forget_past(pager: Option<Arc<dyn Pager>>, size: u64) {
    if let Some(pager) = pager {
        Box::pin(pager::cut(&pager, size.div_ceil(PAGE_SIZE as u64))).await;
    }
}

/// `ftruncate(2)`.
pub async fn ftruncate(t: &Thread, fd: i32, length: i64) -> Result<u64> {
    let change = size(length)?;
    let file = t.files().get_usable(fd)?;
    if !file.is_writable() {
        return Err(Errno::EINVAL);
    }
    match file.inode() {
        Some(inode) => set_size(inode, &change).await?,
        None => {
            file.file().set_attributes(&change)?;
            forget_past(file.file().pager().ok(), change.size.unwrap_or(u64::MAX)).await;
        }
    }
    Ok(0)
}

/// `fallocate(2)`.
pub async fn fallocate(t: &Thread, fd: i32, mode: u32, offset: i64, length: i64) -> Result<u64> {
    let file = t.files().get_usable(fd)?;
    if offset < 0 || length <= 0 {
        return Err(Errno::EINVAL);
    }
    if !file.is_writable() {
        return Err(Errno::EBADF);
    }
    if file.attributes().kind == FileKind::Fifo {
        return Err(Errno::ESPIPE);
    }
    let (offset, length) = (offset as u64, length as u64);
    file.file().allocate(mode, offset, length)?;
    if mode & linux::FALLOC_FL_PUNCH_HOLE != 0
        && let Ok(pager) = file.file().pager()
    {
        let page = PAGE_SIZE as u64;
        let hole = offset.div_ceil(page)..offset.saturating_add(length) / page;
        Box::pin(pager::punched(&pager, hole)).await;
    }
    Ok(0)
}

/// `fsync(2)`.
pub async fn fsync(t: &Thread, fd: i32) -> Result<u64> {
    t.files().get_usable(fd)?.file().sync()?;
    Ok(0)
}

/// `fdatasync(2)`.
pub async fn fdatasync(t: &Thread, fd: i32) -> Result<u64> {
    fsync(t, fd).await
}

/// `sync(2)`: every file system here lives in memory.
pub async fn sync(_t: &Thread) -> Result<u64> {
    Ok(0)
}

/// `syncfs(2)`.
pub async fn syncfs(t: &Thread, fd: i32) -> Result<u64> {
    t.files().get_usable(fd)?;
    Ok(0)
}
