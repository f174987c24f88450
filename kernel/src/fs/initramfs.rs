//! Unpacking the initramfs: a newc cpio archive, copied into the root file system.
//!
//! The archive comes from outside, so nothing in it is trusted: an entry that cannot be is reported and what came
//! before stays.

use alloc::{format, string::String, sync::Arc, vec::Vec};

use super::{
    attributes::{DeviceNumber, FileKind, SetAttributes, Timestamp},
    file::{File, Transfer, WriteAt},
    inode::{Inode, NewFile, OpenRequest},
    io::Source,
    path::NAME_MAX,
};
use crate::errno::{Errno, Result};

/// What was unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Files of any type.
    pub files: usize,
    /// Bytes of regular files.
    pub bytes: u64,
}

/// Why unpacking stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnpackError {
    /// What came before and stays.
    pub unpacked: Report,
    /// What is wrong, in words.
    pub reason: String,
}

/// Unpacks `archive` below `root`.
///
/// # Errors
/// [`UnpackError`] for a malformed archive (also one without its trailer), or a file that cannot be made.
pub fn unpack(root: &Arc<dyn Inode>, archive: &[u8]) -> core::result::Result<Report, UnpackError> {
    let mut report = Report::default();
    let mut linked: Vec<(u32, Arc<dyn Inode>)> = Vec::new();
    // The iterator leaves the trailer out, and stops silently at anything it does not understand.
    for entry in cpio_reader::iter_files(archive) {
        if let Err(errno) = place(root, &entry, &mut linked, &mut report) {
            let reason = format!("{}: {errno:?}", entry.name());
            return Err(UnpackError {
                unpacked: report,
                reason,
            });
        }
    }
    if !ends_with_trailer(archive) {
        let reason = format!("the archive is cut off or malformed after {} files", report.files);
        return Err(UnpackError {
            unpacked: report,
            reason,
        });
    }
    Ok(report)
}

/// Bytes of a newc header.
const HEADER: usize = 110;

/// Walks the headers by themselves and says whether they lead to the trailer.
fn ends_with_trailer(archive: &[u8]) -> bool {
    let hex = |at: usize| -> Option<usize> {
        let digits = core::str::from_utf8(archive.get(at..at + 8)?).ok()?;
        usize::from_str_radix(digits, 16).ok()
    };
    let mut at = 0usize;
    loop {
        let magic = archive.get(at..at.saturating_add(6));
        if !matches!(magic, Some(b"070701" | b"070702")) {
            return false;
        }
        let (Some(size), Some(name_size)) = (hex(at + 54), hex(at + 94)) else {
            return false;
        };
        let name = at + HEADER;
        if archive.get(name..name.saturating_add(name_size)) == Some(b"TRAILER!!!\0") {
            return true;
        }
        let data = (name + name_size).next_multiple_of(4);
        at = (data + size).next_multiple_of(4);
    }
}

fn place(
    root: &Arc<dyn Inode>,
    entry: &cpio_reader::Entry<'_>,
    linked: &mut Vec<(u32, Arc<dyn Inode>)>,
    report: &mut Report,
) -> Result<()> {
    let mut names = entry
        .name()
        .as_bytes()
        .split(|&byte| byte == b'/')
        .filter(|name| !matches!(*name, b"" | b"."));
    let Some(mut name) = names.next() else { return Ok(()) };
    let mut directory = root.clone();
    for next in names {
        directory = enter(&directory, name)?;
        name = next;
    }
    check(name)?;
    let mode = entry.mode().bits();
    let kind = FileKind::from_mode(mode).ok_or(Errno::EINVAL)?;
    if kind == FileKind::Directory && directory.lookup(name).is_ok_and(|found| found.kind() == kind) {
        directory.lookup(name)?.set_attributes(&attributes(entry))?;
        return Ok(());
    }
    let existing = linked
        .iter()
        .find(|(number, _)| entry.nlink() > 1 && *number == entry.ino());
    let existing = existing
        .filter(|_| kind == FileKind::Regular)
        .map(|(_, inode)| inode.clone());
    let inode = match existing {
        Some(inode) => {
            directory.link(name, &inode)?;
            inode
        }
        None => {
            let mut new = NewFile::new(kind, mode as u16 & 0o7777, entry.uid(), entry.gid());
            new.rdev = DeviceNumber::new(entry.rdevmajor().unwrap_or(0), entry.rdevminor().unwrap_or(0));
            if kind == FileKind::Symlink {
                new.target = entry.file();
            }
            let inode = match directory.create(name, &new) {
                Err(Errno::EEXIST) => {
                    // A later entry of the same name wins, as on Linux.
                    directory.unlink(name)?;
                    directory.create(name, &new)?
                }
                other => other?,
            };
            if entry.nlink() > 1 && kind == FileKind::Regular {
                linked.push((entry.ino(), inode.clone()));
            }
            inode
        }
    };
    if kind == FileKind::Regular && !entry.file().is_empty() {
        write(&inode, entry.file())?;
        report.bytes += entry.file().len() as u64;
    }
    inode.set_attributes(&attributes(entry))?;
    report.files += 1;
    Ok(())
}

fn attributes(entry: &cpio_reader::Entry<'_>) -> SetAttributes {
    let time = Timestamp {
        seconds: entry.mtime() as i64,
        nanoseconds: 0,
    };
    SetAttributes {
        permissions: Some(entry.mode().bits() as u16 & 0o7777),
        uid: Some(entry.uid()),
        gid: Some(entry.gid()),
        modified: Some(time),
        ..SetAttributes::default()
    }
}

fn check(name: &[u8]) -> Result<()> {
    match name {
        b".." => Err(Errno::EINVAL),
        _ if name.len() > NAME_MAX => Err(Errno::ENAMETOOLONG),
        _ => Ok(()),
    }
}

/// The directory of that name, made if the archive left it out.
fn enter(directory: &Arc<dyn Inode>, name: &[u8]) -> Result<Arc<dyn Inode>> {
    check(name)?;
    match directory.lookup(name) {
        Err(Errno::ENOENT) => directory.create(name, &NewFile::new(FileKind::Directory, 0o755, 0, 0)),
        found => found,
    }
}

fn write(inode: &Arc<dyn Inode>, bytes: &[u8]) -> Result<()> {
    let request = OpenRequest {
        flags: linux_raw_sys::general::O_WRONLY,
        caller: None,
    };
    let file: Arc<dyn File> = inode.clone().open(&request)?;
    let mut source = Source::kernel(bytes);
    let mut position = 0;
    while !source.is_complete() {
        source.open_window();
        let mut transfer = Transfer {
            position: &mut position,
            write_at: WriteAt::Position,
            flags: request.flags,
            caller: None,
        };
        file.write(&mut transfer, &mut source).map_err(|stop| match stop {
            super::file::Stop::Errno(errno) => errno,
            _ => Errno::EIO,
        })?;
    }
    Ok(())
}
