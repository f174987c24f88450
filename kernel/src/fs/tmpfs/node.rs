//! The inode: attributes, contents, and the directory operations on the file system's tree.

use alloc::{
    boxed::Box,
    string::String,
    sync::{Arc, Weak},
    vec::Vec,
};
use core::{any::Any, sync::atomic::Ordering::Relaxed};

use linux_raw_sys::general as linux;

use super::{
    MAX_LINKS, TmpFs, Tree,
    contents::Contents,
    directory::{Directory, copy_name},
};
use crate::mm::fallible::TryRoom;
use crate::{
    errno::{Errno, Result},
    fs::{
        attributes::{Attributes, DeviceNumber, FileKind, S_ISGID, S_ISUID, SetAttributes, Timestamp},
        file::{Attempt, DirectoryEntry, File, Positioning, Transfer, Whence, WriteAt},
        inode::{FileSystemStatus, Inode, NewFile, OpenRequest, RenameMode},
        io::{Sink, Source},
        page_map::Removed,
        pipe::Pipe,
    },
    mm::{Backing, Pager, frame::Frame, pager::Mappings},
    sync::{Rank, SpinLock},
};

struct State {
    permissions: u16,
    uid: u32,
    gid: u32,
    links: u32,
    accessed: Timestamp,
    modified: Timestamp,
    changed: Timestamp,
    created: Timestamp,
    contents: Contents,
    /// Pages that were cut off and are not given back yet.
    cut_off: Removed,
    fifo: Weak<Pipe>,
    /// The directory that last gave it a name, and the name; directories keep theirs in the tree.
    place: Option<(u64, Box<[u8]>)>,
}

/// A file of a tmpfs.
pub struct TmpInode {
    fs: Arc<TmpFs>,
    this: Weak<Self>,
    number: u64,
    kind: FileKind,
    rdev: DeviceNumber,
    target: Box<[u8]>,
    mappings: Mappings,
    state: SpinLock<State>,
}

/// Pages allocated for a file with its lock held once.
const PAGES_PER_HOLD: u64 = 256;

impl TmpInode {
    /// A file without a name.
    ///
    /// # Errors
    /// `ENOSPC`, `ENOMEM`.
    pub(super) fn new(fs: &Arc<TmpFs>, new: &NewFile<'_>) -> Result<Arc<Self>> {
        let target = copy_name(new.target)?;
        TmpFs::charge(&fs.inodes, fs.limits.inodes, 1)?;
        let now = Timestamp::now();
        Ok(Arc::new_cyclic(|this| Self {
            fs: fs.clone(),
            this: this.clone(),
            number: fs.next_inode.fetch_add(1, Relaxed),
            kind: new.kind,
            rdev: new.rdev,
            target,
            mappings: Mappings::new(),
            state: SpinLock::new(
                Rank::Inode,
                State {
                    permissions: new.permissions,
                    uid: new.uid,
                    gid: new.gid,
                    links: 0,
                    accessed: now,
                    modified: now,
                    changed: now,
                    created: now,
                    contents: Contents::default(),
                    cut_off: Removed::default(),
                    fifo: Weak::new(),
                    place: None,
                },
            ),
        }))
    }

    /// Its number.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Its file system.
    pub const fn file_system(&self) -> &Arc<TmpFs> {
        &self.fs
    }

    pub(super) fn links_changed(&self, change: impl FnOnce(&mut u32)) {
        let mut state = self.state.lock();
        change(&mut state.links);
        state.changed = Timestamp::now();
    }

    pub(super) fn is_directory(&self) -> bool {
        self.kind == FileKind::Directory
    }

    fn this(&self) -> Result<Arc<Self>> {
        self.this.upgrade().ok_or(Errno::ENOENT)
    }

    /// Notes that names in this directory changed.
    pub(super) fn names_changed(&self, links: i32) {
        let mut state = self.state.lock();
        state.links = state.links.saturating_add_signed(links);
        state.modified = Timestamp::now();
        state.changed = state.modified;
    }

    pub(super) fn set_place(&self, directory: u64, name: Box<[u8]>) {
        let old = self.state.lock().place.replace((directory, name));
        drop(old);
    }

