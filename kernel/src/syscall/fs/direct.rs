//! Reads and writes of block devices past the page cache (`O_DIRECT`).
//!
//! A call has up to [`AT_ONCE`] requests on their way, and takes their outcomes in order. It waits for them as for a disk:
//! no signal but a deadly one ends it early, and then the requests go on by themselves.

use alloc::collections::VecDeque;

use hal::PAGE_SIZE;

use crate::{
    block::{Operation, Pages},
    errno::{Errno, Result},
    fs::{
        OpenFile, Sink, Source, Whence,
        block_device::{BlockFile, Flight},
    },
    mm::{
        Frame,
        fallible::TryRoom,
        pager::{self, Copies},
    },
    task::Thread,
};

/// Requests of one call that are on their way at once.
const AT_ONCE: usize = 8;

/// A call on its way.
struct Call<'a> {
    thread: &'a Thread,
    file: &'a OpenFile,
    block: &'a BlockFile,
    /// Whether the shared position moves.
    shared: bool,
    start: u64,
    /// Offset of the next byte to be asked for.
    next: u64,
    end: u64,
    /// Bytes done for good.
    done: u64,
    flights: VecDeque<(Flight, u64)>,
}

impl<'a> Call<'a> {
    /// Checks alignment as Linux does: offset, lengths and addresses are multiples of the logical block's size.
    fn new(
        thread: &'a Thread,
        file: &'a OpenFile,
        block: &'a BlockFile,
        at: Option<u64>,
        (total, aligned): (usize, impl Fn(usize) -> bool),
    ) -> Result<Self> {
        let start = at.unwrap_or_else(|| file.position());
        super::transfer::in_range(Some(start), total)?;
        let unit = block.device().block_size();
        if !start.is_multiple_of(unit) || !(total as u64).is_multiple_of(unit) || !aligned(unit as usize) {
            return Err(Errno::EINVAL);
        }
        let end = (start + total as u64).min(block.device().size());
        Ok(Self {
            thread,
            file,
            block,
            shared: at.is_none(),
            start,
            next: start,
            end,
            done: 0,
            flights: VecDeque::new(),
        })
    }

    /// Bytes of the next request; 0 if there is none to start now.
    fn next_bytes(&self) -> u64 {
        if self.flights.len() >= AT_ONCE {
            return 0;
        }
        let most = self.block.device().volume().extent().most_bytes();
        self.end.saturating_sub(self.next).min(most)
    }

    fn start(&mut self, operation: Operation, bytes: u64, pages: Pages) -> Result<()> {
        self.flights.try_room(1)?;
        let extent = self.block.device().volume().extent();
        let flight = extent.submit(operation, self.next, bytes, pages)?;
        self.flights.push_back((flight, bytes));
        self.next += bytes;
        Ok(())
    }

    /// The outcome of the oldest request, and its bytes.
    async fn oldest(&mut self) -> Option<Result<(Pages, u64)>> {
        let (flight, bytes) = self.flights.pop_front()?;
        Some(match self.thread.killable(flight).await {
            Ok(outcome) => outcome.map(|pages| (pages, bytes)),
            Err(_) => Err(Errno::EINTR),
        })
    }

    /// What the call returns.
    fn finish(&self, result: Result<()>) -> Result<u64> {
        if self.done == 0 {
            result?;
        }
        if self.shared {
            let _ = self.file.seek((self.start + self.done) as i64, Whence::Set);
        }
        Ok(self.done)
    }
}

/// Reads at `at`, or the shared position.
///
/// # Errors
/// `EINVAL` for what is not aligned; `EIO`, `ENOMEM`, `EFAULT`; `EINTR` where the thread has to end.
pub async fn read(t: &Thread, file: &OpenFile, block: &BlockFile, at: Option<u64>, sink: &mut Sink<'_>) -> Result<u64> {
    let mut call = Call::new(t, file, block, at, (sink.total(), |unit| sink.is_aligned(unit)))?;
    let result = read_all(&mut call, sink).await;
    call.finish(result)
}

