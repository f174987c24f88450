//! Process and thread numbers: one space for both, as in Linux.
//!
//! Numbers are handed out in a circle, so that one is reused as late as possible: a stale number held by a program then
//! most likely names nobody rather than somebody else. A number stays taken for as long as anything bears it: a thread,
//! an unreaped process, a group or a session.

use crate::errno::{Errno, Result};

/// A process, thread, group or session number.
pub type Pid = i32;

/// One past the largest number (`/proc/sys/kernel/pid_max`).
pub const PID_MAX: Pid = 32768;

/// After the first lap, numbers below this one are left to those who got them at boot.
const RESERVED: usize = 300;

const WORDS: usize = PID_MAX as usize / 64;

/// The numbers in use.
pub struct PidAllocator {
    used: [u64; WORDS],
    next: usize,
}

impl PidAllocator {
    /// Every number free but 0, which names nobody.
    pub const fn new() -> Self {
        let mut used = [0; WORDS];
        used[0] = 1;
        Self { used, next: 1 }
    }

    /// The next free number.
    ///
    /// # Errors
    /// `EAGAIN` if all are taken.
    pub fn allocate(&mut self) -> Result<Pid> {
        let limit = PID_MAX as usize;
        let found = self
            .first_free(self.next, limit)
            .or_else(|| self.first_free(RESERVED, self.next));
        let pid = found.ok_or(Errno::EAGAIN)?;
        self.used[pid / 64] |= 1 << (pid % 64);
        self.next = if pid + 1 == limit { RESERVED } else { pid + 1 };
        Ok(pid as Pid)
    }

    /// Gives a number back.
    ///
    /// # Panics
    /// If it was not taken.
    pub fn free(&mut self, pid: Pid) {
        let pid = pid as usize;
        assert!(
            pid != 0 && self.used[pid / 64] >> (pid % 64) & 1 == 1,
            "pid {pid} freed twice"
        );
        self.used[pid / 64] &= !(1 << (pid % 64));
    }

    fn first_free(&self, start: usize, end: usize) -> Option<usize> {
        let mut at = start;
        while at < end {
            let free = !self.used[at / 64] & (u64::MAX << (at % 64));
            if free != 0 {
                let found = at / 64 * 64 + free.trailing_zeros() as usize;
                return (found < end).then_some(found);
            }
            at = (at / 64 + 1) * 64;
        }
        None
    }
}

impl Default for PidAllocator {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_reused_late() {
        let mut pids = PidAllocator::new();
        assert_eq!(pids.allocate(), Ok(1));
        for _ in 0..3 * PID_MAX {
            let pid = pids.allocate().unwrap();
            pids.free(pid);
            let next = pids.allocate().unwrap();
            assert_ne!(next, pid);
            pids.free(next);
        }
    }

    #[test]
    fn exhaustion_is_an_error_and_ends() {
        let mut pids = PidAllocator::new();
        let all: alloc::vec::Vec<_> = core::iter::from_fn(|| pids.allocate().ok()).collect();
        assert_eq!(all.len(), PID_MAX as usize - 1);
        pids.free(777);
        assert_eq!(pids.allocate(), Ok(777));
        assert_eq!(pids.allocate(), Err(Errno::EAGAIN));
    }
}
