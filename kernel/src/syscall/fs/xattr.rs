//! Extended attributes: `xattr(7)`.
//!
//! Who may: `user.*` as the contents of a file or directory; `trusted.*` by root alone, and nobody else learns of them; `security.*`
//! is read by all and set by root, `security.capability` by whoever may give files capabilities. Access lists (`system.*`) there are none.

use alloc::vec::Vec;

use linux_raw_sys::general as linux;
use smallvec::SmallVec;

use super::{
    at::{AT_FDCWD, Subject, subject},
    user::{answer, path_at_once, string_at_once},
};
use crate::{
    errno::{Errno, Result},
    fs::{
        FileKind, Permission,
        attributes::{owns, permit},
        file::Attempt,
        inode::SetMode,
        io::copy_in,
    },
    mm::fallible::TryRoomExact,
    task::{Capability, Thread, file_capabilities},
};

/// `XATTR_NAME_MAX` (`linux/limits.h`).
const NAME_MAX: usize = linux::XATTR_NAME_MAX as usize;
/// `XATTR_SIZE_MAX`, and `XATTR_LIST_MAX`, which is the same.
const SIZE_MAX: usize = linux::XATTR_SIZE_MAX as usize;
/// The sticky bit.
const S_ISVTX: u16 = 0o1000;

/// A name, short ones without allocation.
type Name = SmallVec<[u8; 64]>;

/// What names begin with.
struct Space;

impl Space {
    const USER: &[u8] = b"user.";
    const TRUSTED: &[u8] = b"trusted.";
    const SECURITY: &[u8] = b"security.";
    const SYSTEM: &[u8] = b"system.";

    /// Whether a file can have an attribute of that name.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for a name of no known kind, `EINVAL` for one that has nothing but its kind.
    fn check(name: &[u8]) -> Result<()> {
        let kinds = [Self::USER, Self::TRUSTED, Self::SECURITY];
        let kind = kinds
            .iter()
            .find(|kind| name.starts_with(kind))
            .ok_or(Errno::EOPNOTSUPP)?;
        if name.len() == kind.len() {
            Err(Errno::EINVAL)
        } else {
            Ok(())
        }
    }
}

/// Whether the caller may read or change an attribute, whether or not the file can have it.
///
/// # Errors
/// `EPERM`, `EACCES`; `ENODATA` where it may not even know.
fn may(t: &Thread, subject: &Subject, name: &[u8], wanted: Permission) -> Result<()> {
    let attributes = subject.attributes();
    let credentials = t.credentials();
    let changes = wanted == Permission::WRITE;
    let refused = Err(if changes { Errno::EPERM } else { Errno::ENODATA });
    let is_admin = credentials.can(Capability::SysAdmin);
    if name.starts_with(Space::SECURITY) {
        let may_change = match name == file_capabilities::NAME {
            true => credentials.can(Capability::Setfcap),
            false => is_admin,
        };
        return if changes && !may_change { refused } else { Ok(()) };
    }
    if name.starts_with(Space::SYSTEM) {
        return Ok(());
    }
    if name.starts_with(Space::TRUSTED) {
        return if is_admin { Ok(()) } else { refused };
    }
    if name.starts_with(Space::USER) {
        let is_directory = attributes.kind == FileKind::Directory;
        if !is_directory && attributes.kind != FileKind::Regular {
            return refused;
        }
        if changes && is_directory && attributes.permissions & S_ISVTX != 0 {
            owns(&attributes, &credentials)?;
        }
    }
    permit(&attributes, &credentials, wanted)
}

/// A name of the caller's.
fn name_at_once(address: u64) -> Attempt<Name> {
    let name: Name = string_at_once(address, NAME_MAX, Errno::ERANGE)?;
    if name.is_empty() {
        return Err(Errno::ERANGE.into());
    }
    Ok(name)
}

fn by_path(t: &Thread, path: u64, flags: u32) -> Attempt<Subject> {
    Ok(subject(t, AT_FDCWD, &path_at_once(path)?, flags)?)
}

fn by_descriptor(t: &Thread, fd: i32) -> Attempt<Subject> {
    Ok(Subject::Open(t.files().get_usable(fd)?))
}

fn set(t: &Thread, subject: &Subject, name: u64, value: u64, size: usize, flags: u32) -> Attempt<u64> {
    let mode = match flags {
        0 => SetMode::Any,
        linux::XATTR_CREATE => SetMode::Create,
        linux::XATTR_REPLACE => SetMode::Replace,
        // As on Linux both at once are asked for one after the other, and so always refused.
        _ if flags == linux::XATTR_CREATE | linux::XATTR_REPLACE => SetMode::Never,
        _ => return Err(Errno::EINVAL.into()),
    };
    let name = name_at_once(name)?;
    if size > SIZE_MAX {
        return Err(Errno::E2BIG.into());
    }
    let mut bytes = Vec::new();
    bytes.try_room_exact(size)?;
    bytes.resize(size, 0);
    copy_in(&mut bytes, value)?;
    change(t, subject, &name, Some(&bytes), mode)
}

fn remove(t: &Thread, subject: &Subject, name: u64) -> Attempt<u64> {
    let name = name_at_once(name)?;
    change(t, subject, &name, None, SetMode::Any)
}

