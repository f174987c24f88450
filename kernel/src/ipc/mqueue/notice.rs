//! Who is told when a message comes into an empty queue (`mq_notify(3)`).

use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::Queue;
use crate::{
    errno::{Errno, Result},
    fs::OpenFile,
    task::{
        Pid, Process, Thread, current,
        signal::{SigInfo, Signo, info::code::SI_MESGQ, send},
    },
};

/// How many there are, so that whoever closes a file need not look.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// A process that is told, once.
pub struct Notice {
    owner: Pid,
    process: Weak<Process>,
    /// The signal and its value; `None` has the place taken and tells nobody.
    signal: Option<(Signo, u64)>,
}

impl Notice {
    /// Of the thread's process.
    pub fn new(thread: &Thread, signal: Option<(Signo, u64)>) -> Self {
        COUNT.fetch_add(1, Relaxed);
        Self {
            owner: thread.process().pid(),
            process: Arc::downgrade(thread.process()),
            signal,
        }
    }

    /// Tells it of a message that a thread has sent. No lock is held.
    pub(super) fn fire(&self, sender: &Thread) {
        if let Some((signo, value)) = self.signal
            && let Some(process) = self.process.upgrade()
        {
            let (pid, uid) = (sender.process().pid(), sender.credentials().uid);
            let info = SigInfo::from_process(signo, SI_MESGQ, pid, uid).with_value(value);
            // One that cannot be queued is lost, as on Linux.
            let _ = send::send_to_process(&process, info);
        }
    }

    pub(super) const fn owner(&self) -> Pid {
        self.owner
    }

    pub(super) fn signo(&self) -> Signo {
        self.signal.map_or(0, |(signo, _)| signo)
    }

    /// `SIGEV_SIGNAL` or `SIGEV_NONE`.
    pub(super) const fn how(&self) -> u32 {
        self.signal.is_none() as u32
    }
}

impl Drop for Notice {
    fn drop(&mut self) {
        COUNT.fetch_sub(1, Relaxed);
    }
}

impl Queue {
    /// Has a process told of the next message that comes while there is none.
    ///
    /// # Errors
    /// `EBUSY` if another, or the same one, is to be told already.
    pub fn notify(&self, notice: Notice) -> Result<()> {
        let mut contents = self.contents.lock();
        if contents.notice.is_some() {
            drop(contents);
            return Err(Errno::EBUSY);
        }
        contents.notice = Some(notice);
        contents.touch();
        Ok(())
    }

    /// Has a process told no more, if it is the one that was to be.
    pub fn forget(&self, owner: Pid) {
        let mut contents = self.contents.lock();
        let forgotten = contents.notice.take_if(|notice| notice.owner == owner);
        drop(contents);
        drop(forgotten);
    }
}

/// The running thread's process closes a descriptor: it is told no more, whatever other descriptors of the queue it has.
pub fn closed(file: &OpenFile) {
    if COUNT.load(Relaxed) > 0
        && let Some(queue) = Queue::of(file)
    {
        queue.forget(current::pid());
    }
}
