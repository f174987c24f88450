//! The machine as a whole: its names, numbers, log, randomness, and its end.

use alloc::vec::Vec;
use core::{fmt::Write, sync::atomic::Ordering};

use arrayvec::ArrayString;
use hal::{
    PAGE_SIZE,
    arch::{Cpu, PerCpu},
    traits::{CpuOps, InterruptFrame, PageTableOps, PerCpuOps, Shutdown},
};
use linux_raw_sys::{
    general::{GRND_INSECURE, GRND_NONBLOCK, GRND_RANDOM},
    prctl::{
        PR_CAPBSET_READ, PR_GET_CHILD_SUBREAPER, PR_GET_DUMPABLE, PR_GET_KEEPCAPS, PR_GET_NAME, PR_GET_NO_NEW_PRIVS,
        PR_GET_PDEATHSIG, PR_GET_SECCOMP, PR_GET_TIMERSLACK, PR_SET_CHILD_SUBREAPER, PR_SET_DUMPABLE, PR_SET_KEEPCAPS,
        PR_SET_NAME, PR_SET_NO_NEW_PRIVS, PR_SET_PDEATHSIG, PR_SET_TIMERSLACK,
    },
};
use zerocopy::{Immutable, IntoBytes};

use crate::{
    build_id::BuildId,
    errno::{Errno, Result},
    klog, mm, random, rt,
    sync::{Rank, SpinLock},
    task::{self, Thread},
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

/// The host name.
pub fn host_name() -> Vec<u8> {
    let names = NAMES.lock();
    if names.host.is_empty() {
        NO_NAME.to_vec()
    } else {
        names.host.clone()
    }
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
    if !t.credentials().is_privileged() {
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

/// `struct sysinfo` (`linux/sysinfo.h`), 64 bits.
#[derive(Default, IntoBytes, Immutable)]
#[repr(C)]
struct Sysinfo {
    uptime: i64,
    loads: [u64; 3],
    totalram: u64,
    freeram: u64,
    sharedram: u64,
    bufferram: u64,
    totalswap: u64,
    freeswap: u64,
    procs: u16,
    pad: [u8; 6],
    totalhigh: u64,
    freehigh: u64,
    mem_unit: u32,
    tail: u32,
}

// The fractional bits of `sysinfo.loads`: `SI_LOAD_SHIFT` (`linux/sysinfo.h`).
const _: () = assert!(executor::LOAD_SHIFT == 16);

/// `sysinfo(2)`.
///
/// # Errors
/// `EFAULT`.
pub async fn sysinfo(t: &Thread, buffer: u64) -> Result<u64> {
    let memory = mm::frame::stats();
    let threads: usize = task::processes().iter().map(|process| process.thread_count()).sum();
    let info = Sysinfo {
        uptime: (rt::now() / 1_000_000_000) as i64,
        loads: rt::executor().load_averages(),
        totalram: (memory.total * PAGE_SIZE) as u64,
        freeram: (memory.free * PAGE_SIZE) as u64,
        procs: u16::try_from(threads).unwrap_or(u16::MAX),
        mem_unit: 1,
        ..Sysinfo::default()
    };
    t.mm().write_bytes(buffer, info.as_bytes()).await?;
    Ok(0)
}

/// `getrandom(2)`. The generator is seeded at boot, so no flag makes it wait.
///
/// # Errors
/// `EINVAL` for unknown or contradictory flags, `EFAULT` if nothing could be stored.
pub async fn getrandom(t: &Thread, buffer: u64, length: usize, flags: u32) -> Result<u64> {
    if flags & !(GRND_NONBLOCK | GRND_RANDOM | GRND_INSECURE) != 0
        || flags & (GRND_RANDOM | GRND_INSECURE) == GRND_RANDOM | GRND_INSECURE
    {
        return Err(Errno::EINVAL);
    }
    let length = length.min(i32::MAX as usize);
    let mm = t.mm();
    let mut done = 0;
    while done < length {
        let mut chunk = [0; 256];
        let part = chunk.len().min(length - done);
        random::fill(&mut chunk[..part]);
        match mm.write_bytes(buffer.wrapping_add(done as u64), &chunk[..part]).await {
            Ok(()) => done += part,
            Err(errno) if done == 0 => return Err(errno),
            Err(_) => break,
        }
        if done % PAGE_SIZE == 0 {
            if t.is_interrupted() {
                break;
            }
            rt::yield_now().await;
        }
    }
    Ok(done as u64)
}

/// `syslog(2)`: reading and clearing the ring of kernel messages.
///
/// # Errors
/// `EPERM` unless root where it changes something, `EINVAL`, `EFAULT`.
pub async fn syslog(t: &Thread, action: i32, buffer: u64, length: i32) -> Result<u64> {
    const READ: i32 = 2;
    const READ_ALL: i32 = 3;
    const READ_CLEAR: i32 = 4;
    const CLEAR: i32 = 5;
    const CONSOLE_OFF: i32 = 6;
    const CONSOLE_ON: i32 = 7;
    const CONSOLE_LEVEL: i32 = 8;
    const SIZE_UNREAD: i32 = 9;
    const SIZE_BUFFER: i32 = 10;
    static CLEARED: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);

    if !matches!(action, READ_ALL | SIZE_BUFFER) && !t.credentials().is_privileged() {
        return Err(Errno::EPERM);
    }
    let (oldest, end) = klog::extent();
    match action {
        0 | 1 | CLEAR | CONSOLE_OFF | CONSOLE_ON => {
            if action == CLEAR {
                CLEARED.store(end, Ordering::Relaxed);
            }
            Ok(0)
        }
        READ | READ_ALL | READ_CLEAR => {
            let length = u64::try_from(length).map_err(|_| Errno::EINVAL)?;
            if buffer == 0 {
                return Err(Errno::EINVAL);
            }
            let first = oldest.max(CLEARED.load(Ordering::Relaxed));
            let copied = copy_log(t, buffer, end.saturating_sub(length).max(first), end).await?;
            if action == READ_CLEAR {
                CLEARED.store(end, Ordering::Relaxed);
            }
            Ok(copied)
        }
        CONSOLE_LEVEL => {
            let level = match length {
                1..=4 => log::LevelFilter::Error,
                5 => log::LevelFilter::Warn,
                6 | 7 => log::LevelFilter::Info,
                8 => log::LevelFilter::Debug,
                _ => return Err(Errno::EINVAL),
            };
            klog::set_console_level(level);
            Ok(0)
        }
        SIZE_UNREAD => Ok(end - oldest.max(CLEARED.load(Ordering::Relaxed))),
        SIZE_BUFFER => Ok(klog::CAPACITY as u64),
        _ => Err(Errno::EINVAL),
    }
}

async fn copy_log(t: &Thread, buffer: u64, from: u64, end: u64) -> Result<u64> {
    let mut position = from;
    let mut copied = 0;
    while position < end {
        let mut chunk = [0; 512];
        let wanted = chunk.len().min((end - position) as usize);
        let (next, length) = klog::read(position, &mut chunk[..wanted]);
        if length == 0 {
            break;
        }
        t.mm().write_bytes(buffer + copied, &chunk[..length]).await?;
        (position, copied) = (next, copied + length as u64);
    }
    Ok(copied)
}

/// `prctl(2)`, the common part.
///
/// # Errors
/// `EINVAL` for operations that are not there, `EFAULT`.
pub async fn prctl(t: &Thread, operation: u32, a: u64, b: u64, c: u64, d: u64) -> Result<u64> {
    const LAST_CAPABILITY: u64 = 40;
    const DEFAULT_TIMER_SLACK: u64 = 50_000;
    let process = t.process();
    let unused_are_zero = b == 0 && c == 0 && d == 0;
    match operation {
        PR_SET_NAME => {
            let mut name = [0; 16];
            read_short_string(t, a, &mut name[..15]).await?;
            t.set_comm(&name);
            Ok(0)
        }
        PR_GET_NAME => {
            t.mm().write_bytes(a, &t.comm()).await?;
            Ok(0)
        }
        PR_SET_PDEATHSIG => {
            let signo = i32::try_from(a)
                .ok()
                .filter(|signo| (0..=64).contains(signo))
                .ok_or(Errno::EINVAL)?;
            process.parent_death_signal.store(signo, Ordering::Relaxed);
            Ok(0)
        }
        PR_GET_PDEATHSIG => {
            t.mm()
                .write(a, &process.parent_death_signal.load(Ordering::Relaxed))
                .await?;
            Ok(0)
        }
        PR_SET_DUMPABLE => {
            process.dumpable.store(i32::from(small_flag(a)?), Ordering::Relaxed);
            Ok(0)
        }
        PR_GET_DUMPABLE => Ok(process.dumpable.load(Ordering::Relaxed) as u64),
        PR_SET_NO_NEW_PRIVS if a == 1 && unused_are_zero => {
            process.no_new_privileges.store(true, Ordering::Relaxed);
            Ok(0)
        }
        PR_GET_NO_NEW_PRIVS if a == 0 && unused_are_zero => {
            Ok(u64::from(process.no_new_privileges.load(Ordering::Relaxed)))
        }
        PR_SET_CHILD_SUBREAPER => {
            process.subreaper.store(a != 0, Ordering::Relaxed);
            Ok(0)
        }
        PR_GET_CHILD_SUBREAPER => {
            t.mm()
                .write(a, &i32::from(process.subreaper.load(Ordering::Relaxed)))
                .await?;
            Ok(0)
        }
        PR_SET_KEEPCAPS => small_flag(a).map(|_| 0),
        PR_GET_KEEPCAPS | PR_GET_SECCOMP => Ok(0),
        PR_CAPBSET_READ if a <= LAST_CAPABILITY => Ok(1),
        PR_SET_TIMERSLACK => Ok(0),
        PR_GET_TIMERSLACK => Ok(DEFAULT_TIMER_SLACK),
        _ => Err(Errno::EINVAL),
    }
}

fn small_flag(value: u64) -> Result<bool> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Errno::EINVAL),
    }
}

