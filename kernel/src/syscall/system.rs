//! The machine as a whole: its numbers, log, randomness, and its end.

use core::sync::atomic::Ordering;

use hal::{
    PAGE_SIZE,
    arch::PerCpu,
    traits::{PerCpuOps, Shutdown},
};
use linux_raw_sys::general::{CLOCK_BOOTTIME, GRND_INSECURE, GRND_NONBLOCK, GRND_RANDOM};
use zerocopy::{Immutable, IntoBytes};

use crate::{
    errno::{Errno, Result},
    klog, mm,
    namespace::time::shown_to,
    random, rt,
    task::{self, Capability, Thread, capabilities::CapabilitySet},
};

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
    let (threads, _) = task::table::census();
    let info = Sysinfo {
        uptime: (shown_to(t, CLOCK_BOOTTIME, rt::now()) / 1_000_000_000) as i64,
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
    // The second for what was before the first was made.
    const READ_LOG: CapabilitySet = CapabilitySet::of(&[Capability::Syslog, Capability::SysAdmin]);
    static CLEARED: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);

    if !matches!(action, READ_ALL | SIZE_BUFFER) && !t.credentials().can_any(READ_LOG) {
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

    if !t.credentials().can(Capability::SysBoot) {
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
