//! `/proc/breenix/trace`: the trace, to be switched and to be read.

use super::{seek, set_by_line};
use crate::{
    errno::{Errno, Result},
    fs::{
        file::{Attempt, File, Positioning, Transfer, Whence},
        io::{Sink, Source},
    },
    sync::{Rank, SpinLock},
    trace::{self, LINE, Snapshot},
};

/// Lines of one read: what it takes to make them is the length of a poll.
const LINES: usize = 128;

/// The open file.
pub(super) struct Trace {
    /// Taken when it is read from its beginning.
    snapshot: SpinLock<Option<Snapshot>>,
}

impl Trace {
    pub(super) const fn new() -> Self {
        Self {
            snapshot: SpinLock::new(Rank::Inode, None),
        }
    }
}

impl File for Trace {
    fn prepare(&self, position: &dyn Fn() -> u64) -> Result<()> {
        if position() == 0 {
            let snapshot = Snapshot::take();
            *self.snapshot.lock() = Some(snapshot);
        }
        Ok(())
    }

    fn read(&self, transfer: &mut Transfer<'_>, sink: &mut Sink<'_>) -> Attempt<()> {
        let snapshot = self.snapshot.lock();
        let Some(snapshot) = snapshot.as_ref() else {
            return Err(Errno::EINVAL.into());
        };
        for _ in 0..LINES {
            let (number, within) = (*transfer.position / LINE as u64, *transfer.position as usize % LINE);
            let Some(line) = snapshot.line(number)? else { break };
            let (before, rest) = (sink.done(), &line.as_bytes()[within..]);
            let result = sink.put(rest);
            let put = sink.done() - before;
            *transfer.position += put as u64;
            result?;
            if put < rest.len() {
                break;
            }
        }
        Ok(())
    }

    fn write(&self, transfer: &mut Transfer<'_>, source: &mut Source<'_>) -> Attempt<()> {
        set_by_line(transfer, source, trace::command)
    }

    fn positioning(&self) -> Positioning {
        Positioning::Offsets
    }

    fn seek(&self, position: u64, offset: i64, whence: Whence) -> Result<u64> {
        seek(position, offset, whence)
    }
}
