//! Areas: what a process has mapped where, before any page of it exists (Linux's `vm_area_struct`).

use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};
use core::ops::Bound::{Excluded, Unbounded};

use hal::{PAGE_SIZE, arch::PageTable, traits::PageTableOps};

use super::Prot;
use crate::{
    errno::{Errno, Result},
    mm::{
        fallible::TryRoomExact,
        frame::Frame,
        pager::{Mappings, Pager},
    },
};

/// The most areas one address space may have (`vm.max_map_count`).
pub const MAX_AREAS: usize = 65530;
/// Pages kept unmapped below a stack that grows (`stack_guard_gap`), in bytes.
pub const STACK_GAP: u64 = 256 * PAGE_SIZE as u64;
/// The lowest address that may be mapped (`vm.mmap_min_addr`).
pub const MIN_ADDRESS: u64 = 0x1_0000;

/// Who sees a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// This address space alone: pages are copied on write.
    Private,
    /// Everybody who maps the same pages.
    Shared,
}

/// Where an area's pages come from.
#[derive(Clone)]
pub enum Content {
    /// Zeroes.
    Anonymous,
    /// A file or a memory object.
    Object {
        /// Who has the pages.
        pager: Arc<dyn Pager>,
        /// The page of the object at the area's start.
        first: u64,
    },
    /// One page of the kernel's (the vDSO or what it reads), at every page of the area.
    Special(Frame),
}

/// What fork does with an area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFork {
    /// The child has it too.
    Copy,
    /// The child has nothing there (`MADV_DONTFORK`).
    Skip,
    /// The child has zeroes there (`MADV_WIPEONFORK`).
    Wipe,
}

/// What an area is called in `/proc/<pid>/maps`, and how it behaves at its edges.
#[derive(Clone)]
pub enum Role {
    /// Nothing special.
    Plain,
    /// Shows what is told of it, and that it goes.
    Attached(Attachment),
    /// Moved by `brk`.
    Heap,
    /// Grows down at a fault below it, to no more than this many bytes.
    Stack(u64),
    /// The kernel's code in the program's space.
    Vdso,
    /// What that code reads.
    Vvar,
}

impl Role {
    /// Whether neighbours of these roles may be one area.
    fn goes_on_as(&self, next: &Self) -> bool {
        match (self, next) {
            (Self::Plain, Self::Plain) | (Self::Heap, Self::Heap) => true,
            (Self::Stack(limit), Self::Stack(other)) => limit == other,
            _ => false,
        }
    }

    /// To what the area is attached, if it is.
    pub const fn attachment(&self) -> Option<&Attachment> {
        match self {
            Self::Attached(attachment) => Some(attachment),
            _ => None,
        }
    }
}

/// What areas show and keep a share in, and may have to know of them.
pub trait Attach: Send + Sync {
    /// There is one more. Called with locks of memory management held.
    fn attached(&self) {}

    /// There is one less. Called as [`Attach::attached`].
    fn detached(&self) {}

    /// Bytes of the object, in whole pages, if it is a segment, which `shmdt` takes away.
    fn segment(&self) -> Option<u64> {
        None
    }
}

/// One area's share in what it shows. One word, since every area has room for it.
pub struct Attachment(Arc<Arc<dyn Attach>>);

impl Attachment {
    /// One more.
    pub fn new(to: Arc<dyn Attach>) -> Self {
        to.attached();
        Self(Arc::new(to))
    }

    /// To what.
    pub fn to(&self) -> &Arc<dyn Attach> {
        &self.0
    }
}

impl Clone for Attachment {
    fn clone(&self) -> Self {
        self.0.attached();
        Self(self.0.clone())
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.0.detached();
    }
}

/// One area: `start..end`, page-aligned, not empty.
#[derive(Clone)]
pub struct Area {
    /// The first byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// What the program may do.
    pub prot: Prot,
    /// What `mprotect` may allow.
    pub max_prot: Prot,
    /// Who sees stores.
    pub sharing: Sharing,
    /// Where pages come from.
    pub content: Content,
    /// Its role.
    pub role: Role,
    /// What fork does.
    pub on_fork: OnFork,
}

impl Area {
    /// Bytes in the area.
    pub const fn len(&self) -> u64 {
        self.end - self.start
    }

