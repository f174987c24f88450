//! Signals that were sent and not yet taken.
//!
//! A standard signal is pending once, however often it was sent; realtime signals queue, each with its siginfo, and are
//! taken in the order sent. The bit set answers "is there one"; the queue holds the infos. Where memory for an info
//! cannot be had, a standard signal is still pending, with an empty info.

use alloc::collections::VecDeque;

use super::{
    info::{SigInfo, code},
    set::{SIGRTMIN, SignalSet},
};
use crate::{
    errno::{Errno, Result},
    mm::fallible::TryRoom,
};

/// A pending set with its queue.
#[derive(Debug, Default)]
pub struct Pending {
    set: SignalSet,
    queue: VecDeque<SigInfo>,
}

impl Pending {
    /// Which signals are pending.
    pub const fn set(&self) -> SignalSet {
        self.set
    }

    /// How many infos are queued.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Adds a signal. False if it was a standard signal already pending, whose info is dropped.
    ///
    /// # Errors
    /// `EAGAIN` if a realtime signal by `sigqueue` cannot be queued, beyond `limit` or for want of memory.
    pub fn push(&mut self, info: SigInfo, limit: u64) -> Result<bool> {
        let signo = info.signo();
        if signo < SIGRTMIN && self.set.contains(signo) {
            return Ok(false);
        }
        let fits = (signo < SIGRTMIN || (self.queue.len() as u64) < limit) && self.queue.try_room(1).is_ok();
        if fits {
            self.queue.push_back(info);
        } else if signo >= SIGRTMIN && info.code() != code::SI_USER {
            return Err(Errno::EAGAIN);
        }
        self.set.insert(signo);
        Ok(true)
    }

    /// Takes the first pending signal of `wanted`.
    pub fn take(&mut self, wanted: SignalSet) -> Option<SigInfo> {
        let signo = self.set.intersection(wanted).first()?;
        let at = self.queue.iter().position(|info| info.signo() == signo);
        let info = at
            .and_then(|at| self.queue.remove(at))
            .unwrap_or(SigInfo::new(signo, code::SI_USER));
        if !self.queue.iter().any(|info| info.signo() == signo) {
            self.set.remove(signo);
        }
        Some(info)
    }

    /// Forgets every pending signal of `unwanted`.
    pub fn flush(&mut self, unwanted: SignalSet) {
        if !self.set.intersection(unwanted).is_empty() {
            self.queue.retain(|info| !unwanted.contains(info.signo()));
            self.set = self.set.without(unwanted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::set::{SIGCHLD, SIGSEGV, SIGUSR1};
    use super::*;

    #[test]
    fn standard_signals_coalesce_and_realtime_ones_queue_in_order() {
        let mut pending = Pending::default();
        assert_eq!(pending.push(SigInfo::from_process(SIGUSR1, 0, 1, 0), 10), Ok(true));
        assert_eq!(pending.push(SigInfo::from_process(SIGUSR1, 0, 2, 0), 10), Ok(false));
        for pid in [5, 6, 7] {
            assert_eq!(
                pending.push(SigInfo::from_process(40, code::SI_QUEUE, pid, 0), 10),
                Ok(true)
            );
        }
        assert_eq!(
            pending.take(SignalSet(!0)),
            Some(SigInfo::from_process(SIGUSR1, 0, 1, 0))
        );
        for pid in [5, 6, 7] {
            assert!(pending.set().contains(40));
            assert_eq!(
                pending.take(SignalSet(!0)),
                Some(SigInfo::from_process(40, code::SI_QUEUE, pid, 0))
            );
        }
        assert_eq!(pending.take(SignalSet(!0)), None);
    }

    #[test]
    fn faults_come_first_and_limits_hold() {
        let mut pending = Pending::default();
        pending.push(SigInfo::new(2, 0), 1).unwrap();
        pending.push(SigInfo::new(SIGSEGV, 1), 1).unwrap();
        assert_eq!(pending.push(SigInfo::new(50, code::SI_QUEUE), 1), Err(Errno::EAGAIN));
        assert_eq!(pending.take(SignalSet(!0)).map(|info| info.signo()), Some(SIGSEGV));
        pending.push(SigInfo::new(SIGCHLD, 1), 1).unwrap();
        pending.flush(SignalSet::of(&[2, SIGCHLD]));
        assert_eq!(pending.take(SignalSet(!0)), None);
    }
}
