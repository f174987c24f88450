//! `read`, `write` and their kin: attempts on an open file, with the waiting in between.
//!
//! The wait queue is entered *before* the attempt that decides to sleep, so no wake is lost; nothing is polled and nothing
//! times out. A transfer that has moved bytes returns them rather than wait, fail or be interrupted.

use alloc::{boxed::Box, sync::Arc};
use core::pin::pin;

use linux_raw_sys::general as linux;

use super::user::{vectors, words};
use crate::{
    errno::{Errno, Result},
    fs::{
        OpenFile, Positioning, Sink, Source, Stop, UserSlice, Whence,
        file::{Attempt, Direction, WriteAt},
    },
    mm::fallible::TryRoomExact,
    rt,
    sync::WaitQueue,
    task::{Thread, signal},
};

/// What a failed attempt asks for before the next.
enum Next {
    Again,
    Return,
}

/// Windows moved between two looks at what else is ready to run.
const WINDOWS_PER_TURN: u32 = 16;

/// Repeats `attempt` until it is through. `progress` tells bytes moved and whether the window was used up.
async fn complete<S>(
    t: &Thread,
    file: &OpenFile,
    direction: Direction,
    nonblocking: bool,
    state: &mut S,
    mut attempt: impl FnMut(&mut S) -> Attempt<()>,
    moved: impl Fn(&S) -> (usize, Next),
) -> Result<u64> {
    let mut armed = false;
    let mut windows = 0;
    loop {
        let queue = file.file().wait_queue(direction);
        let mut wait = pin!(queue.map(WaitQueue::wait));
        if armed && let Some(wait) = wait.as_mut().as_pin_mut() {
            wait.enable();
        }
        let result = attempt(state);
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
                Err(errno) => errno,
            },
            Err(Stop::WouldBlock) => {
                let stream_done = done > 0 && direction == Direction::Read;
                if stream_done || nonblocking {
                    Errno::EAGAIN
                } else if !armed {
                    armed = true;
                    continue;
                } else if let Some(wait) = wait.as_mut().as_pin_mut() {
                    match t.interruptible(wait).await {
                        Ok(()) => continue,
                        Err(interrupted) => interrupted.into(),
                    }
                } else {
                    Errno::EAGAIN
                }
            }
        };
        return if done > 0 { Ok(done as u64) } else { Err(failure) };
    }
}

