//! A platform from scratch: one CPU, which is the calling thread, and no interrupts.
//!
//! `cargo run -p executor --example own_platform`

use executor::{Class, Executor, Platform, RawSpinLock, SpawnOptions, sleep_until};
use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

static EXECUTOR: Executor<OneCpu> = Executor::new();
static START: OnceLock<Instant> = OnceLock::new();
static TIMER: AtomicU64 = AtomicU64::new(u64::MAX);

struct OneCpu;

impl Platform for OneCpu {
    type RawLock = RawSpinLock;

    fn executor() -> &'static Executor<Self> {
        &EXECUTOR
    }
    fn cpu() -> u32 {
        0
    }
    fn in_interrupt() -> bool {
        false
    }
    fn now() -> u64 {
        START.get_or_init(Instant::now).elapsed().as_nanos() as u64
    }
    fn arm_timer(deadline: Option<u64>) {
        TIMER.store(deadline.unwrap_or(u64::MAX), Relaxed);
    }
    fn send_ipi(_: u32) {}
    fn idle(check: impl FnOnce() -> bool) {
        if check() && TIMER.load(Relaxed) != u64::MAX {
            thread::sleep(Duration::from_nanos(TIMER.load(Relaxed).saturating_sub(Self::now())));
            // The interrupt leaves the timer disarmed.
            TIMER.store(u64::MAX, Relaxed);
            EXECUTOR.timer_interrupt();
        }
    }
}

pub(crate) fn main() {
    let task = EXECUTOR.spawn(SpawnOptions::new(Class::Service, "sleeper"), async {
        let due = OneCpu::now() + 2_000_000;
        sleep_until::<OneCpu>(due).await;
        OneCpu::now() - due
    });
    let task = task.expect("a task");
    while !task.is_finished() {
        EXECUTOR.run_until_idle();
        OneCpu::idle(|| EXECUTOR.enter_idle());
        EXECUTOR.exit_idle();
    }
    println!(
        "the task has slept, and ended after {} polls",
        EXECUTOR.task(task.id()).map_or(0, |task| task.polls)
    );
}
