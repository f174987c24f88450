//! Process and thread numbers: one space for both, as in Linux.
//!
//! Numbers are handed out in a circle, so that one is reused as late as possible: a stale number held by a program then
//! most likely names nobody rather than somebody else. A number stays taken for as long as anything bears it: a thread,
//! an unreaped process, a group or a session.

use alloc::boxed::Box;

use crate::errno::{Errno, Result};

/// A process, thread, group or session number.
pub type Pid = i32;

/// One past the largest number (`/proc/sys/kernel/pid_max`): the most that Linux can be told to have, which a word of a
/// priority-inheriting futex has room for.
pub const PID_MAX: Pid = 4 << 20;

/// After the first lap, numbers below this one are left to those who got them at boot.
const RESERVED: usize = 300;

/// Numbers that are kept in one piece.
const PIECE: usize = 4096;
const PIECES: usize = PID_MAX as usize / PIECE;

/// Which of some numbers are in use.
struct Piece {
    used: [u64; PIECE / 64],
    count: usize,
}

/// The numbers in use. A piece is there while one of its numbers is.
pub struct PidAllocator {
    pieces: [Option<Box<Piece>>; PIECES],
    next: usize,
    last: Pid,
}

impl PidAllocator {
    /// Every number free but 0, which names nobody.
    pub const fn new() -> Self {
        Self {
            pieces: [const { None }; PIECES],
            next: 1,
            last: 0,
        }
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
        let piece = self.pieces[pid / PIECE].get_or_insert_with(|| {
            Box::new(Piece {
                used: [0; PIECE / 64],
                count: 0,
            })
        });
        piece.used[pid % PIECE / 64] |= 1 << (pid % 64);
        piece.count += 1;
        self.next = if pid + 1 == limit { RESERVED } else { pid + 1 };
        self.last = pid as Pid;
        Ok(self.last)
    }

    /// The number that was given last; 0 before the first.
    pub const fn last(&self) -> Pid {
        self.last
    }

    /// Gives a number back.
    ///
    /// # Panics
    /// If it was not taken.
    pub fn free(&mut self, pid: Pid) {
        let number = pid as usize;
        let place = &mut self.pieces[number / PIECE];
        let bit = 1 << (number % 64);
        match place {
            Some(piece) if piece.used[number % PIECE / 64] & bit != 0 => {
                piece.used[number % PIECE / 64] &= !bit;
                piece.count -= 1;
                if piece.count == 0 {
                    *place = None;
                }
            }
            _ => panic!("pid {pid} freed twice"),
        }
    }

    /// The first free number from `start` to before `end`.
    fn first_free(&self, start: usize, end: usize) -> Option<usize> {
        let mut at = start;
        while at < end {
            let Some(piece) = &self.pieces[at / PIECE] else {
                return Some(at);
            };
            if piece.count == PIECE {
                at = (at / PIECE + 1) * PIECE;
                continue;
            }
            let free = !piece.used[at % PIECE / 64] & (u64::MAX << (at % 64));
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
        all.into_iter().for_each(|pid| pids.free(pid));
        assert!(pids.pieces.iter().all(Option::is_none));
    }
}
