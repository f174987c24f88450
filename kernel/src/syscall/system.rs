//! Calls on the system as a whole.

use hal::{
    PAGE_SIZE,
    arch::Cpu,
    traits::{CpuOps, Shutdown},
};
use zerocopy::{Immutable, IntoBytes};

use crate::{
    errno::{Errno, Result},
    mm::frame,
    random, rt,
    sync::{Rank, SpinLock},
    task::{self, Thread},
};

const NAME_SIZE: usize = 65;

struct HostName {
    bytes: [u8; NAME_SIZE],
}

static HOST_NAME: SpinLock<HostName> = SpinLock::new(Rank::Signals, HostName {
    bytes: {
        let mut bytes = [0; NAME_SIZE];
        bytes.split_at_mut(7).0.copy_from_slice(b"breenix");
        bytes
    },
});

/// The host's name, without zeroes.
pub fn host_name() -> alloc::vec::Vec<u8> {
    let name = HOST_NAME.lock().bytes;
    name.iter().copied().take_while(|byte| *byte != 0).collect()
}

/// The kernel version that programs see: that of the Linux whose calls these are.
pub const RELEASE: &str = "6.1.0-breenix";

/// `uname(2)`: `struct new_utsname`, six fields of 65 bytes.
pub async fn uname(t: &Thread, address: u64) -> Result<u64> {
    let mut fields = [0u8; 6 * NAME_SIZE];
    let host = HOST_NAME.lock().bytes;
    let build = alloc::format!("#1 SMP {}", crate::build_id::BuildId);
    let values = [b"Linux", &host[..], RELEASE.as_bytes(), build.as_bytes(), Cpu::MACHINE.as_bytes(), b"(none)"];
    for (field, value) in fields.chunks_exact_mut(NAME_SIZE).zip(values) {
        let length = value.len().min(NAME_SIZE - 1);
        field[..length].copy_from_slice(&value[..length]);
    }
    t.mm().write_bytes(address, &fields).await?;
    Ok(0)
}

/// `sethostname(2)`.
pub async fn sethostname(t: &Thread, address: u64, length: u64) -> Result<u64> {
    if !t.credentials().is_privileged() {
        return Err(Errno::EPERM);
    }
    if length >= NAME_SIZE as u64 {
        return Err(Errno::EINVAL);
    }
    let mut bytes = [0; NAME_SIZE];
    t.mm().read_bytes(address, &mut bytes[..length as usize]).await?;
    HOST_NAME.lock().bytes = bytes;
    Ok(0)
}

/// `struct sysinfo` (`linux/sysinfo.h`), 64-bit.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct SysInfo {
    uptime: u64,
    loads: [u64; 3],
    total_ram: u64,
    free_ram: u64,
    shared_ram: u64,
    buffer_ram: u64,
    total_swap: u64,
    free_swap: u64,
    processes: u16,
    pad: [u8; 6],
    total_high: u64,
    free_high: u64,
    unit: u32,
    tail: u32,
}

/// `sysinfo(2)`.
pub async fn sysinfo(t: &Thread, address: u64) -> Result<u64> {
    let stats = frame::stats();
    let threads: usize = task::processes().iter().map(|process| process.thread_count()).sum();
    let info = SysInfo {
        uptime: rt::now() / 1_000_000_000,
        loads: [0; 3],
        total_ram: (stats.total * PAGE_SIZE) as u64,
        free_ram: (stats.free * PAGE_SIZE) as u64,
        shared_ram: 0,
        buffer_ram: 0,
        total_swap: 0,
        free_swap: 0,
        processes: threads.min(usize::from(u16::MAX)) as u16,
        pad: [0; 6],
        total_high: 0,
        free_high: 0,
        unit: 1,
        tail: 0,
    };
    t.mm().write(address, &info).await?;
    Ok(0)
}

/// `getrandom(2)`: the generator is seeded before programs run, so no flag makes a difference.
pub async fn getrandom(t: &Thread, address: u64, length: u64, flags: u32) -> Result<u64> {
    if flags & !7 != 0 || flags & 6 == 6 {
        return Err(Errno::EINVAL);
    }
    let mm = t.mm();
    let length = length.min(i32::MAX as u64);
    let mut done = 0;
    while done < length {
        let mut chunk = [0; 128];
        let count = (length - done).min(chunk.len() as u64) as usize;
        random::fill(&mut chunk[..count]);
        if let Err(error) = mm.write_bytes(address.wrapping_add(done), &chunk[..count]).await {
            return if done == 0 { Err(error) } else { Ok(done) };
        }
        done += count as u64;
        if t.is_interrupted() && done >= 256 {
            break;
        }
    }
    Ok(done)
}

/// `syslog(2)`: reading the ring, its size, and the console's level.
///
/// # Errors
/// `EINVAL`, `EPERM`, `EFAULT`.
pub async fn syslog(t: &Thread, action: i32, address: u64, length: i32) -> Result<u64> {
    if !t.credentials().is_privileged() && !matches!(action, 3 | 10) {
        return Err(Errno::EPERM);
    }
    match action {
        0 | 1 | 5 | 6 | 7 => Ok(0),
        2 | 3 | 4 => {
            if address == 0 || length < 0 {
                return Err(Errno::EINVAL);
            }
            let text = crate::klog::tail(length as usize);
            t.mm().write_bytes(address, &text).await?;
            Ok(text.len() as u64)
        }
        8 if (1..=8).contains(&length) => Ok(0),
        9 => Ok(0),
        10 => Ok(crate::klog::capacity() as u64),
        _ => Err(Errno::EINVAL),
    }
}

/// `reboot(2)`.
pub async fn reboot(t: &Thread, magic: u32, magic2: u32, command: u32, _argument: u64) -> Result<u64> {
    if !t.credentials().is_privileged() {
        return Err(Errno::EPERM);
    }
    if magic != 0xfee1_dead || ![672_274_793, 85_072_278, 369_367_448, 537_993_216].contains(&magic2) {
        return Err(Errno::EINVAL);
    }
    match command {
        // RESTART
        0x0123_4567 => Cpu::shutdown(Shutdown::Reset),
        // HALT, POWER_OFF
        0xcdef_0123 | 0x4321_fedc => Cpu::shutdown(Shutdown::PowerOff(0)),
        // CAD_ON, CAD_OFF: there is no such key.
        0x89ab_cdef | 0 => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

/// `membarrier(2)`: no command is offered, and `MEMBARRIER_CMD_QUERY` says so.
pub async fn membarrier(_: &Thread, command: i32, _flags: u32, _cpu: i32) -> Result<u64> {
    if command == 0 { Ok(0) } else { Err(Errno::EINVAL) }
}
