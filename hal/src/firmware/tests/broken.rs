//! The way to the tables, and the MADT, with one thing wrong each.

use std::vec::Vec;

use super::{
    BASE, List, Machine, RSDP, fault,
    machines::{parallels, q35, range, virt_gicv2, virt_gicv3},
    read,
    structures::*,
};
use crate::{
    MAX_CPUS,
    firmware::{Error, Reason},
};

fn with_madt(structures: &[Vec<u8>]) -> Machine {
    Machine::new().with(b"APIC", 5, &madt(0, structures)).finish(List::Xsdt)
}

#[test]
fn without_a_root_pointer_there_is_nothing() {
    let machine = q35();
    for address in [0, 1, BASE - 1, BASE + machine.ram.len() as u64 - 19, u64::MAX] {
        assert_eq!(
            super::super::read(&machine, address),
            Err(Error::Unreadable),
            "{address:#x}"
        );
    }
    assert_eq!(super::super::read(&machine, RSDP + 16), Err(Error::Signature));
    let mut machine = q35();
    machine.ram[9] ^= 1;
    assert_eq!(read(&machine), Err(Error::Checksum));
}

#[test]
fn revision_0_has_no_xsdt() {
    let mut machine = q35();
    machine.write(RSDP + 24, &0xdead_beef_u64.to_le_bytes());
    assert_eq!(machine.faults(), []);
    assert_eq!(machine.read().apic_ids.len(), 4);
}

#[test]
fn the_rsdt_stands_in_for_a_broken_xsdt() {
    let machine = || Machine::new().with(b"GTDT", 2, &gtdt(27, 0)).finish(List::Both);
    assert_eq!(machine().faults(), []);
    let broken = |break_it: &dyn Fn(&mut Machine), expected: &[_]| {
        let mut machine = machine();
        break_it(&mut machine);
        assert_eq!(machine.faults(), expected);
        assert!(machine.read().timer.is_some());
    };
    let extension = |reason| [fault(b"RSDP", reason)];
    broken(&|machine| machine.ram[32] ^= 1, &extension(Reason::Checksum));
    for length in [0_u32, 35, 4097, u32::MAX] {
        let set = |machine: &mut Machine| {
            machine.write(RSDP + 20, &length.to_le_bytes());
            machine.fix_root();
        };
        broken(&set, &extension(Reason::Length));
    }
    let lead_to = |address: u64| {
        move |machine: &mut Machine| {
            machine.write(RSDP + 24, &address.to_le_bytes());
            machine.fix_root();
        }
    };
    broken(&lead_to(0), &[]);
    broken(&lead_to(u64::MAX), &[fault(b"XSDT", Reason::Unreadable)]);
    broken(&lead_to(RSDP), &[fault(b"XSDT", Reason::Signature)]);
    let damage = |machine: &mut Machine| {
        let xsdt = machine.address(b"XSDT");
        machine.write(xsdt + 36, &[0]);
    };
    broken(&damage, &[fault(b"XSDT", Reason::Checksum)]);
}

#[test]
fn without_any_list_there_is_nothing() {
    let mut machine = q35();
    let rsdt = machine.address(b"RSDT");
    machine.write(rsdt + 9, &[0]);
    assert_eq!(read(&machine), Err(Error::List));
    let mut machine = virt_gicv3();
    let xsdt = machine.address(b"XSDT");
    machine.write(xsdt, b"XSDX");
    assert_eq!(read(&machine), Err(Error::List));
}

#[test]
fn a_table_with_a_wrong_checksum_or_length_is_left_out() {
    for (signature, reason) in [(b"APIC", Reason::Checksum), (b"GTDT", Reason::Length)] {
        let mut machine = virt_gicv3();
        let address = machine.address(signature);
        match reason {
            Reason::Checksum => machine.write(address + 40, &[0x55]),
            _ => machine.write(address + 4, &35_u32.to_le_bytes()),
        }
        assert_eq!(machine.faults(), [fault(signature, reason)]);
        let found = machine.read();
        assert_eq!(found.gic.is_none(), signature == b"APIC");
        assert_eq!(found.timer.is_none(), signature == b"GTDT");
        assert!(found.serial.is_some(), "the others are read");
    }
    // One length that leaves memory, and one that no table has.
    for (length, reason) in [(0x8_0000_u32, Reason::Unreadable), (u32::MAX, Reason::Length)] {
        let machine = q35().patch(b"HPET", 4, &length.to_le_bytes());
        assert_eq!(machine.faults(), [fault(b"HPET", reason)]);
        assert_eq!(machine.read().hpet, None);
    }
}

#[test]
fn a_whole_table_is_found_behind_a_broken_one() {
    let mut machine = Machine::new();
    let first = machine.table(b"GTDT", 2, &gtdt(30, 0));
    let mut machine = machine.with(b"GTDT", 2, &gtdt(27, 1)).finish(List::Xsdt);
    machine.write(first + 40, &[0x55]);
    assert_eq!(machine.faults(), [fault(b"GTDT", Reason::Checksum)]);
    let timer = machine.read().timer.expect("a timer");
    assert!(timer.virtual_line == 27 && timer.edge && !timer.active_low);
}

