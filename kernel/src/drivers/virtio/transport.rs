//! A device's registers: status, features, queues, its own configuration (virtio 1.2, chapter 3 and 4.1.4).

use alloc::{sync::Arc, vec::Vec};

use super::queue::{self, Queue};
use crate::{
    drivers::registers::RegisterBlock,
    errno::{Errno, Result},
    mm::{dma::DmaMemory, fallible::TryRoom},
    rt,
};

/// The features that every driver here wants where they are offered, none of a device's own (6): the present version of the
/// standard, without which there is no driver; addresses and order as the platform's rules for devices have them, which the
/// kernel's memory for devices keeps to.
const VERSION_1: u64 = 1 << 32;
const ACCESS_PLATFORM: u64 = 1 << 33;
const ORDER_PLATFORM: u64 = 1 << 36;

/// Of the device's status (2.1).
const ACKNOWLEDGE: u8 = 1;
const DRIVER: u8 = 2;
const DRIVER_OK: u8 = 4;
const FEATURES_OK: u8 = 8;
const NEEDS_RESET: u8 = 64;
const FAILED: u8 = 128;

/// Queue or configuration without a message (4.1.5.1.2).
const NO_VECTOR: u16 = 0xffff;

/// A device that takes longer (ns) to reset is left alone.
pub const RESET: u64 = 500_000_000;
/// From one look at it to the next (ns).
pub const LOOK: u64 = 1_000_000;
/// How often its configuration is read again because it has changed meanwhile.
const ATTEMPTS: usize = 16;

/// Offsets in the common configuration (4.1.4.3).
pub(super) mod common {
    pub const DEVICE_FEATURE_SELECT: usize = 0;
    pub const DEVICE_FEATURE: usize = 4;
    pub const DRIVER_FEATURE_SELECT: usize = 8;
    pub const DRIVER_FEATURE: usize = 12;
    pub const CONFIG_VECTOR: usize = 16;
    pub const QUEUES: usize = 18;
    pub const STATUS: usize = 20;
    pub const GENERATION: usize = 21;
    pub const QUEUE_SELECT: usize = 22;
    pub const QUEUE_SIZE: usize = 24;
    pub const QUEUE_VECTOR: usize = 26;
    pub const QUEUE_ENABLE: usize = 28;
    pub const QUEUE_NOTIFY: usize = 30;
    pub const QUEUE_DESCRIPTORS: usize = 32;
    pub const QUEUE_DRIVER: usize = 40;
    pub const QUEUE_DEVICE: usize = 48;
    /// Bytes up to here are there.
    pub const LENGTH: usize = 56;
}

/// The parts of a device's registers.
pub trait Parts: Send + Sync {
    /// What they are reached by.
    type Block: RegisterBlock;

    /// The common configuration: [`common::LENGTH`] bytes at least.
    fn common(&self) -> &Self::Block;
    /// The two bytes that tell the device of a queue, by the queue's `queue_notify_off`; `None` if they are not where they can be.
    fn doorbell(&self, offset: u16) -> Option<Self::Block>;
    /// The device's own configuration, and how many bytes it has; `None` if there is none.
    fn own(&self) -> Option<(&Self::Block, usize)>;
}

/// A device between reset and reset. Dropping it resets the device.
pub struct Transport<P: Parts> {
    parts: P,
    features: u64,
    /// What the device may read and write until it is reset.
    memory: Vec<Arc<DmaMemory>>,
}

impl<P: Parts> Transport<P> {
    /// Resets the device and agrees on features: those of `wanted` that it offers. It does nothing yet: see [`Transport::start`].
    ///
    /// # Errors
    /// `EIO` if it does not come out of its reset, `ENXIO` if it is of an old version or refuses its features.
    pub async fn negotiate(parts: P, wanted: u64) -> Result<Self> {
        let mut transport = Self {
            parts,
            features: 0,
            memory: Vec::new(),
        };
        transport.begin_reset();
        let until = rt::now() + RESET;
        while !transport.is_reset() {
            if rt::now() > until {
                return Err(Errno::EIO);
            }
            rt::sleep_until(rt::now() + LOOK).await;
        }
        transport.agree(wanted)?;
        Ok(transport)
    }

    /// Resets the device, which may take [`RESET`]: see [`Transport::is_reset`].
    pub fn begin_reset(&self) {
        self.common().write_u8(common::STATUS, 0);
    }

    /// Whether the device has come out of its reset.
    pub fn is_reset(&self) -> bool {
        self.status() == 0
    }

    /// Agrees on features with a device that has been reset, as [`Transport::negotiate`]. Its queues are to be attached anew.
    ///
    /// # Errors
    /// `ENXIO` if it is of an old version or refuses its features.
    pub fn agree(&mut self, wanted: u64) -> Result<()> {
        self.add_status(ACKNOWLEDGE);
        self.add_status(DRIVER);
        let features = self.offered() & (wanted | VERSION_1 | ACCESS_PLATFORM | ORDER_PLATFORM);
        self.accept(features);
        if features & VERSION_1 != 0 {
            self.add_status(FEATURES_OK);
            if self.status() & FEATURES_OK != 0 {
                self.features = features;
                self.write_u16(common::CONFIG_VECTOR, NO_VECTOR);
                return Ok(());
            }
        }
        self.fail();
        Err(Errno::ENXIO)
    }

    fn common(&self) -> &P::Block {
        self.parts.common()
    }

    fn status(&self) -> u8 {
        self.common().read_u8(common::STATUS)
    }

