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
pub const WORDS: usize = 5;

const SEQUENCE: usize = 0;
const SHIFT: usize = 1;
const ORIGIN: usize = 2;
const FACTOR: usize = 3;
const WALL: usize = 4;

/// A counter that programs can read, and how it becomes nanoseconds since boot: `(count - origin) * factor >> shift`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    /// What it showed at boot.
    pub origin: u64,
    /// Nanoseconds for a count, as a fixed-point number.
    pub factor: u64,
    /// Binary digits of that behind the point: 1 to 127.
    pub shift: u32,
}

impl Counter {
    /// Nanoseconds since boot when the counter shows `count`; 0 before.
    #[inline]
    #[must_use]
    pub const fn nanoseconds(&self, count: u64) -> u64 {
        ((count.saturating_sub(self.origin) as u128 * self.factor as u128) >> (self.shift & 127)) as u64
    }
}

/// What both clocks show at one moment, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Since boot.
    pub monotonic: u64,
    /// Since 1970.
    pub realtime: u64,
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
        let Counter { origin, factor, shift } = counter.unwrap_or(Counter {
            origin: 0,
            factor: 0,
            shift: 0,
        });
        words[SHIFT].store(shift.into(), Relaxed);
        words[ORIGIN].store(origin, Relaxed);
        words[FACTOR].store(factor, Relaxed);
        words[WALL].store(wall.cast_unsigned(), Relaxed);
        words[SEQUENCE].store(sequence.wrapping_add(2), Release);
    }

    /// The moment, by a counter that `count` reads; `None` if programs have none.
    #[inline]
    pub fn read(&self, mut count: impl FnMut() -> u64) -> Option<Moment> {
        let Self(words) = self;
        loop {
            let sequence = words[SEQUENCE].load(Acquire);
            let counter = Counter {
                origin: words[ORIGIN].load(Relaxed),
                factor: words[FACTOR].load(Relaxed),
                shift: words[SHIFT].load(Relaxed) as u32,
            };
            let wall = words[WALL].load(Relaxed).cast_signed();
            let now = count();
            fence(Acquire);
            // The kernel writes with interrupts masked, a few words: nobody is waited for but that CPU, and not asleep.
            if sequence & 1 != 0 || words[SEQUENCE].load(Relaxed) != sequence {
                hint::spin_loop();
                continue;
            }
            if counter.shift == 0 {
                return None;
            }
            let monotonic = counter.nanoseconds(now);
            return Some(Moment {
                monotonic,
                realtime: wall.saturating_add_unsigned(monotonic).max(0).cast_unsigned(),
            });
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

    const MEGAHERTZ: Counter = Counter {
        origin: 500,
        factor: 1000 << 32,
        shift: 32,
    };

    fn words() -> [AtomicU64; WORDS] {
        [const { AtomicU64::new(0) }; WORDS]
    }

    #[test]
    fn counts_become_time() {
        let words = words();
        let page = Page::new(&words);
        assert_eq!(page.read(|| 7), None, "a page of zeroes has no clock");
        page.publish(Some(MEGAHERTZ), 1_000_000);
        let moment = |monotonic, realtime| Some(Moment { monotonic, realtime });
        assert_eq!(page.read(|| 503), moment(3000, 1_003_000));
        assert_eq!(page.read(|| 499), moment(0, 1_000_000), "a CPU whose counter is behind");
        page.publish(Some(MEGAHERTZ), -2_000);
        assert_eq!(page.read(|| 501), moment(1000, 0), "before 1970");
        assert_eq!(page.read(|| 504), moment(4000, 2000));
        page.publish(None, 5);
        assert_eq!(page.read(|| 504), None);
    }

    #[test]
    fn a_century_does_not_overflow() {
        // 2^54 is aarch64's fixed point; the counter of a 1 GHz machine.
        let counter = Counter {
            origin: 0,
            factor: 1 << 54,
            shift: 54,
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
                factor: u64::from(number) << 32,
                shift: 32,
            };
            Page::new(&words).publish(Some(counter), i64::from(number));
        };
        change(1);
        thread::scope(|scope| {
            scope.spawn(|| {
                for number in (1..=1000).cycle() {
                    change(number);
                    if stop.load(SeqCst) {
                        break;
                    }
                }
            });
            for _ in 0..100_000 {
                let mut origin = 0;
                let seen = Page::new(&words).read(|| {
                    origin = words[ORIGIN].load(Relaxed);
                    origin + 1
                });
                // One count is as many nanoseconds as the number says, which is the wall clock as well.
                if let Some(Moment { monotonic, realtime }) = seen
                    && monotonic != 0
                {
                    assert!(monotonic.is_multiple_of(realtime - monotonic), "{seen:?}, {origin}");
                }
            }
            stop.store(true, SeqCst);
        });
    }
}
