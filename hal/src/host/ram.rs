//! Simulated physical memory.

#![expect(unsafe_code, reason = "hands out pointers into one leaked allocation")]

use std::sync::OnceLock;

use crate::{addr::PhysAddr, boot_info::PhysRange};

/// Where RAM begins on the simulated bus. Not zero, so that a forgotten translation is noticed.
pub const RAM_START: PhysAddr = PhysAddr(0x4000_0000);

/// Bytes of RAM. Committed by the host only as they are touched.
pub const RAM_BYTES: u64 = 512 << 20;

// Of the direct map: as large as any block that is aligned to its size.
const ALIGNMENT: usize = 64 << 20;

static BASE: OnceLock<usize> = OnceLock::new();

fn base() -> *mut u8 {
    let base = BASE.get_or_init(|| {
        // Zeroed memory of alignment 1 comes straight from the host's lazily committed pages.
        let memory = vec![0u8; RAM_BYTES as usize + ALIGNMENT].leak();
        let start = memory.as_mut_ptr();
        let skip = start.align_offset(ALIGNMENT);
        memory[skip..].as_mut_ptr().expose_provenance()
    });
    std::ptr::with_exposed_provenance_mut(*base)
}

/// The memory that boot code would report as usable: one range, the same for every machine of the process.
pub fn ram() -> &'static [PhysRange] {
    static RANGES: [PhysRange; 1] = [PhysRange {
        start: RAM_START,
        end: PhysAddr(RAM_START.0 + RAM_BYTES),
    }];
    base();
    &RANGES
}

/// Where a physical address stands in the host's memory.
///
/// # Panics
/// If it is not RAM: a real machine would fault as well.
pub(super) fn pointer(address: PhysAddr) -> *mut u8 {
    let offset = address.0.checked_sub(RAM_START.0).filter(|&offset| offset <= RAM_BYTES);
    let Some(offset) = offset else {
        panic!("{address:?} is not RAM")
    };
    // SAFETY: the offset is within the allocation, which is never freed.
    unsafe { base().add(offset as usize) }
}
