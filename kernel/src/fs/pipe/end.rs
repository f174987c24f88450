//! An end of a pipe: the file.

use alloc::sync::Arc;

use linux_raw_sys::{general as linux, ioctl};

use super::{PIPE_BUF, Pipe};
use crate::{
    errno::Errno,
    fs::{
        file::{Attempt, Direction, File, Readiness, Transfer},
        io::{Sink, Source, copy_out},
        poll_queue::PollQueue,
    },
    sync::WaitQueue,
    task::Thread,
};

/// Which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Bytes come out.
    Read,
    /// Bytes go in.
    Write,
    /// A fifo opened for both.
    Both,
}

impl End {
    /// What access flags ask for.
    pub const fn from_flags(flags: u32) -> Self {
        match flags & linux::O_ACCMODE {
            linux::O_RDONLY => Self::Read,
            linux::O_WRONLY => Self::Write,
            _ => Self::Both,
        }
    }

    /// What wakes concern it: those of the other end do not.
    const fn heeds(self) -> Readiness {
        match self {
            Self::Read => Readiness::all().difference(Readiness::WRITABLE),
            Self::Write => Readiness::all().difference(Readiness::READABLE),
            Self::Both => Readiness::all(),
        }
    }

    pub(super) const fn reads(self) -> bool {
        matches!(self, Self::Read | Self::Both)
    }

    pub(super) const fn writes(self) -> bool {
        matches!(self, Self::Write | Self::Both)
    }
}

/// One end of a pipe, open.
pub struct PipeEnd {
    pub(super) pipe: Arc<Pipe>,
    pub(super) end: End,
}

impl PipeEnd {
    /// The pipe.
    pub const fn pipe(&self) -> &Arc<Pipe> {
        &self.pipe
    }

    /// Which end it is.
    pub const fn end(&self) -> End {
        self.end
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        self.pipe.close(self.end);
    }
}

impl File for PipeEnd {
    fn read(&self, _: &mut Transfer<'_>, sink: &mut Sink<'_>) -> Attempt<()> {
        if self.end.reads() {
            self.pipe.read(sink)
        } else {
            Err(Errno::EBADF.into())
        }
    }

    fn write(&self, _: &mut Transfer<'_>, source: &mut Source<'_>) -> Attempt<()> {
        if self.end.writes() {
            self.pipe.write(source)
        } else {
            Err(Errno::EBADF.into())
        }
    }

    fn control(&self, _: &Thread, request: u32, argument: u64) -> Attempt<u64> {
        match request {
            ioctl::FIONREAD => {
                let waiting = self.pipe.len() as i32;
                copy_out(argument, &waiting.to_ne_bytes())?;
                Ok(0)
            }
            _ => Err(Errno::ENOTTY.into()),
        }
    }

    fn readiness(&self) -> Readiness {
        self.pipe.readiness(self.end)
    }

    fn has_instant_readiness(&self) -> bool {
        true
    }

    fn wait_queue(&self, direction: Direction) -> Option<&WaitQueue> {
        Some(match direction {
            Direction::Read => &self.pipe.readable,
            Direction::Write => &self.pipe.writable,
        })
    }

    fn whole_write(&self) -> usize {
        PIPE_BUF
    }

    fn poll_queue(&self) -> Option<&PollQueue> {
        Some(&self.pipe.pollers)
    }

    fn heeds(&self) -> Readiness {
        self.end.heeds()
    }

    fn as_pipe(&self) -> Option<&PipeEnd> {
        Some(self)
    }
}
