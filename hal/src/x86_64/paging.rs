//! Four-level page tables (SDM volume 3, 4.5).
//!
//! The user half is entries 0..256 of a root of its own per address space. The kernel half is complete before the first
//! such root is made and never gains a root entry afterwards, so every root copies its 256 words once and stays right.
//! Kernel mappings are global; a write to CR3 drops the user's translations only.

use core::{
    ops::ControlFlow,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use super::{
    constants::{DIRECT_MAP, USER_END},
    registers::{invalidate_page, read_cr3, write_cr3},
};
use crate::{
    PAGE_SIZE,
    addr::{PhysAddr, VirtAddr},
    table_walk::{self, WHOLE, free_tables, visit_pages, visit_used},
    traits::{FrameSource, OutOfFrames, PageFlags, PageTableOps, Visit},
};

/// The bits of a page-table entry that say what a page may be used for (SDM volume 3, table 4-20).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PteFlags(u64);

const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const WRITE_THROUGH: u64 = 1 << 3;
const CACHE_DISABLE: u64 = 1 << 4;
const LARGE: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
/// Software's: the entry keeps a frame that no access may use. Set where [`PRESENT`] is not.
const NO_ACCESS: u64 = 1 << 9;
const NO_EXECUTE: u64 = 1 << 63;
const FRAME: u64 = 0x000f_ffff_ffff_f000;
const FLAGS: u64 = PRESENT | WRITE | USER | WRITE_THROUGH | CACHE_DISABLE | NO_ACCESS | NO_EXECUTE;
/// What every intermediate entry says: the leaf alone decides.
const TABLE: u64 = PRESENT | WRITE | USER;

/// `IA32_PAT` of every CPU: what it is after a reset (SDM volume 3, table 12-12), but entry 1, write-through, which nothing here
/// uses, is write-combining.
pub(super) const PAT: u64 = 0x0007_0406_0007_0106;

impl PteFlags {
    const fn with(self, bits: u64, on: bool) -> Self {
        Self(if on { self.0 | bits } else { self.0 & !bits })
    }

    /// Writes may be gathered, and nothing is cached: entry 1 of the page attribute table, which [`PAT`] makes that.
    pub(super) const fn with_write_combining(self) -> Self {
        self.with(CACHE_DISABLE, false).with(WRITE_THROUGH, true)
    }
}

impl core::fmt::Debug for PteFlags {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let letter = |on, letter| if on { letter } else { '-' };
        write!(
            f,
            "{}{}{}{}",
            letter(self.0 & PRESENT != 0, 'r'),
            letter(self.writable(), 'w'),
            letter(self.executable(), 'x'),
            letter(self.user(), 'u')
        )
    }
}

impl PageFlags for PteFlags {
    const READ: Self = Self(PRESENT | NO_EXECUTE);

    fn with_write(self, on: bool) -> Self {
        self.with(WRITE, on)
    }

    fn with_execute(self, on: bool) -> Self {
        self.with(NO_EXECUTE, !on)
    }

    fn with_user(self, on: bool) -> Self {
        self.with(USER, on)
    }

    fn with_no_access(self, on: bool) -> Self {
        self.with(NO_ACCESS, on).with(PRESENT, !on)
    }

    fn with_device(self, on: bool) -> Self {
        self.with(WRITE_THROUGH | CACHE_DISABLE, on)
    }

    fn writable(self) -> bool {
        self.0 & WRITE != 0
    }

    fn executable(self) -> bool {
        self.0 & NO_EXECUTE == 0
    }

    fn user(self) -> bool {
        self.0 & USER != 0
    }
}

/// A table's 512 entries. Other CPUs' walkers read them at any time, and set accessed and dirty bits, which nothing
/// here looks at.
type Entries = [AtomicU64; 512];

