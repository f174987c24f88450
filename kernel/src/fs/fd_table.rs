//! Descriptors: small numbers for open files, the lowest free one first.

use alloc::{sync::Arc, vec::Vec};

use arrayvec::ArrayVec;

use super::{file::Readiness, locks, open_file::OpenFile};
use crate::{
    errno::{Errno, Result},
    ipc::mqueue,
    mm::fallible::TryRoom,
    sync::{Rank, SpinLock},
};

/// Whether a descriptor survives `execve`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExec {
    /// It stays open.
    Keep,
    /// It is closed (`FD_CLOEXEC`).
    Close,
}

#[derive(Clone)]
struct Entry {
    file: Arc<OpenFile>,
    on_exec: OnExec,
}

/// Slots by descriptor. No slot below `lowest_free` is free, and all from `end` on are.
#[derive(Clone, Default)]
struct Slots {
    entries: Vec<Option<Entry>>,
    lowest_free: usize,
    end: usize,
}

impl Slots {
    fn find(&self, from: usize, limit: u64) -> Result<usize> {
        let start = from.max(self.lowest_free);
        let fd = (start..self.entries.len()).find(|&fd| self.entries[fd].is_none());
        let fd = fd.unwrap_or_else(|| start.max(self.entries.len()));
        if (fd as u64) < limit {
            Ok(fd)
        } else {
            Err(Errno::EMFILE)
        }
    }

    fn put(&mut self, fd: usize, entry: Entry) -> Result<Option<Entry>> {
        if fd >= self.entries.len() {
            let more = fd + 1 - self.entries.len();
            self.entries.try_room(more)?;
            self.entries.resize_with(fd + 1, || None);
        }
        if fd == self.lowest_free {
            self.lowest_free += 1;
        }
        self.end = self.end.max(fd + 1);
        Ok(self.entries[fd].replace(entry))
    }

    /// One past the last descriptor that is open. What it passes over is not looked at again until it is used.
    fn find_end(&mut self) -> usize {
        let used = &self.entries[..self.end];
        self.end = used.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        self.end
    }

    fn take(&mut self, fd: usize) -> Option<Entry> {
        let entry = self.entries.get_mut(fd)?.take()?;
        self.lowest_free = self.lowest_free.min(fd);
        Some(entry)
    }
}

/// A descriptor table, of one process or shared by several (`CLONE_FILES`).
///
/// Files that a call takes out are dropped after the lock is let go, because dropping may wake and free. A file that loses
/// a descriptor loses the table's POSIX locks ([`locks`]).
pub struct FdTable {
    slots: SpinLock<Slots>,
}

impl Default for FdTable {
    fn default() -> Self {
        Self::new()
    }
}

fn index(fd: i32) -> Result<usize> {
    usize::try_from(fd).map_err(|_| Errno::EBADF)
}

impl FdTable {
    /// A table with nothing open.
    pub const fn new() -> Self {
        Self {
            slots: SpinLock::new(
                Rank::Descriptors,
                Slots {
                    entries: Vec::new(),
                    lowest_free: 0,
                    end: 0,
                },
            ),
        }
    }

