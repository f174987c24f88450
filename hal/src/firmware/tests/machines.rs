//! Whole machines, field by field.

use std::vec::Vec;

use super::{List, Machine, structures::*};
use crate::{
    addr::PhysAddr,
    boot_info::PhysRange,
    firmware::{
        Conduit, Ecam, GenericTimer, Gic, GicCpu, IoApic, Its, MsiFrame, Override, Register, Registers, Serial,
        SerialKind, SoftOff,
    },
};

const RESET: u32 = 1 << 10;
const HARDWARE_REDUCED: u32 = 1 << 20;

pub fn range(start: u64, length: u64) -> PhysRange {
    PhysRange {
        start: PhysAddr(start),
        end: PhysAddr(start + length),
    }
}

fn cpu(mpidr: u64, redistributor: Option<u64>) -> GicCpu {
    GicCpu { mpidr, redistributor }
}

/// QEMU's virt, but for the interrupt controller.
fn virt(structures: &[Vec<u8>]) -> Machine {
    let psci = 3_u16.to_le_bytes();
    let fadt = fadt(276, &[(112, &HARDWARE_REDUCED.to_le_bytes()), (129, &psci)]);
    let uart = gas(0, 32, 3, 0x900_0000);
    Machine::new()
        .with_fadt(fadt, b"")
        .with(b"APIC", 4, &madt(0, structures))
        .with(b"GTDT", 3, &gtdt(27, 0))
        .with(b"MCFG", 1, &mcfg(&[allocation(0x40_1000_0000, 0, 0, 255)]))
        .with(b"SPCR", 2, &spcr(3, &uart, 1 << 3, 0, 33))
        .with(
            b"DBG2",
            0,
            &dbg2(&[debug_device(0x8000, 3, &uart, 0x1000, b"\\_SB.COM0\0")]),
        )
        .finish(List::Xsdt)
}

pub fn virt_gicv2() -> Machine {
    virt(&[
        gicd(0x800_0000, 2),
        gicc(0, 1, 0x801_0000, 0, 80),
        gicc(1, 1, 0x801_0000, 0, 80),
        msi_frame(0, 0x802_0000, 1, 64, 80),
    ])
}

pub fn virt_gicv3() -> Machine {
    virt(&[
        gicd(0x800_0000, 3),
        gicc(0, 1, 0, 0, 82),
        gicc(1, 1, 0, 0, 82),
        gicc(0x100, 0, 0, 0, 82),
        gicc(0x101, 1 << 3, 0, 0, 82),
        gicr(0x80a_0000, 0xf6_0000),
        gicr(0x40_0000_0000, 0x400_0000),
        its(0, 0x808_0000),
    ])
}

pub fn parallels() -> Machine {
    let cpus = (0..4).map(|number| gicc(0x8000_0000 | number, 1, 0, 0x250_0000 + 0x2_0000 * number, 80));
    let mut structures: Vec<_> = cpus.collect();
    structures.push(gicd(0x201_0000, 0));
    structures.push(msi_frame(0, 0x225_0000, 1, 64, 53));
    let fadt = fadt(
        276,
        &[(112, &HARDWARE_REDUCED.to_le_bytes()), (129, &3_u16.to_le_bytes())],
    );
    let uart = gas(0, 32, 0, 0x211_0000);
    Machine::new()
        .with(b"APIC", 3, &madt(0, &structures))
        .with(
            b"DBG2",
            0,
            &dbg2(&[debug_device(0x8000, 3, &uart, 0x1000, b"\\_SB.COM1\0")]),
        )
        .with_fadt(
            fadt,
            // `_HID`, then `_CRS` with memory from 0x02110000 on and interrupt 32, level.
            b"\x08_HID\x0dARMH0011\0\x08_CRS\x11\x1a\x0a\x17\
              \x86\x09\0\x01\0\0\x11\x02\0\x10\0\0\x89\x06\0\x01\x01\x20\0\0\0\x79\0",
        )
        .with(b"GTDT", 2, &gtdt(27, 0))
        .with(b"MCFG", 1, &mcfg(&[allocation(0x230_0000, 0, 0, 0)]))
        .with(b"PCCT", 1, &[0; 12])
        .finish(List::Xsdt)
}

