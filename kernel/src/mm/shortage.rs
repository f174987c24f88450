//! Exhausted memory as something to wait for.
//!
//! Whoever finds no frame stands in line here ([`wait`]) and nudges the *keeper*, the one task that decides what to do
//! (`task::oom`). The keeper lets the line try again once more frames than the [`mark`] are free; until then it sees to it
//! that some become free. It is nudged by every arrival, by every frame that comes back while somebody stands in line and
//! the mark is reached, and by whoever has just freed much ([`nudge`]).
//!
//! **No wake is lost**, and freeing costs no fence: whoever waits pays. A waiter counts itself, then nudges the keeper.
//! The keeper takes the nudge, sees the count, enters and leaves each lock under which frames are given back
//! ([`frame::meet_givers`]), and only then looks at the free frames. A free gives its frame back under one of those
//! locks, then looks at the count, then at the nudge. If its turn at the lock came before the keeper's, the keeper sees
//! the frame. If it came after, the free sees the count and that the nudge has been taken, or a later nudge, with which
//! all this begins anew. Of several frees that reach the mark together, the last to be counted sees them all.

use core::{
    future::poll_fn,
    pin::pin,
    sync::atomic::{
        AtomicBool, AtomicUsize,
        Ordering::{Relaxed, SeqCst},
    },
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;

use super::frame;
use crate::sync::WaitQueue;

/// Frames beyond the reserve that have to be free before the line tries again.
const MARGIN: usize = 128;

static LINE: WaitQueue = WaitQueue::new();
/// How many stand in line, those included that are about to.
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// Whether somebody in line has tried in vain although the mark was reached.
static DESPERATE: AtomicBool = AtomicBool::new(false);
/// How often the line has been told that nothing can be done.
static REFUSALS: AtomicUsize = AtomicUsize::new(0);

/// Whether caches are to be asked when little is free: not again while they have nothing to give.
static CACHES_GIVE: AtomicBool = AtomicBool::new(false);

static NUDGED: AtomicBool = AtomicBool::new(false);
static KEEPER: AtomicWaker = AtomicWaker::new();
static KEPT: AtomicBool = AtomicBool::new(false);

/// How a wait for memory ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There may be memory now.
    TryAgain,
    /// There will be none.
    Hopeless,
    /// The waiter itself had a reason to stop.
    Ended,
}

/// How a waiter has fared so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It has found no memory.
    Ordinary,
    /// It was let try again, several times, and the mark was reached each time: what it needs is not what is free.
    Desperate,
}

struct InLine;

impl InLine {
    fn new() -> Self {
        COUNT.fetch_add(1, SeqCst);
        Self
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        COUNT.fetch_sub(1, SeqCst);
    }
}

/// Frames that have to be free before it is worth trying again.
pub fn mark() -> usize {
    frame::stats().reserve + MARGIN
}

/// Waits until the keeper has decided, or `ends` says that the waiter has to stop; `ends` is asked at every poll, and has
/// to see to it itself that there is one. Without a keeper the verdict is [`Verdict::Hopeless`] at once. Dropping it is safe.
pub async fn wait(need: Need, mut ends: impl FnMut(&mut Context<'_>) -> bool) -> Verdict {
    if !KEPT.load(SeqCst) {
        return Verdict::Hopeless;
    }
    let refusals = REFUSALS.load(SeqCst);
    let _in_line = InLine::new();
    let mut turn = pin!(LINE.wait());
    turn.as_mut().enable();
    if need == Need::Desperate {
        DESPERATE.store(true, SeqCst);
    }
    nudge();
    poll_fn(|cx| {
        if turn.as_mut().poll(cx).is_ready() {
            let refused = REFUSALS.load(SeqCst) != refusals;
            return Poll::Ready(if refused { Verdict::Hopeless } else { Verdict::TryAgain });
        }
        if ends(cx) {
            Poll::Ready(Verdict::Ended)
        } else {
            Poll::Pending
        }
    })
    .await
}

/// Has the keeper look again. Takes no lock and no memory.
pub fn nudge() {
    NUDGED.store(true, SeqCst);
    KEEPER.wake();
}

/// Little is free: caches are to become smaller. Called with any lock held but those of the frame allocator.
pub(super) fn ebb() {
    if KEPT.load(Relaxed) && CACHES_GIVE.load(Relaxed) {
        nudge();
    }
}

/// Says whether caches may have something to give back.
pub(super) fn set_caches_give(give: bool) {
    CACHES_GIVE.store(give, Relaxed);
}

/// A frame has come back. Called with any lock held but those of the frame allocator.
pub(super) fn freed() {
    // Relaxed: it cannot go ahead of taking the lock under which the frame was given back.
    if COUNT.load(Relaxed) != 0 && !NUDGED.load(SeqCst) && is_over() {
        nudge();
    }
}

/// Whether the mark is reached.
pub fn is_over() -> bool {
    frame::stats().free >= mark()
}

/// What the keeper finds when it has been nudged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nobody waits.
    Quiet,
    /// Nobody waits, but little is free.
    Ebb,
    /// The mark is reached, and that ought to do for those who wait.
    Over,
    /// Room has to be made.
    Short,
}

/// The right to decide, of which there is one.
#[derive(Debug)]
pub struct Keeper(());

impl Keeper {
    /// Becomes the keeper; `None` if there is one.
    pub fn new() -> Option<Self> {
        (!KEPT.swap(true, SeqCst)).then_some(Self(()))
    }

    /// Waits for a nudge and looks. Dropping it is safe.
    pub async fn look(&mut self) -> State {
        poll_fn(|cx| {
            KEEPER.register(cx.waker());
            if NUDGED.swap(false, SeqCst) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        if COUNT.load(SeqCst) == 0 {
            DESPERATE.store(false, SeqCst);
            return if frame::stats().free < frame::ebb() {
                State::Ebb
            } else {
                State::Quiet
            };
        }
        frame::meet_givers();
        if is_over() && !DESPERATE.load(SeqCst) {
            State::Over
        } else {
            State::Short
        }
    }

    /// Something is being done about the desperate.
    pub fn acts(&mut self) {
        DESPERATE.store(false, SeqCst);
    }

    /// Lets all in line try again.
    pub fn let_go(&mut self) {
        LINE.wake_all();
    }

    /// Tells all in line that there will be no memory.
    pub fn refuse(&mut self) {
        DESPERATE.store(false, SeqCst);
        REFUSALS.fetch_add(1, SeqCst);
        LINE.wake_all();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        KEPT.store(false, SeqCst);
    }
}
