//! Virtio's disks (virtio 1.2, 5.2): one queue of requests.

use alloc::{boxed::Box, vec::Vec};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use arrayvec::ArrayVec;
use executor::{Class, SpawnOptions};
use hal::PAGE_SIZE;

use super::{
    Owned,
    pci::{Device, Function},
    virtio::{
        self, Buffer, INDIRECT, Queue, Table, Transport,
        transport::{LOOK, Parts, RESET},
    },
};
use crate::{
    block::{self, Command, Disk, Geometry, Hardware, MOST_PAGES, Operation, Probing, Reset, SECTOR, letters},
    errno::{Errno, Result},
    mm::{
        dma::{self, DmaMemory},
        fallible::{TryRoom, TryRoomExact},
    },
    rt,
};

/// The type of device (5).
pub const KIND: u16 = 2;

/// Features (5.2.3): limits of requests, nothing can be written, blocks of a size of their own, flushes.
const MOST_BYTES: u64 = 1 << 1;
const MOST_SEGMENTS: u64 = 1 << 2;
const READ_ONLY: u64 = 1 << 5;
const BLOCK_SIZE: u64 = 1 << 6;
const FLUSH: u64 = 1 << 9;
const WANTED: u64 = MOST_BYTES | MOST_SEGMENTS | READ_ONLY | BLOCK_SIZE | FLUSH | INDIRECT;

/// Offsets in the configuration (5.2.4).
mod configuration {
    pub const CAPACITY: usize = 0;
    pub const MOST_BYTES: usize = 8;
    pub const MOST_SEGMENTS: usize = 12;
    pub const BLOCK_SIZE: usize = 20;
}

/// Requests (5.2.6): their types, and the status of one that went well.
const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH_CACHE: u32 = 4;
const OK: u8 = 0;
/// What stands in the status until the device has written it.
const NONE: u8 = 0xff;

/// The queue, and descriptors that are asked for.
const REQUESTS: u16 = 0;
const DESCRIPTORS: u16 = 256;
/// Buffers of a request at most: what is wanted, the pages, the status.
const MOST_BUFFERS: usize = MOST_PAGES + 2;
/// A request's memory: what is wanted, the status, the table.
const HEADER: usize = 16;
const STATUS: usize = HEADER;
const TABLE: usize = 32;
const STRIDE: usize = (TABLE + Table::bytes(MOST_BUFFERS)).next_multiple_of(64);

/// Starts the driver of one disk.
///
/// # Errors
/// `ENOMEM`, `EAGAIN` as [`rt::spawn`].
pub fn start(function: &'static Function) -> Result<()> {
    let probing = Probing::begin();
    rt::spawn(SpawnOptions::new(Class::Service, "virtio-blk probe"), async move {
        if let Err(error) = probe(function).await {
            log::error!("virtio disk at {}: {error:?}", function.address);
        }
        drop(probing);
    })
}

async fn probe(function: &'static Function) -> Result<()> {
    static DISKS: AtomicU32 = AtomicU32::new(0);
    let device = Device::open(function)?;
    let mut transport = virtio::pci::open(&device, WANTED).await?;
    let geometry = geometry(&transport)?;
    let line = device.messages(1)?.pop().ok_or(Errno::ENXIO)?;
    let queue = transport.queue(REQUESTS, DESCRIPTORS, 0)?;
    let requests = Requests::new(transport, queue, geometry.most_pages)?;
    requests.transport.start();
    let name = letters("vd", DISKS.fetch_add(1, Relaxed));
    let disk = Disk::new(
        name,
        geometry,
        Box::new(Owned {
            device,
            hardware: requests,
        }),
    )?;
    let mut queues = Vec::new();
    queues.try_room(1)?;
    queues.push(disk.queue().clone());
    block::serve("virtio-blk", queues, line)?;
    block::register(disk)
}

/// The disk as the device describes it.
fn geometry<P: Parts>(transport: &Transport<P>) -> Result<Geometry> {
    let has = |feature| transport.features() & feature != 0;
    let word = |offset| transport.configuration(offset).map(u32::from_le_bytes);
    let sectors = u64::from_le_bytes(transport.configuration(configuration::CAPACITY)?);
    let block = if has(BLOCK_SIZE) {
        word(configuration::BLOCK_SIZE)?
    } else {
        512
    };
    if has(MOST_BYTES) && (word(configuration::MOST_BYTES)? as usize) < PAGE_SIZE {
        return Err(Errno::ENXIO);
    }
    let segments = if has(MOST_SEGMENTS) {
        word(configuration::MOST_SEGMENTS)? as usize
    } else {
        MOST_PAGES
    };
    // Without tables a request's buffers have to fit into the queue.
    let most = if has(INDIRECT) { MOST_PAGES } else { 8 };
    Ok(Geometry {
        sectors: sectors - sectors % (u64::from(block) / SECTOR).max(1),
        block,
        most_pages: segments.clamp(1, most),
        read_only: has(READ_ONLY),
        write_cache: has(FLUSH),
    })
}

