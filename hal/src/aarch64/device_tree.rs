//! The machine as a flattened device tree describes it (Devicetree Specification 0.4, and the kernel bindings of the
//! devices named).
//!
//! It is read twice: once for memory and what the loader says ([`boot_info`]), which is what the kernel's tables are built
//! from, and once, with those in use, for the devices ([`describe`]).

use arrayvec::{ArrayString, ArrayVec};
use boot_info::{BootInfo, MemoryKind, Range};
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::standard::{NodeStandard, Status};
use dtoolkit::{Node, Property};

use super::platform::{Description, Device, GicDescription, affinity};
use crate::addr::PhysAddr;
use crate::boot_info::{PciHost, PciWindow, PhysRange};
use crate::firmware::{Conduit, Ecam, MsiFrame};

/// Most register blocks of a node.
const MAX_RANGES: usize = 32;

/// What the tree says of memory, and what the loader left in `/chosen`.
pub(super) fn boot_info(fdt: &Fdt<'_>, tree: Range) -> BootInfo {
    let mut info = BootInfo::EMPTY;
    info.device_tree = tree;
    for child in fdt.root().children().filter(is_okay) {
        let kind: Option<ArrayString<16>> = string(&child, "device_type");
        if kind.as_deref() == Some("memory") {
            for range in registers(&child, &[]) {
                info.memory.push(run(range), MemoryKind::Usable);
            }
        } else if child.name_without_address() == "reserved-memory" {
            reserve(child, &mut info);
        }
    }
    for reservation in fdt.memory_reservations() {
        let range = Range::new(reservation.address(), reservation.size());
        info.memory.push(range, MemoryKind::Tables);
    }
    if let Some(chosen) = fdt.root().child("chosen") {
        read_chosen(&chosen, &mut info);
    }
    info
}

fn run(range: PhysRange) -> Range {
    Range {
        start: range.start.0,
        end: range.end.0,
    }
}

fn reserve(node: FdtNode<'_>, info: &mut BootInfo) {
    for child in node.children().filter(is_okay) {
        let kind = if child.property("no-map").is_some() {
            MemoryKind::Firmware
        } else {
            MemoryKind::Tables
        };
        for range in registers(&child, &[]) {
            info.memory.push(run(range), kind);
        }
    }
}

fn read_chosen(chosen: &FdtNode<'_>, info: &mut BootInfo) {
    let text: ArrayString<{ boot_info::COMMAND_LINE }> = string(chosen, "bootargs").unwrap_or_default();
    info.set_command_line(&text);
    let edge = |name| number(chosen, name);
    if let (Some(start), Some(end)) = (edge("linux,initrd-start"), edge("linux,initrd-end")) {
        info.initramfs = Range { start, end };
    }
    for name in ["kaslr-seed", "rng-seed"] {
        if let Some(seed) = chosen.property(name) {
            info.mix_entropy(seed.value());
        }
    }
}

/// What the tree says of devices.
pub(super) fn describe(fdt: &Fdt<'_>) -> Description {
    let root = fdt.root();
    let mut found = Description {
        name: string(&root, "compatible")
            .or_else(|| string(&root, "model"))
            .unwrap_or_default(),
        ..Description::default()
    };
    found.walk(root, &[]);
    found
}

fn is_okay(node: &FdtNode<'_>) -> bool {
    matches!(node.status(), Ok(Status::Okay))
}

fn range(start: u64, length: u64) -> PhysRange {
    PhysRange {
        start: PhysAddr(start),
        end: PhysAddr(start.saturating_add(length)),
    }
}

/// The first string of a property, cut to fit.
fn string<const N: usize>(node: &FdtNode<'_>, name: &str) -> Option<ArrayString<N>> {
    let property = node.property(name)?;
    let bytes = property.value().split(|&byte| byte == 0).next()?;
    let mut text = ArrayString::new();
    for c in core::str::from_utf8(bytes).ok()?.chars() {
        if text.try_push(c).is_err() {
            break;
        }
    }
    Some(text)
}

