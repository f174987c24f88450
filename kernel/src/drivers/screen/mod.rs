//! The screen that firmware has set up, as a text console beside the serial one.
//!
//! Whoever sends bytes to the serial port gives them here as well, by [`Screen::write`]: they become cells at once, in the
//! same order, and nobody waits. A task draws the cells that have changed, a few at a time, as they are when it comes to them: of output
//! that is faster than it, it shows the last state.
//!
//! - [`terminal`] makes cells of bytes, in a [`grid`] and with the [`colour`]s asked for.
//! - [`paint`] makes pixels of cells.
//! - [`panic`] draws without the task and without the cells.

pub mod colour;
pub mod grid;
pub mod paint;
pub mod panic;
pub mod terminal;

#[cfg(test)]
mod tests;

use alloc::sync::Arc;
use core::{
    future::{pending, poll_fn},
    task::Poll,
};

use executor::{Class, SpawnOptions};
use futures_util::{future::select, task::AtomicWaker};
use hal::{boot_info, framebuffer::Framebuffer};

use self::{
    paint::{HEIGHT, Painter, Surface, WIDTH},
    terminal::Terminal,
};
use crate::{
    errno::Result,
    klog, rt,
    sync::{Rank, SpinLock},
    tty::Tty,
};

/// From the beginning of one drawing to that of the next, in ns, however fast the output.
const FRAME: u64 = 16_000_000;
/// Bytes that become cells with interrupts masked.
const PIECE: usize = 32;
/// Lines that are cleared without a pause.
const CLEARED: usize = 8;

/// The screen, for the panic handler.
static SURFACE: spin::Once<Framebuffer> = spin::Once::new();

/// The console on a screen. Shared as `Arc<Screen>` by the task that draws and who writes.
pub struct Screen {
    terminal: SpinLock<Terminal>,
    drawer: AtomicWaker,
    rows: usize,
    columns: usize,
}

/// Maps the screen and spawns its task. `None`, with a line in the log, where it cannot be used.
pub fn start(description: &boot_info::Framebuffer) -> Option<Arc<Screen>> {
    let surface = match Framebuffer::map(description) {
        Ok(surface) => surface,
        Err(why) => {
            log::warn!("the screen is not used: {why} ({description:x?})");
            return None;
        }
    };
    match spawn(surface) {
        Ok(screen) => {
            log::info!(
                "screen: {} by {} pixels, {} rows of {}",
                surface.width(),
                surface.height(),
                screen.rows,
                screen.columns
            );
            SURFACE.call_once(|| surface);
            Some(screen)
        }
        Err(error) => {
            log::warn!("the screen is not used: {error:?}");
            None
        }
    }
}

fn spawn(surface: Framebuffer) -> Result<Arc<Screen>> {
    let (rows, columns) = (surface.height() / HEIGHT, surface.width() / WIDTH);
    let screen = Arc::new(Screen::new(rows, columns)?);
    let painter = Painter::new(surface, screen.rows, screen.columns)?;
    rt::spawn(
        SpawnOptions::new(Class::Service, "screen"),
        Arc::clone(&screen).run(painter),
    )?;
    Ok(screen)
}

impl Screen {
    fn new(rows: usize, columns: usize) -> Result<Self> {
        let (rows, columns) = (rows.max(1), columns.max(1));
        Ok(Self {
            terminal: SpinLock::new(Rank::Screen, Terminal::new(rows, columns)?),
            drawer: AtomicWaker::new(),
            rows,
            columns,
        })
    }

    /// Rows and columns.
    pub fn size(&self) -> (u16, u16) {
        let most = |size: usize| u16::try_from(size).unwrap_or(u16::MAX);
        (most(self.rows), most(self.columns))
    }

    /// Shows what is written to the console. Does not wait.
    pub fn write(&self, bytes: &[u8]) {
        for piece in bytes.chunks(PIECE) {
            self.terminal.lock().write(piece);
        }
        self.drawer.wake();
    }

    /// Shows the messages that the console has had already, as far as the log still has them. Called once, by whoever takes its
    /// output, before anything else is written; dropped in between, it has shown some.
    pub async fn write_log(&self) {
        let (_, end) = klog::positions();
        let (mut at, _) = klog::extent();
        let mut messages = [0; 16 * PIECE];
        while at < end {
            let (next, length) = klog::read(at, &mut messages);
            let shown = end.saturating_sub(next - length as u64).min(length as u64);
            self.write_messages(&messages[..shown as usize]);
            at = next;
            rt::yield_now().await;
        }
    }

    /// Shows messages of the kernel's, whose lines end by a line feed alone.
    fn write_messages(&self, bytes: &[u8]) {
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            match line.strip_suffix(b"\n") {
                Some(line) => {
                    self.write(line);
                    self.write(b"\r\n");
                }
                None => self.write(line),
            }
        }
    }

    /// Shows messages and the terminal's output in place of a serial port, for ever.
    pub async fn serve(&self, tty: &Tty) {
        let mut bytes = [0; 4 * PIECE];
        loop {
            match klog::take_output(&mut bytes) {
                0 => {
                    let length = tty.take_output(&mut bytes);
                    self.write(&bytes[..length]);
                    if length == 0 {
                        let (output, message) = (
                            core::pin::pin!(tty.output_ready()),
                            core::pin::pin!(klog::output_ready()),
                        );
                        select(output, message).await;
                        continue;
                    }
                }
                length => self.write_messages(&bytes[..length]),
            }
            rt::yield_now().await;
        }
    }

    /// Draws, for ever.
    async fn run(self: Arc<Self>, mut painter: Painter<Framebuffer>) {
        let surface = *painter.surface();
        let black = surface.pixel(colour::Pen::PLAIN.blank().paper);
        for y in (0..surface.height()).step_by(CLEARED) {
            surface.fill(0, y, surface.width(), CLEARED, black);
            rt::yield_now().await;
        }
        loop {
            let began = rt::now();
            self.draw(&mut painter).await;
            surface.flush();
            rt::sleep_until(began + FRAME).await;
            self.changed().await;
        }
    }

    /// Draws every row that has changed, once.
    async fn draw(&self, painter: &mut Painter<impl Surface>) {
        let mut row = 0;
        while let Some(changed) = self.take_changed(row, &mut painter.wanted) {
            let mut column = 0;
            while let Some(next) = painter.draw_some(changed, column) {
                column = next;
                rt::yield_now().await;
                if panic::has_screen() {
                    pending::<()>().await;
                }
            }
            row = changed + 1;
        }
    }

    fn take_changed(&self, from: usize, into: &mut [grid::Cell]) -> Option<usize> {
        self.terminal.lock().take_changed(from, into)
    }

    /// Waits until a row has changed. Dropping it loses nothing.
    async fn changed(&self) {
        poll_fn(|context| {
            self.drawer.register(context.waker());
            if self.terminal.lock().is_changed() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await
    }
}
