//! Advisory locks: ranges by descriptor table or by open file description (`fcntl`), and whole files (`flock`).
//!
//! A classic POSIX lock belongs to a process by way of its descriptor table, as on Linux: the table lets go of the
//! locks of a file whenever it loses any of its descriptors (`close`, `dup2`, `execve`), and of all as it goes, which
//! is at every way a process can end.
//!
//! A file has a record here ([`held`]) while it is locked or waited for, and otherwise nothing, not even a word in its inode.
//! Records are found by their file in buckets, each under a lock of its own. The two families do not see each other,
//! as on Linux. Of those who wait, in order of arrival, whoever could hold what it
//! wants now is woken and tries again, and nobody else; a woken one that is too late, or leaves, has the others looked at. Waits of classic locks that would close a circle fail ([`wait`]).

mod held;
#[cfg(test)]
mod tests;
mod wait;

use core::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    task::Waker,
};

use smallvec::SmallVec;

use self::held::{FileLocks, Taken};
pub use self::wait::{Acquire, acquire};
use super::{attributes::DeviceNumber, fd_table::FdTable, open_file::OpenFile};
use crate::{
    errno::{Errno, Result},
    mm::fallible::TryRoom,
    sync::{Rank, SpinLock, SpinLockGuard},
    task::Pid,
};

/// Who holds a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// A descriptor table, by its address: a classic POSIX lock.
    Table(usize),
    /// An open file description, by its address, and whether it is one of `flock`'s.
    Description(usize),
}

impl Owner {
    /// The range locks of a process with this descriptor table.
    pub fn table(table: &FdTable) -> Self {
        Self::Table(core::ptr::from_ref(table).addr())
    }

    /// An open file description's range locks.
    pub fn description(file: &OpenFile) -> Self {
        Self::Description(core::ptr::from_ref(file).addr())
    }

    /// An open file description's `flock`. Allocations are aligned, so the two never look alike.
    pub fn whole_file(file: &OpenFile) -> Self {
        Self::Description(core::ptr::from_ref(file).addr() | 1)
    }

    const fn is_flock(self) -> bool {
        matches!(self, Self::Description(address) if address & 1 == 1)
    }
}

/// Shared or exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// Many may hold it.
    Shared,
    /// One alone.
    Exclusive,
}

/// A lock on bytes `start..end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Who.
    pub owner: Owner,
    /// The process that asked for it, for `F_GETLK`.
    pub pid: Pid,
    /// How.
    pub kind: LockKind,
    /// The first byte.
    pub start: u64,
    /// One past the last.
    pub end: u64,
}

impl Lock {
    fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// Whether the two cannot be held at once.
    fn conflicts(&self, other: &Self) -> bool {
        self.owner != other.owner
            && self.owner.is_flock() == other.owner.is_flock()
            && (self.kind == LockKind::Exclusive || other.kind == LockKind::Exclusive)
            && self.overlaps(other)
    }
}

/// A file: device and number of its inode.
type Key = (DeviceNumber, u64);

fn key(file: &OpenFile) -> Key {
    file.inode().identity()
}

const BUCKETS: usize = 64;

/// Records, one of them without allocation.
type Bucket = SmallVec<[FileLocks; 1]>;

static FILES: [SpinLock<Bucket>; BUCKETS] = [const { SpinLock::new(Rank::FileLocks, Bucket::new_const()) }; BUCKETS];
/// How many files have a record: while none has, closing a file looks no further.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// The records of the files that share a bucket with `key`.
struct Files {
    key: Key,
    bucket: SpinLockGuard<'static, Bucket>,
}

