//! A machine of one CPU that does what it is told; each thread of the tests has its own.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, Waker},
};

use executor::{Class, Executor, Platform, RawSpinLock, SpawnOptions};
use futures_util::task::AtomicWaker;

thread_local! {
    static EXECUTOR: &'static Executor<ByHand> = Box::leak(Box::default());
    static CLOCK: Cell<u64> = const { Cell::new(0) };
    static TIMER: Cell<Option<u64>> = const { Cell::new(None) };
}

/// The machine.
pub struct ByHand;

impl Platform for ByHand {
    type RawLock = RawSpinLock;

    fn executor() -> &'static Executor<Self> {
        EXECUTOR.with(|executor| *executor)
    }
    fn cpu() -> u32 {
        0
    }
    fn in_interrupt() -> bool {
        false
    }
    fn now() -> u64 {
        CLOCK.get()
    }
    fn arm_timer(deadline: Option<u64>) {
        TIMER.set(deadline);
    }
    fn send_ipi(_: u32) {}
    fn idle(_: impl FnOnce() -> bool) {}
}

/// Lets time pass, and the timer interrupt.
pub fn pass(nanoseconds: u64) {
    CLOCK.set(CLOCK.get() + nanoseconds);
    while TIMER.get().is_some_and(|deadline| deadline <= CLOCK.get()) {
        TIMER.set(None);
        ByHand::executor().timer_interrupt();
        ByHand::executor().run_until_idle();
    }
}

pub fn options() -> SpawnOptions {
    SpawnOptions::new(Class::Service, "by hand")
}

/// A task that does nothing but to pass its wakes on.
#[derive(Default)]
struct Relay {
    task: OnceLock<Waker>,
    to: AtomicWaker,
}

/// Two tasks of the executor, whose wakers futures get that are polled by hand.
pub struct Relays([Arc<Relay>; 2]);

impl Relays {
    pub fn new() -> Self {
        let relays: [Arc<Relay>; 2] = Default::default();
        for relay in relays.clone() {
            let task = poll_fn(move |context| {
                relay.task.get_or_init(|| context.waker().clone());
                relay.to.wake();
                Poll::<()>::Pending
            });
            ByHand::executor().spawn_detached(options(), task).expect("a task");
        }
        ByHand::executor().run_until_idle();
        Self(relays)
    }

    /// `future`, polled with the waker of the one, twice, then of the other, and so on: whatever it makes of the same
    /// and of another one is tried. One future at a time: a task passes wakes on to the last.
    pub async fn through<F: Future>(&self, future: F) -> F::Output {
        let (mut future, mut polls) = (pin!(future), 0);
        poll_fn(|context| {
            let relay = &self.0[polls / 2 % 2];
            polls += 1;
            relay.to.register(context.waker());
            let waker = relay.task.get().expect("it was polled");
            future.as_mut().poll(&mut Context::from_waker(waker))
        })
        .await
    }
}
