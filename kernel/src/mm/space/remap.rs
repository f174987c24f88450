//! `mremap`.

use alloc::vec::Vec;

use hal::{arch::PageTable, traits::PageTableOps};

use super::{
    AddressSpace, Inner, MAX_AREAS, MIN_ADDRESS, PAGE, Role,
    area::{Area, Content},
    page_ceil,
    table::{Batch, Which},
    tlb::Generation,
};
use crate::{
    errno::{Errno, Result},
    mm::{Frame, fallible::TryRoomExact},
};

bitflags::bitflags! {
    /// `MREMAP_*` (`linux/mman.h`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct RemapFlags: u32 {
        /// `MREMAP_MAYMOVE`.
        const MAYMOVE = 1;
        /// `MREMAP_FIXED`.
        const FIXED = 2;
        /// `MREMAP_DONTUNMAP`.
        const DONTUNMAP = 4;
    }
}

impl AddressSpace {
    /// Has the kernel's code in the program's space read another page of data.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub async fn replace_vvar(&self, data: &Frame) -> Result<()> {
        let mut replaced = None;
        {
            let mut inner = self.unforked().await;
            let found = inner.areas.iter().find(|area| matches!(area.role, Role::Vvar));
            if let Some((start, end)) = found.map(|area| (area.start, area.end)) {
                for mut area in inner.areas.remove(start, end)? {
                    area.content = Content::Special(data.clone());
                    inner.areas.insert(area);
                }
                replaced = Some((start, end));
            }
        }
        if let Some((start, end)) = replaced {
            self.zap(start, end, Which::All).await;
        }
        Ok(())
    }

    /// `mremap`: moves, shrinks or grows a mapping and returns its address. With `MREMAP_DONTUNMAP` the pages move and an empty
    /// mapping stays where they were. What the kernel gave a program can be moved as a whole.
    ///
    /// # Errors
    /// `EINVAL` (misaligned, unknown or contradictory flags, no new length, overlapping target), `EFAULT` (the old range is not one
    /// mapping), `ENOMEM` (no room, or not without moving).
    pub async fn mremap(&self, old: u64, old_length: u64, new_length: u64, flags: u32, target: u64) -> Result<u64> {
        let flags = RemapFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
        let (fixed, may_move) = (flags.contains(RemapFlags::FIXED), flags.contains(RemapFlags::MAYMOVE));
        let stays = flags.contains(RemapFlags::DONTUNMAP);
        if ((fixed || stays) && !may_move) || !old.is_multiple_of(PAGE) {
            return Err(Errno::EINVAL);
        }
        let old_length = page_ceil(old_length)
            .filter(|&length| length != 0)
            .ok_or(Errno::EINVAL)?;
        let new_length = page_ceil(new_length)
            .filter(|&length| length != 0)
            .ok_or(Errno::EINVAL)?;
        let old_end = old.checked_add(old_length).ok_or(Errno::EINVAL)?;
        if stays && new_length != old_length {
            return Err(Errno::EINVAL);
        }
        if new_length > PageTable::USER_END {
            return Err(Errno::ENOMEM);
        }
        if fixed {
            let fits = target.is_multiple_of(PAGE)
                && target >= MIN_ADDRESS
                && target
                    .checked_add(new_length)
                    .is_some_and(|end| end <= PageTable::USER_END);
            if !fits || (target < old_end && old < target + new_length) {
                return Err(Errno::EINVAL);
            }
        }
        {
            let inner = self.inner.lock();
            let area = inner.areas.find(old).ok_or(Errno::EFAULT)?;
            if old_end > area.end {
                return Err(Errno::EFAULT);
            }
            if matches!(area.content, Content::Special(_)) {
                if stays {
                    return Err(Errno::EINVAL);
                }
                if (old, old + new_length) != (area.start, area.end) {
                    return Err(Errno::EFAULT);
                }
            }
        }
        if fixed {
            self.remove(target, target + new_length).await?;
        }
        if new_length < old_length {
            self.remove(old + new_length, old_end).await?;
        }
        if !fixed && !stays && new_length <= old_length {
            return Ok(old);
        }
        let kept = old_length.min(new_length);
        let (new, generation) = {
            let mut inner = self.unforked().await;
            let area = inner
                .areas
                .find(old)
                .filter(|area| old + kept <= area.end)
                .ok_or(Errno::EFAULT)?;
            let (start, end) = (area.start, area.end);
            let grown = old.checked_add(new_length).filter(|&end| end <= PageTable::USER_END);
            if let Some(grown) = grown.filter(|_| !fixed && !stays && old + kept == end)
                && inner.areas.is_free(end, grown)
            {
                inner.areas.grow_up(start, grown);
                return Ok(old);
            }
            if !may_move {
                return Err(Errno::ENOMEM);
            }
            let new = match fixed {
                true if inner.areas.overlapping(target, target + new_length).next().is_none() => target,
                true => return Err(Errno::ENOMEM),
                false => inner
                    .areas
                    .find_gap(new_length, inner.layout.mmap_top)
                    .ok_or(Errno::ENOMEM)?,
            };
            if inner.areas.count() + 2 >= MAX_AREAS {
                return Err(Errno::ENOMEM);
            }
            (new, inner.relocate(self, old, kept, new, new_length, stays)?)
        };
        self.tlb.wait(generation).await;
        Ok(new)
    }
}

impl Inner {
    /// Moves areas and pages of `old..old + kept` to `new`, where `new_length` bytes are free; if the area `stays`, only the pages,
    /// and another area is theirs. Nothing changes on failure.
    fn relocate(
        &mut self,
        space: &AddressSpace,
        old: u64,
        kept: u64,
        new: u64,
        new_length: u64,
        stays: bool,
    ) -> Result<Generation> {
        let mut pages = Vec::new();
        let count = self.table.resident().min(kept / PAGE) as usize;
        pages.try_room_exact(count)?;
        self.table.visit(old, old + kept, |page, _, _| {
            pages.push(page);
            None
        });
        for (index, &page) in pages.iter().enumerate() {
            if self.move_page(page, page - old + new).is_err() {
                for &page in &pages[..index] {
                    // Its table exists: it was there a moment ago.
                    let _ = self.move_page(page - old + new, page);
                }
                return Err(Errno::ENOMEM);
            }
        }
        for area in self.areas.remove(old, old + kept)? {
            if stays {
                self.areas.insert(area.clone());
            }
            let role = match area.role {
                Role::Heap => Role::Plain,
                other => other,
            };
            self.areas.insert(Area {
                start: new,
                end: new + new_length,
                role,
                ..area
            });
        }
        Ok(space.tlb.forget(&self.table, old, old + kept, &mut Batch::new()))
    }

    fn move_page(&mut self, from: u64, to: u64) -> Result<()> {
        let Some((frame, flags)) = self.table.unmap(from) else {
            return Ok(());
        };
        let keep = frame.clone();
        if self.table.map(to, frame, flags).is_err() {
            // The entry just emptied has its table still.
            let _ = self.table.map(from, keep, flags);
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }
}
