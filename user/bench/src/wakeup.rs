//! How late a thread wakes that sleeps until a given time, a thousand times a second, as cyclictest does it.
//!
//! The measuring thread is of the ordinary class, like those of the load. It asks for no slack, which Linux would else add on
//! purpose.

use user_sys::{self as sys, libc, syscall};

use crate::{
    calls::done,
    flood,
    load::{Load, fork_for_ever, no_slack, schedule, spin, talk_for_ever, tick_for_ever},
    row::{Sample, rows},
};

rows! {
    "idle" ["median", "p99", "p99.9", "max"]: beside(0, |_| 0);
    "spin" ["median", "p99", "p99.9", "max"]: beside(1, spin);
    "forks" ["median", "p99", "p99.9", "max"]: beside(1, fork_for_ever);
    "pipes" ["median", "p99", "p99.9", "max"]: beside(1, talk_for_ever);
    "timers" ["median", "p99", "p99.9", "max"]: beside(4, tick_for_ever);
    "spin-batch" ["median", "p99", "p99.9", "max"]: beside_class(libc::SCHED_BATCH);
    "spin-idle" ["median", "p99", "p99.9", "max"]: beside_class(libc::SCHED_IDLE);
    "spin-fifo" ["median", "p99", "p99.9", "max"]: beside_real_time();
    "interrupts" ["median", "p99", "p99.9", "max", "bytes", "interrupts"]: flood::beside();
}

const PERIOD: u64 = 1_000_000;
const WAKES: usize = 2_000;
/// Wakes before those that count.
const BEFORE: usize = 100;

/// How late wakes are beside a load.
fn beside(each: usize, body: fn(usize) -> i32) -> Result<Vec<Sample>, String> {
    let _load = Load::start(each, body)?;
    Ok(quantiles(&wakes()?))
}

/// The same beside a process of each CPU that spins in another class.
fn beside_class(policy: i32) -> Result<Vec<Sample>, String> {
    let load = Load::start(1, spin)?;
    load.schedule(policy, 0)?;
    Ok(quantiles(&wakes()?))
}

/// The same, of a real-time thread, beside spinning ones of the least real-time priority: an ordinary one would not run at all.
fn beside_real_time() -> Result<Vec<Sample>, String> {
    // Which an ordinary thread starts: it inherits the class, and among equals of this one nobody would come back to the CPU.
    let load = Load::start(1, spin)?;
    schedule(0, libc::SCHED_FIFO, 2)?;
    let _back = Ordinary;
    load.schedule(libc::SCHED_FIFO, 1)?;
    Ok(quantiles(&wakes()?))
}

/// Makes this thread an ordinary one again.
struct Ordinary;

impl Drop for Ordinary {
    fn drop(&mut self) {
        // Fails for nobody.
        let _done = schedule(0, libc::SCHED_OTHER, 0);
    }
}

/// By how much each of many wakes was late, ascending.
pub fn wakes() -> Result<Vec<u64>, String> {
    no_slack();
    let mut late = vec![0; WAKES];
    let mut next = sys::now() + 20 * PERIOD;
    for wake in 0..BEFORE + WAKES {
        let time = sys::timespec(next);
        done(syscall!(
            SYS_clock_nanosleep,
            libc::CLOCK_MONOTONIC,
            libc::TIMER_ABSTIME,
            &raw const time,
            0
        ))?;
        let now = sys::now();
        if wake >= BEFORE {
            late[wake - BEFORE] = now - next;
        }
        next += PERIOD;
        // Whoever was late for the next one too leaves it out.
        while next <= now {
            next += PERIOD;
        }
    }
    late.sort_unstable();
    Ok(late)
}

/// The four figures that stand for all of them.
pub fn quantiles(late: &[u64]) -> Vec<Sample> {
    let shares = [0.5, 0.99, 0.999, 1.0];
    shares.map(|share| Sample::time(1, quantile(late, share))).into()
}

/// The least figure that `share` of the sorted figures, of which there are some, do not exceed.
fn quantile(sorted: &[u64], share: f64) -> u64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_figures_that_occurred() {
        let figures: Vec<u64> = (1..=1000).collect();
        assert_eq!(
            [0.5, 0.99, 0.999, 1.0].map(|share| quantile(&figures, share)),
            [500, 990, 999, 1000]
        );
        assert_eq!(quantile(&[7], 0.5), 7);
    }
}
