//! All of RAM as one zone: the metadata array, the buddy allocator behind its lock, and a magazine of single frames per
//! CPU in front of it.
//!
//! **Who may have the last frames.** User memory (pages of programs, file contents, page tables) is asked for as
//! [`Purpose::User`] and refused while no more than the *reserve* is free; the kernel's heap asks as [`Purpose::Kernel`]
//! and may take everything. So a program that eats all memory gets `ENOMEM` (or wakes the OOM killer) while the kernel
//! still has room for the small allocations which cannot fail.

#![expect(unsafe_code, reason = "places the metadata array in the memory that it describes")]

use core::sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};

use arrayvec::ArrayVec;
use hal::{
    MAX_CPUS, PAGE_SIZE,
    addr::PhysAddr,
    arch::{Cpu, PerCpu},
    boot_info::PhysRange,
    traits::{CpuOps, PerCpuOps},
};

use super::buddy::{Buddy, FrameInfo, MAX_ORDER};
use crate::{
    mm::fallible,
    sync::{Rank, SpinLock},
    tally,
};

/// What a frame is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Memory that a program's behaviour asks for: refused early.
    User,
    /// The kernel's own heap, where it can be refused: leaves half of the reserve.
    KernelMay,
    /// The kernel's own heap: may use the reserve.
    Kernel,
}

const MAGAZINE: usize = 64;
const BATCH: usize = 16;

type Magazine = ArrayVec<u32, MAGAZINE>;

static MAGAZINES: [SpinLock<Magazine>; MAX_CPUS] =
    [const { SpinLock::new(Rank::FrameCache, ArrayVec::new_const()) }; MAX_CPUS];

/// All of RAM that the kernel may hand out.
pub struct Zone {
    base: u64,
    info: &'static [FrameInfo],
    buddy: SpinLock<Buddy>,
    total: AtomicUsize,
    reserve: usize,
    // Frames standing in magazines. Those that come from the buddy allocator or go to it are counted under its lock.
    cached: AtomicUsize,
    /// Set when less than half of the reserve stands in the buddy allocator; cleared by whoever finds that it is over.
    low: AtomicBool,
    /// Set when less than [`Zone::ebb`] stands in the buddy allocator; taken back by who acts upon it.
    ebbs: AtomicBool,
}

impl Zone {
    /// A zone of `ranges` (page-aligned, disjoint, ascending, reachable through the direct map and used by nobody). RAM of
    /// `later` may be given to it afterwards.
    ///
    /// # Panics
    /// If no range has room for the metadata: the machine cannot be used at all.
    pub fn new(ranges: &[PhysRange], later: Option<PhysRange>) -> Self {
        let page = PAGE_SIZE as u64;
        let block = page << MAX_ORDER;
        let ends = ranges.first().into_iter().chain(ranges.last()).chain(&later);
        let first = ends.clone().map(|range| range.start.0).min().unwrap_or(0);
        let base = first - first % block;
        let frames = ends.map(|range| (range.end.0 - base) / page).max().unwrap_or(0);
        assert!(frames < u64::from(u32::MAX), "more RAM than frame numbers");
        let bytes = (frames * size_of::<FrameInfo>() as u64).next_multiple_of(page);
        let home = ranges.iter().find(|range| range.len() >= bytes + page);
        let Some(home) = home else {
            panic!("no room for {bytes} bytes of frame metadata")
        };
        let metadata = PhysAddr(home.end.0 - bytes);
        let pointer = Cpu::phys_to_virt(metadata).cast::<FrameInfo>();
        for index in 0..frames as usize {
            // SAFETY: `bytes` bytes at `metadata` are usable RAM, left out of what the allocator gets below.
            unsafe { pointer.add(index).write(FrameInfo::new()) };
        }
        // SAFETY: just initialised, page-aligned, and nobody else's for ever.
        let info = unsafe { core::slice::from_raw_parts(pointer, frames as usize) };
        let mut buddy = Buddy::new();
        for range in ranges {
            let end = if range.end == home.end { metadata } else { range.end };
            buddy.add(
                info,
                ((range.start.0 - base) / page) as u32,
                ((end.0 - base) / page) as u32,
            );
        }
        let total = buddy.free_frames();
        Self {
            base,
            info,
            buddy: SpinLock::new(Rank::Frames, buddy),
            total: AtomicUsize::new(total),
            reserve: (total / 64).clamp(64, 4096),
            cached: AtomicUsize::new(0),
            low: AtomicBool::new(false),
            ebbs: AtomicBool::new(false),
        }
    }

    pub fn total(&self) -> usize {
        self.total.load(Relaxed)
    }

    /// Takes over whole pages that it has never had, of what it was told of by [`Zone::new`].
    pub fn adopt(&self, range: PhysRange) {
        if range.is_empty() {
            return;
        }
        tally::freeing();
        let (start, end) = (self.index(range.start), self.index(range.end));
        let mut buddy = self.buddy.lock();
        buddy.add(self.info, start, end);
        self.total.fetch_add((end - start) as usize, Relaxed);
    }

    /// Frames free, those in magazines included. What moves between the two moves under the lock and is counted once.
    pub fn free(&self) -> usize {
        let buddy = self.buddy.lock();
        buddy.free_frames() + self.cached.load(Relaxed)
    }

