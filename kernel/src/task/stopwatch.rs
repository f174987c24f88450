//! Time that adds up and can be read while it does.
//!
//! A thread that spins in user mode may not come back for seconds, and others ask how much it has used. So one word says
//! both whether the time runs and how much there is: while it runs, the sum less the moment it began to run; the moment of
//! the look added to that is the time. One load sees both or neither.

use core::sync::atomic::{AtomicU64, Ordering};

const RUNS: u64 = 1 << 63;
const TIME: u64 = RUNS - 1;

/// Nanoseconds, up to 292 years. Started and stopped by one party, read by all.
#[derive(Debug)]
pub struct Stopwatch(AtomicU64);

impl Stopwatch {
    /// Nothing yet, not running.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Lets the time run from `now` on.
    pub fn start(&self, now: u64) {
        let sum = self.elapsed(now);
        self.0.store(sum.wrapping_sub(now) & TIME | RUNS, Ordering::Relaxed);
    }

    /// Stops the time at `now`.
    pub fn stop(&self, now: u64) {
        self.0.store(self.elapsed(now), Ordering::Relaxed);
    }

    /// The sum at `now`.
    pub fn elapsed(&self, now: u64) -> u64 {
        match self.0.load(Ordering::Relaxed) {
            running if running & RUNS != 0 => running.wrapping_add(now) & TIME,
            sum => sum,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_up_what_it_ran() {
        let watch = Stopwatch::new();
        watch.start(100);
        assert_eq!(watch.elapsed(150), 50);
        watch.stop(200);
        assert_eq!(watch.elapsed(1000), 100);
        watch.start(1000);
        assert_eq!(watch.elapsed(1000), 100);
        watch.stop(1001);
        assert_eq!(watch.elapsed(5000), 101);
    }
}
