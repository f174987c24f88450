//! A disk: a part of a device's requests, with bounds.

use alloc::{boxed::Box, sync::Arc};

use super::{Geometry, Hardware, MOST_PAGES, Name, Operation, Queue, Request, SECTOR, pages_of};
use crate::errno::{Errno, Result};

/// A disk: requests go in by [`Disk::submit`].
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

    /// Gives a request to the disk, which tells its [`Completion`](super::Completion)(super::Completion) in the end, perhaps before this returns. Never waits.
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
}
