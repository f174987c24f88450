//! Descriptors: duplicating, `fcntl`, `ioctl`, and what has no name: pipes and event counters.

use alloc::sync::Arc;

use linux_raw_sys::{general as linux, ioctl as request};

use super::{
    open::{descriptor_limit, on_exec},
    user::{answer, field, put, structure, with_faults},
};
use crate::{
    errno::{Errno, Result},
    fs::{
        Attempt, Direction, FdTable, OnExec, OpenFile, Stop,
        eventfd::{Counting, EventCounter},
        io::{copy_in, copy_out},
        locks::{self, Lock, LockKind, Owner},
        nameless::{self, Anonymous},
        open_file::Blocking,
    },
    sync::WaitQueue,
    task::Thread,
};

/// `dup(2)`.
pub fn dup(t: &Thread, fd: i32) -> Result<u64> {
    let files = t.files();
    Ok(files.insert(files.get(fd)?, OnExec::Keep, descriptor_limit(t))? as u64)
}

fn duplicate_to(t: &Thread, from: i32, to: i32, on_exec: OnExec) -> Result<u64> {
    let files = t.files();
    drop(files.replace(to, files.get(from)?, on_exec, descriptor_limit(t))?);
    Ok(to as u64)
}

/// `dup2(2)`.
pub fn dup2(t: &Thread, from: i32, to: i32) -> Result<u64> {
    if from == to {
        t.file(from)?;
        return Ok(to as u64);
    }
    duplicate_to(t, from, to, OnExec::Keep)
}

/// `dup3(2)`.
pub fn dup3(t: &Thread, from: i32, to: i32, flags: u32) -> Result<u64> {
    if from == to || flags & !linux::O_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    duplicate_to(t, from, to, on_exec(flags))
}

