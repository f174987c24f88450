//! The other CPUs: started by PSCI, one at a time, each on its own stack.

use super::boot;
use super::platform;

/// See [`CpuOps::start_cpu`](crate::traits::CpuOps::start_cpu).
pub(super) fn start(cpu: u32) -> bool {
    let Some(&mpidr) = platform::platform().and_then(|platform| platform.cpus.get(cpu as usize)) else {
        return false;
    };
    // The CPU begins with its MMU off, but reads nothing that could still be in a cache: its tables were built with
    // caches off or cleaned, and its stack follows from its number.
    platform::cpu_on(mpidr, boot::secondary_entry(), cpu.into())
}