    /// This directory in the tree.
    pub(super) fn directory<'a>(&self, tree: &'a mut Tree) -> Result<&'a mut Directory> {
        if !self.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        tree.get_mut(&self.number).ok_or(Errno::ENOENT)
    }

    /// Adds a name for `inode`, which may be new or have others.
    fn add(&self, name: &[u8], inode: &Arc<Self>) -> Result<()> {
        let names = [copy_name(name)?, copy_name(name)?];
        let place = copy_name(name)?;
        let mut tree = self.fs.tree.lock();
        if inode.is_directory() {
            tree.try_room(1)?;
        }
        let directory = self.directory(&mut tree)?;
        if directory.get(name).is_some() {
            return Err(Errno::EEXIST);
        }
        directory.reserve()?;
        directory.insert(names, inode.clone());
        if inode.is_directory() {
            tree.insert(
                inode.number,
                Directory::new(inode.this.clone(), Some((self.number, place))),
            );
            inode.links_changed(|links| *links = 2);
            self.names_changed(1);
        } else {
            inode.links_changed(|links| *links += 1);
            inode.set_place(self.number, place);
            self.names_changed(0);
        }
        Ok(())
    }

    /// What `chmod` and the like may not leave behind after a write by somebody without privilege.
    fn strip_set_id(state: &mut State) {
        if state.permissions & 0o111 != 0 {
            let group = if state.permissions & 0o010 != 0 { S_ISGID } else { 0 };
            state.permissions &= !(S_ISUID | group);
        }
    }
}

impl Drop for TmpInode {
    fn drop(&mut self) {
        let pages = self.state.get_mut().contents.pages.len();
        self.fs.uncharge_pages(pages);
        self.fs.inodes.fetch_sub(1, Relaxed);
    }
}

fn same_file_system<'a>(fs: &Arc<TmpFs>, inode: &'a Arc<dyn Inode>) -> Result<&'a TmpInode> {
    let inode = (inode.as_ref() as &dyn Any)
        .downcast_ref::<TmpInode>()
        .ok_or(Errno::EXDEV)?;
    if Arc::ptr_eq(&inode.fs, fs) {
        Ok(inode)
    } else {
        Err(Errno::EXDEV)
    }
}

impl Inode for TmpInode {
    fn attributes(&self) -> Attributes {
        let entries = if self.is_directory() {
            self.fs.tree.lock().get(&self.number).map_or(0, Directory::len)
        } else {
            0
        };
        let state = self.state.lock();
        Attributes {
            device: self.fs.device,
            inode: self.number,
            kind: self.kind,
            permissions: state.permissions,
            links: state.links,
            uid: state.uid,
            gid: state.gid,
            rdev: self.rdev,
            size: match self.kind {
                FileKind::Directory => (entries as u64 + 2) * 20,
                FileKind::Symlink => self.target.len() as u64,
                _ => state.contents.size,
            },
            block_size: 4096,
            blocks: state.contents.pages.len() * 8,
            accessed: state.accessed,
            modified: state.modified,
            changed: state.changed,
            created: state.created,
        }
    }

    fn kind(&self) -> FileKind {
        self.kind
    }

    fn set_attributes(&self, change: &SetAttributes) -> Result<()> {
        let now = Timestamp::now();
        let mut state = self.state.lock();
        if let Some(size) = change.size {
            match self.kind {
                FileKind::Regular => {}
                FileKind::Directory => return Err(Errno::EISDIR),
                _ => return Err(Errno::EINVAL),
            }
            let removed = state.contents.set_size(&self.fs, size)?;
            state.cut_off.append(removed);
            state.modified = now;
            Self::strip_set_id(&mut state);
        }
        state.permissions = change.permissions.unwrap_or(state.permissions);
        state.uid = change.uid.unwrap_or(state.uid);
        state.gid = change.gid.unwrap_or(state.gid);
        state.accessed = change.accessed.unwrap_or(state.accessed);
        state.modified = change.modified.unwrap_or(state.modified);
        state.changed = now;
        Ok(())
    }

    fn pager(&self) -> Option<Arc<dyn Pager>> {
        File::pager(self).ok()
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let mut tree = self.fs.tree.lock();
        let found = self.directory(&mut tree)?.get(name).ok_or(Errno::ENOENT)?;
        Ok(found.clone())
    }

    fn place(&self) -> Option<(Arc<dyn Inode>, Vec<u8>)> {
        let tree = self.fs.tree.lock();
        if self.is_directory() {
            let (above, name) = tree.get(&self.number)?.above.as_ref()?;
            return Some((TmpFs::place(&tree, *above)?, name.to_vec()));
        }
        let (directory, name) = {
            let state = self.state.lock();
            let (directory, name) = state.place.as_ref()?;
            (*directory, name.to_vec())
        };
        let parent = tree.get(&directory)?;
        parent.get(&name).filter(|inode| inode.number == self.number)?;
        Some((TmpFs::place(&tree, directory)?, name))
    }

    fn create(&self, name: &[u8], new: &NewFile<'_>) -> Result<Arc<dyn Inode>> {
        let mut new = *new;
        {
            let state = self.state.lock();
            if state.permissions & S_ISGID != 0 {
                new.gid = state.gid;
                if new.kind == FileKind::Directory {
                    new.permissions |= S_ISGID;
                }
            }
        }
        let inode = Self::new(&self.fs, &new)?;
        self.add(name, &inode)?;
        Ok(inode)
    }

