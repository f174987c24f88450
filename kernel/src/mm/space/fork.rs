//! Fork: a second address space with the same contents, for the price of its page tables.

use alloc::sync::Arc;

use hal::{
    arch::PageTable,
    traits::{PageFlags, PageTableOps},
};

use super::{
    AddressSpace, Areas, Inner,
    area::{Area, OnFork, Sharing},
    table::{Batch, Table},
};
use crate::{
    errno::{Errno, Result},
    mm::fallible,
};

impl AddressSpace {
    /// A copy with one user. Private pages are shared until one side writes; shared mappings stay shared. Returns when no
    /// CPU can write a shared page by a stale translation any more.
    ///
    /// # Errors
    /// `ENOMEM`: the child's tables do not fit. The parent is as it was.
    pub async fn fork(&self) -> Result<Arc<Self>> {
        let mut table = Table::new().map_err(|_| Errno::ENOMEM)?;
        let (child, generation) = {
            let mut inner = self.inner.lock();
            let mut areas = Areas::default();
            fallible::afford(inner.areas.count() * 2 * size_of::<Area>())?;
            let mut result = Ok(());
            let Inner {
                areas: parents,
                table: parent,
                layout,
            } = &mut *inner;
            for area in parents.iter().filter(|area| area.on_fork != OnFork::Skip) {
                areas.insert(area.clone());
                if area.sharing == Sharing::Shared || area.on_fork == OnFork::Wipe {
                    continue;
                }
                parent.visit(area.start, area.end, |page, frame, flags| {
                    if result.is_err() {
                        return None;
                    }
                    let shared = flags.with_write(false);
                    result = table.map(page, frame(), shared);
                    result.is_ok().then_some(shared)
                });
            }
            let layout = *layout;
            let generation = self.tlb.forget(parent, 0, PageTable::USER_END, &mut Batch::new());
            let child = result.map(|()| Inner { areas, table, layout });
            (child, generation)
        };
        // A failed copy is dropped here, outside the lock; the parent's pages become writable again one by one.
        let child = child.map(Self::with).map_err(|_| Errno::ENOMEM);
        self.tlb.wait(generation).await;
        child
    }
}
