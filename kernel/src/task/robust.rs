//! The robust futex list: locks that a thread held when it died are marked and their waiters woken
//! (`Documentation/locking/robust-futexes.rst`).

use core::sync::atomic::Ordering;

use linux_raw_sys::general::{FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS, ROBUST_LIST_LIMIT};

use super::{
    Thread,
    futex::{self, Key, Scope},
};
use crate::{errno::Result, mm::user};

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
    for _ in 0..ROBUST_LIST_LIMIT {
        if entry & !PRIORITY_INHERITING == head {
            break;
        }
        let next = mm.read::<u64>(entry & !PRIORITY_INHERITING).await;
        if entry != pending {
            mark(t, (entry & !PRIORITY_INHERITING).wrapping_add(offset)).await?;
        }
        entry = next?;
    }
    if pending != 0 {
        mark(t, (pending & !PRIORITY_INHERITING).wrapping_add(offset)).await?;
    }
    Ok(())
}

/// Marks the lock at `address` if the thread holds it, and wakes one waiter.
async fn mark(t: &Thread, address: u64) -> Result<()> {
    let mm = t.mm();
    let key = Key::new(&mm, address, Scope::Machine)?;
    let mut seen = mm.read::<u32>(address).await?;
    while seen & FUTEX_TID_MASK == t.tid() as u32 {
        let dead = seen & FUTEX_WAITERS | FUTEX_OWNER_DIED;
        match user::compare_exchange_u32(address, seen, dead) {
            Ok(old) if old == seen => {
                if seen & FUTEX_WAITERS != 0 && futex::wake(key, 1, u32::MAX) == 0 {
                    futex::wake_address(&mm, address);
                }
                break;
            }
            Ok(old) => seen = old,
            Err(fault) => mm.resolve(fault).await?,
        }
    }
    Ok(())
}
