//! Requests past the page cache, on behalf of one call (`O_DIRECT`).
//!
//! Each has frames of its own, which the bytes are copied from or to: it goes on by itself if the call ends early, and
//! nobody's memory is written to behind his back. What it costs is one allocation, and one for the frames of each page.

use alloc::sync::Arc;
use core::{
    future::Future,
    ops::Range,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;
use hal::PAGE_SIZE;

use super::Extent;
use crate::{
    block::{Completion, MOST_PAGES, Operation, Pages, Request, SECTOR},
    errno::Result,
    fs::page_cache::PageCache,
    mm::{frame, reclaim},
    sync::{Rank, SpinLock},
};

/// A request on its way, and its outcome once it has ended: a future. Dropping it lets the request go on by itself.
#[must_use = "a future does nothing unless awaited"]
pub struct Flight(Arc<Landing>);

struct Landing {
    /// What the cache must not keep once the request has ended.
    written: Option<(Arc<PageCache>, Range<u64>)>,
    outcome: SpinLock<Option<Result<Pages>>>,
    waker: AtomicWaker,
}

impl Completion for Landing {
    fn complete(&self, _: u64, outcome: Result<Pages>) {
        // Whether it succeeded or not, and whether or not anybody still waits: some of it may have been written.
        if let Some((cache, pages)) = &self.written {
            cache.forget(pages.clone());
        }
        *self.outcome.lock() = Some(outcome);
        self.waker.wake();
    }
}

impl Future for Flight {
    type Output = Result<Pages>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Pages>> {
        self.0.waker.register(context.waker());
        self.0.outcome.lock().take().map_or(Poll::Pending, Poll::Ready)
    }
}

impl Extent {
    /// Most bytes of a request.
    pub fn most_bytes(&self) -> u64 {
        (self.cache().disk().geometry().most_pages.min(MOST_PAGES) * PAGE_SIZE) as u64
    }

    /// Frames for a request of `bytes`, at most [`Extent::most_bytes`].
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn frames(&self, bytes: u64) -> Result<Pages> {
        let mut pages = Pages::new();
        for _ in 0..bytes.div_ceil(PAGE_SIZE as u64).min(MOST_PAGES as u64) {
            let frame = frame::allocate().or_else(|errno| {
                // Caches have what can be had again.
                if reclaim::reclaim(MOST_PAGES) == 0 {
                    return Err(errno);
                }
                frame::allocate()
            });
            pages.push(frame?);
        }
        Ok(pages)
    }

    /// Moves `bytes` at `position`, both whole blocks of the disk, between it and `pages`.
    ///
    /// # Errors
    /// As [`Disk::submit`](crate::block::Disk::submit).
    pub fn submit(&self, operation: Operation, position: u64, bytes: u64, pages: Pages) -> Result<Flight> {
        let at = self.start() + position;
        let first = at / PAGE_SIZE as u64;
        let written = first..(at + bytes).div_ceil(PAGE_SIZE as u64);
        let landing = Arc::new(Landing {
            written: (operation == Operation::Write).then(|| (self.cache().clone(), written)),
            outcome: SpinLock::new(Rank::Interrupt, None),
            waker: AtomicWaker::new(),
        });
        self.cache().disk().submit(Request {
            operation,
            sector: if operation == Operation::Flush { 0 } else { at / SECTOR },
            sectors: (bytes / SECTOR) as u32,
            pages,
            done: landing.clone(),
            token: 0,
        })?;
        Ok(Flight(landing))
    }

    /// Makes what was written to the disk durable. Dropping it lets that go on.
    ///
    /// # Errors
    /// `EIO`, `ENOMEM`.
    pub async fn flush(&self) -> Result<()> {
        if self.cache().disk().geometry().read_only {
            return Ok(());
        }
        self.submit(Operation::Flush, 0, 0, Pages::new())?.await.map(drop)
    }
}
