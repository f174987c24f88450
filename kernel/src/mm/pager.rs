//! Where the pages of a mapping come from when it is not private memory alone.

use alloc::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};
use core::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
};

use super::{
    AddressSpace,
    frame::{self, Frame},
};
use crate::{
    errno::Result,
    rt,
    sync::{Rank, SpinLock, WaitQueue},
};

/// A source of pages: an inode's page cache, or a shared memory object. Page `index` is bytes `index * 4096..` of it.
///
/// Called with no lock of memory management held.
pub trait Pager: Send + Sync {
    /// The frame that holds page `index`: the one that reads and writes of the file use too, so that shared mappings and
    /// file calls see each other. Bytes past the end of the file are zero in it.
    ///
    /// # Errors
    /// `ENXIO` past the last page of the file (the program gets SIGBUS), `ENOMEM`, `EIO`; `EAGAIN` if the page is on its
    /// way: [`Pager::arrivals`] is woken when it is worth asking again.
    fn page(&self, index: u64) -> Result<Frame>;

    /// As [`Pager::page`], for a page that a shared mapping is about to write: the place to mark it dirty.
    ///
    /// # Errors
    /// As [`Pager::page`].
    fn page_for_write(&self, index: u64) -> Result<Frame> {
        self.page(index)
    }

    /// Puts each page of `first..first + into.len()` that is in memory into its place, without waiting or bringing any: a
    /// read fault maps what it finds there as well. Never a page that [`Pager::page`] would refuse. By default none.
    fn pages_in_memory(&self, _first: u64, _into: &mut [Option<Frame>]) {}

    /// The queue, all of which is woken whenever [`Pager::page`] is worth calling again for page `index` after `EAGAIN`: whoever
    /// waits registers, asks again, and only then awaits. Pagers that never say `EAGAIN` need not have one.
    fn arrivals(&self, _index: u64) -> Option<&WaitQueue> {
        None
    }

    /// Writes the bytes of a shared mapping of pages `first..last` back, for `msync`. Memory-only pagers have nothing to do.
    ///
    /// # Errors
    /// Whatever the storage reports.
    fn sync(&self, _first: u64, _last: u64) -> Result<()> {
        Ok(())
    }

    /// Who has mapped the object, for objects whose pages can go away. Pages are taken out of the object first, then
    /// [`cut`] is called.
    fn mappings(&self) -> Option<&Mappings> {
        None
    }

    /// Gives about `pages` of the pages that were taken out back to the frame allocator; true while there are more.
    fn give_back(&self, _pages: u64) -> bool {
        false
    }

    /// The file as `/proc/<pid>/maps` shows it: device, inode number, path. `None` for memory without a name.
    fn describe(&self) -> Option<Backing> {
        None
    }
}

/// What `/proc/<pid>/maps` says of a mapped file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backing {
    /// Major and minor device number.
    pub device: (u32, u32),
    /// Inode number.
    pub inode: u64,
    /// Absolute path.
    pub path: alloc::string::String,
}

/// The address spaces that have mapped an object.
///
/// A fault asks the pager for a page with no lock held and maps the answer later. What makes that sound although pages go
/// away: a cut first takes the pages out of the object, then counts up [`Mappings::cuts`], then goes through the spaces; a
/// fault reads the count before it asks and compares it, with the space's lock held, before it maps.
pub struct Mappings {
    spaces: SpinLock<Spaces>,
    cuts: AtomicU64,
}

struct Spaces {
    by_id: BTreeMap<u64, Weak<AddressSpace>>,
    /// How many there may be before the dead among them are looked for.
    limit: usize,
}

impl Default for Mappings {
    fn default() -> Self {
        Self::new()
    }
}

impl Mappings {
    /// Nobody.
    pub const fn new() -> Self {
        let spaces = Spaces {
            by_id: BTreeMap::new(),
            limit: 16,
        };
        Self {
            spaces: SpinLock::new(Rank::MemoryObject, spaces),
            cuts: AtomicU64::new(0),
        }
    }

    /// How often pages have been taken out.
    pub fn cuts(&self) -> u64 {
        self.cuts.load(SeqCst)
    }

    /// Adds a space, before an area of it shows the object.
    pub(super) fn add(&self, id: u64, space: &Weak<AddressSpace>) {
        let mut spaces = self.spaces.lock();
        if spaces.by_id.len() >= spaces.limit {
            spaces.by_id.retain(|_, space| space.strong_count() > 0);
            spaces.limit = 16.max(spaces.by_id.len() * 2);
        }
        spaces.by_id.entry(id).or_insert_with(|| space.clone());
    }

    /// Forgets a space that has no area left.
    pub(super) fn remove(&self, id: u64) {
        let gone = self.spaces.lock().by_id.remove(&id);
        drop(gone);
    }

    /// The first living space whose number is at least `id`, and its number.
    fn next(&self, id: u64) -> Option<(u64, Arc<AddressSpace>)> {
        let spaces = self.spaces.lock();
        let mut living = spaces.by_id.range(id..);
        living.find_map(|(id, space)| Some((*id, space.upgrade()?)))
    }
}

/// What becomes of private copies of pages that are taken out of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copies {
    /// They go too: the object has become shorter.
    Go,
    /// They stay: it has got a hole.
    Stay,
}

/// After these pages of `pager` have been taken out: no address space shows them any more, and their memory is given
/// back bit by bit. A program that touches them sees a hole's zeroes, or gets SIGBUS past the end.
///
/// Spaces are gone through by number: a child made meanwhile has a higher one than its parent. Dropping the future
/// leaves the rest undone, except for the memory, which comes back with the next cut, or with the object at the latest.
pub async fn cut(pager: &Arc<dyn Pager>, pages: Range<u64>, copies: Copies) {
    if let Some(mappings) = pager.mappings() {
        mappings.cuts.fetch_add(1, SeqCst);
        let mut next = 0;
        while let Some((id, space)) = mappings.next(next) {
            space.forget_object(pager, &pages, copies).await;
            next = id + 1;
        }
    }
    give_back(pager).await;
}

/// Gives the memory of pages that were taken out and are mapped nowhere back, bit by bit.
pub async fn give_back(pager: &Arc<dyn Pager>) {
    const PAGES_PER_TURN: u64 = 512;
    while pager.give_back(PAGES_PER_TURN) {
        rt::yield_now().await;
    }
}

/// Anonymous shared memory: zeroes until written, shared by everybody who inherited the mapping.
pub struct MemoryObject {
    pages: SpinLock<BTreeMap<u64, Frame>>,
}

impl MemoryObject {
    /// An object without pages.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            pages: SpinLock::new(Rank::MemoryObject, BTreeMap::new()),
        })
    }
}

impl Pager for MemoryObject {
    fn page(&self, index: u64) -> Result<Frame> {
        if let Some(frame) = self.pages.lock().get(&index) {
            return Ok(frame.clone());
        }
        let fresh = frame::allocate_zeroed()?;
        Ok(self.pages.lock().entry(index).or_insert(fresh).clone())
    }

    fn pages_in_memory(&self, first: u64, into: &mut [Option<Frame>]) {
        let pages = self.pages.lock();
        for (index, frame) in pages.range(first..first.saturating_add(into.len() as u64)) {
            into[(index - first) as usize] = Some(frame.clone());
        }
    }
}
