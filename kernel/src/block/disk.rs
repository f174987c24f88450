//! The queue of one disk.

use alloc::{boxed::Box, collections::VecDeque, sync::Arc, vec::Vec};
use core::{
    future::poll_fn,
    mem,
    task::{Context, Poll},
};

use arrayvec::ArrayVec;
use futures_util::task::AtomicWaker;

use super::{Command, Completion, Geometry, Hardware, MOST_PAGES, Name, Operation, Pages, Request, Reset, SECTOR};
use crate::{
    errno::{Errno, Result},
    mm::fallible::{TryRoom, TryRoomExact},
    rt,
    sync::{Rank, SpinLock},
};

/// How long a request may take (ns), unless the disk is told otherwise: Linux's 30 s.
const TIMEOUT: u64 = 30_000_000_000;
/// Requests completed before the queue is looked at anew.
const BATCH: usize = 16;

/// A disk: requests go in by [`Disk::submit`], or [`Disk::transfer`] for those who want to await.
pub struct Disk {
    name: Name,
    geometry: Geometry,
    timeout: u64,
    queue: SpinLock<Queue>,
    /// The serving task, while it waits for something to watch over.
    watcher: AtomicWaker,
}

struct Queue {
    hardware: Box<dyn Hardware>,
    /// By tag.
    active: Vec<Option<Active>>,
    free: Vec<u16>,
    /// Those that have no tag yet, in order.
    backlog: VecDeque<Request>,
    state: State,
    /// The serving task knows that there is something to watch over.
    watched: bool,
}

struct Active {
    request: Request,
    deadline: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Live,
    Resetting,
    Lost,
}

/// Requests that have ended, with whom to tell.
type Ended = ArrayVec<(Request, Result<()>), BATCH>;

impl Disk {
    /// A disk over `hardware`.
    ///
    /// # Errors
    /// `ENOMEM`; `EINVAL` for a geometry that cannot be.
    pub fn new(name: Name, geometry: Geometry, hardware: Box<dyn Hardware>) -> Result<Arc<Self>> {
        Self::with_timeout(name, geometry, hardware, TIMEOUT)
    }

