//! The PL011 UART (Arm DDI 0183). The firmware or the emulator has set baud rate and format; they stay.

use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use crate::serial::SerialPort;

/// Register offsets, section 3.2.
mod register {
    pub(super) const DATA: usize = 0x00;
    pub(super) const FLAGS: usize = 0x18;
    pub(super) const LINE_CONTROL: usize = 0x2c;
    pub(super) const CONTROL: usize = 0x30;
    pub(super) const FIFO_LEVELS: usize = 0x34;
    pub(super) const INTERRUPT_MASK: usize = 0x38;
    pub(super) const INTERRUPT_CLEAR: usize = 0x44;
}

const FLAG_RECEIVE_EMPTY: u32 = 1 << 4;
const FLAG_TRANSMIT_FULL: u32 = 1 << 5;
/// Overrun aside, a byte with one of these is not what was sent: framing, parity, break.
const DATA_ERRORS: u32 = 7 << 8;
/// Receive level reached, and receive time-out.
const RECEIVE_INTERRUPTS: u32 = 1 << 4 | 1 << 6;
const TRANSMIT_INTERRUPT: u32 = 1 << 5;
const ERROR_INTERRUPTS: u32 = 0xf << 7;

/// A PL011 port, or a port that swallows everything until [`Pl011::attach`].
pub struct Pl011 {
    base: AtomicPtr<u8>,
    line: AtomicU32,
    /// What the interrupt mask register ought to hold.
    mask: AtomicU32,
}

static PORT: Pl011 = Pl011 {
    base: AtomicPtr::new(core::ptr::null_mut()),
    line: AtomicU32::new(0),
    mask: AtomicU32::new(0),
};

/// The first UART. Before the boot code has found it, and on machines without one, it discards what is written.
pub fn port() -> &'static impl SerialPort {
    &PORT
}

/// Gives [`port`] its registers, already mapped as device memory.
pub(super) fn attach(base: *mut u8, line: Option<u32>) {
    PORT.line.store(line.unwrap_or(0), Ordering::Relaxed);
    PORT.base.store(base, Ordering::Release);
    PORT.write(register::INTERRUPT_MASK, 0);
    PORT.write(register::INTERRUPT_CLEAR, 0x7ff);
    // FIFOs on, 8 bits; interrupts at 1/8 received and 1/8 left to send; UART, receiver and transmitter on.
    PORT.write(
        register::LINE_CONTROL,
        PORT.read(register::LINE_CONTROL) | 1 << 4 | 3 << 5,
    );
    PORT.write(register::FIFO_LEVELS, 0);
    PORT.write(register::CONTROL, PORT.read(register::CONTROL) | 1 | 1 << 8 | 1 << 9);
}

impl Pl011 {
    fn read(&self, offset: usize) -> u32 {
        let base = self.base.load(Ordering::Acquire);
        if base.is_null() {
            return FLAG_RECEIVE_EMPTY;
        }
        // SAFETY: `attach` was given a mapped 4 KiB block of PL011 registers; `offset` is one of `register`'s.
        unsafe { base.add(offset).cast::<u32>().read_volatile() }
    }

    fn write(&self, offset: usize, value: u32) {
        let base = self.base.load(Ordering::Acquire);
        if !base.is_null() {
            // SAFETY: as in `read`.
            unsafe { base.add(offset).cast::<u32>().write_volatile(value) };
        }
    }

    /// Changes bits of the mask. Two CPUs may do so at once: whoever wrote an outdated value sees that and writes
    /// again.
    fn set_mask(&self, bits: u32, on: bool) {
        if on {
            self.mask.fetch_or(bits, Ordering::SeqCst);
        } else {
            self.mask.fetch_and(!bits, Ordering::SeqCst);
        }
        loop {
            let wanted = self.mask.load(Ordering::SeqCst);
            self.write(register::INTERRUPT_MASK, wanted);
            if self.mask.load(Ordering::SeqCst) == wanted {
                return;
            }
        }
    }
}

impl SerialPort for Pl011 {
    fn line(&self) -> Option<u32> {
        // Line 0 is software's.
        Some(self.line.load(Ordering::Relaxed)).filter(|line| *line != 0)
    }

    fn read_byte(&self) -> Option<u8> {
        while self.read(register::FLAGS) & FLAG_RECEIVE_EMPTY == 0 {
            let data = self.read(register::DATA);
            if data & DATA_ERRORS == 0 {
                return Some(data as u8);
            }
            self.write(register::INTERRUPT_CLEAR, ERROR_INTERRUPTS);
        }
        None
    }

    fn write_byte(&self, byte: u8) -> bool {
        let room = self.read(register::FLAGS) & FLAG_TRANSMIT_FULL == 0;
        if room {
            self.write(register::DATA, u32::from(byte));
        }
        room
    }

    fn set_receive_interrupt(&self, on: bool) {
        self.set_mask(RECEIVE_INTERRUPTS, on);
    }

    fn set_transmit_interrupt(&self, on: bool) {
        self.set_mask(TRANSMIT_INTERRUPT, on);
    }
}