async fn read_all(call: &mut Call<'_>, sink: &mut Sink<'_>) -> Result<()> {
    loop {
        while let bytes @ 1.. = call.next_bytes() {
            let pages = call.block.device().volume().extent().frames(bytes);
            match pages.and_then(|pages| call.start(Operation::Read, bytes, pages)) {
                Ok(()) => {}
                // With one on its way there is something to do first.
                Err(Errno::ENOMEM) if !call.flights.is_empty() => break,
                Err(errno) => return Err(errno),
            }
        }
        let Some(outcome) = call.oldest().await else {
            return Ok(());
        };
        let (pages, bytes) = outcome?;
        let mut left = bytes as usize;
        for frame in &pages {
            let length = left.min(PAGE_SIZE);
            put(call.thread, sink, frame, length).await?;
            left -= length;
            call.done += length as u64;
        }
    }
}

async fn put(t: &Thread, sink: &mut Sink<'_>, frame: &Frame, length: usize) -> Result<()> {
    let before = sink.done();
    loop {
        sink.open_window();
        let offset = sink.done() - before;
        match sink.put_frame(frame, offset, length - offset) {
            Ok(_) => return Ok(()),
            Err(fault) => t.mm().resolve(fault).await?,
        }
    }
}

/// Writes at `at`, or the shared position. What the cache holds of it is forgotten, and mappings of the device see the new
/// bytes.
///
/// # Errors
/// `EINVAL` for what is not aligned; `ENOSPC` at the device's end; `EIO`, `ENOMEM`, `EFAULT`; `EINTR` where the thread has
/// to end.
pub async fn write(
    t: &Thread,
    file: &OpenFile,
    block: &BlockFile,
    at: Option<u64>,
    source: &mut Source<'_>,
) -> Result<u64> {
    let mut call = Call::new(t, file, block, at, (source.total(), |unit| source.is_aligned(unit)))?;
    if call.start >= call.end && source.total() > 0 {
        return Err(Errno::ENOSPC);
    }
    let mut result = write_all(&mut call, source).await;
    // What is on its way counts, as far as everything before it has been written.
    while let Some(outcome) = call.oldest().await {
        match outcome {
            Ok((_, bytes)) if result.is_ok() => call.done += bytes,
            Ok(_) => {}
            Err(errno) => result = result.and(Err(errno)),
        }
    }
    if call.done > 0 {
        let volume = block.device().volume();
        let page = PAGE_SIZE as u64;
        let pages = call.start / page..(call.start + call.done).div_ceil(page);
        let pager: alloc::sync::Arc<dyn crate::mm::Pager> = volume.clone();
        pager::cut(&pager, pages, Copies::Stay).await;
    }
    call.finish(result)
}

async fn write_all(call: &mut Call<'_>, source: &mut Source<'_>) -> Result<()> {
    loop {
        while let bytes @ 1.. = call.next_bytes() {
            let pages = match call.block.device().volume().extent().frames(bytes) {
                Ok(pages) => pages,
                Err(_) if !call.flights.is_empty() => break,
                Err(errno) => return Err(errno),
            };
            let mut left = bytes as usize;
            for frame in &pages {
                let length = left.min(PAGE_SIZE);
                take(call.thread, source, frame, length).await?;
                left -= length;
            }
            call.start(Operation::Write, bytes, pages)?;
        }
        if call.flights.is_empty() {
            return Ok(());
        }
        if let Some(outcome) = call.oldest().await {
            call.done += outcome?.1;
        }
    }
}

async fn take(t: &Thread, source: &mut Source<'_>, frame: &Frame, length: usize) -> Result<()> {
    let before = source.done();
    loop {
        source.open_window();
        let offset = source.done() - before;
        match source.take_frame(frame, offset, length - offset) {
            Ok(_) => return Ok(()),
            Err(fault) => t.mm().resolve(fault).await?,
        }
    }
}