    /// The page of the object behind `address`, if there is an object.
    pub fn object_page(&self, address: u64) -> Option<(&Arc<dyn Pager>, u64)> {
        match &self.content {
            Content::Object { pager, first } => Some((pager, first + (address - self.start) / PAGE_SIZE as u64)),
            _ => None,
        }
    }

    /// Who has mapped the object behind it, where that is kept.
    pub fn mappings(&self) -> Option<&Mappings> {
        match &self.content {
            Content::Object { pager, .. } => pager.mappings(),
            _ => None,
        }
    }

    /// A copy to look at, which does not count as an area.
    pub fn glance(&self) -> Self {
        let role = match &self.role {
            Role::Attached(_) => Role::Plain,
            other => other.clone(),
        };
        Self {
            role,
            content: self.content.clone(),
            ..*self
        }
    }

    /// Takes away what lies before `start`.
    fn cut_front(&mut self, start: u64) {
        if let Content::Object { first, .. } = &mut self.content {
            *first += (start - self.start) / PAGE_SIZE as u64;
        }
        self.start = start;
    }

    /// The part of the area within `start..end`, which it overlaps.
    pub fn part(&self, start: u64, end: u64) -> Self {
        let (start, end) = (self.start.max(start), self.end.min(end));
        let content = match &self.content {
            Content::Object { pager, first } => Content::Object {
                pager: pager.clone(),
                first: first + (start - self.start) / PAGE_SIZE as u64,
            },
            other => other.clone(),
        };
        Self {
            start,
            end,
            content,
            ..self.clone()
        }
    }

    fn continues_as(&self, next: &Self) -> bool {
        let same_content = match (&self.content, &next.content) {
            (Content::Anonymous, Content::Anonymous) => true,
            (
                Content::Object { pager, first },
                Content::Object {
                    pager: other,
                    first: second,
                },
            ) => Arc::ptr_eq(pager, other) && first + self.len() / PAGE_SIZE as u64 == *second,
            _ => false,
        };
        same_content
            && self.end == next.start
            && self.prot == next.prot
            && self.max_prot == next.max_prot
            && self.sharing == next.sharing
            && self.role.goes_on_as(&next.role)
            && self.on_fork == next.on_fork
    }
}

/// The areas of one address space, disjoint.
///
/// They stand by their ends: memory is mapped from the top down, each area below the one before and often merged with it, so that
/// mostly the start of an area changes and its place does not.
#[derive(Default)]
pub struct Areas {
    by_end: BTreeMap<u64, Area>,
    /// A copy of the area that was asked for last, until something changes.
    recent: Option<Area>,
}

impl Areas {
    /// The area that holds `address`.
    pub fn find(&self, address: u64) -> Option<&Area> {
        self.at_or_above(address).filter(|area| area.start <= address)
    }

    /// As [`Areas::find`], for one address after another of the same area, as faults ask.
    pub fn recall(&mut self, address: u64) -> Option<&Area> {
        let holds = |area: &Area| area.start <= address && address < area.end;
        if !self.recent.as_ref().is_some_and(holds) {
            self.recent = self.find(address).map(Area::glance);
        }
        self.recent.as_ref()
    }

    /// The first area that ends above `address`.
    pub fn at_or_above(&self, address: u64) -> Option<&Area> {
        let (_, area) = self.by_end.range((Excluded(address), Unbounded)).next()?;
        Some(area)
    }

    /// The last area that ends at or below `address`.
    pub fn below(&self, address: u64) -> Option<&Area> {
        let (_, area) = self.by_end.range(..=address).next_back()?;
        Some(area)
    }

    /// The areas that overlap `start..end`, ascending.
    pub fn overlapping(&self, start: u64, end: u64) -> impl Iterator<Item = &Area> {
        let above = self.by_end.range((Excluded(start), Unbounded)).map(|(_, area)| area);
        above.take_while(move |area| area.start < end)
    }

    /// All areas, ascending.
    pub fn iter(&self) -> impl Iterator<Item = &Area> {
        self.by_end.values()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.by_end.len()
    }

    /// Whether `start..end` holds no area, nor the gap that a stack above it needs.
    pub fn is_free(&self, start: u64, end: u64) -> bool {
        self.at_or_above(start).is_none_or(|area| end <= reach(area))
    }

    /// Whether areas cover all of `start..end`.
    pub fn covers(&self, start: u64, end: u64) -> bool {
        let mut at = start;
        for area in self.overlapping(start, end) {
            if area.start > at {
                return false;
            }
            at = area.end;
        }
        at >= end
    }

