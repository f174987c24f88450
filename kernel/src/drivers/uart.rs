//! The console's driver task: bytes from the UART to the terminal, and from the terminal and the kernel log to the UART.
//!
//! One task owns the port. It moves what it can both ways, then waits for whichever comes first: the interrupt, output of
//! the terminal, or a message of the kernel. The transmit interrupt is on only while the FIFO is full and bytes wait.

use alloc::sync::Arc;
use core::{
    future::pending,
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
};

use futures_util::future::select;
use hal::{serial::SerialPort, traits::Trigger};

use crate::{errno::Result, irq::Line, klog, sync::WaitQueue, tty::Tty};

/// Bytes moved in one go; with more waiting the task yields first.
const CHUNK: usize = 256;

/// Whether everything there was to send has been given to the device, and who waits for that.
static SENT: AtomicBool = AtomicBool::new(true);
static SENT_QUEUE: WaitQueue = WaitQueue::new();

/// Waits until all that the terminal and the log hold has been sent. Dropping it loses nothing.
pub async fn drained(tty: &Tty) {
    // In this order: what has left the terminal and the log was taken after `SENT` had been unset.
    let is_drained = || !tty.has_output() && !klog::has_output() && SENT.load(Ordering::Acquire);
    SENT_QUEUE.wait_until(|| is_drained().then_some(())).await;
}

/// Serves `port` for ever. Spawned as a driver task on the CPU that is to take the interrupt.
///
/// # Errors
/// What [`Line::claim`] returns, if the port's line cannot be had.
pub async fn run(port: &'static impl SerialPort, tty: Arc<Tty>) -> Result<()> {
    let mut line = Line::claim(port.line(), Trigger::Level)?;
    let mut transmit = Transmit::default();
    klog::attach_driver();
    loop {
        receive(port, &tty);
        transmit.pump(port, &tty);
        // What nobody reads stays in the device, whose sender then waits.
        port.set_receive_interrupt(tty.accepts_input());
        port.set_transmit_interrupt(transmit.is_blocked());
        let interrupt = pin!(line.wait());
        let input = pin!(async {
            if tty.accepts_input() {
                pending().await
            } else {
                tty.input_wanted().await
            }
        });
        let output = pin!(async {
            if transmit.is_blocked() {
                pending().await
            } else {
                select(pin!(tty.output_ready()), pin!(klog::output_ready())).await;
            }
        });
        select(interrupt, select(input, output)).await;
    }
}

/// Gives what the FIFO holds to the terminal.
fn receive(port: &impl SerialPort, tty: &Tty) {
    if !tty.accepts_input() {
        return;
    }
    let mut bytes = [0; CHUNK];
    let mut length = 0;
    while length < CHUNK
        && let Some(byte) = port.read_byte()
    {
        bytes[length] = byte;
        length += 1;
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
        Self {
            bytes: [0; CHUNK],
            start: 0,
            end: 0,
        }
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
            // Unset before bytes leave the terminal, so that there is no moment at which they are nowhere.
            SENT.store(false, Ordering::Release);
            (self.start, self.end) = (0, self.refill(tty));
            if self.end == 0 {
                SENT.store(true, Ordering::Release);
                SENT_QUEUE.wake_all();
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
