//! The kernel's messages: one ring for `dmesg`, printed to the first serial port.
//!
//! Until the console's driver task runs, and again once the kernel panics, a message is written to the port by polling;
//! in between it only goes into the ring, and the driver task, which is woken, sends it. Nothing here may be called in
//! interrupt context: the ring's lock asserts it.

use core::{
    fmt::{self, Write},
    future::poll_fn,
    sync::atomic::{AtomicBool, AtomicU8, Ordering},
    task::Poll,
};

use futures_util::task::AtomicWaker;
use hal::{arch::serial, serial::SerialPort};
use log::{Level, LevelFilter, Metadata, Record};

use crate::{
    rt,
    sync::{Rank, SpinLock},
};

/// Bytes of messages kept.
pub const CAPACITY: usize = 64 * 1024;

struct Ring {
    bytes: [u8; CAPACITY],
    /// Bytes ever written.
    written: u64,
    /// Bytes of messages for the console that the console has taken.
    printed: u64,
}

static RING: SpinLock<Ring> = SpinLock::new(
    Rank::Log,
    Ring {
        bytes: [0; CAPACITY],
        written: 0,
        printed: 0,
    },
);
static DRIVER: AtomicWaker = AtomicWaker::new();
static DRIVER_RUNS: AtomicBool = AtomicBool::new(false);
static CONSOLE_LEVEL: AtomicU8 = AtomicU8::new(LevelFilter::Info as u8);

struct KernelLog;

impl log::Log for KernelLog {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let now = rt::now();
        let to_console = record.level() as u8 <= CONSOLE_LEVEL.load(Ordering::Relaxed);
        {
            let mut ring = RING.lock();
            let start = ring.written;
            let mark = if record.level() == Level::Error { "error: " } else { "" };
            // Writing to the ring cannot fail.
            let _ = writeln!(
                ring,
                "[{:5}.{:06}] {mark}{}",
                now / 1_000_000_000,
                now / 1_000 % 1_000_000,
                record.args()
            );
            if !to_console {
                // The console has nothing of it left to print, unless it was behind already.
                if ring.printed == start {
                    ring.printed = ring.written;
                }
            } else if !DRIVER_RUNS.load(Ordering::Relaxed) {
                ring.print_polled();
            }
        }
        if to_console {
            DRIVER.wake();
        }
    }

    fn flush(&self) {}
}

impl Write for Ring {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.bytes[(self.written % CAPACITY as u64) as usize] = byte;
            self.written += 1;
        }
        Ok(())
    }
}

impl Ring {
    fn oldest(&self) -> u64 {
        self.written.saturating_sub(CAPACITY as u64)
    }

    fn copy(&self, from: u64, out: &mut [u8]) -> usize {
        let length = out.len().min((self.written - from) as usize);
        for (offset, byte) in out[..length].iter_mut().enumerate() {
            *byte = self.bytes[((from + offset as u64) % CAPACITY as u64) as usize];
        }
        length
    }

    fn take(&mut self, out: &mut [u8]) -> usize {
        let from = self.printed.max(self.oldest());
        let length = self.copy(from, out);
        self.printed = from + length as u64;
        length
    }

    fn print_polled(&mut self) {
        let mut chunk = [0; 64];
        loop {
            let length = self.take(&mut chunk);
            if length == 0 {
                return;
            }
            chunk[..length].iter().for_each(|byte| write_polled(*byte));
        }
    }
}

fn write_polled(byte: u8) {
    if byte == b'\n' {
        while !serial::port().write_byte(b'\r') {
            core::hint::spin_loop();
        }
    }
    while !serial::port().write_byte(byte) {
        core::hint::spin_loop();
    }
}

/// Makes this the receiver of the `log` macros. Called once, before any message.
pub fn init() {
    if log::set_logger(&KernelLog).is_ok() {
        log::set_max_level(LevelFilter::Debug);
    }
}

/// Sets from which level on messages go to the console; the ring gets them all.
pub fn set_console_level(level: LevelFilter) {
    CONSOLE_LEVEL.store(level as u8, Ordering::Relaxed);
}

/// The oldest and the next position of the ring, for `syslog(2)`.
pub fn extent() -> (u64, u64) {
    let ring = RING.lock();
    (ring.oldest(), ring.written)
}

/// Copies messages from position `from` on, or from the oldest that is left; returns the position after them and how many
/// bytes were copied.
pub fn read(from: u64, out: &mut [u8]) -> (u64, usize) {
    let ring = RING.lock();
    let from = from.max(ring.oldest()).min(ring.written);
    let length = ring.copy(from, out);
    (from + length as u64, length)
}

/// The console driver's side: says that from here on it sends the messages.
pub fn attach_driver() {
    DRIVER_RUNS.store(true, Ordering::Relaxed);
}

/// Takes the next bytes to be sent to the console; 0 if there are none.
pub fn take_output(out: &mut [u8]) -> usize {
    RING.lock().take(out)
}

/// Whether [`take_output`] would look for something to send.
pub fn has_output() -> bool {
    let ring = RING.lock();
    ring.printed < ring.written
}

/// How many bytes have ever been written, and how many of those the console has taken or is not to have.
pub fn positions() -> (u64, u64) {
    let ring = RING.lock();
    (ring.written, ring.printed)
}

/// Waits until there is something to send. Dropping it loses nothing.
pub async fn output_ready() {
    poll_fn(|context| {
        DRIVER.register(context.waker());
        let ring = RING.lock();
        if ring.printed < ring.written {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await
}

/// Writes out what the driver has not taken yet, by polling: the machine is about to go.
pub fn flush() {
    DRIVER_RUNS.store(false, Ordering::Relaxed);
    RING.lock().print_polled();
}

/// Writes straight to the port, for the panic handler: takes no lock, so that a panic inside the log still prints.
pub struct Polled;

impl Write for Polled {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(write_polled);
        Ok(())
    }
}