/// Whether `count` bytes from `at` end at an offset that there is.
fn in_range(at: Option<u64>, count: usize) -> Result<()> {
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
pub async fn read_into(t: &Thread, file: &OpenFile, at: Option<u64>, sink: &mut Sink<'_>) -> Result<u64> {
    in_range(at, sink.total())?;
    let mut state = (at, sink);
    complete(
        t,
        file,
        Direction::Read,
        file.is_nonblocking(),
        &mut state,
        |(at, sink)| {
            sink.open_window();
            file.read(Some(t), at.as_mut(), sink)
        },
        |(_, sink)| {
            (
                sink.done(),
                if sink.remaining() == 0 && !sink.is_complete() {
                    Next::Again
                } else {
                    Next::Return
                },
            )
        },
    )
    .await
}

/// Writes from `source`, waiting as the file says. `EPIPE` raises SIGPIPE.
///
/// # Errors
/// As [`read_into`].
pub async fn write_from(
    t: &Thread,
    file: &OpenFile,
    at: Option<u64>,
    source: &mut Source<'_>,
    write_at: WriteAt,
) -> Result<u64> {
    in_range(at, source.total())?;
    let mut state = (at, source);
    let result = complete(
        t,
        file,
        Direction::Write,
        file.is_nonblocking(),
        &mut state,
        |(at, source)| {
            source.open_window();
            file.write(Some(t), at.as_mut(), source, write_at)
        },
        |(_, source)| {
            let again = source.remaining() == 0 && !source.is_complete();
            (source.done(), if again { Next::Again } else { Next::Return })
        },
    )
    .await;
    if result == Err(Errno::EPIPE)
        && let Some(thread) = crate::task::thread(t.tid())
    {
        let _ = signal::send_to_thread(&thread, signal::SigInfo::kernel(signal::SIGPIPE));
    }
    result
}

fn readable(t: &Thread, fd: i32) -> Result<Arc<OpenFile>> {
    let file = t.files().get(fd)?;
    if file.is_readable() {
        Ok(file)
    } else {
        Err(Errno::EBADF)
    }
}

fn writable(t: &Thread, fd: i32) -> Result<Arc<OpenFile>> {
    let file = t.files().get(fd)?;
    if file.is_writable() {
        Ok(file)
    } else {
        Err(Errno::EBADF)
    }
}

fn offset(file: &OpenFile, offset: i64) -> Result<Option<u64>> {
    let offset = u64::try_from(offset).map_err(|_| Errno::EINVAL)?;
    if file.file().positioning() == Positioning::Stream {
        Err(Errno::ESPIPE)
    } else {
        Ok(Some(offset))
    }
}

/// `read(2)`.
pub async fn read(t: &Thread, fd: i32, buffer: u64, count: u64) -> Result<u64> {
    let file = readable(t, fd)?;
    read_into(t, &file, None, &mut Sink::user_slice(UserSlice::new(buffer, count)?)).await
}

/// `write(2)`.
pub async fn write(t: &Thread, fd: i32, buffer: u64, count: u64) -> Result<u64> {
    let file = writable(t, fd)?;
    let mut source = Source::user_slice(UserSlice::new(buffer, count)?);
    write_from(t, &file, None, &mut source, WriteAt::Position).await
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
    if flags & !HARMLESS != 0 {
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
pub async fn lseek(t: &Thread, fd: i32, offset: i64, whence: u32) -> Result<u64> {
    t.files().get_usable(fd)?.seek(offset, Whence::from_number(whence)?)
}

/// Bytes that `sendfile` and `copy_file_range` hold in the kernel at a time, where they have to wait.
const COPY_CHUNK: usize = 16 << 10;
/// The same where they do not, on the stack.
const SMALL_CHUNK: usize = 4 << 10;
/// Bytes copied before everything else that is ready to run gets a turn.
const BYTES_PER_TURN: u64 = 256 << 10;

/// What a step that does not wait came to.
enum Step {
    /// So many bytes were copied, and there may be more.
    Copied(u64),
    /// The source has no more.
    End,
    /// This way does not go on: the other waits, or finds out what is wrong.
    Stuck,
}

/// Copies a little by way of the stack, without waiting. What was read and could not be written is not consumed.
fn copy_at_once(
    t: &Thread,
    (input, mut from): (&OpenFile, Option<u64>),
    (output, mut to): (&OpenFile, Option<u64>),
    count: u64,
) -> Step {
    let mut chunk = [0; SMALL_CHUNK];
    let chunk = &mut chunk[..SMALL_CHUNK.min(count as usize)];
    if in_range(from, chunk.len()).is_err() || in_range(to, chunk.len()).is_err() {
        return Step::Stuck;
    }
    let mut sink = Sink::kernel(chunk);
    sink.open_window();
    let result = input.read(Some(t), from.as_mut(), &mut sink);
    let read = sink.done();
    if read == 0 {
        return match result {
            Ok(()) => Step::End,
            Err(_) => Step::Stuck,
        };
    }
    let mut source = Source::kernel(&chunk[..read]);
    source.open_window();
    // Why it wrote less, if it did, the next step or the other way finds out.
    let _ = output.write(Some(t), to.as_mut(), &mut source, WriteAt::Position);
    let written = source.done();
    if written < read && from.is_none() {
        let _ = input.seek(written as i64 - read as i64, Whence::Current);
    }
    match written {
        0 => Step::Stuck,
        written => Step::Copied(written as u64),
    }
}

/// Copies from file to file. Memory is taken only where that has to wait.
async fn copy(
    t: &Thread,
    input: &OpenFile,
    from: Option<u64>,
    output: &OpenFile,
    to: Option<u64>,
    count: u64,
) -> Result<u64> {
    let mut done = 0;
    let mut turn = BYTES_PER_TURN;
    while done < count {
        let at = |offset: Option<u64>| offset.map(|at| at + done);
        match copy_at_once(t, (input, at(from)), (output, at(to)), count - done) {
            Step::Copied(bytes) => done += bytes,
            Step::End => break,
            Step::Stuck => {
                let rest = copy_or_wait(t, input, at(from), output, at(to), count - done);
                return match Box::pin(rest).await {
                    Ok(bytes) => Ok(done + bytes),
                    Err(_) if done > 0 => Ok(done),
                    failed => failed,
                };
            }
        }
        if t.is_interrupted() {
            break;
        }
        if done >= turn {
            turn = done + BYTES_PER_TURN;
            rt::yield_now().await;
        }
    }
    Ok(done)
}

/// Copies by way of a kernel buffer, and waits. What was read and could not be written is not consumed, where the
/// source has offsets.
async fn copy_or_wait(
    t: &Thread,
    input: &OpenFile,
    mut from: Option<u64>,
    output: &OpenFile,
    mut to: Option<u64>,
    count: u64,
) -> Result<u64> {
    let mut buffer = alloc::vec::Vec::new();
    buffer.try_room_exact(COPY_CHUNK.min(count as usize))?;
    buffer.resize(COPY_CHUNK.min(count as usize), 0);
    let mut done = 0;
    while done < count {
        let want = buffer.len().min((count - done) as usize);
        let step = async {
            let read = read_into(t, input, from, &mut Sink::kernel(&mut buffer[..want])).await? as usize;
            if read == 0 {
                return Ok((0, 0));
            }
            let written = write_from(t, output, to, &mut Source::kernel(&buffer[..read]), WriteAt::Position).await;
            let written = match written {
                Ok(written) => written as usize,
                Err(errno) => {
                    if from.is_none() {
                        let _ = input.seek(-(read as i64), Whence::Current);
                    }
                    return Err(errno);
                }
            };
            if written < read && from.is_none() {
                let _ = input.seek(written as i64 - read as i64, Whence::Current);
            }
            Ok((read, written))
        };
        match step.await {
            Ok((read, written)) => {
                done += written as u64;
                from = from.map(|at| at + written as u64);
                to = to.map(|at| at + written as u64);
                if written < read || read == 0 {
                    break;
                }
            }
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        }
        if t.is_interrupted() {
            break;
        }
    }
    Ok(done)
}

async fn offset_at(t: &Thread, file: &OpenFile, address: u64) -> Result<Option<u64>> {
    if address == 0 {
        return Ok(None);
    }
    let [at] = words(t, address).await?;
    offset(file, at as i64)
}

async fn put_offset(t: &Thread, address: u64, at: Option<u64>, moved: u64) -> Result<()> {
    match at {
        Some(at) => super::user::put(t, address, &(at + moved).to_ne_bytes()).await,
        None => Ok(()),
    }
}

/// `sendfile(2)`.
pub async fn sendfile(t: &Thread, out_fd: i32, in_fd: i32, offset: u64, count: u64) -> Result<u64> {
    let input = readable(t, in_fd)?;
    let output = writable(t, out_fd)?;
    if input.file().positioning() == Positioning::Stream || output.flags() & linux::O_APPEND != 0 {
        return Err(Errno::EINVAL);
    }
    let from = offset_at(t, &input, offset).await?;
    let count = count.min(crate::fs::io::MAX_TRANSFER as u64);
    let moved = copy(t, &input, from, &output, None, count).await?;
    put_offset(t, offset, from, moved).await?;
    Ok(moved)
}

/// `copy_file_range(2)`.
pub async fn copy_file_range(
    t: &Thread,
    in_fd: i32,
    in_offset: u64,
    out_fd: i32,
    out_offset: u64,
    count: u64,
    flags: u32,
) -> Result<u64> {
    let input = readable(t, in_fd)?;
    let output = writable(t, out_fd)?;
    if output.flags() & linux::O_APPEND != 0 {
        return Err(Errno::EBADF);
    }
    let regular = |file: &OpenFile| match file.attributes().kind {
        crate::fs::FileKind::Regular => Ok(()),
        crate::fs::FileKind::Directory => Err(Errno::EISDIR),
        _ => Err(Errno::EINVAL),
    };
    regular(&input)?;
    regular(&output)?;
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let from = offset_at(t, &input, in_offset).await?;
    let to = offset_at(t, &output, out_offset).await?;
    let count = count.min(crate::fs::io::MAX_TRANSFER as u64);
    let (start, target) = (
        from.unwrap_or_else(|| input.position()),
        to.unwrap_or_else(|| output.position()),
    );
    let same = input.attributes().inode == output.attributes().inode
        && input.attributes().device == output.attributes().device;
    if same && start < target.saturating_add(count) && target < start.saturating_add(count) {
        return Err(Errno::EINVAL);
    }
    let moved = copy(t, &input, from, &output, to, count).await?;
    put_offset(t, in_offset, from, moved).await?;
    put_offset(t, out_offset, to, moved).await?;
    Ok(moved)
}

/// `splice(2)`: not offered; callers fall back to reading and writing.
pub async fn splice(_t: &Thread) -> Result<u64> {
    Err(Errno::EINVAL)
}
