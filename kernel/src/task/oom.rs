//! When memory is exhausted: somebody has to go.
//!
//! A fault that finds no frame, of user mode or of a call's copy, stands in line at [`shortage`] through [`Patience`]. The
//! line's keeper is [`run`], a task of its own: while too little is free it ends the process with the largest resident set,
//! init excepted, and with it every process that shares its memory. One victim at a time: while one is on its way out,
//! nobody else is chosen. Its memory coming back nudges the keeper, which lets the line try again.
//!
//! Before that, caches give back what they hold and nobody uses ([`reclaim`]); as long as they have something, nobody goes.
//!
//! The victim itself does not wait: a thread that has to end may use the reserve (Linux's `TIF_MEMDIE`), because what it
//! still does, such as clearing its futexes, leads to its memory coming back.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use super::{
    current, exit,
    process::{Process, WaitStatus},
    signal::set::SIGKILL,
    table,
};
use crate::{
    errno::{Errno, Result},
    mm::{
        AddressSpace, fallible, frame, reclaim,
        shortage::{self, Keeper, Need, State, Verdict},
    },
    rt,
};

/// After so many tries in vain a wait asks for a victim even if the mark is reached.
const TRIES: u32 = 4;

/// Frames that caches give back at a time.
const AT_ONCE: usize = 256;

/// One fault's waits for memory; it has not waited yet by default.
#[derive(Default)]
pub struct Patience {
    tries: u32,
    entitled: bool,
}

impl Patience {
    /// Waits for memory on behalf of the thread that the CPU works for; false if there will be none for it. Dropping it is
    /// safe.
    pub async fn wait(&mut self) -> bool {
        let Some(thread) = current::tid().and_then(table::thread) else {
            return false;
        };
        if thread.must_exit() {
            return self.use_reserve();
        }
        self.tries += 1;
        let need = if self.tries > TRIES {
            Need::Desperate
        } else {
            Need::Ordinary
        };
        let verdict = shortage::wait(need, |cx| {
            thread.store_waker(cx.waker());
            thread.must_exit()
        });
        match verdict.await {
            Verdict::TryAgain => true,
            Verdict::Hopeless => false,
            Verdict::Ended => self.use_reserve(),
        }
    }

    fn use_reserve(&mut self) -> bool {
        // Until the end of this poll; `current` says so for those that follow.
        frame::entitle(true);
        !core::mem::replace(&mut self.entitled, true)
    }
}

/// Waits until what is kept for allocations that cannot fail is whole again.
///
/// # Errors
/// `ENOMEM` if it will not be.
pub(crate) async fn admission() -> Result<()> {
    let mut patience = Patience::default();
    while !fallible::has_room() {
        if !patience.wait().await {
            return Err(Errno::ENOMEM);
        }
    }
    Ok(())
}

/// The keeper: decides, for as long as the machine runs, what becomes of those who wait for memory.
pub async fn run(mut keeper: Keeper) {
    let mut victim: Option<Arc<AddressSpace>> = None;
    // How many used the victim's memory when they were last asked to go.
    let mut asked = 0;
    loop {
        match keeper.look().await {
            State::Quiet => continue,
            State::Ebb => {
                reclaim::make_way(AT_ONCE);
                continue;
            }
            State::Over => {
                keeper.let_go();
                continue;
            }
            State::Short => {}
        }
        // What can be had again goes before anybody.
        if reclaim::reclaim(AT_ONCE) > 0 {
            keeper.acts();
            keeper.let_go();
            rt::yield_now().await;
            continue;
        }
        if let Some(space) = victim.take().filter(|space| space.users() != 0) {
            // It goes, and its end is a nudge. Who came to share its memory meanwhile goes with it; who of many is left is not looked
            // for at each one's end.
            let users = space.users();
            if users > asked || users <= asked / 2 {
                kill_users(&space);
                asked = users;
            }
            victim = Some(space);
            continue;
        }
        match choose() {
            Some(process) => {
                let space = process.mm();
                log::error!(
                    "out of memory: killing process {} with {} resident pages",
                    process.pid(),
                    space.resident_pages()
                );
                keeper.acts();
                asked = space.users();
                kill_users(&space);
                victim = Some(space);
            }
            None => keeper.refuse(),
        }
    }
}

/// How much a process is in the way: its pages, and what it was adjusted by in thousandths of all memory. `None` for one that is never
/// killed.
pub(crate) fn badness(process: &Process) -> Option<i64> {
    /// Never (`OOM_SCORE_ADJ_MIN`).
    const NEVER: i64 = -1000;
    let adjustment = i64::from(process.oom_adjustment.load(Ordering::Relaxed));
    let is_spared = adjustment == NEVER || process.pid() == 1 || process.thread_count() == 0;
    let total = frame::stats().total as i64;
    (!is_spared).then(|| process.mm().resident_pages() as i64 + adjustment * total / 1000)
}

/// The process that is most in the way, of those that init can do without.
fn choose() -> Option<Arc<Process>> {
    let init = table::process(1).map(|init| init.mm());
    table::max_by_key(|process| {
        let spared = init.as_ref().is_some_and(|init| Arc::ptr_eq(init, &process.mm()));
        badness(process).filter(|_| !spared)
    })
}

fn kill_users(space: &Arc<AddressSpace>) {
    let is_meant =
        |process: &Process| process.thread_count() != 0 && Arc::ptr_eq(&process.mm(), space) && !process.is_ending();
    let mut last = 0;
    while let Some(process) = table::next(last, is_meant) {
        last = process.pid();
        exit::kill_now(&process, WaitStatus::killed(SIGKILL));
    }
}