    fn add_status(&self, bit: u8) {
        let status = self.status() | bit;
        self.common().write_u8(common::STATUS, status);
    }

    fn write_u16(&self, offset: usize, value: u16) {
        self.common().write_u16(offset, value);
    }

    fn offered(&self) -> u64 {
        let half = |select| {
            self.common().write_u32(common::DEVICE_FEATURE_SELECT, select);
            u64::from(self.common().read_u32(common::DEVICE_FEATURE))
        };
        half(0) | half(1) << 32
    }

    fn accept(&self, features: u64) {
        for (select, half) in [(0, features as u32), (1, (features >> 32) as u32)] {
            self.common().write_u32(common::DRIVER_FEATURE_SELECT, select);
            self.common().write_u32(common::DRIVER_FEATURE, half);
        }
    }

    /// The features agreed on.
    pub const fn features(&self) -> u64 {
        self.features
    }

    /// How many queues the device has.
    pub fn queues(&self) -> u16 {
        self.common().read_u16(common::QUEUES)
    }

    /// Sets a queue up, of at most `most` descriptors, that interrupts by the message numbered `vector` among the device's.
    /// Before [`Transport::start`], and once for each.
    ///
    /// # Errors
    /// `ENXIO` if there is no such queue or the device has no room for its message, `EINVAL` if `most` is 0, `EIO` if what the device says of it
    /// cannot be, `ENOMEM`.
    pub fn queue(&mut self, number: u16, most: u16, vector: u16) -> Result<Queue<P::Block>> {
        if most == 0 {
            return Err(Errno::EINVAL);
        }
        if number >= self.queues() {
            return Err(Errno::ENXIO);
        }
        self.write_u16(common::QUEUE_SELECT, number);
        let size = match self.common().read_u16(common::QUEUE_SIZE) {
            0 => return Err(Errno::ENXIO),
            // Powers of two, as the standard has them; the most that is in both.
            size => size.min(most).min(queue::MOST),
        };
        let size = 1 << size.ilog2();
        let doorbell = self.common().read_u16(common::QUEUE_NOTIFY);
        let doorbell = self.parts.doorbell(doorbell).ok_or(Errno::EIO)?;
        let queue = Queue::new(number, size, doorbell)?;
        self.memory.try_room(1)?;
        self.memory.push(Arc::clone(queue.memory()));
        self.attach(&queue, vector)?;
        Ok(queue)
    }

    /// Tells a device that has been reset of a queue that it had before.
    ///
    /// # Errors
    /// `ENXIO` if the device has no room for its message.
    pub fn reattach(&self, queue: &mut Queue<P::Block>, vector: u16) -> Result<()> {
        queue.clear();
        self.write_u16(common::QUEUE_SELECT, queue.number());
        self.attach(queue, vector)
    }

    /// Tells the device of a queue, which is selected.
    fn attach(&self, queue: &Queue<P::Block>, vector: u16) -> Result<()> {
        self.write_u16(common::QUEUE_SIZE, queue.size());
        self.write_u16(common::QUEUE_VECTOR, vector);
        if self.common().read_u16(common::QUEUE_VECTOR) != vector {
            return Err(Errno::ENXIO);
        }
        let (address, layout) = (queue.memory().address(), queue.layout());
        let common = self.common();
        common.write_pair(common::QUEUE_DESCRIPTORS, address);
        common.write_pair(common::QUEUE_DRIVER, address + layout.available as u64);
        common.write_pair(common::QUEUE_DEVICE, address + layout.used as u64);
        self.write_u16(common::QUEUE_ENABLE, 1);
        Ok(())
    }

    /// Lets the device work.
    pub fn start(&self) {
        self.add_status(DRIVER_OK);
    }

    /// Whether the device has met an error that only a reset ends.
    pub fn needs_reset(&self) -> bool {
        self.status() & NEEDS_RESET != 0
    }

    /// Tells the device that its driver has given it up.
    pub fn fail(&self) {
        self.add_status(FAILED);
    }

    /// Reads from the device's own configuration, all of one state of it.
    ///
    /// # Errors
    /// `ENXIO` if it is not so long, `EIO` if it changes all the time.
    pub fn configuration<const N: usize>(&self, offset: usize) -> Result<[u8; N]> {
        let (own, length) = self.parts.own().ok_or(Errno::ENXIO)?;
        if offset.checked_add(N).is_none_or(|end| end > length) {
            return Err(Errno::ENXIO);
        }
        for _ in 0..ATTEMPTS {
            let before = self.common().read_u8(common::GENERATION);
            let bytes = core::array::from_fn(|index| own.read_u8(offset + index));
            if self.common().read_u8(common::GENERATION) == before {
                return Ok(bytes);
            }
        }
        Err(Errno::EIO)
    }

    /// Writes a byte of the device's own configuration: many devices select by it what else is shown there.
    ///
    /// # Errors
    /// `ENXIO` if it is not so long.
    pub fn write_configuration(&self, offset: usize, byte: u8) -> Result<()> {
        let (own, length) = self.parts.own().ok_or(Errno::ENXIO)?;
        if offset >= length {
            return Err(Errno::ENXIO);
        }
        own.write_u8(offset, byte);
        Ok(())
    }
}

impl<P: Parts> Drop for Transport<P> {
    fn drop(&mut self) {
        self.common().write_u8(common::STATUS, 0);
        // Most devices are done by now. What one that is not may still write to is never used again.
        if self.status() != 0 {
            log::error!("a virtio device does not reset: its queues' memory is given up");
            core::mem::forget(core::mem::take(&mut self.memory));
        }
    }
}
