//! The user half of an address space: four levels of 4 KiB tables below TTBR0, and its ASID.
//!
//! Entries are written by the one owner of `&mut PageTable` while walkers of every CPU read them, so they are atomics.
//! The hardware updates neither access nor dirty flag: the access flag is always set, and dirtiness is what the kernel
//! makes of write faults.
//!
//! # Address-space identifiers
//! Each table takes an ASID of its own for life and gives it back, flushed, in [`PageTableOps::release`]. With 16 bits
//! there are more than enough, with 8 there may not be: tables made when none is left share [`SHARED_ASID`], and each
//! [`PageTableOps::activate`] of such a table first drops what this CPU's TLB holds under it. That needs no generations
//! and no stopping of other CPUs, and costs nothing until the 255th live process.

use core::ops::ControlFlow;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::constants::{ATTR_DEVICE, ATTR_NORMAL, ATTR_UNCACHED, DIRECT_MAP};
use super::percpu;
use super::sysreg::{instruction, read_sysreg, write_sysreg};
use crate::PAGE_SIZE;
use crate::addr::{PhysAddr, VirtAddr};
use crate::table_walk::{self, free_tables, visit_pages};
use crate::traits::{FrameSource, OutOfFrames, PageFlags, PageTableOps, Visit};

/// Entries in a table.
pub(super) const ENTRIES: usize = 512;
/// Descriptor bits (Arm ARM D8.3): valid, and table (or, at level 3, page).
pub(super) const VALID: u64 = 1;
pub(super) const TABLE: u64 = 3;
const ATTR_SHIFT: u32 = 2;
const USER: u64 = 1 << 6;
const READ_ONLY: u64 = 1 << 7;
const INNER_SHAREABLE: u64 = 3 << 8;
const ACCESSED: u64 = 1 << 10;
const NOT_GLOBAL: u64 = 1 << 11;
const PXN: u64 = 1 << 53;
const UXN: u64 = 1 << 54;
/// Software bits: an invalid entry that keeps its frame, and the execute permission such an entry would have.
const NO_ACCESS: u64 = 1 << 55;
/// The output address of a descriptor, bits 47:12.
pub(super) const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

bitflags::bitflags! {
    /// Attributes of one page, independent of how descriptors encode them.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct PteFlags: u8 {
        /// Writable.
        const WRITE = 1;
        /// Executable.
        const EXECUTE = 2;
        /// For user mode.
        const USER = 4;
        /// `PROT_NONE`.
        const NO_ACCESS = 8;
        /// Device memory.
        const DEVICE = 16;
        /// Memory that is not cached, whose writes may be gathered.
        const UNCACHED = 32;
    }
}

impl PteFlags {
    fn with(mut self, flag: Self, on: bool) -> Self {
        self.set(flag, on);
        self
    }

    /// The attribute bits of a page or block descriptor; bit 1 is the caller's.
    pub(super) fn descriptor(self) -> u64 {
        let mut bits = ACCESSED | INNER_SHAREABLE;
        bits |= (if self.contains(Self::DEVICE) {
            ATTR_DEVICE
        } else if self.contains(Self::UNCACHED) {
            ATTR_UNCACHED
        } else {
            ATTR_NORMAL
        }) << ATTR_SHIFT;
        bits |= if self.contains(Self::NO_ACCESS) {
            NO_ACCESS
        } else {
            VALID
        };
        if !self.contains(Self::WRITE) {
            bits |= READ_ONLY;
        }
        let user = self.contains(Self::USER);
        if user {
            bits |= USER | NOT_GLOBAL;
        }
        let execute = self.contains(Self::EXECUTE) && !self.contains(Self::DEVICE);
        if !(execute && user) {
            bits |= UXN;
        }
        if !execute || user {
            bits |= PXN;
        }
        bits
    }

    fn of(descriptor: u64) -> Self {
        let user = descriptor & USER != 0;
        Self::empty()
            .with(Self::WRITE, descriptor & READ_ONLY == 0)
            .with(Self::EXECUTE, descriptor & (if user { UXN } else { PXN }) == 0)
            .with(Self::USER, user)
            .with(Self::NO_ACCESS, descriptor & NO_ACCESS != 0)
            .with(Self::DEVICE, descriptor >> ATTR_SHIFT & 7 == ATTR_DEVICE)
            .with(Self::UNCACHED, descriptor >> ATTR_SHIFT & 7 == ATTR_UNCACHED)
    }
}

