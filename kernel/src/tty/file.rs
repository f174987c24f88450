//! An open terminal.

use alloc::sync::Arc;

use linux_raw_sys::general as raw;

use super::Tty;
use crate::{
    errno::Errno,
    fs::{Attempt, Direction, File, Readiness, Sink, Stop, Transfer, io::Source, poll_queue::PollQueue},
    sync::WaitQueue,
    task::{Thread, signal},
};

/// A file opened on a terminal. It dies with the terminal's next hang-up.
pub struct TtyFile {
    tty: Arc<Tty>,
    generation: u64,
}

impl TtyFile {
    /// Opens `tty`.
    pub fn new(tty: Arc<Tty>) -> Self {
        let generation = tty.state.lock().generation;
        Self { tty, generation }
    }

    /// The terminal.
    pub fn tty(&self) -> &Arc<Tty> {
        &self.tty
    }

    fn is_hung_up(&self) -> bool {
        self.tty.state.lock().generation != self.generation
    }
}

impl File for TtyFile {
    fn read(&self, transfer: &mut Transfer<'_>, sink: &mut Sink<'_>) -> Attempt<()> {
        if self.is_hung_up() || sink.remaining() == 0 {
            return Ok(());
        }
        if let Some(caller) = transfer.caller {
            self.tty.check_foreground(caller, signal::set::SIGTTIN)?;
        }
        let reader = transfer.caller.map_or(0, Thread::tid);
        let result = {
            let mut state = self.tty.state.lock();
            let (copy, consume) = self
                .tty
                .read_readiness(&mut state, reader, sink.remaining())
                .ok_or(Stop::WouldBlock)?;
            let before = sink.done();
            let (first, second) = state.discipline.front(copy);
            let result = sink.put(first).and_then(|_| sink.put(second));
            let copied = sink.done() - before;
            // Whole: an end of file behind the bytes goes with them. Cut short by a fault: the rest stays for the repeat.
            let effects = state.discipline.consume(if copied == copy { consume } else { copied });
            drop(state);
            self.tty.apply(effects);
            result
        };
        self.tty.refill();
        result?;
        Ok(())
    }

    fn write(&self, transfer: &mut Transfer<'_>, source: &mut Source<'_>) -> Attempt<()> {
        if self.is_hung_up() {
            return Err(Errno::EIO.into());
        }
        if let Some(caller) = transfer.caller
            && self.tty.state.lock().discipline.termios().local(raw::TOSTOP)
        {
            self.tty.check_foreground(caller, signal::set::SIGTTOU)?;
        }
        let mut bytes = [0; 256];
        while source.remaining() > 0 {
            let before = source.done();
            let result = source.take(&mut bytes);
            let count = source.done() - before;
            let (taken, effects) = self.tty.state.lock().discipline.write(&bytes[..count]);
            self.tty.apply(effects);
            if taken < count {
                source.rewind(before + taken);
                return Err(Stop::WouldBlock);
            }
            result?;
        }
        Ok(())
    }

    fn control(&self, caller: &Thread, request: u32, argument: u64) -> Attempt<u64> {
        if self.is_hung_up() {
            return Err(Errno::EIO.into());
        }
        self.tty.control(caller, request, argument)
    }

    fn readiness(&self) -> Readiness {
        if self.is_hung_up() {
            return Readiness::READABLE | Readiness::WRITABLE | Readiness::ERR | Readiness::HUP;
        }
        let state = self.tty.state.lock();
        let mut readiness = Readiness::default();
        if state.discipline.poll_readable() {
            readiness |= Readiness::READABLE;
        }
        if state.discipline.poll_writable() {
            readiness |= Readiness::WRITABLE;
        }
        readiness
    }

    fn wait_queue(&self, direction: Direction) -> Option<&WaitQueue> {
        Some(match direction {
            Direction::Read => &self.tty.readers,
            Direction::Write => &self.tty.writers,
        })
    }

    fn poll_queue(&self) -> Option<&PollQueue> {
        Some(&self.tty.pollers)
    }

    fn as_any(&self) -> Option<&dyn core::any::Any> {
        Some(self)
    }
}
