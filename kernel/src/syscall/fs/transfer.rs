//! `read`, `write` and their kin: attempts on an open file, with the waiting in between.
//!
//! The wait queue is entered *before* the attempt that decides to sleep, so no wake is lost; nothing is polled and nothing
//! times out. A transfer that has moved bytes returns them rather than wait, fail or be interrupted.

use alloc::{boxed::Box, sync::Arc};
use core::future::Future;

use hal::PAGE_SIZE;
use linux_raw_sys::general as linux;

use super::{direct, user::vectors};
use crate::{
    errno::{Errno, Result},
    fs::{
        OpenFile, Positioning, Sink, Source, Stop, UserSlice, Whence,
        file::{Attempt, Direction, WriteAt},
    },
    rt,
    syscall::net,
    task::{Thread, attention, signal},
};

/// What a failed attempt asks for before the next.
enum Next {
    Again,
    Return,
}

/// When a transfer waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    /// Not at all.
    Never,
    /// Once an attempt has found that it has to.
    IfNeeded,
    /// As above, and one has: the first is made by who stands in the queue already.
    Needed,
}

impl Waiting {
    /// As the file says, for a transfer that has been `attempted` at once or not.
    fn of(file: &OpenFile, attempted: bool) -> Self {
        match (file.never_waits(), attempted) {
            (true, _) => Self::Never,
            (false, true) => Self::Needed,
            (false, false) => Self::IfNeeded,
        }
    }
}

/// Windows moved between two looks at what else is ready to run.
const WINDOWS_PER_TURN: u32 = 16;

/// Repeats `attempt` until it is through. `at` tells the offset of the next byte, if it is not the shared position; `moved`
/// tells bytes moved and whether the window was used up.
async fn complete<S>(
    t: &Thread,
    file: &OpenFile,
    direction: Direction,
    waiting: Waiting,
    state: &mut S,
    mut attempt: impl FnMut(&mut S) -> Attempt<()>,
    (at, moved): (impl Fn(&S) -> Option<u64>, impl Fn(&S) -> (usize, Next)),
) -> Result<u64> {
    // A read that has something returns it; but what has offsets is read to the end of what was asked for.
    let offsets = file.has_offsets();
    let returns = |state: &S| direction == Direction::Read && !offsets && moved(state).0 > 0;
    // A disk is waited for whatever signals come.
    let ends_at = if offsets { attention::EXIT } else { attention::ANY };
    let mut waits = waiting == Waiting::Needed;
    let mut windows = 0;
    loop {
        let place = at(state);
        let queue = file.file().wait_queue_at(direction, place);
        let result = match queue.filter(|_| waits) {
            None => attempt(state),
            Some(queue) => {
                let wait = queue.wait_again_until(|| match attempt(state) {
                    // Who has come to another place waits there.
                    Err(Stop::WouldBlock) if !returns(state) && at(state) == place => None,
                    result => Some(result),
                });
                let made = t.interruptible_at(ends_at, wait).await;
                made.unwrap_or_else(|interrupted| Err(Stop::Errno(interrupted.into())))
            }
        };
        waits = false;
        let (done, next) = moved(state);
        let failure = match result {
            Ok(()) => match next {
                Next::Return => return Ok(done as u64),
                Next::Again => {
                    windows += 1;
                    if windows % WINDOWS_PER_TURN == 0 {
                        rt::yield_now().await;
                        if t.must_exit() {
                            return Ok(done as u64);
                        }
                    }
                    continue;
                }
            },
            Err(Stop::Errno(errno)) => errno,
            Err(Stop::Fault(fault)) => match t.mm().resolve(fault).await {
                Ok(()) => continue,
                Err(errno) => {
                    // It may have been woken for what it could not take.
                    if let Some(queue) = queue {
                        queue.wake_one();
                    }
                    errno
                }
            },
            Err(Stop::WouldBlock) => {
                if waiting != Waiting::Never && queue.is_some() && !returns(state) {
                    waits = true;
                    continue;
                }
                Errno::EAGAIN
            }
        };
        return if done > 0 { Ok(done as u64) } else { Err(failure) };
    }
}

/// Whether `count` bytes from `at` end at an offset that there is.
pub(super) fn in_range(at: Option<u64>, count: usize) -> Result<()> {
    let end = at.unwrap_or(0).checked_add(count as u64);
    end.filter(|&end| end <= i64::MAX as u64)
        .map(|_| ())
        .ok_or(Errno::EINVAL)
}

