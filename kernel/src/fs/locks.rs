//! Advisory locks: ranges by descriptor table or by open file description (`fcntl`), and whole files (`flock`).
//!
//! A classic POSIX lock belongs to a process by way of its descriptor table, as on Linux: the table lets go of the
//! locks of a file whenever it loses any of its descriptors (`close`, `dup2`, `execve`), and of all as it goes, which
//! is at every way a process can end.
//!
//! One table, by file. The two families do not see each other, as on Linux. Whoever waits is woken when anything is let
//! go and tries again; a deadlock of waiters is not looked for (Linux' `EDEADLK`), but every wait can be interrupted.

use alloc::{sync::Arc, vec::Vec};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::{attributes::DeviceNumber, fd_table::FdTable, open_file::OpenFile};
use crate::{
    errno::{Errno, Result},
    mm::fallible::TryRoom,
    sync::{Rank, SpinLock, WaitQueue},
    task::Pid,
};

/// Who holds a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

type Key = (DeviceNumber, u64);

static LOCKS: SpinLock<Vec<(Key, Lock)>> = SpinLock::new(Rank::Pipe, Vec::new());
/// How many there are: closing a file looks at the table only where there is something in it.
static COUNT: AtomicUsize = AtomicUsize::new(0);
static RELEASED: WaitQueue = WaitQueue::new();

/// Woken whenever a lock is let go.
pub fn released() -> &'static WaitQueue {
    &RELEASED
}

fn key(file: &OpenFile) -> Key {
    match file.inode() {
        Some(inode) => inode.identity(),
        None => (DeviceNumber::default(), Arc::as_ptr(file.file()).addr() as u64),
    }
}

fn conflicts(held: &Lock, wanted: &Lock) -> bool {
    held.owner != wanted.owner
        && held.owner.is_flock() == wanted.owner.is_flock()
        && (held.kind == LockKind::Exclusive || wanted.kind == LockKind::Exclusive)
        && held.start < wanted.end
        && wanted.start < held.end
}

/// A lock that stands in the way of `wanted`.
///
/// # Errors
/// None at present.
pub fn conflict(file: &OpenFile, wanted: &Lock) -> Result<Option<Lock>> {
    let key = key(file);
    let table = LOCKS.lock();
    Ok(table
        .iter()
        .find(|(at, held)| *at == key && conflicts(held, wanted))
        .map(|(_, held)| *held))
}

/// Cuts `range` out of what its owner holds.
fn cut(table: &mut Vec<(Key, Lock)>, key: Key, range: &Lock) -> Result<bool> {
    table.try_room(2).map_err(|_| Errno::ENOLCK)?;
    let mut changed = false;
    let mut rest = None;
    table.retain_mut(|(at, held)| {
        if *at != key || held.owner != range.owner || held.start >= range.end || range.start >= held.end {
            return true;
        }
        changed = true;
        let before = held.start < range.start;
        if range.end < held.end {
            let after = Lock {
                start: range.end,
                ..*held
            };
            if !before {
                *held = after;
                return true;
            }
            rest = Some(after);
        }
        held.end = range.start;
        before
    });
    if let Some(rest) = rest {
        table.push((key, rest));
    }
    Ok(changed)
}

/// Takes a lock, in place of what its owner held there; false if another stands in the way.
///
/// # Errors
/// `ENOLCK` without memory.
pub fn lock(file: &OpenFile, wanted: &Lock) -> Result<bool> {
    let key = key(file);
    let mut table = LOCKS.lock();
    if table.iter().any(|(at, held)| *at == key && conflicts(held, wanted)) {
        return Ok(false);
    }
    let replaced = cut(&mut table, key, wanted)?;
    table.push((key, *wanted));
    COUNT.store(table.len(), Relaxed);
    drop(table);
    if replaced {
        RELEASED.wake_all();
    }
    Ok(true)
}

/// Lets go of what an owner holds of a range.
///
/// # Errors
/// `ENOLCK` without memory to split a range.
pub fn unlock(file: &OpenFile, range: &Lock) -> Result<()> {
    let key = key(file);
    let mut table = LOCKS.lock();
    let changed = cut(&mut table, key, range)?;
    COUNT.store(table.len(), Relaxed);
    drop(table);
    if changed {
        RELEASED.wake_all();
    }
    Ok(())
}

fn release(key: Key, goes: impl Fn(&Lock) -> bool) {
    let mut table = LOCKS.lock();
    let before = table.len();
    table.retain(|(at, held)| *at != key || !goes(held));
    let changed = table.len() != before;
    COUNT.store(table.len(), Relaxed);
    drop(table);
    if changed {
        RELEASED.wake_all();
    }
}

/// Lets go of what an open file description holds, as it goes.
pub fn release_description(file: &OpenFile) {
    if COUNT.load(Relaxed) > 0 {
        let (range, whole) = (Owner::description(file), Owner::whole_file(file));
        release(key(file), |held| held.owner == range || held.owner == whole);
    }
}

/// Lets go of what a descriptor table holds of a file: by POSIX, as it loses any descriptor of it.
pub fn release_table(file: &OpenFile, table: &FdTable) {
    if COUNT.load(Relaxed) > 0 {
        let owner = Owner::table(table);
        release(key(file), |held| held.owner == owner);
    }
}
