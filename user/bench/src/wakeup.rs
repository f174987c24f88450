//! How late a thread wakes that sleeps until a given time, a thousand times a second, as cyclictest does it.
//!
//! The measuring thread is of the ordinary class, like those of the load. It asks for no slack, which Linux would else add on
//! purpose.

use user_sys::{self as sys, libc, syscall};

use crate::{
    calls::{done, why},
    row::{Sample, rows},
};

rows! {
    "idle" ["median", "p99", "p99.9", "max"]: beside(0, |_| 0);
    "spin" ["median", "p99", "p99.9", "max"]: beside(1, spin);
    "forks" ["median", "p99", "p99.9", "max"]: beside(1, fork_for_ever);
    "pipes" ["median", "p99", "p99.9", "max"]: beside(1, talk_for_ever);
    "timers" ["median", "p99", "p99.9", "max"]: beside(4, tick_for_ever);
}

const PERIOD: u64 = 1_000_000;
const WAKES: usize = 2_000;
/// Wakes before those that count.
const BEFORE: usize = 100;

/// Processes that are killed in the end.
struct Load(Vec<i32>);

impl Load {
    /// `each` of them on every CPU, which `body` gets.
    fn start(each: usize, body: fn(usize) -> i32) -> Result<Self, String> {
        let mut load = Self(Vec::new());
        for cpu in sys::cpus() {
            for _ in 0..each {
                let pid = sys::try_fork(|| {
                    // What the load itself starts goes with it.
                    let _alone = syscall!(SYS_setpgid, 0, 0);
                    sys::pin(&[cpu]);
                    body(cpu)
                });
                load.0.push(pid.map_err(why)?);
            }
        }
        Ok(load)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for pid in &self.0 {
            // Its group, if it has come so far as to have one; else itself.
            let _killed = sys::kill(-pid, libc::SIGKILL);
            let _killed = sys::kill(*pid, libc::SIGKILL);
        }
        for pid in &self.0 {
            let _ended = sys::wait(*pid, 0);
        }
    }
}

fn spin(_: usize) -> i32 {
    // Without a hint to the CPU that it spins, which would end its turn in an emulator.
    loop {
        std::hint::black_box(());
    }
}

fn fork_for_ever(_: usize) -> i32 {
    while let Ok(pid) = sys::try_fork(|| 0) {
        if sys::wait(pid, 0).is_err() {
            break;
        }
    }
    1
}

/// A byte between two processes, there and back.
fn talk_for_ever(_: usize) -> i32 {
    let (there, back) = (sys::pipe(0), sys::pipe(0));
    let hand_on = |from: i32, to: i32| while sys::read(from, &mut [0]).is_ok() && sys::write(to, &[1]).is_ok() {};
    if sys::try_fork(|| {
        hand_on(there.0, back.1);
        1
    })
    .is_ok()
        && sys::write(there.1, &[1]).is_ok()
    {
        hand_on(back.0, there.1);
    }
    1
}

/// A timer's interrupt every hundred microseconds or so.
fn tick_for_ever(_: usize) -> i32 {
    no_slack();
    let time = sys::timespec(100_000);
    while syscall!(SYS_clock_nanosleep, libc::CLOCK_MONOTONIC, 0, &raw const time, 0).is_ok() {}
    1
}

/// Asks for exact sleeps, where sleeps are not exact anyway.
fn no_slack() {
    let _unknown = syscall!(SYS_prctl, libc::PR_SET_TIMERSLACK, 1, 0, 0, 0);
}

/// How late wakes are beside a load.
fn beside(each: usize, body: fn(usize) -> i32) -> Result<Vec<Sample>, String> {
    let _load = Load::start(each, body)?;
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
    let shares = [0.5, 0.99, 0.999, 1.0];
    Ok(shares.map(|share| Sample::time(1, quantile(&late, share))).into())
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
