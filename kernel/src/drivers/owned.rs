//! A disk's hardware together with the right to drive it.

use crate::{
    block::{Command, Hardware, Reset},
    errno::Result,
};

/// Hardware, and what its driver holds of the bus. The latter goes first: from then on the device writes to no memory, and what
/// of it the hardware has may go.
pub struct Owned<D, H> {
    /// What the driver holds of the bus.
    pub device: D,
    /// The hardware.
    pub hardware: H,
}

impl<D: Send, H: Hardware> Hardware for Owned<D, H> {
    fn depth(&self) -> u16 {
        self.hardware.depth()
    }

    fn start(&mut self, tag: u16, command: &Command<'_>) {
        self.hardware.start(tag, command);
    }

    fn ring(&mut self) {
        self.hardware.ring();
    }

    fn sources(&self) -> usize {
        self.hardware.sources()
    }

    fn reap(&mut self, source: usize) -> Option<(u16, Result<()>)> {
        self.hardware.reap(source)
    }

    fn stalled(&self) -> bool {
        self.hardware.stalled()
    }

    fn flushes_alone(&self) -> bool {
        self.hardware.flushes_alone()
    }

    fn reset(&mut self, now: u64) -> Reset {
        self.hardware.reset(now)
    }
}