impl PageFlags for PteFlags {
    const READ: Self = Self::empty();

    fn with_write(self, on: bool) -> Self {
        self.with(Self::WRITE, on)
    }

    fn with_execute(self, on: bool) -> Self {
        self.with(Self::EXECUTE, on)
    }

    fn with_user(self, on: bool) -> Self {
        self.with(Self::USER, on)
    }

    fn with_no_access(self, on: bool) -> Self {
        self.with(Self::NO_ACCESS, on)
    }

    fn with_device(self, on: bool) -> Self {
        self.with(Self::DEVICE, on)
    }

    fn writable(self) -> bool {
        self.contains(Self::WRITE)
    }

    fn executable(self) -> bool {
        self.contains(Self::EXECUTE)
    }

    fn user(self) -> bool {
        self.contains(Self::USER)
    }
}

/// The ASID of tables that found none free. 0 is nobody's: it goes with the empty table.
const SHARED_ASID: u16 = 1;

/// Bit set: taken. The first two are reserved.
static ASIDS: [AtomicU64; 1024] = {
    let mut words = [const { AtomicU64::new(0) }; 1024];
    words[0] = AtomicU64::new(3);
    words
};
/// Where the search for a free ASID starts.
static ASID_HINT: AtomicUsize = AtomicUsize::new(0);

fn asid_words() -> usize {
    // ID_AA64MMFR0_EL1.ASIDBits; the boot code sets TCR_EL1.AS alike.
    if read_sysreg!("id_aa64mmfr0_el1") >> 4 & 0xf == 2 {
        1024
    } else {
        4
    }
}

fn allocate_asid() -> u16 {
    let words = asid_words();
    let start = ASID_HINT.load(Ordering::Relaxed);
    for step in 0..words {
        let index = (start + step) % words;
        let mut word = ASIDS[index].load(Ordering::Relaxed);
        while word != u64::MAX {
            let bit = word.trailing_ones();
            match ASIDS[index].compare_exchange_weak(word, word | 1 << bit, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => {
                    ASID_HINT.store(index, Ordering::Relaxed);
                    return (index * 64) as u16 + bit as u16;
                }
                Err(now) => word = now,
            }
        }
    }
    SHARED_ASID
}

fn free_asid(asid: u16) {
    if asid != SHARED_ASID {
        ASIDS[usize::from(asid) / 64].fetch_and(!(1 << (asid % 64)), Ordering::Release);
    }
}

/// One table, seen through the direct map.
#[derive(Clone, Copy)]
pub(super) struct Table(pub(super) PhysAddr);

impl Table {
    pub(super) fn entries(self) -> &'static [AtomicU64; ENTRIES] {
        // SAFETY: a table is a frame of RAM, aligned and mapped in the direct map for ever; all access to it is atomic.
        unsafe { &*((DIRECT_MAP + self.0.0) as *const [AtomicU64; ENTRIES]) }
    }

    /// The table an entry points to.
    fn below(descriptor: u64) -> Option<Self> {
        (descriptor & TABLE == TABLE).then_some(Self(PhysAddr(descriptor & ADDRESS)))
    }
}

impl table_walk::Table for Table {
    /// Ignored in table descriptors (Arm ARM D8.3.1).
    const EIGHTHS: u32 = 51;

    fn entries(self) -> &'static [AtomicU64] {
        Self::entries(self)
    }

    fn below(entry: u64) -> Option<Self> {
        Self::below(entry)
    }
}

/// The index of `address` in a table of `level` (0 is the root).
pub(super) const fn index(address: u64, level: u32) -> usize {
    (address >> (39 - 9 * level)) as usize & (ENTRIES - 1)
}

/// A user half.
#[derive(Debug)]
pub struct PageTable {
    root: PhysAddr,
    asid: u16,
}

impl PageTable {
    /// The level-3 table of `page` and the page's index in it.
    fn leaf_table(&self, page: VirtAddr) -> Option<(Table, usize)> {
        let mut table = Table(self.root);
        for level in 0..3 {
            table = Table::below(table.entries()[index(page.0, level)].load(Ordering::Relaxed))?;
        }
        Some((table, index(page.0, 3)))
    }

