//! Simulated page tables and TLBs.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Arc, Mutex},
};

use super::machine::{self, lock};
use crate::{
    PAGE_SIZE,
    addr::{PhysAddr, VirtAddr},
    traits::{FILL, FrameSource, OutOfFrames, PageFlags, PageTableOps, Visit},
    trap::Access,
};

bitflags::bitflags! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Bits: u8 {
        const WRITE = 1;
        const EXECUTE = 2;
        const USER = 4;
        const NO_ACCESS = 8;
        const DEVICE = 16;
    }
}

/// The attributes of one mapped page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PteFlags(Bits);

impl PteFlags {
    fn with(self, bit: Bits, on: bool) -> Self {
        let mut bits = self.0;
        bits.set(bit, on);
        Self(bits)
    }

    /// Whether user mode may do `access`.
    fn permits(self, access: Access) -> bool {
        let needed = match access {
            Access::Read => Bits::USER,
            Access::Write => Bits::USER | Bits::WRITE,
            Access::Execute => Bits::USER | Bits::EXECUTE,
        };
        self.0.contains(needed) && !self.0.contains(Bits::NO_ACCESS)
    }
}

impl PageFlags for PteFlags {
    const READ: Self = Self(Bits::empty());

    fn with_write(self, on: bool) -> Self {
        self.with(Bits::WRITE, on)
    }

    fn with_execute(self, on: bool) -> Self {
        self.with(Bits::EXECUTE, on)
    }

    fn with_user(self, on: bool) -> Self {
        self.with(Bits::USER, on)
    }

    fn with_no_access(self, on: bool) -> Self {
        self.with(Bits::NO_ACCESS, on)
    }

    fn with_device(self, on: bool) -> Self {
        self.with(Bits::DEVICE, on)
    }

    fn writable(self) -> bool {
        self.0.contains(Bits::WRITE)
    }

    fn executable(self) -> bool {
        self.0.contains(Bits::EXECUTE)
    }

    fn user(self) -> bool {
        self.0.contains(Bits::USER)
    }
}

type Mapping = (PhysAddr, PteFlags);

/// What a CPU remembers of the table it translates by.
pub(super) struct Tlb(BTreeMap<u64, Mapping>);

impl Tlb {
    pub(super) const fn new() -> Self {
        Self(BTreeMap::new())
    }
}

/// One user half: leaf entries by page, and the table frames that they cost (one for each 2 MiB in use).
#[derive(Default)]
pub(super) struct Tables {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    entries: BTreeMap<u64, Mapping>,
    tables: BTreeMap<u64, PhysAddr>,
}

/// A simulated page table.
pub struct PageTable {
    root: PhysAddr,
    tables: Arc<Tables>,
}

const TABLE_BYTES: u64 = (PAGE_SIZE as u64) * 512;

impl PageTableOps for PageTable {
    type Flags = PteFlags;
    const USER_END: u64 = 0x7fff_ffff_f000;
    // As the stricter machine.
    const COHERENT_CODE: bool = false;
    const BROADCAST_INVALIDATE: bool = false;

    fn new(frames: &impl FrameSource) -> Result<Self, OutOfFrames> {
        let root = frames.allocate_table().ok_or(OutOfFrames)?;
        Ok(Self {
            root,
            tables: Arc::default(),
        })
    }

    fn map(
        &mut self,
        page: VirtAddr,
        frame: PhysAddr,
        flags: PteFlags,
        frames: &impl FrameSource,
    ) -> Result<(), OutOfFrames> {
        assert!(
            page.is_page_aligned() && page.0 < Self::USER_END,
            "{page:?} cannot be mapped"
        );
        let mut inner = lock(&self.tables.inner);
        let table = page.0 / TABLE_BYTES;
        if let Entry::Vacant(vacant) = inner.tables.entry(table) {
            vacant.insert(frames.allocate_table().ok_or(OutOfFrames)?);
        }
        inner.entries.insert(page.0, (frame, flags));
        Ok(())
    }

