//! Bringing pages before anybody touches them: `MAP_POPULATE`, `MADV_POPULATE_READ` and `MADV_POPULATE_WRITE`, `mlock`.

use alloc::boxed::Box;
use core::{future::Future, pin::Pin};

use hal::{arch::PageTable, traits::PageTableOps, trap::Access};

use super::{
    AddressSpace, PAGE, Prot,
    area::{Content, Sharing},
    check_range,
    fault::FaultError,
};
use crate::{
    errno::{Errno, Result},
    rt,
};

/// Pages that are brought before others get their turn.
const AT_ONCE: u64 = 64;

/// How pages are brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// So that nothing faults later that need not: private pages that may be written as by a store.
    AsUsed,
    /// As by a load.
    Loads,
    /// As by a store.
    Stores,
}

/// Why a page cannot be had.
enum Missing {
    /// Nothing is mapped there.
    Hole,
    /// The mapping does not allow it.
    Forbidden,
    /// What the fault came to.
    Fault(FaultError),
}

impl AddressSpace {
    /// As `MAP_POPULATE`: what cannot be had is left to later faults.
    pub(super) async fn populate(&self, start: u64, end: u64) {
        // It is a wish.
        let _ = self.bring(start, end, Manner::AsUsed).await;
    }

    /// `MADV_POPULATE_READ`, or with `stores` `MADV_POPULATE_WRITE`. What came before an error stays.
    ///
    /// # Errors
    /// `ENOMEM` (a hole, or no memory), `EINVAL` (the mapping does not allow it), `EFAULT` (the object has no such page), `EINTR`.
    pub(super) async fn populate_for(&self, start: u64, end: u64, stores: bool) -> Result<()> {
        let manner = if stores { Manner::Stores } else { Manner::Loads };
        self.bring(start, end, manner).await.map_err(|missing| match missing {
            Missing::Hole | Missing::Fault(FaultError::MapErr | FaultError::Oom) => Errno::ENOMEM,
            Missing::Forbidden | Missing::Fault(FaultError::AccErr) => Errno::EINVAL,
            Missing::Fault(FaultError::Bus) => Errno::EFAULT,
            Missing::Fault(FaultError::Ending) => Errno::EINTR,
        })
    }

    /// Checks that `length` bytes from `address` on, in whole pages, are mapped, as `munlock` does.
    ///
    /// # Errors
    /// `EINVAL` (the end lies before the beginning), `ENOMEM` (a hole).
    pub fn check_mapped(&self, address: u64, length: u64) -> Result<(u64, u64)> {
        let start = address & !(PAGE - 1);
        let length = length.wrapping_add(address - start);
        let (start, end) = check_range(start, length).map_err(|_| Errno::EINVAL)?;
        let mapped = start == end || end <= PageTable::USER_END && self.inner.lock().areas.covers(start, end);
        if mapped { Ok((start, end)) } else { Err(Errno::ENOMEM) }
    }

    /// Whether anything is mapped at an address or above it.
    pub fn goes_beyond(&self, address: u64) -> bool {
        self.inner.lock().areas.at_or_above(address).is_some()
    }

    /// As `mlock`: brings every page of a range. Nothing is ever paged out, so they stay.
    ///
    /// # Errors
    /// As [`AddressSpace::check_mapped`]; `ENOMEM` (the mapping does not allow it, or the object has no such page), `EAGAIN` (no
    /// memory), `EINTR`.
    pub async fn lock(&self, address: u64, length: u64) -> Result<()> {
        let (start, end) = self.check_mapped(address, length)?;
        self.bring(start, end, Manner::AsUsed)
            .await
            .map_err(|missing| match missing {
                Missing::Fault(FaultError::Oom) => Errno::EAGAIN,
                Missing::Fault(FaultError::Ending) => Errno::EINTR,
                _ => Errno::ENOMEM,
            })
    }

    /// As `mlockall` with `MCL_CURRENT`: brings what can be had of all that is mapped.
    pub async fn lock_all(&self) {
        let mut at = 0;
        loop {
            let next = {
                let inner = self.inner.lock();
                let area = inner.areas.at_or_above(at);
                area.map(|area| (area.start.max(at), area.end))
            };
            let Some((start, end)) = next else { return };
            if let Err(Missing::Fault(FaultError::Ending)) = self.bring(start, end, Manner::AsUsed).await {
                return;
            }
            at = end;
        }
    }

    /// Boxed: few calls do this, and a fault's future is large.
    fn bring(
        &self,
        start: u64,
        end: u64,
        manner: Manner,
    ) -> Pin<Box<dyn Future<Output = core::result::Result<(), Missing>> + Send + '_>> {
        Box::pin(async move {
            for page in (start..end).step_by(PAGE as usize) {
                if let Some(access) = self.wanted(page, manner)? {
                    self.fault(page, access).await.map_err(Missing::Fault)?;
                }
                if ((page - start) / PAGE + 1).is_multiple_of(AT_ONCE) {
                    rt::yield_now().await;
                }
            }
            Ok(())
        })
    }

    /// The access by which the page at `address` is brought; `None` if it came with another.
    fn wanted(&self, address: u64, manner: Manner) -> core::result::Result<Option<Access>, Missing> {
        let inner = self.inner.lock();
        let area = inner.areas.find(address).ok_or(Missing::Hole)?;
        if manner != Manner::AsUsed && matches!(area.content, Content::Special(_)) {
            return Err(Missing::Forbidden);
        }
        let stores = match manner {
            Manner::AsUsed => area.sharing == Sharing::Private && area.prot.contains(Prot::WRITE),
            Manner::Loads => false,
            Manner::Stores => true,
        };
        let needed = match (manner, stores) {
            (_, true) => Prot::WRITE,
            // To have it for any use is enough for `mlock`, to load it is not allowed without this.
            _ => Prot::READ,
        };
        if !(area.prot.contains(needed) || manner == Manner::AsUsed && area.prot.contains(Prot::EXEC)) {
            return Err(Missing::Forbidden);
        }
        if stores {
            return Ok(Some(Access::Write));
        }
        let there = inner.table.translate(address).is_some();
        let access = if area.prot.contains(Prot::READ) {
            Access::Read
        } else {
            Access::Execute
        };
        Ok((!there).then_some(access))
    }
}
