//! An open file of a tmpfs: reading, writing, listing, mapping.

use alloc::{string::String, sync::Arc};
use core::{any::Any, sync::atomic::Ordering::Relaxed};

use linux_raw_sys::general as linux;

use super::{Change, TmpInode};
use crate::{
    errno::{Errno, Result},
    fs::{
        attributes::{FileKind, Timestamp},
        file::{Attempt, DirectoryEntry, File, Positioning, SharedMapping, Transfer, Whence, WriteAt, list_dots},
        inode::Inode,
        io::{Sink, Source},
        tmpfs::MAX_FILE_SIZE,
    },
    mm::{Backing, Pager, frame::Frame, pager::Mappings},
};

/// Pages allocated for a file with its lock held once.
const PAGES_PER_HOLD: u64 = 256;

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
            if let Ok(removed) = state.contents.set_size(size) {
                self.fs.give_back(removed);
            }
        }
        state.permit(Change::Contents)?;
        let may_grow = state.permit(Change::Length(u64::MAX)).is_ok();
        let result = state.contents.write(&self.fs, transfer.position, source, may_grow);
        if source.done() > before {
            state.modified = Timestamp::now();
            state.changed = state.modified;
            self.strip_privileges(&mut state);
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
        list_dots(position, (self.number, above), emit)?;
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

    fn map_shared(&self, writes: bool) -> Result<SharedMapping> {
        match &self.state.lock().seals {
            Some(seals) => seals.map(writes),
            None => Ok(SharedMapping::default()),
        }
    }

    /// What cannot be sealed is sealed against that.
    fn seals(&self) -> Result<u32> {
        Ok(self
            .state
            .lock()
            .seals
            .as_ref()
            .map_or(linux::F_SEAL_SEAL, |seals| seals.bits()))
    }

    fn add_seals(&self, seals: u32) -> Result<()> {
        self.state.lock().seals.as_mut().ok_or(Errno::EPERM)?.add(seals)
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
            .filter(|&end| end <= MAX_FILE_SIZE)
            .ok_or(Errno::EFBIG)?;
        let keep_size = mode & linux::FALLOC_FL_KEEP_SIZE != 0;
        let mut state = self.state.lock();
        match mode & !linux::FALLOC_FL_KEEP_SIZE {
            linux::FALLOC_FL_PUNCH_HOLE if keep_size => {
                state.permit(Change::Contents)?;
                let removed = state.contents.punch(offset, len);
                state.taken_out.append(removed);
            }
            linux::FALLOC_FL_ALLOCATE_RANGE => {
                if !keep_size {
                    state.permit(Change::Length(end.max(state.contents.size)))?;
                }
                self.fs.charge_pages(0)?;
                let pages = offset / 4096..end.div_ceil(4096);
                let most = self.fs.most_pages.load(Relaxed);
                if most != 0 && pages.end - pages.start > most {
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
                    let removed = state.contents.set_size(end)?;
                    state.taken_out.append(removed);
                }
            }
            _ => return Err(Errno::EOPNOTSUPP),
        }
        state.modified = Timestamp::now();
        state.changed = state.modified;
        Ok(())
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

    fn pages_in_memory(&self, first: u64, into: &mut [Option<Frame>]) {
        let state = self.state.lock();
        // There may be pages past the end (`FALLOC_FL_KEEP_SIZE`).
        let pages = state.contents.size.div_ceil(4096).saturating_sub(first);
        let count = pages.min(into.len() as u64) as usize;
        state.contents.pages.get_many(first, &mut into[..count]);
    }

    fn mappings(&self) -> Option<&Mappings> {
        Some(&self.mappings)
    }

    fn give_back(&self, pages: u64) -> bool {
        let mut state = self.state.lock();
        let part = state.taken_out.split(pages);
        let more = state.taken_out.pages() > 0;
        drop(state);
        self.fs.give_back(part);
        more
    }

    fn describe(&self) -> Option<Backing> {
        let this: Arc<dyn Inode> = self.this().ok()?;
        let path = match crate::fs::path::inode_path(&this) {
            Some(path) => String::from_utf8_lossy(&path).into_owned(),
            None => self.own_name().unwrap_or_default(),
        };
        Some(Backing {
            device: (self.fs.device.major, self.fs.device.minor),
            inode: self.number,
            path,
        })
    }
}