pub fn q35() -> Machine {
    let mut structures: Vec<_> = (0..4).map(|id| local_apic(id, 1)).collect();
    structures.push(local_apic(4, 0));
    structures.push(io_apic(0xfec0_0000, 0));
    structures.push(irq_override(0, 2, 0));
    structures.extend([5, 9, 10, 11].map(|irq| irq_override(irq, irq.into(), 0b1101)));
    structures.push(std::vec![4, 6, 0xff, 0, 0, 1]);
    let flags = (RESET | 0x84a5).to_le_bytes();
    let fadt = fadt(
        244,
        &[
            (64, &0x604_u32.to_le_bytes()),
            (76, &0x608_u32.to_le_bytes()),
            (91, &[4]),
            (108, &[0x32]),
            (109, &[2, 0]),
            (112, &flags),
            (116, &gas(1, 8, 0, 0xcf9)),
            (128, &[0xf]),
            (172, &gas(1, 16, 0, 0x604)),
            (208, &gas(1, 32, 0, 0x608)),
        ],
    );
    Machine::new()
        .with_fadt(fadt, &dsdt_with_soft_off(0, 0))
        .with(b"APIC", 3, &madt(0xfee0_0000, &structures))
        .with(b"HPET", 1, &hpet(&gas(0, 0, 0, 0xfed0_0000)))
        .with(b"MCFG", 1, &mcfg(&[allocation(0xb000_0000, 0, 0, 255)]))
        .with(b"WAET", 1, &[0; 4])
        .finish(List::Rsdt)
}

const VIRT_SERIAL: Serial = Serial {
    kind: SerialKind::Pl011,
    registers: Registers::Memory {
        range: PhysRange {
            start: PhysAddr(0x900_0000),
            end: PhysAddr(0x900_1000),
        },
        width: 4,
    },
    line: Some(33),
};

const LINE_27: GenericTimer = GenericTimer {
    virtual_line: 27,
    edge: false,
    active_low: false,
    always_on: false,
};

#[test]
fn virt_with_gicv2() {
    let found = virt_gicv2().read();
    assert_eq!(found.faults.as_slice(), []);
    assert_eq!(&found.name[..], "BOCHS BXPC");
    let gic = Gic {
        distributor: 0x800_0000,
        version: 2,
        cpu_interface: Some(0x801_0000),
        redistributors: [].into_iter().collect(),
        cpus: [cpu(0, None), cpu(1, None)].into_iter().collect(),
        msi_frames: [MsiFrame {
            id: 0,
            registers: 0x802_0000,
            first_line: 80,
            lines: 64,
            from_register: false,
        }]
        .into_iter()
        .collect(),
        its: [].into_iter().collect(),
    };
    assert_eq!(found.gic, Some(gic));
    assert_eq!(found.timer, Some(LINE_27));
    assert_eq!(found.serial, Some(VIRT_SERIAL));
    assert_eq!(found.psci, Some(Conduit::Hvc));
    assert!(found.hardware_reduced);
    let ecam = Ecam {
        registers: range(0x40_1000_0000, 0x1000_0000),
        segment: 0,
        first_bus: 0,
        last_bus: 255,
    };
    assert_eq!(found.ecam.as_slice(), [ecam]);
    assert_eq!((found.local_apic, found.hpet, found.reset), (None, None, None));
    assert_eq!(
        (found.soft_off, found.pm_timer, found.century_register),
        (None, None, 0)
    );
    assert!(found.apic_ids.is_empty() && found.io_apics.is_empty() && found.overrides.is_empty());
}

