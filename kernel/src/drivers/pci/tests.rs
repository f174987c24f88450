use super::*;
use hal::{
    addr::PhysAddr,
    boot_info::{PciWindow, PhysRange},
    firmware::Ecam,
};
use proptest::prelude::*;
use std::{cell::RefCell, collections::HashMap, rc::Rc};

/// A function that keeps what is written where `writable` says.
#[derive(Clone)]
struct FakeFunction {
    words: [u32; 64],
    writable: [u32; 64],
}

impl FakeFunction {
    fn new(vendor: u16, device: u16, class: u32) -> Self {
        let mut function = Self {
            words: [0; 64],
            writable: [0; 64],
        };
        function.words[0] = u32::from(device) << 16 | u32::from(vendor);
        function.words[2] = class << 8;
        function.writable[1] = 0x0000_0007;
        function
    }

    fn bar(mut self, slot: usize, flags: u32, size: u64) -> Self {
        let mask = size.wrapping_neg();
        let fixed = if flags & 1 != 0 { 3 } else { 15 };
        self.words[4 + slot] = flags;
        self.writable[4 + slot] = mask as u32 & !fixed;
        if flags & 6 == 4 {
            self.writable[5 + slot] = (mask >> 32) as u32;
        }
        self
    }

    fn word(mut self, offset: usize, value: u32) -> Self {
        self.words[offset / 4] = value;
        self
    }
}

type Bus = HashMap<(u8, u8), FakeFunction>;

#[derive(Clone, Default)]
struct FakeHost(Rc<RefCell<HashMap<u8, Bus>>>);

struct FakeBus {
    host: FakeHost,
    number: u8,
}

impl FakeHost {
    fn with(self, bus: u8, device: u8, function: u8, what: FakeFunction) -> Self {
        self.0
            .borrow_mut()
            .entry(bus)
            .or_default()
            .insert((device, function), what);
        self
    }

    fn open(&self) -> impl Fn(u8) -> Option<FakeBus> + '_ {
        |number| {
            self.0.borrow().contains_key(&number).then(|| FakeBus {
                host: self.clone(),
                number,
            })
        }
    }

    fn word(&self, bus: u8, device: u8, offset: usize) -> u32 {
        self.0.borrow()[&bus][&(device, 0)].words[offset / 4]
    }
}

impl Config for FakeBus {
    fn read(&self, device: u8, function: u8, offset: u16) -> u32 {
        let buses = self.host.0.borrow();
        let found = buses[&self.number].get(&(device, function));
        found.map_or(u32::MAX, |found| found.words[usize::from(offset) / 4])
    }

    fn write(&self, device: u8, function: u8, offset: u16, value: u32) {
        let mut buses = self.host.0.borrow_mut();
        let bus = buses.get_mut(&self.number).unwrap();
        if let Some(found) = bus.get_mut(&(device, function)) {
            let (word, mask) = (usize::from(offset) / 4, found.writable[usize::from(offset) / 4]);
            found.words[word] = found.words[word] & !mask | value & mask;
        }
    }
}

fn host(windows: &[PciWindow]) -> PciHost {
    PciHost {
        ecam: Ecam {
            registers: PhysRange {
                start: PhysAddr(0x3000_0000),
                end: PhysAddr(0x4000_0000),
            },
            segment: 0,
            first_bus: 0,
            last_bus: 255,
        },
        windows: windows.iter().copied().collect(),
    }
}

fn window(start: u64, length: u64, wide: bool) -> PciWindow {
    PciWindow {
        cpu: PhysRange {
            start: PhysAddr(start),
            end: PhysAddr(start + length),
        },
        bus: start,
        wide,
    }
}

/// An NVMe controller: one 64-bit block of 16 KiB, MSI-X at 0x40, PCI Express at 0x80.
fn nvme() -> FakeFunction {
    FakeFunction::new(0x1b36, 0x0010, 0x01_08_02)
        .bar(0, 4, 0x4000)
        .word(0x04, 1 << 20)
        .word(0x34, 0x40)
        .word(0x40, 0x0040_8011)
        .word(0x80, 0x0002_0010)
}

fn bridge(secondary: u8) -> FakeFunction {
    FakeFunction::new(0x1b36, 0x000c, 0x06_04_00)
        .word(0x0c, 1 << 16)
        .word(0x18, u32::from(secondary) << 8)
}

#[test]
fn a_function_is_read_and_left_as_it_was() {
    let fake = FakeHost::default().with(0, 3, 0, nvme().word(0x04, 1 << 20 | 2).word(0x10, 0xfe00_0004));
    let found = scan(&host(&[]), fake.open()).unwrap();
    assert_eq!(found.len(), 1);
    let function = &found[0];
    assert_eq!(
        (function.vendor, function.device, function.class),
        (0x1b36, 0x0010, 0x01_08_02)
    );
    let bar = Bar {
        kind: BarKind::Memory64,
        prefetchable: false,
        address: 0xfe00_0000,
        size: 0x4000,
    };
    assert_eq!(function.bars, [Some(bar), None, None, None, None, None, None]);
    assert_eq!(function.capability(0x11), Some(Capability { id: 0x11, offset: 0x40 }));
    assert_eq!(function.capability(0x10), Some(Capability { id: 0x10, offset: 0x80 }));
    assert_eq!(function.capability(0x05), None);
    assert_eq!(fake.word(0, 3, 0x10), 0xfe00_0004);
    assert_eq!(fake.word(0, 3, 0x04) & 0xffff, 2);
    assert_eq!(function.to_string(), "PCI 0000:00:03.0: 1b36:0010 class 01.08.02");
}

