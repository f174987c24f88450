//! Per-CPU data of the simulated CPU that the thread is.

use super::machine;
use crate::traits::PerCpuOps;

/// Per-CPU data.
pub struct PerCpu;

impl PerCpuOps for PerCpu {
    fn cpu_id() -> u32 {
        machine::cpu_id()
    }

    fn in_interrupt() -> bool {
        machine::with_cpu(|cpu| cpu.in_interrupt)
    }

    fn set_in_interrupt(on: bool) {
        machine::with_cpu(|cpu| cpu.in_interrupt = on);
    }
}
