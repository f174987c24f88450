//! Physical frames: allocation, reference counts, and safe access to their bytes.
//!
//! A [`Frame`] is one counted reference to one 4 KiB frame. Page tables hold references too (as raw addresses), and so do
//! page caches and memory objects: copy-on-write is nothing but looking at the count. Several contiguous frames are a
//! [`FrameBlock`].
//!
//! Nothing here may be used in interrupt context (invariant I1; asserted in debug builds). Exhausted memory is `ENOMEM`.

#![expect(unsafe_code, reason = "reaches frames through the direct map")]

mod buddy;
mod loaded;
mod zone;

use core::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

use hal::{
    MAX_CPUS, PAGE_SIZE,
    addr::PhysAddr,
    arch::{Cpu, PageTable, PerCpu},
    boot_info::{Initramfs, PhysRange},
    traits::{CpuOps, PageTableOps, PerCpuOps},
    trap::Access,
};
use spin::Once;

pub use buddy::MAX_ORDER;
pub use loaded::Loaded;
#[cfg(test)]
pub(crate) use loaded::tests as loaded_tests;
pub use zone::Purpose;
use zone::Zone;

use super::user::{self, UserFault};
use crate::{
    errno::{Errno, Result},
    tally,
};

static ZONE: Once<Zone> = Once::new();
static PRESSURE: AtomicUsize = AtomicUsize::new(0);
/// Whether what each CPU does at the moment may use the reserve.
static ENTITLED: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];

/// Gives the allocator its memory: [`Machine::usable`](hal::boot_info::Machine::usable), page-aligned, disjoint,
/// ascending. Its memory is also that of the [`Machine::initramfs`](hal::boot_info::Machine::initramfs), as that has been read.
/// Called once at boot, before the first allocation; later calls change nothing and give nothing. On the host it happens by itself.
pub fn init(usable: &[PhysRange], initramfs: Option<Initramfs>) -> Option<Loaded> {
    let mut loaded = None;
    ZONE.call_once(|| {
        // SAFETY: As `Machine` says of it, and this is done once.
        loaded = initramfs.map(|initramfs| unsafe { Loaded::new(initramfs) });
        let later = initramfs.filter(|initramfs| initramfs.reusable);
        Zone::new(usable, later.map(|initramfs| initramfs.range))
    });
    loaded
}

#[cfg(target_os = "none")]
fn zone() -> Option<&'static Zone> {
    ZONE.get()
}

#[cfg(not(target_os = "none"))]
fn zone() -> Option<&'static Zone> {
    Some(ZONE.call_once(|| Zone::new(hal::host::ram(), None)))
}

// For what can only be asked once a frame exists.
fn live_zone() -> &'static Zone {
    match zone() {
        Some(zone) => zone,
        None => unreachable!("a frame exists before frame::init"),
    }
}

/// One past the highest frame.
pub fn end() -> PhysAddr {
    zone().map_or(PhysAddr(0), Zone::end)
}

/// One reference to a 4 KiB frame of RAM. Cloning counts up and never fails; the frame goes back to the allocator with its
/// last reference.
///
/// The count saturates: a frame referred to two billion times stays allocated for ever, as the lesser evil.
#[derive(Debug)]
pub struct Frame(PhysAddr);

const SATURATED: u32 = 0xC000_0000;
const OVERFLOW: u32 = 0x8000_0000;

/// Takes a frame with whatever it contains, for a user's purposes.
///
/// # Errors
/// `ENOMEM` when only the kernel's reserve is left.
pub fn allocate() -> Result<Frame> {
    take(Purpose::User).ok_or(Errno::ENOMEM)
}

/// Takes a frame of zeroes, for a user's purposes.
///
/// # Errors
/// As [`allocate`].
pub fn allocate_zeroed() -> Result<Frame> {
    let frame = allocate()?;
    frame.set(0..PAGE_SIZE, 0);
    Ok(frame)
}

/// Takes a frame of zeroes for the kernel itself, from the reserve if need be.
///
/// # Errors
/// `ENOMEM` when nothing is left at all.
pub fn allocate_kernel() -> Result<Frame> {
    let frame = take(Purpose::Kernel).ok_or(Errno::ENOMEM)?;
    frame.set(0..PAGE_SIZE, 0);
    Ok(frame)
}

