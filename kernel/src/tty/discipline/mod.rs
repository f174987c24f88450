//! The line discipline: bytes in, effects out.
//!
//! Between a device that only knows bytes and programs that want lines stands this machine. It knows no locks, no tasks and no
//! time, so that it is tested on the host byte by byte: [`LineDiscipline::receive`] takes what the device received, edits the
//! line, echoes into the output buffer and says by [`Effects`] whom to wake and whom to signal;
//! [`LineDiscipline::write`] takes what a program writes through output processing into the same buffer, from which the
//! driver takes it. What a reader gets is decided in [`read`], the erasing of characters already echoed in `erase`.
//!
//! The behaviour is that of Linux's `N_TTY` to the byte, including that a line longer than the buffer keeps its last place for
//! the newline, and that a signal character throws away both buffers unless `NOFLSH`.

mod erase;
mod output;
pub mod read;
mod receive;

#[cfg(test)]
mod tests;

use linux_raw_sys::general as raw;

use super::{
    buffer::{InputBuffer, OutputBuffer},
    termios::Termios,
};

/// What the owner of a discipline has to do after a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Signals for the foreground group, as bits: signal number `n` is bit `n`.
    pub signals: u64,
    /// There may be something to read now.
    pub readable: bool,
    /// There may be room to write now, or no reason any more to wait for it.
    pub writable: bool,
    /// There is something for the device.
    pub output: bool,
}

/// Which buffers to throw away (`TCFLSH`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// What was received and not read.
    Input,
    /// What was written and not sent.
    Output,
    /// Both.
    Both,
}

/// The machine. See the module's text.
pub struct LineDiscipline {
    termios: Termios,
    input: InputBuffer,
    output: OutputBuffer,
    /// A flow-control character that overtakes the output.
    urgent: Option<u8>,
    /// The cursor's column, as far as output processing can know it.
    column: u32,
    /// The column at which the edited line began.
    line_column: u32,
    /// The next byte is taken literally (`VLNEXT`).
    literal: bool,
    /// Between `\` and `/` of an `ECHOPRT` erasure.
    erasing: bool,
    /// Output was stopped by the `VSTOP` character.
    stopped: bool,
    /// Output was stopped by `TCXONC`.
    suspended: bool,
    /// The peer was asked to stop (`IXOFF`).
    throttled: bool,
}

impl LineDiscipline {
    /// A discipline with these settings and empty buffers.
    pub fn new(termios: Termios) -> Self {
        Self {
            termios,
            input: InputBuffer::new(),
            output: OutputBuffer::new(),
            urgent: None,
            column: 0,
            line_column: 0,
            literal: false,
            erasing: false,
            stopped: false,
            suspended: false,
            throttled: false,
        }
    }

    /// The settings.
    pub fn termios(&self) -> &Termios {
        &self.termios
    }

    /// Changes the settings. Between canonical and raw mode nothing received is lost: into canonical mode it becomes a line.
    pub fn set_termios(&mut self, new: Termios) -> Effects {
        let old = core::mem::replace(&mut self.termios, new);
        if (old.lflag ^ new.lflag) & (raw::ICANON | raw::EXTPROC) != 0 {
            if new.local(raw::ICANON) {
                self.input.close_line();
            } else {
                self.input.open_lines();
            }
            self.erasing = false;
            self.literal = false;
        }
        if old.input(raw::IXON) && !new.input(raw::IXON) {
            self.stopped = false;
        }
        Effects {
            readable: true,
            writable: true,
            output: self.has_output(),
            ..Effects::default()
        }
    }

    /// Throws away what is buffered.
    pub fn flush(&mut self, what: Flush) -> Effects {
        let mut effects = Effects::default();
        if what != Flush::Output {
            self.input.clear();
            self.erasing = false;
            self.literal = false;
            self.unthrottle(&mut effects);
        }
        if what != Flush::Input {
            self.output.clear();
            effects.writable = true;
        }
        effects
    }

    /// Whether the driver has something to take.
    pub fn has_output(&self) -> bool {
        self.urgent.is_some() || (self.output.len() > 0 && !self.is_stopped())
    }

    /// Whether output is held back, by `VSTOP` or by `TCXONC`.
    pub fn is_stopped(&self) -> bool {
        self.stopped || self.suspended
    }

    /// How many bytes have ever been put out, and how many of those have left the buffer.
    pub fn output_positions(&self) -> (u64, u64) {
        self.output.positions()
    }

    /// Bytes that wait for the device (`TIOCOUTQ`).
    pub fn output_len(&self) -> usize {
        self.output.len()
    }

    /// Holds output back or lets it go (`TCXONC` with `TCOOFF`, `TCOON`).
    pub fn suspend_output(&mut self, suspend: bool) -> Effects {
        self.suspended = suspend;
        if !suspend {
            self.stopped = false;
        }
        Effects {
            output: self.has_output(),
            ..Effects::default()
        }
    }

    /// Sends the character at this `V…` index past all output (`TCXONC` with `TCIOFF`, `TCION`).
    pub fn send_urgent(&mut self, index: u32) -> Effects {
        let character = self.termios.character(index);
        if character == super::termios::DISABLED {
            return Effects::default();
        }
        self.urgent = Some(character);
        Effects {
            output: true,
            ..Effects::default()
        }
    }

    fn unthrottle(&mut self, effects: &mut Effects) {
        if self.throttled && self.input.len() < super::buffer::INPUT_SIZE / 4 {
            self.throttled = false;
            effects.output |= self.send_urgent(raw::VSTART).output;
        }
    }
}

/// A control character, as the kernel's `iscntrl` has it.
const fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f
}
