//! What the kernel keeps for each CPU: whether it runs, what it runs, how often it was interrupted.

use core::{
    fmt,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
};

use futures_util::future::select;
use hal::{MAX_CPUS, arch::PerCpu, traits::PerCpuOps};

use crate::{rt, sync::WaitQueue};

/// A set of CPUs, one bit each.
static ONLINE: AtomicU64 = AtomicU64::new(0);

/// Interrupts taken by one CPU since boot.
#[derive(Debug)]
pub struct InterruptCounts {
    /// One-shot timer.
    pub timer: AtomicU64,
    /// Inter-processor.
    pub ipi: AtomicU64,
    /// Devices.
    pub device: AtomicU64,
    /// Claimed by no source.
    pub spurious: AtomicU64,
    /// Nanoseconds that they all took.
    pub ns: AtomicU64,
}

impl InterruptCounts {
    /// All of them.
    pub fn total(&self) -> u64 {
        [&self.timer, &self.ipi, &self.device, &self.spurious]
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }
}

static INTERRUPTS: [InterruptCounts; MAX_CPUS] = [const {
    InterruptCounts {
        timer: AtomicU64::new(0),
        ipi: AtomicU64::new(0),
        device: AtomicU64::new(0),
        spurious: AtomicU64::new(0),
        ns: AtomicU64::new(0),
    }
}; MAX_CPUS];

/// Who waits for CPUs to run.
static COMING: WaitQueue = WaitQueue::new();

/// Marks the calling CPU as running.
pub fn set_online() {
    ONLINE.fetch_or(1 << PerCpu::cpu_id(), Ordering::AcqRel);
    COMING.wake_all();
}

/// Waits until so many CPUs run, no longer than until `deadline` (ns since boot): one that firmware says it has started may never
/// come. Dropping it changes nothing.
pub async fn wait_online(count: u32, deadline: u64) {
    let all = COMING.wait_until(|| (online_count() >= count).then_some(()));
    select(pin!(all), pin!(rt::sleep_until(deadline))).await;
}

/// The CPUs that run, as a bit set.
pub fn online() -> u64 {
    ONLINE.load(Ordering::Acquire)
}

/// How many CPUs run.
pub fn online_count() -> u32 {
    online().count_ones()
}

/// The numbers of the CPUs that run, ascending.
pub fn online_cpus() -> impl Iterator<Item = u32> {
    let set = online();
    (0..MAX_CPUS as u32).filter(move |cpu| set >> cpu & 1 != 0)
}

/// The interrupt counts of one CPU.
///
/// # Panics
/// If `cpu` is not below [`MAX_CPUS`].
pub fn interrupts(cpu: u32) -> &'static InterruptCounts {
    &INTERRUPTS[cpu as usize]
}

/// What one CPU runs, in words, at a fixed place in memory so that a debugger or the emulator's monitor can read it when
/// the machine hangs: NUL-padded UTF-8, possibly torn.
#[repr(C, align(64))]
pub struct CpuStatus {
    name: [AtomicU64; STATUS_BYTES / 8],
}

const STATUS_BYTES: usize = 64;

/// One status a CPU. `scripts/test` prints it when a boot times out.
#[expect(unsafe_code, reason = "the symbol is found by name from outside")]
// SAFETY: the name is the kernel's own and used once.
#[unsafe(no_mangle)]
pub static BREENIX_CPU_STATUS: [CpuStatus; MAX_CPUS] = [const {
    CpuStatus {
        name: [const { AtomicU64::new(0) }; STATUS_BYTES / 8],
    }
}; MAX_CPUS];

/// Says what the calling CPU runs from here on.
pub fn set_status(name: &str) {
    let status = &BREENIX_CPU_STATUS[PerCpu::cpu_id() as usize].name;
    let mut bytes = [0; STATUS_BYTES];
    let length = name.len().min(STATUS_BYTES - 1);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    for (word, bytes) in status.iter().zip(bytes.as_chunks().0) {
        word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
    }
}

/// As [`set_status`], for a name of at most 16 bytes that stands in two words, in a few instructions.
#[inline]
pub fn set_short_status(name: [u64; 2]) {
    let status = &BREENIX_CPU_STATUS[PerCpu::cpu_id() as usize].name;
    for (word, value) in status.iter().zip(name.into_iter().chain([0])) {
        word.store(value, Ordering::Relaxed);
    }
}

/// Prints what a CPU runs.
pub struct Status(pub u32);

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = &BREENIX_CPU_STATUS[self.0 as usize].name;
        for byte in words.iter().flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes()) {
            match byte {
                0 => break,
                byte @ 0x20..0x7f => fmt::Write::write_char(f, byte as char)?,
                _ => fmt::Write::write_char(f, '?')?,
            }
        }
        Ok(())
    }
}
