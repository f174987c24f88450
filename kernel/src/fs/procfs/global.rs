//! Files about the machine, in Linux's formats (`proc(5)`).

use alloc::string::String;
use core::{
    fmt::{Display, Formatter, Result, Write},
    sync::atomic::{AtomicU8, Ordering},
};

use executor::{CpuInfo, LOAD_SHIFT};
use hal::{PAGE_SIZE, arch::Cpu, traits::CpuOps};
use linux_raw_sys::general::CLOCK_BOOTTIME;

use crate::{
    command_line, cpu, crash,
    errno::{self, Errno},
    fs::epoll::MAX_USER_WATCHES,
    irq, mm, namespace, random, rt,
    syscall::uts,
    tally, task,
};

const NANOS: u64 = 1_000_000_000;

pub(super) fn command_line(out: &mut String) -> Result {
    writeln!(out, "{}", command_line::whole())
}

pub(super) fn cpu_info(out: &mut String) -> Result {
    cpu::online_cpus().try_for_each(|cpu| Cpu::describe(cpu, out))
}

pub(super) fn file_systems(out: &mut String) -> Result {
    ["sysfs", "tmpfs", "proc", "devtmpfs", "mqueue"]
        .iter()
        .try_for_each(|name| writeln!(out, "nodev\t{name}"))?;
    writeln!(out, "\t{}", crate::fs::archive::KIND)
}

pub(super) fn interrupts(out: &mut String) -> Result {
    write!(out, "     ")?;
    for cpu in cpu::online_cpus() {
        write!(out, " {:>10}", alloc::format!("CPU{cpu}"))?;
    }
    writeln!(out)?;
    for (line, total) in irq::claimed_lines() {
        writeln!(out, "{line:>4}: {total:>10}")?;
    }
    type Count = fn(u32) -> u64;
    let rows: [(&str, Count, &str); 4] = [
        (
            "TMR",
            |cpu| cpu::interrupts(cpu).timer.load(Ordering::Relaxed),
            "One-shot timer",
        ),
        (
            "IPI",
            |cpu| cpu::interrupts(cpu).ipi.load(Ordering::Relaxed),
            "Inter-processor",
        ),
        (
            "DEV",
            |cpu| cpu::interrupts(cpu).device.load(Ordering::Relaxed),
            "Devices",
        ),
        (
            "SPU",
            |cpu| cpu::interrupts(cpu).spurious.load(Ordering::Relaxed),
            "Spurious",
        ),
    ];
    for (name, count, text) in rows {
        write!(out, "{name:>4}:")?;
        for cpu in cpu::online_cpus() {
            write!(out, " {:>10}", count(cpu))?;
        }
        writeln!(out, "  {text}")?;
    }
    Ok(())
}

pub(super) fn load_average(out: &mut String) -> Result {
    let runnable: u32 = rt::executor().cpus().map(|cpu| cpu.runnable).sum();
    let (threads, last) = task::table::census();
    for average in rt::executor().load_averages() {
        // To the nearest hundredth.
        let hundredths = (average * 100 + (1 << (LOAD_SHIFT - 1))) >> LOAD_SHIFT;
        write!(out, "{}.{:02} ", hundredths / 100, hundredths % 100)?;
    }
    writeln!(out, "{runnable}/{threads} {last}")
}

pub(super) fn memory_info(out: &mut String) -> Result {
    let stats = mm::frame::stats();
    let kib = |frames: usize| frames * PAGE_SIZE / 1024;
    let rows = [
        ("MemTotal", kib(stats.total)),
        ("MemFree", kib(stats.free)),
        ("MemAvailable", kib(stats.free.saturating_sub(stats.reserve))),
        ("Buffers", 0),
        ("Cached", kib(mm::reclaim::cached_pages())),
        ("SwapCached", 0),
        ("Active", 0),
        ("Inactive", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Shmem", 0),
        ("Slab", kib(mm::heap::slab_frames())),
        ("SReclaimable", 0),
        ("PageTables", kib(mm::frame::page_tables())),
    ];
    rows.iter()
        .try_for_each(|(name, value)| writeln!(out, "{:<16}{value:>8} kB", alloc::format!("{name}:")))
}

/// Where a CPU's time has gone, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct CpuTimes {
    user: u64,
    nice: u64,
    system: u64,
    idle: u64,
    interrupts: u64,
}

impl CpuTimes {
    fn of(info: &CpuInfo) -> Self {
        let interrupts = cpu::interrupts(info.cpu).ns.load(Ordering::Relaxed);
        Self::new(info, interrupts)
    }

    /// What is not measured as anything else is the kernel's.
    const fn new(info: &CpuInfo, interrupts: u64) -> Self {
        Self {
            user: info.user_ns,
            nice: info.low_ns,
            system: info
                .total_ns
                .saturating_sub(info.user_ns + info.low_ns + info.idle_ns + interrupts),
            idle: info.idle_ns,
            interrupts,
        }
    }