/// Reads into `sink`, waiting as the file says.
///
/// # Errors
/// The file's; `EINVAL` past the last offset; `EAGAIN`, `EFAULT`, or the restart codes of an interrupted wait, if nothing
/// was read.
pub fn read_into<'a>(
    t: &'a Thread,
    file: &'a OpenFile,
    at: Option<u64>,
    sink: &'a mut Sink<'_>,
) -> impl Future<Output = Result<u64>> + Send {
    read_waiting(t, file, at, sink, Waiting::of(file, false))
}

async fn read_waiting(
    t: &Thread,
    file: &OpenFile,
    at: Option<u64>,
    sink: &mut Sink<'_>,
    waiting: Waiting,
) -> Result<u64> {
    if let Some(block) = file.direct().filter(|_| sink.is_user()) {
        return Box::pin(direct::read(t, file, block, at, sink)).await;
    }
    if let Some(socket) = file.socket().filter(|_| at.is_none()) {
        return Box::pin(net::read(t, file, socket, sink)).await;
    }
    in_range(at, sink.total())?;
    let mut state = (at, sink);
    complete(
        t,
        file,
        Direction::Read,
        waiting,
        &mut state,
        |(at, sink)| {
            sink.open_window();
            file.read(Some(t), at.as_mut(), sink)
        },
        (
            |(at, _)| *at,
            |(_, sink)| {
                let again = sink.remaining() == 0 && !sink.is_complete();
                (sink.done(), if again { Next::Again } else { Next::Return })
            },
        ),
    )
    .await
}

/// Writes from `source`, waiting as the file says. `EPIPE` raises SIGPIPE.
///
/// # Errors
/// As [`read_into`].
pub fn write_from<'a>(
    t: &'a Thread,
    file: &'a OpenFile,
    at: Option<u64>,
    source: &'a mut Source<'_>,
    write_at: WriteAt,
) -> impl Future<Output = Result<u64>> + Send {
    write_waiting(t, file, at, source, write_at, Waiting::of(file, false))
}

async fn write_waiting(
    t: &Thread,
    file: &OpenFile,
    at: Option<u64>,
    source: &mut Source<'_>,
    write_at: WriteAt,
    waiting: Waiting,
) -> Result<u64> {
    if let Some(block) = file.direct().filter(|_| source.is_user()) {
        return Box::pin(direct::write(t, file, block, at, source)).await;
    }
    if let Some(socket) = file.socket().filter(|_| at.is_none()) {
        return Box::pin(net::write(t, file, socket, source)).await;
    }
    in_range(at, source.total())?;
    let mut state = (at, source);
    let result = complete(
        t,
        file,
        Direction::Write,
        waiting,
        &mut state,
        |(at, source)| {
            source.open_window();
            file.write(Some(t), at.as_mut(), source, write_at)
        },
        (
            |(at, _)| *at,
            |(_, source)| {
                let again = source.remaining() == 0 && !source.is_complete();
                (source.done(), if again { Next::Again } else { Next::Return })
            },
        ),
    )
    .await;
    if result == Err(Errno::EPIPE) && file.file().signals_broken_pipe() {
        broken_pipe(t);
    }
    result
}

pub(super) fn readable(t: &Thread, fd: i32) -> Result<Arc<OpenFile>> {
    let file = t.file(fd)?;
    if file.is_readable() {
        Ok(file)
    } else {
        Err(Errno::EBADF)
    }
}

pub(super) fn writable(t: &Thread, fd: i32) -> Result<Arc<OpenFile>> {
    let file = t.file(fd)?;
    if file.is_writable() {
        Ok(file)
    } else {
        Err(Errno::EBADF)
    }
}

pub(super) fn offset(file: &OpenFile, offset: i64) -> Result<Option<u64>> {
    let offset = u64::try_from(offset).map_err(|_| Errno::EINVAL)?;
    if file.file().positioning() == Positioning::Stream {
        Err(Errno::ESPIPE)
    } else {
        Ok(Some(offset))
    }
}

/// [`read`] and [`pread64`] where they need not wait.
#[inline(always)]
fn read_now(t: &Thread, file: &OpenFile, mut at: Option<u64>, buffer: u64, count: u64) -> Attempt<u64> {
    let mut sink = Sink::user_slice(slice_now(buffer, count)?);
    if file.direct().is_some() {
        return Err(Stop::WouldBlock);
    }
    in_range(at, sink.total())?;
    let result = file.read(Some(t), at.as_mut(), &mut sink);
    moved_now(file, result, sink.done())
}

