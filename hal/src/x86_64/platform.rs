//! The machine as ACPI describes it: CPUs, interrupt controllers, clocks, how to switch it off.

use acpi::{
    AcpiTables, HpetInfo,
    address::AddressSpace,
    sdt::{
        fadt::Fadt,
        madt::{Madt, MadtEntry},
    },
};
use arrayvec::{ArrayString, ArrayVec};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::{
    acpi_tables::DirectMapHandler,
    constants::DIRECT_MAP,
    registers::{halt_for_ever, in_u16, out_u8, out_u16, out_u32},
};
use crate::{MAX_CPUS, traits::Shutdown};

/// An I/O APIC.
#[derive(Clone, Copy, Debug)]
pub struct IoApic {
    /// Its registers.
    pub address: u64,
    /// The first global system interrupt it serves.
    pub first_line: u32,
}

/// An ISA interrupt that is not the global system interrupt of its number, or not as ISA has it.
#[derive(Clone, Copy, Debug)]
pub struct Override {
    /// The ISA interrupt.
    pub irq: u8,
    /// The global one.
    pub line: u32,
    /// The polarity, where stated.
    pub active_low: Option<bool>,
}

/// Ports and values of the ACPI way to switch the machine off (ACPI 6.5, 4.8.3.2 and 7.4.2).
#[derive(Clone, Copy, Debug)]
pub struct SoftOff {
    /// `PM1a_CNT`, and the `SLP_TYP` for it.
    pub a: (u16, u16),
    /// `PM1b_CNT` where there is one.
    pub b: Option<(u16, u16)>,
}

/// What the tables say.
#[derive(Debug, Default)]
pub struct Platform {
    /// The local APICs' address.
    pub local_apic: u64,
    /// APIC identifiers in MADT order; at most [`MAX_CPUS`].
    pub cpus: ArrayVec<u32, MAX_CPUS>,
    /// The I/O APICs.
    pub io_apics: ArrayVec<IoApic, 8>,
    /// Interrupt source overrides.
    pub overrides: ArrayVec<Override, 16>,
    /// The HPET's registers.
    pub hpet: Option<u64>,
    /// The power-management timer's port.
    pub pm_timer: Option<u16>,
    /// How to switch off.
    pub soft_off: Option<SoftOff>,
    /// Port and value of the reset register.
    pub reset: Option<(u16, u8)>,
    /// The CMOS register of the century, or 0.
    pub century_register: u8,
    /// The machine in words.
    pub name: ArrayString<64>,
}

static PLATFORM: spin::Once<Platform> = spin::Once::new();
static EXIT_DEVICE: AtomicBool = AtomicBool::new(false);

/// The machine; empty before [`discover`].
pub fn get() -> &'static Platform {
    PLATFORM.call_once(Platform::default)
}

/// Reads the tables. `rsdp` is the root pointer's physical address, `boot_apic` the calling CPU's APIC identifier,
/// which becomes CPU 0. Without usable tables the machine is one CPU with what PCs have always had.
pub fn discover(rsdp: u64, boot_apic: u32) {
    PLATFORM.call_once(|| {
        let mut platform = Platform {
            local_apic: 0xfee0_0000,
            ..Platform::default()
        };
        if rsdp != 0 {
            // SAFETY: the loader says that the root pointer is there, and the boot tables map it.
            if let Ok(tables) = unsafe { AcpiTables::from_rsdp(DirectMapHandler, rsdp as usize) } {
                read_madt(&tables, &mut platform);
                read_fadt(&tables, &mut platform);
                platform.hpet = HpetInfo::new(&tables).ok().map(|hpet| hpet.base_address as u64);
            }
        }
        match platform.cpus.iter().position(|&id| id == boot_apic) {
            Some(place) => platform.cpus[..=place].rotate_right(1),
            None => {
                platform.cpus.clear();
                platform.cpus.push(boot_apic);
            }
        }
        name(&mut platform.name);
        platform
    });
}

fn read_madt(tables: &AcpiTables<DirectMapHandler>, platform: &mut Platform) {
    const ENABLED: u32 = 1 << 0;
    let Some(madt) = tables.find_table::<Madt>() else {
        return;
    };
    platform.local_apic = u64::from(madt.get().local_apic_address);
    for entry in madt.get().entries() {
        match entry {
            MadtEntry::LocalApic(cpu) if cpu.flags & ENABLED != 0 => add_cpu(platform, cpu.apic_id.into()),
            MadtEntry::LocalX2Apic(cpu) if cpu.flags & ENABLED != 0 => add_cpu(platform, cpu.x2apic_id),
            MadtEntry::LocalApicAddressOverride(entry) => platform.local_apic = entry.local_apic_address,
            MadtEntry::IoApic(apic) => {
                let apic = IoApic {
                    address: u64::from(apic.io_apic_address),
                    first_line: apic.global_system_interrupt_base,
                };
                // More I/O APICs than there is room for serve lines that nobody here asks for.
                platform.io_apics.try_push(apic).unwrap_or(());
            }
            MadtEntry::InterruptSourceOverride(entry) => {
                // MPS INTI flags (ACPI 6.5, table 5.26): 1 active high, 3 active low, 0 as the bus has it.
                let active_low = match entry.flags & 3 {
                    1 => Some(false),
                    3 => Some(true),
                    _ => None,
                };
                let entry = Override {
                    irq: entry.irq,
                    line: entry.global_system_interrupt,
                    active_low,
                };
                platform.overrides.try_push(entry).unwrap_or(());
            }
            _ => {}
        }
    }
}