/// A table through the direct map.
///
/// # Safety
/// `table` is a page-table frame that stays one for as long as the reference is used.
unsafe fn entries(table: u64) -> &'static Entries {
    // SAFETY: the caller's promise; the direct map holds all RAM.
    unsafe { &*((DIRECT_MAP + table) as *const Entries) }
}

fn index(address: u64, level: u32) -> usize {
    (address >> (12 + 9 * level)) as usize & 511
}

/// The root that holds the kernel half alone.
static KERNEL_ROOT: AtomicU64 = AtomicU64::new(0);

/// The physical address of the kernel's own root.
pub fn kernel_root() -> u64 {
    KERNEL_ROOT.load(Relaxed)
}

/// The kernel half as boot builds it.
pub struct KernelTables<'a, S> {
    root: u64,
    frames: &'a S,
    gigabyte_pages: bool,
}

impl<'a, S: FrameSource> KernelTables<'a, S> {
    /// An empty root. `gigabyte_pages` is whether the CPU has them.
    ///
    /// # Errors
    /// [`OutOfFrames`].
    pub fn new(frames: &'a S, gigabyte_pages: bool) -> Result<Self, OutOfFrames> {
        let root = frames.allocate_table().ok_or(OutOfFrames)?.0;
        Ok(Self {
            root,
            frames,
            gigabyte_pages,
        })
    }

    /// A root with the published kernel half, to which more is added for a while: the trampoline's.
    ///
    /// # Errors
    /// [`OutOfFrames`].
    pub fn sharing_kernel_half(frames: &'a S) -> Result<Self, OutOfFrames> {
        let root = PageTable::new(frames)?.root;
        Ok(Self {
            root,
            frames,
            gigabyte_pages: false,
        })
    }

    /// The tables below a root that is in use, to be added to by 4 KiB and 2 MiB pages.
    ///
    /// # Safety
    /// `root` is a live root, and nobody else changes the parts that will be mapped to.
    pub unsafe fn of_root(root: u64, frames: &'a S) -> Self {
        Self {
            root,
            frames,
            gigabyte_pages: false,
        }
    }

    /// Makes the root's entry for `address`, so that roots copied from this one share what is mapped there later.
    ///
    /// # Errors
    /// [`OutOfFrames`].
    pub fn reserve(&self, address: u64) -> Result<(), OutOfFrames> {
        // SAFETY: the tables are this builder's own.
        unsafe { walk_or_make(self.root, address, 2, TABLE & !USER, self.frames) }.map(|_| ())
    }

    /// The root's physical address.
    pub fn root(&self) -> u64 {
        self.root
    }

    /// Maps `len` bytes, by the largest pages that fit. All three are multiples of the page size.
    ///
    /// # Errors
    /// [`OutOfFrames`].
    pub fn map(&self, virt: u64, phys: u64, len: u64, flags: PteFlags) -> Result<(), OutOfFrames> {
        let mut done = 0;
        while done < len {
            let (at, frame, left) = (virt + done, phys + done, len - done);
            let fits = |level: u32| {
                let size = (PAGE_SIZE as u64) << (9 * level);
                (at | frame) & (size - 1) == 0 && left >= size
            };
            let level = match () {
                () if self.gigabyte_pages && fits(2) => 2,
                () if fits(1) => 1,
                () => 0,
            };
            let large = if level > 0 { LARGE } else { 0 };
            // User mappings (the trampoline's identity map has none) are not global.
            let global = if at > USER_END { GLOBAL } else { 0 };
            // SAFETY: the tables are this builder's own.
            let slot = unsafe { walk_or_make(self.root, at, level, TABLE & !USER, self.frames)? };
            slot.store(frame | flags.0 | large | global, Relaxed);
            done += (PAGE_SIZE as u64) << (9 * level);
        }
        Ok(())
    }

    /// Declares this the kernel half of every address space.
    pub fn publish(&self) {
        KERNEL_ROOT.store(self.root, Relaxed);
    }
}