/// A property of one or two cells.
fn number(node: &FdtNode<'_>, name: &str) -> Option<u64> {
    let property = node.property(name)?;
    let value = property.value();
    match value.len() {
        4 => Some(cell(value, 0)?.into()),
        8 => Some(u64::from(cell(value, 0)?) << 32 | u64::from(cell(value, 1)?)),
        _ => None,
    }
}

/// A big-endian cell of a property's value.
fn cell(value: &[u8], index: usize) -> Option<u32> {
    value
        .get(index * 4..)?
        .first_chunk()
        .map(|&bytes| u32::from_be_bytes(bytes))
}

/// The line that the `index`-th specifier of `interrupts` names, by the GIC's binding: kind, number, flags.
fn line(node: &FdtNode<'_>, index: usize) -> Option<u32> {
    let property = node.property("interrupts")?;
    let value = property.value();
    let number = cell(value, index * 3 + 1)?;
    match cell(value, index * 3)? {
        0 => number.checked_add(32),
        1 => number.checked_add(16),
        _ => None,
    }
}

/// One `ranges` entry of a bus: child address, parent address, length.
type Translation = (u64, u64, u64);

impl Description {
    /// Looks at the children of `node`, whose addresses `bus` translates; no entry: they are the CPU's.
    fn walk(&mut self, node: FdtNode<'_>, bus: &[Translation]) {
        for child in node.children().filter(is_okay) {
            match child.name_without_address() {
                "cpus" => self.add_cpus(child),
                _ if child.is_compatible("simple-bus") => self.walk(child, &translations(child)),
                _ => self.device(&child, bus),
            }
        }
    }

    fn add_cpus(&mut self, node: FdtNode<'_>) {
        let is_cpu = |node: &FdtNode<'_>| node.name_without_address() == "cpu" && is_okay(node);
        for cpu in node.children().filter(is_cpu) {
            if let Some(mpidr) = number(&cpu, "reg") {
                let _ = self.cpus.try_push(affinity(mpidr));
            }
        }
    }

    /// A GIC's children: where devices' messages come in.
    fn add_message_frames(&mut self, gic: &FdtNode<'_>) {
        let bus = translations(*gic);
        for child in gic.children().filter(is_okay) {
            let Some(registers) = registers(&child, &bus).next() else {
                continue;
            };
            if child.is_compatible("arm,gic-v2m-frame") {
                let stated = (number(&child, "arm,msi-base-spi"), number(&child, "arm,msi-num-spis"));
                let (first_line, lines) = match stated {
                    (Some(first), Some(lines)) => (first as u32, lines as u32),
                    _ => (0, 0),
                };
                let frame = MsiFrame {
                    id: self.msi_frames.len() as u32,
                    registers: registers.start.0,
                    first_line,
                    lines,
                    from_register: lines == 0,
                };
                let _ = self.msi_frames.try_push(frame);
            } else if child.is_compatible("arm,gic-v3-its") {
                let _ = self.its.try_push(registers.start.0);
            }
        }
    }

    fn device(&mut self, node: &FdtNode<'_>, bus: &[Translation]) {
        let is = |names: &[&str]| names.iter().any(|name| node.is_compatible(name));
        let mut blocks = registers(node, bus);
        if is(&[
            "arm,cortex-a15-gic",
            "arm,gic-400",
            "arm,cortex-a7-gic",
            "arm,cortex-a9-gic",
        ]) {
            if let (Some(distributor), Some(cpu_interface)) = (blocks.next(), blocks.next()) {
                self.gic = Some(GicDescription::V2 {
                    distributor,
                    cpu_interface,
                });
            }
            self.add_message_frames(node);
        } else if is(&["arm,gic-v3"]) {
            let regions = number(node, "#redistributor-regions").unwrap_or(1) as usize;
            if let Some(distributor) = blocks.next() {
                let redistributors = blocks.take(regions.min(4)).collect();
                self.gic = Some(GicDescription::V3 {
                    distributor,
                    redistributors,
                });
            }
            self.add_message_frames(node);
        } else if is(&["arm,armv8-timer", "arm,armv7-timer"]) {
            // Secure, non-secure, virtual, hypervisor.
            self.timer_line = line(node, 2);
            self.timer_frequency = number(node, "clock-frequency").and_then(|hz| u32::try_from(hz).ok());
        } else if is(&["arm,pl011"]) && self.uart.is_none() {
            if let Some(registers) = blocks.next() {
                let line = line(node, 0);
                self.uart = Some(Device { registers, line });
            }
        } else if is(&["pci-host-ecam-generic"]) {
            if let Some(registers) = blocks.next() {
                self.pci.extend(
                    pci_host(node, registers)
                        .into_iter()
                        .take(self.pci.remaining_capacity()),
                );
            }
        } else if is(&["arm,pl031"]) {
            self.clock = blocks.next();
        } else if is(&["arm,psci-1.0", "arm,psci-0.2"]) {
            let method: Option<ArrayString<8>> = string(node, "method");
            self.psci = match method.as_deref() {
                Some("hvc") => Some(Conduit::Hvc),
                Some("smc") => Some(Conduit::Smc),
                _ => None,
            };
        }
    }
}

