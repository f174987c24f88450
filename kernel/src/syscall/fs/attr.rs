//! Changing attributes: mode, owner, times, length.

use alloc::{boxed::Box, sync::Arc};

use hal::PAGE_SIZE;
use linux_raw_sys::general as linux;

use super::{
    at::{AT_FDCWD, Subject, find, subject},
    user::{path, words},
};
use crate::{
    errno::{Errno, Result},
    fs::{
        FileKind, Inode, Permission, Timestamp,
        attributes::{S_ISGID, S_ISUID, SetAttributes, Shrunk, may_set_group_id, owns, permit},
        block_device,
        file::{Attempt, Stop},
        path::LastLink,
    },
    mm::{
        Pager,
        pager::{self, Copies},
    },
    task::{Capability, Thread},
};

const PAGE: u64 = PAGE_SIZE as u64;

/// Changes what a call is about.
fn apply(subject: &Subject, change: &SetAttributes) -> Result<u64> {
    let location = subject.location();
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
    if !may_set_group_id(attributes.gid, &credentials) {
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
pub fn fchmod(t: &Thread, fd: i32, mode: u32) -> Result<u64> {
    change_mode(t, &Subject::Open(t.files().get_usable(fd)?), mode)
}

fn change_owner(t: &Thread, subject: &Subject, uid: u32, gid: u32) -> Result<u64> {
    let attributes = subject.attributes();
    let credentials = t.credentials();
    let uid = (uid != u32::MAX).then_some(uid);
    let gid = (gid != u32::MAX).then_some(gid);
    if !credentials.can(Capability::Chown) {
        let is_owner = credentials.fsuid == attributes.uid;
        let same_owner = uid.is_none_or(|uid| is_owner && uid == attributes.uid);
        let own_group = gid.is_none_or(|gid| is_owner && (gid == attributes.gid || credentials.in_group(gid)));
        if !same_owner || !own_group {
            return Err(Errno::EPERM);
        }
    }
    let mut permissions = attributes.permissions;
    if attributes.kind == FileKind::Regular {
        permissions &= !S_ISUID;
        if permissions & 0o010 != 0 || !may_set_group_id(attributes.gid, &credentials) {
            permissions &= !S_ISGID;
        }
    }
    if permissions != attributes.permissions {
        // A change of mode like any other.
        owns(&attributes, &credentials)?;
    }
    apply(
        subject,
        &SetAttributes {
            uid,
            gid,
            strips_capabilities: attributes.kind != FileKind::Directory,
            permissions: (permissions != attributes.permissions).then_some(permissions),
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
pub fn fchown(t: &Thread, fd: i32, uid: u32, gid: u32) -> Result<u64> {
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
    let place = find(t, AT_FDCWD, &name, LastLink::Follow)?;
    let attributes = place.inode.attributes();
    match attributes.kind {
        FileKind::Regular => {}
        FileKind::Directory => return Err(Errno::EISDIR),
        _ => return Err(Errno::EINVAL),
    }
    place.mount.writable()?;
    permit(&attributes, &t.credentials(), Permission::WRITE)?;
    set_size(&place.inode, &change).await?;
    Ok(0)
}

/// Changes a file's size. Mappings of what is cut off go, and its memory is given back bit by bit.
pub(super) async fn set_size(inode: &Arc<dyn Inode>, change: &SetAttributes) -> Result<()> {
    let shrunk = inode.set_attributes(change)?;
    resized(inode.pager(), change, shrunk).await;
    Ok(())
}

async fn resized(pager: Option<Arc<dyn Pager>>, change: &SetAttributes, shrunk: Shrunk) {
    match (pager, shrunk) {
        (Some(pager), Shrunk::Yes) => {
            let first = change.size.map_or(u64::MAX, |size| size.div_ceil(PAGE));
            Box::pin(pager::cut(&pager, first..u64::MAX, Copies::Go)).await;
        }
        // Nothing that is mapped, but perhaps what had been allocated behind the end.
        (Some(pager), Shrunk::No) => pager::give_back(&pager).await,
        (None, _) => {}
    }
}

/// `ftruncate(2)`.
pub async fn ftruncate(t: &Thread, fd: i32, length: i64) -> Result<u64> {
    let change = size(length)?;
    let file = t.files().get_usable(fd)?;
    if !file.is_writable() || file.inode().kind() != FileKind::Regular {
        return Err(Errno::EINVAL);
    }
    set_size(file.inode(), &change).await?;
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
    let Ok(pager) = file.file().pager() else { return Ok(0) };
    let pages = offset.div_ceil(PAGE)..offset.saturating_add(length) / PAGE;
    if mode & linux::FALLOC_FL_PUNCH_HOLE != 0 && !pages.is_empty() {
        Box::pin(pager::cut(&pager, pages, Copies::Stay)).await;
    } else {
        pager::give_back(&pager).await;
    }
    Ok(0)
}

/// `fsync(2)`.
pub async fn fsync(t: &Thread, fd: i32) -> Result<u64> {
    let file = t.files().get_usable(fd)?;
    file.file().sync()?;
    if let Some(block) = file.file().as_block() {
        let flush = block.device().volume().extent().flush();
        // Boxed, because every thread's future has room for every wait.
        Box::pin(t.killable(flush)).await??;
    }
    Ok(0)
}

/// [`fsync`] of what is durable without a wait, or never will be.
pub fn fsync_at_once(t: &Thread, fd: i32) -> Attempt<u64> {
    let file = t.files().get_usable(fd)?;
    if file.file().as_block().is_some() {
        return Err(Stop::WouldBlock);
    }
    file.file().sync()?;
    Ok(0)
}

/// `sync(2)`: file systems have nothing to write, but disks may hold what was written past the cache. Whether that succeeded
/// nobody asks.
pub async fn sync(t: &Thread) -> Result<u64> {
    for device in block_device::all() {
        if device.partition().is_none() {
            let flushed = t.killable(device.volume().extent().flush()).await?;
            if let Err(errno) = flushed {
                log::error!("{}: {errno:?} while its cache was written", device.name());
            }
        }
    }
    Ok(0)
}

/// `syncfs(2)`: no file system here has anything to write.
pub fn syncfs(t: &Thread, fd: i32) -> Result<u64> {
    t.files().get_usable(fd)?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use core::{
        future::Future,
        pin::pin,
        task::{Context, Poll, Waker},
    };
    use std::vec::Vec;

    use super::*;
    use crate::{
        fs::{
            OpenFile,
            fd_table::OnExec,
            inode::{NewFile, OpenRequest},
            nameless,
            tmpfs::{Limits, TmpFs},
        },
        mm::{Map, MapFlags, Prot, frame::Frame},
        task::testing,
    };

    fn poll<T>(future: core::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn now<T>(future: impl Future<Output = T>) -> T {
        match poll(pin!(future)) {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("it waits"),
        }
    }

    /// An open file in a file system of so many pages.
    fn open(t: &Thread, pages: u64) -> (i32, Arc<dyn Inode>) {
        let limits = Limits { pages, inodes: 0 };
        let root: Arc<dyn Inode> = TmpFs::create(limits, 0o755).unwrap();
        let inode = root
            .create_unnamed(&NewFile::new(FileKind::Regular, 0o600, 0, 0))
            .unwrap();
        let flags = linux::O_RDWR;
        let file = inode.clone().open(&OpenRequest { flags, caller: None }).unwrap();
        let file = Arc::new(OpenFile::new(file, nameless::place(inode.clone()), flags));
        (t.files().insert(file, OnExec::Keep, 64).unwrap(), inode)
    }

    #[test]
    fn a_punched_page_is_given_back_and_can_be_had_again() {
        const PAGES: u64 = 8;
        const HOLE: u32 = linux::FALLOC_FL_PUNCH_HOLE | linux::FALLOC_FL_KEEP_SIZE;
        hal::host::machine().attach(18);
        let t = testing::thread(9011);
        let (fd, inode) = open(&t, PAGES);
        let pager = inode.pager().unwrap();
        now(ftruncate(&t, fd, (PAGES * PAGE) as i64)).unwrap();
        for _ in 0..20 {
            let frames: Vec<Frame> = (0..PAGES).map(|index| pager.page(index).unwrap()).collect();
            assert_eq!(inode.status().free_blocks, 0);
            now(fallocate(&t, fd, HOLE, 0, (PAGES * PAGE) as i64)).unwrap();
            assert!(frames.iter().all(|frame| frame.count() == 1), "the file keeps none");
            assert_eq!(inode.status().free_blocks, PAGES);
        }
    }

    #[test]
    fn only_a_shrinking_file_waits_for_those_who_map_it() {
        hal::host::machine().attach(19);
        let t = testing::thread(9012);
        let (fd, inode) = open(&t, 0);
        now(ftruncate(&t, fd, 1)).unwrap();
        let mm = t.mm();
        let many = 5000 * PAGE;
        let memory = now(mm.mmap(Map::anonymous(many, Prot::READ | Prot::WRITE))).unwrap();
        for at in (memory..memory + many).step_by(PAGE_SIZE) {
            now(mm.write(at, &1u8)).unwrap();
        }
        let map = Map {
            object: Some((inode.pager().unwrap(), 0)),
            flags: MapFlags::SHARED,
            ..Map::anonymous(PAGE, Prot::READ)
        };
        now(mm.mmap(map)).unwrap();
        let mut fork = pin!(mm.fork());
        assert!(poll(fork.as_mut()).is_pending());
        now(ftruncate(&t, fd, 1)).unwrap();
        now(ftruncate(&t, fd, 10_000)).unwrap();
        assert!(poll(pin!(ftruncate(&t, fd, 0))).is_pending());
    }
}