#[test]
fn lists_in_circles_end() {
    // The XSDT names itself, the root pointer, one table many times, and places without memory.
    let mut machine = parallels();
    machine.tables.pop();
    let at = BASE + machine.ram.len().next_multiple_of(16) as u64;
    let madt = machine.address(b"APIC");
    let strange = [
        at,
        RSDP,
        madt,
        madt,
        madt,
        at,
        0,
        1,
        u64::MAX,
        u64::MAX - 2,
        BASE - 2,
        madt,
    ];
    machine.tables.extend(strange.map(|address| (*b"what", address)));
    let machine = machine.finish(List::Xsdt);
    assert_eq!(machine.address(b"XSDT"), at);
    assert_eq!(machine.read(), parallels().read());

    // More entries than any machine has tables, all of one broken one.
    let mut machine = Machine::new();
    let broken = machine.table(b"APIC", 1, &madt_of_nothing());
    machine.write(broken + 40, &[0x55]);
    machine.tables = std::vec![(*b"APIC", broken); 5000];
    let machine = machine.with(b"GTDT", 2, &gtdt(27, 0)).finish(List::Xsdt);
    assert_eq!(machine.faults(), [fault(b"APIC", Reason::Checksum)]);
    assert_eq!(machine.read().timer, None, "past the last entry that is looked at");
}

fn madt_of_nothing() -> Vec<u8> {
    madt(0, &[])
}

#[test]
fn a_structure_without_an_end_ends_the_walk() {
    let broken: [&[u8]; 5] = [&[0, 0], &[0, 1], &[0], &[0x80, 0, 0, 0], &[0xb, 81, 0]];
    for bytes in broken {
        let machine = with_madt(&[local_apic(3, 1), bytes.to_vec()]);
        assert_eq!(machine.faults(), [fault(b"APIC", Reason::Entry)], "{bytes:?}");
        assert_eq!(machine.read().apic_ids.as_slice(), [3], "{bytes:?}");
    }
    let machine = with_madt(&[std::vec![0x7f, 0, 0], local_apic(3, 1)]);
    assert!(machine.read().apic_ids.is_empty());
}

#[test]
fn a_structure_too_short_for_its_fields_is_passed_over() {
    let short = |whole: Vec<u8>, length: usize| {
        let mut bytes = whole;
        bytes.truncate(length);
        bytes[1] = length as u8;
        bytes
    };
    // The GICC of ACPI 5.0 has no MPIDR.
    let machine = with_madt(&[
        short(local_apic(1, 1), 7),
        short(x2apic(2, 1), 11),
        short(io_apic(0xfec0_0000, 0), 11),
        short(irq_override(1, 1, 0), 9),
        short(gicc(5, 1, 0, 0, 76), 40),
        short(gicd(0x100_0000, 3), 20),
        short(gicr(0x200_0000, 0x2_0000), 15),
        short(its(0, 0x300_0000), 15),
        short(msi_frame(0, 0x400_0000, 1, 1, 1), 23),
        local_apic(9, 1),
    ]);
    assert_eq!(machine.faults(), [fault(b"APIC", Reason::Short)]);
    let found = machine.read();
    assert_eq!(found.apic_ids.as_slice(), [9]);
    assert!(found.io_apics.is_empty() && found.overrides.is_empty() && found.gic.is_none());
}

#[test]
fn giccs_of_every_age_are_read() {
    for length in [76, 80, 82, 90] {
        let machine = with_madt(&[gicd(0x100_0000, 3), gicc(0x102, 1, 0, 0x300_0000, length)]);
        assert_eq!(machine.faults(), [], "{length}");
        let gic = machine.read().gic.expect("a GIC");
        assert_eq!(gic.cpus[0].mpidr, 0x102);
        assert_eq!(gic.redistributors.as_slice(), [range(0x300_0000, 0x2_0000)]);
    }
}

