//! Pages that can be had again, and which of them go first.

use arrayvec::ArrayVec;

use crate::{fs::page_map::PageMap, mm::Frame};

/// Pages looked at with the lock held.
const VISITS: usize = 128;
/// Pages taken out with the lock held, to be dropped without it.
const BATCH: usize = 64;

/// Pages taken out of a pool.
pub type Batch = ArrayVec<Frame, BATCH>;

/// Pages by index, with a hand that goes round over them: a page that was used since the hand last passed stays.
#[derive(Default)]
pub struct Pool {
    /// The pages. A reference to one is taken only with the pool's lock held.
    pub pages: PageMap,
    hand: u64,
}

impl Pool {
    /// Moves the hand on, and takes out pages that nobody has a reference to; true at the end of a round.
    pub fn take_unused(&mut self, into: &mut Batch) -> bool {
        let goes = |frame: &Frame| {
            // One: nobody can get another reference without this pool's lock.
            if frame.count() != 1 {
                return false;
            }
            let used = frame.is_used();
            frame.set_used(false);
            !used
        };
        let next = self.pages.sweep(self.hand, VISITS, goes, into);
        self.hand = next.unwrap_or(0);
        next.is_none()
    }
}

/// Gives back about `wanted` pages of a pool on which `take` calls [`Pool::take_unused`]; how many.
pub fn give_back(wanted: usize, mut take: impl FnMut(&mut Batch) -> bool) -> usize {
    let (mut given, mut rounds) = (0, 0);
    // The rest of a round; one that finds pages to be used, and one that finds that they are not any more.
    while given < wanted && rounds < 3 {
        let mut batch = Batch::new();
        rounds += u32::from(take(&mut batch));
        given += batch.len();
    }
    given
}
