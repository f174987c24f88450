//! Mapping devices' registers once the machine is up.
//!
//! They stand in a window of their own below one entry of the root, which every address space has from its beginning. Tables
//! come from a pool in the image, since the boot frames are gone by then and the kernel's allocator is not known here.
//! Entries are only ever added, so no TLB has to be told.

use core::{cell::Cell, sync::atomic::AtomicU64};

use super::{
    boot::image_phys,
    constants::DEVICE_WINDOW,
    paging::{KernelTables, PteFlags, kernel_root},
};
use crate::{
    PAGE_SIZE,
    addr::PhysAddr,
    traits::{FrameSource, OutOfFrames, PageFlags},
};

/// Bytes of the window: what one entry of the root covers.
const WINDOW: u64 = 1 << 39;
/// Where the next mapping may begin is rounded to this, so that large pages fit large blocks of registers.
const LARGE: u64 = 2 << 20;

/// A table inside the image.
#[repr(C, align(4096))]
struct StaticTable([AtomicU64; 512]);

/// Enough for 64 devices that lie apart.
const POOL: usize = 96;
static TABLES: [StaticTable; POOL] = [const { StaticTable([const { AtomicU64::new(0) }; 512]) }; POOL];

/// What the window has been used for, in bytes; held by whoever adds a mapping.
static USED: spin::Mutex<Used> = spin::Mutex::new(Used { bytes: 0, tables: 0 });

struct Used {
    bytes: u64,
    tables: usize,
}

/// Tables of the pool, from a number on.
struct Pool(Cell<usize>);

impl FrameSource for Pool {
    fn allocate_table(&self) -> Option<PhysAddr> {
        let table = TABLES.get(self.0.get())?;
        self.0.set(self.0.get() + 1);
        Some(PhysAddr(image_phys(core::ptr::from_ref(table).cast())))
    }

    fn free_table(&self, _frame: PhysAddr) {}
}

/// Makes the root's entry for the window, before the root is published.
///
/// # Errors
/// [`OutOfFrames`].
pub(super) fn reserve<S: FrameSource>(tables: &KernelTables<'_, S>) -> Result<(), OutOfFrames> {
    tables.reserve(DEVICE_WINDOW)
}

/// Maps a device's registers, `length` bytes from `physical` on, for good and returns where they are. `None` where nothing is
/// asked for, or the window or the pool of page tables is used up. Not for interrupt context.
pub fn map_device(physical: PhysAddr, length: u64) -> Option<*mut u8> {
    map(physical, length, PteFlags::READ.with_write(true).with_device(true))
}

/// As [`map_device`] for memory whose writes may be gathered and come late, and that is never cached: a screen's.
pub fn map_write_combining(physical: PhysAddr, length: u64) -> Option<*mut u8> {
    map(physical, length, PteFlags::READ.with_write(true).with_write_combining())
}

fn map(physical: PhysAddr, length: u64, flags: PteFlags) -> Option<*mut u8> {
    let page = PAGE_SIZE as u64;
    let first = physical.page_floor().0;
    let end = physical.0.checked_add(length)?.checked_next_multiple_of(page)?;
    if length == 0 || end > 1 << 52 {
        return None;
    }
    let mut used = USED.lock();
    // Large pages want both addresses aligned alike.
    let start = used.bytes.next_multiple_of(LARGE) + first % LARGE;
    let after = start.checked_add(end - first).filter(|after| *after <= WINDOW)?;
    let pool = Pool(Cell::new(used.tables));
    // SAFETY: boot is over, and the window's part of the tables is changed here only, under the lock.
    let tables = unsafe { KernelTables::of_root(kernel_root(), &pool) };
    let outcome = tables.map(DEVICE_WINDOW + start, first, end - first, flags);
    used.tables = pool.0.get();
    used.bytes = after;
    drop(used);
    outcome.ok()?;
    Some((DEVICE_WINDOW + start + physical.page_offset() as u64) as *mut u8)
}
