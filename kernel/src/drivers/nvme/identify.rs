//! What a controller and its namespaces say of themselves (NVM Express Base 2.0c, 5.17.2; NVM Command Set 1.0c, 4.1.5).

use crate::{
    block::{Geometry, MOST_PAGES, SECTOR},
    mm::dma::DmaMemory,
};

/// Most pages of a transfer that the controller takes: its MDTS, a power of two in pages, 0 for no limit.
pub fn most_pages(controller: &DmaMemory) -> usize {
    match controller.read_u8(77) {
        0 => MOST_PAGES,
        power => 1_usize.checked_shl(power.into()).unwrap_or(MOST_PAGES).min(MOST_PAGES),
    }
}

/// Whether the controller keeps writes in memory for a while (its VWC).
pub fn has_write_cache(controller: &DmaMemory) -> bool {
    controller.read_u8(525) & 1 != 0
}

/// A namespace as a disk without a write cache, which is the controller's; `None` for one that cannot be used: of no size, with metadata, or with blocks that are not 512 to 4096
/// bytes.
pub fn geometry(namespace: &DmaMemory, most_pages: usize) -> Option<Geometry> {
    const WRITE_PROTECTED: u8 = 1 << 0;
    let blocks = namespace.read_u64(0);
    let formatted = namespace.read_u8(26);
    let format = usize::from(formatted & 0xf | formatted >> 1 & 0x30);
    let format = namespace.read_u32(128 + 4 * format);
    let (metadata, shift) = (format & 0xffff, format >> 16 & 0xff);
    if blocks == 0 || metadata != 0 || !(9..=12).contains(&shift) {
        return None;
    }
    let block = 1_u32 << shift;
    Some(Geometry {
        sectors: blocks.checked_mul(u64::from(block) / SECTOR)?,
        block,
        most_pages,
        read_only: namespace.read_u8(99) & WRITE_PROTECTED != 0,
        write_cache: false,
    })
}

/// The namespaces in a list, of which the first 0 is the end.
pub fn namespaces(list: &DmaMemory) -> impl Iterator<Item = u32> {
    (0..1024)
        .map(|index| list.read_u32(4 * index))
        .take_while(|number| *number != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_of_large_blocks_is_a_disk() {
        let page = DmaMemory::new(4096).unwrap();
        page.write_u64(0, 1000);
        page.write_u8(26, 2);
        page.write_u32(128 + 8, 12 << 16);
        page.write_u8(99, 1);
        let expected = Geometry {
            sectors: 8000,
            block: 4096,
            most_pages: 8,
            read_only: true,
            write_cache: false,
        };
        assert_eq!(geometry(&page, 8), Some(expected));
        // Metadata; blocks of 64 KiB; more blocks than can be counted; none.
        for (place, value) in [(128 + 8, 12 << 16 | 8), (128 + 8, 16 << 16), (4, u32::MAX), (0, 0)] {
            let old = page.read_u32(place);
            page.write_u32(place, value);
            assert_eq!(geometry(&page, 8), None, "{place}");
            page.write_u32(place, old);
        }
    }

    #[test]
    fn limits_of_transfers_are_powers_of_two() {
        let page = DmaMemory::new(4096).unwrap();
        for (power, pages) in [(0, MOST_PAGES), (1, 2), (4, 16), (7, MOST_PAGES), (200, MOST_PAGES)] {
            page.write_u8(77, power);
            assert_eq!(most_pages(&page), pages);
        }
    }
}
