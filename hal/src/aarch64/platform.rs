//! The machine as the device tree describes it, and its firmware.

use arrayvec::{ArrayString, ArrayVec};
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::standard::{NodeStandard, Status};
use dtoolkit::{Node, Property};
use smccc::{Hvc, Smc, psci};
use spin::Once;

use super::sysreg::read_sysreg;
use crate::MAX_CPUS;
use crate::addr::PhysAddr;
use crate::boot_info::PhysRange;
use crate::traits::Shutdown;

/// Most banks of RAM, and most pieces of it that are somebody's already.
pub(super) const MAX_RANGES: usize = 32;

/// How firmware is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conduit {
    Hvc,
    Smc,
}

/// The interrupt controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum GicDescription {
    V2 {
        distributor: PhysRange,
        cpu_interface: PhysRange,
    },
    V3 {
        distributor: PhysRange,
        redistributors: ArrayVec<PhysRange, 4>,
    },
}

/// A device: its registers and its interrupt line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) registers: PhysRange,
    pub(super) line: u32,
}

/// What the device tree says, as far as this crate wants to know.
pub(super) struct Platform {
    pub(super) machine: ArrayString<64>,
    pub(super) command_line: ArrayString<2048>,
    pub(super) ram: ArrayVec<PhysRange, MAX_RANGES>,
    pub(super) reserved: ArrayVec<PhysRange, MAX_RANGES>,
    /// Reserved, and not to be mapped either (`no-map`).
    pub(super) unmappable: ArrayVec<PhysRange, MAX_RANGES>,
    pub(super) initramfs: Option<PhysRange>,
    /// `MPIDR_EL1` affinities, the boot CPU's first.
    pub(super) cpus: ArrayVec<u64, MAX_CPUS>,
    pub(super) gic: GicDescription,
    pub(super) timer_line: u32,
    pub(super) timer_frequency: Option<u32>,
    pub(super) uart: Option<Device>,
    pub(super) clock: Option<PhysRange>,
    pub(super) entropy: Option<[u8; 32]>,
    psci: Option<Conduit>,
    /// The emulator takes exit statuses by semihosting: the command line says `exit=semihosting`.
    exits_by_semihosting: bool,
}

static PLATFORM: Once<Platform> = Once::new();

/// The machine, once the boot code has read its description.
pub(super) fn platform() -> Option<&'static Platform> {
    PLATFORM.get()
}

/// The affinity fields of an `MPIDR_EL1` value.
const fn affinity(mpidr: u64) -> u64 {
    mpidr & 0xff_00ff_ffff
}

