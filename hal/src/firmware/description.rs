//! What [`read`](super::read) finds.

use arrayvec::{ArrayString, ArrayVec};

use super::Fault;
use crate::{
    MAX_CPUS,
    boot_info::{MAX_PLATFORM_DEVICES, PhysRange, PlatformDevice},
};

/// One machine in the words of its tables. What they do not say is `None` or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// The maker's name and the maker's name for the machine, for the boot message.
    pub name: ArrayString<64>,
    /// The local APICs' address.
    pub local_apic: Option<u64>,
    /// Identifiers of the enabled local APICs and x2APICs, in the table's order.
    pub apic_ids: ArrayVec<u32, MAX_CPUS>,
    /// The I/O APICs.
    pub io_apics: ArrayVec<IoApic, 8>,
    /// Interrupt source overrides.
    pub overrides: ArrayVec<Override, 16>,
    /// The GIC.
    pub gic: Option<Gic>,
    /// The CPUs' timers.
    pub timer: Option<GenericTimer>,
    /// The port for the console: SPCR's, else DBG2's.
    pub serial: Option<Serial>,
    /// How PSCI is called, where there is any.
    pub psci: Option<Conduit>,
    /// The reset register, and what is written to it.
    pub reset: Option<(Register, u8)>,
    /// How the machine is switched off without PSCI.
    pub soft_off: Option<SoftOff>,
    /// The power-management timer.
    pub pm_timer: Option<Register>,
    /// The CMOS register of the century, or 0.
    pub century_register: u8,
    /// There may be a PC's keyboard controller.
    pub has_keyboard_controller: bool,
    /// The machine has none of a PC's fixed hardware.
    pub hardware_reduced: bool,
    /// PCI's memory-mapped configuration space.
    pub ecam: ArrayVec<Ecam, 8>,
    /// AHCI controllers that are on no bus.
    pub ahci: ArrayVec<PlatformDevice, MAX_PLATFORM_DEVICES>,
    /// The HPET's registers.
    pub hpet: Option<u64>,
    /// What is wrong with the tables.
    pub faults: ArrayVec<Fault, 8>,
}

/// An I/O APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoApic {
    /// Its registers.
    pub address: u64,
    /// The first global system interrupt it serves.
    pub first_line: u32,
}

/// An ISA interrupt that is not the global system interrupt of its number, or not as ISA has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Override {
    /// The ISA interrupt.
    pub irq: u8,
    /// The global one.
    pub line: u32,
    /// The polarity, where stated.
    pub active_low: Option<bool>,
}

/// Arm's interrupt controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gic {
    /// The distributor's registers.
    pub distributor: u64,
    /// The architecture's version; 0 where it is not stated, and the distributor is to be asked.
    pub version: u8,
    /// A GICv2's CPU interface.
    pub cpu_interface: Option<u64>,
    /// Where redistributors are, disjoint: the regions that are stated as such, else one region for each CPU that
    /// states its own.
    pub redistributors: ArrayVec<PhysRange, MAX_CPUS>,
    /// The enabled CPUs, in the table's order.
    pub cpus: ArrayVec<GicCpu, MAX_CPUS>,
    /// GICv2m frames.
    pub msi_frames: ArrayVec<MsiFrame, 4>,
    /// Interrupt translation services.
    pub its: ArrayVec<Its, 4>,
}

/// A CPU of a machine with a GIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GicCpu {
    /// The affinity fields of its `MPIDR_EL1`.
    pub mpidr: u64,
    /// Its own redistributor, where stated.
    pub redistributor: Option<u64>,
}

/// A GICv2m frame: a register for message-signalled interrupts to be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsiFrame {
    /// Its number.
    pub id: u32,
    /// Its registers.
    pub registers: u64,
    /// The first interrupt it raises.
    pub first_line: u32,
    /// How many it raises.
    pub lines: u32,
    /// The two numbers before are the frame's own register's to say, and not valid here.
    pub from_register: bool,
}

/// An interrupt translation service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Its {
    /// Its number.
    pub id: u32,
    /// Its registers.
    pub registers: u64,
}

/// Arm's generic timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GenericTimer {
    /// The virtual timer's interrupt, as the GIC numbers it.
    pub virtual_line: u32,
    /// It is edge-triggered, else level.
    pub edge: bool,
    /// It is active low, else high.
    pub active_low: bool,
    /// It runs on while its CPU sleeps.
    pub always_on: bool,
}

/// A serial port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serial {
    /// Who knows how to drive it.
    pub kind: SerialKind,
    /// Its registers.
    pub registers: Registers,
    /// Its interrupt: a global system interrupt, a PC's without I/O APIC, or the GIC's number.
    pub line: Option<u32>,
}

/// Kinds of serial ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SerialKind {
    /// Arm's PrimeCell UART.
    Pl011,
    /// The part of it that Arm's server base system architecture asks for.
    Sbsa,
    /// The same where only accesses of 32 bits work.
    Sbsa32,
    /// A 16550.
    Ns16550,
    /// Some other one, by Microsoft's number of it.
    Other(u16),
}

/// Where a serial port's registers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registers {
    /// In memory.
    Memory {
        /// All of them.
        range: PhysRange,
        /// Bytes of an access, and a 16550's distance from one register to the next: 1, 2 or 4.
        width: u8,
    },
    /// Eight I/O ports.
    Ports {
        /// The first one.
        first: u16,
    },
}

/// How firmware is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduit {
    /// By the instruction `hvc`.
    Hvc,
    /// By the instruction `smc`.
    Smc,
}

/// A single register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// In memory.
    Memory {
        /// Its address.
        address: u64,
        /// Bytes of an access: 1, 2, 4 or 8.
        width: u8,
    },
    /// An I/O port.
    Port {
        /// Its number.
        port: u16,
        /// Bytes of an access: 1, 2, 4 or 8.
        width: u8,
    },
}

impl Register {
    /// The I/O port, if it is one.
    pub const fn port(self) -> Option<u16> {
        match self {
            Self::Port { port, .. } => Some(port),
            Self::Memory { .. } => None,
        }
    }
}

/// The way to switch the machine off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SoftOff {
    /// `SLP_TYP` (bits 10 to 12) and `SLP_EN` (bit 13) of the power-management control registers (4.8.3.2).
    PowerManagement {
        /// `PM1a_CNT`, and the `SLP_TYP` for it.
        a: (Register, u8),
        /// `PM1b_CNT` where there is one.
        b: Option<(Register, u8)>,
    },
    /// `SLP_TYP` (bits 2 to 4) and `SLP_EN` (bit 5) of the sleep control register (4.8.3.7).
    SleepControl {
        /// The register.
        control: Register,
        /// The `SLP_TYP` for it.
        sleep_type: u8,
    },
}

/// Configuration space of some buses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ecam {
    /// That of the first bus to the last, 1 MiB each.
    pub registers: PhysRange,
    /// The segment group.
    pub segment: u16,
    /// The first bus.
    pub first_bus: u8,
    /// The last bus.
    pub last_bus: u8,
}
