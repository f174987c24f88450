use core::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use proptest::prelude::*;

use super::{
    Buffer, Queue, Transport, Used,
    pci::{Place, places},
    queue::Layout,
    transport::{Parts, common},
};
use crate::{
    drivers::{pci::Capability, registers::RegisterBlock},
    errno::Errno,
    mm::dma::DmaMemory,
};

/// What a device has been told by its doorbell.
#[derive(Clone, Debug, Default)]
pub struct Bell(Arc<Mutex<Vec<u16>>>);

impl Bell {
    pub fn rings(&self) -> Vec<u16> {
        core::mem::take(&mut self.0.lock().unwrap())
    }
}

impl RegisterBlock for Bell {
    fn read_u8(&self, _: usize) -> u8 {
        unreachable!("a doorbell is written to")
    }

    fn write_u8(&self, _: usize, _: u8) {
        unreachable!("two bytes")
    }

    fn read_u16(&self, _: usize) -> u16 {
        unreachable!("a doorbell is written to")
    }

    fn write_u16(&self, offset: usize, value: u16) {
        assert_eq!(offset, 0);
        self.0.lock().unwrap().push(value);
    }

    fn read_u32(&self, _: usize) -> u32 {
        unreachable!("a doorbell is written to")
    }

    fn write_u32(&self, _: usize, _: u32) {
        unreachable!("two bytes")
    }
}

/// The device's side of a queue, by the standard alone.
pub struct DeviceSide {
    memory: Arc<DmaMemory>,
    size: u16,
    available: usize,
    used: usize,
    seen: u16,
    given: u16,
}

impl DeviceSide {
    fn of(queue: &Queue<Bell>) -> Self {
        let size = usize::from(queue.size());
        let available = 16 * size;
        Self {
            memory: Arc::clone(queue.memory()),
            size: queue.size(),
            available,
            used: (available + 6 + 2 * size + 3) & !3,
            seen: 0,
            given: 0,
        }
    }

    pub fn next(&mut self) -> Option<(u16, Vec<Buffer>)> {
        if self.memory.read_u16(self.available + 2) == self.seen {
            return None;
        }
        let slot = usize::from(self.seen % self.size);
        self.seen = self.seen.wrapping_add(1);
        let head = self.memory.read_u16(self.available + 4 + 2 * slot);
        let (mut at, mut buffers) = (head, Vec::new());
        loop {
            let place = usize::from(at) * 16;
            let flags = self.memory.read_u16(place + 12);
            buffers.push(Buffer {
                address: self.memory.read_u64(place),
                length: self.memory.read_u32(place + 8),
                write: flags & 2 != 0,
            });
            assert!(buffers.len() <= usize::from(self.size), "a chain in a circle");
            if flags & 1 == 0 {
                return Some((head, buffers));
            }
            at = self.memory.read_u16(place + 14);
        }
    }

    pub fn give(&mut self, id: u32, length: u32) {
        let at = self.used + 4 + 8 * usize::from(self.given % self.size);
        self.memory.write_u32(at, id);
        self.memory.write_u32(at + 4, length);
        self.given = self.given.wrapping_add(1);
        self.memory.write_u16(self.used + 2, self.given);
    }
}

pub fn queue(size: u16) -> (Queue<Bell>, DeviceSide, Bell) {
    let bell = Bell::default();
    let queue = Queue::new(3, size, bell.clone()).unwrap();
    let device = DeviceSide::of(&queue);
    (queue, device, bell)
}

#[test]
fn the_parts_of_a_queue_are_aligned_and_apart() {
    for size in (0..=15).map(|order| 1_u16 << order) {
        let Layout { available, used, bytes } = Layout::new(size);
        let count = usize::from(size);
        assert!(available >= 16 * count && available % 2 == 0);
        assert!(used >= available + 6 + 2 * count && used % 4 == 0);
        assert!(bytes >= used + 6 + 8 * count);
    }
}

