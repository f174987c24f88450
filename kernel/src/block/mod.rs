//! Block devices: requests, the queue that they wait in, and the task that completes them.
//!
//! A [`Queue`] stands over a [`Hardware`], which is what a driver implements: it takes commands by tag and reports which tags
//! have ended. Everything else is here, once for all drivers: tags, the backlog when all are in use, deadlines, and what
//! becomes of requests when a device has to be reset ([`serve()`]). A [`Disk`] has a queue to itself, or a share in one.
//!
//! A request owns its memory until it ends: the frames go in with [`Request::pages`] and come back with the outcome. So
//! nobody who loses interest in a request can take memory away that a device still writes to.

mod disk;
mod name;
mod queue;
mod serve;
#[cfg(test)]
mod tests;

use alloc::{sync::Arc, vec::Vec};
use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use arrayvec::ArrayVec;

pub use disk::Disk;
pub use name::{Name, letters};
pub use queue::Queue;
pub use serve::{serve, serve_sources};

use crate::{
    errno::Result,
    mm::{fallible::TryRoom, frame::Frame},
    sync::{Rank, SpinLock, WaitQueue},
};

/// Bytes of a sector, by which places on a disk are counted, whatever blocks the device has (Linux's `sector_t`).
pub const SECTOR: u64 = 512;
/// Most pages of a request.
pub const MOST_PAGES: usize = 32;

/// The memory of a request: whole frames, used in order, each from its first byte.
pub type Pages = ArrayVec<Frame, MOST_PAGES>;

/// What is asked of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// From the disk to memory.
    Read,
    /// From memory to the disk.
    Write,
    /// What was written before is to be durable. Moves nothing.
    Flush,
}

/// What a disk is like. Never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Sectors in all.
    pub sectors: u64,
    /// Bytes of a block, which requests begin and end at: a power of two from 512 to 4096.
    pub block: u32,
    /// Pages that one request may have; 1 to [`MOST_PAGES`].
    pub most_pages: usize,
    /// Nothing can be written.
    pub read_only: bool,
    /// What has been written may be lost until it is flushed; without, flushes have nothing to do.
    pub write_cache: bool,
}

/// A request that a disk is to carry out.
pub struct Request {
    /// What to do.
    pub operation: Operation,
    /// The first sector.
    pub sector: u64,
    /// How many.
    pub sectors: u32,
    /// The memory: as many pages as the sectors need, or more.
    pub pages: Pages,
    /// Whom to tell.
    pub done: Arc<dyn Completion>,
    /// What to tell it by.
    pub token: u64,
}

/// Who is told how requests end.
pub trait Completion: Send + Sync {
    /// A request has ended; `token` is [`Request::token`]. The memory comes back where the request succeeded. Called in a task,
    /// with no lock held; must be short.
    fn complete(&self, token: u64, outcome: Result<Pages>);
}

/// What the hardware is told of a request.
#[derive(Clone, Copy, Debug)]
pub struct Command<'a> {
    /// Which of the disks that share the device.
    pub unit: u32,
    /// What to do.
    pub operation: Operation,
    /// The first sector.
    pub sector: u64,
    /// How many: within the disk, in whole blocks.
    pub sectors: u32,
    /// The memory: just as many pages as the sectors need.
    pub pages: &'a [Frame],
}

/// How far a reset has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// Not done: to be looked at again at this time (ns since boot).
    Until(u64),
    /// The device works and has forgotten every command.
    Done,
    /// The device is lost. It may still write to the memory of its commands.
    Failed,
}

/// A device, as the queue sees it. Called with the queue's lock held and interrupts masked: nothing here waits, or allocates.
pub trait Hardware: Send {
    /// Commands it takes at once; tags are below. At least 1, never changes.
    fn depth(&self) -> u16;
    /// Takes a command. It need not be told to the device before [`Hardware::ring`].
    fn start(&mut self, tag: u16, command: &Command<'_>);
    /// Tells the device of what [`Hardware::start`] took.
    fn ring(&mut self);
    /// How many interrupts tell that commands have ended, each for a part of them. Never changes.
    fn sources(&self) -> usize {
        1
    }
    /// One command that has ended, of those that interrupt `source` tells of, and how; `None` when there are no more. What it says
    /// is not believed beyond what was started.
    fn reap(&mut self, source: usize) -> Option<(u16, Result<()>)>;
    /// Whether the device has stopped at an error, so that nothing that it was told of goes on. The request at fault is then not
    /// known: all are tried again, one by one. Asked after [`Hardware::reap`].
    fn stalled(&self) -> bool {
        false
    }
    /// Whether a flush must be the only request that the device has.
    fn flushes_alone(&self) -> bool {
        false
    }
    /// Begins to reset the device, which has stopped or has not answered, or goes on with it.
    fn reset(&mut self, now: u64) -> Reset;
}

static DISKS: SpinLock<Vec<Arc<Disk>>> = SpinLock::new(Rank::Device, Vec::new());
/// Drivers that are still finding out what they have.
static PROBING: AtomicUsize = AtomicUsize::new(0);
static PROBED: WaitQueue = WaitQueue::new();

/// For as long as this lives, a driver may still find a disk. Made before the driver's task runs, dropped once its disks are
/// registered, or it has found that it has none.
#[derive(Debug)]
pub struct Probing(());

impl Probing {
    /// One driver more.
    pub fn begin() -> Self {
        PROBING.fetch_add(1, SeqCst);
        Self(())
    }
}

impl Drop for Probing {
    fn drop(&mut self) {
        if PROBING.fetch_sub(1, SeqCst) == 1 {
            PROBED.wake_all();
        }
    }
}

/// Waits until every driver knows its disks. Dropping it changes nothing.
pub async fn probed() {
    PROBED.wait_until(|| (PROBING.load(SeqCst) == 0).then_some(())).await;
}

/// Makes a disk known.
///
/// # Errors
/// `ENOMEM`.
pub fn register(disk: Arc<Disk>) -> Result<()> {
    let geometry = disk.geometry();
    log::info!(
        "{}: {} MiB in blocks of {} bytes",
        disk.name(),
        geometry.sectors / ((1 << 20) / SECTOR),
        geometry.block
    );
    let mut disks = DISKS.lock();
    disks.try_room(1)?;
    disks.push(disk);
    Ok(())
}

/// All disks known, in the order in which they were found.
pub fn disks() -> Vec<Arc<Disk>> {
    DISKS.lock().clone()
}

/// How many pages so many sectors are.
const fn pages_of(sectors: u32) -> usize {
    (sectors as u64 * SECTOR).div_ceil(hal::PAGE_SIZE as u64) as usize
}
