//! The pages of a file: a radix tree, 64 ways a level, as high as the largest index needs. Holes cost nothing, and no
//! allocation here can fail by anything but `ENOMEM`.

use alloc::{boxed::Box, vec::Vec};

use arrayvec::ArrayVec;

use crate::{
    errno::Result,
    mm::{fallible::TryRoomExact, frame::Frame},
};

const BITS: u32 = 6;
const WAYS: usize = 1 << BITS;

enum Slot {
    Empty,
    Page(Frame),
    Node(Node),
}

struct Node {
    ways: Box<[Slot]>,
    /// Pages below, so that a subtree is taken out without a walk through it.
    pages: u64,
}

impl Node {
    fn new() -> Result<Self> {
        let mut ways = Vec::new();
        ways.try_room_exact(WAYS)?;
        ways.resize_with(WAYS, || Slot::Empty);
        Ok(Self {
            ways: ways.into_boxed_slice(),
            pages: 0,
        })
    }
}

/// Frames by page index.
pub struct PageMap {
    root: Slot,
    /// Levels of nodes above the pages: indices below `64^height` fit.
    height: u32,
    pages: u64,
}

impl Default for PageMap {
    fn default() -> Self {
        Self::new()
    }
}

/// Pages taken out of a map, to be dropped outside of locks.
#[derive(Default)]
pub struct Removed {
    slots: Vec<Slot>,
    pages: u64,
}

impl Removed {
    /// How many.
    pub const fn pages(&self) -> u64 {
        self.pages
    }

    /// Adds others.
    pub fn append(&mut self, mut other: Self) {
        self.slots.append(&mut other.slots);
        self.pages += other.pages;
    }

    /// Takes at least `pages` of them away from the others, as far as there are so many: whole lowest nodes at a time.
    pub fn split(&mut self, pages: u64) -> Self {
        let mut part = Self::default();
        while part.pages < pages
            && let Some(slot) = self.slots.pop()
        {
            let Slot::Node(node) = slot else {
                part.pages += count(&slot);
                part.slots.push(slot);
                continue;
            };
            if node.pages <= WAYS as u64 {
                part.pages += node.pages;
                part.slots.push(Slot::Node(node));
            } else {
                // A level down: a few dozen slots for each level at most.
                self.slots.extend(node.ways);
            }
        }
        self.pages -= part.pages;
        part
    }
}

impl PageMap {
    /// A map without pages.
    pub const fn new() -> Self {
        Self {
            root: Slot::Empty,
            height: 0,
            pages: 0,
        }
    }

    /// Pages held.
    pub const fn len(&self) -> u64 {
        self.pages
    }

    /// Whether there are no pages.
    pub const fn is_empty(&self) -> bool {
        self.pages == 0
    }

    const fn fits(&self, index: u64) -> bool {
        let bits = self.height * BITS;
        bits >= 64 || index >> bits == 0
    }

    /// The page at `index`.
    pub fn get(&self, index: u64) -> Option<&Frame> {
        if !self.fits(index) {
            return None;
        }
        let mut slot = &self.root;
        let mut level = self.height;
        loop {
            match slot {
                Slot::Empty => return None,
                Slot::Page(frame) => return Some(frame),
                Slot::Node(node) => {
                    level -= 1;
                    slot = &node.ways[way(index, level)];
                }
            }
        }
    }

    /// Puts each page of `first..first + into.len()` that there is into its place; other places stay as they are.
    pub fn get_many(&self, first: u64, into: &mut [Option<Frame>]) {
        let (mut at, mut rest) = (first, into);
        while !rest.is_empty() && self.fits(at) {
            let start = way(at, 0);
            let (part, others) = rest.split_at_mut(rest.len().min(WAYS - start));
            at = at.saturating_add(part.len() as u64);
            rest = others;
            match self.lowest(at - 1) {
                Slot::Page(frame) => part[0] = Some(frame.clone()),
                Slot::Node(node) => {
                    for (into, slot) in part.iter_mut().zip(&node.ways[start..]) {
                        if let Slot::Page(frame) = slot {
                            *into = Some(frame.clone());
                        }
                    }
                }
                Slot::Empty => {}
            }
        }
    }

    /// What is at the lowest level of nodes for `index`, which fits.
    fn lowest(&self, index: u64) -> &Slot {
        let mut slot = &self.root;
        let mut level = self.height;
        while level > 1
            && let Slot::Node(node) = slot
        {
            level -= 1;
            slot = &node.ways[way(index, level)];
        }
        slot
    }

