//! Time that adds up and can be read while it does.
//!
//! A CPU may sleep or be in user mode for hours, and others ask how long it has. So one word says both whether the time
//! runs and how much there is: while it runs, the sum less the moment it began to run; the moment of the look added to
//! that is the time. One load sees both or neither.

use core::sync::atomic::{AtomicU64, Ordering};

const RUNS: u64 = 1 << 63;
const TIME: u64 = RUNS - 1;
/// The half of [`TIME`] that stands for less than nothing.
const NEGATIVE: u64 = 1 << 62;

/// Nanoseconds, or the ticks of a counter, whatever those who start, stop and read it mean: up to 2^62 of them, which are 146 years of
/// nanoseconds. Started and stopped by one party, read by all.
#[derive(Debug, Default)]
pub struct Stopwatch(AtomicU64);

impl Stopwatch {
    /// Nothing yet, not running.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Lets the time run from `now` on.
    pub fn start(&self, now: u64) {
        let sum = time_at(self.0.load(Ordering::Relaxed), now);
        self.0.store(sum.wrapping_sub(now) & TIME | RUNS, Ordering::Relaxed);
    }

    /// Stops the time at `now`, if it runs.
    pub fn stop(&self, now: u64) {
        self.0
            .store(time_at(self.0.load(Ordering::Relaxed), now), Ordering::Relaxed);
    }

    /// As [`Stopwatch::start`], of one that does not run: a few instructions.
    #[inline]
    pub fn begin(&self, now: u64) {
        let sum = self.0.load(Ordering::Relaxed);
        debug_assert!(sum & RUNS == 0, "it runs already");
        self.0.store(sum.wrapping_sub(now) & TIME | RUNS, Ordering::Relaxed);
    }

    /// As [`Stopwatch::stop`], of one that runs since an earlier moment of the same CPU's clock: a few instructions.
    #[inline]
    pub fn end(&self, now: u64) {
        let word = self.0.load(Ordering::Relaxed);
        debug_assert!(word & RUNS != 0, "it does not run");
        self.0.store(word.wrapping_add(now) & TIME, Ordering::Relaxed);
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.0.load(Ordering::Acquire) & RUNS != 0
    }

    /// The sum, of one that does not run.
    #[inline]
    pub fn sum(&self) -> u64 {
        let sum = self.0.load(Ordering::Relaxed);
        debug_assert!(sum & RUNS == 0, "it runs");
        sum
    }

    /// As [`Stopwatch::stop`], where an interrupt handler does the same: the first of them counts.
    pub fn stop_once(&self, now: u64) {
        let word = self.0.load(Ordering::Relaxed);
        // Fails only if it was stopped in between.
        let _ = self
            .0
            .compare_exchange(word, time_at(word, now), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The sum at the moment that `clock` gives. It is asked after the watch has been looked at, and if it runs: a time read before
    /// might lie before a start.
    pub fn elapsed(&self, clock: impl FnOnce() -> u64) -> u64 {
        let word = self.0.load(Ordering::Acquire);
        if word & RUNS == 0 { word } else { time_at(word, clock()) }
    }
}

fn time_at(word: u64, now: u64) -> u64 {
    if word & RUNS == 0 {
        return word;
    }
    let time = word.wrapping_add(now) & TIME;
    // The clocks of two CPUs may differ by a little.
    if time & NEGATIVE == 0 { time } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_up_what_it_ran() {
        let watch = Stopwatch::new();
        watch.start(100);
        assert_eq!(watch.elapsed(|| 150), 50);
        assert!(watch.is_running());
        watch.stop(200);
        assert!(!watch.is_running());
        assert_eq!(watch.elapsed(|| 1000), 100);
        watch.start(1000);
        assert_eq!(watch.elapsed(|| 1000), 100);
        watch.stop(1001);
        assert_eq!(watch.elapsed(|| 5000), 101);
    }

    #[test]
    fn the_short_forms_do_the_same() {
        let (watch, short) = (Stopwatch::new(), Stopwatch::new());
        for (start, stop) in [(100, 200), (200, 200), (1 << 40, (1 << 40) + 7)] {
            watch.start(start);
            short.begin(start);
            assert_eq!(watch.elapsed(|| stop), short.elapsed(|| stop));
            watch.stop(stop);
            short.end(stop);
            assert_eq!(watch.elapsed(|| 0), short.sum());
        }
        assert_eq!(short.sum(), 107);
    }

    #[test]
    fn the_first_stop_counts() {
        let watch = Stopwatch::new();
        watch.start(100);
        watch.stop_once(150);
        watch.stop_once(160);
        watch.stop(170);
        assert_eq!(watch.elapsed(|| 1000), 50);
    }

    #[test]
    fn a_clock_that_is_behind_gives_nothing() {
        let watch = Stopwatch::new();
        watch.start(100);
        assert_eq!(watch.elapsed(|| 99), 0);
    }
}
