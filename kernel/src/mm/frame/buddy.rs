//! The buddy allocator: blocks of 2^order frames, split and merged.
//!
//! Its lists are threaded through the array of [`FrameInfo`], one entry a frame, so that free memory itself is never touched.
//! An entry's links and state are changed only under the lock around [`Buddy`]; its count belongs to whoever holds the
//! frame. All fields are atomics (relaxed where the lock orders them), which keeps the module free of unsafe code.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

/// Orders run from 0 (one frame) to this (16 MiB).
pub const MAX_ORDER: u8 = 12;

const ORDERS: usize = MAX_ORDER as usize + 1;
const NONE: u32 = u32::MAX;
/// The state of a frame that is not the head of a free block.
const TAKEN: u32 = u32::MAX;

/// What is known of one frame.
#[derive(Debug)]
pub struct FrameInfo {
    /// References to the frame while it is allocated.
    pub count: AtomicU32,
    /// While the frame is allocated: whether it has become a page of a file.
    pub of_file: AtomicBool,
    /// Whether instruction fetch sees what it holds.
    pub code: AtomicBool,
    /// Whether it was used since a cache last looked.
    pub used: AtomicBool,
    // The order of the free block that the frame heads, or TAKEN.
    state: AtomicU32,
    next: AtomicU32,
    previous: AtomicU32,
}

impl FrameInfo {
    /// A frame that nobody may have.
    pub const fn new() -> Self {
        Self {
            count: AtomicU32::new(0),
            of_file: AtomicBool::new(false),
            code: AtomicBool::new(false),
            used: AtomicBool::new(false),
            state: AtomicU32::new(TAKEN),
            next: AtomicU32::new(NONE),
            previous: AtomicU32::new(NONE),
        }
    }
}

/// The free lists. Frame numbers are indices into the array that every method is given, always the same one.
#[derive(Debug)]
pub struct Buddy {
    heads: [u32; ORDERS],
    free: usize,
}

impl Buddy {
    /// An allocator with nothing free.
    pub const fn new() -> Self {
        Self {
            heads: [NONE; ORDERS],
            free: 0,
        }
    }

    /// Frames in free blocks.
    pub const fn free_frames(&self) -> usize {
        self.free
    }

    /// Takes a block of 2^`order` frames, aligned to its size; `None` if there is none, or no such order.
    pub fn allocate(&mut self, info: &[FrameInfo], order: u8) -> Option<u32> {
        let found = (order..=MAX_ORDER).find(|&order| self.heads[order as usize] != NONE)?;
        let block = self.heads[found as usize];
        self.unlink(info, block, found);
        for half in (order..found).rev() {
            self.link(info, block + (1 << half), half);
        }
        self.free -= 1 << order;
        Some(block)
    }

    /// Gives back the block of 2^`order` frames at `block`, merging it with its buddies.
    pub fn free(&mut self, info: &[FrameInfo], block: u32, order: u8) {
        debug_assert_eq!(
            info[block as usize].state.load(Relaxed),
            TAKEN,
            "frame {block} freed twice"
        );
        let (mut block, mut merged) = (block, order);
        while merged < MAX_ORDER {
            let buddy = block ^ (1 << merged);
            let free = info
                .get(buddy as usize)
                .is_some_and(|info| info.state.load(Relaxed) == merged.into());
            if !free {
                break;
            }
            self.unlink(info, buddy, merged);
            block &= buddy;
            merged += 1;
        }
        self.link(info, block, merged);
        self.free += 1 << order;
    }

    /// Gives frames `start..end` to the allocator for the first time.
    pub fn add(&mut self, info: &[FrameInfo], start: u32, end: u32) {
        let mut at = start;
        while at < end {
            let aligned = at.trailing_zeros().min(MAX_ORDER.into());
            let order = aligned.min((end - at).ilog2()) as u8;
            self.free(info, at, order);
            at += 1 << order;
        }
    }

    fn link(&mut self, info: &[FrameInfo], block: u32, order: u8) {
        let head = &mut self.heads[order as usize];
        let entry = &info[block as usize];
        entry.state.store(order.into(), Relaxed);
        entry.previous.store(NONE, Relaxed);
        entry.next.store(*head, Relaxed);
        if *head != NONE {
            info[*head as usize].previous.store(block, Relaxed);
        }
        *head = block;
    }

    fn unlink(&mut self, info: &[FrameInfo], block: u32, order: u8) {
        let entry = &info[block as usize];
        let (next, previous) = (entry.next.load(Relaxed), entry.previous.load(Relaxed));
        match previous {
            NONE => self.heads[order as usize] = next,
            previous => info[previous as usize].next.store(next, Relaxed),
        }
        if next != NONE {
            info[next as usize].previous.store(previous, Relaxed);
        }
        entry.state.store(TAKEN, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FRAMES: u32 = 1000;

    fn fresh() -> (Vec<FrameInfo>, Buddy) {
        let info: Vec<_> = (0..FRAMES).map(|_| FrameInfo::new()).collect();
        let mut buddy = Buddy::new();
        buddy.add(&info, 3, 500);
        buddy.add(&info, 501, FRAMES);
        (info, buddy)
    }

    fn shape(info: &[FrameInfo]) -> Vec<(usize, u32)> {
        let heads = info.iter().enumerate().map(|(at, info)| (at, info.state.load(Relaxed)));
        heads.filter(|&(_, state)| state != TAKEN).collect()
    }

    #[test]
    fn an_empty_allocator_has_nothing() {
        assert_eq!(Buddy::new().allocate(&[], 0), None);
        let (info, mut buddy) = fresh();
        assert_eq!(buddy.allocate(&info, MAX_ORDER + 1), None);
    }

    proptest! {
        #[test]
        fn blocks_never_overlap_and_merge_back(steps in proptest::collection::vec((any::<bool>(), 0u8..7, any::<usize>()), 1..300)) {
            let (info, mut buddy) = fresh();
            let (start, before) = (shape(&info), buddy.free_frames());
            let mut held: Vec<(u32, u8)> = Vec::new();
            let mut owned = vec![false; FRAMES as usize];
            for (allocate, order, pick) in steps {
                if allocate || held.is_empty() {
                    if let Some(block) = buddy.allocate(&info, order) {
                        prop_assert_eq!(block % (1 << order), 0);
                        for frame in block..block + (1 << order) {
                            prop_assert!(frame >= 3 && frame != 500 && !std::mem::replace(&mut owned[frame as usize], true));
                        }
                        held.push((block, order));
                    }
                } else {
                    let (block, order) = held.swap_remove(pick % held.len());
                    owned[block as usize..(block + (1 << order)) as usize].fill(false);
                    buddy.free(&info, block, order);
                }
                prop_assert_eq!(buddy.free_frames(), before - owned.iter().filter(|&&owned| owned).count());
            }
            for (block, order) in held {
                buddy.free(&info, block, order);
            }
            prop_assert_eq!(shape(&info), start);
        }
    }
}
