//! The split virtqueue (virtio 1.2, 2.7), without event indices.
//!
//! What the device can write is never relied upon: which descriptors are free, how chains go on and how much of each the
//! device may have written is kept in the kernel's own memory. A device that gives back what it has not got ends its queue.

use alloc::{sync::Arc, vec::Vec};

use crate::{
    drivers::registers::RegisterBlock,
    errno::{Errno, Result},
    mm::{
        dma::{self, DmaMemory},
        fallible::TryRoom,
    },
};

/// Most descriptors that a queue may have (2.7).
pub const MOST: u16 = 1 << 15;

/// Bytes of a descriptor and of an entry of the used ring (2.7.5, 2.7.8), and of the head of either ring.
const DESCRIPTOR: usize = 16;
const USED_ENTRY: usize = 8;
const HEAD: usize = 4;

/// Flags of a descriptor (2.7.5): the chain goes on, the device writes, the chain stands elsewhere.
const NEXT: u16 = 1 << 0;
const WRITE: u16 = 1 << 1;
const INDIRECT: u16 = 1 << 2;
/// Of the available ring (2.7.6): no interrupt, please. Of the used ring (2.7.8): no notification, please.
const NO_INTERRUPT: u16 = 1 << 0;
const NO_NOTIFY: u16 = 1 << 0;

/// Memory that the device is to use, all of it in one piece of the device's addresses. It has to stay until the device has
/// given it back, or has been reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Where, as the device sees it ([`DmaMemory::address`]).
    pub address: u64,
    /// Bytes.
    pub length: u32,
    /// The device writes it; else it reads it.
    pub write: bool,
}

impl Buffer {
    /// One that the device reads.
    pub const fn readable(address: u64, length: u32) -> Self {
        Self {
            address,
            length,
            write: false,
        }
    }

    /// One that the device writes.
    pub const fn writable(address: u64, length: u32) -> Self {
        Self {
            address,
            length,
            write: true,
        }
    }
}

/// A chain that the device has given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// What [`Queue::add`] returned for it.
    pub token: u16,
    /// Bytes that the device says it has written, from the first writable one on: no more than there are.
    pub length: u32,
}

/// Where the parts of a queue are in its memory, and how long that is (2.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub available: usize,
    pub used: usize,
    pub bytes: usize,
}

impl Layout {
    pub const fn new(size: u16) -> Self {
        let size = size as usize;
        let available = size * DESCRIPTOR;
        // Each ring is followed by an event index, used or not.
        let used = (available + HEAD + size * 2 + 2).next_multiple_of(4);
        Self {
            available,
            used,
            bytes: used + HEAD + size * USED_ENTRY + 2,
        }
    }
}

/// Puts a descriptor into memory; what flag follows from the buffer is added.
fn write_descriptor(memory: &DmaMemory, at: usize, buffer: Buffer, flags: u16, next: u16) {
    let flags = flags | if buffer.write { WRITE } else { 0 };
    memory.write_u64(at, buffer.address);
    memory.write_u32(at + 8, buffer.length);
    memory.write_u16(at + 12, flags);
    memory.write_u16(at + 14, next);
}

/// A chain of descriptors in memory of the driver's (2.7.5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    address: u64,
    descriptors: u16,
    /// Bytes that the device may write.
    writable: u32,
}

impl Table {
    /// Bytes of a table of so many descriptors.
    pub const fn bytes(descriptors: usize) -> usize {
        descriptors * DESCRIPTOR
    }

    /// Puts a chain of buffers into `memory`, from `offset` on, a multiple of 16: those that the device reads come first, 4 GiB are
    /// not to be written.
    ///
    /// # Panics
    /// When there is no room, or for no buffers.
    pub fn write(memory: &DmaMemory, offset: usize, buffers: impl ExactSizeIterator<Item = Buffer>) -> Self {
        let count = buffers.len();
        assert!(count > 0 && count <= usize::from(MOST), "a chain of {count} buffers");
        let mut writable = 0;
        for (index, buffer) in buffers.enumerate() {
            let is_last = index + 1 == count;
            let (flags, next) = if is_last { (0, 0) } else { (NEXT, index as u16 + 1) };
            write_descriptor(memory, offset + index * DESCRIPTOR, buffer, flags, next);
            writable += if buffer.write { buffer.length } else { 0 };
        }
        Self {
            address: memory.address() + offset as u64,
            descriptors: count as u16,
            writable,
        }
    }
}