    fn fill(
        &mut self,
        start: VirtAddr,
        end: VirtAddr,
        frames: &impl FrameSource,
        mut fill: impl FnMut(VirtAddr) -> Option<Mapping>,
    ) -> Result<(), OutOfFrames> {
        let block = FILL * PAGE_SIZE as u64;
        assert!(
            start.is_page_aligned() && start < end && start.0 / block == (end.0 - 1) / block,
            "{start:?}..{end:?} cannot be filled"
        );
        let mut inner = lock(&self.tables.inner);
        if let Entry::Vacant(vacant) = inner.tables.entry(start.0 / TABLE_BYTES) {
            vacant.insert(frames.allocate_table().ok_or(OutOfFrames)?);
        }
        for page in (start.0..end.0).step_by(PAGE_SIZE) {
            if let Entry::Vacant(vacant) = inner.entries.entry(page)
                && let Some(mapping) = fill(VirtAddr(page))
            {
                vacant.insert(mapping);
            }
        }
        Ok(())
    }

    fn unmap(&mut self, page: VirtAddr) -> Option<Mapping> {
        lock(&self.tables.inner).entries.remove(&page.0)
    }

    fn protect(&mut self, page: VirtAddr, flags: PteFlags) -> bool {
        lock(&self.tables.inner)
            .entries
            .get_mut(&page.0)
            .map(|entry| entry.1 = flags)
            .is_some()
    }

    fn translate(&self, page: VirtAddr) -> Option<Mapping> {
        lock(&self.tables.inner).entries.get(&page.0).copied()
    }

    fn visit(
        &mut self,
        start: VirtAddr,
        end: VirtAddr,
        mut visit: impl FnMut(VirtAddr, PhysAddr, PteFlags) -> Visit<PteFlags>,
    ) {
        if start >= end {
            return;
        }
        let mut tables = lock(&self.tables.inner);
        let mut removed = Vec::new();
        for (&page, entry) in tables.entries.range_mut(start.0..end.0) {
            match visit(VirtAddr(page), entry.0, entry.1) {
                Visit::Keep => {}
                Visit::Change(flags) => entry.1 = flags,
                Visit::Remove => removed.push(page),
                Visit::Stop => break,
            }
        }
        for page in removed {
            tables.entries.remove(&page);
        }
    }

    fn activate(&self) {
        machine::with_cpu(|cpu| {
            cpu.active = Some(self.tables.clone());
            cpu.tlb.0.clear();
        });
    }

    fn deactivate() {
        machine::with_cpu(|cpu| {
            cpu.active = None;
            cpu.tlb.0.clear();
        });
    }

    fn invalidate(&self, start: VirtAddr, end: VirtAddr) {
        machine::with_cpu(|cpu| {
            if cpu
                .active
                .as_ref()
                .is_some_and(|active| Arc::ptr_eq(active, &self.tables))
            {
                cpu.tlb.0.retain(|page, _| !(start.0..end.0).contains(page));
            }
        });
    }

    fn release(self, frames: &impl FrameSource) {
        let mut inner = lock(&self.tables.inner);
        for (_, frame) in std::mem::take(&mut inner.tables) {
            frames.free_table(frame);
        }
        inner.entries.clear();
        frames.free_table(self.root);
    }

    fn sync_instruction_cache(_: PhysAddr) {}
}

/// The frame that the calling CPU reaches at `page` for `access`, through its TLB; `None` is a page fault.
pub(super) fn translate(page: u64, access: Access) -> Option<PhysAddr> {
    machine::with_cpu(|cpu| {
        if let Some((frame, flags)) = cpu.tlb.0.get(&page)
            && flags.permits(access)
        {
            return Some(*frame);
        }
        let walked = lock(&cpu.active.as_ref()?.inner).entries.get(&page).copied();
        let (frame, flags) = walked?;
        if !flags.permits(access) {
            return None;
        }
        cpu.tlb.0.insert(page, (frame, flags));
        Some(frame)
    })
}
