//! The console's driver task: bytes from the UART to the terminal, and from the terminal and the kernel log to the UART.
//!
//! One task owns the port. It moves what it can both ways, then waits for whichever comes first: the interrupt, output of
//! the terminal, or a message of the kernel. The transmit interrupt is on only while the FIFO is full and bytes wait.

use alloc::sync::Arc;

use futures_util::future::{Either, select};
use hal::{serial::SerialPort, traits::Trigger};

use crate::{
    errno::Result,
    irq::Line,
    klog,
    tty::Tty,
};

/// Bytes moved in one go; with more waiting the task yields first.
const CHUNK: usize = 256;

/// Serves `port` for ever. Spawned as a driver task on the CPU that is to take the interrupt.
///
/// # Errors
/// What [`Line::claim`] returns, if the port's line cannot be had.
pub async fn run(port: &'static impl SerialPort, tty: Arc<Tty>) -> Result<()> {
    let mut line = Line::claim(port.line(), Trigger::Level)?;
    let mut transmit = Transmit::default();
    klog::attach_driver();
    port.set_receive_interrupt(true);
    loop {
        // While readers do not keep up the bytes stay in the device, whose sender then waits.
        let reading = tty.accepts_input();
        if reading {
            receive(port, &tty);
        }
        port.set_receive_interrupt(reading);
        transmit.pump(port, &tty);
        port.set_transmit_interrupt(transmit.is_blocked());
        let wanted = async {
            if reading { core::future::pending().await } else { tty.input_wanted().await }
        };
        let interrupt = core::pin::pin!(select(core::pin::pin!(line.wait()), core::pin::pin!(wanted)));
        if transmit.is_blocked() {
            interrupt.await;
        } else {
            let output = core::pin::pin!(select(
                core::pin::pin!(tty.output_ready()),
                core::pin::pin!(klog::output_ready()),
            ));
            if let Either::Left(_) = select(interrupt, output).await {
                continue;
            }
        }
    }
}

/// Gives what the FIFO holds to the terminal.
fn receive(port: &impl SerialPort, tty: &Tty) {
    let mut bytes = [0; CHUNK];
    let mut length = 0;
    while let Some(byte) = port.read_byte() {
        bytes[length] = byte;
        length += 1;
        if length == CHUNK {
            break;
        }
    }
    if length > 0 {
        tty.input(&bytes[..length]);
    }
}

/// Bytes taken from the terminal or the log that the FIFO had no room for.
struct Transmit {
    bytes: [u8; CHUNK],
    start: usize,
    end: usize,
}

impl Default for Transmit {
    fn default() -> Self {
        Self { bytes: [0; CHUNK], start: 0, end: 0 }
    }
}

impl Transmit {
    const fn is_blocked(&self) -> bool {
        self.start < self.end
    }

    /// Sends until the FIFO is full or there is nothing more.
    fn pump(&mut self, port: &impl SerialPort, tty: &Tty) {
        loop {
            while self.start < self.end {
                if !port.write_byte(self.bytes[self.start]) {
                    return;
                }
                self.start += 1;
            }
            (self.start, self.end) = (0, self.refill(tty));
            if self.end == 0 {
                return;
            }
        }
    }

    fn refill(&mut self, tty: &Tty) -> usize {
        let mut message = [0; CHUNK / 2];
        match klog::take_output(&mut message) {
            0 => tty.take_output(&mut self.bytes),
            length => {
                // The terminal's own output has been through its line discipline; messages have not.
                let mut end = 0;
                for byte in &message[..length] {
                    if *byte == b'\n' {
                        self.bytes[end] = b'\r';
                        end += 1;
                    }
                    self.bytes[end] = *byte;
                    end += 1;
                }
                end
            }
        }
    }
}
