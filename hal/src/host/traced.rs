//! A simulated thread's registers as a tracer has them: one set, its general registers. There are no hardware breakpoints, and a single
//! step goes to the program's next trap.

use zerocopy::IntoBytes;

use super::{
    context::{Registers, UserContext},
    cpu::Cpu,
};
use crate::{
    traced::{CallStop, DebugOps, Extra, Refused, SetSize, TraceOps, set},
    traits::{CpuOps, SyscallFrame},
    trap::Trap,
};

/// No breakpoints.
#[derive(Clone, Debug, Default)]
pub struct DebugRegisters;

impl DebugOps for DebugRegisters {
    fn is_armed(&self) -> bool {
        false
    }
}

impl TraceOps for UserContext {
    type Debug = DebugRegisters;
    const AUDIT_ARCH: u32 = 0;

    fn register_set(number: u32) -> Option<SetSize> {
        (number == set::PRSTATUS).then_some(SetSize {
            bytes: size_of::<Registers>(),
            unit: 8,
        })
    }

    fn read_set(&self, _: u32, _: &Extra<DebugRegisters>, out: &mut [u8]) {
        out.copy_from_slice(&self.registers.as_bytes()[..out.len()]);
    }

    fn write_set(&mut self, _: u32, _: &mut Extra<DebugRegisters>, bytes: &[u8]) -> Result<(), Refused> {
        self.registers.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn begin_call_stop(&mut self, _: CallStop) -> u64 {
        0
    }

    fn end_call_stop(&mut self, _: CallStop, _: u64) {}

    fn call_to_make(&self, _: &Extra<DebugRegisters>) -> i32 {
        self.registers.number as i32
    }

    fn prepare_call(&mut self, _: i32) -> [u64; 2] {
        [0; 2]
    }

    fn call_made(&mut self, _: [u64; 2]) {}

    fn show_interrupted(&mut self, code: i64) {
        self.set_return_value(code);
    }

    fn still_interrupted(&mut self, code: i64, _: u64) -> Option<i64> {
        (self.return_value() == code).then_some(code)
    }

    fn enter_user_traced(&mut self, _: &mut DebugRegisters, _: bool) -> Trap {
        Cpu::enter_user(self)
    }
}