    /// What `fork` gives the child: its own table, the same open files. Its size is that of what is open, not of what once was.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn fork(&self) -> Result<Self> {
        let mut entries = Vec::new();
        loop {
            let wanted = self.slots.lock().find_end();
            entries.try_room(wanted)?;
            let mut slots = self.slots.lock();
            let end = slots.find_end();
            if end <= entries.capacity() {
                entries.extend_from_slice(&slots.entries[..end]);
                let lowest_free = slots.lowest_free;
                drop(slots);
                let slots = Slots {
                    entries,
                    lowest_free,
                    end,
                };
                return Ok(Self {
                    slots: SpinLock::new(Rank::Descriptors, slots),
                });
            }
        }
    }

    /// The open file behind a descriptor.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn get(&self, fd: i32) -> Result<Arc<OpenFile>> {
        let fd = index(fd)?;
        let slots = self.slots.lock();
        slots
            .entries
            .get(fd)
            .and_then(Option::as_ref)
            .map(|entry| entry.file.clone())
            .ok_or(Errno::EBADF)
    }

    /// Asks the files behind the first `N` of `fds` what they are ready for, and tells `note` of each, by the number that stands with
    /// the descriptor: `None` where there is none that can be asked. The table is locked once, and where the answer is but a look
    /// at a word that is all.
    pub fn ask_each<const N: usize>(
        &self,
        fds: impl Iterator<Item = (usize, i32)>,
        mut note: impl FnMut(usize, Option<Readiness>),
    ) {
        // Not asked under the lock.
        let mut others: ArrayVec<(usize, Arc<OpenFile>), N> = ArrayVec::new();
        {
            let slots = self.slots.lock();
            for (number, fd) in fds.take(N) {
                let entry = usize::try_from(fd).ok().and_then(|fd| slots.entries.get(fd)?.as_ref());
                let Some(Entry { file, .. }) = entry else {
                    note(number, None);
                    continue;
                };
                match file.instant_readiness() {
                    Some(ready) => note(number, Some(ready)),
                    None => others.push((number, file.clone())),
                }
            }
        }
        for (number, file) in &others {
            note(*number, (!file.is_path()).then(|| file.file().readiness()));
        }
    }

    /// The open file behind a descriptor that was not opened by `O_PATH`.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn get_usable(&self, fd: i32) -> Result<Arc<OpenFile>> {
        let file = self.get(fd)?;
        if file.is_path() { Err(Errno::EBADF) } else { Ok(file) }
    }

    /// Gives `file` the lowest free descriptor.
    ///
    /// # Errors
    /// `EMFILE` if that is not below `limit` (`RLIMIT_NOFILE`), `ENOMEM`.
    pub fn insert(&self, file: Arc<OpenFile>, on_exec: OnExec, limit: u64) -> Result<i32> {
        self.insert_from(file, 0, on_exec, limit)
    }

    /// Gives `file` the lowest free descriptor that is at least `from` (`F_DUPFD`).
    ///
    /// # Errors
    /// As [`FdTable::insert`]; `EINVAL` if `from` is not below `limit`.
    pub fn insert_from(&self, file: Arc<OpenFile>, from: usize, on_exec: OnExec, limit: u64) -> Result<i32> {
        let limit = limit.min(MAX_DESCRIPTORS);
        if from > 0 && from as u64 >= limit {
            return Err(Errno::EINVAL);
        }
        let mut slots = self.slots.lock();
        let fd = slots.find(from, limit)?;
        slots.put(fd, Entry { file, on_exec })?;
        Ok(fd as i32)
    }

    /// Gives `file` this very descriptor, in place of what was there, which is returned to be dropped (`dup2`).
    ///
    /// # Errors
    /// `EBADF` if `fd` is not below `limit`, `ENOMEM`.
    pub fn replace(&self, fd: i32, file: Arc<OpenFile>, on_exec: OnExec, limit: u64) -> Result<Option<Arc<OpenFile>>> {
        let fd = index(fd)?;
        if fd as u64 >= limit.min(MAX_DESCRIPTORS) {
            return Err(Errno::EBADF);
        }
        let old = self.slots.lock().put(fd, Entry { file, on_exec })?;
        Ok(old.map(|entry| self.lost(entry)))
    }

    /// Takes a descriptor away. The file is returned, to be dropped by the caller.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn remove(&self, fd: i32) -> Result<Arc<OpenFile>> {
        let fd = index(fd)?;
        let entry = self.slots.lock().take(fd);
        entry.map(|entry| self.lost(entry)).ok_or(Errno::EBADF)
    }

    /// What an entry leaves as it goes.
    fn lost(&self, entry: Entry) -> Arc<OpenFile> {
        locks::release_table(&entry.file, self);
        mqueue::closed(&entry.file);
        entry.file
    }

    /// Whether a descriptor survives `execve`.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn on_exec(&self, fd: i32) -> Result<OnExec> {
        let fd = index(fd)?;
        let slots = self.slots.lock();
        slots
            .entries
            .get(fd)
            .and_then(Option::as_ref)
            .map(|entry| entry.on_exec)
            .ok_or(Errno::EBADF)
    }

    /// Says whether a descriptor survives `execve`.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn set_on_exec(&self, fd: i32, on_exec: OnExec) -> Result<()> {
        let fd = index(fd)?;
        let mut slots = self.slots.lock();
        slots
            .entries
            .get_mut(fd)
            .and_then(Option::as_mut)
            .ok_or(Errno::EBADF)?
            .on_exec = on_exec;
        Ok(())
    }

    /// Closes what does not survive `execve`. The table is the caller's alone by then.
    pub fn close_on_exec(&self) {
        self.for_each(0, u32::MAX, |table, fd| {
            if table.on_exec(fd) == Ok(OnExec::Close) {
                let _ = table.remove(fd);
            }
        });
    }

    /// Calls `each` for every descriptor of `first..=last` that was open as its turn came.
    pub fn for_each(&self, first: u32, last: u32, mut each: impl FnMut(&Self, i32)) {
        let mut next = first;
        while let Some(fd) = self.next(next).filter(|fd| fd.cast_unsigned() <= last) {
            each(self, fd);
            next = fd.cast_unsigned() + 1;
        }
    }

    /// The lowest open descriptor from `first` on.
    pub fn next(&self, first: u32) -> Option<i32> {
        let slots = self.slots.lock();
        let behind = slots.entries.get(first as usize..)?;
        let found = behind.iter().position(Option::is_some)?;
        Some((first as usize + found) as i32)
    }

    /// The open descriptors, ascending.
    #[cfg(test)]
    pub fn descriptors(&self) -> Vec<i32> {
        let mut found = Vec::new();
        self.for_each(0, u32::MAX, |_, fd| found.push(fd));
        found
    }

    /// How many slots the table has, for `FDSize` of `/proc/<pid>/status`.
    pub fn size(&self) -> usize {
        self.slots.lock().entries.len()
    }
}

impl Drop for FdTable {
    fn drop(&mut self) {
        let slots = core::mem::take(self.slots.get_mut());
        for entry in slots.entries.into_iter().flatten() {
            drop(self.lost(entry));
        }
    }
}

/// The most descriptors of one table, whatever the limit says (`fs.nr_open`).
pub const MAX_DESCRIPTORS: u64 = 1 << 20;