/// `pipe2(2)`.
pub async fn pipe2(t: &Thread, descriptors: u64, flags: u32) -> Result<u64> {
    // O_DIRECT would make it a pipe of packets.
    if flags & !(linux::O_CLOEXEC | linux::O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let (place, read, write) = nameless::pipe(&t.credentials());
    let status = flags & linux::O_NONBLOCK;
    let read = Arc::new(OpenFile::new(read, place.clone(), linux::O_RDONLY | status));
    let write = Arc::new(OpenFile::new(write, place, linux::O_WRONLY | status));
    let files = t.files();
    let read = files.insert(read, on_exec(flags), descriptor_limit(t))?;
    let result = match files.insert(write, on_exec(flags), descriptor_limit(t)) {
        Ok(write) => {
            let mut pair = [0; 8];
            pair[..4].copy_from_slice(&read.to_ne_bytes());
            pair[4..].copy_from_slice(&write.to_ne_bytes());
            put(t, descriptors, &pair)
                .await
                .inspect_err(|_| drop(files.remove(write)))
        }
        Err(errno) => Err(errno),
    };
    result.inspect_err(|_| drop(files.remove(read))).map(|()| 0)
}

/// `pipe(2)`.
pub async fn pipe(t: &Thread, descriptors: u64) -> Result<u64> {
    pipe2(t, descriptors, 0).await
}

/// `eventfd2(2)`.
pub fn eventfd2(t: &Thread, initial: u32, flags: u32) -> Result<u64> {
    if flags & !(linux::EFD_CLOEXEC | linux::EFD_NONBLOCK | linux::EFD_SEMAPHORE) != 0 {
        return Err(Errno::EINVAL);
    }
    let counting = if flags & linux::EFD_SEMAPHORE != 0 {
        Counting::One
    } else {
        Counting::All
    };
    let counter = Arc::new(EventCounter::new(u64::from(initial), counting));
    let file = OpenFile::anonymous(counter, Anonymous::EventFd, linux::O_RDWR | flags & linux::EFD_NONBLOCK);
    Ok(t.files().insert(Arc::new(file), on_exec(flags), descriptor_limit(t))? as u64)
}

/// `eventfd(2)`.
pub fn eventfd(t: &Thread, initial: u32) -> Result<u64> {
    eventfd2(t, initial, 0)
}

/// `fcntl(2)`.
pub async fn fcntl(t: &Thread, fd: i32, command: u32, argument: u64) -> Result<u64> {
    let files = t.files();
    let file = files.get(fd)?;
    let allowed_on_path = [
        linux::F_DUPFD,
        linux::F_DUPFD_CLOEXEC,
        linux::F_GETFD,
        linux::F_SETFD,
        linux::F_GETFL,
    ];
    if file.is_path() && !allowed_on_path.contains(&command) {
        return Err(Errno::EBADF);
    }
    match command {
        linux::F_DUPFD | linux::F_DUPFD_CLOEXEC => {
            let from = usize::try_from(argument as i32).map_err(|_| Errno::EINVAL)?;
            let on_exec = if command == linux::F_DUPFD {
                OnExec::Keep
            } else {
                OnExec::Close
            };
            Ok(files.insert_from(file, from, on_exec, descriptor_limit(t))? as u64)
        }
        linux::F_GETFD => Ok(u64::from(files.on_exec(fd)? == OnExec::Close)),
        linux::F_SETFD => {
            files.set_on_exec(fd, if argument & 1 != 0 { OnExec::Close } else { OnExec::Keep })?;
            Ok(0)
        }
        linux::F_GETFL => Ok(u64::from(file.flags())),
        linux::F_SETFL => {
            file.set_flags(argument as u32);
            Ok(0)
        }
        linux::F_GETLK | linux::F_OFD_GETLK => with_faults(t, || get_lock(t, &files, &file, command, argument)).await,
        linux::F_SETLK | linux::F_SETLKW | linux::F_OFD_SETLK | linux::F_OFD_SETLKW => {
            set_lock(t, &files, fd, &file, command, argument).await
        }
        linux::F_GETPIPE_SZ => Ok(file.file().as_pipe().ok_or(Errno::EBADF)?.pipe().capacity() as u64),
        linux::F_SETPIPE_SZ => {
            let pipe = file.file().as_pipe().ok_or(Errno::EBADF)?.pipe();
            Ok(pipe.set_capacity(argument as u32 as usize)? as u64)
        }
        linux::F_GETOWN | linux::F_GETSIG => Ok(0),
        linux::F_GETLEASE => Ok(u64::from(linux::F_UNLCK)),
        linux::F_GET_SEALS => Ok(u64::from(file.file().seals()?)),
        linux::F_ADD_SEALS => {
            let seals = u32::try_from(argument).map_err(|_| Errno::EINVAL)?;
            if !file.is_writable() {
                return Err(Errno::EPERM);
            }
            file.file().add_seals(seals)?;
            Ok(0)
        }
        // No signal-driven input or output, no leases.
        _ => Err(Errno::EINVAL),
    }
}

/// As [`fcntl`], for the few commands that come in numbers.
///
/// # Errors
/// As [`fcntl`].
pub fn fcntl_at_once(t: &Thread, fd: i32, command: u32, argument: u64) -> Attempt<u64> {
    match command {
        linux::F_GETFL => Ok(u64::from(t.file(fd)?.flags())),
        linux::F_SETLK | linux::F_SETLKW | linux::F_OFD_SETLK | linux::F_OFD_SETLKW => {
            let files = t.files();
            // One count is the thread's, one ours. Asked before the file is looked for: from here on there is nobody else to close
            // it then.
            let others = Arc::strong_count(&files) > 2;
            let file = files.get_usable(fd)?;
            let request = request(t, &files, &file, command, argument)?;
            match request.make(&files, fd, &file, others) {
                Err(Stop::WouldBlock) if !request.waits => Err(Errno::EAGAIN.into()),
                made => made,
            }
        }
        _ => Err(Stop::WouldBlock),
    }
}

/// What `F_SETLK` and its kin ask for.
struct Request {
    /// `None` to unlock.
    kind: Option<LockKind>,
    lock: Lock,
    waits: bool,
}

impl Request {
    /// Does what can be done at once.
    fn make(&self, files: &FdTable, fd: i32, file: &Arc<OpenFile>, others: bool) -> Attempt<u64> {
        match self.kind {
            None => locks::unlock(file, &self.lock)?,
            Some(_) if !locks::lock(file, &self.lock)? => return Err(Stop::WouldBlock),
            Some(_) if others => self.settle(files, fd, file)?,
            Some(_) => {}
        }
        Ok(0)
    }

    /// Once a lock has been taken: a close by another thread meanwhile has let go of what was there, and of this lock perhaps
    /// not.
    fn settle(&self, files: &FdTable, fd: i32, file: &Arc<OpenFile>) -> Result<()> {
        let is_open = || files.get(fd).is_ok_and(|now| Arc::ptr_eq(&now, file));
        if matches!(self.lock.owner, Owner::Table(_)) && !is_open() {
            locks::release_table(file, files);
            return Err(Errno::EBADF);
        }
        Ok(())
    }
}

fn request(t: &Thread, files: &FdTable, file: &OpenFile, command: u32, address: u64) -> Attempt<Request> {
    let (kind, lock) = parse_lock(t, files, file, command, address)?;
    match kind {
        Some(LockKind::Shared) if !file.is_readable() => return Err(Errno::EBADF.into()),
        Some(LockKind::Exclusive) if !file.is_writable() => return Err(Errno::EBADF.into()),
        _ => {}
    }
    Ok(Request {
        kind,
        lock,
        waits: matches!(command, linux::F_SETLKW | linux::F_OFD_SETLKW),
    })
}

/// A lock as `struct flock` describes it: the kind, or `None` to unlock, and the range.
fn parse_lock(
    t: &Thread,
    files: &FdTable,
    file: &OpenFile,
    command: u32,
    address: u64,
) -> Attempt<(Option<LockKind>, Lock)> {
    let mut bytes = [0u8; size_of::<linux::flock>()];
    copy_in(&mut bytes, address)?;
    let kind = match field!(bytes, linux::flock, l_type) as u32 {
        linux::F_RDLCK => Some(LockKind::Shared),
        linux::F_WRLCK => Some(LockKind::Exclusive),
        linux::F_UNLCK => None,
        _ => return Err(Errno::EINVAL.into()),
    };
    let base = match field!(bytes, linux::flock, l_whence) as u32 {
        linux::SEEK_SET => 0,
        linux::SEEK_CUR => file.position() as i64,
        linux::SEEK_END => file.attributes().size as i64,
        _ => return Err(Errno::EINVAL.into()),
    };
    let start = base
        .checked_add(field!(bytes, linux::flock, l_start) as i64)
        .ok_or(Errno::EOVERFLOW)?;
    let len = field!(bytes, linux::flock, l_len) as i64;
    let (start, end) = match len {
        0 => (start, i64::MAX),
        1.. => (start, start.checked_add(len).ok_or(Errno::EOVERFLOW)?),
        _ => (start.checked_add(len).ok_or(Errno::EINVAL)?, start),
    };
    if start < 0 {
        return Err(Errno::EINVAL.into());
    }
    let owner = if matches!(command, linux::F_OFD_GETLK | linux::F_OFD_SETLK | linux::F_OFD_SETLKW) {
        if field!(bytes, linux::flock, l_pid) != 0 {
            return Err(Errno::EINVAL.into());
        }
        Owner::description(file)
    } else {
        Owner::table(files)
    };
    let lock = Lock {
        owner,
        pid: t.process().pid(),
        kind: kind.unwrap_or(LockKind::Shared),
        start: start as u64,
        end: end as u64,
    };
    Ok((kind, lock))
}

fn get_lock(t: &Thread, files: &FdTable, file: &OpenFile, command: u32, address: u64) -> Attempt<u64> {
    let (kind, mut lock) = parse_lock(t, files, file, command, address)?;
    lock.kind = kind.ok_or(Errno::EINVAL)?;
    let bytes = match locks::conflict(file, &lock) {
        None => {
            copy_out(address, &(linux::F_UNLCK as u16).to_ne_bytes())?;
            return Ok(0);
        }
        Some(found) => structure!(linux::flock {
            l_type: if found.kind == LockKind::Exclusive {
                linux::F_WRLCK
            } else {
                linux::F_RDLCK
            },
            l_whence: linux::SEEK_SET,
            l_start: found.start,
            l_len: if found.end == i64::MAX as u64 {
                0
            } else {
                found.end - found.start
            },
            l_pid: match found.owner {
                Owner::Table(_) => i64::from(found.pid),
                Owner::Description(_) => -1,
            },
        }),
    };
    answer(address, &bytes, 0)
}

async fn set_lock(
    t: &Thread,
    files: &FdTable,
    fd: i32,
    file: &Arc<OpenFile>,
    command: u32,
    address: u64,
) -> Result<u64> {
    let request = with_faults(t, || request(t, files, file, command, address)).await?;
    if request.kind.is_some() && request.waits {
        t.interruptible(locks::acquire(file, request.lock)).await??;
        request.settle(files, fd, file)?;
        return Ok(0);
    }
    with_faults(t, || request.make(files, fd, file, true)).await
}

/// `flock(2)`.
pub async fn flock(t: &Thread, fd: i32, operation: u32) -> Result<u64> {
    // As Linux since 5.18, which knows them no more: there they are the servers' of files alone.
    const LOCK_MAND: u32 = 32;
    if operation & LOCK_MAND != 0 {
        return Ok(0);
    }
    let file = t.files().get_usable(fd)?;
    let lock = |kind| Lock {
        owner: Owner::whole_file(&file),
        pid: t.process().pid(),
        kind,
        start: 0,
        end: u64::MAX,
    };
    let kind = match operation & !linux::LOCK_NB {
        linux::LOCK_SH => LockKind::Shared,
        linux::LOCK_EX => LockKind::Exclusive,
        linux::LOCK_UN => {
            locks::unlock(&file, &lock(LockKind::Shared))?;
            return Ok(0);
        }
        _ => return Err(Errno::EINVAL),
    };
    let lock = lock(kind);
    if operation & linux::LOCK_NB == 0 {
        t.interruptible(locks::acquire(&file, lock)).await??;
    } else if !locks::lock(&file, &lock)? {
        return Err(Errno::EAGAIN);
    }
    Ok(0)
}

/// `FIONREAD` of a regular file: what lies between the position and the end.
fn bytes_left(file: &OpenFile) -> Option<i32> {
    let attributes = file.attributes();
    let regular = attributes.kind == crate::fs::FileKind::Regular && file.has_offsets();
    regular.then(|| attributes.size.saturating_sub(file.position()).min(i32::MAX as u64) as i32)
}

/// `ioctl(2)`: what holds for every file, then the file's own.
pub async fn ioctl(t: &Thread, fd: i32, command: u32, argument: u64) -> Result<u64> {
    let files = t.files();
    let file = files.get_usable(fd)?;
    match command {
        request::FIOCLEX => return files.set_on_exec(fd, OnExec::Close).map(|()| 0),
        request::FIONCLEX => return files.set_on_exec(fd, OnExec::Keep).map(|()| 0),
        _ => {}
    }
    loop {
        let queue = file.file().wait_queue(Direction::Write);
        let mut wait = core::pin::pin!(queue.map(WaitQueue::wait));
        if let Some(wait) = wait.as_mut().as_pin_mut() {
            wait.enable();
        }
        let result = match command {
            request::FIONBIO => {
                let mut on = [0; 4];
                copy_in(&mut on, argument).map_err(Stop::from).map(|()| {
                    file.set_blocking(if on == [0; 4] { Blocking::Wait } else { Blocking::Return });
                    0
                })
            }
            request::FIONREAD if bytes_left(&file).is_some() => {
                let left = bytes_left(&file).unwrap_or(0);
                copy_out(argument, &left.to_ne_bytes()).map_err(Stop::from).map(|()| 0)
            }
            _ => file.file().control(t, command, argument),
        };
        match result {
            Ok(value) => return Ok(value),
            Err(Stop::Errno(errno)) => return Err(errno),
            Err(Stop::Fault(fault)) => t.mm().resolve(fault).await?,
            Err(Stop::WouldBlock) => match wait.as_mut().as_pin_mut() {
                Some(wait) => {
                    let waited = t.interruptible(wait).await;
                    waited.map_err(|_| file.file().control_interrupted())?;
                }
                None => return Err(Errno::EAGAIN),
            },
        }
    }
}