/// What the kernel remembers of a descriptor.
#[derive(Clone, Copy, Debug)]
struct Descriptor {
    /// The next of its chain, or of the free ones.
    next: Option<u16>,
    /// At a chain's head, while the device has it: the bytes that the device may write.
    writable: Option<u32>,
}

/// A queue. Its driver's alone; nothing waits.
pub struct Queue<R> {
    memory: Arc<DmaMemory>,
    layout: Layout,
    size: u16,
    descriptors: Vec<Descriptor>,
    free: Option<u16>,
    free_count: u16,
    /// The available ring's index with what has been added, and as the device has been shown it.
    added: u16,
    published: u16,
    /// The used ring's index up to which chains have been taken.
    taken: u16,
    broken: bool,
    doorbell: R,
    number: u16,
}

impl<R: RegisterBlock> Queue<R> {
    /// Queue `number` of `size` descriptors, a power of two, which is told of new ones by writing to the first two bytes of
    /// `doorbell`.
    pub(super) fn new(number: u16, size: u16, doorbell: R) -> Result<Self> {
        if !size.is_power_of_two() || size > MOST {
            return Err(Errno::EINVAL);
        }
        let layout = Layout::new(size);
        let mut descriptors = Vec::new();
        descriptors.try_room(size.into())?;
        descriptors.extend((1..=size).map(|next| Descriptor {
            next: (next < size).then_some(next),
            writable: None,
        }));
        Ok(Self {
            memory: Arc::new(DmaMemory::new(layout.bytes)?),
            layout,
            size,
            descriptors,
            free: Some(0),
            free_count: size,
            added: 0,
            published: 0,
            taken: 0,
            broken: false,
            doorbell,
            number,
        })
    }

    pub(super) const fn memory(&self) -> &Arc<DmaMemory> {
        &self.memory
    }

    pub(super) const fn layout(&self) -> Layout {
        self.layout
    }

    pub(super) const fn number(&self) -> u16 {
        self.number
    }

    /// How many descriptors there are. Tokens are below.
    pub const fn size(&self) -> u16 {
        self.size
    }

    /// How many of them are free.
    pub const fn free(&self) -> u16 {
        self.free_count
    }

    /// Puts a chain of buffers into the ring, those that the device reads first, and returns its token, which is its own until
    /// [`Queue::take`] gives it back. The device sees it after [`Queue::publish`].
    ///
    /// # Errors
    /// `EAGAIN` while there are too few free descriptors, `EINVAL` for no buffers, more than there are descriptors, one of no
    /// bytes, ones to be read behind ones to be written, or 4 GiB to be written, `EIO` if the queue is broken.
    pub fn add(&mut self, buffers: &[Buffer]) -> Result<u16> {
        if self.broken {
            return Err(Errno::EIO);
        }
        let out_of_order = |pair: &[Buffer]| pair[0].write && !pair[1].write;
        let has_empty = buffers.iter().any(|buffer| buffer.length == 0);
        if buffers.len() > self.size.into() || has_empty || buffers.windows(2).any(out_of_order) {
            return Err(Errno::EINVAL);
        }
        let lengths = buffers.iter().filter(|buffer| buffer.write);
        let writable = lengths
            .map(|buffer| buffer.length)
            .try_fold(0_u32, u32::checked_add)
            .ok_or(Errno::EINVAL)?;
        let (head, count) = match (self.free, u16::try_from(buffers.len())) {
            (_, Ok(0) | Err(_)) => return Err(Errno::EINVAL),
            (Some(head), Ok(count)) if count <= self.free_count => (head, count),
            _ => return Err(Errno::EAGAIN),
        };
        let mut at = head;
        for (index, buffer) in buffers.iter().enumerate() {
            let is_last = index + 1 == buffers.len();
            let next = self.descriptors[usize::from(at)].next;
            self.write_descriptor(at, *buffer, next.filter(|_| !is_last));
            if is_last {
                self.descriptors[usize::from(at)].next = None;
                self.free = next;
            } else if let Some(next) = next {
                at = next;
            }
        }
        self.free_count -= count;
        self.offer(head, writable);
        Ok(head)
    }

