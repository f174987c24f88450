//! What the boot code hands to the kernel, whatever firmware started it.
//!
//! Two steps lead here. Whoever loads the kernel describes the machine in a [`BootInfo`], one versioned block of integers
//! and physical addresses. The boot code makes a [`Machine`] of it, and of firmware's tables: references that the kernel
//! can use.

pub use ::boot_info::{BootInfo, Framebuffer};

use arrayvec::ArrayVec;

use crate::{
    addr::PhysAddr,
    firmware::{Ecam, Fault},
};

/// A run of physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhysRange {
    /// The first byte.
    pub start: PhysAddr,
    /// One past the last byte.
    pub end: PhysAddr,
}

impl PhysRange {
    /// Bytes in the range.
    pub const fn len(&self) -> u64 {
        self.end.0.saturating_sub(self.start.0)
    }

    /// Whether the range holds nothing.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What the loader has put into memory for the kernel: the direct map shows it for ever, and nobody but the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Initramfs {
    /// Where it is; it need not begin or end at a page.
    pub range: PhysRange,
    /// Whether its whole pages may be used for something else once it has been read. They may not where firmware says that
    /// the memory is its own.
    pub reusable: bool,
}

/// Addresses that a PCI host passes on to its buses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PciWindow {
    /// As CPUs say them.
    pub cpu: PhysRange,
    /// What the buses say for the first one.
    pub bus: u64,
    /// For 64-bit registers alone.
    pub wide: bool,
}

/// A PCI host: configuration space in memory, and what may be assigned to devices that firmware has left without addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PciHost {
    /// Configuration space.
    pub ecam: Ecam,
    /// What may be assigned; none where firmware has assigned all.
    pub windows: ArrayVec<PciWindow, 4>,
}

/// A device that is on no bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlatformDevice {
    /// Its registers.
    pub registers: PhysRange,
    /// Its interrupt.
    pub line: u32,
}

/// Most devices of one kind that are on no bus.
pub const MAX_PLATFORM_DEVICES: usize = 2;

/// Most PCI hosts of a machine.
pub const MAX_PCI_HOSTS: usize = 8;

/// Hosts of ACPI's tables: firmware that has them has assigned addresses.
#[cfg(target_os = "none")]
pub(crate) fn assigned_hosts(ecam: &[Ecam]) -> ArrayVec<PciHost, MAX_PCI_HOSTS> {
    let host = |ecam: &Ecam| PciHost {
        ecam: *ecam,
        windows: ArrayVec::new(),
    };
    ecam.iter().map(host).take(MAX_PCI_HOSTS).collect()
}

/// One machine as found by the boot code. Built once, before any other CPU runs, and never changed.
#[derive(Debug)]
pub struct Machine {
    /// Memory the kernel may hand out: page-aligned, disjoint, ascending. Firmware, the kernel image, early page
    /// tables, the initramfs and the command line are already left out.
    pub usable: &'static [PhysRange],
    /// All RAM found, in bytes, the reserved parts included.
    pub total_ram: u64,
    /// The initramfs; `None` where the loader gave none.
    pub initramfs: Option<Initramfs>,
    /// The kernel command line, empty where the loader gave none.
    pub command_line: &'static str,
    /// CPUs that firmware describes as usable, the boot CPU included; at most [`MAX_CPUS`](crate::MAX_CPUS).
    pub cpus: u32,
    /// Seconds since 1970 at boot by the machine's clock chip, or 0 where there is none.
    pub wall_clock_seconds: u64,
    /// Random bytes from firmware or the CPU, to seed the kernel's generator; `None` where neither offers any.
    pub entropy: Option<[u8; 32]>,
    /// The machine in words (`linux,dummy-virt`, `QEMU Q35`), for the boot message.
    pub name: &'static str,
    /// What is wrong with firmware's tables, and was left out therefore.
    pub faults: &'static [Fault],
    /// Blocks of the interrupt controller's registers that firmware names and that do not answer.
    pub silent_blocks: usize,
    /// The PCI hosts.
    pub pci: &'static [PciHost],
    /// AHCI controllers that are on no bus. Their interrupts are levels.
    pub ahci: &'static [PlatformDevice],
    /// The screen that firmware set up, by its physical address; `None` where there is none.
    pub framebuffer: Option<Framebuffer>,
}
