//! GICv2m frames: a register to which devices write the number of a shared line (Arm Server Base System Architecture 3.1,
//! appendix E).

use core::sync::atomic::{AtomicU64, Ordering};

use super::{FIRST_SHARED, FIRST_SPECIAL, Registers};
use crate::firmware::MsiFrame;
use crate::traits::Message;

/// `MSI_TYPER`: the first line, and how many.
const TYPE: usize = 0x008;
/// `MSI_SETSPI_NS`.
const SET: u64 = 0x040;
/// Bytes of a frame.
pub(super) const FRAME: u64 = 0x1000;
/// Lines of a frame that are used, at most.
const MOST: u32 = 128;

pub(super) struct Frame {
    doorbell: u64,
    first: u32,
    count: u32,
    used: [AtomicU64; (MOST / 64) as usize],
}

impl Frame {
    /// A frame as firmware describes it; `None` where its register does not answer, or its lines are none of the
    /// distributor's.
    pub(super) fn new(frame: &MsiFrame, registers: Registers, lines: u32) -> Option<Self> {
        let (first, count) = if frame.from_register {
            let kind = registers.probe(TYPE)?;
            (kind >> 16 & 0x3ff, kind & 0x3ff)
        } else {
            (frame.first_line, frame.lines)
        };
        let end = first.saturating_add(count).min(lines).min(FIRST_SPECIAL);
        let count = end.saturating_sub(first).min(MOST);
        (first >= FIRST_SHARED && count > 0).then(|| Self {
            doorbell: frame.registers + SET,
            first,
            count,
            used: [const { AtomicU64::new(0) }; (MOST / 64) as usize],
        })
    }

    pub(super) fn allocate(&self) -> Option<(u32, Message)> {
        let index = (0..self.count).find(|&index| {
            let (word, bit) = self.bit(index);
            word.fetch_or(bit, Ordering::Relaxed) & bit == 0
        })?;
        let line = self.first + index;
        let message = Message {
            address: self.doorbell,
            data: line,
        };
        Some((line, message))
    }

    /// Takes a line back; false where it is none of this frame's.
    pub(super) fn free(&self, line: u32) -> bool {
        let index = line.wrapping_sub(self.first);
        let ours = index < self.count;
        if ours {
            let (word, bit) = self.bit(index);
            word.fetch_and(!bit, Ordering::Relaxed);
        }
        ours
    }

    const fn bit(&self, index: u32) -> (&AtomicU64, u64) {
        (&self.used[(index / 64) as usize], 1 << (index % 64))
    }
}