#[test]
fn what_repeats_or_overlaps_is_dropped() {
    let machine = with_madt(&[
        local_apic(1, 1),
        local_apic(1, 1),
        x2apic(1, 1),
        x2apic(300, 1),
        x2apic(300, 1),
        local_apic(255, 1),
        x2apic(u32::MAX, 1),
        io_apic(0xfec0_0000, 0),
        io_apic(0xfec0_0000, 24),
        irq_override(9, 9, 0xf),
        irq_override(9, 10, 0xd),
    ]);
    let found = machine.read();
    assert_eq!(machine.faults(), [fault(b"APIC", Reason::Duplicate)]);
    assert_eq!(found.apic_ids.as_slice(), [1, 300]);
    assert_eq!((found.io_apics.len(), found.io_apics[0].first_line), (1, 0));
    assert_eq!((found.overrides.len(), found.overrides[0].line), (1, 9));

    let machine = with_madt(&[
        gicd(0x100_0000, 3),
        gicd(0x200_0000, 3),
        gicc(7, 1, 0, 0, 80),
        gicc(0x8000_0007, 1, 0, 0, 80),
        gicr(0x300_0000, 0x4_0000),
        gicr(0x303_f000, 0x4_0000),
        gicr(0x304_0000, 0x2_0000),
        gicr(0, 0x2_0000),
        gicr(0x500_0000, 0),
        gicr(u64::MAX - 1, 0x2_0000),
        its(0, 0x600_0000),
        its(1, 0x600_0000),
        msi_frame(0, 0x700_0000, 0, 0, 0),
        msi_frame(1, 0x700_0000, 1, 8, 40),
    ]);
    let gic = machine.read().gic.expect("a GIC");
    let reasons = [Reason::Duplicate, Reason::Value];
    assert_eq!(machine.faults(), reasons.map(|reason| fault(b"APIC", reason)));
    assert_eq!((gic.distributor, gic.cpus.len()), (0x100_0000, 1));
    let regions = [range(0x300_0000, 0x4_0000), range(0x304_0000, 0x2_0000)];
    assert_eq!(gic.redistributors.as_slice(), regions);
    assert_eq!((gic.its.len(), gic.msi_frames.len()), (1, 1));
    assert!(gic.msi_frames[0].from_register);

    // Two CPUs of one redistributor: the second has none.
    let machine = with_madt(&[
        gicc(0, 1, 0, 0x300_0000, 80),
        gicc(1, 1, 0, 0x301_0000, 80),
        gicc(2, 1, 0, u64::MAX - 5, 80),
        gicd(0x100_0000, 3),
    ]);
    let gic = machine.read().gic.expect("a GIC");
    assert_eq!(machine.faults(), [fault(b"APIC", Reason::Duplicate)]);
    let own: Vec<_> = gic.cpus.iter().map(|cpu| cpu.redistributor).collect();
    assert_eq!(own, [Some(0x300_0000), None, None]);
    assert_eq!(gic.redistributors.len(), 1);
}

#[test]
fn more_of_everything_than_there_is_room_for() {
    let mut structures = std::vec![gicd(0x100_0000, 2)];
    for number in 0..100 {
        structures.push(x2apic(number, 1));
        structures.push(gicc(
            number.into(),
            1,
            0,
            0x1000_0000 + 0x2_0000 * u64::from(number),
            80,
        ));
        structures.push(io_apic(0xfec0_0000 + (number << 12), number));
        structures.push(irq_override(number as u8, number, 0));
        structures.push(its(number, 0x4000_0000 + u64::from(number) * 0x2_0000));
        structures.push(msi_frame(number, 0x5000_0000 + u64::from(number) * 0x1000, 1, 8, 40));
    }
    let machine = with_madt(&structures);
    assert_eq!(machine.faults(), [fault(b"APIC", Reason::Full)]);
    let found = machine.read();
    let gic = found.gic.expect("a GIC");
    assert_eq!((found.apic_ids.len(), gic.cpus.len()), (MAX_CPUS, MAX_CPUS));
    assert_eq!((found.io_apics.len(), found.overrides.len()), (8, 16));
    assert_eq!(
        (gic.redistributors.len(), gic.its.len(), gic.msi_frames.len()),
        (MAX_CPUS, 4, 4)
    );
}

#[test]
fn registers_are_not_at_address_0() {
    let machine = with_madt(&[
        io_apic(0, 0),
        std::vec![5, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        gicd(0, 3),
        gicd(0x100_0000, 3),
        its(0, 0),
        msi_frame(0, 0, 1, 1, 40),
    ]);
    assert_eq!(machine.faults(), [fault(b"APIC", Reason::Value)]);
    let found = machine.read();
    assert!(found.io_apics.is_empty() && found.local_apic.is_none());
    let gic = found.gic.expect("the other distributor's GIC");
    assert!(gic.distributor == 0x100_0000 && gic.its.is_empty() && gic.msi_frames.is_empty());
}

#[test]
fn cpus_without_a_distributor_are_noted() {
    let machine = with_madt(&[gicc(0, 1, 0, 0, 80)]);
    assert_eq!(machine.faults(), [fault(b"APIC", Reason::Missing)]);
    assert_eq!(machine.read().gic, None);
}

#[test]
fn faults_are_noted_once_and_read_well() {
    let mut machine = virt_gicv2();
    for signature in [b"APIC", b"GTDT", b"FACP", b"MCFG", b"SPCR", b"DBG2"] {
        let address = machine.address(signature);
        machine.write(address + 10, &[0x55]);
    }
    let words: Vec<_> = machine.faults().iter().map(|fault| std::format!("{fault}")).collect();
    assert_eq!(words.len(), 6);
    assert_eq!(words[0], "APIC: wrong checksum");
}