    /// Puts a page in. What was there is replaced.
    ///
    /// # Errors
    /// `ENOMEM`; the map then holds what it held.
    pub fn insert(&mut self, index: u64, frame: Frame) -> Result<()> {
        while !self.fits(index) {
            let mut node = Node::new()?;
            core::mem::swap(&mut node.ways[0], &mut self.root);
            node.pages = self.pages;
            // An empty tree stays empty at any height.
            self.root = if matches!(node.ways[0], Slot::Empty) {
                Slot::Empty
            } else {
                Slot::Node(node)
            };
            self.height += 1;
        }
        let mut slot = &mut self.root;
        for level in (0..self.height).rev() {
            if matches!(slot, Slot::Empty) {
                *slot = Slot::Node(Node::new()?);
            }
            let Slot::Node(node) = slot else {
                unreachable!("a page above the lowest level")
            };
            slot = &mut node.ways[way(index, level)];
        }
        frame.set_of_file(true);
        let is_new = matches!(slot, Slot::Empty);
        *slot = Slot::Page(frame);
        if is_new {
            self.count_in(index);
        }
        Ok(())
    }

    /// Counts a new page in every node above it. Only now, because a node may have been missing.
    fn count_in(&mut self, index: u64) {
        self.pages += 1;
        let mut slot = &mut self.root;
        let mut level = self.height;
        while let Slot::Node(node) = slot {
            node.pages += 1;
            level -= 1;
            slot = &mut node.ways[way(index, level)];
        }
    }

    /// Takes every page of `first..end` out, whole subtrees at a time.
    pub fn remove(&mut self, first: u64, end: u64) -> Removed {
        let mut removed = Removed::default();
        if first < end {
            cut(&mut self.root, self.height, 0, first, end, &mut removed);
            self.pages -= removed.pages;
        }
        if self.pages == 0 {
            removed.slots.push(core::mem::replace(&mut self.root, Slot::Empty));
            self.height = 0;
        }
        removed
    }

    /// Looks at up to `visits` pages from `from` on and takes those out that `goes` says, as long as there is room in `into`.
    /// Where to go on; `None` at the end. Takes no memory.
    pub fn sweep<const ROOM: usize>(
        &mut self,
        from: u64,
        visits: usize,
        mut goes: impl FnMut(&Frame) -> bool,
        into: &mut ArrayVec<Frame, ROOM>,
    ) -> Option<u64> {
        let mut at = from;
        for _ in 0..visits {
            at = self.next_page(at)?;
            if into.is_full() {
                break;
            }
            if self.get(at).is_some_and(&mut goes) {
                into.extend(self.take(at));
            }
            at += 1;
        }
        Some(at)
    }

    /// Takes one page out.
    fn take(&mut self, index: u64) -> Option<Frame> {
        if !self.fits(index) {
            return None;
        }
        let frame = take(&mut self.root, self.height, index)?;
        self.pages -= 1;
        if self.pages == 0 {
            self.height = 0;
        }
        Some(frame)
    }

    /// The first page at `index` or after.
    pub fn next_page(&self, index: u64) -> Option<u64> {
        next(&self.root, self.height, 0, index)
    }

    /// The first index at `index` or after without a page.
    pub fn next_hole(&self, index: u64) -> u64 {
        let mut index = index;
        while self.get(index).is_some() {
            index += 1;
        }
        index
    }
}

const fn way(index: u64, level: u32) -> usize {
    (index >> (level * BITS)) as usize & (WAYS - 1)
}

/// Pages under one slot whose children are at `level - 1`.
fn span(level: u32) -> u64 {
    1u64.checked_shl(level * BITS).unwrap_or(u64::MAX)
}

fn count(slot: &Slot) -> u64 {
    match slot {
        Slot::Empty => 0,
        Slot::Page(_) => 1,
        Slot::Node(node) => node.pages,
    }
}

fn cut(slot: &mut Slot, level: u32, base: u64, first: u64, end: u64, removed: &mut Removed) {
    let last = base.saturating_add(span(level) - 1);
    if matches!(slot, Slot::Empty) || last < first || base >= end {
        return;
    }
    if first <= base && last < end {
        let gone = core::mem::replace(slot, Slot::Empty);
        removed.pages += count(&gone);
        removed.slots.push(gone);
        return;
    }
    if let Slot::Node(node) = slot {
        let before = removed.pages;
        for (way, child) in node.ways.iter_mut().enumerate() {
            cut(
                child,
                level - 1,
                base + way as u64 * span(level - 1),
                first,
                end,
                removed,
            );
        }
        node.pages -= removed.pages - before;
    }
}