    fn create_unnamed(&self, new: &NewFile<'_>) -> Result<Arc<dyn Inode>> {
        let inode = Self::new(&self.fs, new)?;
        Ok(inode)
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        let target = same_file_system(&self.fs, target)?;
        if target.is_directory() {
            return Err(Errno::EPERM);
        }
        if target.state.lock().links >= MAX_LINKS {
            return Err(Errno::EMLINK);
        }
        self.add(name, &target.this()?)
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        let mut tree = self.fs.tree.lock();
        let directory = self.directory(&mut tree)?;
        if directory.get(name).ok_or(Errno::ENOENT)?.is_directory() {
            return Err(Errno::EISDIR);
        }
        let gone = directory.remove(name);
        drop(tree);
        if let Some(inode) = gone {
            inode.links_changed(|links| *links = links.saturating_sub(1));
        }
        self.names_changed(0);
        Ok(())
    }

    fn remove_directory(&self, name: &[u8]) -> Result<()> {
        let mut tree = self.fs.tree.lock();
        let victim = self.directory(&mut tree)?.get(name).ok_or(Errno::ENOENT)?;
        if !victim.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        let number = victim.number;
        if tree.get(&number).is_some_and(|directory| !directory.is_empty()) {
            return Err(Errno::ENOTEMPTY);
        }
        let gone = self.directory(&mut tree)?.remove(name);
        let entry = tree.remove(&number);
        drop(tree);
        drop(entry);
        if let Some(inode) = gone {
            inode.links_changed(|links| *links = 0);
        }
        self.names_changed(-1);
        Ok(())
    }

    fn rename(&self, name: &[u8], new_directory: &Arc<dyn Inode>, new_name: &[u8], mode: RenameMode) -> Result<()> {
        super::rename::rename(self, name, same_file_system(&self.fs, new_directory)?, new_name, mode)
    }

    fn read_link(&self) -> Result<Vec<u8>> {
        if self.kind != FileKind::Symlink {
            return Err(Errno::EINVAL);
        }
        self.state.lock().accessed = Timestamp::now();
        Ok(self.target.to_vec())
    }

    fn open(self: Arc<Self>, _: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
        match self.kind {
            FileKind::Regular | FileKind::Directory => Ok(self),
            FileKind::Symlink => Err(Errno::ELOOP),
            _ => Err(Errno::ENXIO),
        }
    }

    fn fifo(&self) -> Result<Arc<Pipe>> {
        if self.kind != FileKind::Fifo {
            return Err(Errno::ENXIO);
        }
        let fresh = Arc::new(Pipe::new());
        let mut state = self.state.lock();
        if let Some(pipe) = state.fifo.upgrade() {
            return Ok(pipe);
        }
        state.fifo = Arc::downgrade(&fresh);
        Ok(fresh)
    }

    fn status(&self) -> FileSystemStatus {
        self.fs.status()
    }

    fn unmounted(&self) {
        self.fs.clear();
    }
}

impl File for TmpInode {
    fn read(&self, transfer: &mut Transfer<'_>, sink: &mut Sink<'_>) -> Attempt<()> {
        if self.is_directory() {
            return Err(Errno::EISDIR.into());
        }
        let mut state = self.state.lock();
        if transfer.flags & linux::O_NOATIME == 0 {
            state.accessed = Timestamp::now();
        }
        state.contents.read(transfer.position, sink)
    }

    fn write(&self, transfer: &mut Transfer<'_>, source: &mut Source<'_>) -> Attempt<()> {
        if self.is_directory() {
            return Err(Errno::EISDIR.into());
        }
        let mut state = self.state.lock();
        if transfer.write_at == WriteAt::End {
            *transfer.position = state.contents.size;
        }
        let before = source.done();
        let (start, size) = (*transfer.position, state.contents.size);
        if start > size {
            // The file is about to grow over what a shared mapping may have written behind its end.
            drop(state.contents.set_size(&self.fs, size));
        }
        let result = state.contents.write(&self.fs, transfer.position, source);
        if source.done() > before {
            state.modified = Timestamp::now();
            state.changed = state.modified;
            Self::strip_set_id(&mut state);
        }
        result
    }

    fn positioning(&self) -> Positioning {
        Positioning::Offsets
    }

