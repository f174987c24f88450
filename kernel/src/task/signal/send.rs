//! Sending.
//!
//! A signal to a process goes on the process's queue and is taken by whichever thread does not block it; the first such
//! thread is woken. A signal to a thread goes on the thread's own queue. SIGKILL ends the whole process at once; SIGCONT
//! and the stopping signals cancel each other at the time of sending, whatever is blocked or ignored.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use super::{
    action::{SIG_DFL, SigAction},
    info::{SigInfo, code},
    pending::{Expiry, Pending},
    set::*,
    watch,
};
use crate::{
    errno::{Errno, Result},
    task::{
        capabilities::Capability,
        credentials::Credentials,
        limits::Resource,
        pid::Pid,
        process::{Process, Shared, WaitStatus},
        ptrace, stop, table,
        thread::{Thread, ThreadSignals, attention},
    },
};

/// Sends a signal to a process.
///
/// # Errors
/// `EAGAIN` if a realtime signal cannot be queued.
pub fn send_to_process(process: &Arc<Process>, info: SigInfo) -> Result<()> {
    send(process, None, info, None).map(drop)
}

/// Sends a signal to one thread.
///
/// # Errors
/// `EAGAIN` if a realtime signal cannot be queued.
pub fn send_to_thread(thread: &Arc<Thread>, info: SigInfo) -> Result<()> {
    send(thread.process(), Some(thread), info, None).map(drop)
}

/// Sends the signal of one of the process's timers, to one of its threads or to all. Its queue keeps room for that.
pub(in crate::task) fn send_of_timer(
    process: &Arc<Process>,
    thread: Option<&Arc<Thread>>,
    info: SigInfo,
    expiry: Expiry,
) -> Sent {
    // Only what has no room can fail.
    send(process, thread, info, Some(expiry)).unwrap_or(Sent::Taken)
}

/// What became of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::task) enum Sent {
    /// It is pending, or has had its effect, or comes too late for any.
    Taken,
    /// The process ignores it.
    Ignored,
}

/// Sends a signal of the kernel to every process of a group, as a terminal does.
pub fn signal_process_group(group: Pid, signo: Signo) {
    for process in table::group_members(group) {
        // Only a realtime signal can fail to be sent.
        let _ = send_to_process(&process, SigInfo::kernel(signo));
    }
}

/// Raises a signal that the thread caused by a fault: it cannot be blocked or ignored, and it kills where it is.
pub fn force(thread: &Arc<Thread>, info: SigInfo) {
    let signo = info.signo();
    let blocked = {
        let mut signals = thread.signals.lock();
        let blocked = signals.mask.contains(signo);
        signals.mask.remove(signo);
        blocked
    };
    let process = thread.process();
    process.with_actions(|actions| {
        let action = actions.get_mut(signo);
        if blocked || action.ignores(signo) {
            *action = SigAction {
                handler: SIG_DFL,
                ..SigAction::default()
            };
        }
    });
    // Not beyond any limit, and a standard signal: this cannot fail.
    let _ = thread.signals.lock().pending.push(info, u64::MAX);
    watch::tell(process);
    if process.pid() == 1 {
        process.killable.store(true, Ordering::Relaxed);
    }
    thread.kick(attention::SIGNAL);
}

/// Whether `sender` may signal `target` (`kill(2)`).
pub fn may_signal(sender: &Thread, target: &Process, signo: Signo) -> bool {
    sender.process().pid() == target.pid() || may_signal_as(sender, target, &target.credentials(), signo)
}

/// As [`may_signal`], for a signal to one thread.
pub fn may_signal_thread(sender: &Thread, target: &Thread, signo: Signo) -> bool {
    let process = target.process();
    sender.process().pid() == process.pid() || may_signal_as(sender, process, &target.credentials(), signo)
}

