//! The page cache of a disk: pages by index, read when they are missed.
//!
//! Nothing here waits. A page that is not there is asked of the disk by a request that belongs to nobody in particular;
//! whoever wants the page is told `EAGAIN`, and waits on [`PageCache::arrivals`] or looks again later. So several share one
//! request, and who loses interest takes nothing away from the others. Requests need no memory but the frames they fill:
//! the cache itself is told how they end ([`Completion`]), by the index of the first page.
//!
//! What is read ahead of what is wanted ([`ReadAhead`]) is read by the same requests. If one of several pages fails, each of
//! them is read by itself when it is wanted; a page that fails alone is `EIO` for those who wait, and for who comes within
//! [`FAILURE_LIFE`], and is then read anew.
//!
//! Pages are clean: nothing is ever written through the cache ([`PageCache::forget`] is for who has written past it). When
//! frames run short those that nobody has a reference to are given back ([`Reclaim`]), a page that was used since the last
//! look staying for one more.

mod ahead;
mod pool;

use alloc::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};
use core::ops::Range;

use arrayvec::ArrayVec;
use hal::PAGE_SIZE;

pub use ahead::ReadAhead;
pub use pool::{Pool, give_back};

use crate::{
    block::{Completion, Disk, Operation, Pages, Request, SECTOR},
    errno::{Errno, Result},
    mm::{
        Frame, fallible, frame,
        reclaim::{self, Reclaim},
    },
    rt,
    sync::{Rank, SpinLock, WaitQueue},
};

const PAGE: u64 = PAGE_SIZE as u64;
const PAGE_SECTORS: u64 = PAGE / SECTOR;

/// How long a page that could not be read is not tried again (ns).
pub const FAILURE_LIFE: u64 = 1_000_000_000;
/// Failures that are remembered.
const FAILURES: usize = 16;
/// Queues that waiters are spread over, by page.
const QUEUES: usize = 16;
/// Neighbouring pages whose waiters have a queue in common.
const NEIGHBOURS: u64 = 32;
/// Requests that one call starts.
const RUNS: usize = 4;
/// Bytes of the heap that putting pages in may take: nodes of the tree.
const NODES: usize = 8 << 10;
/// Pages that caches are asked for where that is not there.
const NEEDED: usize = 64;

/// See the module.
pub struct PageCache {
    this: Weak<Self>,
    disk: Arc<Disk>,
    state: SpinLock<State>,
    /// All who wait, of whatever page they do.
    any: WaitQueue,
    /// Those who wait for a page of which they know the index.
    queues: [WaitQueue; QUEUES],
}

#[derive(Default)]
struct State {
    pool: Pool,
    /// What has been asked of the disk, by the first page; no two of them meet.
    reading: BTreeMap<u64, Reading>,
    failures: ArrayVec<Failure, FAILURES>,
}

struct Reading {
    count: u64,
    /// Something else was written there meanwhile: what comes is of no use.
    stale: bool,
}

#[derive(Clone, Copy)]
struct Failure {
    first: u64,
    count: u64,
    until: u64,
}

/// What is known of a page.
enum Look {
    Here(Frame),
    Coming,
    Failed,
    /// It is missing; up to so many pages may be read at once.
    Missing {
        most: u64,
    },
}

impl State {
    fn is_coming(&self, index: u64) -> bool {
        let before = self.reading.range(..=index).next_back();
        before.is_some_and(|(first, reading)| index - first < reading.count)
    }

    fn look(&self, index: u64) -> Look {
        if let Some(frame) = self.pool.pages.get(index) {
            if !frame.is_used() {
                frame.set_used(true);
            }
            return Look::Here(frame.clone());
        }
        if self.is_coming(index) {
            return Look::Coming;
        }
        let failure = self
            .failures
            .iter()
            .rfind(|failure| index >= failure.first && index - failure.first < failure.count);
        match failure.filter(|failure| rt::now() < failure.until) {
            None => Look::Missing { most: u64::MAX },
            Some(Failure { count: 1, .. }) => Look::Failed,
            Some(_) => Look::Missing { most: 1 },
        }
    }

    fn is_missing(&self, index: u64) -> bool {
        self.pool.pages.get(index).is_none() && !self.is_coming(index)
    }

    /// How many pages from `first` on are missing, up to `most`.
    fn missing_from(&self, first: u64, most: u64) -> u64 {
        let mut count = 0;
        while count < most && self.is_missing(first + count) {
            count += 1;
        }
        count
    }

