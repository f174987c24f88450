//! Ranges of registers.

use crate::{addr::PhysAddr, boot_info::PhysRange};

/// The range, unless it is empty, begins at 0 or runs over the end of the address space.
pub(super) fn range(start: u64, length: u64) -> Option<PhysRange> {
    let end = start.checked_add(length)?;
    (start != 0 && length != 0).then_some(PhysRange {
        start: PhysAddr(start),
        end: PhysAddr(end),
    })
}

pub(super) fn overlap(one: &PhysRange, other: &PhysRange) -> bool {
    one.start < other.end && other.start < one.end
}
