//! Sessions and process groups at a terminal.
//!
//! A session has at most one controlling terminal, a terminal controls at most one session, and one group of that session is
//! in the foreground: it gets the keyboard's signals and may read. Both directions of the link are set and cleared here; the
//! terminal's is weak, so that neither keeps the other.

use alloc::sync::{Arc, Weak};

use super::Tty;
use crate::{
    errno::{Errno, Result},
    fs::Attempt,
    task::{
        Pid, Process, Session, Thread,
        signal::{self, Signo},
        table,
    },
};

impl Tty {
    /// Whether this is the controlling terminal of the process's session.
    pub(super) fn controls(&self, process: &Process) -> bool {
        process.session().tty().is_some_and(|tty| core::ptr::eq(&*tty, self))
    }

    /// Whether the caller may go on, or is a background process to be stopped by `signo` (`SIGTTIN` for a read, `SIGTTOU` for
    /// a change).
    ///
    /// # Errors
    /// `ERESTARTSYS` after the signal was sent to the caller's group; `EIO` where it would stop nobody.
    pub(super) fn check_foreground(&self, caller: &Thread, signo: Signo) -> Result<()> {
        let process = caller.process();
        let group = process.group();
        let foreground = self.state.lock().foreground;
        if foreground.is_none_or(|foreground| foreground == group) || !self.controls(process) {
            return Ok(());
        }
        if caller.signal_mask().contains(signo) || process.action(signo).handler == signal::action::SIG_IGN {
            return if signo == signal::set::SIGTTIN {
                Err(Errno::EIO)
            } else {
                Ok(())
            };
        }
        if table::is_orphaned_group(group) {
            return Err(Errno::EIO);
        }
        signal::signal_process_group(group, signo);
        Err(Errno::ERESTARTSYS)
    }

    /// Makes this the controlling terminal of the caller's session (`TIOCSCTTY`). `steal` takes it from another session.
    ///
    /// # Errors
    /// `EPERM` if the caller leads no session, its session has a terminal, or another session has this one.
    pub(super) fn become_controlling(self: &Arc<Self>, process: &Process, steal: Steal) -> Result<()> {
        let session = process.session();
        if session.id() == process.pid() && self.controls(process) {
            return Ok(());
        }
        if session.id() != process.pid() || session.tty().is_some() {
            return Err(Errno::EPERM);
        }
        let previous = {
            let mut state = self.state.lock();
            let previous = state.session.as_ref().and_then(Weak::upgrade);
            if previous.is_some() && steal == Steal::No {
                return Err(Errno::EPERM);
            }
            state.session = Some(Arc::downgrade(&session));
            state.foreground = Some(process.group());
            previous
        };
        if let Some(previous) = previous {
            previous.set_tty(None);
        }
        session.set_tty(Some(Arc::clone(self)));
        Ok(())
    }

    /// As the open of a terminal by a session leader that has none does, unless it said `O_NOCTTY`.
    pub(super) fn adopt(self: &Arc<Self>, process: &Process) {
        // A process that leads no session, or whose session has a terminal, keeps what it has.
        let _kept = self.become_controlling(process, Steal::No);
    }

    /// Parts from the session (`TIOCNOTTY` by its leader); the foreground group is told.
    pub(super) fn part(&self, session: &Session) {
        session.set_tty(None);
        let foreground = {
            let mut state = self.state.lock();
            state.session = None;
            state.foreground.take()
        };
        if let Some(group) = foreground {
            signal::signal_process_group(group, signal::set::SIGHUP);
            signal::signal_process_group(group, signal::set::SIGCONT);
        }
    }

    /// The foreground group, for the session that this terminal controls.
    ///
    /// # Errors
    /// `ENOTTY` for others.
    pub(super) fn foreground(&self, process: &Process) -> Result<Pid> {
        if !self.controls(process) {
            return Err(Errno::ENOTTY);
        }
        Ok(self.state.lock().foreground.unwrap_or(0))
    }

    /// Brings a group to the foreground (`TIOCSPGRP`).
    ///
    /// # Errors
    /// `ENOTTY` for other sessions; `EINVAL`, `ESRCH`, `EPERM` for what is no group, does not exist, or is of another session;
    /// what [`Tty::check_foreground`] returns.
    pub(super) fn set_foreground(&self, caller: &Thread, group: Pid) -> Attempt<()> {
        let process = caller.process();
        self.check_foreground(caller, signal::set::SIGTTOU)
            .map_err(|errno| if errno == Errno::EIO { Errno::ENOTTY } else { errno })?;
        if !self.controls(process) {
            return Err(Errno::ENOTTY.into());
        }
        if group < 0 {
            return Err(Errno::EINVAL.into());
        }
        if table::group_members(group).next().is_none() {
            return Err(Errno::ESRCH.into());
        }
        if !table::group_is_in_session(group, process.session().id()) {
            return Err(Errno::EPERM.into());
        }
        self.state.lock().foreground = Some(group);
        Ok(())
    }
}

/// Whether a terminal may be taken from the session that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Steal {
    /// By root, with `TIOCSCTTY`'s argument 1.
    Yes,
    /// Otherwise.
    No,
}

/// Called as the leader of a session ends: the session loses its terminal, everybody there is hung up.
pub fn session_leader_ended(session: &Session) {
    if let Some(tty) = session.tty() {
        tty.part(session);
        tty.hang_up();
    }
}
