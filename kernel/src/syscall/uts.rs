//! The machine's names, as `uname` and its relatives tell and set them.

use alloc::vec::Vec;
use core::fmt::Write;

use arrayvec::ArrayString;
use hal::{arch::Cpu, traits::CpuOps};
use zerocopy::{Immutable, IntoBytes};

use crate::{
    build_id::BuildId,
    errno::{Errno, Result},
    sync::{Rank, SpinLock},
    task::{Capability, Thread},
};

/// The kernel release that programs see: the Linux whose system calls these are.
pub const RELEASE: &str = "6.1.0-breenix";

const FIELD: usize = 65;

/// The longest host name (`__NEW_UTS_LEN`).
const HOST_NAME_MAX: usize = 64;

/// `struct new_utsname` (`linux/utsname.h`).
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Utsname {
    sysname: [u8; FIELD],
    nodename: [u8; FIELD],
    release: [u8; FIELD],
    version: [u8; FIELD],
    machine: [u8; FIELD],
    domainname: [u8; FIELD],
}

/// Host and domain name.
struct Names {
    host: Vec<u8>,
    domain: Vec<u8>,
}

static NAMES: SpinLock<Names> = SpinLock::new(
    Rank::Random,
    Names {
        host: Vec::new(),
        domain: Vec::new(),
    },
);

/// What stands for a name that was never set.
const NO_NAME: &[u8] = b"(none)";

fn or_none(name: &[u8]) -> Vec<u8> {
    if name.is_empty() { NO_NAME } else { name }.to_vec()
}

/// The host name.
pub fn host_name() -> Vec<u8> {
    or_none(&NAMES.lock().host)
}

/// The domain name.
pub fn domain_name() -> Vec<u8> {
    or_none(&NAMES.lock().domain)
}

/// `utsname.version`: which build this is.
pub fn version() -> ArrayString<FIELD> {
    let mut text = ArrayString::new();
    // A build id of 20 bytes fits; a longer one is cut off, as the field would.
    let _ = write!(text, "#1 SMP Breenix build {BuildId}");
    text
}

fn field(text: &[u8]) -> [u8; FIELD] {
    let mut field = [0; FIELD];
    let length = text.len().min(FIELD - 1);
    field[..length].copy_from_slice(&text[..length]);
    field
}

fn name_field(name: &[u8]) -> [u8; FIELD] {
    field(if name.is_empty() { NO_NAME } else { name })
}

/// `uname(2)`.
///
/// # Errors
/// `EFAULT`.
pub async fn uname(t: &Thread, buffer: u64) -> Result<u64> {
    let (nodename, domainname) = {
        let names = NAMES.lock();
        (name_field(&names.host), name_field(&names.domain))
    };
    let name = Utsname {
        sysname: field(b"Linux"),
        nodename,
        release: field(RELEASE.as_bytes()),
        version: field(version().as_bytes()),
        machine: field(Cpu::MACHINE.as_bytes()),
        domainname,
    };
    t.mm().write_bytes(buffer, name.as_bytes()).await?;
    Ok(0)
}

async fn read_name(t: &Thread, name: u64, length: i32) -> Result<Vec<u8>> {
    if !t.credentials().can(Capability::SysAdmin) {
        return Err(Errno::EPERM);
    }
    let length = usize::try_from(length)
        .ok()
        .filter(|length| *length <= HOST_NAME_MAX)
        .ok_or(Errno::EINVAL)?;
    let mut bytes = [0; HOST_NAME_MAX];
    t.mm().read_bytes(name, &mut bytes[..length]).await?;
    Ok(bytes[..length].to_vec())
}

/// `sethostname(2)`.
///
/// # Errors
/// `EPERM` unless root, `EINVAL` for a length above 64, `EFAULT`.
pub async fn sethostname(t: &Thread, name: u64, length: i32) -> Result<u64> {
    let name = read_name(t, name, length).await?;
    NAMES.lock().host = name;
    Ok(0)
}

/// Sets the host name.
///
/// # Errors
/// `EINVAL` if it is longer than 64 bytes.
pub fn set_host_name(name: &[u8]) -> Result<()> {
    if name.len() > HOST_NAME_MAX {
        return Err(Errno::EINVAL);
    }
    NAMES.lock().host = name.to_vec();
    Ok(())
}

/// `setdomainname(2)`.
///
/// # Errors
/// As [`sethostname`].
pub async fn setdomainname(t: &Thread, name: u64, length: i32) -> Result<u64> {
    let name = read_name(t, name, length).await?;
    NAMES.lock().domain = name;
    Ok(0)
}

/// The first line of `/proc/version`.
pub fn write_version(out: &mut dyn Write) -> core::fmt::Result {
    writeln!(out, "Linux version {RELEASE} {}", version())
}
