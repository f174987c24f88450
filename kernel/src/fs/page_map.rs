//! The pages of a file: a radix tree, 64 ways a level, as high as the largest index needs. Holes cost nothing, and no
//! allocation here can fail by anything but `ENOMEM`.

use alloc::vec::Vec;

use crate::mm::fallible::TryRoomExact;
use crate::{errno::Result, mm::frame::Frame};

const BITS: u32 = 6;
const WAYS: usize = 1 << BITS;

enum Slot {
    Empty,
    Page(Frame),
    Node(Vec<Slot>),
}

fn new_node() -> Result<Vec<Slot>> {
    let mut node = Vec::new();
    node.try_room_exact(WAYS)?;
    node.resize_with(WAYS, || Slot::Empty);
    Ok(node)
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
pub struct Removed {
    _slots: Vec<Slot>,
    pages: u64,
}

impl Removed {
    /// How many.
    pub const fn pages(&self) -> u64 {
        self.pages
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
                    slot = &node[way(index, level)];
                }
            }
        }
    }

    /// Puts a page in. What was there is replaced.
    ///
    /// # Errors
    /// `ENOMEM`; the map then holds what it held.
    pub fn insert(&mut self, index: u64, frame: Frame) -> Result<()> {
        while !self.fits(index) {
            let mut node = new_node()?;
            core::mem::swap(&mut node[0], &mut self.root);
            // An empty tree stays empty at any height.
            self.root = if matches!(node[0], Slot::Empty) {
                Slot::Empty
            } else {
                Slot::Node(node)
            };
            self.height += 1;
        }
        let mut slot = &mut self.root;
        for level in (0..self.height).rev() {
            if matches!(slot, Slot::Empty) {
                *slot = Slot::Node(new_node()?);
            }
            let Slot::Node(node) = slot else {
                unreachable!("a page above the lowest level")
            };
            slot = &mut node[way(index, level)];
        }
        if matches!(slot, Slot::Empty) {
            self.pages += 1;
        }
        *slot = Slot::Page(frame);
        Ok(())
    }

    /// Takes every page of `first..end` out, whole subtrees at a time.
    pub fn remove(&mut self, first: u64, end: u64) -> Removed {
        let mut removed = Removed {
            _slots: Vec::new(),
            pages: 0,
        };
        if first < end {
            cut(&mut self.root, self.height, 0, first, end, &mut removed);
            self.pages -= removed.pages;
        }
        if self.pages == 0 {
            removed._slots.push(core::mem::replace(&mut self.root, Slot::Empty));
            self.height = 0;
        }
        removed
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
        Slot::Node(node) => node.iter().map(count).sum(),
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
        removed._slots.push(gone);
        return;
    }
    if let Slot::Node(node) = slot {
        for (way, child) in node.iter_mut().enumerate() {
            cut(
                child,
                level - 1,
                base + way as u64 * span(level - 1),
                first,
                end,
                removed,
            );
        }
    }
}

fn next(slot: &Slot, level: u32, base: u64, index: u64) -> Option<u64> {
    if base.saturating_add(span(level) - 1) < index {
        return None;
    }
    match slot {
        Slot::Empty => None,
        Slot::Page(_) => Some(base),
        Slot::Node(node) => {
            (0..WAYS).find_map(|way| next(&node[way], level - 1, base + way as u64 * span(level - 1), index))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