/// A generic PCI host (its binding, and that of PCI buses, IEEE Std 1275): configuration space and windows.
fn pci_host(node: &FdtNode<'_>, registers: PhysRange) -> Option<PciHost> {
    const MEMORY_32: u32 = 2;
    const MEMORY_64: u32 = 3;
    let (buses, ranges) = (node.property("bus-range"), node.property("ranges"));
    let buses = buses.and_then(|property| Some((cell(property.value(), 0)?, cell(property.value(), 1)?)));
    let (first_bus, last_bus) = buses.unwrap_or((0, 255));
    let ecam = Ecam {
        registers,
        segment: number(node, "linux,pci-domain").unwrap_or(0) as u16,
        first_bus: u8::try_from(first_bus).ok()?,
        last_bus: u8::try_from(last_bus).ok()?,
    };
    let mut windows = ArrayVec::new();
    // Each: three cells of the bus's, of which the first is what kind it is, two of the CPU's, two of length.
    for window in ranges.iter().flat_map(|property| property.value().chunks_exact(7 * 4)) {
        let two = |at| Some(u64::from(cell(window, at)?) << 32 | u64::from(cell(window, at + 1)?));
        let kind = cell(window, 0)? >> 24 & 3;
        if matches!(kind, MEMORY_32 | MEMORY_64) {
            let window = PciWindow {
                cpu: range(two(3)?, two(5)?),
                bus: two(1)?,
                wide: kind == MEMORY_64,
            };
            let _ = windows.try_push(window);
        }
    }
    Some(PciHost { ecam, windows })
}

/// The `reg` blocks of a node, translated to CPU addresses; those that no window shows are left out.
fn registers<'a>(node: &FdtNode<'a>, bus: &[Translation]) -> impl Iterator<Item = PhysRange> + use<'a> {
    let mut blocks: ArrayVec<PhysRange, MAX_RANGES> = ArrayVec::new();
    if let Ok(Some(list)) = node.reg() {
        for block in list {
            let (Ok(start), Ok(length)) = (block.address::<u64>(), block.size::<u64>()) else {
                continue;
            };
            let Some(start) = translate(start, bus) else { continue };
            if blocks.try_push(range(start, length)).is_err() {
                break;
            }
        }
    }
    blocks.into_iter()
}

fn translate(address: u64, bus: &[Translation]) -> Option<u64> {
    if bus.is_empty() {
        return Some(address);
    }
    bus.iter().find_map(|&(child, parent, length)| {
        let offset = address.checked_sub(child)?;
        (offset < length).then(|| parent.checked_add(offset))?
    })
}

/// A bus's windows; none for an empty `ranges`, which means addresses pass unchanged.
fn translations(node: FdtNode<'_>) -> ArrayVec<Translation, 8> {
    let mut windows = ArrayVec::new();
    if let Ok(Some(list)) = node.ranges() {
        for window in list {
            let (Ok(child), Ok(parent), Ok(length)) =
                (window.child_bus_address(), window.parent_bus_address(), window.length())
            else {
                continue;
            };
            if windows.try_push((child, parent, length)).is_err() {
                break;
            }
        }
    }
    windows
}
