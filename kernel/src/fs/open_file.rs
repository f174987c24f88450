//! An open file description (`open(2)`): what all descriptors that came from one `open` share, across `dup` and `fork`.

use alloc::{boxed::Box, sync::Arc};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use hal::PAGE_SIZE;
use linux_raw_sys::general as linux;

use super::{
    attributes::Attributes,
    file::{Attempt, Direction, File, Positioning, Readiness, Stop, Transfer, Whence, WriteAt},
    inode::Inode,
    io::{Sink, Source},
    mount::Location,
    nameless::Anonymous,
};
use crate::{
    errno::{Errno, Result},
    sync::{Rank, SpinLock},
    task::Thread,
};

/// Status flags that `F_SETFL` may change.
const CHANGEABLE: u32 = linux::O_APPEND | linux::O_NONBLOCK | linux::O_DIRECT | linux::O_NOATIME | FASYNC;
const FASYNC: u32 = 0o20000;
/// Flags that say how to open, and are gone afterwards.
const CREATION: u32 = linux::O_CREAT | linux::O_EXCL | linux::O_NOCTTY | linux::O_TRUNC | linux::O_CLOEXEC;

/// A file, opened.
pub struct OpenFile {
    file: Arc<dyn File>,
    location: Location,
    flags: AtomicU32,
    /// What the file says of itself, which does not change.
    positioning: Positioning,
    writes_pages_whole: bool,
    /// Entries of epolls that watch it.
    watched: AtomicU32,
    is_socket: bool,
    has_instant_readiness: bool,
    position: SpinLock<u64>,
}

impl OpenFile {
    /// `file`, opened at a place. `flags` are those of `open(2)`.
    pub fn new(file: Arc<dyn File>, location: Location, flags: u32) -> Self {
        Self {
            positioning: file.positioning(),
            writes_pages_whole: file.whole_write() >= PAGE_SIZE,
            is_socket: file.as_socket().is_some(),
            has_instant_readiness: flags & linux::O_PATH == 0 && file.has_instant_readiness(),
            file,
            location,
            flags: AtomicU32::new(flags & !CREATION),
            watched: AtomicU32::new(0),
            position: SpinLock::new(Rank::OpenFile, 0),
        }
    }

    /// A call's object.
    pub fn anonymous(file: Arc<dyn File>, kind: Anonymous, flags: u32) -> Self {
        Self::new(file, kind.place(), flags)
    }

    /// The file itself.
    pub fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    /// Whether an attempt to write a page or less takes all of it or, where it would have to wait, nothing.
    pub const fn writes_pages_whole(&self) -> bool {
        self.writes_pages_whole
    }

    /// What the file is ready for, if that is but a look at a word: under any lock. `None` for what was opened with `O_PATH`.
    #[inline]
    pub fn instant_readiness(&self) -> Option<Readiness> {
        self.has_instant_readiness.then(|| self.file.readiness())
    }

    /// Where it was opened.
    pub const fn location(&self) -> &Location {
        &self.location
    }

    /// The inode it was opened by.
    pub const fn inode(&self) -> &Arc<dyn Inode> {
        &self.location.inode
    }

    /// Access mode and status flags, as `F_GETFL` reports them.
    pub fn flags(&self) -> u32 {
        self.flags.load(Relaxed)
    }

    /// Replaces the status flags that can be changed (`F_SETFL`).
    pub fn set_flags(&self, flags: u32) {
        let _ = self
            .flags
            .fetch_update(Relaxed, Relaxed, |old| Some(old & !CHANGEABLE | flags & CHANGEABLE));
    }

    /// Sets or clears `O_NONBLOCK` alone (`FIONBIO`).
    pub fn set_blocking(&self, blocking: Blocking) {
        match blocking {
            Blocking::Wait => self.flags.fetch_and(!linux::O_NONBLOCK, Relaxed),
            Blocking::Return => self.flags.fetch_or(linux::O_NONBLOCK, Relaxed),
        };
    }

    /// Whether an operation that cannot go on returns `EAGAIN` instead of waiting.
    pub fn is_nonblocking(&self) -> bool {
        self.flags() & linux::O_NONBLOCK != 0
    }

    /// An entry of an epoll refers to it from here on.
    pub fn watch_began(&self) {
        self.watched.fetch_add(1, Relaxed);
    }

    /// An entry of an epoll is gone.
    pub fn watch_ended(&self) {
        self.watched.fetch_sub(1, Relaxed);
    }

    /// Whether an entry of an epoll refers to it.
    pub fn is_watched(&self) -> bool {
        self.watched.load(Relaxed) != 0
    }

    /// Whether operations return `EAGAIN` rather than wait: what has offsets is waited for whatever the flag says, as on Linux.
    pub fn never_waits(&self) -> bool {
        self.is_nonblocking() && !self.has_offsets()
    }

    /// Whether every byte of it has an offset.
    pub fn has_offsets(&self) -> bool {
        matches!(self.positioning, Positioning::Offsets | Positioning::Lent)
    }

    /// The block device, if it is one that is read and written past the cache.
    pub fn direct(&self) -> Option<&super::block_device::BlockFile> {
        if self.flags() & linux::O_DIRECT == 0 {
            return None;
        }
        self.file.as_block()
    }

    /// The socket that it is, if it is one.
    pub fn socket(&self) -> Option<&crate::net::unix::Socket> {
        if self.is_socket { self.file.as_socket() } else { None }
    }

    /// Whether it was opened by `O_PATH`: it then stands for a place and cannot be read or written.
    pub fn is_path(&self) -> bool {
        self.flags() & linux::O_PATH != 0
    }

    /// Whether it was opened for reading.
    pub fn is_readable(&self) -> bool {
        matches!(
            self.flags() & (linux::O_ACCMODE | linux::O_PATH),
            linux::O_RDONLY | linux::O_RDWR
        )
    }