fn take(purpose: Purpose) -> Option<Frame> {
    let zone = zone()?;
    let address = zone.take(purpose).or_else(|| {
        if purpose == Purpose::Kernel {
            return None;
        }
        super::heap::trim();
        zone.drain();
        let purpose = if is_entitled() { Purpose::Kernel } else { purpose };
        zone.take_block(0, purpose).or_else(|| {
            PRESSURE.fetch_add(1, Relaxed);
            None
        })
    })?;
    let info = zone.info(address);
    info.count.store(1, Relaxed);
    info.of_file.store(false, Relaxed);
    info.code.store(false, Relaxed);
    tally::frames_taken();
    if zone.takes_notice_of_ebb() {
        super::shortage::ebb();
    }
    Some(Frame(address))
}

impl Frame {
    /// The frame's address.
    pub const fn address(&self) -> PhysAddr {
        self.0
    }

    /// References to the frame at this moment. One means that it is the caller's alone and stays so.
    pub fn count(&self) -> u32 {
        live_zone().info(self.0).count.load(Acquire)
    }

    /// Notes whether the frame is a page of a file from here on, which tells it from a private copy of one. At first it
    /// is not.
    pub fn set_of_file(&self, of_file: bool) {
        live_zone().info(self.0).of_file.store(of_file, Relaxed);
    }

    /// Whether it is, or was until it was taken out of the file.
    pub fn is_of_file(&self) -> bool {
        live_zone().info(self.0).of_file.load(Relaxed)
    }

    /// Notes whether the frame, a page of a cache, has been used: it then outlives the cache's next look at it.
    pub fn set_used(&self, used: bool) {
        live_zone().info(self.0).used.store(used, Relaxed);
    }

    /// What was last noted by [`Frame::set_used`].
    pub fn is_used(&self) -> bool {
        live_zone().info(self.0).used.load(Relaxed)
    }

    /// Makes what the frame holds visible to instruction fetch, unless that was done since the kernel last wrote to it. As on
    /// Linux, programs that write instructions by themselves have to see to that themselves.
    pub fn sync_code(&self) {
        if PageTable::COHERENT_CODE {
            return;
        }
        let code = &live_zone().info(self.0).code;
        if !code.load(Acquire) {
            PageTable::sync_instruction_cache(self.0);
            code.store(true, Release);
        }
    }

    /// Notes that the frame has been written to, or may be from here on.
    pub fn written(&self) {
        if !PageTable::COHERENT_CODE {
            live_zone().info(self.0).code.store(false, Release);
        }
    }

    /// Gives up the handle and keeps the reference, for a page-table entry.
    pub const fn into_raw(self) -> PhysAddr {
        let address = self.0;
        core::mem::forget(self);
        address
    }

    /// Takes a reference back out of a page-table entry.
    ///
    /// # Safety
    /// `address` came from [`Frame::into_raw`], and this undoes that call, once.
    pub const unsafe fn from_raw(address: PhysAddr) -> Self {
        Self(address)
    }

    fn bytes(&self, offset: usize, length: usize) -> *mut u8 {
        assert!(
            offset <= PAGE_SIZE && length <= PAGE_SIZE - offset,
            "bytes {offset}+{length} of a frame"
        );
        // SAFETY: within the frame, as just checked.
        unsafe { Cpu::phys_to_virt(self.0).add(offset) }
    }

    /// The frame's first words, for what the kernel and others read and write at once.
    ///
    /// # Panics
    /// If there are more than 512.
    pub fn words<const N: usize>(&self) -> &[AtomicU64; N] {
        let words = self.bytes(0, N * size_of::<AtomicU64>()).cast::<[AtomicU64; N]>();
        // SAFETY: a frame is aligned, is RAM, and stays as long as this reference to it.
        unsafe { &*words }
    }