/// [`write`] and [`pwrite64`] where they need not wait.
#[inline(always)]
fn write_now(t: &Thread, file: &OpenFile, mut at: Option<u64>, buffer: u64, count: u64) -> Attempt<u64> {
    let mut source = Source::user_slice(slice_now(buffer, count)?);
    if !file.writes_pages_whole() || file.direct().is_some() {
        return Err(Stop::WouldBlock);
    }
    in_range(at, source.total())?;
    let result = file.write(Some(t), at.as_mut(), &mut source, WriteAt::Position);
    if result == Err(Stop::Errno(Errno::EPIPE)) && file.file().signals_broken_pipe() {
        broken_pipe(t);
    }
    moved_now(file, result, source.done())
}

/// The caller's memory, if it lies in one page: then an attempt copies all of it or nothing.
fn slice_now(buffer: u64, count: u64) -> Attempt<UserSlice> {
    let slice = UserSlice::new(buffer, count)?;
    let in_page = buffer as usize % PAGE_SIZE;
    if slice.len <= PAGE_SIZE - in_page {
        Ok(slice)
    } else {
        Err(Stop::WouldBlock)
    }
}

/// What a single attempt comes to. Where bytes have been moved there is no way back.
fn moved_now(file: &OpenFile, result: Attempt<()>, done: usize) -> Attempt<u64> {
    match result {
        Err(Stop::WouldBlock) if done == 0 && file.never_waits() => Err(Errno::EAGAIN.into()),
        Err(stop) if done == 0 => Err(stop),
        Ok(()) | Err(_) => Ok(done as u64),
    }
}

/// A write has found nobody to read it.
pub(in crate::syscall) fn broken_pipe(t: &Thread) {
    if let Some(thread) = crate::task::thread(t.tid()) {
        let _ = signal::send_to_thread(&thread, signal::SigInfo::kernel(signal::SIGPIPE));
    }
}

/// [`read`] where it need not wait.
pub fn read_at_once(t: &Thread, fd: i32, buffer: u64, count: u64) -> Attempt<u64> {
    let file = readable(t, fd)?;
    read_now(t, &file, None, buffer, count)
}

/// [`write`] where it need not wait.
pub fn write_at_once(t: &Thread, fd: i32, buffer: u64, count: u64) -> Attempt<u64> {
    let file = writable(t, fd)?;
    write_now(t, &file, None, buffer, count)
}

/// [`pread64`] where it need not wait.
pub fn pread64_at_once(t: &Thread, fd: i32, buffer: u64, count: u64, at: i64) -> Attempt<u64> {
    let file = readable(t, fd)?;
    let at = offset(&file, at)?;
    read_now(t, &file, at, buffer, count)
}

/// [`pwrite64`] where it need not wait.
pub fn pwrite64_at_once(t: &Thread, fd: i32, buffer: u64, count: u64, at: i64) -> Attempt<u64> {
    let file = writable(t, fd)?;
    let at = offset(&file, at)?;
    write_now(t, &file, at, buffer, count)
}

/// `read(2)`. One that nothing but bytes can be missing for is made by the attempt that has been made before: what there is to wait for a pipe.
pub async fn read(t: &Thread, fd: i32, buffer: u64, count: u64) -> Result<u64> {
    let file = readable(t, fd)?;
    let mut attempted = slice_now(buffer, count).is_ok();
    let is_stream =
        attempted && !file.has_offsets() && !file.never_waits() && file.direct().is_none() && file.socket().is_none();
    if let Some(queue) = file.file().wait_queue(Direction::Read).filter(|_| is_stream) {
        let wait = queue.wait_again_until(|| match read_now(t, &file, None, buffer, count) {
            Err(Stop::WouldBlock) => None,
            made => Some(made),
        });
        match t.interruptible(wait).await? {
            Ok(moved) => return Ok(moved),
            Err(Stop::Errno(errno)) => return Err(errno),
            Err(Stop::Fault(fault)) => {
                // Before another attempt: what it was woken for may be gone by then, and who cannot take it does not wait for more.
                if let Err(errno) = t.mm().resolve(fault).await {
                    queue.wake_one();
                    return Err(errno);
                }
            }
            Err(Stop::WouldBlock) => {}
        }
        attempted = false;
    }
    let waiting = Waiting::of(&file, attempted);
    let mut sink = Sink::user_slice(UserSlice::new(buffer, count)?);
    read_waiting(t, &file, None, &mut sink, waiting).await
}