    /// Whether it was opened for writing.
    pub fn is_writable(&self) -> bool {
        matches!(
            self.flags() & (linux::O_ACCMODE | linux::O_PATH),
            linux::O_WRONLY | linux::O_RDWR
        )
    }

    /// One attempt to read, at `at` or else at the shared position, which moves on.
    ///
    /// # Errors
    /// `EBADF` if it is not open for reading; `ESPIPE` for an offset into a stream; otherwise the file's.
    #[inline]
    pub fn read(&self, caller: Option<&Thread>, at: Option<&mut u64>, sink: &mut Sink<'_>) -> Attempt<()> {
        if !self.is_readable() {
            return Err(Errno::EBADF.into());
        }
        if self.has_offsets() {
            let position = at.as_deref().copied();
            self.file.prepare(&|| position.unwrap_or_else(|| self.position()))?;
        }
        self.transfer(caller, at, WriteAt::Position, |transfer| self.file.read(transfer, sink))
    }

    /// One attempt to write, at `at` or else at the shared position (the end for `O_APPEND`), which moves on.
    ///
    /// # Errors
    /// As [`OpenFile::read`], for writing.
    pub fn write(
        &self,
        caller: Option<&Thread>,
        at: Option<&mut u64>,
        source: &mut Source<'_>,
        write_at: WriteAt,
    ) -> Attempt<()> {
        if !self.is_writable() {
            return Err(Errno::EBADF.into());
        }
        let append = self.flags() & linux::O_APPEND != 0;
        let write_at = if append { WriteAt::End } else { write_at };
        self.transfer(caller, at, write_at, |transfer| self.file.write(transfer, source))
    }

    fn transfer(
        &self,
        caller: Option<&Thread>,
        at: Option<&mut u64>,
        write_at: WriteAt,
        attempt: impl FnOnce(&mut Transfer<'_>) -> Attempt<()>,
    ) -> Attempt<()> {
        let flags = self.flags();
        match (self.positioning, at) {
            (Positioning::Stream, Some(_)) => Err(Errno::ESPIPE.into()),
            (Positioning::Stream | Positioning::Ignored, None) => attempt(&mut Transfer {
                position: &mut 0,
                write_at,
                flags,
                caller,
            }),
            (Positioning::Offsets | Positioning::Lent | Positioning::Ignored, Some(position)) => {
                attempt(&mut Transfer {
                    position,
                    write_at,
                    flags,
                    caller,
                })
            }
            (Positioning::Lent, None) => self.with_position(|position| {
                attempt(&mut Transfer {
                    position,
                    write_at,
                    flags,
                    caller,
                })
            }),
            (Positioning::Offsets, None) => {
                let mut position = self.position.lock();
                attempt(&mut Transfer {
                    position: &mut position,
                    write_at,
                    flags,
                    caller,
                })
            }
        }
    }

    /// Moves the position.
    ///
    /// # Errors
    /// The file's.
    pub fn seek(&self, offset: i64, whence: Whence) -> Result<u64> {
        let mut position = self.position.lock();
        *position = self.file.seek(*position, offset, whence)?;
        Ok(*position)
    }

    /// The position.
    pub fn position(&self) -> u64 {
        *self.position.lock()
    }

    /// Lends the position to `use_it`, as for listing a directory. No lock is held meanwhile; of two listings at once, the
    /// one that ends last says where the next begins.
    pub fn with_position<T>(&self, use_it: impl FnOnce(&mut u64) -> T) -> T {
        let mut position = self.position();
        let result = use_it(&mut position);
        *self.position.lock() = position;
        result
    }

    /// `fstat`.
    pub fn attributes(&self) -> Attributes {
        self.location.inode.attributes()
    }

    /// Reads at `offset` into kernel memory until it is full or the file ends; the bytes read. Waits for a disk.
    ///
    /// # Errors
    /// The file's; `EAGAIN` if it would block for anything else.
    pub async fn read_kernel(&self, mut offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let mut sink = Sink::kernel(buffer);
        let mut attempt = || {
            loop {
                let before = sink.done();
                sink.open_window();
                match self.read(None, Some(&mut offset), &mut sink) {
                    Ok(()) if sink.done() == before || sink.is_complete() => return Ok(sink.done()),
                    Ok(()) => {}
                    Err(stop) => return Err(stop),
                }
            }
        };
        let mut result = attempt();
        if result == Err(Stop::WouldBlock)
            && self.has_offsets()
            && let Some(queue) = self.file.wait_queue(Direction::Read)
        {
            let again = queue.wait_again_until(|| match attempt() {
                Err(Stop::WouldBlock) => None,
                made => Some(made),
            });
            // Boxed: it is for who starts a program, not for every thread's future.
            result = Box::pin(again).await;
        }
        result.map_err(|stop| match stop {
            Stop::Errno(errno) => errno,
            Stop::WouldBlock => Errno::EAGAIN,
            Stop::Fault(_) => Errno::EFAULT,
        })
    }
}

/// Whether operations wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocking {
    /// They wait.
    Wait,
    /// They return `EAGAIN`.
    Return,
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        if self.is_watched() {
            super::epoll::release(self);
        }
        super::locks::release_description(self);
    }
}

/// What stands behind an `O_PATH` descriptor: nothing can be done with it.
pub struct PathFile;

impl File for PathFile {
    fn read(&self, _: &mut Transfer<'_>, _: &mut Sink<'_>) -> Attempt<()> {
        Err(Errno::EBADF.into())
    }

    fn write(&self, _: &mut Transfer<'_>, _: &mut Source<'_>) -> Attempt<()> {
        Err(Errno::EBADF.into())
    }
}
