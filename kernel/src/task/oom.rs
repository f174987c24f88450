//! When memory is exhausted: somebody has to go.
//!
//! A user fault that finds no frame kills the process with the largest resident set, init excepted, and waits for it to
//! be gone before it tries again. One victim at a time: while one is on its way out, others wait for it too.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicI32, Ordering};

use super::{
    pid::Pid,
    process::{Process, WaitStatus},
    signal::{self, SigInfo, set::SIGKILL},
    table,
    thread::Thread,
};
use crate::rt;

static VICTIM: AtomicI32 = AtomicI32::new(0);

/// Kills the largest process and waits until its memory is back. False if the caller is to end itself.
pub(super) async fn make_room(thread: &Arc<Thread>) -> bool {
    let victim = choose();
    let Some(victim) = victim else {
        // Only init is left: it cannot be served, and the machine cannot go on without it.
        signal::force(thread, SigInfo::kernel(signal::set::SIGBUS));
        return false;
    };
    if VICTIM.swap(victim.pid(), Ordering::AcqRel) != victim.pid() {
        log::error!(
            "out of memory: killing process {} with {} resident pages",
            victim.pid(),
            victim.mm().resident_pages()
        );
        super::exit::kill_now(&victim, WaitStatus::killed(SIGKILL));
    }
    while is_leaving(victim.pid()) {
        if thread.must_exit() {
            return false;
        }
        rt::yield_now().await;
    }
    !thread.must_exit()
}

fn is_leaving(pid: Pid) -> bool {
    table::process(pid).is_some_and(|process| process.thread_count() != 0)
}

fn choose() -> Option<Arc<Process>> {
    let current = VICTIM.load(Ordering::Acquire);
    if current != 0 && is_leaving(current) {
        return table::process(current);
    }
    table::processes()
        .into_iter()
        .filter(|process| process.pid() != 1 && process.thread_count() != 0)
        .max_by_key(|process| process.mm().resident_pages())
}
