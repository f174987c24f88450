//! Hardware breakpoints and watchpoints, and single steps (Arm ARM D2).
//!
//! `MDSCR_EL1` enables them only while the thread that has them is in user mode.

use core::arch::asm;

use super::sysreg::{instruction, read_sysreg, write_sysreg};
use crate::traced::{DebugOps, Refused};

/// `ARM_MAX_BRP`, `ARM_MAX_WRP` (`arch/arm64/include/asm/hw_breakpoint.h`): what `struct user_hwdebug_state` has room for.
pub(super) const SLOTS: usize = 16;
/// `MDSCR_EL1.SS` and `.MDE`.
const SINGLE_STEP: u64 = 1 << 0;
const MONITOR: u64 = 1 << 15;
/// `DBGBCR_EL1` and `DBGWCR_EL1` (D19.3): enabled; at EL0 only; loads and stores; bytes.
const ENABLED: u32 = 1;
const EL0: u32 = 2 << 1;
const KIND: u32 = 3 << 3;
const BYTES: u32 = 0xff << 5;

/// One breakpoint or watchpoint, as `struct user_hwdebug_state` has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Slot {
    pub address: u64,
    pub control: u32,
}

/// Which of the two kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bank {
    Break,
    Watch,
}

/// One thread's hardware breakpoints.
#[derive(Clone, Debug, Default)]
pub struct DebugRegisters {
    breaks: [Slot; SLOTS],
    watches: [Slot; SLOTS],
    /// A single step is over but its exception has not come: an interrupt was first.
    step_is_over: bool,
}

impl DebugOps for DebugRegisters {
    fn is_armed(&self) -> bool {
        let mut all = self.breaks.iter().chain(&self.watches);
        all.any(|slot| slot.control & ENABLED != 0)
    }
}

/// `dbg_info` of `struct user_hwdebug_state`: how many the CPU has, and above it its debug architecture (`ID_AA64DFR0_EL1`,
/// D19.2.59).
pub(super) fn information(bank: Bank) -> u32 {
    let features = read_sysreg!("id_aa64dfr0_el1");
    let count = match bank {
        Bank::Break => features >> 12 & 0xf,
        Bank::Watch => features >> 20 & 0xf,
    } + 1;
    ((features & 0xf) << 8 | count) as u32
}

fn count(bank: Bank) -> usize {
    (information(bank) & 0xff) as usize
}

impl DebugRegisters {
    fn bank(&self, bank: Bank) -> &[Slot; SLOTS] {
        match bank {
            Bank::Break => &self.breaks,
            Bank::Watch => &self.watches,
        }
    }

    pub(super) fn get(&self, bank: Bank, number: usize) -> Slot {
        self.bank(bank)[number]
    }

    /// Changes one. What has been set before stays where it is refused.
    pub(super) fn set(&mut self, bank: Bank, number: usize, slot: Slot) -> Result<(), Refused> {
        let slot = Slot {
            control: slot.control & (ENABLED | KIND | BYTES) | if slot.control == 0 { 0 } else { EL0 },
            ..slot
        };
        if slot.control & ENABLED != 0 {
            let bytes = slot.control >> 5 & 0xff;
            let contiguous = bytes != 0 && ((bytes >> bytes.trailing_zeros()) + 1).is_power_of_two();
            let kind = slot.control & KIND;
            let fits = match bank {
                Bank::Break => kind == 0 && bytes == 0xf && slot.address.is_multiple_of(4),
                Bank::Watch => kind != 0 && contiguous && bytes << (slot.address & 7) <= 0xff,
            };
            if !fits || slot.address >= 1 << 48 {
                return Err(Refused::Invalid);
            }
            if number >= count(bank) {
                return Err(Refused::Full);
            }
        }
        match bank {
            Bank::Break => self.breaks[number] = slot,
            Bank::Watch => self.watches[number] = slot,
        }
        Ok(())
    }

    /// Loads the registers on the way to user mode, with interrupts masked. Whether `PSTATE.SS` is to be set.
    pub(super) fn arm(&mut self, step: bool) -> bool {
        let armed = self.is_armed();
        if armed {
            for number in 0..count(Bank::Break) {
                write_break(number, self.breaks[number]);
            }
            for number in 0..count(Bank::Watch) {
                let Slot { address, control } = self.watches[number];
                // The address is that of a double word, the bytes are within it.
                let bytes = (control & BYTES) << (address & 7) & BYTES;
                let control = control & !BYTES | bytes;
                write_watch(
                    number,
                    Slot {
                        address: address & !7,
                        control,
                    },
                );
            }
        }
        if armed || step {
            write_sysreg!("oslar_el1", 0);
            write_sysreg!(
                "mdscr_el1",
                if armed { MONITOR } else { 0 } | if step { SINGLE_STEP } else { 0 }
            );
            instruction!("isb");
        }
        step && !core::mem::take(&mut self.step_is_over)
    }

    /// Back in the kernel.
    pub(super) fn disarm() {
        write_sysreg!("mdscr_el1", 0);
        instruction!("isb");
    }

    /// See [`DebugRegisters::step_is_over`].
    pub(super) fn note_step(&mut self, over: bool) {
        self.step_is_over = over;
    }
}

macro_rules! write_bank {
    ($function:ident, $value:literal, $control:literal, $($number:literal)*) => {
        fn $function(number: usize, slot: Slot) {
            let (address, control) = (slot.address, u64::from(slot.control));
            match number {
                $($number => {
                    // SAFETY: the registers exist, the caller has counted them; the values are for EL0 alone.
                    unsafe {
                        asm!(
                            concat!("msr ", $value, $number, "_el1, {}"),
                            concat!("msr ", $control, $number, "_el1, {}"),
                            in(reg) address,
                            in(reg) control,
                            options(nostack, preserves_flags),
                        );
                    }
                })*
                _ => {}
            }
        }
    };
}

write_bank!(write_break, "dbgbvr", "dbgbcr", 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
write_bank!(write_watch, "dbgwvr", "dbgwcr", 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
