//! Fork: a second address space with the same contents, for the price of its page tables.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use hal::{arch::PageTable, traits::PageTableOps};

use super::{
    AddressSpace, Areas, Inner,
    area::{Area, OnFork, Sharing},
    table::{Batch, Table},
};
use crate::{
    errno::{Errno, Result},
    mm::fallible,
    rt,
};

/// Pages after which a fork gives way in any case, so that its task can be aborted.
const PAGES_PER_TURN: usize = 2048;

/// A fork that goes through the pages of a space.
struct Forking<'a>(&'a AddressSpace);

impl Drop for Forking<'_> {
    fn drop(&mut self) {
        self.0.inner.lock().forking = false;
        self.0.fork_over.wake_all();
    }
}

impl AddressSpace {
    /// A copy with one user. Private pages are shared until one side writes; shared mappings stay shared. Returns when no
    /// CPU can write a shared page by a stale translation any more. Calls that change the parent's areas wait meanwhile.
    ///
    /// Dropping the future is safe if no other CPU runs in the space: pages that were shared already are copied or become
    /// writable again one by one.
    ///
    /// # Errors
    /// `ENOMEM`: the child's tables do not fit. The parent is as it was.
    pub async fn fork(&self) -> Result<Arc<Self>> {
        let mut table = Table::new().map_err(|_| Errno::ENOMEM)?;
        let (forking, areas, layout) = {
            let mut inner = self.unforked().await;
            // A node of the tree is at least half full.
            fallible::afford(inner.areas.count() * 2 * size_of::<Area>())?;
            let mut areas = Areas::default();
            for area in inner.areas.iter().filter(|area| area.on_fork != OnFork::Skip) {
                areas.insert(area.clone());
            }
            inner.forking = true;
            (Forking(self), areas, inner.layout)
        };
        let shared = self.share_pages(&areas, &mut table).await;
        rt::give_way().await;
        let generation = {
            let inner = self.inner.lock();
            self.tlb.forget(&inner.table, 0, PageTable::USER_END, &mut Batch::new())
        };
        self.tlb.wait(generation).await;
        // A failed copy is dropped here, outside the lock.
        shared?;
        let child = Self::with(Inner {
            areas: Areas::default(),
            table,
            layout,
            forking: false,
        });
        // Whoever cuts a file waits for the fork to be over, and finds the child then.
        areas.iter().for_each(|area| child.announce(area));
        child.inner.lock().areas = areas;
        let barriers = self.barriers.load(Ordering::Relaxed);
        child.barriers.store(barriers, Ordering::Relaxed);
        drop(forking);
        Ok(child)
    }

    async fn share_pages(&self, areas: &Areas, table: &mut Table) -> Result<()> {
        let private = |area: &&Area| area.sharing == Sharing::Private && area.on_fork == OnFork::Copy;
        let mut since = 0;
        for area in areas.iter().filter(private) {
            let mut at = area.start;
            while at < area.end {
                if since >= PAGES_PER_TURN || rt::executor().should_yield() {
                    since = 0;
                    rt::yield_now().await;
                }
                let step = self.inner.lock().table.share(table, at, area.end);
                let (next, copied) = step.map_err(|_| Errno::ENOMEM)?;
                at = next;
                since += copied;
            }
        }
        Ok(())
    }
}
