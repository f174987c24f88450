//! Unpacking the initramfs: a newc cpio archive, copied into the root file system.
//!
//! The archive comes from outside, so nothing in it is trusted: an entry that cannot be is reported and what came
//! before stays. Its memory goes to the frame allocator as it is unpacked: no file is in memory twice, but for a piece of it.

use alloc::{format, string::String, sync::Arc, vec::Vec};
use core::ops::Range;

use super::{
    archive::header::{self, Header, NAME_MOST, TRAILER, aligned},
    attributes::{DeviceNumber, FileKind, SetAttributes, Timestamp},
    file::{File, Transfer, WriteAt},
    inode::{Inode, NewFile, OpenRequest},
    io::Source,
    path::{NAME_MAX, Name},
};
use crate::{
    errno::{Errno, Result},
    mm::{fallible::TryRoom, frame::Loaded},
};

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

/// Where an archive is read from, once and in order.
pub trait Input {
    /// What has not been passed.
    fn bytes(&self) -> &[u8];

    /// Passes over so many bytes, or all that are left, which nobody reads again.
    fn pass(&mut self, count: usize);
}

impl Input for Loaded {
    fn bytes(&self) -> &[u8] {
        self.bytes()
    }

    fn pass(&mut self, count: usize) {
        self.pass(count);
    }
}

impl Input for &[u8] {
    fn bytes(&self) -> &[u8] {
        self
    }

    fn pass(&mut self, count: usize) {
        *self = &self[count.min(self.len())..];
    }
}

/// The next entry.
struct Entry<'a> {
    header: Header,
    name: &'a [u8],
    /// Where its data are, from the entry's beginning.
    data: Range<usize>,
}

impl<'a> Entry<'a> {
    /// The entry that `bytes` begin with; `None` if that is none, or not all of it.
    fn first(bytes: &'a [u8]) -> Option<Self> {
        let header = Header::parse(bytes.first_chunk()?)?;
        if !(1..=NAME_MOST).contains(&header.name_size) {
            return None;
        }
        let name_end = header::SIZE as u64 + header.name_size;
        let data = aligned(name_end);
        let data = usize::try_from(data).ok()?..usize::try_from(data.checked_add(header.size)?).ok()?;
        bytes.get(data.clone())?;
        let name = bytes.get(header::SIZE..name_end as usize)?;
        Some(Self {
            header,
            name: name.split(|byte| *byte == 0).next()?,
            data,
        })
    }

    /// Where the next one begins.
    const fn end(&self) -> usize {
        self.data.end.next_multiple_of(4)
    }
}

/// Where in `archive` the data of the file of that name are.
pub fn find(archive: &[u8], name: &[u8]) -> Option<Range<usize>> {
    let mut at = 0;
    loop {
        let entry = Entry::first(archive.get(at..)?)?;
        if entry.name.strip_prefix(b"./").unwrap_or(entry.name) == name {
            return Some(at + entry.data.start..at + entry.data.end);
        }
        at += entry.end();
    }
}

/// Unpacks `archive` below `root`, and passes over what has been unpacked.
///
/// # Errors
/// [`UnpackError`] for a malformed archive (also one without its trailer), or a file that cannot be made.
pub fn unpack(root: &Arc<dyn Inode>, archive: &mut impl Input) -> core::result::Result<Report, UnpackError> {
    let mut report = Report::default();
    let mut linked = Vec::new();
    let reason = loop {
        let Some(entry) = Entry::first(archive.bytes()) else {
            break format!("the archive is cut off or malformed after {} files", report.files);
        };
        if entry.name == TRAILER {
            return Ok(report);
        }
        let name = Name::from_slice(entry.name);
        if let Err(errno) = take(root, archive, &mut linked, &mut report) {
            break format!("{}: {errno:?}", String::from_utf8_lossy(&name));
        }
    };
    Err(UnpackError {
        unpacked: report,
        reason,
    })
}

