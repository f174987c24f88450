//! The mapping calls: what Linux's `mm/mmap.c`, `mprotect.c`, `mremap.c` and `madvise.c` promise, error by error.

use alloc::{sync::Arc, vec::Vec};

use hal::{
    arch::PageTable,
    traits::{PageFlags, PageTableOps},
};

use super::{
    AddressSpace, Inner, MAX_AREAS, MIN_ADDRESS, PAGE, Prot, Role, STACK_GAP,
    area::{Area, Content, OnFork, Sharing},
    page_ceil, page_floor,
    table::Batch,
    tlb::Generation,
};
use crate::mm::fallible::TryRoomExact;
use crate::{
    errno::{Errno, Result},
    mm::{
        frame::{self, Frame},
        pager::{MemoryObject, Pager},
    },
};

bitflags::bitflags! {
    /// `MAP_*` (`asm-generic/mman.h`; the same numbers on both machines). Flags without a name here are ignored, as Linux does.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct MapFlags: u32 {
        /// `MAP_SHARED`.
        const SHARED = 0x01;
        /// `MAP_PRIVATE`.
        const PRIVATE = 0x02;
        /// `MAP_FIXED`: at that address, replacing what is there.
        const FIXED = 0x10;
        /// `MAP_ANONYMOUS`.
        const ANONYMOUS = 0x20;
        /// `MAP_GROWSDOWN`.
        const GROWSDOWN = 0x100;
        /// `MAP_NORESERVE`.
        const NORESERVE = 0x4000;
        /// `MAP_POPULATE`.
        const POPULATE = 0x8000;
        /// `MAP_FIXED_NOREPLACE`: at that address or not at all.
        const FIXED_NOREPLACE = 0x10_0000;
        const _ = !0;
    }

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

/// What `mmap` is asked for.
pub struct Map {
    /// `addr`.
    pub address: u64,
    /// `length`, in bytes, not rounded.
    pub length: u64,
    /// `prot`.
    pub prot: Prot,
    /// What `mprotect` may give later: without [`Prot::WRITE`] for a shared mapping of a file not open for writing.
    pub max_prot: Prot,
    /// `flags`.
    pub flags: MapFlags,
    /// The file and the offset in bytes; `None` for anonymous memory.
    pub object: Option<(Arc<dyn Pager>, u64)>,
}

impl Map {
    /// Anonymous private memory, anywhere.
    pub const fn anonymous(length: u64, prot: Prot) -> Self {
        let flags = MapFlags::PRIVATE.union(MapFlags::ANONYMOUS);
        Self {
            address: 0,
            length,
            prot,
            max_prot: Prot::all(),
            flags,
            object: None,
        }
    }

    /// The same, at `address`, replacing what is there.
    #[must_use]
    pub const fn fixed(mut self, address: u64) -> Self {
        self.address = address;
        self.flags = self.flags.union(MapFlags::FIXED);
        self
    }

    fn sharing(&self) -> Result<Sharing> {
        // 3 is MAP_SHARED_VALIDATE, for files only.
        match (self.flags & (MapFlags::SHARED | MapFlags::PRIVATE)).bits() {
            1 => Ok(Sharing::Shared),
            2 => Ok(Sharing::Private),
            3 if self.object.is_some() => Ok(Sharing::Shared),
            _ => Err(Errno::EINVAL),
        }
    }

    /// The area asked for, at address 0.
    fn area(&self) -> Result<Area> {
        if self.length == 0 {
            return Err(Errno::EINVAL);
        }
        let sharing = self.sharing()?;
        let length = page_ceil(self.length)
            .filter(|&length| length <= PageTable::USER_END)
            .ok_or(Errno::ENOMEM)?;
        let content = match &self.object {
            Some((pager, offset)) => {
                if !offset.is_multiple_of(PAGE) {
                    return Err(Errno::EINVAL);
                }
                offset.checked_add(length).ok_or(Errno::EOVERFLOW)?;
                Content::Object {
                    pager: pager.clone(),
                    first: offset / PAGE,
                }
            }
            None if sharing == Sharing::Shared => Content::Object {
                pager: MemoryObject::new(),
                first: 0,
            },
            None => Content::Anonymous,
        };
        if !self.max_prot.contains(self.prot) {
            return Err(Errno::EACCES);
        }
        let role = if self.flags.contains(MapFlags::GROWSDOWN) {
            Role::Stack(8 << 20)
        } else {
            Role::Plain
        };
        let reserves =
            sharing == Sharing::Private && self.prot.contains(Prot::WRITE) && !self.flags.contains(MapFlags::NORESERVE);
        if reserves && length / PAGE > frame::stats().total as u64 {
            // As Linux's heuristic overcommit: refuse what can obviously never be used.
            return Err(Errno::ENOMEM);
        }
        Ok(Area {
            start: 0,
            end: length,
            prot: self.prot,
            max_prot: self.max_prot,
            sharing,
            content,
            role,
            on_fork: OnFork::Copy,
        })
    }
}

