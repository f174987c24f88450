//! What can be done with something open.
//!
//! Every operation is an attempt that does not wait ([`Attempt`]). Where it would have to, it says [`Stop::WouldBlock`], and
//! the caller, who has registered on [`File::wait_queue`] before it tried, awaits and tries again. So no future is ever
//! boxed for a read, no lock is held across an await, and every wait is interruptible and cancellable in one place
//! (`syscall::fs::transfer`).

use alloc::sync::Arc;

use linux_raw_sys::general as linux;

use super::{
    attributes::FileKind,
    io::{Sink, Source, UserFault},
    poll_queue::PollQueue,
};
use crate::{
    errno::{Errno, Result},
    mm::{Pager, space::Attach},
    sync::WaitQueue,
    task::Thread,
};

/// Why an attempt did not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It failed.
    Errno(Errno),
    /// Nothing (more) can be done until the file's [`wait_queue`](File::wait_queue) wakes.
    WouldBlock,
    /// A page of the caller's buffer has to be brought in first. What was transferred before it counts.
    Fault(UserFault),
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<UserFault> for Stop {
    fn from(fault: UserFault) -> Self {
        Self::Fault(fault)
    }
}

/// The result of an attempt.
pub type Attempt<T> = core::result::Result<T, Stop>;

bitflags::bitflags! {
    /// What a file is ready for: the bits of `poll(2)`, which `epoll` shares.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Readiness: u32 {
        /// A read would not block.
        const IN = linux::POLLIN;
        /// Something exceptional is there.
        const PRI = linux::POLLPRI;
        /// A write would not block.
        const OUT = linux::POLLOUT;
        /// The other end is gone in a way that fails writes, or the file failed.
        const ERR = linux::POLLERR;
        /// The other end hung up.
        const HUP = linux::POLLHUP;
        /// The descriptor is not open.
        const NVAL = linux::POLLNVAL;
        /// As `IN`.
        const RDNORM = linux::POLLRDNORM;
        /// Priority data.
        const RDBAND = linux::POLLRDBAND;
        /// As `OUT`.
        const WRNORM = linux::POLLWRNORM;
        /// Priority data may be written.
        const WRBAND = linux::POLLWRBAND;
        /// The peer shut down its writing side.
        const RDHUP = linux::POLLRDHUP;
    }
}

impl Readiness {
    /// Readable, by both names.
    pub const READABLE: Self = Self::IN.union(Self::RDNORM);
    /// Writable, by both names.
    pub const WRITABLE: Self = Self::OUT.union(Self::WRNORM);
}

/// Which way a blocked caller wants to move bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Out of the file.
    Read,
    /// Into the file.
    Write,
}

/// Whether a file has offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positioning {
    /// Bytes come and go in order: `lseek`, `pread` and `pwrite` are `ESPIPE`.
    Stream,
    /// Every byte has an offset.
    Offsets,
    /// As [`Positioning::Offsets`], and no lock is held while the file works, which may take any: of two that use one position at
    /// once the last one says where it is then.
    Lent,
    /// Offsets are taken, and mean nothing: devices without an end. The position stays where it is.
    Ignored,
}

/// Where a write goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteAt {
    /// At the position.
    Position,
    /// At the file's end, wherever that is when the bytes go in (`O_APPEND`).
    End,
}

/// What one attempt to read or write is told besides the bytes.
pub struct Transfer<'a> {
    /// The offset, moved on by what was transferred. Streams leave it alone.
    pub position: &'a mut u64,
    /// Where a write goes.
    pub write_at: WriteAt,
    /// The open file's status flags (`O_NONBLOCK` and so on), for files whose behaviour depends on them otherwise than by
    /// [`Stop::WouldBlock`].
    pub flags: u32,
    /// The thread that asks; `None` for the kernel itself.
    pub caller: Option<&'a Thread>,
}

/// Where a seek counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are Linux's")]
pub enum Whence {
    Set,
    Current,
    End,
    Data,
    Hole,
}

impl Whence {
    /// By Linux's number.
    ///
    /// # Errors
    /// `EINVAL`.
    pub const fn from_number(number: u32) -> Result<Self> {
        Ok(match number {
            linux::SEEK_SET => Self::Set,
            linux::SEEK_CUR => Self::Current,
            linux::SEEK_END => Self::End,
            linux::SEEK_DATA => Self::Data,
            linux::SEEK_HOLE => Self::Hole,
            _ => return Err(Errno::EINVAL),
        })
    }
}

/// One name in a directory, while it is being listed.
#[derive(Clone, Copy, Debug)]
pub struct DirectoryEntry<'a> {
    /// The name.
    pub name: &'a [u8],
    /// The file's number.
    pub inode: u64,
    /// The file's type.
    pub kind: FileKind,
    /// The position at which listing goes on after this entry.
    pub next: u64,
}

