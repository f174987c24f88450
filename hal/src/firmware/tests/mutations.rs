//! Whole machines damaged at random: reading ends soon, panics never, and what it finds keeps its promises.

use proptest::prelude::*;
use std::vec::Vec;

use super::{
    BASE, Machine, RSDP,
    machines::{parallels, q35, virt_gicv2, virt_gicv3},
    read,
};
use crate::firmware::{Description, Registers, SoftOff};

/// One piece of damage. Places are taken modulo what there is.
#[derive(Clone, Debug)]
enum Damage {
    /// A byte changes its bits.
    Flip { at: usize, bits: u8 },
    /// A number is written that is likely to be at the edge of something.
    Number { at: usize, number: u64, width: usize },
    /// Memory ends.
    Truncate { left: usize },
    /// A table says that it has another length.
    Length { table: usize, length: u32 },
    /// A table's bytes are written again further on.
    Repeat {
        table: usize,
        from: usize,
        to: usize,
        length: usize,
    },
    /// An address becomes that of a table, so that tables lead in circles.
    Lead { at: usize, to: usize },
    /// A table that is named by the list is named in place of another one.
    Name { entry: usize, table: usize },
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = 0_usize..1 << 16;
    let numbers = prop_oneof![
        Just(0),
        Just(1),
        Just(u64::MAX),
        Just(u64::MAX - 0xffff),
        Just(BASE),
        any::<u8>().prop_map(u64::from),
        any::<u64>(),
    ];
    prop_oneof![
        4 => (at.clone(), 1_u8..).prop_map(|(at, bits)| Damage::Flip { at, bits }),
        4 => (at.clone(), numbers, 1_usize..=8).prop_map(|(at, number, width)| Damage::Number { at, number, width }),
        1 => at.clone().prop_map(|left| Damage::Truncate { left }),
        2 => (at.clone(), prop_oneof![0_u32..600, any::<u32>()])
            .prop_map(|(table, length)| Damage::Length { table, length }),
        2 => (at.clone(), 36_usize..200, 36_usize..200, 1_usize..100)
            .prop_map(|(table, from, to, length)| Damage::Repeat { table, from, to, length }),
        2 => (at.clone(), at.clone()).prop_map(|(at, to)| Damage::Lead { at, to }),
        1 => (at.clone(), at).prop_map(|(entry, table)| Damage::Name { entry, table }),
    ]
}

impl Machine {
    fn harm(&mut self, damage: &Damage) {
        let table = |number: usize| self.tables[number % self.tables.len()].1;
        let place = |at: usize| BASE + (at % (self.ram.len() - 8)) as u64;
        let offset = |address: u64| (address - BASE) as usize;
        match *damage {
            Damage::Flip { at, bits } => {
                let at = at % self.ram.len();
                self.ram[at] ^= bits;
            }
            Damage::Number { at, number, width } => self.write(place(at), &number.to_le_bytes()[..width]),
            Damage::Truncate { left } => {
                // The later part of memory, where the list of tables is; but the tests' own room remains.
                let length = self.ram.len();
                let end = self.tables.iter().map(|&(_, address)| offset(address) + 36).max();
                self.ram.truncate(end.unwrap_or(0) + left % length);
            }
            Damage::Length { table: number, length } => self.write(table(number) + 4, &length.to_le_bytes()),
            Damage::Repeat {
                table: number,
                from,
                to,
                length,
            } => {
                let start = offset(table(number));
                let (from, to, end) = (start + from, start + to, self.ram.len());
                if from.max(to) + length <= end {
                    self.ram.copy_within(from..from + length, to);
                }
            }
            Damage::Lead { at, to } => self.write(place(at & !3), &table(to).to_le_bytes()[..4]),
            Damage::Name { entry, table: number } => {
                let list = table(self.tables.len() - 1);
                let end = self.ram.len();
                let at = offset(list) + 36 + entry % end.saturating_sub(offset(list) + 36 + 8).max(1);
                if at + 4 <= end {
                    self.write(BASE + (at & !3) as u64, &table(number).to_le_bytes()[..4]);
                }
            }
        }
    }

    /// As firmware that means what it says: every checksum is right.
    fn fix_everything(&mut self) {
        for (_, address) in self.tables.clone() {
            self.fix(address);
        }
        self.fix_root();
    }
}