fn may_signal_as(sender: &Thread, target: &Process, to: &Credentials, signo: Signo) -> bool {
    let from = sender.credentials();
    [from.euid, from.uid]
        .iter()
        .any(|uid| *uid == to.suid || *uid == to.uid)
        || from.can(Capability::Kill)
        || signo == SIGCONT && sender.process().session().id() == target.session().id()
}

fn send(process: &Arc<Process>, thread: Option<&Arc<Thread>>, info: SigInfo, timer: Option<Expiry>) -> Result<Sent> {
    let signo = info.signo();
    if SignalSet::STOPPING.contains(signo) {
        flush(process, SignalSet::of(&[SIGCONT]));
    } else if signo == SIGCONT {
        flush(process, SignalSet::STOPPING);
        stop::resume(process, stop::Report::Parent);
        ptrace::group_changed(process);
    } else if signo == SIGKILL && (process.pid() != 1 || info.code() == code::SI_KERNEL) {
        stop::resume(process, stop::Report::Nobody);
    }
    let action = process.action(signo);
    let limit = process.limit(Resource::PendingSignals);
    let protected = process.pid() == 1 && action.handler == SIG_DFL && !process.killable.load(Ordering::Relaxed);
    let mut shared = process.shared.lock();
    if shared.group_exit.is_some() || shared.threads.is_empty() {
        return Ok(Sent::Taken);
    }
    if protected {
        return Ok(Sent::Ignored);
    }
    if signo == SIGKILL {
        end_all(&mut shared, WaitStatus::killed(SIGKILL));
        return Ok(Sent::Taken);
    }
    let looked_at = thread.or(shared.threads.first()).cloned();
    let Some(first) = looked_at else { return Ok(Sent::Taken) };
    let (blocked, awaited) = {
        let signals = first.signals.lock();
        let mask = signals.saved_mask.unwrap_or_default().union(signals.mask);
        (mask.contains(signo), signals.awaited.contains(signo))
    };
    if action.ignores(signo) && !blocked && !awaited && !first.is_traced() {
        return Ok(Sent::Ignored);
    }
    let push = |pending: &mut Pending| match timer {
        Some(expiry) => Ok(pending.push_timer(info, expiry)),
        None => pending.push(info, limit),
    };
    match thread {
        Some(thread) => {
            push(&mut thread.signals.lock().pending)?;
            watch::tell(process);
            if wants(thread, signo) {
                thread.kick(attention::SIGNAL);
            }
        }
        None => {
            if push(&mut shared.pending)? {
                watch::tell(process);
                wake_one(&shared, SignalSet::of(&[signo]), None);
            }
        }
    }
    Ok(Sent::Taken)
}

/// Tells every thread of the process to end with `status`, unless it ends already.
pub(in crate::task) fn end_all(shared: &mut Shared, status: WaitStatus) {
    if shared.group_exit.is_none() {
        shared.group_exit = Some(status);
        shared.stop = None;
        for thread in &shared.threads {
            ptrace::end(thread);
        }
    }
}

/// Wakes, for each pending signal of `signals`, a thread that would take it; `except` does not count.
pub(in crate::task) fn wake_one(shared: &Shared, signals: SignalSet, except: Option<&Thread>) {
    let mut rest = shared.pending.set().intersection(signals);
    while let Some(signo) = rest.first() {
        rest.remove(signo);
        let taker = shared
            .threads
            .iter()
            .find(|thread| except.is_none_or(|except| !core::ptr::eq(except, &***thread)) && wants(thread, signo));
        if let Some(thread) = taker {
            thread.kick(attention::SIGNAL);
        }
    }
}

fn wants(thread: &Thread, signo: Signo) -> bool {
    if thread.exiting.load(Ordering::Relaxed) {
        return false;
    }
    let signals = thread.signals.lock();
    !signals.mask.contains(signo) || signals.awaited.contains(signo)
}

/// Takes pending signals away from the process and all its threads.
pub(in crate::task) fn flush(process: &Process, signals: SignalSet) {
    let mut shared = process.shared.lock();
    shared.pending.flush(signals);
    for thread in &shared.threads {
        thread.signals.lock().pending.flush(signals);
    }
}