    pub const fn reserve(&self) -> usize {
        self.reserve
    }

    /// What only allocations that cannot fail may take.
    const fn half(&self) -> usize {
        self.reserve / 2
    }

    /// Whether some of that half has been taken.
    pub fn is_low(&self) -> bool {
        if !self.low.load(SeqCst) {
            return false;
        }
        let low = self.free() < self.half();
        if !low {
            self.low.store(false, Relaxed);
        }
        low
    }

    fn note(&self, buddy: &Buddy) {
        if buddy.free_frames() < self.half() {
            self.low.store(true, SeqCst);
            fallible::taken_from();
        }
        if buddy.free_frames() < self.ebb() {
            self.ebbs.store(true, Relaxed);
        }
    }

    /// Free frames below which caches give some of theirs back.
    pub const fn ebb(&self) -> usize {
        2 * self.reserve
    }

    /// Whether that was reached since this was last asked.
    pub fn takes_notice_of_ebb(&self) -> bool {
        self.ebbs.load(Relaxed) && self.ebbs.swap(false, Relaxed)
    }

    pub const fn address(&self, index: u32) -> PhysAddr {
        PhysAddr(self.base + index as u64 * PAGE_SIZE as u64)
    }

    /// One past the last frame, whether that is RAM or not.
    pub const fn end(&self) -> PhysAddr {
        self.address(self.info.len() as u32)
    }

    /// The number of the frame at `address`.
    pub fn index(&self, address: PhysAddr) -> u32 {
        ((address.0 - self.base) / PAGE_SIZE as u64) as u32
    }

    pub fn info(&self, address: PhysAddr) -> &'static FrameInfo {
        &self.info[self.index(address) as usize]
    }

    const fn floor(&self, purpose: Purpose) -> usize {
        match purpose {
            Purpose::User => self.reserve,
            Purpose::KernelMay => self.half(),
            Purpose::Kernel => 0,
        }
    }

    /// Takes one frame, from the calling CPU's magazine if it has one.
    pub fn take(&self, purpose: Purpose) -> Option<PhysAddr> {
        tally::allocating();
        let index = {
            let mut magazine = MAGAZINES[PerCpu::cpu_id() as usize].lock();
            if magazine.is_empty() {
                self.refill(&mut magazine, purpose);
            }
            let index = magazine.pop();
            if index.is_some() {
                self.cached.fetch_sub(1, Relaxed);
            }
            index
        };
        index.map(|index| self.address(index)).or_else(|| {
            self.drain();
            self.take_block(0, purpose)
        })
    }

    fn refill(&self, magazine: &mut Magazine, purpose: Purpose) {
        let mut buddy = self.buddy.lock();
        let spare = buddy.free_frames().saturating_sub(self.floor(purpose));
        // Near the reserve the kernel takes one by one, so that no user allocation finds reserve frames in a magazine.
        let wanted = if buddy.free_frames() <= self.reserve + BATCH {
            spare.min(1)
        } else {
            BATCH
        };
        for _ in 0..wanted {
            let Some(index) = buddy.allocate(self.info, 0) else {
                break;
            };
            magazine.push(index);
            self.cached.fetch_add(1, Relaxed);
        }
        self.note(&buddy);
    }

    /// Gives one frame back.
    pub fn give(&self, address: PhysAddr) {
        tally::freeing();
        let mut magazine = MAGAZINES[PerCpu::cpu_id() as usize].lock();
        if magazine.is_full() {
            let mut buddy = self.buddy.lock();
            for index in magazine.drain(..MAGAZINE / 2) {
                buddy.free(self.info, index, 0);
            }
            self.cached.fetch_sub(MAGAZINE / 2, Relaxed);
        }
        magazine.push(self.index(address));
        self.cached.fetch_add(1, Relaxed);
    }

    /// Takes 2^`order` contiguous frames, past the magazines.
    pub fn take_block(&self, order: u8, purpose: Purpose) -> Option<PhysAddr> {
        tally::allocating();
        let mut buddy = self.buddy.lock();
        if buddy.free_frames() < (1usize << order.min(MAX_ORDER)) + self.floor(purpose) {
            return None;
        }
        let block = buddy.allocate(self.info, order).map(|index| self.address(index));
        self.note(&buddy);
        block
    }

    /// Gives back what [`Zone::take_block`] took.
    pub fn give_block(&self, address: PhysAddr, order: u8) {
        tally::freeing();
        self.buddy.lock().free(self.info, self.index(address), order);
    }

    /// Enters and leaves every critical section in which a frame is given back: each of those is over and seen by the
    /// caller, or sees what the caller has done before.
    pub fn meet_givers(&self) {
        for magazine in &MAGAZINES {
            drop(magazine.lock());
        }
        drop(self.buddy.lock());
    }

    /// Empties every CPU's magazine into the buddy allocator, so that its blocks can merge.
    pub fn drain(&self) {
        for magazine in &MAGAZINES {
            let mut magazine = magazine.lock();
            if magazine.is_empty() {
                continue;
            }
            let mut buddy = self.buddy.lock();
            self.cached.fetch_sub(magazine.len(), Relaxed);
            for index in magazine.drain(..) {
                buddy.free(self.info, index, 0);
            }
        }
    }
}