/// The entry for `address` at `level` (0 for 4 KiB pages), making tables on the way.
///
/// # Safety
/// `root` is a live root and no large page stands in the way.
unsafe fn walk_or_make(
    root: u64,
    address: u64,
    level: u32,
    link: u64,
    frames: &impl FrameSource,
) -> Result<&'static AtomicU64, OutOfFrames> {
    // SAFETY: the caller's promise.
    let table = unsafe { table_or_make(root, address, level, link, frames)? };
    // SAFETY: reached from a live root.
    Ok(unsafe { &entries(table)[index(address, level)] })
}

/// The table at `level` with the entry for `address`, whose place in it is noted.
///
/// # Safety
/// As [`walk_or_make`].
unsafe fn table_or_make(
    root: u64,
    address: u64,
    level: u32,
    link: u64,
    frames: &impl FrameSource,
) -> Result<u64, OutOfFrames> {
    let mut table = root;
    for above in (level + 1..=3).rev() {
        // SAFETY: reached from a live root.
        let entry = unsafe { &entries(table)[index(address, above)] };
        let value = entry.load(Relaxed);
        table = if value & PRESENT != 0 {
            value & FRAME
        } else {
            let fresh = frames.allocate_table().ok_or(OutOfFrames)?.0;
            entry.store(fresh | link, Relaxed);
            fresh
        };
        table_walk::note::<Table>(entry, index(address, above - 1));
    }
    Ok(table)
}

/// The user half of one address space.
#[derive(Debug)]
pub struct PageTable {
    root: u64,
}

impl PageTable {
    fn leaf(&self, page: VirtAddr) -> Option<&'static AtomicU64> {
        let mut table = self.root;
        for above in (1..=3).rev() {
            // SAFETY: reached from this space's live root; the user half has no large pages.
            let value = unsafe { entries(table)[index(page.0, above)].load(Relaxed) };
            if value & PRESENT == 0 {
                return None;
            }
            table = value & FRAME;
        }
        // SAFETY: as above.
        Some(unsafe { &entries(table)[index(page.0, 0)] })
    }
}

fn mapped(value: u64) -> Option<(PhysAddr, PteFlags)> {
    (value & (PRESENT | NO_ACCESS) != 0).then_some((PhysAddr(value & FRAME), PteFlags(value & FLAGS)))
}

/// A table of a live space, for [`visit_pages`].
#[derive(Clone, Copy)]
struct Table(u64);

impl table_walk::Table for Table {
    /// Ignored in entries that point to a table (SDM volume 3, table 4-14 and following).
    const EIGHTHS: u32 = 52;

    fn entries(self) -> &'static [AtomicU64] {
        // SAFETY: made of a space's root, and by `below` of what is reached from there.
        unsafe { entries(self.0) }
    }

    fn below(entry: u64) -> Option<Self> {
        (entry & PRESENT != 0).then_some(Self(entry & FRAME))
    }
}

/// More pages than this are cheaper to drop by writing CR3.
const INVALIDATE_LIMIT: u64 = 32;

impl PageTableOps for PageTable {
    type Flags = PteFlags;
    const USER_END: u64 = USER_END;
    const COHERENT_CODE: bool = true;
    const BROADCAST_INVALIDATE: bool = false;

    fn new(frames: &impl FrameSource) -> Result<Self, OutOfFrames> {
        let root = frames.allocate_table().ok_or(OutOfFrames)?.0;
        // SAFETY: the one frame is fresh, the other is the kernel's root, which no longer changes.
        let (to, from) = unsafe { (entries(root), entries(kernel_root())) };
        let _all = visit_used(from, WHOLE, 256, 512, |index, _, value| {
            to[index].store(value, Relaxed);
            ControlFlow::Continue(())
        });
        Ok(Self { root })
    }