    /// As [`Queue::add`], for a chain that stands in a [`Table`] of the driver's: it takes one descriptor. The device has agreed to
    /// such chains ([`super::INDIRECT`]).
    ///
    /// # Errors
    /// `EAGAIN` while there is no free descriptor, `EIO` if the queue is broken.
    pub fn add_table(&mut self, table: &Table) -> Result<u16> {
        if self.broken {
            return Err(Errno::EIO);
        }
        let head = self.free.ok_or(Errno::EAGAIN)?;
        let chain = Buffer::readable(table.address, u32::from(table.descriptors) * DESCRIPTOR as u32);
        write_descriptor(&self.memory, usize::from(head) * DESCRIPTOR, chain, INDIRECT, 0);
        self.free = self.descriptors[usize::from(head)].next.take();
        self.free_count -= 1;
        self.offer(head, table.writable);
        Ok(head)
    }

    /// Puts a chain's head into the available ring.
    fn offer(&mut self, head: u16, writable: u32) {
        self.descriptors[usize::from(head)].writable = Some(writable);
        let slot = usize::from(self.added & (self.size - 1));
        self.memory.write_u16(self.layout.available + HEAD + slot * 2, head);
        self.added = self.added.wrapping_add(1);
    }

    fn write_descriptor(&self, index: u16, buffer: Buffer, next: Option<u16>) {
        let flags = if next.is_some() { NEXT } else { 0 };
        write_descriptor(
            &self.memory,
            usize::from(index) * DESCRIPTOR,
            buffer,
            flags,
            next.unwrap_or(0),
        );
    }

    /// Forgets everything: the device has been reset.
    pub(super) fn clear(&mut self) {
        for (next, descriptor) in (1..=self.size).zip(&mut self.descriptors) {
            *descriptor = Descriptor {
                next: (next < self.size).then_some(next),
                writable: None,
            };
        }
        (self.free, self.free_count) = (Some(0), self.size);
        (self.added, self.published, self.taken, self.broken) = (0, 0, 0, false);
        for offset in [self.layout.available, self.layout.used] {
            self.memory.write_u32(offset, 0);
        }
    }

    /// Shows the device what has been added since the last call, and tells it unless it has asked not to be told.
    pub fn publish(&mut self) {
        if self.published == self.added {
            return;
        }
        // The chains before the index that covers them (2.7.13.3), and that before the flag is read (2.7.13.4).
        dma::before_device();
        self.memory.write_u16(self.layout.available + 2, self.added);
        self.published = self.added;
        dma::both_ways();
        if self.memory.read_u16(self.layout.used) & NO_NOTIFY == 0 {
            self.doorbell.write_u16(0, self.number);
        }
    }

    /// Takes the next chain that the device has given back, in its order. `None`: there is none yet; to wait for one, wait
    /// for the queue's line and look again.
    ///
    /// # Errors
    /// `EIO` when the device has given back what it has not got, or says it has written more than it may have: the queue is
    /// broken then, and the device has to be reset.
    pub fn take(&mut self) -> Result<Option<Used>> {
        if self.broken {
            return Err(Errno::EIO);
        }
        if self.memory.read_u16(self.layout.used + 2) == self.taken {
            return Ok(None);
        }
        // The index before the entry that it covers (2.7.14).
        dma::after_device();
        let slot = usize::from(self.taken & (self.size - 1));
        let at = self.layout.used + HEAD + slot * USED_ENTRY;
        let (id, length) = (self.memory.read_u32(at), self.memory.read_u32(at + 4));
        let used = self.give_back(id, length);
        self.broken = used.is_none();
        self.taken = self.taken.wrapping_add(1);
        used.map(Some).ok_or(Errno::EIO)
    }

    /// Frees a chain; `None` where the device has none of that name, or cannot have written so much.
    fn give_back(&mut self, id: u32, length: u32) -> Option<Used> {
        let token = u16::try_from(id).ok()?;
        let head = self.descriptors.get_mut(usize::from(token))?;
        if length > head.writable.take()? {
            return None;
        }
        let (mut last, mut count) = (token, 1);
        while let Some(next) = self.descriptors[usize::from(last)].next {
            (last, count) = (next, count + 1);
        }
        self.descriptors[usize::from(last)].next = self.free;
        self.free = Some(token);
        self.free_count += count;
        Some(Used { token, length })
    }

    /// Asks the device for interrupts, or for none: advice that it need not heed. Returns whether it has given back something
    /// already, which after turning them on has to be taken before waiting.
    pub fn set_interrupts(&mut self, on: bool) -> bool {
        let flags = if on { 0 } else { NO_INTERRUPT };
        self.memory.write_u16(self.layout.available, flags);
        // The flag before the index is read: what comes later interrupts.
        dma::both_ways();
        self.memory.read_u16(self.layout.used + 2) != self.taken
    }
}
