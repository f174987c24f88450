//! The executor on this machine: its clock, its idle loop, its inter-processor interrupts, and short names for the rest of
//! the kernel.

use core::{
    future::Future,
    sync::atomic::{AtomicI64, Ordering},
};

use executor::{Event, Executor, JoinHandle, Platform, SpawnError, SpawnOptions};
use hal::{
    MAX_CPUS,
    arch::{Cpu, PerCpu, Timer, controller},
    traits::{CpuOps, InterruptController, PerCpuOps, TimerOps},
};

use crate::{
    cpu,
    errno::{Errno, Result},
    mm::AddressSpace,
    sync::{Rank, RawIrqLock},
    trace,
};

/// The machine, as the executor sees it.
#[derive(Debug)]
pub struct Machine;

/// The join handle of a kernel task.
pub type Join<T> = JoinHandle<T, Machine>;

static EXECUTOR: Executor<Machine> = Executor::new();

/// Nanoseconds from 1970 to boot.
static BOOT_WALL_CLOCK: AtomicI64 = AtomicI64::new(0);

impl Platform for Machine {
    type RawLock = RawIrqLock<{ Rank::Executor as u8 }>;

    #[inline]
    fn executor() -> &'static Executor<Self> {
        &EXECUTOR
    }

    #[inline]
    fn cpu() -> u32 {
        PerCpu::cpu_id()
    }

    #[inline]
    fn in_interrupt() -> bool {
        PerCpu::in_interrupt()
    }

    #[inline]
    fn now() -> u64 {
        Timer::now()
    }

    #[inline]
    fn ticks() -> u64 {
        Timer::ticks()
    }

    #[inline]
    fn nanoseconds(ticks: u64) -> u64 {
        Timer::nanoseconds(ticks)
    }

    fn arm_timer(deadline: Option<u64>) {
        match deadline {
            Some(deadline) => Timer::arm(deadline),
            None => Timer::disarm(),
        }
    }

    fn send_ipi(cpu: u32) {
        controller().send_ipi(cpu);
    }

    fn idle(check: impl FnOnce() -> bool) {
        cpu::set_status("idle");
        Cpu::disable_interrupts();
        // Masked, so that a shootdown that comes later ends the sleep.
        AddressSpace::idle_checkpoint();
        if check() {
            if trace::is_on() {
                trace::idle();
            } else {
                Cpu::idle();
            }
        }
        Cpu::unmask_interrupts();
    }

    fn trace(event: Event) {
        trace::of_executor(event);
    }

    fn relax() {
        Cpu::relax();
    }

    #[inline]
    fn prefetch<T>(at: &T) {
        hal::prefetch(at);
    }
}

impl From<SpawnError> for Errno {
    fn from(error: SpawnError) -> Self {
        match error {
            SpawnError::OutOfMemory => Self::ENOMEM,
            SpawnError::NoDriverSlot => Self::EAGAIN,
            SpawnError::NoSuchCpu => Self::EINVAL,
        }
    }
}

/// The executor of all CPUs.
#[inline]
pub fn executor() -> &'static Executor<Machine> {
    &EXECUTOR
}

/// Polls the calling CPU's tasks for ever.
pub fn run() -> ! {
    debug_assert!((PerCpu::cpu_id() as usize) < MAX_CPUS);
    Cpu::unmask_interrupts();
    EXECUTOR.run();
    // It returns for a CPU that is taken out of service, which would have to give up its interrupts and address space as well.
    unreachable!("no CPU of this kernel is taken out of service")
}

/// Spawns a task that nobody joins.
///
/// # Errors
/// `ENOMEM`; `EAGAIN` if the CPU has no driver slot left; `EINVAL` for CPUs that the machine does not have.
#[track_caller]
pub fn spawn<F>(options: SpawnOptions, future: F) -> Result<()>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    EXECUTOR.spawn_detached(options, future)?;
    Ok(())
}

/// Nanoseconds since boot.
#[inline]
pub fn now() -> u64 {
    Timer::now()
}

/// Waits until `deadline`, in nanoseconds since boot; never early. Dropping it cancels.
pub const fn sleep_until(deadline: u64) -> executor::Sleep<Machine> {
    executor::sleep_until(deadline)
}

/// Lets everything else that is ready run first.
pub const fn yield_now() -> executor::YieldNow {
    executor::yield_now()
}

/// Lets what goes before the calling task run, if anything does: between the parts of a longer piece of work. Dropping it is as
/// dropping the work there.
#[inline]
pub async fn give_way() {
    if executor().should_yield() {
        yield_now().await;
    }
}

/// Nanoseconds since 1970. May jump when the clock is set.
pub fn wall_clock() -> i64 {
    BOOT_WALL_CLOCK.load(Ordering::Relaxed).saturating_add_unsigned(now())
}

/// What the wall clock showed at boot, as it is set now: nanoseconds since 1970.
pub fn boot_wall_clock() -> i64 {
    BOOT_WALL_CLOCK.load(Ordering::Relaxed)
}

/// Sets the wall clock: nanoseconds since 1970, now. Who waits for it hears of that by [`clock::set`](crate::clock::set).
pub fn set_wall_clock(nanoseconds: i64) {
    BOOT_WALL_CLOCK.store(nanoseconds.saturating_sub_unsigned(now()), Ordering::Relaxed);
}
