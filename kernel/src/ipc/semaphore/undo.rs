//! What the end of a process takes back (`SEM_UNDO`).
//!
//! Threads that were cloned with `CLONE_SYSVSEM` have one list; what it has to take back stands in the sets, and the list says in which.

use alloc::{sync::Arc, vec::Vec};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{MAX_VALUE, Object, Set};
use crate::{
    errno::Result,
    ipc::{Objects, line::Woken},
    mm::fallible::{TryRoom, TryRoomExact},
    namespace::ipc_of,
    sync::{Rank, SpinLock},
    task::{Pid, Thread},
};

/// A list's number, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UndoId(u64);

/// A list: the sets in which something may have to be taken back, all of the IPC namespace that those are in who have it.
pub struct UndoList {
    id: UndoId,
    sets: SpinLock<Sets>,
}

/// Identifiers of sets; some of them may have been removed.
struct Sets {
    ids: Vec<i32>,
    /// How many there may be before the removed among them are looked for.
    limit: usize,
}

impl Sets {
    fn add(&mut self, among: &Objects, id: i32) -> Result<()> {
        if self.ids.len() >= self.limit {
            self.ids.retain(|id| among.sets.get(*id).is_ok());
            self.limit = (self.ids.len() * 2).max(16);
        }
        self.ids.try_room(1)?;
        self.ids.push(id);
        Ok(())
    }
}

impl UndoList {
    /// A list with nothing to take back.
    pub fn new() -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Arc::new(Self {
            id: UndoId(NEXT.fetch_add(1, Relaxed)),
            sets: SpinLock::new(
                Rank::IpcUndo,
                Sets {
                    ids: Vec::new(),
                    limit: 16,
                },
            ),
        })
    }
}

/// Has the caller's list have a place in a set.
///
/// # Errors
/// `EIDRM`, `ENOMEM`.
pub(super) fn prepare(thread: &Thread, object: &Object<Set>) -> Result<UndoId> {
    let list = thread.undo_list();
    if object.lock()?.body.values.adjustments.contains_key(&list.id) {
        return Ok(list.id);
    }
    let mut adjustments = Vec::new();
    adjustments.try_room_exact(object.weight() as usize)?;
    adjustments.resize(object.weight() as usize, 0);
    // Twice the same, or one that is gone before it is used, does no harm.
    let among = ipc_of(thread);
    list.sets.lock().add(&among, object.id())?;
    let mut state = object.lock()?;
    state.body.values.adjustments.entry(list.id).or_insert(adjustments);
    Ok(list.id)
}

/// The end of a thread: if it was the last of its list, what the list says is taken back.
pub fn end(thread: &Thread) {
    let list = thread.take_undo_list();
    if let Some(list) = list.and_then(Arc::into_inner) {
        take_back(&ipc_of(thread), &list, thread.process().pid());
    }
}

fn take_back(among: &Objects, list: &UndoList, pid: Pid) {
    let sets = core::mem::take(&mut list.sets.lock().ids);
    for id in sets {
        let Ok(object) = among.sets.get(id) else { continue };
        let mut woken = Woken::default();
        if let Ok(mut state) = object.lock() {
            let set = &mut state.body;
            let adjustments = set.values.adjustments.remove(&list.id).unwrap_or_default();
            let semaphores = set.values.semaphores.iter_mut().zip(&adjustments);
            for (semaphore, adjustment) in semaphores.filter(|(_, adjustment)| **adjustment != 0) {
                // Out of bounds is no error at the end of a process: it goes as far as it can.
                semaphore.value = (semaphore.value + i32::from(*adjustment)).clamp(0, MAX_VALUE);
                semaphore.pid = pid;
            }
            set.update(&mut woken);
        }
        woken.wake();
    }
}
