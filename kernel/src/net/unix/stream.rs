//! Bytes on their way, and what is to be told besides.
//!
//! Bytes that come with credentials or files are a *segment*: a receiver is told of one sender at a time, and reads no further
//! than to the end of what came with files. Other bytes run together.

use alloc::{boxed::Box, collections::VecDeque};

use super::{
    message::{Credentials, Taken},
    rights::Rights,
};
use crate::{
    fs::{Attempt, Sink, Source, Stop, pipe::bytes::Bytes},
    mm::fallible::TryRoom,
};

/// Memory that a page of bytes counts for.
const PAGE_CHARGE: usize = 4096 + 64;
/// Memory that a segment counts for.
const SEGMENT_CHARGE: usize = 512;
/// Bytes that go in whole or not at all, as far as there is a limit for them.
const CHUNK: usize = 32 << 10;

/// See the module. Positions count from the stream's beginning.
struct Segment {
    start: u64,
    end: u64,
    credentials: Option<Credentials>,
    rights: Option<Box<Rights>>,
}

/// What a socket's peer has sent.
#[derive(Default)]
pub struct Stream {
    bytes: Bytes,
    segments: VecDeque<Segment>,
    /// The position of the first byte.
    position: u64,
}

/// How to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receive {
    /// What is received is gone.
    Take,
    /// It stays; so many bytes are passed over.
    Peek(usize),
}

/// Where receiving has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The buffer is full.
    Full,
    /// There is no more.
    Empty,
    /// What follows is to be received by another call.
    Boundary,
}

impl Stream {
    pub(super) const fn new() -> Self {
        Self {
            bytes: Bytes::new(),
            segments: VecDeque::new(),
            position: 0,
        }
    }

    /// Bytes.
    pub(super) const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Memory in use.
    pub fn charge(&self) -> usize {
        self.bytes.pages() * PAGE_CHARGE + self.segments.len() * SEGMENT_CHARGE
    }

    /// The files that are on their way here.
    pub(super) fn rights(&self, from: usize) -> impl Iterator<Item = Option<&Rights>> {
        self.segments.iter().skip(from).map(|segment| segment.rights.as_deref())
    }

    /// The files that were on their way here.
    pub(super) fn into_rights(self) -> impl Iterator<Item = Box<Rights>> {
        self.segments.into_iter().filter_map(|segment| segment.rights)
    }

    pub(super) fn clear(&mut self) -> Self {
        let end = self.position + self.bytes.len() as u64;
        let fresh = Self {
            position: end,
            ..Self::new()
        };
        core::mem::replace(self, fresh)
    }

    /// Takes what `limit` bytes of memory admit of the source; at least a chunk, if there is any. What comes with it goes to
    /// the first byte; the files are taken then. A chunk that faults is not taken.
    pub(super) fn send(
        &mut self,
        source: &mut Source<'_>,
        limit: usize,
        credentials: Option<&Credentials>,
        rights: &mut Option<Box<Rights>>,
    ) -> Attempt<()> {
        let chunk = CHUNK.min((limit / 2).saturating_sub(64)).max(1);
        while source.remaining() > 0 {
            if self.charge() >= limit {
                return Err(Stop::WouldBlock);
            }
            let told = credentials.is_some() || rights.is_some();
            if told {
                self.segments.try_room(1)?;
            }
            let before = self.bytes.len();
            let start = source.done();
            // As much as a call asks for at once is one chunk, whatever the window.
            let wanted = chunk.min(source.remaining());
            self.bytes.fill(source, wanted).inspect_err(|_| {
                self.bytes.shorten(before);
                source.rewind(start);
            })?;
            if told {
                let start = self.position + before as u64;
                let end = self.position + self.bytes.len() as u64;
                let rights = rights.take();
                match self.segments.back_mut() {
                    Some(last)
                        if rights.is_none()
                            && last.rights.is_none()
                            && last.end == start
                            && last.credentials.as_ref() == credentials =>
                    {
                        last.end = end;
                    }
                    _ => self.segments.push_back(Segment {
                        start,
                        end,
                        credentials: credentials.cloned(),
                        rights,
                    }),
                }
            }
        }
        Ok(())
    }

    /// The segment at `position`, if its byte is in one, and where the bytes end that are of one kind with it.
    fn piece(&self, position: u64) -> (Option<usize>, u64) {
        // Those that have been read are gone: the one in question is mostly the first.
        let index = self.segments.iter().position(|segment| segment.end > position);
        match index.map(|index| (index, &self.segments[index])) {
            Some((index, segment)) if segment.start <= position => (Some(index), segment.end),
            Some((_, segment)) => (None, segment.start),
            None => (None, self.position + self.bytes.len() as u64),
        }
    }

    /// Receives into the sink, as far as the window goes. `tells` is whether credentials are wanted, `copies_files` whether
    /// files are to be given out although they stay.
    pub(super) fn receive(
        &mut self,
        sink: &mut Sink<'_>,
        how: Receive,
        tells: bool,
        copies_files: bool,
        taken: &mut Taken,
    ) -> Attempt<End> {
        let mut skip = match how {
            Receive::Take => 0,
            Receive::Peek(skip) => skip,
        };
        loop {
            if self.bytes.len() <= skip {
                return Ok(End::Empty);
            }
            if sink.remaining() == 0 {
                return Ok(End::Full);
            }
            let (index, end) = self.piece(self.position + skip as u64);
            let segment = index.map(|index| &mut self.segments[index]);
            if tells {
                let credentials = segment.as_ref().and_then(|segment| segment.credentials.as_ref());
                match &taken.credentials {
                    Some(before) if before.as_ref() != credentials => return Ok(End::Boundary),
                    Some(_) => {}
                    None => taken.credentials = Some(credentials.cloned()),
                }
            }
            let there = (end - self.position) as usize - skip;
            let before = sink.done();
            if let Receive::Peek(_) = how {
                let copied = self.bytes.peek(sink, skip, there);
                let put = sink.done() - before;
                let mut boundary = false;
                if put > 0
                    && let Some(rights) = segment.and_then(|segment| segment.rights.as_ref())
                {
                    boundary = true;
                    taken.has_rights = true;
                    if copies_files {
                        taken.rights = Some(rights.duplicate()?);
                    }
                }
                copied?;
                if boundary {
                    return Ok(End::Boundary);
                }
                skip += put;
                continue;
            }
            let copied = self.bytes.drain(sink, there);
            let put = sink.done() - before;
            self.position += put as u64;
            let mut boundary = false;
            if put > 0
                && let Some(segment) = segment
            {
                if let Some(rights) = segment.rights.take() {
                    boundary = true;
                    taken.has_rights = true;
                    taken.rights = Some(rights);
                }
                if segment.end <= self.position {
                    // The first: what was before it has been read.
                    let read = self.segments.pop_front();
                    drop(read);
                }
            }
            copied?;
            if boundary {
                return Ok(End::Boundary);
            }
        }
    }
}