fn change(t: &Thread, subject: &Subject, name: &[u8], value: Option<&[u8]>, mode: SetMode) -> Attempt<u64> {
    let location = subject.location();
    location.mount.writable()?;
    // That it is one is looked at before who may.
    if let Some(value) = value.filter(|value| !value.is_empty())
        && name == file_capabilities::NAME
    {
        file_capabilities::check(value)?;
    }
    may(t, subject, name, Permission::WRITE)?;
    Space::check(name)?;
    location.inode.set_extended(name, value, mode)?;
    Ok(0)
}

fn get(t: &Thread, subject: &Subject, name: u64, buffer: u64, size: usize) -> Attempt<u64> {
    let name = name_at_once(name)?;
    may(t, subject, &name, Permission::READ)?;
    let location = subject.location();
    Space::check(&name)?;
    let mut value = location.inode.extended(&name)?;
    if *name == *file_capabilities::NAME {
        value = file_capabilities::shown(value)?;
    }
    give(&value, buffer, size)
}

fn list(t: &Thread, subject: &Subject, buffer: u64, size: usize) -> Attempt<u64> {
    let location = subject.location();
    let mut names = Vec::new();
    let sees_all = t.credentials().can(Capability::SysAdmin);
    location.inode.extended_names(&mut names, sees_all)?;
    if names.len() > SIZE_MAX {
        return Err(Errno::E2BIG.into());
    }
    give(&names, buffer, size)
}

/// Copies bytes to a buffer of `size` bytes; none only asks how many there are.
fn give(bytes: &[u8], buffer: u64, size: usize) -> Attempt<u64> {
    match size {
        0 => Ok(bytes.len() as u64),
        size if size < bytes.len() => Err(Errno::ERANGE.into()),
        _ => answer(buffer, bytes, bytes.len() as u64),
    }
}

/// `setxattr(2)`.
pub fn setxattr(t: &Thread, path: u64, name: u64, value: u64, size: usize, flags: u32) -> Attempt<u64> {
    set(t, &by_path(t, path, 0)?, name, value, size, flags)
}

/// `lsetxattr(2)`.
pub fn lsetxattr(t: &Thread, path: u64, name: u64, value: u64, size: usize, flags: u32) -> Attempt<u64> {
    set(
        t,
        &by_path(t, path, linux::AT_SYMLINK_NOFOLLOW)?,
        name,
        value,
        size,
        flags,
    )
}

/// `fsetxattr(2)`.
pub fn fsetxattr(t: &Thread, fd: i32, name: u64, value: u64, size: usize, flags: u32) -> Attempt<u64> {
    set(t, &by_descriptor(t, fd)?, name, value, size, flags)
}

/// `getxattr(2)`.
pub fn getxattr(t: &Thread, path: u64, name: u64, buffer: u64, size: usize) -> Attempt<u64> {
    get(t, &by_path(t, path, 0)?, name, buffer, size)
}

/// `lgetxattr(2)`.
pub fn lgetxattr(t: &Thread, path: u64, name: u64, buffer: u64, size: usize) -> Attempt<u64> {
    get(t, &by_path(t, path, linux::AT_SYMLINK_NOFOLLOW)?, name, buffer, size)
}

/// `fgetxattr(2)`.
pub fn fgetxattr(t: &Thread, fd: i32, name: u64, buffer: u64, size: usize) -> Attempt<u64> {
    get(t, &by_descriptor(t, fd)?, name, buffer, size)
}

/// `listxattr(2)`.
pub fn listxattr(t: &Thread, path: u64, buffer: u64, size: usize) -> Attempt<u64> {
    list(t, &by_path(t, path, 0)?, buffer, size)
}

/// `llistxattr(2)`.
pub fn llistxattr(t: &Thread, path: u64, buffer: u64, size: usize) -> Attempt<u64> {
    list(t, &by_path(t, path, linux::AT_SYMLINK_NOFOLLOW)?, buffer, size)
}

/// `flistxattr(2)`.
pub fn flistxattr(t: &Thread, fd: i32, buffer: u64, size: usize) -> Attempt<u64> {
    list(t, &by_descriptor(t, fd)?, buffer, size)
}

/// `removexattr(2)`.
pub fn removexattr(t: &Thread, path: u64, name: u64) -> Attempt<u64> {
    remove(t, &by_path(t, path, 0)?, name)
}

/// `lremovexattr(2)`.
pub fn lremovexattr(t: &Thread, path: u64, name: u64) -> Attempt<u64> {
    remove(t, &by_path(t, path, linux::AT_SYMLINK_NOFOLLOW)?, name)
}

/// `fremovexattr(2)`.
pub fn fremovexattr(t: &Thread, fd: i32, name: u64) -> Attempt<u64> {
    remove(t, &by_descriptor(t, fd)?, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_they_are_for() {
        for name in [b"user.x".as_slice(), b"trusted.overlay", b"security.selinux"] {
            assert_eq!(Space::check(name), Ok(()));
        }
        assert_eq!(Space::check(b"user."), Err(Errno::EINVAL));
        for name in [b"user".as_slice(), b"system.posix_acl_access", b"xuser.a", b"x"] {
            assert_eq!(Space::check(name), Err(Errno::EOPNOTSUPP));
        }
    }
}