#[test]
fn virt_with_gicv3_and_its() {
    let found = virt_gicv3().read();
    assert_eq!(found.faults.as_slice(), []);
    let gic = found.gic.expect("a GIC");
    assert_eq!((gic.distributor, gic.version, gic.cpu_interface), (0x800_0000, 3, None));
    let regions = [range(0x80a_0000, 0xf6_0000), range(0x40_0000_0000, 0x400_0000)];
    assert_eq!(gic.redistributors.as_slice(), regions);
    assert_eq!(gic.cpus.as_slice(), [cpu(0, None), cpu(1, None)], "the enabled ones");
    let its = Its {
        id: 0,
        registers: 0x808_0000,
    };
    assert_eq!(gic.its.as_slice(), [its]);
    assert!(gic.msi_frames.is_empty());
}

#[test]
fn parallels_on_apple_silicon() {
    let found = parallels().read();
    assert_eq!(found.faults.as_slice(), []);
    let gic = found.gic.expect("a GIC");
    assert_eq!((gic.distributor, gic.version, gic.cpu_interface), (0x201_0000, 0, None));
    let redistributor = |number: u64| 0x250_0000 + 0x2_0000 * number;
    let cpus: Vec<_> = (0..4).map(|number| cpu(number, Some(redistributor(number)))).collect();
    assert_eq!(gic.cpus.as_slice(), cpus);
    let regions: Vec<_> = (0..4).map(|number| range(redistributor(number), 0x2_0000)).collect();
    assert_eq!(gic.redistributors.as_slice(), regions);
    assert_eq!(gic.redistributors[3].end.0, 0x258_0000);
    let frame = MsiFrame {
        id: 0,
        registers: 0x225_0000,
        first_line: 53,
        lines: 64,
        from_register: false,
    };
    assert_eq!(gic.msi_frames.as_slice(), [frame]);
    assert_eq!(frame.first_line + frame.lines - 1, 116);
    assert!(gic.its.is_empty());
    assert_eq!(found.timer, Some(LINE_27));
    let serial = Serial {
        kind: SerialKind::Pl011,
        registers: Registers::Memory {
            range: range(0x211_0000, 0x1000),
            width: 4,
        },
        line: Some(32),
    };
    assert_eq!(found.serial, Some(serial));
    let ecam = Ecam {
        registers: range(0x230_0000, 1 << 20),
        segment: 0,
        first_bus: 0,
        last_bus: 0,
    };
    assert_eq!(found.ecam.as_slice(), [ecam]);
    assert_eq!(found.psci, Some(Conduit::Hvc));
    assert!(found.hardware_reduced && !found.has_keyboard_controller);
    assert_eq!((found.hpet, found.reset, found.soft_off), (None, None, None));
}

#[test]
fn q35_through_an_rsdt() {
    let found = q35().read();
    assert_eq!(found.faults.as_slice(), []);
    assert_eq!(found.local_apic, Some(0xfee0_0000));
    assert_eq!(found.apic_ids.as_slice(), [0, 1, 2, 3]);
    let apic = IoApic {
        address: 0xfec0_0000,
        first_line: 0,
    };
    assert_eq!(found.io_apics.as_slice(), [apic]);
    let entry = |irq: u8, line, active_low| Override { irq, line, active_low };
    let high = Some(false);
    let overrides = [
        entry(0, 2, None),
        entry(5, 5, high),
        entry(9, 9, high),
        entry(10, 10, high),
        entry(11, 11, high),
    ];
    assert_eq!(found.overrides.as_slice(), overrides);
    let port = |port, width| Register::Port { port, width };
    assert_eq!(found.reset, Some((port(0xcf9, 1), 0xf)));
    assert_eq!(found.pm_timer, Some(port(0x608, 4)));
    let soft_off = SoftOff::PowerManagement {
        a: (port(0x604, 2), 0),
        b: None,
    };
    assert_eq!(found.soft_off, Some(soft_off));
    assert_eq!((found.century_register, found.hpet), (0x32, Some(0xfed0_0000)));
    assert_eq!(found.ecam[0].registers, range(0xb000_0000, 0x1000_0000));
    assert!(!found.hardware_reduced && found.gic.is_none() && found.timer.is_none());
    assert!(found.has_keyboard_controller);
    assert_eq!((found.psci, found.serial), (None, None));
}