/// Reads up to `out.len()` bytes of a string, stopping at its zero.
async fn read_short_string(t: &Thread, address: u64, out: &mut [u8]) -> Result<()> {
    let mm = t.mm();
    for (offset, byte) in out.iter_mut().enumerate() {
        *byte = mm.read::<u8>(address.wrapping_add(offset as u64)).await?;
        if *byte == 0 {
            break;
        }
    }
    Ok(())
}

/// `personality(2)`: only the default execution domain and its flags.
///
/// # Errors
/// None.
pub async fn personality(t: &Thread, persona: u32) -> Result<u64> {
    const QUERY: u32 = u32::MAX;
    let stored = &t.process().personality;
    let old = if persona == QUERY {
        stored.load(Ordering::Relaxed)
    } else {
        stored.swap(persona, Ordering::Relaxed)
    };
    Ok(u64::from(old))
}

/// `getcpu(2)`: the CPU the thread runs on; one NUMA node.
///
/// # Errors
/// `EFAULT`.
pub async fn getcpu(t: &Thread, cpu: u64, node: u64) -> Result<u64> {
    let mm = t.mm();
    if cpu != 0 {
        mm.write(cpu, &PerCpu::cpu_id()).await?;
    }
    if node != 0 {
        mm.write(node, &0_u32).await?;
    }
    Ok(0)
}

