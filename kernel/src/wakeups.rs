//! How far it is from an interrupt, and from a wake, to the poll that it is for: measured when the command line says
//! `measure=wakeups`, in place of starting `/init`.
//!
//! Each line printed, `WAKEUPS <name> <nanosecond> <nanosecond> …`, is one kind of distance. Under an emulator that lets a
//! nanosecond pass for every instruction, they are counts of instructions.

use alloc::{string::String, sync::Arc};
use core::{
    fmt::Write,
    future::Future,
    pin::{Pin, pin},
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll},
};

use executor::{AbortOnDrop, Class, SpawnOptions, sleep_until, sync::IrqCell};
use hal::{
    arch::{Cpu, controller},
    traits::{CpuOps, InterruptController, Shutdown, Trigger},
};

use crate::{
    cpu,
    errno::{Errno, Result},
    irq::Line,
    rt::{self, Machine},
    task::shutdown,
};

/// Distances of each kind.
const SAMPLES: usize = 200;
/// Lines that no device of the machines we know signals: one of them exists.
const UNUSED_LINES: [u32; 2] = [47, 23];

/// A future, and when it was polled last.
struct Stamped<'a, F> {
    future: F,
    at: &'a AtomicU64,
}

impl<F: Future + Unpin> Future for Stamped<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.at.store(rt::now(), Ordering::Relaxed);
        Pin::new(&mut self.future).poll(context)
    }
}

/// What a driver waits for, again and again.
trait Source: Send + 'static {
    fn next(&mut self) -> impl Future<Output = u32> + Send;
}

impl Source for Line {
    fn next(&mut self) -> impl Future<Output = u32> + Send {
        Line::wait(self)
    }
}

impl Source for Arc<IrqCell> {
    fn next(&mut self) -> impl Future<Output = u32> + Send {
        IrqCell::wait(self)
    }
}

/// A driver that says when it was polled for what it waits for. Ends with this.
struct Driver {
    polled: Arc<AtomicU64>,
    served: Arc<IrqCell>,
    _task: AbortOnDrop<(), Machine>,
}

impl Driver {
    fn spawn(options: SpawnOptions, mut source: impl Source) -> Result<Self> {
        let (polled, served) = (Arc::new(AtomicU64::new(0)), Arc::new(IrqCell::new()));
        let (at, done) = (polled.clone(), served.clone());
        let serve = async move {
            loop {
                let mut wait = pin!(source.next());
                Stamped {
                    future: wait.as_mut(),
                    at: &at,
                }
                .await;
                done.signal();
            }
        };
        Ok(Self {
            polled,
            served,
            _task: rt::executor().spawn(options, serve)?.abort_on_drop(),
        })
    }

    /// Waits until it is served; how long after `start` it was polled.
    async fn polled_since(&self, start: u64) -> u64 {
        self.served.wait().await;
        self.polled.load(Ordering::Relaxed).saturating_sub(start)
    }
}

/// Measures, prints, and powers off: with status 1 if something could not be measured.
pub async fn run() {
    let mut status = 0;
    for timed in [false, true] {
        rt::executor().set_timing(timed);
        let suffix = if timed { "-timed" } else { "" };
        for (name, samples) in [
            ("interrupt", from_interrupt().await),
            ("timer", from_timer().await),
            ("other-cpu", from_other_cpu().await),
        ] {
            match samples {
                Ok(samples) => print(name, suffix, &samples),
                Err(error) => {
                    log::error!("{name} cannot be measured: {error:?}");
                    status = 1;
                }
            }
        }
    }
    shutdown::leave(Shutdown::PowerOff(status)).await
}

fn print(name: &str, suffix: &str, samples: &[u64]) {
    let mut line = String::new();
    for sample in samples {
        // Writing to a string does not fail.
        let _ = write!(line, " {sample}");
    }
    log::info!("WAKEUPS {name}{suffix}{line}");
}

/// Lets a time pass that is a little different for each `n`, so that a clock coarser than what is measured is hit at every
/// point of its step.
fn dawdle(n: usize) {
    for _ in 0..n % 61 {
        Cpu::relax();
    }
}

/// From an interrupt's being raised, by the very CPU that takes it, to the poll of the driver that waits for it. What raising
/// it takes is left out.
async fn from_interrupt() -> Result<[u64; SAMPLES]> {
    let mut samples = [0; SAMPLES];
    let line = UNUSED_LINES.iter().find_map(|number| unused(*number));
    let line = line.ok_or(Errno::ENXIO)?;
    let number = line.number();
    let raising = cost_of_raising(number);
    let driver = Driver::spawn(SpawnOptions::new(Class::Driver, "measured"), line)?;
    for (n, sample) in samples.iter_mut().enumerate() {
        // Until the driver waits, and has answered whatever came before.
        sleep_until::<Machine>(rt::now() + 20_000).await;
        driver.served.take();
        dawdle(n);
        let raised = rt::now();
        controller().raise(number);
        *sample = driver.polled_since(raised).await.saturating_sub(raising);
    }
    Ok(samples)
}

fn unused(number: u32) -> Option<Line> {
    let line = Line::claim(number, Trigger::Edge).ok()?;
    controller().raise(number).then_some(line)
}

/// The mean, with the line masked.
fn cost_of_raising(number: u32) -> u64 {
    let state = Cpu::mask_interrupts();
    let began = rt::now();
    for _ in 0..64 {
        controller().raise(number);
    }
    let spent = rt::now().saturating_sub(began);
    Cpu::restore_interrupts(state);
    spent / 64
}

/// From the moment a timer is due, the CPU asleep, to the poll of the task that sleeps until then.
async fn from_timer() -> Result<[u64; SAMPLES]> {
    let mut samples = [0; SAMPLES];
    let polled = AtomicU64::new(0);
    for (n, sample) in samples.iter_mut().enumerate() {
        let due = rt::now() + 50_000 + n as u64;
        let mut sleep = pin!(sleep_until::<Machine>(due));
        Stamped {
            future: sleep.as_mut(),
            at: &polled,
        }
        .await;
        *sample = polled.load(Ordering::Relaxed).saturating_sub(due);
    }
    Ok(samples)
}

/// From the wake of a driver of another CPU, which sleeps, to its poll there. The waking CPU goes to sleep at once.
async fn from_other_cpu() -> Result<[u64; SAMPLES]> {
    let mut samples = [0; SAMPLES];
    let here = rt::executor()
        .current()
        .and_then(|id| rt::executor().task(id))
        .map_or(0, |task| task.cpu);
    let other = cpu::online_cpus().find(|cpu| *cpu != here).ok_or(Errno::ENXIO)?;
    let call = Arc::new(IrqCell::new());
    let driver = Driver::spawn(SpawnOptions::new(Class::Driver, "measured").cpu(other), call.clone())?;
    for (n, sample) in samples.iter_mut().enumerate() {
        // Until both sleep.
        sleep_until::<Machine>(rt::now() + 100_000).await;
        dawdle(n);
        let woken = rt::now();
        call.signal();
        *sample = driver.polled_since(woken).await;
    }
    Ok(samples)
}
