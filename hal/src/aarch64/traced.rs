//! A stopped thread's registers as `ptrace(2)` has them (`arch/arm64/kernel/ptrace.c`).

use zerocopy::IntoBytes;

use super::{
    cpu,
    debug::{self, Bank, DebugRegisters, SLOTS, Slot},
    exception_frame::{USER_PSTATE, UserContext},
};
use crate::{
    traced::{CallStop, DebugOps, Extra, Refused, SetSize, TraceOps, set},
    trap::Trap,
};

/// Words of `struct user_pt_regs`.
const GENERAL: usize = 34;
/// Bytes of `struct user_fpsimd_state`, of `struct user_hwdebug_state` before the registers and of each of these.
const FPSIMD: usize = 528;
const DEBUG_HEAD: usize = 8;
const DEBUG_SLOT: usize = 16;
/// `PSTATE` bits that make a context none of EL0 in 64-bit state with nothing masked (`valid_native_regs`).
const PSTATE_FORBIDDEN: u64 = 0xf << 6 | 0x1f;
/// N Z C V.
const PSTATE_FLAGS: u64 = 0xf << 28;
/// `PSTATE.SS`.
pub(super) const PSTATE_STEP: u64 = 1 << 21;

/// Copies a set's beginning into `out`.
fn put(out: &mut [u8], from: &[u8]) {
    let length = out.len().min(from.len());
    out[..length].copy_from_slice(&from[..length]);
}

impl UserContext {
    fn general(&self) -> [u64; GENERAL] {
        let mut words = [0; GENERAL];
        words[..31].copy_from_slice(&self.x);
        [words[31], words[32], words[33]] = [self.sp, self.pc, self.pstate];
        words
    }

    fn set_general(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        let mut words = self.general();
        put(words.as_mut_bytes(), bytes);
        self.x.copy_from_slice(&words[..31]);
        [self.sp, self.pc] = [words[31], words[32]];
        if words[33] & PSTATE_FORBIDDEN != 0 {
            self.pstate = words[33] & PSTATE_FLAGS;
            return Err(Refused::Invalid);
        }
        self.pstate = words[33] & USER_PSTATE;
        Ok(())
    }

    fn fpsimd(&self) -> [u8; FPSIMD] {
        let mut bytes = [0; FPSIMD];
        bytes[..512].copy_from_slice(self.fp.vregs.as_bytes());
        bytes[512..516].copy_from_slice(&self.fp.fpsr.to_le_bytes());
        bytes[516..520].copy_from_slice(&self.fp.fpcr.to_le_bytes());
        bytes
    }

    fn set_fpsimd(&mut self, from: &[u8]) {
        let mut bytes = self.fpsimd();
        put(&mut bytes, from);
        self.fp.vregs.as_mut_bytes().copy_from_slice(&bytes[..512]);
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        (self.fp.fpsr, self.fp.fpcr) = (word(512), word(516));
    }
}

fn bank(number: u32) -> Bank {
    if number == set::ARM_HW_BREAK {
        Bank::Break
    } else {
        Bank::Watch
    }
}

fn read_debug(registers: &DebugRegisters, bank: Bank, out: &mut [u8]) {
    let mut bytes = [0; DEBUG_HEAD + SLOTS * DEBUG_SLOT];
    bytes[..4].copy_from_slice(&debug::information(bank).to_le_bytes());
    for (number, slot) in bytes[DEBUG_HEAD..].chunks_mut(DEBUG_SLOT).enumerate() {
        let Slot { address, control } = registers.get(bank, number);
        slot[..8].copy_from_slice(&address.to_le_bytes());
        slot[8..12].copy_from_slice(&control.to_le_bytes());
    }
    put(out, &bytes);
}

fn write_debug(registers: &mut DebugRegisters, bank: Bank, bytes: &[u8]) -> Result<(), Refused> {
    let slots = bytes.get(DEBUG_HEAD..).unwrap_or(&[]);
    for (number, bytes) in slots.chunks(DEBUG_SLOT).enumerate() {
        let (Some(address), control) = (bytes.first_chunk(), bytes.get(8..12)) else {
            return Err(Refused::Invalid);
        };
        let control = control.and_then(<[u8]>::first_chunk).copied();
        let slot = Slot {
            address: u64::from_le_bytes(*address),
            control: control.map_or(registers.get(bank, number).control, u32::from_le_bytes),
        };
        registers.set(bank, number, slot)?;
    }
    Ok(())
}

