//! `/dev`: a tmpfs that comes with its device nodes, and the table of what the numbers of character devices stand for.

use alloc::{sync::Arc, vec::Vec};

use super::{
    attributes::{DeviceNumber, FileKind},
    file::{Attempt, File, Positioning, Transfer, Whence},
    inode::{Inode, NewFile, OpenRequest},
    io::{Sink, Source},
    tmpfs::{Limits, TmpFs, TmpInode},
};
use crate::{
    errno::{Errno, Result},
    mm::fallible::TryRoom,
    random,
    sync::{Rank, SpinLock},
    tty,
};

/// Opens a character device.
pub type OpenChar = fn(DeviceNumber, &OpenRequest<'_>) -> Result<Arc<dyn File>>;

static DRIVERS: SpinLock<Vec<(DeviceNumber, OpenChar)>> = SpinLock::new(Rank::Device, Vec::new());
static ROOT: SpinLock<Option<Arc<TmpInode>>> = SpinLock::new(Rank::Device, None);

/// The devices that are nothing but memory (`drivers/char/mem.c`), all of major number 1.
const MEMORY_DEVICES: [(&[u8], u32); 6] = [
    (b"null", 3),
    (b"zero", 5),
    (b"full", 7),
    (b"random", 8),
    (b"urandom", 9),
    (b"kmsg", 11),
];
const MEMORY_MAJOR: u32 = 1;

const LINKS: [(&[u8], &[u8]); 4] = [
    (b"fd", b"/proc/self/fd"),
    (b"stdin", b"/proc/self/fd/0"),
    (b"stdout", b"/proc/self/fd/1"),
    (b"stderr", b"/proc/self/fd/2"),
];

/// The root of `/dev`: one file system, however often it is mounted.
///
/// # Errors
/// `ENOMEM`.
pub fn root() -> Result<Arc<dyn Inode>> {
    if let Some(root) = ROOT.lock().clone() {
        return Ok(root);
    }
    let root = TmpFs::create(
        Limits {
            pages: 1024,
            inodes: 4096,
        },
        0o755,
    )?;
    root.file_system().keep();
    for (name, minor) in MEMORY_DEVICES {
        make_node(&root, name, DeviceNumber::new(MEMORY_MAJOR, minor), 0o666)?;
    }
    for (name, number) in tty::device::nodes() {
        make_node(
            &root,
            name.as_bytes(),
            number,
            if number == tty::device::CONTROLLING {
                0o666
            } else {
                0o620
            },
        )?;
    }
    for (name, target) in LINKS {
        let mut new = NewFile::new(FileKind::Symlink, 0o777, 0, 0);
        new.target = target;
        root.create(name, &new)?;
    }
    for name in [b"pts", b"shm"] {
        root.create(
            name,
            &NewFile::new(FileKind::Directory, if name == b"shm" { 0o1777 } else { 0o755 }, 0, 0),
        )?;
    }
    let mut slot = ROOT.lock();
    let root = slot.get_or_insert(root).clone();
    Ok(root)
}

fn make_node(directory: &Arc<TmpInode>, name: &[u8], number: DeviceNumber, permissions: u16) -> Result<()> {
    make_node_of(FileKind::CharDevice, directory, name, number, permissions)
}

fn make_node_of(
    kind: FileKind,
    directory: &Arc<TmpInode>,
    name: &[u8],
    number: DeviceNumber,
    permissions: u16,
) -> Result<()> {
    let mut new = NewFile::new(kind, permissions, 0, 0);
    new.rdev = number;
    match directory.create(name, &new) {
        Ok(_) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Lets `open` serve the character device `number`, and puts a node called `name` with mode 0620 into `/dev`.
///
/// # Errors
/// `ENOMEM`.
pub fn register_char(name: &str, number: DeviceNumber, open: OpenChar) -> Result<()> {
    register_char_with_mode(name, number, 0o620, open)
}

/// As [`register_char`], with other permission bits.
///
/// # Errors
/// `ENOMEM`.
pub fn register_char_with_mode(name: &str, number: DeviceNumber, permissions: u16, open: OpenChar) -> Result<()> {
    root()?;
    let mut drivers = DRIVERS.lock();
    drivers.try_room(1)?;
    drivers.retain(|(taken, _)| *taken != number);
    drivers.push((number, open));
    drop(drivers);
    let root = ROOT.lock().clone().ok_or(Errno::ENOMEM)?;
    make_node(&root, name.as_bytes(), number, permissions)
}

/// Puts a node for the block device `number` into `/dev`, with mode 0600.
///
/// # Errors
/// `ENOMEM`.
pub fn add_block(name: &[u8], number: DeviceNumber) -> Result<()> {
    root()?;
    let root = ROOT.lock().clone().ok_or(Errno::ENOMEM)?;
    make_node_of(FileKind::BlockDevice, &root, name, number, 0o600)
}

/// Opens the character device `number`.
///
/// # Errors
/// `ENXIO` if nobody serves it; otherwise its driver's.
pub fn open_char(number: DeviceNumber, request: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
    let driver = DRIVERS
        .lock()
        .iter()
        .find(|(served, _)| *served == number)
        .map(|(_, open)| *open);
    if let Some(open) = driver {
        return open(number, request);
    }
    let file: Arc<dyn File> = match (number.major, number.minor) {
        (MEMORY_MAJOR, 3) => Arc::new(MemoryDevice::Null),
        (MEMORY_MAJOR, 5) => Arc::new(MemoryDevice::Zero),
        (MEMORY_MAJOR, 7) => Arc::new(MemoryDevice::Full),
        (MEMORY_MAJOR, 8 | 9) => Arc::new(MemoryDevice::Random),
        (MEMORY_MAJOR, 11) => Arc::new(MemoryDevice::Messages),
        _ => {
            let caller = request.caller.ok_or(Errno::ENXIO)?;
            Arc::new(tty::device::open(number, request.flags, caller)?)
        }
    };
    Ok(file)
}

enum MemoryDevice {
    Null,
    Zero,
    Full,
    Random,
    Messages,
}

impl File for MemoryDevice {
    fn read(&self, _: &mut Transfer<'_>, sink: &mut Sink<'_>) -> Attempt<()> {
        match self {
            Self::Null | Self::Messages => {}
            Self::Zero | Self::Full => drop(sink.put_zeroes(sink.remaining())?),
            Self::Random => {
                let mut bytes = [0; 256];
                while sink.remaining() > 0 {
                    let piece = &mut bytes[..sink.remaining().min(256)];
                    random::fill(piece);
                    sink.put(piece)?;
                }
            }
        }
        Ok(())
    }

    fn write(&self, _: &mut Transfer<'_>, source: &mut Source<'_>) -> Attempt<()> {
        match self {
            Self::Null | Self::Zero => drop(source.skip(source.remaining())),
            Self::Full => {
                return if source.is_complete() {
                    Ok(())
                } else {
                    Err(Errno::ENOSPC.into())
                };
            }
            Self::Random => {
                let mut bytes = [0; 256];
                while source.remaining() > 0 {
                    let taken = source.take(&mut bytes)?;
                    random::mix(&bytes[..taken]);
                }
            }
            Self::Messages => {
                let mut bytes = [0; 512];
                let taken = source.take(&mut bytes)?;
                log::info!("{}", alloc::string::String::from_utf8_lossy(&bytes[..taken]).trim_end());
                source.skip(source.remaining());
            }
        }
        Ok(())
    }

    fn positioning(&self) -> Positioning {
        Positioning::Ignored
    }

    fn seek(&self, _: u64, _: i64, _: Whence) -> Result<u64> {
        Ok(0)
    }

    fn pager(&self) -> Result<Arc<dyn crate::mm::Pager>> {
        match self {
            Self::Zero => Ok(crate::mm::MemoryObject::new()),
            _ => Err(Errno::ENODEV),
        }
    }
}
