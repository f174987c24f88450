//! `mprotect`.

use hal::{
    arch::PageTable,
    traits::{PageFlags, PageTableOps},
};

use super::{AddressSpace, Inner, MAX_AREAS, Prot, area::Content, check_range, table::Batch, tlb::Generation};
use crate::errno::{Errno, Result};

impl AddressSpace {
    /// `mprotect`. As on Linux, what lies before the first hole or refusal is changed nevertheless.
    ///
    /// # Errors
    /// `EINVAL` (misaligned), `ENOMEM` (a hole, too many areas), `EACCES` (beyond what the mapping may have).
    pub async fn mprotect(&self, address: u64, length: u64, prot: Prot) -> Result<()> {
        let (start, end) = check_range(address, length)?;
        if start == end {
            return Ok(());
        }
        let (result, generation) = self.unforked().await.protect(self, start, end, prot);
        self.tlb.wait(generation).await;
        result
    }
}

impl Inner {
    fn protect(&mut self, space: &AddressSpace, start: u64, end: u64, prot: Prot) -> (Result<()>, Generation) {
        // How far it can go, and why not further.
        let (mut limit, mut result) = (start, Ok(()));
        for area in self.areas.overlapping(start, end.min(PageTable::USER_END)) {
            if area.start > limit {
                break;
            }
            if !area.max_prot.contains(prot) || matches!(area.content, Content::Special(_)) {
                result = Err(Errno::EACCES);
                break;
            }
            limit = area.end;
        }
        let limit = limit.min(end);
        if limit < end && result.is_ok() {
            result = Err(Errno::ENOMEM);
        }
        if limit == start {
            return (result, Generation::NONE);
        }
        let cuts = [start, limit]
            .iter()
            .filter(|&&at| self.areas.find(at).is_some_and(|area| area.start < at))
            .count();
        if self.areas.count() + cuts > MAX_AREAS {
            return (Err(Errno::ENOMEM), Generation::NONE);
        }
        match self.areas.remove(start, limit) {
            Err(errno) => return (Err(errno), Generation::NONE),
            Ok(areas) => {
                for mut area in areas {
                    area.prot = prot;
                    self.areas.insert(area);
                }
            }
        }
        let mut changed = false;
        self.table.visit(start, limit, |_, frame, flags| {
            let new = prot
                .page_flags()
                .with_write(flags.writable() && prot.contains(Prot::WRITE));
            if new.executable() && !flags.executable() {
                PageTable::sync_instruction_cache(frame().address());
            }
            changed |= new != flags;
            (new != flags).then_some(new)
        });
        let generation = match changed {
            true => space.tlb.forget(&self.table, start, limit, &mut Batch::new()),
            false => Generation::NONE,
        };
        (result, generation)
    }
}
