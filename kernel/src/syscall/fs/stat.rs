//! Looking at files: `stat` and its kin, `access`, `statfs`, `readlink`. They wait for nothing but pages of their caller's.

use linux_raw_sys::general as linux;

use super::{
    at::{self, AT_FDCWD, Subject, find_as, subject},
    user::{answer, path_at_once, structure},
};
use crate::{
    errno::Errno,
    fs::{
        Attributes, FileKind, Permission,
        attributes::permit,
        file::Attempt,
        inode::{FileSystemStatus, LinkText},
        path::LastLink,
    },
    task::{Credentials, Thread},
};

/// `struct stat`.
fn layout(a: &Attributes) -> [u8; size_of::<linux::stat>()] {
    structure!(linux::stat {
        st_dev: a.device.encode(),
        st_ino: a.inode,
        st_nlink: a.links,
        st_mode: a.mode(),
        st_uid: a.uid,
        st_gid: a.gid,
        st_rdev: a.rdev.encode(),
        st_size: a.size,
        st_blksize: a.block_size,
        st_blocks: a.blocks,
        st_atime: a.accessed.seconds,
        st_atime_nsec: a.accessed.nanoseconds,
        st_mtime: a.modified.seconds,
        st_mtime_nsec: a.modified.nanoseconds,
        st_ctime: a.changed.seconds,
        st_ctime_nsec: a.changed.nanoseconds,
    })
}

/// `newfstatat(2)`.
pub fn newfstatat(t: &Thread, dirfd: i32, name: u64, buffer: u64, flags: u32) -> Attempt<u64> {
    // As Linux, which lets the flags for file systems of other machines through.
    if flags & !(linux::AT_SYMLINK_NOFOLLOW | linux::AT_NO_AUTOMOUNT | linux::AT_EMPTY_PATH | linux::AT_STATX_SYNC_TYPE)
        != 0
    {
        return Err(Errno::EINVAL.into());
    }
    // glibc's fstat passes an empty string, newer callers none at all.
    let name = if name == 0 && flags & linux::AT_EMPTY_PATH != 0 {
        Default::default()
    } else {
        path_at_once(name)?
    };
    let attributes = subject(t, dirfd, &name, flags)?.attributes();
    answer(buffer, &layout(&attributes), 0)
}

/// `stat(2)`.
pub fn stat(t: &Thread, name: u64, buffer: u64) -> Attempt<u64> {
    newfstatat(t, AT_FDCWD, name, buffer, 0)
}

/// `lstat(2)`.
pub fn lstat(t: &Thread, name: u64, buffer: u64) -> Attempt<u64> {
    newfstatat(t, AT_FDCWD, name, buffer, linux::AT_SYMLINK_NOFOLLOW)
}

/// `fstat(2)`.
pub fn fstat(t: &Thread, fd: i32, buffer: u64) -> Attempt<u64> {
    let attributes = t.file(fd)?.attributes();
    answer(buffer, &layout(&attributes), 0)
}

/// `statx(2)`.
pub fn statx(t: &Thread, dirfd: i32, name: u64, flags: u32, mask: u32, buffer: u64) -> Attempt<u64> {
    let known = linux::AT_SYMLINK_NOFOLLOW | linux::AT_NO_AUTOMOUNT | linux::AT_EMPTY_PATH | linux::AT_STATX_SYNC_TYPE;
    let sync = flags & linux::AT_STATX_SYNC_TYPE;
    if flags & !known != 0 || sync == linux::AT_STATX_SYNC_TYPE || mask & linux::STATX__RESERVED != 0 {
        return Err(Errno::EINVAL.into());
    }
    let name = if name == 0 && flags & linux::AT_EMPTY_PATH != 0 {
        Default::default()
    } else {
        path_at_once(name)?
    };
    let subject = subject(t, dirfd, &name, flags)?;
    let a = subject.attributes();
    let place = subject.location();
    let (mount, is_root) = (place.mount.id(), place.is_mount_root());
    let bytes = structure!(linux::statx {
        stx_mask: linux::STATX_BASIC_STATS | linux::STATX_BTIME | linux::STATX_MNT_ID,
        stx_blksize: a.block_size,
        stx_attributes: if is_root { linux::STATX_ATTR_MOUNT_ROOT } else { 0 },
        stx_attributes_mask: linux::STATX_ATTR_MOUNT_ROOT,
        stx_nlink: a.links,
        stx_uid: a.uid,
        stx_gid: a.gid,
        stx_mode: a.mode(),
        stx_ino: a.inode,
        stx_size: a.size,
        stx_blocks: a.blocks,
        stx_atime.tv_sec: a.accessed.seconds,
        stx_atime.tv_nsec: a.accessed.nanoseconds,
        stx_btime.tv_sec: a.created.seconds,
        stx_btime.tv_nsec: a.created.nanoseconds,
        stx_ctime.tv_sec: a.changed.seconds,
        stx_ctime.tv_nsec: a.changed.nanoseconds,
        stx_mtime.tv_sec: a.modified.seconds,
        stx_mtime.tv_nsec: a.modified.nanoseconds,
        stx_rdev_major: a.rdev.major,
        stx_rdev_minor: a.rdev.minor,
        stx_dev_major: a.device.major,
        stx_dev_minor: a.device.minor,
        stx_mnt_id: mount,
    });
    answer(buffer, &bytes, 0)
}

