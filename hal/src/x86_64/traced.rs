//! A stopped thread's registers as `ptrace(2)` has them (`arch/x86/kernel/ptrace.c`).

use super::{
    constants::{USER_CS, USER_DS, USER_END, rflags},
    debug::DebugRegisters,
    entry,
    fp::{FpState, LEGACY_SIZE},
    interrupt_frame::UserContext,
    trap_decode,
};
use crate::{
    traced::{CallStop, DebugOps, Extra, Refused, SetSize, TraceOps, set},
    trap::{ExceptionKind, Fault, Trap},
};

/// Words of `struct user_regs_struct` (`arch/x86/include/asm/user_64.h`).
const GENERAL: usize = 27;
/// `sizeof(struct user)`, and where its `u_debugreg` stands.
const USER_SIZE: u64 = 928;
const USER_DEBUG: u64 = 848;
/// `ENOSYS`, negated: what RAX holds during a call.
const NO_CALL: u64 = (-38i64).cast_unsigned();
/// The restart codes (`include/linux/errno.h`).
const RESTARTS: [i64; 4] = [-512, -513, -514, -516];

impl UserContext {
    fn general(&self) -> [u64; GENERAL] {
        [
            self.r15,
            self.r14,
            self.r13,
            self.r12,
            self.rbp,
            self.rbx,
            self.r11,
            self.r10,
            self.r9,
            self.r8,
            self.rax,
            self.rcx,
            self.rdx,
            self.rsi,
            self.rdi,
            self.orig_rax,
            self.rip,
            USER_CS.into(),
            self.rflags,
            self.rsp,
            USER_DS.into(),
            self.fs_base,
            self.gs_base,
            0,
            0,
            0,
            0,
        ]
    }

    fn set_general(&mut self, number: usize, value: u64) -> Result<(), Refused> {
        match number {
            0 => self.r15 = value,
            1 => self.r14 = value,
            2 => self.r13 = value,
            3 => self.r12 = value,
            4 => self.rbp = value,
            5 => self.rbx = value,
            6 => self.r11 = value,
            7 => self.r10 = value,
            8 => self.r9 = value,
            9 => self.r8 = value,
            10 => self.rax = value,
            11 => self.rcx = value,
            12 => self.rdx = value,
            13 => self.rsi = value,
            14 => self.rdi = value,
            15 => self.orig_rax = value,
            16 => self.rip = value,
            18 => self.rflags = self.rflags & !rflags::USER | value & rflags::USER,
            19 => self.rsp = value,
            21 | 22 if value >= USER_END => return Err(Refused::Io),
            21 => self.fs_base = value,
            22 => self.gs_base = value,
            // Selectors: programs have no others than these.
            17 if value == USER_CS.into() => {}
            20 if value == USER_DS.into() => {}
            23..GENERAL if value == 0 || value == USER_DS.into() => {}
            _ => return Err(Refused::Io),
        }
        Ok(())
    }

    fn set_legacy_fp(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        if bytes.len() != LEGACY_SIZE {
            return Err(Refused::Invalid);
        }
        self.fp.set_legacy(bytes).then_some(()).ok_or(Refused::Invalid)
    }
}

impl TraceOps for UserContext {
    type Debug = DebugRegisters;
    const AUDIT_ARCH: u32 = 0xc000_003e;

    fn register_set(number: u32) -> Option<SetSize> {
        let bytes = match number {
            set::PRSTATUS => GENERAL * 8,
            set::PRFPREG => LEGACY_SIZE,
            set::X86_XSTATE if FpState::used_size() > LEGACY_SIZE => FpState::used_size(),
            _ => return None,
        };
        Some(SetSize { bytes, unit: 8 })
    }

    fn read_set(&self, number: u32, _: &Extra<DebugRegisters>, out: &mut [u8]) {
        if number == set::PRSTATUS {
            for (to, from) in out.chunks_mut(8).zip(self.general()) {
                to.copy_from_slice(&from.to_le_bytes()[..to.len()]);
            }
        } else {
            self.fp.describe(number == set::X86_XSTATE, out);
        }
    }

