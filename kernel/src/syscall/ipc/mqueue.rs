//! `mq_open`, `mq_unlink`, `mq_timedsend`, `mq_timedreceive`, `mq_notify`, `mq_getsetattr`.

use alloc::{sync::Arc, vec::Vec};

use linux_raw_sys::general as linux;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::{
    clock::{Base, Moment},
    errno::{Errno, Result},
    fs::{
        FileKind, Inode, OpenFile, Permission,
        attributes::{may_delete, permit},
        inode::NewFile,
        open_file::Blocking,
    },
    ipc::{
        line::{self, Over},
        mqueue::{
            Message, Notice, PRIORITIES, Queue, Received, Receivers, Senders, Shape,
            file_system::{self, Maker},
        },
    },
    mm::fallible::TryRoomExact,
    syscall::{
        fs::{descriptor_limit, on_exec, user::path},
        types::Timespec,
    },
    task::{Thread, signal::set::SIGNALS},
};

/// `struct mq_attr` (`linux/mqueue.h`), of both machines.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct MqAttr {
    flags: i64,
    messages: i64,
    bytes: i64,
    current: i64,
    reserved: [i64; 4],
}

/// `NAME_MAX`.
const LONGEST_NAME: usize = 255;

/// A name as the kernel has it: without the slash that the C library takes away.
async fn name(t: &Thread, address: u64) -> Result<Vec<u8>> {
    let name = path(t, address).await?;
    match &*name {
        b"" => Err(Errno::ENOENT),
        b"." | b".." => Err(Errno::EACCES),
        name if name.contains(&b'/') => Err(Errno::EACCES),
        name if name.len() > LONGEST_NAME => Err(Errno::ENAMETOOLONG),
        name => Ok(name.to_vec()),
    }
}

/// Numbers that no queue has are as good as others.
fn shape(attr: &MqAttr) -> Result<Shape> {
    let number = |value: i64| usize::try_from(value).map_err(|_| Errno::EINVAL);
    Ok(Shape {
        messages: number(attr.messages)?,
        bytes: number(attr.bytes)?,
    })
}

/// `mq_open(2)`.
///
/// # Errors
/// `ENOENT`, `EEXIST`, `EACCES`, `EINVAL`, `ENAMETOOLONG`, `EMFILE`, `ENOSPC`, `EFAULT`, `ENOMEM`.
pub async fn mq_open(t: &Arc<Thread>, address: u64, flags: u32, mode: u32, attr: u64) -> Result<u64> {
    let wanted = match attr {
        0 => None,
        _ => Some(t.mm().read::<MqAttr>(attr).await?),
    };
    let name = name(t, address).await?;
    let root = t.namespaces().ipc.mqueue().clone();
    let queue = match root.find(&name) {
        Err(Errno::ENOENT) if flags & linux::O_CREAT != 0 => {
            let shape = wanted.map(|attr| shape(&attr)).transpose()?;
            let credentials = t.credentials();
            permit(
                &root.attributes(),
                &credentials,
                Permission::WRITE | Permission::EXECUTE,
            )?;
            let permissions = mode as u16 & 0o7777 & !t.fs().umask();
            let new = NewFile::new(FileKind::Regular, permissions, credentials.fsuid, credentials.fsgid);
            match root.make(&name, &new, shape, &Maker::new(t)) {
                // Somebody else was quicker.
                Err(Errno::EEXIST) if flags & linux::O_EXCL == 0 => existing(t, root.find(&name)?, flags)?,
                made => made?,
            }
        }
        Ok(_) if flags & (linux::O_CREAT | linux::O_EXCL) == linux::O_CREAT | linux::O_EXCL => {
            return Err(Errno::EEXIST);
        }
        found => existing(t, found?, flags)?,
    };
    let file = OpenFile::new(
        queue.clone(),
        file_system::location(&root, queue),
        flags & (linux::O_ACCMODE | linux::O_NONBLOCK),
    );
    // As Linux has it, whatever the flags say.
    let on_exec = on_exec(linux::O_CLOEXEC);
    Ok(t.files().insert(Arc::new(file), on_exec, descriptor_limit(t))? as u64)
}

/// A queue that is there, if it may be opened so.
fn existing(t: &Thread, queue: Arc<Queue>, flags: u32) -> Result<Arc<Queue>> {
    let wanted = match flags & linux::O_ACCMODE {
        linux::O_RDONLY => Permission::READ,
        linux::O_WRONLY => Permission::WRITE,
        linux::O_RDWR => Permission::READ | Permission::WRITE,
        _ => return Err(Errno::EINVAL),
    };
    permit(&queue.attributes(), &t.credentials(), wanted)?;
    Ok(queue)
}

/// `mq_unlink(2)`.
///
/// # Errors
/// `ENOENT`, `EACCES`, `EPERM`, `ENAMETOOLONG`, `EFAULT`.
pub async fn mq_unlink(t: &Thread, address: u64) -> Result<u64> {
    let name = name(t, address).await?;
    let root = t.namespaces().ipc.mqueue().clone();
    let queue = root.find(&name)?;
    let (directory, credentials) = (root.attributes(), t.credentials());
    permit(&directory, &credentials, Permission::WRITE | Permission::EXECUTE)?;
    may_delete(&directory, &queue.attributes(), &credentials)?;
    root.unlink(&name)?;
    Ok(0)
}

/// Until when to wait; 0 is for ever.
async fn until(t: &Thread, address: u64) -> Result<Option<Moment>> {
    if address == 0 {
        return Ok(None);
    }
    let time = t.mm().read::<Timespec>(address).await?.to_nanoseconds()?;
    Ok(Some(Moment { base: Base::Wall, time }))
}

