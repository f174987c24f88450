//! Wakers on their way out of a lock.

use core::task::Waker;

/// How many wakers are taken out under a lock at a time.
pub const AT_ONCE: usize = 16;

/// Wakers that were taken under a lock, woken outside of it.
pub struct Wakers {
    slots: [Option<Waker>; AT_ONCE],
    used: usize,
}

impl Wakers {
    pub const fn new() -> Self {
        Self {
            slots: [const { None }; AT_ONCE],
            used: 0,
        }
    }

    /// Takes at most `limit` from `next`, and no more than there is room for; whether there may be more: it was not `next`
    /// that ended it.
    pub fn fill(&mut self, limit: usize, mut next: impl FnMut() -> Option<Option<Waker>>) -> bool {
        let room = limit.min(AT_ONCE - self.used);
        for slot in self.slots.iter_mut().skip(self.used).take(room) {
            match next() {
                Some(waker) => *slot = waker,
                None => return false,
            }
            self.used += 1;
        }
        true
    }

    /// Wakes them, in order; how many.
    pub fn wake(self) -> usize {
        self.slots.into_iter().take(self.used).flatten().for_each(Waker::wake);
        self.used
    }
}