impl Thread {
    /// Changes the signal mask; signals that become deliverable are looked at before the next return to user mode, and
    /// pending ones that this thread no longer takes are offered to the others. Returns the old mask.
    pub fn set_signal_mask(&self, mask: SignalSet) -> SignalSet {
        self.change_signal_mask(|_| mask)
    }

    pub(in crate::task) fn change_signal_mask(&self, change: impl FnOnce(SignalSet) -> SignalSet) -> SignalSet {
        self.change_signals(|signals| change(signals.mask))
    }

    /// As [`Thread::set_signal_mask`], to what `change` says, which may change more of them.
    pub(in crate::task) fn change_signals(&self, change: impl FnOnce(&mut ThreadSignals) -> SignalSet) -> SignalSet {
        let shared = self.process().shared.lock();
        let (old, new, pending) = {
            let mut signals = self.signals.lock();
            let old = signals.mask;
            signals.mask = change(&mut signals).without(SignalSet::UNBLOCKABLE);
            (old, signals.mask, signals.pending.set())
        };
        if !pending.union(shared.pending.set()).without(new).is_empty() {
            self.kick(attention::SIGNAL);
        }
        let newly_blocked = new.without(old);
        if !shared.pending.set().intersection(newly_blocked).is_empty() {
            wake_one(&shared, newly_blocked, Some(self));
        }
        old
    }

    /// The mask until the next handler returns, or until the call that sets it ends without one (`sigsuspend`, `ppoll`).
    /// The wait that follows must end with `ERESTARTNOHAND` or `EINTR` where a signal ended it; otherwise the caller
    /// calls [`Thread::restore_mask`].
    pub fn set_temporary_mask(&self, mask: SignalSet) {
        let old = self.set_signal_mask(mask);
        self.signals.lock().saved_mask = Some(old);
    }

    /// Undoes [`Thread::set_temporary_mask`] where no signal ended the wait.
    pub fn restore_mask(&self) {
        let saved = self.signals.lock().saved_mask.take();
        if let Some(saved) = saved {
            self.set_signal_mask(saved);
        }
    }

    /// Signals pending for the thread or its process that it does not take now.
    pub fn pending_signals(&self) -> SignalSet {
        let shared = self.process().shared.lock();
        let signals = self.signals.lock();
        shared.pending.set().union(signals.pending.set())
    }

    /// The mask that a debugger sees: what a call that waits has put in its place for a while does not show.
    pub fn blocked_signals(&self) -> SignalSet {
        let signals = self.signals.lock();
        signals.saved_mask.unwrap_or(signals.mask)
    }

    /// One of the signals that wait, of the thread or of its whole process, in the order in which they came; none is taken.
    pub fn pending_info(&self, shared: bool, at: usize) -> Option<SigInfo> {
        if shared {
            self.process().shared.lock().pending.info(at)
        } else {
            self.signals.lock().pending.info(at)
        }
    }

    /// Takes the next signal of `wanted`: faults first, then the thread's own, then the process's; and whether there are more.
    pub(in crate::task) fn take_signal(&self, wanted: impl FnOnce(SignalSet) -> SignalSet) -> Option<(SigInfo, bool)> {
        let (taken, more) = {
            let mut shared = self.process().shared.lock();
            let mut signals = self.signals.lock();
            let wanted = wanted(signals.mask);
            let taken = match signals.pending.take(wanted) {
                None => shared.pending.take(wanted)?,
                Some(taken) => taken,
            };
            let left = signals.pending.set().union(shared.pending.set());
            (taken, !left.intersection(wanted).is_empty())
        };
        let info = match taken.timer {
            Some(expiry) => self.process().timer_signal_taken(taken.info, expiry),
            None => taken.info,
        };
        Some((info, more))
    }
}