    /// The level-3 table of `page`, made if there is none; the page's place in it is noted.
    fn leaf_table_or_make(&self, page: VirtAddr, frames: &impl FrameSource) -> Result<Table, OutOfFrames> {
        let mut table = Table(self.root);
        for level in 0..3 {
            let entry = &table.entries()[index(page.0, level)];
            table = match Table::below(entry.load(Ordering::Relaxed)) {
                Some(below) => below,
                None => {
                    let below = frames.allocate_table().ok_or(OutOfFrames)?;
                    // The frame's zeroes before the entry that leads walkers to it.
                    instruction!("dsb ishst");
                    entry.store(below.0 | TABLE, Ordering::Release);
                    Table(below)
                }
            };
            table_walk::note::<Table>(entry, index(page.0, level + 1));
        }
        Ok(table)
    }

    fn leaf(&self, page: VirtAddr) -> Option<&'static AtomicU64> {
        let (table, index) = self.leaf_table(page)?;
        Some(&table.entries()[index])
    }

    fn tlb_argument(&self, page: u64) -> u64 {
        u64::from(self.asid) << 48 | (page >> 12 & 0xfff_ffff_ffff)
    }

    fn invalidate_asid(&self) {
        instruction!("dsb ishst");
        let argument = u64::from(self.asid) << 48;
        // SAFETY: dropping TLB entries is always sound.
        unsafe { core::arch::asm!("tlbi aside1is, {}", in(reg) argument, options(nostack, preserves_flags)) };
        instruction!("dsb ish", "isb");
    }
}

fn is_mapped(descriptor: u64) -> bool {
    descriptor & (VALID | NO_ACCESS) != 0
}

fn page_descriptor(frame: PhysAddr, flags: PteFlags) -> u64 {
    frame.0 & ADDRESS | flags.descriptor() | (TABLE & !VALID)
}

impl PageTableOps for PageTable {
    type Flags = PteFlags;
    const USER_END: u64 = 1 << 48;
    const COHERENT_CODE: bool = false;
    const BROADCAST_INVALIDATE: bool = true;

    fn new(frames: &impl FrameSource) -> Result<Self, OutOfFrames> {
        let root = frames.allocate_table().ok_or(OutOfFrames)?;
        Ok(Self {
            root,
            asid: allocate_asid(),
        })
    }

    fn map(
        &mut self,
        page: VirtAddr,
        frame: PhysAddr,
        flags: PteFlags,
        frames: &impl FrameSource,
    ) -> Result<(), OutOfFrames> {
        let table = self.leaf_table_or_make(page, frames)?;
        let entry = &table.entries()[index(page.0, 3)];
        let old = entry.load(Ordering::Relaxed);
        let new = page_descriptor(frame, flags);
        if old & VALID != 0 && (old ^ new) & (ADDRESS | 7 << ATTR_SHIFT) != 0 {
            // Another frame or memory type: break before make (Arm ARM D8.14.1).
            entry.store(0, Ordering::Relaxed);
            self.invalidate(page, VirtAddr(page.0 + PAGE_SIZE as u64));
        }
        entry.store(new, Ordering::Relaxed);
        instruction!("dsb ishst", "isb");
        Ok(())
    }

    fn fill(
        &mut self,
        start: VirtAddr,
        end: VirtAddr,
        frames: &impl FrameSource,
        mut fill: impl FnMut(VirtAddr) -> Option<(PhysAddr, PteFlags)>,
    ) -> Result<(), OutOfFrames> {
        let table = self.leaf_table_or_make(start, frames)?;
        let first = index(start.0, 3);
        let last = first + (end.0.saturating_sub(start.0) / PAGE_SIZE as u64) as usize;
        table_walk::fill(
            table.entries(),
            first,
            last,
            |old| !is_mapped(old),
            |at| {
                let page = start.0 + ((at - first) * PAGE_SIZE) as u64;
                fill(VirtAddr(page)).map(|(frame, flags)| page_descriptor(frame, flags))
            },
        );
        instruction!("dsb ishst", "isb");
        Ok(())
    }

    fn unmap(&mut self, page: VirtAddr) -> Option<(PhysAddr, PteFlags)> {
        let entry = self.leaf(page)?;
        let old = entry.load(Ordering::Relaxed);
        if !is_mapped(old) {
            return None;
        }
        entry.store(0, Ordering::Relaxed);
        Some((PhysAddr(old & ADDRESS), PteFlags::of(old)))
    }

    fn protect(&mut self, page: VirtAddr, flags: PteFlags) -> bool {
        let Some(entry) = self.leaf(page) else { return false };
        let old = entry.load(Ordering::Relaxed);
        if is_mapped(old) {
            entry.store(page_descriptor(PhysAddr(old & ADDRESS), flags), Ordering::Relaxed);
        }
        is_mapped(old)
    }

