//! What `stat(2)` tells of a file, and who may do what with it.

use crate::{
    errno::{Errno, Result},
    task::{Capability, Credentials},
};

/// The type of a file (`S_IFMT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum FileKind {
    Fifo,
    CharDevice,
    Directory,
    BlockDevice,
    Regular,
    Symlink,
    Socket,
    /// None of these: an object of a call (`anon_inode` on Linux).
    Untyped,
}

impl FileKind {
    /// The bits under `S_IFMT`.
    pub const fn mode_bits(self) -> u32 {
        match self {
            Self::Fifo => 0o010_000,
            Self::CharDevice => 0o020_000,
            Self::Directory => 0o040_000,
            Self::BlockDevice => 0o060_000,
            Self::Regular => 0o100_000,
            Self::Symlink => 0o120_000,
            Self::Socket => 0o140_000,
            Self::Untyped => 0,
        }
    }

    /// The type that `mode` names; `None` where it names none.
    pub const fn from_mode(mode: u32) -> Option<Self> {
        Some(match mode & 0o170_000 {
            0o010_000 => Self::Fifo,
            0o020_000 => Self::CharDevice,
            0o040_000 => Self::Directory,
            0o060_000 => Self::BlockDevice,
            0o100_000 => Self::Regular,
            0o120_000 => Self::Symlink,
            0o140_000 => Self::Socket,
            _ => return None,
        })
    }

    /// `d_type` of a directory entry.
    pub const fn directory_type(self) -> u8 {
        (self.mode_bits() >> 12) as u8
    }
}

/// A device's number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceNumber {
    /// Which driver.
    pub major: u32,
    /// Which of its devices.
    pub minor: u32,
}

impl DeviceNumber {
    /// A number from its parts.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// As user mode sees it (`new_encode_dev` of `linux/kdev_t.h`).
    pub const fn encode(self) -> u64 {
        ((self.minor & 0xff) | self.major << 8 | (self.minor & !0xff) << 12) as u64
    }

    /// From what user mode gave (`new_decode_dev`).
    pub const fn decode(number: u32) -> Self {
        Self {
            major: (number & 0xf_ff00) >> 8,
            minor: (number & 0xff) | (number >> 12 & 0xf_ff00),
        }
    }
}

/// A point in time, counted from 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Seconds.
    pub seconds: i64,
    /// Nanoseconds of the second.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// The wall clock's time.
    pub fn now() -> Self {
        let now = crate::rt::wall_clock();
        Self {
            seconds: now.div_euclid(1_000_000_000),
            nanoseconds: now.rem_euclid(1_000_000_000) as u32,
        }
    }
}

/// Set-user-ID bit.
pub const S_ISUID: u16 = 0o4000;
/// Set-group-ID bit.
pub const S_ISGID: u16 = 0o2000;
/// Sticky bit.
pub const S_ISVTX: u16 = 0o1000;

/// What is known of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// The file system's number.
    pub device: DeviceNumber,
    /// The file's number in it.
    pub inode: u64,
    /// Its type.
    pub kind: FileKind,
    /// Permission, set-ID and sticky bits: the low 12 bits of `st_mode`.
    pub permissions: u16,
    /// Names it has.
    pub links: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The device that a device node stands for.
    pub rdev: DeviceNumber,
    /// Bytes.
    pub size: u64,
    /// The preferred size of a transfer, in bytes.
    pub block_size: u32,
    /// Memory held, in units of 512 bytes.
    pub blocks: u64,
    /// Last read.
    pub accessed: Timestamp,
    /// Last change of contents.
    pub modified: Timestamp,
    /// Last change of contents or attributes.
    pub changed: Timestamp,
    /// Creation.
    pub created: Timestamp,
}

impl Attributes {
    /// `st_mode`.
    pub const fn mode(&self) -> u32 {
        self.kind.mode_bits() | self.permissions as u32
    }