#[test]
fn a_chain_goes_to_the_device_and_comes_back() {
    let (mut queue, mut device, bell) = queue(4);
    let chain = [
        Buffer::readable(0x1000, 16),
        Buffer::writable(0x2000, 512),
        Buffer::writable(0x3000, 1),
    ];
    let token = queue.add(&chain).unwrap();
    assert_eq!((queue.free(), device.next()), (1, None));
    queue.publish();
    assert_eq!(bell.rings(), [3]);
    assert_eq!(device.next(), Some((token, chain.to_vec())));
    assert_eq!(queue.take(), Ok(None));
    device.give(token.into(), 513);
    assert_eq!(queue.take(), Ok(Some(Used { token, length: 513 })));
    assert_eq!((queue.take(), queue.free()), (Ok(None), 4));
    queue.publish();
    assert_eq!(bell.rings(), [], "nothing new, nothing told");
}

#[test]
fn what_cannot_be_a_chain_is_refused() {
    let (mut queue, _, _) = queue(2);
    let (input, output) = (Buffer::readable(0x1000, 1), Buffer::writable(0x2000, u32::MAX));
    for chain in [
        &[][..],
        &[input; 3],
        &[output, input],
        &[Buffer::readable(0x1000, 0)],
        &[output, Buffer::writable(0x3000, 1)],
    ] {
        assert_eq!(queue.add(chain), Err(Errno::EINVAL), "{chain:?}");
    }
    queue.add(&[input]).unwrap();
    assert_eq!(queue.add(&[input; 2]), Err(Errno::EAGAIN));
    assert_eq!(queue.free(), 1);
    assert_eq!(Queue::new(0, 3, Bell::default()).err(), Some(Errno::EINVAL));
}

#[test]
fn a_device_that_looks_by_itself_is_not_told() {
    let (mut queue, device, bell) = queue(2);
    device.memory.write_u16(device.used, 1);
    queue.add(&[Buffer::readable(0x1000, 1)]).unwrap();
    queue.publish();
    assert_eq!(bell.rings(), []);
    device.memory.write_u16(device.used, 0);
    queue.add(&[Buffer::readable(0x1000, 1)]).unwrap();
    queue.publish();
    assert_eq!(bell.rings(), [3]);
}

#[test]
fn turning_interrupts_on_tells_of_what_came_before() {
    let (mut queue, mut device, _) = queue(2);
    let token = queue.add(&[Buffer::readable(0x1000, 1)]).unwrap();
    queue.publish();
    assert!(!queue.set_interrupts(false));
    assert_eq!(device.memory.read_u16(device.available), 1);
    device.give(token.into(), 0);
    assert!(queue.set_interrupts(true));
    assert_eq!(device.memory.read_u16(device.available), 0);
    queue.take().unwrap().unwrap();
    assert!(!queue.set_interrupts(true));
}

#[test]
fn a_device_that_gives_back_what_it_has_not_got_ends_the_queue() {
    let give: [fn(&mut DeviceSide, u32); 5] = [
        |device, _| device.give(99, 0),
        |device, _| device.give(u32::MAX, 0),
        // Free, in the middle of the chain, too long.
        |device, token| device.give(token ^ 2, 0),
        |device, token| device.give(token ^ 1, 0),
        |device, token| device.give(token, 513),
    ];
    for give in give {
        let (mut queue, mut device, _) = queue(4);
        let chain = [Buffer::readable(0x1000, 16), Buffer::writable(0x2000, 512)];
        let token = queue.add(&chain).unwrap();
        queue.publish();
        give(&mut device, token.into());
        assert_eq!(queue.take(), Err(Errno::EIO));
        assert_eq!((queue.take(), queue.add(&chain)), (Err(Errno::EIO), Err(Errno::EIO)));
    }
    // Twice.
    let (mut queue, mut device, _) = queue(4);
    let token = queue.add(&[Buffer::readable(0x1000, 16)]).unwrap();
    queue.publish();
    device.give(token.into(), 0);
    device.give(token.into(), 0);
    assert!(queue.take().is_ok());
    assert_eq!(queue.take(), Err(Errno::EIO));
}

#[derive(Clone, Debug)]
enum Step {
    Add { readable: u8, writable: u8 },
    Publish,
    Complete { which: usize, length: u32 },
    Take,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..4_u8, 0..4_u8).prop_map(|(readable, writable)| Step::Add { readable, writable }),
        Just(Step::Publish),
        (any::<usize>(), any::<u32>()).prop_map(|(which, length)| Step::Complete { which, length }),
        Just(Step::Take),
    ];
    prop::collection::vec(step, 1..400)
}

