//! A platform from scratch: one CPU, which is the calling thread. Its timer is how long the thread parks, the call of another
//! thread is to unpark it; nothing interrupts it at work.
//!
//! `cargo run -p executor --example own_platform`

use executor::{Class, Executor, Platform, RawSpinLock, SpawnOptions, sleep_until, sync::IrqCell};
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

static EXECUTOR: Executor<OneCpu> = Executor::new();
static START: OnceLock<Instant> = OnceLock::new();
static TIMER: AtomicU64 = AtomicU64::new(u64::MAX);
static THREAD: OnceLock<Thread> = OnceLock::new();

struct OneCpu;

impl Platform for OneCpu {
    type RawLock = RawSpinLock;

    fn executor() -> &'static Executor<Self> {
        &EXECUTOR
    }
    fn cpu() -> u32 {
        let me = THREAD.get().is_some_and(|thread| thread.id() == thread::current().id());
        if me { 0 } else { u32::MAX }
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
    fn send_ipi(_: u32) {
        THREAD.get().inspect(|thread| thread.unpark());
    }
    fn idle(check: impl FnOnce() -> bool) {
        if !check() {
            return;
        }
        // A call that comes between the check and the parking is not lost: it ends the next parking at once.
        match TIMER.load(Relaxed) {
            u64::MAX => thread::park(),
            due => thread::park_timeout(Duration::from_nanos(due.saturating_sub(Self::now()))),
        }
        if TIMER.load(Relaxed) <= Self::now() {
            // The interrupt leaves the timer disarmed.
            TIMER.store(u64::MAX, Relaxed);
            EXECUTOR.timer_interrupt();
        }
    }
}

pub(crate) fn main() {
    THREAD.get_or_init(thread::current);
    let rung = Arc::new(IrqCell::new());
    let bell = rung.clone();
    let task = EXECUTOR.spawn(SpawnOptions::new(Class::Service, "sleeper"), async move {
        sleep_until::<OneCpu>(OneCpu::now() + 2_000_000).await;
        rung.wait().await
    });
    let task = task.expect("a task");
    let ringer = thread::spawn(move || bell.signal());
    loop {
        EXECUTOR.run_until_idle();
        if task.is_finished() {
            break;
        }
        OneCpu::idle(|| EXECUTOR.enter_idle());
        EXECUTOR.exit_idle();
    }
    ringer.join().expect("the other thread ends");
    println!(
        "the task has slept, was called, and ended after {} polls",
        EXECUTOR.task(task.id()).map_or(0, |task| task.polls)
    );
}