    /// Copies bytes out of the frame. Where a program writes them at the same time, any mixture may be seen.
    ///
    /// # Panics
    /// If the bytes are not all within the frame.
    pub fn read(&self, offset: usize, to: &mut [u8]) {
        let from = self.bytes(offset, to.len());
        // SAFETY: `from` is that many bytes of RAM, kept by this reference; `to` is the kernel's own memory.
        unsafe { core::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len()) };
    }

    /// Copies bytes into the frame.
    ///
    /// # Panics
    /// If the bytes are not all within the frame.
    pub fn write(&self, offset: usize, from: &[u8]) {
        let to = self.bytes(offset, from.len());
        // SAFETY: as in `read`.
        unsafe { core::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) };
        self.written();
    }

    /// Copies `length` bytes from `from` on, in the active address space, into the frame, which a program may write at the
    /// same time.
    ///
    /// # Errors
    /// As [`user::copy_in`].
    ///
    /// # Panics
    /// If the bytes are not all within the frame.
    pub fn copy_in(&self, offset: usize, length: usize, from: u64) -> core::result::Result<(), UserFault> {
        let to = self.bytes(offset, length);
        user::check(from, length, Access::Read)?;
        // SAFETY: `to` is that many bytes of RAM, kept by this reference.
        let result = unsafe { Cpu::copy_from_user_to(to, from, length) };
        self.written();
        result.map_err(|fault| UserFault::after(from, Access::Read, fault))
    }

    /// Copies `length` bytes of the frame to `to` in the active address space.
    ///
    /// # Errors
    /// As [`user::copy_out`].
    ///
    /// # Panics
    /// If the bytes are not all within the frame.
    pub fn copy_out(&self, offset: usize, length: usize, to: u64) -> core::result::Result<(), UserFault> {
        let from = self.bytes(offset, length);
        user::check(to, length, Access::Write)?;
        // SAFETY: as in `copy_in`.
        unsafe { Cpu::copy_to_user_from(to, from, length) }.map_err(|fault| UserFault::after(to, Access::Write, fault))
    }

    /// Fills bytes of the frame.
    ///
    /// # Panics
    /// If the bytes are not all within the frame.
    pub fn fill(&self, range: core::ops::Range<usize>, byte: u8) {
        self.set(range, byte);
        self.written();
    }

    /// As [`Frame::fill`], for a frame that has just been taken.
    fn set(&self, range: core::ops::Range<usize>, byte: u8) {
        let to = self.bytes(range.start, range.len());
        // SAFETY: as in `read`.
        unsafe { core::ptr::write_bytes(to, byte, range.len()) };
    }

    /// Makes the whole frame equal to `other`.
    pub fn copy_from(&self, other: &Self) {
        if self.0 != other.0 {
            let (from, to) = (other.bytes(0, PAGE_SIZE), self.bytes(0, PAGE_SIZE));
            // SAFETY: two different frames, each kept by a reference.
            unsafe { core::ptr::copy_nonoverlapping(from, to, PAGE_SIZE) };
            self.written();
        }
    }

    /// A new frame with the same contents, for a user's purposes.
    ///
    /// # Errors
    /// As [`allocate`].
    pub fn duplicate(&self) -> Result<Self> {
        let copy = allocate()?;
        copy.copy_from(self);
        Ok(copy)
    }
}

impl Clone for Frame {
    fn clone(&self) -> Self {
        let count = &live_zone().info(self.0).count;
        if count.fetch_add(1, Relaxed) >= OVERFLOW {
            count.store(SATURATED, Relaxed);
        }
        Self(self.0)
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        let zone = live_zone();
        let count = &zone.info(self.0).count;
        match count.fetch_sub(1, Release) {
            1 => {
                count.load(Acquire);
                tally::frames_given();
                zone.give(self.0);
                super::shortage::freed();
            }
            0 | OVERFLOW.. => count.store(SATURATED, Relaxed),
            _ => {}
        }
    }
}

/// Contiguous frames, the block aligned to its size; given back when dropped. The heap's, and what
/// devices share with their drivers.
#[derive(Debug)]
pub struct FrameBlock {
    start: PhysAddr,
    order: u8,
}

/// Takes 2^`order` contiguous frames, contents undefined.
///
/// # Errors
/// `ENOMEM` if there is no such block, or no such order (above [`MAX_ORDER`]).
pub fn allocate_order(order: u8, purpose: Purpose) -> Result<FrameBlock> {
    let zone = zone().ok_or(Errno::ENOMEM)?;
    let start = zone.take_block(order, purpose).or_else(|| {
        zone.drain();
        zone.take_block(order, purpose)
    });
    Ok(FrameBlock {
        start: start.ok_or(Errno::ENOMEM)?,
        order,
    })
}

impl FrameBlock {
    /// The first byte.
    pub const fn address(&self) -> PhysAddr {
        self.start
    }

    /// Bytes in the block.
    pub const fn len(&self) -> usize {
        PAGE_SIZE << self.order
    }

    /// Never true; here because there is a [`FrameBlock::len`].
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Gives up the handle and keeps the block.
    pub const fn into_raw(self) -> PhysAddr {
        let start = self.start;
        core::mem::forget(self);
        start
    }

    /// Takes a block back.
    ///
    /// # Safety
    /// `start` came from [`FrameBlock::into_raw`] of a block of this order, and this undoes that call, once.
    pub const unsafe fn from_raw(start: PhysAddr, order: u8) -> Self {
        Self { start, order }
    }
}