/// Why an area could not be put where it was to go.
enum Occupied {
    Error(Errno),
    Replace,
}

/// What was cut out of a space, to be dropped outside its lock.
struct Removed {
    areas: Vec<Area>,
    batch: Batch,
    generation: Generation,
    next: u64,
}

impl Inner {
    fn place(&self, area: &Area, request: &Map) -> core::result::Result<u64, Occupied> {
        let length = area.len();
        if self.areas.count() >= MAX_AREAS {
            return Err(Occupied::Error(Errno::ENOMEM));
        }
        let fixed = request.flags.intersects(MapFlags::FIXED | MapFlags::FIXED_NOREPLACE);
        if fixed {
            let (start, end) = (request.address, request.address.wrapping_add(length));
            return if self.areas.overlapping(start, end).next().is_none() {
                Ok(start)
            } else if request.flags.contains(MapFlags::FIXED_NOREPLACE) {
                Err(Occupied::Error(Errno::EEXIST))
            } else {
                Err(Occupied::Replace)
            };
        }
        let hint = page_floor(request.address);
        let hint = if hint == 0 { 0 } else { hint.max(MIN_ADDRESS) };
        if hint != 0
            && hint.checked_add(length).is_some_and(|end| end <= PageTable::USER_END)
            && self.areas.is_free(hint, hint + length)
        {
            return Ok(hint);
        }
        self.areas
            .find_gap(length, self.layout.mmap_top)
            .ok_or(Occupied::Error(Errno::ENOMEM))
    }

    /// Cuts areas and pages out of `start..`, up to `end` or as far as one step goes.
    fn remove_step(&mut self, space: &AddressSpace, start: u64, end: u64) -> Result<Removed> {
        let mut batch = Batch::new();
        // The areas first: a failing split changes nothing.
        let areas = self.areas.remove(start, end)?;
        let next = self.table.take(start, end, &mut batch);
        if next < end {
            // What is left keeps its areas until its pages go.
            for area in areas.iter().filter(|area| area.end > next) {
                self.areas.insert(area.part(next, end));
            }
        }
        let generation = match batch.is_empty() {
            true => Generation::NONE,
            false => space.tlb.forget(&self.table, start, next, &mut batch),
        };
        Ok(Removed {
            areas,
            batch,
            generation,
            next,
        })
    }

    /// Takes pages out and leaves the areas.
    fn zap_step(&mut self, space: &AddressSpace, start: u64, end: u64) -> Removed {
        let mut batch = Batch::new();
        let next = self.table.take(start, end, &mut batch);
        let generation = match batch.is_empty() {
            true => Generation::NONE,
            false => space.tlb.forget(&self.table, start, next, &mut batch),
        };
        Removed {
            areas: Vec::new(),
            batch,
            generation,
            next,
        }
    }
}

fn check_range(address: u64, length: u64) -> Result<(u64, u64)> {
    if !address.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    let end = page_ceil(length)
        .and_then(|length| address.checked_add(length))
        .ok_or(Errno::ENOMEM)?;
    Ok((address, end))
}

impl AddressSpace {
    /// `mmap`: adds an area and returns its address. No page exists before it is touched, unless `MAP_POPULATE` asks for it (what
    /// cannot be had then is left to later faults).
    ///
    /// # Errors
    /// `EINVAL` (no length, neither or both of shared and private, misaligned address or offset), `ENOMEM` (no room, too many
    /// areas, more than the machine has), `EEXIST` (`MAP_FIXED_NOREPLACE`), `EACCES` (`prot` beyond `max_prot`), `EOVERFLOW`
    /// (the offset's end), `EPERM` (fixed, below [`MIN_ADDRESS`]).
    pub async fn mmap(&self, request: Map) -> Result<u64> {
        let mut area = request.area()?;
        let length = area.len();
        if request.flags.intersects(MapFlags::FIXED | MapFlags::FIXED_NOREPLACE) {
            if !request.address.is_multiple_of(PAGE) {
                return Err(Errno::EINVAL);
            }
            if request.address > PageTable::USER_END - length {
                return Err(Errno::ENOMEM);
            }
            if request.address < MIN_ADDRESS {
                return Err(Errno::EPERM);
            }
        }
        self.announce(&area);
        let start = loop {
            let occupied = {
                let mut inner = self.unforked().await;
                match inner.place(&area, &request) {
                    Ok(start) => {
                        (area.start, area.end) = (start, start + length);
                        inner.areas.insert(area);
                        break start;
                    }
                    Err(occupied) => occupied,
                }
            };
            match occupied {
                Occupied::Error(errno) => return Err(errno),
                Occupied::Replace => self.remove(request.address, request.address + length).await?,
            }
        };
        if request.flags.contains(MapFlags::POPULATE) {
            self.populate(start, start + length).await;
        }
        Ok(start)
    }

