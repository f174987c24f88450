//! `kcmp(2)`: whether two threads have something in common.

use alloc::sync::Arc;

use spin::Once;

use crate::{
    errno::{Errno, Result},
    random,
    task::{self, Pid, Thread, ptrace::link::may_trace},
};

/// How addresses are hidden: they are told apart and put in an order, which says nothing of where things are.
static HIDING: Once<[u64; 2]> = Once::new();

/// `kcmp(2)`: 0 if both are the same, else 1 or 2, an order that lasts until the next boot. I/O contexts, of which there are none,
/// are the same.
///
/// # Errors
/// `ESRCH`, `EPERM` (the caller may not trace one of them), `EINVAL` (an unknown type), `EBADF` (no such descriptor), `EOPNOTSUPP`
/// (`KCMP_EPOLL_TFD`).
pub fn kcmp(t: &Thread, first: Pid, second: Pid, kind: i32, first_index: u64, second_index: u64) -> Result<u64> {
    // linux/kcmp.h
    const FILE: i32 = 0;
    const VM: i32 = 1;
    const FILES: i32 = 2;
    const FS: i32 = 3;
    const SIGHAND: i32 = 4;
    const IO: i32 = 5;
    const SYSVSEM: i32 = 6;
    const EPOLL_TFD: i32 = 7;
    let threads = [first, second].map(|tid| task::thread(tid).ok_or(Errno::ESRCH));
    let [first, second] = [threads[0].clone()?, threads[1].clone()?];
    if !may_trace(t, first.process()) || !may_trace(t, second.process()) {
        return Err(Errno::EPERM);
    }
    let of = |thread: &Thread, index: u64| {
        Ok(match kind {
            FILE => address(&thread.file(i32::try_from(index).map_err(|_| Errno::EBADF)?)?),
            VM => address(&thread.mm()),
            FILES => address(&thread.files()),
            FS => address(&thread.fs()),
            SIGHAND => thread.process().actions_address(),
            IO => 0,
            SYSVSEM => thread.undo_address(),
            EPOLL_TFD => return Err(Errno::EOPNOTSUPP),
            _ => return Err(Errno::EINVAL),
        })
    };
    let (first, second) = (of(&first, first_index)?, of(&second, second_index)?);
    Ok(order(first, second))
}

fn address<T>(of: &Arc<T>) -> usize {
    Arc::as_ptr(of).addr()
}

fn order(first: usize, second: usize) -> u64 {
    let [mask, factor] = *HIDING.call_once(|| [random::word(), random::word() | 1]);
    // An odd factor: no two addresses come to the same.
    let hide = |address: usize| (address as u64 ^ mask).wrapping_mul(factor);
    match hide(first).cmp(&hide(second)) {
        core::cmp::Ordering::Equal => 0,
        core::cmp::Ordering::Less => 1,
        core::cmp::Ordering::Greater => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_one() {
        for (first, second) in [(16, 32), (0, 1 << 40), (48, 64)] {
            let orders = [order(first, second), order(second, first)];
            assert!(orders == [1, 2] || orders == [2, 1], "{orders:?}");
            assert_eq!(order(first, first), 0);
        }
    }
}
