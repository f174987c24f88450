//! A machine that replays: virtual CPUs, a virtual clock, and interrupts wherever the seed says. For tests of the executor and
//! of what is built on it.
//!
//! Each CPU is a host thread, but only the one that holds the baton runs. It passes the baton on wherever the executor reads
//! the clock, sleeps, is in user mode, or is about to show others something half done; a generator seeded by the test picks who
//! is next, how much time has passed, and when devices interrupt. So the seed decides the run, and repeats it. If every CPU is
//! idle or in user mode and nothing is pending, time jumps to the next armed timer; if there is none, the machine has come to
//! rest, which ends the run (a lost wake shows as a run that ended without its result).
//!
//! ```
//! use executor::{Class, SpawnOptions, simulation::{self, Machine}, sync::IrqCell};
//! use std::sync::Arc;
//!
//! simulation::seeds(0..20, |seed| {
//!     let line = Arc::new(IrqCell::new());
//!     let (device, driver) = (line.clone(), line.clone());
//!     let served = Machine::new(seed, 2, 1_000_000)
//!         .device(10, move || device.signal())
//!         .run(
//!             || {
//!                 let serve = async move {
//!                     while driver.wait().await != 0 {}
//!                 };
//!                 let options = SpawnOptions::new(Class::Driver, "driver");
//!                 simulation::executor().spawn_detached(options, serve).unwrap();
//!             },
//!             || simulation::executor().tasks().map(|task| task.polls).sum::<u64>(),
//!         );
//!     assert!(served > 1);
//! });
//! ```
//!
//! A panic on any CPU, in a task or a handler, ends the run and is the caller's, with the seed in its message. When a run ends
//! each CPU still comes to the end of its turn, in the seed's order. A task that loops for what another CPU is to do has to call
//! [`Platform::relax`], or nobody else runs.

extern crate std;

use std::{
    any::Any,
    boxed::Box,
    cell::RefCell,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    string::String,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    vec::Vec,
};

use crate::{Executor, Platform, Preempted, RawSpinLock, yield_now};

/// The environment variable that holds the one seed which [`seeds`] is to run.
pub const SEED: &str = "EXECUTOR_SEED";

/// The simulated machine, as the executor sees it: the one that the calling CPU belongs to.
#[derive(Debug)]
pub struct Sim;

std::thread_local!(static ME: RefCell<Option<(Arc<World>, usize)>> = const { RefCell::new(None) });

fn me() -> (Arc<World>, usize) {
    ME.with(|me| me.borrow().clone().expect("a simulated CPU"))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Kernel,
    Idle,
    User,
}

struct Cpu {
    mode: Mode,
    masked: bool,
    timer: Option<u64>,
    timer_pending: bool,
    ipi: bool,
    device: bool,
    /// Within an interrupt handler.
    in_interrupt: bool,
    /// Its thread has ended.
    done: bool,
}

struct Inner {
    random: u64,
    now: u64,
    until: u64,
    active: usize,
    stopped: bool,
    /// What the first CPU that panicked said.
    panic: Option<String>,
    cpus: Vec<Cpu>,
    /// One in this many baton passes a device interrupts; 0 is never.
    device_rate: u64,
}

struct World {
    executor: &'static Executor<Sim>,
    inner: Mutex<Inner>,
    batons: Vec<Condvar>,
    device: Box<dyn Fn() + Send + Sync>,
}

impl Inner {
    fn random(&mut self, below: u64) -> u64 {
        // xorshift64*
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % below.max(1)
    }

    fn pending(cpu: &Cpu) -> bool {
        cpu.timer_pending || cpu.ipi || cpu.device
    }

    /// One of those that have not come to their end, if there is one, whatever it waits for: the run is over.
    fn choose_of_rest(&mut self) -> Option<usize> {
        let rest: Vec<usize> = (0..self.cpus.len()).filter(|&n| !self.cpus[n].done).collect();
        (!rest.is_empty()).then(|| rest[self.random(rest.len() as u64) as usize])
    }

    /// Who runs after CPU `own`; time jumps if nobody can.
    fn choose(&mut self, own: usize) -> usize {
        loop {
            self.stopped |= self.now >= self.until;
            if self.stopped {
                // CPU 0 looks at what the others have left, alone.
                return self.choose_of_rest().unwrap_or(own);
            }
            for cpu in &mut self.cpus {
                if cpu.timer.is_some_and(|deadline| deadline <= self.now) {
                    cpu.timer = None;
                    cpu.timer_pending = true;
                }
            }
            if self.device_rate != 0 && self.random(self.device_rate) == 0 {
                let cpu = self.random(self.cpus.len() as u64) as usize;
                self.cpus[cpu].device = true;
            }
            let runnable: Vec<usize> = (0..self.cpus.len())
                .filter(|&n| self.cpus[n].mode == Mode::Kernel || Self::pending(&self.cpus[n]))
                .collect();
            if !runnable.is_empty() {
                return runnable[self.random(runnable.len() as u64) as usize];
            }
            match self.cpus.iter().filter_map(|cpu| cpu.timer).min() {
                Some(next) => self.now = next.min(self.until),
                None if self.device_rate != 0 => self.now += 1000,
                None => {
                    // At rest. User mode without a tick goes on to the end.
                    self.now = self.until;
                }
            }
        }
    }
}

