//! Changing names: making, linking, moving and removing files; the working and root directories; listing.

use alloc::sync::Arc;

use linux_raw_sys::general as linux;

use super::{
    at::{AT_FDCWD, find, may_change_names, new_mode, subject, walk},
    user::{UserPath, path, put, with_faults},
};
use crate::{
    errno::{Errno, Result},
    fs::{
        Attempt, DeviceNumber, FileKind, Location, Permission, Sink, UserSlice,
        attributes::{may_delete, permit},
        file::DirectoryEntry,
        inode::{NewFile, RenameMode},
        nameless,
        path::{LastLink, LastName, Named, Walked, path_of},
        tmpfs,
    },
    task::{Capability, Thread},
};

fn make(t: &Thread, dirfd: i32, name: &[u8], kind: FileKind, mode: u16, rdev: DeviceNumber, to: &[u8]) -> Result<u64> {
    let walked = walk(t, dirfd, name, LastLink::Keep)?;
    let (directory, last) = walked.vacant()?;
    if walked.trailing_slash && kind != FileKind::Directory {
        return Err(Errno::ENOENT);
    }
    let credentials = t.credentials();
    may_change_names(directory, &credentials)?;
    let mode = new_mode(directory, &credentials, kind, mode);
    let mut new = NewFile::new(kind, mode, credentials.fsuid, credentials.fsgid);
    if kind != FileKind::Symlink {
        new.permissions &= !t.fs().umask();
    }
    new.rdev = rdev;
    new.target = to;
    directory.inode.create(last, &new)?;
    Ok(0)
}

/// `mkdirat(2)`.
pub async fn mkdirat(t: &Thread, dirfd: i32, name: u64, mode: u32) -> Result<u64> {
    let name = path(t, name).await?;
    make(
        t,
        dirfd,
        &name,
        FileKind::Directory,
        mode as u16 & 0o1777,
        DeviceNumber::default(),
        &[],
    )
}

/// `mkdir(2)`.
pub async fn mkdir(t: &Thread, name: u64, mode: u32) -> Result<u64> {
    mkdirat(t, AT_FDCWD, name, mode).await
}

/// `mknodat(2)`.
pub async fn mknodat(t: &Thread, dirfd: i32, name: u64, mode: u32, device: u32) -> Result<u64> {
    let name = path(t, name).await?;
    let kind = match mode & linux::S_IFMT {
        0 => FileKind::Regular,
        _ => FileKind::from_mode(mode).ok_or(Errno::EINVAL)?,
    };
    match kind {
        FileKind::Directory => return Err(Errno::EPERM),
        FileKind::Symlink => return Err(Errno::EINVAL),
        FileKind::CharDevice | FileKind::BlockDevice if !t.credentials().can(Capability::Mknod) => {
            return Err(Errno::EPERM);
        }
        _ => {}
    }
    make(
        t,
        dirfd,
        &name,
        kind,
        mode as u16 & 0o7777,
        DeviceNumber::decode(device),
        &[],
    )
}

/// `mknod(2)`.
pub async fn mknod(t: &Thread, name: u64, mode: u32, device: u32) -> Result<u64> {
    mknodat(t, AT_FDCWD, name, mode, device).await
}

/// `symlinkat(2)`.
pub async fn symlinkat(t: &Thread, target: u64, dirfd: i32, name: u64) -> Result<u64> {
    let target = path(t, target).await?;
    let name = path(t, name).await?;
    if target.is_empty() {
        return Err(Errno::ENOENT);
    }
    make(
        t,
        dirfd,
        &name,
        FileKind::Symlink,
        0o777,
        DeviceNumber::default(),
        &target,
    )
}

/// `symlink(2)`.
pub async fn symlink(t: &Thread, target: u64, name: u64) -> Result<u64> {
    symlinkat(t, target, AT_FDCWD, name).await
}

