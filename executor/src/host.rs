//! A platform over host threads: each CPU a thread, idle on a condition variable, its one-shot timer a deadline on that
//! wait.
//!
//! For running the executor, unchanged, in an ordinary process. There are no interrupts between threads' instructions, so
//! a timer that comes due while its CPU is busy is noticed between turns ([`Machine::run`]), and there is no user mode.

extern crate std;

use core::{
    cell::RefCell,
    future::Future,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    time::Duration,
};
use std::{
    boxed::Box,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread_local,
    time::Instant,
    vec::Vec,
};

use crate::{Class, Executor, JoinHandle, Platform, RawSpinLock, SpawnError, SpawnOptions};

/// The platform.
pub struct Host;

/// One machine: an executor and the threads that are its CPUs.
#[derive(Clone)]
pub struct Machine {
    shared: Arc<Shared>,
}

struct Shared {
    executor: &'static Executor<Host>,
    start: Instant,
    cpus: Vec<Cpu>,
    stop: AtomicBool,
}

struct Cpu {
    called: Mutex<bool>,
    call: Condvar,
    /// Nanoseconds, `u64::MAX` if disarmed.
    timer: AtomicU64,
}

thread_local!(static ME: RefCell<Option<(Machine, u32)>> = const { RefCell::new(None) });

fn with_me<T>(f: impl FnOnce(&Machine, u32) -> T) -> T {
    ME.with(|me| match &*me.borrow() {
        Some((machine, cpu)) => f(machine, *cpu),
        None => panic!("the thread belongs to no machine"),
    })
}

impl Machine {
    /// A machine with this many CPUs, which start with [`Machine::run`]. Its executor is never freed.
    pub fn new(cpus: u32) -> Self {
        let cpu = || Cpu {
            called: Mutex::new(false),
            call: Condvar::new(),
            timer: AtomicU64::new(u64::MAX),
        };
        let shared = Shared {
            executor: Box::leak(Box::new(Executor::new())),
            start: Instant::now(),
            cpus: (0..cpus).map(|_| cpu()).collect(),
            stop: AtomicBool::new(false),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Its executor.
    pub fn executor(&self) -> &'static Executor<Host> {
        self.shared.executor
    }

    /// Makes the calling thread one that may spawn, wake and abort on this machine without being a CPU, for as long as
    /// `f` runs.
    pub fn enter<T>(&self, f: impl FnOnce() -> T) -> T {
        self.enter_as(u32::MAX, f)
    }

    fn enter_as<T>(&self, cpu: u32, f: impl FnOnce() -> T) -> T {
        let before = ME.with(|me| me.borrow_mut().replace((self.clone(), cpu)));
        let result = f();
        ME.with(|me| *me.borrow_mut() = before);
        result
    }

    /// Spawns `main` on CPU 0, runs all CPUs until it ends, and gives its output. Other tasks are left as they are.
    ///
    /// # Errors
    /// As [`Executor::spawn`].
    ///
    /// # Panics
    /// If a task does.
    pub fn run<F>(&self, main: F) -> Result<F::Output, SpawnError>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let output = Arc::new(Mutex::new(None));
        let (slot, machine) = (output.clone(), self.clone());
        let main = async move {
            let value = main.await;
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
            machine.stop();
        };
        let spawned: Result<JoinHandle<(), Host>, _> = self.enter(|| {
            self.executor()
                .spawn(SpawnOptions::new(Class::Service, "main").cpu(0), main)
        });
        let handle = spawned?;
        std::thread::scope(|scope| {
            for cpu in 0..self.shared.cpus.len() as u32 {
                scope.spawn(move || self.enter_as(cpu, || self.run_cpu(cpu)));
            }
        });
        self.enter(|| drop(handle));
        let value = output.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(value.expect("the main task ran to its end"))
    }

    fn stop(&self) {
        self.shared.stop.store(true, SeqCst);
        (0..self.shared.cpus.len()).for_each(|cpu| self.call(cpu));
    }

    fn call(&self, cpu: usize) {
        let cpu = &self.shared.cpus[cpu];
        *cpu.called.lock().unwrap_or_else(PoisonError::into_inner) = true;
        cpu.call.notify_one();
    }

    fn now(&self) -> u64 {
        self.shared.start.elapsed().as_nanos() as u64
    }

    /// The interrupt that a real timer would give.
    fn fire_timer(&self, cpu: u32) {
        let timer = &self.shared.cpus[cpu as usize].timer;
        if timer.load(SeqCst) <= self.now() {
            timer.store(u64::MAX, SeqCst);
            self.executor().timer_interrupt();
        }
    }

    fn run_cpu(&self, cpu: u32) {
        // A panic of one CPU ends the machine, and is then passed on by the scope.
        let _guard = StopOnPanic(self);
        while !self.shared.stop.load(SeqCst) {
            self.fire_timer(cpu);
            if !self.executor().turn() {
                Host::idle(|| self.executor().enter_idle());
                self.executor().exit_idle();
            }
        }
    }

    /// Waits for a call or for the timer.
    fn sleep(&self, number: u32) {
        let cpu = &self.shared.cpus[number as usize];
        let mut called = cpu.called.lock().unwrap_or_else(PoisonError::into_inner);
        while !*called && !self.shared.stop.load(SeqCst) {
            let deadline = cpu.timer.load(SeqCst);
            if deadline == u64::MAX {
                called = cpu.call.wait(called).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let left = deadline.saturating_sub(self.now());
            if left == 0 {
                break;
            }
            let left = Duration::from_nanos(left);
            called = cpu
                .call
                .wait_timeout(called, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        if core::mem::take(&mut *called) {
            self.executor().ipi_interrupt();
        }
        drop(called);
        self.fire_timer(number);
    }
}

struct StopOnPanic<'a>(&'a Machine);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}

impl Platform for Host {
    type RawLock = RawSpinLock;

    fn executor() -> &'static Executor<Self> {
        with_me(|machine, _| machine.executor())
    }

    fn cpu() -> u32 {
        ME.with(|me| me.borrow().as_ref().map_or(u32::MAX, |me| me.1))
    }

    /// Threads have no interrupts.
    fn in_interrupt() -> bool {
        false
    }

    fn now() -> u64 {
        with_me(|machine, _| machine.now())
    }

    fn arm_timer(deadline: Option<u64>) {
        with_me(|machine, cpu| {
            if let Some(cpu) = machine.shared.cpus.get(cpu as usize) {
                cpu.timer.store(deadline.unwrap_or(u64::MAX), SeqCst);
            }
        });
    }

    fn send_ipi(cpu: u32) {
        with_me(|machine, _| machine.call(cpu as usize));
    }

    fn idle(check: impl FnOnce() -> bool) {
        if check() {
            let (machine, cpu) = with_me(|machine, cpu| (machine.clone(), cpu));
            machine.sleep(cpu);
        }
    }
}
