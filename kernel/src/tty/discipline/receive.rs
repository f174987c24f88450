//! What the device received.

use linux_raw_sys::general as raw;

use super::{Effects, Flush, LineDiscipline};
use crate::tty::{buffer::INPUT_SIZE, termios::DISABLED};

impl LineDiscipline {
    /// Takes received bytes; returns how many were taken. Fewer than given means that a reader has to read first: the rest is
    /// to be offered again after it did. In canonical mode without a finished line all is taken, at the line's cost.
    pub fn receive(&mut self, bytes: &[u8]) -> (usize, Effects) {
        let mut effects = Effects::default();
        for (index, &byte) in bytes.iter().enumerate() {
            if !self.accepts() {
                if self.termios.input(raw::IXOFF) && !self.throttled {
                    self.throttled = true;
                    effects.output |= self.send_urgent(raw::VSTOP).output;
                }
                return (index, effects);
            }
            self.receive_byte(byte, &mut effects);
        }
        (bytes.len(), effects)
    }

    /// Whether another byte would be taken.
    fn accepts(&self) -> bool {
        // `PARMRK` may make two of one.
        self.input.room() >= 2 || (self.termios.canonical() && self.input.lines_len() == 0)
    }

    fn receive_byte(&mut self, byte: u8, effects: &mut Effects) {
        let byte = if self.termios.input(raw::ISTRIP) {
            byte & 0x7f
        } else {
            byte
        };
        if core::mem::take(&mut self.literal) {
            return self.receive_ordinary(byte, effects);
        }
        let fold = self.termios.input(raw::IUCLC) && self.termios.local(raw::IEXTEN);
        let byte = if fold { byte.to_ascii_lowercase() } else { byte };
        if self.termios.local(raw::EXTPROC) {
            return self.store(byte, effects);
        }
        if self.receive_flow_control(byte, effects) || self.receive_signal(byte, effects) {
            return;
        }
        if self.stopped && !self.suspended && self.termios.input(raw::IXON | raw::IXANY) {
            self.start(effects);
        }
        let byte = match byte {
            b'\r' if self.termios.input(raw::IGNCR) => return,
            b'\r' if self.termios.input(raw::ICRNL) => b'\n',
            b'\n' if self.termios.input(raw::INLCR) => b'\r',
            byte => byte,
        };
        if self.termios.local(raw::ICANON) && self.receive_editing(byte, effects) {
            return;
        }
        self.receive_ordinary(byte, effects);
    }

    fn receive_flow_control(&mut self, byte: u8, effects: &mut Effects) -> bool {
        if !self.termios.input(raw::IXON) {
            return false;
        }
        if self.termios.is(byte, raw::VSTART) {
            self.start(effects);
        } else if self.termios.is(byte, raw::VSTOP) {
            self.stopped = true;
            effects.writable = true;
        } else {
            return false;
        }
        true
    }

    fn start(&mut self, effects: &mut Effects) {
        if !self.suspended {
            self.stopped = false;
            effects.output |= self.has_output();
        }
    }

    fn receive_signal(&mut self, byte: u8, effects: &mut Effects) -> bool {
        if !self.termios.local(raw::ISIG) {
            return false;
        }
        let signal = if self.termios.is(byte, raw::VINTR) {
            raw::SIGINT
        } else if self.termios.is(byte, raw::VQUIT) {
            raw::SIGQUIT
        } else if self.termios.is(byte, raw::VSUSP) {
            raw::SIGTSTP
        } else {
            return false;
        };
        effects.signals |= 1 << signal;
        if !self.termios.local(raw::NOFLSH) {
            let flushed = self.flush(Flush::Both);
            effects.writable |= flushed.writable;
            effects.output |= flushed.output;
        }
        if self.termios.input(raw::IXON) {
            self.start(effects);
        }
        if self.termios.local(raw::ECHO) {
            self.echo(byte, effects);
        }
        true
    }

    /// The characters that edit or end a line. Returns whether `byte` was one.
    fn receive_editing(&mut self, byte: u8, effects: &mut Effects) -> bool {
        let extended = self.termios.local(raw::IEXTEN);
        let echo = self.termios.local(raw::ECHO);
        if self.termios.is(byte, raw::VERASE)
            || self.termios.is(byte, raw::VKILL)
            || (extended && self.termios.is(byte, raw::VWERASE))
        {
            self.erase(byte, effects);
        } else if extended && self.termios.is(byte, raw::VLNEXT) {
            self.literal = true;
            if echo {
                self.finish_erasing(effects);
                if self.termios.local(raw::ECHOCTL) {
                    self.echo_raw(b'^', effects);
                    self.echo_raw(0x08, effects);
                }
            }
        } else if extended && echo && self.termios.is(byte, raw::VREPRINT) {
            self.reprint(byte, effects);
        } else if byte == b'\n' {
            if echo || self.termios.local(raw::ECHONL) {
                self.echo_raw(b'\n', effects);
            }
            self.end_line(byte, effects);
        } else if self.termios.is(byte, raw::VEOF) {
            self.end_line(DISABLED, effects);
        } else if self.termios.is(byte, raw::VEOL) || (extended && self.termios.is(byte, raw::VEOL2)) {
            if echo {
                self.echo_first(effects);
                self.echo(byte, effects);
            }
            self.mark(byte);
            self.end_line(byte, effects);
        } else {
            return false;
        }
        true
    }

    fn receive_ordinary(&mut self, byte: u8, effects: &mut Effects) {
        if self.stopped && !self.suspended && self.termios.input(raw::IXON | raw::IXANY) {
            self.start(effects);
        }
        if self.termios.local(raw::ECHO) {
            self.finish_erasing(effects);
            if byte == b'\n' {
                self.echo_raw(byte, effects);
            } else {
                self.echo_first(effects);
                self.echo(byte, effects);
            }
        }
        self.mark(byte);
        self.store(byte, effects);
    }

    /// Under `PARMRK` a received 0xff is doubled, so that it differs from a marked error.
    fn mark(&mut self, byte: u8) {
        if byte == 0xff && self.termios.input(raw::PARMRK) && !self.termios.input(raw::ISTRIP) {
            self.store_bounded(byte);
        }
    }

    fn store(&mut self, byte: u8, effects: &mut Effects) {
        self.store_bounded(byte);
        effects.readable |= !self.termios.canonical();
    }

    /// Stores a byte; a line that has no end yet and fills the buffer loses its last byte to it.
    fn store_bounded(&mut self, byte: u8) {
        if self.termios.canonical() && self.input.edited_len() >= INPUT_SIZE - 1 {
            self.input.truncate_edited(INPUT_SIZE - 2);
        }
        self.input.push(byte);
    }

    fn end_line(&mut self, end: u8, effects: &mut Effects) {
        self.input.push_end(end);
        effects.readable = true;
    }

    /// At the first byte of a line: notes where on the screen it begins.
    fn echo_first(&mut self, _: &mut Effects) {
        if self.input.edited_len() == 0 {
            self.line_column = self.column;
        }
    }

    fn reprint(&mut self, byte: u8, effects: &mut Effects) {
        self.finish_erasing(effects);
        self.echo(byte, effects);
        self.echo_raw(b'\n', effects);
        for index in 0..self.input.edited_len() {
            self.echo(self.input.edited(index), effects);
        }
    }
}