    /// The areas, to change.
    fn change(&mut self) -> &mut BTreeMap<u64, Area> {
        self.recent = None;
        &mut self.by_end
    }

    /// Adds an area where nothing is, merging it with its neighbours.
    pub fn insert(&mut self, mut area: Area) {
        debug_assert!(area.start < area.end && self.overlapping(area.start, area.end).next().is_none());
        let areas = self.change();
        if areas.get(&area.start).is_some_and(|before| before.continues_as(&area))
            && let Some(before) = areas.remove(&area.start)
        {
            area = Area {
                end: area.end,
                ..before
            };
        }
        let after = areas.range_mut((Excluded(area.end), Unbounded)).next();
        match after {
            Some((_, after)) if area.continues_as(after) => *after = Area { end: after.end, ..area },
            _ => drop(areas.insert(area.end, area)),
        }
    }

    /// Cuts `start..end` out and returns the parts, ascending.
    ///
    /// # Errors
    /// `ENOMEM` if a split would make too many areas, or without memory for the list; nothing was changed.
    pub fn remove(&mut self, start: u64, end: u64) -> Result<Vec<Area>> {
        let splits = self
            .find(start)
            .is_some_and(|area| area.start < start && area.end > end);
        if splits && self.by_end.len() >= MAX_AREAS {
            return Err(Errno::ENOMEM);
        }
        let mut removed = Vec::new();
        removed.try_room_exact(self.overlapping(start, end).count())?;
        let areas = self.change();
        while let Some((&key, area)) = areas.range_mut((Excluded(start), Unbounded)).next()
            && area.start < end
        {
            let left = (area.start < start).then(|| area.part(area.start, start));
            if area.end > end {
                removed.push(area.part(start, end));
                area.cut_front(end);
            } else if let Some(mut area) = areas.remove(&key) {
                area.cut_front(area.start.max(start));
                removed.push(area);
            }
            if let Some(left) = left {
                areas.insert(start, left);
            }
        }
        Ok(removed)
    }

    /// Moves a growing area's start down to `start`.
    pub fn grow_down(&mut self, from: u64, start: u64) {
        let area = self.change().range_mut((Excluded(from), Unbounded)).next();
        if let Some((_, area)) = area.filter(|(_, area)| area.start == from) {
            area.start = start;
        }
    }

    /// Moves the end of the area at `start` up to `end`.
    pub fn grow_up(&mut self, start: u64, end: u64) {
        let key = self.find(start).map(|area| area.end);
        if let Some(mut area) = key.and_then(|key| self.change().remove(&key)) {
            area.end = end;
            self.insert(area);
        }
    }

    /// The highest free range of `length` bytes that ends at or below `top`; failing that, the lowest above it.
    pub fn find_gap(&self, length: u64, top: u64) -> Option<u64> {
        let above = self.at_or_above(top).filter(|area| area.start < top);
        let mut ceiling = above.map_or(top, reach);
        for area in self.by_end.range(..=top).rev().map(|(_, area)| area) {
            if ceiling >= area.end && ceiling - area.end >= length {
                return Some(ceiling - length);
            }
            ceiling = ceiling.min(reach(area));
        }
        if ceiling.checked_sub(length).is_some_and(|start| start >= MIN_ADDRESS) {
            return Some(ceiling - length);
        }
        let mut floor = above.map_or(top, |area| area.end);
        for area in self.by_end.range((Excluded(floor), Unbounded)).map(|(_, area)| area) {
            if reach(area) >= floor && reach(area) - floor >= length {
                return Some(floor);
            }
            floor = area.end;
        }
        (PageTable::USER_END - floor >= length).then_some(floor)
    }
}

/// How far down an area reaches, with the gap that a stack wants.
fn reach(area: &Area) -> u64 {
    match area.role {
        Role::Stack(_) => area.start.saturating_sub(STACK_GAP),
        _ => area.start,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_of_areas_fits_its_class_of_the_heap() {
        // As alloc's BTreeMap has it: eleven keys and values, and a link to the node above. A thread's stack is two areas.
        let node = 11 * (size_of::<u64>() + size_of::<Area>()) + 2 * size_of::<usize>();
        assert!(node <= 1024, "{node}");
    }
}
