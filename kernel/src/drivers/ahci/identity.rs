//! What a disk says of itself (ATA/ATAPI Command Set 3, 7.12.7, by words).

use crate::block::{Geometry, MOST_PAGES, SECTOR};

/// What matters of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// As a disk.
    pub geometry: Geometry,
    /// Commands that its own queue takes; 0 without one.
    pub queue: usize,
}

/// Reads the words; `None` for a device that counts no blocks in 48 bits, or has blocks that are not 512 to 4096 bytes.
pub fn read(word: impl Fn(usize) -> u16) -> Option<Identity> {
    const BLOCKS_48: u16 = 1 << 10;
    const QUEUED: u16 = 1 << 8;
    const WRITE_CACHE: u16 = 1 << 5;
    const LARGE_BLOCKS: u16 = 1 << 12;
    let is_valid = |word: u16| word >> 14 == 1;
    if !is_valid(word(83)) || word(83) & BLOCKS_48 == 0 {
        return None;
    }
    let blocks = (0..4).fold(0, |all, index| all | u64::from(word(100 + index)) << (16 * index));
    let block = if is_valid(word(106)) && word(106) & LARGE_BLOCKS != 0 {
        // In words of 16 bits.
        (u32::from(word(117)) | u32::from(word(118)) << 16).checked_mul(2)?
    } else {
        512
    };
    if blocks == 0 || !block.is_power_of_two() || !(512..=4096).contains(&block) {
        return None;
    }
    let queued = !matches!(word(76), 0 | u16::MAX) && word(76) & QUEUED != 0;
    Some(Identity {
        geometry: Geometry {
            sectors: blocks.checked_mul(u64::from(block) / SECTOR)?,
            block,
            most_pages: MOST_PAGES,
            read_only: false,
            write_cache: word(85) & WRITE_CACHE != 0,
        },
        queue: if queued { usize::from(word(75) & 0x1f) + 1 } else { 0 },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(word: usize) -> u16 {
        match word {
            75 => 31,
            76 => 1 << 8 | 0xe,
            83 => 1 << 14 | 1 << 10,
            100 => 0x1234,
            101 => 1,
            _ => 0,
        }
    }

    #[test]
    fn a_disk_with_a_queue_is_known() {
        let identity = read(disk).unwrap();
        assert_eq!((identity.geometry.sectors, identity.geometry.block), (0x1_1234, 512));
        assert_eq!(identity.queue, 32);
        assert_eq!(read(|word| if word == 76 { 0 } else { disk(word) }).unwrap().queue, 0);
    }

    #[test]
    fn large_blocks_are_counted_in_words() {
        let large = |word| match word {
            106 => 1 << 14 | 1 << 12,
            117 => 2048,
            _ => disk(word),
        };
        let geometry = read(large).unwrap().geometry;
        assert_eq!((geometry.sectors, geometry.block), (0x1_1234 * 8, 4096));
        assert_eq!(read(|word| if word == 117 { 100 } else { large(word) }), None);
    }

    #[test]
    fn what_is_no_disk_of_ours_is_refused() {
        assert_eq!(read(|word| if word == 83 { 1 << 14 } else { disk(word) }), None);
        assert_eq!(read(|_| u16::MAX), None);
        assert_eq!(read(|_| 0), None);
    }
}
