//! Clocks, and what one round came to.

use crate::count;
use rustix::time::{ClockId, clock_gettime};

/// What one round says of one operation.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// The row's unit, nanoseconds mostly, for one operation.
    pub value: f64,
    /// Allocations for one operation.
    pub allocations: f64,
}

/// A running measurement of the calling thread.
pub struct Watch {
    clock: ClockId,
    start: u64,
    allocations: u64,
}

impl Watch {
    /// By the thread's own CPU time: what others run meanwhile does not count.
    pub fn cpu() -> Self {
        Self::new(ClockId::ThreadCPUTime)
    }

    /// By the wall clock, for what several threads do together.
    pub fn wall() -> Self {
        Self::new(ClockId::Monotonic)
    }

    fn new(clock: ClockId) -> Self {
        Self {
            clock,
            allocations: count::allocations(),
            start: read(clock),
        }
    }

    /// Ends it: the figures for one of `operations`.
    pub fn stop(self, operations: u64) -> Sample {
        let spent = read(self.clock) - self.start;
        let allocations = count::allocations() - self.allocations;
        Sample {
            value: spent as f64 / operations as f64,
            allocations: allocations as f64 / operations as f64,
        }
    }
}

fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