    /// As [`Disk::new`]; requests may take `timeout` ns.
    ///
    /// # Errors
    /// As [`Disk::new`].
    pub fn with_timeout(
        name: Name,
        geometry: Geometry,
        hardware: Box<dyn Hardware>,
        timeout: u64,
    ) -> Result<Arc<Self>> {
        let block = u64::from(geometry.block);
        let blocks_fit = (SECTOR..=4096).contains(&block)
            && block.is_power_of_two()
            && geometry.sectors.is_multiple_of(block / SECTOR)
            // So that no sum of places in bytes overflows.
            && geometry.sectors <= i64::MAX as u64 / SECTOR;
        let depth = hardware.depth();
        if !blocks_fit || !(1..=MOST_PAGES).contains(&geometry.most_pages) || depth == 0 {
            return Err(Errno::EINVAL);
        }
        let (mut active, mut free) = (Vec::new(), Vec::new());
        active.try_room_exact(depth.into())?;
        active.resize_with(depth.into(), || None);
        free.try_room_exact(depth.into())?;
        free.extend((0..depth).rev());
        Ok(Arc::new(Self {
            name,
            geometry,
            timeout,
            queue: SpinLock::new(
                Rank::Device,
                Queue {
                    hardware,
                    active,
                    free,
                    backlog: VecDeque::new(),
                    state: State::Live,
                    watched: false,
                },
            ),
            watcher: AtomicWaker::new(),
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

    /// Gives a request to the disk, which tells its [`Completion`] in the end, perhaps before this returns. Never waits.
    ///
    /// # Errors
    /// `EINVAL` for sectors that are not in the disk, no whole blocks, or without memory; `EROFS`; `ENOMEM` where too many
    /// wait already; `EIO` for a disk that is lost. The completion is then not told.
    pub fn submit(&self, request: Request) -> Result<()> {
        self.check(&request)?;
        let mut queue = self.queue.lock();
        if queue.state == State::Lost {
            return Err(Errno::EIO);
        }
        // In front of nobody: those that wait have come before.
        if queue.state == State::Live && queue.backlog.is_empty() && !queue.free.is_empty() {
            queue.start(request, rt::now() + self.timeout);
            queue.hardware.ring();
        } else {
            queue.backlog.try_room(1)?;
            queue.backlog.push_back(request);
        }
        let watched = mem::replace(&mut queue.watched, true);
        drop(queue);
        if !watched {
            self.watcher.wake();
        }
        Ok(())
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

    /// Completes what has ended, and starts what waits for a tag. One helping; true where there may be more.
    pub(super) fn reap(&self) -> bool {
        let mut ended = Ended::new();
        let mut queue = self.queue.lock();
        if queue.state == State::Live {
            queue.collect(&mut ended);
            queue.start_waiting(rt::now() + self.timeout);
        }
        drop(queue);
        let more = ended.is_full();
        tell(ended);
        more
    }

    /// Waits until a request has been with the device for too long. Registers in the queue's place for one watcher.
    pub(super) async fn overdue(&self) {
        loop {
            let deadline = poll_fn(|context| {
                self.watcher.register(context.waker());
                let mut queue = self.queue.lock();
                let oldest = queue.oldest();
                queue.watched = oldest.is_some();
                oldest.map_or(Poll::Pending, Poll::Ready)
            })
            .await;
            if deadline <= rt::now() {
                return;
            }
            rt::sleep_until(deadline).await;
        }
    }

    /// Whether one has been for too long.
    pub(super) fn is_overdue(&self) -> bool {
        self.queue.lock().oldest().is_some_and(|deadline| deadline <= rt::now())
    }

    /// Resets the device and fails every request that was with it. Requests that come meanwhile wait.
    pub(super) async fn recover(&self) {
        log::error!("{}: a request got no answer: the device is reset", self.name);
        let lost = loop {
            let mut queue = self.queue.lock();
            queue.state = State::Resetting;
            match queue.hardware.reset(rt::now()) {
                Reset::Until(when) => {
                    drop(queue);
                    rt::sleep_until(when).await;
                }
                Reset::Done => break false,
                Reset::Failed => break true,
            }
        };
        if lost {
            log::error!("{}: it does not come back, and is not used any more", self.name);
        }
        self.fail(lost);
    }

    /// Fails the requests that the device had, and where it is `lost`, all others as well.
    fn fail(&self, lost: bool) {
        let mut queue = self.queue.lock();
        queue.state = if lost { State::Lost } else { State::Live };
        for tag in 0..queue.active.len() {
            let Some(active) = queue.finish(tag as u16) else {
                continue;
            };
            drop(queue);
            let Request { pages, done, token, .. } = active.request;
            if lost {
                // The device may still write to them.
                mem::forget(pages);
            }
            done.complete(token, Err(Errno::EIO));
            queue = self.queue.lock();
        }
        while lost && let Some(request) = queue.backlog.pop_front() {
            drop(queue);
            request.done.complete(request.token, Err(Errno::EIO));
            queue = self.queue.lock();
        }
        if !lost {
            queue.start_waiting(rt::now() + self.timeout);
        }
    }
}

impl Queue {
    /// The deadline of the request that the device has had for longest.
    fn oldest(&self) -> Option<u64> {
        self.active.iter().flatten().map(|active| active.deadline).min()
    }

    /// Gives a request to the hardware; there is a free tag.
    fn start(&mut self, request: Request, deadline: u64) {
        let Some(tag) = self.free.pop() else {
            unreachable!("asked for only where a tag is free")
        };
        let pages = if request.operation == Operation::Flush {
            0
        } else {
            pages_of(request.sectors)
        };
        let command = Command {
            operation: request.operation,
            sector: request.sector,
            sectors: request.sectors,
            pages: &request.pages[..pages],
        };
        self.hardware.start(tag, &command);
        self.active[usize::from(tag)] = Some(Active { request, deadline });
    }

    fn start_waiting(&mut self, deadline: u64) {
        let mut started = false;
        while !self.free.is_empty()
            && let Some(request) = self.backlog.pop_front()
        {
            self.start(request, deadline);
            started = true;
        }
        if started {
            self.hardware.ring();
        }
    }

    fn collect(&mut self, ended: &mut Ended) {
        while !ended.is_full()
            && let Some((tag, result)) = self.hardware.reap()
        {
            // A device may name what nobody asked for.
            if let Some(active) = self.finish(tag) {
                ended.push((active.request, result));
            }
        }
    }

    /// Takes a tag's request, and the tag back.
    fn finish(&mut self, tag: u16) -> Option<Active> {
        let active = self.active.get_mut(usize::from(tag))?.take()?;
        // There is room: as many as there are tags.
        self.free.push(tag);
        Some(active)
    }
}

fn tell(ended: Ended) {
    for (request, result) in ended {
        let Request { pages, done, token, .. } = request;
        done.complete(token, result.map(|()| pages));
    }
}

/// How many pages so many sectors are.
const fn pages_of(sectors: u32) -> usize {
    (sectors as u64 * SECTOR).div_ceil(hal::PAGE_SIZE as u64) as usize
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