/// `write(2)`.
pub async fn write(t: &Thread, fd: i32, buffer: u64, count: u64) -> Result<u64> {
    let file = writable(t, fd)?;
    let attempted = file.writes_pages_whole() && slice_now(buffer, count).is_ok();
    let waiting = Waiting::of(&file, attempted);
    let mut source = Source::user_slice(UserSlice::new(buffer, count)?);
    write_waiting(t, &file, None, &mut source, WriteAt::Position, waiting).await
}

/// `pread64(2)`.
pub async fn pread64(t: &Thread, fd: i32, buffer: u64, count: u64, at: i64) -> Result<u64> {
    let file = readable(t, fd)?;
    let at = offset(&file, at)?;
    read_into(t, &file, at, &mut Sink::user_slice(UserSlice::new(buffer, count)?)).await
}

/// `pwrite64(2)`.
pub async fn pwrite64(t: &Thread, fd: i32, buffer: u64, count: u64, at: i64) -> Result<u64> {
    let file = writable(t, fd)?;
    let at = offset(&file, at)?;
    let mut source = Source::user_slice(UserSlice::new(buffer, count)?);
    write_from(t, &file, at, &mut source, WriteAt::Position).await
}

/// `readv(2)`.
pub async fn readv(t: &Thread, fd: i32, array: u64, count: u64) -> Result<u64> {
    let file = readable(t, fd)?;
    let slices = vectors(t, array, count).await?;
    read_into(t, &file, None, &mut Sink::user(&slices)).await
}

/// `writev(2)`.
pub async fn writev(t: &Thread, fd: i32, array: u64, count: u64) -> Result<u64> {
    let file = writable(t, fd)?;
    let slices = vectors(t, array, count).await?;
    write_from(t, &file, None, &mut Source::user(&slices), WriteAt::Position).await
}

/// `preadv(2)`.
pub async fn preadv(t: &Thread, fd: i32, array: u64, count: u64, low: u64, _high: u64) -> Result<u64> {
    let file = readable(t, fd)?;
    let at = offset(&file, low as i64)?;
    let slices = vectors(t, array, count).await?;
    read_into(t, &file, at, &mut Sink::user(&slices)).await
}

/// `pwritev(2)`.
pub async fn pwritev(t: &Thread, fd: i32, array: u64, count: u64, low: u64, _high: u64) -> Result<u64> {
    let file = writable(t, fd)?;
    let at = offset(&file, low as i64)?;
    let slices = vectors(t, array, count).await?;
    write_from(t, &file, at, &mut Source::user(&slices), WriteAt::Position).await
}

/// The flags of `preadv2` and `pwritev2` that ask for nothing that does not hold anyway.
const HARMLESS: u32 = linux::RWF_HIPRI | linux::RWF_DSYNC | linux::RWF_SYNC;

/// `preadv2(2)`; an offset of -1 is the position.
pub async fn preadv2(t: &Thread, fd: i32, array: u64, count: u64, low: i64, _high: u64, flags: u32) -> Result<u64> {
    if flags & !(HARMLESS | linux::RWF_APPEND) != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let file = readable(t, fd)?;
    let at = if low == -1 { None } else { offset(&file, low)? };
    let slices = vectors(t, array, count).await?;
    read_into(t, &file, at, &mut Sink::user(&slices)).await
}

/// `pwritev2(2)`; an offset of -1 is the position.
pub async fn pwritev2(t: &Thread, fd: i32, array: u64, count: u64, low: i64, _high: u64, flags: u32) -> Result<u64> {
    if flags & !(HARMLESS | linux::RWF_APPEND) != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let file = writable(t, fd)?;
    let at = if low == -1 { None } else { offset(&file, low)? };
    let slices = vectors(t, array, count).await?;
    let write_at = if flags & linux::RWF_APPEND != 0 {
        WriteAt::End
    } else {
        WriteAt::Position
    };
    write_from(t, &file, at, &mut Source::user(&slices), write_at).await
}

/// `lseek(2)`.
pub fn lseek(t: &Thread, fd: i32, offset: i64, whence: u32) -> Result<u64> {
    t.files().get_usable(fd)?.seek(offset, Whence::from_number(whence)?)
}

/// `splice(2)`: not offered; callers fall back to reading and writing.
pub async fn splice(_t: &Thread) -> Result<u64> {
    Err(Errno::EINVAL)
}