    fn add(&mut self, other: &Self) {
        self.user += other.user;
        self.nice += other.nice;
        self.system += other.system;
        self.idle += other.idle;
        self.interrupts += other.interrupts;
    }
}

/// As in a `cpu` line of `/proc/stat`, in ticks: user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice.
impl Display for CpuTimes {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        const TICK: u64 = NANOS / 100;
        let Self {
            user,
            nice,
            system,
            idle,
            interrupts,
        } = self;
        let [user, nice, system, idle, interrupts] = [user, nice, system, idle, interrupts].map(|ns| ns / TICK);
        write!(f, "{user} {nice} {system} {idle} 0 {interrupts} 0 0 0 0")
    }
}

/// Every frame and every heap object, to the last one: what a test compares to find a leak.
///
/// Free frames and frames of slabs belong together: which slabs hold the objects in use is chance.
pub(super) fn memory_in_use(out: &mut String) -> Result {
    // First of all: making the text takes memory.
    let (heap, frames, slabs) = (tally::heap(), mm::frame::stats(), mm::heap::slab_frames());
    let rows = [
        ("frames", frames.total as u64),
        ("frames_free", frames.free as u64),
        ("frames_slab", slabs as u64),
        ("frames_page_tables", mm::frame::page_tables() as u64),
        ("heap_objects", heap.objects),
        ("heap_bytes", heap.bytes),
    ];
    rows.iter()
        .try_for_each(|(name, value)| writeln!(out, "{name} {value}"))
}

/// What was written last; as on Linux, nothing follows from reading it.
static DROPPED: AtomicU8 = AtomicU8::new(0);

pub(super) fn dropped_caches(out: &mut String) -> Result {
    writeln!(out, "{}", DROPPED.load(Ordering::Relaxed))
}

/// 1 is the page cache of disks, as far as nobody uses it; 2 is what the futex table, the heap and
/// the CPUs' magazines hold without using it, and the page tables that sleeping CPUs keep of programs that have ended (they
/// go soon after); 3 is both.
pub(super) fn drop_caches(line: &[u8]) -> errno::Result<()> {
    let what = match line {
        b"1" => 1,
        b"2" => 2,
        b"3" => 3,
        _ => return Err(Errno::EINVAL),
    };
    if what & 1 != 0 {
        mm::reclaim::reclaim(usize::MAX);
    }
    if what & 2 != 0 {
        task::futex::trim();
        mm::AddressSpace::release_unused();
        mm::heap::trim();
        mm::frame::trim();
    }
    DROPPED.store(what, Ordering::Relaxed);
    Ok(())
}

/// Of Linux's letters the one that crashes the machine.
pub(super) fn sysrq(line: &[u8]) -> errno::Result<()> {
    match line.first() {
        Some(b'c') => crash::panic(),
        _ => Err(Errno::EINVAL),
    }
}

