//! `/sys`: the machine's parts as files (`sysfs(5)`): its CPUs, its one node of memory, and its disks.
//!
//! Nothing is known of how the CPUs lie to each other: each shows as a core of its own in one package.

use alloc::{format, string::String, sync::Arc, vec, vec::Vec};
use core::fmt::{Error, Result, Write};

use super::{Kind, Tree, kind::Entries, plant};
use crate::{
    cpu,
    fs::{
        attributes::DeviceNumber,
        block_device::{self, BlockDevice},
        inode::Inode,
    },
    mm,
};

/// `SYSFS_MAGIC` (`linux/magic.h`).
const MAGIC: u32 = 0x6265_6572;

static TREE: Tree = Tree {
    magic: MAGIC,
    root: Kind::Directory(ROOT),
};

/// A new `/sys`.
pub fn new() -> Arc<dyn Inode> {
    plant(&TREE)
}

const ROOT: &[(&str, Kind)] = &[
    ("block", Kind::Numbered(0, links_to_disks)),
    ("class", Kind::Directory(CLASS)),
    ("dev", Kind::Directory(DEV)),
    ("devices", Kind::Directory(DEVICES)),
    ("kernel", Kind::Directory(KERNEL)),
];

const CLASS: &[(&str, Kind)] = &[("block", Kind::Numbered(0, links_of_class))];

const DEV: &[(&str, Kind)] = &[("block", Kind::Numbered(0, links_by_number))];

const DEVICES: &[(&str, Kind)] = &[
    ("system", Kind::Directory(SYSTEM)),
    ("virtual", Kind::Directory(VIRTUAL)),
];

const VIRTUAL: &[(&str, Kind)] = &[("block", Kind::Numbered(0, disks))];

const SYSTEM: &[(&str, Kind)] = &[("cpu", Kind::Numbered(0, cpus)), ("node", Kind::Directory(NODES))];

const NODES: &[(&str, Kind)] = &[
    ("has_cpu", Kind::Global(first_node)),
    ("has_memory", Kind::Global(first_node)),
    ("has_normal_memory", Kind::Global(first_node)),
    ("node0", Kind::Numbered(0, node)),
    ("online", Kind::Global(first_node)),
    ("possible", Kind::Global(first_node)),
];

const KERNEL: &[(&str, Kind)] = &[("mm", Kind::Directory(KERNEL_MM))];

const KERNEL_MM: &[(&str, Kind)] = &[("transparent_hugepage", Kind::Directory(HUGE_PAGES))];

const HUGE_PAGES: &[(&str, Kind)] = &[("enabled", Kind::Global(huge_pages))];

/// CPUs as a list (`0-3`).
fn cpu_list(out: &mut String) -> Result {
    ranges(cpu::online_cpus(), out)
}

/// Ascending numbers as ranges.
fn ranges(numbers: impl Iterator<Item = u32>, out: &mut String) -> Result {
    let mut range: Option<(u32, u32)> = None;
    let mut comma = "";
    let mut put = |range: Option<(u32, u32)>, out: &mut String| {
        let Some((first, last)) = range else { return Ok(()) };
        write!(out, "{comma}{first}")?;
        comma = ",";
        if last > first { write!(out, "-{last}") } else { Ok(()) }
    };
    for number in numbers {
        range = match range {
            Some((first, last)) if last + 1 == number => Some((first, number)),
            other => {
                put(other, out)?;
                Some((number, number))
            }
        };
    }
    put(range, out)?;
    writeln!(out)
}

/// CPUs as a mask: words of 32 bits, the highest first.
fn mask(mut bits: impl Iterator<Item = u32>, out: &mut String) -> Result {
    let all = bits
        .try_fold(0u64, |all, bit| Some(all | 1u64.checked_shl(bit)?))
        .ok_or(Error)?;
    if all >> 32 != 0 {
        write!(out, "{:08x},", all >> 32)?;
    }
    writeln!(out, "{:08x}", all as u32)
}

fn text(name: &str, kind: Kind) -> (String, Kind) {
    (name.into(), kind)
}

fn cpus(_: u64) -> Vec<(String, Kind)> {
    let mut entries = vec![
        text("kernel_max", Kind::Global(|out| writeln!(out, "{}", hal::MAX_CPUS - 1))),
        text("offline", Kind::Global(|out| writeln!(out))),
        text("online", Kind::Global(cpu_list)),
        text("possible", Kind::Global(cpu_list)),
        text("present", Kind::Global(cpu_list)),
    ];
    entries.extend(cpu::online_cpus().map(|cpu| (format!("cpu{cpu}"), Kind::Numbered(cpu.into(), one_cpu))));
    entries
}

