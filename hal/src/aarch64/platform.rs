//! The machine as firmware describes it, by a device tree or by ACPI, and firmware's own services.

use arrayvec::{ArrayString, ArrayVec};
use boot_info::BootInfo;
use smccc::{Hvc, Smc, psci};
use spin::Once;

use super::sysreg::read_sysreg;
use crate::MAX_CPUS;
use crate::boot_info::{MAX_PCI_HOSTS, MAX_PLATFORM_DEVICES, PciHost, PhysRange, PlatformDevice};
use crate::firmware::{Conduit, Fault, MsiFrame};
use crate::traits::Shutdown;

/// The interrupt controller.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is one, in a static")]
pub(super) enum GicDescription {
    V2 {
        distributor: PhysRange,
        cpu_interface: PhysRange,
    },
    V3 {
        distributor: PhysRange,
        redistributors: ArrayVec<PhysRange, MAX_CPUS>,
    },
}

/// A device: its registers, and its interrupt line where that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) registers: PhysRange,
    pub(super) line: Option<u32>,
}

/// What firmware says, as far as this crate wants to know.
#[derive(Default)]
pub(super) struct Description {
    pub(super) name: ArrayString<64>,
    /// `MPIDR_EL1` affinities in firmware's order.
    pub(super) cpus: ArrayVec<u64, MAX_CPUS>,
    pub(super) gic: Option<GicDescription>,
    /// Where devices' messages come in: GICv2m frames, and the registers of translation services.
    pub(super) msi_frames: ArrayVec<MsiFrame, 4>,
    pub(super) its: ArrayVec<u64, 4>,
    pub(super) timer_line: Option<u32>,
    pub(super) timer_frequency: Option<u32>,
    pub(super) uart: Option<Device>,
    /// A PL031.
    pub(super) clock: Option<PhysRange>,
    pub(super) psci: Option<Conduit>,
    /// The PCI hosts.
    pub(super) pci: ArrayVec<PciHost, MAX_PCI_HOSTS>,
    /// AHCI controllers that are on no bus.
    pub(super) ahci: ArrayVec<PlatformDevice, MAX_PLATFORM_DEVICES>,
    /// What is wrong with firmware's tables.
    pub(super) faults: ArrayVec<Fault, 8>,
}

/// The machine.
pub(super) struct Platform {
    pub(super) found: Description,
    /// `MPIDR_EL1` affinities, the boot CPU's first.
    pub(super) cpus: ArrayVec<u64, MAX_CPUS>,
    /// The emulator takes exit statuses by semihosting: the command line says `exit=semihosting`.
    exits_by_semihosting: bool,
}

static PLATFORM: Once<Platform> = Once::new();

/// The machine, once the boot code has read its description.
pub(super) fn platform() -> Option<&'static Platform> {
    PLATFORM.get()
}

/// The affinity fields of an `MPIDR_EL1` value.
pub(super) const fn affinity(mpidr: u64) -> u64 {
    mpidr & 0xff_00ff_ffff
}

/// Makes [`platform`] of what firmware says.
pub(super) fn init(info: &BootInfo, found: Description) -> &'static Platform {
    let boot_cpu = affinity(read_sysreg!("mpidr_el1"));
    let mut cpus: ArrayVec<u64, MAX_CPUS> = ArrayVec::new();
    cpus.push(boot_cpu);
    for &cpu in found.cpus.iter().filter(|&&cpu| cpu != boot_cpu) {
        let _ = cpus.try_push(cpu);
    }
    PLATFORM.call_once(|| Platform {
        exits_by_semihosting: info
            .command_line()
            .split_ascii_whitespace()
            .any(|word| word == "exit=semihosting"),
        cpus,
        found,
    })
}

/// Powers `mpidr` on, to start at the physical address `entry` with `argument` in `x0`.
pub(super) fn cpu_on(mpidr: u64, entry: u64, argument: u64) -> bool {
    let outcome = match platform().and_then(|platform| platform.found.psci) {
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
    let _ = match (platform.found.psci, how) {
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
