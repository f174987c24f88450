//! What a program says about its mappings and asks of them: `madvise`, `msync`, `mincore`.

use alloc::vec::Vec;

use hal::{arch::PageTable, traits::PageTableOps};

use super::{
    AddressSpace, PAGE,
    area::{Area, Content, OnFork, Sharing},
    check_range,
    table::Which,
};
use crate::{
    errno::{Errno, Result},
    mm::fallible::TryRoom,
};

impl AddressSpace {
    /// `madvise`. `MADV_DONTNEED` and `MADV_FREE` drop pages, `MADV_POPULATE_READ` and `MADV_POPULATE_WRITE` bring them, the fork advice
    /// is kept, the rest is advice that nobody needs.
    ///
    /// # Errors
    /// `EINVAL` (misaligned, unknown, not possible for this kind of mapping), `ENOMEM` (a hole; what is mapped has been dealt with);
    /// of populating also `EFAULT` (past the end of a file) and `EINTR`.
    pub async fn madvise(&self, address: u64, length: u64, advice: i32) -> Result<()> {
        // asm-generic/mman-common.h
        const DONTNEED: i32 = 4;
        const FREE: i32 = 8;
        const POPULATE_READ: i32 = 22;
        const POPULATE_WRITE: i32 = 23;
        let (start, end) = check_range(address, length).map_err(|_| Errno::EINVAL)?;
        let on_fork = match advice {
            10 => Some(OnFork::Skip),
            11 | 19 => Some(OnFork::Copy),
            18 => Some(OnFork::Wipe),
            0..=4 | 8 | 14..=17 | 20..=25 => None,
            _ => return Err(Errno::EINVAL),
        };
        if start == end {
            return Ok(());
        }
        if matches!(advice, POPULATE_READ | POPULATE_WRITE) {
            return self.populate_for(start, end, advice == POPULATE_WRITE).await;
        }
        let covered = {
            let mut inner = self.unforked().await;
            if let Some(on_fork) = on_fork {
                for mut area in inner.areas.remove(start, end)? {
                    area.on_fork = on_fork;
                    inner.areas.insert(area);
                }
            }
            let special = |area: &Area| matches!(area.content, Content::Special(_));
            let freeable = |area: &Area| matches!(area.content, Content::Anonymous);
            if advice == DONTNEED && inner.areas.overlapping(start, end).any(special)
                || advice == FREE && !inner.areas.overlapping(start, end).all(freeable)
            {
                return Err(Errno::EINVAL);
            }
            inner.areas.covers(start, end)
        };
        if matches!(advice, DONTNEED | FREE) {
            self.zap(start, end, Which::All).await;
        }
        if covered { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// `msync`: writes shared file mappings back.
    ///
    /// # Errors
    /// `EINVAL` (misaligned, contradictory flags), `ENOMEM` (a hole, or no memory for the list), what the file reports.
    pub fn msync(&self, address: u64, length: u64, flags: u32) -> Result<()> {
        const ASYNC: u32 = 1;
        const SYNC: u32 = 4;
        if flags & !7 != 0 || flags & (ASYNC | SYNC) == ASYNC | SYNC {
            return Err(Errno::EINVAL);
        }
        let (start, end) = check_range(address, length)?;
        let (parts, covered) = {
            let inner = self.inner.lock();
            let shared = inner
                .areas
                .overlapping(start, end)
                .filter(|area| area.sharing == Sharing::Shared);
            let mut parts = Vec::new();
            for area in shared {
                parts.try_room(1)?;
                parts.push(area.glance().part(start, end));
            }
            (parts, inner.areas.covers(start, end))
        };
        for part in parts {
            if let Some((pager, first)) = part.object_page(part.start) {
                pager.sync(first, first + part.len() / PAGE)?;
            }
        }
        if covered { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// `mincore`: whether each page from `address` on is there, into `out` (one entry a page).
    ///
    /// # Errors
    /// `EINVAL` (misaligned), `ENOMEM` (a hole).
    pub fn mincore(&self, address: u64, out: &mut [u8]) -> Result<()> {
        let (start, end) = check_range(address, out.len() as u64 * PAGE)?;
        let inner = self.inner.lock();
        if end > PageTable::USER_END || !inner.areas.covers(start, end) {
            return Err(Errno::ENOMEM);
        }
        for (page, out) in (start..end).step_by(PAGE as usize).zip(out) {
            *out = inner.table.translate(page).is_some().into();
        }
        Ok(())
    }
}
