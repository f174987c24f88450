use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use proptest::prelude::*;

use super::{
    Buffer, Queue, Used,
    pci::{Place, places},
    queue::Layout,
    simulated::{Bell, DeviceSide, VERSION_1, machine, negotiate, queue},
    transport::common,
};
use crate::{
    drivers::{pci::Capability, registers::RegisterBlock},
    errno::Errno,
};

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
