//! What the loader passed, and whose memory is whose.

use core::sync::atomic::Ordering;

use boot_info::{BootInfo, Range};
use dtoolkit::fdt::Fdt;

use super::super::constants::DIRECT_MAP;
use super::super::device_tree;
use super::super::kernel_map::{self, stack_bytes};
use super::super::paging::{PteFlags, TABLE, index};
use super::super::sysreg::instruction;
use super::assembly::EARLY;
use crate::PAGE_SIZE;
use crate::addr::PhysAddr;
use crate::boot_info::PhysRange;
use crate::memory_layout::MemoryLayout;

/// The boot protocol's limit on a device tree's size.
const MOST_TREE: u32 = 2 << 20;
const BLOCK: u64 = 2 << 20;

/// The block at `given`, or one made of the device tree there. The tables are the early ones.
///
/// # Panics
/// When there is neither.
pub(super) fn read_given(given: u64) -> BootInfo {
    assert!(given.is_multiple_of(8), "what the loader passed is misaligned");
    map_early(given);
    let place = DIRECT_MAP + given;
    // SAFETY: the loader left one of the two there, and both begin with their magic.
    if unsafe { (place as *const u64).read() } == BootInfo::MAGIC {
        // SAFETY: any bytes are a block, which its check then judges.
        let info = unsafe { (place as *const BootInfo).read() };
        assert!(info.check().is_ok(), "the loader's block is of another version");
        return info;
    }
    // SAFETY: the second word of a device tree is its length; the first 2 MiB block or both are mapped.
    let length = u32::from_be(unsafe { ((place + 4) as *const u32).read_volatile() });
    assert!(length <= MOST_TREE, "the device tree is larger than 2 MiB");
    // SAFETY: the loader put a device tree there, and the early tables map it.
    let Ok(fdt) = (unsafe { Fdt::from_raw(place as *const u8) }) else {
        panic!("the loader gave no valid device tree")
    };
    device_tree::boot_info(&fdt, Range::new(given, length.into()))
}

/// Maps 2 MiB and more from `address` on where the direct map will have them.
fn map_early(address: u64) {
    let flags = PteFlags::empty().descriptor();
    let early = &EARLY;
    let physical = |table| kernel_map::image_phys(table).0 | TABLE;
    early.kernel_root[index(DIRECT_MAP, 0)].store(physical(&raw const early.direct), Ordering::Relaxed);
    let first = address & !(BLOCK - 1);
    for block in [first, first + BLOCK] {
        // What crosses a GiB boundary needs both tables.
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
}

/// What of the memory is somebody's: the image, the initramfs, the device tree.
pub(super) fn taken(info: &BootInfo) -> [PhysRange; 3] {
    let image = kernel_map::image();
    let image = Range {
        start: image.start,
        end: image.end,
    };
    [image, info.initramfs, info.device_tree].map(PhysRange::from)
}

/// Takes `bytes`, aligned to `align`, both powers of two or multiples of pages, from the end of the largest free range,
/// for ever. What is left over behind them for the sake of the alignment is nobody's.
pub(in crate::aarch64) fn take(layout: &mut MemoryLayout, bytes: u64, align: u64) -> Option<PhysAddr> {
    let largest = layout.free.iter_mut().max_by_key(|range| range.len())?;
    let start = largest.end.0.checked_sub(bytes)? & !(align - 1);
    if start <= largest.start.0 {
        return None;
    }
    largest.end.0 = start;
    Some(PhysAddr(start))
}

/// Takes the stacks of `cpus` CPUs and maps them.
///
/// # Panics
/// When there is no memory for them.
pub(super) fn reserve_stacks(layout: &mut MemoryLayout, cpus: u32) {
    let bytes = stack_bytes() * u64::from(cpus);
    let Some(start) = take(layout, bytes, PAGE_SIZE as u64) else {
        panic!("there is not enough memory for the CPUs' stacks");
    };
    for cpu in 0..cpus {
        kernel_map::map_stacks(cpu, PhysAddr(start.0 + stack_bytes() * u64::from(cpu)));
    }
}
