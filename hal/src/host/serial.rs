//! The simulated UART: two queues that a test fills and reads.

use std::{collections::VecDeque, sync::Mutex};

use super::machine::{self, lock};
use crate::serial::SerialPort;

/// The interrupt line of the UART.
pub const LINE: u32 = 33;

/// Bytes that the transmitter takes before it says that it is full.
pub const FIFO: usize = 16;

#[derive(Default)]
struct State {
    receive: VecDeque<u8>,
    transmit: VecDeque<u8>,
    receive_interrupt: bool,
    transmit_interrupt: bool,
}

/// The UART. One for the process, whatever machine it is reached from; it interrupts the machine of the calling thread.
pub struct Uart(Mutex<State>);

static UART: Uart = Uart(Mutex::new(State {
    receive: VecDeque::new(),
    transmit: VecDeque::new(),
    receive_interrupt: false,
    transmit_interrupt: false,
}));

/// The first UART.
pub fn port() -> &'static Uart {
    &UART
}

impl Uart {
    /// Puts bytes on the wire towards the kernel.
    pub fn type_in(&self, bytes: &[u8]) {
        self.change(|state| state.receive.extend(bytes));
    }

    /// Takes what the kernel has sent.
    pub fn take_sent(&self) -> Vec<u8> {
        self.change(|state| state.transmit.drain(..).collect())
    }

    fn change<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        let mut state = lock(&self.0);
        let result = f(&mut state);
        let level = (state.receive_interrupt && !state.receive.is_empty())
            || (state.transmit_interrupt && state.transmit.len() < FIFO);
        drop(state);
        machine::with_machine(|machine| machine.raise_line(LINE, level));
        result
    }
}

impl SerialPort for Uart {
    fn line(&self) -> Option<u32> {
        Some(LINE)
    }

    fn read_byte(&self) -> Option<u8> {
        self.change(|state| state.receive.pop_front())
    }

    fn write_byte(&self, byte: u8) -> bool {
        self.change(|state| {
            let room = state.transmit.len() < FIFO;
            if room {
                state.transmit.push_back(byte);
            }
            room
        })
    }

    fn set_receive_interrupt(&self, on: bool) {
        self.change(|state| state.receive_interrupt = on);
    }

    fn set_transmit_interrupt(&self, on: bool) {
        self.change(|state| state.transmit_interrupt = on);
    }
}
