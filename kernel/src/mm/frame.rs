//! Physical frames.

use hal::addr::PhysAddr;

/// One reference to a 4 KiB frame of RAM. Cloning counts up and never fails; the frame goes back to the allocator with its
/// last reference.
#[derive(Debug)]
pub struct Frame(PhysAddr);

impl Frame {
    /// The frame's address.
    pub const fn address(&self) -> PhysAddr {
        self.0
    }
}
