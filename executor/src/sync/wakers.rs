//! Wakers on their way out of a lock.

use arrayvec::ArrayVec;
use core::task::Waker;

/// How many wakers are taken out under a lock at a time.
pub const AT_ONCE: usize = 16;

/// Wakers that were taken under a lock, woken outside of it.
pub struct Wakers {
    taken: ArrayVec<Waker, AT_ONCE>,
    /// Chosen, those without a waker included.
    chosen: usize,
}

impl Wakers {
    pub const fn new() -> Self {
        Self {
            taken: ArrayVec::new_const(),
            chosen: 0,
        }
    }

    /// Takes at most `limit` from `next`, and no more than there is room for; whether there may be more: it was not `next`
    /// that ended it.
    pub fn fill(&mut self, limit: usize, mut next: impl FnMut() -> Option<Option<Waker>>) -> bool {
        let end = self.chosen + limit.min(AT_ONCE - self.chosen);
        while self.chosen < end {
            match next() {
                Some(Some(waker)) => self.taken.push(waker),
                Some(None) => {}
                None => return false,
            }
            self.chosen += 1;
        }
        true
    }

    /// Wakes them, in order; how many were chosen.
    #[inline]
    pub fn wake(&mut self) -> usize {
        self.taken.drain(..).for_each(Waker::wake);
        core::mem::take(&mut self.chosen)
    }
}
