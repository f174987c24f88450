//! A run of a disk's bytes, read through the page cache: a whole disk, a partition, or a file that lies somewhere on one.

use alloc::{boxed::Box, sync::Arc};
use core::ops::Range;

use hal::PAGE_SIZE;

use crate::{
    block::SECTOR,
    errno::{Errno, Result},
    fs::{
        file::{Attempt, Stop},
        io::Sink,
        page_cache::{PageCache, ReadAhead},
    },
    mm::{Frame, Pager, pager::Mappings},
    sync::WaitQueue,
};

const PAGE: u64 = PAGE_SIZE as u64;
/// Pages around one that a fault misses, which come with it: those that a fault maps together.
const AROUND: u64 = 16;

/// Bytes of a disk, from any byte to any other.
#[derive(Clone)]
pub struct Extent {
    cache: Arc<PageCache>,
    start: u64,
    length: u64,
}

impl Extent {
    /// Bytes `bytes` of the disk behind `cache`.
    ///
    /// # Errors
    /// `EINVAL` if they are not all on the disk.
    pub fn new(cache: Arc<PageCache>, bytes: Range<u64>) -> Result<Self> {
        let size = cache.disk().geometry().sectors * SECTOR;
        if bytes.start > bytes.end || bytes.end > size {
            return Err(Errno::EINVAL);
        }
        Ok(Self {
            cache,
            start: bytes.start,
            length: bytes.end - bytes.start,
        })
    }

    /// Bytes `bytes` of this.
    ///
    /// # Errors
    /// `EINVAL` if they are not all in it.
    pub fn part(&self, bytes: Range<u64>) -> Result<Self> {
        if bytes.start > bytes.end || bytes.end > self.length {
            return Err(Errno::EINVAL);
        }
        Ok(Self {
            cache: self.cache.clone(),
            start: self.start + bytes.start,
            length: bytes.end - bytes.start,
        })
    }

    /// The cache they are read through.
    pub const fn cache(&self) -> &Arc<PageCache> {
        &self.cache
    }

    /// The first byte, counted from the disk's beginning.
    pub const fn start(&self) -> u64 {
        self.start
    }

    /// Bytes.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Pages that are not empty, if they are counted from the first byte on.
    pub const fn pages(&self) -> u64 {
        self.length.div_ceil(PAGE)
    }

    /// Whether its pages are the disk's.
    pub const fn is_aligned(&self) -> bool {
        self.start.is_multiple_of(PAGE)
    }

    /// Bytes of this, as pages of the disk.
    const fn disk_pages(&self, bytes: Range<u64>) -> Range<u64> {
        (self.start + bytes.start) / PAGE..(self.start + bytes.end).div_ceil(PAGE)
    }

    /// One attempt to read at `*position`, which moves on. Where up to a page is asked for, all of it or nothing is read.
    ///
    /// # Errors
    /// `WouldBlock`: pages are on their way; [`Extent::arrivals`] of the position is woken. `EIO`, `ENOMEM`; faults of the sink.
    pub fn read(&self, ahead: &ReadAhead, position: &mut u64, sink: &mut Sink<'_>) -> Attempt<()> {
        let wanted = (sink.remaining() as u64).min(self.length.saturating_sub(*position));
        if wanted == 0 {
            return Ok(());
        }
        let pages = self.disk_pages(*position..*position + wanted);
        let more = ahead.note(pages.start, pages.end, self.disk_pages(0..self.length).end);
        // Together with what is wanted, as far as that is missing.
        let until = more.as_ref().map_or(pages.end, |more| more.end);
        let page = |index: u64| self.cache.page(index, index..until);
        let first = page(pages.start);
        // A page or less lies in two of the disk's at most: both, or nothing has been read.
        let mut second = (pages.end - pages.start > 1).then(|| page(pages.start + 1));
        if let Some(more) = more {
            self.cache.bring(more);
        }
        let is_coming = |page: &Result<Frame>| matches!(page, Err(Errno::EAGAIN));
        if is_coming(&first) || (first.is_ok() && second.as_ref().is_some_and(is_coming)) {
            return Err(Stop::WouldBlock);
        }
        let end = *position + wanted;
        let mut frame = first;
        for index in pages {
            let offset = ((self.start + *position) % PAGE) as usize;
            let length = (PAGE_SIZE - offset).min((end - *position) as usize);
            let found = match frame {
                Ok(found) => found,
                Err(Errno::EAGAIN) => return Err(Stop::WouldBlock),
                Err(errno) => return Err(errno.into()),
            };
            let before = sink.done();
            let result = sink.put_frame(&found, offset, length);
            *position += (sink.done() - before) as u64;
            result?;
            if *position == end {
                break;
            }
            frame = second.take().unwrap_or_else(|| page(index + 1));
        }
        Ok(())
    }