/// `faccessat2(2)`.
pub fn faccessat2(t: &Thread, dirfd: i32, name: u64, mode: u32, flags: u32) -> Attempt<u64> {
    let known = linux::AT_EACCESS | linux::AT_SYMLINK_NOFOLLOW | linux::AT_EMPTY_PATH;
    if mode & !7 != 0 || flags & !known != 0 {
        return Err(Errno::EINVAL.into());
    }
    let name = path_at_once(name)?;
    let own = t.credentials();
    let credentials = if flags & linux::AT_EACCESS == 0 {
        own.as_real()
    } else {
        Credentials::clone(&own)
    };
    let subject = if name.is_empty() && flags & linux::AT_EMPTY_PATH != 0 {
        subject(t, dirfd, &name, flags)?
    } else {
        let last = if flags & linux::AT_SYMLINK_NOFOLLOW != 0 {
            LastLink::Keep
        } else {
            LastLink::Follow
        };
        Subject::Location(find_as(t, &credentials, dirfd, &name, last)?)
    };
    let wanted = Permission::from_bits_truncate(mode as u16);
    let attributes = subject.attributes();
    permit(&attributes, &credentials, wanted)?;
    let is_node = matches!(
        attributes.kind,
        FileKind::CharDevice | FileKind::BlockDevice | FileKind::Fifo
    );
    if wanted.contains(Permission::WRITE) && !is_node {
        subject.location().mount.writable()?;
    }
    Ok(0)
}

/// `faccessat(2)`, which has no flags.
pub fn faccessat(t: &Thread, dirfd: i32, name: u64, mode: u32) -> Attempt<u64> {
    faccessat2(t, dirfd, name, mode, 0)
}

/// `access(2)`.
pub fn access(t: &Thread, name: u64, mode: u32) -> Attempt<u64> {
    faccessat2(t, AT_FDCWD, name, mode, 0)
}

/// `readlinkat(2)`; an empty path is the link that `dirfd` was opened on by `O_PATH`.
pub fn readlinkat(t: &Thread, dirfd: i32, name: u64, buffer: u64, size: i32) -> Attempt<u64> {
    if size <= 0 {
        return Err(Errno::EINVAL.into());
    }
    let name = path_at_once(name)?;
    let flags = linux::AT_SYMLINK_NOFOLLOW | if dirfd == AT_FDCWD { 0 } else { linux::AT_EMPTY_PATH };
    let subject = subject(t, dirfd, &name, flags)?;
    let missing = if name.is_empty() { Errno::ENOENT } else { Errno::EINVAL };
    let location = subject.location();
    if location.inode.kind() != FileKind::Symlink {
        return Err(missing.into());
    }
    let mut target = LinkText::new();
    location.inode.read_link(&mut target)?;
    let length = target.len().min(size as usize);
    answer(buffer, &target[..length], length as u64)
}

/// `readlink(2)`.
pub fn readlink(t: &Thread, name: u64, buffer: u64, size: i32) -> Attempt<u64> {
    readlinkat(t, AT_FDCWD, name, buffer, size)
}

fn put_statfs(address: u64, status: &FileSystemStatus, flags: u32) -> Attempt<u64> {
    let bytes = structure!(linux::statfs {
        f_type: status.magic,
        f_bsize: 4096u32,
        f_blocks: status.blocks,
        f_bfree: status.free_blocks,
        f_bavail: status.free_blocks,
        f_files: status.files,
        f_ffree: status.free_files,
        f_fsid: status.device.encode(),
        f_namelen: 255u32,
        f_frsize: 4096u32,
        // ST_VALID, and the mount flags that have the same values as ST_ ones.
        f_flags: 0x20 | flags & (linux::MS_RDONLY | linux::MS_NOSUID | linux::MS_NODEV | linux::MS_NOEXEC),
    });
    answer(address, &bytes, 0)
}

/// `statfs(2)`.
pub fn statfs(t: &Thread, name: u64, buffer: u64) -> Attempt<u64> {
    let name = path_at_once(name)?;
    let place = at::find(t, AT_FDCWD, &name, LastLink::Follow)?;
    put_statfs(buffer, &place.inode.status(), place.mount.flags())
}

/// `fstatfs(2)`.
pub fn fstatfs(t: &Thread, fd: i32, buffer: u64) -> Attempt<u64> {
    let file = t.file(fd)?;
    let place = file.location();
    put_statfs(buffer, &place.inode.status(), place.mount.flags())
}