/// Reads the device tree into [`platform`].
///
/// # Panics
/// When it lacks what no kernel can do without: RAM or an interrupt controller that is known here.
pub(super) fn discover(fdt: Fdt<'_>) -> &'static Platform {
    let root = fdt.root();
    let mut found = Found::default();
    found.walk(root, &[]);
    let mut reserved = found.reserved;
    for reservation in fdt.memory_reservations() {
        let _ = reserved.try_push(range(reservation.address(), reservation.size()));
    }
    let mut command_line = ArrayString::new();
    let mut initramfs = None;
    let mut entropy = Entropy::default();
    if let Some(chosen) = root.child("chosen") {
        let text = string(&chosen, "bootargs");
        command_line = text.unwrap_or_default();
        let edge = |name| number(&chosen, name);
        if let (Some(start), Some(end)) = (edge("linux,initrd-start"), edge("linux,initrd-end")) {
            initramfs = (start < end).then_some(PhysRange {
                start: PhysAddr(start),
                end: PhysAddr(end),
            });
        }
        for name in ["kaslr-seed", "rng-seed"] {
            if let Some(seed) = chosen.property(name) {
                entropy.mix(seed.value());
            }
        }
    }
    let boot_cpu = affinity(read_sysreg!("mpidr_el1"));
    let mut cpus: ArrayVec<u64, MAX_CPUS> = ArrayVec::new();
    cpus.push(boot_cpu);
    for &cpu in found.cpus.iter().filter(|&&cpu| cpu != boot_cpu) {
        let _ = cpus.try_push(cpu);
    }
    assert!(!found.ram.is_empty(), "the device tree describes no memory");
    PLATFORM.call_once(|| Platform {
        machine: string(&root, "compatible")
            .or_else(|| string(&root, "model"))
            .unwrap_or_default(),
        exits_by_semihosting: command_line
            .split_ascii_whitespace()
            .any(|word| word == "exit=semihosting"),
        command_line,
        ram: found.ram,
        reserved,
        unmappable: found.unmappable,
        initramfs,
        cpus,
        gic: found.gic.expect("the device tree describes a GICv2 or GICv3"),
        timer_line: found.timer_line.unwrap_or(27),
        timer_frequency: found.timer_frequency,
        uart: found.uart,
        clock: found.clock,
        entropy: entropy.bytes,
        psci: found.psci,
    })
}

/// Gathers seeds of any length into 32 bytes.
#[derive(Default)]
struct Entropy {
    bytes: Option<[u8; 32]>,
    at: usize,
}

impl Entropy {
    fn mix(&mut self, seed: &[u8]) {
        // QEMU zeroes a seed that it has no bytes for.
        if seed.iter().all(|&byte| byte == 0) {
            return;
        }
        let bytes = self.bytes.get_or_insert([0; 32]);
        for &byte in seed {
            bytes[self.at % 32] ^= byte;
            self.at += 1;
        }
    }
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

#[derive(Default)]
struct Found {
    ram: ArrayVec<PhysRange, MAX_RANGES>,
    reserved: ArrayVec<PhysRange, MAX_RANGES>,
    unmappable: ArrayVec<PhysRange, MAX_RANGES>,
    cpus: ArrayVec<u64, MAX_CPUS>,
    gic: Option<GicDescription>,
    timer_line: Option<u32>,
    timer_frequency: Option<u32>,
    uart: Option<Device>,
    clock: Option<PhysRange>,
    psci: Option<Conduit>,
}

impl Found {
    /// Looks at the children of `node`, whose addresses `bus` translates; no entry: they are the CPU's.
    fn walk(&mut self, node: FdtNode<'_>, bus: &[Translation]) {
        for child in node.children() {
            if !matches!(child.status(), Ok(Status::Okay)) {
                continue;
            }
            let name = child.name_without_address();
            let kind: Option<ArrayString<16>> = string(&child, "device_type");
            match (name, kind.as_deref()) {
                (_, Some("memory")) => self
                    .ram
                    .extend(registers(&child, bus).take(MAX_RANGES - self.ram.len())),
                ("reserved-memory", _) => self.reserve(child),
                ("cpus", _) => self.add_cpus(child),
                _ if child.is_compatible("simple-bus") => self.walk(child, &translations(child)),
                _ => self.device(&child, bus),
            }
        }
    }

    fn reserve(&mut self, node: FdtNode<'_>) {
        for child in node.children() {
            let list = if child.property("no-map").is_some() {
                &mut self.unmappable
            } else {
                &mut self.reserved
            };
            list.extend(registers(&child, &[]).take(MAX_RANGES - list.len()));
        }
    }

    fn add_cpus(&mut self, node: FdtNode<'_>) {
        for cpu in node.children().filter(|cpu| cpu.name_without_address() == "cpu") {
            if !matches!(cpu.status(), Ok(Status::Okay)) {
                continue;
            }
            if let Some(mpidr) = number(&cpu, "reg") {
                let _ = self.cpus.try_push(affinity(mpidr));
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
        } else if is(&["arm,gic-v3"]) {
            let regions = number(node, "#redistributor-regions").unwrap_or(1) as usize;
            if let Some(distributor) = blocks.next() {
                let redistributors = blocks.take(regions.min(4)).collect();
                self.gic = Some(GicDescription::V3 {
                    distributor,
                    redistributors,
                });
            }
        } else if is(&["arm,armv8-timer", "arm,armv7-timer"]) {
            // Secure, non-secure, virtual, hypervisor.
            self.timer_line = line(node, 2);
            self.timer_frequency = number(node, "clock-frequency").and_then(|hz| u32::try_from(hz).ok());
        } else if is(&["arm,pl011"]) && self.uart.is_none() {
            if let (Some(registers), Some(line)) = (blocks.next(), line(node, 0)) {
                self.uart = Some(Device { registers, line });
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

/// Powers `mpidr` on, to start at the physical address `entry` with `argument` in `x0`.
pub(super) fn cpu_on(mpidr: u64, entry: u64, argument: u64) -> bool {
    let outcome = match platform().and_then(|platform| platform.psci) {
        Some(Conduit::Hvc) => psci::cpu_on::<Hvc>(mpidr, entry, argument),
        Some(Conduit::Smc) => psci::cpu_on::<Smc>(mpidr, entry, argument),
        None => return false,
    };
    outcome.is_ok()
}

/// Leaves the machine by whatever it offers; returns if nothing did it.
pub(super) fn shutdown(how: Shutdown) {
    let Some(platform) = platform() else { return };
    if let Shutdown::PowerOff(status) = how
        && platform.exits_by_semihosting
    {
        semihosting_exit(status);
    }
    let _ = match (platform.psci, how) {
        (Some(Conduit::Hvc), Shutdown::PowerOff(_)) => psci::system_off::<Hvc>(),
        (Some(Conduit::Smc), Shutdown::PowerOff(_)) => psci::system_off::<Smc>(),
        (Some(Conduit::Hvc), Shutdown::Reset) => psci::system_reset::<Hvc>(),
        (Some(Conduit::Smc), Shutdown::Reset) => psci::system_reset::<Smc>(),
        (None, _) => Ok(()),
    };
}

/// `SYS_EXIT_EXTENDED` (Arm semihosting 2.0, section 5.7): reason `ADP_Stopped_ApplicationExit` and the status.
fn semihosting_exit(status: u8) {
    const EXIT_EXTENDED: u64 = 0x20;
    let block = [0x20026_u64, u64::from(status)];
    // SAFETY: the debugger reads the block and ends the machine. The command line has promised that there is one.
    unsafe {
        core::arch::asm!("hlt #0xf000", inout("x0") EXIT_EXTENDED => _, in("x1") &raw const block, options(nostack));
    }
}
