//! The keyboard controller's ports.

use super::{
    io_apic, platform,
    registers::{in_u8, out_u8},
};
use crate::ps2::KeyboardController;

const DATA: u16 = 0x60;
const STATUS: u16 = 0x64;
const ISA_INTERRUPT: u8 = 1;

struct Ports;

/// The controller; `None` where firmware says that there is none.
pub fn keyboard_controller() -> Option<&'static dyn KeyboardController> {
    platform::get().has_keyboard_controller.then_some(&Ports)
}

impl KeyboardController for Ports {
    fn line(&self) -> u32 {
        io_apic::isa_line(ISA_INTERRUPT)
    }

    fn status(&self) -> u8 {
        // SAFETY: the controller's, or nobody's.
        unsafe { in_u8(STATUS) }
    }

    fn read(&self) -> u8 {
        // SAFETY: as above.
        unsafe { in_u8(DATA) }
    }

    fn write(&self, byte: u8) {
        // SAFETY: as above.
        unsafe { out_u8(DATA, byte) };
    }

    fn command(&self, byte: u8) {
        // SAFETY: as above. Commands that pulse the CPU's reset line do what they are for.
        unsafe { out_u8(STATUS, byte) };
    }
}