    fn translate(&self, page: VirtAddr) -> Option<(PhysAddr, PteFlags)> {
        let descriptor = self.leaf(page)?.load(Ordering::Relaxed);
        is_mapped(descriptor).then(|| (PhysAddr(descriptor & ADDRESS), PteFlags::of(descriptor)))
    }

    fn visit(
        &mut self,
        start: VirtAddr,
        end: VirtAddr,
        mut visit: impl FnMut(VirtAddr, PhysAddr, PteFlags) -> Visit<PteFlags>,
    ) {
        visit_pages(
            Table(self.root),
            3,
            0,
            (start.0, end.0),
            &mut |page, entry, descriptor| {
                if is_mapped(descriptor) {
                    let frame = PhysAddr(descriptor & ADDRESS);
                    match visit(VirtAddr(page), frame, PteFlags::of(descriptor)) {
                        Visit::Keep => {}
                        Visit::Change(flags) => entry.store(page_descriptor(frame, flags), Ordering::Relaxed),
                        Visit::Remove => entry.store(0, Ordering::Relaxed),
                        Visit::Stop => return ControlFlow::Break(()),
                    }
                }
                ControlFlow::Continue(())
            },
        );
    }

    fn activate(&self) {
        let value = u64::from(self.asid) << 48 | self.root.0;
        let active = &percpu::current().active;
        if active.get() == value && self.asid != SHARED_ASID {
            return;
        }
        active.set(value);
        instruction!("dsb ishst");
        if self.asid == SHARED_ASID {
            write_sysreg!("ttbr0_el1", empty_root());
            instruction!("isb");
            let argument = u64::from(SHARED_ASID) << 48;
            // SAFETY: dropping TLB entries is always sound.
            unsafe { core::arch::asm!("tlbi aside1, {}", in(reg) argument, options(nostack, preserves_flags)) };
            instruction!("dsb nsh");
        }
        write_sysreg!("ttbr0_el1", value);
        instruction!("isb");
    }

    fn deactivate() {
        percpu::current().active.set(0);
        write_sysreg!("ttbr0_el1", empty_root());
        instruction!("isb");
    }

    fn invalidate(&self, start: VirtAddr, end: VirtAddr) {
        /// From here on one broadcast for the whole ASID is cheaper than one for each page.
        const MOST_PAGES: u64 = 64;
        let pages = end.0.saturating_sub(start.0) / PAGE_SIZE as u64;
        if pages > MOST_PAGES {
            self.invalidate_asid();
            return;
        }
        instruction!("dsb ishst");
        for page in 0..pages {
            let argument = self.tlb_argument(start.0 + page * PAGE_SIZE as u64);
            // SAFETY: dropping TLB entries is always sound.
            unsafe { core::arch::asm!("tlbi vale1is, {}", in(reg) argument, options(nostack, preserves_flags)) };
        }
        instruction!("dsb ish", "isb");
    }

    fn release(self, frames: &impl FrameSource) {
        self.invalidate_asid();
        free_asid(self.asid);
        free_tables(Table(self.root), 3, ENTRIES, &mut |table| frames.free_table(table.0));
    }

    fn sync_instruction_cache(frame: PhysAddr) {
        /// `CTR_EL0` (D19.2.34): no clean to the point of unification, no invalidation of the instruction cache needed.
        const IDC: u64 = 1 << 28;
        const DIC: u64 = 1 << 29;
        let cache_type = read_sysreg!("ctr_el0");
        if cache_type & IDC == 0 {
            let line = 4u64 << (cache_type >> 16 & 0xf);
            let start = DIRECT_MAP + frame.0;
            for address in (start..start + PAGE_SIZE as u64).step_by(line as usize) {
                // SAFETY: cleaning a mapped line of RAM changes no value.
                unsafe { core::arch::asm!("dc cvau, {}", in(reg) address, options(nostack, preserves_flags)) };
            }
        }
        instruction!("dsb ish");
        if cache_type & DIC == 0 {
            // All of it: the program's address is an alias of ours, which a virtually indexed cache may hold elsewhere.
            instruction!("ic ialluis", "dsb ish");
        }
        instruction!("isb");
    }
}

/// The TTBR0 value under which every user address faults.
pub(super) fn empty_root() -> u64 {
    super::kernel_map::empty_table().0
}