impl World {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes the baton on and waits to get it back.
    fn pass<'a>(&'a self, mut inner: MutexGuard<'a, Inner>, own: usize) -> MutexGuard<'a, Inner> {
        let next = inner.choose(own);
        if next != own {
            inner.active = next;
            self.batons[next].notify_one();
            inner = self.batons[own]
                .wait_while(inner, |inner| inner.active != own)
                .unwrap_or_else(PoisonError::into_inner);
        }
        inner
    }

    /// Takes pending interrupts if they are not masked.
    fn deliver(&self, own: usize) {
        let mut inner = self.lock();
        let cpu = &mut inner.cpus[own];
        if cpu.masked {
            return;
        }
        cpu.masked = true;
        cpu.in_interrupt = true;
        let timer = std::mem::take(&mut cpu.timer_pending);
        let ipi = std::mem::take(&mut cpu.ipi);
        let device = std::mem::take(&mut cpu.device);
        let now = inner.now;
        drop(inner);
        if timer || ipi || device {
            self.executor.interrupted(now);
        }
        if timer {
            self.executor.timer_interrupt();
        }
        if ipi {
            self.executor.ipi_interrupt();
        }
        if device {
            (self.device)();
        }
        let cpu = &mut self.lock().cpus[own];
        cpu.masked = false;
        cpu.in_interrupt = false;
    }

    /// Idle or user mode, interrupts masked, until one is pending.
    fn away(&self, own: usize, mode: Mode) {
        let mut inner = self.lock();
        inner.cpus[own].mode = mode;
        while !inner.stopped && !Inner::pending(&inner.cpus[own]) {
            inner = self.pass(inner, own);
        }
        inner.cpus[own].mode = Mode::Kernel;
    }

    fn set_masked(&self, own: usize, masked: bool) {
        self.lock().cpus[own].masked = masked;
        if !masked {
            self.deliver(own);
        }
    }
}

impl Platform for Sim {
    type RawLock = RawSpinLock;

    fn executor() -> &'static Executor<Self> {
        me().0.executor
    }

    fn cpu() -> u32 {
        ME.with(|me| me.borrow().as_ref().map_or(u32::MAX, |me| me.1 as u32))
    }

    fn in_interrupt() -> bool {
        let (world, own) = me();
        let inner = world.lock();
        inner.cpus[own].in_interrupt
    }

    fn now() -> u64 {
        interleave()
    }

    fn checkpoint() {
        interleave();
    }

    fn relax() {
        interleave();
    }

    fn arm_timer(deadline: Option<u64>) {
        let (world, own) = me();
        world.lock().cpus[own].timer = deadline;
    }

    fn send_ipi(cpu: u32) {
        me().0.lock().cpus[cpu as usize].ipi = true;
    }

    fn idle(check: impl FnOnce() -> bool) {
        let (world, own) = me();
        world.set_masked(own, true);
        if check() {
            world.away(own, Mode::Idle);
        }
        world.set_masked(own, false);
    }
}

/// Time passes, others run, interrupts come; what time it is then.
fn interleave() -> u64 {
    let (world, own) = me();
    let mut inner = world.lock();
    let passed = inner.random(2000);
    inner.now += passed;
    inner = world.pass(inner, own);
    let now = inner.now;
    drop(inner);
    world.deliver(own);
    now
}

/// Whether the run is over. On a simulated CPU, as all that follows.
#[must_use]
pub fn stopped() -> bool {
    me().0.lock().stopped
}

/// Ends the run.
pub fn stop() {
    me().0.lock().stopped = true;
}

/// A random number below `below`, from the seed.
#[must_use]
pub fn random(below: u64) -> u64 {
    me().0.lock().random(below)
}

/// The clock, in nanoseconds, without letting time pass.
#[must_use]
pub fn clock() -> u64 {
    me().0.lock().now
}

/// The executor of this run.
#[must_use]
pub fn executor() -> &'static Executor<Sim> {
    Sim::executor()
}

/// One visit to user mode, by the user task that is polled.
///
/// # Errors
/// [`Preempted`] if the gate was shut: await [`yield_now`](crate::yield_now).
pub fn visit_user() -> Result<(), Preempted> {
    let (world, own) = me();
    world.set_masked(own, true);
    let result = world.executor.try_enter_user().map(|visit| {
        world.away(own, Mode::User);
        visit.leave();
    });
    world.set_masked(own, false);
    result
}