impl Drop for FrameBlock {
    fn drop(&mut self) {
        live_zone().give_block(self.start, self.order);
        super::shortage::freed();
    }
}

/// How much memory there is, in frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Frames that the allocator was given.
    pub total: usize,
    /// Frames that are free, those in magazines included.
    pub free: usize,
    /// Of those, frames that only the kernel's heap may take.
    pub reserve: usize,
    /// Allocations for users that failed since boot.
    pub failures: usize,
}

/// The statistics of this moment; zeroes before [`init`].
pub fn stats() -> Stats {
    zone().map_or(
        Stats {
            total: 0,
            free: 0,
            reserve: 0,
            failures: 0,
        },
        |zone| Stats {
            total: zone.total(),
            free: zone.free(),
            reserve: zone.reserve(),
            failures: PRESSURE.load(Relaxed),
        },
    )
}

/// The lowest address of the zone: a fixed point to reckon direct-map addresses from.
///
/// # Panics
/// Before [`init`]: there is nothing to reckon about.
pub(super) fn base() -> PhysAddr {
    live_zone().address(0)
}

/// Empties the per-CPU magazines.
pub fn trim() {
    if let Some(zone) = zone() {
        zone.drain();
    }
}

/// Waits for whoever is giving a frame back at this moment: see [`Zone::meet_givers`].
pub(super) fn meet_givers() {
    if let Some(zone) = zone() {
        zone.meet_givers();
    }
}

/// Says whether what the calling CPU does from here on may use the reserve for a user's purposes: the last steps of a thread
/// that ends, because they give memory back.
pub fn entitle(entitled: bool) {
    ENTITLED[PerCpu::cpu_id() as usize].store(entitled, Relaxed);
}

fn is_entitled() -> bool {
    ENTITLED[PerCpu::cpu_id() as usize].load(Relaxed)
}

/// Whether less is free than what is kept for the kernel's allocations that cannot fail.
pub fn is_low() -> bool {
    zone().is_some_and(Zone::is_low)
}

/// Frames that have to be free before caches may be left alone; see [`reclaim`](super::reclaim).
pub fn ebb() -> usize {
    zone().map_or(0, Zone::ebb)
}

/// Frames for page tables: zeroed, and counted as the user's, so that a program cannot eat the reserve by spreading its pages.
pub struct TableFrames;

/// Frames that hold page tables of programs.
static TABLES: AtomicUsize = AtomicUsize::new(0);

/// How many frames hold page tables of programs.
pub fn page_tables() -> usize {
    TABLES.load(Relaxed)
}

impl hal::traits::FrameSource for TableFrames {
    fn allocate_table(&self) -> Option<PhysAddr> {
        let frame = allocate_zeroed().ok().map(Frame::into_raw)?;
        TABLES.fetch_add(1, Relaxed);
        Some(frame)
    }

    fn free_table(&self, frame: PhysAddr) {
        TABLES.fetch_sub(1, Relaxed);
        // SAFETY: the page table gives back what `allocate_table` gave it, once.
        drop(unsafe { Frame::from_raw(frame) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_count_and_bytes_stay() {
        let frame = allocate_zeroed().unwrap();
        frame.write(4090, b"abcdef");
        let other = frame.clone();
        assert_eq!((frame.count(), other.address()), (2, frame.address()));
        let copy = other.duplicate().unwrap();
        drop(frame);
        assert_eq!((other.count(), copy.count()), (1, 1));
        let mut bytes = [0; 8];
        copy.read(4088, &mut bytes);
        assert_eq!(&bytes, b"\0\0abcdef");
    }

    #[test]
    #[should_panic(expected = "of a frame")]
    fn bytes_past_the_frame_are_refused() {
        allocate().unwrap().write(4095, b"ab");
    }

    #[test]
    fn blocks_are_aligned_and_bounded() {
        let block = allocate_order(4, Purpose::User).unwrap();
        assert_eq!(block.address().0 % block.len() as u64, 0);
        assert_eq!(
            allocate_order(MAX_ORDER + 1, Purpose::Kernel).unwrap_err(),
            Errno::ENOMEM
        );
    }

    #[test]
    fn a_saturated_count_never_frees() {
        let frame = allocate().unwrap();
        live_zone().info(frame.address()).count.store(OVERFLOW, Relaxed);
        let (first, second) = (frame.clone(), frame.clone());
        drop(first);
        drop(second);
        assert!(frame.count() >= OVERFLOW);
    }
}
