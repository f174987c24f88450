//! The machine as ACPI describes it: CPUs, interrupt controllers, clocks, how to switch it off.

use arrayvec::{ArrayString, ArrayVec};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::{
    constants::DIRECT_MAP,
    registers::{halt_for_ever, in_u16, out_u8, out_u16, out_u32},
};
use crate::{
    MAX_CPUS,
    boot_info::{MAX_PCI_HOSTS, MAX_PLATFORM_DEVICES, PciHost, PlatformDevice, assigned_hosts},
    firmware::{self, Description, Fault, PhysMemory, Register},
    traits::Shutdown,
};

pub use crate::firmware::{IoApic, Override};

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
    /// There may be a keyboard controller.
    pub has_keyboard_controller: bool,
    /// The machine in words.
    pub name: ArrayString<64>,
    /// The PCI hosts, whose devices firmware has given their addresses.
    pub pci: ArrayVec<PciHost, MAX_PCI_HOSTS>,
    /// AHCI controllers that are on no bus.
    pub ahci: ArrayVec<PlatformDevice, MAX_PLATFORM_DEVICES>,
    /// What is wrong with the tables.
    pub faults: ArrayVec<Fault, 8>,
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
        // SAFETY: the boot tables map the first 4 GiB, and this CPU, the only one that runs, writes none of firmware's
        // memory before the description is read.
        let memory = unsafe { LowMemory::new() };
        if rsdp != 0
            && let Ok(description) = firmware::read(&memory, rsdp)
        {
            platform.take(description);
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

impl Platform {
    fn take(&mut self, description: Description) {
        if let Some(address) = description.local_apic {
            self.local_apic = address;
        }
        self.cpus = description.apic_ids;
        self.io_apics = description.io_apics;
        self.overrides = description.overrides;
        self.hpet = description.hpet;
        self.faults = description.faults;
        self.pci = assigned_hosts(&description.ecam);
        self.ahci = description.ahci;
        self.pm_timer = description.pm_timer.and_then(Register::port);
        self.century_register = description.century_register;
        self.has_keyboard_controller = description.has_keyboard_controller;
        let reset = description.reset;
        self.reset = reset.and_then(|(register, value)| Some((register.port()?, value)));
        self.soft_off = match description.soft_off {
            Some(firmware::SoftOff::PowerManagement { a, b }) => {
                let port = |(register, sleep_type): (Register, u8)| Some((register.port()?, sleep_type.into()));
                port(a).map(|a| SoftOff { a, b: b.and_then(port) })
            }
            _ => None,
        };
    }
}

/// The first 4 GiB through the direct map; firmware for machines of this kind keeps ACPI below that.
struct LowMemory(());

impl LowMemory {
    /// # Safety
    /// For as long as this value lives, the first 4 GiB are mapped at the direct map's place, and nobody writes what is
    /// read of them.
    const unsafe fn new() -> Self {
        Self(())
    }
}

impl PhysMemory for LowMemory {
    fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
        let end = address.checked_add(length as u64)?;
        (end <= 1 << 32).then(|| {
            // SAFETY: the promise made to `new`.
            unsafe { core::slice::from_raw_parts((DIRECT_MAP + address) as *const u8, length) }
        })
    }
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
