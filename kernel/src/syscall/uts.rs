//! The machine's names, as `uname` and its relatives tell and set them.

use alloc::sync::Arc;
use core::fmt::Write;

use arrayvec::{ArrayString, ArrayVec};
use hal::{arch::Cpu, traits::CpuOps};
use zerocopy::{Immutable, IntoBytes};

use crate::{
    build_id::BuildId,
    errno::{Errno, Result},
    namespace::{UtsNamespace, uts::LONGEST},
    task::{Capability, Thread},
};

/// The kernel release that programs see: the Linux whose system calls these are.
pub const RELEASE: &str = "6.1.0-breenix";

const FIELD: usize = 65;

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

/// `uname(2)`.
///
/// # Errors
/// `EFAULT`.
pub async fn uname(t: &Thread, buffer: u64) -> Result<u64> {
    let namespaces = t.namespaces();
    let name = Utsname {
        sysname: field(b"Linux"),
        nodename: field(&namespaces.uts.host()),
        release: field(RELEASE.as_bytes()),
        version: field(version().as_bytes()),
        machine: field(Cpu::MACHINE.as_bytes()),
        domainname: field(&namespaces.uts.domain()),
    };
    t.mm().write_bytes(buffer, name.as_bytes()).await?;
    Ok(0)
}

/// The names that the caller may set, and what is to become of one of them.
async fn read_name(t: &Thread, name: u64, length: i32) -> Result<(Arc<UtsNamespace>, ArrayVec<u8, LONGEST>)> {
    let uts = t.namespaces().uts.clone();
    if !t.credentials().can_in(Capability::SysAdmin, uts.head().owner()) {
        return Err(Errno::EPERM);
    }
    let length = usize::try_from(length)
        .ok()
        .filter(|length| *length <= LONGEST)
        .ok_or(Errno::EINVAL)?;
    let mut bytes = ArrayVec::from([0; LONGEST]);
    bytes.truncate(length);
    t.mm().read_bytes(name, &mut bytes).await?;
    Ok((uts, bytes))
}

/// `sethostname(2)`.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`, `EINVAL` for a length above 64, `EFAULT`.
pub async fn sethostname(t: &Thread, name: u64, length: i32) -> Result<u64> {
    let (uts, name) = read_name(t, name, length).await?;
    uts.set_host(&name).map(|()| 0)
}

/// `setdomainname(2)`.
///
/// # Errors
/// As [`sethostname`].
pub async fn setdomainname(t: &Thread, name: u64, length: i32) -> Result<u64> {
    let (uts, name) = read_name(t, name, length).await?;
    uts.set_domain(&name).map(|()| 0)
}

/// The first line of `/proc/version`.
pub fn write_version(out: &mut dyn Write) -> core::fmt::Result {
    writeln!(out, "Linux version {RELEASE} {}", version())
}
