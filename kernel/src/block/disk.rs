//! A disk: a part of a device's requests, with bounds.

use alloc::{boxed::Box, sync::Arc};
use core::{
    future::poll_fn,
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;

use super::{Completion, Geometry, Hardware, MOST_PAGES, Name, Operation, Pages, Queue, Request, SECTOR, pages_of};
use crate::{
    errno::{Errno, Result},
    sync::{Rank, SpinLock},
};

/// A disk: requests go in by [`Disk::submit`], or [`Disk::transfer`] for those who want to await.
pub struct Disk {
    name: Name,
    geometry: Geometry,
    unit: u32,
    queue: Arc<Queue>,
}

impl Disk {
    /// A disk that has its `hardware` to itself.
    ///
    /// # Errors
    /// `ENOMEM`; `EINVAL` for a geometry that cannot be.
    pub fn new(name: Name, geometry: Geometry, hardware: Box<dyn Hardware>) -> Result<Arc<Self>> {
        Self::on(Queue::new(name, hardware)?, 0, name, geometry)
    }

    /// A disk that shares its device with others: [`Command::unit`](super::Command::unit) tells them apart.
    ///
    /// # Errors
    /// `EINVAL` for a geometry that cannot be.
    pub fn on(queue: Arc<Queue>, unit: u32, name: Name, geometry: Geometry) -> Result<Arc<Self>> {
        let block = u64::from(geometry.block);
        let fits = (SECTOR..=4096).contains(&block)
            && block.is_power_of_two()
            && geometry.sectors.is_multiple_of(block / SECTOR)
            // So that no sum of places in bytes overflows.
            && geometry.sectors <= i64::MAX as u64 / SECTOR
            && (1..=MOST_PAGES).contains(&geometry.most_pages);
        if !fits {
            return Err(Errno::EINVAL);
        }
        Ok(Arc::new(Self {
            name,
            geometry,
            unit,
            queue,
        }))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is like.
    pub const fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Where its requests wait.
    pub const fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Gives a request to the disk, which tells its [`Completion`] in the end, perhaps before this returns. Never waits.
    ///
    /// # Errors
    /// `EINVAL` for sectors that are not in the disk, no whole blocks, or without memory; `EROFS`; `ENOMEM` where too many
    /// wait already; `EIO` for a disk that is lost. The completion is then not told.
    pub fn submit(&self, request: Request) -> Result<()> {
        self.check(&request)?;
        if request.operation == Operation::Flush && !self.geometry.write_cache {
            request.done.complete(request.token, Ok(request.pages));
            return Ok(());
        }
        self.queue.submit(self.unit, request)
    }

    fn check(&self, request: &Request) -> Result<()> {
        if request.operation != Operation::Read && self.geometry.read_only {
            return Err(Errno::EROFS);
        }
        if request.operation == Operation::Flush {
            return if request.sectors == 0 {
                Ok(())
            } else {
                Err(Errno::EINVAL)
            };
        }
        let blocks = u64::from(self.geometry.block) / SECTOR;
        let sectors = u64::from(request.sectors);
        let end = request.sector.checked_add(sectors).ok_or(Errno::EINVAL)?;
        let pages = pages_of(request.sectors);
        let fits = sectors > 0
            && end <= self.geometry.sectors
            && request.sector.is_multiple_of(blocks)
            && sectors.is_multiple_of(blocks)
            && pages <= self.geometry.most_pages
            && pages <= request.pages.len();
        if fits { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// Moves `sectors` between the disk and `pages`, and returns these. Dropping it lets the request go on by itself; its
    /// memory is freed when it ends.
    ///
    /// # Errors
    /// As [`Disk::submit`]; `EIO` where the disk fails, or does not answer in time.
    pub async fn transfer(&self, operation: Operation, sector: u64, sectors: u32, pages: Pages) -> Result<Pages> {
        let outcome = Arc::new(Outcome {
            result: SpinLock::new(Rank::Interrupt, None),
            waker: AtomicWaker::new(),
        });
        self.submit(Request {
            operation,
            sector,
            sectors,
            pages,
            done: outcome.clone(),
            token: 0,
        })?;
        poll_fn(|context| outcome.poll(context)).await
    }
}

/// The outcome of one request, for the one who awaits it.
struct Outcome {
    result: SpinLock<Option<Result<Pages>>>,
    waker: AtomicWaker,
}

impl Outcome {
    fn poll(&self, context: &Context<'_>) -> Poll<Result<Pages>> {
        self.waker.register(context.waker());
        self.result.lock().take().map_or(Poll::Pending, Poll::Ready)
    }
}

impl Completion for Outcome {
    fn complete(&self, _: u64, outcome: Result<Pages>) {
        *self.result.lock() = Some(outcome);
        self.waker.wake();
    }
}