impl TraceOps for UserContext {
    type Debug = DebugRegisters;
    const AUDIT_ARCH: u32 = 0xc000_00b7;

    fn register_set(number: u32) -> Option<SetSize> {
        let (bytes, unit) = match number {
            set::PRSTATUS => (GENERAL * 8, 8),
            set::PRFPREG => (FPSIMD, 4),
            set::ARM_TLS => (16, 8),
            set::ARM_HW_BREAK | set::ARM_HW_WATCH => (DEBUG_HEAD + SLOTS * DEBUG_SLOT, 4),
            set::ARM_SYSTEM_CALL => (4, 4),
            _ => return None,
        };
        Some(SetSize { bytes, unit })
    }

    fn read_set(&self, number: u32, extra: &Extra<DebugRegisters>, out: &mut [u8]) {
        match number {
            set::PRSTATUS => put(out, self.general().as_bytes()),
            set::PRFPREG => put(out, &self.fpsimd()),
            // The second is SME's `TPIDR2_EL0`, which programs do not have.
            set::ARM_TLS => put(out, [self.tpidr, 0].as_bytes()),
            set::ARM_SYSTEM_CALL => put(out, &extra.call.to_le_bytes()),
            _ => read_debug(&extra.debug, bank(number), out),
        }
    }

    fn write_set(&mut self, number: u32, extra: &mut Extra<DebugRegisters>, bytes: &[u8]) -> Result<(), Refused> {
        match number {
            set::PRSTATUS => self.set_general(bytes)?,
            set::PRFPREG => self.set_fpsimd(bytes),
            set::ARM_TLS => put(self.tpidr.as_mut_bytes(), bytes),
            set::ARM_SYSTEM_CALL => put(extra.call.as_mut_bytes(), bytes),
            _ => write_debug(&mut extra.debug, bank(number), bytes)?,
        }
        Ok(())
    }

    /// `x7` tells the two stops apart.
    fn begin_call_stop(&mut self, stop: CallStop) -> u64 {
        let shown = match stop {
            CallStop::Entry => 0,
            CallStop::Exit => 1,
            CallStop::Filter => return 0,
        };
        core::mem::replace(&mut self.x[7], shown)
    }

    fn end_call_stop(&mut self, stop: CallStop, before: u64) {
        if stop != CallStop::Filter {
            self.x[7] = before;
        }
    }

    fn call_to_make(&self, extra: &Extra<DebugRegisters>) -> i32 {
        extra.call
    }

    fn call_arguments(&self) -> [u64; 6] {
        core::array::from_fn(|number| self.x[number])
    }

    fn prepare_call(&mut self, number: i32) -> [u64; 2] {
        let before = [self.x[8], self.orig_x0];
        self.x[8] = u64::from(number.cast_unsigned());
        self.orig_x0 = self.x[0];
        before
    }

    fn call_made(&mut self, before: [u64; 2]) {
        [self.x[8], self.orig_x0] = before;
    }

    fn show_interrupted(&mut self, _: i64) {
        self.x[0] = self.orig_x0;
        self.pc = self.pc.wrapping_sub(4);
    }

    fn still_interrupted(&mut self, code: i64, pc: u64) -> Option<i64> {
        if self.pc != pc {
            return None;
        }
        self.orig_x0 = self.x[0];
        self.pc = self.pc.wrapping_add(4);
        Some(code)
    }

    fn enter_user_traced(&mut self, debug: &mut DebugRegisters, step: bool) -> Trap {
        let set_step = debug.arm(step);
        if set_step {
            self.pstate |= PSTATE_STEP;
        }
        let trap = if step {
            cpu::enter::<true>(self)
        } else {
            cpu::enter::<false>(self)
        };
        if step || debug.is_armed() {
            DebugRegisters::disarm();
        }
        debug.note_step(step && self.pstate & PSTATE_STEP == 0 && matches!(trap, Trap::Interrupt(_)));
        self.pstate &= !PSTATE_STEP;
        trap
    }
}
