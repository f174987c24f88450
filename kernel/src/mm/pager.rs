//! Where the pages of a mapping come from when it is not private memory alone.

use alloc::{collections::BTreeMap, sync::Arc};
use core::task::{Context, Poll};

use super::frame::{self, Frame};
use crate::{
    errno::Result,
    sync::{Rank, SpinLock},
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
    /// way: [`Pager::poll_ready`] tells when to ask again.
    fn page(&self, index: u64) -> Result<Frame>;

    /// As [`Pager::page`], for a page that a shared mapping is about to write: the place to mark it dirty.
    ///
    /// # Errors
    /// As [`Pager::page`].
    fn page_for_write(&self, index: u64) -> Result<Frame> {
        self.page(index)
    }

    /// Ready when [`Pager::page`] is worth calling again after `EAGAIN`. Pagers that never say `EAGAIN` need not have it.
    fn poll_ready(&self, _index: u64, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    /// Writes the bytes of a shared mapping of pages `first..last` back, for `msync`. Memory-only pagers have nothing to do.
    ///
    /// # Errors
    /// Whatever the storage reports.
    fn sync(&self, _first: u64, _last: u64) -> Result<()> {
        Ok(())
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
}
