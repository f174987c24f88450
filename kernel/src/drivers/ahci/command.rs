//! Commands for a disk, as they are put into memory (Serial ATA AHCI 1.3.1, 4.2; ATA/ATAPI Command Set 3).

use hal::arch::Cpu;
use hal::traits::CpuOps;
use hal::{PAGE_SIZE, dma};

use crate::{
    block::{MOST_PAGES, Operation, SECTOR},
    errno::Result,
    mm::dma::DmaMemory,
};

/// Commands that a port can have at once.
pub const SLOTS: usize = 32;

/// Offsets in a port's memory: the list of commands, what the device sends, and each command's table.
const LIST: usize = 0;
const RECEIVED: usize = 1024;
const TABLES: usize = 4096;
/// A command's header, and the parts of its table.
const HEADER: usize = 32;
const REGIONS: usize = 0x80;
const REGION: usize = 16;
const TABLE: usize = (REGIONS + REGION * MOST_PAGES).next_multiple_of(128);
/// Where a device's description is put that was asked for.
const IDENTITY: usize = RECEIVED + 512;

/// A register FIS from host to device (Serial ATA 3.2, 10.5.5): its type, "this is a command", words in it.
const TO_DEVICE: u8 = 0x27;
const IS_COMMAND: u8 = 0x80;
const WORDS: u32 = 5;
/// Header: the device is written to.
const WRITE: u32 = 1 << 6;
/// Device register: blocks are counted, not cylinders.
const BY_BLOCK: u8 = 1 << 6;

const IDENTIFY: u8 = 0xec;
const READ: u8 = 0x25;
const WRITE_EXT: u8 = 0x35;
const READ_QUEUED: u8 = 0x60;
const WRITE_QUEUED: u8 = 0x61;
const FLUSH: u8 = 0xea;

/// The memory that a port's device and its driver share.
pub struct Commands {
    memory: DmaMemory,
    /// The device looks into caches.
    coherent: bool,
}

/// What a transfer moves.
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    /// Which way.
    pub operation: Operation,
    /// The first block and how many, in the device's blocks.
    pub block: u64,
    /// How many: 1 to 65,536.
    pub blocks: u32,
    /// Bytes.
    pub bytes: u32,
    /// In the device's own queue.
    pub queued: bool,
}

impl Commands {
    /// Memory for a port.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(coherent: bool) -> Result<Self> {
        Ok(Self {
            memory: DmaMemory::new(TABLES + TABLE * SLOTS)?,
            coherent,
        })
    }

    /// Where the list is, and where the device is to send to.
    pub const fn addresses(&self) -> (u64, u64) {
        (
            self.memory.address() + LIST as u64,
            self.memory.address() + RECEIVED as u64,
        )
    }

    /// Asks the device what it is; see [`Commands::identity`].
    pub fn identify(&self) {
        let place = self.memory.address() + IDENTITY as u64;
        self.fis(0, IDENTIFY, 0, 0, 0);
        self.region(0, 0, place, SECTOR as u32);
        self.header(0, false, 1);
        self.publish(0, core::iter::empty());
    }

    /// A word of the description that the device has sent.
    pub fn identity(&self, word: usize) -> u16 {
        if !self.coherent {
            self.memory.clean_and_invalidate(IDENTITY, SECTOR as usize);
        }
        self.memory.read_u16(IDENTITY + 2 * word)
    }

    /// Puts a flush into a slot.
    pub fn flush(&self, slot: usize) {
        self.fis(slot, FLUSH, 0, 0, 0);
        self.header(slot, false, 0);
        self.publish(slot, core::iter::empty());
    }

    /// Puts a transfer to or from `pages`, by their addresses, into a slot.
    pub fn transfer(&self, slot: usize, transfer: &Transfer, pages: impl ExactSizeIterator<Item = u64> + Clone) {
        let write = transfer.operation == Operation::Write;
        // 0 stands for 65,536.
        let count = transfer.blocks as u16;
        if transfer.queued {
            let opcode = if write { WRITE_QUEUED } else { READ_QUEUED };
            self.fis(slot, opcode, transfer.block, count, (slot as u16) << 3);
        } else {
            let opcode = if write { WRITE_EXT } else { READ };
            self.fis(slot, opcode, transfer.block, 0, count);
        }
        let regions = pages.len();
        let mut left = transfer.bytes;
        for (index, page) in pages.clone().enumerate() {
            let bytes = left.min(PAGE_SIZE as u32);
            self.region(slot, index, page, bytes);
            left -= bytes;
        }
        self.header(slot, write, regions as u32);
        self.publish(slot, pages);
    }

    /// What the device has written to the pages of a slot is seen from here on.
    pub fn received(&self, slot: usize) {
        dma::after_device();
        if self.coherent {
            return;
        }
        let regions = self.memory.read_u32(slot * HEADER) >> 16;
        for index in 0..(regions as usize).min(MOST_PAGES) {
            clean(self.memory.read_u64(table(slot) + REGIONS + REGION * index));
        }
    }

    /// `features` and `count` are the registers of these names, 16 bits each.
    fn fis(&self, slot: usize, opcode: u8, block: u64, features: u16, count: u16) {
        let [b0, b1, b2, b3, b4, b5, ..] = block.to_le_bytes();
        let ([f0, f1], [c0, c1]) = (features.to_le_bytes(), count.to_le_bytes());
        let device = BY_BLOCK;
        let fis = [
            TO_DEVICE, IS_COMMAND, opcode, f0, b0, b1, b2, device, b3, b4, b5, f1, c0, c1, 0, 0, 0, 0, 0, 0,
        ];
        self.memory.write_bytes(table(slot), &fis);
    }

    fn region(&self, slot: usize, index: usize, address: u64, bytes: u32) {
        let place = table(slot) + REGIONS + REGION * index;
        self.memory.write_u64(place, address);
        self.memory.write_u32(place + 8, 0);
        self.memory.write_u32(place + 12, bytes - 1);
    }

    fn header(&self, slot: usize, write: bool, regions: u32) {
        let place = LIST + slot * HEADER;
        let direction = if write { WRITE } else { 0 };
        self.memory.write_u32(place, regions << 16 | direction | WORDS);
        self.memory.write_u32(place + 4, 0);
        self.memory
            .write_u64(place + 8, self.memory.address() + table(slot) as u64);
    }

    fn publish(&self, slot: usize, pages: impl Iterator<Item = u64>) {
        if !self.coherent {
            self.memory.clean_and_invalidate(LIST, 1024);
            self.memory.clean_and_invalidate(table(slot), TABLE);
            pages.for_each(clean);
        }
        dma::before_device();
    }
}

