//! maitake: its static scheduler, ticked until the main task has ended, and its timer, whose clock is a number as ours is.

use super::{Allocating, Named, Spinning, Timers};
use crate::measure::Until;
use ::maitake::{
    scheduler::StaticScheduler,
    time::{Clock, Sleep, Timer},
};
use std::{
    future::Future,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

thread_local!(static SCHEDULER: &'static StaticScheduler = Box::leak(Box::new(StaticScheduler::new())));

fn scheduler() -> &'static StaticScheduler {
    SCHEDULER.with(|scheduler| *scheduler)
}

/// maitake.
pub struct Maitake;

impl Named for Maitake {
    const NAME: &'static str = "maitake";
}

impl Allocating for Maitake {
    fn spawn<F: Future<Output = ()> + Send + 'static>(future: F) {
        drop(scheduler().spawn(future));
    }

    fn spawn_joined<F: Future<Output: Send> + Send + 'static>(future: F) -> impl Future<Output = F::Output> + Send {
        let handle = scheduler().spawn(future);
        async { handle.await.expect("nobody cancels it") }
    }

    fn run<M: Future<Output: Send> + Send + 'static>(main: M) -> M::Output {
        super::run_until_idle::<Self, M>(main, || while scheduler().tick().has_remaining {})
    }
}

impl Spinning for Maitake {
    fn spin<F: Future<Output = ()> + Send + 'static>(_: u32, task: F, mut until: Until) {
        <Self as Allocating>::spawn(task);
        while until.goes_on() {
            scheduler().tick();
        }
    }
}

/// Microseconds: the wheel holds 2^36 ticks, and timers here are up to two hours away.
static NOW: AtomicU64 = AtomicU64::new(0);
static TIMER: Timer = Timer::new(Clock::new(Duration::from_micros(1), || NOW.load(Relaxed)));

impl Timers for Maitake {
    type Sleep = Sleep<'static>;

    fn enter() -> impl Sized {}

    fn now() -> u64 {
        NOW.load(Relaxed) * 1000
    }

    fn sleep_until(at: u64) -> Sleep<'static> {
        TIMER.sleep_ticks((at / 1000).saturating_sub(NOW.load(Relaxed)))
    }

    fn wait_until(at: u64) {
        NOW.fetch_max(at.div_ceil(1000), Relaxed);
    }

    fn fire() {
        TIMER.turn();
    }
}