proptest! {
    /// Against a model: every chain reaches the device whole, and comes back once, in the device's order.
    #[test]
    fn chains_reach_the_device_and_come_back_in_its_order(order in 0..5_u32, steps in steps()) {
        let (mut queue, mut device, _) = queue(1 << order);
        let (mut added, mut held, mut used) = (BTreeMap::new(), Vec::new(), std::collections::VecDeque::new());
        let mut free = queue.size();
        let mut address = 0x1000;
        for step in steps {
            match step {
                Step::Add { readable, writable } => {
                    let chain: Vec<Buffer> = (0..readable + writable).map(|index| {
                        address += 0x1000;
                        Buffer { address, length: 1 + address as u32 % 700, write: index >= readable }
                    }).collect();
                    let count = chain.len() as u16;
                    match queue.add(&chain) {
                        Ok(token) => {
                            prop_assert!(added.insert(token, chain).is_none());
                            free -= count;
                        }
                        Err(Errno::EAGAIN) => prop_assert!(count > free),
                        Err(error) => prop_assert!(error == Errno::EINVAL && (count == 0 || count > queue.size())),
                    }
                }
                Step::Publish => {
                    queue.publish();
                    while let Some((token, chain)) = device.next() {
                        prop_assert_eq!(added.get(&token), Some(&chain));
                        held.push(token);
                    }
                }
                Step::Complete { which, length } if !held.is_empty() => {
                    let token = held.swap_remove(which % held.len());
                    let most: u32 = added[&token].iter().filter(|buffer| buffer.write).map(|buffer| buffer.length).sum();
                    let length = length % (most + 1);
                    device.give(token.into(), length);
                    used.push_back(Used { token, length });
                }
                Step::Complete { .. } => {}
                Step::Take => {
                    let next = used.pop_front();
                    prop_assert_eq!(queue.take(), Ok(next));
                    if let Some(next) = next {
                        free += added.remove(&next.token).unwrap().len() as u16;
                    }
                }
            }
            prop_assert_eq!(queue.free(), free);
        }
    }

    /// Whatever a device writes, wherever: the queue goes on or ends, and its bookkeeping holds.
    #[test]
    fn a_device_that_writes_anything_anywhere_does_no_harm(
        writes in prop::collection::vec((any::<u16>(), any::<u8>(), 0..4_u8), 1..300)
    ) {
        let (mut queue, device, _) = queue(8);
        let mut held: HashMap<u16, u16> = HashMap::new();
        for (place, value, what) in writes {
            let length = device.memory.len();
            // Near the used ring more often than not.
            let place = if what < 3 { device.used + usize::from(place) % 70 } else { usize::from(place) % length };
            device.memory.write_u8(place, value);
            let chain = [Buffer::readable(0x1000, 4), Buffer::writable(0x2000, 8)];
            if let Ok(token) = queue.add(&chain[..1 + usize::from(value % 2)]) {
                prop_assert!(held.insert(token, 1 + u16::from(value % 2)).is_none());
                queue.publish();
            }
            if let Ok(Some(used)) = queue.take() {
                prop_assert!(held.remove(&used.token).is_some() && used.length <= 8);
            }
            let taken: u16 = held.values().sum();
            prop_assert!(queue.free() + taken == 8 || queue.take() == Err(Errno::EIO));
        }
    }
}

/// A device's common registers, and what it makes of them.
#[derive(Debug, Default)]
pub struct Machine {
    bytes: Vec<u8>,
    offered: u64,
    accepted: u64,
    refuses: bool,
    has_vectors: bool,
    sizes: Vec<u16>,
    enabled: Vec<(u16, u16, u16, u64, u64, u64)>,
    restless: bool,
}

#[derive(Clone, Debug)]
pub struct Registers(Arc<Mutex<Machine>>);

impl Machine {
    fn get(&self, offset: usize, size: usize) -> u64 {
        let mut word = [0; 8];
        word[..size].copy_from_slice(&self.bytes[offset..offset + size]);
        u64::from_le_bytes(word)
    }

    fn set(&mut self, offset: usize, size: usize, value: u64) {
        self.bytes[offset..offset + size].copy_from_slice(&value.to_le_bytes()[..size]);
    }

