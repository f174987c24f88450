//! The kernel's half: built once at boot below TTBR1, W^X throughout.
//!
//! | what | rights |
//! |---|---|
//! | image: text | R X |
//! | image: rodata | R |
//! | image: data, bss | R W |
//! | direct map of all RAM, 1 GiB and 2 MiB blocks where they fit | R W, but R where text and rodata lie |
//! | stacks, each page by itself, guard pages left out | R W |
//! | devices | R W, nGnRE |
//! | the screen | R W, normal, not cached |
//!
//! Tables come from a pool in the image, because nothing else is there yet; what the pool has left once the machine is
//! up goes on serving [`map_device`]. Entries are only ever added, so no TLB has to be told.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use spin::Mutex;

use super::constants::{DEVICE_WINDOW, DIRECT_MAP, EXCEPTION_STACK, IMAGE, KERNEL_STACK, WINDOW_BYTES};
use super::paging::{ADDRESS, ENTRIES, PteFlags, TABLE, VALID, index};
use super::percpu;
use super::sysreg::instruction;
use crate::PAGE_SIZE;
use crate::addr::PhysAddr;
use crate::boot_info::PhysRange;

const PAGE: u64 = PAGE_SIZE as u64;

/// A table inside the image.
#[repr(C, align(4096))]
pub(super) struct StaticTable([AtomicU64; ENTRIES]);

impl StaticTable {
    const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; ENTRIES])
    }
}

/// Enough for 64 CPUs' stacks, a 32 MiB image and 48 oddly aligned runs of RAM.
const POOL: usize = 160;
pub(super) static TABLES: [StaticTable; POOL] = [const { StaticTable::new() }; POOL];
static TABLES_USED: AtomicUsize = AtomicUsize::new(1);
/// TTBR0 while no program's tables are in it.
static EMPTY: StaticTable = StaticTable::new();
/// The physical address of the image's first byte.
static IMAGE_START: AtomicU64 = AtomicU64::new(0);
/// Held by whoever adds mappings.
static CHANGES: Mutex<()> = Mutex::new(());

unsafe extern "C" {
    static __image_start: u8;
    static __text_end: u8;
    static __rodata_end: u8;
    static __image_end: u8;
}

/// The image's parts, as physical addresses.
#[derive(Clone, Copy)]
pub(super) struct Image {
    pub(super) start: u64,
    pub(super) text_end: u64,
    pub(super) rodata_end: u64,
    pub(super) end: u64,
}

/// Where the boot code found the image.
pub(super) fn set_image_start(physical: u64) {
    IMAGE_START.store(physical, Ordering::Relaxed);
}

/// The image's parts.
pub(super) fn image() -> Image {
    Image {
        start: image_phys(&raw const __image_start).0,
        text_end: image_phys(&raw const __text_end).0,
        rodata_end: image_phys(&raw const __rodata_end).0,
        end: image_phys(&raw const __image_end).0,
    }
}

/// The physical address of something in the image.
pub(super) fn image_phys<T>(thing: *const T) -> PhysAddr {
    PhysAddr(thing as u64 - IMAGE + IMAGE_START.load(Ordering::Relaxed))
}

/// The root of the kernel's half.
pub(super) fn root() -> PhysAddr {
    image_phys(&raw const TABLES[0])
}

/// A table of nothing.
pub(super) fn empty_table() -> PhysAddr {
    image_phys(&raw const EMPTY)
}

/// A table of the pool by its physical address.
fn table_at(physical: u64) -> &'static StaticTable {
    let index = (physical - root().0) / PAGE;
    &TABLES[index as usize]
}

fn new_table() -> u64 {
    let next = TABLES_USED.fetch_add(1, Ordering::Relaxed);
    assert!(next < POOL, "the pool of {POOL} kernel page tables is used up");
    image_phys(&raw const TABLES[next]).0
}

/// Maps `length` bytes from `physical` on at `address`, all page-aligned, with the largest blocks that fit.
fn map(address: u64, physical: u64, length: u64, flags: PteFlags) {
    let mut done = 0;
    while done < length {
        let (at, to) = (address + done, physical + done);
        let fits = |size: u64| (at | to) & (size - 1) == 0 && length - done >= size;
        let level = if fits(1 << 30) {
            1
        } else if fits(1 << 21) {
            2
        } else {
            3
        };
        map_one(at, to, level, flags);
        done += 1 << (39 - 9 * level);
    }
}

