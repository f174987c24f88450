//! Taking mappings away, and pages out of mappings that stay.

use alloc::sync::Arc;
use core::ops::Range;

use hal::{arch::PageTable, traits::PageTableOps};

use super::{
    AddressSpace, Inner, PAGE,
    area::{Attach, Sharing},
    page_ceil,
    table::{Batch, STEP, Which},
    tlb::Generation,
};
use crate::{
    errno::{Errno, Result},
    mm::pager::{Copies, Pager},
    sync::SpinLockGuard,
};

/// How far a step has gone: up to where, and what the other CPUs have to see.
struct Step {
    next: u64,
    generation: Generation,
}

impl Inner {
    /// Takes pages out of `start..`, up to `end` or as far as one step goes, and leaves the areas.
    fn zap_step(&mut self, space: &AddressSpace, start: u64, end: u64, which: Which, batch: &mut Batch) -> Step {
        let next = self.table.take(start, end, which, STEP, batch);
        let generation = match batch.is_empty() {
            true => Generation::NONE,
            false => space.tlb.forget(&self.table, start, next, batch),
        };
        Step { next, generation }
    }
}

impl AddressSpace {
    /// `munmap`. Returns when no CPU can use what was there.
    ///
    /// # Errors
    /// `EINVAL` (misaligned, empty, beyond the user half), `ENOMEM` (a split would make too many areas).
    pub async fn munmap(&self, address: u64, length: u64) -> Result<()> {
        let end = page_ceil(length).and_then(|length| address.checked_add(length));
        let end = end.filter(|&end| end <= PageTable::USER_END).ok_or(Errno::EINVAL)?;
        if !address.is_multiple_of(PAGE) || end == address {
            return Err(Errno::EINVAL);
        }
        self.remove(address, end).await
    }

    /// Whether nothing is mapped in a range.
    pub fn is_unmapped(&self, start: u64, end: u64) -> bool {
        self.inner.lock().areas.overlapping(start, end).next().is_none()
    }

    /// `shmdt`: unmaps what is left of the object that was attached at `address`, which none of the areas need start at.
    ///
    /// # Errors
    /// `EINVAL` if there is nothing of the kind, `ENOMEM`.
    pub async fn detach(&self, address: u64) -> Result<()> {
        if !address.is_multiple_of(PAGE) {
            return Err(Errno::EINVAL);
        }
        let mut from = address;
        let mut object: Option<Arc<dyn Attach>> = None;
        loop {
            let found = {
                let inner = self.inner.lock();
                let parts = inner.areas.overlapping(from, PageTable::USER_END);
                let mut parts = parts
                    .filter_map(|area| Some((area, area.role.attachment()?.to(), area.object_page(area.start)?.1)));
                let found = parts.find(|(area, to, first)| {
                    let Some(size) = to.segment() else { return false };
                    let within = |of: &Arc<dyn Attach>| Arc::ptr_eq(of, to) && area.end - address <= size;
                    area.start.checked_sub(address) == Some(first * PAGE) && object.as_ref().is_none_or(within)
                });
                found.map(|(area, to, _)| (area.start, area.end, to.clone()))
            };
            let Some((start, end, to)) = found else { break };
            object = Some(to);
            self.remove(start, end).await?;
            from = end;
        }
        object.map(drop).ok_or(Errno::EINVAL)
    }

    pub(super) async fn remove(&self, start: u64, end: u64) -> Result<()> {
        let mut last = Generation::NONE;
        let mut at = start;
        while at < end {
            let step = self.remove_step(self.unforked().await, at, end)?;
            at = step.next;
            last = last.max(step.generation);
        }
        self.tlb.wait(last).await;
        Ok(())
    }

    pub(super) async fn zap(&self, start: u64, end: u64, which: Which) {
        let mut last = Generation::NONE;
        let mut at = start;
        while at < end {
            let step = self.zap_step(at, end, which);
            at = step.next;
            last = last.max(step.generation);
        }
        self.tlb.wait(last).await;
    }

    // Not in the async functions, whose state would have to hold the batch. What is cut out is dropped outside the lock.

    fn zap_step(&self, start: u64, end: u64, which: Which) -> Step {
        let mut batch = Batch::new();
        self.inner.lock().zap_step(self, start, end, which, &mut batch)
    }

    /// Cuts areas and pages out of `start..`, up to `end` or as far as one step goes.
    fn remove_step(&self, mut inner: SpinLockGuard<'_, Inner>, start: u64, end: u64) -> Result<Step> {
        let mut batch = Batch::new();
        // The areas first: a failing split changes nothing.
        let areas = inner.areas.remove(start, end)?;
        let step = inner.zap_step(self, start, end, Which::All, &mut batch);
        // What is left keeps its areas until its pages go.
        for area in areas.iter().filter(|area| area.end > step.next) {
            inner.areas.insert(area.part(step.next, end));
        }
        drop(inner);
        Ok(step)
    }

    /// None of these pages of `pager` is mapped any more when this returns; nor is a private copy of one, unless those
    /// stay.
    pub(in crate::mm) async fn forget_object(&self, pager: &Arc<dyn Pager>, pages: &Range<u64>, copies: Copies) {
        let mut at = 0;
        loop {
            let found = {
                let inner = self.unforked().await;
                inner.areas.overlapping(at, PageTable::USER_END).find_map(|area| {
                    let (own, page) = area.object_page(area.start)?;
                    let address =
                        |index: u64| area.start + index.saturating_sub(page).saturating_mul(PAGE).min(area.len());
                    let (start, end) = (address(pages.start), address(pages.end));
                    let which = match (copies, area.sharing) {
                        (Copies::Stay, Sharing::Private) => Which::OfFiles,
                        _ => Which::All,
                    };
                    (Arc::ptr_eq(own, pager) && start < end).then_some((start, end, which, area.end))
                })
            };
            let Some((start, end, which, next)) = found else { return };
            self.zap(start, end, which).await;
            at = next;
        }
    }
}