    fn write_set(&mut self, number: u32, _: &mut Extra<DebugRegisters>, bytes: &[u8]) -> Result<(), Refused> {
        match number {
            set::PRSTATUS => {
                let (words, _) = bytes.as_chunks();
                for (at, word) in words.iter().enumerate().take(GENERAL) {
                    self.set_general(at, u64::from_le_bytes(*word))?;
                }
                Ok(())
            }
            set::PRFPREG => self.set_legacy_fp(bytes),
            _ if bytes.len() != FpState::used_size() => Err(Refused::Partial),
            _ => self.fp.set_all(bytes).then_some(()).ok_or(Refused::Invalid),
        }
    }

    fn legacy_request(request: u32) -> Option<(u32, bool)> {
        match request {
            12 => Some((set::PRSTATUS, false)),
            13 => Some((set::PRSTATUS, true)),
            14 => Some((set::PRFPREG, false)),
            15 => Some((set::PRFPREG, true)),
            _ => None,
        }
    }

    fn peek_user(&self, extra: &Extra<DebugRegisters>, offset: u64) -> Option<u64> {
        if !offset.is_multiple_of(8) || offset >= USER_SIZE {
            return None;
        }
        let word = (offset / 8) as usize;
        Some(match offset {
            USER_DEBUG..912 => extra.debug.peek(((offset - USER_DEBUG) / 8) as usize),
            _ => self.general().get(word).copied().unwrap_or(0),
        })
    }

    fn poke_user(&mut self, extra: &mut Extra<DebugRegisters>, offset: u64, value: u64) -> Result<(), Refused> {
        let word = (offset / 8) as usize;
        match offset {
            _ if !offset.is_multiple_of(8) => Err(Refused::Io),
            USER_DEBUG..912 => extra.debug.poke(((offset - USER_DEBUG) / 8) as usize, value),
            _ if word < GENERAL => self.set_general(word, value),
            _ => Err(Refused::Io),
        }
    }

    fn begin_call_stop(&mut self, stop: CallStop) -> u64 {
        if stop != CallStop::Exit {
            self.rax = NO_CALL;
        }
        0
    }

    fn keep_call(&mut self, old: &Self) {
        self.orig_rax = old.orig_rax;
    }

    fn end_call_stop(&mut self, _: CallStop, _: u64) {}

    fn call_to_make(&self, _: &Extra<DebugRegisters>) -> i32 {
        self.orig_rax as i32
    }

    fn prepare_call(&mut self, _: i32) -> [u64; 2] {
        [0; 2]
    }

    fn call_made(&mut self, _: [u64; 2]) {}

    fn show_interrupted(&mut self, code: i64) {
        self.rax = code.cast_unsigned();
    }

    fn still_interrupted(&mut self, _: i64, _: u64) -> Option<i64> {
        let code = self.rax.cast_signed();
        (self.orig_rax as i32 != -1 && RESTARTS.contains(&code)).then_some(code)
    }

    fn enter_user_traced(&mut self, debug: &mut DebugRegisters, step: bool) -> Trap {
        let own_step = self.rflags & rflags::TF;
        let armed = debug.is_armed();
        if step {
            self.rflags |= rflags::TF;
        }
        if armed {
            debug.arm();
        }
        let number = entry::enter_user(self);
        if armed {
            DebugRegisters::disarm();
        }
        let trap = trap_decode::decode(self, number);
        if step {
            self.rflags = self.rflags & !rflags::TF | own_step;
        }
        let reported = match (trap, self.fault) {
            (Trap::Fault, Fault::Exception { kind, .. }) => match kind {
                ExceptionKind::HardwareBreakpoint(hit) => Some((hit, false)),
                ExceptionKind::SteppedOntoBreakpoint(hit) => Some((hit, true)),
                ExceptionKind::SingleStep => Some((0, true)),
                _ => None,
            },
            _ => None,
        };
        if let Some((hit, stepped)) = reported
            && debug.note(hit, stepped)
        {
            self.rflags |= rflags::RF;
        }
        trap
    }
}
