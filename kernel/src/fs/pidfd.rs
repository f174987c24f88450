//! `pidfd_open(2)`: a process, held by a descriptor.
//!
//! Unlike a number, which is given to another process some day, it stands for the one process for ever, and is readable once
//! that has ended.

use alloc::{string::String, sync::Arc};
use core::fmt::Write;

use super::{
    file::{File, Readiness},
    open_file::OpenFile,
    poll_queue::PollQueue,
};
use crate::{
    errno::{Errno, Result},
    task::{self, Process, Thread},
};

/// See the module.
pub struct PidFile {
    process: Arc<Process>,
}

impl PidFile {
    /// Holds a process.
    pub const fn new(process: Arc<Process>) -> Self {
        Self { process }
    }

    /// The process behind a descriptor, and the open file.
    ///
    /// # Errors
    /// `EBADF` if it is none of a process.
    pub fn find(t: &Thread, fd: i32) -> Result<(Arc<Process>, Arc<OpenFile>)> {
        let file = t.files().get_usable(fd)?;
        let found = file.file().as_any().and_then(|file| file.downcast_ref::<Self>());
        let process = found.ok_or(Errno::EBADF)?.process.clone();
        Ok((process, file))
    }
}

impl File for PidFile {
    fn readiness(&self) -> Readiness {
        if self.process.has_exited() {
            Readiness::READABLE
        } else {
            Readiness::empty()
        }
    }

    fn poll_queue(&self) -> Option<&PollQueue> {
        Some(self.process.exits())
    }

    fn details(&self, _: u64, out: &mut String) -> Result<Option<u64>> {
        let there = task::process(self.process.pid()).is_some_and(|there| Arc::ptr_eq(&there, &self.process));
        let pid = if there { self.process.pid() } else { -1 };
        // Written into memory: cannot fail.
        let _ = writeln!(out, "Pid:\t{pid}");
        Ok(None)
    }

    fn as_any(&self) -> Option<&dyn core::any::Any> {
        Some(self)
    }
}
