//! What RAM there is and whose it is.

use core::sync::atomic::Ordering;

use arrayvec::ArrayVec;
use spin::Once;

use super::super::constants::DIRECT_MAP;
use super::super::kernel_map::{self, stack_bytes, subtract};
use super::super::paging::{PteFlags, TABLE, index};
use super::super::platform::{MAX_RANGES, Platform};
use super::super::sysreg::instruction;
use super::assembly::EARLY;
use crate::PAGE_SIZE;
use crate::addr::PhysAddr;
use crate::boot_info::PhysRange;

/// The boot protocol's limit on a device tree's size.
const MOST_TREE: u64 = 2 << 20;
const BLOCK: u64 = 2 << 20;

/// Maps the device tree where the direct map will have it, so that addresses taken from it stay valid, and returns what
/// it occupies. The tables are the early ones, still in use.
pub(super) fn map_tree_early(tree: u64) -> PhysRange {
    assert!(tree.is_multiple_of(8), "the device tree is misaligned");
    let flags = PteFlags::empty().descriptor();
    let early = &EARLY;
    let physical = |table| kernel_map::image_phys(table).0 | TABLE;
    early.kernel_root[index(DIRECT_MAP, 0)].store(physical(&raw const early.direct), Ordering::Relaxed);
    let first = tree & !(BLOCK - 1);
    for block in [first, first + BLOCK] {
        // A tree that crosses a GiB boundary needs both tables.
        let gigabyte = index(DIRECT_MAP + block, 1);
        let below = if gigabyte == index(DIRECT_MAP + first, 1) {
            &early.direct_low
        } else {
            &early.direct_high
        };
        early.direct[gigabyte].store(physical(&raw const *below), Ordering::Relaxed);
        below[index(DIRECT_MAP + block, 2)].store(block | flags, Ordering::Relaxed);
    }
    instruction!("dsb ishst", "isb");
    // SAFETY: the second word of a device tree is its length; the first 2 MiB block or both are mapped.
    let length = u32::from_be(unsafe { ((DIRECT_MAP + tree + 4) as *const u32).read_volatile() });
    assert!(u64::from(length) <= MOST_TREE, "the device tree is larger than 2 MiB");
    PhysRange {
        start: PhysAddr(tree),
        end: PhysAddr(tree + u64::from(length)),
    }
}

/// RAM, and what of it is free.
pub(super) struct Layout {
    pub(super) total_ram: u64,
    /// Page-aligned.
    pub(super) ram: ArrayVec<PhysRange, MAX_RANGES>,
    free: ArrayVec<PhysRange, 64>,
}

static USABLE: Once<ArrayVec<PhysRange, 64>> = Once::new();

impl Layout {
    pub(super) fn new(platform: &Platform, tree: PhysRange) -> Self {
        let image = kernel_map::image();
        let mut taken: ArrayVec<PhysRange, { MAX_RANGES + 3 }> = platform.reserved.iter().copied().collect();
        taken.push(tree);
        taken.push(PhysRange {
            start: PhysAddr(image.start),
            end: PhysAddr(image.end),
        });
        taken.extend(platform.initramfs);
        let mut ram = subtract(&platform.ram, &platform.unmappable);
        ram.sort_unstable_by_key(|range: &PhysRange| range.start);
        let free = subtract(&ram, &taken);
        Self {
            total_ram: platform.ram.iter().map(PhysRange::len).sum(),
            ram,
            free,
        }
    }

    /// Takes the stacks of `cpus` CPUs from the end of the largest free range, maps them, and returns what is left.
    pub(super) fn reserve_stacks(mut self, cpus: u32) -> &'static [PhysRange] {
        let bytes = stack_bytes() * u64::from(cpus);
        let Some(largest) = self
            .free
            .iter_mut()
            .max_by_key(|range| range.len())
            .filter(|range| range.len() > bytes)
        else {
            panic!("there is not enough memory for the CPUs' stacks");
        };
        largest.end.0 -= bytes;
        debug_assert!(largest.end.0.is_multiple_of(PAGE_SIZE as u64));
        let start = largest.end.0;
        for cpu in 0..cpus {
            kernel_map::map_stacks(cpu, PhysAddr(start + stack_bytes() * u64::from(cpu)));
        }
        USABLE.call_once(|| self.free)
    }
}
