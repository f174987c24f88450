//! GICv2: a memory-mapped CPU interface, at the same address for every CPU (Arm IHI 0048B.b).

use core::sync::atomic::{AtomicU8, Ordering};

use super::{FIRST_SHARED, PRIORITY_MASK, Registers, distributor};
use crate::MAX_CPUS;

/// CPU interface registers (table 4-2).
mod cpu {
    pub(super) const CONTROL: usize = 0x00;
    pub(super) const PRIORITY_MASK: usize = 0x04;
    pub(super) const ACKNOWLEDGE: usize = 0x0c;
    pub(super) const END: usize = 0x10;
}

/// `GICD_SGIR`: sends a software-generated interrupt to the CPUs in bits 23:16.
const SEND: usize = 0xf00;

pub(super) struct Gic {
    distributor: Registers,
    cpu: Registers,
    /// The bit that stands for each CPU in target lists, 0 until it has been set up.
    interfaces: [AtomicU8; MAX_CPUS],
}

impl Gic {
    pub(super) fn new(registers: Registers, cpu: Registers) -> Self {
        registers.write(distributor::CONTROL, 0);
        let lines = registers.lines();
        registers.quiet(FIRST_SHARED, lines);
        registers.write(distributor::CONTROL, 1);
        Self {
            distributor: registers,
            cpu,
            interfaces: [const { AtomicU8::new(0) }; MAX_CPUS],
        }
    }

    pub(super) fn init_cpu(&self, cpu: u32) {
        // The first 32 lines and their registers are banked. The target registers of private lines read as the caller's
        // bit.
        self.distributor.quiet(0, FIRST_SHARED);
        let mut interface = 0;
        for word in 0..8 {
            let targets = self.distributor.read(distributor::TARGETS + word * 4);
            interface |= targets | targets >> 8 | targets >> 16 | targets >> 24;
        }
        // A machine with one CPU may read zero there (IHI 0048B.b 4.3.12).
        let interface = if interface as u8 == 0 { 1 } else { interface as u8 };
        self.interfaces[cpu as usize].store(interface, Ordering::Release);
        self.cpu.write(cpu::PRIORITY_MASK, u32::from(PRIORITY_MASK));
        self.cpu.write(cpu::CONTROL, 1);
    }

    pub(super) fn acknowledge(&self) -> u32 {
        self.cpu.read(cpu::ACKNOWLEDGE)
    }

    pub(super) fn end(&self, raw: u32) {
        self.cpu.write(cpu::END, raw);
    }

    fn interface(&self, cpu: u32) -> u8 {
        self.interfaces
            .get(cpu as usize)
            .map_or(0, |bit| bit.load(Ordering::Acquire))
    }

    /// Routes a shared line to `cpu`, or leaves it where it is if that CPU is not up.
    pub(super) fn route(&self, line: u32, cpu: u32) {
        let interface = self.interface(cpu);
        if interface != 0 {
            self.distributor
                .write_byte(distributor::TARGETS + line as usize, interface);
        }
    }

    pub(super) fn send_ipi(&self, cpu: u32) {
        self.distributor
            .write(SEND, u32::from(self.interface(cpu)) << 16 | super::IPI);
    }
}