    fn map(
        &mut self,
        page: VirtAddr,
        frame: PhysAddr,
        flags: PteFlags,
        frames: &impl FrameSource,
    ) -> Result<(), OutOfFrames> {
        // SAFETY: this space's live root; the user half has no large pages.
        let entry = unsafe { walk_or_make(self.root, page.0, 0, TABLE, frames)? };
        entry.store(frame.0 | flags.0, Relaxed);
        Ok(())
    }

    fn fill(
        &mut self,
        start: VirtAddr,
        end: VirtAddr,
        frames: &impl FrameSource,
        mut fill: impl FnMut(VirtAddr) -> Option<(PhysAddr, PteFlags)>,
    ) -> Result<(), OutOfFrames> {
        // SAFETY: this space's live root; the user half has no large pages.
        let table = unsafe { entries(table_or_make(self.root, start.0, 0, TABLE, frames)?) };
        let first = index(start.0, 0);
        let last = first + (end.0.saturating_sub(start.0) / PAGE_SIZE as u64) as usize;
        table_walk::fill(
            table,
            first,
            last,
            |old| mapped(old).is_none(),
            |at| {
                let page = start.0 + ((at - first) * PAGE_SIZE) as u64;
                fill(VirtAddr(page)).map(|(frame, flags)| frame.0 | flags.0)
            },
        );
        Ok(())
    }

    fn unmap(&mut self, page: VirtAddr) -> Option<(PhysAddr, PteFlags)> {
        mapped(self.leaf(page)?.swap(0, Relaxed))
    }

    fn protect(&mut self, page: VirtAddr, flags: PteFlags) -> bool {
        let Some(entry) = self.leaf(page) else { return false };
        let Some((frame, _)) = mapped(entry.load(Relaxed)) else {
            return false;
        };
        entry.store(frame.0 | flags.0, Relaxed);
        true
    }

    fn translate(&self, page: VirtAddr) -> Option<(PhysAddr, PteFlags)> {
        mapped(self.leaf(page)?.load(Relaxed))
    }

    fn visit(
        &mut self,
        start: VirtAddr,
        end: VirtAddr,
        mut visit: impl FnMut(VirtAddr, PhysAddr, PteFlags) -> Visit<PteFlags>,
    ) {
        visit_pages(Table(self.root), 3, 0, (start.0, end.0), &mut |page, entry, value| {
            if let Some((frame, flags)) = mapped(value) {
                match visit(VirtAddr(page), frame, flags) {
                    Visit::Keep => {}
                    Visit::Change(new) => entry.store(frame.0 | new.0, Relaxed),
                    Visit::Remove => entry.store(0, Relaxed),
                    Visit::Stop => return ControlFlow::Break(()),
                }
            }
            ControlFlow::Continue(())
        });
    }

    fn activate(&self) {
        if read_cr3() != self.root {
            // SAFETY: the kernel half is the same in every root.
            unsafe { write_cr3(self.root) };
        }
    }

    fn deactivate() {
        if read_cr3() != kernel_root() {
            // SAFETY: as in `activate`.
            unsafe { write_cr3(kernel_root()) };
        }
    }

    fn invalidate(&self, start: VirtAddr, end: VirtAddr) {
        // Without PCID a CPU remembers translations of the active root only.
        if read_cr3() != self.root {
            return;
        }
        if end.0.saturating_sub(start.0) / PAGE_SIZE as u64 > INVALIDATE_LIMIT {
            // SAFETY: the same root again.
            unsafe { write_cr3(self.root) };
            return;
        }
        let mut page = start.0;
        while page < end.0 {
            invalidate_page(page);
            page += PAGE_SIZE as u64;
        }
    }

    fn release(self, frames: &impl FrameSource) {
        // The user half alone.
        free_tables(Table(self.root), 3, 256, &mut |table| {
            frames.free_table(PhysAddr(table.0))
        });
    }

    fn sync_instruction_cache(_frame: PhysAddr) {
        // x86 keeps instruction fetch coherent with stores.
    }
}