/// Files that have several names: by the numbers of their device and their own.
type Linked = Vec<((u32, u32), u32, Arc<dyn Inode>)>;

/// Unpacks the next entry.
fn take(root: &Arc<dyn Inode>, archive: &mut impl Input, linked: &mut Linked, report: &mut Report) -> Result<()> {
    let entry = Entry::first(archive.bytes()).ok_or(Errno::EINVAL)?;
    let (header, data, end) = (entry.header, entry.data.clone(), entry.end());
    let Some(inode) = place(root, &entry, &archive.bytes()[data.clone()], linked)? else {
        archive.pass(end);
        return Ok(());
    };
    archive.pass(data.start);
    if inode.kind() == FileKind::Regular && !data.is_empty() {
        write(&inode, archive, data.len())?;
        report.bytes += data.len() as u64;
    } else {
        archive.pass(data.len());
    }
    archive.pass(end - data.end);
    inode.set_attributes(&attributes(&header))?;
    report.files += 1;
    Ok(())
}

/// Makes the file of an entry, without its contents; `None` for a directory that is there already, or no name at all.
fn place(root: &Arc<dyn Inode>, entry: &Entry<'_>, data: &[u8], linked: &mut Linked) -> Result<Option<Arc<dyn Inode>>> {
    let header = &entry.header;
    let mut names = entry
        .name
        .split(|&byte| byte == b'/')
        .filter(|name| !matches!(*name, b"" | b"."));
    let Some(mut name) = names.next() else { return Ok(None) };
    let mut directory = root.clone();
    for next in names {
        directory = enter(&directory, name)?;
        name = next;
    }
    check(name)?;
    let kind = FileKind::from_mode(header.mode).ok_or(Errno::EINVAL)?;
    if kind == FileKind::Directory
        && let Ok(found) = directory.lookup(name)
        && found.kind() == kind
    {
        found.set_attributes(&attributes(header))?;
        return Ok(None);
    }
    let has_names = header.links > 1 && kind == FileKind::Regular;
    let same = |(device, number, _): &&_| (*device, *number) == (header.device, header.inode);
    if let Some((.., inode)) = linked.iter().filter(|_| has_names).find(same) {
        directory.link(name, inode)?;
        return Ok(Some(inode.clone()));
    }
    let mut new = NewFile::new(kind, header.mode as u16 & 0o7777, header.uid, header.gid);
    new.rdev = DeviceNumber::new(header.rdev.0, header.rdev.1);
    if kind == FileKind::Symlink {
        new.target = data;
    }
    let inode = match directory.create(name, &new) {
        Err(Errno::EEXIST) => {
            // A later entry of the same name wins, as on Linux.
            directory.unlink(name)?;
            directory.create(name, &new)?
        }
        other => other?,
    };
    if has_names {
        linked.try_room(1)?;
        linked.push((header.device, header.inode, inode.clone()));
    }
    Ok(Some(inode))
}

fn attributes(header: &Header) -> SetAttributes {
    let time = Timestamp {
        seconds: header.modified.into(),
        nanoseconds: 0,
    };
    SetAttributes {
        permissions: Some(header.mode as u16 & 0o7777),
        uid: Some(header.uid),
        gid: Some(header.gid),
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

/// Bytes that are written at a time, and then passed: so much of a file is in memory twice.
const PIECE: usize = 256 << 10;

/// Writes the next `length` bytes of the archive.
fn write(inode: &Arc<dyn Inode>, archive: &mut impl Input, length: usize) -> Result<()> {
    let request = OpenRequest {
        flags: linux_raw_sys::general::O_WRONLY,
        caller: None,
    };
    let file: Arc<dyn File> = inode.clone().open(&request)?;
    let mut position = 0;
    let mut left = length;
    while left > 0 {
        let count = left.min(PIECE);
        let mut source = Source::kernel(&archive.bytes()[..count]);
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
        archive.pass(count);
        left -= count;
    }
    Ok(())
}
