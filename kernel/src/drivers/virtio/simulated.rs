//! A device's sides of a queue and of its registers, for tests, by the standard alone.

use core::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};
use std::sync::{Arc, Mutex};

use super::{
    Buffer, Queue, Transport,
    transport::{Parts, common},
};
use crate::{drivers::registers::RegisterBlock, errno::Errno, mm::dma::DmaMemory};

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
    pub memory: Arc<DmaMemory>,
    pub size: u16,
    pub available: usize,
    pub used: usize,
    pub seen: u16,
    pub given: u16,
}

impl DeviceSide {
    pub fn of(queue: &Queue<Bell>) -> Self {
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

/// A device's common registers, and what it makes of them.
#[derive(Debug, Default)]
pub struct Machine {
    pub bytes: Vec<u8>,
    pub offered: u64,
    pub accepted: u64,
    pub refuses: bool,
    pub has_vectors: bool,
    pub sizes: Vec<u16>,
    pub enabled: Vec<(u16, u16, u16, u64, u64, u64)>,
    pub restless: bool,
}

#[derive(Clone, Debug)]
pub struct Registers(pub Arc<Mutex<Machine>>);

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

pub const VERSION_1: u64 = 1 << 32;

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