    /// Takes over what is to be changed, but for the size.
    pub fn change(&mut self, change: &SetAttributes) {
        self.permissions = change.permissions.unwrap_or(self.permissions);
        self.uid = change.uid.unwrap_or(self.uid);
        self.gid = change.gid.unwrap_or(self.gid);
        self.accessed = change.accessed.unwrap_or(self.accessed);
        self.modified = change.modified.unwrap_or(self.modified);
        self.changed = Timestamp::now();
    }

    /// Attributes of something made up on the fly: times now, owned by root, empty.
    pub fn synthetic(device: DeviceNumber, inode: u64, kind: FileKind, permissions: u16) -> Self {
        let now = Timestamp::now();
        Self {
            device,
            inode,
            kind,
            permissions,
            links: 1,
            uid: 0,
            gid: 0,
            rdev: DeviceNumber::default(),
            size: 0,
            block_size: 4096,
            blocks: 0,
            accessed: now,
            modified: now,
            changed: now,
            created: now,
        }
    }
}

/// A change of attributes: what is `None` stays. The change time is set by the file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttributes {
    /// Permission bits.
    pub permissions: Option<u16>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Whether the file loses its capabilities.
    pub strips_capabilities: bool,
    /// Length in bytes: cut, or grown by a hole.
    pub size: Option<u64>,
    /// Access time.
    pub accessed: Option<Timestamp>,
    /// Modification time.
    pub modified: Option<Timestamp>,
}

/// Whether a change of attributes has made the file shorter. Then mappings of what was cut off have to go
/// ([`cut`](crate::mm::pager::cut)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shrunk {
    /// It is as long as it was, or longer.
    No,
    /// It is shorter.
    Yes,
}

bitflags::bitflags! {
    /// What is to be done with a file, as `access(2)` numbers it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Permission: u16 {
        /// Execute, or search a directory.
        const EXECUTE = 1;
        /// Write.
        const WRITE = 2;
        /// Read.
        const READ = 4;
    }
}

/// Whether `credentials` (their file-system ids) allow `wanted`.
///
/// # Errors
/// `EACCES`.
pub fn permit(attributes: &Attributes, credentials: &Credentials, wanted: Permission) -> Result<()> {
    let shift = if credentials.fsuid == attributes.uid {
        6
    } else if credentials.in_group(attributes.gid) {
        3
    } else {
        0
    };
    let granted = Permission::from_bits_truncate(attributes.permissions >> shift & 7);
    if granted.contains(wanted) || overrides(attributes, credentials, wanted) {
        Ok(())
    } else {
        Err(Errno::EACCES)
    }
}

/// Whether capabilities allow what the permission bits do not: `CAP_DAC_OVERRIDE` everything, but the execution of what is
/// executable for somebody only; `CAP_DAC_READ_SEARCH` to read, and to search directories.
fn overrides(attributes: &Attributes, credentials: &Credentials, wanted: Permission) -> bool {
    let is_directory = attributes.kind == FileKind::Directory;
    let only_looks = if is_directory {
        !wanted.contains(Permission::WRITE)
    } else {
        wanted == Permission::READ
    };
    let executable = is_directory || attributes.permissions & 0o111 != 0;
    only_looks && credentials.can(Capability::DacReadSearch)
        || (executable || !wanted.contains(Permission::EXECUTE)) && credentials.can(Capability::DacOverride)
}

/// Whether `credentials` may leave the set-group-ID bit to a file of this group.
pub fn may_set_group_id(gid: u32, credentials: &Credentials) -> bool {
    credentials.in_group(gid) || credentials.can(Capability::Fsetid)
}

/// Whether `credentials` may act as the file's owner.
///
/// # Errors
/// `EPERM`.
pub fn owns(attributes: &Attributes, credentials: &Credentials) -> Result<()> {
    if credentials.fsuid == attributes.uid || credentials.can(Capability::Fowner) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

/// Whether `credentials` may take `victim` out of `directory`: the sticky bit's rule.
///
/// # Errors
/// `EPERM`.
pub fn may_delete(directory: &Attributes, victim: &Attributes, credentials: &Credentials) -> Result<()> {
    let sticky = directory.permissions & S_ISVTX != 0;
    if sticky && credentials.fsuid != directory.uid {
        owns(victim, credentials)
    } else {
        Ok(())
    }
}