    fn read(&mut self, offset: usize, size: usize) -> u64 {
        let select = self.get(common::QUEUE_SELECT, 2) as usize;
        match offset {
            common::DEVICE_FEATURE => {
                let select = self.get(common::DEVICE_FEATURE_SELECT, 4);
                self.offered >> (32 * select.min(1)) & 0xffff_ffff
            }
            common::QUEUES => self.sizes.len() as u64,
            common::QUEUE_SIZE => self.sizes[select].into(),
            common::QUEUE_NOTIFY => select as u64 + 5,
            common::GENERATION if self.restless => {
                self.bytes[offset] = self.bytes[offset].wrapping_add(1);
                self.bytes[offset].into()
            }
            _ => self.get(offset, size),
        }
    }

    fn write(&mut self, offset: usize, size: usize, value: u64) {
        self.set(offset, size, value);
        match offset {
            common::DRIVER_FEATURE => {
                let shift = 32 * self.get(common::DRIVER_FEATURE_SELECT, 4).min(1);
                self.accepted = self.accepted & !(0xffff_ffff << shift) | value << shift;
            }
            common::STATUS if self.refuses => self.bytes[offset] &= !8,
            common::QUEUE_VECTOR if !self.has_vectors => self.set(offset, 2, 0xffff),
            common::QUEUE_ENABLE if value == 1 => self.enabled.push((
                self.get(common::QUEUE_SELECT, 2) as u16,
                self.get(common::QUEUE_SIZE, 2) as u16,
                self.get(common::QUEUE_VECTOR, 2) as u16,
                self.get(common::QUEUE_DESCRIPTORS, 8),
                self.get(common::QUEUE_DRIVER, 8),
                self.get(common::QUEUE_DEVICE, 8),
            )),
            _ => {}
        }
    }
}

macro_rules! sized {
    ($($read:ident $write:ident $type:ty),*) => {
        impl RegisterBlock for Registers {$(
            fn $read(&self, offset: usize) -> $type {
                self.0.lock().unwrap().read(offset, size_of::<$type>()) as $type
            }

            fn $write(&self, offset: usize, value: $type) {
                self.0.lock().unwrap().write(offset, size_of::<$type>(), value.into());
            }
        )*}
    };
}

sized!(read_u8 write_u8 u8, read_u16 write_u16 u16, read_u32 write_u32 u32);

impl Registers {
    /// Makes the own configuration that of an input device which shows these bytes, whatever it is asked for.
    pub fn configure(&self, size: u8, shown: &[u8; 8]) {
        let bytes = &mut self.0.lock().unwrap().bytes;
        bytes[2] = size;
        bytes[8..16].copy_from_slice(shown);
    }
}

impl Parts for Registers {
    type Block = Self;

    fn common(&self) -> &Self {
        self
    }

    fn doorbell(&self, offset: u16) -> Option<Self> {
        (offset < 7).then(|| self.clone())
    }

    /// The first of them once more.
    fn own(&self) -> Option<(&Self, usize)> {
        Some((self, common::QUEUE_SELECT))
    }
}

const VERSION_1: u64 = 1 << 32;

pub fn machine(change: impl FnOnce(&mut Machine)) -> Registers {
    let mut machine = Machine {
        bytes: vec![0; 64],
        offered: VERSION_1 | 1 << 5 | 1 << 7,
        has_vectors: true,
        sizes: vec![256, 64, 32, 0],
        ..Machine::default()
    };
    change(&mut machine);
    Registers(Arc::new(Mutex::new(machine)))
}

pub fn negotiate(registers: &Registers, wanted: u64) -> Result<Transport<Registers>, Errno> {
    match pin!(Transport::negotiate(registers.clone(), wanted)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("it has been reset"),
    }
}

#[test]
fn features_are_those_wanted_of_those_offered() {
    let registers = machine(|_| {});
    let transport = negotiate(&registers, 1 << 5 | 1 << 6).unwrap();
    assert_eq!(transport.features(), VERSION_1 | 1 << 5);
    assert_eq!(registers.0.lock().unwrap().accepted, VERSION_1 | 1 << 5);
    assert_eq!(registers.read_u8(common::STATUS), 1 | 2 | 8);
    transport.start();
    assert_eq!(registers.read_u8(common::STATUS), 1 | 2 | 4 | 8);
    drop(transport);
    assert_eq!(registers.read_u8(common::STATUS), 0, "reset before its memory goes");
}