#[cfg(debug_assertions)]
pub(super) fn crash(line: &[u8]) -> errno::Result<()> {
    match line {
        b"null-pointer" => crash::null_pointer(),
        b"stack-overflow" => {
            crash::stack_overflow(0);
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

pub(super) fn interrupt_context(out: &mut String) -> Result {
    tally::write_interrupt_context(out)
}

pub(super) fn stat(out: &mut String) -> Result {
    let mut sum = CpuTimes::default();
    let mut lines = String::new();
    for info in rt::executor().cpus() {
        let times = CpuTimes::of(&info);
        writeln!(lines, "cpu{} {times}", info.cpu)?;
        sum.add(&times);
    }
    writeln!(out, "cpu  {sum}")?;
    out.push_str(&lines);
    let taken: u64 = cpu::online_cpus().map(|cpu| cpu::interrupts(cpu).total()).sum();
    let switches: u64 = rt::executor().cpus().map(|cpu| cpu.polls).sum();
    let now = namespace::current().time.shown(CLOCK_BOOTTIME, rt::now());
    let booted = (rt::wall_clock().max(0) as u64).saturating_sub(now) / NANOS;
    let runnable: u32 = rt::executor().cpus().map(|cpu| cpu.runnable).sum();
    writeln!(
        out,
        "intr {taken}\nctxt {switches}\nbtime {booted}\nprocesses {}",
        task::table::forks()
    )?;
    writeln!(out, "procs_running {runnable}\nprocs_blocked 0")
}

pub(super) fn uptime(out: &mut String) -> Result {
    let centiseconds = |ns: u64| (ns / NANOS, ns / (NANOS / 100) % 100);
    let now = namespace::current().time.shown(CLOCK_BOOTTIME, rt::now());
    let (seconds, rest) = centiseconds(now);
    let (idle, idle_rest) = centiseconds(rt::executor().cpus().map(|cpu| cpu.idle_ns).sum());
    writeln!(out, "{seconds}.{rest:02} {idle}.{idle_rest:02}")
}

pub(super) fn version(out: &mut String) -> Result {
    uts::write_version(out)
}

pub(super) fn host_name(out: &mut String) -> Result {
    writeln!(out, "{}", String::from_utf8_lossy(&namespace::current().uts.host()))
}

pub(super) fn set_host_name(line: &[u8]) -> errno::Result<()> {
    namespace::current().uts.set_host(line)
}

pub(super) fn os_release(out: &mut String) -> Result {
    writeln!(out, "{}", uts::RELEASE)
}

pub(super) fn os_type(out: &mut String) -> Result {
    writeln!(out, "Linux")
}

pub(super) fn os_version(out: &mut String) -> Result {
    writeln!(out, "{}", uts::version())
}

pub(super) fn pid_max(out: &mut String) -> Result {
    writeln!(out, "{}", task::pid::PID_MAX)
}

pub(super) fn round_robin_slice(out: &mut String) -> Result {
    writeln!(out, "{}", executor::ROUND_ROBIN_SLICE / 1_000_000)
}

pub(super) fn real_time_period(out: &mut String) -> Result {
    writeln!(out, "{}", executor::PERIOD_NS / 1_000)
}

pub(super) fn real_time_runtime(out: &mut String) -> Result {
    writeln!(out, "{}", executor::RUNTIME_NS / 1_000)
}

pub(super) fn max_user_watches(out: &mut String) -> Result {
    writeln!(out, "{}", MAX_USER_WATCHES.get())
}

pub(super) fn set_max_user_watches(line: &[u8]) -> errno::Result<()> {
    let number = core::str::from_utf8(line)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    // A `long`, on Linux.
    let number = number.filter(|number| *number <= i64::MAX as u64);
    MAX_USER_WATCHES.set(number.ok_or(Errno::EINVAL)?);
    Ok(())
}

pub(super) fn max_map_count(out: &mut String) -> Result {
    writeln!(out, "{}", mm::space::MAX_AREAS)
}

/// Memory is promised freely and given when touched.
pub(super) fn overcommit_memory(out: &mut String) -> Result {
    writeln!(out, "1")
}

pub(super) fn entropy(out: &mut String) -> Result {
    writeln!(out, "256")
}

pub(super) fn uuid(out: &mut String) -> Result {
    let mut bytes = [0; 16];
    random::fill(&mut bytes);
    write_uuid(out, bytes)
}

pub(super) fn boot_id(out: &mut String) -> Result {
    static ID: spin::Once<[u8; 16]> = spin::Once::new();
    let mut fresh = [0; 16];
    random::fill(&mut fresh);
    write_uuid(out, *ID.call_once(|| fresh))
}

/// A random UUID (RFC 9562, version 4).
fn write_uuid(out: &mut String, mut bytes: [u8; 16]) -> Result {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        write!(out, "{byte:02x}")?;
    }
    writeln!(out)
}

pub(super) fn executor_cpus(out: &mut String) -> Result {
    writeln!(
        out,
        "cpu runnable timers polls steals pushes idle_ms idles user_entries preemptions timer_irqs ipis_in ipis_out ipis_saved"
    )?;
    rt::executor().cpus().try_for_each(|cpu| {
        writeln!(
            out,
            "{} {} {} {} {} {} {} {} {} {} {} {} {} {}",
            cpu.cpu,
            cpu.runnable,
            cpu.timers,
            cpu.polls,
            cpu.steals,
            cpu.pushes,
            cpu.idle_ns / 1_000_000,
            cpu.idles,
            cpu.user_entries,
            cpu.preemptions,
            cpu.timer_interrupts,
            cpu.ipis_received,
            cpu.ipis_sent,
            cpu.ipis_saved
        )
    })
}

pub(super) fn executor_tasks(out: &mut String) -> Result {
    writeln!(
        out,
        "name class activity cpu polls run_us user_us longest_us last_waker spawned_at"
    )?;
    rt::executor().tasks().try_for_each(|task| {
        write!(
            out,
            "{} {:?} {:?} {} {} {} {} {} ",
            task.name.as_str(),
            task.class,
            task.activity,
            task.cpu,
            task.polls,
            task.run_ns / 1000,
            task.user_ns / 1000,
            task.longest_poll_ns / 1000
        )?;
        match task.last_waker {
            Some(cpu) => write!(out, "{cpu} ")?,
            None => write!(out, "- ")?,
        }
        match task.spawned_at {
            Some(at) => writeln!(out, "{}:{}", at.file(), at.line()),
            None => writeln!(out, "-"),
        }
    })
}