fn clean(page: u64) {
    dma::clean_and_invalidate(Cpu::phys_to_virt(hal::addr::PhysAddr(page)), PAGE_SIZE);
}

const fn table(slot: usize) -> usize {
    TABLES + slot * TABLE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<const N: usize>(commands: &Commands, offset: usize) -> [u8; N] {
        let mut bytes = [0; N];
        commands.memory.read_bytes(offset, &mut bytes);
        bytes
    }

    #[test]
    fn a_queued_read_is_laid_out_as_the_specification_has_it() {
        let commands = Commands::new(true).unwrap();
        let transfer = Transfer {
            operation: Operation::Read,
            block: 0x0102_0304_0506,
            blocks: 12,
            bytes: 6144,
            queued: true,
        };
        commands.transfer(3, &transfer, [0x1_0000_7000, 0x5000].into_iter());
        assert_eq!(
            bytes::<20>(&commands, table(3)),
            [
                0x27,
                0x80,
                0x60,
                12,
                6,
                5,
                4,
                0x40,
                3,
                2,
                1,
                0,
                3 << 3,
                0,
                0,
                0,
                0,
                0,
                0,
                0
            ]
        );
        assert_eq!(commands.memory.read_u32(3 * HEADER), 2 << 16 | 5);
        let region = |index: usize| {
            let place = table(3) + 0x80 + 16 * index;
            (commands.memory.read_u64(place), commands.memory.read_u32(place + 12))
        };
        assert_eq!([region(0), region(1)], [(0x1_0000_7000, 4095), (0x5000, 2047)]);
        assert_eq!(commands.memory.read_u64(3 * HEADER + 8) % 128, 0);
    }

    #[test]
    fn a_write_of_65536_blocks_says_0() {
        let commands = Commands::new(true).unwrap();
        let transfer = Transfer {
            operation: Operation::Write,
            block: 1,
            blocks: 65_536,
            bytes: 4096,
            queued: false,
        };
        commands.transfer(31, &transfer, [0x5000].into_iter());
        let fis = bytes::<20>(&commands, table(31));
        assert_eq!((fis[2], fis[12], fis[13], fis[3]), (0x35, 0, 0, 0));
        assert_eq!(commands.memory.read_u32(31 * HEADER), 1 << 16 | 1 << 6 | 5);
    }
}