/// `kill(2)`: `pid` as the call has it, 0 for a mere check.
///
/// # Errors
/// `EINVAL`, `ESRCH`, `EPERM`.
pub fn kill(sender: &Thread, pid: Pid, signo: Signo) -> Result<()> {
    if !(0..=SIGNALS).contains(&signo) {
        return Err(Errno::EINVAL);
    }
    let own = sender.process();
    let info = SigInfo::from_process(signo, code::SI_USER, own.pid(), sender.credentials().uid);
    match pid {
        1.. => {
            let target = table::process(pid)
                .or_else(|| table::thread(pid).map(|thread| thread.process().clone()))
                .ok_or(Errno::ESRCH)?;
            signal_one(sender, &target, signo, info)
        }
        0 => signal_many(sender, table::group_members(own.group()), signo, info),
        -1 => {
            let all = table::processes().filter(|p| p.pid() != 1 && p.pid() != own.pid());
            signal_many(sender, all, signo, info)
        }
        i32::MIN => Err(Errno::ESRCH),
        _ => signal_many(sender, table::group_members(-pid), signo, info),
    }
}

/// Sends a signal to one process, if `sender` may; 0 for a mere check.
///
/// # Errors
/// `EINVAL` if there is no such signal, `EPERM`, `EAGAIN`.
pub fn signal_one(sender: &Thread, target: &Arc<Process>, signo: Signo, info: SigInfo) -> Result<()> {
    if !(0..=SIGNALS).contains(&signo) {
        return Err(Errno::EINVAL);
    }
    if !may_signal(sender, target, signo) {
        return Err(Errno::EPERM);
    }
    if signo == 0 {
        Ok(())
    } else {
        send_to_process(target, info)
    }
}

fn signal_many(
    sender: &Thread,
    targets: impl IntoIterator<Item = Arc<Process>>,
    signo: Signo,
    info: SigInfo,
) -> Result<()> {
    let mut result = Err(Errno::ESRCH);
    for target in targets {
        match signal_one(sender, &target, signo, info) {
            Ok(()) => result = Ok(()),
            Err(error) if result.is_err() => result = Err(error),
            Err(_) => {}
        }
    }
    result
}

/// Replaces an action once `before` has seen what it was; pending signals that the new one ignores are forgotten. Under the
/// actions' lock, so that nobody comes in between.
///
/// # Errors
/// `before`'s: nothing is replaced then.
#[inline]
pub fn set_action<E>(
    process: &Process,
    signo: Signo,
    action: SigAction,
    before: impl FnOnce(&SigAction) -> core::result::Result<(), E>,
) -> core::result::Result<(), E> {
    process.with_actions(|actions| {
        let there = actions.get_mut(signo);
        before(there)?;
        *there = action;
        Ok(())
    })?;
    if action.ignores(signo) {
        flush(process, SignalSet::of(&[signo]));
    }
    Ok(())
}

/// Takes a pending signal of `set`, blocked or not.
pub fn take_awaited(thread: &Thread, set: SignalSet) -> Option<SigInfo> {
    thread.take_signal(|_| set).map(|(info, _)| info)
}

/// Marks what `sigtimedwait` waits for, so that a blocked signal wakes the thread; dropping it unmarks.
pub struct Awaiting<'a> {
    thread: &'a Thread,
}

impl<'a> Awaiting<'a> {
    /// Marks `set`.
    pub fn new(thread: &'a Thread, set: SignalSet) -> Self {
        thread.signals.lock().awaited = set;
        Self { thread }
    }
}

impl Drop for Awaiting<'_> {
    fn drop(&mut self) {
        self.thread.signals.lock().awaited = SignalSet::EMPTY;
    }
}

/// Waits for a signal of `set`. Attention for it is not an interruption.
pub async fn awaited_signal(thread: &Thread, set: SignalSet) -> SigInfo {
    core::future::poll_fn(|cx| {
        thread.store_waker(cx.waker());
        match take_awaited(thread, set) {
            Some(info) => core::task::Poll::Ready(info),
            None => core::task::Poll::Pending,
        }
    })
    .await
}
