//! Our executor: all that this crate knows of its interface.
//!
//! The platform is the plainest possible. Its clock is a number that the rows set, as cheap to read as the counter of a
//! machine with an invariant one is not: that is fair in so far as no peer reads a clock for a poll. A CPU's number is
//! thread-local, one load as in a kernel. Nothing sleeps, so no interrupt is ever sent, and a spinning CPU does not pause,
//! as the peers' do not.

use super::{Joining, Kind, Named, PLACES, Peer, Spinning, Timers};
use crate::measure::Until;
use executor::{
    Class, DRIVERS_PER_CPU, Executor, JoinHandle, Platform, RawSpinLock, Sleep, SpawnOptions, sleep_until,
    sync::{Mutex, Receiver, Sender, channel},
};
use std::{
    cell::Cell,
    future::Future,
    marker::PhantomData,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// Drivers that a CPU can have.
pub const DRIVERS: usize = DRIVERS_PER_CPU as usize;

static EXECUTOR: Executor<Bench> = Executor::new();
static NOW: AtomicU64 = AtomicU64::new(0);

thread_local!(static CPU: Cell<u32> = const { Cell::new(u32::MAX) });

/// The platform.
pub struct Bench;

impl Platform for Bench {
    type RawLock = RawSpinLock;

    const SPIN: u32 = 1024;

    fn executor() -> &'static Executor<Self> {
        &EXECUTOR
    }

    fn cpu() -> u32 {
        CPU.get()
    }

    fn in_interrupt() -> bool {
        false
    }

    fn now() -> u64 {
        NOW.load(Relaxed)
    }

    fn arm_timer(_: Option<u64>) {}

    fn send_ipi(_: u32) {}

    fn relax() {}

    #[inline]
    fn prefetch<T>(at: &T) {
        hal::prefetch(at);
    }

    fn idle(check: impl FnOnce() -> bool) {
        check();
    }
}

/// For how many tasks, up to `wanted`, there is room besides a main task.
pub fn room(wanted: usize) -> usize {
    CPU.set(0);
    let spawned = (0..=wanted).map_while(|_| EXECUTOR.spawn(options(Kind::Service), async {}).ok());
    let count = spawned.map(JoinHandle::detach).count();
    EXECUTOR.run_until_idle();
    count.saturating_sub(1)
}

fn options(kind: Kind) -> SpawnOptions {
    let class = match kind {
        Kind::Driver => Class::Driver,
        Kind::Service => Class::Service,
    };
    SpawnOptions::new(class, "bench")
}

/// Our executor.
pub struct Ours;

/// The class, as the future's type is no matter.
pub struct Pool<F> {
    kind: Kind,
    future: PhantomData<fn() -> F>,
}

impl<F> Pool<F> {
    fn leaked(kind: Kind) -> &'static Self {
        Box::leak(Box::new(Self {
            kind,
            future: PhantomData,
        }))
    }
}

impl Named for Ours {
    const NAME: &'static str = "ours";
}

impl Peer for Ours {
    type Pool<F: Future<Output = ()> + Send + 'static> = Pool<F>;

    fn pool<F: Future<Output = ()> + Send + 'static>(kind: Kind, _: usize) -> &'static Pool<F> {
        Pool::leaked(kind)
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(pool: &'static Pool<F>, future: F) {
        if let Err(error) = EXECUTOR.spawn_detached(options(pool.kind), future) {
            panic!("{error}");
        }
    }

    fn be_cpu(cpu: u32) {
        CPU.set(cpu);
    }

    fn run<M: Future<Output: Send> + Send + 'static>(kind: Kind, main: M) -> M::Output {
        if CPU.get() == u32::MAX {
            CPU.set(0);
        }
        let (slot, main) = super::into_slot(main);
        match EXECUTOR.spawn(options(kind), main) {
            Ok(handle) => handle.detach(),
            Err(error) => panic!("{error}"),
        }
        EXECUTOR.run_until_idle();
        super::take(&slot).expect("idle before the main task has ended")
    }
}

impl Joining for Ours {
    type JoinPool<F: Future<Output: Send> + Send + 'static> = Pool<F>;

    fn join_pool<F: Future<Output: Send> + Send + 'static>() -> &'static Pool<F> {
        Pool::leaked(Kind::Service)
    }

    fn spawn_joined<F: Future<Output: Send> + Send + 'static>(
        pool: &'static Pool<F>,
        future: F,
    ) -> impl Future<Output = F::Output> + Send {
        let handle = EXECUTOR
            .spawn(options(pool.kind), future)
            .expect("a task's slot is free");
        async { handle.await.expect("nobody aborts it") }
    }
}

impl Spinning for Ours {
    fn spin<F: Future<Output = ()> + Send + 'static>(cpu: u32, task: F, mut until: Until) {
        CPU.set(cpu);
        EXECUTOR
            .spawn(options(Kind::Driver), task)
            .expect("a driver's slot is free")
            .detach();
        while until.goes_on() {
            EXECUTOR.run_until_idle();
        }
        // What the last poll left behind, if anything.
        EXECUTOR.run_until_idle();
    }
}

channel!(
    Ours,
    Sender<RawSpinLock, u64>,
    Receiver<RawSpinLock, u64>,
    channel(PLACES).expect("there is memory"),
    receive
);

lock!(Ours, Mutex<RawSpinLock, u64>);

impl Timers for Ours {
    const POOLED: usize = executor::TIMER_ENTRY_BYTES;

    type Sleep = Sleep<Bench>;

    fn enter() -> impl Sized {
        CPU.set(0);
    }

    fn now() -> u64 {
        Bench::now()
    }

    fn sleep_until(at: u64) -> Sleep<Bench> {
        sleep_until(at)
    }

    fn wait_until(at: u64) {
        NOW.fetch_max(at, Relaxed);
    }

    fn fire() {
        EXECUTOR.timer_interrupt();
        EXECUTOR.turn();
    }
}