    /// First page and number of what is missing with `index`, which is, in `around`, up to `most`.
    fn missing_around(&self, index: u64, around: Range<u64>, most: u64) -> (u64, u64) {
        let mut first = index;
        while first > around.start && index - first + 1 < most && self.is_missing(first - 1) {
            first -= 1;
        }
        let behind = most - (index + 1 - first);
        let behind = behind.min(around.end.saturating_sub(index + 1));
        (first, index + 1 - first + self.missing_from(index + 1, behind))
    }

    fn begin(&mut self, first: u64, count: u64) {
        self.failures
            .retain(|failure| first >= failure.first + failure.count || failure.first >= first + count);
        self.reading.insert(first, Reading { count, stale: false });
    }

    fn fail(&mut self, first: u64, count: u64) {
        if self.failures.is_full() {
            self.failures.remove(0);
        }
        let until = rt::now().saturating_add(FAILURE_LIFE);
        self.failures.push(Failure { first, count, until });
    }
}

impl PageCache {
    /// An empty cache of `disk`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(disk: Arc<Disk>) -> Result<Arc<Self>> {
        let cache = Arc::new_cyclic(|this: &Weak<Self>| Self {
            this: this.clone(),
            disk,
            state: SpinLock::new(Rank::PageCache, State::default()),
            any: WaitQueue::new(),
            queues: [const { WaitQueue::new() }; QUEUES],
        });
        let known: Weak<dyn Reclaim> = cache.this.clone();
        reclaim::register(known)?;
        Ok(cache)
    }

    /// The disk.
    pub const fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    /// Pages of the disk; the last may be one in part.
    pub fn len(&self) -> u64 {
        self.disk.geometry().sectors.div_ceil(PAGE_SECTORS)
    }

    /// Whether the disk has no pages.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Pages in memory.
    pub fn cached(&self) -> u64 {
        self.state.lock().pool.pages.len()
    }

    /// The page at `index`. Where it is missing it is asked of the disk, and with it as much of `around` as is missing too
    /// and can be had by the same request.
    ///
    /// # Errors
    /// `EAGAIN`: it is on its way. `EIO`, `ENOMEM`; `ENXIO` past the disk's end.
    pub fn page(&self, index: u64, around: Range<u64>) -> Result<Frame> {
        if index >= self.len() {
            return Err(Errno::ENXIO);
        }
        loop {
            let begun = {
                let mut state = self.state.lock();
                let most = match state.look(index) {
                    Look::Here(frame) => return Ok(frame),
                    Look::Coming => return Err(Errno::EAGAIN),
                    Look::Failed => return Err(Errno::EIO),
                    Look::Missing { most } => most.min(self.disk.geometry().most_pages as u64),
                };
                let (first, count) = state.missing_around(index, around.start..around.end.min(self.len()), most);
                // For the entry in the tree of what is asked for, and later those in that of the pages.
                fallible::afford(NODES).map(|()| {
                    state.begin(first, count);
                    (first, count)
                })
            };
            match begun {
                Ok((first, count)) => {
                    self.ask(first, count, index)?;
                    return Err(Errno::EAGAIN);
                }
                Err(errno) if reclaim::reclaim(NEEDED) == 0 => return Err(errno),
                Err(_) => {}
            }
        }
    }

    /// Asks for what is missing of `pages`, which nobody waits for.
    pub fn bring(&self, pages: Range<u64>) {
        let most = self.disk.geometry().most_pages as u64;
        let end = pages.end.min(self.len());
        let mut runs = ArrayVec::<(u64, u64), RUNS>::new();
        {
            let mut state = self.state.lock();
            let mut at = pages.start;
            while at < end && !runs.is_full() {
                let count = state.missing_from(at, most.min(end - at));
                if count > 0 && fallible::afford(NODES).is_ok() {
                    state.begin(at, count);
                    runs.push((at, count));
                }
                at += count.max(1);
            }
        }
        for (first, count) in runs {
            // Who wants one of them will hear of it.
            let _ = self.ask(first, count, first);
        }
    }

    /// Asks the disk for pages that have been marked as coming. Where frames are short, `wanted` is asked for alone.
    fn ask(&self, first: u64, count: u64, wanted: u64) -> Result<()> {
        reclaim::grow(count as usize);
        let mut pages = Pages::new();
        while (pages.len() as u64) < count
            && let Ok(frame) = frame::allocate()
        {
            pages.push(frame);
        }
        let (mut first, mut count) = (first, count);
        if (pages.len() as u64) < count {
            // What memory there is others want more.
            pages.truncate(1);
            let held = pages.len();
            {
                let mut state = self.state.lock();
                state.reading.remove(&first);
                if held == 1 {
                    state.begin(wanted, 1);
                }
            }
            self.wake(first, count);
            if held == 0 {
                return Err(Errno::ENOMEM);
            }
            (first, count) = (wanted, 1);
        }
        let Some(this) = self.this.upgrade() else {
            unreachable!("who calls this has a reference")
        };
        let sector = first * PAGE_SECTORS;
        let sectors = (count * PAGE_SECTORS).min(self.disk.geometry().sectors - sector);
        let submitted = self.disk.submit(Request {
            operation: Operation::Read,
            sector,
            sectors: sectors as u32,
            pages,
            done: this,
            token: first,
        });
        if let Err(errno) = submitted {
            self.finish(first, Err(errno));
        }
        submitted
    }

    /// A request has ended.
    fn finish(&self, first: u64, outcome: Result<Pages>) {
        // What is not kept is dropped outside the lock.
        let mut left = Pages::new();
        let mut state = self.state.lock();
        let Some(reading) = state.reading.remove(&first) else {
            return;
        };
        match outcome {
            Ok(pages) if reading.stale => left = pages,
            Ok(pages) => {
                self.clear_end(first, &pages);
                for (index, frame) in (first..).zip(pages).take(reading.count as usize) {
                    frame.set_used(true);
                    if state.pool.pages.insert(index, frame.clone()).is_err() {
                        // Who waits for it asks anew, and for memory first.
                        left.push(frame);
                    }
                }
            }
            // Who waits asks anew and is told.
            Err(Errno::ENOMEM) => {}
            Err(_) => state.fail(first, reading.count),
        }
        drop(state);
        self.wake(first, reading.count);
        drop(left);
    }

    /// Clears what the disk has no bytes for.
    fn clear_end(&self, first: u64, pages: &Pages) {
        let in_last = self.disk.geometry().sectors % PAGE_SECTORS;
        if in_last != 0
            && let Some(frame) = pages.get((self.len() - 1 - first) as usize)
        {
            frame.fill((in_last * SECTOR) as usize..PAGE_SIZE, 0);
        }
    }

    /// Wakes who waits for one of these pages, or stands at the page before them and wants that and the next.
    fn wake(&self, first: u64, count: u64) {
        self.any.wake_all();
        let from = first.saturating_sub(1) / NEIGHBOURS;
        let to = (first + count.max(1) - 1) / NEIGHBOURS;
        for group in from..=to.min(from + QUEUES as u64 - 1) {
            self.queues[(group % QUEUES as u64) as usize].wake_all();
        }
    }

    /// All of it is woken when the page at `index` or the one behind it may have come, or failed.
    pub const fn arrivals(&self, index: u64) -> &WaitQueue {
        &self.queues[(index / NEIGHBOURS % QUEUES as u64) as usize]
    }

    /// All of it is woken when any page may have come, or failed.
    pub const fn any_arrival(&self) -> &WaitQueue {
        &self.any
    }

    /// Puts each page of `first..first + into.len()` that is in memory into its place.
    pub fn pages_in_memory(&self, first: u64, into: &mut [Option<Frame>]) {
        self.state.lock().pool.pages.get_many(first, into);
        into.iter().flatten().for_each(|frame| frame.set_used(true));
    }

    /// Forgets pages because the disk holds something else there, or is about to. Those on their way are of no use either.
    pub fn forget(&self, pages: Range<u64>) {
        let mut state = self.state.lock();
        let gone = state.pool.pages.remove(pages.start, pages.end);
        let meets = |first: u64, reading: &Reading| first < pages.end && pages.start < first + reading.count;
        for (first, reading) in &mut state.reading {
            reading.stale |= meets(*first, reading);
        }
        drop(state);
        drop(gone);
    }

    /// Forgets all pages that nobody uses.
    pub fn forget_unused(&self) {
        self.reclaim(usize::MAX);
    }
}

impl Completion for PageCache {
    fn complete(&self, token: u64, outcome: Result<Pages>) {
        self.finish(token, outcome);
    }
}

impl Reclaim for PageCache {
    fn reclaim(&self, pages: usize) -> usize {
        give_back(pages, |batch| self.state.lock().pool.take_unused(batch))
    }

    fn pages(&self) -> usize {
        self.cached() as usize
    }
}
