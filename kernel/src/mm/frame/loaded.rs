//! What the loader has put into memory for the kernel to read once: its frames go to the allocator as they have been read.

#![expect(unsafe_code, reason = "reads the loader's memory through the direct map")]

use core::ops::Range;

use hal::{
    PAGE_SIZE,
    addr::PhysAddr,
    arch::Cpu,
    boot_info::{Initramfs, PhysRange},
    traits::CpuOps,
};

use super::live_zone;

const PAGE: u64 = PAGE_SIZE as u64;

/// Bytes in RAM that nobody else has. What has been passed is given to the frame allocator page by page, and the rest when this is
/// dropped; the pages at both ends that hold something else as well stay out of use.
#[derive(Debug)]
pub struct Loaded {
    range: PhysRange,
    /// Whether its memory may be given to the allocator at all.
    reusable: bool,
    /// The next byte to be read.
    at: u64,
    /// Up to where pages have been given.
    given: u64,
    /// Whole pages that are never given.
    kept: Range<u64>,
}

impl Loaded {
    /// # Safety
    /// The direct map shows the range, for ever; nobody else has it, and nobody else takes it over.
    pub(super) const unsafe fn new(initramfs: Initramfs) -> Self {
        let Initramfs { range, reusable } = initramfs;
        Self {
            range,
            reusable,
            at: range.start.0,
            given: range.start.0.next_multiple_of(PAGE),
            kept: 0..0,
        }
    }

    /// What has not been passed.
    pub fn bytes(&self) -> &[u8] {
        let start = Cpu::phys_to_virt(PhysAddr(self.at));
        // SAFETY: As `new` was told; of these bytes no page has been given away, nor can be while they are borrowed.
        unsafe { core::slice::from_raw_parts(start, (self.range.end.0 - self.at) as usize) }
    }

    /// Keeps a part of what [`Loaded::bytes`] holds for ever. Of two parts the first is kept.
    ///
    /// # Panics
    /// If there are not so many bytes.
    pub fn keep(&mut self, part: Range<usize>) -> Option<&'static [u8]> {
        assert!(
            part.end <= self.bytes().len(),
            "{part:?} of {} bytes",
            self.bytes().len()
        );
        if !self.kept.is_empty() {
            return None;
        }
        let (start, end) = (self.at + part.start as u64, self.at + part.end as u64);
        self.kept = start - start % PAGE..end.next_multiple_of(PAGE);
        // SAFETY: As `new` was told; these pages are never given away.
        Some(unsafe { core::slice::from_raw_parts(Cpu::phys_to_virt(PhysAddr(start)), part.len()) })
    }

    /// Passes over `count` bytes, or all that are left.
    pub fn pass(&mut self, count: usize) {
        self.at = self.at.saturating_add(count as u64).min(self.range.end.0);
        let end = self.at - self.at % PAGE;
        if !self.reusable || end <= self.given {
            return;
        }
        let zone = live_zone();
        let kept = self.kept.start.clamp(self.given, end)..self.kept.end.clamp(self.given, end);
        for (start, end) in [(self.given, kept.start), (kept.end, end)] {
            zone.adopt(PhysRange {
                start: PhysAddr(start),
                end: PhysAddr(end),
            });
        }
        self.given = end;
        crate::mm::shortage::freed();
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        self.pass(usize::MAX);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::mm::frame::{self, Purpose};

    /// Bytes as a loader would leave them, not at the beginning of a page.
    pub fn loaded(bytes: &[u8]) -> Loaded {
        const OFFSET: u64 = 20;
        let pages = (bytes.len() + OFFSET as usize).div_ceil(PAGE_SIZE).next_power_of_two();
        let block = frame::allocate_order(pages.ilog2() as u8, Purpose::User)
            .unwrap()
            .into_raw();
        let start = PhysAddr(block.0 + OFFSET);
        // SAFETY: As many bytes of a block that nobody else has.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), Cpu::phys_to_virt(start), bytes.len()) };
        let range = PhysRange {
            start,
            end: PhysAddr(start.0 + bytes.len() as u64),
        };
        // SAFETY: The block is nobody's any more.
        unsafe { Loaded::new(Initramfs { range, reusable: true }) }
    }

    #[test]
    fn what_is_passed_is_given_and_what_is_kept_is_not() {
        // Other tests take and give frames meanwhile: frames are told by the total, which nobody else changes.
        let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let bytes: std::vec::Vec<u8> = (0..20 * PAGE_SIZE).map(|at| (at / 100) as u8).collect();
        let mut loaded = loaded(&bytes);
        let before = frame::stats().total;
        let given = || frame::stats().total - before;
        loaded.pass(PAGE_SIZE);
        assert_eq!(given(), 0, "the first page is another's too");
        assert_eq!(loaded.bytes(), &bytes[PAGE_SIZE..]);
        loaded.pass(PAGE_SIZE);
        assert_eq!(given(), 1);
        let kept = loaded.keep(3 * PAGE_SIZE..5 * PAGE_SIZE).unwrap();
        assert_eq!(loaded.keep(0..1), None);
        loaded.pass(12 * PAGE_SIZE);
        assert_eq!(loaded.bytes(), &bytes[14 * PAGE_SIZE..]);
        assert_eq!(given(), 13 - 3, "three pages hold what is kept");
        drop(loaded);
        assert_eq!(given(), 19 - 3);
        assert_eq!(kept, &bytes[5 * PAGE_SIZE..7 * PAGE_SIZE]);
    }

    /// For tests that look at how many frames there are.
    pub static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
}