fn add_cpu(platform: &mut Platform, apic_id: u32) {
    if !platform.cpus.contains(&apic_id) {
        // A machine with more CPUs runs on the first MAX_CPUS.
        platform.cpus.try_push(apic_id).unwrap_or(());
    }
}

fn read_fadt(tables: &AcpiTables<DirectMapHandler>, platform: &mut Platform) {
    let Some(fadt) = tables.find_table::<Fadt>() else {
        return;
    };
    platform.century_register = fadt.century;
    let io = |address: acpi::address::GenericAddress| {
        (address.address_space == AddressSpace::SystemIo && address.address != 0)
            .then(|| u16::try_from(address.address).ok())
            .flatten()
    };
    platform.pm_timer = fadt.pm_timer_block().ok().flatten().and_then(io);
    if { fadt.flags }.supports_system_reset_via_fadt()
        && let Some(port) = fadt.reset_register().ok().and_then(io)
    {
        platform.reset = Some((port, fadt.reset_value));
    }
    let a = fadt.pm1a_control_block().ok().and_then(io);
    let b = fadt.pm1b_control_block().ok().flatten().and_then(io);
    if let Some(a) = a {
        let (type_a, type_b) = tables
            .dsdt()
            .ok()
            .and_then(|dsdt| soft_off_type(&dsdt))
            .unwrap_or((0, 0));
        platform.soft_off = Some(SoftOff {
            a: (a, type_a),
            b: b.map(|b| (b, type_b)),
        });
    }
}

/// `SLP_TYPa` and `SLP_TYPb` out of `Name (\_S5, Package () { a, b, … })`. The package is always literal, so the byte
/// code is searched for the name and the small constants behind it, without an interpreter.
fn soft_off_type(dsdt: &acpi::AmlTable) -> Option<(u16, u16)> {
    let start = (DIRECT_MAP + dsdt.phys_address as u64) as *const u8;
    // SAFETY: the table's own length, in memory that the boot tables map.
    let code = unsafe { core::slice::from_raw_parts(start, dsdt.length as usize) };
    let at = code.windows(5).position(|bytes| bytes == b"_S5_\x12")?;
    let package = code.get(at + 5..)?;
    // PkgLength: the lead byte's top two bits count the bytes that follow. Then the element count.
    let mut rest = package.get(usize::from(package.first()? >> 6) + 2..)?;
    let mut constant = || {
        let (value, used) = match *rest.first()? {
            0x0a => (*rest.get(1)?, 2),
            small @ (0 | 1) => (small, 1),
            _ => return None,
        };
        rest = rest.get(used..)?;
        Some(u16::from(value) & 7)
    };
    let a = constant()?;
    Some((a, constant().unwrap_or(a)))
}

/// `QEMU (emulated)` and so on, from CPUID.
fn name(name: &mut ArrayString<64>) {
    use raw_cpuid::Hypervisor;
    let words = match super::cpuid::hypervisor() {
        Some(Hypervisor::QEMU) => "PC, emulated by QEMU",
        Some(Hypervisor::KVM) => "PC, virtual by KVM",
        Some(_) => "PC, virtual",
        None => "PC",
    };
    // Fits: the longest is 20 bytes.
    name.try_push_str(words).unwrap_or(());
}

/// Notes that the command line promises QEMU's `isa-debug-exit` at its usual port.
pub(super) fn set_exit_device(on: bool) {
    EXIT_DEVICE.store(on, Relaxed);
}

/// Leaves the machine.
pub fn shutdown(how: Shutdown) -> ! {
    let platform = get();
    // SAFETY: the ports are those of the machine's own power management, and nothing is to run afterwards.
    unsafe {
        match how {
            Shutdown::PowerOff(status) => {
                if EXIT_DEVICE.load(Relaxed) {
                    // QEMU exits with status << 1 | 1.
                    out_u32(0xf4, status.into());
                }
                if let Some(soft_off) = platform.soft_off {
                    for (port, sleep_type) in [Some(soft_off.a), soft_off.b].into_iter().flatten() {
                        const SLEEP_ENABLE: u16 = 1 << 13;
                        let kept = in_u16(port) & !(7 << 10);
                        out_u16(port, kept | sleep_type << 10 | SLEEP_ENABLE);
                    }
                }
            }
            Shutdown::Reset => {
                if let Some((port, value)) = platform.reset {
                    out_u8(port, value);
                }
                // The reset control register of PC chip sets: full reset.
                out_u8(0xcf9, 0x02);
                out_u8(0xcf9, 0x06);
                // The keyboard controller.
                out_u8(0x64, 0xfe);
            }
        }
    }
    halt_for_ever()
}
