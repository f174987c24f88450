//! Signals that were sent and not yet taken.
//!
//! A standard signal is pending once, however often it was sent; realtime signals queue, each with its siginfo, and are
//! taken in the order sent. The bit set answers "is there one"; the queue holds the infos. Where memory for an info
//! cannot be had, a standard signal is still pending, with an empty info.
//!
//! A timer's signal is queued once, whatever its number; room for it is kept from the timer's making on, so that it cannot fail.

use alloc::collections::VecDeque;

use super::{
    info::{SigInfo, code},
    set::{SIGRTMIN, SignalSet, Signo},
};
use crate::{
    errno::{Errno, Result},
    mm::fallible::TryRoom,
};

/// Which expiry of which of the process's timers a signal tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// The timer's number.
    pub timer: i32,
    /// Tells this expiry from those before the timer was last set; 0 if the timer does not go on once the signal is taken.
    pub number: u32,
}

/// A signal that has been taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// What its receiver is told.
    pub info: SigInfo,
    /// The timer that sent it and is to hear that it has been taken.
    pub timer: Option<Expiry>,
}

/// A pending set with its queue.
#[derive(Debug, Default)]
pub struct Pending {
    set: SignalSet,
    queue: VecDeque<Taken>,
    /// Timers that send their signals here: there is room for a signal of each.
    timers: u32,
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

    /// One of the queue.
    pub fn info(&self, at: usize) -> Option<SigInfo> {
        self.queue.get(at).map(|queued| queued.info)
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
        let room = 1 + self.timers as usize;
        let fits = (signo < SIGRTMIN || (self.queue.len() as u64) < limit) && self.queue.try_room(room).is_ok();
        if fits {
            self.queue.push_back(Taken { info, timer: None });
        } else if signo >= SIGRTMIN && info.code() != code::SI_USER {
            return Err(Errno::EAGAIN);
        }
        self.set.insert(signo);
        Ok(true)
    }

    /// Keeps room for the signals of one more timer.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn add_timer(&mut self) -> Result<()> {
        self.queue.try_room(1 + self.timers as usize)?;
        self.timers += 1;
        Ok(())
    }

    /// Undoes [`Pending::add_timer`]. A signal of the timer's stays.
    pub fn remove_timer(&mut self) {
        self.timers = self.timers.saturating_sub(1);
    }

    /// Adds the signal of a timer for which room is kept. False if the timer's last is still there, which counts it.
    pub fn push_timer(&mut self, info: SigInfo, expiry: Expiry) -> bool {
        let is_its_own = |queued: &&mut Taken| queued.timer.is_some_and(|queued| queued.timer == expiry.timer);
        if let Some(queued) = self.queue.iter_mut().find(is_its_own) {
            queued.info = queued.info.with_overrun(queued.info.overrun().saturating_add(1));
            return false;
        }
        self.queue.push_back(Taken {
            info,
            timer: Some(expiry),
        });
        self.set.insert(info.signo());
        true
    }

    /// Takes the first pending signal of `wanted`.
    pub fn take(&mut self, wanted: SignalSet) -> Option<Taken> {
        let signo = self.set.intersection(wanted).first()?;
        // Mostly the first, and the only one.
        let taken = match self.queue.pop_front_if(|queued| queued.info.signo() == signo) {
            Some(first) => first,
            None => self.take_later(signo),
        };
        if !self.queue.iter().any(|queued| queued.info.signo() == signo) {
            self.set.remove(signo);
        }
        Some(taken)
    }

    /// Takes what is queued of a pending signal, but not first; an empty info if nothing is.
    #[cold]
    fn take_later(&mut self, signo: Signo) -> Taken {
        let at = self.queue.iter().position(|queued| queued.info.signo() == signo);
        at.and_then(|at| self.queue.remove(at)).unwrap_or(Taken {
            info: SigInfo::new(signo, code::SI_USER),
            timer: None,
        })
    }

    /// Forgets every pending signal of `unwanted`.
    pub fn flush(&mut self, unwanted: SignalSet) {
        if !self.set.intersection(unwanted).is_empty() {
            self.queue.retain(|queued| !unwanted.contains(queued.info.signo()));
            self.set = self.set.without(unwanted);
        }
    }

    /// Forgets every signal of a timer's, as execve does.
    pub fn flush_timers(&mut self) {
        self.queue.retain(|queued| {
            if queued.timer.is_some() {
                self.set.remove(queued.info.signo());
            }
            queued.timer.is_none()
        });
        for queued in &self.queue {
            self.set.insert(queued.info.signo());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::set::{SIGCHLD, SIGSEGV, SIGUSR1};
    use super::*;

    /// The info of what is taken.
    fn take(pending: &mut Pending) -> Option<SigInfo> {
        pending.take(SignalSet(!0)).map(|taken| taken.info)
    }

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
        assert_eq!(take(&mut pending), Some(SigInfo::from_process(SIGUSR1, 0, 1, 0)));
        for pid in [5, 6, 7] {
            assert!(pending.set().contains(40));
            assert_eq!(
                take(&mut pending),
                Some(SigInfo::from_process(40, code::SI_QUEUE, pid, 0))
            );
        }
        assert_eq!(take(&mut pending), None);
    }

    #[test]
    fn faults_come_first_and_limits_hold() {
        let mut pending = Pending::default();
        pending.push(SigInfo::new(2, 0), 1).unwrap();
        pending.push(SigInfo::new(SIGSEGV, 1), 1).unwrap();
        assert_eq!(pending.push(SigInfo::new(50, code::SI_QUEUE), 1), Err(Errno::EAGAIN));
        assert_eq!(take(&mut pending).map(|info| info.signo()), Some(SIGSEGV));
        pending.push(SigInfo::new(SIGCHLD, 1), 1).unwrap();
        pending.flush(SignalSet::of(&[2, SIGCHLD]));
        assert_eq!(take(&mut pending), None);
    }

    #[test]
    fn a_timer_has_one_signal_and_room_for_it() {
        let expiry = |timer| Expiry { timer, number: 0 };
        let mut pending = Pending::default();
        pending.add_timer().unwrap();
        pending.add_timer().unwrap();
        pending.push(SigInfo::new(SIGUSR1, 0), 1).unwrap();
        let room = pending.queue.capacity();
        // Beyond any limit, and beside a standard signal that is there already.
        assert!(pending.push_timer(SigInfo::timer(SIGUSR1, 7, 0, 1), expiry(7)));
        assert!(pending.push_timer(SigInfo::timer(SIGUSR1, 8, 0, 2), expiry(8)));
        assert!(!pending.push_timer(SigInfo::timer(SIGUSR1, 7, 0, 3), expiry(7)));
        assert_eq!(pending.queue.capacity(), room, "nothing was allocated");
        assert_eq!(take(&mut pending), Some(SigInfo::new(SIGUSR1, 0)));
        let taken = pending.take(SignalSet(!0)).unwrap();
        assert_eq!(taken.timer, Some(expiry(7)));
        assert_eq!(taken.info, SigInfo::timer(SIGUSR1, 7, 1, 1), "counted, not replaced");
        pending.push(SigInfo::new(50, 0), 9).unwrap();
        pending.flush_timers();
        assert_eq!(pending.set(), SignalSet::of(&[50]));
    }
}
