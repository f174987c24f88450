//! The console's driver task: bytes from the UART to the terminal, and from the terminal and the kernel log to the UART.
//!
//! One task owns the port. It moves what it can both ways, then waits for whichever comes first: the interrupt, output of
//! the terminal, or a message of the kernel. The transmit interrupt is on only while the FIFO is full and bytes wait.

use alloc::sync::Arc;
use core::{
    future::pending,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
};

use futures_util::future::select;
use hal::{serial::SerialPort, traits::Trigger};

use super::screen::Screen;
use crate::{command_line, errno::Result, irq::Line, klog, rt, sync::WaitQueue, tty::Tty};

/// Bytes sent in one helping.
const CHUNK: usize = 256;
/// Bytes taken in such a time (ns) at most: what a wire of 2.5 Mbaud brings. An emulated port brings as much as is taken, and would
/// leave user threads no time.
const MOST: usize = 64;
const TIME: u64 = 250_000;

/// How often bytes have been taken from the terminal and the log, and how many of these helpings the device has got whole.
static TAKEN: AtomicU64 = AtomicU64::new(0);
static SENT: AtomicU64 = AtomicU64::new(0);
/// Those who wait for `SENT` or for the log.
static SENT_QUEUE: WaitQueue = WaitQueue::new();

/// Waits until the device has got all that was in the terminal and the log at the time of the call, however much is written
/// meanwhile. Dropping it loses nothing.
pub async fn drained(tty: &Tty) {
    let (written, _) = klog::positions();
    tty.output_taken().await;
    SENT_QUEUE
        .wait_until(|| (klog::positions().1 >= written).then_some(()))
        .await;
    // What has left the terminal and the log was taken after its helping had been counted.
    let taken = TAKEN.load(Ordering::Acquire);
    SENT_QUEUE
        .wait_until(|| (SENT.load(Ordering::Acquire) >= taken).then_some(()))
        .await;
}

/// How often a port without an interrupt is looked at (ns): its FIFO of 16 bytes fills in 1.4 ms at 115,200 baud, but such ports
/// are emulated ones, whose senders wait.
const LOOK: u64 = 10_000_000;

/// What tells that the port has something, or room.
enum Notice {
    Interrupt(Line),
    /// Firmware does not say which line the port has, or the command line says `console=poll`.
    Clock,
}

impl Notice {
    async fn wait(&mut self) {
        match self {
            Self::Interrupt(line) => _ = line.wait().await,
            Self::Clock => rt::sleep_until(rt::now() + LOOK).await,
        }
    }
}

/// Serves `port` for ever, and shows on `screen`, where there is one, what it sends. Spawned as a driver task on the CPU that is
/// to take the interrupt.
///
/// # Errors
/// What [`Line::claim`] returns, if the port's line cannot be had.
pub async fn run(port: &'static impl SerialPort, tty: Arc<Tty>, screen: Option<Arc<Screen>>) -> Result<()> {
    let line = port.line().filter(|_| command_line::value("console") != Some("poll"));
    let mut notice = match line {
        Some(line) => Notice::Interrupt(Line::claim(line, Trigger::Level)?),
        None => {
            log::warn!(
                "the console's interrupt is not known: it is looked at every {} ms",
                LOOK / 1_000_000
            );
            Notice::Clock
        }
    };
    let mut transmit = Transmit::default();
    let mut meter = Meter::default();
    klog::attach_driver();
    if let Some(screen) = &screen {
        screen.write_log().await;
    }
    transmit.screen = screen;
    loop {
        let room = meter.room(rt::now());
        meter.taken += receive(port, &tty, room);
        transmit.pump(port, &tty);
        let rest = meter.rest();
        // What nobody reads, or there is no time for, stays in the device, whose sender then waits.
        port.set_receive_interrupt(tty.accepts_input() && rest.is_none());
        port.set_transmit_interrupt(transmit.is_blocked());
        let noticed = pin!(notice.wait());
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
        let rested = pin!(async {
            match rest {
                Some(until) => rt::sleep_until(until).await,
                None => pending().await,
            }
        });
        select(noticed, select(rested, select(input, output))).await;
    }
}

/// How much has been taken from the port lately.
#[derive(Default)]
struct Meter {
    since: u64,
    taken: usize,
}

impl Meter {
    /// How many bytes may be taken now.
    fn room(&mut self, now: u64) -> usize {
        if now >= self.since + TIME {
            *self = Self { since: now, taken: 0 };
        }
        MOST.saturating_sub(self.taken)
    }

    /// Until when no more may be taken.
    fn rest(&self) -> Option<u64> {
        (self.taken >= MOST).then_some(self.since + TIME)
    }
}

/// Gives what the FIFO holds to the terminal, at most so many bytes of [`MOST`]; how many.
fn receive(port: &impl SerialPort, tty: &Tty, most: usize) -> usize {
    if !tty.accepts_input() {
        return 0;
    }
    let mut bytes = [0; MOST];
    let mut length = 0;
    while length < most.min(MOST)
        && let Some(byte) = port.read_byte()
    {
        bytes[length] = byte;
        length += 1;
    }
    if length > 0 {
        tty.input(&bytes[..length]);
    }
    length
}

