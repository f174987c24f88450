//! From file to file: `sendfile` and `copy_file_range`.

use alloc::boxed::Box;

use linux_raw_sys::general as linux;

use super::{
    transfer::{in_range, offset, read_into, readable, writable, write_from},
    user::{put, words},
};
use crate::{
    errno::{Errno, Result},
    fs::{FileKind, OpenFile, Positioning, Sink, Source, Whence, file::WriteAt, io::MAX_TRANSFER},
    mm::fallible::TryRoomExact,
    rt,
    task::Thread,
};

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
        Some(at) => put(t, address, &(at + moved).to_ne_bytes()).await,
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
    let count = count.min(MAX_TRANSFER as u64);
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
        FileKind::Regular => Ok(()),
        FileKind::Directory => Err(Errno::EISDIR),
        _ => Err(Errno::EINVAL),
    };
    regular(&input)?;
    regular(&output)?;
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let from = offset_at(t, &input, in_offset).await?;
    let to = offset_at(t, &output, out_offset).await?;
    let count = count.min(MAX_TRANSFER as u64);
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
