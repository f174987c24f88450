//! Generations of a shared thing.

use lock_api::RawMutex;

use super::wait_queue::WaitQueue;
use crate::{
    executor::MAX_CPUS,
    prim::{
        AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
        array, const_fn, fence,
    },
};

/// Counts the changes of something that CPUs keep a private view of, and up to which change each CPU has brought its view: the
/// counting half of a TLB shootdown, and of reclaiming what others may still read.
///
/// Whoever makes a *change* calls [`Generations::advance`], calls the other members (an interrupt will do), and awaits
/// [`Generations::wait`]. A *member* brings its view up to date whenever it passes a checkpoint of its choice, and says so by
/// [`Generations::pass`]. No CPU ever spins for another.
///
/// | who | does, in this order |
/// |---|---|
/// | a change | change; `advance`; call the members it names; `wait` |
/// | a member, if [`Generations::is_behind`] | read `current`; bring the view up to date; `pass` |
/// | a CPU that becomes a member | `join`; the same |
pub struct Generations<R: RawMutex> {
    current: AtomicU64,
    members: AtomicU64,
    /// By CPU; written by that CPU.
    passed: [AtomicU64; MAX_CPUS],
    /// By the generation waited for.
    waiting: WaitQueue<R, u64>,
}

impl<R: RawMutex> Generations<R> {
    const_fn! {
        /// Generation 0, without members.
        pub fn new() -> Self {
            Self {
                current: AtomicU64::new(0),
                members: AtomicU64::new(0),
                passed: array!(AtomicU64::new(0)),
                waiting: WaitQueue::new(),
            }
        }
    }

    /// The number of the last change. What was done before it was made is visible.
    #[inline]
    pub fn current(&self) -> u64 {
        self.current.load(Acquire)
    }

    /// The CPUs that changes are waited for, as a bit set.
    pub fn members(&self) -> u64 {
        self.members.load(Acquire)
    }

    /// Whether the calling CPU, number `cpu`, has yet to bring its view up to date.
    #[inline]
    pub fn is_behind(&self, cpu: u32) -> bool {
        self.passed_by(cpu) < self.current()
    }

    /// Makes the calling CPU a member. Its view is that of its last membership until it passes.
    ///
    /// # Panics
    /// If the CPU's number is 64 or more.
    pub fn join(&self, cpu: u32) {
        assert!((cpu as usize) < MAX_CPUS, "no such CPU");
        self.members.fetch_or(1 << cpu, AcqRel);
        // Said first, looked second, as a change does.
        fence(SeqCst);
    }

    /// The calling CPU no longer has a view.
    pub fn leave(&self, cpu: u32) {
        self.members.fetch_and(!1_u64.checked_shl(cpu).unwrap_or(0), AcqRel);
        self.wake();
    }

    /// A change has been made by the calling CPU, which has heeded it itself: its number, and the other CPUs that are to heed
    /// it. One call at a time: the caller holds the lock of what changes.
    pub fn advance(&self, cpu: u32) -> (u64, u64) {
        let before = self.current.load(Relaxed);
        let own = 1_u64.checked_shl(cpu).unwrap_or(0);
        let is_member = self.members.load(Relaxed) & own != 0;
        if is_member && self.passed_by(cpu) == before {
            // Before the number is out: nobody can wait for it yet. A CPU that is behind stays so until it passes, because
            // some may wait for the changes that it has not seen.
            self.note(cpu, before + 1);
        }
        self.current.store(before + 1, Release);
        fence(SeqCst);
        (before + 1, self.members() & !own)
    }

    /// The calling CPU has brought its view up to `generation`, which was current before it began. Wakes who waited for that.
    pub fn pass(&self, cpu: u32, generation: u64) {
        self.note(cpu, generation);
        self.wake();
    }

    /// Whether every member has passed `generation`. What they did before is visible.
    pub fn have_passed(&self, generation: u64) -> bool {
        self.reached() >= generation
    }

    /// Waits until every member has passed `generation`, a change that has been made. Cancelling forgets the wait.
    ///
    /// # Panics
    /// In a debug build, if the change is still to be made: its maker would wake nobody.
    pub async fn wait(&self, generation: u64) {
        debug_assert!(generation <= self.current(), "a change that has not been made");
        while !self.have_passed(generation) {
            let mut wait = core::pin::pin!(self.waiting.wait_with(generation));
            wait.as_mut().enable();
            // Registered first, looked second, as `wake` does the other way round.
            fence(SeqCst);
            if !self.have_passed(generation) {
                wait.await;
            }
        }
    }

    fn note(&self, cpu: u32, generation: u64) {
        if let Some(passed) = self.passed.get(cpu as usize) {
            passed.store(generation, Release);
        }
    }

    #[inline]
    fn passed_by(&self, cpu: u32) -> u64 {
        self.passed.get(cpu as usize).map_or(0, |passed| passed.load(Acquire))
    }

    /// What every member has passed.
    fn reached(&self) -> u64 {
        let mut members = self.members();
        let mut reached = u64::MAX;
        while members != 0 {
            reached = reached.min(self.passed_by(members.trailing_zeros()));
            members &= members - 1;
        }
        reached
    }

    fn wake(&self) {
        // Of several that pass at once the last sees all of them, and who registers before.
        fence(SeqCst);
        if !self.waiting.has_waiters() {
            return;
        }
        let reached = self.reached();
        self.waiting
            .wake_matching(usize::MAX, |generation| *generation <= reached);
    }
}

impl<R: RawMutex> Default for Generations<R> {
    fn default() -> Self {
        Self::new()
    }
}