fn map_one(address: u64, physical: u64, level: u32, flags: PteFlags) {
    let mut table = &TABLES[0];
    for above in 0..level {
        let entry = &table.0[index(address, above)];
        let mut descriptor = entry.load(Ordering::Relaxed);
        if descriptor & VALID == 0 {
            descriptor = new_table() | TABLE;
            instruction!("dsb ishst");
            entry.store(descriptor, Ordering::Relaxed);
        }
        assert!(descriptor & TABLE == TABLE, "{address:#x} is inside a block already");
        table = table_at(descriptor & ADDRESS);
    }
    let page_bit = if level == 3 { TABLE & !VALID } else { 0 };
    table.0[index(address, level)].store(physical | flags.descriptor() | page_bit, Ordering::Relaxed);
}

/// Builds the image's mapping and the direct map of `ram`.
pub(super) fn build(ram: &[PhysRange]) {
    let image = image();
    let image_part = |start: u64, end: u64, flags| map(IMAGE + (start - image.start), start, end - start, flags);
    image_part(image.start, image.text_end, PteFlags::EXECUTE);
    image_part(image.text_end, image.rodata_end, PteFlags::empty());
    image_part(image.rodata_end, image.end, PteFlags::WRITE);
    for range in ram {
        // The read-only middle piece is where text and rodata are; empty in a range without the image.
        let low = image.start.clamp(range.start.0, range.end.0);
        let high = image.rodata_end.clamp(range.start.0, range.end.0);
        for (start, end, flags) in [
            (range.start.0, low, PteFlags::WRITE),
            (low, high, PteFlags::empty()),
            (high, range.end.0, PteFlags::WRITE),
        ] {
            map(DIRECT_MAP + start, start, end - start, flags);
        }
    }
    instruction!("dsb ishst", "isb");
}

/// Maps the stacks of one CPU onto `frames`, which are [`stack_bytes`] long.
pub(super) fn map_stacks(cpu: u32, frames: PhysAddr) {
    let (kernel, _) = percpu::kernel_stack(cpu);
    let (exception, _) = percpu::exception_stack(cpu);
    for (start, offset, length) in [(kernel, 0, KERNEL_STACK), (exception, KERNEL_STACK, EXCEPTION_STACK)] {
        for page in (0..length).step_by(PAGE_SIZE) {
            map_one(start + page, frames.0 + offset + page, 3, PteFlags::WRITE);
        }
    }
    instruction!("dsb ishst", "isb");
}

/// Bytes of RAM behind one CPU's stacks.
pub(super) const fn stack_bytes() -> u64 {
    KERNEL_STACK + EXCEPTION_STACK
}

/// Maps a device's registers, `length` bytes from `physical` on, for good and returns where they are. Asking again for
/// what is mapped is harmless. `None` above 64 TiB, where nothing is asked for, or where there are not enough page tables left.
/// Not for interrupt context.
pub fn map_device(physical: PhysAddr, length: u64) -> Option<*mut u8> {
    map_window(physical, length, PteFlags::WRITE | PteFlags::DEVICE)
}

/// As [`map_device`] for memory whose writes may be gathered and come late, and that is never cached: a screen's. Must
/// not be what is mapped as a device.
pub fn map_write_combining(physical: PhysAddr, length: u64) -> Option<*mut u8> {
    map_window(physical, length, PteFlags::WRITE | PteFlags::UNCACHED)
}

fn map_window(physical: PhysAddr, length: u64, flags: PteFlags) -> Option<*mut u8> {
    let end = physical.0.checked_add(length)?.checked_next_multiple_of(PAGE)?;
    if length == 0 || end > WINDOW_BYTES {
        return None;
    }
    let changes = CHANGES.lock();
    // As many as there can be missing: one for each 2 MiB begun, and what is above.
    let tables = (length >> 21) as usize + 4;
    if tables > POOL.saturating_sub(TABLES_USED.load(Ordering::Relaxed)) {
        return None;
    }
    for page in (physical.page_floor().0..end).step_by(PAGE_SIZE) {
        map_one(DEVICE_WINDOW + page, page, 3, flags);
    }
    instruction!("dsb ishst", "isb");
    drop(changes);
    Some((DEVICE_WINDOW + physical.0) as *mut u8)
}

/// Ranges of address space under the guarded stacks where nothing is ever mapped, to name a fault there.
pub(super) fn is_guard_page(address: u64) -> bool {
    use super::constants::{EXCEPTION_STACK_OFFSET, KERNEL_STACK_OFFSET, STACK_SLOT, STACKS};
    let end = STACKS + crate::MAX_CPUS as u64 * STACK_SLOT;
    let offset = address.wrapping_sub(STACKS) % STACK_SLOT;
    (STACKS..end).contains(&address)
        && (offset < KERNEL_STACK_OFFSET || (EXCEPTION_STACK_OFFSET - PAGE..EXCEPTION_STACK_OFFSET).contains(&offset))
}