fn one_cpu(cpu: u64) -> Vec<(String, Kind)> {
    let topology: Entries = topology;
    vec![text("topology", Kind::Numbered(cpu, topology))]
}

fn own_mask(cpu: u64, out: &mut String) -> Result {
    mask(core::iter::once(cpu as u32), out)
}

fn own_list(cpu: u64, out: &mut String) -> Result {
    writeln!(out, "{cpu}")
}

fn all_mask(_: u64, out: &mut String) -> Result {
    mask(cpu::online_cpus(), out)
}

fn all_list(_: u64, out: &mut String) -> Result {
    cpu_list(out)
}

fn topology(cpu: u64) -> Vec<(String, Kind)> {
    vec![
        text("core_cpus", Kind::About(cpu, own_mask)),
        text("core_cpus_list", Kind::About(cpu, own_list)),
        text("core_id", Kind::About(cpu, own_list)),
        text("core_siblings", Kind::About(cpu, all_mask)),
        text("core_siblings_list", Kind::About(cpu, all_list)),
        text("package_cpus", Kind::About(cpu, all_mask)),
        text("package_cpus_list", Kind::About(cpu, all_list)),
        text("physical_package_id", Kind::About(cpu, |_, out| writeln!(out, "0"))),
        text("thread_siblings", Kind::About(cpu, own_mask)),
        text("thread_siblings_list", Kind::About(cpu, own_list)),
    ]
}

/// Programs have none.
fn huge_pages(out: &mut String) -> Result {
    writeln!(out, "always madvise [never]")
}

fn first_node(out: &mut String) -> Result {
    writeln!(out, "0")
}

fn node(_: u64) -> Vec<(String, Kind)> {
    vec![
        text("cpulist", Kind::Global(cpu_list)),
        text("cpumap", Kind::Global(|out| mask(cpu::online_cpus(), out))),
        text("distance", Kind::Global(|out| writeln!(out, "10"))),
        text("meminfo", Kind::Global(node_memory)),
    ]
}

fn node_memory(out: &mut String) -> Result {
    let stats = mm::frame::stats();
    let kib = |frames: usize| frames * hal::PAGE_SIZE / 1024;
    for (name, frames) in [
        ("MemTotal", stats.total),
        ("MemFree", stats.free),
        ("MemUsed", stats.total - stats.free),
        ("FilePages", mm::reclaim::cached_pages()),
    ] {
        writeln!(out, "Node 0 {:<15}{:>8} kB", format!("{name}:"), kib(frames))?;
    }
    Ok(())
}

/// A device's number in one word, by which its files find it.
const fn word(number: DeviceNumber) -> u64 {
    (number.major as u64) << 32 | number.minor as u64
}

fn device(word: u64) -> Option<Arc<BlockDevice>> {
    block_device::by_number(DeviceNumber::new((word >> 32) as u32, word as u32))
}

/// The disk of a partition, or the disk itself.
fn disk_of(device: &BlockDevice) -> Option<Arc<BlockDevice>> {
    let disk = device.disk_name();
    block_device::by_name(disk)
}

/// The path below `/sys/devices` of a disk or partition.
fn place(device: &BlockDevice) -> String {
    match disk_of(device).filter(|_| device.partition().is_some()) {
        Some(disk) => format!("virtual/block/{}/{}", disk.name(), device.name()),
        None => format!("virtual/block/{}", device.name()),
    }
}

fn is_disk(device: &Arc<BlockDevice>) -> bool {
    device.partition().is_none()
}

fn disks(_: u64) -> Vec<(String, Kind)> {
    let all = block_device::all().into_iter().filter(is_disk);
    all.map(|disk| (disk.name().into(), Kind::Numbered(word(disk.number()), one_device)))
        .collect()
}

fn link(above: &str, word: u64) -> String {
    device(word).map_or_else(String::new, |device| format!("{above}devices/{}", place(&device)))
}

fn links_to_disks(_: u64) -> Vec<(String, Kind)> {
    let all = block_device::all().into_iter().filter(is_disk);
    all.map(|disk| {
        (
            disk.name().into(),
            Kind::LinkOf(word(disk.number()), |word| link("../", word)),
        )
    })
    .collect()
}