/// A user thread that spins until the run is over.
pub async fn spin() {
    while !stopped() {
        if visit_user().is_err() {
            yield_now().await;
        }
    }
    core::future::pending().await
}

/// Runs `test` with every seed, or, if the environment names one in [`SEED`], with that one alone.
///
/// # Panics
/// If the environment's seed is no number; and whatever `test` panics with.
pub fn seeds(range: Range<u64>, test: impl FnMut(u64)) {
    match std::env::var(SEED) {
        Ok(seed) => {
            let seed = seed.parse().expect("EXECUTOR_SEED is a number");
            Some(seed).into_iter().for_each(test);
        }
        Err(_) => range.for_each(test),
    }
}

/// How a run is made.
pub struct Machine {
    seed: u64,
    cpus: usize,
    until: u64,
    device_rate: u64,
    device: Box<dyn Fn() + Send + Sync>,
}

impl Machine {
    /// So many CPUs, for so many virtual nanoseconds at most.
    #[must_use]
    pub fn new(seed: u64, cpus: usize, until: u64) -> Self {
        Self {
            seed,
            cpus,
            until,
            device_rate: 0,
            device: Box::new(|| {}),
        }
    }

    /// With a device that interrupts a random CPU every `rate` steps, on average; `handler` runs in interrupt context.
    #[must_use]
    pub fn device(mut self, rate: u64, handler: impl Fn() + Send + Sync + 'static) -> Self {
        self.device_rate = rate;
        self.device = Box::new(handler);
        self
    }

    /// Runs: `setup` on CPU 0 before anything else, then every CPU's loop until the end, then `look` on CPU 0, whose result
    /// it is. The executor, which is made for this run, is never freed.
    ///
    /// # Panics
    /// If any CPU did, or `look`; the message names the seed and the CPU. If the caller is a simulated CPU.
    pub fn run<T>(self, setup: impl FnOnce(), look: impl FnOnce() -> T) -> T {
        assert!(ME.with(|me| me.borrow().is_none()), "a run within a run");
        let cpu = || Cpu {
            mode: Mode::Kernel,
            masked: false,
            timer: None,
            timer_pending: false,
            ipi: false,
            device: false,
            in_interrupt: false,
            done: false,
        };
        let world = Arc::new(World {
            executor: Box::leak(Box::new(Executor::new())),
            inner: Mutex::new(Inner {
                random: self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
                now: 0,
                until: self.until,
                active: 0,
                stopped: false,
                panic: None,
                cpus: (0..self.cpus).map(|_| cpu()).collect(),
                device_rate: self.device_rate,
            }),
            batons: (0..self.cpus).map(|_| Condvar::new()).collect(),
            device: self.device,
        });
        std::thread::scope(|scope| {
            for own in 1..self.cpus {
                let world = world.clone();
                scope.spawn(move || {
                    be(&world, own, || {
                        let inner = world.lock();
                        let waiting = |inner: &mut Inner| inner.active != own;
                        drop(world.batons[own].wait_while(inner, waiting));
                        run_cpu();
                    })
                });
            }
            be(&world, 0, || {
                setup();
                run_cpu();
            });
        });
        let mut result = None;
        if world.lock().panic.is_none() {
            be(&world, 0, || result = Some(look()));
        }
        match (result, world.lock().panic.take()) {
            (Some(result), None) => result,
            (_, message) => panic!("seed {}, {}", self.seed, message.unwrap_or_default()),
        }
    }
}

impl core::fmt::Debug for Machine {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Machine")
            .field("seed", &self.seed)
            .field("cpus", &self.cpus)
            .finish_non_exhaustive()
    }
}

/// Does a CPU's work on the calling thread. If it panics the run is over. At the end another one has the baton.
fn be(world: &Arc<World>, own: usize, work: impl FnOnce()) {
    ME.with(|me| *me.borrow_mut() = Some((world.clone(), own)));
    let result = catch_unwind(AssertUnwindSafe(work));
    let mut inner = world.lock();
    if let Err(panic) = result {
        inner.stopped = true;
        let message = message(&*panic);
        inner.panic.get_or_insert_with(|| std::format!("CPU {own}: {message}"));
    }
    inner.cpus[own].done = true;
    if let Some(next) = inner.choose_of_rest() {
        inner.active = next;
        world.batons[next].notify_one();
    }
    drop(inner);
    ME.with(|me| *me.borrow_mut() = None);
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without a message").into()
}

fn run_cpu() {
    let executor = Sim::executor();
    while !stopped() {
        while executor.turn() && !stopped() {}
        Sim::idle(|| executor.enter_idle());
        executor.exit_idle();
    }
}
