//! COM1, a 16550 (National Semiconductor PC16550D data sheet).

use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use super::{
    io_apic,
    lock::DeviceLock,
    registers::{in_u8, out_u8},
};
use crate::serial::SerialPort;

/// The I/O ports of COM1, and its ISA interrupt.
const BASE: u16 = 0x3f8;
const ISA_INTERRUPT: u8 = 4;

const DATA: u16 = BASE;
const INTERRUPT_ENABLE: u16 = BASE + 1;
const FIFO_CONTROL: u16 = BASE + 2;
const LINE_CONTROL: u16 = BASE + 3;
const MODEM_CONTROL: u16 = BASE + 4;
const LINE_STATUS: u16 = BASE + 5;

const IER_RECEIVE: u8 = 1 << 0;
const IER_TRANSMIT: u8 = 1 << 1;
const LSR_DATA: u8 = 1 << 0;
/// Parity error, framing error, break.
const LSR_BAD_BYTE: u8 = 7 << 2;
const LSR_TRANSMIT_EMPTY: u8 = 1 << 5;

/// Bytes in the transmit FIFO. The chip tells only "empty", so room is counted from there.
const FIFO: u8 = 16;

/// A 16550.
pub struct Uart {
    enabled: DeviceLock<u8>,
    room: AtomicU8,
}

static PORT: Uart = Uart {
    enabled: DeviceLock::new(0),
    room: AtomicU8::new(0),
};

/// The first UART.
pub fn port() -> &'static impl SerialPort {
    &PORT
}

/// 115,200 baud, 8n1, FIFOs on, interrupts off; the modem line that lets the interrupt out of the chip is set.
pub(super) fn init() {
    // SAFETY: COM1's registers, in the data sheet's order.
    unsafe {
        out_u8(INTERRUPT_ENABLE, 0);
        out_u8(LINE_CONTROL, 0x80);
        out_u8(DATA, 1);
        out_u8(INTERRUPT_ENABLE, 0);
        out_u8(LINE_CONTROL, 0x03);
        // Enabled and cleared, interrupt at eight received bytes or after a pause.
        out_u8(FIFO_CONTROL, 0x87);
        out_u8(MODEM_CONTROL, 0x0b);
    }
}

impl Uart {
    fn enable(&self, bit: u8, on: bool) {
        self.enabled.with(|enabled| {
            *enabled = if on { *enabled | bit } else { *enabled & !bit };
            // SAFETY: COM1's interrupt-enable register.
            unsafe { out_u8(INTERRUPT_ENABLE, *enabled) };
        });
    }
}

impl SerialPort for Uart {
    fn line(&self) -> Option<u32> {
        Some(io_apic::isa_line(ISA_INTERRUPT))
    }

    fn read_byte(&self) -> Option<u8> {
        loop {
            // SAFETY: COM1's status and data registers.
            let (status, byte) = unsafe {
                let status = in_u8(LINE_STATUS);
                if status & LSR_DATA == 0 {
                    return None;
                }
                (status, in_u8(DATA))
            };
            if status & LSR_BAD_BYTE == 0 {
                return Some(byte);
            }
        }
    }

    fn write_byte(&self, byte: u8) -> bool {
        if self
            .room
            .fetch_update(Relaxed, Relaxed, |room| room.checked_sub(1))
            .is_err()
        {
            // SAFETY: COM1's status register.
            if unsafe { in_u8(LINE_STATUS) } & LSR_TRANSMIT_EMPTY == 0 {
                return false;
            }
            self.room.store(FIFO - 1, Relaxed);
        }
        // SAFETY: COM1's data register.
        unsafe { out_u8(DATA, byte) };
        true
    }

    fn set_receive_interrupt(&self, on: bool) {
        self.enable(IER_RECEIVE, on);
    }

    fn set_transmit_interrupt(&self, on: bool) {
        self.enable(IER_TRANSMIT, on);
    }
}
