//! The bytes of a regular file.
//!
//! The invariant that makes holes, shared mappings and truncation agree: in every page held, bytes at and past the end of
//! the file are zero when the file grows over them.

use hal::PAGE_SIZE;

use super::{MAX_FILE_SIZE, TmpFs};
use crate::{
    errno::{Errno, Result},
    fs::{
        file::Attempt,
        io::{Sink, Source},
        page_map::{PageMap, Removed},
    },
    mm::frame::{self, Frame},
};

const PAGE: u64 = PAGE_SIZE as u64;

/// See the module.
#[derive(Default)]
pub struct Contents {
    /// Bytes.
    pub size: u64,
    /// Their pages.
    pub pages: PageMap,
}

impl Contents {
    /// Reads at `*position`, which moves on.
    ///
    /// # Errors
    /// A fault of the sink.
    pub fn read(&self, position: &mut u64, sink: &mut Sink<'_>) -> Attempt<()> {
        while *position < self.size && sink.remaining() > 0 {
            let offset = (*position % PAGE) as usize;
            let length = (PAGE_SIZE - offset).min((self.size - *position).min(PAGE) as usize);
            let before = sink.done();
            let result = match self.pages.get(*position / PAGE) {
                None => sink.put_zeroes(length),
                Some(frame) => sink.put_frame(frame, offset, length),
            };
            *position += (sink.done() - before) as u64;
            result?;
        }
        Ok(())
    }

    /// Writes at `*position`, which moves on; the file grows as far as bytes were really written.
    ///
    /// # Errors
    /// A fault of the source; `ENOSPC`, `ENOMEM`, `EFBIG`. What was written before it stays and is counted by the source.
    pub fn write(&mut self, fs: &TmpFs, position: &mut u64, source: &mut Source<'_>, may_grow: bool) -> Attempt<()> {
        while source.remaining() > 0 {
            if *position >= MAX_FILE_SIZE {
                return Err(Errno::EFBIG.into());
            }
            let (index, offset) = (*position / PAGE, (*position % PAGE) as usize);
            let end = *position + source.remaining().min(PAGE_SIZE - offset) as u64;
            if !may_grow && end > self.size {
                return Err(Errno::EPERM.into());
            }
            let before = source.done();
            let result = match self.pages.get(index) {
                Some(frame) => source.take_frame(frame, offset, PAGE_SIZE - offset).map_err(Into::into),
                None => self.write_hole(fs, index, offset, source),
            };
            let taken = source.done() - before;
            if taken > 0 {
                *position += taken as u64;
                self.size = self.size.max(*position);
            }
            result?;
        }
        Ok(())
    }

    /// Writes to a page that is a hole, which it stays if nothing can be taken.
    fn write_hole(&mut self, fs: &TmpFs, index: u64, offset: usize, source: &mut Source<'_>) -> Attempt<usize> {
        fs.charge_pages(1)?;
        let before = source.done();
        let result = frame::allocate().map_err(Into::into).and_then(|frame| {
            let result = source.take_frame(&frame, offset, PAGE_SIZE - offset);
            let end = offset + source.done() - before;
            if end == offset {
                return result.map_err(Into::into);
            }
            // Nobody else sees the frame before what was not written is zero.
            frame.fill(0..offset, 0);
            frame.fill(end..PAGE_SIZE, 0);
            if let Err(errno) = self.pages.insert(index, frame) {
                source.rewind(before);
                return Err(errno.into());
            }
            result.map_err(Into::into)
        });
        if source.done() == before {
            fs.uncharge_pages(1);
        }
        result
    }

    /// The page at `index`, made if it is a hole.
    ///
    /// # Errors
    /// `ENOSPC`, `ENOMEM`.
    pub fn page(&mut self, fs: &TmpFs, index: u64) -> Result<Frame> {
        if let Some(frame) = self.pages.get(index) {
            return Ok(frame.clone());
        }
        fs.charge_pages(1)?;
        let made = frame::allocate_zeroed()
            .and_then(|frame| self.pages.insert(index, frame.clone()).map(|()| frame))
            .inspect_err(|_| fs.uncharge_pages(1));
        // A file system that holds too much is full before memory is exhausted, but other users of memory can come first.
        made
    }

    /// Cuts the file or lets it grow by a hole. The pages cut off are returned, still charged to the file system, to be
    /// dropped outside the lock.
    ///
    /// # Errors
    /// `EFBIG`.
    pub fn set_size(&mut self, size: u64) -> Result<Removed> {
        if size > MAX_FILE_SIZE {
            return Err(Errno::EFBIG);
        }
        if size < self.size {
            self.clear_tail(size);
        } else {
            // A shared mapping may have written past the old end within its page.
            self.clear_tail(self.size);
        }
        self.size = size;
        Ok(self.pages.remove(size.div_ceil(PAGE), u64::MAX))
    }

    fn clear_tail(&self, size: u64) {
        let offset = (size % PAGE) as usize;
        if let Some(frame) = self.pages.get(size / PAGE).filter(|_| offset > 0) {
            frame.fill(offset..PAGE_SIZE, 0);
        }
    }

    /// Makes `offset..offset + len` read as zeroes. Whole pages are returned, as by [`Contents::set_size`].
    pub fn punch(&mut self, offset: u64, len: u64) -> Removed {
        let end = offset.saturating_add(len);
        let (first, last) = (offset.div_ceil(PAGE), end / PAGE);
        let fill = |index: u64, range: core::ops::Range<u64>| {
            if let Some(frame) = self.pages.get(index).filter(|_| !range.is_empty()) {
                frame.fill(range.start as usize..range.end as usize, 0);
            }
        };
        if offset / PAGE == end / PAGE {
            fill(offset / PAGE, offset % PAGE..end % PAGE);
        } else {
            if !offset.is_multiple_of(PAGE) {
                fill(offset / PAGE, offset % PAGE..PAGE);
            }
            fill(end / PAGE, 0..end % PAGE);
        }
        self.pages.remove(first, last)
    }

    /// Where data (or, the other way, a hole) next begins at or after `offset`.
    ///
    /// # Errors
    /// `ENXIO` at or past the end, and where no data follows.
    pub fn next_data(&self, offset: u64) -> Result<u64> {
        let page = self.pages.next_page(offset / PAGE).ok_or(Errno::ENXIO)?;
        let found = (page * PAGE).max(offset);
        if found < self.size {
            Ok(found)
        } else {
            Err(Errno::ENXIO)
        }
    }

    /// Where the next hole begins; the end of the file counts as one.
    ///
    /// # Errors
    /// `ENXIO` at or past the end.
    pub fn next_hole(&self, offset: u64) -> Result<u64> {
        if offset >= self.size {
            return Err(Errno::ENXIO);
        }
        Ok((self.pages.next_hole(offset / PAGE) * PAGE).max(offset).min(self.size))
    }
}
