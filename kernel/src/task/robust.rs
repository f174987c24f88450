//! The robust futex list: locks that a thread held when it died are marked and their waiters woken
//! (`Documentation/locking/robust-futexes.rst`).

use core::sync::atomic::Ordering;

use linux_raw_sys::general::{FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS, ROBUST_LIST_LIMIT};

use super::{
    Thread,
    futex::{self, Key, Scope},
};
use crate::{errno::Result, mm::user, rt};

/// The bit of a list entry that says the futex is a priority-inheriting one.
const PRIORITY_INHERITING: u64 = 1;

/// Walks the list of a thread that ends. A list that is broken ends the walk: it is the program's own.
pub async fn release(t: &Thread) {
    let head = t.robust_list.swap(0, Ordering::Relaxed);
    if head != 0 {
        // There is nobody left to report an error to.
        let _ = walk(t, head).await;
    }
}

async fn walk(t: &Thread, head: u64) -> Result<()> {
    let mm = t.mm();
    // struct robust_list_head: next, futex_offset, list_op_pending.
    let [mut entry, offset, pending] = mm.read::<[u64; 3]>(head).await?;
    let pending = Entry(pending);
    for _ in 0..ROBUST_LIST_LIMIT {
        let this = Entry(entry);
        if this.address() == head {
            break;
        }
        let next = mm.read::<u64>(this.address()).await;
        if this.address() != pending.address() {
            mark(t, this, offset, false).await?;
        }
        entry = next?;
    }
    if pending.address() != 0 {
        mark(t, pending, offset, true).await?;
    }
    Ok(())
}

/// A pointer of the list.
#[derive(Clone, Copy)]
struct Entry(u64);

impl Entry {
    fn address(self) -> u64 {
        self.0 & !PRIORITY_INHERITING
    }

    fn inherits_priority(self) -> bool {
        self.0 & PRIORITY_INHERITING != 0
    }
}

/// Marks an entry's lock if the thread holds it, and wakes one waiter; those for a priority-inheriting one are told later, by
/// [`futex::pi::end`]. `is_pending`: the thread was about to take or to free it.
async fn mark(t: &Thread, entry: Entry, offset: u64, is_pending: bool) -> Result<()> {
    let address = entry.address().wrapping_add(offset);
    let mm = t.mm();
    let key = Key::new(&mm, address, Scope::Machine)?;
    let wake = || {
        if !futex::wake(key, 1, u32::MAX).is_ok_and(|woken| woken > 0) {
            futex::wake_address(&mm, address);
        }
    };
    let mut seen = mm.read::<u32>(address).await?;
    if is_pending && seen == 0 && !entry.inherits_priority() {
        // Freed, and whoever was to be woken by it was not, perhaps.
        wake();
        return Ok(());
    }
    while seen & FUTEX_TID_MASK == t.tid() as u32 {
        let dead = seen & FUTEX_WAITERS | FUTEX_OWNER_DIED;
        match user::compare_exchange_u32(address, seen, dead) {
            Ok(old) if old == seen => {
                if seen & FUTEX_WAITERS != 0 && !entry.inherits_priority() {
                    wake();
                }
                break;
            }
            Ok(old) => {
                seen = old;
                rt::yield_now().await;
            }
            Err(fault) => mm.resolve(fault).await?,
        }
    }
    Ok(())
}
