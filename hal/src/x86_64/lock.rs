//! The lock of a device's registers: interrupts are masked while it is held, so that an interrupt handler may take it.

use super::cpu::Cpu;
use crate::traits::CpuOps;

/// A value reached by one CPU at a time, for a few instructions.
pub struct DeviceLock<T>(spin::Mutex<T>);

impl<T> DeviceLock<T> {
    /// Unlocked.
    pub const fn new(value: T) -> Self {
        Self(spin::Mutex::new(value))
    }

    /// Runs `body` on the value.
    pub fn with<R>(&self, body: impl FnOnce(&mut T) -> R) -> R {
        let state = Cpu::mask_interrupts();
        let result = body(&mut self.0.lock());
        Cpu::restore_interrupts(state);
        result
    }
}