fn links_of_class(_: u64) -> Vec<(String, Kind)> {
    let all = block_device::all().into_iter();
    all.map(|device| {
        (
            device.name().into(),
            Kind::LinkOf(word(device.number()), |word| link("../../", word)),
        )
    })
    .collect()
}

fn links_by_number(_: u64) -> Vec<(String, Kind)> {
    let all = block_device::all().into_iter();
    all.map(|device| {
        let number = device.number();
        let name = format!("{}:{}", number.major, number.minor);
        (name, Kind::LinkOf(word(number), |word| link("../../", word)))
    })
    .collect()
}

/// Writes what a device says of itself.
fn of(word: u64, out: &mut String, say: impl FnOnce(&BlockDevice) -> u64) -> Result {
    let device = device(word).ok_or(Error)?;
    writeln!(out, "{}", say(&device))
}

fn one_device(word: u64) -> Vec<(String, Kind)> {
    let Some(device) = device(word) else {
        return Vec::new();
    };
    let mut entries = vec![
        text(
            "dev",
            Kind::About(word, |word, out| {
                let number = self::device(word).ok_or(Error)?.number();
                writeln!(out, "{}:{}", number.major, number.minor)
            }),
        ),
        text(
            "ro",
            Kind::About(word, |word, out| of(word, out, |device| device.is_read_only().into())),
        ),
        text(
            "size",
            Kind::About(word, |word, out| of(word, out, |device| device.size() / 512)),
        ),
        text("subsystem", Kind::LinkOf(word, subsystem)),
        text("uevent", Kind::About(word, event)),
    ];
    if let Some(partition) = device.partition() {
        entries.push(text(
            "partition",
            Kind::About(partition.number.into(), |number, out| writeln!(out, "{number}")),
        ));
        let start = device.volume().extent().start() / 512;
        entries.push(text("start", Kind::About(start, |start, out| writeln!(out, "{start}"))));
        return entries;
    }
    entries.push(text("queue", Kind::Numbered(word, queue)));
    entries.push(text("removable", Kind::About(word, |_, out| writeln!(out, "0"))));
    let parts = block_device::all()
        .into_iter()
        .filter(|part| part.partition().is_some() && part.disk_name() == device.name());
    entries.extend(parts.map(|part| {
        let entries: Entries = one_device;
        (part.name().into(), Kind::Numbered(self::word(part.number()), entries))
    }));
    entries
}

fn subsystem(word: u64) -> String {
    let is_partition = device(word).is_some_and(|device| device.partition().is_some());
    let above = if is_partition {
        "../../../../../"
    } else {
        "../../../../"
    };
    format!("{above}class/block")
}

fn event(word: u64, out: &mut String) -> Result {
    let device = device(word).ok_or(Error)?;
    let number = device.number();
    let kind = if device.partition().is_some() {
        "partition"
    } else {
        "disk"
    };
    writeln!(
        out,
        "MAJOR={}\nMINOR={}\nDEVNAME={}\nDEVTYPE={kind}",
        number.major,
        number.minor,
        device.name()
    )
}

fn block_size(word: u64, out: &mut String) -> Result {
    of(word, out, BlockDevice::block_size)
}

fn queue(word: u64) -> Vec<(String, Kind)> {
    vec![
        text("hw_sector_size", Kind::About(word, block_size)),
        text("logical_block_size", Kind::About(word, block_size)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(numbers: &[u32]) -> (String, String) {
        let (mut list, mut bits) = (String::new(), String::new());
        ranges(numbers.iter().copied(), &mut list).unwrap();
        mask(numbers.iter().copied(), &mut bits).unwrap();
        (list, bits)
    }

    #[test]
    fn cpus_are_ranges_and_masks() {
        assert_eq!(shown(&[]), ("\n".into(), "00000000\n".into()));
        assert_eq!(shown(&[0]), ("0\n".into(), "00000001\n".into()));
        assert_eq!(shown(&[0, 1, 2, 3]), ("0-3\n".into(), "0000000f\n".into()));
        assert_eq!(shown(&[0, 2, 3, 5]), ("0,2-3,5\n".into(), "0000002d\n".into()));
        assert_eq!(shown(&[1, 32, 33]), ("1,32-33\n".into(), "00000003,00000002\n".into()));
    }
}
