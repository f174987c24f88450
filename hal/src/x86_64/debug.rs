//! The debug registers (SDM volume 3, 18.2): four addresses, a status and a control.
//!
//! They are armed only while the thread that has them is in user mode, so that the kernel's own accesses to its memory meet none.

use core::arch::asm;

use super::constants::USER_END;
use crate::traced::{DebugOps, Refused};

/// `DR6` without anything reported (SDM volume 3, figure 18-1): the reserved bits, which read as ones.
const STATUS_RESERVED: u64 = 0xffff_0ff0;
/// `DR6.BS`: a single step.
const STATUS_STEP: u64 = 1 << 14;
/// `DR7` bit 10, always one.
const CONTROL_FIXED: u64 = 1 << 10;
/// What of `DR7` a program may set: enable bits, and type and length of each.
const CONTROL_SETTABLE: u64 = 0xffff_00ff;

macro_rules! write_register {
    ($($function:ident, $register:literal;)*) => {
        $(fn $function(value: u64) {
            // SAFETY: addresses are a program's and the control is sanitised: all it can do is to raise debug exceptions.
            unsafe { asm!(concat!("mov ", $register, ", {}"), in(reg) value, options(nostack, preserves_flags)) };
        })*
    };
}

write_register! {
    write_dr0, "dr0";
    write_dr1, "dr1";
    write_dr2, "dr2";
    write_dr3, "dr3";
    write_dr6, "dr6";
    write_dr7, "dr7";
}

fn read_dr6() -> u64 {
    let value: u64;
    // SAFETY: reading a debug register has no effect; `DR7.GD` is never set.
    unsafe { asm!("mov {}, dr6", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// What a debug exception reports, which is forgotten with that: the set of breakpoints hit, and whether a step has ended.
pub(super) fn take_status() -> (u32, bool) {
    let status = read_dr6();
    write_dr6(STATUS_RESERVED);
    ((status & 0xf) as u32, status & STATUS_STEP != 0)
}

/// One thread's debug registers, as its tracer has set them.
#[derive(Clone, Debug, Default)]
pub struct DebugRegisters {
    address: [u64; 4],
    /// As the tracer reads it but for the reserved bits, which are zero here.
    status: u64,
    control: u64,
}

impl DebugOps for DebugRegisters {
    fn is_armed(&self) -> bool {
        self.control & 0xff != 0
    }
}

impl DebugRegisters {
    fn fields(control: u64, slot: usize) -> (bool, u64, u64) {
        let fields = control >> (16 + slot * 4);
        (control >> (slot * 2) & 3 != 0, fields & 3, fields >> 2 & 3)
    }

    /// Whether a slot may be enabled with this address.
    fn valid(address: u64, kind: u64, length: u64) -> bool {
        // Lengths are coded 1, 2, 8, 4; instructions have 1, and I/O is not for programs (SDM volume 3, 18.2.4).
        let bytes = [1, 2, 8, 4][length as usize];
        let of_kind = match kind {
            0 => length == 0,
            2 => false,
            _ => true,
        };
        of_kind && address.is_multiple_of(bytes) && address < USER_END
    }

    /// As `struct user`'s `u_debugreg`.
    pub(super) fn peek(&self, register: usize) -> u64 {
        match register {
            0..4 => self.address[register],
            6 => self.status ^ STATUS_RESERVED,
            7 => self.control,
            _ => 0,
        }
    }

    pub(super) fn poke(&mut self, register: usize, value: u64) -> Result<(), Refused> {
        match register {
            0..4 => {
                let (enabled, kind, length) = Self::fields(self.control, register);
                if value >= USER_END || enabled && !Self::valid(value, kind, length) {
                    return Err(Refused::Invalid);
                }
                self.address[register] = value;
            }
            6 => self.status = value ^ STATUS_RESERVED,
            7 => {
                let fine = (0..4).all(|slot| {
                    let (enabled, kind, length) = Self::fields(value, slot);
                    !enabled || Self::valid(self.address[slot], kind, length)
                });
                if !fine {
                    return Err(Refused::Invalid);
                }
                self.control = value;
            }
            _ => return Err(Refused::Io),
        }
        Ok(())
    }

    /// Loads the registers, with interrupts masked, on the way to user mode.
    pub(super) fn arm(&self) {
        write_dr0(self.address[0]);
        write_dr1(self.address[1]);
        write_dr2(self.address[2]);
        write_dr3(self.address[3]);
        write_dr6(STATUS_RESERVED);
        write_dr7(self.control & CONTROL_SETTABLE | CONTROL_FIXED);
    }

    /// Back in the kernel.
    pub(super) fn disarm() {
        write_dr7(CONTROL_FIXED);
    }

    /// Notes what an exception has reported; whether it came before an instruction, which is to be gone past the next time.
    pub(super) fn note(&mut self, hit: u32, stepped: bool) -> bool {
        self.status = self.status & !0xf | u64::from(hit) | if stepped { STATUS_STEP } else { 0 };
        (0..4).any(|slot| hit >> slot & 1 != 0 && Self::fields(self.control, slot).1 == 0)
    }
}
