//! `mount`, `umount2`.

use alloc::{boxed::Box, sync::Arc};

use linux_raw_sys::general as linux;

use super::{
    at::{AT_FDCWD, find, walk},
    user::{UserPath, path},
};
use crate::{
    errno::{Errno, Result},
    fs::{
        FileKind, Inode, archive, block_device, devfs,
        mount::{self, Unmount},
        path::LastLink,
        procfs,
        tmpfs::{self, TmpFs},
    },
    task::{Capability, Thread},
};

/// Flags kept with a mount.
const KEPT: u32 = linux::MS_RDONLY
    | linux::MS_NOSUID
    | linux::MS_NODEV
    | linux::MS_NOEXEC
    | linux::MS_NOATIME
    | linux::MS_NODIRATIME
    | linux::MS_RELATIME
    | linux::MS_NOSYMFOLLOW;

/// `MS_NOUSER`: a mount of the kernel's own.
const MS_NOUSER: u32 = 1 << 31;

/// A size as tmpfs' options have it: a number with k, m, g, or a percentage of memory.
fn parse_size(text: &str) -> Result<u64> {
    let number = |digits: &str| digits.parse::<u64>().map_err(|_| Errno::EINVAL);
    let Some(suffix) = text.chars().last() else {
        return Err(Errno::EINVAL);
    };
    let digits = &text[..text.len() - suffix.len_utf8()];
    let shift = match suffix.to_ascii_lowercase() {
        '%' => {
            let total = crate::mm::frame::stats().total as u64;
            return Ok(total.saturating_mul(4096) / 100 * number(digits)?);
        }
        'k' => 10,
        'm' => 20,
        'g' => 30,
        _ => return number(text),
    };
    number(digits)?.checked_mul(1 << shift).ok_or(Errno::EINVAL)
}

fn new_tmpfs(options: &[u8]) -> Result<Arc<dyn Inode>> {
    let options = core::str::from_utf8(options).map_err(|_| Errno::EINVAL)?;
    let mut limits = tmpfs::Limits::half_of_memory();
    let mut permissions = 0o1777;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", size)) => limits.pages = parse_size(size)?.div_ceil(4096),
            Some(("nr_blocks", pages)) => limits.pages = parse_size(pages)?,
            Some(("nr_inodes", inodes)) => limits.inodes = parse_size(inodes)?,
            Some(("mode", mode)) => {
                permissions = u16::from_str_radix(mode, 8).map_err(|_| Errno::EINVAL)? & 0o7777;
            }
            Some(("uid" | "gid", _)) => {}
            _ => return Err(Errno::EINVAL),
        }
    }
    Ok(TmpFs::create(limits, permissions)?)
}

/// The root of the archive on the block device at `source`, which is mounted read-only or not at all.
async fn open_archive(t: &Thread, source: &[u8], flags: u32) -> Result<Arc<dyn Inode>> {
    let node = find(t, AT_FDCWD, source, LastLink::Follow)?;
    if node.inode.kind() != FileKind::BlockDevice {
        return Err(Errno::ENOTBLK);
    }
    if node.mount.flags() & linux::MS_NODEV != 0 {
        return Err(Errno::EACCES);
    }
    if flags & linux::MS_RDONLY == 0 {
        return Err(Errno::EROFS);
    }
    let device = block_device::by_number(node.inode.attributes().rdev).ok_or(Errno::ENXIO)?;
    let opened = t.killable(archive::open(device.volume().extent())).await?;
    opened.map_err(|fault| match fault {
        archive::Fault::Errno(errno) => errno,
        archive::Fault::NoArchive => Errno::EINVAL,
        archive::Fault::Damaged(reason) => {
            log::error!("the archive on {} is damaged: {reason}", device.name());
            Errno::EINVAL
        }
    })
}

/// `mount(2)`: new tmpfs, devtmpfs, proc, sysfs, mqueue, an archive on a disk; remounting with other flags.
pub async fn mount(t: &Thread, source: u64, target: u64, kind: u64, flags: u64, data: u64) -> Result<u64> {
    let optional = async |address: u64| {
        if address == 0 {
            Ok(UserPath::new())
        } else {
            path(t, address).await
        }
    };
    let source = optional(source).await?;
    let target = path(t, target).await?;
    let kind = optional(kind).await?;
    let data = optional(data).await?;
    let mut flags = flags as u32;
    if flags & linux::MS_MGC_MSK == linux::MS_MGC_VAL {
        flags &= !linux::MS_MGC_MSK;
    }
    let place = find(t, AT_FDCWD, &target, LastLink::Follow)?;
    if !t.credentials().can(Capability::SysAdmin) {
        return Err(Errno::EPERM);
    }
    if flags & MS_NOUSER != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & linux::MS_REMOUNT != 0 {
        if !place.is_mount_root() {
            return Err(Errno::EINVAL);
        }
        let read_only = place.mount.kind() == archive::KIND;
        if read_only && flags & linux::MS_RDONLY == 0 {
            return Err(Errno::EROFS);
        }
        place.mount.set_flags(flags & KEPT);
        return Ok(0);
    }
    if flags & (linux::MS_SHARED | linux::MS_PRIVATE | linux::MS_SLAVE | linux::MS_UNBINDABLE) != 0 {
        // There is one namespace, so nothing propagates anywhere.
        return Ok(0);
    }
    if flags & (linux::MS_BIND | linux::MS_MOVE) != 0 {
        return Err(Errno::EINVAL);
    }
    let (root, kind): (Arc<dyn Inode>, _) = match &kind[..] {
        b"tmpfs" | b"ramfs" => (new_tmpfs(&data)?, "tmpfs"),
        b"devtmpfs" => (devfs::root()?, "devtmpfs"),
        b"proc" => (procfs::new(), "proc"),
        b"sysfs" => (procfs::sysfs::new(), "sysfs"),
        b"mqueue" => (t.namespaces().ipc.mqueue().clone(), "mqueue"),
        b"cpio" => (Box::pin(open_archive(t, &source, flags)).await?, archive::KIND),
        _ => return Err(Errno::ENODEV),
    };
    let source = alloc::string::String::from_utf8_lossy(&source).into_owned();
    let source = if source.is_empty() { kind } else { &source };
    mount::mount(root, Some(place), source, kind, flags & KEPT)?;
    Ok(0)
}

/// `umount2(2)`.
pub async fn umount2(t: &Thread, target: u64, flags: u32) -> Result<u64> {
    if flags & !(linux::MNT_FORCE | linux::MNT_DETACH | linux::UMOUNT_NOFOLLOW) != 0 {
        return Err(Errno::EINVAL);
    }
    let target = path(t, target).await?;
    let last = if flags & linux::UMOUNT_NOFOLLOW != 0 {
        LastLink::Keep
    } else {
        LastLink::Follow
    };
    let place = {
        let walked = walk(t, AT_FDCWD, &target, last)?;
        walked.target.ok_or(Errno::ENOENT)?
    };
    if !t.credentials().can(Capability::SysAdmin) {
        return Err(Errno::EPERM);
    }
    mount::unmount(
        &place,
        if flags & linux::MNT_DETACH != 0 {
            Unmount::Detach
        } else {
            Unmount::IfIdle
        },
    )?;
    Ok(0)
}