/// `linkat(2)`.
pub async fn linkat(t: &Thread, old_dirfd: i32, old: u64, dirfd: i32, name: u64, flags: u32) -> Result<u64> {
    if flags & !(linux::AT_SYMLINK_FOLLOW | linux::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & linux::AT_EMPTY_PATH != 0 && !t.credentials().can(Capability::DacReadSearch) {
        return Err(Errno::ENOENT);
    }
    let old = path(t, old).await?;
    let name = path(t, name).await?;
    let keep = if flags & linux::AT_SYMLINK_FOLLOW == 0 {
        linux::AT_SYMLINK_NOFOLLOW
    } else {
        0
    };
    let source = subject(t, old_dirfd, &old, flags & linux::AT_EMPTY_PATH | keep)?;
    let source = source.location();
    let walked = walk(t, dirfd, &name, LastLink::Keep)?;
    let (directory, last) = walked.vacant()?;
    if walked.trailing_slash {
        return Err(Errno::ENOENT);
    }
    if directory.mount.id() != source.mount.id() {
        return Err(Errno::EXDEV);
    }
    may_change_names(directory, &t.credentials())?;
    directory.inode.link(last, &source.inode)?;
    Ok(0)
}

/// `link(2)`.
pub async fn link(t: &Thread, old: u64, name: u64) -> Result<u64> {
    linkat(t, AT_FDCWD, old, AT_FDCWD, name, 0).await
}

/// Whether the caller may take what a walk found away.
fn may_remove(t: &Thread, walked: &Walked) -> Result<()> {
    let target = walked.target.as_ref().ok_or(Errno::ENOENT)?;
    let credentials = t.credentials();
    may_change_names(&walked.directory, &credentials)?;
    may_delete(
        &walked.directory.inode.attributes(),
        &target.inode.attributes(),
        &credentials,
    )?;
    if target.mount.id() == walked.directory.mount.id() {
        Ok(())
    } else {
        Err(Errno::EBUSY)
    }
}

fn remove_directory(t: &Thread, dirfd: i32, name: &[u8]) -> Result<u64> {
    let walked = walk(t, dirfd, name, LastLink::Keep)?;
    match walked.last {
        LastName::Name => {}
        LastName::Dot => return Err(Errno::EINVAL),
        LastName::DotDot => return Err(Errno::ENOTEMPTY),
        LastName::None => return Err(Errno::EBUSY),
    }
    may_remove(t, &walked)?;
    walked.directory.inode.remove_directory(&walked.name)?;
    Ok(0)
}

fn remove_file(t: &Thread, dirfd: i32, name: &[u8]) -> Result<u64> {
    let walked = walk(t, dirfd, name, LastLink::Keep)?;
    if walked.last != LastName::Name {
        return Err(Errno::EISDIR);
    }
    if walked.trailing_slash {
        return Err(if walked.target.is_some() {
            Errno::EISDIR
        } else {
            Errno::ENOENT
        });
    }
    may_remove(t, &walked)?;
    walked.directory.inode.unlink(&walked.name)?;
    Ok(0)
}

/// `unlinkat(2)`.
pub async fn unlinkat(t: &Thread, dirfd: i32, name: u64, flags: u32) -> Result<u64> {
    let name = path(t, name).await?;
    match flags {
        0 => remove_file(t, dirfd, &name),
        linux::AT_REMOVEDIR => remove_directory(t, dirfd, &name),
        _ => Err(Errno::EINVAL),
    }
}

/// `unlink(2)`.
pub async fn unlink(t: &Thread, name: u64) -> Result<u64> {
    unlinkat(t, AT_FDCWD, name, 0).await
}

/// `rmdir(2)`.
pub async fn rmdir(t: &Thread, name: u64) -> Result<u64> {
    unlinkat(t, AT_FDCWD, name, linux::AT_REMOVEDIR).await
}

fn rename_paths(t: &Thread, from: (i32, UserPath), to: (i32, UserPath), mode: RenameMode) -> Result<u64> {
    let source = walk(t, from.0, &from.1, LastLink::Keep)?;
    let target = walk(t, to.0, &to.1, LastLink::Keep)?;
    if source.last != LastName::Name || target.last != LastName::Name {
        return Err(Errno::EBUSY);
    }
    if source.directory.mount.id() != target.directory.mount.id() {
        return Err(Errno::EXDEV);
    }
    may_remove(t, &source)?;
    let moves_directory = source
        .target
        .as_ref()
        .is_some_and(|found| found.inode.kind() == FileKind::Directory);
    match &target.target {
        Some(_) if mode == RenameMode::NoReplace => return Err(Errno::EEXIST),
        Some(_) => may_remove(t, &target)?,
        None if target.trailing_slash && !moves_directory => return Err(Errno::ENOTDIR),
        None => may_change_names(&target.directory, &t.credentials())?,
    }
    source
        .directory
        .inode
        .rename(&source.name, &target.directory.inode, &target.name, mode)?;
    Ok(0)
}

/// `renameat2(2)`.
pub async fn renameat2(t: &Thread, old_dirfd: i32, old: u64, dirfd: i32, name: u64, flags: u32) -> Result<u64> {
    let mode = match flags {
        0 => RenameMode::Replace,
        linux::RENAME_NOREPLACE => RenameMode::NoReplace,
        linux::RENAME_EXCHANGE => RenameMode::Exchange,
        _ => return Err(Errno::EINVAL),
    };
    let old = path(t, old).await?;
    let name = path(t, name).await?;
    rename_paths(t, (old_dirfd, old), (dirfd, name), mode)
}

/// `renameat(2)`.
pub async fn renameat(t: &Thread, old_dirfd: i32, old: u64, dirfd: i32, name: u64) -> Result<u64> {
    renameat2(t, old_dirfd, old, dirfd, name, 0).await
}

/// `rename(2)`.
pub async fn rename(t: &Thread, old: u64, name: u64) -> Result<u64> {
    renameat2(t, AT_FDCWD, old, AT_FDCWD, name, 0).await
}

fn enterable(t: &Thread, location: &Location) -> Result<()> {
    if location.inode.kind() != FileKind::Directory {
        return Err(Errno::ENOTDIR);
    }
    permit(&location.inode.attributes(), &t.credentials(), Permission::EXECUTE)
}

/// `chdir(2)`.
pub async fn chdir(t: &Thread, name: u64) -> Result<u64> {
    let name = path(t, name).await?;
    let place = find(t, AT_FDCWD, &name, LastLink::Follow)?;
    enterable(t, &place)?;
    t.fs().set_working_directory(place);
    Ok(0)
}

/// `fchdir(2)`.
pub fn fchdir(t: &Thread, fd: i32) -> Result<u64> {
    let file = t.file(fd)?;
    let place = file.location();
    enterable(t, place)?;
    t.fs().set_working_directory(place.clone());
    Ok(0)
}

/// `chroot(2)`.
pub async fn chroot(t: &Thread, name: u64) -> Result<u64> {
    let name = path(t, name).await?;
    let place = find(t, AT_FDCWD, &name, LastLink::Follow)?;
    enterable(t, &place)?;
    if !t.credentials().can(Capability::SysChroot) {
        return Err(Errno::EPERM);
    }
    t.fs().set_root(place);
    Ok(0)
}

/// `getcwd(2)`: the length with its final zero.
pub async fn getcwd(t: &Thread, buffer: u64, size: u64) -> Result<u64> {
    let fs = t.fs();
    let mut name = match path_of(&fs.working_directory(), &fs.root()) {
        Named::Path(path) => path,
        Named::Unreachable(path) => Named::Unreachable(path).display(),
        Named::Deleted(_) | Named::Nameless(_) => return Err(Errno::ENOENT),
    };
    name.push(0);
    if name.len() as u64 > size {
        return Err(Errno::ERANGE);
    }
    put(t, buffer, &name).await?;
    Ok(name.len() as u64)
}

/// `umask(2)`.
pub fn umask(t: &Thread, mask: u32) -> Result<u64> {
    Ok(u64::from(t.fs().set_umask(mask as u16)))
}

/// How a directory entry lies in the caller's buffer.
#[derive(Clone, Copy)]
enum EntryLayout {
    /// `struct linux_dirent`: the type is the last byte.
    Old,
    /// `struct linux_dirent64`.
    Wide,
}

fn put_entry(sink: &mut Sink<'_>, entry: &DirectoryEntry<'_>, layout: EntryLayout) -> Attempt<()> {
    let fixed = match layout {
        EntryLayout::Old => 18 + entry.name.len() + 2,
        EntryLayout::Wide => 19 + entry.name.len() + 1,
    };
    let length = fixed.next_multiple_of(8);
    if sink.remaining() < length {
        // With nothing put yet this is the call's error, otherwise its end.
        return Err(Errno::EINVAL.into());
    }
    let start = sink.done();
    let mut record = [0u8; 288];
    record[..8].copy_from_slice(&entry.inode.to_ne_bytes());
    record[8..16].copy_from_slice(&entry.next.to_ne_bytes());
    record[16..18].copy_from_slice(&(length as u16).to_ne_bytes());
    let name = match layout {
        EntryLayout::Old => {
            record[length - 1] = entry.kind.directory_type();
            18
        }
        EntryLayout::Wide => {
            record[18] = entry.kind.directory_type();
            19
        }
    };
    record[name..name + entry.name.len()].copy_from_slice(entry.name);
    if let Err(fault) = sink.put(&record[..length]) {
        sink.rewind(start);
        return Err(fault.into());
    }
    Ok(())
}

async fn list(t: &Thread, fd: i32, buffer: u64, size: u32, layout: EntryLayout) -> Result<u64> {
    let file = t.files().get_usable(fd)?;
    let mut sink = Sink::user_slice(UserSlice::new(buffer, u64::from(size))?);
    let result = with_faults(t, || {
        sink.open_window();
        file.with_position(|position| {
            file.file()
                .read_directory(position, &mut |entry| put_entry(&mut sink, entry, layout))
        })
    })
    .await;
    match result {
        Err(errno) if sink.done() == 0 => Err(errno),
        _ => Ok(sink.done() as u64),
    }
}

/// `getdents64(2)`.
pub async fn getdents64(t: &Thread, fd: i32, buffer: u64, size: u32) -> Result<u64> {
    list(t, fd, buffer, size, EntryLayout::Wide).await
}

/// `getdents(2)`.
pub async fn getdents(t: &Thread, fd: i32, buffer: u64, size: u32) -> Result<u64> {
    list(t, fd, buffer, size, EntryLayout::Old).await
}

/// A memory file without a name (`memfd_create(2)`).
pub async fn memfd_create(t: &Thread, name: u64, flags: u32) -> Result<u64> {
    let name = path(t, name).await?;
    if name.len() > 249 || flags & !(linux::MFD_CLOEXEC | linux::MFD_ALLOW_SEALING | linux::MFD_EXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    let sealable = flags & linux::MFD_ALLOW_SEALING != 0;
    let file = tmpfs::unnamed_file(&name, sealable, &t.credentials())?;
    let open = crate::fs::OpenFile::new(file.clone(), nameless::place(file), linux::O_RDWR | linux::O_LARGEFILE);
    let on_exec = if flags & linux::MFD_CLOEXEC != 0 {
        crate::fs::OnExec::Close
    } else {
        crate::fs::OnExec::Keep
    };
    Ok(t.files()
        .insert(Arc::new(open), on_exec, super::open::descriptor_limit(t))? as u64)
}