/// What a description promises whoever uses it.
fn keeps_its_promises(found: &Description) {
    let distinct = |mut ids: Vec<u64>| {
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all);
    };
    distinct(found.apic_ids.iter().map(|&id| id.into()).collect());
    distinct(found.io_apics.iter().map(|apic| apic.address).collect());
    distinct(found.overrides.iter().map(|entry| entry.irq.into()).collect());
    if let Some(gic) = &found.gic {
        distinct(gic.cpus.iter().map(|cpu| cpu.mpidr).collect());
        distinct(gic.its.iter().map(|its| its.registers).collect());
        distinct(gic.msi_frames.iter().map(|frame| frame.registers).collect());
        assert!(gic.cpus.iter().all(|cpu| cpu.mpidr & !0xff_00ff_ffff == 0));
        let mut regions = gic.redistributors.clone();
        regions.sort_unstable_by_key(|region| region.start);
        assert!(regions.iter().all(|region| !region.is_empty()));
        assert!(regions.windows(2).all(|pair| pair[0].end <= pair[1].start));
    }
    assert!(found.io_apics.iter().all(|apic| apic.address != 0) && found.local_apic != Some(0));
    assert_ne!(found.timer.map(|timer| timer.virtual_line), Some(0));
    assert!(found.ecam.iter().all(|ecam| {
        ecam.first_bus <= ecam.last_bus && ecam.registers.len() == (u64::from(ecam.last_bus - ecam.first_bus) + 1) << 20
    }));
    if let Some(serial) = found.serial {
        assert_ne!(serial.line, Some(0));
        if let Registers::Memory { range, width } = serial.registers {
            assert!(!range.is_empty() && matches!(width, 1 | 2 | 4));
        }
    }
    match found.soft_off {
        Some(SoftOff::PowerManagement { a: (_, a), b }) => assert!(a < 8 && b.is_none_or(|(_, b)| b < 8)),
        Some(SoftOff::SleepControl { sleep_type, .. }) => assert!(sleep_type < 8),
        None => {}
    }
    assert!(
        found
            .name
            .chars()
            .all(|letter| letter == ' ' || letter.is_ascii_graphic())
    );
    for (place, fault) in found.faults.iter().enumerate() {
        assert!(!found.faults[..place].contains(fault));
        assert!(!std::format!("{fault}").is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8_000))]

    #[test]
    fn damaged_machines_are_read_to_an_end(
        which in 0_usize..4,
        damages in prop::collection::vec(damage(), 1..12),
        fixed in prop::bool::weighted(0.8),
    ) {
        let mut machine = [virt_gicv2, virt_gicv3, parallels, q35][which]();
        for damage in &damages {
            machine.harm(damage);
        }
        if fixed {
            machine.fix_everything();
        }
        if let Ok(found) = read(&machine) {
            keeps_its_promises(&found);
        }
    }

    #[test]
    fn noise_is_read_to_an_end(
        noise in prop::collection::vec(any::<u8>(), 64..2048),
        which in 0_usize..4,
        fixed in any::<bool>(),
    ) {
        // Every table's body is noise, behind a header that is right.
        let mut machine = [virt_gicv2, virt_gicv3, parallels, q35][which]();
        let lists = 1;
        for (number, (_, address)) in machine.tables.clone().into_iter().enumerate().rev().skip(lists) {
            let at = (address - BASE) as usize;
            let length = u32::from_le_bytes([4, 5, 6, 7].map(|place| machine.ram[at + place])) as usize;
            for offset in 36..length {
                machine.ram[at + offset] = noise[(offset + 97 * number) % noise.len()];
            }
        }
        if fixed {
            machine.fix_everything();
        }
        if let Ok(found) = read(&machine) {
            keeps_its_promises(&found);
        }
    }

    #[test]
    fn any_address_is_taken_for_the_root_pointer(address in any::<u64>(), near in -64_i64..4096) {
        let machine = q35();
        for address in [address, RSDP.wrapping_add_signed(near)] {
            if let Ok(found) = super::super::read(&machine, address) {
                prop_assert_eq!(address, RSDP);
                keeps_its_promises(&found);
            }
        }
    }
}

#[test]
fn every_byte_of_every_machine_may_be_any_edge() {
    for machine in [virt_gicv2, virt_gicv3, parallels, q35].map(|machine| machine()) {
        for at in 0..machine.ram.len() {
            for byte in [0, 1, 2, 0x7f, 0x80, 0xff] {
                let mut machine = machine.clone();
                machine.ram[at] = byte;
                machine.fix_everything();
                if let Ok(found) = read(&machine) {
                    keeps_its_promises(&found);
                }
            }
        }
    }
}

#[test]
fn memory_may_end_anywhere() {
    for machine in [virt_gicv2, virt_gicv3, parallels, q35].map(|machine| machine()) {
        for length in 0..machine.ram.len() {
            let mut machine = machine.clone();
            machine.ram.truncate(length);
            if let Ok(found) = read(&machine) {
                keeps_its_promises(&found);
            }
        }
    }
}
