//! The robust list.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use crate::{
    errno::{Errno, Result},
    task::{self, Thread},
};

/// `set_robust_list(2)`.
///
/// # Errors
/// `EINVAL` if `length` is not the head's size.
pub fn set_robust_list(t: &Thread, head: u64, length: usize) -> Result<u64> {
    if length != size_of::<[u64; 3]>() {
        return Err(Errno::EINVAL);
    }
    t.robust_list.store(head, Ordering::Relaxed);
    Ok(0)
}

/// `get_robust_list(2)`, of a thread that the caller may look into.
///
/// # Errors
/// `ESRCH`, `EPERM`, `EFAULT`.
pub async fn get_robust_list(t: &Thread, tid: i32, head: u64, length: u64) -> Result<u64> {
    let address = if tid == 0 || tid == t.tid() {
        t.robust_list.load(Ordering::Relaxed)
    } else {
        let other = task::thread(tid).ok_or(Errno::ESRCH)?;
        let is_own = Arc::ptr_eq(other.process(), t.process());
        if !is_own && !t.credentials().may_attach(other.process()) {
            return Err(Errno::EPERM);
        }
        other.robust_list.load(Ordering::Relaxed)
    };
    let mm = t.mm();
    mm.write(length, &(size_of::<[u64; 3]>() as u64)).await?;
    mm.write(head, &address).await?;
    Ok(0)
}