#[test]
fn an_old_device_and_one_that_refuses_are_left() {
    let old = machine(|machine| machine.offered = 1 << 5);
    assert_eq!(negotiate(&old, 1 << 5).err(), Some(Errno::ENXIO));
    let refusing = machine(|machine| machine.refuses = true);
    assert_eq!(negotiate(&refusing, 0).err(), Some(Errno::ENXIO));
}

#[test]
fn a_queue_is_described_to_the_device() {
    let registers = machine(|_| {});
    let mut transport = negotiate(&registers, 0).unwrap();
    let queue = transport.queue(1, 100, 2).unwrap();
    assert_eq!(queue.size(), 64);
    let (address, layout) = (queue.memory().address(), queue.layout());
    let enabled = registers.0.lock().unwrap().enabled.clone();
    let (driver, device) = (address + layout.available as u64, address + layout.used as u64);
    assert_eq!(enabled, [(1, 64, 2, address, driver, device)]);
    assert_eq!(transport.queue(0, 3, 0).unwrap().size(), 2);
    // The doorbell of the third is not where it can be; the fourth is not there; of a fifth nobody spoke.
    assert_eq!(transport.queue(2, 8, 0).err(), Some(Errno::EIO));
    assert_eq!(transport.queue(3, 8, 0).err(), Some(Errno::ENXIO));
    assert_eq!(transport.queue(4, 8, 0).err(), Some(Errno::ENXIO));
    assert_eq!(transport.queue(0, 0, 0).err(), Some(Errno::EINVAL));
    drop(transport);
    assert_eq!(Arc::strong_count(queue.memory()), 1);
}

#[test]
fn a_device_without_room_for_a_message_gets_no_queue() {
    let registers = machine(|machine| machine.has_vectors = false);
    let mut transport = negotiate(&registers, 0).unwrap();
    assert_eq!(transport.queue(0, 8, 0).err(), Some(Errno::ENXIO));
    assert_eq!(registers.0.lock().unwrap().enabled, []);
}

#[test]
fn configuration_is_of_one_state_and_within_its_length() {
    let registers = machine(|machine| machine.bytes[8..10].copy_from_slice(&[0x34, 0x12]));
    let transport = negotiate(&registers, 0).unwrap();
    registers.write_u16(8, 0x1234);
    assert_eq!(transport.configuration::<2>(8), Ok([0x34, 0x12]));
    assert_eq!(transport.configuration::<2>(21), Err(Errno::ENXIO));
    assert_eq!(transport.configuration::<1>(usize::MAX), Err(Errno::ENXIO));
    assert_eq!(transport.write_configuration(22, 0), Err(Errno::ENXIO));
    transport.write_configuration(8, 0x56).unwrap();
    assert_eq!(transport.configuration::<1>(8), Ok([0x56]));
    registers.0.lock().unwrap().restless = true;
    assert_eq!(transport.configuration::<1>(8), Err(Errno::EIO));
}

#[test]
fn the_places_of_registers_are_those_described_first_and_whole() {
    // A common block, one of a length that is none, a notifications' block, one of those that is too short.
    let words = HashMap::from([
        (0x40_u16, 0x0110_5009_u32),
        (0x44, 4),
        (0x48, 0x1000),
        (0x4c, 0x38),
        (0x50, 0x0108_6009),
        (0x60, 0x0214_7009),
        (0x64, 2),
        (0x68, 0x3000),
        (0x6c, 0x400),
        (0x70, 0x0210_0009),
    ]);
    let read = |offset| words.get(&offset).copied().unwrap_or(0);
    let list = [(9, 0x40), (5, 0x44), (9, 0x50), (9, 0x60), (9, 0x70), (9, 0xfc)];
    let capabilities = list.map(|(id, offset)| Capability { id, offset });
    let of_kind = |kind| places(&capabilities, kind, read).collect::<Vec<_>>();
    let common = Place {
        kind: 1,
        bar: 4,
        offset: 0x1000,
        length: 0x38,
        multiplier: 0,
    };
    let notify = Place {
        kind: 2,
        bar: 2,
        offset: 0x3000,
        length: 0x400,
        multiplier: 0x0210_0009,
    };
    assert_eq!(of_kind(1), [common]);
    assert_eq!(of_kind(2), [notify]);
    assert_eq!(of_kind(4), []);
}