#[test]
fn registers_of_every_kind_are_sized() {
    let function = FakeFunction::new(1, 1, 0)
        .bar(0, 0, 0x1000)
        .bar(1, 1, 0x20)
        .bar(2, 4 | 8, 1 << 33)
        .bar(4, 8, 0x10);
    let fake = FakeHost::default().with(0, 0, 0, function);
    let found = scan(&host(&[]), fake.open()).unwrap();
    let kinds = found[0]
        .bars
        .map(|bar| bar.map(|bar| (bar.kind, bar.prefetchable, bar.size)));
    assert_eq!(
        kinds,
        [
            Some((BarKind::Memory32, false, 0x1000)),
            Some((BarKind::Io, false, 0x20)),
            Some((BarKind::Memory64, true, 1 << 33)),
            None,
            Some((BarKind::Memory32, true, 0x10)),
            None,
            None
        ]
    );
}

#[test]
fn bridges_are_followed_once() {
    let fake = FakeHost::default()
        .with(0, 1, 0, bridge(5))
        .with(0, 2, 0, bridge(5))
        .with(0, 3, 0, bridge(0))
        .with(5, 0, 0, nvme())
        // Back to where it came from.
        .with(5, 1, 0, bridge(0))
        .with(5, 2, 0, bridge(5));
    let found = scan(&host(&[]), fake.open()).unwrap();
    let behind = found.iter().filter(|function| function.address.bus == 5).count();
    assert_eq!((found.len(), behind), (6, 3));
}

#[test]
fn only_devices_that_say_so_have_more_functions() {
    let several = FakeFunction::new(1, 1, 0).word(0x0c, 0x80 << 16);
    let fake = FakeHost::default()
        .with(0, 0, 0, several)
        .with(0, 0, 7, FakeFunction::new(1, 2, 0))
        .with(0, 1, 0, FakeFunction::new(1, 3, 0))
        .with(0, 1, 1, FakeFunction::new(1, 4, 0));
    let found = scan(&host(&[]), fake.open()).unwrap();
    assert_eq!(
        found.iter().map(|function| function.device).collect::<Vec<_>>(),
        [1, 2, 3]
    );
}

#[test]
fn a_list_of_capabilities_ends_where_it_runs_in_a_circle() {
    let function = nvme().word(0x80, 0x0002_4010);
    let fake = FakeHost::default().with(0, 0, 0, function);
    let found = scan(&host(&[]), fake.open()).unwrap();
    assert_eq!(found[0].capabilities.len(), 2);
}

#[test]
fn registers_without_addresses_get_some() {
    let fake = FakeHost::default()
        .with(0, 1, 0, nvme())
        .with(
            0,
            2,
            0,
            FakeFunction::new(1, 1, 0).bar(0, 0, 0x1000).bar(1, 0, 0x10_0000),
        )
        .with(0, 3, 0, FakeFunction::new(1, 2, 0).bar(0, 1, 0x20))
        .with(
            0,
            4,
            0,
            FakeFunction::new(1, 3, 0).bar(0, 0, 0x1000).word(0x10, 0x1000_0000),
        );
    let host = host(&[window(0x1000_0000, 0x0100_0000, false), window(1 << 36, 1 << 32, true)]);
    let mut found = scan(&host, fake.open()).unwrap();
    assign::assign(&host, &mut found, fake.open());
    let addresses: Vec<_> = found
        .iter()
        .flat_map(|function| function.bars.iter().flatten())
        .map(|bar| (bar.address, bar.size))
        .collect();
    assert_eq!(
        addresses,
        [
            (1 << 36, 0x4000),
            (0x1000_1000, 0x1000),
            (0x1010_0000, 0x10_0000),
            (0, 0x20),
            (0x1000_0000, 0x1000)
        ]
    );
    assert_eq!((fake.word(0, 1, 0x10), fake.word(0, 1, 0x14)), (4, 16));
    assert_eq!(fake.word(0, 2, 0x14), 0x1010_0000);
}

#[test]
fn what_finds_no_room_stays_without() {
    let fake = FakeHost::default().with(
        0,
        2,
        0,
        FakeFunction::new(1, 1, 0).bar(0, 0, 0x1000).bar(1, 0, 0x10_0000),
    );
    let host = host(&[window(0x1000_0000, 0x2000, false)]);
    let mut found = scan(&host, fake.open()).unwrap();
    assign::assign(&host, &mut found, fake.open());
    assert_eq!(found[0].bars[0].map(|bar| bar.address), Some(0x1000_0000));
    assert_eq!(found[0].bars[1], None);
}

proptest! {
    #[test]
    fn devices_that_lie_are_survived(
        words in prop::collection::vec(any::<u32>(), 64),
        writable in prop::collection::vec(any::<u32>(), 64),
        vendor in 1u16..0xffff,
        header in 0u32..2,
    ) {
        let mut function = FakeFunction::new(vendor, 1, 0);
        function.words.copy_from_slice(&words);
        function.writable.copy_from_slice(&writable);
        function.words[0] = u32::from(vendor);
        function.words[3] = header << 16;
        let fake = FakeHost::default().with(0, 0, 0, function.clone()).with(9, 0, 0, function);
        let host = host(&[window(0x1000_0000, 0x0100_0000, false), window(1 << 36, 1 << 32, true)]);
        let mut found = scan(&host, fake.open()).unwrap();
        assign::assign(&host, &mut found, fake.open());
        for bar in found.iter().flat_map(|function| function.bars.iter().flatten()) {
            prop_assert!(bar.size.is_power_of_two() && bar.address % bar.size == 0);
        }
    }
}