/// Takes the page at `index` out below a slot, and nodes that are left empty.
fn take(slot: &mut Slot, level: u32, index: u64) -> Option<Frame> {
    let Slot::Node(node) = slot else {
        return match core::mem::replace(slot, Slot::Empty) {
            Slot::Page(frame) => Some(frame),
            _ => None,
        };
    };
    let frame = take(&mut node.ways[way(index, level - 1)], level - 1, index)?;
    node.pages -= 1;
    if node.pages == 0 {
        *slot = Slot::Empty;
    }
    Some(frame)
}

fn next(slot: &Slot, level: u32, base: u64, index: u64) -> Option<u64> {
    if base.saturating_add(span(level) - 1) < index {
        return None;
    }
    match slot {
        Slot::Empty => None,
        Slot::Page(_) => Some(base),
        Slot::Node(node) => {
            (0..WAYS).find_map(|way| next(&node.ways[way], level - 1, base + way as u64 * span(level - 1), index))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subtrees_know_their_pages() {
        let mut map = PageMap::new();
        let frame = crate::mm::frame::allocate().unwrap();
        let indices: Vec<u64> = (0..300).chain([5000, 1 << 20, 1 << 40]).collect();
        for &index in &indices {
            map.insert(index, frame.clone()).unwrap();
            map.insert(index, frame.clone()).unwrap();
        }
        let total = indices.len() as u64;
        assert_eq!((map.len(), count(&map.root)), (total, total));
        assert_eq!(map.remove(10, 100).pages(), 90);
        assert_eq!((map.len(), count(&map.root)), (total - 90, total - 90));
        let mut removed = map.remove(100, u64::MAX);
        assert_eq!((removed.pages(), map.len(), count(&map.root)), (203, 10, 10));
        let mut parts = 0;
        while removed.pages() > 0 {
            let before = removed.pages();
            let part = removed.split(50);
            assert!((1..50 + WAYS as u64).contains(&part.pages()));
            assert_eq!(part.pages() + removed.pages(), before);
            parts += 1;
        }
        assert!(parts > 2);
        drop(map);
        assert_eq!(frame.count(), 1);
    }

    #[test]
    fn a_sweep_takes_what_goes_and_leaves_the_rest() {
        let mut map = PageMap::new();
        let (goes, stays) = (
            crate::mm::frame::allocate().unwrap(),
            crate::mm::frame::allocate().unwrap(),
        );
        let indices = [0, 1, 63, 64, 70, 5000, 1 << 30];
        for (number, &index) in indices.iter().enumerate() {
            let frame = if number % 2 == 0 { &goes } else { &stays };
            map.insert(index, frame.clone()).unwrap();
        }
        let mut taken = ArrayVec::<Frame, 3>::new();
        let is_going = |frame: &Frame| frame.address() == goes.address();
        assert_eq!(
            map.sweep(0, 4, is_going, &mut taken),
            Some(65),
            "four pages were looked at"
        );
        assert_eq!((taken.len(), map.len(), count(&map.root)), (2, 5, 5));
        let next = map.sweep(65, 100, is_going, &mut taken);
        assert_eq!((next, taken.len()), (Some(5000), 3), "there is no more room");
        taken.clear();
        assert_eq!(map.sweep(5000, 100, is_going, &mut taken), None);
        assert_eq!((taken.len(), map.len(), count(&map.root)), (1, 3, 3));
        taken.clear();
        assert_eq!(goes.count(), 1);
        assert_eq!(map.sweep(0, 100, |_| true, &mut taken), None);
        assert!(map.is_empty() && matches!(map.root, Slot::Empty));
        assert_eq!(map.next_page(0), None);
        map.insert(3, stays.clone()).unwrap();
        assert_eq!(map.len(), 1);
    }

    #[test]
    fn spans() {
        assert_eq!(span(0), 1);
        assert_eq!(span(2), 4096);
        assert_eq!(span(11), u64::MAX);
        assert_eq!(way(65, 0), 1);
        assert_eq!(way(65, 1), 1);
        assert_eq!(PageMap::new().next_page(5), None);
        assert_eq!(PageMap::new().next_hole(5), 5);
    }
}
