//! The bytes in a pipe or on their way between two sockets, in pages.

use alloc::{collections::VecDeque, vec::Vec};

use crate::{
    errno::{Errno, Result},
    fs::{
        file::Attempt,
        io::{Sink, Source, UserFault},
    },
    mm::fallible::{TryRoom, TryRoomExact},
};

pub(crate) const PAGE: usize = 4096;

struct Page {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

/// A queue of bytes. One that has been emptied keeps a page, in its place.
#[derive(Default)]
pub(crate) struct Bytes {
    /// The last may be empty.
    pages: VecDeque<Page>,
    /// A page kept for one of the next writes.
    spare: Option<Vec<u8>>,
    len: usize,
}

impl Bytes {
    pub(crate) const fn new() -> Self {
        Self {
            pages: VecDeque::new(),
            spare: None,
            len: 0,
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    fn page(&mut self) -> Result<&mut Page> {
        if self.pages.back().is_none_or(|page| page.end == PAGE) {
            let bytes = match self.spare.take() {
                Some(bytes) => bytes,
                None => {
                    let mut bytes = Vec::new();
                    bytes.try_room_exact(PAGE)?;
                    bytes.resize(PAGE, 0);
                    bytes
                }
            };
            self.pages.try_room(1)?;
            self.pages.push_back(Page {
                bytes,
                start: 0,
                end: 0,
            });
        }
        self.pages.back_mut().ok_or(Errno::ENOMEM)
    }

    /// Takes up to `limit` bytes from the source. What was taken before an error stays.
    pub(crate) fn fill(&mut self, source: &mut Source<'_>, limit: usize) -> Attempt<()> {
        let mut left = limit;
        while left > 0 {
            let page = self.page()?;
            let end = PAGE.min(page.end + left);
            let before = source.done();
            let result = source.take(&mut page.bytes[page.end..end]);
            let taken = source.done() - before;
            page.end += taken;
            self.len += taken;
            left -= taken;
            result?;
            if taken == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Drops the last bytes again, down to `len`.
    pub(crate) fn shorten(&mut self, len: usize) {
        while self.len > len {
            let Some(page) = self.pages.back_mut() else { return };
            let cut = (self.len - len).min(page.end - page.start);
            page.end -= cut;
            self.len -= cut;
            if page.end == page.start {
                self.spare = self.pages.pop_back().map(|page| page.bytes);
            }
        }
    }

    /// Pages that it holds bytes in.
    pub(crate) fn pages(&self) -> usize {
        if self.len == 0 { 0 } else { self.pages.len() }
    }

    /// Puts as much into the sink as there is, `limit` admits and it takes. What was put before a fault is gone.
    pub(crate) fn drain(&mut self, sink: &mut Sink<'_>, limit: usize) -> core::result::Result<(), UserFault> {
        let mut left = limit;
        while left > 0 && self.len > 0 && sink.remaining() > 0 {
            let Some(page) = self.pages.front_mut() else { break };
            let before = sink.done();
            let end = page.end.min(page.start.saturating_add(left));
            let result = sink.put(&page.bytes[page.start..end]);
            let put = sink.done() - before;
            page.start += put;
            self.len -= put;
            left -= put;
            if self.len == 0 {
                (page.start, page.end) = (0, 0);
                self.spare = None;
            } else if page.start == page.end {
                self.spare = self.pages.pop_front().map(|page| page.bytes);
            }
            result?;
        }
        Ok(())
    }

    /// As [`Bytes::drain`], from the byte `skip` on, and everything stays.
    pub(crate) fn peek(
        &self,
        sink: &mut Sink<'_>,
        mut skip: usize,
        limit: usize,
    ) -> core::result::Result<(), UserFault> {
        let mut left = limit;
        for page in &self.pages {
            if left == 0 || sink.remaining() == 0 {
                break;
            }
            let there = page.end - page.start;
            if skip >= there {
                skip -= there;
                continue;
            }
            let start = page.start + core::mem::take(&mut skip);
            let end = page.end.min(start.saturating_add(left));
            let before = sink.done();
            let result = sink.put(&page.bytes[start..end]);
            left -= sink.done() - before;
            result?;
        }
        Ok(())
    }
}