    async fn populate(&self, start: u64, end: u64) {
        let mut at = start;
        while at < end {
            let access = {
                let inner = self.inner.lock();
                let Some(area) = inner.areas.find(at) else { return };
                match area.sharing {
                    Sharing::Private if area.prot.contains(Prot::WRITE) => hal::trap::Access::Write,
                    _ => hal::trap::Access::Read,
                }
            };
            if self.fault(at, access).await.is_err() {
                return;
            }
            at += PAGE;
        }
    }

    /// Maps `content` privately as the kernel's page of code or data for the program (the signal trampoline), readable and executable as
    /// `prot` says, and returns where.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn map_special(&self, content: Frame, prot: Prot) -> Result<u64> {
        if prot.contains(Prot::EXEC) {
            PageTable::sync_instruction_cache(content.address());
        }
        let mut inner = self.inner.lock();
        let start = inner.areas.find_gap(PAGE, inner.layout.mmap_top).ok_or(Errno::ENOMEM)?;
        inner.areas.insert(Area {
            start,
            end: start + PAGE,
            prot,
            max_prot: prot,
            sharing: Sharing::Private,
            content: Content::Special(content),
            role: Role::Vdso,
            on_fork: OnFork::Copy,
        });
        Ok(start)
    }

    /// Maps a stack that ends at `top` (page-aligned), starts with `size` bytes and grows down to at most `limit`
    /// (`RLIMIT_STACK`).
    ///
    /// # Errors
    /// `ENOMEM` if something is there already.
    pub fn map_stack(&self, top: u64, size: u64, limit: u64) -> Result<()> {
        let size = page_ceil(size).ok_or(Errno::ENOMEM)?;
        let start = top
            .checked_sub(size)
            .filter(|_| size > 0 && top <= PageTable::USER_END)
            .ok_or(Errno::ENOMEM)?;
        let mut inner = self.inner.lock();
        if !inner.areas.is_free(start, top) {
            return Err(Errno::ENOMEM);
        }
        let room = page_floor(limit.min(top)) + STACK_GAP;
        inner.layout.mmap_top = inner.layout.mmap_top.min(top.saturating_sub(room));
        inner.areas.insert(Area {
            start,
            end: top,
            prot: Prot::READ | Prot::WRITE,
            max_prot: Prot::all(),
            sharing: Sharing::Private,
            content: Content::Anonymous,
            role: Role::Stack(limit),
            on_fork: OnFork::Copy,
        });
        Ok(())
    }

    /// Moves the place of mappings that are put nowhere in particular down by `bytes` (a multiple of the page size), so that a
    /// program cannot know it.
    pub fn lower_mappings(&self, bytes: u64) {
        debug_assert!(bytes.is_multiple_of(PAGE));
        let mut inner = self.inner.lock();
        inner.layout.mmap_top = inner.layout.mmap_top.saturating_sub(bytes);
    }

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

    async fn remove(&self, start: u64, end: u64) -> Result<()> {
        let mut last = Generation::NONE;
        let mut at = start;
        while at < end {
            let removed = self.unforked().await.remove_step(self, at, end)?;
            at = removed.next;
            last = last.max(removed.generation);
            drop(removed.areas);
            drop(removed.batch);
        }
        self.tlb.wait(last).await;
        Ok(())
    }

    async fn zap(&self, start: u64, end: u64) {
        let mut last = Generation::NONE;
        let mut at = start;
        while at < end {
            let removed = self.inner.lock().zap_step(self, at, end);
            at = removed.next;
            last = last.max(removed.generation);
            drop(removed.batch);
        }
        self.tlb.wait(last).await;
    }

    /// No page of `pager` from `first` on is mapped any more when this returns, nor a private copy of one.
    pub(in crate::mm) async fn forget_object(&self, pager: &Arc<dyn Pager>, first: u64) {
        let mut at = 0;
        loop {
            let found = {
                let inner = self.unforked().await;
                inner.areas.overlapping(at, PageTable::USER_END).find_map(|area| {
                    let (own, page) = area.object_page(area.start)?;
                    let start = area.start + first.saturating_sub(page).saturating_mul(PAGE).min(area.len());
                    (Arc::ptr_eq(own, pager) && start < area.end).then_some((start, area.end))
                })
            };
            let Some((start, end)) = found else { return };
            self.zap(start, end).await;
            at = end;
        }
    }

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

    /// `brk`: moves the end of the heap and returns where it is afterwards, which is where it was if it cannot be moved.
    pub async fn brk(&self, address: u64) -> u64 {
        let (old, new) = {
            let mut inner = self.unforked().await;
            let Inner { areas, layout, .. } = &mut *inner;
            let current = layout.heap_end;
            if address < layout.heap_start || address >= PageTable::USER_END {
                return current;
            }
            let (Some(old), Some(new)) = (page_ceil(current), page_ceil(address)) else {
                return current;
            };
            if new > old {
                let pages = (new - layout.heap_start) / PAGE;
                if !areas.is_free(old, new) || areas.count() >= MAX_AREAS || pages > frame::stats().total as u64 {
                    return current;
                }
                areas.insert(Area {
                    start: old,
                    end: new,
                    prot: Prot::READ | Prot::WRITE,
                    max_prot: Prot::all(),
                    sharing: Sharing::Private,
                    content: Content::Anonymous,
                    role: Role::Heap,
                    on_fork: OnFork::Copy,
                });
            }
            layout.heap_end = address;
            (old, new)
        };
        if new < old && self.remove(new, old).await.is_err() {
            // A split that makes too many areas: the heap keeps its pages.
            self.inner.lock().layout.heap_end = old;
            return old;
        }
        address
    }

    /// Says where `brk` starts: the end of the program's data. The heap is empty then.
    pub fn set_heap_start(&self, address: u64) {
        let mut inner = self.inner.lock();
        inner.layout.heap_start = address;
        inner.layout.heap_end = address;
    }

    /// `mremap`: moves, shrinks or grows a mapping and returns its address.
    ///
    /// # Errors
    /// `EINVAL` (misaligned, unknown flags, no new length, overlapping target), `EFAULT` (the old range is not one mapping),
    /// `ENOMEM` (no room, or not without moving).
    pub async fn mremap(&self, old: u64, old_length: u64, new_length: u64, flags: u32, target: u64) -> Result<u64> {
        let flags = RemapFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
        let (fixed, may_move) = (flags.contains(RemapFlags::FIXED), flags.contains(RemapFlags::MAYMOVE));
        if (fixed && !may_move) || flags.contains(RemapFlags::DONTUNMAP) || !old.is_multiple_of(PAGE) {
            return Err(Errno::EINVAL);
        }
        let old_length = page_ceil(old_length)
            .filter(|&length| length != 0)
            .ok_or(Errno::EINVAL)?;
        let new_length = page_ceil(new_length)
            .filter(|&length| length != 0)
            .ok_or(Errno::EINVAL)?;
        let old_end = old.checked_add(old_length).ok_or(Errno::EINVAL)?;
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
            if old_end > area.end || matches!(area.content, Content::Special(_)) {
                return Err(Errno::EFAULT);
            }
        }
        if fixed {
            self.remove(target, target + new_length).await?;
        }
        if new_length < old_length {
            self.remove(old + new_length, old_end).await?;
        }
        if !fixed && new_length <= old_length {
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
            if let Some(grown) = grown.filter(|_| !fixed && old + kept == end)
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
            (new, inner.relocate(self, old, kept, new, new_length)?)
        };
        self.tlb.wait(generation).await;
        Ok(new)
    }

    /// `madvise`. `MADV_DONTNEED` and `MADV_FREE` drop pages, the fork advice is kept, the rest is advice that nobody needs.
    ///
    /// # Errors
    /// `EINVAL` (misaligned, unknown, not possible for this kind of mapping), `ENOMEM` (a hole; what is mapped has been dealt with).
    pub async fn madvise(&self, address: u64, length: u64, advice: i32) -> Result<()> {
        // asm-generic/mman-common.h
        const DONTNEED: i32 = 4;
        const FREE: i32 = 8;
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
            self.zap(start, end).await;
        }
        if covered { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// `msync`: writes shared file mappings back.
    ///
    /// # Errors
    /// `EINVAL` (misaligned, contradictory flags), `ENOMEM` (a hole), what the file reports.
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
            let parts: Vec<Area> = shared.map(|area| area.part(start, end)).collect();
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

    /// Moves areas and pages of `old..old + kept` to `new`, where `new_length` bytes are free. Nothing changes on failure.
    fn relocate(&mut self, space: &AddressSpace, old: u64, kept: u64, new: u64, new_length: u64) -> Result<Generation> {
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
            let role = if area.role == Role::Heap {
                Role::Plain
            } else {
                area.role
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