/// `reboot(2)`.
///
/// # Errors
/// `EPERM` unless root, `EINVAL` for wrong magic numbers or a command that is not there.
pub async fn reboot(t: &Thread, magic: u32, magic2: u32, command: u32, _argument: u64) -> Result<u64> {
    const MAGIC: u32 = 0xfee1_dead;
    const MAGIC2: [u32; 4] = [672_274_793, 85_072_278, 369_367_448, 537_993_216];
    const CAD_OFF: u32 = 0;
    const CAD_ON: u32 = 0x89ab_cdef;
    const HALT: u32 = 0xcdef_0123;
    const POWER_OFF: u32 = 0x4321_fedc;
    const RESTART: u32 = 0x0123_4567;

    if !t.credentials().is_privileged() {
        return Err(Errno::EPERM);
    }
    if magic != MAGIC || !MAGIC2.contains(&magic2) {
        return Err(Errno::EINVAL);
    }
    match command {
        CAD_ON | CAD_OFF => Ok(0),
        HALT | POWER_OFF => task::shutdown::leave(Shutdown::PowerOff(0)).await,
        RESTART => task::shutdown::leave(Shutdown::Reset).await,
        _ => Err(Errno::EINVAL),
    }
}

/// `arch_prctl(2)`: the FS and GS base of x86_64.
///
/// # Errors
/// `EINVAL` for operations that are not there, `EPERM` for an address outside user space, `EFAULT`.
pub async fn arch_prctl(
    t: &Thread,
    context: &mut <Cpu as CpuOps>::UserContext,
    operation: u32,
    address: u64,
) -> Result<u64> {
    const SET_GS: u32 = 0x1001;
    const SET_FS: u32 = 0x1002;
    const GET_FS: u32 = 0x1003;
    const GET_GS: u32 = 0x1004;
    let is_user = address < hal::arch::PageTable::USER_END;
    match operation {
        SET_FS | SET_GS if !is_user => Err(Errno::EPERM),
        SET_FS => {
            context.set_thread_pointer(address);
            Ok(0)
        }
        GET_FS => {
            t.mm().write(address, &context.thread_pointer()).await?;
            Ok(0)
        }
        SET_GS => {
            if context.set_gs_base(address) {
                Ok(0)
            } else {
                Err(Errno::EINVAL)
            }
        }
        GET_GS => {
            let base = context.gs_base().ok_or(Errno::EINVAL)?;
            t.mm().write(address, &base).await?;
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// The first line of `/proc/version`.
pub fn write_version(out: &mut dyn Write) -> core::fmt::Result {
    writeln!(out, "Linux version {RELEASE} {}", version())
}