/// Bytes taken from the terminal or the log that the FIFO had no room for.
struct Transmit {
    bytes: [u8; CHUNK],
    start: usize,
    end: usize,
    /// The number of this helping.
    helping: u64,
    /// Where what is sent is seen as well.
    screen: Option<Arc<Screen>>,
}

impl Default for Transmit {
    fn default() -> Self {
        Self {
            bytes: [0; CHUNK],
            start: 0,
            end: 0,
            helping: 0,
            screen: None,
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
            // What was thrown away after it had been counted is as good as sent.
            if SENT.swap(self.helping, Ordering::AcqRel) != self.helping {
                SENT_QUEUE.wake_all();
            }
            if !klog::has_output() && !tty.has_output() {
                return;
            }
            // Counted before bytes leave the terminal, so that there is no moment at which they are nowhere.
            self.helping += 1;
            TAKEN.store(self.helping, Ordering::Release);
            (self.start, self.end) = (0, self.refill(tty));
            if let Some(screen) = &self.screen {
                screen.write(&self.bytes[..self.end]);
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

#[cfg(test)]
mod tests {
    use core::{
        cell::RefCell,
        future::Future,
        task::{Context, Waker},
    };
    use std::{sync::Mutex, task::Wake};

    use super::*;
    use crate::{fs::DeviceNumber, tty::termios::Termios};

    /// A port with a FIFO of 16 bytes that the test empties.
    #[derive(Default)]
    struct Port {
        fifo: Mutex<Vec<u8>>,
    }

    impl SerialPort for Port {
        fn line(&self) -> Option<u32> {
            Some(0)
        }

        fn read_byte(&self) -> Option<u8> {
            None
        }

        fn write_byte(&self, byte: u8) -> bool {
            let mut fifo = self.fifo.lock().unwrap();
            if fifo.len() < 16 {
                fifo.push(byte);
                return true;
            }
            false
        }

        fn set_receive_interrupt(&self, _: bool) {}
        fn set_transmit_interrupt(&self, _: bool) {}
    }

    #[test]
    fn no_more_is_taken_than_a_wire_brings() {
        let mut meter = Meter::default();
        assert_eq!((meter.room(5 * TIME), meter.rest()), (MOST, None));
        meter.taken += MOST - 1;
        assert_eq!((meter.room(5 * TIME + 1), meter.rest()), (1, None));
        meter.taken += 1;
        assert_eq!((meter.room(6 * TIME - 1), meter.rest()), (0, Some(6 * TIME)));
        assert_eq!((meter.room(6 * TIME), meter.rest()), (MOST, None));
    }

    /// One at a time: there is one device.
    static TURN: Mutex<()> = Mutex::new(());

    #[derive(Default)]
    struct Wakes(AtomicU64);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_pass_that_sends_nothing_wakes_nobody() {
        let _turn = TURN.lock().unwrap();
        let tty = Tty::new("ttyT3", DeviceNumber::new(4, 68), Termios::default());
        let port = Port::default();
        let mut transmit = Transmit::default();
        transmit.pump(&port, &tty);
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(wakes.clone());
        let mut wait = pin!(SENT_QUEUE.wait());
        assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        transmit.pump(&port, &tty);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
        tty.input(b"echo");
        transmit.pump(&port, &tty);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
    }

    /// Whoever keeps writing does not keep the machine from leaving.
    #[test]
    fn what_was_written_before_is_sent_and_no_more_is_waited_for() {
        let _turn = TURN.lock().unwrap();
        let tty = Tty::new("ttyT1", DeviceNumber::new(4, 66), Termios::default());
        let port = Port::default();
        let sent = RefCell::new(Vec::new());
        let mut transmit = Transmit::default();
        tty.input(&[b'a'; 600]);
        let mut drained = pin!(drained(&tty));
        let mut is_drained = || {
            drained
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_ready()
        };
        while !is_drained() {
            transmit.pump(&port, &tty);
            // The echo of what is typed meanwhile.
            tty.input(&[b'b'; 16]);
            sent.borrow_mut().append(&mut port.fifo.lock().unwrap());
        }
        let sent = sent.into_inner();
        assert!(sent.starts_with(&[b'a'; 600]), "{} bytes were sent", sent.len());
        assert!(tty.has_output());
    }

    #[test]
    fn output_that_is_held_back_or_thrown_away_is_not_waited_for() {
        let tty = Tty::new("ttyT2", DeviceNumber::new(4, 67), Termios::default());
        let poll = |future: core::pin::Pin<&mut dyn Future<Output = ()>>| {
            future.poll(&mut Context::from_waker(Waker::noop())).is_ready()
        };
        for key in [b"\x13", b"\x03"] {
            tty.input(b"\x11echo");
            let mut taken = pin!(tty.output_taken());
            assert!(!poll(taken.as_mut()));
            tty.input(key);
            assert!(poll(taken.as_mut()), "{key:?}");
        }
    }
}
