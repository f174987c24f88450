//! The page of clocks.

use core::{
    hint,
    sync::atomic::{
        AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
        fence,
    },
};

/// Words of the page that are in use.
pub const WORDS: usize = 4;

const SEQUENCE: usize = 0;
const ORIGIN: usize = 1;
const FACTOR: usize = 2;
const WALL: usize = 3;

/// Binary digits behind the point of a counter's [factor](Counter::factor). A constant, since a shift by a number that is not known
/// costs ten instructions on 128 bits.
pub const SHIFT: u32 = if cfg!(target_arch = "aarch64") { 54 } else { 32 };

/// A counter that programs can read, and how it becomes nanoseconds since boot: `(count - origin) * factor >> SHIFT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    /// What it showed at boot.
    pub origin: u64,
    /// Nanoseconds for a count, as a fixed-point number with [`SHIFT`] binary digits behind the point; not 0.
    pub factor: u64,
}

impl Counter {
    /// Nanoseconds since boot when the counter shows `count`; 0 before.
    #[inline]
    #[must_use]
    pub const fn nanoseconds(&self, count: u64) -> u64 {
        ((count.saturating_sub(self.origin) as u128 * self.factor as u128) >> SHIFT) as u64
    }
}

/// The words that the kernel writes and programs read, under a sequence number that is odd while they are written.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a>(&'a [AtomicU64; WORDS]);

impl<'a> Page<'a> {
    /// The page that begins with these words; all zeroes have no clock.
    #[inline]
    #[must_use]
    pub const fn new(words: &'a [AtomicU64; WORDS]) -> Self {
        Self(words)
    }

    /// Says how clocks are read from here on: `wall` is the wall clock at boot, in nanoseconds since 1970. Without a `counter`
    /// programs make calls. By one writer at a time.
    pub fn publish(&self, counter: Option<Counter>, wall: i64) {
        let Self(words) = self;
        let sequence = words[SEQUENCE].load(Relaxed);
        words[SEQUENCE].store(sequence.wrapping_add(1), Relaxed);
        fence(Release);
        let Counter { origin, factor } = counter.unwrap_or(Counter { origin: 0, factor: 0 });
        words[ORIGIN].store(origin, Relaxed);
        words[FACTOR].store(factor, Relaxed);
        words[WALL].store(wall.cast_unsigned(), Relaxed);
        words[SEQUENCE].store(sequence.wrapping_add(2), Release);
    }

    /// Nanoseconds since boot, by a counter that `count` reads; `None` if programs have none.
    #[inline]
    pub fn monotonic(&self, count: impl FnMut() -> u64) -> Option<u64> {
        let (monotonic, ()) = self.read(count, |_| ())?;
        Some(monotonic)
    }

    /// Nanoseconds since 1970, as [`Page::monotonic`].
    #[inline]
    pub fn realtime(&self, count: impl FnMut() -> u64) -> Option<u64> {
        let (monotonic, wall) = self.read(count, |words| words[WALL].load(Relaxed).cast_signed())?;
        Some(wall.saturating_add_unsigned(monotonic).max(0).cast_unsigned())
    }

    /// Nanoseconds since boot, and what `others` says of the words at the same moment.
    #[inline]
    fn read<T>(&self, mut count: impl FnMut() -> u64, others: impl Fn(&[AtomicU64; WORDS]) -> T) -> Option<(u64, T)> {
        let Self(words) = self;
        loop {
            let sequence = words[SEQUENCE].load(Acquire);
            let counter = Counter {
                origin: words[ORIGIN].load(Relaxed),
                factor: words[FACTOR].load(Relaxed),
            };
            let others = others(words);
            let now = count();
            fence(Acquire);
            // The kernel writes with interrupts masked, a few words: nobody is waited for but that CPU, and not asleep.
            if sequence & 1 != 0 || words[SEQUENCE].load(Relaxed) != sequence {
                hint::spin_loop();
                continue;
            }
            return (counter.factor != 0).then(|| (counter.nanoseconds(now), others));
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{
        sync::atomic::{AtomicBool, Ordering::SeqCst},
        thread,
    };

    use super::*;

    const TEN_MEGAHERTZ: Counter = Counter {
        origin: 500,
        factor: 100 << SHIFT,
    };

    fn words() -> [AtomicU64; WORDS] {
        [const { AtomicU64::new(0) }; WORDS]
    }

    #[test]
    fn counts_become_time() {
        let words = words();
        let page = Page::new(&words);
        let read = |count| Some((page.monotonic(|| count)?, page.realtime(|| count)?));
        assert_eq!(read(7), None, "a page of zeroes has no clock");
        page.publish(Some(TEN_MEGAHERTZ), 1_000_000);
        assert_eq!(read(503), Some((300, 1_000_300)));
        assert_eq!(read(499), Some((0, 1_000_000)), "a CPU whose counter is behind");
        page.publish(Some(TEN_MEGAHERTZ), -200);
        assert_eq!(read(501), Some((100, 0)), "before 1970");
        assert_eq!(read(504), Some((400, 200)));
        page.publish(None, 5);
        assert_eq!(read(504), None);
    }

    #[test]
    fn a_century_does_not_overflow() {
        // The counter of a 1 GHz machine.
        let counter = Counter {
            origin: 0,
            factor: 1 << SHIFT,
        };
        let century = 100 * 366 * 86_400 * 1_000_000_000;
        assert_eq!(counter.nanoseconds(century), century);
    }

    #[test]
    fn a_reader_never_sees_half_of_a_change() {
        let words = words();
        let stop = AtomicBool::new(false);
        let change = |number: u32| {
            let counter = Counter {
                origin: u64::from(number),
                factor: u64::from(number) << SHIFT,
            };
            Page::new(&words).publish(Some(counter), i64::from(number));
        };
        change(1);
        thread::scope(|scope| {
            scope.spawn(|| {
                for number in (1..=200).cycle() {
                    change(number);
                    if stop.load(SeqCst) {
                        break;
                    }
                }
            });
            for _ in 0..100_000 {
                let mut origin = 0;
                let count = || {
                    origin = words[ORIGIN].load(Relaxed);
                    origin + 1
                };
                // One count is as many nanoseconds as the number says, which is the wall clock as well.
                let seen = Page::new(&words).read(count, |words| words[WALL].load(Relaxed));
                if let Some((monotonic, wall)) = seen
                    && monotonic != 0
                {
                    assert!(monotonic.is_multiple_of(wall), "{seen:?}, {origin}");
                }
            }
            stop.store(true, SeqCst);
        });
    }
}
