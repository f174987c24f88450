//! A socket as a file.

use linux_raw_sys::{general as linux, ioctl};

use super::{
    Kind, Socket,
    core::{Core, Inbox, Phase, Shut},
    message::Taken,
    receive::Flags,
    send::Outgoing,
};
use crate::{
    errno::Errno,
    fs::{Attempt, Direction, File, Readiness, Sink, Source, Stop, Transfer, io::copy_out, poll_queue::PollQueue},
    sync::WaitQueue,
    task::Thread,
};

impl Socket {
    /// Bytes that wait to be received (`SIOCINQ`): of a datagram socket those of the first message.
    fn waiting_bytes(&self) -> Result<usize, Errno> {
        match &*self.core.inbox() {
            Inbox::Stream(stream) => Ok(stream.len()),
            Inbox::Packets(packets) if self.kind() == Kind::Datagram => {
                Ok(packets.front().map_or(0, |first| first.len()))
            }
            Inbox::Packets(packets) => Ok(packets.iter().map(|packet| packet.len()).sum()),
            Inbox::Connections(_) => Err(Errno::EINVAL),
            Inbox::Closed => Ok(0),
        }
    }

    /// Whether less has come than a reader of `total` bytes waits for (`SO_RCVLOWAT`), and more may come.
    fn waits_for_more(&self, total: usize) -> bool {
        let least = self.options.receive_least();
        least > 1
            && self.kind() == Kind::Stream
            && self.core.waiting() < least.min(total)
            && !self.core.has_error()
            && !self.core.shut().contains(Shut::RECEIVE)
    }

    /// Whether a datagram socket's peer takes no more now.
    fn peer_is_full(&self) -> bool {
        let target = self.link.lock().target.clone();
        target.is_some_and(|target: alloc::sync::Arc<Core>| {
            target.peer_number.load(::core::sync::atomic::Ordering::SeqCst) != self.number()
                && target.is_full_for(&self.core)
        })
    }
}

impl File for Socket {
    fn read(&self, transfer: &mut Transfer<'_>, sink: &mut Sink<'_>) -> Attempt<()> {
        if sink.total() == 0 {
            return Ok(());
        }
        let waits = transfer.flags & linux::O_NONBLOCK == 0;
        if waits && self.waits_for_more(sink.total()) {
            return Err(Stop::WouldBlock);
        }
        let mut taken = Taken::default();
        self.receive(sink, Flags::default(), &mut taken)?;
        if taken.ended && !waits {
            return Err(Stop::WouldBlock);
        }
        Ok(())
    }

    fn write(&self, transfer: &mut Transfer<'_>, source: &mut Source<'_>) -> Attempt<()> {
        let mut out = Outgoing::default();
        match self.kind() {
            Kind::Stream => self.send_bytes(source, transfer.caller, &mut out),
            Kind::Datagram | Kind::SeqPacket => {
                self.send_message(source, transfer.caller, None, &mut out)?;
                let total = source.total();
                while source.done() < total {
                    source.open_window();
                    source.skip(total);
                }
                Ok(())
            }
        }
    }

    fn whole_write(&self) -> usize {
        4096
    }

    fn control(&self, _: &Thread, request: u32, argument: u64) -> Attempt<u64> {
        let value = match request {
            ioctl::FIONREAD => self.waiting_bytes()?,
            ioctl::TIOCOUTQ => self.core.sent.load(::core::sync::atomic::Ordering::SeqCst),
            _ => return Err(Errno::ENOTTY.into()),
        };
        copy_out(argument, &(value.min(i32::MAX as usize) as i32).to_ne_bytes())?;
        Ok(0)
    }

    fn readiness(&self) -> Readiness {
        let mut ready = self.core.readiness();
        if self.kind() == Kind::Datagram
            && self.phase() == Phase::Connected
            && ready.contains(Readiness::OUT)
            && self.peer_is_full()
        {
            ready -= Readiness::WRITABLE | Readiness::WRBAND;
        }
        ready
    }

    fn wait_queue(&self, direction: Direction) -> Option<&WaitQueue> {
        Some(match direction {
            Direction::Read => &self.core.readable,
            Direction::Write => &self.core.writable,
        })
    }

    fn poll_queue(&self) -> Option<&PollQueue> {
        Some(&self.core.pollers)
    }

    fn as_socket(&self) -> Option<&Socket> {
        Some(self)
    }

    fn signals_broken_pipe(&self) -> bool {
        self.kind() == Kind::Stream
    }
}
