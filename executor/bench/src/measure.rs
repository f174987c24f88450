//! Clocks, and what one round came to.

use crate::count;
use anyhow::{Result, ensure};
use rustix::{
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
    time::{ClockId, clock_gettime},
};
use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// What one round says of one operation.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// The row's unit, nanoseconds mostly, for one operation.
    pub value: f64,
    /// Allocations for one operation, where they can be counted.
    pub allocations: Option<f64>,
    /// Operations.
    pub operations: u64,
}

/// A running measurement of the calling thread, by its own CPU time: what others run meanwhile does not count. Between its two
/// functions, which a profiler finds by their names, lies what is measured and nothing else.
pub struct Watch {
    start: u64,
    allocations: u64,
}

impl Watch {
    #[inline(never)]
    pub fn cpu() -> Self {
        Self {
            allocations: count::allocations(),
            start: cpu_time(),
        }
    }

    /// Ends it: the figures for one of `operations`.
    #[inline(never)]
    pub fn stop(self, operations: u64) -> Sample {
        let spent = cpu_time() - self.start;
        let allocations = count::allocations() - self.allocations;
        Sample {
            value: spent as f64 / operations as f64,
            allocations: Some(allocations as f64 / operations as f64),
            operations,
        }
    }
}

fn cpu_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// CPUs that the process may run on, by number.
///
/// # Errors
/// The system does not say.
pub fn cpus() -> Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

/// Binds the calling thread to a CPU.
///
/// # Errors
/// The system refuses.
pub fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

/// For how long a thread spins: until a flag is raised, and not for ever if it never is.
pub struct Until {
    flag: &'static AtomicBool,
    looks: u32,
    start: Instant,
}

impl Until {
    /// No round takes longer, on however busy a machine.
    const LIMIT: Duration = Duration::from_secs(60);

    pub fn new(flag: &'static AtomicBool) -> Self {
        Self {
            flag,
            looks: 0,
            start: Instant::now(),
        }
    }

    /// Whether to spin on.
    pub fn goes_on(&mut self) -> bool {
        self.looks = self.looks.wrapping_add(1);
        if self.looks.is_multiple_of(1 << 20) && self.start.elapsed() > Self::LIMIT {
            return false;
        }
        !self.flag.load(Relaxed)
    }

    /// Whether the flag was raised.
    ///
    /// # Errors
    /// It was not.
    pub fn check(flag: &AtomicBool) -> Result<()> {
        ensure!(flag.load(Relaxed), "no end within {:?}: a wake was lost", Self::LIMIT);
        Ok(())
    }
}