/// A device and its requests. In this order it is reset before its memory goes.
struct Requests<P: Parts> {
    transport: Transport<P>,
    queue: Queue<P::Block>,
    memory: DmaMemory,
    depth: u16,
    /// Whose each of the queue's tokens is.
    tags: Vec<u16>,
    /// A device that is being reset has to be done by then.
    resetting: Option<u64>,
    broken: bool,
}

impl<P: Parts> Requests<P> {
    fn new(transport: Transport<P>, queue: Queue<P::Block>, most_pages: usize) -> Result<Self> {
        let descriptors = if transport.features() & INDIRECT != 0 {
            1
        } else {
            most_pages as u16 + 2
        };
        let depth = queue.size() / descriptors;
        if depth == 0 {
            return Err(Errno::ENXIO);
        }
        let mut tags = Vec::new();
        tags.try_room_exact(queue.size().into())?;
        tags.resize(queue.size().into(), 0);
        Ok(Self {
            memory: DmaMemory::new(usize::from(depth) * STRIDE)?,
            transport,
            queue,
            depth,
            tags,
            resetting: None,
            broken: false,
        })
    }

    /// Puts a request's chain into the queue.
    fn add(&mut self, tag: u16, command: &Command<'_>) -> Result<u16> {
        let kind = match command.operation {
            Operation::Read => IN,
            Operation::Write => OUT,
            Operation::Flush => FLUSH_CACHE,
        };
        let place = usize::from(tag) * STRIDE;
        self.memory.write_u32(place, kind);
        self.memory.write_u32(place + 4, 0);
        self.memory.write_u64(place + 8, command.sector);
        self.memory.write_u8(place + STATUS, NONE);
        let address = self.memory.address() + place as u64;
        let mut buffers: ArrayVec<Buffer, MOST_BUFFERS> = ArrayVec::new();
        buffers.push(Buffer::readable(address, HEADER as u32));
        let mut left = command.sectors * SECTOR as u32;
        for page in command.pages {
            let length = left.min(PAGE_SIZE as u32);
            left -= length;
            buffers.push(Buffer {
                address: page.address().0,
                length,
                write: kind == IN,
            });
        }
        buffers.push(Buffer::writable(address + STATUS as u64, 1));
        if self.transport.features() & INDIRECT != 0 {
            let table = Table::write(&self.memory, place + TABLE, buffers.into_iter());
            self.queue.add_table(&table)
        } else {
            self.queue.add(&buffers)
        }
    }

    /// Sets up anew what has been reset.
    fn set_up(&mut self) -> Result<()> {
        let before = self.transport.features();
        self.transport.agree(WANTED)?;
        // The chains are made as it was agreed at first.
        if self.transport.features() != before {
            return Err(Errno::ENXIO);
        }
        self.transport.reattach(&mut self.queue, 0)?;
        self.broken = false;
        self.transport.start();
        Ok(())
    }
}

impl<P: Parts> Hardware for Requests<P> {
    fn depth(&self) -> u16 {
        self.depth
    }

    fn start(&mut self, tag: u16, command: &Command<'_>) {
        match self.add(tag, command) {
            Ok(token) => self.tags[usize::from(token)] = tag,
            // There are descriptors for as many as there are tags: it has broken the queue.
            Err(_) => self.broken = true,
        }
    }

    fn ring(&mut self) {
        self.queue.publish();
    }

    fn reap(&mut self, _: usize) -> Option<(u16, Result<()>)> {
        match self.queue.take() {
            Ok(used) => {
                let tag = self.tags[usize::from(used?.token)];
                dma::after_device();
                let status = self.memory.read_u8(usize::from(tag) * STRIDE + STATUS);
                Some((tag, if status == OK { Ok(()) } else { Err(Errno::EIO) }))
            }
            Err(_) => {
                self.broken = true;
                None
            }
        }
    }

    fn stalled(&self) -> bool {
        self.broken
    }

    fn reset(&mut self, now: u64) -> Reset {
        let deadline = *self.resetting.get_or_insert_with(|| {
            self.transport.begin_reset();
            now + RESET
        });
        if !self.transport.is_reset() && now < deadline {
            return Reset::Until(now + LOOK);
        }
        self.resetting = None;
        if self.transport.is_reset() && self.set_up().is_ok() {
            Reset::Done
        } else {
            Reset::Failed
        }
    }
}