    /// What is woken when a read at `position` may go on.
    pub fn arrivals(&self, position: u64) -> &WaitQueue {
        self.cache.arrivals(self.start.saturating_add(position) / PAGE)
    }

    /// Reads all of `buffer` at `position`, waiting for it. Dropping it is safe.
    ///
    /// # Errors
    /// `EINVAL` if it is not all in the extent; `EIO`, `ENOMEM`.
    pub async fn read_all(&self, ahead: &ReadAhead, mut position: u64, buffer: &mut [u8]) -> Result<()> {
        let end = position.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.length) {
            return Err(Errno::EINVAL);
        }
        let mut sink = Sink::kernel(buffer);
        while !sink.is_complete() {
            sink.open_window();
            let mut attempt = || match self.read(ahead, &mut position, &mut sink) {
                Err(Stop::WouldBlock) => None,
                made => Some(made),
            };
            let made = match attempt() {
                Some(made) => made,
                None => self.cache.any_arrival().wait_again_until(attempt).await,
            };
            made.map_err(|stop| match stop {
                Stop::Errno(errno) => errno,
                Stop::WouldBlock | Stop::Fault(_) => Errno::EIO,
            })?;
        }
        Ok(())
    }

    /// The disk's page that holds page `index` of this, which is aligned, and all of whose bytes are this one's.
    ///
    /// # Errors
    /// As [`PageCache::page`].
    pub fn whole_page(&self, index: u64) -> Result<Frame> {
        let at = self.start / PAGE;
        let first = index - index % AROUND;
        let around = first..(first + AROUND).min(self.length / PAGE).max(index + 1);
        self.cache.page(at + index, at + around.start..at + around.end)
    }

    /// Copies page `index` of this into a frame of its own, the bytes past the end zero.
    ///
    /// # Errors
    /// As [`PageCache::page`].
    pub fn copy_page(&self, index: u64) -> Result<Frame> {
        let from = index * PAGE;
        let to = (from + PAGE).min(self.length);
        let pages = self.disk_pages(from..to);
        let around = pages.start..(pages.start + AROUND).min(self.disk_pages(0..self.length).end);
        let first = self.cache.page(pages.start, around.clone());
        let second = (pages.end - pages.start > 1).then(|| self.cache.page(pages.start + 1, around));
        let (first, second) = (first?, second.transpose()?);
        let copy = crate::mm::frame::allocate_zeroed()?;
        let offset = ((self.start + from) % PAGE) as usize;
        let length = (to - from) as usize;
        let in_first = length.min(PAGE_SIZE - offset);
        let mut bytes = Box::new([0; PAGE_SIZE]);
        first.read(offset, &mut bytes[..in_first]);
        if let Some(second) = second {
            second.read(0, &mut bytes[in_first..length]);
        }
        copy.write(0, &bytes[..length]);
        Ok(copy)
    }

    /// Puts pages of this that are in memory, and wholly this one's, into their places; it is aligned.
    pub fn whole_pages_in_memory(&self, first: u64, into: &mut [Option<Frame>]) {
        let pages = (self.length / PAGE).saturating_sub(first);
        let count = pages.min(into.len() as u64) as usize;
        self.cache
            .pages_in_memory(self.start / PAGE + first, &mut into[..count]);
    }
}

/// A disk or a partition as a whole: an extent that can be mapped.
pub struct Volume {
    extent: Extent,
    mappings: Mappings,
}

impl Volume {
    /// A volume of these bytes.
    pub const fn new(extent: Extent) -> Self {
        Self {
            extent,
            mappings: Mappings::new(),
        }
    }

    /// Its bytes.
    pub const fn extent(&self) -> &Extent {
        &self.extent
    }

    /// Whether all bytes of a page are the volume's, or nobody's. (The last page of a partition may hold the next one's.)
    fn is_own(&self, index: u64) -> bool {
        let is_last = (index + 1) * PAGE > self.extent.length;
        let ends_disk = self.extent.start + self.extent.length == self.extent.cache.disk().geometry().sectors * SECTOR;
        index < self.extent.pages() && (!is_last || ends_disk)
    }
}

impl Pager for Volume {
    fn page(&self, index: u64) -> Result<Frame> {
        if self.is_own(index) {
            self.extent.whole_page(index)
        } else {
            Err(Errno::ENXIO)
        }
    }

    fn page_for_write(&self, _: u64) -> Result<Frame> {
        Err(Errno::EROFS)
    }

    fn pages_in_memory(&self, first: u64, into: &mut [Option<Frame>]) {
        self.extent.whole_pages_in_memory(first, into);
    }

    fn arrivals(&self, index: u64) -> Option<&WaitQueue> {
        Some(self.extent.arrivals(index.saturating_mul(PAGE)))
    }

    fn mappings(&self) -> Option<&Mappings> {
        Some(&self.mappings)
    }
}