    fn seek(&self, position: u64, offset: i64, whence: Whence) -> Result<u64> {
        let base = match whence {
            Whence::Set => 0,
            Whence::Current => position,
            Whence::End if self.is_directory() => i64::MAX as u64,
            Whence::End => self.state.lock().contents.size,
            Whence::Data | Whence::Hole => {
                let offset = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
                let state = self.state.lock();
                return if whence == Whence::Data {
                    state.contents.next_data(offset)
                } else {
                    state.contents.next_hole(offset)
                };
            }
        };
        let target = base.checked_add_signed(offset).ok_or(Errno::EINVAL)?;
        if target > i64::MAX as u64 {
            Err(Errno::EINVAL)
        } else {
            Ok(target)
        }
    }

    fn read_directory(
        &self,
        position: &mut u64,
        emit: &mut dyn FnMut(&DirectoryEntry<'_>) -> Attempt<()>,
    ) -> Attempt<()> {
        let mut tree = self.fs.tree.lock();
        if !self.is_directory() {
            return Err(Errno::ENOTDIR.into());
        }
        // A directory that has been removed has not even `.` and `..`.
        let Ok(directory) = self.directory(&mut tree) else {
            return Err(Errno::ENOENT.into());
        };
        let above = directory.above.as_ref().map_or(self.number, |(above, _)| *above);
        for (at, name, inode) in [(0, b".".as_slice(), self.number), (1, b"..", above)] {
            if *position == at {
                emit(&DirectoryEntry {
                    name,
                    inode,
                    kind: FileKind::Directory,
                    next: at + 1,
                })?;
                *position = at + 1;
            }
        }
        for (next, entry) in directory.entries_from(*position) {
            emit(&DirectoryEntry {
                name: &entry.name,
                inode: entry.inode.number,
                kind: entry.inode.kind,
                next,
            })?;
            *position = next;
        }
        Ok(())
    }

    fn pager(&self) -> Result<Arc<dyn Pager>> {
        if self.kind != FileKind::Regular {
            return Err(Errno::ENODEV);
        }
        let pager: Arc<dyn Pager> = self.this()?;
        Ok(pager)
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn allocate(&self, mode: u32, offset: u64, len: u64) -> Result<()> {
        if self.kind != FileKind::Regular {
            return Err(if self.is_directory() {
                Errno::EISDIR
            } else {
                Errno::ENODEV
            });
        }
        let end = offset
            .checked_add(len)
            .filter(|&end| end <= super::MAX_FILE_SIZE)
            .ok_or(Errno::EFBIG)?;
        let keep_size = mode & linux::FALLOC_FL_KEEP_SIZE != 0;
        let mut state = self.state.lock();
        match mode & !linux::FALLOC_FL_KEEP_SIZE {
            linux::FALLOC_FL_PUNCH_HOLE if keep_size => {
                let removed = state.contents.punch(&self.fs, offset, len);
                state.cut_off.append(removed);
            }
            linux::FALLOC_FL_ALLOCATE_RANGE => {
                self.fs.charge_pages(0)?;
                let pages = offset / 4096..end.div_ceil(4096);
                if self.fs.limits.pages != 0 && pages.end - pages.start > self.fs.limits.pages {
                    return Err(Errno::ENOSPC);
                }
                for index in pages {
                    if index % PAGES_PER_HOLD == 0 {
                        // Interrupts and readers get a turn.
                        drop(state);
                        state = self.state.lock();
                    }
                    state.contents.page(&self.fs, index)?;
                }
                if !keep_size && end > state.contents.size {
                    let removed = state.contents.set_size(&self.fs, end)?;
                    state.cut_off.append(removed);
                }
            }
            _ => return Err(Errno::EOPNOTSUPP),
        }
        state.modified = Timestamp::now();
        state.changed = state.modified;
        Ok(())
    }

    fn attributes(&self) -> Attributes {
        Inode::attributes(self)
    }

    fn set_attributes(&self, change: &SetAttributes) -> Result<()> {
        Inode::set_attributes(self, change)
    }

    fn status(&self) -> FileSystemStatus {
        self.fs.status()
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl Pager for TmpInode {
    fn page(&self, index: u64) -> Result<Frame> {
        let mut state = self.state.lock();
        if index >= state.contents.size.div_ceil(4096) {
            return Err(Errno::ENXIO);
        }
        state.contents.page(&self.fs, index)
    }

    fn mappings(&self) -> Option<&Mappings> {
        Some(&self.mappings)
    }

    fn give_back(&self, pages: u64) -> bool {
        let mut state = self.state.lock();
        let part = state.cut_off.split(pages);
        let more = state.cut_off.pages() > 0;
        drop(state);
        drop(part);
        more
    }

    fn describe(&self) -> Option<Backing> {
        let this: Arc<dyn Inode> = self.this().ok()?;
        let path = crate::fs::path::inode_path(&this);
        Some(Backing {
            device: (self.fs.device.major, self.fs.device.minor),
            inode: self.number,
            path: String::from_utf8_lossy(&path).into_owned(),
        })
    }
}