fn over(over: Over) -> Errno {
    match over {
        Over::TimedOut => Errno::ETIMEDOUT,
        Over::Interrupted => Errno::ERESTARTSYS,
    }
}

/// `mq_timedsend(2)`.
///
/// # Errors
/// `EBADF`, `EINVAL`, `EMSGSIZE`, `EAGAIN`, `ETIMEDOUT`, `EINTR`, `EFAULT`, `ENOMEM`.
pub async fn mq_timedsend(
    t: &Arc<Thread>,
    fd: i32,
    address: u64,
    length: u64,
    priority: u32,
    timeout: u64,
) -> Result<u64> {
    if priority >= PRIORITIES {
        return Err(Errno::EINVAL);
    }
    let at = until(t, timeout).await?;
    let file = t.usable_file(fd)?;
    let queue = Queue::of(&file).filter(|_| file.is_writable()).ok_or(Errno::EBADF)?;
    if length > queue.shape().bytes as u64 {
        return Err(Errno::EMSGSIZE);
    }
    let mut text = Vec::new();
    text.try_room_exact(length as usize)?;
    text.resize(length as usize, 0);
    t.mm().read_bytes(address, &mut text).await?;
    let message = Message { priority, text };
    let Some(ticket) = queue.send(t, message, !file.is_nonblocking())? else {
        return Ok(0);
    };
    line::wait(t, &Senders(queue), ticket, at).await.map_err(over)?;
    Ok(0)
}

/// `mq_timedreceive(2)`: how long the message is. One that cannot be copied to the caller is lost, as on Linux.
///
/// # Errors
/// `EBADF`, `EINVAL`, `EMSGSIZE`, `EAGAIN`, `ETIMEDOUT`, `EINTR`, `EFAULT`.
pub async fn mq_timedreceive(
    t: &Arc<Thread>,
    fd: i32,
    address: u64,
    room: u64,
    priority: u64,
    timeout: u64,
) -> Result<u64> {
    let at = until(t, timeout).await?;
    let file = t.usable_file(fd)?;
    let queue = Queue::of(&file).filter(|_| file.is_readable()).ok_or(Errno::EBADF)?;
    if room < queue.shape().bytes as u64 {
        return Err(Errno::EMSGSIZE);
    }
    let message = match queue.receive(t, !file.is_nonblocking())? {
        Received::Message(message) => message,
        Received::Waits(ticket) => line::wait(t, &Receivers(queue), ticket, at).await.map_err(over)?,
    };
    let mm = t.mm();
    if priority != 0 {
        mm.write(priority, &message.priority).await?;
    }
    mm.write_bytes(address, &message.text).await?;
    Ok(message.text.len() as u64)
}

/// What a `struct sigevent` asks for. `SIGEV_THREAD` wants a netlink socket by which the C library is told, and there are none: an
/// error of its descriptor.
async fn notice(t: &Thread, [value, how, ..]: [u64; 8]) -> Result<Notice> {
    const SIGEV_SIGNAL: u32 = 0;
    const SIGEV_NONE: u32 = 1;
    const SIGEV_THREAD: u32 = 2;
    /// What is sent by that socket (`NOTIFY_COOKIE_LEN` of `linux/mqueue.h`), in bytes.
    const COOKIE: usize = 32;
    let signo = how as i32;
    match (how >> 32) as u32 {
        SIGEV_NONE => Ok(Notice::new(t, None)),
        SIGEV_SIGNAL if (0..=SIGNALS).contains(&signo) => {
            // Signal 0 has nobody told.
            Ok(Notice::new(t, (signo != 0).then_some((signo, value))))
        }
        SIGEV_THREAD => {
            t.mm().read::<[u8; COOKIE]>(value).await?;
            let is_socket = t.file(signo)?.socket().is_some();
            Err(if is_socket { Errno::EINVAL } else { Errno::ENOTSOCK })
        }
        _ => Err(Errno::EINVAL),
    }
}

/// `mq_notify(2)`.
///
/// # Errors
/// `EBADF`, `EBUSY`, `EINVAL`, `ENOTSOCK`, `EFAULT`.
pub async fn mq_notify(t: &Thread, fd: i32, event: u64) -> Result<u64> {
    let notice = match event {
        0 => None,
        _ => Some(notice(t, t.mm().read(event).await?).await?),
    };
    let file = t.usable_file(fd)?;
    let queue = Queue::of(&file).ok_or(Errno::EBADF)?;
    match notice {
        Some(notice) => queue.notify(notice)?,
        None => queue.forget(t.process().pid()),
    }
    Ok(0)
}

/// `mq_getsetattr(2)`: the flags alone can be changed.
///
/// # Errors
/// `EBADF`, `EINVAL`, `EFAULT`.
pub async fn mq_getsetattr(t: &Thread, fd: i32, new: u64, old: u64) -> Result<u64> {
    let mm = t.mm();
    let nonblocking = i64::from(linux::O_NONBLOCK);
    let flags = match new {
        0 => None,
        _ => Some(mm.read::<MqAttr>(new).await?.flags),
    };
    if flags.is_some_and(|flags| flags & !nonblocking != 0) {
        return Err(Errno::EINVAL);
    }
    let file = t.usable_file(fd)?;
    let queue = Queue::of(&file).ok_or(Errno::EBADF)?;
    let shape = queue.shape();
    let before = MqAttr {
        flags: if file.is_nonblocking() { nonblocking } else { 0 },
        messages: shape.messages as i64,
        bytes: shape.bytes as i64,
        current: queue.len() as i64,
        ..MqAttr::default()
    };
    if let Some(flags) = flags {
        file.set_blocking(if flags == 0 { Blocking::Wait } else { Blocking::Return });
    }
    if old != 0 {
        mm.write(old, &before).await?;
    }
    Ok(0)
}