/// Lists `.` and `..`, which have the positions 0 and 1, as [`File::read_directory`] lists.
///
/// # Errors
/// What `emit` returned.
pub fn list_dots(
    position: &mut u64,
    (own, above): (u64, u64),
    emit: &mut dyn FnMut(&DirectoryEntry<'_>) -> Attempt<()>,
) -> Attempt<()> {
    for (at, name, inode) in [(0, b".".as_slice(), own), (1, b"..", above)] {
        if *position == at {
            emit(&DirectoryEntry {
                name,
                inode,
                kind: FileKind::Directory,
                next: at + 1,
            })?;
            *position = at + 1;
        }
    }
    Ok(())
}

/// The position that a seek leads to in something without an end that is known.
///
/// # Errors
/// `EINVAL`.
pub fn seek_before_end(position: u64, offset: i64, whence: Whence) -> Result<u64> {
    let base = match whence {
        Whence::Set => 0,
        Whence::Current => position,
        Whence::End | Whence::Data | Whence::Hole => return Err(Errno::EINVAL),
    };
    base.checked_add_signed(offset).ok_or(Errno::EINVAL)
}

/// What a shared mapping of a file by a descriptor that may write has to observe.
pub struct SharedMapping {
    /// Who is to know of the areas.
    pub attach: Option<Arc<dyn Attach>>,
    /// Whether `mprotect` may let it be written.
    pub may_write: bool,
}

impl Default for SharedMapping {
    /// Nothing.
    fn default() -> Self {
        Self {
            attach: None,
            may_write: true,
        }
    }
}

/// The operations of an open file. The defaults are those of something that cannot do it, with Linux's errno.
pub trait File: Send + Sync {
    /// Reads at `transfer.position`. `Ok` with nothing put is the end of the file.
    ///
    /// # Errors
    /// See [`Stop`]; by default `EINVAL`.
    fn read(&self, transfer: &mut Transfer<'_>, sink: &mut Sink<'_>) -> Attempt<()> {
        let _ = (transfer, sink);
        Err(Errno::EINVAL.into())
    }

    /// Writes at `transfer.position` or the end.
    ///
    /// # Errors
    /// See [`Stop`]; by default `EINVAL`. `EPIPE` makes the caller raise SIGPIPE.
    fn write(&self, transfer: &mut Transfer<'_>, source: &mut Source<'_>) -> Attempt<()> {
        let _ = (transfer, source);
        Err(Errno::EINVAL.into())
    }

    /// The most bytes of which an attempt to write takes all or, where it would have to wait, none. The same at all times.
    fn whole_write(&self) -> usize {
        match self.wait_queue(Direction::Write) {
            None => usize::MAX,
            Some(_) => 0,
        }
    }

    /// Whether the file has offsets. The same at all times.
    fn positioning(&self) -> Positioning {
        Positioning::Stream
    }

    /// The position that a seek leads to.
    ///
    /// # Errors
    /// `ESPIPE` by default; `EINVAL` for one below 0, `ENXIO` for data or holes past the end.
    fn seek(&self, position: u64, offset: i64, whence: Whence) -> Result<u64> {
        let _ = (position, offset, whence);
        Err(Errno::ESPIPE)
    }

    /// Lists a directory from `*position` on: `emit` is called for each entry and `*position` moved behind it, until `emit`
    /// fails. Entries that neither come nor go meanwhile are listed exactly once.
    ///
    /// # Errors
    /// What `emit` returned; by default `ENOTDIR`.
    fn read_directory(
        &self,
        position: &mut u64,
        emit: &mut dyn FnMut(&DirectoryEntry<'_>) -> Attempt<()>,
    ) -> Attempt<()> {
        let _ = (position, emit);
        Err(Errno::ENOTDIR.into())
    }

    /// Device control. User memory behind `argument` is reached by [`copy_in`](super::io::copy_in) and
    /// [`copy_out`](super::io::copy_out), whose faults are passed on by `?`; the call is then repeated, so nothing may have
    /// been changed before.
    ///
    /// # Errors
    /// See [`Stop`] (`WouldBlock` waits for [`Direction::Write`]); by default `ENOTTY`.
    fn control(&self, caller: &Thread, request: u32, argument: u64) -> Attempt<u64> {
        let _ = (caller, request, argument);
        Err(Errno::ENOTTY.into())
    }

    /// What a call of [`File::control`] that waits ends with when a signal comes.
    fn control_interrupted(&self) -> Errno {
        Errno::ERESTARTSYS
    }

    /// What the file is ready for now. By default it is always readable and writable.
    fn readiness(&self) -> Readiness {
        Readiness::READABLE | Readiness::WRITABLE
    }

    /// Whether [`File::readiness`] is but a look at a word, or always the same: it takes no lock then, and is asked under locks
    /// of others. By default, if nobody can wait for it. Asked once, when the file is opened.
    fn has_instant_readiness(&self) -> bool {
        self.poll_queue().is_none()
    }

    /// Where a caller whose read or write would block waits: woken one at a time, as far as there is something to do.
    /// `None` for a file that never blocks.
    fn wait_queue(&self, direction: Direction) -> Option<&WaitQueue> {
        let _ = direction;
        None
    }

    /// As [`File::wait_queue`], for who knows the offset at which it would read or write: a queue that fewer have in common. It is
    /// woken for that offset: who has moved on asks anew.
    fn wait_queue_at(&self, direction: Direction, at: Option<u64>) -> Option<&WaitQueue> {
        let _ = at;
        self.wait_queue(direction)
    }

    /// Where pollers wait and watchers are told: whenever [`File::readiness`] may have gained a bit. `None` for a file whose
    /// readiness never changes. Between registering and looking a poller makes a fence (`SeqCst`), since the readiness may be a
    /// word that is written without a lock.
    fn poll_queue(&self) -> Option<&PollQueue> {
        None
    }

    /// Calls `each` for all queues that [`File::poll_queue`] has ever given.
    fn poll_queues(&self, each: &mut dyn FnMut(&PollQueue)) {
        if let Some(queue) = self.poll_queue() {
            each(queue);
        }
    }

    /// Of what the poll queue tells, that which concerns this file: others may have the queue in common.
    fn heeds(&self) -> Readiness {
        Readiness::all()
    }

    /// The pages of the file, for `mmap`.
    ///
    /// # Errors
    /// `ENODEV` by default.
    fn pager(&self) -> Result<Arc<dyn Pager>> {
        Err(Errno::ENODEV)
    }

    /// Asked before a shared mapping is made by a descriptor that may write; `writes` says that it can be written to at once.
    ///
    /// # Errors
    /// `EPERM` where the file is sealed; none by default.
    fn map_shared(&self, writes: bool) -> Result<SharedMapping> {
        let _ = writes;
        Ok(SharedMapping::default())
    }

    /// `F_GET_SEALS`.
    ///
    /// # Errors
    /// `EINVAL` by default.
    fn seals(&self) -> Result<u32> {
        Err(Errno::EINVAL)
    }

    /// `F_ADD_SEALS`, by a descriptor that may write.
    ///
    /// # Errors
    /// `EPERM`, `EBUSY`; `EINVAL` by default.
    fn add_seals(&self, seals: u32) -> Result<()> {
        let _ = seals;
        Err(Errno::EINVAL)
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// `EINVAL` by default: there is nothing to synchronise.
    fn sync(&self) -> Result<()> {
        Err(Errno::EINVAL)
    }

    /// Allocates or frees room in the file; `mode` holds Linux's `FALLOC_FL_` bits. Pages that it takes out are the
    /// caller's to unmap and give back ([`cut`](crate::mm::pager::cut)).
    ///
    /// # Errors
    /// `ENODEV` by default.
    fn allocate(&self, mode: u32, offset: u64, len: u64) -> Result<()> {
        let _ = (mode, offset, len);
        Err(Errno::ENODEV)
    }

    /// Called before a read at the position that `position` tells, with no lock held: the place to make contents up.
    ///
    /// # Errors
    /// The read's.
    fn prepare(&self, position: &dyn Fn() -> u64) -> Result<()> {
        let _ = position;
        Ok(())
    }

    /// Appends what `/proc/<pid>/fdinfo` shows of such a file besides what it shows of all, a bounded part of it: from `from` on, 0 at
    /// first. Returns where it goes on.
    ///
    /// # Errors
    /// `ENOMEM`.
    fn details(&self, from: u64, out: &mut alloc::string::String) -> Result<Option<u64>> {
        let _ = (from, out);
        Ok(None)
    }

    /// The pipe behind it, for `splice`, `F_GETPIPE_SZ` and the like.
    fn as_pipe(&self) -> Option<&super::pipe::PipeEnd> {
        None
    }

    /// The epoll behind it, for all calls on one.
    fn as_epoll(&self) -> Option<&super::epoll::EpollFile> {
        None
    }

    /// The socket, for all calls that have to do with one.
    fn as_socket(&self) -> Option<&crate::net::unix::Socket> {
        None
    }

    /// Whether a write that fails with `EPIPE` raises SIGPIPE.
    fn signals_broken_pipe(&self) -> bool {
        true
    }

    /// The block device, for transfers past the cache (`O_DIRECT`) and for making them durable.
    fn as_block(&self) -> Option<&super::block_device::BlockFile> {
        None
    }

    /// The concrete type, for calls that work on one type only.
    fn as_any(&self) -> Option<&dyn core::any::Any> {
        None
    }
}