impl Files {
    fn lock(key: Key) -> Self {
        let (device, number) = key;
        let spread = (number ^ u64::from(device.minor) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let bucket = FILES[(spread >> 32) as usize % BUCKETS].lock();
        Self { key, bucket }
    }

    /// The file's record, if it has one.
    fn get(&mut self) -> Option<&mut FileLocks> {
        let at = self.position()?;
        self.bucket.get_mut(at)
    }

    fn position(&self) -> Option<usize> {
        self.bucket.iter().position(|file| file.key == Some(self.key))
    }

    /// The file's record, made if there is none.
    fn get_or_make(&mut self) -> Result<&mut FileLocks> {
        let at = match self.position() {
            Some(at) => at,
            None => {
                let free = self.bucket.iter().position(|file| file.key.is_none());
                let at = match free {
                    Some(at) => at,
                    None => {
                        self.bucket.try_room(1).map_err(|_| Errno::ENOLCK)?;
                        self.bucket.push(FileLocks::new());
                        self.bucket.len() - 1
                    }
                };
                self.bucket[at].key = Some(self.key);
                COUNT.fetch_add(1, Relaxed);
                at
            }
        };
        Ok(&mut self.bucket[at])
    }

    /// Forgets the record if nothing stands in it. One that takes no memory stays in its place, for the next file.
    fn tidy(&mut self) {
        let Some(at) = self.position().filter(|&at| self.bucket[at].is_empty()) else {
            return;
        };
        COUNT.fetch_sub(1, Relaxed);
        if !self.bucket.spilled() {
            self.bucket[at].clear();
            return;
        }
        drop(self.bucket.swap_remove(at));
        if self.bucket.is_empty() {
            *self.bucket = Bucket::new();
        }
    }

    /// After something was let go: wakes those who wait for it, each outside the lock.
    fn wake_waiters(mut self) {
        loop {
            let Some((waker, others)) = self.get().and_then(FileLocks::wake_one) else {
                return self.tidy();
            };
            let key = self.key;
            drop(self);
            waker.wake();
            if !others {
                return;
            }
            self = Self::lock(key);
        }
    }
}

/// A lock that stands in the way of `wanted`.
pub fn conflict(file: &OpenFile, wanted: &Lock) -> Option<Lock> {
    let mut files = Files::lock(key(file));
    files.get()?.conflicts(wanted).next().copied()
}

/// Takes a lock, in place of what its owner held there; false if another stands in the way. As on Linux, an owner by
/// [`Owner::whole_file`] then has lost what it held.
///
/// # Errors
/// `ENOLCK` without memory.
pub fn lock(file: &OpenFile, wanted: &Lock) -> Result<bool> {
    take(Files::lock(key(file)), wanted, None)
}

/// As [`lock`]. Where another stands in the way, whoever is named waits in line from then on.
fn take(mut files: Files, wanted: &Lock, line: Option<(u64, &Waker)>) -> Result<bool> {
    let record = files.get_or_make()?;
    let mut result = record.take(wanted);
    if let (Ok(Taken { taken: false, .. }), Some((number, waker))) = (result, line)
        && let Err(errno) = record.wait(number, *wanted, waker.clone())
    {
        result = Err(errno);
    }
    match result {
        Ok(taken) if !taken.freed => {
            // A record that was made for nothing does not stay.
            if !taken.taken {
                files.tidy();
            }
        }
        _ => files.wake_waiters(),
    }
    result.map(|taken| taken.taken)
}

/// Lets go of what an owner holds of a range.
///
/// # Errors
/// `ENOLCK` without memory to split a range.
pub fn unlock(file: &OpenFile, range: &Lock) -> Result<()> {
    let mut files = Files::lock(key(file));
    let Some(record) = files.get() else { return Ok(()) };
    if record.cut(range)? {
        files.wake_waiters();
    }
    Ok(())
}

fn release(key: Key, goes: impl Fn(Owner) -> bool) {
    let mut files = Files::lock(key);
    if files.get().is_some_and(|record| record.remove(goes)) {
        files.wake_waiters();
    }
}

/// Lets go of what an open file description holds, as it goes.
pub fn release_description(file: &OpenFile) {
    if COUNT.load(Relaxed) > 0 {
        let (range, whole) = (Owner::description(file), Owner::whole_file(file));
        release(key(file), |owner| owner == range || owner == whole);
    }
}

/// Lets go of what a descriptor table holds of a file: by POSIX, as it loses any descriptor of it.
pub fn release_table(file: &OpenFile, table: &FdTable) {
    if COUNT.load(Relaxed) > 0 {
        let own = Owner::table(table);
        release(key(file), |owner| owner == own);
    }
}
