//! What the kernel keeps for each CPU: whether it runs, what it runs, how often it was interrupted.

use core::{
    fmt,
    sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
};

use hal::{MAX_CPUS, arch::PerCpu, traits::PerCpuOps};

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

/// Marks the calling CPU as running.
pub fn set_online() {
    ONLINE.fetch_or(1 << PerCpu::cpu_id(), Ordering::AcqRel);
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
    name: [AtomicU8; 64],
}

/// One status a CPU. `scripts/test` prints it when a boot times out.
#[expect(unsafe_code, reason = "the symbol is found by name from outside")]
// SAFETY: the name is the kernel's own and used once.
#[unsafe(no_mangle)]
pub static BREENIX_CPU_STATUS: [CpuStatus; MAX_CPUS] = [const {
    CpuStatus {
        name: [const { AtomicU8::new(0) }; 64],
    }
}; MAX_CPUS];

/// The number of what each CPU's status shows, 0 for what has none. Written by its own CPU only.
static SHOWN: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(0) }; MAX_CPUS];

/// Whether the calling CPU's status shows this number's name: then there is nothing to do.
pub fn shows(number: u32) -> bool {
    SHOWN[PerCpu::cpu_id() as usize].load(Ordering::Relaxed) == number
}

/// As [`set_status`], for a name with a number, which no other name has.
pub fn set_numbered_status(number: u32, name: &str) {
    set_status(name);
    SHOWN[PerCpu::cpu_id() as usize].store(number, Ordering::Relaxed);
}

/// Says what the calling CPU runs from here on.
pub fn set_status(name: &str) {
    SHOWN[PerCpu::cpu_id() as usize].store(0, Ordering::Relaxed);
    let status = &BREENIX_CPU_STATUS[PerCpu::cpu_id() as usize].name;
    let length = name.len().min(status.len() - 1);
    for (cell, byte) in status.iter().zip(name.as_bytes()[..length].iter().chain(Some(&0))) {
        cell.store(*byte, Ordering::Relaxed);
    }
}

/// Makes the calling CPU's status another than it believes.
#[cfg(test)]
pub fn deface_status() {
    BREENIX_CPU_STATUS[PerCpu::cpu_id() as usize].name[0].store(b'?', Ordering::Relaxed);
}

/// Prints what a CPU runs.
pub struct Status(pub u32);

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for cell in &BREENIX_CPU_STATUS[self.0 as usize].name {
            match cell.load(Ordering::Relaxed) {
                0 => break,
                byte @ 0x20..0x7f => fmt::Write::write_char(f, byte as char)?,
                _ => fmt::Write::write_char(f, '?')?,
            }
        }
        Ok(())
    }
}
