//! Load averages, by Linux's formula and without its tick.
//!
//! Every [`PERIOD`] each average moves towards the number of tasks that are runnable then: by `1 - factor` of the way
//! (`kernel/sched/loadavg.c`). The formula is linear, so each CPU keeps averages of its own tasks and the machine's are
//! their sums. Nor does anything have to happen at a period's end. A CPU notes how many tasks it has when it goes away, to
//! sleep or to user mode, and first catches up on the periods that have passed since it noted last, with the number noted
//! then. What is queued for a CPU that is away brings it back; a thief notes what it leaves. Whoever asks catches up for all.

/// Nanoseconds between two looks: `LOAD_FREQ`, 501 ticks of 10 ms. Not quite 5 s, so that what happens every 5 s is not
/// always, or never, seen.
pub const PERIOD: u64 = 5_010_000_000;

/// Fractional bits of what [`Executor::load_averages`](crate::Executor::load_averages) returns.
pub const LOAD_SHIFT: u32 = 16;

/// Fractional bits in here, so that the sum of many small averages is no sum of errors.
const SHIFT: u32 = 32;

/// What stays of an average over a period, for 1, 5 and 15 minutes: `EXP_1`, `EXP_5`, `EXP_15` of
/// `include/linux/sched/loadavg.h`, which have 11 fractional bits.
const FACTORS: [u64; 3] = [1884 << (SHIFT - 11), 2014 << (SHIFT - 11), 2037 << (SHIFT - 11)];

/// The averages of one CPU.
#[derive(Debug)]
pub struct Load {
    /// Periods that have been taken into account.
    periods: u64,
    averages: [u64; 3],
}

impl Load {
    pub const fn new() -> Self {
        Self {
            periods: 0,
            averages: [0; 3],
        }
    }

    /// Catches up to the time `now`; `active` tasks were runnable at the end of each period since the last call.
    pub fn advance(&mut self, now: u64, active: u32) {
        let periods = now / PERIOD;
        let passed = periods.saturating_sub(self.periods);
        if passed == 0 {
            return;
        }
        self.periods = periods;
        let active = u64::from(active) << SHIFT;
        for (average, factor) in self.averages.iter_mut().zip(FACTORS) {
            let stays = power(factor, passed);
            *average = times(*average, stays) + times(active, (1 << SHIFT) - stays);
        }
    }

    /// The averages, with [`LOAD_SHIFT`] fractional bits.
    pub fn averages(&self) -> [u64; 3] {
        self.averages
            .map(|average| (average + (1 << (SHIFT - LOAD_SHIFT - 1))) >> (SHIFT - LOAD_SHIFT))
    }
}

fn times(a: u64, b: u64) -> u64 {
    ((u128::from(a) * u128::from(b)) >> SHIFT) as u64
}

/// `factor` to the power of `exponent`.
fn power(mut factor: u64, mut exponent: u64) -> u64 {
    let mut result = 1 << SHIFT;
    while exponent > 0 && result > 0 {
        if exponent & 1 == 1 {
            result = times(result, factor);
        }
        factor = times(factor, factor);
        exponent >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `calc_load` of Linux, on 11 fractional bits.
    fn linux(load: u64, factor: u64, active: u64) -> u64 {
        let active = active * 2048;
        let mut new = load * factor + active * (2048 - factor);
        if active >= load {
            new += 2047;
        }
        new / 2048
    }

    #[test]
    fn each_period_is_linux_s() {
        let mut load = Load::new();
        let mut expected = [0; 3];
        for period in 1..=1000 {
            let active = (period / 50 % 4) as u32;
            load.advance(period * PERIOD, active);
            for ((expected, factor), is) in expected.iter_mut().zip([1884, 2014, 2037]).zip(load.averages()) {
                *expected = linux(*expected, factor, active.into());
                // Linux's own error, by its rounding: up to 1 / (1 - factor) units.
                let error = (*expected << 5).abs_diff(is);
                assert!(
                    error <= (2048 / (2048 - factor)) << 5,
                    "period {period}: {expected} and {is}"
                );
            }
        }
    }

    #[test]
    fn many_periods_at_once_are_as_many_single_ones() {
        let (mut single, mut at_once) = (Load::new(), Load::new());
        for period in 1..=100 {
            single.advance(period * PERIOD, 3);
        }
        at_once.advance(100 * PERIOD + 1, 3);
        for (single, at_once) in single.averages().into_iter().zip(at_once.averages()) {
            assert!(single.abs_diff(at_once) <= 1);
        }
    }

    #[test]
    fn a_year_of_sleep_leaves_nothing() {
        let mut load = Load::new();
        load.advance(1000 * PERIOD, 50);
        assert_eq!(load.averages()[0] >> LOAD_SHIFT, 50);
        load.advance(6_000_000 * PERIOD, 0);
        assert_eq!(load.averages(), [0; 3]);
        load.advance(u64::MAX, u32::MAX);
    }

    #[test]
    fn within_a_period_nothing_changes() {
        let mut load = Load::new();
        load.advance(PERIOD - 1, 100);
        assert_eq!(load.averages(), [0; 3]);
        load.advance(PERIOD, 1);
        load.advance(PERIOD + 5, 100);
        assert_eq!(load.averages(), [164 << 5, 34 << 5, 11 << 5]);
    }
}
